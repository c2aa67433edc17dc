//! Complete configurations resolve; a wrong one is told everything that is wrong with it, and no secret.

use super::*;
use ::meter::request::LimitField;
use ::webhook::Livemode;
use serde_json::{Value, json};
use std::rc::Rc;
use units::EndpointId;

const SECRET: &str = "whsec_0123456789abcdef";

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "GATEWAY_TOKEN" => "tollgate-demo-gateway",
        "NODE" => "gateway-10000",
        "STRIPE_WEBHOOK_SECRET" => SECRET,
        "EMPTY" => "",
        "PADDED" => "whsec_0123456789abcdef\n",
        "SHORT" => "whsec_shortsecr",
        "BLANK_INSIDE" => "two words",
        _ => return None,
    };
    Some(value.to_owned())
}

fn billing_json() -> Value {
    json!({"cluster": "billing", "timeout_ms": 2000, "token_env": "GATEWAY_TOKEN", "node_env": "NODE"})
}

fn webhook_json() -> Value {
    json!({"role": "webhook", "billing": billing_json(), "endpoints": [
        {"id": "stripe", "path": "/webhooks/stripe", "secrets_env": ["STRIPE_WEBHOOK_SECRET"],
         "secrets_env_optional": ["STRIPE_WEBHOOK_SECRET_PREVIOUS"], "tolerance_past_s": 300,
         "tolerance_future_s": 300, "body_bytes_max": 1048576, "livemode": "any", "forward_types": ["*"],
         "dedupe": {"mode": "upstream"}},
        {"id": "app", "path": "/webhooks/app", "secrets_env": ["STRIPE_WEBHOOK_SECRET"], "tolerance_past_s": 300,
         "tolerance_future_s": 30, "body_bytes_max": 65536, "livemode": "test",
         "forward_types": ["invoice.*", "charge.refunded"],
         "dedupe": {"mode": "claim", "on_claim_unavailable": "forward", "remember_s": 60, "in_flight_ms": 5000}}]})
}

fn ai_json() -> Value {
    json!({"role": "ai", "mode": "enforce", "wait": "body", "body_bytes_max": 4194304, "billing": billing_json(),
        "identity": [
            {"kind": "jwt", "metadata": ["envoy.filters.http.jwt_authn", "jwt_payload"], "claim": "sub"},
            {"kind": "api_key", "prefix": "tgk_", "length": 36, "headers": ["authorization", "x-api-key"]}],
        "routes": [
            {"method": "POST", "path": "/v1/chat/completions", "endpoint": "chat", "hold": "fixed",
             "consult": "every_request", "on_unavailable": "deny"},
            {"method": "GET", "path": "/v1/models", "endpoint": "models", "cost": 0},
            {"method": "GET", "prefix": "/billing/", "vouch": true}]})
}

fn resolve(json: &Value) -> Result<Config, Vec<Complaint>> {
    Config::resolve(json.to_string().as_bytes(), &environment)
}

/// The complaints about a configuration in which one value was replaced, as `path: value: mend` lines.
fn complaints_about(json: &Value) -> Vec<String> {
    resolve(json).expect_err("accepted").iter().map(Complaint::to_string).collect()
}

/// Replaces the value at a JSON pointer, or adds it, or removes it.
fn with(mut json: Value, pointer: &str, value: Option<Value>) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = json.pointer_mut(parent).unwrap();
    match (value, parent) {
        (Some(value), Value::Object(map)) => drop(map.insert(key.to_owned(), value)),
        (None, Value::Object(map)) => drop(map.remove(key).unwrap()),
        (Some(value), Value::Array(list)) if key == "-" => list.push(value),
        (Some(value), Value::Array(list)) => list[key.parse::<usize>().unwrap()] = value,
        (_, parent) => panic!("{parent}"),
    }
    json
}

#[test]
fn a_complete_webhook_configuration_resolves() {
    let Ok(Config::Webhook(config)) = resolve(&webhook_json()) else { panic!() };
    assert_eq!(config.billing.cluster, "billing");
    assert_eq!(config.billing.timeout, Span::from_secs(2));
    assert_eq!(config.billing.token.expose(), "tollgate-demo-gateway");
    assert_eq!(config.billing.node.as_str(), "gateway-10000");
    let Match::Route(stripe) = config.endpoints.find("POST", "/webhooks/stripe?x=1") else { panic!() };
    assert_eq!((stripe.id.as_str(), stripe.secrets.len(), stripe.body_bytes_max), ("stripe", 1, 1_048_576));
    assert_eq!(stripe.dedupe.mode, DedupeMode::Upstream);
    assert_eq!(
        (stripe.dedupe.remember, stripe.dedupe.in_flight),
        (Span::from_secs(604_800), Span::from_secs(30))
    );
    let Match::Route(app) = config.endpoints.find("POST", "/webhooks/app") else { panic!() };
    assert_eq!((app.tolerance.past_s, app.tolerance.future_s), (300, 30));
    assert_eq!(app.livemode, Livemode::Test);
    assert!(
        app.forwards("invoice.paid") && app.forwards("charge.refunded") && !app.forwards("charge.failed")
    );
    assert_eq!(app.dedupe.mode, DedupeMode::Claim { on_unavailable: OnClaimUnavailable::Forward });
    assert_eq!((app.dedupe.remember, app.dedupe.in_flight), (Span::from_secs(60), Span::from_secs(5)));
    assert!(matches!(config.endpoints.find("GET", "/webhooks/app"), Match::OtherMethod { .. }));
    assert!(matches!(config.endpoints.find("POST", "/webhooks/app/"), Match::None));
    let claim = with(webhook_json(), "/endpoints/1/dedupe/on_claim_unavailable", None);
    let Ok(Config::Webhook(config)) = resolve(&claim) else { panic!() };
    let Match::Route(app) = config.endpoints.find("POST", "/webhooks/app") else { panic!() };
    assert_eq!(app.dedupe.mode, DedupeMode::Claim { on_unavailable: OnClaimUnavailable::Refuse });
}

#[test]
fn a_secret_under_replacement_is_the_second_one() {
    let both =
        with(webhook_json(), "/endpoints/0/secrets_env_optional/0", Some(json!("STRIPE_WEBHOOK_SECRET")));
    let Ok(Config::Webhook(config)) = resolve(&both) else { panic!() };
    let Match::Route(stripe) = config.endpoints.find("POST", "/webhooks/stripe") else { panic!() };
    assert_eq!(stripe.secrets.len(), 2);
}

#[test]
fn a_complete_ai_configuration_resolves() {
    let Ok(Config::Ai(config)) = resolve(&ai_json()) else { panic!() };
    assert_eq!((config.mode, config.wait, config.body_bytes_max), (Mode::Enforce, Wait::Body, 4_194_304));
    assert_eq!(config.wait_for, Span::from_secs(1));
    let metadata = vec!["envoy.filters.http.jwt_authn".to_owned(), "jwt_payload".to_owned()];
    let headers = vec!["authorization".to_owned(), "x-api-key".to_owned()];
    assert_eq!(
        config.identity,
        [
            Identity::Jwt { metadata, claim: "sub".into() },
            Identity::ApiKey { prefix: "tgk_".into(), length: 36, headers }
        ]
    );
    let Match::Route(chat) = config.routes.find("POST", "/v1/chat/completions") else { panic!() };
    let priced = Priced {
        endpoint: EndpointId::new("chat").unwrap(),
        metering: Rc::new(Metering {
            hold: Hold::Fixed,
            usage: Usage::None,
            request: None,
            missing: MissingUsage::Counted,
            limit_field: LimitField::MaxCompletionTokens,
        }),
        consult: Consult::EveryRequest,
        on_unavailable: OnUnavailable::Deny,
    };
    assert_eq!(chat.terms, Terms::Priced(priced));
    let Match::Route(models) = config.routes.find("GET", "/v1/models") else { panic!() };
    assert_eq!(models.terms, Terms::Free { endpoint: EndpointId::new("models").unwrap() });
    let Match::Route(billing) = config.routes.find("GET", "/billing/balance") else { panic!() };
    assert_eq!(billing.terms, Terms::Vouch);
    assert_eq!(config.routes.find("GET", "/billing"), Match::None);
}

#[test]
fn every_mistake_is_named_at_once() {
    let wrong = br#"{"role": "webhook", "billing": {"cluster": 7, "timeout_ms": 0, "token_env": "NO_TOKEN",
        "node_env": "BLANK_INSIDE", "retries": 3}, "endpoint": [],
        "endpoints": [{"id": "a b", "path": "webhooks", "secrets_env": ["EMPTY", "PADDED", "SHORT", "UNSET"],
          "tolerance_past_s": 0, "tolerance_future_s": -1, "body_bytes_max": 16777217, "livemode": "Live",
          "livemode": "any", "forward_types": ["invoice*"], "dedupe": {"mode": "both"}}, 5]}"#;
    let complaints = Config::resolve(wrong, &environment).unwrap_err();
    let paths: Vec<_> = complaints.iter().map(|c| c.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "billing.cluster",
            "billing.timeout_ms",
            "billing.token_env",
            "billing.node_env",
            "billing.retries",
            "endpoints[0].id",
            "endpoints[0].path",
            "endpoints[0].secrets_env[0]",
            "endpoints[0].secrets_env[1]",
            "endpoints[0].secrets_env[2]",
            "endpoints[0].secrets_env[3]",
            "endpoints[0].tolerance_past_s",
            "endpoints[0].tolerance_future_s",
            "endpoints[0].body_bytes_max",
            "endpoints[0].livemode",
            "endpoints[0].forward_types[0]",
            "endpoints[0].dedupe.mode",
            "endpoints[0].livemode",
            "endpoints[1]",
            "endpoint",
        ]
    );
    let lines: Vec<_> = complaints.iter().map(Complaint::to_string).collect();
    for line in [
        "billing.timeout_ms: 0: write a whole number of milliseconds from 1 to 60000",
        "billing.retries: an unknown key: remove it; known here: cluster, timeout_ms, token_env, node_env",
        "endpoints[0].secrets_env[1]: the value of PADDED: begins or ends with a blank or a newline; remove it",
        "endpoints[0].livemode: \"Live\": write \"any\" or \"live\" or \"test\"",
        "endpoints[0].livemode: written twice: keep one of them",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line} is not in {lines:#?}");
    }
}

#[test]
fn no_complaint_shows_a_secret() {
    let pasted = with(webhook_json(), "/endpoints/0/secrets_env/0", Some(json!(SECRET)));
    let misnamed = with(pasted, "/endpoints/0/secret", Some(json!(SECRET)));
    let padded = with(misnamed, "/endpoints/1/secrets_env/0", Some(json!("PADDED")));
    let short = with(padded, "/endpoints/1/secrets_env/-", Some(json!("SHORT")));
    let lines = complaints_about(&short);
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|l| !l.contains("0123456789abcdef") && !l.contains("shortsecr")), "{lines:#?}");
    let Ok(config) = resolve(&webhook_json()) else { panic!() };
    let shown = format!("{config:?}");
    assert!(!shown.contains(SECRET) && !shown.contains("tollgate-demo-gateway"), "{shown}");
}

#[test]
fn what_must_be_written_has_no_default() {
    let all = [
        (webhook_json(), vec!["/role", "/billing", "/endpoints", "/billing/cluster", "/billing/timeout_ms"]),
        (webhook_json(), vec!["/endpoints/0/livemode", "/endpoints/0/dedupe", "/endpoints/0/dedupe/mode"]),
        (webhook_json(), vec!["/endpoints/0/tolerance_past_s", "/endpoints/0/tolerance_future_s"]),
        (
            webhook_json(),
            vec!["/endpoints/0/secrets_env", "/endpoints/0/body_bytes_max", "/endpoints/0/forward_types"],
        ),
        (ai_json(), vec!["/mode", "/wait", "/body_bytes_max", "/identity", "/routes", "/identity/0/claim"]),
        (
            ai_json(),
            vec!["/routes/0/consult", "/routes/0/on_unavailable", "/routes/0/endpoint", "/routes/1/endpoint"],
        ),
    ];
    for (json, pointers) in all {
        for pointer in pointers {
            let lines = complaints_about(&with(json.clone(), pointer, None));
            let [line] = lines.as_slice() else { panic!("{pointer}: {lines:#?}") };
            assert!(line.ends_with(": nothing: write it; it has no default"), "{pointer}: {line}");
        }
    }
}

#[test]
fn a_wrong_value_is_answered_with_what_to_write() {
    let chat = json!({"method": "POST", "path": "/v1/chat/completions", "endpoint": "x", "cost": 0});
    for (json, pointer, value, expected) in [
        (webhook_json(), "/endpoints/1/id", json!("stripe"), "endpoints[1].id: stripe: write another id"),
        (
            webhook_json(),
            "/endpoints/1/path",
            json!("/webhooks/stripe"),
            "endpoints[1].path: /webhooks/stripe: write another path",
        ),
        (
            webhook_json(),
            "/endpoints/1/path",
            json!("/a?b"),
            "endpoints[1].path: \"/a?b\": write a path that begins with /",
        ),
        (
            webhook_json(),
            "/endpoints/1/path",
            json!("/a/../b"),
            "endpoints[1].path: \"/a/../b\": write a path",
        ),
        (
            webhook_json(),
            "/endpoints/0/secrets_env",
            json!([]),
            "endpoints[0].secrets_env: an empty list: write 1 to 16",
        ),
        (
            webhook_json(),
            "/endpoints/0/secrets_env_optional/0",
            json!("EMPTY"),
            "endpoints[0].secrets_env_optional[0]: the value of EMPTY: is empty",
        ),
        (
            webhook_json(),
            "/endpoints/0/dedupe/on_claim_unavailable",
            json!("forward"),
            "endpoints[0].dedupe.on_claim_unavailable: an unknown key",
        ),
        (
            webhook_json(),
            "/endpoints/0/forward_types",
            json!([]),
            "endpoints[0].forward_types: an empty list",
        ),
        (
            webhook_json(),
            "/endpoints/0/tolerance_past_s",
            json!(1.5),
            "endpoints[0].tolerance_past_s: 1.5: write a whole number",
        ),
        (
            webhook_json(),
            "/billing/token_env",
            json!("BLANK_INSIDE"),
            "billing.token_env: the value of BLANK_INSIDE: set it to",
        ),
        (
            webhook_json(),
            "/billing/token_env",
            json!("EMPTY"),
            "billing.token_env: the value of EMPTY: set it to",
        ),
        (
            webhook_json(),
            "/billing/node_env",
            json!("EMPTY"),
            "billing.node_env: the value of EMPTY: is empty",
        ),
        (
            webhook_json(),
            "/routes",
            json!([]),
            "routes: an unknown key: remove it; known here: role, billing, endpoints",
        ),
        (webhook_json(), "/role", json!("both"), "role: \"both\": write \"webhook\" or \"ai\""),
        (ai_json(), "/endpoints", json!([]), "endpoints: an unknown key"),
        (ai_json(), "/wait_ms", json!(0), "wait_ms: 0: write a whole number of milliseconds from 1 to 60000"),
        (
            ai_json(),
            "/routes/0/consult",
            json!("leases"),
            "routes[0].consult: \"leases\": write \"every_request\" or \"lease\"",
        ),
        (
            ai_json(),
            "/routes/0/hold",
            json!("max_tokens"),
            "routes[0]: a hold that depends on the request: write request: openai (or another) beside it",
        ),
        (
            ai_json(),
            "/routes/0/hold",
            json!("most"),
            "routes[0].hold: \"most\": write \"fixed\" or \"max_tokens\" or \"estimate\"",
        ),
        (
            ai_json(),
            "/routes/0/usage",
            json!("openapi"),
            "routes[0].usage: \"openapi\": write \"none\", \"openai\", ",
        ),
        (
            ai_json(),
            "/routes/0/usage",
            json!({"header": {"model": "x-model"}}),
            "routes[0].usage.header: neither input nor output: write at least one of them",
        ),
        (
            ai_json(),
            "/routes/0/usage",
            json!({"json_pointer": {"output": "usage/total"}}),
            "routes[0].usage.json_pointer.output: \"usage/total\": write a JSON pointer",
        ),
        (
            ai_json(),
            "/routes/0/missing_usage",
            json!("free"),
            "routes[0].missing_usage: \"free\": write \"counted\" or \"input\" or \"hold\"",
        ),
        (
            ai_json(),
            "/routes/0/on_unavailable",
            json!("allow_bounded"),
            "routes[0].on_unavailable: \"allow_bounded\": write \"deny\", or {\"allow_bounded\": 1 to 10000}",
        ),
        (
            ai_json(),
            "/routes/0/on_unavailable",
            json!({"allow_bounded": 0}),
            "routes[0].on_unavailable.allow_bounded: 0: write a whole number of requests from 1 to 10000",
        ),
        (
            ai_json(),
            "/routes/0/on_unavailable",
            json!({"allow_bounded": 5, "per": "day"}),
            "routes[0].on_unavailable.per: an unknown key",
        ),
        (
            ai_json(),
            "/routes/0/on_unavailable",
            json!("allow"),
            "routes[0].on_unavailable: \"allow\": write \"deny\"",
        ),
        (ai_json(), "/routes/0/cost", json!(0), "routes[0]: hold and cost: write exactly one of"),
        (ai_json(), "/routes/1/cost", json!(1), "routes[1].cost: 1: "),
        (ai_json(), "/routes/1/consult", json!("every_request"), "routes[1].consult: an unknown key"),
        (ai_json(), "/routes/2/vouch", json!(false), "routes[2].vouch: false: write true"),
        (ai_json(), "/routes/2/prefix", json!("/billing"), "routes[2].prefix: \"/billing\": end it with /"),
        (ai_json(), "/routes/2/path", json!("/x"), "routes[2]: both path and prefix"),
        (
            ai_json(),
            "/routes/2",
            json!({"method": "GET", "path": "/free"}),
            "routes[2]: no terms: write exactly one of",
        ),
        (
            ai_json(),
            "/routes/2",
            chat,
            "routes[2]: POST /v1/chat/completions: remove it; an earlier route has it",
        ),
        (
            ai_json(),
            "/routes/0/method",
            json!("post"),
            "routes[0].method: \"post\": write a method in capitals",
        ),
        (ai_json(), "/routes/0/endpoint", json!("a.b"), "routes[0].endpoint: \"a.b\": write 1 to 64 letters"),
        (
            ai_json(),
            "/identity/0/kind",
            json!("header"),
            "identity[0].kind: \"header\": this is not in this version",
        ),
        (ai_json(), "/identity/1/length", json!(19), "identity[1].length: 19: write a whole number"),
        (
            ai_json(),
            "/identity/1/headers/0",
            json!("X-Api-Key"),
            "identity[1].headers[0]: \"X-Api-Key\": write a header name in lower case",
        ),
        (ai_json(), "/identity", json!([]), "identity: an empty list"),
    ] {
        let lines = complaints_about(&with(json, pointer, Some(value)));
        let [line] = lines.as_slice() else { panic!("{pointer}: {lines:#?}") };
        assert!(line.starts_with(expected), "{line}\nshould begin\n{expected}");
    }
}

#[test]
fn what_is_no_object_at_all_is_told_so() {
    for (text, expected) in [
        ("", "the configuration: not JSON (EOF"),
        ("{\"role\":", "the configuration: not JSON (EOF"),
        ("[]", "the configuration: an empty list: write an object"),
        ("{} {}", "the configuration: not JSON (trailing"),
    ] {
        let complaints = Config::resolve(text.as_bytes(), &environment).unwrap_err();
        assert!(complaints[0].to_string().starts_with(expected), "{complaints:?}");
    }
    assert!(Config::resolve("[".repeat(100_000).as_bytes(), &environment).is_err(), "no stack is overrun");
}
