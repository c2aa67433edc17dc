//! What a catalog says about subscriptions.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use units::{Amount, Span, TierId};

/// The part of a catalog by which facts become a standing and grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Plans by Stripe price.
    pub plans: BTreeMap<String, Plan>,
    /// The tier of an account that no subscription gives one; `None` denies.
    pub default_tier: Option<TierId>,
    /// How long a failed renewal keeps access.
    pub past_due_grace: Span,
    /// What a cancellation ends.
    pub on_cancel: OnCancel,
    /// Whether paused collection keeps access.
    pub while_collection_paused: WhileCollectionPaused,
    /// Stripe's code of the currency in which [`Plan::price`] is.
    pub currency: String,
}

/// What subscribing to a price gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The tier.
    pub tier: TierId,
    /// Higher wins among several subscriptions.
    pub rank: u32,
    /// What one of it costs for a whole period, in the smallest unit of the currency.
    pub price: u64,
    /// Credits for each paid period, where there are any.
    pub allowance: Option<Allowance>,
}

/// Credits for each paid period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Micro-credits for a paid period.
    pub credits: Amount,
    /// Micro-credits for a trial period.
    pub trial_credits: Amount,
    /// True if they are multiplied by the quantity.
    pub per_seat: bool,
    /// How long after the period they may still be spent (a renewal is paid some time after it begins).
    pub expiry_grace: Span,
    /// The priority of the grants.
    pub priority: i64,
    /// What becomes of those that were not spent in their period.
    pub rollover: Rollover,
    /// What a change to this plan within a period gives.
    pub on_upgrade: OnUpgrade,
    /// How often they come.
    pub refill: Refill,
}

/// What becomes of credits that were not spent in their period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rollover {
    /// They end with it (and its grace), or as soon as the next one begins.
    #[default]
    None,
    /// They never end.
    All,
    /// They never end by time; when the next allowance comes, so many of the oldest end that all together are at most this.
    Cap(Amount),
}

/// What a change to a dearer plan within a period gives, once it is paid. Whatever it is, the credits of one period never
/// exceed the largest allowance among the plans of that period, so that going up and down brings nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUpgrade {
    /// Nothing: the new allowance comes with the next period.
    None,
    /// The part of the new allowance that was paid for, less the part of the old one that was paid back.
    #[default]
    ProratedDelta,
    /// The new allowance less the old one.
    FullDelta,
    /// The period's credits become the new allowance: what was granted in it already counts towards it.
    Reset,
}

/// How often an allowance comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refill {
    /// Once for each paid period.
    #[default]
    Period,
    /// Every month of a paid period, on the day of the month on which it began, or on the last of a shorter month.
    Monthly,
}

/// What a cancellation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCancel {
    /// Access, at once.
    Immediate,
    /// Access, when the paid period is over.
    PeriodEnd,
}

/// Whether a subscription whose collection is paused keeps access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhileCollectionPaused {
    /// It keeps it.
    Allow,
    /// It loses it.
    Deny,
}
