//! Customers, load and books, for tests that count what was served against what was charged.

use serde_json::{Value, json};
use stage::client::{Call, Client};
use stage::harness::{Gateway, Stage, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// A credit.
pub(crate) const MICRO: i64 = 1_000_000;

/// A request for an endpoint that costs a credit and that no free window pays for.
pub(crate) fn embed(gateway: &Gateway, key: &str, script: &str) -> Call {
    let url = gateway.settings.gateway("/v1/embeddings");
    Call::post(url).bearer(key).header("x-script", script).json(&json!({ "input": "hello" }))
}

/// An account with credits; its API key.
pub(crate) async fn customer(stage: &Stage, id: &str, credits: u32) -> String {
    stage.account(id, credits).await;
    key(stage, id).await
}

/// One more API key.
pub(crate) async fn key(stage: &Stage, id: &str) -> String {
    let made = stage.admin_post("/admin/v1/api-keys", &json!({ "account": id })).await;
    made["key"].as_str().unwrap().to_owned()
}

/// Requests without pause from so many clients, until told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    running: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(gateway: &Gateway, key: &str, script: &str, clients: usize) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut running = JoinSet::new();
        for _ in 0..clients {
            let (client, call) = (Client::default(), embed(gateway, key, script));
            let (stop, served) = (stop.clone(), served.clone());
            running.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match client.send(call.clone()).await {
                        Ok(answer) if answer.status == 200 => _ = served.fetch_add(1, Ordering::Relaxed),
                        _ => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                }
            });
        }
        Self { stop, served, running }
    }

    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    pub(crate) async fn reaches(&self, count: usize) {
        eventually("the load gets going", async || self.served() >= count).await;
    }

    pub(crate) async fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while self.running.join_next().await.is_some() {}
        self.served()
    }
}

/// What the ledger says of an account.
pub(crate) async fn books(stage: &Stage, id: &str) -> Value {
    stage.admin_get(&format!("/admin/v1/accounts/{id}")).await
}

/// What is lent or held of an account's grants, in micro-credits.
pub(crate) fn lent(books: &Value) -> i64 {
    let grants = books["grants"].as_array().into_iter().flatten();
    grants.map(|grant| grant["leased_micro"].as_i64().unwrap_or(0)).sum()
}
