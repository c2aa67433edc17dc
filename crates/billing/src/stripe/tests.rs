//! The same fact in every shape that Stripe gave it since 2020-08-27, and what cannot be read.

use super::read::{Fact, Sent, Told, Unreadable, Who, event};
use ledger::subscription::Status;
use serde_json::{Value, json};
use units::Instant;

fn read(kind: &str, object: Value) -> Result<Told, Unreadable> {
    event(&json!({"created": 1_795_000_000, "data": {"object": object}}), "evt_1", kind)
}

/// A subscription in four shapes: the period moved into the item in 2025-03-31.basil; prices were plans before 2020.
fn subscriptions() -> [Value; 4] {
    let base = |items: Value| json!({"id": "sub_1", "customer": "cus_1", "status": "active", "cancel_at_period_end": true, "items": {"data": [items]}});
    let top = |items: Value| {
        let mut sub = base(items);
        sub["current_period_start"] = json!(100);
        sub["current_period_end"] = json!(200);
        sub
    };
    let mut expanded = base(
        json!({"price": {"id": "price_pro"}, "quantity": 1, "current_period_start": 100, "current_period_end": 200}),
    );
    expanded["customer"] = json!({"id": "cus_1", "object": "customer"});
    expanded["pending_update"] = json!({"subscription_items": [{"price": {"id": "price_max"}}]});
    [
        top(json!({"plan": {"id": "price_pro"}})),
        top(json!({"price": {"id": "price_pro"}, "plan": {"id": "price_pro"}, "quantity": 1})),
        base(json!({"price": {"id": "price_pro"}, "current_period_start": 100, "current_period_end": 200})),
        expanded,
    ]
}

#[test]
fn a_subscription_reads_the_same_in_every_shape() {
    let [first, rest @ ..] = subscriptions();
    let first = read("customer.subscription.updated", first).unwrap();
    for other in rest {
        assert_eq!(read("customer.subscription.updated", other).unwrap(), first);
    }
    let Fact::Subscription(snapshot) = first.fact else { panic!() };
    assert_eq!((snapshot.items[0].price.as_str(), snapshot.items[0].quantity), ("price_pro", 1));
    assert_eq!(snapshot.items[0].period_end, Instant::from_secs(200));
    assert!(snapshot.cancel_at_period_end && !snapshot.collection_paused);
}

#[test]
fn a_deleted_subscription_is_canceled_whatever_it_says() {
    let [_, _, object, _] = subscriptions();
    let told = read("customer.subscription.deleted", object).unwrap();
    let Fact::Subscription(snapshot) = told.fact else { panic!() };
    assert_eq!(
        (snapshot.status, snapshot.ended_at),
        (Status::Canceled, Some(Instant::from_secs(1_795_000_000)))
    );
}

fn invoices() -> [Value; 4] {
    let base = |lines: Value| {
        json!({"id": "in_1", "customer": "cus_1", "billing_reason": "subscription_cycle", "amount_paid": 2000,
            "lines": {"has_more": false, "data": [lines]}})
    };
    let period = json!({"start": 100, "end": 200});
    let mut legacy = base(
        json!({"plan": {"id": "price_pro"}, "period": period, "proration": false, "subscription": "sub_1"}),
    );
    legacy["paid"] = json!(true);
    let mut acacia =
        base(json!({"price": {"id": "price_pro"}, "quantity": 1, "period": period, "proration": false}));
    acacia["status"] = json!("paid");
    acacia["subscription"] = json!({"id": "sub_1", "object": "subscription"});
    acacia["subscription_details"] = json!({"metadata": {}});
    let pricing = json!({"price_details": {"price": "price_pro", "product": "prod_1"}});
    let parent = json!({"subscription_item_details": {"subscription": "sub_1", "proration": false}});
    let mut basil = base(json!({"pricing": pricing, "parent": parent, "quantity": 1, "period": period}));
    basil["status"] = json!("paid");
    basil["parent"] = json!({"subscription_details": {"subscription": "sub_1", "metadata": {}}});
    let mut line_only = base(json!({"pricing": pricing, "parent": parent, "period": period}));
    line_only["status"] = json!("paid");
    [legacy, acacia, basil, line_only]
}

#[test]
fn an_invoice_reads_the_same_in_every_shape() {
    let [first, rest @ ..] = invoices();
    let first = read("invoice.paid", first).unwrap();
    for other in rest {
        assert_eq!(read("invoice.payment_succeeded", other.clone()).unwrap(), first);
        let payment = json!({"id": "inpay_1", "invoice": other});
        assert_eq!(read("invoice_payment.paid", payment).unwrap(), first);
    }
    let Fact::Invoice(invoice, Sent { complete, .. }) = first.fact else { panic!() };
    assert!(complete);
    assert_eq!(invoice.subscription.as_deref(), Some("sub_1"));
    assert_eq!((invoice.lines[0].price.as_str(), invoice.lines[0].proration), ("price_pro", false));
}

#[test]
fn prorations_are_seen_in_every_place() {
    let [legacy, _, basil, _] = invoices();
    for (mut invoice, path) in [
        (legacy, "/lines/data/0/proration"),
        (basil.clone(), "/lines/data/0/parent/subscription_item_details/proration"),
        (by_hand(), "/lines/data/0/parent/invoice_item_details/proration"),
    ] {
        *invoice.pointer_mut(path).unwrap() = json!(true);
        let Fact::Invoice(invoice, _) = read("invoice.paid", invoice).unwrap().fact else { panic!() };
        assert!(invoice.lines[0].proration, "{path}");
    }
}

/// An invoice that was made by hand, with an item that waited for it: only its lines name the subscription (Stripe, API:
/// `line_item.parent.invoice_item_details`).
fn by_hand() -> Value {
    let [_, _, mut invoice, _] = invoices();
    invoice["billing_reason"] = json!("manual");
    invoice["parent"] = Value::Null;
    invoice["lines"]["data"][0]["parent"] = json!({"invoice_item_details": {"invoice_item": "ii_1", "proration": false, "subscription": "sub_1"}});
    invoice
}

#[test]
fn an_invoice_by_hand_is_for_the_subscription_of_its_items() {
    let Fact::Invoice(invoice, _) = read("invoice.paid", by_hand()).unwrap().fact else { panic!() };
    assert_eq!(invoice.subscription.as_deref(), Some("sub_1"));
}

#[test]
fn metadata_is_found_where_stripe_keeps_its_snapshot() {
    let [_, _, mut basil, _] = invoices();
    basil["parent"]["subscription_details"]["metadata"] = json!({"user_id": "alice", "n": 1});
    let Who { customer, metadata, .. } = read("invoice.paid", basil).unwrap().who;
    assert_eq!(customer.as_deref(), Some("cus_1"));
    assert_eq!(metadata.into_iter().collect::<Vec<_>>(), [("user_id".to_owned(), "alice".to_owned())]);
}

#[test]
fn what_cannot_be_read_is_never_taken_for_nothing() {
    let [_, _, basil, _] = invoices();
    let with = |path: &str, value: Value| {
        let mut invoice = basil.clone();
        *invoice.pointer_mut(path).unwrap() = value;
        read("invoice.paid", invoice)
    };
    for (path, value) in [
        ("/amount_paid", json!(2000.0)),
        ("/amount_paid", json!("2000")),
        ("/amount_paid", json!(-1)),
        ("/status", json!("open")),
        ("/lines/data", Value::Null),
        ("/lines/data/0/period/end", json!(200.5)),
        ("/lines/data/0/quantity", json!(-1)),
    ] {
        assert!(with(path, value.clone()).is_err(), "{path} {value}");
    }
    let mut nameless = basil.clone();
    nameless["parent"] = Value::Null;
    nameless["lines"]["data"][0]["parent"] = Value::Null;
    assert!(read("invoice.paid", nameless).is_err(), "a subscription's invoice without its subscription");
    let Fact::Invoice(_, Sent { complete, .. }) = with("/lines/has_more", json!(true)).unwrap().fact else {
        panic!()
    };
    assert!(!complete);
    assert!(read("customer.subscription.updated", json!({"id": "sub_1"})).is_err());
    assert!(
        read("checkout.session.completed", json!({"mode": "payment", "payment_status": "maybe"})).is_err()
    );
}
