//! What customers see of their own, through the gateway, which vouches for who they are.

use super::api::{CURSOR, Holds, LIMIT, REQUEST, Route, Who};
use super::door::{Gateway, Params};
use super::{App, Fail};
use crate::engine::Work;
use crate::error::Invalid;
use crate::service::{self, Setup};
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contract::v1::HEADER_SUBJECT;
use serde::Deserialize;
use serde_json::{Value, json};
use units::{AccountId, RequestId, Subject, SubjectKind};

pub(super) fn routes() -> Vec<Route> {
    let own = |route: Route| route.by(Who::Customer);
    vec![
        Route::get("/v1/tiers", tiers)
            .says("The tiers that are sold.")
            .answers(200, Holds::Json("TierList")),
        Route::get("/v1/packages", packages)
            .says("The packages that are sold.")
            .answers(200, Holds::Json("PackageList")),
        Route::get("/v1/subscription", subscription)
            .says("The customer's plan, its stage, and what can be done about it.")
            .answers(200, Holds::Json("OwnSubscription")),
        Route::get("/v1/balance", balance)
            .says("The customer's credits, and what is left of the windows of their tier.")
            .answers(200, Holds::Json("OwnBalance")),
        Route::get("/v1/history", history)
            .says("What moved the account's own credits, newest first: each line in words, with what was left after it, holds aside. What a member spends of its pool stands in /v1/usage and in the pool's history. Of one request: the lines of the holds and leases that it was charged on; a lease's are of all requests that were charged on it, and say so by its gateway.")
            .asks(&[REQUEST, CURSOR, LIMIT])
            .answers(200, Holds::Json("EntryList")),
    ]
    .into_iter()
    .map(own)
    .collect()
}

/// A customer for whom a gateway vouches.
pub(super) struct Customer(pub(super) Subject);

impl FromRequestParts<App> for Customer {
    type Rejection = Fail;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Fail> {
        Gateway::from_request_parts(parts, app).await?;
        let header = parts.headers.get(HEADER_SUBJECT).and_then(|value| value.to_str().ok());
        let subject = header.and_then(subject);
        let no = || Fail(Invalid::Unauthorized.because("The gateway did not say whose data this is."));
        subject.map(Self).ok_or_else(no)
    }
}

/// Reads `kind:base64url(value)`.
fn subject(header: &str) -> Option<Subject> {
    let (kind, value) = header.split_once(':')?;
    let kinds = [SubjectKind::ApiKeySha256, SubjectKind::Header, SubjectKind::JwtSub];
    let kind = kinds.into_iter().find(|known| known.as_str() == kind)?;
    let value = String::from_utf8(URL_SAFE_NO_PAD.decode(value).ok()?).ok()?;
    Subject::new(kind, value).ok()
}

async fn tiers(_: Customer, State(app): State<App>) -> Json<Value> {
    let catalog = &app.setup.catalog;
    let item = |(id, tier): (&units::TierId, &crate::catalog::Tier)| {
        let price = |p: &crate::catalog::TierPrice| json!({ "id": p.id, "amount": p.amount, "currency": catalog.currency });
        let window = |(name, w): (&String, &crate::catalog::Window)| {
            let (period, zone) = (w.period.as_str(), w.zone.name());
            json!({ "name": name, "endpoints": w.endpoints, "limit": w.limit, "period": period, "time_zone": zone })
        };
        json!({
            "id": id,
            "rank": tier.rank,
            "default": catalog.default_tier.as_ref() == Some(id),
            "prices": tier.prices.iter().map(price).collect::<Vec<_>>(),
            "allowance_micro": tier.allowance.map(|allowance| allowance.credits),
            "windows": tier.windows.iter().map(window).collect::<Vec<_>>(),
            "attributes": tier.attributes,
        })
    };
    Json(json!({ "items": catalog.tiers.iter().map(item).collect::<Vec<_>>(), "next": null }))
}

async fn packages(_: Customer, State(app): State<App>) -> Json<Value> {
    let catalog = &app.setup.catalog;
    let item = |(id, package): (&String, &crate::catalog::Package)| {
        json!({
            "id": id,
            "price": package.price,
            "amount": package.amount,
            "currency": catalog.currency,
            "credits": package.credits.to_credits(),
            "credits_micro": package.credits,
        })
    };
    Json(json!({ "items": catalog.packages.iter().map(item).collect::<Vec<_>>(), "next": null }))
}

async fn subscription(Customer(subject): Customer, State(app): State<App>) -> Result<Json<Value>, Fail> {
    let account = own(&app, subject).await?;
    app.read(move |work, setup| service::own_subscription(work, setup, &account)).await.map(Json)
}

async fn balance(Customer(subject): Customer, State(app): State<App>) -> Result<Json<Value>, Fail> {
    let account = own(&app, subject).await?;
    app.read(move |work, setup| service::own_balance(work, setup, &account)).await.map(Json)
}

/// Whose data is asked for. Only a customer who is new is opened by asking; all others can look while nothing can be written.
pub(super) async fn own(app: &App, subject: Subject) -> Result<AccountId, Fail> {
    let asked = subject.clone();
    if let Some(account) = app.read(move |work, _| service::known_account(work, &asked)).await? {
        return Ok(account);
    }
    if subject.kind != SubjectKind::JwtSub {
        // Only who has a token can be opened by asking; a key that is nobody's stays so, and waits for no writer.
        return Err(Fail(service::nobody()));
    }
    app.write(move |work, setup| service::own_account(work, setup, &subject)).await
}

#[derive(Deserialize)]
struct Asking {
    request_id: Option<RequestId>,
    #[serde(default, deserialize_with = "super::door::whole")]
    cursor: Option<u64>,
    limit: Option<u32>,
}

async fn history(
    Customer(subject): Customer,
    State(app): State<App>,
    Params(asked): Params<Asking>,
) -> Result<Json<Value>, Fail> {
    let page = super::page(asked.cursor, asked.limit);
    let account = own(&app, subject).await?;
    let find = move |work: &mut Work<'_>, _: &Setup| {
        service::history(work, &account, asked.request_id.as_ref(), page)
    };
    let rows = app.read(find).await?;
    Ok(super::list(page, &rows, |row| Some(serde_json::to_value(row).unwrap_or_default())))
}
