//! Stripe's events in any shape and order: never an error that Stripe would retry for days, and money once for each payment.

use crate::dice::Dice;
use crate::till::{Sums, Till};
use crate::tree;
use billing::stripe::{Taken, take};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use units::{AccountId, Span};
use webhook::Event;

pub(crate) fn run(data: &[u8]) {
    let mut till = Till::new();
    let bodies = if data.starts_with(b"{") {
        // Bodies as they came, one a line.
        data.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    } else {
        bodies(&mut Dice::new(data))
    };
    for body in &bodies {
        deliver(&mut till, body);
        till.now = till.now.plus(Span::from_secs(1));
    }
    let once = till.audit();
    // Stripe's retries change nothing, but that what waited for something may have got it.
    let (mut settled_late, open) = (false, till.open_events());
    for body in &bodies {
        if let Some(Taken::New(status)) = deliver(&mut till, body) {
            let id = Event::read(body).unwrap().id;
            assert!(open.contains(&id), "taken twice: {}", String::from_utf8_lossy(body));
            settled_late |= !status.is_open();
        }
    }
    assert!(settled_late || till.audit() == once, "a retry changed the books");
    // Nor do other events that tell of the same payments, once everything is known that they tell: each round may unlock what
    // one of them waited for, and only what was credited again and again would never come to rest.
    let other = |n: usize, round: &str| renamed(&bodies[n], &format!("evt_{round}_{n}"));
    let mut rounds = 0..bodies.len() + 2;
    let mut before: Option<BTreeMap<AccountId, Sums>> = None;
    loop {
        let round = rounds.next().expect("payments are credited again and again");
        let waits = !till.open_events().is_empty();
        for n in 0..bodies.len() {
            if let Some(body) = other(n, &round.to_string()) {
                deliver(&mut till, &body);
            }
        }
        let sums = till.audit();
        if before.as_ref().is_some_and(|before| granted(before) == granted(&sums)) {
            break;
        }
        assert!(before.is_none() || waits, "a payment was credited twice");
        before = Some(sums);
    }
}

fn granted(sums: &BTreeMap<AccountId, Sums>) -> Vec<(&AccountId, i64)> {
    sums.iter().map(|(account, sum)| (account, sum.granted)).collect()
}

/// As the door does, the signature apart.
fn deliver(till: &mut Till, body: &[u8]) -> Option<Taken> {
    let event = Event::read(body).ok()?;
    let text = String::from_utf8(body.to_vec()).expect("an event is text");
    let taken = till.work(|work, setup| take(work, setup, &event, text));
    let taken = taken.unwrap_or_else(|error| panic!("Stripe would retry this for days: {error:?}"));
    Some(taken)
}

/// The same under another id.
fn renamed(body: &[u8], id: &str) -> Option<Vec<u8>> {
    let mut event: Value = serde_json::from_slice(body).ok()?;
    *event.get_mut("id")? = json!(id);
    Some(event.to_string().into_bytes())
}

fn bodies(dice: &mut Dice<'_>) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while !dice.is_over() && bodies.len() < 12 {
        let (kind, object) = object(dice);
        let n = bodies.len();
        let mut event = json!({"id": format!("evt_{n}"), "object": "event", "type": kind, "livemode": false,
            "created": 1_795_176_000 + dice.below(5), "data": {"object": object}});
        for _ in 0..dice.below(4) {
            tree::change(&mut event, dice);
        }
        bodies.push(event.to_string().into_bytes());
    }
    bodies
}

fn object(dice: &mut Dice<'_>) -> (&'static str, Value) {
    let metadata = match dice.below(4) {
        0 => json!({}),
        1 => json!({"user_id": "bob"}),
        _ => json!({"user_id": "alice"}),
    };
    let period = json!({"start": 1_795_000_000, "end": 1_797_592_000 + 100 * dice.below(2)});
    let price = dice.pick(&["price_pro", "price_pro", "price_other"]);
    // A subscription and its invoices have one customer.
    let n = dice.below(2);
    let customer = format!("cus_{n}");
    match dice.below(8) {
        6 => reversal(dice, n),
        7 => paid_by(dice, n),
        0 | 1 => {
            let kind = dice.pick(&[
                "customer.subscription.created",
                "customer.subscription.updated",
                "customer.subscription.deleted",
            ]);
            let status = dice.pick(&[
                "active",
                "trialing",
                "past_due",
                "canceled",
                "unpaid",
                "incomplete",
                "paused",
                "novel",
            ]);
            let item = json!({"price": {"id": price}, "quantity": 1, "current_period_start": period["start"],
                "current_period_end": period["end"]});
            let sub = json!({"id": format!("sub_{n}"), "customer": customer, "status": status, "metadata": metadata,
                "cancel_at_period_end": dice.flag(), "cancel_at": null, "ended_at": null, "trial_end": null, "items": {"data": [item]}});
            (kind, sub)
        }
        2 | 3 => {
            let kind = dice.pick(&["invoice.paid", "invoice.payment_succeeded"]);
            let pricing = json!({"price_details": {"price": price}});
            let parent = json!({"subscription_item_details": {"subscription": format!("sub_{n}"), "proration": dice.rarely(4)}});
            let line = json!({"pricing": pricing, "parent": parent, "quantity": 1, "period": period});
            let lines: Vec<Value> = (0..=dice.below(2)).map(|_| line.clone()).collect();
            let parent =
                json!({"subscription_details": {"subscription": format!("sub_{n}"), "metadata": metadata}});
            let invoice = json!({"id": format!("in_{}", dice.below(3)), "customer": customer, "status": "paid",
                "billing_reason": dice.pick(&["subscription_cycle", "subscription_create", "manual"]),
                "amount_paid": dice.pick(&[2000, 0]), "parent": parent, "lines": {"has_more": false, "data": lines}});
            (kind, invoice)
        }
        4 => {
            let kind = dice.pick(&["checkout.session.completed", "checkout.session.async_payment_succeeded"]);
            let intent = if dice.flag() { json!(format!("pi_{n}")) } else { Value::Null };
            let mut metadata = metadata;
            metadata["package_id"] = json!("starter");
            let session = json!({"id": format!("cs_{n}"), "customer": customer, "mode": dice.pick(&["payment", "subscription"]),
                "payment_status": dice.pick(&["paid", "unpaid", "no_payment_required"]), "payment_intent": intent,
                "amount_total": 500, "currency": "usd", "client_reference_id": if dice.flag() { json!("alice") } else { Value::Null },
                "metadata": metadata});
            (kind, session)
        }
        _ => {
            let mut metadata = metadata;
            metadata["package_id"] = json!("starter");
            let intent = json!({"id": format!("pi_{n}"), "customer": customer, "amount_received": 500, "currency": "usd",
                "metadata": metadata});
            ("payment_intent.succeeded", intent)
        }
    }
}

/// What became of a payment: of an intent that may have bought a package, or paid an invoice.
fn reversal(dice: &mut Dice<'_>, n: usize) -> (&'static str, Value) {
    let intent = if dice.rarely(8) { Value::Null } else { json!(format!("pi_{n}")) };
    let amount = dice.pick(&[100, 250, 500, 2000]);
    let mut object = json!({"id": format!("x_{}", dice.below(3)), "charge": format!("ch_{n}"), "payment_intent": intent,
        "amount": amount, "amount_refunded": amount, "currency": dice.pick(&["usd", "usd", "usd", "eur"])});
    let kind = dice.pick(&[
        "refund.created",
        "refund.updated",
        "refund.failed",
        "charge.refunded",
        "dispute",
        "note",
    ]);
    let statuses: &[&str] = match kind {
        "dispute" => {
            &["needs_response", "under_review", "won", "lost", "warning_needs_response", "warning_closed"]
        }
        "note" => &["issued", "issued", "void"],
        _ => &["succeeded", "succeeded", "pending", "failed", "canceled"],
    };
    object["status"] = json!(dice.pick(statuses));
    match kind {
        "dispute" => (
            dice.pick(&[
                "charge.dispute.created",
                "charge.dispute.closed",
                "charge.dispute.funds_reinstated",
            ]),
            object,
        ),
        "note" => {
            object["invoice"] = json!(format!("in_{}", dice.below(3)));
            object["post_payment_amount"] = json!(amount);
            object["refunds"] =
                json!(if dice.flag() { vec![json!({"amount_refunded": 100})] } else { Vec::new() });
            (dice.pick(&["credit_note.created", "credit_note.voided"]), object)
        }
        kind => (kind, object),
    }
}

/// That a payment paid an invoice, or that a checkout came to nothing.
fn paid_by(dice: &mut Dice<'_>, n: usize) -> (&'static str, Value) {
    if dice.rarely(4) {
        let session = json!({"id": format!("cs_{n}"), "mode": "payment", "payment_intent": format!("pi_{n}"),
            "metadata": {"package_id": "starter"}});
        return (dice.pick(&["checkout.session.expired", "checkout.session.async_payment_failed"]), session);
    }
    let payment = json!({"type": "payment_intent", "payment_intent": format!("pi_{n}")});
    (
        "invoice_payment.paid",
        json!({"id": "inpay_1", "invoice": format!("in_{}", dice.below(3)), "payment": payment}),
    )
}
