//! What is held for requests under way, and what billing must still be told of those that ended; nothing here is ever dropped.

use super::talk::Report;
use contract::v1::{CellAnswer, CellKey, CellLease, CellReport, Charge, Outcome, UsageRecord};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use units::{AccountId, Amount, EndpointId, Instant, Span};

/// A granted need whose request is under way.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) account: AccountId,
    pub(super) endpoint: EndpointId,
    pub(super) price_version: u64,
    pub(super) cells: Vec<CellLease>,
}

/// What a worker owes billing.
#[derive(Debug, Default)]
pub(super) struct Books {
    holds: BTreeMap<u64, (Instant, Hold)>,
    /// When each hold is to be reported again, so that billing does not take it for lost.
    due: BTreeSet<(Instant, u64)>,
    cells: VecDeque<CellReport>,
    usage: VecDeque<UsageRecord>,
    usage_n: u64,
    abandoned: BTreeSet<u64>,
}

/// The part of one sync that these books fill.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) cells: Vec<CellReport>,
    pub(super) usage: Vec<UsageRecord>,
    pub(super) abandoned: Vec<u64>,
}

impl Page {
    /// The reports of holds that ended.
    pub(super) fn ended(&self) -> impl Iterator<Item = &CellReport> {
        self.cells.iter().filter(|cell| cell.finished == cell.admitted)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.usage.is_empty() && self.abandoned.is_empty()
    }
}

/// The bounds of one page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) cells: usize,
    pub(super) usage: usize,
    pub(super) abandoned: usize,
}

impl Books {
    /// How much is written here, each hold with what its end will add.
    pub(super) fn len(&self) -> usize {
        let ended = self.cells.len().max(self.usage.len());
        self.holds.len().saturating_add(ended).saturating_add(self.abandoned.len())
    }

    /// True if billing knows everything, and no request is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last record that was ever written.
    pub(super) fn usage_n(&self) -> u64 {
        self.usage_n
    }

    /// A request is under way on this hold, which the sync sent at `sent` brought.
    pub(super) fn open(&mut self, id: u64, hold: Hold, sent: Instant) {
        let due = sent.plus(period(&hold));
        self.due.insert((due, id));
        self.holds.insert(id, (due, hold));
    }

    /// Whatever is held for this need is to go back, whether or not we know of it.
    pub(super) fn abandon(&mut self, id: u64) {
        if let Some((due, _)) = self.holds.remove(&id) {
            self.due.remove(&(due, id));
        }
        self.abandoned.insert(id);
    }

    /// Writes down how a request ended.
    ///
    /// # Errors
    /// The name of the broken invariant, if there is no such hold, or if more was charged than was held. In the second
    /// case the whole hold is charged.
    pub(super) fn end(&mut self, report: Report) -> Result<(), &'static str> {
        let Report::Ended { hold: id, charged, outcome, tokens, request_id, at } = report else {
            return Err("not_an_end");
        };
        let Some((due, hold)) = self.holds.remove(&id) else { return Err("end_without_hold") };
        self.due.remove(&(due, id));
        let mut charges = Vec::new();
        let (mut rest, mut returned) = (charged, Amount::ZERO);
        for cell in &hold.cells {
            let used = rest.min(cell.held);
            let back = cell.granted.saturating_sub(used);
            rest = rest.saturating_sub(used);
            returned = returned.checked_add(back).unwrap_or(Amount::MAX);
            if !used.is_zero() {
                charges.push(Charge { key: cell.key, amount: used });
            }
            self.cells.push_back(CellReport { finished: cell.held, used, returned: back, ..under_way(cell) });
        }
        self.usage_n = self.usage_n.saturating_add(1);
        self.usage.push_back(UsageRecord {
            n: self.usage_n,
            request_id,
            account: hold.account,
            endpoint: hold.endpoint,
            charges,
            returned,
            outcome,
            tokens,
            price_version: hold.price_version,
            at,
        });
        if rest.is_zero() { Ok(()) } else { Err("charged_beyond_hold") }
    }

    /// Is there anything that should not wait?
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let ended = !self.cells.is_empty() || !self.usage.is_empty() || !self.abandoned.is_empty();
        ended || self.next_due().is_some_and(|due| due <= now)
    }

    /// When the next hold is to be reported again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// What to tell now: how holds ended, first; then those that live on and were last reported a third of their time ago.
    pub(super) fn compose(&self, now: Instant, bounds: Bounds) -> Page {
        let live =
            self.due.iter().take_while(|(due, _)| *due <= now).filter_map(|(_, id)| self.holds.get(id));
        let live = live.flat_map(|(_, hold)| &hold.cells).map(under_way);
        Page {
            cells: self.cells.iter().copied().chain(live).take(bounds.cells).collect(),
            usage: self.usage.iter().take(bounds.usage).cloned().collect(),
            abandoned: self.abandoned.iter().take(bounds.abandoned).copied().collect(),
        }
    }

    /// Billing answered a page that was sent at `sent`: what it acknowledged need not be told again. False if it passed
    /// over something.
    pub(super) fn acknowledge(
        &mut self,
        page: &Page,
        answers: &[CellAnswer],
        usage_acked: u64,
        sent: Instant,
    ) -> bool {
        let known: BTreeSet<CellKey> = answers.iter().map(|cell| cell.key).collect();
        let told: BTreeSet<CellKey> = page.ended().map(|cell| cell.key).collect();
        let left: Vec<_> =
            self.cells.iter().filter(|c| told.contains(&c.key) && !known.contains(&c.key)).copied().collect();
        self.cells.retain(|cell| !told.contains(&cell.key));
        // What billing passed over goes to the end of the line, so that it does not keep the others from being heard.
        self.cells.extend(left);
        for id in &page.abandoned {
            self.abandoned.remove(id);
        }
        while self.usage.front().is_some_and(|record| record.n <= usage_acked) {
            self.usage.pop_front();
        }
        for cell in page.cells.iter().filter(|cell| known.contains(&cell.key)) {
            self.put_off(cell.key.generation & NEED_BITS, sent);
        }
        page.cells.iter().all(|cell| known.contains(&cell.key))
            && page.usage.iter().all(|record| record.n <= usage_acked)
    }

    fn put_off(&mut self, id: u64, sent: Instant) {
        if let Some((due, hold)) = self.holds.get_mut(&id) {
            self.due.remove(&(*due, id));
            *due = sent.plus(period(hold));
            self.due.insert((*due, id));
        }
    }
}

/// The bits of a hold's generation that are the need's id.
const NEED_BITS: u64 = (1 << 40) - 1;

fn period(hold: &Hold) -> Span {
    let ttl = hold.cells.iter().map(|cell| cell.ttl_ms).min().unwrap_or(0);
    Span::from_millis(ttl).part(3)
}

fn under_way(cell: &CellLease) -> CellReport {
    let nothing = Amount::ZERO;
    CellReport {
        key: cell.key,
        admitted: cell.held,
        finished: nothing,
        used: nothing,
        returned: nothing,
        target: nothing,
    }
}

/// An outcome in the contract's words.
#[must_use]
pub const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Charged => "charged",
        Outcome::ClientLeft => "client_left",
        Outcome::Broken => "broken",
        Outcome::Failed => "failed",
        Outcome::NotForwarded => "not_forwarded",
    }
}
