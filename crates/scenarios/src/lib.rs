//! What a gateway must do, as data: one corpus, told to the pure machines (natively and in wasm32), to the module in a small
//! host, and to real Envoy.
//!
//! A scenario says what clients send, what billing and upstream make of it, what the clients must see, what must reach the
//! upstream, and what billing must be told. Whoever can send and observe can be held to it: [`Teller`]. Not here: what only
//! one altitude can show, as buffers, cut connections, or the order of callbacks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's tool: what does not hold here is the test's failure"
)]
#![allow(clippy::missing_panics_doc, reason = "it is for tests alone")]

mod billing;
mod cast;
mod corpus;
mod judge;

pub use billing::{Billing, Decide, honest, pays};
pub use cast::{Cast, Sent};
pub use corpus::{Expected, FILES, Says, Scenario, Step, Upstream, corpus};
pub use judge::{Seen, Teller, judge};

/// The configuration of the filter with the role `ai` in `envoy/envoy.yaml`.
pub const AI: &str = include_str!("../../fuzzing/seeds/config/ai.json");
/// That of the role `webhook`.
pub const WEBHOOK: &str = include_str!("../../fuzzing/seeds/config/webhook.json");
