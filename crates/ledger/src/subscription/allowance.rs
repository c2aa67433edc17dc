//! What a payment grants. Credits come with money only: never with a status, never with a subscription's mere existence.

use super::change::change;
use super::fact::{InvoiceLine, InvoicePaid, PurchasePaid};
use super::fold::Subscriptions;
use super::paid::{Paid, Part, PartKind, Payments, rollover, whole};
use super::policy::{Policy, Refill, Rollover};
use super::refill::first_month;
use crate::grant::{Source, Terms};
use crate::words::words;
use units::{Amount, Instant, Unit};

words! {
    /// Why a line of a paid invoice grants nothing.
    pub enum Withheld {
        /// The catalog has no plan of this price: to be looked into.
        UnknownPrice = "unknown_price",
        /// In a change of plan something was paid back that the catalog has no plan of: to be looked into.
        UnknownPlan = "unknown_plan",
        /// The plan gives no credits.
        NoAllowance = "no_allowance",
        /// A part of a period, charged or credited on a change of plan; all of them together are the change.
        Proration = "proration",
        /// A change of plan that was not paid for, or for which the catalog gives nothing.
        NoUpgrade = "no_upgrade",
        /// The largest allowance of this period was granted already.
        Capped = "capped",
        /// It granted before what it grants.
        Known = "known",
        /// The invoice was made for a reason that pays for no whole period (`manual`, `subscription_threshold`).
        Reason = "reason",
        /// The invoice does not say why it was made, or says it in a word that is not known: to be looked into.
        UnknownReason = "unknown_reason",
        /// The invoice is for no subscription.
        NoSubscription = "no_subscription",
        /// The subscription has ended: to be looked into.
        Ended = "ended",
        /// Collection is paused: to be asked again when it is not.
        Paused = "paused",
        /// Nothing was paid and the subscription is not known yet, so a trial cannot be told from a full coupon: to be
        /// asked again when it is.
        UnknownTrial = "unknown_trial",
        /// A part of a price in another currency than the catalog's: to be looked into.
        Currency = "currency",
        /// A change of plan that was paid for when what it brings could be spent no more: to be looked into.
        Late = "late",
        /// The line's period ends before it begins, it does not say what it costs where that matters, or the amount is
        /// beyond what can be said: to be looked into.
        Nonsense = "nonsense",
    }
}

/// The grants of a paid invoice: for each line the terms, or why there are none; and, where it tells of a change of plan,
/// one more for all of that. What they depend on is entered into `payments`, to be kept with the grants.
///
/// Origins are `plan:{invoice}:{price}` and `upgrade:{invoice}`, so the three events that tell of one payment grant once.
/// The sum of what the parts of a period grant does not depend on their order; where a cap binds, which of them grants
/// less does. (Where periods that began with a change cut off one another several times, it may matter to the sum too.)
/// A payment is judged by what is known of its subscription when it is told: if it was made after collection was paused, and is
/// told before that is, it grants. (If it was made after the end, that is taken back when the end is told: [`super::undue`].)
#[must_use]
pub fn allowances(
    invoice: &InvoicePaid,
    payments: &mut Payments,
    subscriptions: &Subscriptions,
    policy: &Policy,
) -> Vec<Result<Terms, Withheld>> {
    let may = permitted(invoice, subscriptions);
    let mut paid = invoice.subscription.as_ref().and_then(|id| payments.0.remove(id)).unwrap_or_default();
    let mut all: Vec<Result<Terms, Withheld>> = Vec::new();
    let whole = if pays_for_nothing_whole(invoice) { Err(Withheld::Reason) } else { may };
    for line in &together(&invoice.lines) {
        let may = if line.proration { may } else { whole };
        all.push(may.and_then(|()| period(invoice, line, &mut paid, subscriptions, policy)));
    }
    if may.is_ok() && invoice.lines.iter().any(|line| line.proration) {
        all.extend(change(invoice, &mut paid, policy).transpose());
    }
    if let Some(id) = invoice.subscription.as_ref().filter(|_| !paid.0.is_empty()) {
        payments.0.insert(id.clone(), paid);
    }
    all
}

/// Lines of one price for one period are one: Stripe writes a line for each step of a graduated price (Stripe, "Tiered pricing").
fn together(lines: &[InvoiceLine]) -> Vec<InvoiceLine> {
    let mut all: Vec<InvoiceLine> = Vec::new();
    for line in lines {
        let same = |known: &&mut InvoiceLine| {
            let period = (known.period_start, known.period_end) == (line.period_start, line.period_end);
            !known.proration && !line.proration && known.price == line.price && period
        };
        match all.iter_mut().find(same) {
            Some(known) => {
                known.quantity = known.quantity.saturating_add(line.quantity);
                known.net = known.net.zip(line.net).and_then(|(one, other)| one.checked_add(other));
            }
            None => all.push(line.clone()),
        }
    }
    all
}

/// Whether an invoice may grant anything.
fn permitted(invoice: &InvoicePaid, subscriptions: &Subscriptions) -> Result<(), Withheld> {
    let id = invoice.subscription.as_ref().ok_or(Withheld::NoSubscription)?;
    match invoice.billing_reason.as_str() {
        CHANGE => {}
        reason if REASONS.contains(&reason) => {}
        _ if pays_for_nothing_whole(invoice) => {}
        _ => return Err(Withheld::UnknownReason),
    }
    let Some(known) = subscriptions.0.get(id) else { return Ok(()) };
    if known.latest.ended().is_some_and(|ended| ended <= invoice.paid_at) {
        return Err(Withheld::Ended);
    }
    if known.paused_since().is_some_and(|paused| paused <= invoice.paid_at) {
        return Err(Withheld::Paused);
    }
    Ok(())
}

/// A line that pays for a whole period.
fn period(
    invoice: &InvoicePaid,
    line: &InvoiceLine,
    paid: &mut Paid,
    subscriptions: &Subscriptions,
    policy: &Policy,
) -> Result<Terms, Withheld> {
    if line.proration {
        return Err(Withheld::Proration);
    }
    let plan = policy.plans.get(&line.price).ok_or(Withheld::UnknownPrice)?;
    let allowance = plan.allowance.as_ref();
    let subscription = invoice.subscription.as_ref().and_then(|id| subscriptions.0.get(id));
    // Something else on the invoice may have cost something, a fee for setting up.
    let free = invoice.amount_paid == 0 || line.net == Some(0);
    if subscription.is_none() && free {
        return Err(Withheld::UnknownTrial);
    }
    // Its end may have been moved since the invoice was made; then a line that cost nothing and began before the end is of it.
    let trial = subscription
        .and_then(|it| it.latest.trial_end)
        .is_some_and(|end| end == line.period_end || free && line.period_start < end);
    if line.quantity == 0 {
        return Err(Withheld::NoAllowance);
    }
    if line.period_end <= line.period_start {
        return Err(Withheld::Nonsense);
    }
    let (kind, each) = match (trial, invoice.billing_reason.as_str()) {
        (true, _) => (PartKind::Trial, allowance.map(|allowance| allowance.trial_credits)),
        (false, CHANGE) => (PartKind::Anew, allowance.map(|allowance| allowance.credits)),
        (false, _) => (PartKind::Period, allowance.map(|allowance| allowance.credits)),
    };
    // A period that brings nothing is entered all the same: it may end another, and a change within it may bring something.
    let due = match allowance.zip(each) {
        Some((allowance, each)) => whole(each, allowance, line.quantity).ok_or(Withheld::Nonsense)?,
        None => Amount::ZERO,
    };
    if due.is_zero() && trial {
        return Err(Withheld::NoAllowance);
    }
    let to = match allowance.map(|allowance| allowance.refill) {
        Some(Refill::Monthly) if !trial => first_month(line.period_start, line.period_end),
        _ => line.period_end,
    };
    // Of a trial nothing is kept: nobody paid for it.
    let rest = match allowance.filter(|_| !trial) {
        Some(allowance) => rollover(allowance, line.quantity),
        None => Some(Rollover::None),
    };
    let replaces = replaced(invoice, line, policy).filter(|_| kind == PartKind::Anew);
    let part = Part {
        kind,
        price: line.price.clone(),
        quantity: line.quantity,
        replaces,
        from: line.period_start,
        to,
        until: line.period_end,
        paid_at: invoice.paid_at,
        due,
        most: due,
        granted: Amount::ZERO,
        starts_at: line.period_start,
        ends_at: to,
        rollover: rest.ok_or(Withheld::Nonsense)?,
        stopped: false,
        held_back: Amount::ZERO,
        free: invoice.cost_nothing(),
    };
    let entered = enter(paid, format!("plan:{}:{}", invoice.id, line.price), part, policy);
    entered
        .map_err(|why| if due.is_zero() && why == Withheld::NoUpgrade { Withheld::NoAllowance } else { why })
}

/// The price that a line for a whole period takes the place of: a plan of which the rest is paid back on the same invoice,
/// whatever else is paid back beside it. It may have cost nothing, by a coupon; and what another line goes on with, that one
/// takes the place of.
fn replaced(invoice: &InvoicePaid, line: &InvoiceLine, policy: &Policy) -> Option<String> {
    let goes_on = |price: &str| {
        price != line.price && invoice.lines.iter().any(|it| !it.proration && it.price == price)
    };
    let paid_back = |it: &&InvoiceLine| it.proration && it.net.is_some_and(|net| net <= 0);
    let lines = invoice.lines.iter().filter(paid_back).filter(|it| !goes_on(&it.price));
    let plans = lines.filter_map(|it| Some((policy.plans.get(&it.price)?.rank, it)));
    plans.max_by_key(|(rank, _)| *rank).map(|(_, it)| it.price.clone())
}

/// Enters a part, once, and says what is granted for it.
pub(super) fn enter(paid: &mut Paid, origin: String, part: Part, policy: &Policy) -> Result<Terms, Withheld> {
    if paid.0.contains_key(&origin) {
        return Err(Withheld::Known);
    }
    let Some(allowance) = policy.plans.get(&part.price).and_then(|plan| plan.allowance.as_ref()) else {
        // A plan without credits is a change all the same: what depends on it is what comes later.
        paid.0.insert(origin, Part { due: Amount::ZERO, granted: Amount::ZERO, ..part });
        return Err(Withheld::NoAllowance);
    };
    let nothing = part.due.is_zero();
    let granted = paid.enter(origin.clone(), part).ok_or(Withheld::Nonsense)?;
    match paid.0.get(&origin) {
        Some(part) if !granted.is_zero() => Ok(part.terms(&origin, allowance)),
        _ if nothing => Err(Withheld::NoUpgrade),
        _ => Err(Withheld::Capped),
    }
}

/// The reason of an invoice that bills a change of plan at once. A line that is no part of a period pays for a whole one,
/// which begins with the change.
pub const CHANGE: &str = "subscription_update";

/// Reasons of an invoice that pay for a whole period. `subscription` is an older name of the first two.
const REASONS: [&str; 4] = ["subscription_create", "subscription_cycle", "subscription", "quote_accept"];

/// Reasons of an invoice that pays for no whole period. With [`CHANGE`] all three are all that Stripe has (API,
/// `invoice.billing_reason`). What a change of plan costs may be on any of them: its lines wait for the next invoice, and where
/// the subscription has a `pending_invoice_item_interval`, or somebody makes an invoice by hand, that is not the next period's.
const REASONS_OF_PARTS: [&str; 4] =
    ["manual", "subscription_threshold", "upcoming", "automatic_pending_invoice_item_invoice"];

/// True if no line of an invoice pays for a whole period.
pub(super) fn pays_for_nothing_whole(invoice: &InvoicePaid) -> bool {
    REASONS_OF_PARTS.contains(&invoice.billing_reason.as_str())
}

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
