//! What came in, what was answered, and how much of the answer was taken.

use hyper::body::Bytes;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How many requests are remembered in full; the count goes on beyond.
const ITEMS_MAX: usize = 50_000;
/// Of how many requests of one path and key it is remembered when they came.
const TIMES_MAX: usize = 20_000;
/// How much of a body is remembered.
const BODY_MAX: usize = 64 * 1024;
/// How much of all bodies; what is oldest is forgotten first.
const BODIES_MAX: usize = 256 * 1024 * 1024;

/// One request as it arrived, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Item {
    /// `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case; values of a repeated header joined by `, `.
    pub headers: BTreeMap<String, String>,
    /// SHA-256 of the body, 64 lower-case hexadecimal digits.
    pub body_sha256: String,
    /// The body as text, at most its first 64 KiB.
    pub body: String,
    /// The answer; none if none was given.
    pub said: Option<Said>,
}

/// What an answer used, whether or not it said so, and how much of it the connection took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Said {
    /// The status.
    pub status: u16,
    /// The model that answered.
    pub model: String,
    /// Input tokens, those of the next two included.
    pub input: u64,
    /// Of the input: what the provider had in its cache.
    pub cached: u64,
    /// Of the input: what it wrote into its cache.
    pub cache_written: u64,
    /// Output tokens of all choices, reasoning included.
    pub output: u64,
    /// Of the output: what was spent on reasoning.
    pub reasoning: u64,
    /// Images that were made.
    pub images: u64,
    /// Pieces of text in the answer, of all choices.
    pub words: u64,
    /// How many of them the connection took.
    pub delivered_words: u64,
    /// How many bytes of the body it took.
    pub delivered_bytes: u64,
    /// True once it took what states the usage of the whole.
    pub told: bool,
    /// True once it took the last of the body.
    pub complete: bool,
}

/// Where an answer writes down how far it got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Note(Arc<Mutex<Option<Said>>>);

#[derive(Default)]
pub(crate) struct Heard(Mutex<Log>);

#[derive(Default)]
struct Log {
    count: u64,
    items: VecDeque<(Item, Note)>,
    /// Bytes of their bodies.
    bodies: usize,
    /// How often each path and key was asked for, for scripts that fail some of the time.
    asked: BTreeMap<(String, String), Asked>,
}

/// The requests of one path and key.
#[derive(Default)]
struct Asked {
    count: u64,
    /// When the last of them came.
    times: VecDeque<Instant>,
}

impl Note {
    fn lock(&self) -> MutexGuard<'_, Option<Said>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer begins.
    pub(crate) fn begins(&self, said: Said) {
        *self.lock() = Some(said);
    }

    /// The connection took these.
    pub(crate) fn took(&self, bytes: &Bytes, words: u64, usage: bool) {
        if let Some(said) = self.lock().as_mut() {
            let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            said.delivered_bytes = said.delivered_bytes.saturating_add(count);
            said.delivered_words = said.delivered_words.saturating_add(words);
            said.told |= usage;
        }
    }

    /// The connection took all.
    pub(crate) fn ended(&self) {
        if let Some(said) = self.lock().as_mut() {
            said.complete = true;
        }
    }
}

impl Heard {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a request; tells how many there were of its path and key, itself included, and where to write down what
    /// becomes of it.
    pub(crate) fn note(&self, item: Item, path: &str, key: &str) -> (u64, Note) {
        let mut log = self.log();
        log.count = log.count.saturating_add(1);
        log.bodies = log.bodies.saturating_add(item.body.len());
        let note = Note::default();
        log.items.push_back((item, note.clone()));
        while log.items.len() > ITEMS_MAX || log.bodies > BODIES_MAX {
            let Some((oldest, _)) = log.items.pop_front() else { break };
            log.bodies = log.bodies.saturating_sub(oldest.body.len());
        }
        let asked = log.asked.entry((path.to_owned(), key.to_owned())).or_default();
        asked.count = asked.count.saturating_add(1);
        asked.times.push_back(Instant::now());
        if asked.times.len() > TIMES_MAX {
            asked.times.pop_front();
        }
        (asked.count, note)
    }

    pub(crate) fn items(&self) -> Vec<Item> {
        let with = |(item, note): &(Item, Note)| Item { said: note.lock().clone(), ..item.clone() };
        self.log().items.iter().map(with).collect()
    }

    pub(crate) fn count(&self) -> u64 {
        self.log().count
    }

    pub(crate) fn asked(&self, path: &str, key: &str) -> u64 {
        self.log().asked.get(&(path.to_owned(), key.to_owned())).map_or(0, |asked| asked.count)
    }

    pub(crate) fn asked_since(&self, path: &str, key: &str, since: Instant) -> u64 {
        let log = self.log();
        let times =
            log.asked.get(&(path.to_owned(), key.to_owned())).into_iter().flat_map(|asked| &asked.times);
        u64::try_from(times.filter(|at| **at >= since).count()).unwrap_or(u64::MAX)
    }

    pub(crate) fn asked_anywhere(&self, key: &str) -> u64 {
        let log = self.log();
        let counts = log.asked.iter().filter(|((_, its), _)| its == key).map(|(_, asked)| asked.count);
        counts.fold(0, u64::saturating_add)
    }

    pub(crate) fn clear(&self) {
        *self.log() = Log::default();
    }
}

/// A body as it is remembered.
pub(crate) fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..BODY_MAX).unwrap_or(body)).into_owned()
}
