//! The later months of a longer period that was paid for. Time brings them, not events, and only while the subscription lives.

use super::fact::Status;
use super::fold::{Subscription, Subscriptions, plan_of};
use super::paid::{Paid, Part, PartKind, Payments, rollover, whole};
use super::policy::{Policy, Refill, Rollover};
use super::standing::scheduled_end;
use crate::grant::Terms;
use units::{Amount, Instant};

/// The refills that have come by `now` and are not over yet: their terms, each once. They are entered into `payments`, to be
/// kept with the grants. Their origin is `refill:{invoice}:{price}:{n}`.
///
/// A month brings what the plan gives that is paid for when it begins, as far as that is known when it is granted: a change
/// of plan that is told later does not change a month that has come.
pub fn refills(
    payments: &mut Payments,
    subscriptions: &Subscriptions,
    policy: &Policy,
    now: Instant,
) -> Vec<Terms> {
    let mut all = Vec::new();
    for (id, paid) in &mut payments.0 {
        let Some(subscription) = subscriptions.0.get(id) else { continue };
        for (origin, part) in upcoming(paid, subscription, policy) {
            let over = part.rollover == Rollover::None && part.ends_at <= now;
            if part.from > now || over {
                continue;
            }
            let allowance = policy.plans.get(&part.price).and_then(|plan| plan.allowance.as_ref());
            let granted = paid.enter(origin.clone(), part);
            if let (Some(part), Some(allowance), Some(false)) =
                (paid.0.get(&origin), allowance, granted.map(Amount::is_zero))
            {
                all.push(part.terms(&origin, allowance));
            }
        }
    }
    all
}

/// When the next refill comes, if nothing changes until then.
#[must_use]
pub fn next_refill(
    payments: &Payments,
    subscriptions: &Subscriptions,
    policy: &Policy,
    now: Instant,
) -> Option<Instant> {
    let parts = payments.0.iter().filter_map(|(id, paid)| {
        let subscription = subscriptions.0.get(id)?;
        upcoming(paid, subscription, policy)
            .into_iter()
            .map(|(_, part)| part.from)
            .filter(|from| *from > now)
            .min()
    });
    parts.min()
}

/// Until when a subscription may be refilled; `None` if it may not now.
fn armed_until(subscription: &Subscription, policy: &Policy) -> Option<Instant> {
    let latest = &subscription.latest;
    if latest.collection_paused {
        return None;
    }
    match latest.status {
        Status::Trialing | Status::Active | Status::PastDue => {
            let item = subscription.planned.as_ref().and_then(|snapshot| plan_of(snapshot, policy));
            let end = item.and_then(|(_, item)| scheduled_end(latest, item)).or(latest.cancel_at);
            Some(end.unwrap_or(Instant::FAR))
        }
        Status::Canceled => Some(latest.ended_at.unwrap_or(latest.created)),
        Status::Unknown(_)
        | Status::Incomplete
        | Status::IncompleteExpired
        | Status::Paused
        | Status::Unpaid => None,
    }
}

/// The months of every period that was paid for that were not entered yet, until the subscription ends. One that begins while
/// there is none of it brings nothing, whatever becomes of it later: the money of that time goes back.
fn upcoming(paid: &Paid, subscription: &Subscription, policy: &Policy) -> Vec<(String, Part)> {
    let Some(end) = armed_until(subscription, policy) else { return Vec::new() };
    let mut all = Vec::new();
    // A period that began with a change of plan is one that was paid for too.
    let whole_ones = paid.0.iter().filter_map(|(origin, part)| Some((part, origin.strip_prefix("plan:")?)));
    for (base, name) in whole_ones.filter(|(part, _)| part.kind != PartKind::Trial && !part.stopped) {
        let starts = months(base.from, base.until);
        let ends = starts.iter().copied().skip(1).chain([base.until]);
        for (n, (from, to)) in (1..).zip(starts.iter().copied().zip(ends)) {
            let origin = format!("refill:{name}:{n}");
            if from < end
                && subscription.was_any(from)
                && !paid.0.contains_key(&origin)
                && let Some(part) = month(paid, base, (from, to), policy)
            {
                all.push((origin, part));
            }
        }
    }
    all
}

/// More months than these are in no period (Stripe, API: `recurring.interval_count` makes three years at most).
pub(super) const MONTHS_MAX: i32 = 120;

/// When the months of a period begin, but for the first. Their day is that of the period's begin or end, whichever is later
/// in its month: a period from 28 February to 31 May is one of an anchor on the 31st.
fn months(from: Instant, until: Instant) -> Vec<Instant> {
    let whole =
        |count: &i32| from.plus_months(*count) >= until || until.plus_months(count.saturating_neg()) <= from;
    match (1..=MONTHS_MAX).find(whole) {
        Some(count) => {
            let start = |n: i32| from.plus_months(n).max(until.plus_months(n.saturating_sub(count)));
            (1..count).map(start).filter(|start| *start < until).collect()
        }
        None => (1..=MONTHS_MAX).map(|n| from.plus_months(n)).collect(),
    }
}

/// When the first month of a period ends.
pub(super) fn first_month(from: Instant, until: Instant) -> Instant {
    months(from, until).first().copied().unwrap_or(until)
}

/// One month of a period, by the plan that is paid for when it begins.
fn month(paid: &Paid, base: &Part, (from, to): (Instant, Instant), policy: &Policy) -> Option<Part> {
    let (mut price, mut quantity) = (&base.price, base.quantity);
    // A period that began with a change cuts off for ever the one before it; a change counts until what it was paid for ends.
    let within = |part: &&Part| match part.kind {
        PartKind::Anew => base.from <= part.from && part.from <= from,
        PartKind::Change => part.from <= from && from < part.until && !part.stopped,
        PartKind::Trial | PartKind::Period | PartKind::Refill => false,
    };
    let mut changes: Vec<&Part> = paid.0.values().filter(within).collect();
    changes.sort_by_key(|part| (part.from, part.paid_at));
    for change in changes {
        if change.replaces.as_ref().unwrap_or(&change.price) != price || core::ptr::eq(change, base) {
            continue;
        }
        if change.kind == PartKind::Anew {
            return None; // a period of its own, with months of its own
        } else {
            (price, quantity) = (&change.price, change.quantity);
        }
    }
    if *price == base.price && base.to == base.until {
        return None; // it brought the whole at once, whatever the catalog says today
    }
    let allowance = policy.plans.get(price)?.allowance.as_ref()?;
    let due = whole(allowance.credits, allowance, quantity)?;
    if allowance.refill != Refill::Monthly || due.is_zero() {
        return None;
    }
    Some(Part {
        kind: PartKind::Refill,
        price: price.clone(),
        quantity,
        replaces: None,
        from,
        to,
        until: to,
        paid_at: base.paid_at,
        due,
        most: due,
        granted: Amount::ZERO,
        starts_at: from,
        ends_at: to,
        rollover: rollover(allowance, quantity)?,
        stopped: false,
        held_back: Amount::ZERO,
        free: base.free,
    })
}
