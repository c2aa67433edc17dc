//! icraft: thirty credits a period, kept until they are used, and a story that fails costs none.

use crate::play::{DAY, Plan, checkout, later};
use crate::{ask, deliver, has, mine, outcome, start, told, webhooks};
use serde_json::{Value, json};
use stage::client::Call;
use stage::harness::Stage;

const HOOK: &str = "/icraft-stripe-webhook";
const OTHER_HOOK: &str = "/functions/v1/stripe-webhook";
const STORY: &str = "/stories/generate-with-credits";
const STATE: &str = "/stripe/subscription/state";

/// A month that began some time ago, so that the next one may begin before this test is over.
fn individual(user: &str) -> Plan<'static> {
    let customer = String::leak(format!("cus_{user}"));
    let now = stage::stripe::now().secs();
    let plan = Plan::new(customer, "price_individual", 999, json!({ "user_id": user }), 30);
    plan.over((now - 30 * DAY, now - 60))
}

async fn subscribe(stage: &Stage, plan: &Plan<'_>) {
    let id = |what: &str| format!("evt_{what}_{}", plan.customer);
    deliver(stage, HOOK, &plan.told(&id("sub"), "created", "active", &json!({}))).await;
    let first = plan.paid(&id("paid"), "invoice.payment_succeeded", &id("in"), "subscription_create");
    deliver(stage, HOOK, &first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_1_a_new_subscription_is_active_and_has_thirty_credits() {
    let stage = start("icraft");
    let token = stage.token("ada");
    let before = mine(&stage, &token, STATE).await;
    assert_eq!(
        (&before["state"], &before["can_subscribe"], &before["can_use_credits"]),
        (&json!("no_subscription"), &json!(true), &json!(false)),
        "{before}"
    );
    // A checkout that is no payment of its own brings nothing: credits come with the paid invoice.
    let mut session = checkout("evt_session", "cus_ada", 999, &json!({ "user_id": "ada" }));
    session["data"]["object"]["mode"] = json!("subscription");
    deliver(&stage, HOOK, &session).await;
    assert_eq!(stage.balance("ada").await, "0");
    subscribe(&stage, &individual("ada")).await;
    assert_eq!(stage.balance("ada").await, "30");
    let after = mine(&stage, &token, STATE).await;
    assert_eq!(
        (&after["state"], &after["tier"], &after["can_subscribe"], &after["can_use_credits"]),
        (&json!("active"), &json!("individual"), &json!(false), &json!(true)),
        "{after}"
    );
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_2_a_renewal_adds_thirty_and_none_twice() {
    let stage = start("icraft");
    let plan = individual("ben");
    subscribe(&stage, &plan).await;
    let token = stage.token("ben");
    for _ in 0..10 {
        assert_eq!(ask(&stage, &token, STORY, "").await.status, 200);
    }
    has(&stage, "ben", "20").await;
    let now = stage::stripe::now().secs();
    let next = plan.over((now - 60, now - 60 + 30 * DAY));
    deliver(&stage, HOOK, &later(next.told("evt_next", "updated", "active", &json!({})), 1)).await;
    // Both events that tell of one payment, and one of them again.
    let paid = next.paid("evt_renewed", "invoice.payment_succeeded", "in_2", "subscription_cycle");
    let same = next.paid("evt_renewed_too", "invoice.paid", "in_2", "subscription_cycle");
    for event in [&paid, &same, &paid] {
        deliver(&stage, HOOK, event).await;
    }
    has(&stage, "ben", "50").await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_3_a_story_is_paid_for_and_a_failed_one_is_not() {
    let stage = start("icraft");
    subscribe(&stage, &individual("cleo")).await;
    let token = stage.token("cleo");
    let story = ask(&stage, &token, STORY, "").await;
    assert_eq!((story.status, story.header("x-tollgate-charged")), (200, "1"), "{}", story.text());
    has(&stage, "cleo", "29").await;
    for script in ["status=500", "status=503", "reset"] {
        let failed = ask(&stage, &token, STORY, script).await;
        assert!(failed.status >= 500, "{script}: {}", failed.status);
        has(&stage, "cleo", "29").await;
    }
    // Who is asking stands in the token, whatever a client claims besides.
    let body = json!({ "user_id": "somebody-else" });
    let spoofed =
        Call::post(stage.settings().gateway(STORY)).bearer(&token).header("x-user-id", "somebody-else");
    assert_eq!(stage.gateway.send(spoofed.json(&body)).await.status, 200);
    has(&stage, "cleo", "28").await;
    let nobody = Call::post(stage.settings().gateway(STORY)).json(&json!({}));
    assert_eq!(stage.gateway.send(nobody).await.status, 401);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_4_without_credits_it_is_402_and_no_story_is_begun() {
    let stage = start("icraft");
    subscribe(&stage, &individual("dora")).await;
    let token = stage.token("dora");
    for n in 1..=30 {
        assert_eq!(ask(&stage, &token, STORY, "").await.status, 200, "story {n}");
    }
    let refused = ask(&stage, &token, STORY, "").await;
    let body = refused.json();
    assert_eq!((refused.status, &body["reason"]), (402, &json!("insufficient_credits")), "{body}");
    assert_eq!(body["detail"], "There are not enough credits left for a story.");
    assert_eq!((&body["balance"], &body["required_micro"]), (&json!("0"), &json!(1_000_000)));
    assert_eq!(stage.upstream.count(), 30);
    // And who never subscribed.
    let stranger = ask(&stage, &stage.token("stranger"), STORY, "").await;
    assert_eq!((stranger.status, &stranger.json()["reason"]), (402, &json!("no_subscription")));
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_5_the_same_webhook_twice_is_one_transaction() {
    let stage = start("icraft");
    let plan = individual("eve");
    deliver(&stage, HOOK, &plan.told("evt_sub", "created", "active", &json!({}))).await;
    let paid = plan.paid("evt_paid", "invoice.payment_succeeded", "in_1", "subscription_create");
    // Twice to one handler, and to the other one as well.
    for path in [HOOK, HOOK, OTHER_HOOK, OTHER_HOOK] {
        assert_eq!(told(&stage, path, &paid).await, 200, "{path}");
    }
    assert_eq!(stage.balance("eve").await, "30");
    let journal = stage.admin_get("/admin/v1/transactions?account=eve").await;
    let granted = |entry: &&Value| entry["kind"] == "granted";
    assert_eq!(journal["items"].as_array().unwrap().iter().filter(granted).count(), 1, "{journal}");
    assert_eq!(outcome(&stage, "evt_paid").await.0, "applied");
    webhooks(&stage, &[HOOK, OTHER_HOOK]).await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_6_no_state_that_is_shown_or_acted_on_is_five_minutes_old() {
    let stage = start("icraft");
    let plan = individual("finn");
    subscribe(&stage, &plan).await;
    let token = stage.token("finn");
    assert_eq!(mine(&stage, &token, STATE).await["state"], "active");
    assert_eq!(ask(&stage, &token, STORY, "").await.status, 200, "the gateway knows him now");
    let ended = json!({ "ended_at": stage::stripe::now().secs() });
    deliver(&stage, HOOK, &later(plan.told("evt_end", "deleted", "canceled", &ended), 1)).await;
    // What is shown is asked for each time, and what the gateway remembers is called back.
    let shown = mine(&stage, &token, STATE).await;
    assert!(["canceled", "expired"].contains(&shown["state"].as_str().unwrap()), "{shown}");
    assert_eq!(
        (&shown["can_subscribe"], &shown["can_use_credits"]),
        (&json!(true), &json!(false)),
        "{shown}"
    );
    stage::harness::eventually("the gateway has heard of it", async || {
        ask(&stage, &token, STORY, "").await.status == 402
    })
    .await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_renewal_is_past_due_and_then_well_again() {
    let stage = start("icraft");
    let plan = individual("gus");
    subscribe(&stage, &plan).await;
    let token = stage.token("gus");
    let now = stage::stripe::now().secs();
    let next = plan.over((now - 60, now - 60 + 30 * DAY));
    deliver(&stage, HOOK, &later(next.told("evt_due", "updated", "past_due", &json!({})), 1)).await;
    let due = mine(&stage, &token, STATE).await;
    assert_eq!((&due["state"], &due["can_use_credits"]), (&json!("past_due"), &json!(true)), "{due}");
    assert_eq!(stage.balance("gus").await, "30", "nothing was paid, so nothing came");
    deliver(&stage, HOOK, &later(next.told("evt_well", "updated", "active", &json!({})), 2)).await;
    assert_eq!(mine(&stage, &token, STATE).await["state"], "active");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_spends_what_its_account_has_whoever_of_it_asks() {
    let stage = start("icraft");
    let members = ["hana", "ines"].map(|member| json!({ "kind": "jwt_sub", "value": member }));
    stage.admin_post("/admin/v1/accounts", &json!({ "id": "team_1", "subjects": members })).await;
    subscribe(&stage, &individual("team_1")).await;
    for member in ["hana", "ines", "hana"] {
        assert_eq!(ask(&stage, &stage.token(member), STORY, "").await.status, 200, "{member}");
    }
    has(&stage, "team_1", "27").await;
    assert_eq!(mine(&stage, &stage.token("ines"), "/credits/balance").await["balance"], "27");
    stage.finish();
}
