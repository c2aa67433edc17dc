//! What happens to an account takes effect at once on every connected gateway: credits come back for whoever needs them, who
//! is stopped is refused, who has paid is served.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what does not hold in a test is the test's failure"
)]

mod support;

use serde_json::{Value, json};
use stage::client::{Call, Client};
use stage::harness::{Gateway, Options, Stage, eventually, within};
use stage::link::Road;
use stage::stripe;
use std::time::{Duration, Instant};
use support::{Load, MICRO, books, customer, embed, lent};

/// A lease on which nothing happens goes back after half of its time: what takes less has been heard of.
const BY_ITSELF: Duration = Duration::from_secs(10);
/// By then who is stopped is refused and who has paid is served, where the machine has time for it: in half of the rounds.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The same of credits that lie free elsewhere.
const RECALLED: Duration = Duration::from_millis(200);

/// Each of these was heard of, and half of them soon: one lucky round shows nothing, and one that other work of the machine
/// got in the way of is no failure.
fn assert_soon(what: &str, took: &[Duration], soon: Duration) {
    println!("{what}: {took:?}");
    assert!(took.len() >= 3, "{what}: too few rounds: {took:?}");
    assert!(
        took.iter().all(|took| *took < BY_ITSELF),
        "{what}: not before it would have been by itself: {took:?}"
    );
    let in_time = took.iter().filter(|took| **took < soon).count();
    assert!(2 * in_time >= took.len(), "{what}: within {soon:?} only {in_time} times: {took:?}");
}

/// Every gateway has a poll open.
async fn connected(stage: &Stage, gateways: u64) {
    eventually("every gateway watches", async || stage.billing_calls("watch").await >= 2 * gateways).await;
}

/// How long it takes until every gateway answers so.
async fn everywhere(gateways: [&Gateway; 2], key: &str, wanted: u16) -> Duration {
    let began = Instant::now();
    for gateway in gateways {
        within(BY_ITSELF, "every gateway has heard of it", async || status(gateway, key).await == wanted)
            .await;
    }
    began.elapsed()
}

/// The same of who asks nothing meanwhile: then only the watch can have told the gateways, and not the answer to a report
/// of what was spent. Whoever is served after that silence heard of it too late.
async fn everywhere_unasked(gateways: [&Gateway; 2], key: &str, wanted: u16) -> Duration {
    let began = Instant::now();
    tokio::time::sleep(AT_ONCE * 3 / 4).await;
    let mut heard = true;
    for gateway in gateways {
        heard &= status(gateway, key).await == wanted;
    }
    if heard { began.elapsed() } else { AT_ONCE + everywhere(gateways, key, wanted).await }
}

/// Each gateway answers so on connections that it has not seen yet, and so whichever worker they come to.
async fn whichever_worker(gateways: [&Gateway; 2], key: &str, wanted: u16) {
    for gateway in [gateways; 8].concat() {
        assert_eq!(Client::default().send(embed(gateway, key, "")).await.unwrap().status, wanted);
    }
}

async fn status(gateway: &Gateway, key: &str) -> u16 {
    gateway.send(embed(gateway, key, "")).await.status
}

/// A delivery that is taken.
async fn deliver(stage: &Stage, event: &Value) {
    let answer = stage.gateway.send(stage.gateway.delivery("/webhooks/stripe", event)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_credits_lent_to_one_gateway_are_spendable_at_another() {
    let stage = Stage::start(Options::default());
    let other = stage.another_gateway();
    let mut recalled = Vec::new();
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
        recalled.push(slowest);
        assert_eq!(status(&stage.gateway, &key).await, 402);
        assert_eq!(status(&other, &key).await, 402);
        eventually("all is charged", async || {
            let books = books(&stage, &id).await;
            books["balance_micro"] == 0 && lent(&books) == 0
        })
        .await;
    }
    assert_eq!(stage.upstream.count(), 400);
    assert_soon("the last credits", &recalled, RECALLED);
    drop(other);
    stage.finish();
}

/// What has to run out does so soon; a tail of its own for each test, since the lease time alone gives nothing back: the whole
/// lease may have been spent unheard.
fn with_tail(tail_ms: u32) -> Options {
    let options = Options::default().with("LEASE_TTL_MS", 6000).with("LEASE_TAIL_MS", tail_ms);
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
const RESTORED_WITHIN: Duration = Duration::from_secs(40);

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
    let stage = Stage::start(with_tail(7000));
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
            match other.send(embed(&other, &key, "delay_ms=450")).await.status {
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
    let (mut stopped, mut resumed) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        stage.admin_post("/admin/v1/accounts/anna/suspend", &json!({})).await;
        stopped.push(everywhere(both, &key, 403).await);
        stage.admin_post("/admin/v1/accounts/anna/resume", &json!({})).await;
        resumed.push(everywhere(both, &key, 200).await);
    }
    assert_soon("suspended", &stopped, AT_ONCE);
    assert_soon("resumed", &resumed, AT_ONCE);
    // Refused for want of credits, and then paid.
    let poor = customer(&stage, "paul", 1).await;
    assert_eq!(status(&other, &poor).await, 200);
    for gateway in both {
        assert_eq!(status(gateway, &poor).await, 402);
    }
    deliver(&stage, &stripe::package_bought("evt_paul", "paul", "starter", 500, "usd")).await;
    for gateway in both {
        assert_eq!(status(gateway, &poor).await, 200, "no refusal is remembered");
    }
    drop(other);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_cancelled_is_refused_within_a_second() {
    let catalog = include_str!("../catalogs/demo.yaml").replace("default_tier: free", "# no default tier:");
    let catalog = catalog.replace("on_cancel: period_end", "on_cancel: immediate");
    let stage = Stage::start(Options::default().catalog(catalog));
    let other = stage.another_gateway();
    let now = stripe::now().secs();
    let subscription = |who: &str, status: &str| {
        let item = json!({ "id": format!("si_{who}"), "price": { "id": "price_pro" }, "quantity": 1,
            "current_period_start": now - 100, "current_period_end": now + 1_000_000 });
        let over = if status == "canceled" { json!(now) } else { json!(null) };
        json!({ "id": format!("sub_{who}"), "object": "subscription", "customer": format!("cus_{who}"), "status": status,
            "metadata": { "user_id": who }, "items": { "data": [item] }, "cancel_at_period_end": false,
            "canceled_at": over, "ended_at": over })
    };
    let mut cancelled = Vec::new();
    for who in ["carl", "cleo", "chen"] {
        let key = customer(&stage, who, 0).await;
        let created = ("customer.subscription.created", subscription(who, "active"));
        deliver(&stage, &stripe::event(&format!("evt_{who}"), created.0, &created.1)).await;
        let grant = json!({ "account": who, "credits": 1000, "note": "test" });
        stage.admin_post("/admin/v1/grants", &grant).await;
        for gateway in [&stage.gateway, &other] {
            for _ in 0..5 {
                assert_eq!(status(gateway, &key).await, 200);
            }
        }
        connected(&stage, 2).await;
        let deleted = ("customer.subscription.deleted", subscription(who, "canceled"));
        deliver(&stage, &stripe::event(&format!("evt_{who}_over"), deleted.0, &deleted.1)).await;
        // From the webhook's 200.
        cancelled.push(everywhere([&stage.gateway, &other], &key, 402).await);
    }
    assert_soon("cancelled", &cancelled, AT_ONCE);
    drop(other);
    stage.finish();
}

/// One purchase of each is refunded whole, or disputed; what both gateways answer then.
async fn taken_back(kind: &str, wanted: (u16, &str)) {
    let stage = Stage::start(Options::default());
    let other = stage.another_gateway();
    let both = [&stage.gateway, &other];
    let mut stopped = Vec::new();
    for who in ["rita", "ruth", "rosa"] {
        let key = customer(&stage, who, 0).await;
        let payment = format!("evt_{who}");
        deliver(&stage, &stripe::package_bought(&payment, who, "starter", 500, "usd")).await;
        for gateway in both.repeat(5) {
            assert_eq!(status(gateway, &key).await, 200);
        }
        connected(&stage, 2).await;
        eventually("what was used is told, and the rest is lent", async || {
            let books = books(&stage, who).await;
            books["balance_micro"] == 90 * MICRO && books["held_micro"] == 0 && lent(&books) > 0
        })
        .await;
        let mut object = json!({ "customer": format!("cus_{who}"), "payment_intent": format!("pi_{payment}"),
            "amount": 500, "currency": "usd", "metadata": {} });
        let more = match kind {
            "charge.refunded" => {
                json!({ "id": format!("ch_{who}"), "object": "charge", "amount_refunded": 500, "refunded": true })
            }
            _ => {
                json!({ "id": format!("dp_{who}"), "object": "dispute", "charge": format!("ch_{who}"), "status": "needs_response" })
            }
        };
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        deliver(&stage, &stripe::event(&format!("evt_{who}_back"), kind, &object)).await;
        // From the webhook's 200.
        stopped.push(everywhere_unasked(both, &key, wanted.0).await);
        whichever_worker(both, &key, wanted.0).await;
        let refused = other.send(embed(&other, &key, "")).await.json();
        assert_eq!(refused["reason"], wanted.1, "{refused}");
    }
    assert_soon(kind, &stopped, AT_ONCE);
    drop(other);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_purchase_is_refunded_is_refused_within_a_second() {
    taken_back("charge.refunded", (402, "insufficient_credits")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_purchase_is_disputed_is_refused_within_a_second() {
    taken_back("charge.dispute.created", (403, "disputed_hold")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_revoked_is_refused_within_a_second_and_no_other() {
    let stage = Stage::start(Options::default());
    let other = stage.another_gateway();
    let both = [&stage.gateway, &other];
    let kept = customer(&stage, "keys", 100_000).await;
    let mut revoked = Vec::new();
    for round in 0..3 {
        let made = stage.admin_post("/admin/v1/api-keys", &json!({ "account": "keys" })).await;
        let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
        for gateway in both.repeat(10) {
            assert_eq!((status(gateway, key).await, status(gateway, &kept).await), (200, 200));
        }
        connected(&stage, 2).await;
        let path = stage.settings().billing(&format!("/admin/v1/api-keys/{id}"));
        let revoke = Call::new("DELETE".parse().unwrap(), path).bearer(&stage.settings().admin_token);
        let revoke = revoke.header("idempotency-key", format!("revoke{round}"));
        assert_eq!(stage.gateway.send(revoke).await.status, 204);
        revoked.push(everywhere(both, key, 401).await);
        whichever_worker(both, key, 401).await;
        whichever_worker(both, &kept, 200).await;
    }
    assert_soon("revoked", &revoked, AT_ONCE);
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
