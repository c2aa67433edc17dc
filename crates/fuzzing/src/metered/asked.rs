//! What is configured, and what a client sends.

use crate::dice::Dice;
use crate::tree;
use gate::config::Config;
use gate::{Headers, Role};
use serde_json::{Value, json};

pub(super) const KEY: &str = "tgk_0123456789abcdefghijABCDEFGHIJ01";
pub(super) const OTHER_KEY: &str = "tgk_1123456789abcdefghijABCDEFGHIJ01";
pub(super) const TOKEN: &str = "gateway-token-secret";
pub(super) const BODY_BYTES_MAX: usize = 1000;

/// How the requests of a path are held and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) hold: &'static str,
    pub(super) usage: &'static str,
}

/// The routes with a price.
pub(super) const ROUTES: [Route; 6] = [
    Route { path: "/v1/chat", hold: "fixed", usage: "none" },
    Route { path: "/v1/most", hold: "max_tokens", usage: "openai" },
    Route { path: "/v1/guess", hold: "estimate", usage: "openai" },
    Route { path: "/v1/said", hold: "fixed", usage: "openai" },
    Route { path: "/v1/claude", hold: "max_tokens", usage: "anthropic" },
    Route { path: "/v1/head", hold: "max_tokens", usage: "header" },
];

impl Route {
    /// The route of a path, as it is configured.
    pub(super) fn of(path: &str, head: bool) -> Option<Self> {
        let route = ROUTES.into_iter().find(|route| Some(route.path) == path.split('?').next())?;
        // Who does not wait for the body cannot read it.
        Some(if head { Self { hold: "fixed", ..route } } else { route })
    }
}

pub(super) fn role(shadow: bool, head: bool) -> Role {
    let (mode, wait) = (if shadow { "shadow" } else { "enforce" }, if head { "head" } else { "body" });
    let mut routes: Vec<Value> = ROUTES
        .iter()
        .map(|route| {
            let Route { hold, usage, .. } = Route::of(route.path, head).unwrap();
            let mut one = json!({"method": "POST", "path": route.path, "endpoint": "chat", "hold": hold,
                "usage": usage, "consult": "every_request", "on_unavailable": "deny"});
            if usage == "header" {
                one["usage"] = json!({"header": {"input": "x-in", "output": "x-out"}});
                one["request"] = json!("openai");
            }
            one
        })
        .collect();
    routes.push(json!({"method": "GET", "path": "/v1/models", "endpoint": "models", "cost": 0}));
    routes.push(json!({"method": "GET", "prefix": "/billing/", "vouch": true}));
    let json = json!({"role": "ai", "mode": mode, "wait": wait, "body_bytes_max": BODY_BYTES_MAX,
        "billing": {"cluster": "billing", "timeout_ms": 2000, "token_env": "TOKEN", "node_env": "NODE"},
        "identity": [{"kind": "jwt", "metadata": ["jwt", "payload"], "claim": "sub"},
            {"kind": "api_key", "prefix": "tgk_", "length": 36, "headers": ["authorization", "x-api-key"]}],
        "routes": routes});
    let env = |name: &str| Some(if name == "NODE" { "n1".to_owned() } else { TOKEN.to_owned() });
    Role::from(Config::resolve(json.to_string().as_bytes(), &env).unwrap())
}

/// A request's headers; `usual` ones are those of somebody who is known.
pub(super) fn request(dice: &mut Dice<'_>, usual: bool) -> Headers {
    let line = if usual {
        ("POST", dice.pick(&ROUTES).path)
    } else {
        dice.pick(&[
            ("POST", "/v1/chat"),
            ("POST", "/v1/most?x=1"),
            ("GET", "/v1/models"),
            ("GET", "/billing/balance"),
            ("OPTIONS", "/v1/chat"),
            ("GET", "/v1/chat"),
            ("CONNECT", "/v1/chat"),
            ("POST", "/elsewhere"),
        ])
    };
    let mut pairs: Vec<(String, Vec<u8>)> =
        vec![(":method".into(), line.0.into()), (":path".into(), line.1.into())];
    if usual {
        pairs.push(("x-api-key".into(), KEY.into()));
        if dice.rarely(3) {
            pairs.push(("idempotency-key".into(), dice.pick(&[&b"k"[..], b"k2", b"", b"\xff"]).into()));
        }
        return Headers::new(pairs);
    }
    for _ in 0..dice.below(6) {
        let name = match dice.below(14) {
            0..=3 => "authorization".to_owned(),
            4 | 5 => "x-api-key".to_owned(),
            6 => "x-tollgate-account".to_owned(),
            7 => "X-Tollgate-Charge".to_owned(),
            8 => "x-request-id".to_owned(),
            9 => "content-length".to_owned(),
            10 => "upgrade".to_owned(),
            11 => "origin".to_owned(),
            12 => "access-control-request-method".to_owned(),
            _ => dice.text(12),
        };
        let value = match dice.below(10) {
            0 => KEY.as_bytes().to_vec(),
            1..=3 => format!("Bearer {KEY}").into_bytes(),
            4 => format!("bearer  {OTHER_KEY} ").into_bytes(),
            5 => b"Bearer eyJhbGciOiJFUzI1NiJ9.e30.c2ln".to_vec(),
            6 => format!("{KEY},{KEY}").into_bytes(),
            7 => b"1001".to_vec(),
            8 => Vec::new(),
            _ => dice.bytes(40).to_vec(),
        };
        pairs.push((name, value));
    }
    Headers::new(pairs)
}

/// A request's body: mostly a chat, or nearly one; else anything.
pub(super) fn body(dice: &mut Dice<'_>) -> Vec<u8> {
    if dice.rarely(5) {
        return match dice.below(3) {
            0 => vec![b' '; dice.below(2 * BODY_BYTES_MAX)],
            1 => dice.bytes(100).to_vec(),
            _ => Vec::new(),
        };
    }
    let model = dice.pick(&["m", "m", "dear", "free", "elsewhere"]);
    let mut chat = json!({"model": model, "messages": [{"role": "user", "content": "hello"}]});
    if dice.flag() {
        chat["max_tokens"] = dice.pick(&[json!(5), json!(90), json!(100_000), json!(0), json!(null)]);
    }
    if dice.rarely(4) {
        chat["max_completion_tokens"] = json!(dice.below(300));
    }
    if dice.flag() {
        chat["stream"] = json!(true);
    }
    if dice.rarely(3) {
        chat["stream_options"] = dice.pick(&[json!({"include_usage": true}), json!({}), json!(null)]);
    }
    if dice.rarely(3) {
        chat["n"] = json!(dice.below(4));
    }
    if dice.rarely(4) {
        tree::change(&mut chat, dice);
    }
    if dice.rarely(12) {
        chat["user"] = json!("x".repeat(BODY_BYTES_MAX - dice.below(200)));
    }
    chat.to_string().into_bytes()
}
