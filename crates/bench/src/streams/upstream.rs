//! An upstream that streams: at a fixed pace, each piece carrying the time at which it was sent, or as fast as it is read.
//!
//! It runs in the bench's own process, so that it and the client read one clock.

use crate::upstream::listen;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use stage::{During as _, Result};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::{Interval, MissedTickBehavior};

/// What a request wants of this upstream: `pieces MILLISECONDS`, or `bytes N`.
pub(crate) const HEADER: &str = "x-bench";
/// Stands before the time in each piece, and nowhere else.
pub(crate) const MARK: u8 = b'@';
/// How many digits the time has.
pub(crate) const DIGITS: usize = 20;
/// The text of a piece of a long stream.
const FILLER: usize = 1000;

/// One clock for both ends of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since it was started.
    pub(crate) fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Starts one on a thread of its own, which lives as long as the bench.
///
/// # Errors
/// The port is taken.
pub(crate) fn start(port: u16, clock: Clock) -> Result<u16> {
    let listener = listen(port)?;
    let port = listener.local_addr().during("ask for the port")?.port();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().during("start the upstream")?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let service = service_fn(move |request| answer(request, clock));
                // A connection that breaks is the client's affair.
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
    });
    Ok(port)
}

async fn answer(
    request: Request<Incoming>,
    clock: Clock,
) -> std::result::Result<Response<Stream>, hyper::Error> {
    let wish = request.headers().get(HEADER).and_then(|wish| wish.to_str().ok()).unwrap_or_default();
    let mut wish = wish.split(' ').map(str::to_owned);
    let (first, second) = (wish.next().unwrap_or_default(), wish.next().unwrap_or_default());
    let body = request.into_body().collect().await?.to_bytes();
    // As OpenAI: whoever asks for the usage finds the field in every chunk, and a number in the last.
    let asks = body.windows(15).any(|part| part == b"\"include_usage\"");
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    let kind = if first == "bytes" {
        let filler = Bytes::from(chunk(&"x".repeat(FILLER), asks));
        Kind::Fast { event: filler, left: number(&second).div_ceil(FILLER as u64) }
    } else {
        let every = Duration::from_millis(number(&second).max(1));
        // The first piece comes at once; the runtime's timers know only whole milliseconds.
        let mut every = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Kind::Paced { clock, every, waits: false, left: number(&first) }
    };
    let mut answer = Response::new(Stream { kind, asks, ended: false });
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(answer)
}

struct Stream {
    kind: Kind,
    asks: bool,
    ended: bool,
}

enum Kind {
    Paced { clock: Clock, every: Interval, waits: bool, left: u64 },
    Fast { event: Bytes, left: u64 },
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        let Self { kind, asks, ended } = self.get_mut();
        let event = match kind {
            Kind::Paced { left: 0, .. } | Kind::Fast { left: 0, .. } => None,
            Kind::Paced { clock, every, waits, left } => {
                if *waits {
                    ready!(every.poll_tick(cx));
                }
                *waits = true;
                *left = left.saturating_sub(1);
                Some(Bytes::from(chunk(&format!("@{:020} and so on", clock.now()), *asks)))
            }
            Kind::Fast { event, left } => {
                *left = left.saturating_sub(1);
                Some(event.clone())
            }
        };
        let frame = event.or_else(|| (!std::mem::replace(ended, true)).then(|| end(*asks)));
        Poll::Ready(frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A chunk of a chat completion.
fn chunk(text: &str, asks: bool) -> String {
    let usage = if asks { r#","usage":null"# } else { "" };
    format!(
        r#"data: {{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]{usage}}}"#
    ) + "\n\n"
}

fn end(asks: bool) -> Bytes {
    let usage = if asks {
        concat!(
            r#"data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":[],"#,
            r#""usage":{"prompt_tokens":12,"completion_tokens":500,"total_tokens":512}}"#,
            "\n\n"
        )
    } else {
        ""
    };
    Bytes::from(format!("{usage}data: [DONE]\n\n"))
}
