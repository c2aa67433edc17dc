//! What messages said of each cell: how long its gateway was given, when it was told of, and what of it was heard of. By that
//! it is judged whether the crash policy had a reason to settle it.
//!
//! It believes neither side about the other: what was said is taken from the messages, and what arrived from the network.

use super::house::Said;
use contract::v1::CellKey;
use ledger::{Cell, CellId};
use std::collections::{BTreeMap, BTreeSet};
use units::{AccountId, Instant, Span};

/// A gateway looks at what is due this often, and its message takes a moment.
const SLACK: Span = Span::from_millis(200);

/// Why a cell with something left came to its hard end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Its Envoy was killed.
    Dead,
    /// A worker's VM trapped that may have had requests on it.
    Trapped,
    /// A worker that may have had something to tell of it was not heard.
    Silent,
    /// The clock of its Envoy stood still.
    Frozen,
    /// A worker was heard, but each time it told of its slots since the report was due others had been faster there.
    Busy,
    /// Its gateway was never answered what was lent on it, and nobody answered since.
    Unanswered,
    /// It charged for a request that had passed unpaid, its answer was lost, and it was over when it was asked for again.
    Unpaid,
}

impl Why {
    /// Every reason.
    pub const ALL: [Self; 7] =
        [Self::Dead, Self::Trapped, Self::Silent, Self::Frozen, Self::Busy, Self::Unanswered, Self::Unpaid];
}

/// What was said of one cell.
#[derive(Clone, Debug)]
struct Row {
    born: Instant,
    /// It may not be settled before.
    promised: Instant,
    /// When it was last told of, by who was lent it or reported it.
    told: Instant,
    /// All that was ever admitted and finished, as far as it was told.
    admitted: i64,
    finished: i64,
    /// All that was ever granted, as it was answered; and as it was heard.
    granted: i64,
    heard: i64,
    /// By whom more was asked for the last time, and when that was sent.
    asked: (u64, Instant),
    /// Whether it is the hold of a request that had passed unpaid.
    unpaid: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// By life of an Envoy.
    rows: BTreeMap<(u64, CellKey), Row>,
    /// By life of a worker: when the last sync was sent that billing took in, the last of them for which it lost no race, and the
    /// last one whose answer came.
    taken: BTreeMap<u64, Instant>,
    whole: BTreeMap<u64, Instant>,
    answered: BTreeMap<u64, Instant>,
    /// Which workers of an Envoy's life asked for a payer.
    asked: BTreeMap<(u64, AccountId), BTreeSet<u64>>,
    /// When workers last lost a race for a slot.
    raced: BTreeMap<u64, Instant>,
    /// When workers trapped.
    trapped: BTreeMap<u64, Instant>,
    /// Of which grants leases whose answer was lost were heard of after all, and how many.
    recovered: BTreeMap<u64, u64>,
    /// Payers of whom the crash policy settled anything.
    unfaithful: BTreeSet<AccountId>,
}

/// What there is to know of a cell's Envoy when it is settled.
pub(super) struct Circumstances<'a> {
    pub(super) now: Instant,
    pub(super) ttl: Span,
    pub(super) payer: &'a AccountId,
    pub(super) process: u64,
    /// Whether that life of the Envoy goes on.
    pub(super) lives: bool,
    /// When its clock last stood still.
    pub(super) thawed: Instant,
}

impl Witness {
    /// A worker asks for somebody.
    pub(super) fn asks(&mut self, process: u64, payer: &AccountId, life: u64) {
        self.asked.entry((process, payer.clone())).or_default().insert(life);
    }

    /// A worker is no more.
    pub(super) fn trap(&mut self, life: u64, now: Instant) {
        self.trapped.insert(life, now);
    }

    /// A worker has nothing to tell.
    pub(super) fn idles(&mut self, life: u64, now: Instant) {
        self.taken.insert(life, now);
        self.whole.insert(life, now);
    }

    /// A worker lost a race for a slot.
    pub(super) fn loses_race(&mut self, life: u64, now: Instant) {
        self.raced.insert(life, now);
    }

    /// Billing has taken in a sync of `life` that was `sent` then, for good.
    pub(super) fn takes(
        &mut self,
        (process, life): (u64, u64),
        said: &Said,
        sent: Instant,
        now: Instant,
        tail: Span,
    ) {
        self.taken.insert(life, sent);
        if self.raced.get(&life) != Some(&sent) {
            self.whole.insert(life, sent);
        }
        for (key, admitted, finished) in &said.told {
            if let Some(row) = self.rows.get_mut(&(process, *key)) {
                row.told = now;
                (row.admitted, row.finished) = (row.admitted.max(*admitted), row.finished.max(*finished));
                if row.admitted > row.finished {
                    row.promised = row.promised.max(now.plus(tail));
                }
            }
        }
        // Whoever asks again has not given it up yet.
        let of = (process, CellKey { grant: 0, generation: 0 })
            ..(process + 1, CellKey { grant: 0, generation: 0 });
        if !said.again.is_empty() {
            let rows = self.rows.range_mut(of).filter(|((_, key), _)| said.again.contains(&key.generation));
            rows.for_each(|(_, row)| row.told = now);
        }
        for (key, granted, ttl) in &said.cells {
            let new = Row {
                born: now,
                promised: now,
                told: now,
                admitted: 0,
                finished: 0,
                granted: 0,
                heard: 0,
                asked: (life, sent),
                unpaid: said.unpaid.contains(key),
            };
            let row = self.rows.entry((process, *key)).or_insert(new);
            row.told = now;
            if let Some(ttl) = ttl {
                row.promised = row.promised.max(now.plus(*ttl).plus(tail));
            }
            if *granted > row.granted {
                row.granted = *granted;
                row.asked = (life, sent);
            }
        }
    }

    /// The answer has come.
    pub(super) fn hears(&mut self, (process, life): (u64, u64), said: &Said, sent: Instant) {
        self.answered.insert(life, sent);
        for (key, granted, ..) in &said.cells {
            let Some(row) = self.rows.get_mut(&(process, *key)) else { continue };
            let late = row.asked.1 < sent;
            if *granted > row.heard && late {
                *self.recovered.entry(key.grant).or_default() += 1;
            }
            row.heard = row.heard.max(*granted);
        }
    }

    /// A cell that was so before was settled: why, or what rule that breaks.
    pub(super) fn judge(&mut self, id: &CellId, cell: &Cell, it: &Circumstances<'_>) -> Result<Why, String> {
        self.unfaithful.insert(it.payer.clone());
        let key = CellKey { grant: id.grant.0, generation: id.generation };
        let name = || format!("cell {}/{} of {}, {}", key.grant, key.generation, id.node, it.payer);
        let Some(row) = self.rows.get(&(it.process, key)) else {
            return Err(format!("{} was settled, and nobody was ever told of it", name()));
        };
        if it.now < row.promised {
            let early = row.promised.since(it.now).millis();
            return Err(format!("{} was settled {early} ms before its gateway's time was over", name()));
        }
        if !it.lives {
            return Ok(Why::Dead);
        }
        let (asker, sent) = &row.asked;
        let all = self.asked.get(&(it.process, it.payer.clone())).cloned().unwrap_or_default();
        // Only one worker knows of a hold.
        let knowing = if id.is_hold() { BTreeSet::from([*asker]) } else { all };
        let trapped = |life: &u64| self.trapped.get(life).is_some_and(|at| *at >= row.born);
        if self.trapped.contains_key(asker) || knowing.iter().any(trapped) {
            return Ok(Why::Trapped);
        }
        if it.thawed > row.told {
            return Ok(Why::Frozen);
        }
        // A report may leave out for two thirds of a lease's time what was reported before.
        let due = row.told.plus(it.ttl.part(3)).plus(it.ttl.part(3)).plus(SLACK);
        let silent = |life: &u64| self.taken.get(life).is_none_or(|taken| *taken < due);
        let busy = |life: &u64| self.whole.get(life).is_none_or(|whole| *whole < due);
        let unheard = cell.granted.get() > row.heard;
        if unheard && row.unpaid {
            return Ok(Why::Unpaid);
        }
        if !unheard || id.is_hold() {
            return if knowing.iter().any(silent) {
                Ok(Why::Silent)
            } else if !id.is_hold() && knowing.iter().any(busy) {
                Ok(Why::Busy)
            } else {
                Err(format!("{} was settled, though its gateway lives, knows of it and was heard", name()))
            };
        }
        if self.answered.get(asker).is_none_or(|answered| answered <= sent) {
            Ok(Why::Unanswered)
        } else {
            Err(format!("{} was settled, though its gateway lives and has asked for it again", name()))
        }
    }

    /// Grants of which leases were heard of though their answer was lost, with how many.
    pub(super) const fn recovered(&self) -> &BTreeMap<u64, u64> {
        &self.recovered
    }

    /// Whether the crash policy settled anything of a payer.
    pub(super) fn is_faithful(&self, payer: &AccountId) -> bool {
        !self.unfaithful.contains(payer)
    }
}
