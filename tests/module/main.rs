//! What the shipped module does, callback by callback: its imports, its refusals, its stories, its cost, and that no input makes it trap.
//!
//! It runs on `host`, a small Envoy of our own, so what is said here of Envoy is what that one plays. Build it first:
//! `cargo build -p tollgate --profile wasm --target wasm32-wasip1`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "what does not hold in a test is the test's failure"
)]

mod configuration;
mod deliveries;
mod file;
mod fuel;
mod host_calls;
mod hostile;
mod mangled;
mod priced;
mod requests;
mod scenarios;
mod support;
mod usage;
