//! Reads streams and tells how long each piece was under way.

use super::upstream::{Clock, DIGITS, HEADER, MARK};
use crate::histogram::Histogram;
use crate::load::connect;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, Response, StatusCode};
use stage::{During as _, Result, Trouble};
use std::time::Duration;
use tokio::task::JoinSet;

/// Whom to ask, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Aim {
    /// On loopback.
    pub(crate) port: u16,
    /// API keys, in turn; plain Envoy asks for none.
    pub(crate) keys: Vec<String>,
    pub(crate) clock: Clock,
}

/// A load of streams at a fixed pace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// At the same time.
    pub(crate) streams: usize,
    /// One after the other on each connection.
    pub(crate) batches: u32,
    /// In each stream.
    pub(crate) chunks: u64,
    /// Between them.
    pub(crate) every_ms: u64,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Nanoseconds from the request to the first byte of the body.
    pub(crate) first: Histogram,
    /// Nanoseconds from the upstream to the client, piece by piece.
    pub(crate) chunk: Histogram,
}

/// Streams at a fixed pace, and what became of each piece.
///
/// # Errors
/// No connection, a broken one, another status than 200, or a stream that is not whole.
pub(crate) async fn paced(aim: &Aim, pace: Pace) -> Result<Tally> {
    let mut users = JoinSet::new();
    for number in 0..pace.streams {
        let (aim, mut connection) = (aim.clone(), connect(aim.port).await?);
        users.spawn(async move {
            // Streams that all tick at the same moment would queue for each other.
            let offset =
                pace.every_ms * u64::try_from(number).unwrap_or(0) / u64::try_from(pace.streams).unwrap_or(1);
            tokio::time::sleep(Duration::from_millis(offset)).await;
            let mut tally = Tally::default();
            for _ in 0..pace.batches {
                let sent = aim.clock.now();
                let wish = format!("{} {}", pace.chunks, pace.every_ms);
                let answer = open(&aim, &mut connection, number, &wish).await?;
                read(answer, aim.clock, sent, pace.chunks, &mut tally).await?;
            }
            Ok::<_, Trouble>(tally)
        });
    }
    let mut all = Tally::default();
    while let Some(user) = users.join_next().await {
        let tally = user.during("read streams")??;
        all.first.merge(&tally.first);
        all.chunk.merge(&tally.chunk);
    }
    Ok(all)
}

/// One stream of so many bytes of text, read as fast as it comes; how many bytes it had in all.
///
/// # Errors
/// As for [`paced`].
pub(crate) async fn fast(aim: &Aim, bytes: u64) -> Result<u64> {
    let mut connection = connect(aim.port).await?;
    let mut body = open(aim, &mut connection, 0, &format!("bytes {bytes}")).await?.into_body();
    let (mut seen, mut end) = (0_u64, Bytes::new());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.during("read a long stream")?.into_data() {
            seen = seen.saturating_add(u64::try_from(data.len()).unwrap_or(0));
            end = data;
        }
    }
    whole(&end)?;
    if seen < bytes {
        Err(Trouble(format!("a stream of {bytes} bytes ended after {seen}")))
    } else {
        Ok(seen)
    }
}

async fn open(
    aim: &Aim,
    connection: &mut SendRequest<Full<Bytes>>,
    number: usize,
    wish: &str,
) -> Result<Response<Incoming>> {
    let body = r#"{"model":"bench","max_tokens":1000,"stream":true,"messages":[{"role":"user","content":"How long does it take?"}]}"#;
    let mut request = Request::post("/v1/chat/completions")
        .header(HOST, format!("127.0.0.1:{}", aim.port))
        .header(CONTENT_TYPE, "application/json")
        .header(HEADER, wish);
    if let Some(key) = aim.keys.get(number % aim.keys.len().max(1)) {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    let request = request.body(Full::new(Bytes::from_static(body.as_bytes()))).during("ask for a stream")?;
    connection.ready().await.during("ask for a stream")?;
    let answer = connection.send_request(request).await.during("ask for a stream")?;
    if answer.status() == StatusCode::OK {
        return Ok(answer);
    }
    let status = answer.status();
    let body = answer.into_body().collect().await.during("read a refusal")?.to_bytes();
    let body = String::from_utf8_lossy(&body).chars().take(500).collect::<String>();
    Err(Trouble(format!("a stream was answered {status}: {body}")))
}

async fn read(
    answer: Response<Incoming>,
    clock: Clock,
    sent: u64,
    chunks: u64,
    tally: &mut Tally,
) -> Result<()> {
    let (mut body, mut times) = (answer.into_body(), Times::default());
    let (mut seen, mut begun) = (0, false);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.during("read a stream")?.into_data() else { continue };
        let now = clock.now();
        if !begun {
            tally.first.add(now.saturating_sub(sent));
            begun = true;
        }
        for time in times.of(&data) {
            tally.chunk.add(now.saturating_sub(time));
            seen += 1;
        }
    }
    whole(&times.held)?;
    if seen == chunks {
        Ok(())
    } else {
        Err(Trouble(format!("a stream of {chunks} pieces ended after {seen}")))
    }
}

fn whole(end: &[u8]) -> Result<()> {
    if end.ends_with(b"[DONE]\n\n") {
        return Ok(());
    }
    Err(Trouble(format!("a stream ended in {:?}", String::from_utf8_lossy(end))))
}

/// Finds the times in a stream, wherever it is cut.
#[derive(Default)]
struct Times {
    /// The end of what came before, shorter than a time.
    held: Vec<u8>,
}

impl Times {
    fn of(&mut self, data: &[u8]) -> Vec<u64> {
        self.held.extend_from_slice(data);
        let mut times = Vec::new();
        let mut rest = self.held.as_slice();
        while let Some(at) = rest.iter().position(|byte| *byte == MARK) {
            let Some(digits) = rest.get(at + 1..=at + DIGITS) else { break };
            times.extend(str::from_utf8(digits).ok().and_then(|text| text.parse::<u64>().ok()));
            rest = rest.get(at + DIGITS..).unwrap_or_default();
        }
        let from = rest.iter().position(|byte| *byte == MARK).unwrap_or(rest.len().saturating_sub(DIGITS));
        self.held = rest.get(from..).unwrap_or_default().to_vec();
        times
    }
}

#[cfg(test)]
mod tests {
    use super::super::upstream::start;
    use super::*;

    fn aim() -> Aim {
        let clock = Clock::start();
        Aim { port: start(0, clock).unwrap(), keys: Vec::new(), clock }
    }

    #[test]
    fn times_are_found_wherever_the_stream_is_cut() {
        let text = format!("data: @{:020} x\n\ndata: @{:020} y\n\n", 17, 4_000_000_000_u64);
        for size in 1..text.len() {
            let mut times = Times::default();
            let found: Vec<_> = text.as_bytes().chunks(size).flat_map(|part| times.of(part)).collect();
            assert_eq!(found, [17, 4_000_000_000], "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn every_piece_of_every_stream_is_timed() {
        let pace = Pace { streams: 3, batches: 2, chunks: 5, every_ms: 4 };
        let aim = aim();
        let begun = aim.clock.now();
        let tally = paced(&aim, pace).await.unwrap();
        assert_eq!((tally.first.count(), tally.chunk.count()), (6, 30));
        // What is timed is the way, not the pace.
        let took = aim.clock.now() - begun;
        assert!(took > 2 * 4 * 4_000_000 && tally.chunk.quantile(500) < took / 8, "{took}");
    }

    #[tokio::test]
    async fn a_long_stream_is_read_to_its_end() {
        assert!(fast(&aim(), 1_000_000).await.unwrap() >= 1_000_000);
    }

    #[test]
    fn a_stream_that_is_not_whole_is_no_measurement() {
        assert!(whole(b"data: [DONE]\n\n").is_ok());
        assert!(whole(b"data: {}\n\n").is_err());
    }
}
