//! Long stories told by the pure machines, as one digest each: whoever computes another digest computes something else; and
//! [`Pure`], to which the corpus of `scenarios` is told.
//!
//! The tests of this crate run natively and, by `wasm-bindgen-test`, in wasm32-unknown-unknown, where a `usize` has 32
//! bits. Not here: the filter as a module, which is tested in hosts of its own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails should say where"
)]
#![allow(clippy::missing_panics_doc, reason = "it is for tests alone")]

mod gate_story;
mod ledger_story;
mod told;

pub use gate_story::{Request, config_of, read, request, requests};
pub use ledger_story::commands;
pub use told::Pure;

use sha2::{Digest, Sha256};
use std::fmt::Debug;

/// Numbers that are the same everywhere: SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

/// A story so far.
#[derive(Default)]
pub(crate) struct Story(Sha256);

impl Story {
    pub(crate) fn tell(&mut self, what: &impl Debug) {
        self.0.update(format!("{what:?}\n"));
    }

    /// The first 64 bits of its digest, in hexadecimal digits.
    pub(crate) fn end(self) -> String {
        self.0.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}
