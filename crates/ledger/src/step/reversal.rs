//! Reversals: what was paid for a grant went back, or is disputed, or came again after all.
//!
//! Two totals say how much of the grant is the customer's no more: `revoked` for good, `frozen` until a dispute ends.
//! From them, and from what was used, everything else follows, so that a total may be told again, in any order, and may
//! fall as well as rise:
//! - set aside (`avail → voided`, or claimed from what is leased) is as much of both as is unspent;
//! - reclaimed (debt, or written off) is what was used beyond `amount − revoked`. What is only frozen is no debt.

use super::{Work, minus, plus};
use crate::bug::Bug;
use crate::command::TakeBack;
use crate::grant::{Grant, GrantId, Reversed, Source, Terms};
use crate::outcome::{JournalKind, NoteKind, TakenBack};
use units::{Amount, Instant};

impl Work<'_> {
    /// Brings a grant to where the totals say that it is.
    pub(super) fn reverse(&mut self, back: &TakeBack) -> Result<TakenBack, Bug> {
        let Some(id) = self.target(&back.target) else { return Ok(TakenBack::Unknown) };
        // What has ended is expired before anything is counted, so that a repetition counts the same.
        self.end_grants()?;
        let was = self.grant(id)?.clone();
        if was.terms.source == Source::Window {
            self.changes.grants.remove(&id);
            return Ok(TakenBack::Unknown);
        }
        let amount = was.terms.amount;
        let revoked = back.revoked.min(amount);
        let frozen = back.frozen.min(minus(amount, revoked, "what is left of a grant")?);
        let grant = self.grant(id)?;
        (grant.reversed.revoked, grant.reversed.shortfall) = (revoked, back.shortfall);
        self.unclaw(id)?;
        self.set_aside(id, plus(revoked, frozen, "what is taken back")?)?;
        self.reclaim(id, was.reversed)?;
        let is = self.grant(id)?.clone();
        let changed = is != was;
        if changed {
            let better = is.avail > was.avail || is.reversed.owed < was.reversed.owed;
            self.note(if better { NoteKind::Replenished } else { NoteKind::Changed })?;
            if is.void_claim > was.void_claim {
                self.note(NoteKind::Recall)?;
            }
        } else if !self.changes.journal.iter().any(|line| line.grant == Some(id)) {
            self.changes.grants.remove(&id);
        }
        Ok(TakenBack::Done { id, reversed: is.reversed, changed })
    }

    /// As much of `total` as is unspent is voided, or claimed; what is more than that comes back.
    fn set_aside(&mut self, id: GrantId, total: Amount) -> Result<(), Bug> {
        let grant = self.grant(id)?;
        let aside = grant.reversed.aside;
        let lent = minus(grant.leased, grant.void_claim, "the void claim")?;
        let unspent = plus(plus(grant.avail, lent, "what is unspent")?, aside, "what is unspent")?;
        let target = total.min(unspent);
        grant.reversed.aside = target;
        if target > aside {
            self.take_back(id, minus(target, aside, "what is set aside")?)?;
            return self.stand_in(id);
        }
        let less = minus(aside, target, "what is set aside")?;
        let released = less.min(grant.void_claim);
        let restored = minus(less, released, "what is given back")?;
        grant.void_claim = minus(grant.void_claim, released, "the void claim")?;
        grant.voided = minus(grant.voided, restored, "voided, when given back")?;
        grant.avail = plus(grant.avail, restored, "avail, when given back")?;
        self.log(JournalKind::VoidReleased, Some(id), None, released);
        self.log(JournalKind::Restored, Some(id), None, restored);
        self.stand_in(id)
    }

    /// What was recovered while a claim on leases stands is taken in the claim's place: a claim may be missed, since the
    /// requests in flight may use it, and then what should be set aside would be free.
    fn stand_in(&mut self, id: GrantId) -> Result<(), Bug> {
        let grant = self.grant(id)?;
        let free = grant.avail.min(grant.void_claim);
        grant.avail = minus(grant.avail, free, "avail, in place of a claim")?;
        grant.voided = plus(grant.voided, free, "voided, in place of a claim")?;
        grant.void_claim = minus(grant.void_claim, free, "the void claim")?;
        self.log(JournalKind::Voided, Some(id), None, free);
        self.log(JournalKind::VoidReleased, Some(id), None, free);
        Ok(())
    }

    /// Of what was reclaimed, what is the customer's again: debt falls. Where that debt was repaid meanwhile, what was
    /// used of this grant was paid for by another one, and is there to be used again.
    fn unclaw(&mut self, id: GrantId) -> Result<(), Bug> {
        let (debt, now) = (self.book.account.debt, self.now);
        let grant = self.grant(id)?;
        let (due, ended) = (beyond(grant)?, grant.terms.expires_at <= now);
        let Some(less) = grant.reversed.reclaimed.checked_sub(due).filter(|less| !less.is_zero()) else {
            return Ok(());
        };
        let before = grant.reversed.reclaimed;
        let forgiven = less.min(grant.reversed.owed).min(debt);
        let rest = minus(less, forgiven, "what is not reclaimed any more")?;
        let repaid = minus(grant.reversed.owed, forgiven, "what was owed")?;
        // A credit that comes back was not used of this grant after all: one less is used beyond what is left, so one
        // less is due. Once the debt is repaid, that goes on until nothing is due any more, or all that was repaid is back.
        let (recovered, undue) = if rest.is_zero() {
            (Amount::ZERO, Amount::ZERO)
        } else {
            (repaid.min(plus(due, rest, "what was repaid")?), repaid.min(due))
        };
        let gone = plus(less, undue, "what is not reclaimed any more")?;
        grant.reversed.owed = minus(repaid, recovered, "what was owed")?;
        grant.reversed.reclaimed = minus(before, gone, "what was reclaimed")?;
        // What is over would take it along: it comes back as credits of its own then.
        let anew = (ended && !recovered.is_zero()).then(|| again(id, grant, recovered, now));
        let recovered = if anew.is_some() { Amount::ZERO } else { recovered };
        grant.used = minus(grant.used, recovered, "used, when recovered")?;
        grant.avail = plus(grant.avail, recovered, "avail, when recovered")?;
        if !forgiven.is_zero() {
            self.book.account.debt = minus(debt, forgiven, "debt")?;
            self.changes.account = true;
        }
        self.log(JournalKind::Unclawed, Some(id), None, gone);
        self.log(JournalKind::DebtDown, Some(id), None, forgiven);
        self.log(JournalKind::Recovered, Some(id), None, recovered);
        if let Some(terms) = anew {
            self.create(terms)?;
        }
        Ok(())
    }

    /// What was used beyond what is left becomes debt, or is written off; `was` is from before, for the journal.
    pub(super) fn reclaim(&mut self, id: GrantId, was: Reversed) -> Result<(), Bug> {
        let Some(grant) = self.book.grants.get(&id) else {
            return Err(Bug::NotLoaded { what: format!("grant {}", id.0) });
        };
        let (unit, shortfall) = (grant.terms.unit, grant.reversed.shortfall);
        let more = beyond(grant)?.saturating_sub(grant.reversed.reclaimed);
        if !more.is_zero() {
            self.log(JournalKind::Clawed, Some(id), None, more);
            let owed = self.owe(id, None, unit, more, shortfall)?;
            let grant = self.grant(id)?;
            grant.reversed.reclaimed = plus(grant.reversed.reclaimed, more, "what is reclaimed")?;
            grant.reversed.owed = plus(grant.reversed.owed, owed, "what is owed")?;
        }
        let (before, now) = (was.frozen(), self.frozen_of(id));
        self.log(JournalKind::Frozen, Some(id), None, now.saturating_sub(before));
        self.log(JournalKind::Unfrozen, Some(id), None, before.saturating_sub(now));
        Ok(())
    }

    fn frozen_of(&self, id: GrantId) -> Amount {
        self.book.grants.get(&id).map_or(Amount::ZERO, |grant| grant.reversed.frozen())
    }
}

/// Credits for what repaid a debt that is none any more, of a grant that is over: for as long as that one had lasted.
fn again(id: GrantId, of: &Grant, amount: Amount, now: Instant) -> Terms {
    let Terms { priority, starts_at, expires_at, .. } = of.terms;
    let (unit, scope, source) = (of.terms.unit, of.terms.scope.clone(), Source::Adjust);
    let source_ref = format!("recovered:{}:{}", id.0, of.ver);
    let expires_at = now.plus(expires_at.since(starts_at));
    Terms { unit, scope, source, source_ref, priority, starts_at: now, expires_at, amount }
}

/// What was used of a grant beyond what is left of it after the revocation, and was not clawed back by a void.
fn beyond(grant: &Grant) -> Result<Amount, Bug> {
    let used = minus(grant.used, grant.clawed, "clawed")?;
    let left = minus(grant.terms.amount, grant.reversed.revoked, "what is left of a grant")?;
    Ok(used.saturating_sub(left))
}

/// A claim that can no longer be met from leases, since requests in flight used them: voids give way first, then what a
/// reversal set aside. How much of it was a void's.
pub(super) fn unmet(grant: &mut Grant, unmet: Amount) -> Result<Amount, Bug> {
    let all = plus(grant.voided, grant.void_claim, "voided")?;
    let of_voids = unmet.min(minus(all, grant.reversed.aside, "what is set aside")?);
    grant.void_claim = minus(grant.void_claim, unmet, "the void claim")?;
    let of_reversals = minus(unmet, of_voids, "what is set aside")?;
    grant.reversed.aside = minus(grant.reversed.aside, of_reversals, "what is set aside")?;
    Ok(of_voids)
}
