//! What gateways tell of their cells: totals, merged by maximum, so that loss, repetition and disorder change nothing.

use super::size::{lead, share};
use super::{Work, minus, plus, sum};
use crate::bug::Bug;
use crate::cell::{Cell, CellId, CellState, HOLD_GENERATION_MIN, Totals};
use crate::command::{Abandon, Report, Shortfall};
use crate::grant::{Grant, GrantId};
use crate::outcome::{CellAnswer, JournalKind, Late, ReportAnswer, ReportRefused};
use units::{Amount, Span};

/// The row as the report makes it, and usage that must be paid for elsewhere.
struct Merged {
    cell: Cell,
    /// What the cell was to pay and cannot any more.
    late: Amount,
    /// What was used beyond any hold.
    short: Amount,
}

impl Work<'_> {
    pub(super) fn report(&mut self, report: &Report) -> Result<ReportAnswer, Bug> {
        let Some(row) = self.book.cells.get(&report.cell).cloned() else {
            let (zero, state) = (Amount::ZERO, CellState::Closed);
            let (granted, acked_admitted, exposure) = (zero, zero, zero);
            let id = report.cell.clone();
            let (ttl, keep) = (Span::ZERO, false);
            let cell = CellAnswer { id, granted, acked_admitted, ttl, exposure, state, keep };
            return Ok(ReportAnswer { cell, refused: Some(ReportRefused::UnknownCell), late: None });
        };
        let id = &report.cell;
        let merged = match believable(&report.totals, &row).and_then(|()| merge(&report.totals, &row, id)) {
            Ok(merged) => merged,
            Err(why) => return self.answer(report, Some(why), None),
        };
        let used = minus(merged.cell.used, row.used, "used")?;
        let returned = minus(merged.cell.returned, row.returned, "returned")?;
        let closes = row.state != CellState::Closed
            && merged.cell.outstanding().is_zero()
            && (id.is_hold() || row.state == CellState::Soft);
        if merged.cell != row {
            *self.cell(id)? = merged.cell;
        }
        self.charge(id, used, JournalKind::Used, report.shortfall)?;
        self.give_back(id, returned, JournalKind::Returned)?;
        let late = self.cover_usage(id, merged.late, JournalKind::LateCovered, report.shortfall)?;
        let short = self.cover_usage(id, merged.short, JournalKind::ShortCovered, report.shortfall)?;
        let late = both(late, short)?;
        if closes {
            let cell = self.cell(id)?;
            (cell.state, cell.finished) = (CellState::Closed, cell.admitted);
        } else if report.gone {
            self.let_go(id)?;
        } else {
            self.live_on(report)?;
        }
        self.answer(report, None, late)
    }

    /// The gateway has nothing of it: what is not held goes back, at once and without a reserve for what was not told, and
    /// nothing more is lent on it. What its holds come to is still to be told.
    fn let_go(&mut self, id: &CellId) -> Result<(), Bug> {
        let cell = self.cell(id)?;
        if cell.state == CellState::Closed {
            return Ok(());
        }
        let back = cell.free();
        cell.returned = plus(cell.returned, back, "returned")?;
        cell.state = if cell.outstanding().is_zero() { CellState::Closed } else { CellState::Soft };
        if cell.state == CellState::Closed {
            cell.finished = cell.admitted;
        }
        self.give_back(id, back, JournalKind::Returned)
    }

    /// A live cell lives longer, and a lease may grow.
    fn live_on(&mut self, report: &Report) -> Result<(), Bug> {
        let (id, now) = (&report.cell, self.now);
        let Some(cell) = self.book.cells.get(id) else { return Ok(()) };
        match cell.state {
            CellState::Closed => Ok(()),
            // Somebody still knows of these holds, so their time is not over.
            CellState::Soft if cell.held().is_zero() => Ok(()),
            CellState::Soft => {
                let hard_at = cell.hard_at.max(now.plus(report.timing.tail));
                if hard_at != cell.hard_at {
                    self.cell(id)?.hard_at = hard_at;
                }
                Ok(())
            }
            CellState::Open if id.is_hold() => self.extend(id, report.timing),
            CellState::Open if !self.may_live_on(id) => Ok(()),
            CellState::Open => {
                self.grow(report)?;
                self.extend(id, report.timing)
            }
        }
    }

    /// False for a lease that must end: of an account that may not spend, or of a grant that is being taken back.
    fn may_live_on(&self, id: &CellId) -> bool {
        self.may_spend() && self.book.grants.get(&id.grant).is_some_and(|grant| grant.void_claim.is_zero())
    }

    /// Extends a lease towards its target: in burn order, a share at a time, never less than one need.
    fn grow(&mut self, report: &Report) -> Result<(), Bug> {
        let id = &report.cell;
        let (Some(cell), Some(grant)) = (self.book.cells.get(id), self.book.grants.get(&id.grant)) else {
            return Ok(());
        };
        let want = report.target.saturating_sub(cell.granted);
        let spendable = self.spendable_of(id.grant, grant)?;
        let cap = share(spendable, report.holders, report.need).unwrap_or(report.need);
        let take = want.min(cap).min(spendable);
        if take.is_zero() || take < report.need.min(want) {
            return Ok(());
        }
        self.lease(id, take)?;
        let cell = self.cell(id)?;
        cell.granted = plus(cell.granted, take, "what a cell was granted")?;
        cell.exposure = cell.exposure.max(lead(report.exposure, cell.granted, report.need));
        Ok(())
    }

    /// What may be taken of exactly this grant: nothing while an earlier one in burn order has any.
    fn spendable_of(&self, id: GrantId, grant: &Grant) -> Result<Amount, Bug> {
        let terms = &grant.terms;
        let order = (terms.priority, terms.expires_at, id);
        let peers = || {
            let same = |other: &Grant| other.terms.unit == terms.unit && other.terms.scope == terms.scope;
            self.book.grants.iter().filter(move |(_, other)| same(other) && other.is_live(self.now))
        };
        let earlier = |(other, peer): (&GrantId, &Grant)| {
            (peer.terms.priority, peer.terms.expires_at, *other) < order && !peer.avail.is_zero()
        };
        if !grant.is_live(self.now) || peers().any(earlier) {
            return Ok(Amount::ZERO);
        }
        if !terms.is_general() {
            return Ok(grant.avail);
        }
        let avail = sum(peers().map(|(_, peer)| peer.avail), "what is available")?;
        Ok(grant.avail.min(avail.saturating_sub(self.book.account.debt)))
    }

    /// Usage that its own cell cannot pay: general credits pay for it in burn order, though what is only late is its own
    /// grant's before all others'; the rest is debt or written off. A window's usage never touches the next window.
    fn cover_usage(
        &mut self,
        id: &CellId,
        extra: Amount,
        kind: JournalKind,
        shortfall: Shortfall,
    ) -> Result<Option<Late>, Bug> {
        if extra.is_zero() {
            return Ok(None);
        }
        let own_first = kind == JournalKind::LateCovered;
        let own = self.book.grants.get(&id.grant);
        let own = own.ok_or_else(|| Bug::NotLoaded { what: format!("grant {}", id.grant.0) })?;
        let (unit, general) = (own.terms.unit, own.terms.is_general());
        let may = |other: &GrantId, grant: &Grant| {
            grant.is_live(self.now)
                && !grant.avail.is_zero()
                && (*other == id.grant || (general && grant.terms.is_general()))
        };
        let mut payers: Vec<(bool, i64, units::Instant, GrantId)> = Vec::new();
        for (other, grant) in self.book.grants.iter().filter(|(other, grant)| may(other, grant)) {
            payers.push((
                own_first && *other != id.grant,
                grant.terms.priority,
                grant.terms.expires_at,
                *other,
            ));
        }
        payers.sort_unstable();
        let mut rest = extra;
        for (.., payer) in payers {
            if rest.is_zero() {
                break;
            }
            let grant = self.grant(payer)?;
            let pays = rest.min(grant.avail);
            grant.avail = minus(grant.avail, pays, "avail, when covering")?;
            grant.used = plus(grant.used, pays, "used, when covering")?;
            rest = minus(rest, pays, "what is to be covered")?;
            self.log(kind, Some(payer), Some(id), pays);
        }
        let covered = minus(extra, rest, "what was covered")?;
        let owed = self.owe(id.grant, Some(id), unit, rest, shortfall)?;
        Ok(Some(Late { covered, owed, written_off: minus(rest, owed, "what is owed")? }))
    }

    fn answer(
        &self,
        report: &Report,
        refused: Option<ReportRefused>,
        late: Option<Late>,
    ) -> Result<ReportAnswer, Bug> {
        let id = &report.cell;
        let not_loaded = || Bug::NotLoaded { what: format!("cell {id:?} or its grant") };
        let cell = self.book.cells.get(id).ok_or_else(not_loaded)?;
        let grant = self.book.grants.get(&id.grant).ok_or_else(not_loaded)?;
        let end = grant.terms.expires_at;
        let spends =
            refused.is_none() && cell.state == CellState::Open && (id.is_hold() || self.may_live_on(id));
        let cell = CellAnswer {
            id: id.clone(),
            granted: cell.granted,
            acked_admitted: cell.admitted,
            ttl: if spends { report.timing.ttl.min(end.since(self.now)) } else { Span::ZERO },
            exposure: cell.exposure,
            state: cell.state,
            keep: spends && self.keeps(grant, cell.free(), report.holders, report.need)?,
        };
        Ok(ReportAnswer { cell, refused, late })
    }

    /// A hold that was never sent on goes back whole.
    pub(super) fn abandon(&mut self, abandon: &Abandon) -> Result<Amount, Bug> {
        if abandon.generation < HOLD_GENERATION_MIN {
            return Err(Bug::Misuse {
                what: "only a hold can be abandoned, and this is a lease's generation",
            });
        }
        let is_of = |id: &CellId| {
            id.generation == abandon.generation
                && id.incarnation == abandon.incarnation
                && id.node == abandon.node
        };
        let open: Vec<CellId> = self
            .book
            .cells
            .iter()
            .filter(|(id, cell)| is_of(id) && cell.state != CellState::Closed)
            .map(|(id, _)| id.clone())
            .collect();
        let mut returned = Amount::ZERO;
        for id in open {
            let cell = self.cell(&id)?;
            let back = cell.outstanding();
            cell.returned = plus(cell.returned, back, "returned")?;
            (cell.state, cell.finished) = (CellState::Closed, cell.admitted);
            self.give_back(&id, back, JournalKind::Returned)?;
            returned = plus(returned, back, "returned")?;
        }
        Ok(returned)
    }
}

/// What was late and what was short, as one answer.
fn both(late: Option<Late>, short: Option<Late>) -> Result<Option<Late>, Bug> {
    let (Some(a), Some(b)) = (late, short) else { return Ok(late.or(short)) };
    let covered = plus(a.covered, b.covered, "what was covered")?;
    let owed = plus(a.owed, b.owed, "what is owed")?;
    // Bounded by nothing but what two amounts can say: told for the log alone.
    let written_off = a.written_off.checked_add(b.written_off).unwrap_or(Amount::MAX);
    Ok(Some(Late { covered, owed, written_off }))
}

/// A report must make sense in itself, whatever was known before.
fn believable(told: &Totals, row: &Cell) -> Result<(), ReportRefused> {
    if told.finished > told.admitted {
        return Err(ReportRefused::FinishedBeyondAdmitted);
    }
    if told.used > told.finished {
        return Err(ReportRefused::UsedBeyondFinished);
    }
    fits(told.returned, told.used, told.admitted.saturating_sub(told.finished), row.granted)
}

fn fits(returned: Amount, used: Amount, held: Amount, granted: Amount) -> Result<(), ReportRefused> {
    let all = returned.checked_add(used).and_then(|all| all.checked_add(held));
    all.filter(|all| *all <= granted).map(|_| ()).ok_or(ReportRefused::BeyondGranted)
}

/// The row with the report's totals in it. What the cell cannot pay comes out beside it.
fn merge(told: &Totals, row: &Cell, id: &CellId) -> Result<Merged, ReportRefused> {
    let mut cell = row.clone();
    let news = told.used.saturating_sub(row.used).saturating_sub(row.late);
    let pays = if row.state == CellState::Closed { Amount::ZERO } else { news.min(row.outstanding()) };
    let add = |a: Amount, b: Amount| a.checked_add(b).ok_or(ReportRefused::BeyondGranted);
    let late = news.saturating_sub(pays);
    let short = told.short.saturating_sub(row.short);
    cell.used = add(row.used, pays)?;
    cell.late = add(row.late, late)?;
    cell.short = add(row.short, short)?;
    if row.state == CellState::Closed {
        return Ok(Merged { cell, late, short });
    }
    cell.admitted = row.admitted.max(told.admitted);
    cell.finished = row.finished.max(told.finished);
    if row.state == CellState::Open {
        cell.returned = row.returned.max(told.returned);
        fits(cell.returned, add(cell.used, late)?, cell.held(), cell.granted)?;
    } else {
        // Holds beyond what was kept can only come from a gateway that broke its bound: what they use will be late.
        let most = add(cell.finished, cell.outstanding())?;
        cell.admitted = cell.admitted.min(most);
        if cell.admitted < row.admitted {
            return Err(ReportRefused::UsedBeyondFinished);
        }
        // What the ledger took at the soft end is in the gateway's own returns too; what was kept as exposure, and comes
        // back now, was not used either, and waits for no hard end.
        let free = cell.outstanding().saturating_sub(cell.held());
        cell.returned = row.returned.max(told.returned.min(add(row.returned, free)?));
    }
    if id.is_hold() && cell.finished == cell.granted {
        cell.returned = cell.granted.saturating_sub(cell.used); // its one request has ended: nothing else can use it
    }
    Ok(Merged { cell, late, short })
}
