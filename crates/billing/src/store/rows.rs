//! The rows that are no part of the ledger.

use contract::v1::Tokens;
use ledger::GrantId;
use units::{AccountId, Amount, EndpointId, EventId, Instant, NodeName, RequestId, Unit};

/// A row and the number by which lists are cut into pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<T> {
    /// Grows with every row of its kind.
    pub seq: u64,
    /// The row.
    pub row: T,
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Only rows with a smaller number; the newest if absent.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: u32,
}

/// A customer's API key, of which only the digest is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// By which operators name it.
    pub id: String,
    /// SHA-256 of the whole key, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Whose.
    pub account: AccountId,
    /// When it was made.
    pub created_at: Instant,
    /// When it was revoked.
    pub revoked_at: Option<Instant>,
}

/// Names an event. Ids are unique within (livemode, account) only: connected accounts have their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventKey {
    /// Stripe's `livemode`.
    pub livemode: bool,
    /// The connected account or context; `self` for the own account.
    pub account: String,
    /// Stripe's `evt_…`.
    pub id: EventId,
}

/// An event and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Which.
    pub key: EventKey,
    /// Stripe's type of it.
    pub kind: String,
    /// When it arrived first.
    pub received_at: Instant,
    /// What became of it.
    pub status: EventStatus,
    /// Why, for people.
    pub detail: String,
    /// The Stripe customer it is about.
    pub customer: Option<String>,
    /// The account it was applied to.
    pub to: Option<AccountId>,
    /// As it was sent.
    pub body: String,
    /// How often it was applied, and how that went.
    pub tries: Tries,
}

/// How often an event was applied, and what it failed at last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// How often; an event that is put aside unread was applied once.
    pub count: u32,
    /// Why the last time failed; absent if it did not.
    pub error: Option<String>,
    /// When the last time was.
    pub last_at: Option<Instant>,
}

/// Something that others are told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Names it to whoever is told, however often that takes.
    pub id: String,
    /// What happened, such as `purchase.completed`.
    pub kind: String,
    /// To whom.
    pub account: AccountId,
    /// What is sent, JSON.
    pub body: String,
    /// When it happened.
    pub at: Instant,
    /// How often it was sent in vain.
    pub attempts: u32,
    /// Why it was not accepted the last time.
    pub last_error: Option<String>,
    /// When it is sent next; absent once it was given up.
    pub next_at: Option<Instant>,
}

/// What became of a message that was not accepted yet; one that was is kept no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageStatus {
    /// It is sent, or sent again, when its time comes.
    Waiting,
    /// It was given up: nobody was told.
    Dead,
}

impl MessageStatus {
    /// Every status and its word.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Waiting, "waiting"), (Self::Dead, "dead")];

    /// As it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Dead => "dead",
        }
    }
}

impl Message {
    /// What became of it.
    #[must_use]
    pub const fn status(&self) -> MessageStatus {
        if self.next_at.is_some() { MessageStatus::Waiting } else { MessageStatus::Dead }
    }
}

/// What was told of a payment or an invoice, by whoever understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactRow {
    /// To whom it was credited.
    pub account: Option<AccountId>,
    /// The package that it bought.
    pub package: Option<String>,
    /// The rest, as JSON.
    pub body: String,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventStatus {
    /// It changed something, or had nothing to change.
    Applied,
    /// Nothing here is interested in its type.
    Ignored,
    /// Nobody knows yet whose it is; applied as soon as somebody does.
    Unmatched,
    /// It depends on another event that has not come yet; applied as soon as it has.
    Waiting,
    /// Applied to the account that its customer is bound to, though it names another one. A person should look.
    Conflict,
    /// A person has to look: the detail says at what. Nothing was granted.
    Review,
    /// Applying it broke a rule of the ledger. Stripe is told to send it again.
    Failed,
    /// That happened so often that Stripe is not asked for it any more. A person should look, and replay it.
    Parked,
}

impl EventStatus {
    /// Every status and its word.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Applied, "applied"),
        (Self::Ignored, "ignored"),
        (Self::Unmatched, "unmatched"),
        (Self::Waiting, "waiting"),
        (Self::Conflict, "conflict"),
        (Self::Review, "review"),
        (Self::Failed, "failed"),
        (Self::Parked, "parked"),
    ];

    /// As it is stored, shown and counted.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(status, _)| *status == self).map_or("", |(_, word)| word)
    }

    /// Reads the word back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == word).map(|(status, _)| status)
    }

    /// True if it waits for what a later event may tell.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Unmatched | Self::Waiting)
    }

    /// True if a later delivery of it may still change it.
    #[must_use]
    pub const fn is_taken_again(self) -> bool {
        self.is_open() || matches!(self, Self::Failed)
    }
}

/// Names a claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimKey {
    /// The gateway's endpoint: each sees its own copy of an event.
    pub endpoint: String,
    /// Which event.
    pub event: EventKey,
}

/// A claim on an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRow {
    /// Where it is in its life.
    pub state: ClaimState,
    /// Which delivery has it, or had it last.
    pub claimant: String,
    /// Proves that a completion belongs to it.
    pub token: String,
    /// When the claim runs out.
    pub until: Instant,
}

/// The life of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// A delivery is being handled.
    Claimed,
    /// Its handler failed: the next may have it.
    Free,
    /// Its handler accepted it: never again.
    Done,
}

/// Names a usage record; without `n`, the worker that told it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsageKey {
    /// Which Envoy.
    pub node: NodeName,
    /// Which life of it.
    pub incarnation: u64,
    /// Which worker.
    pub worker: u16,
}

/// A usage record as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// Whose.
    pub account: AccountId,
    /// The request.
    pub request_id: RequestId,
    /// What for.
    pub endpoint: EndpointId,
    /// How it ended.
    pub outcome: String,
    /// What was charged of its holds, grant by grant, in order of their numbers.
    pub charges: Vec<GrantCharge>,
    /// What was charged beyond what was held, in micro-credits.
    pub beyond: Amount,
    /// By what it was charged, where its price depends on what was used.
    pub basis: Option<String>,
    /// What was used, where it is known.
    pub used: Option<Tokens>,
    /// When, by the gateway's clock.
    pub at: Instant,
}

/// What a request was charged of one grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantCharge {
    /// Which grant.
    pub grant: GrantId,
    /// What the grant counts.
    pub unit: Unit,
    /// How much.
    pub amount: Amount,
}

impl UsageRow {
    /// What was charged in this unit, beyond what was held included; at most what an amount can say.
    #[must_use]
    pub fn charged(&self, unit: Unit) -> Amount {
        let beyond = if unit == Unit::Credits { self.beyond } else { Amount::ZERO };
        let charges = self.charges.iter().filter(|charge| charge.unit == unit);
        charges.fold(beyond, |sum, charge| sum.checked_add(charge.amount).unwrap_or(Amount::MAX))
    }
}

/// By what usage is summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SumBy {
    /// By the day in UTC, by the gateways' clocks.
    pub day: bool,
    /// By the model that answered.
    pub model: bool,
}

/// What several requests used, and what they were charged. Each number is at most 2^53 − 1, whatever they come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageSum {
    /// Days since 1970, where it is of one day.
    pub day: Option<u64>,
    /// The model, where it is of one that is known.
    pub model: Option<String>,
    /// Requests of which something was delivered.
    pub requests: u64,
    /// Input tokens.
    pub input: u64,
    /// Of the input, what the provider had in its cache.
    pub cached: u64,
    /// Of the input, what was written into that cache.
    pub cache_written: u64,
    /// Output tokens.
    pub output: u64,
    /// Of the output, what was spent on reasoning.
    pub reasoning: u64,
    /// Images that were made.
    pub images: u64,
    /// What was charged in micro-credits.
    pub charged_micro: u64,
    /// What was charged in requests of windows.
    pub charged_requests: u64,
}

impl UsageSum {
    /// The largest that each number gets: what every JSON reader keeps exactly (RFC 8259, section 6).
    pub const MOST: u64 = 9_007_199_254_740_991;
}

/// Names the hold of one request, over all gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldName {
    /// Which Envoy.
    pub node: NodeName,
    /// Which life of it.
    pub incarnation: u64,
    /// Which hold: `worker << 40 | need id`.
    pub generation: u64,
}

/// A request that a client named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepeatRow {
    /// Digest of what was asked.
    pub body: String,
    /// What was held for the last of its name.
    pub hold: HoldName,
    /// When the first one was held.
    pub at: Instant,
    /// What those before the last were charged.
    pub paid: Charged,
    /// How many came after the first that was charged.
    pub count: u32,
}

/// What requests were charged, in each unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charged {
    /// Micro-credits.
    pub credits: Amount,
    /// Requests of a window.
    pub requests: Amount,
}
