//! What customers see of their own, through the gateway, which vouches for who they are.

use super::api::{CURSOR, Holds, LIMIT, Route, Who};
use super::door::{Gateway, Params};
use super::{App, Fail};
use crate::error::{Error, Invalid};
use crate::service;
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contract::v1::HEADER_SUBJECT;
use serde::Deserialize;
use serde_json::{Value, json};
use units::{AccountId, Instant, Subject, SubjectKind};

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
            .says("What moved the account's own credits, newest first: each line in words, with what was left after it, holds aside. What a member spends of its pool stands in /v1/usage and in the pool's history.")
            .asks(&[CURSOR, LIMIT])
            .answers(200, Holds::Json("EntryList")),
        Route::get("/v1/usage", usage)
            .says("The customer's requests and what each was charged, newest first.")
            .asks(&[CURSOR, LIMIT])
            .answers(200, Holds::Json("UsageList")),
    ]
    .into_iter()
    .map(own)
    .collect()
}

/// A customer for whom a gateway vouches.
struct Customer(Subject);

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
async fn own(app: &App, subject: Subject) -> Result<AccountId, Fail> {
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
    let rows = app.read(move |work, _| service::transactions(work, Some(&account), page)).await?;
    Ok(super::list(page, &rows, |row| {
        row.is_for_customers().then(|| serde_json::to_value(row).unwrap_or_default())
    }))
}

async fn usage(
    Customer(subject): Customer,
    State(app): State<App>,
    Params(asked): Params<Asking>,
) -> Result<Json<Value>, Fail> {
    let page = super::page(asked.cursor, asked.limit);
    let account = own(&app, subject).await?;
    let (rows, [today, month]) = app
        .read(move |work, _| {
            let [day, month] = begun(work.now)?.map(|since| work.store.served_since(&account, since));
            Ok((work.store.usage(&account, page)?, [day?, month?]))
        })
        .await?;
    let Json(mut list) = super::list(page, &rows, |row| {
        Some(json!({
            "request_id": row.request_id,
            "endpoint": row.endpoint,
            "outcome": row.outcome,
            "charged_micro": row.charged_micro,
            "charged": units::signed_credits(i64::try_from(row.charged_micro).unwrap_or(i64::MAX)),
            "charged_requests": row.charged_requests,
            "model": row.model,
            "input_tokens": row.tokens.map(|(input, _)| input),
            "output_tokens": row.tokens.map(|(_, output)| output),
            "at": row.at,
        }))
    });
    let requests = json!({ "today": today, "month": month });
    list.as_object_mut().into_iter().for_each(|list| drop(list.insert("requests".into(), requests.clone())));
    Ok(Json(list))
}

/// When the day and the month began, in UTC.
fn begun(now: Instant) -> Result<[Instant; 2], Error> {
    let text = now.to_rfc3339();
    let at = |date: Option<&str>, rest: &str| {
        let begin = date.and_then(|date| Instant::from_rfc3339(&format!("{date}{rest}")).ok());
        begin.ok_or_else(|| Error::Bug(format!("{text} has no beginning")))
    };
    Ok([at(text.get(..10), "T00:00:00Z")?, at(text.get(..7), "-01T00:00:00Z")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_and_a_month_begin_at_midnight() {
        let at = |text: &str| Instant::from_rfc3339(text).unwrap();
        for (now, day, month) in [
            ("2026-11-20T09:30:00.000001Z", "2026-11-20T00:00:00Z", "2026-11-01T00:00:00Z"),
            ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
            ("2027-02-28T23:59:59Z", "2027-02-28T00:00:00Z", "2027-02-01T00:00:00Z"),
        ] {
            assert_eq!(begun(at(now)).unwrap(), [at(day), at(month)], "{now}");
        }
    }
}
