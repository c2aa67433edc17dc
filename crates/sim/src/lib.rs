//! Gateways and the billing service in one process: the real machines on both sides, and nothing else real.
//!
//! [`World`] has some Envoys with some workers each, billing on a store in memory, a network that a test makes lose,
//! repeat and delay what it likes, one clock, and an oracle that counts what really went through. A test says what happens.
//!
//! [`field`] plays whole histories out of one number, with everything that can go wrong, and audits them.
//! Not here: Envoy itself, and HTTP; see the integration tests for those.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails should say where"
)]
#![allow(clippy::indexing_slicing, clippy::missing_panics_doc, reason = "it is for tests alone")]

mod billing_side;
mod events;
pub mod field;
mod oracle;
mod world;

pub use billing_side::Billing;
pub use events::{Event, QUIET, check, event, happen, rest};
pub use oracle::Oracle;
pub use world::{Options, Request, World};
