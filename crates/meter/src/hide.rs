//! Takes usage out of a stream of which the client did not ask for it.

use crate::json::{Json, Scalar, Visitor};
use crate::meter::Meter;
use crate::sse::{Events, Sink};
use core::ops::Range;

/// Takes usage out of a stream of OpenAI's chat completions or completions for which it was asked for on the way.
///
/// With `stream_options.include_usage` every chunk has a member `usage`, null in all but one, which comes last and has
/// no choices (platform.openai.com/docs/api-reference/chat/create). That chunk and those members do not pass; all
/// else passes byte for byte. An event is held back as long as it may turn out to have something to hide, unless it is
/// longer than 64 KiB: such an event passes as it is. Comments before an event pass at once, and stay where the event
/// does not. What passes of a whole stream does not depend on how it is cut into pieces.
#[derive(Debug)]
pub struct Hider {
    events: Events,
    seen: Seen,
    line: Line,
    /// The bytes of the event at hand, unless they pass.
    held: Vec<u8>,
    /// Nothing of the event at hand is held back any more.
    passes: bool,
    /// Something of the event at hand was there, besides comments.
    is_begun: bool,
    /// The last line ended with a carriage return: a line feed that follows belongs to it, and shares its fate.
    after_return: Option<Went>,
    /// No event ended so far: a byte order mark may be in this one.
    at_start: bool,
}

/// What becomes of a piece of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It passes as it is.
    Same,
    /// This passes in its place, which may be nothing.
    Instead(Vec<u8>),
}

/// What kind of line the bytes at hand belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// None of it was there so far.
    New,
    /// A comment before the event.
    Comment,
    /// Nothing stands in it: the event ends.
    Blank,
    Other,
}

/// What became of the end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    Out,
    Dropped,
    /// It is part of the event at hand.
    Along,
}

/// An event that is longer passes as it is. A chunk has some hundred bytes.
const EVENT_MAX: usize = 64 * 1024;

impl Hider {
    /// Before the first byte.
    #[must_use]
    pub fn new() -> Self {
        Self {
            events: Events::new(),
            seen: Seen::default(),
            line: Line::New,
            held: Vec::new(),
            passes: false,
            is_begun: false,
            after_return: None,
            at_start: true,
        }
    }

    /// Feeds the meter, and says what passes of this piece; `end` is true with the last. Where the end is not told
    /// (trailers follow), only what may have had something to hide is lost, and only if its event was not complete.
    pub fn pass(&mut self, meter: &mut Meter, chunk: &[u8], end: bool) -> Passed {
        meter.feed(chunk);
        let mut out = Vec::with_capacity(self.held.len().saturating_add(chunk.len()));
        let mut rest = chunk;
        while !rest.is_empty() {
            let length = self.length(rest);
            let (piece, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            self.take(piece, &mut out);
            rest = after;
        }
        if end {
            out.append(&mut self.held);
        }
        if out == chunk { Passed::Same } else { Passed::Instead(out) }
    }

    /// How many of these bytes belong to the line at hand, with its end. A line feed that completes the end of the
    /// line before comes alone.
    fn length(&self, bytes: &[u8]) -> usize {
        if self.after_return.is_some() && bytes.first() == Some(&b'\n') {
            return 1;
        }
        let end = bytes.iter().position(|b| matches!(b, b'\n' | b'\r'));
        end.map_or(bytes.len(), |end| end.saturating_add(1))
    }

    /// Takes some bytes of one line.
    fn take(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.events.feed(piece, &mut self.seen);
        if let (Some(went), b"\n") = (self.after_return.take(), piece) {
            match went {
                Went::Out => out.extend_from_slice(piece),
                Went::Dropped => {}
                Went::Along => self.hold(piece, out),
            }
            return;
        }
        if self.line == Line::New {
            self.line = match piece.first() {
                Some(b'\n' | b'\r') => Line::Blank,
                Some(b':') if !self.is_begun => Line::Comment,
                _ => Line::Other,
            };
        }
        let went = match self.line {
            Line::Comment => {
                out.extend_from_slice(piece);
                Went::Out
            }
            Line::Blank => self.complete(piece, out),
            Line::New | Line::Other => {
                self.is_begun = true;
                self.hold(piece, out);
                Went::Along
            }
        };
        match piece.last() {
            Some(b'\n') => self.line = Line::New,
            Some(b'\r') => (self.line, self.after_return) = (Line::New, Some(went)),
            _ => {}
        }
    }

    /// Keeps bytes of the event at hand, or lets it go if it has nothing to hide or grew too long.
    fn hold(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let fits = self.held.len().saturating_add(bytes.len()) <= EVENT_MAX;
        if !self.passes && fits && self.seen.may_hide() {
            self.held.extend_from_slice(bytes);
            return;
        }
        self.passes = true;
        self.seen.is_over = true;
        out.append(&mut self.held);
        out.extend_from_slice(bytes);
    }

    /// Lets the event at hand go, which ends with this, or what remains of it.
    fn complete(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Went {
        self.hold(bytes, out);
        let is_first = core::mem::replace(&mut self.at_start, false);
        self.is_begun = false;
        let mut went = Went::Out;
        if !core::mem::replace(&mut self.passes, false) {
            match self.seen.fate(&self.held, is_first) {
                Fate::Dropped => went = Went::Dropped,
                Fate::Whole => out.extend_from_slice(&self.held),
                Fate::Less(cut) => {
                    out.extend_from_slice(self.held.get(..cut.start).unwrap_or(&self.held));
                    out.extend_from_slice(self.held.get(cut.end..).unwrap_or_default());
                }
            }
            self.held.clear();
        }
        self.seen.restart();
        went
    }
}

impl Default for Hider {
    fn default() -> Self {
        Self::new()
    }
}

/// What becomes of a complete event.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Whole,
    Dropped,
    /// All but these bytes pass.
    Less(Range<usize>),
}

/// What was seen of the data of the event at hand.
#[derive(Debug, Default)]
struct Seen {
    json: Json,
    top: Top,
    /// It has begun,
    is_begun: bool,
    /// and not like an object.
    is_other: bool,
    /// Nobody asks any more.
    is_over: bool,
}

impl Seen {
    /// The event may still have something to hide, once it is complete.
    fn may_hide(&self) -> bool {
        let may_be_whole = !self.is_other && self.json.fault().is_none() && !self.top.is_repeated;
        may_be_whole && (!self.json.is_whole() || self.top.is_usage_alone() || self.top.cut().is_some())
    }

    /// What becomes of this event, of which this was seen.
    fn fate(&self, event: &[u8], is_first: bool) -> Fate {
        if !self.json.is_whole() || !self.may_hide() {
            return Fate::Whole;
        }
        if self.top.is_usage_alone() {
            return Fate::Dropped;
        }
        let Some(cut) = self.top.cut() else { return Fate::Whole };
        let mut data = Data::default();
        let mut events = Events::new();
        if !is_first {
            // A byte order mark is one at the very beginning only.
            events.feed(b"\n", &mut data);
        }
        events.feed(event, &mut data);
        // Data in one line stands in the event as it is; what is in several is not found, and left alone.
        let Some(from) = find(event, &data.0) else { return Fate::Whole };
        Fate::Less(from.saturating_add(cut.start)..from.saturating_add(cut.end))
    }

    fn restart(&mut self) {
        self.json.restart();
        (self.top, self.is_other, self.is_begun, self.is_over) = (Top::default(), false, false, false);
    }
}

impl Sink for Seen {
    fn data(&mut self, bytes: &[u8]) {
        if self.is_over {
            return;
        }
        let first = bytes.iter().find(|b| !matches!(b, b' ' | b'\t' | b'\n'));
        if let (false, Some(first)) = (self.is_begun, first) {
            (self.is_begun, self.is_other) = (true, *first != b'{');
        }
        self.json.feed(bytes, &mut self.top);
    }
    fn dispatch(&mut self) {}
}

/// Where the line of data stands in the event. Data is as long as its line allows, so it ends where a line does.
fn find(event: &[u8], data: &[u8]) -> Option<usize> {
    let mut from = 0_usize;
    for line in event.split(|b| matches!(b, b'\n' | b'\r')) {
        if line.starts_with(b"data:") || line.starts_with(b"\xEF\xBB\xBFdata:") {
            return from.checked_add(line.len().checked_sub(data.len())?).filter(|_| line.ends_with(data));
        }
        from = from.saturating_add(line.len()).saturating_add(1);
    }
    None
}

/// The data of one event.
#[derive(Debug, Default)]
struct Data(Vec<u8>);

impl Sink for Data {
    fn data(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn dispatch(&mut self) {}
}

/// The top level of a chunk.
#[derive(Debug, Default)]
struct Top {
    depth: u32,
    at: Key,
    has_choices: bool,
    has_usage: bool,
    is_repeated: bool,
    has_no_choices: bool,
    usage: Usage,
    /// Where the object's first byte ended, or the last value.
    behind: usize,
    /// Where the key at hand begins.
    key: usize,
    /// The member that goes, from its key to the end of its value.
    null: Range<usize>,
    /// Where the value before that member ended, if there is one.
    before: Option<usize>,
    /// Where the key after it begins, if there is one.
    after: Option<usize>,
    members: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Key {
    Choices,
    Usage,
    #[default]
    Other,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Usage {
    Null,
    Object,
    #[default]
    Other,
}

impl Top {
    /// The chunk with nothing but usage.
    fn is_usage_alone(&self) -> bool {
        self.has_no_choices && self.usage == Usage::Object
    }

    /// The bytes to leave out: the member, and the comma before it or else the one behind it.
    fn cut(&self) -> Option<Range<usize>> {
        if self.usage != Usage::Null {
            return None;
        }
        Some(match (self.before, self.after) {
            (Some(before), _) => before..self.null.end,
            (None, Some(after)) => self.null.start..after,
            (None, None) => self.null.clone(),
        })
    }
}

impl Visitor for Top {
    fn open(&mut self, object: bool, _: usize) {
        match (self.depth, self.at) {
            (1, Key::Choices) => self.has_no_choices = !object,
            (1, Key::Usage) if object => self.usage = Usage::Object,
            // Something is in the list.
            (2, Key::Choices) => self.has_no_choices = false,
            _ => {}
        }
        self.depth = self.depth.saturating_add(1);
    }

    fn close(&mut self, end: usize) {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 1 {
            self.behind = end;
        }
    }

    fn key(&mut self, key: Option<&[u8]>, at: usize) {
        if self.depth != 1 {
            return;
        }
        if self.usage == Usage::Null && self.after.is_none() {
            self.after = Some(at);
        }
        self.key = at;
        self.members = self.members.saturating_add(1);
        (self.at, self.is_repeated) = match key {
            Some(b"choices") => {
                (Key::Choices, self.is_repeated | core::mem::replace(&mut self.has_choices, true))
            }
            Some(b"usage") => (Key::Usage, self.is_repeated | core::mem::replace(&mut self.has_usage, true)),
            _ => (Key::Other, self.is_repeated),
        };
    }

    fn value(&mut self, value: Scalar<'_>, at: Range<usize>) {
        match (self.depth, self.at) {
            (1, Key::Usage) if value == Scalar::Null => {
                self.usage = Usage::Null;
                self.null = self.key..at.end;
                self.before = (self.members > 1).then_some(self.behind);
            }
            (2, Key::Choices) => self.has_no_choices = false,
            _ => {}
        }
        if self.depth == 1 {
            self.behind = at.end;
        }
    }
}

#[cfg(test)]
#[path = "hide_tests.rs"]
mod tests;
