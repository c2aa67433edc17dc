//! Version one of that conversation; fields may be added, never repurposed.

mod events;
mod flat;
mod hello;
mod prices;
mod problem;
mod refusal;
mod sync;
mod tokens;
mod watch;

pub use events::{Claim, ClaimAnswer, Complete, CompleteAnswer, CompleteOutcome, CompleteResult};
pub use hello::{Hello, HelloAnswer, Intervals, Limits};
pub use prices::{HoldError, Matching, ModelPrice, PriceList, UnknownModel};
pub use problem::{Problem, ProblemError};
pub use refusal::{Reason, Refusal};
pub use sync::{
    CellAnswer, CellKey, CellLease, CellReport, CellState, Charge, Need, NeedAnswer, NeedDecision, NeedMode,
    NeedShape, Note, NoteKind, Outcome, Price, Repeat, Standing, SubscriptionState, Sync, SyncAnswer,
    UsageRecord, Window,
};
pub use tokens::{Basis, Size, TokenShape, Tokens};
pub use watch::WatchAnswer;

/// `POST`: a gateway introduces itself and learns its incarnation.
pub const PATH_HELLO: &str = "/gateway/v1/hello";
/// `POST`: cells, needs and usage one way; leases, decisions and notes the other.
pub const PATH_SYNC: &str = "/gateway/v1/sync";
/// `GET ?after=N`: long poll for notes.
pub const PATH_WATCH: &str = "/gateway/v1/watch";
/// `POST`: may this event be forwarded?
pub const PATH_CLAIM: &str = "/gateway/v1/events/claim";
/// `POST`: what became of a claimed event.
pub const PATH_COMPLETE: &str = "/gateway/v1/events/complete";

/// The header by which a gateway vouches for a customer on `/v1/*`: `kind:base64url(value)`, without padding.
pub const HEADER_SUBJECT: &str = "x-tollgate-subject";
