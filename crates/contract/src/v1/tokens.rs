//! What a request that is priced by tokens can use, and what it did.

use super::sync::{first, is_false, is_first};
use serde::{Deserialize, Serialize};

/// How much a request that is priced by tokens can use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenShape {
    /// The most input tokens that the text of the body can be.
    pub input_max: u64,
    /// The most output tokens that the request allows for each answer; absent if it states none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_max: Option<u64>,
    /// The model asked for.
    pub model: String,
    /// How many answers are asked for.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub choices: u64,
    /// Images in the input.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub images: u64,
    /// Images to be made.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub makes: u64,
    /// True if tools are given, for which the provider adds a prompt of its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tools: bool,
    /// True if the body does not bound the input: it refers to what is stored elsewhere, or has the provider search.
    #[serde(default, skip_serializing_if = "is_false")]
    pub open: bool,
    /// How much of it is held.
    #[serde(default, skip_serializing_if = "Size::is_most")]
    pub size: Size,
    /// True if the gateway can lower the limit to what the customer can afford.
    #[serde(default, skip_serializing_if = "is_false")]
    pub clamp: bool,
}

/// How much of a request's possible cost is held before it passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// All of it: the cost cannot be more than the hold.
    #[default]
    Most,
    /// What such requests usually cost: the rest may become a debt.
    Estimate,
}

impl Size {
    const fn is_most(&self) -> bool {
        matches!(self, Self::Most)
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

const fn is_zero(count: &u64) -> bool {
    *count == 0
}
