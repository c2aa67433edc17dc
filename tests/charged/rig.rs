//! A stage that charges by use, and what its tests have in common.

use serde_json::{Value, json};
use stage::client::Call;
use stage::harness::{Options, Stage, eventually};
use stage::settings::Settings;

/// What is sold in these tests.
pub(crate) const CATALOG: &str = include_str!("catalog.yaml");

/// A stage that sells by it.
pub(crate) fn start() -> Stage {
    Stage::start(options())
}

/// The same, to be changed further.
pub(crate) fn options() -> Options {
    Options::default().catalog(CATALOG)
}

/// A request to be sent: its script for the upstream, and its body.
#[derive(Clone)]
pub(crate) struct Asked {
    url: String,
    key: String,
    script: String,
    body: Value,
}

/// A chat request of the scripted model.
pub(crate) fn chat(stage: &Stage, key: &str, script: &str) -> Asked {
    let messages = json!([{ "role": "user", "content": "hello there" }]);
    Asked::new(stage, "/v1/chat/completions", key, script, &json!({ "messages": messages }))
}

impl Asked {
    /// A request of the scripted model to any path.
    pub(crate) fn new(stage: &Stage, path: &str, key: &str, script: &str, body: &Value) -> Self {
        let (url, key, script) = (stage.settings().gateway(path), key.to_owned(), script.to_owned());
        Self { url, key, script, body: json!({ "model": "scripted" }) }.with(body)
    }

    /// The same with more in its body.
    pub(crate) fn with(mut self, more: &Value) -> Self {
        for (name, value) in more.as_object().unwrap() {
            self.body[name] = value.clone();
        }
        self
    }

    /// The same through another Envoy.
    pub(crate) fn at(self, settings: &Settings) -> Self {
        let path = self.url.splitn(4, '/').nth(3).unwrap_or_default();
        Self { url: settings.gateway(&format!("/{path}")), ..self }
    }

    pub(crate) fn call(&self) -> Call {
        Call::post(&self.url).bearer(&self.key).header("x-script", &self.script).json(&self.body)
    }

    /// A number in its body.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.body[name].as_u64()
    }

    /// The most input tokens that it can be.
    pub(crate) fn bytes(&self) -> i64 {
        i64::try_from(self.body.to_string().len()).unwrap()
    }

    /// The input tokens that it probably is.
    pub(crate) fn probable_input(&self) -> i64 {
        (self.bytes() + 3) / 4
    }
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

/// A customer who has a credit, and what is left of it.
pub(crate) struct Purse {
    pub(crate) key: String,
    account: &'static str,
    pub(crate) left: i64,
    pub(crate) records: usize,
}

impl Purse {
    pub(crate) async fn of(stage: &Stage, account: &'static str) -> Self {
        Self { key: customer(stage, account, 1_000_000).await, account, left: 1_000_000, records: 0 }
    }

    /// A request was charged so much, and by what.
    pub(crate) async fn paid(&mut self, stage: &Stage, cost: i64, basis: &str) -> Value {
        self.left -= cost;
        self.records += 1;
        has(stage, self.account, self.left).await;
        let told = record(stage, &self.key, self.records).await;
        assert_eq!((&told["charged_micro"], &told["basis"]), (&json!(cost), &json!(basis)), "{told}");
        told
    }

    /// A request was not charged, and the books say how it ended.
    pub(crate) async fn kept(&mut self, stage: &Stage, outcome: &str) {
        self.records += 1;
        let told = record(stage, &self.key, self.records).await;
        assert_eq!((&told["charged_micro"], &told["outcome"]), (&json!(0), &json!(outcome)), "{told}");
        has(stage, self.account, self.left).await;
    }
}
