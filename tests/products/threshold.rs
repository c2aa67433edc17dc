//! Threshold: supporters, patrons and guardians, whose number and weight is all that matters.

use crate::play::{DAY, Plan, checkout, later};
use crate::{deliver, mine, outcome, start, told, webhooks};
use serde_json::{Value, json};
use stage::client::Call;
use stage::harness::Stage;

const HOOK: &str = "/api/webhooks/stripe";

fn supporter(customer: &str) -> Plan<'_> {
    Plan::new(customer, "price_5month", 500, json!({ "tier": "supporter" }), 30)
}

fn patron(customer: &str) -> Plan<'_> {
    Plan::new(customer, "price_15month", 1500, json!({ "tier": "patron" }), 30)
}

async fn subscribe(stage: &Stage, plan: &Plan<'_>) {
    let told = plan.told(&format!("evt_{}", plan.customer), "created", "active", &json!({}));
    deliver(stage, HOOK, &told).await;
}

async fn benefits(stage: &Stage) -> Value {
    stage.admin_get("/admin/v1/benefits").await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_supporters_and_a_patron_are_nine() {
    let stage = start("threshold");
    for plan in [supporter("cus_1"), supporter("cus_2"), patron("cus_3")] {
        subscribe(&stage, &plan).await;
    }
    let all = benefits(&stage).await;
    assert_eq!(all["total"], 9, "{all}");
    assert_eq!(all["tiers"]["supporter"], json!({ "active": 2, "weight": 2 }));
    assert_eq!(all["tiers"]["patron"], json!({ "active": 1, "weight": 5 }));

    // What a guardian weighs is undecided: the sum is unknown then, and not nine.
    let guardian = Plan::new("cus_4", "price_50month", 5000, json!({ "tier": "guardian" }), 30);
    subscribe(&stage, &guardian).await;
    let all = benefits(&stage).await;
    assert_eq!((&all["total"], &all["tiers"]["guardian"]["active"]), (&Value::Null, &json!(1)), "{all}");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_signature_is_200_and_an_invalid_one_400() {
    let stage = start("threshold");
    webhooks(&stage, &[HOOK]).await;
    // A type that is not expected is genuine all the same: Stripe is told so, and it goes no further.
    let other = checkout("evt_other", "cus_1", 500, &json!({}));
    assert_eq!(told(&stage, HOOK, &other).await, 200);
    let events = stage.admin_get("/admin/v1/events").await;
    assert_eq!(events["items"], json!([]), "neither what was forged nor what is not listed");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_is_there_when_stripe_tells_of_one() {
    let stage = start("threshold");
    subscribe(&stage, &patron("cus_test123")).await;
    let account = stage.admin_get("/admin/v1/accounts/cus_test123").await;
    assert_eq!((&account["tier"], &account["state"]), (&json!("patron"), &json!("active")), "{account}");
    assert_eq!(account["subscriptions"].as_array().map(Vec::len), Some(1), "{account}");
    // The status under the product's own path, for whoever comes with a token of that customer.
    let status = mine(&stage, &stage.token("cus_test123"), "/api/subscription-status").await;
    assert_eq!((&status["tier"], &status["state"]), (&json!("patron"), &json!("active")), "{status}");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_canceled_counts_no_more_and_may_come_back() {
    let stage = start("threshold");
    let plan = patron("cus_1");
    subscribe(&stage, &plan).await;
    assert_eq!(benefits(&stage).await["total"], 5);
    // Its period is paid for another month: here that does not keep it.
    let ended = json!({ "ended_at": stage::stripe::now().secs() });
    deliver(&stage, HOOK, &later(plan.told("evt_end", "deleted", "canceled", &ended), 1)).await;
    let all = benefits(&stage).await;
    assert_eq!((&all["total"], &all["tiers"]["patron"]["active"]), (&json!(0), &json!(0)), "{all}");
    let account = stage.admin_get("/admin/v1/accounts/cus_1").await;
    assert_eq!(account["state"], "canceled", "{account}");

    let again = later(plan.told("evt_again", "created", "active", &json!({ "id": "sub_again" })), 2);
    deliver(&stage, HOOK, &again).await;
    assert_eq!(benefits(&stage).await["total"], 5);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_renewal_is_overlooked_for_thirty_days() {
    let stage = start("threshold");
    for (customer, days, counts) in [("cus_1", 29, 1), ("cus_2", 31, 1)] {
        let due = supporter(customer).told(&format!("evt_{customer}"), "updated", "past_due", &json!({}));
        deliver(&stage, HOOK, &later(due, -days * DAY)).await;
        let account = stage.admin_get(&format!("/admin/v1/accounts/{customer}")).await;
        assert_eq!(account["state"], "past_due", "{account}");
        // The second one adds nothing to the first.
        assert_eq!(
            benefits(&stage).await["tiers"]["supporter"]["active"],
            counts,
            "after {days} days: {account}"
        );
    }
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_is_taken_and_brings_nothing_twice() {
    let stage = start("threshold");
    let plan = supporter("cus_1");
    subscribe(&stage, &plan).await;
    let paid = plan.paid("evt_paid", "invoice.payment_succeeded", "in_1", "subscription_cycle");
    deliver(&stage, HOOK, &paid).await;
    deliver(&stage, HOOK, &paid).await;
    assert_eq!(outcome(&stage, "evt_paid").await.0, "applied");
    assert_eq!(benefits(&stage).await["total"], 2);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_may_ask_whether_stripe_reaches_the_service() {
    let stage = start("threshold");
    subscribe(&stage, &supporter("cus_1")).await;
    let url = stage.settings().gateway("/api/health/stripe");
    let answer = stage.gateway.send(Call::get(&url)).await;
    assert_eq!((answer.status, &answer.json()["events"]["applied"]), (200, &json!(1)), "{}", answer.text());
    let spoofed = Call::get(&url).header("x-tollgate-subject", "jwt_sub:Y3VzXzE");
    assert_eq!(stage.gateway.send(spoofed).await.json(), answer.json());
    assert_eq!(stage.gateway.send(Call::post(&url)).await.status, 405);
    stage.finish();
}
