//! Stripe's events, signed and delivered over real HTTP: each once, in any order, and never a credit too many.

use crate::support::{
    MONTH, NOON, SECRET, World, checkout, event, event_at, invoice, invoice_of, subscription,
};
use billing::clock::Clock;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use units::Span;
use webhook::{Secret, sign};

const PRO: i64 = 1_000_000_000;
const STARTER: i64 = 100_000_000;

#[tokio::test]
async fn a_package_that_was_paid_for_is_credited_once() {
    let world = World::new().await;
    for id in 1..=3 {
        world.need(id, "alice", "chat").await;
    }
    assert_eq!(world.need(4, "alice", "chat").await["refusal"]["reason"], "daily_limit_reached");
    let bought =
        event("evt_1", "checkout.session.completed", checkout("cs_1", "cus_1", Some("alice"), "payment"));
    world.deliver(&bought).await.ok(200);
    assert_eq!(world.balance("alice").await, STARTER);
    assert_eq!(world.need(5, "alice", "chat").await["decision"], "ok");
    assert_eq!(world.balance("alice").await, STARTER - 1_000_000);
    // The same purchase told by the payment intent, and the same event again.
    let intent = json!({"id": "pi_cs_1", "object": "payment_intent", "customer": "cus_1", "amount_received": 500,
        "currency": "usd", "metadata": {"package_id": "starter"}});
    world.deliver(&event("evt_2", "payment_intent.succeeded", intent)).await.ok(200);
    assert_eq!(world.deliver(&bought).await.ok(200)["outcome"], "duplicate");
    assert_eq!(world.balance("alice").await, STARTER - 1_000_000);
}

#[tokio::test]
async fn fifty_copies_at_once_have_one_effect() {
    let world = World::new().await;
    let bought =
        event("evt_1", "checkout.session.completed", checkout("cs_1", "cus_1", Some("alice"), "payment"));
    let mut copies = tokio::task::JoinSet::new();
    let world = std::sync::Arc::new(world);
    for _ in 0..50 {
        let (world, bought) = (std::sync::Arc::clone(&world), bought.clone());
        copies.spawn(async move { world.deliver(&bought).await.ok(200) });
    }
    let outcomes = copies.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome["outcome"] == "applied").count(), 1);
    assert_eq!(world.balance("alice").await, STARTER);
}

#[tokio::test]
async fn one_paid_invoice_is_one_allowance_however_often_it_is_told() {
    let world = std::sync::Arc::new(World::new().await);
    world
        .deliver(&event(
            "evt_0",
            "customer.created",
            json!({"id": "cus_1", "metadata": {"user_id": "alice"}}),
        ))
        .await
        .ok(200);
    world
        .deliver(&event("evt_1", "customer.subscription.created", subscription("sub_1", "cus_1", "active")))
        .await
        .ok(200);
    let mut told = tokio::task::JoinSet::new();
    for (id, kind) in [
        ("evt_2", "invoice.paid"),
        ("evt_3", "invoice.payment_succeeded"),
        ("evt_2", "invoice.paid"),
        ("evt_4", "invoice_payment.paid"),
        ("evt_3", "invoice.payment_succeeded"),
    ] {
        let object = match kind {
            "invoice_payment.paid" => {
                json!({"id": "inpay_1", "object": "invoice_payment", "invoice": invoice("in_1", "cus_1", "sub_1")})
            }
            _ => invoice("in_1", "cus_1", "sub_1"),
        };
        let world = std::sync::Arc::clone(&world);
        told.spawn(async move { world.deliver(&event(id, kind, object)).await.ok(200) });
    }
    told.join_all().await;
    let account = world.account("alice").await;
    assert_eq!(
        (&account["balance_micro"], &account["tier"], &account["state"]),
        (&json!(PRO), &json!("pro"), &json!("active"))
    );
    assert_eq!(world.need(1, "alice", "image").await["decision"], "ok");
}

#[tokio::test]
async fn the_order_of_events_does_not_matter() {
    let events = [
        event("evt_s", "customer.subscription.created", subscription("sub_1", "cus_1", "active")),
        event("evt_i", "invoice.paid", invoice("in_1", "cus_1", "sub_1")),
        event(
            "evt_c",
            "checkout.session.completed",
            checkout("cs_1", "cus_1", Some("alice"), "subscription"),
        ),
    ];
    let mut results = Vec::new();
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let world = World::new().await;
        for i in order {
            world.deliver(&events[i]).await.ok(200);
        }
        let mut account = world.account("alice").await;
        account["grants"][0]["id"] = Value::Null;
        results.push(account);
        let open = world.admin("GET", "events?status=unmatched", &Value::Null).await.ok(200);
        assert_eq!(open["items"], json!([]), "{order:?}");
    }
    assert_eq!(results[0]["balance_micro"], PRO);
    assert_eq!(results[0]["tier"], "pro");
    assert!(results.iter().all(|result| *result == results[0]), "{results:#?}");
}

#[tokio::test]
async fn a_trial_brings_its_own_allowance_and_a_full_coupon_the_whole_in_any_order() {
    let catalog = crate::support::demo_catalog().replace("trial_credits: 0", "trial_credits: 7");
    for (trial, expected) in [(true, 7_000_000), (false, PRO)] {
        let mut sub = subscription("sub_1", "cus_1", if trial { "trialing" } else { "active" });
        if trial {
            sub["trial_end"] = json!(NOON.secs() + MONTH);
        }
        sub["metadata"] = json!({"user_id": "alice"});
        let free = invoice_of("in_1", "cus_1", "sub_1", NOON.secs(), 0, "subscription_create");
        let events =
            [event("evt_s", "customer.subscription.created", sub), event("evt_i", "invoice.paid", free)];
        for order in [[0, 1], [1, 0]] {
            let world = World::with(catalog.clone(), &[]).await;
            for i in order {
                world.deliver(&events[i]).await.ok(200);
            }
            assert_eq!(world.balance("alice").await, expected, "{trial} {order:?}");
            assert_eq!(world.event_status("evt_i").await, "applied");
        }
    }
}

#[tokio::test]
async fn a_renewal_replaces_what_was_left_in_either_order() {
    let first = event("evt_1", "invoice.paid", invoice("in_1", "cus_1", "sub_1"));
    let renewed = invoice_of("in_2", "cus_1", "sub_1", NOON.secs() + MONTH, 2000, "subscription_cycle");
    let second = event("evt_2", "invoice.paid", renewed);
    for late in [false, true] {
        let world = World::new().await;
        let mut sub = subscription("sub_1", "cus_1", "active");
        sub["metadata"] = json!({"user_id": "alice"});
        world.deliver(&event("evt_0", "customer.subscription.created", sub)).await.ok(200);
        if !late {
            world.deliver(&first).await.ok(200);
            let used = world.need(1, "alice", "image").await;
            world.sync(&json!({"cells": crate::support::finished(&used, 5_000_000)})).await;
        }
        world.advance(Span::from_secs(30 * 86_400 + 3600));
        world.deliver(&second).await.ok(200);
        world.deliver(&first).await.ok(200);
        assert_eq!(world.balance("alice").await, PRO, "late: {late}");
        assert_eq!(world.account("alice").await["debt_micro"], 0);
        // It ends with its own period and the grace.
        world.advance(Span::from_secs(33 * 86_400));
        world.sweep().await;
        assert_eq!(world.balance("alice").await, 0);
    }
}

#[tokio::test]
async fn what_is_in_flight_when_the_plan_renews_is_paid_once() {
    let world = World::new().await;
    let mut sub = subscription("sub_1", "cus_1", "active");
    sub["metadata"] = json!({"user_id": "alice"});
    world.deliver(&event("evt_0", "customer.subscription.created", sub)).await.ok(200);
    world.deliver(&event("evt_1", "invoice.paid", invoice("in_1", "cus_1", "sub_1"))).await.ok(200);
    // The period is over, its grace is not: this is held on the old allowance, and ends after it was replaced.
    world.advance(Span::from_secs(30 * 86_400 + 3600));
    let used = world.need(1, "alice", "image").await;
    let renewed = invoice_of("in_2", "cus_1", "sub_1", NOON.secs() + MONTH, 2000, "subscription_cycle");
    world.deliver(&event("evt_2", "invoice.paid", renewed)).await.ok(200);
    world.sync(&json!({"cells": crate::support::finished(&used, 5_000_000)})).await;
    let account = world.account("alice").await;
    assert_eq!((&account["debt_micro"], &account["held_micro"]), (&json!(0), &json!(0)));
    assert_eq!(world.balance("alice").await, PRO);
}

#[tokio::test]
async fn what_a_connected_account_was_paid_is_no_money_of_ours() {
    let world = World::new().await;
    let paid = checkout("cs_1", "cus_1", Some("mallory"), "payment");
    let mut theirs = event("evt_1", "checkout.session.completed", paid);
    theirs["account"] = json!("acct_mallory");
    world.deliver(&theirs).await.ok(200);
    assert_eq!(world.event_status("evt_1").await, "review");
    world.admin("GET", "accounts/mallory", &Value::Null).await.ok(404);
}

#[tokio::test]
async fn a_package_that_nobody_bought_is_put_to_review() {
    let world = World::new().await;
    let mut paid = checkout("cs_1", "cus_1", None, "payment");
    paid["customer"] = json!(null);
    world.deliver(&event("evt_1", "checkout.session.completed", paid)).await.ok(200);
    assert_eq!(world.event_status("evt_1").await, "review");
}

#[tokio::test]
async fn a_cancellation_lasts_until_the_paid_period_is_over() {
    let world = World::new().await;
    let mut sub = subscription("sub_1", "cus_1", "active");
    sub["metadata"] = json!({"user_id": "alice"});
    world.deliver(&event("evt_1", "customer.subscription.created", sub.clone())).await.ok(200);
    world.deliver(&event("evt_2", "invoice.paid", invoice("in_1", "cus_1", "sub_1"))).await.ok(200);
    sub["status"] = json!("canceled");
    sub["ended_at"] = json!(NOON.secs() + 60);
    world.deliver(&event_at("evt_3", "customer.subscription.deleted", NOON.secs() + 60, sub)).await.ok(200);
    let account = world.account("alice").await;
    assert_eq!((&account["tier"], &account["state"]), (&json!("pro"), &json!("canceled")));
    assert_eq!(world.need(1, "alice", "image").await["decision"], "ok");
    // Something older comes late: it stays canceled.
    world
        .deliver(&event("evt_4", "customer.subscription.updated", subscription("sub_1", "cus_1", "active")))
        .await
        .ok(200);
    assert_eq!(world.account("alice").await["state"], "canceled");
    world.advance(Span::from_secs(30 * 86_400));
    let refused = world.need(2, "alice", "image").await;
    assert_eq!(refused["decision"], "refused");
    let account = world.account("alice").await;
    assert_eq!((&account["tier"], &account["state"]), (&json!("free"), &json!("expired")));
}

#[tokio::test]
async fn what_fits_no_package_waits_for_a_person() {
    let world = World::new().await;
    let mut euros = checkout("cs_1", "cus_1", Some("alice"), "payment");
    euros["currency"] = json!("eur");
    let mut cheap = checkout("cs_2", "cus_1", Some("alice"), "payment");
    cheap["amount_total"] = json!(1);
    let mut float = checkout("cs_3", "cus_1", Some("alice"), "payment");
    float["amount_total"] = json!(500.0);
    let mut unknown = checkout("cs_4", "cus_1", Some("alice"), "payment");
    unknown["metadata"]["package_id"] = json!("gold");
    for (id, session) in [("evt_1", euros), ("evt_2", cheap), ("evt_3", float), ("evt_4", unknown)] {
        world.deliver(&event(id, "checkout.session.completed", session)).await.ok(200);
        assert_eq!(world.event_status(id).await, "review", "{id}");
    }
    let mut discounted = checkout("cs_5", "cus_1", Some("alice"), "payment");
    discounted["amount_total"] = json!(400);
    discounted["total_details"]["amount_discount"] = json!(100);
    assert_eq!(world.balance("alice").await, 0);
    world.deliver(&event("evt_5", "checkout.session.completed", discounted)).await.ok(200);
    assert_eq!(world.balance("alice").await, STARTER);
}

/// An error would make Stripe retry for days what will never be different.
#[tokio::test]
async fn a_genuine_event_that_cannot_be_read_waits_for_a_person() {
    let world = World::new().await;
    for (id, oddity) in [("evt_1", "1e400"), ("evt_2", r#""\ud800""#)] {
        let body = event(id, "checkout.session.completed", json!({"odd": "here"})).to_string();
        world.deliver_text(body.replace(r#""here""#, oddity)).await.ok(200);
        assert_eq!(world.event_status(id).await, "review", "{oddity}");
    }
}

#[tokio::test]
async fn nothing_is_credited_before_it_is_paid() {
    let world = World::new().await;
    let mut session = checkout("cs_1", "cus_1", Some("alice"), "payment");
    session["payment_status"] = json!("unpaid");
    world.deliver(&event("evt_1", "checkout.session.completed", session.clone())).await.ok(200);
    assert_eq!(world.balance("alice").await, 0);
    session["payment_status"] = json!("paid");
    world.deliver(&event("evt_2", "checkout.session.async_payment_succeeded", session)).await.ok(200);
    assert_eq!(world.balance("alice").await, STARTER);
}

#[tokio::test]
async fn somebody_elses_event_changes_nothing_here() {
    let world = World::new().await;
    let intent = json!({"id": "pi_1", "customer": "cus_9", "amount_received": 2000, "currency": "usd", "metadata": {}});
    for (id, kind, object, status) in [
        ("evt_1", "payment_intent.succeeded", intent, "ignored"),
        ("evt_2", "customer.subscription.created", subscription("sub_9", "cus_9", "active"), "unmatched"),
        ("evt_3", "radar.early_fraud_warning.created", json!({"id": "issfr_1"}), "ignored"),
        ("evt_4", "invoice_payment.paid", json!({"id": "inpay_1", "invoice": "in_1"}), "ignored"),
    ] {
        assert_eq!(world.deliver(&event(id, kind, object)).await.ok(200)["outcome"], status, "{id}");
    }
    let report = world.call("GET", "/health/stripe", &[], "").await.ok(200);
    assert_eq!((&report["events"]["unmatched"], &report["events"]["ignored"]), (&json!(1), &json!(3)));
    // An operator binds the customer: what waited is applied.
    world.admin("POST", "accounts", &json!({"id": "bob", "stripe_customer": "cus_9"})).await.ok(201);
    assert_eq!(world.event_status("evt_2").await, "applied");
    assert_eq!(world.account("bob").await["tier"], "pro");
}

#[tokio::test]
async fn a_binding_is_not_moved_by_metadata() {
    let world = World::new().await;
    world
        .deliver(&event(
            "evt_1",
            "checkout.session.completed",
            checkout("cs_1", "cus_1", Some("alice"), "payment"),
        ))
        .await
        .ok(200);
    let hijack = checkout("cs_2", "cus_1", Some("mallory"), "payment");
    world.deliver(&event("evt_2", "checkout.session.completed", hijack)).await.ok(200);
    assert_eq!(world.event_status("evt_2").await, "conflict");
    assert_eq!(world.balance("alice").await, 2 * STARTER);
    assert_eq!(world.admin("GET", "accounts/mallory", &Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_customer_that_another_price_bought_keeps_its_plan_and_is_looked_at() {
    let world = World::new().await;
    let mut sub = subscription("sub_1", "cus_1", "active");
    sub["metadata"] = json!({"user_id": "alice"});
    world.deliver(&event("evt_1", "customer.subscription.created", sub.clone())).await.ok(200);
    sub["items"]["data"][0]["price"]["id"] = json!("price_unheard_of");
    world.deliver(&event_at("evt_2", "customer.subscription.updated", NOON.secs() + 9, sub)).await.ok(200);
    assert_eq!(world.event_status("evt_2").await, "review");
    assert_eq!(world.account("alice").await["tier"], "pro");
}

#[tokio::test]
async fn a_past_due_customer_has_grace_and_then_not() {
    let world = World::new().await;
    let mut sub = subscription("sub_1", "cus_1", "active");
    sub["metadata"] = json!({"user_id": "alice"});
    world.deliver(&event("evt_1", "customer.subscription.created", sub.clone())).await.ok(200);
    world.admin("POST", "grants", &json!({"account": "alice", "credits": 100})).await.ok(201);
    sub["status"] = json!("past_due");
    world.deliver(&event_at("evt_2", "customer.subscription.updated", NOON.secs() + 1, sub)).await.ok(200);
    world.advance(Span::from_secs(7 * 86_400));
    assert_eq!(world.need(1, "alice", "image").await["decision"], "ok");
    world.advance(Span::from_secs(1));
    let refusal = world.need(2, "alice", "image").await["refusal"].clone();
    assert_eq!((&refusal["reason"], &refusal["status"]), (&json!("past_due_grace_over"), &json!(402)));
}

#[tokio::test]
async fn only_stripe_can_sign_and_the_other_mode_is_not_taken() {
    let world = World::with(crate::support::demo_catalog(), &[("LIVEMODE", "live")]).await;
    let bought =
        event("evt_1", "checkout.session.completed", checkout("cs_1", "cus_1", Some("alice"), "payment"));
    assert_eq!(world.deliver(&bought).await.ok(200)["outcome"], "other_mode");
    let body = bought.to_string();
    for (header, body) in [("t=1,v1=00", body.as_str()), ("", &body)] {
        let answer =
            world.call("POST", "/webhooks/stripe", &[("stripe-signature", header)], body.to_owned()).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["detail"], "This is not an event that is taken here.");
    }
    assert_eq!(world.call("POST", "/webhooks/stripe", &[], body).await.status, 400);
    assert_eq!(world.call("GET", "/webhooks/stripe", &[], "").await.status, 405);
    assert_eq!(world.admin("GET", "accounts/alice", &Value::Null).await.status, 404);
}

/// The ledger's time does not go back; how old an event is, the machine says as it stands now. Refused for longer than Stripe
/// sends it again, it would be lost.
#[tokio::test]
async fn a_clock_that_was_ahead_for_a_moment_refuses_no_event() {
    let mut world = World::new().await;
    world.stop().await;
    world.clock = Clock::system();
    world.start().await;
    let Clock::System(latest) = &world.clock else { panic!("the machine's") };
    let now = world.clock.now();
    latest.store(now.plus(Span::from_secs(4 * 86_400)).micros(), Ordering::SeqCst);
    let session = checkout("cs_1", "cus_1", Some("alice"), "payment");
    let body = event("evt_1", "checkout.session.completed", session).to_string();
    for (signed_at, status) in [(now, 200), (world.clock.now(), 400)] {
        let signature = sign(&Secret::new(SECRET).unwrap(), signed_at, body.as_bytes());
        let header = [("stripe-signature", signature.as_str())];
        let answer = world.call("POST", "/webhooks/stripe", &header, body.clone()).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    assert_eq!(world.balance("alice").await, STARTER);
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let mut world = World::new().await;
    let bought =
        event("evt_1", "checkout.session.completed", checkout("cs_1", "cus_1", Some("alice"), "payment"));
    world.deliver(&bought).await.ok(200);
    let held = world.need(1, "alice", "embeddings").await;
    let before = world.account("alice").await;
    world.restart().await;
    assert_eq!(world.account("alice").await, before);
    assert_eq!(world.deliver(&bought).await.ok(200)["outcome"], "duplicate");
    world.sync(&json!({"cells": crate::support::finished(&held, 1_000_000)})).await;
    assert_eq!(world.balance("alice").await, STARTER - 1_000_000);
}

/// F16: while an account moves to thin events, Stripe tells the same thing as a snapshot and as a thin one.
#[tokio::test]
async fn a_snapshot_and_the_thin_event_beside_it_have_one_effect() {
    for thin_first in [false, true] {
        let world = World::new().await;
        let bought =
            event("evt_1", "checkout.session.completed", checkout("cs_1", "cus_1", Some("alice"), "payment"));
        let thin = json!({"id": "evt_test_65", "object": "v2.core.event", "livemode": false,
            "type": "v1.checkout.session.completed", "created": "2026-11-20T12:00:00.000Z", "snapshot_event": "evt_1",
            "related_object": {"id": "cs_1", "type": "checkout.session", "url": "/v1/checkout/sessions/cs_1"}});
        let both = if thin_first { [&thin, &bought] } else { [&bought, &thin] };
        for event in both.into_iter().chain(both) {
            world.deliver(event).await.ok(200);
        }
        assert_eq!(world.balance("alice").await, STARTER);
        assert_eq!(world.event_status("evt_test_65").await, "ignored");
    }
}

/// F14: what no rule knows, or knows and cannot use, is taken: a 4xx would make Stripe send it for days.
#[tokio::test]
async fn an_event_of_any_other_kind_is_taken_and_changes_nothing() {
    let world = World::new().await;
    let upcoming = json!({"object": "invoice", "customer": "cus_1", "lines": {"data": []}});
    for (n, (kind, object)) in [
        ("some.thing.new", json!({"id": "x_1", "object": "thing"})),
        ("invoice.created", json!({"id": "in_1", "object": "invoice", "customer": "cus_1"})),
        ("invoice.upcoming", upcoming),
        ("invoice.paid", json!(null)),
        ("invoice.paid", json!([1])),
        ("invoice.paid", json!({"id": 7, "object": "invoice"})),
        (
            "invoice.paid",
            json!({"id": "in_2", "object": "invoice", "amount_paid": -1, "customer": {"id": 7}}),
        ),
        (
            "customer.subscription.updated",
            json!({"id": "sub_1", "object": "subscription", "status": "zombie"}),
        ),
        (
            "checkout.session.completed",
            json!({"id": "cs_1", "object": "checkout.session", "amount_total": 1e300}),
        ),
        ("checkout.session.completed", json!("cs_1")),
    ]
    .into_iter()
    .enumerate()
    {
        let event = event(&format!("evt_{n}"), kind, object);
        let taken = world.deliver(&event).await;
        assert_eq!(taken.status, 200, "{kind}: {}", taken.text);
        assert_eq!(world.deliver(&event).await.status, 200, "{kind}, again");
    }
    assert_eq!(world.admin("GET", "accounts/cus_1", &Value::Null).await.status, 404);
}
