//! What clients, upstreams and billing services get wrong, through real Envoy: each has a defined answer, and the same worker serves the next.
//!
//! Only what Envoy has a part in is shown here: connections, frames, limits and timeouts. What an answer says, byte by
//! byte, is shown to the module and to the pure crates. Every Envoy here has one worker, so that the next request meets
//! whatever the last one left.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "what does not hold in a test is the test's failure"
)]

mod billing;
mod clients;
mod leaving;
mod upstreams;

use serde_json::{Value, json};
use stage::client::{Answer, Call};
use stage::harness::{Options, Stage, eventually};
use stage::stripe::event;

const APP: &str = "/webhooks/app";

fn one_worker() -> Options {
    Options::default().with("ENVOY_CONCURRENCY", 1)
}

fn embed(stage: &Stage, key: &str, script: &str) -> Call {
    let url = stage.settings().gateway("/v1/embeddings");
    Call::post(url).bearer(key).header("x-script", script).json(&json!({ "input": "hello" }))
}

fn note(id: &str) -> Value {
    event(id, "customer.updated", &json!({ "id": "cus_nobody", "object": "customer" }))
}

async fn customer(stage: &Stage, id: &str, credits: u32) -> String {
    stage.account(id, credits).await;
    let made = stage.admin_post("/admin/v1/api-keys", &json!({ "account": id })).await;
    made["key"].as_str().unwrap().to_owned()
}

/// So much is left, and nothing is held: every request that was under way is told and paid for.
async fn has(stage: &Stage, account: &str, credits: u32, why: &str) {
    let expected = credits.to_string();
    eventually(&format!("{account} has {credits} after {why}"), async || {
        let books = stage.admin_get(&format!("/admin/v1/accounts/{account}")).await;
        books["held_micro"] == 0 && books["balance"] == expected
    })
    .await;
}

/// Stripe's retry of an event, which comes until it is neither in flight (409) nor beyond our power (503).
async fn retried(stage: &Stage, event: &Value) -> Answer {
    for _ in 0..200 {
        let answer = stage.gateway.send(stage.gateway.delivery(APP, event)).await;
        if !matches!(answer.status, 409 | 503) {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("still not taken after four seconds");
}

/// No invariant of the filter is broken, and no VM was loaded anew.
async fn unharmed(stage: &Stage) {
    let stats = stage.gateway.stats().await;
    let harm = |name: &str| name.contains("tollgate_bugs_total") || name.contains("vm_reload");
    let harmed: Vec<_> = stats.iter().filter(|(name, count)| harm(name) && **count > 0).collect();
    assert!(harmed.is_empty(), "{harmed:?}");
}
