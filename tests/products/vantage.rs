//! Vantage: tokens in packages, by the month, and by an operator's hand.

use crate::play::{Plan, intent};
use crate::{ask, deliver, has, mine, outcome, start, webhooks};
use serde_json::{Value, json};
use stage::client::Call;

const HOOK: &str = "/api/webhooks/stripe";
const CHAT: &str = "/v1/chat/completions";

fn for_package(user: &str, package: &str) -> Value {
    json!({ "user_id": user, "package_id": package })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_package_brings_its_tokens_when_it_is_paid() {
    let stage = start("vantage");
    for (package, cents, tokens) in
        [("starter", 999, "10"), ("professional", 3999, "50"), ("enterprise", 9999, "150")]
    {
        let (user, customer) = (format!("user_{package}"), format!("cus_{package}"));
        let metadata = for_package(&user, package);
        let begun = intent(&format!("evt_{package}"), "processing", &customer, cents, &metadata);
        deliver(&stage, HOOK, &begun).await;
        assert_eq!(
            mine(&stage, &stage.token(&user), "/billing/balance").await["balance"],
            "0",
            "not paid yet"
        );
        deliver(&stage, HOOK, &intent(&format!("evt_{package}"), "succeeded", &customer, cents, &metadata))
            .await;
        assert_eq!(stage.balance(&user).await, tokens, "{package}");
        assert_eq!(ask(&stage, &stage.token(&user), CHAT, "").await.status, 200);
    }
    has(&stage, "user_starter", "9").await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_price_than_the_packages_brings_nothing_and_is_looked_at() {
    let stage = start("vantage");
    let metadata = for_package("short", "enterprise");
    deliver(&stage, HOOK, &intent("evt_short", "succeeded", "cus_short", 999, &metadata)).await;
    let (status, why) = outcome(&stage, "evt_short_succeeded").await;
    assert!(status == "review" && why.contains("9999"), "{status}: {why}");
    assert_eq!(stage.balance("short").await, "0");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_plan_brings_its_tokens_every_month() {
    let stage = start("vantage");
    for (price, cents, tokens) in [("price_monthly_basic", 1999, "25"), ("price_monthly_pro", 5999, "100")] {
        let (user, customer) = (format!("user_{price}"), format!("cus_{price}"));
        let plan = Plan::new(&customer, price, cents, json!({ "user_id": user }), 30);
        deliver(&stage, HOOK, &plan.told(&format!("evt_{price}"), "created", "active", &json!({}))).await;
        let paid = plan.paid(
            &format!("evt_paid_{price}"),
            "invoice.paid",
            &format!("in_{price}"),
            "subscription_create",
        );
        deliver(&stage, HOOK, &paid).await;
        assert_eq!(stage.balance(&user).await, tokens, "{price}");
        let shown = mine(&stage, &stage.token(&user), "/api/stripe/subscriptions").await;
        assert_eq!(
            (&shown["state"], format!("price_{}", shown["tier"].as_str().unwrap())),
            (&json!("active"), price.into())
        );
    }
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_or_failed_payment_brings_nothing_more() {
    let stage = start("vantage");
    let metadata = for_package("dup", "starter");
    let paid = intent("evt_dup", "succeeded", "cus_dup", 999, &metadata);
    for path in [HOOK, HOOK, "/api/stripe/webhooks"] {
        deliver(&stage, path, &paid).await;
    }
    assert_eq!(stage.balance("dup").await, "10");
    deliver(&stage, HOOK, &intent("evt_bad", "payment_failed", "cus_dup", 999, &metadata)).await;
    assert_eq!(stage.balance("dup").await, "10");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_signature_is_refused_under_both_paths() {
    let stage = start("vantage");
    webhooks(&stage, &[HOOK, "/api/stripe/webhooks"]).await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_a_request_is_refused() {
    let stage = start("vantage");
    let refused = ask(&stage, &stage.token("poor"), CHAT, "").await;
    assert_eq!((refused.status, &refused.json()["reason"]), (402, &json!("insufficient_credits")));
    assert_eq!(stage.upstream.count(), 0);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_gives_tokens_to_one_or_to_many() {
    let stage = start("vantage");
    for user in ["user1", "user2", "user3"] {
        stage.account(user, 0).await;
    }
    let given = json!({ "account": "user1", "credits": 50, "note": "Welcome bonus" });
    let answer = stage.admin_post("/admin/v1/grants", &given).await;
    assert_eq!(answer["balance"], "50", "{answer}");

    let many = json!({
        "grants": [{ "account": "user1", "credits": 10 }, { "account": "user2", "credits": "2.5" }],
        "note": "Promotion",
    });
    let call = |body: &Value| {
        let url = stage.settings().billing("/admin/v1/grants/bulk");
        Call::post(url)
            .bearer(&stage.settings().admin_token)
            .header("idempotency-key", "promotion-1")
            .json(body)
    };
    assert_eq!(stage.gateway.send(call(&many)).await.status, 201);
    let again = stage.gateway.send(call(&many)).await;
    assert_eq!(again.status, 200, "the same again is the same answer, and nothing more: {}", again.text());
    assert_eq!((stage.balance("user1").await, stage.balance("user2").await), ("60".into(), "2.5".into()));
    let other = json!({ "grants": [{ "account": "user3", "credits": 10 }], "note": "Promotion" });
    assert_eq!(stage.gateway.send(call(&other)).await.status, 409, "the same key for something else");

    // All of a list or none of it.
    let broken =
        json!({ "grants": [{ "account": "user3", "credits": 1 }, { "account": "nobody", "credits": 1 }] });
    let url = stage.settings().billing("/admin/v1/grants/bulk");
    let refused = Call::post(url).bearer(&stage.settings().admin_token).header("idempotency-key", "broken-1");
    let refused = stage.gateway.send(refused.json(&broken)).await;
    assert!((400..500).contains(&refused.status), "{} {}", refused.status, refused.text());
    assert_eq!(stage.balance("user3").await, "0");

    let journal = stage.admin_get("/admin/v1/transactions?account=user1").await;
    let granted =
        journal["items"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "granted").count();
    assert_eq!(granted, 2, "{journal}");
    let customer = Call::post(stage.settings().billing("/admin/v1/grants")).bearer(&stage.token("user1"));
    assert_eq!(
        stage.gateway.send(customer.json(&given)).await.status,
        401,
        "an operator is who has the token"
    );
    stage.finish();
}
