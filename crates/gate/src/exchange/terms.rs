//! What a granted request is told on its way: headers for the upstream, headers for the client, and how it ended.

use crate::effect::Effect;
use crate::text::Text;
use crate::worker::{Decided, Pass, Told, attribute_fits};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contract::v1::{HEADER_SUBJECT, Outcome, Price, Standing};
use std::sync::Arc;
use units::{Amount, Instant, Subject, Unit, signed_credits};

/// Envoy's response flags that say that the client went away: DC and DR (bits of `CoreResponseFlag`).
const CLIENT_LEFT: u64 = 1 << 14 | 1 << 28;
/// Those that say nothing about how the answer went: a delay or a fault injected on purpose, a rate limit service passed over.
const HARMLESS: u64 = 1 << 9 | 1 << 10 | 1 << 13;

/// How a decision is told; `None` if an attribute is not fit to be a header. Made once, for all requests that pass on it.
pub(super) fn told(decided: &Decided) -> Option<&Told> {
    let listed = decided.list().is_some();
    decided.told.get_or_init(|| prepare(&decided.standing, &decided.price, listed)).as_ref()
}

fn prepare(standing: &Standing, price: &Price, listed: bool) -> Option<Told> {
    let Standing { account, tier, state, attributes, window, .. } = standing;
    let hold: Arc<str> = amount(price.unit, price.hold).into();
    let mut upstream = vec![
        ("x-tollgate-account".into(), account.shared().into()),
        ("x-tollgate-tier".into(), tier.shared().into()),
        ("x-tollgate-state".into(), state.as_str().into()),
    ];
    // By a price list, each request holds something else.
    if !listed {
        upstream.push(("x-tollgate-hold".into(), Arc::clone(&hold).into()));
    }
    for (name, value) in attributes {
        if !attribute_fits(name, value) {
            return None;
        }
        upstream
            .push((format!("x-tollgate-attr-{}", name.to_ascii_lowercase()).into(), value.clone().into()));
    }
    let window = window.as_ref().and_then(|window| Some((structured(&window.name)?, window.limit)));
    // draft-ietf-httpapi-ratelimit-headers-10, section 2: the quota.
    let window = window.map(|(name, limit)| (name.as_str().into(), format!("{name};q={limit}").into()));
    Some(Told { upstream: upstream.into(), hold, window })
}

/// The gateway's word for who is asking, for billing's own routes.
pub(super) fn vouch(subject: &Subject, token: &str) -> [Effect; 2] {
    let value = format!("{}:{}", subject.kind.as_str(), URL_SAFE_NO_PAD.encode(&subject.value));
    [set(HEADER_SUBJECT, value), set("authorization", format!("Bearer {token}"))]
}

/// What the client learns with the answer's headers. What it is charged is unknown yet if that depends on the rest of it;
/// then the balance is what is left if the whole hold is.
pub(super) fn to_client(pass: &Pass, charged: Option<Amount>, now: Instant) -> impl Iterator<Item = Effect> {
    let mut headers = [const { None }; 4];
    if let Some(decided) = &pass.decided
        && let Some(told) = told(decided)
    {
        let Decided { standing, price, .. } = &**decided;
        // What was held and is not charged goes back, and is the customer's again.
        let held = pass.hold.map(|_| pass.held).filter(|_| price.unit == Unit::Credits);
        let back = held.zip(charged).map_or(0, |(held, charged)| held.saturating_sub(charged).get());
        let balance = signed_credits(pass.balance_micro.saturating_add(back));
        let cost = charged
            .filter(|_| pass.hold.is_some())
            .map(|charged| ("x-tollgate-charged", charge_text(pass, charged)));
        headers = [Some(("x-tollgate-balance", balance.into())), cost, None, None];
        if let (Some(window), Some((name, policy))) = (&standing.window, &told.window) {
            let free = charged.is_some_and(Amount::is_zero) && pass.hold.is_some();
            let back = u64::from(price.unit == Unit::Requests && free && !price.hold.is_zero());
            let left = pass.remaining.saturating_add(back).min(window.limit);
            let seconds = window.resets_at.since(now).secs_up();
            // draft-ietf-httpapi-ratelimit-headers-10, section 3: what is left, and seconds until it refills.
            let limit = format!("{name};r={left};t={seconds}");
            let [.., quota, rest] = &mut headers;
            *quota = Some(("ratelimit-policy", Arc::clone(policy).into()));
            *rest = Some(("ratelimit", limit.into()));
        }
    }
    headers.into_iter().flatten().map(|(name, value)| Effect::SetResponseHeader(name.into(), value))
}

/// What is charged, in credits.
pub(super) fn charge_text(pass: &Pass, charged: Amount) -> Text {
    let Some(decided) = &pass.decided else { return amount(Unit::Credits, charged).into() };
    match told(decided) {
        Some(told) if charged == decided.price.hold => Arc::clone(&told.hold).into(),
        _ => amount(decided.price.unit, charged).into(),
    }
}

/// What is held, for an upstream that is told of it with each request.
pub(super) fn hold_text(pass: &Pass) -> Option<Text> {
    let decided = pass.decided.as_ref()?;
    decided.list()?;
    Some(amount(decided.price.unit, pass.held).into())
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
fn amount(unit: Unit, amount: Amount) -> String {
    match unit {
        Unit::Credits => amount.to_credits(),
        Unit::Requests => "0".to_owned(),
    }
}

fn set(name: &'static str, value: String) -> Effect {
    Effect::SetRequestHeader(name.into(), value.into())
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
