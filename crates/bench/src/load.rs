//! Sends requests over HTTP/1.1 connections that stay open: at a fixed rate, as fast as answers come, or a fixed number of them.
//!
//! Any answer but the expected one, and any broken connection, fails the whole load: a refusal is quick, and would
//! make whatever refuses look good.

use crate::histogram::Histogram;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use stage::{During as _, Result, Trouble};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

/// What is sent, and where to.
#[derive(Clone, Debug)]
pub(crate) struct Aim {
    /// On loopback.
    pub(crate) port: u16,
    /// The path.
    pub(crate) path: String,
    /// A header of each request, in turn: who is asking, or who signed.
    pub(crate) proofs: Vec<(HeaderName, String)>,
    /// A JSON document.
    pub(crate) body: Bytes,
    /// The only right answer.
    pub(crate) expect: StatusCode,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// At a fixed rate, whether or not answers come. A latency counts from when its request was due, so that a
    /// stall is paid for by everything that had to wait (no "coordinated omission").
    Rate {
        /// Requests per second, evenly spaced.
        per_second: u32,
        /// How many.
        requests: usize,
    },
    /// The next one when an answer is there, for so long.
    For(Duration),
    /// The next one when an answer is there, so many.
    Count(usize),
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// From the first request to the last answer.
    pub(crate) took: Duration,
    /// Nanoseconds from due (or sent) to the end of the answer.
    pub(crate) latency: Histogram,
}

/// A load that takes this much longer than it should is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens `connections`, loads them, and waits for the last answer. One thread, so that the load leaves the other
/// cores to what is measured; at a fixed rate a second thread keeps the time.
///
/// # Errors
/// No connection, a broken one, an answer with another status (its body is shown), or no end.
pub(crate) fn fire(aim: &Aim, connections: usize, pace: Pace) -> Result<Tally> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().during("start the load")?;
    runtime.block_on(async {
        let lasts = match pace {
            Pace::For(lasts) => lasts,
            Pace::Rate { per_second, requests } => {
                gap(per_second) * u32::try_from(requests).unwrap_or(u32::MAX)
            }
            Pace::Count(_) => PATIENCE,
        };
        let all = tokio::time::timeout(lasts + PATIENCE, all(aim, connections, pace)).await;
        all.during(format!("load port {} for {} s", aim.port, (lasts + PATIENCE).as_secs()))?
    })
}

async fn all(aim: &Aim, connections: usize, pace: Pace) -> Result<Tally> {
    let requests = Arc::new(requests(aim)?);
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(connect(aim.port).await?);
    }
    let begun = Instant::now();
    let work = Arc::new(Work { due: Due::new(pace), sent: AtomicUsize::new(0) });
    let mut users = JoinSet::new();
    for connection in open {
        let (work, requests, expect) = (Arc::clone(&work), Arc::clone(&requests), aim.expect);
        users.spawn(async move { user(connection, &work, &requests, expect).await });
    }
    let mut tally = Tally::default();
    while let Some(user) = users.join_next().await {
        tally.latency.merge(&user.during("load")??);
    }
    tally.took = begun.elapsed();
    Ok(tally)
}

/// Sends one request after the other over one connection.
async fn user(
    mut connection: SendRequest<Full<Bytes>>,
    work: &Work,
    requests: &[Request<Full<Bytes>>],
    expect: StatusCode,
) -> Result<Histogram> {
    let mut latency = Histogram::default();
    while let Some((n, due)) = work.next().await {
        // In turn, and there is at least one.
        let Some(request) = requests.get(n % requests.len().max(1)) else { break };
        connection.ready().await.during("send a request")?;
        let answer = connection.send_request(request.clone()).await.during("send a request")?;
        let status = answer.status();
        let body = answer.into_body().collect().await.during("read an answer")?.to_bytes();
        if status != expect {
            let body = String::from_utf8_lossy(&body).chars().take(500).collect::<String>();
            return Err(Trouble(format!("request {n} was answered {status} instead of {expect}: {body}")));
        }
        latency.add(u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(latency)
}

/// One request for each proof.
fn requests(aim: &Aim) -> Result<Vec<Request<Full<Bytes>>>> {
    let uri: Uri = aim.path.parse().during(format!("send to {}", aim.path))?;
    let of = |(name, value): &(HeaderName, String)| {
        let proof = HeaderValue::try_from(value).during(format!("send {name}"))?;
        let host = HeaderValue::try_from(format!("127.0.0.1:{}", aim.port)).during("name the host")?;
        let headers = [
            (HOST, host),
            (name.clone(), proof),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ];
        let mut request = Request::new(Full::new(aim.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.into_iter().collect::<HeaderMap>();
        Ok(request)
    };
    aim.proofs.iter().map(of).collect()
}

pub(crate) async fn connect(port: u16) -> Result<SendRequest<Full<Bytes>>> {
    let deed = format!("connect to 127.0.0.1:{port}");
    let stream = TcpStream::connect(("127.0.0.1", port)).await.during(&deed)?;
    stream.set_nodelay(true).during(&deed)?;
    let (requests, connection) = http1::handshake(TokioIo::new(stream)).await.during(&deed)?;
    // Its errors reach whoever sends on it.
    tokio::spawn(connection);
    Ok(requests)
}

/// What is left to be sent.
struct Work {
    due: Due,
    sent: AtomicUsize,
}

enum Due {
    /// When, from the thread that keeps the time.
    Told(Mutex<mpsc::UnboundedReceiver<Instant>>),
    Until(Instant),
    Below(usize),
}

impl Due {
    fn new(pace: Pace) -> Self {
        match pace {
            Pace::For(lasts) => Self::Until(Instant::now() + lasts),
            Pace::Count(requests) => Self::Below(requests),
            Pace::Rate { per_second, requests } => {
                let (tell, told) = mpsc::unbounded_channel();
                std::thread::spawn(move || keep_time(gap(per_second), requests, &tell));
                Self::Told(Mutex::new(told))
            }
        }
    }
}

impl Work {
    /// The number of the next request and when it is due; none when all are sent.
    async fn next(&self) -> Option<(usize, Instant)> {
        let due = match &self.due {
            // The mutex is fair: connections take turns.
            Due::Told(told) => told.lock().await.recv().await?,
            Due::Until(_) | Due::Below(_) => Instant::now(),
        };
        let n = self.sent.fetch_add(1, Ordering::Relaxed);
        let goes_on = match self.due {
            Due::Told(_) => true,
            Due::Until(end) => due < end,
            Due::Below(requests) => n < requests,
        };
        goes_on.then_some((n, due))
    }
}

/// Tells when each request is due. A thread of its own, since timers of the runtime tick in whole milliseconds.
fn keep_time(gap: Duration, requests: usize, tell: &mpsc::UnboundedSender<Instant>) {
    let mut due = Instant::now();
    for _ in 0..requests {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // What was due while this thread did not run is still told as due then.
        if tell.send(due).is_err() {
            return;
        }
        due += gap;
    }
}

fn gap(per_second: u32) -> Duration {
    Duration::from_secs(1) / per_second.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{listen, serve};
    use hyper::header::AUTHORIZATION;

    fn aim(port: u16, expect: StatusCode) -> Aim {
        let proofs = ["tgk_a", "tgk_b"].map(|key| (AUTHORIZATION, format!("Bearer {key}"))).to_vec();
        Aim { port, path: "/v1/chat/completions".into(), proofs, body: Bytes::from_static(b"{}"), expect }
    }

    fn upstream() -> u16 {
        let listener = listen(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(|| serve(listener));
        port
    }

    #[test]
    fn every_request_is_sent_and_counted() {
        let port = upstream();
        let ok = aim(port, StatusCode::OK);
        assert_eq!(fire(&ok, 4, Pace::Count(101)).unwrap().latency.count(), 101);
        let paced = fire(&ok, 4, Pace::Rate { per_second: 1000, requests: 100 }).unwrap();
        assert_eq!(paced.latency.count(), 100);
        assert!(paced.took >= Duration::from_millis(99), "{:?}", paced.took);
        assert!(fire(&ok, 4, Pace::For(Duration::from_millis(50))).unwrap().latency.count() > 4);
    }

    #[test]
    fn another_status_fails_the_load_and_is_shown() {
        let port = upstream();
        let Trouble(said) = fire(&aim(port, StatusCode::CREATED), 2, Pace::Count(9)).unwrap_err();
        assert!(said.contains("200 OK instead of 201 Created") && said.contains("chat.completion"), "{said}");
    }

    /// A server that stalls once: everything due meanwhile has waited, though only one request saw the stall.
    #[test]
    fn a_stall_is_paid_by_everything_that_was_due() {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            for n in 0..50 {
                let _ = socket.read(&mut buffer).unwrap();
                if n == 0 {
                    std::thread::sleep(Duration::from_millis(200));
                }
                socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            }
        });
        let pace = Pace::Rate { per_second: 250, requests: 50 };
        let latency = fire(&aim(port, StatusCode::OK), 1, pace).unwrap().latency;
        assert!(
            latency.quantile(500) > 50_000_000,
            "the median of 50 due within the stall is {}",
            latency.quantile(500)
        );
    }
}
