//! The words every part shares: amounts, instants, identifiers, and the arithmetic that is allowed on them.
//!
//! Not here: prices, policies, or anything that knows what time it is.
#![deny(clippy::arithmetic_side_effects)]

mod amount;
mod calendar;
mod ids;
mod instant;

pub use amount::{Amount, AmountError, Unit, signed_credits};
pub use ids::{AccountId, EndpointId, EventId, IdError, NodeName, RequestId, Subject, SubjectKind, TierId};
pub use instant::{Instant, InstantError, Span};
