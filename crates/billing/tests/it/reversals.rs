//! Refunds, disputes, credit notes and checkouts that fail: in every order, each more than once, to the same balance.

use crate::support::{
    MONTH, NOON, World, checkout, demo_catalog, event, event_at, finished, invoice, subscription,
};
use serde_json::{Value, json};

const PRO: i64 = 1_000_000_000;
const STARTER: i64 = 100_000_000;

/// 100 credits for 500 cents, by the payment `pi_cs_1`.
fn bought(id: &str) -> Value {
    event(id, "checkout.session.completed", checkout("cs_1", "cus_1", Some("alice"), "payment"))
}

fn charge(id: &str, refunded: i64) -> Value {
    let charge = json!({"id": "ch_1", "object": "charge", "payment_intent": "pi_cs_1", "customer": "cus_1",
        "amount": 500, "amount_refunded": refunded, "refunded": refunded == 500, "currency": "usd", "metadata": {}});
    event(id, "charge.refunded", charge)
}

fn refund(id: &str, kind: &str, name: &str, amount: i64, status: &str) -> Value {
    let refund = json!({"id": name, "object": "refund", "charge": "ch_1", "payment_intent": "pi_cs_1",
        "amount": amount, "currency": "usd", "status": status});
    event(id, kind, refund)
}

fn dispute(id: &str, kind: &str, at: i64, status: &str, amount: i64) -> Value {
    let dispute = json!({"id": "dp_1", "object": "dispute", "charge": "ch_1", "payment_intent": "pi_cs_1",
        "amount": amount, "currency": "usd", "status": status});
    event_at(id, &format!("charge.dispute.{kind}"), NOON.secs() + at, dispute)
}

/// Every order of `n` things.
fn orders(n: usize) -> Vec<Vec<usize>> {
    let Some(last) = n.checked_sub(1) else { return vec![Vec::new()] };
    let insert = |order: Vec<usize>| {
        (0..n).map(move |at| {
            let mut order = order.clone();
            order.insert(at, last);
            order
        })
    };
    orders(last).into_iter().flat_map(insert).collect()
}

/// The events in every order, each again at once and all again at the end; what is shown of alice's account after it.
async fn in_every_order(catalog: &str, before: &[Value], events: &[Value], after: impl Fn(&Value, &[usize])) {
    for order in orders(events.len()) {
        let world = World::with(catalog.to_owned(), &[]).await;
        let told = order.iter().flat_map(|n| [&events[*n], &events[*n]]).chain(events);
        for event in before.iter().chain(told) {
            world.deliver(event).await.ok(200);
        }
        after(&world.account("alice").await, &order);
        let open = world.admin("GET", "events?status=unmatched", &Value::Null).await.ok(200);
        assert_eq!(open["items"], json!([]), "{order:?}");
    }
}

fn balance(expected: i64) -> impl Fn(&Value, &[usize]) {
    move |account, order| assert_eq!(account["balance_micro"], expected, "{order:?} {account}")
}

/// A need's refusal, by its reason.
async fn reason(world: &World, id: u64, endpoint: &str) -> Value {
    world.need(id, "alice", endpoint).await["refusal"]["reason"].clone()
}

/// F45: three kinds of events tell of one purchase.
#[tokio::test]
async fn one_purchase_is_credited_once_whoever_tells_it() {
    let intent = json!({"id": "pi_cs_1", "object": "payment_intent", "customer": "cus_1", "amount_received": 500,
        "currency": "usd", "metadata": {"package_id": "starter", "user_id": "alice"}});
    let events = [bought("evt_1"), event("evt_2", "payment_intent.succeeded", intent), bought("evt_3")];
    in_every_order(&demo_catalog(), &[], &events, balance(STARTER)).await;
}

/// F46: a payment that takes days.
#[tokio::test]
async fn a_checkout_that_is_paid_later_is_credited_then_and_one_that_fails_never() {
    let mut unpaid = checkout("cs_1", "cus_1", Some("alice"), "payment");
    unpaid["payment_status"] = json!("unpaid");
    let completed = event("evt_1", "checkout.session.completed", unpaid.clone());
    let paid = event(
        "evt_2",
        "checkout.session.async_payment_succeeded",
        checkout("cs_1", "cus_1", Some("alice"), "payment"),
    );
    in_every_order(&demo_catalog(), &[], &[completed.clone(), paid.clone()], balance(STARTER)).await;
    for kind in ["checkout.session.async_payment_failed", "checkout.session.expired"] {
        let failed = event("evt_3", kind, unpaid.clone());
        in_every_order(&demo_catalog(), &[], &[completed.clone(), failed.clone()], balance(0)).await;
        // Money that came counts, whatever was told of it before.
        in_every_order(&demo_catalog(), &[], &[failed.clone(), paid.clone()], balance(STARTER)).await;
        let world = World::new().await;
        world.deliver(&failed).await.ok(200);
        let told = world.admin("GET", "events", &Value::Null).await.ok(200);
        assert_eq!(told["items"][0]["status"], "applied");
        assert_eq!(told["items"][0]["detail"], "failed: nothing was paid, nothing is granted");
    }
}

/// F48, and the refund of it: what was not credited is not taken back.
#[tokio::test]
async fn the_refund_of_what_was_never_credited_takes_nothing() {
    let world = World::new().await;
    let mut cheap = checkout("cs_1", "cus_1", Some("alice"), "payment");
    cheap["amount_total"] = json!(1);
    world.deliver(&event("evt_1", "checkout.session.completed", cheap)).await.ok(200);
    world.deliver(&charge("evt_2", 500)).await.ok(200);
    assert_eq!(
        (world.event_status("evt_1").await, world.event_status("evt_2").await),
        ("review".into(), "unmatched".into())
    );
    assert_eq!(world.balance("alice").await, 0);
}

/// F49: Stripe's total is cumulative, and may come late.
#[tokio::test]
async fn partial_refunds_take_their_share_of_the_whole() {
    let events = [bought("evt_1"), charge("evt_2", 50), charge("evt_3", 250)];
    in_every_order(&demo_catalog(), &[], &events, balance(STARTER / 2)).await;
    let events = [
        bought("evt_1"),
        charge("evt_2", 250),
        refund("evt_3", "refund.created", "re_1", 50, "succeeded"),
        refund("evt_4", "charge.refund.updated", "re_2", 200, "succeeded"),
    ];
    in_every_order(&demo_catalog(), &[], &events, balance(STARTER / 2)).await;
}

/// F50: credits that were used and then refunded are owed, or the operator's loss.
#[tokio::test]
async fn credits_that_were_used_and_refunded_are_owed_or_not_as_the_catalog_says() {
    let dear = demo_catalog().replace("embeddings: {cost: 1,", "embeddings: {cost: 80,");
    let lenient = dear.replace("expires: never}", "expires: never, on_over_revoke: floor_zero}");
    assert_ne!(lenient, dear);
    for (catalog, left) in [(dear, -80_000_000), (lenient, 0)] {
        let world = World::with(catalog, &[]).await;
        world.deliver(&bought("evt_1")).await.ok(200);
        let used = world.need(1, "alice", "embeddings").await;
        world.sync(&json!({"cells": finished(&used, 80_000_000)})).await;
        world.deliver(&charge("evt_2", 500)).await.ok(200);
        assert_eq!(world.balance("alice").await, left);
        assert_eq!(reason(&world, 2, "models").await, "endpoint_unknown");
        assert_eq!(reason(&world, 3, "embeddings").await, "insufficient_credits");
        // It failed: the rest is there again, and so is the money.
        world.deliver(&refund("evt_3", "refund.failed", "re_1", 500, "failed")).await.ok(200);
        assert_eq!(world.balance("alice").await, 20_000_000);
    }
}

/// F51.
#[tokio::test]
async fn a_refund_that_failed_is_undone() {
    let events = [
        bought("evt_1"),
        charge("evt_2", 500),
        refund("evt_3", "refund.created", "re_1", 500, "succeeded"),
        refund("evt_4", "refund.failed", "re_1", 500, "failed"),
    ];
    in_every_order(&demo_catalog(), &[], &events, balance(STARTER)).await;
    let canceled = refund("evt_4", "refund.updated", "re_1", 500, "canceled");
    in_every_order(
        &demo_catalog(),
        &[],
        &[bought("evt_1"), charge("evt_2", 500), canceled],
        balance(STARTER),
    )
    .await;
}

/// F52.
#[tokio::test]
async fn a_dispute_holds_its_credits_until_it_is_won_or_lost() {
    let opened = dispute("evt_2", "created", 1, "needs_response", 500);
    let withdrawn = dispute("evt_3", "funds_withdrawn", 1, "needs_response", 500);
    let held = |account: &Value, order: &[usize]| {
        let shown = (&account["balance_micro"], &account["frozen_micro"], &account["debt_micro"]);
        assert_eq!(shown, (&json!(0), &json!(STARTER), &json!(0)), "{order:?}");
    };
    in_every_order(&demo_catalog(), &[], &[bought("evt_1"), opened.clone(), withdrawn], held).await;
    for (status, left) in [("won", STARTER), ("lost", 0), ("prevented", STARTER)] {
        let closed = dispute("evt_4", "closed", 9, status, 500);
        let events = [bought("evt_1"), opened.clone(), closed];
        let ended = |account: &Value, order: &[usize]| {
            let shown = (&account["balance_micro"], &account["frozen_micro"]);
            assert_eq!(shown, (&json!(left), &json!(0)), "{status} {order:?}");
        };
        in_every_order(&demo_catalog(), &[], &events, ended).await;
    }
    let reinstated = dispute("evt_4", "funds_reinstated", 9, "under_review", 500);
    in_every_order(&demo_catalog(), &[], &[bought("evt_1"), opened, reinstated], balance(STARTER)).await;
}

#[tokio::test]
async fn an_inquiry_holds_nothing_unless_the_catalog_says_so() {
    let strict = demo_catalog().replace("policies:\n", "policies:\n  hold_on_inquiry: true\n");
    let asked = dispute("evt_2", "created", 1, "warning_needs_response", 500);
    let closed = dispute("evt_3", "closed", 9, "warning_closed", 500);
    for (catalog, held) in [(demo_catalog(), STARTER), (strict, 0)] {
        in_every_order(&catalog, &[], &[bought("evt_1"), asked.clone()], balance(held)).await;
        in_every_order(&catalog, &[], &[bought("evt_1"), asked.clone(), closed.clone()], balance(STARTER))
            .await;
    }
}

#[tokio::test]
async fn a_refund_and_a_dispute_of_one_payment_take_it_once() {
    let lost = dispute("evt_3", "closed", 9, "lost", 500);
    in_every_order(&demo_catalog(), &[], &[bought("evt_1"), charge("evt_2", 200), lost], balance(0)).await;
    let open = dispute("evt_3", "created", 1, "under_review", 300);
    let both = |account: &Value, order: &[usize]| {
        let shown = (&account["balance_micro"], &account["frozen_micro"]);
        assert_eq!(shown, (&json!(0), &json!(60_000_000)), "{order:?}");
    };
    in_every_order(&demo_catalog(), &[], &[bought("evt_1"), charge("evt_2", 200), open], both).await;
}

#[tokio::test]
async fn who_needs_what_is_held_is_told_of_the_dispute() {
    let world = World::new().await;
    world.deliver(&bought("evt_1")).await.ok(200);
    world.deliver(&dispute("evt_2", "created", 1, "needs_response", 500)).await.ok(200);
    let refusal = world.need(1, "alice", "embeddings").await["refusal"].clone();
    assert_eq!((&refusal["reason"], &refusal["status"]), (&json!("disputed_hold"), &json!(403)));
    world.deliver(&dispute("evt_3", "closed", 9, "won", 500)).await.ok(200);
    assert_eq!(world.need(2, "alice", "embeddings").await["decision"], "ok");
    world.deliver(&charge("evt_4", 500)).await.ok(200);
    assert_eq!(reason(&world, 3, "embeddings").await, "insufficient_credits");
}

/// An invoice's events: that it was paid, by which payment, and a refund of that payment; before them its subscription.
fn plan() -> (Value, [Value; 3]) {
    let mut sub = subscription("sub_1", "cus_1", "active");
    sub["metadata"] = json!({"user_id": "alice"});
    let payment = json!({"id": "inpay_1", "object": "invoice_payment", "invoice": "in_1", "status": "paid",
        "payment": {"type": "payment_intent", "payment_intent": "pi_cs_1"}, "amount_paid": 2000, "currency": "usd"});
    let mut half = charge("evt_3", 1000);
    half["data"]["object"]["amount"] = json!(2000);
    let events = [
        event("evt_1", "invoice.paid", invoice("in_1", "cus_1", "sub_1")),
        event("evt_2", "invoice_payment.paid", payment),
        half,
    ];
    (event("evt_0", "customer.subscription.created", sub), events)
}

#[tokio::test]
async fn the_refund_of_an_invoice_takes_its_share_of_what_the_plan_gave() {
    let (sub, [paid, payment, half]) = plan();
    in_every_order(
        &demo_catalog(),
        std::slice::from_ref(&sub),
        &[paid.clone(), payment, half.clone()],
        balance(PRO / 2),
    )
    .await;
    // Before basil a charge named its invoice, and an invoice its payment.
    let mut legacy = half.clone();
    legacy["data"]["object"]["invoice"] = json!("in_1");
    in_every_order(&demo_catalog(), std::slice::from_ref(&sub), &[paid.clone(), legacy], balance(PRO / 2))
        .await;
    let mut legacy = paid;
    legacy["data"]["object"]["payment_intent"] = json!("pi_cs_1");
    in_every_order(&demo_catalog(), &[], &[legacy, half, sub], balance(PRO / 2)).await;
}

#[tokio::test]
async fn what_went_back_of_a_year_is_taken_off_its_later_months_too() {
    let monthly = demo_catalog().replace("rollover: none", "rollover: none, refill: monthly");
    assert_ne!(monthly, demo_catalog());
    for (back, then) in [(0, PRO), (1000, PRO / 2), (2000, 0)] {
        let (mut sub, [mut paid, payment, mut refund]) = plan();
        let (start, end) = (NOON.secs(), NOON.secs() + 365 * 86_400);
        sub["data"]["object"]["items"]["data"][0]["current_period_end"] = json!(end);
        paid["data"]["object"]["lines"]["data"][0]["period"] = json!({"start": start, "end": end});
        refund["data"]["object"]["amount_refunded"] = json!(back);
        let world = World::with(monthly.clone(), &[]).await;
        for event in [sub, paid, payment, refund] {
            world.deliver(&event).await.ok(200);
        }
        assert_eq!(world.balance("alice").await, then, "{back} back");
        world.advance(units::Span::from_secs(32 * 86_400));
        world.sweep().await;
        assert_eq!(world.balance("alice").await, then, "{back} back, a month later");
    }
}

#[tokio::test]
async fn what_the_customers_balance_paid_counts_when_a_part_goes_back() {
    let (sub, [mut paid, payment, mut back]) = plan();
    // 2000 in all, of which 1800 stood to the customer's credit at Stripe.
    paid["data"]["object"]["amount_paid"] = json!(200);
    back["data"]["object"]["amount"] = json!(200);
    back["data"]["object"]["amount_refunded"] = json!(200);
    in_every_order(&demo_catalog(), &[sub], &[paid, payment, back], balance(PRO / 10 * 9)).await;
}

#[tokio::test]
async fn what_was_used_of_a_refunded_plan_is_written_off_or_owed() {
    let dear = demo_catalog().replace("embeddings: {cost: 1,", "embeddings: {cost: 800,");
    let strict = dear.replace("policies:\n", "policies:\n  plan_over_revoke: negative\n");
    for (catalog, left) in [(dear, 0), (strict, -300_000_000)] {
        let world = World::with(catalog, &[]).await;
        let (sub, [paid, payment, half]) = plan();
        for event in [sub, paid, payment] {
            world.deliver(&event).await.ok(200);
        }
        let used = world.need(1, "alice", "embeddings").await;
        world.sync(&json!({"cells": finished(&used, 800_000_000)})).await;
        world.deliver(&half).await.ok(200);
        assert_eq!(world.balance("alice").await, left);
    }
}

/// One line was granted before another was put to a person: the refund takes it back all the same.
#[tokio::test]
async fn the_refund_of_an_invoice_that_is_looked_at_takes_back_what_it_gave() {
    let (sub, [mut paid, payment, half]) = plan();
    let lines = paid["data"]["object"]["lines"]["data"].as_array_mut().unwrap();
    let mut longer = lines[0].clone();
    longer["period"]["end"] = json!(NOON.secs() + 2 * MONTH);
    lines.push(longer);
    in_every_order(&demo_catalog(), std::slice::from_ref(&sub), &[paid, payment, half], balance(PRO / 2))
        .await;
}

/// What came back of a period that is over does not live on into the next.
#[tokio::test]
async fn a_refund_that_failed_revives_no_period_that_was_renewed() {
    let (sub, [paid, payment, half]) = plan();
    let world = World::new().await;
    for event in [sub, paid, payment, half] {
        world.deliver(&event).await.ok(200);
    }
    let start = NOON.secs() + MONTH;
    world.advance(units::Span::from_secs(30 * 86_400 + 3600));
    let renewed = crate::support::invoice_of("in_2", "cus_1", "sub_1", start, 2000, "subscription_cycle");
    world.deliver(&event("evt_4", "invoice.paid", renewed)).await.ok(200);
    assert_eq!(world.balance("alice").await, PRO);
    world.deliver(&refund("evt_5", "refund.failed", "re_1", 1000, "failed")).await.ok(200);
    assert_eq!(world.balance("alice").await, PRO);
}

fn credit_note(id: &str, kind: &str, note: Value) -> Value {
    let mut object = json!({"id": "cn_1", "object": "credit_note", "invoice": "in_1", "customer": "cus_1",
        "amount": 1000, "post_payment_amount": 1000, "pre_payment_amount": 0, "status": "issued", "refunds": []});
    object.as_object_mut().unwrap().extend(note.as_object().unwrap().clone());
    event(id, &format!("credit_note.{kind}"), object)
}

/// F60: the refund of a credit note is told twice, and taken once.
#[tokio::test]
async fn a_credit_note_and_its_refund_are_one() {
    let (sub, [paid, payment, half]) = plan();
    let before = [sub, payment];
    for linked in [
        json!({"refunds": [{"amount_refunded": 1000, "refund": "re_1"}]}),
        json!({"refund": "re_1", "refunds": null}),
    ] {
        let note = credit_note("evt_4", "created", linked);
        in_every_order(&demo_catalog(), &before, &[paid.clone(), half.clone(), note], balance(PRO / 2)).await;
    }
    // One without a refund gave money back by itself, until it is voided.
    let note = credit_note("evt_4", "created", json!({"out_of_band_amount": 1000}));
    in_every_order(&demo_catalog(), &before, &[paid.clone(), note.clone()], balance(PRO / 2)).await;
    let voided = credit_note("evt_5", "voided", json!({"status": "void"}));
    in_every_order(&demo_catalog(), &before, &[paid.clone(), note, voided], balance(PRO)).await;
    let before_payment =
        credit_note("evt_4", "created", json!({"post_payment_amount": 0, "pre_payment_amount": 1000}));
    in_every_order(&demo_catalog(), &before, &[paid, before_payment], balance(PRO)).await;
}

/// Stripe makes an invoice for a purchase if it is asked to: a credit note on that is about the package.
#[tokio::test]
async fn a_credit_note_on_the_invoice_of_a_package_takes_its_share_of_the_package() {
    let (_, [mut paid, payment, _]) = plan();
    let object = &mut paid["data"]["object"];
    object["billing_reason"] = json!("manual");
    object["amount_paid"] = json!(500);
    let note = credit_note("evt_4", "created", json!({"post_payment_amount": 100}));
    let events = [bought("evt_5"), paid, payment, note];
    in_every_order(&demo_catalog(), &[], &events, balance(STARTER / 5 * 4)).await;
}

#[tokio::test]
async fn a_package_that_one_can_have_once_is_not_granted_again() {
    let once = demo_catalog().replace("expires: never}", "expires: never, unique_per_account: true}");
    let world = World::with(once, &[]).await;
    world.deliver(&bought("evt_1")).await.ok(200);
    let again =
        event("evt_2", "checkout.session.completed", checkout("cs_2", "cus_1", Some("alice"), "payment"));
    world.deliver(&again).await.ok(200);
    world.deliver(&bought("evt_3")).await.ok(200);
    assert_eq!(world.event_status("evt_2").await, "conflict");
    assert_eq!(world.event_status("evt_3").await, "applied", "the first one, told again");
    assert_eq!(world.balance("alice").await, STARTER);
    assert_eq!(world.metric("tollgate_billing_duplicate_purchases_total", ("", "")), 1);
    let bob = event("evt_4", "checkout.session.completed", checkout("cs_4", "cus_4", Some("bob"), "payment"));
    world.deliver(&bob).await.ok(200);
    assert_eq!(world.balance("bob").await, STARTER);
    // Whoever was refunded may buy it again.
    world.deliver(&charge("evt_5", 500)).await.ok(200);
    let anew =
        event("evt_6", "checkout.session.completed", checkout("cs_6", "cus_1", Some("alice"), "payment"));
    world.deliver(&anew).await.ok(200);
    assert_eq!(world.balance("alice").await, STARTER);
}

/// What came too early says so, until what it is about is known; nobody has to send it again.
#[tokio::test]
async fn an_event_that_came_before_its_purchase_is_applied_with_it() {
    let (sub, [paid, payment, half]) = plan();
    for events in
        [vec![bought("evt_1")], vec![sub.clone(), payment.clone(), paid.clone()], vec![sub, paid, payment]]
    {
        let world = World::new().await;
        world.deliver(&half).await.ok(200);
        assert_eq!(world.event_status("evt_3").await, "unmatched");
        for event in &events {
            world.deliver(event).await.ok(200);
        }
        assert_eq!(world.event_status("evt_3").await, "applied");
        let told = world.admin("GET", "events?status=applied", &Value::Null).await.ok(200);
        let items = told["items"].as_array().unwrap();
        let half = items.iter().find(|event| event["id"] == "evt_3").unwrap();
        assert_eq!(half["account"], "alice");
        assert!(half["detail"].as_str().unwrap().starts_with("in all "), "{half}");
    }
}

/// Another product sells through the same Stripe account.
#[tokio::test]
async fn a_refund_of_somebody_elses_payment_changes_nothing_here() {
    let world = World::new().await;
    world.deliver(&charge("evt_1", 500)).await.ok(200);
    world.deliver(&dispute("evt_2", "created", 1, "needs_response", 500)).await.ok(200);
    world.deliver(&credit_note("evt_3", "created", json!({}))).await.ok(200);
    let of_balance = json!({"id": "re_9", "object": "refund", "amount": 5, "status": "succeeded"});
    world.deliver(&event("evt_4", "refund.created", of_balance)).await.ok(200);
    let mut expired = checkout("cs_9", "cus_9", None, "payment");
    expired["metadata"] = json!({});
    world.deliver(&event("evt_5", "checkout.session.expired", expired)).await.ok(200);
    for (id, status) in
        [("evt_1", "unmatched"), ("evt_3", "unmatched"), ("evt_4", "ignored"), ("evt_5", "ignored")]
    {
        assert_eq!(world.event_status(id).await, status, "{id}");
    }
    // And what cannot be read is looked at.
    for (n, (path, value)) in
        [("/amount", json!(5.0)), ("/amount", json!(-5)), ("/status", json!("novel")), ("/id", json!(null))]
            .into_iter()
            .enumerate()
    {
        let id = format!("evt_odd_{n}");
        let mut odd = refund(&id, "refund.updated", "re_1", 500, "succeeded");
        *odd["data"]["object"].pointer_mut(path).unwrap() = value.clone();
        world.deliver(&odd).await.ok(200);
        assert_eq!(world.event_status(&id).await, "review", "{path} {value}");
    }
}
