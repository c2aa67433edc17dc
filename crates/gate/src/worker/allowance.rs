//! Requests that were let through while billing was away: how many, and what is charged for them when it is back.
//!
//! The bound is per process and outage: a count on the shelf, which the first sync that succeeds sets back to nothing.

use super::Worker;
use super::books::Hold;
use super::needs::Waiter;
use super::reply::check_pass;
use super::talk::{Ended, Fault, Pass};
use crate::Numbered;
use crate::effect::{Level, Metric};
use crate::shelf::Shelf;
use contract::v1::{Need, NeedDecision, NeedMode, NeedShape, Outcome, PriceList, UsageRecord};
use std::collections::BTreeSet;
use units::{Amount, EndpointId, Instant, Subject, Unit};

const KEY: &str = "tollgate/allowance/1";
const TRIES: usize = 16;

/// Takes one of the `most` that may pass; false if there are none left, or if others were always faster.
pub(super) fn take(shelf: &mut dyn Shelf, most: u32) -> bool {
    for _ in 0..TRIES {
        let stored = shelf.read(KEY);
        let taken = match &stored {
            None => 0,
            // What is no number is no allowance.
            Some((bytes, _)) => bytes.as_slice().try_into().map_or(u32::MAX, u32::from_le_bytes),
        };
        let Some(next) = taken.checked_add(1).filter(|next| *next <= most) else { return false };
        if shelf.write(KEY, &next.to_le_bytes(), stored.map(|(_, seen)| seen)).is_ok() {
            return true;
        }
    }
    false
}

/// Billing answers: whatever comes is another outage.
pub(super) fn refill(shelf: &mut dyn Shelf) {
    if let Some((bytes, seen)) = shelf.read(KEY)
        && bytes != 0_u32.to_le_bytes()
    {
        // Should another worker be faster, it does the same.
        _ = shelf.write(KEY, &0_u32.to_le_bytes(), Some(seen));
    }
}

/// One of them, from when it was let through until it is charged.
#[derive(Clone, Debug)]
pub(super) struct Unpaid {
    pub(super) subject: Subject,
    pub(super) endpoint: EndpointId,
    end: Option<Ended>,
}

/// All of them, by the id of the need that will charge for each.
#[derive(Debug, Default)]
pub(super) struct Unpaids {
    all: Numbered<Unpaid>,
    ended: BTreeSet<u64>,
}

impl Unpaids {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn has(&self, id: u64) -> bool {
        self.all.get(id).is_some()
    }

    /// A request goes through unpaid.
    pub(super) fn open(&mut self, id: u64, subject: Subject, endpoint: EndpointId) {
        self.all.insert(id, Unpaid { subject, endpoint, end: None });
    }

    /// It ended: what was delivered is to be charged, anything else is forgotten. False if it is not one of these.
    pub(super) fn end(&mut self, end: &Ended) -> bool {
        let id = end.hold;
        let Some(unpaid) = self.all.get_mut(id) else { return false };
        match end.outcome {
            Outcome::Charged | Outcome::ClientLeft | Outcome::Broken => {
                unpaid.end = Some(end.clone());
                self.ended.insert(id);
            }
            Outcome::Failed | Outcome::NotForwarded => _ = self.all.remove(id),
        }
        true
    }

    /// It is charged, or never will be.
    pub(super) fn take(&mut self, id: u64) -> Option<(Unpaid, Ended)> {
        if !self.ended.remove(&id) {
            return None;
        }
        let unpaid = self.all.remove(id)?;
        let end = unpaid.end.clone()?;
        Some((unpaid, end))
    }

    /// It was never sent on.
    pub(super) fn drop(&mut self, id: u64) -> bool {
        self.ended.remove(&id);
        self.all.remove(id).is_some()
    }

    /// Is there anything to charge for?
    pub(super) fn is_due(&self) -> bool {
        !self.ended.is_empty()
    }

    /// What charges for up to `max` of them: a final question each, repeated under the same id until it is answered.
    pub(super) fn compose(&self, max: usize) -> Vec<Need> {
        let ended = self.ended.iter().take(max).filter_map(|id| Some((*id, self.all.get(*id)?)));
        ended
            .map(|(id, unpaid)| Need {
                id,
                subject: unpaid.subject.clone(),
                endpoint: unpaid.endpoint.clone(),
                mode: NeedMode::Hold,
                shape: unpaid.end.as_ref().map_or(NeedShape::Fixed, |end| end.shape.clone()),
                wait_ms: 0,
                generation_min: 1,
                repeat: None,
                served: true,
                lost: false,
            })
            .collect()
    }
}

impl Worker {
    /// Lets a request pass that nobody can decide about, within its route's allowance. Not one that its client named: that would
    /// be charged apart from its repetitions, and safe to repeat is what it was named for.
    pub(super) fn let_unpaid(
        &mut self,
        waiter: &Waiter,
        fault: Fault,
        shelf: &mut dyn Shelf,
    ) -> Option<Box<Pass>> {
        if waiter.mode == NeedMode::Identify || waiter.is_named() || !fault.is_outage() {
            return None;
        }
        let id = self.needs.number()?;
        if !take(shelf, waiter.allow) {
            return None;
        }
        let (subject, endpoint) = waiter.key.clone();
        self.unpaids.open(id, subject, endpoint);
        Some(Box::new(Pass::unpaid(id)))
    }

    /// Billing is back, and decided about a request that was let through without it.
    pub(super) fn charge_unpaid(
        &mut self,
        id: u64,
        unpaid: &Unpaid,
        end: Ended,
        decision: NeedDecision,
        list: Option<&PriceList>,
        sent: Instant,
    ) {
        let Ended { outcome, tokens, request_id, basis, at, .. } = end.clone();
        let endpoint = unpaid.endpoint.clone();
        let (payer, why) = match decision {
            NeedDecision::Ok { standing, price, cells, .. }
                if check_pass((NeedMode::Hold, self.generation(id)), &price, &cells).is_ok() =>
            {
                let (account, price_version) = (standing.account.clone(), price.version);
                let charged = match (list, &tokens) {
                    (Some(list), Some(tokens)) if price.unit == Unit::Credits => {
                        list.cost(&tokens.model, tokens).min(price.hold)
                    }
                    _ => price.hold,
                };
                let (prompt, beat) = (true, self.beat(&cells));
                self.books.open(id, Hold { account, endpoint, price_version, cells, prompt, beat }, sent);
                let (_, bug) = self.books.end(Ended { hold: id, charged, ..end }, sent);
                return bug.into_iter().for_each(|bug| self.count(Metric::Bug { bug }));
            }
            NeedDecision::Ok { .. } => {
                self.books.abandon(id);
                (None, Fault::Nonsense.as_str())
            }
            NeedDecision::Retry { .. } => (None, "retry"),
            NeedDecision::Refused { refusal, .. } => (refusal.payer.clone(), refusal.reason.as_str()),
        };
        self.count(Metric::Fault { fault: "unpaid_allowance" });
        let line = format!("request {request_id} passed while billing was away, and is not paid for: {why}");
        self.log(Level::Error, line);
        if let Some(account) = payer {
            let (charges, returned, n, price_version) = (Vec::new(), Amount::ZERO, 0, 0);
            self.books.note_unpaid(UsageRecord {
                n,
                request_id,
                account,
                endpoint,
                charges,
                returned,
                beyond: Amount::ZERO,
                outcome,
                tokens,
                basis,
                price_version,
                at,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shelf::MemoryShelf;

    #[test]
    fn an_outage_lets_so_many_through_and_the_next_one_as_many_again() {
        let mut shelf = MemoryShelf::default();
        assert!(take(&mut shelf, 2) && take(&mut shelf, 2) && !take(&mut shelf, 2));
        assert!(take(&mut shelf, 3), "another route allows more");
        refill(&mut shelf);
        assert!(take(&mut shelf, 1) && !take(&mut shelf, 1));
        shelf.write(KEY, b"nonsense", shelf.read(KEY).map(|(_, seen)| seen)).unwrap();
        assert!(!take(&mut shelf, u32::MAX));
    }
}
