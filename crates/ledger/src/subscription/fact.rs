//! Facts as they were read from Stripe's events, reduced to what entitlement needs.

use core::fmt;
use serde::{Deserialize, Serialize};
use units::{Amount, Instant};

/// A subscription's status in Stripe's words; the list is open (Stripe's SDKs treat it so since 2026-03-25.dahlia).
///
/// The order decides between two events of the same second: a later stage of the usual life wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Status {
    /// A word that is not known here; it changes nothing and is reported.
    Unknown(String),
    /// The first payment has not succeeded.
    Incomplete,
    /// In a trial.
    Trialing,
    /// Up to date.
    Active,
    /// A trial ended without a way to pay.
    Paused,
    /// A renewal payment failed.
    PastDue,
    /// Retries are exhausted.
    Unpaid,
    /// The first payment was not made in time; terminal.
    IncompleteExpired,
    /// Ended; terminal.
    Canceled,
}

/// One price of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Stripe's `price_…`.
    pub price: String,
    /// How many of it.
    pub quantity: u64,
    /// The paid period of this item; items of one subscription may differ.
    pub period_start: Instant,
    /// See `period_start`.
    pub period_end: Instant,
}

/// A subscription as one event showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Stripe's `sub_…`.
    pub id: String,
    /// Stripe's `cus_…`.
    pub customer: String,
    /// The status in the object; `customer.subscription.deleted` is `Canceled` whatever the object says.
    pub status: Status,
    /// What is subscribed to, `pending_update` left out (it has not happened).
    pub items: Vec<Item>,
    /// When it will end, if that is set.
    pub cancel_at: Option<Instant>,
    /// True if it will end with its period.
    pub cancel_at_period_end: bool,
    /// When it ended.
    pub ended_at: Option<Instant>,
    /// When its trial ends or ended.
    pub trial_end: Option<Instant>,
    /// True if `pause_collection` is set.
    pub collection_paused: bool,
    /// When the event was created: whole seconds, so ties are common.
    pub created: Instant,
    /// Stripe's `evt_…`.
    pub event: String,
}

impl Snapshot {
    /// When it ended for good, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Instant> {
        self.status.is_terminal().then(|| self.ended_at.unwrap_or(self.created))
    }
}

/// An invoice that was paid (`invoice.paid`; the other two events about it are the same fact, by its id).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoicePaid {
    /// Stripe's `in_…`.
    pub id: String,
    /// The subscription it is for.
    pub subscription: Option<String>,
    /// Why it was made: `subscription_create`, `subscription_cycle`, …
    pub billing_reason: String,
    /// When it was paid, or the event says so.
    pub paid_at: Instant,
    /// What was paid, in the currency's minor unit; zero for a trial or a full coupon.
    pub amount_paid: u64,
    /// Stripe's code of its currency, where it says one.
    pub currency: Option<String>,
    /// Its lines, all of them.
    pub lines: Vec<InvoiceLine>,
}

impl InvoicePaid {
    /// True if there was nothing to pay for it, with money or with what the customer had at Stripe: nothing of it can be paid back.
    #[must_use]
    pub fn cost_nothing(&self) -> bool {
        let mut nets = self.lines.iter().map(|line| line.net);
        let sum = nets.try_fold(0_i64, |sum: i64, net| sum.checked_add(net?));
        self.amount_paid == 0 && sum.is_some_and(|sum| sum <= 0)
    }
}

/// One line of an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceLine {
    /// Stripe's `price_…`.
    pub price: String,
    /// How many.
    pub quantity: u64,
    /// True if it is a proration.
    pub proration: bool,
    /// What it costs after discounts, in the currency's minor unit, where it says so; what is paid back is negative.
    pub net: Option<i64>,
    /// The period of service that it pays for.
    pub period_start: Instant,
    /// See `period_start`.
    pub period_end: Instant,
}

/// A package that was paid for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurchasePaid {
    /// The payment intent if there is one, else the checkout session: one purchase, whichever event told it.
    pub key: String,
    /// What was bought, in micro-credits, as the catalog says after amount and currency were compared.
    pub credits: Amount,
    /// When the credits end; [`Instant::FAR`] for never.
    pub expires_at: Instant,
}

impl Status {
    /// True where there is no way back.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::Canceled | Self::IncompleteExpired)
    }

    /// Stripe's word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Unknown(word) => word,
            Self::Incomplete => "incomplete",
            Self::Trialing => "trialing",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::PastDue => "past_due",
            Self::Unpaid => "unpaid",
            Self::IncompleteExpired => "incomplete_expired",
            Self::Canceled => "canceled",
        }
    }
}

impl From<String> for Status {
    fn from(word: String) -> Self {
        match word.as_str() {
            "incomplete" => Self::Incomplete,
            "trialing" => Self::Trialing,
            "active" => Self::Active,
            "paused" => Self::Paused,
            "past_due" => Self::PastDue,
            "unpaid" => Self::Unpaid,
            "incomplete_expired" => Self::IncompleteExpired,
            "canceled" => Self::Canceled,
            _ => Self::Unknown(word),
        }
    }
}

impl From<Status> for String {
    fn from(status: Status) -> String {
        status.as_str().to_owned()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
