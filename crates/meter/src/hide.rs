//! Takes usage out of a stream of which the client did not ask for it.

use crate::json::{Json, Scalar, Visitor};
use crate::meter::Meter;
use crate::sse::{Events, Sink};
use core::ops::Range;

/// Takes usage out of a stream of OpenAI's chat completions or completions for which it was asked for on the way.
///
/// With `stream_options.include_usage` every chunk has a member `usage`, null in all but one, which comes last and has
/// no choices (platform.openai.com/docs/api-reference/chat/create). That chunk and those members do not pass; all
/// else passes byte for byte. An event is held back until it is complete, unless it is longer than 64 KiB: such an
/// event passes as it is. What passes does not depend on how the stream is cut into pieces.
#[derive(Debug)]
pub struct Hider {
    lines: Lines,
    /// The bytes of the event at hand, unless it is too long.
    held: Vec<u8>,
    is_long: bool,
    /// The last event ended with a carriage return: a line feed that follows belongs to it, and shares its fate.
    dropped: Option<bool>,
    /// No byte was seen: a byte order mark may come.
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

/// An event that is longer passes as it is. A chunk has some hundred bytes.
const EVENT_MAX: usize = 64 * 1024;

impl Hider {
    /// Before the first byte.
    #[must_use]
    pub const fn new() -> Self {
        Self { lines: Lines::new(), held: Vec::new(), is_long: false, dropped: None, at_start: true }
    }

    /// Feeds the meter, and says what passes of this piece; `end` is true with the last.
    pub fn pass(&mut self, meter: &mut Meter, chunk: &[u8], end: bool) -> Passed {
        meter.feed(chunk);
        let mut out = Vec::with_capacity(self.held.len().saturating_add(chunk.len()));
        let mut rest = chunk;
        if let (Some(dropped), Some((b'\n', after))) = (self.dropped, rest.split_first()) {
            if !dropped {
                out.push(b'\n');
            }
            rest = after;
        }
        if !chunk.is_empty() {
            self.dropped = None;
        }
        while let Some(length) = self.lines.event_end(rest) {
            let (mut event, mut after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            let judged = event;
            if let (Some(b'\r'), Some((b'\n', behind))) = (event.last(), after.split_first()) {
                event = rest.get(..length.saturating_add(1)).unwrap_or(event);
                after = behind;
            }
            let tail = event.get(judged.len()..).unwrap_or_default();
            let drops = self.complete(judged, &mut out);
            if !drops {
                out.extend_from_slice(tail);
            }
            if after.is_empty() && event.last() == Some(&b'\r') {
                self.dropped = Some(drops);
            }
            rest = after;
        }
        self.hold(rest, &mut out);
        if end {
            out.append(&mut self.held);
        }
        if out == chunk { Passed::Same } else { Passed::Instead(out) }
    }

    /// Keeps the beginning of an event, or lets it go if it grew too long.
    fn hold(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if !self.is_long && self.held.len().saturating_add(bytes.len()) <= EVENT_MAX {
            self.held.extend_from_slice(bytes);
            return;
        }
        self.is_long = true;
        out.append(&mut self.held);
        self.held = Vec::new();
        out.extend_from_slice(bytes);
    }

    /// Lets an event go that ends with these bytes, or what remains of it; true if nothing does.
    fn complete(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        self.hold(bytes, out);
        let is_first = core::mem::replace(&mut self.at_start, false);
        if core::mem::replace(&mut self.is_long, false) {
            return false;
        }
        let event = core::mem::take(&mut self.held);
        let fate = judge(&event, is_first);
        match &fate {
            Fate::Dropped => {}
            Fate::Whole => out.extend_from_slice(&event),
            Fate::Less(cut) => {
                out.extend_from_slice(event.get(..cut.start).unwrap_or(&event));
                out.extend_from_slice(event.get(cut.end..).unwrap_or_default());
            }
        }
        self.held = event;
        self.held.clear();
        fate == Fate::Dropped
    }
}

impl Default for Hider {
    fn default() -> Self {
        Self::new()
    }
}

/// Where events end: behind a line with nothing in it.
#[derive(Clone, Copy, Debug)]
struct Lines {
    /// Nothing stands in this line so far.
    is_empty: bool,
    /// The last byte was a carriage return, which a line feed may complete.
    after_return: bool,
}

impl Lines {
    const fn new() -> Self {
        Self { is_empty: true, after_return: false }
    }

    /// How many of these bytes belong to the event at hand, if it ends in them. A line feed behind a carriage return
    /// at its end is not among them.
    fn event_end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            let completes = core::mem::take(&mut self.after_return) && *byte == b'\n';
            match byte {
                b'\n' if completes => {}
                b'\n' | b'\r' => {
                    self.after_return = *byte == b'\r';
                    if core::mem::replace(&mut self.is_empty, true) {
                        self.after_return = false;
                        return Some(at.saturating_add(1));
                    }
                }
                _ => self.is_empty = false,
            }
        }
        None
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

fn judge(event: &[u8], is_first: bool) -> Fate {
    let mut data = Data::default();
    let mut events = Events::new();
    if !is_first {
        // A byte order mark is one at the very beginning only.
        events.feed(b"\n", &mut data);
    }
    events.feed(event, &mut data);
    let (mut json, mut top) = (Json::new(), Top::default());
    json.feed(&data.0, &mut top);
    if !json.is_whole() || top.is_repeated {
        return Fate::Whole;
    }
    if top.has_no_choices && top.usage == Usage::Object {
        return Fate::Dropped;
    }
    let Some(cut) = top.cut() else { return Fate::Whole };
    // Data in one line stands in the event as it is; what is in several is not found, and left alone.
    let Some(from) = find(event, &data.0) else { return Fate::Whole };
    Fate::Less(from.saturating_add(cut.start)..from.saturating_add(cut.end))
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
