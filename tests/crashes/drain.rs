//! Envoy ends in order, or takes a new configuration: what was used is reported, and what was lent comes back.

use crate::impatient;
use crate::support::{Load, MICRO, books, customer, lent};
use serde_json::{Value, json};
use stage::client::Call;
use stage::harness::{Options, Stage, eventually, within};
use stage::pushed::Push;
use std::time::Duration;

/// An idle lease goes back by itself after half of its time: sooner than that only if it is given back.
const SOON: Duration = Duration::from_secs(10);
/// What was lent to an Envoy that has ended goes soft, then hard.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

async fn used(stage: &Stage) -> i64 {
    i64::try_from(stage.upstream.count()).unwrap() * MICRO
}

/// What is charged already, whatever is lent.
fn charged(books: &Value, granted: i64) -> i64 {
    granted * MICRO - books["balance_micro"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_is_replaced_reports_and_gives_back() {
    // Old connections, and the old filter with them, are kept for a second instead of ten minutes.
    let mut stage = Stage::start(Options::default().pushable(1));
    let key = customer(&stage, "replaced", 10_000).await;
    let mut served = 0;
    for (number, push) in [Push::Roots, Push::Vms, Push::Roots].into_iter().enumerate() {
        let load = Load::start(&stage.gateway, &key, "", 2);
        load.reaches(100).await;
        let before = (stage.billing_calls("hello").await, vms(&stage).await);
        stage.gateway.push(|file| push.edit(u32::try_from(number).unwrap() + 1, file)).await;
        let so_far = load.served();
        eventually("it serves on", async || load.served() > so_far + 100).await;
        let after = (stage.billing_calls("hello").await, vms(&stage).await);
        // Who this process is stands in shared memory, so nobody has to ask, and nothing is lent to somebody new.
        assert_eq!(before.0, after.0, "{push:?}");
        // Each configuration is tried in a VM of its own first, which is thrown away: one for each role.
        let made = after.1 - before.1;
        assert_eq!(made > 2, push == Push::Vms, "{push:?}: {made} VMs were made");
        served += i64::try_from(load.end().await).unwrap() * MICRO;
        assert!(lent(&books(&stage, "replaced").await) > 0);
    }
    // And then with the listener gone altogether, nobody asks for anything any more.
    stage.gateway.push(|file| file.set("/static_resources/listeners", json!([]))).await;
    within(SOON, "all is told and given back", async || {
        let books = books(&stage, "replaced").await;
        charged(&books, 10_000) >= served && lent(&books) == 0
    })
    .await;
    // An old connection that is cut in the midst of a request delivers nothing, so that one is not charged.
    let charged = charged(&books(&stage, "replaced").await, 10_000);
    assert!((served..=used(&stage).await).contains(&charged), "{charged}");
    stage.finish();
}

/// How many VMs Envoy has made.
async fn vms(stage: &Stage) -> u64 {
    stage.gateway.stats().await.get("wasm.envoy.wasm.runtime.v8.created").copied().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_is_drained_first_and_then_ended_leaves_no_doubt() {
    let mut stage = Stage::start(impatient());
    let key = customer(&stage, "drained", 10_000).await;
    let load = Load::start(&stage.gateway, &key, "delay_ms=20", 4);
    load.reaches(50).await;
    let drain = Call::post(stage.settings().admin("/drain_listeners?graceful"));
    assert_eq!(stage.gateway.send(drain).await.status, 200);
    // As whoever stands in front of it does, once it asks for that.
    load.end().await;
    // What is held is off the balance too: its end has to be told as well.
    eventually("what was used is told", async || {
        let books = books(&stage, "drained").await;
        books["held_micro"] == 0 && charged(&books, 10_000) == used(&stage).await
    })
    .await;
    stage.gateway.envoy.stop();
    within(SETTLED_WITHIN, "what was lent is back", async || lent(&books(&stage, "drained").await) == 0)
        .await;
    assert_eq!(charged(&books(&stage, "drained").await, 10_000), used(&stage).await);
    stage.restart_envoy();
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_is_ended_at_once_costs_no_more_than_one_that_dies() {
    let mut stage = Stage::start(impatient());
    let key = customer(&stage, "ended", 2_000).await;
    let load = Load::start(&stage.gateway, &key, "delay_ms=20", 4);
    load.reaches(50).await;
    let in_doubt = lent(&books(&stage, "ended").await);
    stage.gateway.envoy.stop();
    load.end().await;
    within(SETTLED_WITHIN, "what was lent is back", async || lent(&books(&stage, "ended").await) == 0).await;
    let lost = used(&stage).await - charged(&books(&stage, "ended").await, 2_000);
    println!("{lost} lost, {in_doubt} in doubt");
    assert!((0..=in_doubt).contains(&lost), "{lost} of {in_doubt}");
    stage.restart_envoy();
    stage.finish();
}
