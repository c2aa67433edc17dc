//! Leases through real Envoys: warm requests make no call, no credit is spent twice, and what a crash costs is bounded.
//!
//! Clocks here are real, since crashes are: what has to run out is made short (`LEASE_TTL_MS`), and waited for by polling.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what does not hold in a test is the test's failure"
)]

mod support;

use serde_json::json;
use stage::client::{Call, Client};
use stage::harness::{Options, Stage, eventually, within};
use stage::link::Road;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Load, MICRO, books, customer, embed, key, lent};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Sends all of them, so many at a time; how many were answered 200, 402, 503, and otherwise or not at all.
async fn send_all(calls: Vec<(Client, Call)>, at_once: usize) -> [usize; 4] {
    let turns = Arc::new(Semaphore::new(at_once));
    let mut running = JoinSet::new();
    for (client, call) in calls {
        let turns = turns.clone();
        running.spawn(async move {
            let _turn = turns.acquire_owned().await.unwrap();
            client.send(call).await.map_or(0, |answer| answer.status)
        });
    }
    let mut counts = [0; 4];
    while let Some(status) = running.join_next().await {
        let kind = match status.unwrap() {
            200 => 0,
            402 => 1,
            503 => 2,
            _ => 3,
        };
        counts[kind] += 1;
    }
    counts
}

/// What is charged, once nothing is held or lent any more.
async fn charged(stage: &Stage, id: &str, granted: i64) -> i64 {
    eventually("nothing is held or lent", async || {
        let books = books(stage, id).await;
        books["held_micro"] == 0 && lent(&books) == 0
    })
    .await;
    let books = books(stage, id).await;
    granted * MICRO - books["balance_micro"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_warm_requests_make_hardly_a_call() {
    let stage = Stage::start(Options::default());
    let key = customer(&stage, "rich", 1_000_000).await;
    let calls_so_far = async || stage.billing_calls("sync").await + stage.billing_calls("hello").await;
    let before = calls_so_far().await;
    let began = Instant::now();
    let calls =
        (0..10_000).map(|_| (stage.gateway.client.clone(), embed(&stage.gateway, &key, ""))).collect();
    let counts = send_all(calls, 50).await;
    let (elapsed, calls) = (began.elapsed(), calls_so_far().await - before);
    assert_eq!(counts, [10_000, 0, 0, 0]);
    let workers = 2;
    let allowed = 2 * workers * elapsed.as_secs() + workers;
    assert!(calls <= allowed, "{calls} calls in {elapsed:?}, where {allowed} are allowed");
    println!("10000 warm requests in {elapsed:?}: {calls} calls to billing");
    eventually("everything is charged", async || stage.balance("rich").await == "990000").await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_credits_are_ten_requests_through_two_gateways() {
    let stage = Stage::start(Options::default());
    let other = stage.another_gateway();
    for round in 0..20 {
        let id = format!("ten{round}");
        // A pool: two subjects that spend from one account.
        let keys = [customer(&stage, &id, 10).await, key(&stage, &id).await];
        stage.upstream.clear();
        let calls = (0..200).map(|n| {
            let gateway = if n % 2 == 0 { &stage.gateway } else { &other };
            let key = &keys[if round % 2 == 0 { 0 } else { n / 2 % 2 }];
            (gateway.client.clone(), embed(gateway, key, ""))
        });
        let counts = send_all(calls.collect(), 200).await;
        assert_eq!((counts, stage.upstream.count()), ([10, 190, 0, 0], 10), "round {round}");
        assert_eq!(charged(&stage, &id, 10).await, 10 * MICRO);
    }
    drop(other);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_under_load_costs_no_more_than_its_lease() {
    for (policy, credits) in [("refund", 2_000), ("charge", 2_000)] {
        let options = Options::default()
            .with("LEASE_TTL_MS", 1500)
            .with("LEASE_TAIL_MS", 1500)
            .with("CRASH_POLICY", policy);
        let stage = Stage::start(options);
        let key = customer(&stage, "crash", credits).await;
        let mut other = stage.another_gateway();
        let (here, there) = (Load::start(&stage.gateway, &key, "", 4), Load::start(&other, &key, "", 4));
        here.reaches(40).await;
        there.reaches(40).await;
        other.envoy.kill();
        // What the dead one had reserved when it died is all that may be in doubt.
        let in_doubt = lent(&books(&stage, "crash").await);
        let served_here = here.end().await;
        let served_there = there.end().await;
        let charged = charged(&stage, "crash", i64::from(credits)).await;
        let true_use = i64::try_from(stage.upstream.count()).unwrap() * MICRO;
        assert!(true_use <= i64::from(credits) * MICRO, "{policy}: never more than was granted");
        assert!(served_here + served_there <= usize::try_from(true_use / MICRO).unwrap());
        let lost = true_use - charged;
        println!("{policy}: {true_use} used, {charged} charged, {in_doubt} in doubt when it died");
        match policy {
            "refund" => assert!((0..=in_doubt).contains(&lost), "{lost} of {in_doubt}"),
            // Not its lease, which is half of what the customer has: what four at a time held, and sixteen ahead.
            _ => assert!((-20 * MICRO..=0).contains(&lost), "{lost}"),
        }
        drop(other);
        stage.finish();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn billing_that_is_killed_under_load_loses_and_doubles_nothing() {
    let mut stage = Stage::start(Options::default());
    let key = customer(&stage, "kill", 5_000).await;
    let load = Load::start(&stage.gateway, &key, "delay_ms=2", 8);
    for round in 1..=3 {
        load.reaches(round * 100).await;
        stage.billing.take().unwrap().kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.restart_billing();
    }
    load.end().await;
    let used = i64::try_from(stage.upstream.count()).unwrap() * MICRO;
    eventually("what was used is charged", async || {
        let books = books(&stage, "kill").await;
        books["held_micro"] == 0 && 5_000 * MICRO - books["balance_micro"].as_i64().unwrap() == used
    })
    .await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn t51_a_gateway_that_stood_still_beyond_the_time_of_its_lease_serves_nothing_on_it() {
    let (ttl, tail) = (Duration::from_secs(4), Duration::from_secs(4));
    let options = Options::default()
        .with("LEASE_TTL_MS", ttl.as_millis())
        .with("LEASE_TAIL_MS", tail.as_millis())
        // One worker, which knows the customer: another one could not serve, since it would have to ask.
        .with("ENVOY_CONCURRENCY", 1);
    let stage = Stage::start(options.linked());
    let (key, cold) = (customer(&stage, "still", 600).await, customer(&stage, "cold", 10).await);
    let other = stage.another_gateway();
    let fifty = |script: &str| -> Vec<_> {
        (0..50).map(|_| (other.client.clone(), embed(&other, &key, script))).collect()
    };
    // Fifty connections, each of which stays open.
    for _ in 0..3 {
        assert_eq!(send_all(fifty("delay_ms=300"), 50).await, [50, 0, 0, 0]);
    }
    let mut asleep = 0;
    eventually("what it used is told, and the rest of its lease is not back yet", async || {
        let books = books(&stage, "still").await;
        asleep = lent(&books);
        books["balance_micro"] == 450 * MICRO && books["held_micro"] == 0 && asleep >= 100 * MICRO
    })
    .await;
    // What idles goes back with the next sync, before its time is over. So one is under way, and stays so: of somebody else,
    // since what is used and not told is what a crash costs.
    other.road(Road::CUT);
    let under_way = async || other.stats().await["cluster.billing.upstream_rq_active"];
    let before = under_way().await;
    let call = (other.client.clone(), embed(&other, &cold, ""));
    let unheard = tokio::spawn(send_all(vec![call], 1));
    eventually("a sync is under way", async || under_way().await > before).await;
    other.envoy.signal(stage::processes::Signal::STOP);
    let stopped = Instant::now();
    // What it was lent is back when its time is over for good, and all of it is spent here.
    let here = Load::start(&stage.gateway, &key, "", 4);
    within(Duration::from_secs(60), "all else is spent here", async || stage.upstream.count() == 600).await;
    here.end().await;
    assert!(stopped.elapsed() > ttl + tail, "{asleep} was back after {:?}", stopped.elapsed());
    // Fifty lie in open connections when it wakes. It cannot ask, and has a lease with free credits, of which it knows no end
    // but the time.
    let waiting = tokio::spawn(send_all(fifty(""), 50));
    tokio::time::sleep(Duration::from_millis(300)).await;
    other.envoy.signal(stage::processes::Signal::CONT);
    assert_eq!(waiting.await.unwrap(), [0, 0, 50, 0], "none is served");
    assert_eq!(unheard.await.unwrap(), [0, 0, 1, 0]);
    assert_eq!(send_all(fifty(""), 50).await, [0, 0, 50, 0], "nor any that comes later");
    other.road(Road::OPEN);
    eventually("it is told what it missed", async || other.send(embed(&other, &key, "")).await.status == 402)
        .await;
    assert_eq!(charged(&stage, "still", 600).await, 600 * MICRO);
    assert_eq!(stage.upstream.count(), 600, "each credit was spent, and none of them twice");
    drop(other);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_seconds_without_billing() {
    let mut stage = Stage::start(Options::default());
    let warm = customer(&stage, "warm", 100_000).await;
    let cold = customer(&stage, "cold", 100).await;
    let load = Load::start(&stage.gateway, &warm, "delay_ms=5", 4);
    load.reaches(50).await;
    stage.billing.take().unwrap().kill();
    let down = Instant::now();
    let mut before = load.served();
    while down.elapsed() < Duration::from_secs(20) {
        let answer = stage.gateway.send(embed(&stage.gateway, &cold, "")).await;
        assert_eq!((answer.status, &answer.json()["reason"]), (503, &json!("service_unavailable")));
        tokio::time::sleep(Duration::from_millis(900)).await;
        let now = load.served();
        assert!(now > before, "the warm customer is served while billing is down ({:?})", down.elapsed());
        before = now;
    }
    stage.restart_billing();
    load.end().await;
    let used = i64::try_from(stage.upstream.count()).unwrap() * MICRO;
    eventually("ledger and upstream agree", async || {
        let books = books(&stage, "warm").await;
        books["held_micro"] == 0 && 100_000 * MICRO - books["balance_micro"].as_i64().unwrap() == used
    })
    .await;
    assert_eq!(stage.balance("cold").await, "100");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_revoked_behind_a_gateways_back_ends_with_its_lease() {
    let ttl = Duration::from_millis(3000);
    let options = Options::default().with("LEASE_TTL_MS", ttl.as_millis()).linked();
    let stage = Stage::start(options);
    stage.account("leaver", 100_000).await;
    let made = stage.admin_post("/admin/v1/api-keys", &json!({ "account": "leaver" })).await;
    let (id, key) = (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned());
    let load = Load::start(&stage.gateway, &key, "delay_ms=5", 2);
    load.reaches(20).await;
    stage.gateway.road(Road::CUT);
    let cut = Instant::now();
    let path = stage.settings().billing(&format!("/admin/v1/api-keys/{id}"));
    let revoke = Call::new("DELETE".parse().unwrap(), path).bearer(&stage.settings().admin_token);
    assert_eq!(stage.gateway.send(revoke.header("idempotency-key", "revoke")).await.status, 204);
    let unheard = load.served();
    // Each worker remembers for itself; none for longer than the lease time.
    tokio::time::sleep((ttl + Duration::from_millis(500)).saturating_sub(cut.elapsed())).await;
    let served = load.served();
    assert!(served > unheard, "it heard of nothing, so what it was lent went on for a while");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(load.end().await, served, "and ended with its time");
    stage.gateway.road(Road::OPEN);
    eventually("it is told what it missed", async || {
        stage.gateway.send(embed(&stage.gateway, &key, "")).await.status == 401
    })
    .await;
    stage.finish();
}
