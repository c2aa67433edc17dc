//! What does an AI answer say it cost, how much of it was delivered, and what can a request cost at most?
//!
//! A [`Meter`] reads an answer as it passes, in pieces of any size and in constant memory, and says at any time what
//! is known. A [`Hider`] takes usage out of a stream of which the client did not ask for it. [`request::read`] says
//! what a request asks for, and can bound it. Nothing here does I/O, and nothing is believed of a document that is not
//! valid JSON to its end.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod format;
mod hide;
pub mod json;
mod meter;
mod number;
mod pointer;
mod provider;
mod reading;
pub mod request;
mod source;
pub mod sse;
mod walk;

pub use format::Format;
pub use hide::{Hider, Passed};
pub use meter::Meter;
pub use pointer::Pointer;
pub use reading::{Certainty, Counts, Reading, Stated, Written};
pub use source::{Pointers, Source};
