//! May a verified Stripe event be forwarded, and what became of it: claim, then complete.
//!
//! A claim is a lease on one event: durable, shared by all gateways, and free again when its time runs out, so
//! that a gateway that died between forwarding and completing does not lose the event.

use super::flat::FlatClaimAnswer;
use serde::{Deserialize, Serialize};
use units::EventId;

/// Asks for the right to forward an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The configured endpoint that received it: two endpoints each see their own copy.
    pub endpoint: String,
    /// Stripe's `livemode`.
    pub livemode: bool,
    /// The connected account or context that it belongs to; `self` for the own account.
    pub account: String,
    /// Stripe's id of the event.
    pub event_id: EventId,
    /// Stripe's type of the event; for people.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Unique to this delivery, so that a repeated claim gets its own answer again.
    pub claimant: String,
}

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case", try_from = "FlatClaimAnswer")]
pub enum ClaimAnswer {
    /// Forward it, and complete with this token.
    Fresh {
        /// Proves that the completion belongs to this claim.
        token: String,
        /// How long the claim holds, in milliseconds.
        ttl_ms: u64,
    },
    /// Another delivery of it is being handled.
    InFlight {
        /// How long its claim holds at most, in milliseconds.
        retry_ms: u64,
    },
    /// It was handled.
    Done,
}

/// Tells what became of a claimed event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complete {
    /// As claimed.
    pub endpoint: String,
    /// As claimed.
    pub livemode: bool,
    /// As claimed.
    pub account: String,
    /// As claimed.
    pub event_id: EventId,
    /// From the claim.
    pub token: String,
    /// What the handler did.
    pub outcome: CompleteOutcome,
}

/// What the handler did with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompleteOutcome {
    /// It answered 2xx: never again.
    Accepted,
    /// Anything else: Stripe's retry must get through.
    Failed,
}

/// The answer to a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompleteAnswer {
    /// What it changed.
    pub result: CompleteResult,
}

/// What a completion changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompleteResult {
    /// It is recorded (again, if it was repeated).
    Recorded,
    /// The claim had run out and belongs to another delivery, or to nobody. An accepted event is recorded even so.
    Stale,
}
