//! What plans give, over real HTTP: signed events in, credits, tiers and refusals out. F-numbers name the reference cases.

use crate::support::{
    MONTH, NOON, World, demo_catalog, event, event_at, finished, invoice, invoice_of, subscription,
};
use serde_json::{Value, json};
use units::{Instant, Span};

const DAY: i64 = 86_400;
const ONE: i64 = 1_000_000;

/// P costs $30 and brings 30 credits, Q $60 and 100; `more` is said of both allowances.
fn catalog(more: &str) -> String {
    let demo = demo_catalog();
    let plan = |rank: i64, price: &str, cents: i64, credits: i64| {
        format!(
            "  {price}:\n    rank: {rank}\n    prices: [{{id: price_{price}, amount: {cents}}}]\n    \
             allowance: {{credits: {credits}, trial_credits: 5{more}}}\n"
        )
    };
    let plans = format!("{}{}", plan(2, "p", 3000, 30), plan(3, "q", 6000, 100));
    demo.replace("packages:\n", &format!("{plans}\npackages:\n"))
        .replace("tiers: [pro]", "tiers: [pro, p, q]")
}

/// A subscription of alice's.
fn sub(price: &str) -> Value {
    let mut sub = subscription("sub_1", "cus_1", "active");
    sub["metadata"] = json!({"user_id": "alice"});
    sub["items"]["data"][0]["price"] = json!({"id": format!("price_{price}")});
    sub
}

fn line(price: &str, amount: i64, from: i64, until: i64, proration: bool) -> Value {
    json!({
        "id": "il", "amount": amount, "discount_amounts": [], "quantity": 1, "period": {"start": from, "end": until},
        "pricing": {"type": "price_details", "price_details": {"price": format!("price_{price}"), "product": "prod"}},
        "parent": {"type": "subscription_item_details", "subscription_item_details": {
            "subscription": "sub_1", "proration": proration}},
    })
}

fn paid(id: &str, reason: &str, at: i64, lines: Vec<Value>) -> Value {
    let sum: i64 = lines.iter().map(|line| line["amount"].as_i64().unwrap()).sum();
    let mut invoice = invoice_of(id, "cus_1", "sub_1", at, sum.max(0), reason);
    invoice["lines"]["data"] = json!(lines);
    event_at(&format!("evt_{id}"), "invoice.paid", at, invoice)
}

/// The n-th period of a plan.
fn cycle(n: i64, price: &str, amount: i64) -> Value {
    let from = NOON.secs() + n * MONTH;
    let reason = if n == 0 { "subscription_create" } else { "subscription_cycle" };
    paid(&format!("in_{n}"), reason, from, vec![line(price, amount, from, from + MONTH, false)])
}

async fn subscribed(catalog: String, price: &str) -> World {
    let world = World::with(catalog, &[]).await;
    world.deliver(&event("evt_sub", "customer.subscription.created", sub(price))).await.ok(200);
    world
}

async fn updated(world: &World, id: &str, edit: impl FnOnce(&mut Value)) -> Value {
    let mut sub = sub("p");
    edit(&mut sub);
    let now = world.clock.now().secs();
    world.deliver(&event_at(id, "customer.subscription.updated", now, sub)).await.ok(200);
    world.account("alice").await
}

/// Time goes on until then, and whoever sweeps has swept.
async fn until(world: &World, at: i64) {
    world.advance(Instant::from_secs(at).since(world.clock.now()));
    world.sweep().await;
}

#[tokio::test]
async fn f43_a_renewal_keeps_nothing_all_or_up_to_the_cap() {
    for (rollover, left) in [("none", 30), ("all", 42), ("{cap: 40}", 40)] {
        // Q has a larger allowance, and so a larger cap.
        let catalog = catalog(&format!(", rollover: {rollover}"));
        let catalog = catalog.replace(
            "credits: 100, trial_credits: 5, rollover: {cap: 40}",
            "credits: 100, rollover: {cap: 140}",
        );
        let world = subscribed(catalog, "p").await;
        world.deliver(&cycle(0, "p", 3000)).await.ok(200);
        for id in 1..=18 {
            let held = world.need(id, "alice", "embeddings").await;
            world.sync(&json!({"cells": finished(&held, ONE)})).await;
        }
        until(&world, NOON.secs() + MONTH + 3600).await;
        assert_eq!(world.balance("alice").await, 12 * ONE);
        let renewal = cycle(1, "p", 3000);
        world.deliver(&renewal).await.ok(200);
        let mut again = renewal.clone();
        (again["id"], again["type"]) = (json!("evt_again"), json!("invoice.payment_succeeded"));
        world.deliver(&again).await.ok(200);
        assert_eq!(world.balance("alice").await, left * ONE, "{rollover}");
        assert_eq!(world.event_status("evt_again").await, "applied");
    }
}

#[tokio::test]
async fn f44_an_upgrade_in_the_middle_of_a_period_grants_what_its_policy_says() {
    for (policy, more) in [("none", 0), ("prorated_delta", 35), ("full_delta", 70), ("reset", 70)] {
        let world = subscribed(catalog(&format!(", on_upgrade: {policy}")), "p").await;
        world.deliver(&cycle(0, "p", 3000)).await.ok(200);
        let (mid, end) = (NOON.secs() + MONTH / 2, NOON.secs() + MONTH);
        until(&world, mid).await;
        let lines = || vec![line("p", -1500, mid, end, true), line("q", 3000, mid, end, true)];
        world.deliver(&paid("in_up", "subscription_update", mid, lines())).await.ok(200);
        assert_eq!(world.balance("alice").await, (30 + more) * ONE, "{policy}");
        // Down and up again.
        let down = vec![line("q", -3000, mid, end, true), line("p", 1500, mid, end, true)];
        world.deliver(&paid("in_down", "subscription_update", mid, down)).await.ok(200);
        for n in 0..4 {
            world.deliver(&paid(&format!("in_up_{n}"), "subscription_update", mid, lines())).await.ok(200);
        }
        let most = if policy == "none" { 30 } else { 100 };
        assert_eq!(world.balance("alice").await, most * ONE, "{policy}");
        assert_eq!(world.event_status("evt_in_up_3").await, "applied");
    }
}

#[tokio::test]
async fn a_discount_on_a_line_is_read_and_a_change_in_another_money_waits_for_a_person() {
    let world = subscribed(catalog(""), "p").await;
    world.deliver(&cycle(0, "p", 3000)).await.ok(200);
    let (mid, end) = (NOON.secs() + MONTH / 2, NOON.secs() + MONTH);
    until(&world, mid).await;
    let mut lines = vec![line("p", -1500, mid, end, true), line("q", 3000, mid, end, true)];
    let mut euros = paid("in_eur", "subscription_update", mid, lines.clone());
    euros["data"]["object"]["currency"] = json!("eur");
    world.deliver(&euros).await.ok(200);
    assert_eq!(world.event_status("evt_in_eur").await, "review");
    // A renewal that pays back what nobody knows is granted, and looked at.
    let mut renewal = lines.clone();
    renewal[0]["pricing"]["price_details"]["price"] = json!("price_old");
    renewal.push(line("p", 3000, NOON.secs() - MONTH, NOON.secs(), false));
    world.deliver(&paid("in_old", "subscription_cycle", mid, renewal)).await.ok(200);
    assert_eq!(world.event_status("evt_in_old").await, "review");
    assert_eq!(world.balance("alice").await, 30 * ONE);
    lines[1]["discount_amounts"] = json!([{"amount": 600, "discount": "di_1"}]);
    world.deliver(&paid("in_up", "subscription_update", mid, lines.clone())).await.ok(200);
    assert_eq!(world.balance("alice").await, (30 + 25) * ONE);
    lines[1]["discount_amounts"] = json!([{"amount": "600"}]);
    world.deliver(&paid("in_odd", "subscription_update", mid, lines)).await.ok(200);
    assert_eq!(world.event_status("evt_in_odd").await, "review");
}

/// A year from a day on, paid, of a plan that refills monthly.
async fn year(from: &str, to: &str) -> (World, Value) {
    let (from, to) = (at(from).secs(), at(to).secs());
    let world = World::with(catalog(", refill: monthly"), &[]).await;
    let begin = NOON.secs();
    // The clock of a test begins at NOON and only goes on.
    assert!(from > begin);
    until(&world, from).await;
    let mut sub = sub("p");
    sub["items"]["data"][0]["current_period_start"] = json!(from);
    sub["items"]["data"][0]["current_period_end"] = json!(to);
    world.deliver(&event_at("evt_sub", "customer.subscription.created", from, sub.clone())).await.ok(200);
    world
        .deliver(&paid("in_y", "subscription_create", from, vec![line("p", 36_000, from, to, false)]))
        .await
        .ok(200);
    (world, sub)
}

fn at(day: &str) -> Instant {
    Instant::from_rfc3339(&format!("{day}T00:00:00Z")).unwrap()
}

/// The names of what was granted by and by, from the journal.
async fn refills(world: &World) -> Vec<String> {
    let journal = world.admin("GET", "transactions?account=alice&limit=200", &Value::Null).await.ok(200);
    let granted = journal["items"].as_array().unwrap().iter().filter(|it| it["kind"] == "granted").rev();
    granted.map(|it| it["at"].as_str().unwrap().chars().take(10).collect()).collect()
}

#[tokio::test]
async fn f55_a_year_is_refilled_by_the_month_until_it_is_canceled() {
    let (world, mut sub) = year("2027-01-15", "2028-01-15").await;
    assert_eq!(world.balance("alice").await, 30 * ONE);
    until(&world, at("2027-02-15").secs()).await;
    until(&world, at("2027-03-15").secs()).await;
    assert_eq!(world.balance("alice").await, 30 * ONE);
    until(&world, at("2027-04-01").secs()).await;
    sub["status"] = json!("canceled");
    sub["ended_at"] = json!(at("2027-04-01").secs());
    world
        .deliver(&event_at("evt_end", "customer.subscription.deleted", at("2027-04-01").secs(), sub))
        .await
        .ok(200);
    for day in ["2027-04-15", "2027-04-20", "2027-05-15"] {
        until(&world, at(day).secs()).await;
    }
    assert_eq!(refills(&world).await, ["2027-01-15", "2027-02-15", "2027-03-15"]);
    assert_eq!(world.balance("alice").await, 0);
}

#[tokio::test]
async fn f55_an_anchor_on_the_31st_is_kept_and_a_need_does_not_wait_for_the_sweep() {
    let (mut world, _) = year("2027-01-31", "2028-01-31").await;
    let held = world.need(1, "alice", "embeddings").await;
    world.sync(&json!({"cells": finished(&held, ONE)})).await;
    // Nobody has swept: the need brings the month with it, and the month is there once.
    world.advance(at("2027-02-28").since(world.clock.now()));
    let held = world.need(2, "alice", "embeddings").await;
    assert_eq!(held["decision"], "ok");
    world.sync(&json!({"cells": finished(&held, ONE)})).await;
    world.sweep().await;
    world.restart().await;
    world.sweep().await;
    assert_eq!(world.balance("alice").await, 29 * ONE);
    world.advance(Span::from_secs(1));
    // A look grants nothing for good, and shows what there is.
    world.advance(at("2027-03-31").since(world.clock.now()));
    assert_eq!(world.balance("alice").await, 30 * ONE);
    assert_eq!(refills(&world).await, ["2027-01-31", "2027-02-28"]);
    world.sweep().await;
    assert_eq!(refills(&world).await, ["2027-01-31", "2027-02-28", "2027-03-31"]);
    assert_eq!(world.balance("alice").await, 30 * ONE);
}

#[tokio::test]
async fn f28_a_failed_renewal_has_grace_and_what_is_paid_in_the_end_brings_its_credits() {
    let world = subscribed(catalog(""), "p").await;
    world.deliver(&cycle(0, "p", 3000)).await.ok(200);
    let due = NOON.secs() + MONTH;
    until(&world, due).await;
    updated(&world, "evt_due", |sub| sub["status"] = json!("past_due")).await;
    world.admin("POST", "grants", &json!({"account": "alice", "credits": 10})).await.ok(201);
    until(&world, due + 7 * DAY - 1).await;
    assert_eq!(world.need(1, "alice", "image").await["decision"], "ok");
    until(&world, due + 7 * DAY).await;
    let refusal = world.need(2, "alice", "image").await["refusal"]["reason"].clone();
    assert_eq!(refusal, "past_due_grace_over");
    world.deliver(&cycle(1, "p", 3000)).await.ok(200);
    let account = updated(&world, "evt_well", |_| {}).await;
    assert_eq!((&account["state"], &account["tier"]), (&json!("active"), &json!("p")));
    assert_eq!(world.balance("alice").await + account["held_micro"].as_i64().unwrap(), 40 * ONE);
}

#[tokio::test]
async fn f29_f53_no_payment_no_credits_and_a_payment_after_the_end_waits_for_a_person() {
    let world = subscribed(catalog(""), "p").await;
    until(&world, NOON.secs() + MONTH).await;
    updated(&world, "evt_due", |sub| sub["status"] = json!("past_due")).await;
    until(&world, NOON.secs() + MONTH + DAY).await;
    // Its invoice was marked uncollectible: no payment is told, only that it is active.
    assert_eq!(updated(&world, "evt_well", |_| {}).await["state"], "active");
    assert_eq!(world.balance("alice").await, 0);
    until(&world, NOON.secs() + MONTH + 2 * DAY).await;
    let mut ended = sub("p");
    ended["ended_at"] = json!(world.clock.now().secs());
    world
        .deliver(&event_at("evt_end", "customer.subscription.deleted", world.clock.now().secs(), ended))
        .await
        .ok(200);
    let from = world.clock.now().secs() + 60;
    let late = paid("in_late", "subscription_cycle", from, vec![line("p", 3000, from, from + MONTH, false)]);
    world.deliver(&late).await.ok(200);
    assert_eq!(world.event_status("evt_in_late").await, "review");
    assert_eq!(world.balance("alice").await, 0);
    assert_ne!(world.account("alice").await["state"], "active");
}

#[tokio::test]
async fn f30_a_scheduled_end_is_shown_and_can_be_taken_back() {
    let end = NOON.secs() + MONTH;
    for (key, value) in [("cancel_at_period_end", json!(true)), ("cancel_at", json!(end))] {
        let world = subscribed(catalog(""), "p").await;
        world.deliver(&cycle(0, "p", 3000)).await.ok(200);
        until(&world, NOON.secs() + 60).await;
        let account = updated(&world, "evt_1", |sub| sub[key] = value.clone()).await;
        let at = json!(Instant::from_secs(end).to_rfc3339());
        assert_eq!((&account["state"], &account["cancel_at"]), (&json!("active"), &at), "{key}");
        until(&world, NOON.secs() + 120).await;
        assert_eq!(updated(&world, "evt_2", |_| {}).await["cancel_at"], Value::Null);
        until(&world, NOON.secs() + 180).await;
        updated(&world, "evt_3", |sub| sub[key] = value.clone()).await;
        until(&world, end - 1).await;
        assert_eq!(world.need(1, "alice", "image").await["decision"], "ok");
        until(&world, end).await;
        assert_eq!(world.account("alice").await["state"], "expired", "{key}");
    }
}

#[tokio::test]
async fn f31_a_cancellation_at_once_is_at_once_if_the_catalog_says_so() {
    for (policy, state, decision) in [("immediate", "canceled", "refused"), ("period_end", "canceled", "ok")]
    {
        let catalog = catalog("").replace("on_cancel: period_end", &format!("on_cancel: {policy}"));
        let world = subscribed(catalog, "p").await;
        world.deliver(&cycle(0, "p", 3000)).await.ok(200);
        let now = NOON.secs() + 60;
        until(&world, now).await;
        let mut ended = sub("p");
        ended["ended_at"] = json!(now);
        world.deliver(&event_at("evt_end", "customer.subscription.deleted", now, ended)).await.ok(200);
        assert_eq!(world.account("alice").await["state"], state);
        assert_eq!(world.need(1, "alice", "image").await["decision"], decision, "{policy}");
        until(&world, NOON.secs() + MONTH).await;
        assert_eq!(world.account("alice").await["state"], "expired");
        assert_eq!(world.need(2, "alice", "image").await["decision"], "refused");
    }
}

#[tokio::test]
async fn f32_what_is_paid_while_collection_is_paused_brings_its_credits_when_it_goes_on() {
    let world = subscribed(catalog(""), "p").await;
    until(&world, NOON.secs() + 60).await;
    let account =
        updated(&world, "evt_pause", |sub| sub["pause_collection"] = json!({"behavior": "void"})).await;
    assert_eq!((&account["state"], &account["tier"]), (&json!("active"), &json!("p")));
    until(&world, NOON.secs() + MONTH).await;
    world.deliver(&cycle(1, "p", 3000)).await.ok(200);
    assert_eq!(world.event_status("evt_in_1").await, "waiting");
    assert_eq!(world.balance("alice").await, 0);
    until(&world, NOON.secs() + MONTH + 60).await;
    updated(&world, "evt_on", |_| {}).await;
    assert_eq!(world.event_status("evt_in_1").await, "applied");
    assert_eq!(world.balance("alice").await, 30 * ONE);
}

#[tokio::test]
async fn f33_a_trial_without_a_way_to_pay_pauses_and_resumes() {
    let world = World::with(catalog(""), &[]).await;
    let end = NOON.secs() + 7 * DAY;
    let told = |status: &str| {
        let mut sub = sub("p");
        (sub["status"], sub["trial_end"]) = (json!(status), json!(end));
        sub
    };
    world.deliver(&event("evt_1", "customer.subscription.created", told("trialing"))).await.ok(200);
    let free = paid("in_t", "subscription_create", NOON.secs(), vec![line("p", 0, NOON.secs(), end, false)]);
    world.deliver(&free).await.ok(200);
    assert_eq!(world.balance("alice").await, 5 * ONE);
    until(&world, end).await;
    world.deliver(&event_at("evt_2", "customer.subscription.paused", end, told("paused"))).await.ok(200);
    assert_eq!(world.need(1, "alice", "image").await["refusal"]["reason"], "paused");
    until(&world, end + DAY).await;
    world
        .deliver(&event_at("evt_3", "customer.subscription.resumed", end + DAY, told("active")))
        .await
        .ok(200);
    assert_eq!(world.account("alice").await["state"], "active");
    let from = end + DAY;
    let first = paid("in_1", "subscription_cycle", from, vec![line("p", 3000, from, from + MONTH, false)]);
    world.deliver(&first).await.ok(200);
    assert_eq!(world.balance("alice").await, 30 * ONE, "of the trial nothing is kept");
}

#[tokio::test]
async fn f36_f39_the_plans_item_counts_and_what_is_pending_has_not_happened() {
    let world = subscribed(catalog(""), "p").await;
    until(&world, NOON.secs() + 60).await;
    let account = updated(&world, "evt_1", |sub| {
        let addon = json!({"id": "si_2", "price": {"id": "price_addon"}, "quantity": 1,
            "current_period_start": NOON.secs(), "current_period_end": NOON.secs() + 365 * DAY});
        sub["items"]["data"].as_array_mut().unwrap().insert(0, addon);
        sub["pending_update"] = json!({"expires_at": NOON.secs() + DAY,
            "subscription_items": [{"id": "si_1", "price": {"id": "price_q"}, "quantity": 1}]});
    })
    .await;
    let end = Instant::from_secs(NOON.secs() + MONTH).to_rfc3339();
    assert_eq!((&account["tier"], &account["current_period_end"]), (&json!("p"), &json!(end)));
    let mut expired = sub("p");
    expired["pending_update"] = Value::Null;
    let now = world.clock.now().secs();
    let expired = event_at("evt_2", "customer.subscription.pending_update_expired", now, expired);
    world.deliver(&expired).await.ok(200);
    assert_eq!(world.account("alice").await["tier"], "p");
}

#[tokio::test]
async fn f41_f42_a_trial_brings_its_own_allowance_and_a_full_coupon_the_whole() {
    let world = subscribed(catalog(""), "p").await;
    let mut coupon = cycle(0, "p", 3000);
    coupon["data"]["object"]["amount_paid"] = json!(0);
    coupon["data"]["object"]["lines"]["data"][0]["discount_amounts"] =
        json!([{"amount": 3000, "discount": "di_1"}]);
    world.deliver(&coupon).await.ok(200);
    assert_eq!(world.balance("alice").await, 30 * ONE);
}

#[tokio::test]
async fn f54_an_invoice_of_which_lines_are_missing_waits_for_a_person_loudly() {
    let world = subscribed(catalog(""), "p").await;
    let other = (0..10).map(|_| line("addon", 100, NOON.secs(), NOON.secs() + MONTH, true)).collect();
    let mut long = paid("in_0", "subscription_create", NOON.secs(), other);
    long["data"]["object"]["lines"]["has_more"] = json!(true);
    world.deliver(&long).await.ok(200);
    assert_eq!(world.event_status("evt_in_0").await, "review");
    assert_eq!(world.balance("alice").await, 0);
    let report = world.call("GET", "/health/stripe", &[], "").await.ok(200);
    assert_eq!(report["events"]["review"], 1);
    assert_eq!(world.metric("tollgate_billing_events_total", ("outcome", "review")), 1);
}

#[tokio::test]
async fn seats_multiply_and_packages_may_be_for_subscribers_only() {
    let only = catalog(", per_seat: true").replace("policies:\n", "policies:\n  packages_for: subscribers\n");
    let world = subscribed(only, "p").await;
    let mut seats = cycle(0, "p", 12_000);
    seats["data"]["object"]["lines"]["data"][0]["quantity"] = json!(4);
    world.deliver(&seats).await.ok(200);
    assert_eq!(world.balance("alice").await, 120 * ONE);
    let can = |view: Value| {
        ["can_use_credits", "can_subscribe", "can_change_plan", "can_buy_package"]
            .map(|key| view[key] == true)
    };
    let alice = world.customer("/v1/subscription", "alice").await.ok(200);
    assert_eq!(can(alice), [true, false, true, true]);
    let bob = world.customer("/v1/subscription", "bob").await.ok(200);
    assert_eq!(can(bob), [true, true, false, false]);
}

/// The first invoice may be told before the subscription that it is for, and is for a year.
#[tokio::test]
async fn the_months_come_whichever_is_told_first() {
    for order in [[0, 1], [1, 0]] {
        let world = World::with(catalog(", refill: monthly"), &[]).await;
        let until_ = NOON.secs() + 365 * DAY;
        let mut sub = sub("p");
        sub["items"]["data"][0]["current_period_end"] = json!(until_);
        let mut invoice = invoice("in_y", "cus_1", "sub_1");
        invoice["metadata"] = json!({"user_id": "alice"});
        invoice["lines"]["data"] = json!([line("p", 36_000, NOON.secs(), until_, false)]);
        let events =
            [event("evt_s", "customer.subscription.created", sub), event("evt_i", "invoice.paid", invoice)];
        for n in order {
            world.deliver(&events[n]).await.ok(200);
        }
        until(&world, at("2026-12-20").secs()).await;
        assert_eq!(refills(&world).await.len(), 1, "{order:?}");
        until(&world, at("2026-12-21").secs()).await;
        assert_eq!(refills(&world).await.len(), 2, "{order:?}");
        assert_eq!(world.balance("alice").await, 30 * ONE);
    }
}
