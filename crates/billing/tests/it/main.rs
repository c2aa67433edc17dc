//! The whole service in one process, spoken to over real HTTP.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod admin;
mod authz;
mod bounds;
mod commands;
mod crashes;
mod crowd;
mod events;
mod gateway;
mod hostile;
mod keys;
mod kill_loop;
mod openapi;
mod outbox;
mod plans;
mod pools;
mod process;
mod products;
mod repeats;
mod reversals;
mod stripe;
mod support;
mod sweeps;
mod tokens;
mod usage;
mod windows;
