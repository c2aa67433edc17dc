//! A stage that charges by use, and what its tests have in common.

use serde_json::{Value, json};
use stage::client::Call;
use stage::harness::{Options, Stage, eventually};

/// What is sold in these tests.
pub(crate) const CATALOG: &str = include_str!("catalog.yaml");

/// A stage that sells by it.
pub(crate) fn start() -> Stage {
    Stage::start(options())
}

/// The same, to be changed further.
pub(crate) fn options() -> Options {
    let read = |hold: &'static str, usage: &'static str| {
        move |rule: &mut Value| {
            rule["hold"] = json!(hold);
            rule["usage"] = json!(usage);
        }
    };
    Options::default()
        .catalog(CATALOG)
        .rule("/v1/chat/completions", read("max_tokens", "openai"))
        .rule("/v1/completions", read("max_tokens", "openai"))
        .rule("/v1/messages", read("max_tokens", "anthropic"))
        .rule("/v1/responses", read("max_tokens", "openai_responses"))
        .rule("/v1/embeddings", read("max_tokens", "openai"))
        .rule("/v1/estimated/chat/completions", read("estimate", "openai"))
}

/// A chat request of the scripted model.
pub(crate) fn chat(stage: &Stage, key: &str, script: &str, more: &Value) -> Call {
    post(stage, "/v1/chat/completions", key, script, more)
}

/// A request to any path, with a prompt of some words.
pub(crate) fn post(stage: &Stage, path: &str, key: &str, script: &str, more: &Value) -> Call {
    let mut body = json!({ "model": "scripted", "messages": [{ "role": "user", "content": "hello there" }] });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    Call::post(stage.settings().gateway(path)).bearer(key).header("x-script", script).json(&body)
}

/// An account with an API key and so many micro-credits.
pub(crate) async fn customer(stage: &Stage, id: &str, micro: u64) -> String {
    stage.account(id, 0).await;
    let credits = format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000);
    stage.admin_post("/admin/v1/grants", &json!({ "account": id, "credits": credits, "note": "test" })).await;
    let made = stage.admin_post("/admin/v1/api-keys", &json!({ "account": id })).await;
    made["key"].as_str().unwrap().to_owned()
}

/// Waits until the account has so much, debt taken off, and nothing is held: what was spent on a lease is told a moment later.
pub(crate) async fn has(stage: &Stage, account: &str, micro: i64) {
    let path = format!("/admin/v1/accounts/{account}");
    let last = std::sync::Mutex::new(Value::Null);
    let right = async || {
        let books = stage.admin_get(&path).await;
        let right = books["held_micro"] == 0 && books["balance_micro"] == micro;
        *last.lock().unwrap() = books["balance_micro"].clone();
        right
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(8), async {
        while !right().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "{account} has {} and not {micro}", last.lock().unwrap());
}

/// The newest usage record of whoever has this key, once there are so many.
pub(crate) async fn record(stage: &Stage, key: &str, count: usize) -> Value {
    let path = stage.settings().gateway("/billing/usage");
    let list = async || stage.gateway.send(Call::get(&path).bearer(key)).await.json()["items"].clone();
    eventually("the usage is recorded", async || list().await.as_array().unwrap().len() >= count).await;
    list().await[0].clone()
}
