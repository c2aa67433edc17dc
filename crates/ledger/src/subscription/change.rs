//! What a change of plan within a period grants: its lines are parts of periods, charged for the new plan and paid back for
//! the old one.
//!
//! Stripe bills it at once (`proration_behavior: always_invoice`, `billing_reason: subscription_update`), or puts the same
//! lines on the invoice of the next period (`create_prorations`, its default). Then the credits come with that invoice and
//! may be spent in the period that it begins; they count as those of the period in which the plan was changed. Billed apart
//! from both (`pending_invoice_item_interval`, or by hand) they may be spent in what is left of that period.

use super::allowance::{CHANGE, Withheld, enter, pays_for_nothing_whole};
use super::fact::{InvoiceLine, InvoicePaid};
use super::paid::{Paid, Part, PartKind, rollover, whole};
use super::policy::{Allowance, OnUpgrade, Policy, Refill, Rollover};
use super::refill::{MONTHS_MAX, first_month};
use crate::grant::Terms;
use units::{Amount, Instant};

/// A line that is a part of a plan's period.
struct Share<'a> {
    line: &'a InvoiceLine,
    net: i64,
    rank: u32,
    price: u64,
    allowance: Option<&'a Allowance>,
    /// What as many of the plan bring in a whole period or month.
    whole: Amount,
}

/// The grant of a change of plan that an invoice tells of, if it does.
pub(super) fn change(
    invoice: &InvoicePaid,
    paid: &mut Paid,
    policy: &Policy,
) -> Result<Option<Terms>, Withheld> {
    let shares = shares(invoice, policy)?;
    if shares.is_empty() {
        return Ok(None);
    }
    // Several changes may be on one invoice: from what was before the first to what is after the last.
    let charged = shares.iter().filter(|share| share.net > 0 || share.net == 0 && share.line.quantity > 0);
    let new = charged.max_by_key(|share| (share.line.period_start, share.net > 0, share.rank));
    let paid_back = shares.iter().filter(|share| share.net < 0);
    let old = paid_back.min_by_key(|share| (share.line.period_start, share.rank));
    let Some(new) = new else { return Err(Withheld::NoUpgrade) };
    if invoice.currency.as_deref() != Some(policy.currency.as_str()) {
        return Err(Withheld::Currency);
    }
    let (from, until) = (new.line.period_start, new.line.period_end);
    if until <= from {
        return Err(Withheld::Nonsense);
    }
    let monthly = new.allowance.is_some_and(|allowance| allowance.refill == Refill::Monthly);
    let to = if monthly { month_at(from, until).1 } else { until };
    // On the invoice of the next period they are paid when this one is over; on another, perhaps when their month is.
    let apart = pays_for_nothing_whole(invoice);
    let next = (invoice.billing_reason != CHANGE && !apart).then(|| next_period(invoice, new.line)).flatten();
    let next = next.map(|(begin, end)| (begin, if monthly { first_month(begin, end) } else { end }));
    let within = (to..until).contains(&invoice.paid_at);
    let (starts_at, ends_at) =
        next.unwrap_or(if within { month_at(invoice.paid_at, until) } else { (from, to) });
    // A plan without credits is a change too: the months to come bring none.
    let (due, rest) = match new.allowance {
        Some(allowance) => (
            due(&shares, new, old, allowance.on_upgrade, next.is_some()).ok_or(Withheld::Nonsense)?,
            rollover(allowance, new.line.quantity).ok_or(Withheld::Nonsense)?,
        ),
        None => (Amount::ZERO, Rollover::None),
    };
    let part = Part {
        kind: PartKind::Change,
        price: new.line.price.clone(),
        quantity: new.line.quantity,
        replaces: old.map(|share| share.line.price.clone()),
        from,
        to,
        until,
        paid_at: invoice.paid_at,
        due,
        most: shares.iter().map(|share| share.whole).max().unwrap_or(Amount::ZERO),
        granted: Amount::ZERO,
        starts_at,
        ends_at,
        rollover: rest,
        stopped: false,
        held_back: Amount::ZERO,
        free: invoice.cost_nothing(),
    };
    let origin = format!("upgrade:{}", invoice.id);
    if !paid.0.contains_key(&origin) && new.allowance.is_some_and(|allowance| is_late(&part, allowance, paid))
    {
        return Err(Withheld::Late);
    }
    enter(paid, origin, part, policy).map(Some)
}

/// True if a change was paid for when what it brings was over: it would end as it is granted, or with a period that had begun.
fn is_late(part: &Part, allowance: &Allowance, paid: &Paid) -> bool {
    let ended = part.ends_at.plus(allowance.expiry_grace) <= part.paid_at;
    let ends = |it: &Part| it.kind != PartKind::Change && !it.stopped && part.ends_at <= it.from;
    let next = || paid.0.values().any(|it| ends(it) && it.paid_at.max(it.from) <= part.paid_at);
    part.rollover == Rollover::None && !part.due.is_zero() && (ended || next())
}

/// The lines of an invoice that are parts of plans. One of something else that is paid for is somebody else's; one that is
/// paid back may be the plan that was left.
fn shares<'a>(invoice: &'a InvoicePaid, policy: &'a Policy) -> Result<Vec<Share<'a>>, Withheld> {
    let (mut shares, mut strange) = (Vec::new(), false);
    for line in invoice.lines.iter().filter(|line| line.proration) {
        let net = line.net.ok_or(Withheld::Nonsense)?;
        let Some(plan) = policy.plans.get(&line.price) else {
            strange |= net < 0;
            continue;
        };
        let allowance = plan.allowance.as_ref();
        let whole = match allowance {
            Some(allowance) => {
                whole(allowance.credits, allowance, line.quantity).ok_or(Withheld::Nonsense)?
            }
            None => Amount::ZERO,
        };
        shares.push(Share { line, net, rank: plan.rank, price: plan.price, allowance, whole });
    }
    if strange && !shares.is_empty() { Err(Withheld::UnknownPlan) } else { Ok(shares) }
}

/// What a change would bring if there were no cap; `None` if it cannot be said.
fn due(
    shares: &[Share<'_>],
    new: &Share<'_>,
    old: Option<&Share<'_>>,
    on_upgrade: OnUpgrade,
    late: bool,
) -> Option<Amount> {
    let money = shares.iter().try_fold(0_i64, |sum, share| sum.checked_add(share.net))?;
    if money <= 0 {
        return Some(Amount::ZERO);
    }
    match on_upgrade {
        OnUpgrade::None => Some(Amount::ZERO),
        OnUpgrade::ProratedDelta => {
            let sum = shares.iter().try_fold(0_i128, |sum, share| sum.checked_add(prorated(share)?))?;
            Amount::new(i64::try_from(sum.max(0)).ok()?).ok()
        }
        OnUpgrade::FullDelta => Some(new.whole.saturating_sub(old.map_or(Amount::ZERO, |share| share.whole))),
        // The next period has begun with the new allowance: there is nothing left to set.
        OnUpgrade::Reset if late => Some(Amount::ZERO),
        OnUpgrade::Reset => Some(new.whole),
    }
}

/// The part of an allowance for which a line pays, rounded down: by money; where the plan refills monthly, by what is left
/// of the month, since the later months of what was paid bring their own.
fn prorated(share: &Share<'_>) -> Option<i128> {
    let credits = i128::from(share.whole.get());
    if credits == 0 || share.net == 0 {
        return Some(0);
    }
    let (part, of) = match share.allowance.map(|allowance| allowance.refill) {
        Some(Refill::Monthly) => {
            let (from, (begin, end)) =
                (share.line.period_start, month_at(share.line.period_start, share.line.period_end));
            let left = i128::from(end.secs()).checked_sub(i128::from(from.secs()))?;
            let month = i128::from(end.secs()).checked_sub(i128::from(begin.secs()))?;
            (left.checked_mul(i128::from(share.net.signum()))?, month)
        }
        _ => (i128::from(share.net), i128::from(share.price).checked_mul(i128::from(share.line.quantity))?),
    };
    credits.checked_mul(part)?.checked_div_euclid(of)
}

/// The month that holds `at`, of those that end with `until` and are counted back from it.
fn month_at(at: Instant, until: Instant) -> (Instant, Instant) {
    let mut end = until;
    for n in 1..=MONTHS_MAX {
        let begin = until.plus_months(n.saturating_neg());
        if begin <= at {
            return (begin, end);
        }
        end = begin;
    }
    (at, until)
}

/// The period that the same invoice begins: of the same price, or of any.
fn next_period(invoice: &InvoicePaid, line: &InvoiceLine) -> Option<(Instant, Instant)> {
    let whole = || invoice.lines.iter().filter(|it| !it.proration && it.period_start < it.period_end);
    let next = whole().find(|it| it.price == line.price).or_else(|| whole().next())?;
    Some((next.period_start, next.period_end))
}
