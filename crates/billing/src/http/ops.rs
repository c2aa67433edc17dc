//! For whoever runs the service: is it alive, is it ready, does Stripe reach it, what has it counted.

use super::api::{Holds, Route};
use super::{App, Fail};
use crate::engine::Work;
use crate::service::Setup;
use crate::store::EventStatus;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

pub(super) fn routes() -> Vec<Route> {
    let failing = Holds::Problem("Problem");
    vec![
        Route::get("/healthz", async || "ok\n").says("It is alive.").answers(200, Holds::Text),
        Route::get("/readyz", ready)
            .says("The ledger can be written.")
            .answers(200, Holds::Text)
            .answers(503, failing),
        Route::get("/health/stripe", stripe)
            .says("When Stripe's last event came, and how many there are of each status.")
            .answers(200, Holds::Json("StripeHealth"))
            .answers(503, failing),
        Route::get("/metrics", metrics).says("What was counted, for Prometheus.").answers(200, Holds::Text),
    ]
}

/// Where it is counted how often somebody asked whether it is ready.
const PROBES: &str = "probes";

/// Ready means that the ledger can be written: so something is, and something else each time, since an empty transaction
/// commits on a full disk, and so does one that writes what is there already.
async fn ready(State(app): State<App>) -> Result<&'static str, Fail> {
    let probe = |work: &mut Work<'_>, _: &Setup| {
        let known = work.store.meta(PROBES)?.and_then(|count| count.parse::<u64>().ok());
        let count = known.unwrap_or(0).wrapping_add(1);
        work.store.put_meta(PROBES, &count.to_string())?;
        Ok("ok\n")
    };
    app.write(probe).await
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
