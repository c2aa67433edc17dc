//! The doors: who may come in, how large they may be, and how each call is answered. Rules live elsewhere.

mod admin;
mod api;
mod authz;
mod customer;
mod door;
mod events;
mod gateway;
mod ops;
mod outbox;
mod problem;
mod stripe;
mod usage;

pub use api::document;
pub use problem::Fail;

use crate::clock::Clock;
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Error, Invalid};
use crate::metrics::Metrics;
use crate::notes::Notes;
use crate::service::Setup;
use crate::store::{Page, Stored};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::watch;

/// What every handler works with.
#[derive(Clone)]
pub struct App(pub Arc<Parts>);

/// See [`App`].
pub struct Parts {
    /// The way to the ledger.
    pub engine: Engine,
    /// Settings.
    pub config: Config,
    /// Stripe's secrets, checked.
    pub secrets: Vec<webhook::Secret>,
    /// What is sold, and how the ledger is set up.
    pub setup: Arc<Setup>,
    /// What time it is.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What gateways are told.
    pub notes: Arc<Notes>,
    /// Turns true when the service ends: nobody may wait any longer.
    pub ending: watch::Receiver<bool>,
}

impl std::ops::Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// Carries out a command that may know how the service is set up.
    ///
    /// # Errors
    /// See [`Engine::write`].
    pub async fn write<T, F>(&self, run: F) -> Result<T, Fail>
    where
        T: Send + 'static,
        F: FnOnce(&mut crate::engine::Work<'_>, &Setup) -> Result<T, Error> + Send + 'static,
    {
        let setup = Arc::clone(&self.setup);
        self.engine.write(move |work| run(work, &setup)).await.map_err(Fail)
    }

    /// Asks about what is committed.
    ///
    /// # Errors
    /// See [`Engine::read`].
    pub async fn read<T, F>(&self, run: F) -> Result<T, Fail>
    where
        T: Send + 'static,
        F: FnOnce(&mut crate::engine::Work<'_>, &Setup) -> Result<T, Error> + Send + 'static,
    {
        let setup = Arc::clone(&self.setup);
        self.engine.read(move |work| run(work, &setup)).await.map_err(Fail)
    }
}

/// All routes.
pub fn router(app: App) -> Router {
    api::routed()
        .fallback(async || Fail(Invalid::NotFound.because("There is nothing at this path.")))
        .method_not_allowed_fallback(async || {
            Fail(Invalid::Method.because("Use one of the methods in Allow."))
        })
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

/// Which part of a list is asked for; a hundred rows unless said otherwise, a thousand at most.
fn page(cursor: Option<u64>, limit: Option<u32>) -> Page {
    Page { before: cursor, limit: limit.unwrap_or(100).clamp(1, 1_000) }
}

/// A part of a list, with the cursor of the next one.
fn list<T>(page: Page, rows: &[Stored<T>], show: impl Fn(&T) -> Option<Value>) -> Json<Value> {
    let full = u32::try_from(rows.len()).map_or(true, |count| count >= page.limit);
    let next = rows.last().filter(|_| full).map(|row| row.seq);
    let items: Vec<Value> = rows.iter().filter_map(|stored| show(&stored.row)).collect();
    Json(json!({ "items": items, "next": next }))
}

/// Logs and counts each call; never its body, its query or its headers.
async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    if let Some(problem::Kind(kind)) = response.extensions().get() {
        app.metrics.one("tollgate_billing_errors_total", ("kind", kind));
        tracing::info!(%method, path, status, kind, "call failed");
    } else {
        tracing::debug!(%method, path, status, "call");
    }
    response.into_response()
}
