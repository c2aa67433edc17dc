//! What a granted request is told on its way: headers for the upstream, headers for the client, and how it ended.

use crate::effect::Effect;
use crate::worker::Pass;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contract::v1::{HEADER_SUBJECT, Outcome, Standing, Window};
use units::{Amount, Instant, RequestId, Subject, Unit, signed_credits};

/// Envoy's response flags that say that the client went away: DC and DR (bits of `CoreResponseFlag`).
const CLIENT_LEFT: u64 = 1 << 14 | 1 << 28;
/// Those that say nothing about how the answer went: a delay or a fault injected on purpose, a rate limit service passed over.
const HARMLESS: u64 = 1 << 9 | 1 << 10 | 1 << 13;

/// The headers by which the upstream learns who pays; `None` if an attribute is not fit to be one.
pub(super) fn to_upstream(pass: &Pass, request_id: &RequestId) -> Option<Vec<Effect>> {
    let mut headers = vec![set("x-tollgate-request-id", request_id.as_str())];
    let Some(standing) = &pass.standing else { return Some(headers) };
    let Standing { account, tier, state, attributes, .. } = standing;
    headers.extend([
        set("x-tollgate-account", account.as_str()),
        set("x-tollgate-tier", tier.as_str()),
        set("x-tollgate-state", state.as_str()),
        set("x-tollgate-hold", &amount(pass.price.unit, pass.price.hold)),
    ]);
    for (name, value) in attributes {
        let name_fits =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !name_fits || value.chars().any(char::is_control) {
            return None;
        }
        headers.push(set(&format!("x-tollgate-attr-{}", name.to_ascii_lowercase()), value));
    }
    Some(headers)
}

/// The gateway's word for who is asking, for billing's own routes.
pub(super) fn vouch(subject: &Subject, token: &str) -> [Effect; 2] {
    let value = format!("{}:{}", subject.kind.as_str(), URL_SAFE_NO_PAD.encode(&subject.value));
    [set(HEADER_SUBJECT, &value), set("authorization", &format!("Bearer {token}"))]
}

/// What the client learns with the answer's headers.
pub(super) fn to_client(pass: &Pass, charged: Amount, now: Instant) -> Vec<Effect> {
    let mut headers = Vec::new();
    let Pass { hold, standing: Some(standing), price } = pass else { return headers };
    let mut add = |name: &str, value| headers.push(Effect::SetResponseHeader(name.to_owned(), value));
    // What was held and is not charged goes back, and is the customer's again.
    let back = if price.unit == Unit::Credits { price.hold.saturating_sub(charged).get() } else { 0 };
    add("x-tollgate-balance", signed_credits(standing.balance_micro.saturating_add(back)));
    if hold.is_some() {
        add("x-tollgate-charged", amount(price.unit, charged));
    }
    if let Some(window) = &standing.window
        && let Some(name) = structured(&window.name)
    {
        let back = u64::from(price.unit == Unit::Requests && charged.is_zero() && !price.hold.is_zero());
        let Window { limit, remaining, resets_at, .. } = window;
        let (left, seconds) = (remaining.saturating_add(back).min(*limit), resets_at.since(now).secs_up());
        // draft-ietf-httpapi-ratelimit-headers-10, sections 2 and 3: quota, what is left of it, seconds until it refills.
        add("ratelimit-policy", format!("{name};q={limit}"));
        add("ratelimit", format!("{name};r={left};t={seconds}"));
    }
    headers
}

/// How a request ended whose answer began with this status (and whether the upstream asked not to charge it).
pub(super) fn outcome(answer: Option<(u64, bool)>, flags: u64) -> Outcome {
    match answer {
        None if flags & CLIENT_LEFT != 0 => Outcome::ClientLeft,
        Some((200..=299, false)) if flags & CLIENT_LEFT != 0 => Outcome::ClientLeft,
        Some((200..=299, false)) if flags & !HARMLESS != 0 => Outcome::Broken,
        Some((200..=299, false)) => Outcome::Charged,
        None | Some(_) => Outcome::Failed,
    }
}

/// An amount as credits. What a free window pays for costs none.
pub(super) fn amount(unit: Unit, amount: Amount) -> String {
    match unit {
        Unit::Credits => amount.to_credits(),
        Unit::Requests => "0".to_owned(),
    }
}

fn set(name: &str, value: &str) -> Effect {
    Effect::SetRequestHeader(name.to_owned(), value.as_bytes().to_vec())
}

/// A structured field's string (RFC 9651, section 3.3.3).
fn structured(text: &str) -> Option<String> {
    let printable = text.bytes().all(|b| matches!(b, 0x20..=0x7E));
    printable.then(|| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_follows_from_the_status_and_the_flags() {
        for (answer, flags, expected) in [
            (Some((200, false)), 0, Outcome::Charged),
            (Some((204, false)), 1 << 9, Outcome::Charged),
            (Some((200, false)), 0x4000, Outcome::ClientLeft),
            (Some((200, false)), 0x1000_0000, Outcome::ClientLeft),
            (Some((200, false)), 0x80_0000, Outcome::Broken),
            (Some((200, false)), 1 << 60, Outcome::Broken),
            (Some((200, true)), 0, Outcome::Failed),
            (Some((302, false)), 0, Outcome::Failed),
            (Some((503, false)), 0x20, Outcome::Failed),
            (Some((0, false)), 0, Outcome::Failed),
            (None, 0x4000, Outcome::ClientLeft),
            (None, 0, Outcome::Failed),
        ] {
            assert_eq!(outcome(answer, flags), expected, "{answer:?} {flags:#x}");
        }
    }

    #[test]
    fn a_windows_name_becomes_a_string_of_rfc_9651() {
        assert_eq!(structured("a\"b\\c").as_deref(), Some(r#""a\"b\\c""#));
        assert_eq!(structured("täglich"), None);
    }
}
