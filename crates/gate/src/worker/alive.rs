//! Which workers of this process are alive. One that fell silent without taking its leave was ended by a trap, and
//! the requests it had under way will never be reported.
//!
//! A worker that was only slow is taken for dead as well: that costs the process some new leases, and nobody a credit.

use crate::shelf::Shelf;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use units::{Instant, Span};

const KEY: &str = "tollgate/alive/1";
/// How often each worker says that it is.
pub(super) const EVERY: Span = Span::from_secs(1);
/// How long it may be silent.
const SILENCE: Span = Span::from_secs(10);
/// More workers than any Envoy has; beyond that some are not watched over.
const WORKERS_MAX: usize = 1024;

/// Worker numbers, and when each was last seen on the monotonic clock, in microseconds.
#[derive(Serialize, Deserialize, Default)]
struct Alive(BTreeMap<u16, i64>);

/// Says that a worker is alive. True if it was the one that found another one dead: it must see to what that one left.
/// Where others are faster, it says so next time.
pub(super) fn say(shelf: &mut dyn Shelf, worker: u16, now: Instant) -> bool {
    let (mut alive, seen) = read(shelf);
    let before = alive.0.len();
    let silent = |last: i64| now.since(Instant::from_micros(last)) > SILENCE;
    alive.0.retain(|other, last| *other == worker || !silent(*last));
    let found = alive.0.len() < before;
    if alive.0.len() < WORKERS_MAX {
        alive.0.insert(worker, now.micros());
    }
    write(shelf, &alive, seen) && found
}

/// Takes a worker's leave.
pub(super) fn leave(shelf: &mut dyn Shelf, worker: u16) -> bool {
    let (mut alive, seen) = read(shelf);
    alive.0.remove(&worker).is_none() || write(shelf, &alive, seen)
}

fn read(shelf: &dyn Shelf) -> (Alive, Option<crate::shelf::Version>) {
    match shelf.read(KEY) {
        Some((bytes, seen)) => (serde_json::from_slice(&bytes).unwrap_or_default(), Some(seen)),
        None => (Alive::default(), None),
    }
}

fn write(shelf: &mut dyn Shelf, alive: &Alive, seen: Option<crate::shelf::Version>) -> bool {
    serde_json::to_vec(alive).is_ok_and(|bytes| shelf.write(KEY, &bytes, seen).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shelf::MemoryShelf;

    #[test]
    fn one_worker_finds_a_silent_one_dead_and_none_that_left() {
        let mut shelf = MemoryShelf::default();
        let at = Instant::from_secs;
        for worker in [1, 2, 3] {
            assert!(!say(&mut shelf, worker, at(100)));
        }
        assert!(leave(&mut shelf, 3));
        assert!(!say(&mut shelf, 1, at(109)));
        assert!(say(&mut shelf, 1, at(111)), "2 is dead, and 3 had left");
        assert!(!say(&mut shelf, 1, at(112)), "once");
        assert!(!say(&mut shelf, 2, at(113)), "it was only slow");
        assert!(!say(&mut shelf, 1, at(900)) || !shelf.read(KEY).is_some_and(|(v, _)| v.is_empty()));
    }
}
