//! Reads an answer as it passes.

use crate::format::Format;
use crate::json::Json;
use crate::provider::{Found, Known, Provider};
use crate::reading::{Certainty, Reading};
use crate::source::Source;
use crate::sse::{Events, Sink};
use crate::walk::Walk;

/// The reader of one answer. It takes some kilobytes, whatever the answer's length.
#[derive(Debug)]
pub struct Meter {
    format: Format,
    events: Events,
    reader: Reader,
}

/// Reads one document after the other.
#[derive(Debug)]
struct Reader {
    settle: fn(&Found<'_>, &mut Known),
    /// Where the text of such answers stands is known.
    has_text: bool,
    json: Json,
    walk: Walk,
    /// How much of [`DONE`] the data of this event is; `None` if it is something else.
    done: Option<usize>,
    known: Known,
}

/// The data of OpenAI's last event, which is no JSON.
const DONE: &[u8] = b"[DONE]";

impl Meter {
    /// A reader of an answer of that shape and form.
    #[must_use]
    pub fn new(source: &Source, format: Format) -> Self {
        let Provider { paths, settle } = Provider::of(source);
        let has_text = !matches!(source, Source::Pointers(_));
        let (json, walk) = (Json::new(), Walk::new(paths));
        let reader = Reader { settle, has_text, json, walk, done: Some(0), known: Known::default() };
        Self { format, events: Events::new(), reader }
    }

    /// Reads on; the pieces may be cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        match self.format {
            Format::Document => self.reader.json.feed(bytes, &mut self.reader.walk),
            Format::Events => self.events.feed(bytes, &mut self.reader),
        }
    }

    /// What is known so far. Of a document nothing is known before its end; of events, what the complete ones say.
    #[must_use]
    pub fn read(&self) -> Reading {
        let mut known = self.reader.known.clone();
        if self.format == Format::Document && self.reader.json.is_whole() {
            known.complete = true;
            Found { walk: &self.reader.walk, is_event: false }.take(self.reader.settle, &mut known);
        }
        Reading {
            counts: known.counts,
            stated: known.stated,
            certainty: if known.complete { Certainty::Exact } else { Certainty::AtLeast },
            model: known.model,
            written: self.reader.has_text.then_some(known.written),
            odd: known.odd,
            failed: known.failed,
        }
    }
}

impl Sink for Reader {
    fn data(&mut self, bytes: &[u8]) {
        self.done = self.done.and_then(|so_far| {
            let to = so_far.checked_add(bytes.len())?;
            (DONE.get(so_far..to) == Some(bytes)).then_some(to)
        });
        self.json.feed(bytes, &mut self.walk);
    }

    fn dispatch(&mut self) {
        if self.json.is_whole() {
            Found { walk: &self.walk, is_event: true }.take(self.settle, &mut self.known);
        }
        self.known.complete |= self.done == Some(DONE.len());
        self.json.restart();
        self.walk.restart();
        self.done = Some(0);
    }
}
