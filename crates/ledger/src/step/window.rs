//! The windows of a need: made when somebody first needs them, and kept at what their rule says now.

use super::{Work, minus, plus};
use crate::bug::Bug;
use crate::command::{Lane, Leg};
use crate::grant::{GrantId, Origin, Source, Terms};
use crate::outcome::{JournalKind, WindowStatus};
use crate::window::WindowRule;
use std::collections::BTreeSet;
use units::Amount;

impl Work<'_> {
    /// Makes the current window of the leg's rule if nobody has needed it yet, and keeps its limit current.
    pub(super) fn open_window(&mut self, leg: &Leg) -> Result<(), Bug> {
        let Some(rule) = &leg.window else { return Ok(()) };
        let WindowRule { starts_at, expires_at, source_ref, .. } = rule.clone();
        let (unit, source) = (leg.unit, Source::Window);
        let known = self.find(&Origin { unit, source, source_ref: source_ref.clone() });
        match known {
            Some(id) => self.relimit(id, rule.limit),
            None if rule.limit.is_zero() => Ok(()),
            None => {
                let (scope, priority, amount) = (rule.name.clone(), rule.priority, rule.limit);
                let terms =
                    Terms { unit, scope, source, source_ref, priority, starts_at, expires_at, amount };
                self.create(terms).map(|_| ())
            }
        }
    }

    /// A rule that was raised or lowered holds at once, within the window.
    fn relimit(&mut self, id: GrantId, limit: Amount) -> Result<(), Bug> {
        let Some(grant) = self.book.grants.get(&id) else { return Ok(()) };
        let taken = plus(grant.voided, grant.void_claim, "voided")?;
        let allows = minus(grant.terms.amount, taken, "what a window allows")?;
        let lower = allows.saturating_sub(limit);
        if !lower.is_zero() && grant.avail.is_zero() && grant.leased == grant.void_claim {
            return Ok(()); // used beyond the new limit already: nothing is left to take back
        }
        if !lower.is_zero() {
            return self.take_back(id, lower).map(|_| ());
        }
        let raise = limit.saturating_sub(allows);
        if raise.is_zero() {
            return Ok(());
        }
        let grant = self.grant(id)?;
        let unclaimed = raise.min(grant.void_claim);
        let fresh = minus(raise, unclaimed, "what a window allows")?;
        grant.void_claim = minus(grant.void_claim, unclaimed, "the void claim")?;
        grant.terms.amount = plus(grant.terms.amount, fresh, "a window's amount")?;
        grant.avail = plus(grant.avail, fresh, "a window's avail")?;
        self.log(JournalKind::Granted, Some(id), None, fresh);
        Ok(())
    }

    /// Where the first window among the lanes stands.
    pub(super) fn window_status(&self, lanes: &[Lane]) -> Result<Option<WindowStatus>, Bug> {
        let first =
            lanes.iter().flat_map(|lane| &lane.legs).find_map(|leg| Some((leg, leg.window.as_ref()?)));
        let Some((leg, rule)) = first else { return Ok(None) };
        let (resets_at, source_ref) = (rule.expires_at, rule.source_ref.clone());
        let found = self.find(&Origin { unit: leg.unit, source: Source::Window, source_ref });
        let grant = found.and_then(|id| Some((id, self.book.grants.get(&id)?)));
        let remaining = match grant {
            Some((id, grant)) => {
                let free = self.book.lent_free(&BTreeSet::from([id]))?;
                plus(grant.avail, free, "what is left of a window")?
            }
            None => rule.limit,
        };
        let WindowRule { name, limit, .. } = rule.clone();
        Ok(Some(WindowStatus { name, limit, remaining, resets_at }))
    }
}
