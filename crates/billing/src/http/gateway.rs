//! The contract with gateways.

use super::door::{Body, Gateway, Params, json};
use super::{App, Fail};
use crate::error::{Error, Invalid};
use crate::service;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use contract::v1::{
    Claim, ClaimAnswer, Complete, CompleteAnswer, Hello, HelloAnswer, PATH_CLAIM, PATH_COMPLETE, PATH_HELLO,
    PATH_SYNC, PATH_WATCH, Sync, SyncAnswer, WatchAnswer,
};
use serde::Deserialize;
use std::time::Duration;

/// How long a watch waits at most.
const WATCH_MS_MAX: u64 = 30_000;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route(PATH_HELLO, post(hello))
        .route(PATH_SYNC, post(sync))
        .route(PATH_WATCH, get(watch))
        .route(PATH_CLAIM, post(claim))
        .route(PATH_COMPLETE, post(complete))
}

fn count(app: &App, call: &str) {
    app.metrics.one("tollgate_billing_calls_total", ("call", call));
}

async fn hello(_: Gateway, State(app): State<App>, Body(body): Body) -> Result<Json<HelloAnswer>, Fail> {
    count(&app, "hello");
    let Hello { node } = json(&body)?;
    app.write(move |work, setup| service::hello(work, setup, node)).await.map(Json)
}

async fn sync(_: Gateway, State(app): State<App>, Body(body): Body) -> Result<Json<SyncAnswer>, Fail> {
    count(&app, "sync");
    let told: Sync = json(&body)?;
    app.write(move |work, setup| service::sync(work, setup, &told)).await.map(Json)
}

async fn claim(_: Gateway, State(app): State<App>, Body(body): Body) -> Result<Json<ClaimAnswer>, Fail> {
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
    Body(body): Body,
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
    #[serde(default)]
    after: u64,
    #[serde(default)]
    wait_ms: Option<u64>,
}

async fn watch(_: Gateway, State(app): State<App>, Params(asked): Params<Watch>) -> Json<WatchAnswer> {
    count(&app, "watch");
    let mut ending = app.ending.clone();
    let wait = Duration::from_millis(asked.wait_ms.unwrap_or(WATCH_MS_MAX).min(WATCH_MS_MAX));
    tokio::select! {
        () = app.notes.wait(asked.after) => {}
        () = tokio::time::sleep(wait) => {}
        _ = ending.wait_for(|ending| *ending) => {}
    }
    Json(app.notes.since(asked.after))
}
