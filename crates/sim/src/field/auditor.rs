//! Books of its own: what was granted, and what the upstream delivered. It knows nothing of cells, leases and messages.
//!
//! For each account and unit there are two columns. *Truth* comes from the upstream: what it delivered and what it may still
//! deliver to requests under way. *Told* comes from the ledger's journal, line by line. What must hold between them is
//! checked after every step; see [`Auditor::check`] and [`Auditor::close`].

use super::house::Line;
use super::lives::Lives;
use ledger::{Book, Cell, CellId, CrashPolicy, GrantId, JournalKind};
use std::collections::BTreeMap;
use std::fmt;
use units::{AccountId, NodeName, Unit};

/// Whose, and in what.
pub(super) type Kind = (AccountId, Unit);

/// One account's books in one unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Truth: delivered, of what was held for it.
    pub spent: i64,
    /// Truth: delivered beyond what was held, where that was an estimate.
    pub beyond: i64,
    /// Truth: what requests under way hold.
    pub flying: i64,
    /// Truth: of `spent`, what a gateway may not have been able to tell before it died.
    pub lost: i64,
    /// Truth: the same of `beyond`.
    pub lost_beyond: i64,
    /// Truth: what may be charged for requests that passed while billing was away.
    pub unpaid: i64,
    /// Told: arrived.
    pub granted: i64,
    /// Told: not lent, not used, not over.
    pub avail: i64,
    /// Told: in the hands of gateways.
    pub lent: i64,
    /// Told: charged for what a gateway reported.
    pub used: i64,
    /// Told: charged though it was reported late, or cost more than was held; or owed for that, or written off.
    pub after: i64,
    /// Told: charged because a gateway fell silent.
    pub crash_charged: i64,
    /// Told: given back because a gateway fell silent.
    pub crash_refunded: i64,
    /// Told: owed.
    pub debt: i64,
}

impl Columns {
    /// Charged or owed, for what a gateway reported.
    #[must_use]
    pub const fn booked(&self) -> i64 {
        self.used + self.after
    }

    /// Delivered in all.
    #[must_use]
    pub const fn delivered(&self) -> i64 {
        self.spent + self.beyond
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Auditor {
    columns: BTreeMap<Kind, Columns>,
    units: BTreeMap<GrantId, Unit>,
    payers: BTreeMap<GrantId, AccountId>,
    lives: Lives,
}

impl Auditor {
    /// A sync came that calls its Envoy so.
    pub(super) fn meet(&mut self, name: (NodeName, u64), life: u64) {
        self.lives.meet(name, life);
    }

    /// A request goes upstream, let through by one life of an Envoy.
    pub(super) fn take_off(&mut self, life: u64, kind: Kind, held: i64) {
        self.of(&kind.0, kind.1).flying += held;
        self.lives.take_off(life, kind, held);
    }

    /// What it came to, of what was held and beyond.
    pub(super) fn land(&mut self, life: u64, (payer, unit): (&AccountId, Unit), held: i64, came: (i64, i64)) {
        let books = self.of(payer, unit);
        books.flying -= held;
        (books.spent, books.beyond) = (books.spent + came.0, books.beyond + came.1);
        self.lives.land(life, (payer.clone(), unit), held, came.0);
    }

    /// The crash policy settles a cell that was so before.
    pub(super) fn settle(&mut self, payer: &AccountId, id: &CellId, before: &Cell) {
        if let Some(unit) = self.units.get(&id.grant) {
            self.lives.settled(id, (payer.clone(), *unit), before);
        }
    }

    /// Lives of Envoys of which the ledger never heard all.
    pub(super) fn untold(&self) -> usize {
        self.lives.untold()
    }

    pub(super) fn of(&mut self, payer: &AccountId, unit: Unit) -> &mut Columns {
        self.columns.entry((payer.clone(), unit)).or_default()
    }

    pub(super) fn kinds(&self) -> Vec<Kind> {
        self.columns.keys().cloned().collect()
    }

    pub(super) fn see(&self, kind: &Kind) -> Columns {
        self.columns.get(kind).copied().unwrap_or_default()
    }

    /// A grant that the journal may speak of.
    pub(super) fn learn(&mut self, grant: GrantId, payer: &AccountId, unit: Unit) {
        self.units.insert(grant, unit);
        self.payers.insert(grant, payer.clone());
    }

    /// Whose a grant is.
    pub(super) fn payer(&self, grant: u64) -> Option<&AccountId> {
        self.payers.get(&GrantId(grant))
    }

    /// Which life of an Envoy has a cell.
    pub(super) fn owner(&self, cell: &CellId) -> Option<u64> {
        self.lives.owner(cell)
    }

    pub(super) fn knows(&self, grant: GrantId) -> bool {
        self.units.contains_key(&grant)
    }

    /// Takes in one line of the journal.
    pub(super) fn enter(&mut self, Line { entry, settled }: &Line) {
        let Some(unit) = entry.grant.and_then(|grant| self.units.get(&grant).copied()) else { return };
        let (amount, of_cell) = (entry.amount.get(), entry.cell.is_some());
        let comes_back =
            matches!(entry.kind, JournalKind::CrashRefunded | JournalKind::Expired | JournalKind::Voided);
        // What comes back when a silent gateway's time is over may be expired or voided at once.
        let refunded = *settled && of_cell && comes_back;
        if let Some(cell) = &entry.cell {
            let kind = (entry.account.clone(), unit);
            match entry.kind {
                JournalKind::Used => self.lives.used(cell, kind, amount),
                _ if refunded => self.lives.refunded(cell, kind, amount),
                _ => {}
            }
        }
        let books = self.of(&entry.account, unit);
        match entry.kind {
            JournalKind::Granted => {
                (books.granted, books.avail) = (books.granted + amount, books.avail + amount)
            }
            JournalKind::Repaid => (books.avail, books.debt) = (books.avail - amount, books.debt - amount),
            JournalKind::Leased => (books.avail, books.lent) = (books.avail - amount, books.lent + amount),
            JournalKind::Used => (books.lent, books.used) = (books.lent - amount, books.used + amount),
            JournalKind::CrashCharged => {
                (books.lent, books.crash_charged) = (books.lent - amount, books.crash_charged + amount);
            }
            JournalKind::Returned | JournalKind::CrashRefunded => {
                (books.avail, books.lent) = (books.avail + amount, books.lent - amount);
            }
            JournalKind::Expired | JournalKind::Voided if of_cell => books.lent -= amount,
            JournalKind::Expired | JournalKind::Voided => books.avail -= amount,
            JournalKind::Restored | JournalKind::Recovered => books.avail += amount,
            JournalKind::LateCovered | JournalKind::ShortCovered => {
                (books.avail, books.after) = (books.avail - amount, books.after + amount);
            }
            JournalKind::DebtUp => {
                books.debt += amount;
                books.after += if of_cell { amount } else { 0 };
            }
            JournalKind::DebtDown => books.debt -= amount,
            JournalKind::WrittenOff => books.after += if of_cell { amount } else { 0 },
            _ => {}
        }
        if refunded {
            books.crash_refunded += amount;
        }
    }

    /// What must hold at any time. `shown` is what the ledger says is available, lent and owed.
    pub(super) fn check(
        &self,
        kind: &Kind,
        shown: (i64, i64, Option<i64>),
        book: &Book,
    ) -> Result<(), String> {
        let books = self.see(kind);
        let Columns { spent, flying, lent, used, crash_charged, .. } = books;
        let say = |what: &str| Err(format!("{what}, of {} in {:?}", kind.0, kind.1));
        let open = book.cells.iter().filter(|(id, _)| self.units.get(&id.grant) == Some(&kind.1));
        self.lives.check(kind, open).or_else(|what| say(&what))?;
        if spent + flying > lent + used + crash_charged + self.lives.lost(kind) {
            return say("more is spent and under way than the ledger has lent or charged");
        }
        if books.booked() > books.delivered() + books.unpaid {
            return say("more is charged than was delivered");
        }
        if lent < 0 || books.avail < 0 || used < 0 {
            return say("the journal takes more than there was");
        }
        if (books.avail, lent) != (shown.0, shown.1) {
            return say(&format!(
                "the journal says {} available and {lent} lent, the grants {shown:?}",
                books.avail
            ));
        }
        if shown.2.is_some_and(|debt| debt != books.debt) {
            return say("the journal says another debt than the account");
        }
        Ok(())
    }

    /// What must hold when all has come to rest.
    pub(super) fn close(&self, kind: &Kind, crash: CrashPolicy) -> Result<(), String> {
        let books = self.see(kind);
        let say = |what: &str| Err(format!("{what}, of {} in {:?}", kind.0, kind.1));
        if books.flying != 0 || books.lent != 0 {
            return say("something is stranded");
        }
        let (booked, delivered) = (books.booked(), books.delivered());
        let settled = (books.crash_charged, books.crash_refunded) != (0, 0);
        if !settled
            && (books.lost, books.lost_beyond) == (0, 0)
            && !(delivered..=delivered + books.unpaid).contains(&booked)
        {
            return say("what was delivered and what was charged differ");
        }
        let told = delivered - books.lost - books.lost_beyond;
        if booked + books.crash_charged < told {
            return say("not all that a gateway lived to tell was charged");
        }
        if crash == CrashPolicy::Refund && booked < told {
            return say("the crash policy took what a gateway lived to tell");
        }
        if crash == CrashPolicy::Charge && booked + books.crash_charged < told + books.lost {
            return say("not all that dead gateways let through was charged");
        }
        Ok(())
    }
}

impl fmt::Display for Auditor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((payer, unit), books) in &self.columns {
            writeln!(f, "{payer} in {unit:?}: {books:?}")?;
        }
        Ok(())
    }
}
