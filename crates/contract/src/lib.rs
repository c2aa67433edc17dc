//! The conversation between a gateway and a billing upstream; change it as you would change a public API, because it is one.
//!
//! Rules that hold for every call: totals, never deltas, merged with `max`; every message may be lost, repeated
//! or reordered; a refusal is a 200 with a decision in it, so that no retry policy mistakes it for a fault;
//! unknown fields are ignored, missing ones refused; an unknown variant of an enum is a fault of the speaker,
//! never a default. Golden bodies of every call lie in `examples/`.
#![deny(clippy::arithmetic_side_effects)]

pub mod v1;
