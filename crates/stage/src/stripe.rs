//! Plays Stripe: signed deliveries of events, in the shapes of its present API.

use crate::client::Call;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use units::Instant;
use webhook::{HEADER_SIGNATURE, Secret, SecretError};

/// The time now, on this machine's clock.
#[must_use]
pub fn now() -> Instant {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// An event around an object.
#[must_use]
pub fn event(id: &str, event_type: &str, object: &Value) -> Value {
    json!({
        "id": id, "object": "event", "api_version": "2025-09-30.clover", "created": now().secs(), "livemode": false,
        "type": event_type, "data": { "object": object }, "pending_webhooks": 1,
        "request": { "id": format!("req_{}", crate::leaks::BODY_MARK), "idempotency_key": null },
    })
}

/// `checkout.session.completed` for a package that `account` has paid for: `amount` in the currency's smallest unit.
#[must_use]
pub fn package_bought(id: &str, account: &str, package: &str, amount: i64, currency: &str) -> Value {
    event(
        id,
        "checkout.session.completed",
        &json!({
            "id": format!("cs_{id}"), "object": "checkout.session", "mode": "payment", "status": "complete",
            "payment_status": "paid", "client_reference_id": account, "customer": format!("cus_{account}"),
            "customer_details": { "email": format!("{account}@example.com") },
            "amount_subtotal": amount, "amount_total": amount, "currency": currency, "livemode": false,
            "metadata": { "package_id": package }, "payment_intent": format!("pi_{id}"), "created": now().secs(),
        }),
    )
}

/// A delivery of an event as Stripe makes it, signed now.
///
/// # Errors
/// The secret is none.
pub fn delivery(url: impl Into<String>, secret: &str, event: &Value) -> Result<Call, SecretError> {
    delivery_at(url, secret, event.to_string(), now())
}

/// A delivery of any body, signed at any time.
///
/// # Errors
/// The secret is none.
pub fn delivery_at(
    url: impl Into<String>,
    secret: &str,
    body: String,
    at: Instant,
) -> Result<Call, SecretError> {
    let signature = webhook::sign(&Secret::new(secret)?, at, body.as_bytes());
    Ok(Call::post(url)
        .header("content-type", "application/json; charset=utf-8")
        .header("user-agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
        .header(HEADER_SIGNATURE, signature)
        .body(body))
}
