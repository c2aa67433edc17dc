//! Everything the filter decides, as deterministic machines with no I/O and no clock; drive them from Envoy, a test, or a simulator.
//!
//! Each stream is an [`Exchange`]: callbacks go in as [`Input`], what is to be done comes out as [`Effect`]. Each VM
//! has one [`worker::Worker`], which asks billing on behalf of all its streams. Memory that workers share is a [`Shelf`].
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod effect;
mod entered;
mod exchange;
mod identity;
mod input;
pub mod lease;
pub mod metrics;
mod numbered;
mod problem;
pub mod seen;
mod shelf;
mod text;
pub mod worker;

pub use ::config;
pub use effect::{Effect, Level, Metric, Reply};
pub use exchange::{BodyEdit, Delivery, EndWanted, Exchange, Metered, Role};
pub use input::{EnvoyUsage, Flow, Headers, Input, Now, Single};
pub use numbered::Numbered;
pub use shelf::{MemoryShelf, Shelf, Stale, Version};
pub use text::Text;
