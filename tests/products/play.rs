//! Stripe's objects as these products meet them: what a test does not say is as Stripe would have it for an ordinary customer.

use serde_json::{Value, json};
use stage::stripe::{event, now};

pub(crate) const DAY: i64 = 86_400;

/// A subscription: whose, to what, since when and until when.
pub(crate) struct Plan<'a> {
    pub(crate) customer: &'a str,
    pub(crate) price: &'a str,
    pub(crate) amount: i64,
    pub(crate) metadata: Value,
    pub(crate) period: (i64, i64),
}

impl<'a> Plan<'a> {
    /// Begun now, for so many days.
    pub(crate) fn new(customer: &'a str, price: &'a str, amount: i64, metadata: Value, days: i64) -> Self {
        let begun = now().secs();
        Self { customer, price, amount, metadata, period: (begun, begun + days * DAY) }
    }

    /// The same for another period.
    pub(crate) fn over(&self, period: (i64, i64)) -> Self {
        Self { metadata: self.metadata.clone(), period, ..*self }
    }

    fn id(&self) -> String {
        format!("sub_{}", self.customer)
    }

    /// `customer.subscription.…`, with a status and what else differs.
    pub(crate) fn told(&self, id: &str, deed: &str, status: &str, differs: &Value) -> Value {
        let mut object = json!({
            "id": self.id(), "object": "subscription", "customer": self.customer, "status": status,
            "metadata": self.metadata, "cancel_at": null, "cancel_at_period_end": false, "ended_at": null,
            "trial_end": null, "pause_collection": null,
            "items": { "object": "list", "has_more": false, "data": [{
                "id": "si_1", "price": { "id": self.price, "unit_amount": self.amount }, "quantity": 1,
                "current_period_start": self.period.0, "current_period_end": self.period.1,
            }]},
        });
        stage::envoy_file::merge(&mut object, differs);
        event(id, &format!("customer.subscription.{deed}"), &object)
    }

    /// A paid invoice for its period, by one of the names that tell of it.
    pub(crate) fn paid(&self, id: &str, kind: &str, invoice: &str, reason: &str) -> Value {
        let object = json!({
            "id": invoice, "object": "invoice", "customer": self.customer, "status": "paid",
            "billing_reason": reason, "amount_paid": self.amount, "total": self.amount, "currency": "usd",
            "status_transitions": { "paid_at": now().secs() },
            "parent": { "type": "subscription_details",
                "subscription_details": { "subscription": self.id(), "metadata": self.metadata } },
            "lines": { "object": "list", "has_more": false, "data": [{
                "id": "il_1", "amount": self.amount, "quantity": 1,
                "period": { "start": self.period.0, "end": self.period.1 },
                "pricing": { "type": "price_details",
                    "price_details": { "price": self.price, "product": "prod_1" } },
                "parent": { "type": "subscription_item_details",
                    "subscription_item_details": { "subscription": self.id(), "proration": false } },
            }]},
        });
        event(id, kind, &object)
    }
}

/// The same event, told so many seconds later.
pub(crate) fn later(mut event: Value, secs: i64) -> Value {
    event["created"] = json!(now().secs() + secs);
    event
}

/// A customer that nothing else is known of.
pub(crate) fn customer(id: &str, customer: &str) -> Value {
    event(id, "customer.updated", &json!({ "id": customer, "object": "customer" }))
}

/// A paid checkout with this metadata.
pub(crate) fn checkout(id: &str, customer: &str, amount: i64, metadata: &Value) -> Value {
    let object = json!({
        "id": format!("cs_{id}"), "object": "checkout.session", "mode": "payment", "status": "complete",
        "payment_status": "paid", "client_reference_id": null, "customer": customer, "amount_total": amount,
        "currency": "usd", "metadata": metadata, "payment_intent": format!("pi_{id}"),
    });
    event(id, "checkout.session.completed", &object)
}

/// A payment intent that succeeded, or failed, with this metadata.
pub(crate) fn intent(id: &str, deed: &str, customer: &str, amount: i64, metadata: &Value) -> Value {
    let received = if deed == "succeeded" { amount } else { 0 };
    let object = json!({
        "id": format!("pi_{id}"), "object": "payment_intent", "customer": customer, "amount": amount,
        "amount_received": received, "currency": "usd", "metadata": metadata,
    });
    event(&format!("{id}_{deed}"), &format!("payment_intent.{deed}"), &object)
}
