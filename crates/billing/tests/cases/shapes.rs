//! Stripe's events from a few words each, in the shapes that they had from 2020-08-27 to 2026-07-29.dahlia.
//!
//! A case names the type and what matters; everything else is as Stripe would write it for such an object. What moved
//! between versions is put where that version has it (Stripe, "Changelog": basil moved periods, prices of lines and the
//! links between invoices and payments; dahlia begins nothing that is read here).

use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::BTreeSet;
use units::{Instant, Span};

/// A version of Stripe's API, by which an endpoint's events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Old,
    Acacia,
    Basil,
    Dahlia,
}

impl Shape {
    pub(crate) const ALL: [Self; 4] = [Self::Dahlia, Self::Basil, Self::Acacia, Self::Old];

    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Old => "2020-08-27",
            Self::Acacia => "2024-09-30.acacia",
            Self::Basil => "2025-04-30.basil",
            Self::Dahlia => "2026-07-29.dahlia",
        }
    }

    /// As cases name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::Acacia => "acacia",
            Self::Basil => "basil",
            Self::Dahlia => "dahlia",
        }
    }

    /// Before 2025-03-31.basil.
    fn legacy(self) -> bool {
        matches!(self, Self::Old | Self::Acacia)
    }
}

/// The words of one event. Every word has to be used: a misspelt one would be a case that tests nothing.
pub(crate) struct Words<'a> {
    words: &'a Map<String, Value>,
    start: Instant,
    shape: Shape,
    used: RefCell<BTreeSet<String>>,
}

/// When the event was made, in whole seconds after the case's start: an event cannot come before.
pub(crate) fn made_at(words: &Map<String, Value>, start: Instant) -> Instant {
    words.get("at").map_or(start, |at| instant(at, start))
}

/// An event's id: its own, or by its place.
pub(crate) fn id_of(words: &Map<String, Value>, place: usize) -> String {
    words.get("evt").and_then(Value::as_str).map_or_else(|| format!("evt_{place:02}"), str::to_owned)
}

/// The event in this shape; `None` if that version had no such type.
pub(crate) fn event(words: &Map<String, Value>, place: usize, shape: Shape, start: Instant) -> Option<Value> {
    let all = Words { words, start, shape, used: RefCell::default() };
    let kind = all.text("type").unwrap_or_else(|| panic!("an event without a type: {words:?}"));
    all.skip(["evt", "at"]);
    let mut object = object(&all, &kind)?;
    for (path, value) in all.value("set").as_ref().and_then(Value::as_object).into_iter().flatten() {
        let place = object.pointer_mut(path).unwrap_or_else(|| panic!("{kind} has no {path}"));
        *place = value.clone();
    }
    all.check();
    Some(json!({
        "id": id_of(words, place), "object": "event", "api_version": shape.version(),
        "created": made_at(words, start).secs(), "livemode": false, "pending_webhooks": 1,
        "request": {"id": null, "idempotency_key": null}, "type": kind, "data": {"object": object},
    }))
}

fn object(all: &Words<'_>, kind: &str) -> Option<Value> {
    let is = |prefix: &str| kind.starts_with(prefix);
    Some(match kind {
        _ if is("customer.subscription.") => subscription(all),
        _ if is("invoice_payment.") && all.shape.legacy() => return None,
        _ if is("invoice_payment.") => invoice_payment(all),
        _ if is("invoice.") => invoice(all, kind),
        _ if is("checkout.session.") => checkout(all),
        _ if is("payment_intent.") => payment_intent(all),
        _ if is("charge.dispute.") => dispute(all),
        "charge.refund.updated" => refund(all),
        _ if is("refund.") => refund(all),
        _ if is("charge.") => charge(all),
        _ if is("credit_note.") => credit_note(all),
        _ => panic!("there is no builder for {kind}"),
    })
}

fn subscription(all: &Words<'_>) -> Value {
    let mut object = json!({
        "id": all.id("id", "sub_1"), "object": "subscription", "customer": all.id("customer", "cus_1"),
        "status": all.text("status").unwrap_or_else(|| "active".into()),
        "metadata": all.value("metadata").unwrap_or_else(|| json!({"user_id": "alice"})),
        "cancel_at": all.at("cancel_at"), "cancel_at_period_end": all.flag("cancel_at_period_end"),
        "ended_at": all.at("ended_at"), "trial_end": all.at("trial_end"), "collection_method": "charge_automatically",
        "pause_collection": if all.flag("paused") { json!({"behavior": "void", "resumes_at": null}) } else { Value::Null },
        "pending_update": all.text("pending").map(|price| json!({"subscription_items": [{"price": {"id": price}}]})),
    });
    let item = |words: &Words<'_>, n: usize| {
        let price = words.id("price", "price_p");
        let (from, to) = (words.at_or("from", 0), words.at_or("to", 30 * 86_400));
        let mut item = json!({
            "id": format!("si_{n}"), "object": "subscription_item", "quantity": words.whole("quantity", 1),
            "price": {"id": price, "object": "price", "currency": "usd", "type": "recurring"},
        });
        if all.shape.legacy() {
            item["plan"] = json!({"id": price, "object": "plan"});
        } else {
            item["current_period_start"] = json!(from);
            item["current_period_end"] = json!(to);
        }
        (item, from, to)
    };
    let items: Vec<_> = match all.value("items") {
        Some(items) => {
            let items = items.as_array().unwrap();
            (1..).zip(items).map(|(n, it)| all.within(it, |words| item(words, n))).collect()
        }
        None => vec![item(all, 1)],
    };
    if all.shape.legacy() {
        // There was one period for all items.
        object["current_period_start"] = json!(items[0].1);
        object["current_period_end"] = json!(items[0].2);
    }
    let items: Vec<_> = items.into_iter().map(|(item, _, _)| item).collect();
    object["items"] = json!({"object": "list", "has_more": false, "data": items});
    object
}

fn invoice(all: &Words<'_>, kind: &str) -> Value {
    let status = match kind {
        "invoice.paid" | "invoice.payment_succeeded" => "paid",
        "invoice.voided" => "void",
        "invoice.marked_uncollectible" => "uncollectible",
        _ => "open",
    };
    let paid = if status == "paid" { all.whole("paid", 3000) } else { 0 };
    let sub = all.id("sub", "sub_1");
    let (from, lines) = lines(all, &sub, paid);
    let metadata = all.value("metadata").unwrap_or_else(|| json!({"user_id": "alice"}));
    let paid_at = if status == "paid" { all.at("paid_at").or(Some(from)) } else { None };
    let mut object = json!({
        "id": all.id("id", "in_1"), "object": "invoice", "customer": all.id("customer", "cus_1"),
        "status": status, "billing_reason": all.text("reason").unwrap_or_else(|| "subscription_create".into()),
        "amount_paid": paid, "amount_due": paid, "total": paid, "currency": "usd", "metadata": {},
        "period_start": from, "period_end": from, "status_transitions": {"paid_at": paid_at},
        "lines": {"object": "list", "has_more": all.flag("has_more"), "data": lines},
    });
    let intent = all.text("intent");
    match all.shape {
        Shape::Old | Shape::Acacia => {
            object["subscription"] = json!(sub);
            object["paid"] = json!(status == "paid");
            object["payment_intent"] = json!(intent);
            object["charge"] = json!(intent.map(|id| id.replace("pi_", "ch_")));
            if all.shape == Shape::Acacia {
                object["subscription_details"] = json!({"metadata": metadata});
            } else {
                // The snapshot of the subscription's metadata came in 2023; before, only the lines had it.
                object["lines"]["data"][0]["metadata"] = metadata;
            }
        }
        Shape::Basil | Shape::Dahlia => {
            let details = json!({"subscription": sub, "metadata": metadata});
            object["parent"] = json!({"type": "subscription_details", "subscription_details": details});
        }
    }
    object
}

/// When the first period begins, and the lines. One whole period of plan P, where nothing else is said.
fn lines(all: &Words<'_>, sub: &str, paid: i64) -> (i64, Vec<Value>) {
    let line = |words: &Words<'_>, n: usize| {
        let (price, proration) = (words.id("price", "price_p"), words.flag("proration"));
        let (from, to) = (words.at_or("from", 0), words.at_or("to", 30 * 86_400));
        let item = format!("si_{n}");
        let mut line = json!({
            "id": format!("il_{n}"), "object": "line_item", "amount": words.whole("amount", paid), "currency": "usd",
            "quantity": words.whole("quantity", 1), "period": {"start": from, "end": to}, "metadata": {},
        });
        if all.shape.legacy() {
            line["price"] = json!({"id": price, "object": "price"});
            line["proration"] = json!(proration);
            line["subscription"] = json!(sub);
            line["subscription_item"] = json!(item);
            line["type"] = json!(if proration { "invoiceitem" } else { "subscription" });
        } else {
            line["pricing"] =
                json!({"type": "price_details", "price_details": {"price": price, "product": "prod_1"}});
            let details = json!({"subscription": sub, "subscription_item": item, "proration": proration});
            line["parent"] =
                json!({"type": "subscription_item_details", "subscription_item_details": details});
        }
        (from, line)
    };
    let lines: Vec<_> = match all.value("lines") {
        Some(lines) => {
            let lines = lines.as_array().unwrap();
            (1..).zip(lines).map(|(n, it)| all.within(it, |words| line(words, n))).collect()
        }
        None => vec![line(all, 1)],
    };
    (lines[0].0, lines.into_iter().map(|(_, line)| line).collect())
}

fn invoice_payment(all: &Words<'_>) -> Value {
    let intent = all.id("intent", "pi_1");
    json!({
        "id": format!("inpay_{intent}"), "object": "invoice_payment", "invoice": all.id("invoice", "in_1"),
        "amount_paid": all.whole("paid", 3000), "amount_requested": all.whole("paid", 3000), "currency": "usd",
        "is_default": true, "status": "paid", "payment": {"type": "payment_intent", "payment_intent": intent},
    })
}

fn checkout(all: &Words<'_>) -> Value {
    let mode = all.text("mode").unwrap_or_else(|| "payment".into());
    let amount = all.whole("amount", 500);
    json!({
        "id": all.id("id", "cs_1"), "object": "checkout.session", "mode": mode, "status": "complete",
        "payment_status": all.text("status").unwrap_or_else(|| "paid".into()),
        "client_reference_id": all.value("reference").unwrap_or_else(|| json!("alice")),
        "customer": all.id("customer", "cus_1"), "payment_intent": all.value("intent").unwrap_or_else(|| json!("pi_1")),
        "amount_total": amount, "amount_subtotal": amount, "currency": all.id("currency", "usd"),
        "metadata": all.text("package").map_or_else(|| json!({}), |package| json!({"package_id": package})),
        "subscription": all.text("sub"),
        "total_details": {"amount_discount": all.whole("discount", 0), "amount_shipping": 0, "amount_tax": 0},
    })
}

fn payment_intent(all: &Words<'_>) -> Value {
    let amount = all.whole("amount", 500);
    let metadata = all.text("package").map(|package| json!({"package_id": package, "user_id": "alice"}));
    let mut object = json!({
        "id": all.id("id", "pi_1"), "object": "payment_intent", "customer": all.id("customer", "cus_1"),
        "amount": amount, "amount_received": amount, "currency": all.id("currency", "usd"), "status": "succeeded",
        "metadata": metadata.unwrap_or_else(|| json!({})),
    });
    let invoice = all.text("invoice");
    if all.shape.legacy() {
        object["invoice"] = json!(invoice);
    }
    object
}

fn charge(all: &Words<'_>) -> Value {
    let (amount, refunded) = (all.whole("amount", 500), all.whole("refunded", 0));
    let mut object = json!({
        "id": all.id("id", "ch_1"), "object": "charge", "amount": amount, "amount_captured": amount,
        "amount_refunded": refunded, "refunded": refunded == amount, "captured": true, "paid": true,
        "status": "succeeded", "currency": "usd", "customer": all.id("customer", "cus_1"), "disputed": false,
        "payment_intent": all.id("intent", "pi_1"), "metadata": {},
    });
    let invoice = all.text("invoice");
    if all.shape.legacy() {
        object["invoice"] = json!(invoice);
    }
    object
}

fn refund(all: &Words<'_>) -> Value {
    json!({
        "id": all.id("id", "re_1"), "object": "refund", "amount": all.whole("amount", 500), "currency": "usd",
        "charge": all.id("charge", "ch_1"), "payment_intent": all.id("intent", "pi_1"), "reason": null,
        "status": all.text("status").unwrap_or_else(|| "succeeded".into()), "metadata": {},
    })
}

fn dispute(all: &Words<'_>) -> Value {
    json!({
        "id": all.id("id", "dp_1"), "object": "dispute", "amount": all.whole("amount", 500), "currency": "usd",
        "charge": all.id("charge", "ch_1"), "payment_intent": all.id("intent", "pi_1"), "reason": "fraudulent",
        "status": all.text("status").unwrap(), "balance_transactions": [], "metadata": {},
    })
}

fn credit_note(all: &Words<'_>) -> Value {
    let (amount, refund) = (all.whole("amount", 3000), all.text("refund"));
    let mut object = json!({
        "id": all.id("id", "cn_1"), "object": "credit_note", "invoice": all.id("invoice", "in_1"),
        "customer": all.id("customer", "cus_1"), "currency": "usd", "amount": amount, "total": amount,
        "status": all.text("status").unwrap_or_else(|| "issued".into()), "type": "post_payment",
        "pre_payment_amount": 0, "post_payment_amount": amount, "customer_balance_transaction": null,
        "out_of_band_amount": if refund.is_none() { json!(amount) } else { Value::Null }, "metadata": {},
    });
    if all.shape.legacy() {
        object["refund"] = json!(refund);
    } else {
        let refunds = refund.map(|id| json!({"refund": id, "amount_refunded": amount, "type": "refund"}));
        object["refunds"] = refunds.into_iter().collect();
    }
    object
}

impl Words<'_> {
    fn value(&self, key: &str) -> Option<Value> {
        self.used.borrow_mut().insert(key.to_owned());
        self.words.get(key).cloned()
    }

    fn text(&self, key: &str) -> Option<String> {
        let value = self.value(key).filter(|value| !value.is_null())?;
        Some(value.as_str().unwrap_or_else(|| panic!("{key} is no text: {value}")).to_owned())
    }

    fn id(&self, key: &str, default: &str) -> String {
        self.text(key).unwrap_or_else(|| default.to_owned())
    }

    fn whole(&self, key: &str, default: i64) -> i64 {
        self.value(key).map_or(default, |value| value.as_i64().unwrap_or_else(|| panic!("{key}: {value}")))
    }

    fn flag(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| value.as_bool().unwrap_or_else(|| panic!("{key}: {value}")))
    }

    fn at(&self, key: &str) -> Option<i64> {
        self.value(key).filter(|at| !at.is_null()).map(|at| instant(&at, self.start).secs())
    }

    fn at_or(&self, key: &str, after: i64) -> i64 {
        self.at(key).unwrap_or(self.start.secs() + after)
    }

    fn skip<const N: usize>(&self, keys: [&str; N]) {
        self.used.borrow_mut().extend(keys.map(str::to_owned));
    }

    fn check(&self) {
        let used = self.used.borrow();
        let strange: Vec<_> = self.words.keys().filter(|key| !used.contains(*key)).collect();
        assert!(strange.is_empty(), "nothing uses {strange:?} of {:?}", self.words);
    }

    fn within<T>(&self, value: &Value, read: impl FnOnce(&Words<'_>) -> T) -> T {
        let words = value.as_object().unwrap_or_else(|| panic!("no mapping: {value}"));
        let inner = Words { words, used: RefCell::default(), ..*self };
        let read = read(&inner);
        inner.check();
        read
    }
}

/// `2026-04-01T00:00:00Z`, or a time since the start such as `30d`, `30d+1h` or `37d-1s`.
pub(crate) fn instant(value: &Value, start: Instant) -> Instant {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}; write 0s for the start"));
    if let Ok(at) = Instant::from_rfc3339(text) {
        return at;
    }
    let (mut at, mut digits, mut back) = (start, String::new(), false);
    for letter in text.chars() {
        let unit = match letter {
            '+' | '-' => {
                back = letter == '-';
                continue;
            }
            'd' => 86_400,
            'h' => 3_600,
            's' => 1,
            _ => {
                digits.push(letter);
                continue;
            }
        };
        let count: u64 = digits.parse().unwrap_or_else(|_| panic!("no time: {text:?}"));
        let span = Span::from_secs(count * unit);
        at = if back { at.minus(span) } else { at.plus(span) };
        digits.clear();
    }
    assert!(digits.is_empty(), "no time: {text:?}");
    at
}
