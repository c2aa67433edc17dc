//! Stripe's events as operators see them: what became of each, and applying one again by hand.

use super::api::{CURSOR, Holds, LIMIT, Query, Route, Takes, Who};
use super::door::{Act, Admin, Listed, Params};
use super::{App, Fail};
use crate::engine::Work;
use crate::error::{Error, Invalid};
use crate::service::{self, Setup};
use crate::store::{EventRow, EventStatus};
use crate::stripe::{self, Which};
use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};
use units::EventId;

pub(super) fn routes() -> Vec<Route> {
    const STATUS: Query = Query {
        name: "status",
        schema: "EventStatus",
        says: "only events of this status; all of them if left out",
    };
    const LIVEMODE: Query =
        Query { name: "livemode", schema: "Flag", says: "which of several events of one id" };
    const STRIPE_ACCOUNT: Query = Query {
        name: "stripe_account",
        schema: "Text",
        says: "which of several events of one id: the connected account, or self",
    };
    vec![
        Route::get("/admin/v1/events", events)
            .says("Stripe's events and what became of them, newest first.")
            .by(Who::Operator)
            .asks(&[STATUS, CURSOR, LIMIT])
            .answers(200, Holds::Json("EventList")),
        Route::get("/admin/v1/events/{id}", event)
            .says("One event, with its body.")
            .by(Who::Operator)
            .asks(&[LIVEMODE, STRIPE_ACCOUNT])
            .answers(200, Holds::Json("EventWhole"))
            .answers(409, Holds::Problem("Problem")),
        Route::post("/admin/v1/events/{id}/replay", replay)
            .says("Applies an event again; the event as it is then. One that was applied stays as it is.")
            .by(Who::Operator)
            .asks(&[LIVEMODE, STRIPE_ACCOUNT])
            .takes(Takes::Emptiness)
            .once()
            .answers(200, Holds::Json("Event")),
    ]
}

async fn events(
    _: Admin,
    State(app): State<App>,
    Params(asked): Params<Listed>,
) -> Result<Json<Value>, Fail> {
    let (status, page) = asked.of(&EventStatus::ALL)?;
    let rows = app.read(move |work, _| work.store.events(status, page)).await?;
    Ok(super::list(page, &rows, |event| Some(shown(event))))
}

/// Which of several events of one id.
#[derive(Deserialize)]
struct Naming {
    livemode: Option<bool>,
    stripe_account: Option<String>,
}

impl From<Naming> for Which {
    fn from(Naming { livemode, stripe_account }: Naming) -> Self {
        Self { livemode, stripe_account }
    }
}

async fn event(
    _: Admin,
    State(app): State<App>,
    Path(id): Path<String>,
    Params(naming): Params<Naming>,
) -> Result<Json<Value>, Fail> {
    let (id, which) = (event_id(id)?, naming.into());
    let row = app.read(move |work, _| stripe::find(work, &id, &which)).await?;
    let mut answer = shown(&row);
    if let Some(answer) = answer.as_object_mut() {
        // Beyond what identifies it, an event need not be JSON that can be read.
        answer.insert("body".into(), serde_json::from_str(&row.body).unwrap_or(Value::String(row.body)));
    }
    Ok(Json(answer))
}

async fn replay(
    _: Admin,
    State(app): State<App>,
    Path(id): Path<String>,
    Params(naming): Params<Naming>,
    Act(asked): Act,
) -> Result<Json<Value>, Fail> {
    let (id, which) = (event_id(id)?, naming.into());
    let run = move |work: &mut Work<'_>, setup: &Setup| {
        service::once(work, asked.as_ref(), |work| {
            stripe::again(work, setup, &id, &which).map(|row| shown(&row))
        })
    };
    app.write(run).await.map(|(answer, _)| Json(answer))
}

fn event_id(text: String) -> Result<EventId, Error> {
    EventId::new(text).map_err(|error| Invalid::NotFound.because(format!("An event id {error}.")))
}

fn shown(event: &EventRow) -> Value {
    json!({
        "id": event.key.id,
        "type": event.kind,
        "status": event.status.as_str(),
        "detail": event.detail,
        "livemode": event.key.livemode,
        "stripe_account": event.key.account,
        "customer": event.customer,
        "account": event.to,
        "received_at": event.received_at,
        "attempts": event.tries.count,
        "last_at": event.tries.last_at,
        "last_error": event.tries.error,
    })
}
