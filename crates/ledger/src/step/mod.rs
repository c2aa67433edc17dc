//! The one function that changes a book, and the few moves of credits that everything else is made of.

mod account;
mod expire;
mod need;
mod report;
mod reversal;
mod size;
mod window;

use crate::book::{Book, Ids};
use crate::bug::Bug;
use crate::cell::{Cell, CellId};
use crate::command::{Command, Shortfall};
use crate::grant::{Grant, GrantId, Reversed, Source, Terms};
use crate::outcome::{Changes, Effect, JournalEntry, JournalKind, NoteKind, Outcome, Reply};
use units::{Amount, Instant, Unit};

/// Applies one command to one book at `now` (or at the latest `now` that the book has seen, if that is later).
///
/// Deterministic: the same book, numbers, instant and command give the same outcome. Of one message, reports are
/// applied before needs.
///
/// # Errors
/// A [`Bug`]: the caller aborts the transaction and drops the book. Whatever comes from outside has an outcome instead.
pub fn step(book: &mut Book, ids: &mut Ids, now: Instant, command: &Command) -> Result<Outcome, Bug> {
    book.seen = book.seen.max(now);
    let before = total(book);
    let mut work = Work { now: book.seen, book, ids, changes: Changes::default(), effects: Vec::new() };
    let reply = match command {
        Command::Grant(terms) => Reply::Grant(work.make_grant(terms)?),
        Command::Void(void) => Reply::Void(work.void(void)?),
        Command::TakeBack(back) => Reply::TakenBack(work.reverse(back)?),
        Command::SetStanding(standing) => work.set_standing(standing)?,
        Command::Suspend => work.set_suspended(true)?,
        Command::Resume => work.set_suspended(false)?,
        Command::Announce => {
            work.note(NoteKind::Changed)?;
            Reply::Done
        }
        Command::Need(need) => Reply::Need(Box::new(work.need(need)?)),
        Command::Report(report) => Reply::Report(Box::new(work.report(report)?)),
        Command::Abandon(abandon) => Reply::Abandoned { returned: work.abandon(abandon)? },
        Command::Expire(expire) => Reply::Expired(work.expire(*expire)?),
    };
    work.end_grants()?;
    let Work { book, changes, effects, .. } = work;
    number(book, &changes)?;
    book.check()?;
    let granted = changes.journal.iter().filter(|entry| entry.kind == JournalKind::Granted);
    let (after, expected) = (total(book), granted.fold(before, |sum, entry| widen(sum, entry.amount)));
    if after != expected {
        let detail = format!("grants amount to {after}; with what was granted they should to {expected}");
        return Err(Bug::Broken { invariant: "I14", detail });
    }
    Ok(Outcome { reply, changes, effects })
}

/// One command at work on a book.
struct Work<'a> {
    book: &'a mut Book,
    ids: &'a mut Ids,
    now: Instant,
    changes: Changes,
    effects: Vec<Effect>,
}

impl Work<'_> {
    /// A grant to change; its row will be written.
    fn grant(&mut self, id: GrantId) -> Result<&mut Grant, Bug> {
        self.changes.grants.insert(id);
        self.book.grants.get_mut(&id).ok_or_else(|| Bug::NotLoaded { what: format!("grant {}", id.0) })
    }

    /// A cell to change; its row will be written.
    fn cell(&mut self, id: &CellId) -> Result<&mut Cell, Bug> {
        self.changes.cells.insert(id.clone());
        self.book.cells.get_mut(id).ok_or_else(|| Bug::NotLoaded { what: format!("cell {id:?}") })
    }

    /// A line of history, unless it is about nothing.
    fn log(&mut self, kind: JournalKind, grant: Option<GrantId>, cell: Option<&CellId>, amount: Amount) {
        if !amount.is_zero() {
            let (at, account) = (self.now, self.book.account.id.clone());
            self.changes.journal.push(JournalEntry { at, account, grant, cell: cell.cloned(), kind, amount });
        }
    }

    /// Tells gateways; what they remember is void from now on, unless it is only a recall.
    fn note(&mut self, kind: NoteKind) -> Result<(), Bug> {
        if kind != NoteKind::Recall {
            let account = &mut self.book.account;
            account.epoch = account.epoch.checked_add(1).ok_or(Bug::Range { what: "the epoch" })?;
            self.changes.account = true;
        }
        let (payer, epoch) = (self.book.account.id.clone(), self.book.account.epoch);
        self.effects.push(Effect::Note { payer, epoch, kind });
        Ok(())
    }

    /// True if the account may be given anything to spend.
    fn may_spend(&self) -> bool {
        !self.book.account.suspended && self.book.account.standing.tier.is_some()
    }

    /// A new grant, whole.
    fn create(&mut self, terms: Terms) -> Result<GrantId, Bug> {
        let (id, amount) = (self.ids.take()?, terms.amount);
        if self.book.grants.contains_key(&id) {
            return Err(Bug::Misuse { what: "a new grant was given a number in use: begin Ids above all" });
        }
        let zero = Amount::ZERO;
        let (leased, used, expired, voided, void_claim, clawed) = (zero, zero, zero, zero, zero, zero);
        let reversed = Reversed::default();
        let grant = Grant {
            terms,
            avail: amount,
            leased,
            used,
            expired,
            voided,
            void_claim,
            clawed,
            reversed,
            ver: 0,
        };
        self.book.grants.insert(id, grant);
        self.changes.grants.insert(id);
        self.log(JournalKind::Granted, Some(id), None, amount);
        Ok(id)
    }

    /// `avail → leased`.
    fn lease(&mut self, id: &CellId, amount: Amount) -> Result<(), Bug> {
        if amount.is_zero() {
            return Ok(());
        }
        let grant = self.grant(id.grant)?;
        grant.avail = minus(grant.avail, amount, "avail, when leased from")?;
        grant.leased = plus(grant.leased, amount, "leased")?;
        self.log(JournalKind::Leased, Some(id.grant), Some(id), amount);
        Ok(())
    }

    /// `leased → used`; a claim that can no longer be met from leases is clawed back instead. Of a plan's allowance that is
    /// never a debt: it is taken back because its period is over, and what is used of it was lent before.
    fn charge(
        &mut self,
        id: &CellId,
        amount: Amount,
        kind: JournalKind,
        shortfall: Shortfall,
    ) -> Result<(), Bug> {
        if amount.is_zero() {
            return Ok(());
        }
        let grant = self.grant(id.grant)?;
        grant.leased = minus(grant.leased, amount, "leased, when charged")?;
        grant.used = plus(grant.used, amount, "used")?;
        let unmet = grant.void_claim.saturating_sub(grant.leased);
        let was = grant.reversed;
        let unmet = reversal::unmet(grant, unmet)?;
        let lent_in_its_period = grant.terms.source == Source::Subscription;
        let shortfall = if lent_in_its_period { Shortfall::WriteOff } else { shortfall };
        self.log(kind, Some(id.grant), Some(id), amount);
        self.claw(id.grant, unmet, shortfall)?;
        self.reclaim(id.grant, was)
    }

    /// `leased → avail`, unless a void waits for it or the grant has ended.
    fn give_back(&mut self, id: &CellId, amount: Amount, kind: JournalKind) -> Result<(), Bug> {
        if amount.is_zero() {
            return Ok(());
        }
        let now = self.now;
        let grant = self.grant(id.grant)?;
        let claimed = amount.min(grant.void_claim);
        let rest = minus(amount, claimed, "what comes back")?;
        let ended = grant.terms.expires_at <= now;
        grant.leased = minus(grant.leased, amount, "leased, when given back")?;
        grant.void_claim = minus(grant.void_claim, claimed, "the void claim")?;
        grant.voided = plus(grant.voided, claimed, "voided")?;
        let into = if ended { &mut grant.expired } else { &mut grant.avail };
        *into = plus(*into, rest, "what came back")?;
        self.log(JournalKind::Voided, Some(id.grant), Some(id), claimed);
        self.log(if ended { JournalKind::Expired } else { kind }, Some(id.grant), Some(id), rest);
        Ok(())
    }

    /// What was used of a grant that is taken back becomes debt, or is written off.
    fn claw(&mut self, id: GrantId, amount: Amount, shortfall: Shortfall) -> Result<(), Bug> {
        if amount.is_zero() {
            return Ok(());
        }
        let grant = self.grant(id)?;
        grant.clawed = plus(grant.clawed, amount, "clawed")?;
        let unit = grant.terms.unit;
        self.log(JournalKind::Clawed, Some(id), None, amount);
        self.owe(id, None, unit, amount, shortfall).map(|_| ())
    }

    /// Nothing covers this: debt, or written off. Returns what became debt.
    fn owe(
        &mut self,
        grant: GrantId,
        cell: Option<&CellId>,
        unit: Unit,
        amount: Amount,
        shortfall: Shortfall,
    ) -> Result<Amount, Bug> {
        let owed = match (unit, shortfall) {
            // What a gateway says was used is not bounded here: beyond what an amount can say, nobody owes it.
            (Unit::Credits, Shortfall::Debt) => {
                amount.min(Amount::MAX.saturating_sub(self.book.account.debt))
            }
            (Unit::Requests, _) | (_, Shortfall::WriteOff) => Amount::ZERO,
        };
        if !owed.is_zero() {
            self.changes.account = true;
            self.book.account.debt = plus(self.book.account.debt, owed, "debt")?;
        }
        self.log(JournalKind::DebtUp, Some(grant), cell, owed);
        self.log(JournalKind::WrittenOff, Some(grant), cell, minus(amount, owed, "what is owed")?);
        Ok(owed)
    }

    /// What was not spent in time: `avail → expired`, in every loaded grant that has ended.
    fn end_grants(&mut self) -> Result<(), Bug> {
        let now = self.now;
        let ended = |grant: &Grant| grant.terms.expires_at <= now && !grant.avail.is_zero();
        let due: Vec<GrantId> =
            self.book.grants.iter().filter(|(_, grant)| ended(grant)).map(|(id, _)| *id).collect();
        for id in due {
            let grant = self.grant(id)?;
            let rest = core::mem::take(&mut grant.avail);
            grant.expired = plus(grant.expired, rest, "expired")?;
            self.log(JournalKind::Expired, Some(id), None, rest);
        }
        Ok(())
    }
}

/// Numbers the new state of every row that changed.
fn number(book: &mut Book, changes: &Changes) -> Result<(), Bug> {
    let next = |ver: u64| ver.checked_add(1).ok_or(Bug::Range { what: "a row's ver" });
    if changes.account {
        book.account.ver = next(book.account.ver)?;
    }
    for id in &changes.grants {
        if let Some(grant) = book.grants.get_mut(id) {
            grant.ver = next(grant.ver)?;
        }
    }
    for id in &changes.cells {
        if let Some(cell) = book.cells.get_mut(id) {
            cell.ver = next(cell.ver)?;
        }
    }
    Ok(())
}

/// Everything that was ever granted, in the loaded grants, in whatever unit: only to compare with itself.
fn total(book: &Book) -> u128 {
    book.grants.values().fold(0, |sum, grant| widen(sum, grant.terms.amount))
}

/// A sum so wide that amounts cannot leave it.
fn widen(sum: u128, amount: Amount) -> u128 {
    sum.saturating_add(u128::from(amount.get().unsigned_abs()))
}

/// The sum, or the bug that it cannot be said.
pub(crate) fn plus(a: Amount, b: Amount, what: &'static str) -> Result<Amount, Bug> {
    a.checked_add(b).ok_or(Bug::Range { what })
}

/// The difference, or the bug that it cannot be said.
pub(crate) fn minus(a: Amount, b: Amount, what: &'static str) -> Result<Amount, Bug> {
    a.checked_sub(b).ok_or(Bug::Range { what })
}

/// The sum of many.
pub(crate) fn sum(amounts: impl Iterator<Item = Amount>, what: &'static str) -> Result<Amount, Bug> {
    let mut total = Amount::ZERO;
    for amount in amounts {
        total = plus(total, amount, what)?;
    }
    Ok(total)
}
