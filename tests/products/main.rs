//! One engine, five products: each catalog under `catalogs/` does through real Envoy what its product's document asks for.
//!
//! A product's paths, numbers, statuses and texts stand in its catalog, so every test here starts from the shipped file as it is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "what does not hold in a test is the test's failure"
)]

mod allthrive;
mod awareness;
mod icraft;
mod play;
mod threshold;
mod vantage;

use serde_json::{Value, json};
use stage::client::{Answer, Call};
use stage::harness::{Options, Stage, eventually};

fn start(product: &str) -> Stage {
    Stage::start(Options::default().with("CATALOG", format!("catalogs/{product}.yaml")))
}

/// What Stripe is told when it delivers an event there.
async fn told(stage: &Stage, path: &str, event: &Value) -> u16 {
    stage.gateway.send(stage.gateway.delivery(path, event)).await.status
}

/// Delivers an event, which is taken.
async fn deliver(stage: &Stage, path: &str, event: &Value) {
    let answer = stage.gateway.send(stage.gateway.delivery(path, event)).await;
    assert_eq!(answer.status, 200, "{event}: {}", answer.text());
}

/// A request of a customer for something that is sold.
async fn ask(stage: &Stage, bearer: &str, path: &str, script: &str) -> Answer {
    let body = json!({ "model": "scripted", "messages": [{ "role": "user", "content": "hello" }] });
    let call = Call::post(stage.settings().gateway(path)).bearer(bearer).header("x-script", script);
    stage.gateway.send(call.json(&body)).await
}

/// What customers see under a path, of their own.
async fn mine(stage: &Stage, bearer: &str, path: &str) -> Value {
    let answer = stage.gateway.send(Call::get(stage.settings().gateway(path)).bearer(bearer)).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// So much is left, and nothing is held: every request that was under way is told and paid for.
async fn has(stage: &Stage, account: &str, credits: &str) {
    eventually(&format!("{account} has {credits}"), async || {
        let books = stage.admin_get(&format!("/admin/v1/accounts/{account}")).await;
        books["held_micro"] == 0 && books["balance"] == credits
    })
    .await;
}

/// What became of an event: its status, and what is said of it.
async fn outcome(stage: &Stage, id: &str) -> (String, String) {
    let events = stage.admin_get("/admin/v1/events").await;
    let found = events["items"].as_array().unwrap().iter().find(|event| event["id"] == id);
    let found = found.unwrap_or_else(|| panic!("no event {id} in {events}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("detail"))
}

/// One event under each of the product's paths: forged it is 400 and goes no further, genuine it is 200.
async fn webhooks(stage: &Stage, paths: &[&str]) {
    for (n, path) in paths.iter().enumerate() {
        let event = play::customer(&format!("evt_signature_{n}"), "cus_signature");
        let forged =
            Call::post(stage.settings().gateway(path)).header("stripe-signature", "invalid").json(&event);
        assert_eq!(stage.gateway.send(forged).await.status, 400, "{path}");
        let unsigned = Call::post(stage.settings().gateway(path)).json(&event);
        assert_eq!(stage.gateway.send(unsigned).await.status, 400, "{path}");
        assert_eq!(told(stage, path, &event).await, 200, "{path}");
        let read = stage.gateway.send(Call::get(stage.settings().gateway(path))).await;
        assert_eq!((read.status, read.header("allow")), (405, "POST"), "{path}");
    }
}

/// Every test that `docs/products.md` names by its whole name is there.
#[test]
fn what_the_document_names_is_there() {
    let root = stage::tools::root().unwrap();
    let read = |path: &str| {
        std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let text = read("docs/products.md");
    let mut named = 0;
    for word in text.split('`').skip(1).step_by(2).filter(|word| !word.ends_with('…')) {
        let (files, test) = match word.split("::").collect::<Vec<_>>()[..] {
            ["products", file, test] => (vec![format!("tests/products/{file}.rs")], test),
            ["it", file, test] => (vec![format!("crates/billing/tests/it/{file}.rs")], test),
            ["products", _] => continue,
            [file, test] => (vec![format!("tests/{file}.rs")], test),
            [test]
                if test.matches('_').count() > 3
                    && test.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) =>
            {
                let all = ["threshold", "allthrive", "icraft", "vantage", "awareness"];
                (all.map(|file| format!("tests/products/{file}.rs")).to_vec(), test)
            }
            _ => continue,
        };
        assert!(files.iter().any(|file| read(file).contains(&format!("fn {test}("))), "{word} is not there");
        named += 1;
    }
    assert!(named > 40, "{named} tests are named");
}
