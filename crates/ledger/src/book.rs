//! The book of one account, whole or as far as a command needs it, and what must always be true of it.

use crate::bug::Bug;
use crate::cell::{Cell, CellId, CellState};
use crate::grant::{Grant, GrantId};
use crate::step::{plus, sum};
use crate::subscription::Standing;
use std::collections::{BTreeMap, BTreeSet};
use units::{AccountId, Amount, Instant};

/// Everything of one payer that a command may read or change.
///
/// **What must be loaded.** Before any command:
/// 1. the account row;
/// 2. all its cells that are not closed;
/// 3. its grants with `avail > 0` or `leased > 0`, those that hold anything for a dispute ([`crate::Reversed::frozen`]), its grants of source `window` that have not expired, and the grant
///    of every loaded cell;
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
        let general = |grant: &Grant| grant.terms.is_general() && grant.is_live(now);
        let live: BTreeSet<GrantId> =
            self.grants.iter().filter(|(_, grant)| general(grant)).map(|(id, _)| *id).collect();
        let of = |id: &GrantId| self.grants.get(id);
        let avail = sum(live.iter().filter_map(of).map(|grant| grant.avail), "what is available")?;
        let available = plus(avail, self.lent_free(&live)?, "what is available")?;
        let in_cells = self.grants.values().filter(|grant| grant.terms.is_general());
        let leased = sum(in_cells.map(|grant| grant.leased), "what is leased")?;
        let held = leased.saturating_sub(self.lent_free(&live)?);
        Ok(Balance { available, held, debt: self.account.debt })
    }

    /// What is free in open cells of these grants and is not claimed by a void.
    pub(crate) fn lent_free(&self, grants: &BTreeSet<GrantId>) -> Result<Amount, Bug> {
        let mut free = Amount::ZERO;
        for id in grants {
            let claim = self.grants.get(id).map_or(Amount::ZERO, |grant| grant.void_claim);
            let open =
                self.cells.iter().filter(|(cell, row)| cell.grant == *id && row.state == CellState::Open);
            let lent = sum(open.map(|(_, row)| row.free()), "what is free in leases")?;
            free = plus(free, lent.saturating_sub(claim), "what is free in leases")?;
        }
        Ok(free)
    }

    /// Whether everything that must always be true is true: I1 (each grant adds up), I2 (what is leased is what its
    /// cells have), I4 (each cell adds up), I8 (nothing is available of what has ended, nothing is left in what is
    /// closed), I9 (no cell outlives its grant), I12 (one grant per origin). I3 holds by type; I14 and the numbering
    /// are checked by [`crate::step`], which asks this after every command.
    ///
    /// # Errors
    /// [`Bug::Broken`] names the invariant and the row.
    pub fn check(&self) -> Result<(), Bug> {
        let mut origins = BTreeSet::new();
        for (id, grant) in &self.grants {
            self.check_grant(*id, grant)?;
            if !origins.insert(grant.terms.origin()) {
                return broken("I12", format!("grant {} has the origin of another: {:?}", id.0, grant.terms));
            }
        }
        for (id, cell) in &self.cells {
            self.check_cell(id, cell)?;
        }
        Ok(())
    }

    fn check_grant(&self, id: GrantId, grant: &Grant) -> Result<(), Bug> {
        let parts = [grant.avail, grant.leased, grant.used, grant.expired, grant.voided];
        if sum(parts.into_iter(), "the parts of a grant")? != grant.terms.amount {
            return broken("I1", format!("grant {} does not add up: {grant:?}", id.0));
        }
        let back = grant.reversed;
        let (aside, clawed) =
            (plus(grant.voided, grant.void_claim, "voided")?, plus(grant.clawed, back.reclaimed, "clawed")?);
        let reversed =
            back.aside <= aside && back.owed <= back.reclaimed && back.revoked <= grant.terms.amount;
        if grant.void_claim > grant.leased || clawed > grant.used || !reversed {
            return broken("I3", format!("grant {} claims more than there is: {grant:?}", id.0));
        }
        if grant.terms.expires_at <= self.seen && !grant.avail.is_zero() {
            return broken("I8", format!("grant {} has ended and is available: {grant:?}", id.0));
        }
        let cells =
            self.cells.iter().filter(|(cell, row)| cell.grant == id && row.state != CellState::Closed);
        if sum(cells.map(|(_, cell)| cell.outstanding()), "the cells of a grant")? != grant.leased {
            return broken("I2", format!("grant {} leases other than its cells have: {grant:?}", id.0));
        }
        Ok(())
    }

    fn check_cell(&self, id: &CellId, cell: &Cell) -> Result<(), Bug> {
        let all = sum([cell.returned, cell.used, cell.held()].into_iter(), "the parts of a cell")?;
        if cell.finished > cell.admitted || all > cell.granted {
            return broken("I4", format!("{id:?} does not add up: {cell:?}"));
        }
        if cell.state == CellState::Closed && !(cell.outstanding().is_zero() && cell.held().is_zero()) {
            return broken("I8", format!("{id:?} is closed and has something left: {cell:?}"));
        }
        let Some(grant) = self.grants.get(&id.grant) else {
            return Err(Bug::NotLoaded { what: format!("grant {} of a loaded cell", id.grant.0) });
        };
        if cell.soft_at > grant.terms.expires_at {
            return broken("I9", format!("{id:?} outlives its grant: {cell:?}"));
        }
        Ok(())
    }
}

fn broken(invariant: &'static str, detail: String) -> Result<(), Bug> {
    Err(Bug::Broken { invariant, detail })
}
