//! A billing service and an upstream that do wrong on purpose, which the real ones cannot: for tests of what the gateway makes of it.
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's tool: what does not hold here is the test's failure"
)]

use crate::upstream::Chunks;
use crate::{During as _, Result};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
pub use scenarios::{Decide, honest, pays};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{oneshot, watch};

/// What a [`RogueBilling`] does with the calls of one path.
#[derive(Clone, Debug)]
pub enum Conduct {
    /// What it should.
    Honest,
    /// Takes the call and never answers.
    Hang,
    /// Breaks off before the answer.
    Reset,
    /// Breaks off in the middle of the answer.
    BreakOff,
    /// Speaks no HTTP at all, on any path.
    Noise(&'static [u8]),
    /// Answers with this status and body, whatever was asked.
    Answer(u16, Bytes),
    /// Answers as it should, but for one thing.
    Mangle(fn(&mut Value)),
    /// Plays its part in scenarios, on every path.
    Play(Arc<Mutex<scenarios::Billing>>),
}

/// A billing service on a thread of its own; dropping it ends it. HTTP/1.1, and HTTP/2 by prior knowledge.
pub struct RogueBilling {
    conduct: watch::Sender<(&'static str, Conduct)>,
    calls: Calls,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

type Calls = Arc<Mutex<BTreeMap<String, u64>>>;
type Rule = watch::Receiver<(&'static str, Conduct)>;

impl RogueBilling {
    /// Starts an honest one on loopback.
    ///
    /// # Errors
    /// The port cannot be had.
    pub fn start(port: u16) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).during(format!("listen on 127.0.0.1:{port}"))?;
        listener.set_nonblocking(true).during("listen without blocking")?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().during("start a runtime")?;
        let (conduct, rule) = watch::channel(("", Conduct::Honest));
        let (calls, (stop, stopped)) = (Calls::default(), oneshot::channel());
        let heard = Arc::clone(&calls);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, rule, heard) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { conduct, calls, stop: Some(stop), thread: Some(thread) })
    }

    /// From now on calls of this path are treated so, and all others honestly. Every connection is closed first.
    pub fn behave(&self, path: &'static str, conduct: Conduct) {
        self.conduct.send_replace((path, conduct));
    }

    /// How many calls of this path came in.
    #[must_use]
    pub fn calls(&self, path: &str) -> u64 {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied().unwrap_or(0)
    }
}

impl Drop for RogueBilling {
    fn drop(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, rule: Rule, calls: Calls) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        let (mut rule, calls) = (rule.clone(), Arc::clone(&calls));
        tokio::spawn(async move {
            let conduct = rule.borrow_and_update().clone();
            if let (_, Conduct::Noise(bytes)) = conduct {
                let _ = stream.write_all(bytes).await;
                return;
            }
            let service = service_fn(move |request| serve(request, conduct.clone(), Arc::clone(&calls)));
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            tokio::select! {
                _ = server.serve_connection(TokioIo::new(stream), service) => {}
                _ = rule.changed() => {}
            }
        });
    }
}

async fn serve(
    request: Request<Incoming>,
    (misused, conduct): (&'static str, Conduct),
    calls: Calls,
) -> io::Result<Response<BoxBody<Bytes, io::Error>>> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    *calls.lock().unwrap_or_else(PoisonError::into_inner).entry(path.clone()).or_default() += 1;
    let whole = |body: Bytes| BoxBody::new(Full::new(body).map_err(|never| match never {}));
    let asked: Value = serde_json::from_slice(&body).map_err(io::Error::other)?;
    if let Conduct::Play(billing) = conduct {
        let (status, answer) = billing.lock().unwrap_or_else(PoisonError::into_inner).answer(&path, &asked);
        return Response::builder()
            .status(status)
            .body(whole(answer.to_string().into()))
            .map_err(io::Error::other);
    }
    let mut answer = honest(&path, &asked, &pays);
    match conduct {
        _ if misused != path => {}
        Conduct::Honest | Conduct::Noise(_) | Conduct::Play(_) => {}
        Conduct::Hang => std::future::pending().await,
        Conduct::Reset => return Err(io::Error::other("as told")),
        Conduct::BreakOff => {
            let text = answer.to_string();
            let (begin, _) = text.split_at_checked(20).unwrap_or_default();
            let begin = Bytes::from(begin.to_owned());
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            tokio::spawn(async move {
                let _ = sender.send(Ok(Frame::data(begin))).await;
                // What was sent has to be on its way before the stream goes.
                tokio::time::sleep(Duration::from_millis(50)).await;
                let _ = sender.send(Err(io::Error::other("as told"))).await;
            });
            return Ok(Response::new(BoxBody::new(Chunks(receiver))));
        }
        Conduct::Answer(status, body) => {
            return Response::builder().status(status).body(whole(body)).map_err(io::Error::other);
        }
        Conduct::Mangle(mangle) => mangle(&mut answer),
    }
    Ok(Response::new(whole(answer.to_string().into())))
}

/// An upstream that answers each connection with the same bytes, whatever they are, and closes it.
pub struct RogueUpstream {
    port: u16,
    said: Arc<Mutex<Said>>,
}

#[derive(Default)]
struct Said {
    /// `None` to say nothing and hold the line.
    bytes: Option<Vec<u8>>,
    heard: u64,
}

impl RogueUpstream {
    /// Starts one on a free port of loopback, for as long as the process lives.
    ///
    /// # Errors
    /// There is no port.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during("listen on 127.0.0.1")?;
        let port = listener.local_addr().during("ask for the port")?.port();
        let said = Arc::new(Mutex::new(Said::default()));
        let shared = Arc::clone(&said);
        std::thread::spawn(move || {
            // Lines that are held open.
            let mut held = Vec::new();
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                // The request's head is enough: whatever is left unread makes the close a reset.
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && head.len() < 65_536 {
                    let mut byte = [0];
                    match stream.read(&mut byte) {
                        Ok(1) => head.extend(byte),
                        _ => break,
                    }
                }
                let mut said = shared.lock().unwrap_or_else(PoisonError::into_inner);
                said.heard += 1;
                match said.bytes.clone() {
                    Some(bytes) => {
                        drop(said);
                        let mut rest = [0; 65_536];
                        let _ = stream.set_read_timeout(Some(Duration::from_millis(10)));
                        while matches!(stream.read(&mut rest), Ok(n) if n > 0) {}
                        let _ = stream.write_all(&bytes);
                    }
                    None => held.push(stream),
                }
            }
        });
        Ok(Self { port, said })
    }

    /// Where it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What it says from now on; `None` is nothing, for ever.
    pub fn say(&self, bytes: Option<&[u8]>) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).bytes = bytes.map(<[u8]>::to_vec);
    }

    /// How many requests it got.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).heard
    }
}
