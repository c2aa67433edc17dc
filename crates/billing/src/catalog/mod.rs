//! What a product sells: tiers, packages, prices of endpoints, policies, and what refused customers are told.
//!
//! Resolved once, at start, from one YAML file; afterwards it only answers questions. It knows no customer.

mod gateway;
mod plans;
mod policies;
mod policy;
mod price;
mod read;
mod tree;
mod zone;

pub use ledger::subscription::{OnUpgrade, PackagesFor, Refill, Rollover};
pub use policy::PRIORITY_BOUGHT;
pub use price::{Cost, ToHold};
pub use zone::Zone;

use crate::complaint::Complaints;
use contract::v1::{Reason, Refusal};
use ledger::{Exposure, Shortfall};
use std::collections::{BTreeMap, BTreeSet};
use units::{Amount, EndpointId, Span, TierId};

/// A product, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    /// Its name.
    pub product: String,
    /// Stripe's lower-case code of the one currency it is sold in.
    pub currency: String,
    /// The tier of an account without a subscription; none means that such accounts are refused.
    pub default_tier: Option<TierId>,
    /// Keys of Stripe's metadata that name an account, the first one found wins.
    pub account_keys: Vec<String>,
    /// Keys of Stripe's metadata that name a package.
    pub package_keys: Vec<String>,
    /// Keys of Stripe's metadata that name a kind of [`Purchase`].
    pub purchase_keys: Vec<String>,
    /// Whether `client_reference_id` names an account. Payment Links let anybody write one into the URL
    /// (Stripe, "Payment Links: URL parameters").
    pub trust_client_reference_id: bool,
    /// Whether the account is Stripe's customer, under its id: for a product that has no users of its own. Then nothing that
    /// an event says besides names one.
    pub customer_is_account: bool,
    /// What happens when payment falters.
    pub policies: Policies,
    /// By id.
    pub tiers: BTreeMap<TierId, Tier>,
    /// By id.
    pub packages: BTreeMap<String, Package>,
    /// What is bought once and brings no credits, by the kind that metadata names.
    pub purchases: BTreeMap<String, Purchase>,
    /// By id.
    pub endpoints: BTreeMap<EndpointId, Endpoint>,
    /// What refused customers are told.
    pub refusals: Refusals,
    /// What others are told of, where there is somebody to tell.
    pub notify: Notify,
    /// Changes whenever a price does; at most 2^53 − 1.
    pub price_version: u64,
}

/// What happens when payment falters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policies {
    /// How long a failed renewal is overlooked.
    pub past_due_grace: Span,
    /// Whether a canceled subscription lasts until the end of what was paid.
    pub cancel_keeps_period: bool,
    /// Whether access lasts while Stripe's `pause_collection` is set.
    pub access_while_paused: bool,
    /// Who may buy packages.
    pub packages_for: PackagesFor,
    /// Whether credits are held for an inquiry too, which takes no money yet (Stripe, "Disputes": inquiries).
    pub hold_on_inquiry: bool,
    /// What becomes of usage beyond what is left of a plan's credits after a refund.
    pub plan_over_revoke: Shortfall,
    /// What becomes of usage that nothing covers: of what an estimate fell short of.
    pub shortfall: Shortfall,
    /// How far a gateway may be ahead of what it told: what a crash can cost, and how long an outage is ridden out. `None` if
    /// that is left to who bears a crash.
    pub exposure: Option<Exposure>,
    /// What a client's repetition of a request is.
    pub retries: Retries,
}

/// When what was charged for a request that a client names and repeats (`Idempotency-Key`) counts for its repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// For how long after the first.
    pub window: Span,
    /// How many repetitions of a charged request are charged only for what they cost beyond it.
    pub most: u32,
}

/// A level of service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Of several subscriptions the highest rank counts.
    pub rank: u32,
    /// What a subscriber counts for in `benefits`; none while that is undecided, and then no sum counts one as nothing.
    pub weight: Option<u64>,
    /// Stripe's prices that buy it.
    pub prices: Vec<TierPrice>,
    /// Credits that each paid period brings.
    pub allowance: Option<Allowance>,
    /// Free requests that refill, by name.
    pub windows: BTreeMap<String, Window>,
    /// How many requests an account's credits may pay for at once; `None` for any number.
    pub at_once: Option<u32>,
    /// Sent to the upstream as headers.
    pub attributes: BTreeMap<String, String>,
}

/// One of Stripe's prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierPrice {
    /// Stripe's `price_…`.
    pub id: String,
    /// What a period costs, in the smallest unit of the currency.
    pub amount: u64,
}

/// Credits that a paid period brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// How many per period.
    pub credits: Amount,
    /// How many for a trial.
    pub trial_credits: Amount,
    /// How long they last beyond the period, since renewals are paid late (Stripe finalises an invoice about
    /// an hour after the period began).
    pub expiry_grace: Span,
    /// What becomes of those that were not spent in their period.
    pub rollover: Rollover,
    /// What a change to this tier within a period gives.
    pub on_upgrade: OnUpgrade,
    /// How often they come.
    pub refill: Refill,
    /// True if they are multiplied by the quantity that was bought.
    pub per_seat: bool,
}

/// Free requests that refill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// What it is good for.
    pub endpoints: BTreeSet<EndpointId>,
    /// How many requests.
    pub limit: Amount,
    /// When it refills.
    pub period: Period,
    /// Whose midnight that is.
    pub zone: Zone,
}

/// When a window refills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// At midnight.
    Day,
    /// At midnight before the first of the month.
    Month,
    /// Never.
    Lifetime,
}

impl Period {
    /// As a catalog writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Lifetime => "lifetime",
        }
    }
}

/// Credits for sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Stripe's `price_…`.
    pub price: String,
    /// What it costs, in the smallest unit of the currency.
    pub amount: u64,
    /// What it brings.
    pub credits: Amount,
    /// How long the credits last; for ever if absent.
    pub lasts: Option<Span>,
    /// What becomes of usage beyond what is left of the credits after a refund.
    pub on_over_revoke: Shortfall,
    /// Whether an account gets it once only; a second purchase is put to a person.
    pub unique_per_account: bool,
}

/// A kind of thing that is bought once and brings no credits: a listing, a file. What it costs and who earns by it is the
/// product's own affair; here it is remembered that it was paid for, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// Keys of Stripe's metadata that name the thing, the first one found wins.
    pub item_keys: Vec<String>,
    /// Whether an account that pays for the same thing a second time is a mistake.
    pub once: bool,
}

/// A priced kind of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What a request costs.
    pub cost: Cost,
    /// Who may use it; everybody if absent.
    pub tiers: Option<BTreeSet<TierId>>,
}

/// What refused customers are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Where to change plan.
    pub upgrade_url: Option<String>,
    /// Where to buy credits.
    pub buy_url: Option<String>,
    /// Where this product differs from [`Reason`]'s own status and words.
    pub words: BTreeMap<Reason, Words>,
}

/// What others are told of (the outbox), beyond purchases and changes of plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// Below which balance they are told, once each time it falls below.
    pub balance_low: Option<Amount>,
}

/// How one reason is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// The HTTP status.
    pub status: Option<u16>,
    /// A short title.
    pub title: Option<String>,
    /// What to do.
    pub detail: Option<String>,
}

impl Catalog {
    /// Reads a catalog.
    ///
    /// # Errors
    /// Every complaint at once, each with path, value and mend.
    pub fn from_yaml(text: &str) -> Result<Self, Complaints> {
        read::catalog(text)
    }

    /// The tier that one of Stripe's prices buys.
    #[must_use]
    pub fn tier_of_price(&self, price: &str) -> Option<(&TierId, &Tier)> {
        self.tiers.iter().find(|(_, tier)| tier.prices.iter().any(|p| p.id == price))
    }

    /// True if `tier` may use `endpoint`.
    #[must_use]
    pub fn allows(&self, tier: &TierId, endpoint: &Endpoint) -> bool {
        endpoint.tiers.as_ref().is_none_or(|tiers| tiers.contains(tier))
    }

    /// The windows of `tier` that `endpoint` can be paid from, by name.
    pub fn windows<'a>(
        &'a self,
        tier: &TierId,
        endpoint: &'a EndpointId,
    ) -> impl Iterator<Item = (&'a String, &'a Window)> {
        let windows = self.tiers.get(tier).into_iter().flat_map(|tier| &tier.windows);
        windows.filter(move |(_, window)| window.endpoints.contains(endpoint))
    }

    /// A refusal in this product's words, about nobody in particular.
    #[must_use]
    pub fn refusal(&self, reason: Reason) -> Refusal {
        let plain = Refusal::plain(reason);
        let words = self.refusals.words.get(&reason).cloned().unwrap_or_default();
        Refusal {
            status: words.status.unwrap_or(plain.status),
            title: words.title.unwrap_or(plain.title),
            detail: words.detail.unwrap_or(plain.detail),
            upgrade_url: self.refusals.upgrade_url.clone(),
            buy_url: self.refusals.buy_url.clone(),
            // Waiting helps where the service could not decide, and where something under way is in the way; a window says
            // itself when it refills.
            retry_after_s: matches!(
                reason,
                Reason::ServiceUnavailable | Reason::RequestInFlight | Reason::ConcurrencyLimitReached
            )
            .then_some(1),
            ..plain
        }
    }

    /// The account that Stripe's metadata names.
    #[must_use]
    pub fn account_in<'a>(&self, metadata: &'a BTreeMap<String, String>) -> Option<&'a str> {
        self.account_keys.iter().find_map(|key| metadata.get(key)).map(String::as_str)
    }

    /// The kind of purchase that Stripe's metadata tells of, if this product has it.
    #[must_use]
    pub fn purchase_in<'a>(&'a self, metadata: &BTreeMap<String, String>) -> Option<(&'a str, &'a Purchase)> {
        let kind = self.purchase_keys.iter().find_map(|key| metadata.get(key))?;
        self.purchases.get_key_value(kind).map(|(kind, purchase)| (kind.as_str(), purchase))
    }

    /// The package that Stripe's metadata names, whether the catalog has it or not.
    #[must_use]
    pub fn package_in<'a>(&self, metadata: &'a BTreeMap<String, String>) -> Option<&'a str> {
        self.package_keys.iter().find_map(|key| metadata.get(key)).map(String::as_str)
    }
}
