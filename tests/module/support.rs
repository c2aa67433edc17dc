//! A worker with either role, ready for a story; a billing service that decides as the story wants; and Stripe's signature.

use contract::v1::PATH_WATCH;
use hmac::{Hmac, KeyInit, Mac};
use host::{Answer, Call, Envoy, Failure, Module, Stream, Vm};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The signing secret of both webhook endpoints.
pub(crate) const SECRET: &str = "whsec_0123456789abcdef";
/// Builds the module where this test looks for it.
pub(crate) const BUILD: &str = "cargo build -p tollgate --profile wasm --target wasm32-wasip1";
/// A client closed the connection, in Envoy's response flags.
pub(crate) const CLIENT_LEFT: u64 = 1 << 14;

/// Where the module is.
pub(crate) fn path() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    root.join(target).join("wasm32-wasip1/wasm/tollgate.wasm")
}

/// The module, unless one of its sources is younger. Cargo lists them beside it.
pub(crate) fn module() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| {
        let path = path();
        let Ok(built) = std::fs::metadata(&path).and_then(|file| file.modified()) else {
            panic!("{} is not there; run: {BUILD}", path.display())
        };
        let list = std::fs::read_to_string(path.with_extension("d")).unwrap();
        if let Some(young) = younger(built, &list) {
            panic!("the module is older than {young}; run: {BUILD}");
        }
        Module::load(&path).unwrap()
    })
}

/// The first source in a dependency list (`target: source source …`) that changed after the module was built, or is gone.
pub(crate) fn younger(built: SystemTime, list: &str) -> Option<&str> {
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources).split_whitespace();
    let is_older = |path: &&str| {
        let changed = std::fs::metadata(path).and_then(|file| file.modified());
        changed.is_ok_and(|changed| changed <= built)
    };
    sources.into_iter().find(|path| !is_older(path))
}

/// What Envoy passes on from its own environment.
pub(crate) const ENV: [(&str, &str); 3] = [
    ("STRIPE_WEBHOOK_SECRET", SECRET),
    ("GATEWAY_TOKEN", "tollgate-demo-gateway"),
    ("NODE", "gateway-10000"),
];

fn billing_section() -> Value {
    json!({"cluster": "billing", "timeout_ms": 2000, "token_env": "GATEWAY_TOKEN", "node_env": "NODE"})
}

/// A configuration of the role `webhook`: `/webhooks/stripe` deduped upstream, `/webhooks/app` by claims.
pub(crate) fn webhook_json() -> Value {
    let endpoint = |id: &str, dedupe: Value| {
        json!({"id": id, "path": format!("/webhooks/{id}"), "secrets_env": ["STRIPE_WEBHOOK_SECRET"],
            "tolerance_past_s": 300, "tolerance_future_s": 300, "body_bytes_max": 1_048_576, "livemode": "any",
            "forward_types": ["*"], "dedupe": dedupe})
    };
    let endpoints =
        [endpoint("stripe", json!({"mode": "upstream"})), endpoint("app", json!({"mode": "claim"}))];
    json!({"role": "webhook", "billing": billing_section(), "endpoints": endpoints})
}

/// A configuration of the role `ai`, with one route on each kind of terms.
pub(crate) fn ai_json() -> Value {
    json!({"role": "ai", "mode": "enforce", "wait": "body", "body_bytes_max": 4_194_304, "billing": billing_section(),
        "identity": [
            {"kind": "jwt", "metadata": ["envoy.filters.http.jwt_authn", "jwt_payload"], "claim": "sub"},
            {"kind": "api_key", "prefix": "tgk_", "length": 36, "headers": ["authorization", "x-api-key"]}],
        "routes": [
            {"method": "POST", "path": "/v1/chat/completions", "endpoint": "chat", "hold": "fixed",
             "consult": "every_request", "on_unavailable": "deny"},
            {"method": "GET", "path": "/v1/models", "endpoint": "models", "cost": 0},
            {"method": "GET", "prefix": "/billing/", "vouch": true}]})
}

/// A worker of an Envoy, with this configuration.
pub(crate) fn worker(envoy: &Envoy, configuration: &Value) -> Result<Vm, Failure> {
    let vm = envoy.worker(module(), &ENV)?;
    vm.configure(&configuration.to_string())?;
    Ok(vm)
}

/// A worker of an Envoy of its own, with the role `ai`.
pub(crate) fn ai() -> Result<(Envoy, Vm), Failure> {
    let envoy = Envoy::new();
    worker(&envoy, &ai_json()).map(|vm| (envoy, vm))
}

/// A worker of an Envoy of its own, with the role `webhook`.
pub(crate) fn webhook() -> Result<(Envoy, Vm), Failure> {
    let envoy = Envoy::new();
    worker(&envoy, &webhook_json()).map(|vm| (envoy, vm))
}

/// The headers of a chat request with an API key.
pub(crate) const CHAT: [(&str, &str); 7] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "gateway"),
    (":path", "/v1/chat/completions"),
    ("authorization", "Bearer tgk_0123456789abcdefghijklmnopqrstuv"),
    ("content-type", "application/json"),
    ("x-request-id", "2f1c6a5e-1111-4222-8333-123456789abc"),
];
/// Its body.
pub(crate) const CHAT_BODY: &str = r#"{"model":"gpt-5-mini","messages":[{"role":"user","content":"hello"}]}"#;

/// An event of about so many bytes.
pub(crate) fn event(id: &str, bytes: usize) -> Vec<u8> {
    let padding = "x".repeat(bytes.saturating_sub(220));
    json!({"id": id, "object": "event", "api_version": "2026-10-28", "created": 1_795_166_990, "livemode": false,
        "type": "invoice.paid", "data": {"object": {"id": "in_1", "object": "invoice", "description": padding}}})
    .to_string()
    .into_bytes()
}

/// `Stripe-Signature` of a body as Stripe makes it (docs.stripe.com/webhooks#verify-manually).
pub(crate) fn sign(secret: &str, at_s: u64, body: &[u8]) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{at_s}.").as_bytes());
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at_s},v1={hex}")
}

/// The headers of a delivery to an endpoint, signed now.
pub(crate) fn delivery(envoy: &Envoy, endpoint: &str, body: &[u8]) -> Vec<(&'static str, String)> {
    vec![
        (":method", "POST".to_owned()),
        (":scheme", "http".to_owned()),
        (":authority", "gateway".to_owned()),
        (":path", format!("/webhooks/{endpoint}")),
        ("content-type", "application/json".to_owned()),
        ("stripe-signature", sign(SECRET, envoy.wall_ms() / 1000, body)),
    ]
}

pub(crate) use stage::rogue::{Decide, pays};

/// It may not: the credits are used up.
pub(crate) fn broke(_: &Value, _: &Value) -> Value {
    json!({"decision": "refused", "refusal": {"reason": "insufficient_credits", "status": 402,
        "title": "Credits used up", "detail": "Buy credits.", "balance_micro": 0, "required_micro": 1_000_000,
        "buy_url": "https://example.com/credits", "remember_ms": 0, "payer": "alice", "epoch": 1}})
}

/// The document in a call.
pub(crate) fn document(call: &Call) -> Value {
    serde_json::from_slice(&call.body).unwrap()
}

/// Answers every call that is under way, and all that follow from that, as a billing service does; gives them back.
pub(crate) fn billing(vm: &Vm, decide: Decide<'_>) -> Result<Vec<Call>, Failure> {
    let mut served = Vec::new();
    while let Some(call) = calls(vm)?.into_iter().next() {
        assert_eq!(call.header("authorization"), "Bearer tollgate-demo-gateway");
        vm.answer(&call, Answer::json(200, answer(&call, decide).to_string()))?;
        served.push(call);
    }
    Ok(served)
}

/// The calls that are under way, oldest first. The poll for news is none of them: it is there all the time.
pub(crate) fn calls(vm: &Vm) -> Result<Vec<Call>, Failure> {
    Ok(vm.calls()?.into_iter().filter(|call| !call.path().starts_with(PATH_WATCH)).collect())
}

/// What it answers to one call.
pub(crate) fn answer(call: &Call, decide: Decide<'_>) -> Value {
    stage::rogue::honest(&call.path(), &document(call), decide)
}

/// What a stream was refused with: status and reason.
pub(crate) fn refusal(stream: &Stream) -> (u32, String) {
    let reply = stream.reply().expect("a refusal");
    let body: Value = serde_json::from_str(&reply.text()).unwrap_or_default();
    (reply.status, body["reason"].as_str().unwrap_or_default().to_owned())
}

/// No invariant of the filter is broken.
pub(crate) fn assert_no_bug(envoy: &Envoy) {
    let bugs: Vec<_> = envoy.metrics().into_iter().filter(|(name, _)| name.contains("bug")).collect();
    assert!(bugs.is_empty(), "{bugs:?}");
}
