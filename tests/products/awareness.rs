//! Awareness Market: three kinds of things that are bought once, each with metadata of its own, and credits for agents.

use crate::play::{Plan, checkout, intent, later};
use crate::{ask, deliver, has, mine, outcome, start, webhooks};
use serde_json::{Value, json};
use stage::client::Call;

const HOOK: &str = "/api/webhook/stripe";

/// The metadata of the three checkouts, as each of them spells it.
fn kinds(user: &str) -> [(&'static str, Value); 3] {
    [
        (
            "latentmas_package 17",
            json!({
                "userId": user, "packageId": "17", "creatorId": "creator_1", "purchaseType": "latentmas_package",
                "amount": "0.01", "platformFee": "1.50", "creatorEarnings": "8.50",
            }),
        ),
        (
            "w-matrix 42",
            json!({
                "user_id": user, "listing_id": "42", "purchase_type": "w-matrix",
                "customer_email": "buyer@example.com", "customer_name": "A Buyer",
            }),
        ),
        (
            "vector 7",
            json!({ "user_id": user, "vector_id": "7", "transaction_id": "tx_1", "purchase_type": "vector" }),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_purchase_is_recorded_however_its_metadata_is_spelled() {
    let stage = start("awareness");
    for (n, (thing, metadata)) in kinds("buyer").into_iter().enumerate() {
        // A customer of its own for each, so that nothing but this metadata says whose it is.
        let (id, customer) = (format!("evt_thing_{n}"), format!("cus_buyer_{n}"));
        let bought = checkout(&id, &customer, 1000, &metadata);
        deliver(&stage, HOOK, &bought).await;
        deliver(&stage, HOOK, &bought).await;
        // What was paid is Stripe's word, whatever amount the metadata has.
        assert_eq!(outcome(&stage, &id).await, ("applied".into(), format!("{thing} for 1000 usd")));
        let told = intent(&id, "succeeded", &customer, 1000, &metadata);
        deliver(&stage, HOOK, &told).await;
        let told = outcome(&stage, &format!("{id}_succeeded")).await;
        assert_eq!(told, ("applied".into(), "recorded before".into()), "one payment, told twice");
    }
    let events = stage.admin_get("/admin/v1/events?status=applied").await;
    let whose = |event: &Value| event["account"] == "buyer";
    assert!(events["items"].as_array().unwrap().iter().all(whose), "{events}");
    assert_eq!(stage.balance("buyer").await, "0", "a thing is no credits");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_payment_for_the_same_thing_is_a_conflict() {
    let stage = start("awareness");
    for (n, (thing, metadata)) in kinds("buyer").into_iter().enumerate() {
        deliver(&stage, HOOK, &checkout(&format!("evt_first_{n}"), "cus_buyer", 1000, &metadata)).await;
        let second = format!("evt_second_{n}");
        deliver(&stage, HOOK, &checkout(&second, "cus_buyer", 1000, &metadata)).await;
        let (status, why) = outcome(&stage, &second).await;
        assert!(
            status == "conflict" && why.contains(thing) && why.contains("has it already"),
            "{status}: {why}"
        );
    }
    // Somebody else's first is no second.
    let (_, metadata) = &kinds("other")[0];
    deliver(&stage, HOOK, &checkout("evt_other", "cus_other", 1000, metadata)).await;
    assert_eq!(outcome(&stage, "evt_other").await.0, "applied");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_does_not_say_what_was_bought_is_put_to_review() {
    let stage = start("awareness");
    let nameless = json!({ "user_id": "buyer", "purchase_type": "w-matrix" });
    deliver(&stage, HOOK, &checkout("evt_nameless", "cus_buyer", 1000, &nameless)).await;
    assert_eq!(outcome(&stage, "evt_nameless").await.0, "review");
    let unknown = json!({ "user_id": "buyer", "purchase_type": "poster" });
    deliver(&stage, HOOK, &checkout("evt_unknown", "cus_buyer", 1000, &unknown)).await;
    let told = outcome(&stage, "evt_unknown").await;
    assert_eq!(told, ("ignored".into(), "a payment that names no package".into()));
    let mut nobodys = kinds("x")[2].1.clone();
    nobodys["user_id"] = Value::Null;
    deliver(&stage, HOOK, &checkout("evt_nobodys", "cus_nobody", 1000, &nobodys)).await;
    assert_eq!(outcome(&stage, "evt_nobodys").await.0, "unmatched", "it waits until its customer is known");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_spends_credits_that_were_bought_for_it_in_advance() {
    let stage = start("awareness");
    stage.admin_post("/admin/v1/accounts", &json!({ "id": "agent_1", "subjects": [] })).await;
    let made = stage.admin_post("/admin/v1/api-keys", &json!({ "account": "agent_1" })).await;
    let key = made["key"].as_str().unwrap();
    let before = ask(&stage, key, "/api/agent/purchase", "").await;
    assert_eq!((before.status, &before.json()["reason"]), (402, &json!("insufficient_credits")));

    // Its owner pays by an ordinary checkout; the agent needs no card, and each spelling names it.
    for (n, metadata) in [
        json!({ "userId": "agent_1", "packageId": "agent-credits", "purchaseType": "agent_credits" }),
        json!({ "user_id": "agent_1", "package_id": "agent-credits", "purchase_type": "agent_credits" }),
    ]
    .iter()
    .enumerate()
    {
        deliver(&stage, HOOK, &checkout(&format!("evt_credits_{n}"), "cus_agent", 1000, metadata)).await;
    }
    has(&stage, "agent_1", "200").await;
    for path in ["/api/agent/purchase", "/v1/chat/completions"] {
        assert_eq!(ask(&stage, key, path, "").await.status, 200, "{path}");
    }
    let failed = ask(&stage, key, "/api/agent/purchase", "status=500").await;
    assert_eq!(failed.status, 500);
    has(&stage, "agent_1", "198").await;
    let header = Call::post(stage.settings().gateway("/api/agent/purchase")).header("x-api-key", key);
    assert_eq!(stage.gateway.send(header.json(&json!({}))).await.status, 200);
    has(&stage, "agent_1", "197").await;
    assert_eq!(mine(&stage, key, "/billing/balance").await["balance"], "197");
    let unknown = format!("tgk_{}", "A".repeat(32));
    assert_eq!(ask(&stage, &unknown, "/api/agent/purchase", "").await.status, 401);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_begins_fails_is_paid_and_ends_with_its_period() {
    let stage = start("awareness");
    let plan = Plan::new("cus_sub", "price_subscriber", 1999, json!({ "user_id": "reader" }), 30);
    let token = stage.token("reader");
    let steps = [
        ("created", "active", json!({}), "active", "subscriber"),
        ("updated", "past_due", json!({}), "past_due", "subscriber"),
        ("updated", "active", json!({}), "active", "subscriber"),
        (
            "updated",
            "active",
            json!({ "cancel_at_period_end": true, "cancel_at": plan.period.1 }),
            "active",
            "subscriber",
        ),
        ("updated", "active", json!({}), "active", "subscriber"),
    ];
    for (n, (deed, status, differs, state, tier)) in steps.into_iter().enumerate() {
        let event =
            later(plan.told(&format!("evt_step_{n}"), deed, status, &differs), i64::try_from(n).unwrap());
        deliver(&stage, HOOK, &event).await;
        let shown = mine(&stage, &token, "/billing/subscription").await;
        assert_eq!((&shown["state"], &shown["tier"]), (&json!(state), &json!(tier)), "step {n}: {shown}");
    }
    let paid = plan.paid("evt_paid", "invoice.paid", "in_1", "subscription_create");
    deliver(&stage, HOOK, &paid).await;
    let now = stage::stripe::now().secs();
    let left = plan.told("evt_left", "deleted", "canceled", &json!({ "ended_at": now }));
    deliver(&stage, HOOK, &later(left, 7)).await;
    let shown = mine(&stage, &token, "/billing/subscription").await;
    assert_eq!(
        (&shown["state"], &shown["tier"]),
        (&json!("canceled"), &json!("subscriber")),
        "it was paid: {shown}"
    );
    let over = plan.over((now - 30 * crate::play::DAY, now - 60));
    let ended = json!({ "ended_at": now - 60 });
    deliver(&stage, HOOK, &later(over.told("evt_end", "deleted", "canceled", &ended), 9)).await;
    assert_eq!(mine(&stage, &token, "/billing/subscription").await["tier"], "member");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stripe_did_not_sign_is_refused() {
    let stage = start("awareness");
    webhooks(&stage, &[HOOK]).await;
    stage.finish();
}
