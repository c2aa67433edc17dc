//! What a payment grants. Credits come with money only: never with a status, never with a subscription's mere existence.

use super::fact::{InvoiceLine, InvoicePaid, PurchasePaid};
use super::fold::Subscriptions;
use super::policy::Policy;
use crate::grant::{Source, Terms};
use crate::words::words;
use units::{Instant, Unit};

words! {
    /// Why a line of a paid invoice grants nothing.
    pub enum Withheld {
        /// The catalog has no plan of this price: to be looked into.
        UnknownPrice = "unknown_price",
        /// The plan gives no credits.
        NoAllowance = "no_allowance",
        /// A part of a period, charged or credited on a change of plan.
        Proration = "proration",
        /// The invoice was made for a reason that grants nothing (`manual`, `subscription_threshold`, `subscription_update`).
        Reason = "reason",
        /// The invoice does not say why it was made, or says it in a word that is not known: to be looked into.
        UnknownReason = "unknown_reason",
        /// The invoice is for no subscription.
        NoSubscription = "no_subscription",
        /// The subscription has ended: to be looked into.
        Ended = "ended",
        /// Nothing was paid and the subscription is not known yet, so a trial cannot be told from a full coupon: to be
        /// asked again when it is.
        UnknownTrial = "unknown_trial",
        /// The line's period ends before it begins, or the amount is beyond what can be said: to be looked into.
        Nonsense = "nonsense",
    }
}

/// The grants of a paid invoice, line by line: the terms, or why there are none.
///
/// Its origin is `plan:{invoice}:{price}`, so the three events that tell of one payment grant once.
#[must_use]
pub fn allowances(
    invoice: &InvoicePaid,
    subscriptions: &Subscriptions,
    policy: &Policy,
) -> Vec<Result<Terms, Withheld>> {
    invoice.lines.iter().map(|line| allowance(invoice, line, subscriptions, policy)).collect()
}

fn allowance(
    invoice: &InvoicePaid,
    line: &InvoiceLine,
    subscriptions: &Subscriptions,
    policy: &Policy,
) -> Result<Terms, Withheld> {
    let id = invoice.subscription.as_ref().ok_or(Withheld::NoSubscription)?;
    match invoice.billing_reason.as_str() {
        reason if REASONS.contains(&reason) => {}
        reason if REASONS_OF_NOTHING.contains(&reason) => return Err(Withheld::Reason),
        _ => return Err(Withheld::UnknownReason),
    }
    if line.proration {
        return Err(Withheld::Proration);
    }
    let plan = policy.plans.get(&line.price).ok_or(Withheld::UnknownPrice)?;
    let allowance = plan.allowance.ok_or(Withheld::NoAllowance)?;
    let latest = subscriptions.0.get(id).map(|it| &it.latest);
    if latest.is_none() && invoice.amount_paid == 0 {
        return Err(Withheld::UnknownTrial);
    }
    let ended = latest.filter(|it| it.status.is_terminal()).map(|it| it.ended_at.unwrap_or(it.created));
    if ended.is_some_and(|ended| ended <= invoice.paid_at) {
        return Err(Withheld::Ended);
    }
    // Its end may have been moved since the invoice was made; then a line that cost nothing and began before the end is of it.
    let trial = latest
        .and_then(|it| it.trial_end)
        .is_some_and(|end| end == line.period_end || invoice.amount_paid == 0 && line.period_start < end);
    let each = if trial { allowance.trial_credits } else { allowance.credits };
    if line.quantity == 0 {
        return Err(Withheld::NoAllowance);
    }
    let seats = if allowance.per_seat { line.quantity } else { 1 };
    let seats = u32::try_from(seats).map_err(|_| Withheld::Nonsense)?;
    let amount = each.checked_mul(seats).ok_or(Withheld::Nonsense)?;
    if amount.is_zero() {
        return Err(Withheld::NoAllowance);
    }
    if line.period_end <= line.period_start {
        return Err(Withheld::Nonsense);
    }
    Ok(Terms {
        unit: Unit::Credits,
        scope: String::new(),
        source: Source::Subscription,
        source_ref: format!("plan:{}:{}", invoice.id, line.price),
        priority: allowance.priority,
        starts_at: line.period_start,
        expires_at: line.period_end.plus(allowance.expiry_grace),
        amount,
    })
}

/// Reasons of an invoice that pay for a whole period. `subscription` is an older name of the first two.
const REASONS: [&str; 4] = ["subscription_create", "subscription_cycle", "subscription", "quote_accept"];

/// Reasons of an invoice that pays for something else. Both lists together are all that Stripe has (API, `invoice.billing_reason`).
const REASONS_OF_NOTHING: [&str; 5] = [
    "manual",
    "subscription_update",
    "subscription_threshold",
    "upcoming",
    "automatic_pending_invoice_item_invoice",
];

/// The grant of a paid package. Its origin is `buy:{key}`.
#[must_use]
pub fn purchase(paid: &PurchasePaid, priority: i64) -> Terms {
    Terms {
        unit: Unit::Credits,
        scope: String::new(),
        source: Source::Purchase,
        source_ref: format!("buy:{}", paid.key),
        priority,
        starts_at: Instant::EPOCH,
        expires_at: paid.expires_at,
        amount: paid.credits,
    }
}
