//! The two ends of a cell: soft, when no more may be admitted; hard, when nothing can be in flight any more.

use super::{Work, plus};
use crate::bug::Bug;
use crate::cell::{CellId, CellState};
use crate::command::{CrashPolicy, Expire};
use crate::outcome::{ExpireAnswer, JournalKind};
use units::Instant;

impl Work<'_> {
    pub(super) fn expire(&mut self, expire: Expire) -> Result<ExpireAnswer, Bug> {
        let now = self.now;
        let due = |state, soft_at: Instant, hard_at: Instant| match state {
            CellState::Open => soft_at <= now,
            CellState::Soft => hard_at <= now,
            CellState::Closed => false,
        };
        let cells = self.book.cells.iter().filter(|(_, cell)| due(cell.state, cell.soft_at, cell.hard_at));
        let cells: Vec<(CellId, CellState)> = cells.map(|(id, cell)| (id.clone(), cell.state)).collect();
        let mut answer = ExpireAnswer::default();
        for (id, state) in cells {
            if state == CellState::Open {
                self.soften(&id, &mut answer)?;
            } else {
                self.settle(&id, expire, &mut answer)?;
            }
        }
        answer.next = self.next_due();
        Ok(answer)
    }

    /// Takes back all but what is held and what may have been admitted without being told yet.
    fn soften(&mut self, id: &CellId, answer: &mut ExpireAnswer) -> Result<(), Bug> {
        let now = self.now;
        let cell = self.cell(id)?;
        let back = cell.free().saturating_sub(cell.exposure);
        cell.returned = plus(cell.returned, back, "returned")?;
        // A ledger that slept past the hard end has to listen for as long as one that was awake.
        cell.hard_at = cell.hard_at.max(now.plus(cell.hard_at.since(cell.soft_at)));
        cell.state = if cell.outstanding().is_zero() { CellState::Closed } else { CellState::Soft };
        let closed = cell.state == CellState::Closed;
        if closed {
            cell.finished = cell.admitted;
        }
        let counter = if closed { &mut answer.closed_clean } else { &mut answer.soft };
        *counter = counter.saturating_add(1);
        self.give_back(id, back, JournalKind::Returned)
    }

    /// Settles what nobody reported, by the crash policy.
    fn settle(&mut self, id: &CellId, expire: Expire, answer: &mut ExpireAnswer) -> Result<(), Bug> {
        let cell = self.cell(id)?;
        let rest = cell.outstanding();
        (cell.state, cell.finished) = (CellState::Closed, cell.admitted);
        if rest.is_zero() {
            answer.closed_clean = answer.closed_clean.saturating_add(1);
            return Ok(());
        }
        answer.closed_dirty = answer.closed_dirty.saturating_add(1);
        match expire.crash {
            CrashPolicy::Refund => {
                cell.returned = plus(cell.returned, rest, "returned")?;
                answer.refunded = plus(answer.refunded, rest, "refunded")?;
                self.give_back(id, rest, JournalKind::CrashRefunded)
            }
            CrashPolicy::Charge => {
                cell.used = plus(cell.used, rest, "used")?;
                answer.charged = plus(answer.charged, rest, "charged")?;
                self.charge(id, rest, JournalKind::CrashCharged, expire.shortfall)
            }
        }
    }

    /// When there will be something to expire.
    fn next_due(&self) -> Option<Instant> {
        let cells = self.book.cells.values().filter_map(|cell| match cell.state {
            CellState::Open => Some(cell.soft_at),
            CellState::Soft => Some(cell.hard_at),
            CellState::Closed => None,
        });
        let live = self.book.grants.values().filter(|grant| grant.terms.expires_at > self.now);
        let grants = live.filter(|grant| !grant.avail.is_zero()).map(|grant| grant.terms.expires_at);
        cells.chain(grants).min()
    }
}
