//! What happens to an account takes effect at once on every connected gateway: credits come back for whoever needs them, who
//! is stopped is refused, who has paid is served.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what does not hold in a test is the test's failure"
)]

#[expect(dead_code, reason = "its load is for the tests of leases and crashes")]
mod support;

use serde_json::json;
use stage::harness::{Gateway, Options, Stage, eventually};
use std::time::{Duration, Instant};
use support::{books, customer, embed, lent};

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
        assert_eq!(told, (429, json!("concurrency_limit_reached"), "1".into()), "{}", refused.text());
    }
    assert_eq!(stage.upstream.count(), 14);
    first.abort();
    eventually("one has ended, and another may begin", async || status(&other, &key).await == 200).await;
    second.abort();
    eventually("nothing is held", async || lent(&books(&stage, "busy").await) == 0).await;
    drop(other);
}
