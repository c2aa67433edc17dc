//! A filter that traps: what waits in its worker ends in bounded time, other workers go on, and no credit is lost beyond
//! what was under way.

use crate::impatient;
use crate::support::{Load, MICRO, books, customer, embed, lent};
use serde_json::json;
use stage::client::{Call, Client};
use stage::harness::{Gateway, Options, Stage, eventually, within};
use stage::processes::Signal;
use stage::stripe::event;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A worker's silence until it is taken for dead, and then its leases' way through soft and hard.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// What this test sets in place of the shipped `idle_timeout` of the paid routes, which is all that ends a request that a
/// trap left waiting: Envoy's `request_timeout` is over once the request has come in.
const IDLE_TIMEOUT: Duration = Duration::from_secs(8);

fn that_trap() -> Options {
    impatient().that_traps().edit(|file| {
        let routes = file.http()?.pointer_mut("/route_config/virtual_hosts/0/routes").unwrap();
        let timeouts = routes.as_array_mut().unwrap().iter_mut().filter_map(|route| {
            let timeout = route.pointer_mut("/route/idle_timeout")?;
            Some(std::mem::replace(timeout, json!(format!("{}s", IDLE_TIMEOUT.as_secs()))))
        });
        let shipped = ["15s", "15s", "300s", "15s"];
        assert_eq!(
            timeouts.collect::<Vec<_>>(),
            shipped,
            "webhooks, paid, own data: as docs/failure.md has it"
        );
        // Whoever waits for billing does so until it goes on, on however slow a machine.
        file.plugin("ai", |plugin| plugin["billing"]["timeout_ms"] = json!(IDLE_TIMEOUT.as_millis()))?;
        Ok(())
    })
}

fn trapping(gateway: &Gateway, key: &str, place: &str) -> Call {
    embed(gateway, key, "").header("x-test-trap", place)
}

async fn reloads(gateway: &Gateway, role: &str) -> u64 {
    gateway.stats().await.get(&format!("wasm.tollgate-{role}.vm_reload_success")).copied().unwrap_or(0)
}

/// Sends requests over new connections, so that the worker that trapped gets one too, which loads the filter anew.
async fn loaded_anew(gateway: &Gateway, role: &str, times: u64, call: impl Fn() -> Call) {
    eventually("the filter is loaded anew", async || {
        let answer = Client::default().send(call()).await.unwrap();
        assert!([200, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
        reloads(gateway, role).await == times
    })
    .await;
}

/// Waits until nothing is lent or held, and tells what is charged.
async fn charged(stage: &Stage, id: &str, granted: i64) -> i64 {
    within(SETTLED_WITHIN, "nothing is held or lent", async || {
        let books = books(stage, id).await;
        books["held_micro"] == 0 && lent(&books) == 0
    })
    .await;
    granted * MICRO - books(stage, id).await["balance_micro"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_ends_what_waits_in_its_worker_in_bounded_time_and_other_workers_go_on() {
    let stage = Stage::start(that_trap());
    let key = customer(&stage, "waits", 1_000).await;
    // Billing keeps everybody waiting.
    stage.billing.as_ref().unwrap().signal(Signal::STOP);
    let mut waiting = JoinSet::new();
    for _ in 0..24 {
        // A connection each, so that both workers have some.
        let (client, call) = (Client::default(), embed(&stage.gateway, &key, ""));
        waiting.spawn(async move {
            let began = Instant::now();
            (client.send(call).await.map(|answer| answer.status).ok(), began.elapsed())
        });
    }
    let active = async || stage.gateway.stats().await.get("http.gateway.downstream_rq_active").copied();
    eventually("all of them wait", async || active().await == Some(24)).await;
    let trapper = {
        let (client, call) = (Client::default(), trapping(&stage.gateway, &key, "root"));
        tokio::spawn(async move { client.send(call).await })
    };
    let trapped = async || stage.gateway.trap().is_some();
    eventually("the filter traps", trapped).await;
    stage.billing.as_ref().unwrap().signal(Signal::CONT);
    let ends = waiting.join_all().await;
    let served = ends.iter().filter(|(status, _)| *status == Some(200)).count();
    let cut: Vec<_> = ends.iter().filter(|(status, _)| *status != Some(200)).collect();
    println!("{served} served by the other worker, {} cut: {cut:?}", cut.len());
    assert!(served > 0, "the other worker goes on: {ends:?}");
    for (status, after) in &cut {
        assert!(matches!(status, Some(408 | 503 | 504)), "{ends:?}");
        assert!(*after < IDLE_TIMEOUT + Duration::from_secs(2), "in bounded time: {ends:?}");
    }
    assert!(trapper.await.unwrap().map_or(true, |answer| answer.status != 200));
    loaded_anew(&stage.gateway, "ai", 1, || embed(&stage.gateway, &key, "")).await;
    for _ in 0..20 {
        assert_eq!(Client::default().send(embed(&stage.gateway, &key, "")).await.unwrap().status, 200);
    }
    assert_eq!((reloads(&stage.gateway, "ai").await, reloads(&stage.gateway, "webhook").await), (1, 0));
    let used = i64::try_from(stage.upstream.count()).unwrap() * MICRO;
    assert_eq!(charged(&stage, "waits", 1_000).await, used, "what never passed is not charged");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_under_load_loses_no_more_than_what_that_worker_had_under_way() {
    let stage = Stage::start(that_trap().with("CRASH_POLICY", "refund"));
    let key = customer(&stage, "loaded", 100_000).await;
    let clients = 8;
    let load = Load::start(&stage.gateway, &key, "delay_ms=30", clients);
    let traps: i64 = 2;
    for n in 1..=traps {
        load.reaches(usize::try_from(n).unwrap() * 150).await;
        let trapped = Client::default().send(trapping(&stage.gateway, &key, "request")).await;
        assert!(trapped.map_or(true, |answer| answer.status == 503));
        let before = load.served();
        eventually("it is served on", async || load.served() > before + 20).await;
        let times = u64::try_from(n).unwrap();
        loaded_anew(&stage.gateway, "ai", times, || embed(&stage.gateway, &key, "")).await;
    }
    load.end().await;
    let used = i64::try_from(stage.upstream.count()).unwrap() * MICRO;
    let charged = charged(&stage, "loaded", 100_000).await;
    let lost = used - charged;
    println!("{used} used, {charged} charged");
    let under_way = i64::try_from(clients).unwrap() * MICRO;
    assert!(
        (0..=traps * under_way).contains(&lost),
        "{lost} of at most {under_way} in each of {traps} traps"
    );
    let faults = stage.gateway.stats().await;
    let bugs: u64 = faults.iter().filter(|(name, _)| name.contains("tollgate_bugs")).map(|(_, n)| n).sum();
    assert_eq!(bugs, 0);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_in_one_role_spares_the_other_and_the_event_comes_through() {
    let stage = Stage::start(that_trap());
    let key = customer(&stage, "spared", 1_000).await;
    let load = Load::start(&stage.gateway, &key, "", 2);
    load.reaches(20).await;
    let object = json!({ "id": "cus_nobody", "object": "customer" });
    let call = || stage.gateway.delivery("/webhooks/app", &event("evt_trap", "customer.updated", &object));
    let answer = stage.gateway.send(call().header("x-test-trap", "request")).await;
    assert_eq!(answer.status, 503, "Stripe retries it");
    let before = load.served();
    loaded_anew(&stage.gateway, "webhook", 1, call).await;
    eventually("the retry is taken", async || stage.gateway.send(call()).await.status == 200).await;
    let handled = || stage.upstream.requests().iter().filter(|item| item.path == "/webhooks/app").count();
    assert_eq!(handled(), 1, "once");
    eventually("the other role serves on", async || load.served() > before).await;
    load.end().await;
    assert_eq!((reloads(&stage.gateway, "ai").await, reloads(&stage.gateway, "webhook").await), (0, 1));
    let used = i64::try_from(stage.upstream.count() - 1).unwrap() * MICRO;
    assert_eq!(charged(&stage, "spared", 1_000).await, used);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_module_that_ships_cannot_be_asked_to_trap() {
    let stage = Stage::start(Options::default());
    let key = customer(&stage, "tries", 10).await;
    for place in ["request", "root"] {
        assert_eq!(stage.gateway.send(trapping(&stage.gateway, &key, place)).await.status, 200);
    }
    let tools = stage::tools::Tools::find(&stage::tools::root().unwrap()).unwrap();
    let asks = |module| {
        let module: Vec<u8> = std::fs::read(module).unwrap();
        module.windows(11).any(|bytes| bytes == b"x-test-trap")
    };
    assert!(asks(tools.trapping_module().unwrap()), "or the search proves nothing");
    assert!(!asks(tools.module));
    stage.finish();
}
