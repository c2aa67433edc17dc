//! Everything the filter decides, as deterministic machines with no I/O and no clock; drive them from Envoy, a test, or a simulator.
#![deny(clippy::arithmetic_side_effects)]
