//! What fuzzers run: functions from bytes to nothing, each of which fails where something breaks a promise.
//!
//! None of them is content with "it does not crash": each compares with an oracle that was written for it alone, or
//! watches what must be true after every step. A fuzzer looks for bytes that fail (`make fuzz`); the tests of this
//! crate run each over its seeds and some thousand changes of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails should say where"
)]
#![allow(clippy::missing_panics_doc, reason = "to fail is what they are for")]

mod ask;
mod catalog;
mod config;
mod delivery;
mod dice;
mod event;
mod grown;
mod hidden;
mod ledger_commands;
mod metered;
mod seen;
mod shelf;
mod signature;
mod slot;
mod stripe;
mod sync;
mod texts;
mod till;
mod told;
mod tree;
mod usage;
mod words;
mod worker;
mod world;

/// One thing that is fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What the fuzzer, its corpus and its seeds are called.
    pub name: &'static str,
    /// Fails if these bytes break a promise.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 16] = [
    Target { name: "signature", run: signature::run },
    Target { name: "event", run: event::run },
    Target { name: "usage", run: usage::run },
    Target { name: "ask", run: ask::run },
    Target { name: "config", run: config::run },
    Target { name: "catalog", run: catalog::run },
    Target { name: "texts", run: texts::run },
    Target { name: "slot", run: slot::run },
    Target { name: "seen", run: seen::run },
    Target { name: "metered", run: metered::run },
    Target { name: "delivery", run: delivery::run },
    Target { name: "worker", run: worker::run },
    Target { name: "stripe", run: stripe::run },
    Target { name: "sync", run: sync::run },
    Target { name: "ledger", run: ledger_commands::run },
    Target { name: "world", run: world::run },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
