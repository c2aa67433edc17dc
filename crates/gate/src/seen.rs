//! Remembers which events this Envoy is handling and which its upstreams *accepted*; forgetting is safe, remembering too early is not.
//!
//! The memory lies on the [`Shelf`], shared by all workers, in a fixed number of buckets of bounded size, because a
//! key of Envoy's shared data can never be removed. It spares the durable, shared memory behind it most of its
//! work; it does not replace it: it ends with the process, and other Envoys do not see it.

use crate::{Shelf, Version};
use sha2::{Digest, Sha256};
use units::{EventId, Instant, Span};

/// Marks that would hold for longer than anybody may configure were not written by a clock like ours, and do not count.
pub use config::{IN_FLIGHT_MAX, REMEMBER_MAX};

const BUCKETS: u16 = 1024;
const ENTRIES_MAX: usize = 32;
/// Attempts at one change. Each failure means that another worker succeeded, so that this many are never needed.
const TRIES: usize = 64;
/// What a bucket begins with: a letter, and the version of the format.
const HEAD: [u8; 2] = [b'S', 1];
const ENTRY_BYTES: usize = 33;

/// Names an event at an endpoint: 128 bits of SHA-256, so that nobody can make two of them meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventKey([u8; 16]);

/// Whose in-flight mark it is: different for every delivery that this Envoy handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner(pub u64);

/// The answer to [`Seen::begin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nobody is handling it: it is marked as in flight, and ours until the time given.
    Fresh,
    /// Another delivery of it is being handled.
    InFlight {
        /// When its mark runs out.
        until: Instant,
    },
    /// It was accepted.
    Accepted,
    /// Nothing could be decided: too many others wrote the same bucket. Not to be taken for [`Begun::Fresh`].
    Contended,
    /// Nothing could be marked: the bucket is full of events in flight. Not to be taken for [`Begun::Fresh`].
    Full,
}

/// What became of a change that cannot be refused, only missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// It is as asked.
    Done,
    /// It could not be written; what was there runs out by itself.
    Missed,
}

/// The memory, for one input's length.
pub struct Seen<'a> {
    shelf: &'a mut dyn Shelf,
    damaged: bool,
}

impl EventKey {
    /// The same event at two endpoints, in two modes or for two accounts is two events.
    #[must_use]
    pub fn of(endpoint: &str, livemode: bool, account: &str, id: &EventId) -> Self {
        let mut hash = Sha256::new();
        for part in [endpoint, if livemode { "live" } else { "test" }, account, id.as_str()] {
            // The length first, so that no two lists of parts make the same bytes.
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let digest: [u8; 32] = hash.finalize().into();
        Self(digest.first_chunk().copied().unwrap_or_default())
    }

    fn shelf_key(self) -> String {
        let [low, high, ..] = self.0;
        let bucket = u16::from_le_bytes([low, high]).checked_rem(BUCKETS).unwrap_or(0);
        format!("tg1:seen:{bucket}")
    }
}

impl<'a> Seen<'a> {
    /// The memory that lies on `shelf`.
    pub fn on(shelf: &'a mut dyn Shelf) -> Self {
        Self { shelf, damaged: false }
    }

    /// Whether a bucket held something else than a bucket; it was taken for empty. Never so, unless another
    /// program writes under the same `vm_id`.
    #[must_use]
    pub const fn damaged(&self) -> bool {
        self.damaged
    }

    /// Marks an event as in flight for `span` (at most [`IN_FLIGHT_MAX`]), unless somebody has it or had it.
    /// Beginning again with one's own mark in place prolongs it.
    pub fn begin(&mut self, key: EventKey, owner: Owner, now: Instant, span: Span) -> Begun {
        let until = now.plus(span.min(IN_FLIGHT_MAX));
        let begun = self.change(key, now, |entries| {
            if let Some(entry) = entries.iter_mut().find(|e| e.key == key) {
                match entry.mark {
                    Mark::Accepted => return (Begun::Accepted, false),
                    Mark::InFlight if entry.owner != owner => {
                        return (Begun::InFlight { until: entry.until }, false);
                    }
                    Mark::InFlight => entry.until = until,
                }
            } else if make_room(entries) {
                entries.push(Entry { key, mark: Mark::InFlight, until, owner });
            } else {
                return (Begun::Full, false);
            }
            (Begun::Fresh, true)
        });
        begun.unwrap_or(Begun::Contended)
    }

    /// Marks an event as accepted for `span` (at most [`REMEMBER_MAX`]), whoever had begun it: it was accepted.
    pub fn accept(&mut self, key: EventKey, owner: Owner, now: Instant, span: Span) -> Marked {
        let entry = Entry { key, mark: Mark::Accepted, until: now.plus(span.min(REMEMBER_MAX)), owner };
        let marked = self.change(key, now, |entries| {
            if let Some(old) = entries.iter_mut().find(|e| e.key == key) {
                *old = entry;
            } else if make_room(entries) {
                entries.push(entry);
            } else {
                return (Marked::Missed, false);
            }
            (Marked::Done, true)
        });
        marked.unwrap_or(Marked::Missed)
    }

    /// Takes back one's own in-flight mark. An accepted event stays accepted; another's mark stays another's.
    pub fn release(&mut self, key: EventKey, owner: Owner, now: Instant) -> Marked {
        let marked = self.change(key, now, |entries| {
            let before = entries.len();
            entries.retain(|e| e.key != key || e.owner != owner || e.mark == Mark::Accepted);
            (Marked::Done, entries.len() != before)
        });
        marked.unwrap_or(Marked::Missed)
    }

    /// Reads the bucket, lets `decide` change what is still valid in it, and writes it back if it says so; again
    /// from the start if somebody else wrote in between. `None` if that happened too often.
    fn change<T>(
        &mut self,
        key: EventKey,
        now: Instant,
        decide: impl Fn(&mut Vec<Entry>) -> (T, bool),
    ) -> Option<T> {
        let shelf_key = key.shelf_key();
        for _ in 0..TRIES {
            let (mut entries, version) = self.read(&shelf_key);
            entries.retain(|e| e.holds(now));
            let (answer, is_changed) = decide(&mut entries);
            if !is_changed || self.shelf.write(&shelf_key, &encode(&entries), version).is_ok() {
                return Some(answer);
            }
        }
        None
    }

    fn read(&mut self, shelf_key: &str) -> (Vec<Entry>, Option<Version>) {
        let Some((value, version)) = self.shelf.read(shelf_key) else { return (Vec::new(), None) };
        let entries = decode(&value);
        self.damaged |= entries.is_none();
        (entries.unwrap_or_default(), Some(version))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    InFlight,
    Accepted,
}

#[derive(Clone, Copy)]
struct Entry {
    key: EventKey,
    mark: Mark,
    until: Instant,
    owner: Owner,
}

impl Entry {
    /// Neither run out, nor from a clock that was far ahead of this one.
    fn holds(&self, now: Instant) -> bool {
        let longest = match self.mark {
            Mark::InFlight => IN_FLIGHT_MAX,
            Mark::Accepted => REMEMBER_MAX,
        };
        now < self.until && self.until <= now.plus(longest)
    }
}

/// Makes sure that one more entry fits, by forgetting the accepted event that would be forgotten first. An event in
/// flight is never forgotten: its other copies would be forwarded beside it.
fn make_room(entries: &mut Vec<Entry>) -> bool {
    if entries.len() < ENTRIES_MAX {
        return true;
    }
    let accepted = entries.iter().filter(|e| e.mark == Mark::Accepted);
    let Some(oldest) = accepted.min_by_key(|e| e.until).map(|e| e.key) else { return false };
    entries.retain(|e| e.key != oldest);
    true
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut value = Vec::from(HEAD);
    for entry in entries {
        value.extend_from_slice(&entry.key.0);
        value.push(match entry.mark {
            Mark::InFlight => b'f',
            Mark::Accepted => b'a',
        });
        value.extend_from_slice(&entry.until.micros().to_le_bytes());
        value.extend_from_slice(&entry.owner.0.to_le_bytes());
    }
    value
}

fn decode(value: &[u8]) -> Option<Vec<Entry>> {
    let chunks = value.strip_prefix(&HEAD)?.chunks_exact(ENTRY_BYTES);
    if chunks.len() > ENTRIES_MAX || !chunks.remainder().is_empty() {
        return None;
    }
    chunks.map(decode_entry).collect()
}

fn decode_entry(bytes: &[u8]) -> Option<Entry> {
    let (key, rest) = bytes.split_first_chunk()?;
    let (mark, rest) = rest.split_first()?;
    let (until, owner) = rest.split_first_chunk()?;
    let mark = match mark {
        b'f' => Mark::InFlight,
        b'a' => Mark::Accepted,
        _ => return None,
    };
    let (until, owner) = (i64::from_le_bytes(*until), u64::from_le_bytes(owner.try_into().ok()?));
    Some(Entry { key: EventKey(*key), mark, until: Instant::from_micros(until), owner: Owner(owner) })
}

#[cfg(test)]
#[path = "seen_tests.rs"]
mod tests;
