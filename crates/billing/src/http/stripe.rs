//! Stripe's events, as Stripe signed them. Answered 2xx only when what they say is durable.

use super::api::{Holds, Route, Takes, Who};
use super::door::Body;
use super::{App, Fail};
use crate::error::{Error, Invalid};
use crate::store::EventStatus;
use crate::stripe::Taken;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use webhook::{Event, HEADER_SIGNATURE, Tolerance, verify};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/webhooks/stripe", event)
            .says("One of Stripe's events. Answered 2xx only when it is durable.")
            .by(Who::Stripe)
            .takes(Takes::Signed)
            .answers(200, Holds::Json("Received")),
    ]
}

async fn event(State(app): State<App>, headers: HeaderMap, Body(body): Body) -> Result<Json<Value>, Fail> {
    // Whoever forges learns only that it was refused; the reason is in the metric and the log.
    let refuse = |why: &str| {
        app.metrics.one("tollgate_billing_events_total", ("outcome", "refused"));
        tracing::warn!(why, "an event was refused");
        Fail(Invalid::Malformed.because("This is not an event that is taken here."))
    };
    let signatures: Vec<&[u8]> =
        headers.get_all(HEADER_SIGNATURE).iter().map(|value| value.as_bytes()).collect();
    let verified = verify(&signatures, &body, &app.secrets, Tolerance::default(), app.clock.wall());
    verified.map_err(|forgery| refuse(&forgery.to_string()))?;
    let event = Event::read(&body).map_err(|error| refuse(&error.to_string()))?;
    if !app.config.livemode.allows(event.livemode) {
        // It is genuine, so a refusal would make Stripe retry for days what is never wanted.
        app.metrics.one("tollgate_billing_events_total", ("outcome", "other_mode"));
        return Ok(Json(json!({ "received": true, "outcome": "other_mode" })));
    }
    let text = || String::from_utf8(body.to_vec());
    let first = text().map_err(|_| refuse("not UTF-8"))?;
    let now = u64::try_from(app.clock.now().secs()).unwrap_or(0);
    app.metrics.set("tollgate_billing_last_event_seconds", now);
    let (id, kind) = (event.id.clone(), event.kind.clone());
    let again = event.clone();
    let mut taken = app.write(move |work, setup| crate::stripe::take(work, setup, &event, first)).await;
    // A rule that broke breaks again: after some times Stripe is told that the event arrived, and a person has to look.
    if let (Err(Fail(Error::Bug(why))), Ok(text)) = (&taken, text()) {
        let why = why.clone();
        let kept = app.write(move |work, _| crate::stripe::failed(work, &again, text, &why)).await;
        if let Ok(status) = kept
            && status != EventStatus::Failed
        {
            taken = Ok(Taken::New(status));
        }
    }
    let outcome = match &taken {
        Ok(Taken::New(status)) => status.as_str(),
        Ok(Taken::Duplicate) => "duplicate",
        Err(_) => "failed",
    };
    app.metrics.one("tollgate_billing_events_total", ("outcome", outcome));
    tracing::info!(%id, kind, outcome, "event");
    taken.map(|_| Json(json!({ "received": true, "outcome": outcome })))
}
