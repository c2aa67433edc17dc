//! What a catalog says about subscriptions.

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
}

/// What subscribing to a price gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The tier.
    pub tier: TierId,
    /// Higher wins among several subscriptions.
    pub rank: u32,
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
