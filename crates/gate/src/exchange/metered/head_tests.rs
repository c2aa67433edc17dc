//! What the head of a request alone decides: what is a preflight, and what the body is read as.

use super::metering_tests::{KEY, config};
use super::*;
use units::Instant;

/// What becomes of a request with this head: whether it goes on, whether billing is asked, and how it was refused.
fn of(hold: &str, (method, path): (&str, &str), headers: &[(&str, &str)], end: bool) -> (Flow, bool, String) {
    let line = [(":method", method), (":path", path), ("x-api-key", KEY)];
    let headers: Headers = line.iter().chain(headers).copied().collect();
    let mut exchange = Metered::new(config(hold, "openai"), 7);
    let now = Now { mono: Instant::from_secs(5), wall: Instant::from_secs(1_800_000_000) };
    let mut flow = exchange.handle(Input::RequestHeaders { headers: &headers, end, verified: None }, now);
    let body = br#"{"model":"m","messages":[]}"#;
    if !end && exchange.body_wanted().is_some() {
        flow = exchange.handle(Input::RequestBody { size: body.len(), end: true, body: Some(body) }, now);
    }
    let effects: Vec<_> = std::iter::from_fn(|| exchange.poll_effect()).collect();
    let asked = effects.iter().any(|effect| matches!(effect, Effect::Ask(_)));
    let reason = effects.iter().find_map(|effect| match effect {
        Effect::Reply(reply) => {
            let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            Some(format!("{} {}", reply.status, body["reason"].as_str().unwrap()))
        }
        _ => None,
    });
    (flow, asked, reason.unwrap_or_default())
}

#[test]
fn a_preflight_says_who_asks_for_what_and_has_no_body_and_a_route() {
    const ORIGIN: (&str, &str) = ("origin", "https://a");
    const METHOD: (&str, &str) = ("access-control-request-method", "POST");
    let options = |path, headers: &[(&str, &str)], end| of("max_tokens", ("OPTIONS", path), headers, end);
    assert_eq!(options("/v1/chat", &[ORIGIN, METHOD], true), (Flow::Continue, false, String::new()));
    let other = || (Flow::Pause, false, "405 method_not_allowed".to_owned());
    for headers in [
        &[ORIGIN, (METHOD.0, "")][..],
        &[("origin", ""), METHOD],
        &[ORIGIN],
        &[METHOD],
        &[ORIGIN, METHOD, METHOD],
        &[ORIGIN, ORIGIN, METHOD],
    ] {
        assert_eq!(options("/v1/chat", headers, true), other(), "{headers:?}");
    }
    assert_eq!(options("/v1/chat", &[ORIGIN, METHOD], false), other(), "with a body");
    let unknown = (Flow::Pause, false, "403 endpoint_unknown".to_owned());
    assert_eq!(options("/v1/anything", &[ORIGIN, METHOD], true), unknown);
}

#[test]
fn a_body_that_the_upstream_may_read_in_other_letters_is_refused() {
    let of = |hold, headers: &[(&str, &str)]| of(hold, ("POST", "/v1/chat"), headers, false);
    let (asked, kind) = ((Flow::Pause, true, String::new()), "content-type");
    let refused = || (Flow::Pause, false, "400 request_unreadable".to_owned());
    for value in [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;Charset=UTF-8",
        "application/json; charset=\"utf-8\" ; x=1",
        "text/plain;charset=utf-8",
        "",
    ] {
        assert_eq!(of("max_tokens", &[(kind, value)]), asked, "{value}");
    }
    for value in [
        "application/json; charset=utf-7",
        "application/json; CHARSET=\"UTF-7\"",
        "application/json; charset = utf-16",
        "application/json; charset=utf-8; charset=utf-7",
        "application/json;x=\"\\\";charset=utf-7",
        "application/json, application/json;charset=iso-2022-kr",
        "application/json; charset*=utf-8''utf-7",
        "application/json; charset=utf-8-sig",
        "application/json; charset=",
        "application/json charset=utf-7",
    ] {
        for hold in ["max_tokens", "estimate"] {
            assert_eq!(of(hold, &[(kind, value)]), refused(), "{value}");
        }
        assert_eq!(of("fixed", &[(kind, value)]), asked, "what it costs does not depend on it");
    }
    let both = [(kind, "application/json"), (kind, "application/json; charset=utf-7")];
    assert_eq!(of("max_tokens", &both), refused());
    for value in ["gzip", "br", "identity, gzip", ""] {
        assert_eq!(of("max_tokens", &[("content-encoding", value)]), refused(), "{value}");
    }
    assert_eq!(of("max_tokens", &[("content-encoding", "Identity")]), asked);
}
