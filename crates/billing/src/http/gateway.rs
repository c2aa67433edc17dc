//! The contract with gateways.

use super::api::{Holds, Query, Route, Takes, Who};
use super::door::{Gateway, Json as Said, Params, json};
use super::{App, Fail};
use crate::error::{Error, Invalid};
use crate::service;
use axum::Json;
use axum::extract::State;
use contract::v1::{
    Claim, ClaimAnswer, Complete, CompleteAnswer, Hello, HelloAnswer, PATH_CLAIM, PATH_COMPLETE, PATH_HELLO,
    PATH_SYNC, PATH_WATCH, Sync, SyncAnswer, WatchAnswer,
};
use serde::Deserialize;
use std::time::Duration;

/// How long a watch waits at most.
const WATCH_MS_MAX: u64 = 30_000;

pub(super) fn routes() -> Vec<Route> {
    const AFTER: Query =
        Query { name: "after", schema: "Whole", says: "`after` of the answer before; 0 at first" };
    const WAIT: Query = Query {
        name: "wait_ms",
        schema: "Whole",
        says: "how long to wait for a note at most; 30000 if left out, or more",
    };
    let gateway = |route: Route| route.by(Who::Gateway);
    vec![
        Route::post(PATH_HELLO, hello)
            .says("A gateway begins a new life.")
            .takes(Takes::Json("Hello"))
            .answers(200, Holds::Json("HelloAnswer"))
            .answers(409, Holds::Problem("Problem")),
        Route::post(PATH_SYNC, sync)
            .says("Totals of cells, needs and usage; leases and decisions. A refusal is an answer, not a failure.")
            .takes(Takes::Json("Sync"))
            .answers(200, Holds::Json("SyncAnswer"))
            .answers(409, Holds::Problem("Problem")),
        Route::get(PATH_WATCH, watch)
            .says("Waits for what happens to accounts.")
            .asks(&[AFTER, WAIT])
            .answers(200, Holds::Json("WatchAnswer")),
        Route::post(PATH_CLAIM, claim)
            .says("Says whether an event may be forwarded, and reserves it for whoever asks.")
            .takes(Takes::Json("Claim"))
            .answers(200, Holds::Json("ClaimAnswer")),
        Route::post(PATH_COMPLETE, complete)
            .says("Takes in what its handler made of an event.")
            .takes(Takes::Json("Complete"))
            .answers(200, Holds::Json("CompleteAnswer")),
    ]
    .into_iter()
    .map(gateway)
    .collect()
}

fn count(app: &App, call: &str) {
    app.metrics.one("tollgate_billing_calls_total", ("call", call));
}

async fn hello(_: Gateway, State(app): State<App>, Said(body): Said) -> Result<Json<HelloAnswer>, Fail> {
    count(&app, "hello");
    let Hello { node } = json(&body)?;
    app.write(move |work, setup| service::hello(work, setup, node)).await.map(Json)
}

async fn sync(_: Gateway, State(app): State<App>, Said(body): Said) -> Result<Json<SyncAnswer>, Fail> {
    count(&app, "sync");
    let told: Sync = json(&body)?;
    app.write(move |work, setup| service::sync(work, setup, &told)).await.map(Json)
}

async fn claim(_: Gateway, State(app): State<App>, Said(body): Said) -> Result<Json<ClaimAnswer>, Fail> {
    count(&app, "claim");
    let asked: Claim = json(&body)?;
    bounded(&asked.endpoint, &asked.account)?;
    bounded(&asked.claimant, &asked.event_type)?;
    let token = service::random_name("clm_")?;
    app.write(move |work, setup| service::claim(work, setup, &asked, token)).await.map(Json)
}

async fn complete(
    _: Gateway,
    State(app): State<App>,
    Said(body): Said,
) -> Result<Json<CompleteAnswer>, Fail> {
    count(&app, "complete");
    let told: Complete = json(&body)?;
    bounded(&told.endpoint, &told.account)?;
    app.write(move |work, _| service::complete(work, &told)).await.map(Json)
}

/// Names that are kept are not longer than any of Stripe's.
fn bounded(one: &str, other: &str) -> Result<(), Error> {
    let fits = |text: &str| (1..=255).contains(&text.len());
    let no =
        || Invalid::Unprocessable.because("endpoint, account, claimant and type are 1 to 255 bytes long.");
    if fits(one) && fits(other) { Ok(()) } else { Err(no()) }
}

#[derive(Deserialize)]
struct Watch {
    #[serde(default, deserialize_with = "super::door::whole")]
    after: Option<u64>,
    #[serde(default, deserialize_with = "super::door::whole")]
    wait_ms: Option<u64>,
}

async fn watch(_: Gateway, State(app): State<App>, Params(asked): Params<Watch>) -> Json<WatchAnswer> {
    count(&app, "watch");
    let (mut ending, after) = (app.ending.clone(), asked.after.unwrap_or(0));
    let wait = Duration::from_millis(asked.wait_ms.unwrap_or(WATCH_MS_MAX).min(WATCH_MS_MAX));
    tokio::select! {
        () = app.notes.wait(after) => {}
        () = tokio::time::sleep(wait) => {}
        _ = ending.wait_for(|ending| *ending) => {}
    }
    Json(app.notes.since(after))
}
