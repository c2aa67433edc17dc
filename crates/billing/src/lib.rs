//! The billing service: HTTP in front, the pure ledger inside, a database behind.
//!
//! This crate decides nothing about money that `ledger` can decide; it brings requests to it one after the
//! other, makes the results durable, and only then answers.

pub mod catalog;
pub mod clock;
pub mod complaint;
pub mod config;
