//! What the gate can ask of the world; if it is not in this list, the filter cannot do it.

use crate::exchange::BodyEdit;
use crate::text::Text;
use crate::worker::{Question, Report};
use std::rc::Rc;

/// One thing to do, in the order in which they are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer the client from here. Nothing goes upstream any more; at most one per exchange.
    Reply(Reply),
    /// Replace a request header, every repetition of it, before it goes upstream.
    SetRequestHeader(Text, Text),
    /// The same for several, which many requests have in common.
    SetRequestHeaders(Rc<[(Text, Text)]>),
    /// Remove a request header, every repetition of it.
    RemoveRequestHeader(Text),
    /// Change the request's body before it goes upstream, and say its new length; it is whole, and held. If that cannot be
    /// done, say [`crate::Input::EditFailed`].
    EditRequestBody(Box<BodyEdit>),
    /// Let this pass in the place of the piece of the answer that is being handled.
    SetResponsePiece(Vec<u8>),
    /// Add a trailer to the answer's.
    SetResponseTrailer(Text, Text),
    /// Replace a response header.
    SetResponseHeader(Text, Text),
    /// Remove a response header.
    RemoveResponseHeader(Text),
    /// Ask this worker's machine; the answer comes back as [`crate::Input::Answered`]. At most one at a time.
    Ask(Question),
    /// The question's answer is no longer wanted.
    Withdraw,
    /// Tell this worker's machine how something ended; it carries it to billing after the stream is gone.
    Tell(Report),
    /// Count something.
    Count(Metric),
    /// Leave a fact for the access log, as `%FILTER_STATE(wasm.<key>:PLAIN)%`.
    Note {
        /// `tollgate.account`, `tollgate.reason`, …
        key: &'static str,
        /// The fact.
        value: Text,
    },
    /// Write a line into Envoy's log.
    Log(Level, String),
}

/// A whole answer to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits, never 3xx.
    pub status: u16,
    /// Header fields, `content-type` among them if there is a body.
    pub headers: Vec<(&'static str, String)>,
    /// The body; may be empty.
    pub body: Vec<u8>,
}

/// How bad a line in the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Worth knowing.
    Info,
    /// The world failed somewhere; somebody may have to look.
    Warn,
    /// Money or a promise is at stake; somebody must look.
    Error,
}

/// Something that is counted; the labels' values are few and known beforehand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// A metered request was decided: `pass`, `identified`, `vouched`, `preflight`, or why not.
    Request {
        /// The endpoint's id; `none` where no rule covers it.
        endpoint: Text,
        /// What was decided.
        decision: &'static str,
    },
    /// A request that passed only because the mode is `shadow`.
    Shadowed {
        /// What would have been decided.
        decision: &'static str,
    },
    /// A request that held something ended.
    Ended {
        /// [`contract::v1::Outcome`] in the contract's words.
        outcome: &'static str,
    },
    /// A request was charged by what it used.
    Charged {
        /// The endpoint's id.
        endpoint: Text,
        /// [`contract::v1::Basis`] in the contract's words.
        basis: &'static str,
    },
    /// A delivery of an event was decided or ended.
    Webhook {
        /// The webhook endpoint's id; `none` where no endpoint has that path.
        endpoint: Text,
        /// What was decided, or how it ended.
        outcome: &'static str,
    },
    /// A call to billing came back.
    Call {
        /// `hello`, `sync`, `claim` or `complete`.
        call: &'static str,
        /// `ok`, or the fault.
        result: &'static str,
    },
    /// The world failed: billing's answer made no sense, a backlog is full, …
    Fault {
        /// Which of the faults in `docs/failure.md`.
        fault: &'static str,
    },
    /// An invariant of the gate itself is broken. Always zero, else there is a bug.
    Bug {
        /// Which.
        bug: &'static str,
    },
    /// What was free of a payer's leases went back because billing asked for it.
    Recalled,
    /// How long a request waited for billing, in milliseconds.
    WaitMs(u64),
}
