//! Which process this is, and which worker of it: agreed on by all workers through their shared memory.
//!
//! The first worker whose hello was answered writes the incarnation down; each worker (and each VM that starts after a
//! trap) then takes the next number. A number is never used twice within an incarnation, so neither are need ids.

use crate::lease::Table;
use crate::shelf::Shelf;
use contract::v1::{HelloAnswer, Intervals, Limits};
use serde::{Deserialize, Serialize};
use units::{NodeName, Span};

/// Where it is written down; the number is that of the slots' form. A filter of another form in the same Envoy reads none of
/// these slots and would begin the totals of their cells anew: it must be another process to the ledger.
const KEY: &str = "tollgate/process/2";
/// The wire has 12 bits for a worker's number; after that many, the process takes a new incarnation.
const WORKERS_MAX: u16 = 4095;
/// The least that a server may bound one call to: enough for one need or report of the largest size.
const BODY_BYTES_MIN: u32 = 4096;
/// How often a compare-and-swap is tried against other workers, all of which do this once in their life.
const TRIES: usize = 64;

/// Who this worker is, and at what pace it may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) incarnation: u64,
    /// From 1 to 4095.
    pub(super) worker: u16,
    pub(super) intervals: Intervals,
    pub(super) limits: Limits,
}

impl Membership {
    /// The leases of this life.
    pub(super) fn table(&self) -> Table {
        Table { incarnation: self.incarnation }
    }

    /// How long a lease lives unreported.
    pub(super) fn ttl(&self) -> Span {
        Span::from_millis(self.intervals.lease_ttl_ms)
    }

    /// Between two syncs that nobody waits for: a quarter longer than the shortest time that the server asks for, so
    /// that the few syncs which somebody did wait for are within its pace as well.
    pub(super) fn pause(&self) -> Span {
        let shortest = Span::from_millis(self.intervals.sync_ms);
        // A lease must be told of before its time is over, however short that was made.
        shortest.plus(shortest.part(4)).min(self.ttl().part(3))
    }
}

#[derive(Serialize, Deserialize)]
struct Process {
    incarnation: u64,
    /// The last number that was taken.
    workers: u16,
    intervals: Intervals,
    limits: Limits,
}

/// Takes a number in the incarnation that is written down; `None` if a hello is needed first.
pub(super) fn join(shelf: &mut dyn Shelf) -> Option<Membership> {
    for _ in 0..TRIES {
        let (bytes, seen) = shelf.read(KEY)?;
        let mut process = usable(&bytes)?;
        process.workers = process.workers.checked_add(1)?;
        if shelf.write(KEY, &serde_json::to_vec(&process).ok()?, Some(seen)).is_ok() {
            let Process { incarnation, workers: worker, intervals, limits } = process;
            return Some(Membership { incarnation, worker, intervals, limits });
        }
    }
    None
}

/// Writes down what a hello was answered with, unless another worker's answer is there already.
pub(super) fn found(shelf: &mut dyn Shelf, answer: &HelloAnswer) {
    let HelloAnswer { incarnation, intervals, limits, .. } = *answer;
    let Ok(bytes) = serde_json::to_vec(&Process { incarnation, workers: 0, intervals, limits }) else {
        return;
    };
    for _ in 0..TRIES {
        let seen = match shelf.read(KEY) {
            None => None,
            Some((old, _)) if usable(&old).is_some() => return,
            Some((_, seen)) => Some(seen),
        };
        if shelf.write(KEY, &bytes, seen).is_ok() {
            return;
        }
    }
}

/// Is this an answer to our hello that one can work with?
pub(super) fn is_sound(answer: &HelloAnswer, node: &NodeName) -> bool {
    answer.node == *node && can_work_with(answer.incarnation, &answer.intervals, &answer.limits)
}

fn can_work_with(incarnation: u64, i: &Intervals, l: &Limits) -> bool {
    incarnation > 0
        && i.lease_ttl_ms > 0
        && l.cells_max.min(l.needs_max).min(l.usage_max) > 0
        && l.body_bytes_max >= BODY_BYTES_MIN
}

/// What is written there may be somebody else's, and is believed no more than an answer would be.
fn usable(bytes: &[u8]) -> Option<Process> {
    let process: Process = serde_json::from_slice(bytes).ok()?;
    let Process { incarnation, workers, intervals, limits } = &process;
    (*workers < WORKERS_MAX && can_work_with(*incarnation, intervals, limits)).then_some(process)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shelf::MemoryShelf;
    use crate::worker::rig::hello_answer;

    #[test]
    fn t50_a_filter_that_reads_other_slots_is_another_process() {
        let form = |key: &str| key.split('/').nth(2).map(str::to_owned);
        assert_eq!(form(KEY), form(&crate::lease::slot_key(0)));
    }

    #[test]
    fn workers_of_one_process_share_an_incarnation_and_never_a_number() {
        let mut shelf = MemoryShelf::default();
        assert_eq!(join(&mut shelf), None);
        found(&mut shelf, &hello_answer(7));
        found(&mut shelf, &hello_answer(8));
        let (a, b) = (join(&mut shelf).unwrap(), join(&mut shelf).unwrap());
        assert_eq!((a.incarnation, a.worker, b.incarnation, b.worker), (7, 1, 7, 2));
    }

    #[test]
    fn a_process_that_has_used_up_its_numbers_says_hello_again() {
        let mut shelf = MemoryShelf::default();
        found(&mut shelf, &hello_answer(7));
        for n in 1..=WORKERS_MAX {
            assert_eq!(join(&mut shelf).unwrap().worker, n);
        }
        assert_eq!(join(&mut shelf), None);
        found(&mut shelf, &hello_answer(8));
        assert_eq!(join(&mut shelf).map(|m| (m.incarnation, m.worker)), Some((8, 1)));
    }

    #[test]
    fn bounds_that_nothing_fits_into_are_not_sound() {
        let node = NodeName::new("n1").unwrap();
        let good = hello_answer(1);
        assert!(is_sound(&good, &node));
        assert!(!is_sound(&good, &NodeName::new("n2").unwrap()));
        assert!(!is_sound(&HelloAnswer { incarnation: 0, ..good.clone() }, &node));
        let limits = Limits { needs_max: 0, ..good.limits };
        assert!(!is_sound(&HelloAnswer { limits, ..good.clone() }, &node));
        let limits = Limits { body_bytes_max: 100, ..good.limits };
        assert!(!is_sound(&HelloAnswer { limits, ..good }, &node));
    }
}
