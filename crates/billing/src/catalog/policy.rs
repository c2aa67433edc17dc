//! The catalog in the ledger's words: plans, windows, lanes.

use super::zone::Stretch;
use super::{Catalog, ToHold};
use ledger::subscription::{self, OnCancel, Plan, WhileCollectionPaused};
use ledger::{Lane, Leg, WindowRule};
use units::{Amount, EndpointId, Instant, TierId, Unit};

/// What is spent first has the lower number; windows come first by their lane.
const PRIORITY_WINDOW: i64 = 0;
/// Credits of a plan end soon, so they go before those that were bought.
const PRIORITY_PLAN: i64 = 10;
/// Bought or given credits.
pub const PRIORITY_BOUGHT: i64 = 20;

impl Catalog {
    /// What the ledger needs to know to fold Stripe's facts.
    #[must_use]
    pub fn policy(&self) -> subscription::Policy {
        let plans = self.tiers.iter().flat_map(|(id, tier)| {
            tier.prices.iter().map(move |price| {
                let allowance = tier.allowance.map(|allowance| subscription::Allowance {
                    credits: allowance.credits,
                    trial_credits: allowance.trial_credits,
                    per_seat: allowance.per_seat,
                    expiry_grace: allowance.expiry_grace,
                    priority: PRIORITY_PLAN,
                    rollover: allowance.rollover,
                    on_upgrade: allowance.on_upgrade,
                    refill: allowance.refill,
                });
                let plan = Plan { tier: id.clone(), rank: tier.rank, price: price.amount, allowance };
                (price.id.clone(), plan)
            })
        });
        subscription::Policy {
            plans: plans.collect(),
            default_tier: self.default_tier.clone(),
            past_due_grace: self.policies.past_due_grace,
            on_cancel: if self.policies.cancel_keeps_period {
                OnCancel::PeriodEnd
            } else {
                OnCancel::Immediate
            },
            while_collection_paused: if self.policies.access_while_paused {
                WhileCollectionPaused::Allow
            } else {
                WhileCollectionPaused::Deny
            },
            currency: self.currency.clone(),
        }
    }

    /// The ways to pay for one request, in order: what the tier gives for free at `now`, then credits.
    #[must_use]
    pub fn lanes(&self, tier: Option<&TierId>, id: &EndpointId, size: ToHold, now: Instant) -> Vec<Lane> {
        let windows = tier.into_iter().flat_map(|tier| self.windows(tier, id));
        let free = windows.filter_map(|(name, window)| {
            let Stretch { from, to, label } = window.zone.stretch(window.period, now)?;
            let rule = WindowRule {
                name: name.clone(),
                limit: window.limit,
                priority: PRIORITY_WINDOW,
                source_ref: format!("{name}#{label}"),
                starts_at: from,
                expires_at: to,
            };
            let (scope, need) = (name.clone(), Amount::ONE);
            Some(Leg {
                unit: Unit::Requests,
                scope,
                need,
                least: None,
                ahead: Amount::ZERO,
                window: Some(rule),
            })
        });
        let ToHold { hold: need, least } = size;
        let paid =
            Leg { unit: Unit::Credits, scope: String::new(), need, least, ahead: Amount::ZERO, window: None };
        free.chain([paid]).map(|leg| Lane { legs: vec![leg] }).collect()
    }
}
