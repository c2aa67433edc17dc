//! The billing service: HTTP in front, the pure ledger inside, a database behind.
//!
//! This crate decides nothing about money that `ledger` can decide; it brings requests to it one after the
//! other, makes the results durable, and only then answers.

pub mod catalog;
pub mod client;
pub mod clock;
pub mod commands;
pub mod complaint;
pub mod config;
pub mod engine;
pub mod error;
pub mod http;
pub mod metrics;
pub mod notes;
pub mod outbox;
pub mod serve;
pub mod service;
pub mod store;
pub mod stripe;
pub mod token;
