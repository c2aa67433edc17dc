//! A service on a port of its own, with a clock that the test moves, and a client that speaks to it as others do.

use billing::catalog::Catalog;
use billing::clock::Clock;
use billing::config::Config;
use billing::serve::{Running, start};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;
use units::{Instant, Span};
use webhook::Secret;

pub(crate) const ADMIN: &str = "admin-token-of-tests";
pub(crate) const GATEWAY: &str = "gateway-token-of-tests";
pub(crate) const SECRET: &str = "whsec_secret_of_tests";
/// 2026-11-20T09:30:00Z.
pub(crate) const NOON: Instant = Instant::from_secs(1_795_167_000);

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) clock: Clock,
    pub(crate) running: Option<Running>,
    pub(crate) env: Vec<(String, String)>,
    catalog: String,
    client: Client<HttpConnector, Full<Bytes>>,
    elsewhere: Option<SocketAddr>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text))
    }

    #[track_caller]
    pub(crate) fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }
}

pub(crate) fn demo_catalog() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../catalogs/demo.yaml");
    std::fs::read_to_string(path).unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(demo_catalog(), &[]).await
    }

    pub(crate) async fn with(catalog: String, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let clock = Clock::fake(NOON);
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut world = Self { dir, clock, running: None, env, catalog, client, elsewhere: None };
        world.start().await;
        world
    }

    /// A service that runs as a process of its own.
    pub(crate) fn elsewhere(address: SocketAddr) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Clock::fake(NOON),
            running: None,
            env: Vec::new(),
            catalog: String::new(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            elsewhere: Some(address),
        }
    }

    /// From now on it is spoken to in HTTP/2, as Envoy does.
    pub(crate) fn speak_http2(&mut self) {
        self.client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    }

    pub(crate) fn database(&self) -> std::path::PathBuf {
        self.dir.path().join("billing.db")
    }

    pub(crate) fn config(&self) -> Config {
        let own = |name: &str| match name {
            "BILLING_PORT" => Some("0".to_owned()),
            "DATABASE_URL" => Some(format!("sqlite://{}", self.database().display())),
            "STRIPE_WEBHOOK_SECRET" => Some(SECRET.into()),
            "ADMIN_TOKEN" => Some(ADMIN.into()),
            "GATEWAY_TOKEN" => Some(GATEWAY.into()),
            _ => None,
        };
        Config::read(|name| {
            self.env.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()).or_else(|| own(name))
        })
        .unwrap_or_else(|no| panic!("{no}"))
    }

    pub(crate) async fn start(&mut self) {
        let catalog = Catalog::from_yaml(&self.catalog).unwrap_or_else(|no| panic!("{no}"));
        self.running = Some(start(self.config(), catalog, self.clock.clone()).await.unwrap());
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    pub(crate) async fn stop(&mut self) {
        self.running.take().unwrap().stop().await.unwrap();
    }

    pub(crate) fn advance(&self, span: Span) {
        self.clock.advance(span);
    }

    pub(crate) async fn sweep(&self) {
        self.running.as_ref().unwrap().sweep().await;
    }

    pub(crate) fn metric(&self, name: &'static str, label: (&'static str, &str)) -> u64 {
        self.running.as_ref().unwrap().app.metrics.get(name, label)
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.try_call(method, path, headers, body).await.unwrap()
    }

    /// The same where the service may die meanwhile.
    pub(crate) async fn try_call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let address = self.elsewhere.unwrap_or_else(|| self.running.as_ref().unwrap().address);
        let mut request = hyper::Request::builder().method(method).uri(format!("http://{address}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Full::new(body.into()))?).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        let text = String::from_utf8(body.to_vec())?;
        let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, text };
        crate::openapi::check(method, path, &answer);
        Ok(answer)
    }

    pub(crate) async fn gateway(&self, path: &str, body: &Value) -> Answer {
        let auth = format!("Bearer {GATEWAY}");
        self.call("POST", &format!("/gateway/v1/{path}"), &[("authorization", &auth)], body.to_string()).await
    }

    pub(crate) async fn gateway_get(&self, path: &str) -> Answer {
        let auth = format!("Bearer {GATEWAY}");
        self.call("GET", &format!("/gateway/v1/{path}"), &[("authorization", &auth)], "").await
    }

    pub(crate) async fn admin(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.admin_with(method, path, body, &[]).await
    }

    pub(crate) async fn admin_with(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let auth = format!("Bearer {ADMIN}");
        let mut all = vec![("authorization", auth.as_str())];
        all.extend(headers);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.call(method, &format!("/admin/v1/{path}"), &all, body).await
    }

    pub(crate) async fn customer(&self, path: &str, subject: &str) -> Answer {
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(subject);
        let (auth, subject) = (format!("Bearer {GATEWAY}"), format!("jwt_sub:{encoded}"));
        self.call("GET", path, &[("authorization", &auth), ("x-tollgate-subject", &subject)], "").await
    }

    /// One need, alone in its sync; its decision.
    pub(crate) async fn need(&self, id: u64, subject: &str, endpoint: &str) -> Value {
        self.sync(&json!({ "needs": [need(id, subject, endpoint)] })).await["needs"][0].clone()
    }

    /// A sync of worker 1 with these parts.
    pub(crate) async fn sync(&self, parts: &Value) -> Value {
        self.gateway("sync", &sync(parts)).await.ok(200)
    }

    pub(crate) async fn account(&self, id: &str) -> Value {
        self.admin("GET", &format!("accounts/{id}"), &Value::Null).await.ok(200)
    }

    pub(crate) async fn balance(&self, id: &str) -> i64 {
        self.account(id).await["balance_micro"].as_i64().unwrap()
    }

    /// Delivers an event as Stripe does.
    pub(crate) async fn deliver(&self, event: &Value) -> Answer {
        self.deliver_text(event.to_string()).await
    }

    /// The same, as text that no writer of JSON would write.
    pub(crate) async fn deliver_text(&self, body: String) -> Answer {
        let signature = webhook::sign(&Secret::new(SECRET).unwrap(), self.clock.now(), body.as_bytes());
        self.call("POST", "/webhooks/stripe", &[("stripe-signature", &signature)], body).await
    }

    /// What became of an event.
    pub(crate) async fn event_status(&self, id: &str) -> String {
        let events = self.admin("GET", "events", &Value::Null).await.ok(200);
        let found = events["items"].as_array().unwrap().iter().find(|event| event["id"] == id);
        found.unwrap_or_else(|| panic!("no event {id}"))["status"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn need(id: u64, subject: &str, endpoint: &str) -> Value {
    json!({
        "id": id, "subject": {"kind": "jwt_sub", "value": subject}, "endpoint": endpoint,
        "mode": "hold", "shape": {"kind": "fixed"}, "wait_ms": 0,
    })
}

/// A sync, each with a number above all before it.
pub(crate) fn sync(parts: &Value) -> Value {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let seq = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let mut sync = json!({
        "node": "gateway-1", "incarnation": 1, "worker": 1, "sent_seq": seq, "cells": [], "needs": [],
        "abandoned": [], "usage": [], "draining": false,
    });
    for (key, value) in parts.as_object().unwrap() {
        sync[key] = value.clone();
    }
    sync
}

/// The report that a hold has ended, with what was used of it.
pub(crate) fn finished(decision: &Value, used: i64) -> Value {
    let cells = decision["cells"].as_array().unwrap_or_else(|| panic!("{decision}"));
    let report = |cell: &Value| {
        let held = cell["held"].as_i64().unwrap();
        json!({
            "grant": cell["grant"], "generation": cell["generation"], "admitted": held, "finished": held,
            "used": used, "returned": held - used, "target": 0,
        })
    };
    cells.iter().map(report).collect()
}

pub(crate) const MONTH: i64 = 30 * 86_400;

pub(crate) fn event(id: &str, kind: &str, object: Value) -> Value {
    event_at(id, kind, NOON.secs(), object)
}

pub(crate) fn event_at(id: &str, kind: &str, created: i64, object: Value) -> Value {
    json!({
        "id": id, "object": "event", "api_version": "2026-07-29.dahlia", "created": created, "livemode": false,
        "type": kind, "data": {"object": object},
    })
}

/// A subscription to `price_pro` in the shape since basil.
pub(crate) fn subscription(id: &str, customer: &str, status: &str) -> Value {
    let start = NOON.secs();
    json!({
        "id": id, "object": "subscription", "customer": customer, "status": status, "metadata": {},
        "cancel_at": null, "cancel_at_period_end": false, "ended_at": null, "trial_end": null,
        "pause_collection": null,
        "items": {"object": "list", "has_more": false, "data": [{
            "id": "si_1", "price": {"id": "price_pro", "unit_amount": 2000}, "quantity": 1,
            "current_period_start": start, "current_period_end": start + MONTH,
        }]},
    })
}

/// A paid invoice for the first period of it.
pub(crate) fn invoice(id: &str, customer: &str, subscription: &str) -> Value {
    invoice_of(id, customer, subscription, NOON.secs(), 2000, "subscription_create")
}

pub(crate) fn invoice_of(id: &str, customer: &str, sub: &str, start: i64, paid: i64, reason: &str) -> Value {
    json!({
        "id": id, "object": "invoice", "customer": customer, "status": "paid", "billing_reason": reason,
        "amount_paid": paid, "total": paid, "currency": "usd", "status_transitions": {"paid_at": start},
        "parent": {"type": "subscription_details", "subscription_details": {"subscription": sub, "metadata": {}}},
        "lines": {"object": "list", "has_more": false, "data": [{
            "id": "il_1", "amount": paid, "quantity": 1, "period": {"start": start, "end": start + MONTH},
            "pricing": {"type": "price_details", "price_details": {"price": "price_pro", "product": "prod_1"}},
            "parent": {"type": "subscription_item_details", "subscription_item_details": {
                "subscription": sub, "proration": false}},
        }]},
    })
}

/// A checkout session: `mode` is `payment` or `subscription`.
pub(crate) fn checkout(id: &str, customer: &str, reference: Option<&str>, mode: &str) -> Value {
    json!({
        "id": id, "object": "checkout.session", "mode": mode, "status": "complete", "payment_status": "paid",
        "client_reference_id": reference, "customer": customer, "amount_total": 500, "currency": "usd",
        "payment_intent": if mode == "payment" { json!(format!("pi_{id}")) } else { Value::Null },
        "metadata": if mode == "payment" { json!({"package_id": "starter"}) } else { json!({}) },
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
    })
}
