//! What requests used and were charged: line by line, or summed up by day and model.

use super::api::{CURSOR, Holds, LIMIT, Query, REQUEST, Route, Who};
use super::customer::{Customer, own};
use super::door::{Admin, Params};
use super::{App, Fail};
use crate::error::{Error, Invalid};
use crate::store::{GrantCharge, Page, Store, Stored, SumBy, UsageRow, UsageSum};
use axum::Json;
use axum::extract::State;
use contract::v1::Tokens;
use serde::Deserialize;
use serde_json::{Value, json};
use units::{AccountId, Instant, RequestId, Unit, signed_credits};

const ACCOUNT: Query =
    Query { name: "account", schema: "Id", says: "only this account; all of them if left out" };
const BY: Query = Query {
    name: "by",
    schema: "SumBy",
    says: "sums instead of requests: of each day (UTC, newest first; a page has `limit` days), of each model, or both",
};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/usage", of_own)
            .says("The customer's requests and what each was charged, newest first; or what they come to.")
            .by(Who::Customer)
            .asks(&[BY, REQUEST, CURSOR, LIMIT])
            .answers(200, Holds::Json("UsageAnswer"))
            .answers(422, Holds::Problem("Problem")),
        Route::get("/admin/v1/usage", of_all)
            .says("Requests and what each was charged, newest first; or what those of one account come to.")
            .by(Who::Operator)
            .asks(&[ACCOUNT, BY, REQUEST, CURSOR, LIMIT])
            .answers(200, Holds::Json("UsageAnswer"))
            .answers(422, Holds::Problem("Problem")),
    ]
}

/// By what is summed up, as it is asked for.
#[derive(Clone, Copy, Deserialize)]
enum By {
    #[serde(rename = "day")]
    Day,
    #[serde(rename = "model")]
    Model,
    #[serde(rename = "day,model")]
    DayAndModel,
}

#[derive(Deserialize)]
struct Asking {
    account: Option<AccountId>,
    by: Option<By>,
    request_id: Option<RequestId>,
    #[serde(default, deserialize_with = "super::door::whole")]
    cursor: Option<u64>,
    limit: Option<u32>,
}

async fn of_own(
    Customer(subject): Customer,
    State(app): State<App>,
    Params(asked): Params<Asking>,
) -> Result<Json<Value>, Fail> {
    let account = own(&app, subject).await?;
    let page = super::page(asked.cursor, asked.limit);
    if let Some(by) = asked.by {
        return summed(&app, Some(account), by, asked.request_id, page).await;
    }
    let (rows, [today, month]) = app
        .read(move |work, _| {
            let [day, month] = begun(work.now)?.map(|since| work.store.served_since(&account, since));
            Ok((work.store.usage(Some(&account), asked.request_id.as_ref(), page)?, [day?, month?]))
        })
        .await?;
    let Json(mut list) = super::list(page, &rows, |row| Some(shown(row)));
    let requests = json!({ "today": today, "month": month });
    list.as_object_mut().into_iter().for_each(|list| drop(list.insert("requests".into(), requests.clone())));
    Ok(Json(list))
}

async fn of_all(
    _: Admin,
    State(app): State<App>,
    Params(asked): Params<Asking>,
) -> Result<Json<Value>, Fail> {
    let page = super::page(asked.cursor, asked.limit);
    if let Some(by) = asked.by {
        return summed(&app, asked.account, by, asked.request_id, page).await;
    }
    let rows = app
        .read(move |work, _| work.store.usage(asked.account.as_ref(), asked.request_id.as_ref(), page))
        .await?;
    Ok(super::list(page, &rows, |row| Some(shown(row))))
}

/// One request.
fn shown(row: &UsageRow) -> Value {
    let charge = |charge: &GrantCharge| {
        let unit = match charge.unit {
            Unit::Credits => "amount_micro",
            Unit::Requests => "amount_requests",
        };
        json!({ "grant": charge.grant.0.to_string(), unit: charge.amount })
    };
    let charged = row.charged(Unit::Credits);
    let count = |of: fn(&Tokens) -> u64| row.used.as_ref().map(of);
    json!({
        "account": row.account,
        "request_id": row.request_id,
        "endpoint": row.endpoint,
        "outcome": row.outcome,
        "charged_micro": charged,
        "charged": charged.to_credits(),
        "charged_requests": row.charged(Unit::Requests),
        "charges": row.charges.iter().map(charge).collect::<Vec<_>>(),
        "beyond_micro": row.beyond,
        "basis": row.basis,
        "model": row.used.as_ref().map(|used| &used.model),
        "input_tokens": count(|used| used.input),
        "cached_tokens": count(|used| used.cached),
        "cache_written_tokens": count(|used| used.cache_written),
        "output_tokens": count(|used| used.output),
        "reasoning_tokens": count(|used| used.reasoning),
        "images": count(|used| used.images),
        "at": row.at,
    })
}

async fn summed(
    app: &App,
    account: Option<AccountId>,
    by: By,
    request: Option<RequestId>,
    page: Page,
) -> Result<Json<Value>, Fail> {
    let no = |what: &str| Fail(Invalid::Unprocessable.because(what));
    let account = account.ok_or_else(|| no("Sums are of one account: give `account`."))?;
    if request.is_some() {
        return Err(no("Sums are of all requests of an account: give `by` or `request_id`, not both."));
    }
    let (items, next) = app
        .read(move |work, _| match by {
            By::Day => by_day(work.store, &account, page, false),
            By::DayAndModel => by_day(work.store, &account, page, true),
            By::Model => by_model(work.store, &account, page),
        })
        .await?;
    Ok(Json(json!({ "items": items, "next": next })))
}

/// A page of sums, and the cursor of the next one.
type Sums = (Vec<Value>, Option<u64>);

/// A page is so many days; the cursor is the oldest of them.
fn by_day(store: &mut dyn Store, account: &AccountId, page: Page, model: bool) -> Result<Sums, Error> {
    let days = store.usage_days(account, page)?;
    let (Some(newest), Some(oldest)) = (days.first(), days.last()) else { return Ok((Vec::new(), None)) };
    let range = *oldest..newest.saturating_add(1);
    let sums = store.usage_sums(account, range, SumBy { day: true, model })?;
    let full = u32::try_from(days.len()).map_or(true, |count| count >= page.limit);
    let by = |sum: &UsageSum| sum_shown(sum, By::day_or_both(model));
    Ok((sums.iter().map(by).collect(), Some(*oldest).filter(|day| full && *day > 0)))
}

/// A page is so many models in order of their names; the cursor is how many came before.
fn by_model(store: &mut dyn Store, account: &AccountId, page: Page) -> Result<Sums, Error> {
    let sums = store.usage_sums(account, 0..u64::MAX, SumBy { day: false, model: true })?;
    let rows: Vec<Stored<Value>> =
        (1_u64..).zip(&sums).map(|(seq, sum)| Stored { seq, row: sum_shown(sum, By::Model) }).collect();
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let part: Vec<_> = rows
        .into_iter()
        .filter(|row| page.before.is_none_or(|before| row.seq > before))
        .take(limit)
        .collect();
    let next = part.last().filter(|_| part.len() >= limit).map(|row| row.seq);
    Ok((part.into_iter().map(|row| row.row).collect(), next))
}

impl By {
    const fn day_or_both(model: bool) -> Self {
        if model { Self::DayAndModel } else { Self::Day }
    }
}

/// A sum, with what it is by.
fn sum_shown(sum: &UsageSum, by: By) -> Value {
    let micro = i64::try_from(sum.charged_micro).unwrap_or(i64::MAX);
    let mut shown = json!({
        "requests": sum.requests,
        "input_tokens": sum.input,
        "cached_tokens": sum.cached,
        "cache_written_tokens": sum.cache_written,
        "output_tokens": sum.output,
        "reasoning_tokens": sum.reasoning,
        "images": sum.images,
        "charged_micro": sum.charged_micro,
        "charged": signed_credits(micro),
        "charged_requests": sum.charged_requests,
    });
    if let Some(shown) = shown.as_object_mut() {
        if let (By::Day | By::DayAndModel, Some(day)) = (by, sum.day) {
            shown.insert("day".into(), json!(date(day)));
        }
        if let By::Model | By::DayAndModel = by {
            shown.insert("model".into(), json!(sum.model));
        }
    }
    shown
}

/// A day as people write it, `2026-11-20`.
fn date(day: u64) -> String {
    let secs = i64::try_from(day).unwrap_or(i64::MAX).saturating_mul(86_400);
    Instant::from_secs(secs).to_rfc3339().chars().take_while(|c| *c != 'T').collect()
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
