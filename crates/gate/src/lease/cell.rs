//! One cell at the gateway: six totals that only grow, what the ledger granted, and until when it may be spent.
//!
//! Pure arithmetic; which cell, and how the result is written back, is the slot's business. The rules are the
//! lease protocol's (docs/leases.md): admit, finish, give back, merge.

use contract::v1::{CellAnswer, CellKey, CellLease, CellReport, CellState};
use units::{Amount, Instant, Span, Unit};

/// What this process may spend of one grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Which cell.
    pub key: CellKey,
    /// In what it counts.
    pub unit: Unit,
    /// Which kind of grant it spends: the first 64 bits of SHA-256 over the grant's scope.
    pub scope: u64,
    /// All that was ever granted to it.
    pub granted: Amount,
    /// What was given back unspent.
    pub returned: Amount,
    /// All that was ever held on it.
    pub admitted: Amount,
    /// Of that, the holds that have ended.
    pub finished: Amount,
    /// Of that, what was really used.
    pub used: Amount,
    /// How much of `admitted` the ledger knows of.
    pub acked: Amount,
    /// By how much `admitted` may be ahead of `acked`.
    pub exposure: Amount,
    /// On the monotonic clock: from then on nothing new is admitted.
    pub deadline: Instant,
    /// Whether it may be spent from at all.
    pub state: CellState,
    /// False when the account is nearly empty: whatever becomes free goes back at once.
    pub keep: bool,
    /// The [`Cell::sum`] of the latest totals that the ledger is known to have.
    pub told: u64,
    /// What the last request on it held.
    pub need: Amount,
    /// What requests used beyond what they held.
    pub short: Amount,
}

impl Cell {
    /// A cell as the ledger gave it, in answer to a sync that was sent at `sent`.
    #[must_use]
    pub fn new(lease: &CellLease, scope: u64, sent: Instant) -> Self {
        Self {
            key: lease.key,
            unit: lease.unit,
            scope,
            granted: lease.granted,
            returned: Amount::ZERO,
            admitted: Amount::ZERO,
            finished: Amount::ZERO,
            used: Amount::ZERO,
            acked: Amount::ZERO,
            exposure: lease.exposure,
            deadline: sent.plus(Span::from_millis(lease.ttl_ms)),
            state: CellState::Open,
            keep: lease.keep,
            told: 0,
            need: Amount::ZERO,
            short: Amount::ZERO,
        }
    }

    /// All totals of this side added up. Each only grows, so two snapshots with the same sum are the same.
    #[must_use]
    pub fn sum(&self) -> u64 {
        sum([self.admitted, self.finished, self.used, self.returned, self.short])
    }

    /// True if the ledger knows everything.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.told >= self.sum()
    }

    /// What requests in flight hold.
    #[must_use]
    pub fn held(&self) -> Amount {
        self.admitted.saturating_sub(self.finished)
    }

    /// What nobody holds, used or gave back. Nothing, if the totals contradict each other.
    #[must_use]
    pub fn free(&self) -> Amount {
        [self.returned, self.used, self.held()]
            .into_iter()
            .try_fold(self.granted, Amount::checked_sub)
            .unwrap_or(Amount::ZERO)
    }

    /// How much of `free` may be admitted at `now`: nothing after the deadline, never beyond the exposure.
    #[must_use]
    pub fn spendable(&self, now: Instant) -> Amount {
        if self.state != CellState::Open || now >= self.deadline {
            return Amount::ZERO;
        }
        let ahead = self.admitted.saturating_sub(self.acked);
        let countable = Amount::MAX.saturating_sub(self.admitted);
        self.free().min(self.exposure.saturating_sub(ahead)).min(countable)
    }

    /// Holds up to `want` of it; returns how much was held.
    pub fn admit(&mut self, want: Amount, now: Instant) -> Amount {
        let take = want.min(self.spendable(now));
        if !take.is_zero() {
            self.need = take;
        }
        match self.admitted.checked_add(take) {
            Some(admitted) => {
                self.admitted = admitted;
                take
            }
            None => Amount::ZERO,
        }
    }

    /// Ends a hold of `amount`, of which `used` was used (never more than the hold). False if no such hold is known.
    pub fn finish(&mut self, amount: Amount, used: Amount) -> bool {
        if amount > self.held() {
            return false;
        }
        let (Some(finished), Some(total)) =
            (self.finished.checked_add(amount), self.used.checked_add(used.min(amount)))
        else {
            return false;
        };
        self.finished = finished;
        self.used = total;
        true
    }

    /// A request used so much beyond what it held here.
    pub fn fall_short(&mut self, by: Amount) {
        self.short = self.short.checked_add(by).unwrap_or(Amount::MAX);
    }

    /// Gives back everything free. The total is raised before it is ever sent.
    pub fn give_back(&mut self) {
        self.give_back_upto(Amount::MAX);
    }

    /// Gives back so much of what is free.
    pub fn give_back_upto(&mut self, most: Amount) {
        if let Some(returned) = self.returned.checked_add(self.free().min(most)) {
            self.returned = returned;
        }
    }

    /// Takes in the ledger's totals, in answer to `told` in a sync that was sent at `sent`; stale answers change nothing.
    pub fn merge(&mut self, answer: &CellAnswer, told: &CellReport, sent: Instant) {
        self.told = self.told.max(sum([told.admitted, told.finished, told.used, told.returned, told.short]));
        self.granted = self.granted.max(answer.granted);
        self.acked = self.acked.max(answer.acked_admitted);
        self.exposure = answer.exposure;
        self.state = self.state.max(answer.state);
        self.keep = answer.keep;
        if answer.state == CellState::Open {
            // From when it was sent: the ledger's clock started later than that, so this one stops first.
            self.deadline = self.deadline.max(sent.plus(Span::from_millis(answer.ttl_ms)));
        }
    }

    /// Takes in a lease that a need was answered with; the ledger's totals may be ahead of this cell's.
    pub fn extend(&mut self, lease: &CellLease, sent: Instant) {
        self.granted = self.granted.max(lease.granted);
        self.exposure = lease.exposure;
        self.keep = lease.keep;
        self.deadline = self.deadline.max(sent.plus(Span::from_millis(lease.ttl_ms)));
    }

    /// Nothing held, nothing free.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.held().is_zero() && self.free().is_zero()
    }

    /// Running totals.
    #[must_use]
    pub fn report(&self) -> CellReport {
        CellReport {
            key: self.key,
            admitted: self.admitted,
            finished: self.finished,
            used: self.used,
            returned: self.returned,
            target: Amount::ZERO,
            need: self.need,
            short: self.short,
            gone: false,
        }
    }
}

/// Amounts have 53 bits, so five of them fit.
fn sum(amounts: [Amount; 5]) -> u64 {
    amounts.into_iter().fold(0, |sum, amount| sum.saturating_add(amount.get().unsigned_abs()))
}
