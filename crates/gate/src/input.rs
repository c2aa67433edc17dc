//! What can happen to a stream, in the order in which Envoy may make it happen.
//!
//! `RequestHeaders` comes first if anything does, `Closed` last and once; every other may be missing, and `Closed`
//! may be all there is (a request that an earlier filter refused).

use crate::entered::entered;
use crate::worker::Answer;
use std::collections::BTreeSet;
use units::Instant;

/// Two clocks, read once for one input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Never goes back; its origin is arbitrary. For every interval and deadline.
    pub mono: Instant,
    /// The time of day. For signatures, and for people.
    pub wall: Instant,
}

/// One thing that happened to a stream.
#[derive(Debug)]
pub enum Input<'a> {
    /// The request's headers have been read. [`Flow::Pause`] keeps them from going upstream.
    RequestHeaders {
        /// All of them.
        headers: &'a Headers,
        /// True if nothing follows: no body callback will ever come.
        end: bool,
        /// The claim that names the caller, if Envoy verified a token.
        verified: Option<&'a [u8]>,
    },
    /// More of the request's body.
    RequestBody {
        /// Bytes held so far where the last answer was [`Flow::Pause`], else of this piece alone.
        size: usize,
        /// True if it is complete. Never true if trailers follow.
        end: bool,
        /// The whole body: only at its end, and only if [`crate::Exchange::body_wanted`] asks for it. It is cut one byte
        /// beyond what was asked for.
        body: Option<&'a [u8]>,
    },
    /// The request's trailers: its body is complete.
    RequestTrailers {
        /// As for [`Input::RequestBody`].
        body: Option<&'a [u8]>,
    },
    /// The decision on the question that this exchange asked. [`Flow::Continue`] now means: resume the request.
    Answered(Answer),
    /// The same, within the very callback that asked: nothing is held back yet.
    AnsweredAtOnce(Answer),
    /// The answer's headers, be they from the upstream, from Envoy itself, or from this exchange's own reply.
    ResponseHeaders {
        /// All of them.
        headers: &'a Headers,
        /// True if no body follows.
        end: bool,
    },
    /// A piece of the answer's body, on its way to the client.
    ResponseBody {
        /// Bytes of this piece.
        size: usize,
        /// True if it is complete. Never true if trailers follow: what must happen at the end happens at `Closed`.
        end: bool,
        /// The piece itself, if [`crate::Exchange::answer_wanted`] asks for it.
        piece: Option<&'a [u8]>,
    },
    /// The answer's trailers: its body is complete.
    ResponseTrailers,
    /// The change of the request's body that was asked for could not be made; nothing has gone on.
    EditFailed,
    /// The stream is over, for whatever reason.
    Closed {
        /// The status that the client saw or would have seen, if there was any.
        code: Option<u64>,
        /// Envoy's response flags (`CoreResponseFlag`: bit n is flag n).
        flags: u64,
        /// What Envoy's own `ai_protocol_manager` read in the answer, if somebody wants to know and it did.
        usage: Option<&'a EnvoyUsage>,
    },
}

/// What Envoy's own reader of AI answers found (`envoy.data.ai.v3.TokenUsage`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvoyUsage {
    /// Tokens of the input.
    pub input: Option<u64>,
    /// Tokens of the output.
    pub output: Option<u64>,
    /// Of the input, those from the provider's cache.
    pub cached: Option<u64>,
    /// The model that answered.
    pub model: Option<String>,
}

/// What becomes of the data that an input brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// On it goes.
    Continue,
    /// It is held back until a later input says `Continue`, or for good if a reply was among the effects.
    Pause,
}

/// Header fields as they came: names in lower case, values as bytes, repetitions visible, order kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Vec<u8>)>);

/// How often a header is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Single<'a> {
    /// Not at all.
    Absent,
    /// Once, with this value.
    One(&'a [u8]),
    /// More than once: which one is meant is nobody's guess.
    Repeated,
}

impl Headers {
    /// From pairs as the host gives them.
    #[must_use]
    pub fn new(pairs: Vec<(String, Vec<u8>)>) -> Self {
        Self(pairs)
    }

    /// Every value of a header, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// The value of a header that may be there once.
    #[must_use]
    pub fn single<'a>(&'a self, name: &'a str) -> Single<'a> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (None, _) => Single::Absent,
            (Some(value), None) => Single::One(value),
            (Some(_), Some(_)) => Single::Repeated,
        }
    }

    /// The value of a header that is there once and is UTF-8.
    #[must_use]
    pub fn text<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        match self.single(name) {
            Single::One(value) => core::str::from_utf8(value).ok(),
            Single::Absent | Single::Repeated => None,
        }
    }

    /// True if it is there at all.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The names that begin with `prefix`, each once.
    #[must_use]
    pub fn names_under(&self, prefix: &str) -> BTreeSet<&str> {
        let names = self.0.iter().map(|(key, _)| key.as_str());
        entered(
            names.filter(|key| key.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))),
        )
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Headers {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a str)>>(pairs: T) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.to_owned(), v.as_bytes().to_vec())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_header_is_not_a_single_one() {
        let headers: Headers = [("a", "1"), ("b", "2"), ("A", "3")].into_iter().collect();
        assert_eq!(headers.single("a"), Single::Repeated);
        assert_eq!(headers.single("b"), Single::One(b"2"));
        assert_eq!(headers.single("c"), Single::Absent);
        assert_eq!(headers.text("a"), None);
    }

    #[test]
    fn names_are_found_by_their_beginning_whatever_their_bytes() {
        let headers: Headers =
            [("x-tollgate-tier", "1"), ("x-tollgat", "2"), ("X-Tollgate-A", "3")].into_iter().collect();
        assert_eq!(headers.names_under("x-tollgate-").len(), 2);
    }
}
