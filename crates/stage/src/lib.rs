//! Puts the whole on one machine: Envoy, the billing service and a scripted upstream, for the demo, for people and for tests.
//!
//! Decides nothing about payment: whatever a customer sees here comes from the filter and the service.

pub mod client;
pub mod demo;
pub mod envoy_file;
pub mod frames;
pub mod harness;
pub mod leaks;
pub mod link;
mod options;
pub mod processes;
pub mod product;
pub mod pushed;
pub mod rogue;
pub mod run;
pub mod settings;
pub mod stripe;
pub mod tools;
pub mod upstream;

use std::fmt;

/// What went wrong, in words for whoever typed the command: what, where, which value, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble(pub String);

/// A result whose error is for the reader.
pub type Result<T> = std::result::Result<T, Trouble>;

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}

/// Adds to an error what was being done when it came.
pub trait During<T> {
    /// Describes the deed: `read /x: No such file or directory`.
    fn during(self, deed: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> During<T> for std::result::Result<T, E> {
    fn during(self, deed: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Trouble(format!("{deed}: {error}")))
    }
}
