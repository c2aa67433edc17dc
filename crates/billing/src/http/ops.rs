//! For whoever runs the service: is it alive, is it ready, does Stripe reach it, what has it counted.

use super::{App, Fail};
use crate::store::EventStatus;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/health/stripe", get(stripe))
        .route("/metrics", get(metrics))
}

/// Ready means that the ledger can be written.
async fn ready(State(app): State<App>) -> Result<&'static str, Fail> {
    app.write(|_, _| Ok("ok\n")).await
}

async fn stripe(State(app): State<App>) -> Result<Json<Value>, Fail> {
    let (counts, last) =
        app.read(|work, _| Ok((work.store.event_counts()?, work.store.last_event_at()?))).await?;
    let of = |status: EventStatus| counts.iter().find(|(s, _)| *s == status).map_or(0, |(_, n)| *n);
    let by_status: Map<String, Value> =
        EventStatus::ALL.into_iter().map(|(status, word)| (word.to_owned(), of(status).into())).collect();
    Ok(Json(json!({ "last_event_at": last, "events": by_status })))
}

async fn metrics(State(app): State<App>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.text())
}
