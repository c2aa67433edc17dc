//! Commands about the account and its grants: credits arrive, are taken back; the account is stopped or moved.

use super::{Work, minus, plus};
use crate::bug::Bug;
use crate::command::{Upto, Void, VoidTarget};
use crate::grant::{GrantId, Origin, Source, Terms};
use crate::outcome::{GrantAnswer, JournalEntry, JournalKind, NoteKind, Reply, VoidAnswer};
use crate::subscription::Standing;
use units::Amount;

impl Work<'_> {
    /// Once per origin. Purchases and corrections repay debt first; allowances and gifts do not, but while there is
    /// debt only what exceeds it may be spent (see `spendable`).
    pub(super) fn make_grant(&mut self, terms: &Terms) -> Result<GrantAnswer, Bug> {
        if let Some(id) = self.find(&terms.origin()) {
            let same = self.book.grants.get(&id).is_some_and(|grant| grant.terms == *terms);
            return Ok(if same { GrantAnswer::Known { id } } else { GrantAnswer::Conflict { id } });
        }
        if let Some(why) = self.nonsense(terms) {
            return Ok(GrantAnswer::Refused { why });
        }
        let id = self.create(terms.clone())?;
        let mut repaid = Amount::ZERO;
        if terms.is_general() {
            let account = &mut self.book.account;
            if matches!(terms.source, Source::Purchase | Source::Adjust) {
                repaid = terms.amount.min(account.debt);
                account.debt = minus(account.debt, repaid, "debt, when repaid")?;
            }
            account.credited = true;
            self.changes.account = true;
            let grant = self.grant(id)?;
            grant.avail = minus(grant.avail, repaid, "avail, when repaying debt")?;
            grant.used = plus(grant.used, repaid, "used, when repaying debt")?;
            self.log(JournalKind::Repaid, Some(id), None, repaid);
        }
        self.note(NoteKind::Replenished)?;
        Ok(GrantAnswer::Made { id, repaid })
    }

    /// The grant of an origin, if it is known.
    pub(super) fn find(&self, origin: &Origin) -> Option<GrantId> {
        let same = |terms: &Terms| {
            terms.source_ref == origin.source_ref
                && terms.source == origin.source
                && terms.unit == origin.unit
        };
        self.book.grants.iter().find(|(_, grant)| same(&grant.terms)).map(|(id, _)| *id)
    }

    /// The grant that is meant, if it is known.
    pub(super) fn target(&self, target: &VoidTarget) -> Option<GrantId> {
        match target {
            VoidTarget::Grant(id) => Some(*id).filter(|id| self.book.grants.contains_key(id)),
            VoidTarget::Origin(origin) => self.find(origin),
        }
    }

    fn nonsense(&self, terms: &Terms) -> Option<&'static str> {
        let live = self.book.grants.values().filter(|grant| grant.terms.unit == terms.unit);
        let outstanding = live.flat_map(|grant| [grant.avail, grant.leased]);
        let room = outstanding.into_iter().try_fold(terms.amount, Amount::checked_add);
        if terms.amount.is_zero() {
            Some("a grant of nothing")
        } else if terms.expires_at <= terms.starts_at {
            Some("it ends before it begins")
        } else if terms.source == Source::Window {
            Some("windows are made by needs, not by grants")
        } else if room.is_none() {
            Some("the account would hold more than an amount can say (2^53 - 1)")
        } else {
            None
        }
    }

    /// What is available goes at once; what is leased as it returns; what was used becomes debt or is written off.
    pub(super) fn void(&mut self, void: &Void) -> Result<VoidAnswer, Bug> {
        let Some(id) = self.target(&void.target) else { return Ok(VoidAnswer::Unknown) };
        let upto = void.upto;
        let before = self.grant(id)?.clone();
        let total = match upto {
            Upto::All => before.terms.amount,
            Upto::Total(total) => total.min(before.terms.amount),
        };
        let clawed = plus(before.clawed, before.reversed.reclaimed, "clawed")?;
        let done = plus(plus(before.voided, before.void_claim, "voided")?, clawed, "voided")?;
        let rest = total.saturating_sub(done);
        let (voided, claimed) = self.take_back(id, rest)?;
        let rest = minus(minus(rest, voided, "a void")?, claimed, "a void")?;
        let clawed = rest.min(minus(before.used, clawed, "clawed")?);
        self.claw(id, clawed, void.shortfall)?;
        if voided.is_zero() && claimed.is_zero() && clawed.is_zero() {
            self.changes.grants.remove(&id);
        } else {
            self.note(NoteKind::Changed)?;
        }
        if !claimed.is_zero() {
            self.note(NoteKind::Recall)?;
        }
        Ok(VoidAnswer::Done { id, voided, claimed, clawed })
    }

    /// `avail → voided`, and a claim on what is leased; how much of each.
    pub(super) fn take_back(&mut self, id: GrantId, amount: Amount) -> Result<(Amount, Amount), Bug> {
        let grant = self.grant(id)?;
        let voided = amount.min(grant.avail);
        let claimable = minus(grant.leased, grant.void_claim, "the void claim")?;
        let claimed = minus(amount, voided, "a void")?.min(claimable);
        grant.avail = minus(grant.avail, voided, "avail, when voided")?;
        grant.voided = plus(grant.voided, voided, "voided")?;
        grant.void_claim = plus(grant.void_claim, claimed, "the void claim")?;
        self.log(JournalKind::Voided, Some(id), None, voided);
        self.log(JournalKind::VoidClaimed, Some(id), None, claimed);
        Ok((voided, claimed))
    }

    pub(super) fn set_standing(&mut self, standing: &Standing) -> Result<Reply, Bug> {
        let account = &mut self.book.account;
        if account.standing != *standing {
            let was = core::mem::replace(&mut account.standing, standing.clone());
            self.changes.account = true;
            // Gateways and people care about tier and stage; when a period ends is only remembered.
            if (&was.tier, was.stage, was.why) != (&standing.tier, standing.stage, standing.why) {
                self.mark(JournalKind::StandingChanged);
                self.note(NoteKind::Changed)?;
            }
        }
        Ok(Reply::Done)
    }

    pub(super) fn set_suspended(&mut self, suspended: bool) -> Result<Reply, Bug> {
        if self.book.account.suspended != suspended {
            self.book.account.suspended = suspended;
            self.mark(if suspended { JournalKind::Suspended } else { JournalKind::Resumed });
            self.note(if suspended { NoteKind::Suspended } else { NoteKind::Replenished })?;
        }
        Ok(Reply::Done)
    }

    /// A line of history that is about no amount.
    fn mark(&mut self, kind: JournalKind) {
        let (at, account) = (self.now, self.book.account.id.clone());
        let entry = JournalEntry { at, account, grant: None, cell: None, kind, amount: Amount::ZERO };
        self.changes.journal.push(entry);
    }
}
