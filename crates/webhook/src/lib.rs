//! Is this body really from Stripe, and what event is it?
//!
//! Used by the filter and by the billing service alike. [`verify`] answers the first question over the raw bytes,
//! before anything parses them; [`Event::read`] answers the second, and only then. Nothing here knows what time it
//! is, remembers an event, or looks at what the event is about.
#![deny(clippy::arithmetic_side_effects)]

mod event;
mod forgery;
mod header;
mod policy;
mod secret;
mod signature;

pub use event::{Event, EventError, OWN_ACCOUNT, Style};
pub use forgery::Forgery;
pub use policy::{Livemode, PolicyError, TypePattern};
pub use secret::{Secret, SecretError};
pub use signature::{Tolerance, Verified, sign, verify};

/// The header in which Stripe signs, in lower case as HTTP/2 and Envoy have it.
pub const HEADER_SIGNATURE: &str = "stripe-signature";
