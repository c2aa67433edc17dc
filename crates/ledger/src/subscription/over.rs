//! What is left of earlier periods and ends with the next one.

use super::paid::{Part, PartKind, Payments};
use super::policy::Rollover;
use crate::grant::{Grant, GrantId, Source};
use std::collections::{BTreeMap, BTreeSet};
use units::{Amount, Instant};

/// A grant of a plan of which something is left.
struct Lot<'a> {
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
/// With a cap, so many of the oldest end that all together, the new ones included, are at most the cap. Only what is
/// unspent ends: what was used was used rightly.
#[must_use]
pub fn over(payments: &Payments, grants: &BTreeMap<GrantId, Grant>) -> Vec<(GrantId, Amount)> {
    let mut lots = lots(payments, grants);
    let parts = payments.0.values().flat_map(|paid| paid.0.values());
    let newest = parts.filter(|part| begins(part)).map(|part| part.from).max().unwrap_or(Instant::EPOCH);
    for lot in &mut lots {
        if lot.part.rollover == Rollover::None && lot.part.ends_at <= newest {
            lot.left = Amount::ZERO;
        }
    }
    for (subscription, paid) in &payments.0 {
        let starts: BTreeSet<Instant> = paid.0.values().filter(|it| begins(it)).map(|it| it.from).collect();
        for start in starts {
            let together = paid.0.values().filter(|part| part.starts_at == start);
            let new =
                together.fold(Amount::ZERO, |sum, it| sum.checked_add(it.granted).unwrap_or(Amount::MAX));
            cap(&mut lots, subscription, start, new);
        }
    }
    lots.into_iter().filter_map(voided).collect()
}

/// True for what begins a period, and so ends another.
fn begins(part: &Part) -> bool {
    part.kind != PartKind::Change
}

/// What is left, oldest first.
fn lots<'a>(payments: &'a Payments, grants: &'a BTreeMap<GrantId, Grant>) -> Vec<Lot<'a>> {
    let mut known: BTreeMap<&str, (&str, &Part)> = BTreeMap::new();
    for (subscription, paid) in &payments.0 {
        known.extend(paid.0.iter().map(|(origin, part)| (origin.as_str(), (subscription.as_str(), part))));
    }
    let plans = grants.iter().filter(|(_, grant)| grant.terms.source == Source::Subscription);
    let lots = plans.filter_map(|(id, grant)| {
        let (subscription, part) = *known.get(grant.terms.source_ref.as_str())?;
        let left = grant.avail.checked_add(grant.leased)?.saturating_sub(grant.void_claim);
        Some(Lot { id: *id, grant, subscription, part, left })
    });
    let mut lots: Vec<Lot<'_>> = lots.collect();
    lots.sort_by_key(|lot| (lot.part.starts_at, &lot.grant.terms.source_ref));
    lots
}

/// Takes from the oldest what the cap does not leave beside `new` credits that came at `start`.
fn cap(lots: &mut [Lot<'_>], subscription: &str, start: Instant, new: Amount) {
    let caps: BTreeSet<Amount> = lots.iter().filter_map(|lot| cap_of(lot.part)).collect();
    for cap in caps {
        let older = |lot: &&mut Lot<'_>| {
            lot.subscription == subscription && lot.part.starts_at < start && cap_of(lot.part) == Some(cap)
        };
        let all = lots.iter_mut().filter(older).map(|lot| lot.left);
        let all = all.fold(Amount::ZERO, |sum, left| sum.checked_add(left).unwrap_or(Amount::MAX));
        let mut excess = all.saturating_sub(cap.saturating_sub(new));
        for lot in lots.iter_mut().filter(older) {
            let ends = lot.left.min(excess);
            (lot.left, excess) = (lot.left.saturating_sub(ends), excess.saturating_sub(ends));
        }
    }
}

fn cap_of(part: &Part) -> Option<Amount> {
    match part.rollover {
        Rollover::Cap(cap) => Some(cap),
        Rollover::None | Rollover::All => None,
    }
}

/// The total to which a lot must be voided, if that is more than it is.
fn voided(lot: Lot<'_>) -> Option<(GrantId, Amount)> {
    let Grant { avail, leased, voided, void_claim, clawed, .. } = lot.grant;
    let before = voided.checked_add(*void_claim)?.checked_add(*clawed)?;
    let was = avail.checked_add(*leased)?.saturating_sub(*void_claim);
    let ends = was.saturating_sub(lot.left);
    Some((lot.id, before.checked_add(ends)?)).filter(|_| !ends.is_zero())
}
