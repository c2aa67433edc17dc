//! Where an account stands at an instant.

use super::fact::{Item, Snapshot, Status};
use super::fold::{Subscription, Subscriptions, plan_of};
use super::paid::{Paid, Payments};
use super::policy::{OnCancel, Policy, WhileCollectionPaused};
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

/// One subscription at an instant.
struct View {
    /// The tier it gives and that tier's rank, if it gives access.
    access: Option<(TierId, u32)>,
    why: Option<Refusal>,
    stage: Stage,
    current_period_end: Option<Instant>,
    cancel_at: Option<Instant>,
    changes_at: Option<Instant>,
}

/// Where an account with these subscriptions stands at `now`: on the highest-ranked one that gives access, so that
/// the end of a superseded one takes nothing away; else on the default tier; else nowhere. What was paid for them matters
/// to those that have ended: they keep the rest of a period whose money was kept.
#[must_use]
pub fn standing(
    subscriptions: &Subscriptions,
    payments: &Payments,
    policy: &Policy,
    now: Instant,
) -> Standing {
    let views = subscriptions.0.iter().map(|(id, it)| {
        let view = view(it, payments.0.get(id), policy, now);
        (!it.latest.status.is_terminal(), it.latest.created, view)
    });
    let views: Vec<(bool, Instant, View)> = views.collect();
    let changes_at = views.iter().filter_map(|(_, _, view)| view.changes_at).min();
    // Among those that give access the rank decides; among those that do not, the living and the latest tell why.
    let best = views.into_iter().max_by_key(|(alive, created, view)| {
        (
            view.access.as_ref().map(|(_, rank)| *rank),
            view.current_period_end.filter(|_| view.access.is_some()),
            *alive,
            *created,
        )
    });
    let Some((_, _, view)) = best else { return Standing::none(policy.default_tier.clone()) };
    let View { access, why, stage, current_period_end, cancel_at, .. } = view;
    let tier = access.map(|(tier, _)| tier).or_else(|| policy.default_tier.clone());
    Standing { tier, stage, why, current_period_end, cancel_at, changes_at }
}

fn view(subscription: &Subscription, payments: Option<&Paid>, policy: &Policy, now: Instant) -> View {
    let latest = &subscription.latest;
    let planned = subscription.planned.as_ref().and_then(|snapshot| plan_of(snapshot, policy));
    let none = |stage, why| View {
        access: None,
        why: Some(why),
        stage,
        current_period_end: planned.map(|(_, item)| item.period_end),
        cancel_at: latest.ended_at.or(latest.cancel_at),
        changes_at: None,
    };
    let Some((plan, item)) = planned else {
        return none(Stage::NoSubscription, Refusal::NoSubscription); // no price that was ever in the catalog
    };
    let access = |stage, until: Option<Instant>| View {
        access: Some((plan.tier.clone(), plan.rank)),
        why: None,
        stage,
        current_period_end: Some(item.period_end),
        cancel_at: latest.ended_at.or_else(|| scheduled_end(latest, item)),
        changes_at: until,
    };
    match &latest.status {
        Status::Unknown(_) => none(Stage::NoSubscription, Refusal::NoSubscription), // never folded in
        Status::Incomplete => none(Stage::Incomplete, Refusal::Incomplete),
        Status::IncompleteExpired => none(Stage::Expired, Refusal::Expired),
        Status::Unpaid => none(Stage::Unpaid, Refusal::Unpaid),
        Status::Paused => none(Stage::Paused, Refusal::Paused),
        Status::Canceled => {
            let ended = latest.ended_at.unwrap_or(latest.created);
            let back = payments.is_some_and(|paid| paid.is_back(item.period_end, ended));
            canceled(subscription, back, policy, item, now, &access, &none)
        }
        status @ (Status::Trialing | Status::Active | Status::PastDue) => {
            let (stage, mut until, mut why) = match status {
                Status::Trialing => (Stage::Trialing, None, Refusal::Expired),
                Status::Active => (Stage::Active, None, Refusal::Expired),
                _ => {
                    let since = subscription.owing.first().copied().unwrap_or(latest.created);
                    (Stage::PastDue, Some(since.plus(policy.past_due_grace)), Refusal::PastDueGraceOver)
                }
            };
            if latest.collection_paused && policy.while_collection_paused == WhileCollectionPaused::Deny {
                return none(stage, Refusal::Paused);
            }
            // A scheduled end holds even if Stripe's word of it is late.
            let end = scheduled_end(latest, item).map(|end| match policy.on_cancel {
                OnCancel::Immediate => end,
                OnCancel::PeriodEnd => end.max(item.period_end),
            });
            if let Some(end) = end.filter(|end| until.is_none_or(|until| *end < until)) {
                (until, why) = (Some(end), Refusal::Expired);
            }
            match until {
                Some(until) if until <= now => {
                    none(if why == Refusal::Expired { Stage::Expired } else { stage }, why)
                }
                until => access(stage, until),
            }
        }
    }
}

/// A canceled subscription keeps the rest of a paid period, if the catalog says so and it was paid, and not paid back whole.
fn canceled(
    subscription: &Subscription,
    back: bool,
    policy: &Policy,
    item: &Item,
    now: Instant,
    access: &dyn Fn(Stage, Option<Instant>) -> View,
    none: &dyn Fn(Stage, Refusal) -> View,
) -> View {
    let latest = &subscription.latest;
    let paid = subscription.good_at.is_some() && subscription.owing.is_empty() && !back;
    let over = item.period_end <= now;
    if paid && !over && policy.on_cancel == OnCancel::PeriodEnd {
        access(Stage::Canceled, Some(item.period_end))
    } else if latest.trial_end.is_some() && latest.trial_end == latest.ended_at {
        none(Stage::Expired, Refusal::TrialExpired)
    } else if over {
        none(Stage::Expired, Refusal::Expired)
    } else {
        View { changes_at: Some(item.period_end), ..none(Stage::Canceled, Refusal::Canceled) }
    }
}

/// When a living subscription will end, if that is set: newer portals set `cancel_at`, older ones the flag.
pub(super) fn scheduled_end(latest: &Snapshot, item: &Item) -> Option<Instant> {
    latest.cancel_at.or(latest.cancel_at_period_end.then_some(item.period_end))
}
