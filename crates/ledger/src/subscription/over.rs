//! What is left of earlier periods and ends with the next one.

use super::fold::Subscriptions;
use super::paid::{Part, PartKind, Payments};
use super::policy::Rollover;
use crate::grant::{Grant, GrantId, Source};
use std::collections::{BTreeMap, BTreeSet};
use units::{Amount, Instant};

/// What is left of a plan's grant.
struct Rest<'a> {
    id: GrantId,
    grant: &'a Grant,
    subscription: &'a str,
    part: &'a Part,
    left: Amount,
}

/// Which grants of plans must be voided, and up to which total, because a later period has begun: whatever order the events
/// come in and however often this is asked, the same remains, as long as nothing is spent in between. (What a cap leaves
/// depends on what had been spent when the next allowance came; that is told by events that come late, too late.)
///
/// Without rollover, what is left of a period that is over lived on only to bridge the time until the next one was paid.
/// With a cap, so many of the oldest end that all together, the new ones included, are at most the cap of what is new. Only what is
/// unspent ends: what was used was used rightly.
#[must_use]
pub fn over(payments: &Payments, grants: &BTreeMap<GrantId, Grant>) -> Vec<(GrantId, Amount)> {
    let mut rests = rests(payments, grants);
    let parts = payments.0.values().flat_map(|paid| paid.0.values());
    let newest = parts.filter(|part| begins(part)).map(|part| part.from).max().unwrap_or(Instant::EPOCH);
    for rest in &mut rests {
        if rest.part.rollover == Rollover::None && rest.part.ends_at <= newest {
            rest.left = Amount::ZERO;
        }
    }
    for (subscription, paid) in &payments.0 {
        let starts: BTreeSet<Instant> = paid.0.values().filter(|it| begins(it)).map(|it| it.from).collect();
        for start in starts {
            let new = |part: &&Part| part.starts_at == start;
            let begun = paid.0.values().filter(new).filter(|part| begins(part));
            let caps: Vec<Amount> = begun.filter_map(cap_of).collect();
            if !caps.is_empty() {
                // What was due does not depend on the order of events; what each part was granted of it may.
                let due = sum(paid.0.values().filter(new).map(|part| part.due));
                cap(&mut rests, subscription, start, sum(caps.into_iter()).saturating_sub(due));
            }
        }
    }
    rests.into_iter().filter_map(voided).collect()
}

/// Origins of what payments brought that were made when their subscription had ended already. Had that been told first, they
/// would have brought nothing; so it is taken back whole, and the order in which the two are told does not matter. Each is
/// named once: that is noted in `payments`, to be kept, and stops its later months too.
pub fn undue(payments: &mut Payments, subscriptions: &Subscriptions) -> Vec<String> {
    let mut all = Vec::new();
    for (id, paid) in &mut payments.0 {
        let Some(ended) = subscriptions.0.get(id).and_then(|known| known.latest.ended()) else { continue };
        for (origin, part) in paid.0.iter_mut().filter(|(_, part)| part.paid_at >= ended && !part.stopped) {
            part.stopped = true;
            all.push(origin.clone());
        }
    }
    all
}

/// True for what begins a period, and so ends another.
fn begins(part: &Part) -> bool {
    part.kind != PartKind::Change
}

/// What is left, oldest first.
fn rests<'a>(payments: &'a Payments, grants: &'a BTreeMap<GrantId, Grant>) -> Vec<Rest<'a>> {
    let mut known: BTreeMap<&str, (&str, &Part)> = BTreeMap::new();
    for (subscription, paid) in &payments.0 {
        known.extend(paid.0.iter().map(|(origin, part)| (origin.as_str(), (subscription.as_str(), part))));
    }
    let plans = grants.iter().filter(|(_, grant)| grant.terms.source == Source::Subscription);
    let rests = plans.filter_map(|(id, grant)| {
        let (subscription, part) = *known.get(grant.terms.source_ref.as_str())?;
        let left = grant.avail.checked_add(grant.leased)?.saturating_sub(grant.void_claim);
        Some(Rest { id: *id, grant, subscription, part, left })
    });
    let mut rests: Vec<Rest<'_>> = rests.collect();
    rests.sort_by_key(|rest| (rest.part.starts_at, &rest.grant.terms.source_ref));
    rests
}

/// Leaves `most` of what came before `start` and rolls over up to a cap; the oldest ends first.
fn cap(rests: &mut [Rest<'_>], subscription: &str, start: Instant, most: Amount) {
    let older = |rest: &&mut Rest<'_>| {
        rest.subscription == subscription && rest.part.starts_at < start && cap_of(rest.part).is_some()
    };
    let mut excess = sum(rests.iter_mut().filter(older).map(|rest| rest.left)).saturating_sub(most);
    for rest in rests.iter_mut().filter(older) {
        let ends = rest.left.min(excess);
        (rest.left, excess) = (rest.left.saturating_sub(ends), excess.saturating_sub(ends));
    }
}

/// Together; more than can be said counts as the most that can.
fn sum(amounts: impl Iterator<Item = Amount>) -> Amount {
    amounts.fold(Amount::ZERO, |sum, amount| sum.checked_add(amount).unwrap_or(Amount::MAX))
}

fn cap_of(part: &Part) -> Option<Amount> {
    match part.rollover {
        Rollover::Cap(cap) => Some(cap),
        Rollover::None | Rollover::All => None,
    }
}

/// The total to which its grant must be voided, if that is more than it is.
fn voided(rest: Rest<'_>) -> Option<(GrantId, Amount)> {
    let Grant { avail, leased, voided, void_claim, clawed, .. } = rest.grant;
    let before = voided.checked_add(*void_claim)?.checked_add(*clawed)?;
    let was = avail.checked_add(*leased)?.saturating_sub(*void_claim);
    let ends = was.saturating_sub(rest.left);
    Some((rest.id, before.checked_add(ends)?)).filter(|_| !ends.is_zero())
}
