//! A cell: what one process may spend of one grant, in totals that only grow.

use crate::grant::GrantId;
use crate::words::words;
use units::{Amount, Instant, NodeName};

/// Generations from here on are holds of single requests (`worker << 40 | need id`); smaller ones are leases.
pub const HOLD_GENERATION_MIN: u64 = 1 << 40;

/// Names a cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellId {
    /// Of which grant.
    pub grant: GrantId,
    /// Which Envoy.
    pub node: NodeName,
    /// Which life of it.
    pub incarnation: u64,
    /// Which cell of that life: see [`HOLD_GENERATION_MIN`].
    pub generation: u64,
}

words! {
    /// The life of a cell; it only goes forward.
    pub enum CellState {
        /// May be spent from.
        Open = "open",
        /// Holds may finish; none may begin. What was surely free went back.
        Soft = "soft",
        /// Settled. A report is evidence only.
        Closed = "closed",
    }
}

/// What a gateway says of a cell: totals since it began, so that repeated or stale reports change nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All that was ever held on it.
    pub admitted: Amount,
    /// Of that, the holds that have ended.
    pub finished: Amount,
    /// Of that, what was really used.
    pub used: Amount,
    /// What was given back unspent.
    pub returned: Amount,
    /// Used beyond any hold (a request that was let through while billing was away, or cost more than its hold).
    pub short: Amount,
}

/// One cell.
///
/// `finished ≤ admitted` and `returned + used + (admitted − finished) ≤ granted`, always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// All that was ever granted to it.
    pub granted: Amount,
    /// What went back to the grant, whoever moved it.
    pub returned: Amount,
    /// All that was ever held on it, as far as is known.
    pub admitted: Amount,
    /// Of that, the holds that have ended.
    pub finished: Amount,
    /// Charged.
    pub used: Amount,
    /// Used beyond any hold, and already covered from elsewhere.
    pub short: Amount,
    /// Reported after the cell could not pay for it any more, and already covered from elsewhere.
    pub late: Amount,
    /// From here on nothing more may be admitted; what is surely free goes back.
    pub soft_at: Instant,
    /// From here on nothing can be in flight; the rest is settled by the crash policy.
    pub hard_at: Instant,
    /// Where it is in its life.
    pub state: CellState,
    /// The largest lead of `admitted` over what was acknowledged that was ever allowed to the gateway.
    pub exposure: Amount,
    /// Grows by one with every command that changed the row; 1 when it is new.
    pub ver: u64,
}

impl CellId {
    /// True if the cell is the hold of one request.
    #[must_use]
    pub const fn is_hold(&self) -> bool {
        self.generation >= HOLD_GENERATION_MIN
    }
}

impl Cell {
    /// In requests in flight, as far as is known.
    #[must_use]
    pub fn held(&self) -> Amount {
        self.admitted.saturating_sub(self.finished)
    }

    /// Neither used nor returned: what the cell still has of its grant's `leased`.
    #[must_use]
    pub fn outstanding(&self) -> Amount {
        self.granted.saturating_sub(self.returned).saturating_sub(self.used)
    }

    /// Outstanding and not held: what may still be admitted, as far as is known.
    #[must_use]
    pub fn free(&self) -> Amount {
        self.outstanding().saturating_sub(self.held())
    }
}
