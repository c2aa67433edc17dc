//! Every reason for which a customer can be turned away, and what they are told.
//!
//! A refusal is a correct answer. What the world does wrong is a fault and is not in this list, with one
//! exception: `service_unavailable` is what a client sees of it.

use serde::{Deserialize, Serialize};
use units::{Amount, Instant};

/// Why a request may not pass. The order is the precedence: where several hold, the first is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nobody said who is asking, or nobody could verify it.
    Unauthenticated,
    /// A well-formed credential that belongs to nobody.
    UnknownCustomer,
    /// No rule prices this request.
    EndpointUnknown,
    /// The account was suspended by an operator.
    Suspended,
    /// A payment is disputed.
    DisputedHold,
    /// A trial ended without a way to pay.
    Paused,
    /// The first payment has not succeeded.
    Incomplete,
    /// The trial is over.
    TrialExpired,
    /// The grace after a failed renewal is over.
    PastDueGraceOver,
    /// Retries of a failed payment are exhausted.
    Unpaid,
    /// The subscription was canceled.
    Canceled,
    /// The subscription ended.
    Expired,
    /// There is no subscription and no default tier.
    NoSubscription,
    /// The tier does not include this endpoint.
    TierNotAllowed,
    /// No price is known for the model asked for.
    ModelUnknown,
    /// A request of the same `Idempotency-Key` is under way.
    RequestInFlight,
    /// The `Idempotency-Key` was used for another request.
    IdempotencyMismatch,
    /// As many requests are under way as the tier allows at once.
    ConcurrencyLimitReached,
    /// The allowance of a window is spent, and there are no credits.
    DailyLimitReached,
    /// Not enough credits.
    InsufficientCredits,
    /// The decision could not be made.
    ServiceUnavailable,
}

impl Reason {
    /// Every reason, in order of precedence.
    pub const ALL: [Reason; 21] = [
        Self::Unauthenticated,
        Self::UnknownCustomer,
        Self::EndpointUnknown,
        Self::Suspended,
        Self::DisputedHold,
        Self::Paused,
        Self::Incomplete,
        Self::TrialExpired,
        Self::PastDueGraceOver,
        Self::Unpaid,
        Self::Canceled,
        Self::Expired,
        Self::NoSubscription,
        Self::TierNotAllowed,
        Self::ModelUnknown,
        Self::RequestInFlight,
        Self::IdempotencyMismatch,
        Self::ConcurrencyLimitReached,
        Self::DailyLimitReached,
        Self::InsufficientCredits,
        Self::ServiceUnavailable,
    ];

    /// As it is written in JSON, headers, logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::UnknownCustomer => "unknown_customer",
            Self::EndpointUnknown => "endpoint_unknown",
            Self::Suspended => "suspended",
            Self::DisputedHold => "disputed_hold",
            Self::Paused => "paused",
            Self::Incomplete => "incomplete",
            Self::TrialExpired => "trial_expired",
            Self::PastDueGraceOver => "past_due_grace_over",
            Self::Unpaid => "unpaid",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
            Self::NoSubscription => "no_subscription",
            Self::TierNotAllowed => "tier_not_allowed",
            Self::ModelUnknown => "model_unknown",
            Self::RequestInFlight => "request_in_flight",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::ConcurrencyLimitReached => "concurrency_limit_reached",
            Self::DailyLimitReached => "daily_limit_reached",
            Self::InsufficientCredits => "insufficient_credits",
            Self::ServiceUnavailable => "service_unavailable",
        }
    }

    /// The status that a client sees unless the catalog maps it elsewhere: 402 where paying fixes it, 403 where
    /// the plan does not include it, 401 where nobody knows who is asking, 429 and 503 where waiting helps.
    #[must_use]
    pub const fn default_status(self) -> u16 {
        match self {
            Self::Unauthenticated | Self::UnknownCustomer => 401,
            Self::NoSubscription
            | Self::InsufficientCredits
            | Self::Canceled
            | Self::PastDueGraceOver
            | Self::Unpaid
            | Self::Incomplete
            | Self::TrialExpired
            | Self::Expired
            | Self::DailyLimitReached => 402,
            Self::TierNotAllowed
            | Self::ModelUnknown
            | Self::DisputedHold
            | Self::Paused
            | Self::Suspended
            | Self::EndpointUnknown => 403,
            // draft-ietf-httpapi-idempotency-key-header-07, section 2.7.
            Self::RequestInFlight => 409,
            Self::IdempotencyMismatch => 422,
            Self::ConcurrencyLimitReached => 429,
            Self::ServiceUnavailable => 503,
        }
    }

    /// A short title for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Unauthenticated => "Authentication required",
            Self::UnknownCustomer => "Unknown API key",
            Self::EndpointUnknown => "Not offered here",
            Self::Suspended => "Account suspended",
            Self::DisputedHold => "Account on hold",
            Self::Paused => "Subscription paused",
            Self::Incomplete => "First payment incomplete",
            Self::TrialExpired => "Trial ended",
            Self::PastDueGraceOver => "Payment overdue",
            Self::Unpaid => "Payment failed",
            Self::Canceled => "Subscription canceled",
            Self::Expired => "Subscription ended",
            Self::NoSubscription => "Subscription required",
            Self::TierNotAllowed => "Not in your plan",
            Self::ModelUnknown => "Model not offered",
            Self::RequestInFlight => "Request in flight",
            Self::IdempotencyMismatch => "Key used before",
            Self::ConcurrencyLimitReached => "Too many requests at once",
            Self::DailyLimitReached => "Allowance used up",
            Self::InsufficientCredits => "Credits used up",
            Self::ServiceUnavailable => "Billing unavailable",
        }
    }

    /// What happened and what to do, for people.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Unauthenticated => "Send a valid API key or token in the Authorization header.",
            Self::UnknownCustomer => "This API key belongs to no customer, or was revoked. Create a new one.",
            Self::EndpointUnknown => "This method and path are not offered by this API.",
            Self::Suspended => "This account was suspended. Contact support.",
            Self::DisputedHold => "A payment is disputed; access returns when the dispute is settled.",
            Self::Paused => "The trial ended without a payment method. Add one to resume.",
            Self::Incomplete => "The first payment has not succeeded. Complete it to start the subscription.",
            Self::TrialExpired => "The trial is over. Subscribe to continue.",
            Self::PastDueGraceOver => {
                "A renewal payment failed and its grace period is over. Update the payment method."
            }
            Self::Unpaid => "Payment failed repeatedly. Pay the open invoice to continue.",
            Self::Canceled => "The subscription was canceled. Subscribe again to continue.",
            Self::Expired => "The subscription has ended. Subscribe again to continue.",
            Self::NoSubscription => "This API needs a subscription.",
            Self::TierNotAllowed => "Your plan does not include this. Upgrade to use it.",
            Self::ModelUnknown => "This model is not offered here. Ask for another one.",
            Self::RequestInFlight => {
                "A request with this Idempotency-Key is under way. Try again when it has ended."
            }
            Self::IdempotencyMismatch => "This Idempotency-Key was used for another request. Use a new one.",
            Self::ConcurrencyLimitReached => {
                "Your plan allows only so many requests at once. Wait until one of them has ended."
            }
            Self::DailyLimitReached => {
                "The free allowance is used up. Buy credits, upgrade, or wait until it resets."
            }
            Self::InsufficientCredits => "Not enough credits for this request. Buy credits or upgrade.",
            Self::ServiceUnavailable => {
                "The request could not be checked just now and was not charged. Try again."
            }
        }
    }
}

/// A reason together with everything the client is told; the catalog has already had its say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The HTTP status to answer with, 400 to 599.
    pub status: u16,
    /// A short title for people.
    pub title: String,
    /// What happened and what to do, for people.
    pub detail: String,
    /// Available − debt, in micro-credits; absent where nobody is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance_micro: Option<i64>,
    /// What the request would have cost, in micro-credits; absent where no price applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_micro: Option<Amount>,
    /// When a window refills, where one applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<Instant>,
    /// Where to change plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_url: Option<String>,
    /// Where to buy credits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buy_url: Option<String>,
    /// After how many seconds it is worth asking again; absent where waiting does not help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// For how long a gateway may give the same answer without asking, in milliseconds; 0 means always ask.
    pub remember_ms: u64,
    /// The payer that the answer is about and the epoch in which it holds; absent where nobody is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<units::AccountId>,
    /// See [`super::Standing::epoch`].
    pub epoch: u64,
}

impl Refusal {
    /// A refusal in the words of [`Reason`], about nobody in particular.
    #[must_use]
    pub fn plain(reason: Reason) -> Self {
        Self {
            reason,
            status: reason.default_status(),
            title: reason.title().to_owned(),
            detail: reason.detail().to_owned(),
            balance_micro: None,
            required_micro: None,
            resets_at: None,
            upgrade_url: None,
            buy_url: None,
            retry_after_s: None,
            remember_ms: 0,
            payer: None,
            epoch: 0,
        }
    }
}
