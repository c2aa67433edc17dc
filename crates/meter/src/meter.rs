//! Reads an answer as it passes.

use crate::format::Format;
use crate::reading::{Certainty, Reading, Written};
use crate::source::Source;

/// The reader of one answer.
#[derive(Debug)]
pub struct Meter {}

impl Meter {
    /// A reader of an answer of that shape and form.
    #[must_use]
    pub fn new(source: &Source, format: Format) -> Self {
        let _ = (source, format);
        Self {}
    }

    /// Reads on; the pieces may be cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        let _ = bytes;
    }

    /// What is known so far. Of a document nothing is known before its end.
    #[must_use]
    pub fn read(&self) -> Reading {
        let written = Written::default();
        Reading { counts: None, certainty: Certainty::AtLeast, model: None, written, odd: false }
    }
}
