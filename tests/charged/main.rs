//! What is charged by use, through real Envoy: what the upstream says it used, whatever way the answer goes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what does not hold in a test is the test's failure"
)]

mod bounds;
mod mixed;
mod outcomes;
mod places;
mod rig;
