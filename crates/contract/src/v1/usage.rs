//! What a finished request used and was charged: evidence that travels with the sync.

use super::CellKey;
use super::sync::{is_nothing, is_zero};
use serde::{Deserialize, Serialize};
use units::{AccountId, Amount, EndpointId, Instant, RequestId};

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

/// Tokens as the provider counted them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// The model that answered.
    pub model: String,
    /// Input tokens, cached ones included.
    pub input: u64,
    /// Of those, the cached ones.
    pub cached: u64,
    /// Output tokens, reasoning included.
    pub output: u64,
    /// Of the input tokens, those that were written into the provider's cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_written: u64,
    /// Of the output tokens, those that the model spent on reasoning.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reasoning: u64,
    /// Images that were made.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub images: u64,
}

/// By what a request was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// What the upstream said it used.
    Stated,
    /// At least what it had said when its answer broke off, and at least what was delivered.
    AtLeast,
    /// It said nothing: what was delivered was counted.
    Counted,
    /// It said nothing: its input was charged.
    Input,
    /// It said nothing: the whole hold was charged.
    Hold,
}

impl Basis {
    /// Each of them.
    pub const ALL: [Basis; 5] = [Self::Stated, Self::AtLeast, Self::Counted, Self::Input, Self::Hold];

    /// As it is written on the wire, in metric labels and in the billing service's books.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stated => "stated",
            Self::AtLeast => "at_least",
            Self::Counted => "counted",
            Self::Input => "input",
            Self::Hold => "hold",
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
