//! Placeholder.
#![deny(clippy::arithmetic_side_effects)]
