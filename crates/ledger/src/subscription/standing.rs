//! Where an account stands at an instant.

use super::fold::Subscriptions;
use super::policy::Policy;
use crate::outcome::Refusal;
use crate::words::words;
use units::{Instant, TierId};

words! {
    /// Stages of a subscription.
    pub enum Stage {
        /// A customer without one.
        NoSubscription = "no_subscription",
        /// The first payment has not succeeded yet.
        Incomplete = "incomplete",
        /// In a trial period.
        Trialing = "trialing",
        /// Paid up.
        Active = "active",
        /// A renewal failed; within or past its grace.
        PastDue = "past_due",
        /// Retries are exhausted.
        Unpaid = "unpaid",
        /// A trial ended without a way to pay.
        Paused = "paused",
        /// Ended, with access until the paid period is over.
        Canceled = "canceled",
        /// Ended.
        Expired = "expired",
    }
}

/// Tier and stage, and why not more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// By which requests are judged; `None`: no request may pass, for the reason `why`.
    pub tier: Option<TierId>,
    /// The stage of the subscription that counts.
    pub stage: Stage,
    /// Why no subscription gives a tier, where none does. With a tier, that tier is the catalog's default.
    pub why: Option<Refusal>,
    /// When the period of the subscription that counts ends.
    pub current_period_end: Option<Instant>,
    /// When it will end or ended for good, if that is known.
    pub cancel_at: Option<Instant>,
    /// When time alone changes this: ask [`standing`] again from then on.
    pub changes_at: Option<Instant>,
}

impl Standing {
    /// A customer who has no subscription.
    #[must_use]
    pub fn none(default_tier: Option<TierId>) -> Self {
        Self {
            tier: default_tier,
            stage: Stage::NoSubscription,
            why: Some(Refusal::NoSubscription),
            current_period_end: None,
            cancel_at: None,
            changes_at: None,
        }
    }

    /// True if time alone may have changed it by `now`: it must be computed and set again before a need is decided.
    #[must_use]
    pub fn is_stale(&self, now: Instant) -> bool {
        self.changes_at.is_some_and(|at| at <= now)
    }
}

/// Where an account with these subscriptions stands at `now`.
#[must_use]
pub fn standing(subscriptions: &Subscriptions, policy: &Policy, now: Instant) -> Standing {
    let _ = (subscriptions, now);
    Standing::none(policy.default_tier.clone())
}
