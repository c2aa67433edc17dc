//! A body on its way to the client: with pauses and breaks, as the script says, and with an eye on how much of it was taken.

use super::log::Note;
use super::pieces::{Piece, Pieces};
use super::script::Script;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use std::io;
use std::iter::Peekable;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

/// The only trailer.
pub(crate) const TRAILER_NAME: &str = "x-scripted";

/// What was sent has to be on its way before the connection goes.
const BREAKS_AFTER: Duration = Duration::from_millis(50);

/// A body that counts what the connection took of it.
pub(crate) struct Delivery {
    pieces: Peekable<Pieces>,
    note: Note,
    pause: Duration,
    /// Runs before the next piece, or before the break.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Pieces until the body breaks off.
    left: Option<usize>,
    /// It breaks off after the usage.
    until_usage: bool,
    trailers: Option<HeaderMap>,
    /// The length, where it is announced.
    exact: Option<u64>,
}

impl Delivery {
    /// A body of pieces; `exact` announces its length.
    pub(crate) fn of(pieces: Pieces, note: Note, script: &Script, exact: Option<u64>) -> Self {
        let trailers = script.wire.trailers.then(|| {
            HeaderMap::from_iter([(HeaderName::from_static(TRAILER_NAME), HeaderValue::from_static("done"))])
        });
        Self {
            pieces: pieces.peekable(),
            note,
            // A document comes at once, unless it is cut into frames.
            pause: if exact.is_some() && script.wire.frame.is_none() {
                Duration::ZERO
            } else {
                script.chunk_delay
            },
            sleep: None,
            left: script.truncate.then_some(usize::MAX).or(script.reset_after),
            until_usage: script.wire.abort_after_usage,
            trailers,
            exact,
        }
    }

    /// The next frame; its pause is over.
    fn next(&mut self) -> Option<io::Result<Frame<Bytes>>> {
        let breaks = self.left.is_some();
        if self.left == Some(0) || (breaks && self.pieces.peek().is_none()) {
            return Some(Err(io::Error::other("the script asked for a broken answer")));
        }
        let Some(Piece { bytes, words, usage }) = self.pieces.next() else {
            self.note.ended();
            return self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)));
        };
        self.left = self.left.map(|left| left.saturating_sub(1));
        if usage && self.until_usage {
            self.left = Some(0);
        }
        self.note.took(&bytes, words, usage);
        self.exact = self.exact.map(|exact| exact.saturating_sub(u64::try_from(bytes.len()).unwrap_or(0)));
        // Whoever knows the length does not ask for what comes after it.
        if self.left.is_none() && self.pieces.peek().is_none() {
            self.note.ended();
        }
        Some(Ok(Frame::data(bytes)))
    }

    /// How long to wait before the next frame.
    fn wait(&mut self) -> Duration {
        match (self.left, self.pieces.peek()) {
            (Some(0), _) | (Some(_), None) => BREAKS_AFTER,
            (_, Some(_)) => self.pause,
            (None, None) => Duration::ZERO,
        }
    }
}

impl Body for Delivery {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let body = self.get_mut();
        let wait = if body.sleep.is_none() { body.wait() } else { Duration::ZERO };
        if !wait.is_zero() {
            body.sleep = Some(Box::pin(tokio::time::sleep_until(Instant::now() + wait)));
        }
        if let Some(sleep) = &mut body.sleep {
            std::task::ready!(sleep.as_mut().poll(cx));
        }
        body.sleep = None;
        Poll::Ready(body.next())
    }

    fn is_end_stream(&self) -> bool {
        self.exact == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A body whose frames come one by one, and may end with an error.
pub(crate) struct Chunks(pub(crate) mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.get_mut().0.poll_recv(cx)
    }
}
