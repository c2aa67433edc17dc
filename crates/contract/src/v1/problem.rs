//! How either side says no to a client: `application/problem+json` (RFC 9457) that OpenAI's and Anthropic's SDKs understand too.
//!
//! The `error` object is what those SDKs show; without it their users read "402 status code (no body)".

use super::{Reason, Refusal};
use serde::{Deserialize, Serialize};
use units::{Amount, signed_credits};

/// The body of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short title for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened and what to do.
    pub detail: String,
    /// The stable reason, for programs.
    pub reason: Reason,
    /// Available − debt in credits, for people.
    pub balance: Option<String>,
    /// Available − debt in micro-credits.
    pub balance_micro: Option<i64>,
    /// What the request would have cost, in micro-credits.
    pub required_micro: Option<Amount>,
    /// When a window refills, as RFC 3339.
    pub resets_at: Option<String>,
    /// Where to change plan.
    pub upgrade_url: Option<String>,
    /// Where to buy credits.
    pub buy_url: Option<String>,
    /// What to quote to support.
    pub request_id: String,
    /// The same in the shape that AI SDKs show.
    pub error: ProblemError,
}

/// The `error` object of OpenAI's and Anthropic's APIs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemError {
    /// Title and detail in one.
    pub message: String,
    /// `authentication_error` for 401, `permission_error` for 403, `rate_limit_error` for `concurrency_limit_reached`, `invalid_request_error` for 409 and 422, `api_error` for
    /// 5xx, else `insufficient_quota`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The reason.
    pub code: String,
}

impl Problem {
    /// What a client is told of a refusal.
    #[must_use]
    pub fn of(refusal: &Refusal, request_id: &str) -> Self {
        let kind = match refusal.status {
            // What OpenAI and Anthropic both call it; a catalog may tell other reasons by 429 too.
            _ if refusal.reason == Reason::ConcurrencyLimitReached => "rate_limit_error",
            401 => "authentication_error",
            403 => "permission_error",
            409 | 422 => "invalid_request_error",
            500..=599 => "api_error",
            _ => "insufficient_quota",
        };
        Self {
            kind: format!("urn:tollgate:refusal:{}", refusal.reason.as_str()),
            title: refusal.title.clone(),
            status: refusal.status,
            detail: refusal.detail.clone(),
            reason: refusal.reason,
            balance: refusal.balance_micro.map(signed_credits),
            balance_micro: refusal.balance_micro,
            required_micro: refusal.required_micro,
            resets_at: refusal.resets_at.map(units::Instant::to_rfc3339),
            upgrade_url: refusal.upgrade_url.clone(),
            buy_url: refusal.buy_url.clone(),
            request_id: request_id.to_owned(),
            error: ProblemError {
                message: format!("{}: {}", refusal.title, refusal.detail),
                kind: kind.to_owned(),
                code: refusal.reason.as_str().to_owned(),
            },
        }
    }
}
