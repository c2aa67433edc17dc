//! What happens to an account takes effect at once on every connected gateway: credits come back for whoever needs them, who
//! is stopped is refused, who has paid is served.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what does not hold in a test is the test's failure"
)]

mod support;

use serde_json::json;
use stage::harness::{Gateway, Options, Stage, eventually, within};
use stage::link::Road;
use std::time::{Duration, Instant};
use support::{Load, MICRO, books, customer, embed, lent};

/// Every gateway has a poll open.
async fn connected(stage: &Stage, gateways: u64) {
    eventually("every gateway watches", async || stage.billing_calls("watch").await >= 2 * gateways).await;
}

async fn status(gateway: &Gateway, key: &str) -> u16 {
    gateway.send(embed(gateway, key, "")).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_credits_lent_to_one_gateway_are_spendable_at_another() {
    let stage = Stage::start(Options::default());
    let other = stage.another_gateway();
    for round in 0..10 {
        let id = format!("last{round}");
        // Enough for a lease: at first half of it is lent to whoever asks.
        let key = customer(&stage, &id, 40).await;
        for _ in 0..3 {
            assert_eq!(status(&other, &key).await, 200);
        }
        assert_eq!(status(&stage.gateway, &key).await, 200);
        if round == 0 {
            connected(&stage, 2).await;
        }
        // All that is not lent is spent here; what the other has free is what is left.
        let mut slowest = Duration::ZERO;
        for n in 4..40 {
            let began = Instant::now();
            assert_eq!(status(&stage.gateway, &key).await, 200, "{id}: request {n} of 40");
            slowest = slowest.max(began.elapsed());
        }
        println!("{id}: the slowest took {slowest:?}");
        assert!(slowest < Duration::from_millis(700), "{id}: {slowest:?}");
        assert_eq!(status(&stage.gateway, &key).await, 402);
        assert_eq!(status(&other, &key).await, 402);
        eventually("all is charged", async || {
            let books = books(&stage, &id).await;
            books["balance_micro"] == 0 && lent(&books) == 0
        })
        .await;
    }
    assert_eq!(stage.upstream.count(), 400);
    drop(other);
    stage.finish();
}

/// What has to run out does so soon; a tail of its own for each test, since the lease time alone gives nothing back: the whole
/// lease may have been spent unheard.
fn with_tail(tail_ms: u32) -> Options {
    let options = Options::default().with("LEASE_TTL_MS", 4000).with("LEASE_TAIL_MS", tail_ms);
    // One worker: another one, which does not know the customer, could not even ask.
    options.with("ENVOY_CONCURRENCY", 1).linked()
}

/// A customer of whose forty credits some are lent to the other gateway, which is then cut off; how many were served so far.
async fn some_lie_at(other: &Gateway, stage: &Stage, id: &str, key: &str, road: Road) -> u64 {
    assert_eq!(status(&stage.gateway, key).await, 200);
    for _ in 0..3 {
        assert_eq!(status(other, key).await, 200);
    }
    // What is not told before the cut is, for whoever settles it at the hard end, what a crash costs.
    eventually("what it used is told", async || {
        let books = books(stage, id).await;
        books["balance_micro"] == 36 * MICRO && books["held_micro"] == 0 && lent(&books) > 0
    })
    .await;
    other.road(road);
    stage.upstream.clear();
    4
}

/// A lease's time and tail here, and as much again for a slow machine.
const RESTORED_WITHIN: Duration = Duration::from_secs(20);

/// Everybody is connected before any of that, since a lease on which nothing happens for half of its time goes back by itself.
async fn both_connected(other: &Gateway, stage: &Stage) {
    let anybody = customer(stage, "anybody", 10).await;
    for gateway in [&stage.gateway, other] {
        assert_eq!(status(gateway, &anybody).await, 200);
    }
    connected(stage, 2).await;
}

/// Spends what it is given until it is refused; how many were served.
async fn spend_all(gateway: &Gateway, key: &str) -> u64 {
    let mut served = 0;
    loop {
        match status(gateway, key).await {
            200 => served += 1,
            402 => return served,
            other => panic!("neither served nor refused: {other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_at_a_gateway_that_is_cut_off_is_spendable_elsewhere_when_its_time_is_over() {
    let stage = Stage::start(with_tail(5000));
    let other = stage.another_gateway();
    both_connected(&other, &stage).await;
    let key = customer(&stage, "cut", 40).await;
    let mut served = some_lie_at(&other, &stage, "cut", &key, Road::CUT).await;
    let cut = Instant::now();
    served += spend_all(&stage.gateway, &key).await;
    assert!(served < 40, "nothing was left at the other one, so this proves nothing");
    within(RESTORED_WITHIN, "the rest comes back", async || status(&stage.gateway, &key).await == 200).await;
    println!("{} credits were back {:?} after the cut", 40 - served, cut.elapsed());
    // By then the one that is cut off has stopped, though it heard of nothing.
    assert_eq!(status(&other, &key).await, 503);
    served += 1 + spend_all(&stage.gateway, &key).await;
    assert_eq!(served, 40, "each credit is spendable");
    other.road(Road::OPEN);
    eventually("it is told what it missed", async || status(&other, &key).await == 402).await;
    assert_eq!(stage.upstream.count() + 4, 40, "and none of them twice");
    eventually("all is charged", async || {
        let books = books(&stage, "cut").await;
        books["balance_micro"] == 0 && lent(&books) == 0
    })
    .await;
    drop(other);
    stage.finish();
}

/// How many requests a gateway may be ahead of what it told, where that is bounded.
const AHEAD: u64 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn with_a_bounded_exposure_all_but_that_is_spendable_elsewhere_after_the_lease_time_alone() {
    let catalog = include_str!("../catalogs/demo.yaml");
    let bounded = catalog.replacen("# exposure: 4", &format!("exposure: {AHEAD}"), 1);
    assert_ne!(bounded, catalog);
    // Far longer than this takes: nothing is settled by a hard end.
    let stage = Stage::start(with_tail(120_000).catalog(bounded));
    let other = stage.another_gateway();
    both_connected(&other, &stage).await;
    let key = customer(&stage, "ahead", 40).await;
    let mut served = some_lie_at(&other, &stage, "ahead", &key, Road::CUT).await;
    let cut = Instant::now();
    let mut away = 0;
    let last = loop {
        match status(&other, &key).await {
            200 => away += 1,
            last => break last,
        }
    };
    assert_eq!((away, last), (AHEAD, 503), "so far ahead it may be, and no further");
    served += spend_all(&stage.gateway, &key).await;
    assert!(served < 40 - AHEAD, "nothing more was left at the other one, so this proves nothing");
    within(RESTORED_WITHIN, "the rest comes back", async || {
        served += spend_all(&stage.gateway, &key).await;
        served >= 40 - AHEAD
    })
    .await;
    println!("all but {AHEAD} credits were spent here {:?} after the cut", cut.elapsed());
    assert_eq!(served, 40 - AHEAD, "what it may have spent unheard is nobody else's");
    other.road(Road::OPEN);
    eventually("all is charged", async || {
        let books = books(&stage, "ahead").await;
        books["balance_micro"] == 0 && lent(&books) == 0
    })
    .await;
    for gateway in [&stage.gateway, &other] {
        assert_eq!(status(gateway, &key).await, 402);
    }
    assert_eq!(stage.upstream.count() + 4, 40, "each credit was spent, and none of them twice");
    drop(other);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_cut_off_spends_what_it_was_lent_and_nobody_else_does() {
    // Longer than this takes: nothing is settled while it is away.
    let stage = Stage::start(with_tail(60_000));
    let other = stage.another_gateway();
    both_connected(&other, &stage).await;
    for (n, road) in [Road::CUT, Road::CUT_TO, Road::CUT_FROM, Road::RESETS].into_iter().enumerate() {
        let id = format!("parted{n}");
        let key = customer(&stage, &id, 40).await;
        let before = some_lie_at(&other, &stage, &id, &key, road).await;
        let spent = || before + stage.upstream.count();
        // Both go on at once, each with what it has: the one until its time is over, the other to its last credit.
        let here = Load::start(&stage.gateway, &key, "", 2);
        let mut away = 0;
        let last = loop {
            match other.send(embed(&other, &key, "delay_ms=300")).await.status {
                200 => away += 1,
                last => break last,
            }
        };
        assert_eq!(last, 503, "{road:?}: it cannot say any more");
        assert!(away > 0, "{road:?}: nothing was lent, so this proves nothing");
        here.reaches(5).await;
        eventually("what the other one has is not available", async || {
            status(&stage.gateway, &key).await == 402
        })
        .await;
        assert!(spent() < 40, "{road:?}: all of it was spent, so this proves nothing");
        other.road(Road::OPEN);
        // What is left comes back as soon as it is heard of again, long before its hard end.
        eventually("every credit is spent", async || spent() == 40).await;
        here.end().await;
        println!("{road:?}: {away} served while cut off");
        for gateway in [&stage.gateway, &other] {
            eventually("nothing is left", async || status(gateway, &key).await == 402).await;
        }
        eventually("all is charged", async || {
            let books = books(&stage, &id).await;
            books["balance_micro"] == 0 && lent(&books) == 0
        })
        .await;
        assert_eq!(spent(), 40, "{road:?}: and nothing twice");
    }
    drop(other);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_stopped_is_refused_everywhere_and_who_has_paid_is_served() {
    let stage = Stage::start(Options::default());
    let other = stage.another_gateway();
    let key = customer(&stage, "anna", 100_000).await;
    let both = [&stage.gateway, &other];
    for _ in 0..10 {
        for gateway in both {
            assert_eq!(status(gateway, &key).await, 200);
        }
    }
    connected(&stage, 2).await;
    let within = async |wanted: u16, what: &str| {
        let began = Instant::now();
        for gateway in both {
            while status(gateway, &key).await != wanted {
                assert!(began.elapsed() < Duration::from_secs(1), "{what}: not within a second");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        println!("{what}: everywhere after {:?}", began.elapsed());
    };
    for _ in 0..3 {
        stage.admin_post("/admin/v1/accounts/anna/suspend", &json!({})).await;
        within(403, "suspended").await;
        stage.admin_post("/admin/v1/accounts/anna/resume", &json!({})).await;
        within(200, "resumed").await;
    }
    // Refused for want of credits, and then paid.
    let poor = customer(&stage, "paul", 1).await;
    assert_eq!((status(&other, &poor).await, status(&other, &poor).await), (200, 402));
    let bought = stage::stripe::package_bought("evt_paul", "paul", "starter", 500, "usd");
    assert_eq!(stage.gateway.send(stage.gateway.delivery("/webhooks/stripe", &bought)).await.status, 200);
    assert_eq!(status(&other, &poor).await, 200, "no refusal is remembered");
    drop(other);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_cancelled_is_refused_within_a_second() {
    let catalog = include_str!("../catalogs/demo.yaml").replace("default_tier: free", "# no default tier:");
    let catalog = catalog.replace("on_cancel: period_end", "on_cancel: immediate");
    let stage = Stage::start(Options::default().catalog(catalog));
    let other = stage.another_gateway();
    let key = customer(&stage, "carl", 0).await;
    let deliver = async |id: &str, kind: &str, object: serde_json::Value| {
        let event = stage::stripe::event(id, kind, &object);
        let answer = stage.gateway.send(stage.gateway.delivery("/webhooks/stripe", &event)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let now = stage::stripe::now().secs();
    let item = json!({ "id": "si_1", "price": { "id": "price_pro" }, "quantity": 1,
        "current_period_start": now - 100, "current_period_end": now + 1_000_000 });
    let subscription = |status: &str| {
        json!({ "id": "sub_1", "object": "subscription", "customer": "cus_carl", "status": status,
            "metadata": { "user_id": "carl" }, "items": { "data": [item] }, "cancel_at_period_end": false,
            "canceled_at": if status == "canceled" { json!(now) } else { json!(null) },
            "ended_at": if status == "canceled" { json!(now) } else { json!(null) } })
    };
    deliver("evt_1", "customer.subscription.created", subscription("active")).await;
    let grant = json!({ "account": "carl", "credits": 1000, "note": "test" });
    stage.admin_post("/admin/v1/grants", &grant).await;
    for gateway in [&stage.gateway, &other] {
        for _ in 0..5 {
            assert_eq!(status(gateway, &key).await, 200);
        }
    }
    connected(&stage, 2).await;
    deliver("evt_2", "customer.subscription.deleted", subscription("canceled")).await;
    let began = Instant::now();
    for gateway in [&stage.gateway, &other] {
        while status(gateway, &key).await != 402 {
            assert!(began.elapsed() < Duration::from_secs(1), "not within a second of the webhook's 200");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    println!("refused everywhere {:?} after the webhook's 200", began.elapsed());
    drop(other);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_allows_so_many_requests_at_once_whichever_gateway_they_come_to() {
    let demo = std::fs::read_to_string("catalogs/demo.yaml").unwrap();
    let catalog = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    let limited = demo.replacen("  free:\n", "  free:\n    max_concurrent: 2\n", 1);
    std::fs::write(catalog.path(), limited).unwrap();
    let stage = Stage::start(Options::default().with("CATALOG", catalog.path().display()));
    let other = stage.another_gateway();
    let key = customer(&stage, "busy", 100).await;
    // One after the other is never too many, though their ends are told by themselves.
    for gateway in [&stage.gateway, &other, &stage.gateway, &other].repeat(3) {
        assert_eq!(status(gateway, &key).await, 200);
    }
    let hang = |gateway: &Gateway| {
        let (client, call) = (gateway.client.clone(), embed(gateway, &key, "hang"));
        tokio::spawn(async move { client.send(call).await.map(|answer| answer.status) })
    };
    let (first, second) = (hang(&stage.gateway), hang(&other));
    eventually("two are under way", async || stage.upstream.count() == 14).await;
    for gateway in [&stage.gateway, &other] {
        let refused = gateway.send(embed(gateway, &key, "")).await;
        let told = (refused.status, refused.json()["reason"].clone(), refused.header("retry-after"));
        assert_eq!(told, (429, json!("concurrency_limit_reached"), "1"), "{}", refused.text());
    }
    assert_eq!(stage.upstream.count(), 14);
    first.abort();
    eventually("one has ended, and another may begin", async || status(&other, &key).await == 200).await;
    second.abort();
    eventually("nothing is held", async || lent(&books(&stage, "busy").await) == 0).await;
    drop(other);
}
