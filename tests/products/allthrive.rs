//! AllThrive: three free requests a day, plans with more, and tokens that never expire.

use crate::play::{Plan, intent, later};
use crate::{ask, deliver, has, mine, start, webhooks};
use serde_json::{Value, json};
use stage::client::{Answer, Call};
use stage::harness::{Stage, eventually};

const HOOK: &str = "/api/v1/billing/webhooks/stripe/";
const CHAT: &str = "/v1/chat/completions";
const BALANCE: &str = "/api/v1/billing/tokens/balance/";
const SUBSCRIPTION: &str = "/api/v1/billing/subscription/";

fn community_pro(customer: &str, user: &str) -> Plan<'static> {
    let customer = String::leak(customer.to_owned());
    Plan::new(customer, "price_community_pro_quarter", 5400, json!({ "user_id": user }), 91)
}

/// Subscribes and pays for a quarter.
async fn subscribe(stage: &Stage, plan: &Plan<'_>) {
    let id = |what: &str| format!("evt_{what}_{}", plan.customer);
    deliver(stage, HOOK, &plan.told(&id("sub"), "created", "active", &json!({}))).await;
    deliver(stage, HOOK, &plan.paid(&id("paid"), "invoice.paid", &id("in"), "subscription_create")).await;
}

/// Buys the 100K package: the payment intent is what tells of it.
async fn buy_starter(stage: &Stage, user: &str) {
    let metadata = json!({ "user_id": user, "package_id": "starter" });
    let bought = intent(&format!("evt_tokens_{user}"), "succeeded", &format!("cus_{user}"), 500, &metadata);
    deliver(stage, HOOK, &bought).await;
}

fn refused(answer: &Answer, reason: &str) {
    let body = answer.json();
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(
        (&body["detail"], &body["reason"]),
        (&json!("Upgrade or buy tokens"), &json!(reason)),
        "{body}"
    );
    assert_eq!((&body["upgrade_url"], &body["buy_url"]), (&json!("/pricing"), &json!("/tokens")), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_1_a_free_user_without_tokens_has_three_requests() {
    let stage = start("allthrive");
    let token = stage.token("free");
    for n in 1..=3 {
        assert_eq!(ask(&stage, &token, CHAT, "").await.status, 200, "request {n}");
    }
    refused(&ask(&stage, &token, CHAT, "").await, "daily_limit_reached");
    // One limit for all of it: what was spent on chat is not there for an image or an upload.
    for path in ["/v1/images/generations", "/api/v1/ai/uploads/", "/api/v1/ai/uploads"] {
        refused(&ask(&stage, &token, path, "").await, "daily_limit_reached");
    }
    assert_eq!(stage.upstream.count(), 3);
    let nobody = Call::post(stage.settings().gateway(CHAT)).json(&json!({}));
    assert_eq!(stage.gateway.send(nobody).await.status, 401);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn case_2_tokens_are_spent_when_the_daily_limit_is() {
    let stage = start("allthrive");
    let token = stage.token("buyer");
    assert_eq!(mine(&stage, &token, BALANCE).await["balance"], "0");
    buy_starter(&stage, "buyer").await;
    assert_eq!(mine(&stage, &token, BALANCE).await["balance"], "100000");
    for n in 1..=3 {
        assert_eq!(ask(&stage, &token, CHAT, "").await.status, 200, "request {n}");
    }
    has(&stage, "buyer", "100000").await;
    let fourth = ask(&stage, &token, CHAT, "").await;
    assert_eq!((fourth.status, fourth.header("x-tollgate-charged")), (200, "1"), "{}", fourth.text());
    has(&stage, "buyer", "99999").await;
    assert_eq!(mine(&stage, &token, BALANCE).await["balance"], "99999");
    // The purchase stands in the history, and no day ends what was bought.
    let history = mine(&stage, &token, "/api/v1/billing/tokens/history/").await;
    assert!(history["items"].as_array().is_some_and(|items| !items.is_empty()), "{history}");
    let account = stage.admin_get("/admin/v1/accounts/buyer").await;
    let bought =
        account["grants"].as_array().unwrap().iter().find(|grant| grant["source"] == "purchase").unwrap();
    assert!(bought["expires_at"].as_str().is_none_or(|at| at.starts_with("9999")), "{bought}");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn case_3_community_pro_has_a_hundred_requests_and_sees_them() {
    let stage = start("allthrive");
    subscribe(&stage, &community_pro("cus_pro", "pro")).await;
    let token = stage.token("pro");
    for n in 1..=100 {
        assert_eq!(ask(&stage, &token, CHAT, "").await.status, 200, "request {n}");
    }
    has(&stage, "pro", "4900").await;
    eventually("the usage shows a hundred requests today", async || {
        let usage = mine(&stage, &token, "/api/v1/billing/usage/?limit=1000").await;
        let today = stage::stripe::now().to_rfc3339()[..10].to_owned();
        let of_today = |row: &&Value| row["at"].as_str().is_some_and(|at| at.starts_with(&today));
        let listed = usage["items"].as_array().unwrap().iter().filter(of_today).count();
        listed == 100 && usage["requests"] == json!({ "today": 100, "month": 100 })
    })
    .await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn four_tiers_and_three_packages_are_listed() {
    let stage = start("allthrive");
    let token = stage.token("anybody");
    let tiers = mine(&stage, &token, "/api/v1/billing/tiers/").await;
    let price = |id: &str| {
        let tier = tiers["items"].as_array().unwrap().iter().find(|tier| tier["id"] == id);
        tier.unwrap_or_else(|| panic!("no tier {id}"))["prices"][0]["amount"].clone()
    };
    assert_eq!(tiers["items"].as_array().map(Vec::len), Some(4), "{tiers}");
    assert_eq!((price("free"), price("creator-mentor")), (Value::Null, Value::Null));
    assert_eq!((price("community-pro"), price("pro-learn")), (json!(5400), json!(10500)));
    let packages = mine(&stage, &token, "/api/v1/billing/tokens/packages/").await;
    let rows: Vec<_> = packages["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["id"].as_str().unwrap(), p["amount"].as_i64().unwrap(), p["credits"].as_str().unwrap()))
        .collect();
    assert_eq!(rows, [("booster", 2000, "500000"), ("power", 3500, "1000000"), ("starter", 500, "100000")]);
    // Both spellings of a path are one, and neither is a redirect.
    assert_eq!(mine(&stage, &token, "/api/v1/billing/tokens/packages").await, packages);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_come_with_and_without_the_slash() {
    let stage = start("allthrive");
    webhooks(&stage, &[HOOK, "/api/v1/billing/webhooks/stripe"]).await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_lasts_until_the_period_ends_and_then_leads_to_free() {
    let stage = start("allthrive");
    let plan = community_pro("cus_leaver", "leaver");
    subscribe(&stage, &plan).await;
    let token = stage.token("leaver");
    let leaving = json!({ "cancel_at_period_end": true, "cancel_at": plan.period.1 });
    deliver(&stage, HOOK, &later(plan.told("evt_leaving", "updated", "active", &leaving), 1)).await;
    let shown = mine(&stage, &token, SUBSCRIPTION).await;
    assert_eq!((&shown["tier"], &shown["state"]), (&json!("community-pro"), &json!("active")), "{shown}");
    assert!(shown["cancel_at"].is_string() && shown["current_period_end"].is_string(), "{shown}");
    assert_eq!(ask(&stage, &token, CHAT, "").await.status, 200);

    // Stripe ends it at the end of the period, and tells then.
    let now = stage::stripe::now().secs();
    let over = plan.over((now - 91 * crate::play::DAY, now - 60));
    let ended = json!({ "ended_at": now - 60 });
    deliver(&stage, HOOK, &later(over.told("evt_left", "deleted", "canceled", &ended), 2)).await;
    let shown = mine(&stage, &token, SUBSCRIPTION).await;
    assert_eq!(shown["tier"], "free", "{shown}");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_counts_at_once() {
    let stage = start("allthrive");
    let plan = community_pro("cus_climber", "climber");
    subscribe(&stage, &plan).await;
    let up = Plan { price: "price_pro_learn_quarter", amount: 10500, ..plan.over(plan.period) };
    deliver(&stage, HOOK, &later(up.told("evt_up", "updated", "active", &json!({})), 1)).await;
    let shown = mine(&stage, &stage.token("climber"), SUBSCRIPTION).await;
    assert_eq!((&shown["tier"], &shown["can_change_plan"]), (&json!("pro-learn"), &json!(true)), "{shown}");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_brings_its_own_tokens_and_ends_when_it_is_canceled() {
    let stage = start("allthrive");
    let plan = Plan { amount: 0, ..community_pro("cus_trial", "trial").over(week()) };
    let trial = json!({ "trial_end": plan.period.1 });
    deliver(&stage, HOOK, &plan.told("evt_trial", "created", "trialing", &trial)).await;
    deliver(&stage, HOOK, &plan.paid("evt_zero", "invoice.paid", "in_zero", "subscription_create")).await;
    let token = stage.token("trial");
    assert_eq!(mine(&stage, &token, SUBSCRIPTION).await["state"], "trialing");
    has(&stage, "trial", "100").await;
    assert_eq!(ask(&stage, &token, CHAT, "").await.status, 200);
    let ended = json!({ "ended_at": stage::stripe::now().secs(), "trial_end": stage::stripe::now().secs() });
    let over = plan.over((plan.period.0 - 60, stage::stripe::now().secs()));
    deliver(&stage, HOOK, &later(over.told("evt_trial_end", "deleted", "canceled", &ended), 1)).await;
    assert_eq!(mine(&stage, &token, SUBSCRIPTION).await["tier"], "free");
    stage.finish();
}

fn week() -> (i64, i64) {
    let now = stage::stripe::now().secs();
    (now, now + 7 * crate::play::DAY)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_card_brings_no_plan_and_no_tokens() {
    let stage = start("allthrive");
    let token = stage.token("declined");
    let plan = community_pro("cus_declined", "declined");
    deliver(&stage, HOOK, &plan.told("evt_declined", "created", "incomplete", &json!({}))).await;
    let metadata = json!({ "user_id": "declined", "package_id": "starter" });
    deliver(&stage, HOOK, &intent("evt_card", "payment_failed", "cus_declined", 500, &metadata)).await;
    let shown = mine(&stage, &token, SUBSCRIPTION).await;
    assert_ne!(shown["tier"], "community-pro", "{shown}");
    assert_eq!(mine(&stage, &token, BALANCE).await["balance"], "0");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_buy_at_once_and_each_payment_counts_once() {
    let stage = start("allthrive");
    let mut running = tokio::task::JoinSet::new();
    for n in 0..40 {
        // Ten users, each told of twice by two kinds of event.
        let user = format!("user_{}", n % 10);
        let metadata = json!({ "user_id": user, "package_id": "starter" });
        let id = format!("evt_{user}");
        let event = if n % 20 < 10 {
            intent(&id, "succeeded", &format!("cus_{user}"), 500, &metadata)
        } else {
            crate::play::checkout(&id, &format!("cus_{user}"), 500, &metadata)
        };
        let (client, call) = (stage.gateway.client.clone(), stage.gateway.delivery(HOOK, &event));
        running.spawn(async move { client.send(call).await.map_or(0, |answer| answer.status) });
    }
    for status in running.join_all().await {
        assert!(matches!(status, 200 | 409), "a copy in flight comes again: {status}");
    }
    for n in 0..10 {
        has(&stage, &format!("user_{n}"), "100000").await;
    }
    stage.finish();
}
