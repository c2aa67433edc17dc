//! The one call of the hot path: what was spent travels up as running totals, what may be spent comes down.
//!
//! A *cell* is what one process may spend of one grant. Its key is (grant, node, incarnation, generation) and it
//! holds six totals that only grow. A lease that a process's workers share has a small generation (1, 2, …);
//! the hold of a single request has `worker << 40 | need id`, so that a repeated need finds its own cells.

use super::flat::{FlatCellAnswer, FlatCellLease, FlatNeedAnswer};
use super::{Basis, PriceList, Refusal, TokenShape, Tokens};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use units::{AccountId, Amount, EndpointId, Instant, NodeName, RequestId, Subject, TierId, Unit};

/// What one worker tells and asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// The stable name of this Envoy.
    pub node: NodeName,
    /// From [`super::HelloAnswer`].
    pub incarnation: u64,
    /// This worker's number within the incarnation, from 1 to 4095.
    pub worker: u16,
    /// Grows with every sync of this worker; the answer repeats it.
    pub sent_seq: u64,
    /// Running totals of the cells that changed.
    pub cells: Vec<CellReport>,
    /// What requests are waiting for.
    pub needs: Vec<Need>,
    /// Ids of earlier needs whose answer is no longer wanted: whatever was held for them goes back.
    pub abandoned: Vec<u64>,
    /// One record per finished request that held something, until acknowledged.
    pub usage: Vec<UsageRecord>,
    /// True when this process is about to end and wants no more leases.
    pub draining: bool,
}

/// Names a cell within one (node, incarnation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CellKey {
    /// The ledger's number of the grant.
    pub grant: u64,
    /// Which cell of that grant: a lease generation, or `worker << 40 | need id` for a single hold.
    pub generation: u64,
}

/// Running totals of one cell since it began; stale or repeated reports change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellReport {
    /// Which cell.
    #[serde(flatten)]
    pub key: CellKey,
    /// All that was ever held on it.
    pub admitted: Amount,
    /// Of that, the holds that have ended.
    pub finished: Amount,
    /// Of that, what was really used.
    pub used: Amount,
    /// What was given back unspent.
    pub returned: Amount,
    /// The total grant that the gateway would like; nothing is asked for if it is not above what was granted.
    pub target: Amount,
    /// What the last request on it held; by it the server knows how many requests are left. Nothing, if none is known.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub need: Amount,
    /// What requests used beyond what they held, where that is more than the cell can say: it is covered from whatever else
    /// is available, or owed.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub short: Amount,
    /// True if the gateway has no such cell and never will have it again: nobody can spend what the server lent on it, and
    /// the totals here are only what is known of it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub gone: bool,
}

/// A request that waits for a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Unique within (node, incarnation, worker), from 1 to 2^40 − 1. Repeating it repeats the question, not the hold.
    pub id: u64,
    /// Who is asking.
    pub subject: Subject,
    /// For what.
    pub endpoint: EndpointId,
    /// What to answer with.
    pub mode: NeedMode,
    /// How large the request can be at most.
    pub shape: NeedShape,
    /// How long it may be told to retry, in milliseconds; 0 asks for a final answer.
    pub wait_ms: u64,
    /// The smallest generation of a lease that the gateway can take: what was below it is forgotten there.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub generation_min: u64,
    /// Set if the client named the request, so that a repetition of it is charged once. Only with mode `hold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Repeat>,
    /// True if the request was let through while billing was away, and is over: how many may be under way at once does not
    /// matter to it any more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub served: bool,
    /// True if an answer to an earlier question about a lease of this customer was lost, so that billing may have lent what
    /// this process does not know of. Only with mode `lease`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lost: bool,
}

/// How a client names a request that it may repeat (draft-ietf-httpapi-idempotency-key-header): digests, each 64 lower-case
/// hexadecimal digits of SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeat {
    /// Of the `Idempotency-Key`; it counts within its account only.
    pub key: String,
    /// Of what was asked: endpoint and body.
    pub body: String,
}

pub(super) const fn first() -> u64 {
    1
}

pub(super) const fn is_first(generation: &u64) -> bool {
    *generation == 1
}

pub(super) const fn is_false(flag: &bool) -> bool {
    !*flag
}

const fn is_nothing(amount: &Amount) -> bool {
    amount.is_zero()
}

/// What a granted need becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NeedMode {
    /// Only who the subject is and where it stands; nothing is held.
    Identify,
    /// Exactly what this request needs, already counted as admitted in its own cell.
    Hold,
    /// A lease in the process's shared cell, at least as large as this request needs.
    Lease,
}

/// How large a request can be, in the terms its price is stated in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NeedShape {
    /// The price does not depend on the request.
    Fixed,
    /// Priced by tokens: at most these many.
    Tokens(TokenShape),
}

/// Evidence of one finished request, keyed (node, incarnation, worker, n).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// Dense per (node, incarnation, worker), from 1.
    pub n: u64,
    /// The request as the client knows it.
    pub request_id: RequestId,
    /// Whose.
    pub account: AccountId,
    /// What for.
    pub endpoint: EndpointId,
    /// What was charged, cell by cell.
    pub charges: Vec<Charge>,
    /// Held but not charged, in all.
    pub returned: Amount,
    /// Charged beyond what was held, in all; it stands in a cell's `short` too.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub beyond: Amount,
    /// How it ended.
    pub outcome: Outcome,
    /// What the provider said was used, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// By what it was charged, where its price depends on what was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// The price list by which it was charged.
    pub price_version: u64,
    /// The gateway's clock when it ended; for people, never compared.
    pub at: Instant,
}

/// What one request was charged on one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Which cell.
    #[serde(flatten)]
    pub key: CellKey,
    /// How much of its hold on that cell was used.
    pub amount: Amount,
}

/// How a request ended, as far as charging is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The upstream answered and the price is known.
    Charged,
    /// The client left before the answer was complete; what was delivered is charged.
    ClientLeft,
    /// The upstream's answer broke off after it began; what was delivered is charged.
    Broken,
    /// The upstream answered with an error, or a trusted header said not to charge: nothing is charged.
    Failed,
    /// The request never reached the upstream: nothing is charged.
    NotForwarded,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 5] =
        [Self::Charged, Self::ClientLeft, Self::Broken, Self::Failed, Self::NotForwarded];

    /// As it is written on the wire, in metric labels and in the billing service's books.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Charged => "charged",
            Self::ClientLeft => "client_left",
            Self::Broken => "broken",
            Self::Failed => "failed",
            Self::NotForwarded => "not_forwarded",
        }
    }
}

/// What the server answers to one [`Sync`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncAnswer {
    /// From the request.
    pub sent_seq: u64,
    /// One per reported cell.
    pub cells: Vec<CellAnswer>,
    /// One per need, in any order.
    pub needs: Vec<NeedAnswer>,
    /// Every usage record of this worker up to this `n` is durable.
    pub usage_acked: u64,
    /// When to sync again at the latest, in milliseconds, if nothing else calls for it.
    pub next_ms: u64,
    /// What happened to accounts that this node may hold leases or memories of.
    pub notes: Vec<Note>,
    /// The price list of each endpoint for which a need was granted here and whose price depends on what is used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lists: BTreeMap<EndpointId, PriceList>,
}

/// The server's totals of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FlatCellAnswer")]
pub struct CellAnswer {
    /// Which cell.
    #[serde(flatten)]
    pub key: CellKey,
    /// All that was ever granted to it.
    pub granted: Amount,
    /// How much of `admitted` the ledger durably knows of.
    pub acked_admitted: Amount,
    /// How long it may be spent from, counted from when the sync was *sent*.
    pub ttl_ms: u64,
    /// By how much `admitted` may be ahead of `acked_admitted`.
    pub exposure: Amount,
    /// Whether it may be spent from at all.
    pub state: CellState,
    /// False when the account is nearly empty: whatever becomes free must go back at once.
    pub keep: bool,
}

/// The life of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellState {
    /// May be spent from.
    Open,
    /// Holds may finish; none may begin.
    Soft,
    /// Nothing more is expected; a report is evidence only.
    Closed,
}

/// The answer to one need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FlatNeedAnswer")]
pub struct NeedAnswer {
    /// From the request.
    pub id: u64,
    /// The decision.
    #[serde(flatten)]
    pub decision: NeedDecision,
}

/// What was decided about a need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum NeedDecision {
    /// It may pass.
    Ok {
        /// Who it is, and where they stand.
        standing: Box<Standing>,
        /// What this request costs at most, in the unit of its cells.
        price: Price,
        /// Where it is held, in the order of spending; empty if nothing is. Leases without time left are not to be spent: they
        /// are here because the process may not have heard of them, and may be of another unit and scope than the price.
        cells: Vec<CellLease>,
        /// What was charged for earlier requests of this name ([`Need::repeat`]), in the unit of the price: it is taken off what
        /// this one costs.
        #[serde(default, skip_serializing_if = "is_nothing")]
        paid: Amount,
    },
    /// Not now: credits held by requests in flight may come back. Ask again with the same id.
    Retry {
        /// After how long, in milliseconds.
        retry_ms: u64,
    },
    /// It may not pass.
    Refused {
        /// What to tell the client.
        refusal: Box<Refusal>,
        /// Leases of the payer that the process may not have heard of ([`Need::lost`]), without time left.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        cells: Vec<CellLease>,
    },
}

/// Who a subject is, and where they stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The customer.
    pub account: AccountId,
    /// Whose credits are spent: the pool's, else the account's own.
    pub payer: AccountId,
    /// The tier by which the request was judged.
    pub tier: TierId,
    /// The stage of the subscription.
    pub state: SubscriptionState,
    /// Available − debt, in micro-credits, after this decision; for showing, never for deciding.
    pub balance_micro: i64,
    /// The tier's attributes, as headers for the upstream.
    pub attributes: BTreeMap<String, String>,
    /// The window that this request was counted in, or would have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Grows whenever something about the payer changed that voids what a gateway remembers.
    pub epoch: u64,
    /// For how long a gateway may go by this without asking again, in milliseconds.
    pub valid_ms: u64,
    /// True if its requests at once are counted, so that each needs a hold of its own and leases do not serve it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub counted: bool,
}

/// A free allowance that refills.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its name in the catalog.
    pub name: String,
    /// How many requests it allows.
    pub limit: u64,
    /// How many are left after this decision.
    pub remaining: u64,
    /// When it refills.
    pub resets_at: Instant,
}

/// What a request costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// In requests (from a window) or micro-credits.
    pub unit: Unit,
    /// What is held: the most that it can cost, by an estimate if that was asked for. Less than the request's shape comes to
    /// by the price list where it was to be clamped: its limit is to be lowered to what the hold pays for.
    pub hold: Amount,
    /// Which kind of grant pays: a window's name, or empty for credits that pay for anything.
    pub scope: String,
    /// Which version of the price list says so.
    pub version: u64,
}

/// A cell as it is given to a need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FlatCellLease")]
pub struct CellLease {
    /// Which cell.
    #[serde(flatten)]
    pub key: CellKey,
    /// In what the cell counts.
    pub unit: Unit,
    /// All that was ever granted to it.
    pub granted: Amount,
    /// How much of it is already admitted for this need (all, in mode `hold`; nothing, in mode `lease`).
    pub held: Amount,
    /// How long it may be spent from, counted from when the sync was *sent*. Nothing: it was lent to this process before
    /// and is over; whoever did not hear of it then is to give it back.
    pub ttl_ms: u64,
    /// By how much `admitted` may be ahead of what was acknowledged.
    pub exposure: Amount,
    /// Which kind of grant it spends: a window's name, or empty for credits that pay for anything.
    pub scope: String,
    /// False when the account is nearly empty: whatever becomes free must go back at once.
    pub keep: bool,
}

/// Something happened to an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Whose credits it is about.
    pub payer: AccountId,
    /// What a gateway remembers from an earlier epoch is void.
    pub epoch: u64,
    /// What happened.
    pub kind: NoteKind,
}

/// What can happen to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// Its plan, tier or stage changed.
    Changed,
    /// Give back what is free: others need it.
    Recall,
    /// Credits arrived: forget refusals.
    Replenished,
    /// It may not spend any more.
    Suspended,
}

/// Stages of a subscription (the design's words; Stripe's eight statuses map onto them).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionState {
    /// A customer without a subscription.
    NoSubscription,
    /// The first payment has not succeeded yet.
    Incomplete,
    /// In a trial period.
    Trialing,
    /// Paid up.
    Active,
    /// A renewal failed; within or past its grace.
    PastDue,
    /// Retries are exhausted.
    Unpaid,
    /// A trial ended without a way to pay.
    Paused,
    /// Ended, with access until the paid period is over.
    Canceled,
    /// Ended.
    Expired,
}

impl SubscriptionState {
    /// As it is written in JSON and headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSubscription => "no_subscription",
            Self::Incomplete => "incomplete",
            Self::Trialing => "trialing",
            Self::Active => "active",
            Self::PastDue => "past_due",
            Self::Unpaid => "unpaid",
            Self::Paused => "paused",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_called_the_same_everywhere() {
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
    }
}
