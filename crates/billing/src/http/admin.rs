//! What operators ask for.

use super::api::{CURSOR, Holds, LIMIT, Query, REQUEST, Route, Takes, Who};
use super::door::{Act, Admin, Params, Write};
use super::{App, Fail};
use crate::engine::Work;
use crate::error::{Error, Invalid};
use crate::service::{self, AccountView, Asked, NewAccount, NewGrant, Once, Setup};
use crate::store::Page;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use units::{AccountId, RequestId};

const ACCOUNT: Query =
    Query { name: "account", schema: "Id", says: "only this account; all of them if left out" };

pub(super) fn routes() -> Vec<Route> {
    let operator = |route: Route| route.by(Who::Operator);
    vec![
        Route::post("/admin/v1/accounts", open)
            .says("Opens an account and binds whoever speaks for it; all of it or nothing.")
            .takes(Takes::Json("NewAccount"))
            .makes("Account"),
        Route::get("/admin/v1/accounts/{id}", account)
            .says("An account as it stands.")
            .answers(200, Holds::Json("Account")),
        Route::post("/admin/v1/accounts/{id}/suspend", suspend)
            .says("Stops an account.")
            .takes(Takes::Emptiness)
            .once()
            .answers(200, Holds::Json("Account")),
        Route::post("/admin/v1/accounts/{id}/resume", resume)
            .says("Lets an account go on.")
            .takes(Takes::Emptiness)
            .once()
            .answers(200, Holds::Json("Account")),
        Route::put("/admin/v1/accounts/{id}/pool", set_pool)
            .says("Lets an account spend a pool's credits, or its own again; from now on, at every gateway.")
            .takes(Takes::Json("NewPool"))
            .once()
            .answers(200, Holds::Json("Account")),
        Route::post("/admin/v1/api-keys", new_key)
            .says("Makes an API key of an account; it is shown here and nowhere else.")
            .takes(Takes::Json("NewKey"))
            .makes("Key")
            .answers(404, Holds::Problem("Problem")),
        Route::delete("/admin/v1/api-keys/{id}", revoke_key)
            .says("Revokes an API key. Doing it again changes nothing.")
            .takes(Takes::Emptiness)
            .once()
            .answers(204, Holds::Nothing),
        Route::post("/admin/v1/grants", grant)
            .says("Gives credits.")
            .takes(Takes::Json("NewGrant"))
            .makes("Granted")
            .answers(404, Holds::Problem("Problem")),
        Route::post("/admin/v1/grants/bulk", grants)
            .says("Gives credits to many, up to 1000; all of it or nothing, and every complaint at once.")
            .takes(Takes::Json("Bulk"))
            .makes("GrantedList")
            .answers(404, Holds::Problem("Problem")),
        Route::get("/admin/v1/transactions", transactions)
            .says("The journal, newest first; of one account, each line with what was left after it. Of one request: the lines of the holds and leases that it was charged on; a lease's are of all requests that were charged on it.")
            .asks(&[ACCOUNT, REQUEST, CURSOR, LIMIT])
            .answers(200, Holds::Json("EntryList")),
        Route::get("/admin/v1/benefits", benefits)
            .says("How many subscribers each tier has, and what they weigh.")
            .answers(200, Holds::Json("Benefits")),
    ]
    .into_iter()
    .map(operator)
    .collect()
}

/// What was made now is 201; the answer of an earlier time is 200.
fn made((answer, now): Once) -> (StatusCode, Json<Value>) {
    (if now { StatusCode::CREATED } else { StatusCode::OK }, Json(answer))
}

fn account_id(text: String) -> Result<AccountId, Error> {
    AccountId::new(text).map_err(|error| Invalid::NotFound.because(format!("An account id {error}.")))
}

async fn open(
    _: Admin,
    State(app): State<App>,
    Write(new, asked): Write<NewAccount>,
) -> Result<(StatusCode, Json<Value>), Fail> {
    let run = move |work: &mut Work<'_>, setup: &Setup| {
        service::once(work, asked.as_ref(), |work| service::open_account(work, setup, &new))
    };
    app.write(run).await.map(made)
}

async fn account(
    _: Admin,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<AccountView>, Fail> {
    let id = account_id(id)?;
    app.read(move |work, setup| service::account(work, setup, &id)).await.map(Json)
}

async fn suspend(
    _: Admin,
    State(app): State<App>,
    Path(id): Path<String>,
    Act(asked): Act,
) -> Result<Json<Value>, Fail> {
    stopped(app, id, asked, true).await
}

async fn resume(
    _: Admin,
    State(app): State<App>,
    Path(id): Path<String>,
    Act(asked): Act,
) -> Result<Json<Value>, Fail> {
    stopped(app, id, asked, false).await
}

async fn stopped(app: App, id: String, asked: Option<Asked>, stop: bool) -> Result<Json<Value>, Fail> {
    let id = account_id(id)?;
    let run = move |work: &mut Work<'_>, setup: &Setup| {
        service::once(work, asked.as_ref(), |work| service::suspend(work, setup, &id, stop))
    };
    app.write(run).await.map(|(answer, _)| Json(answer))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPool {
    /// `null` for none. Left out it would be a member that pays for itself by mistake.
    #[serde(deserialize_with = "Option::deserialize")]
    pool: Option<AccountId>,
}

async fn set_pool(
    _: Admin,
    State(app): State<App>,
    Path(id): Path<String>,
    Write(NewPool { pool }, asked): Write<NewPool>,
) -> Result<Json<Value>, Fail> {
    let id = account_id(id)?;
    let run = move |work: &mut Work<'_>, setup: &Setup| {
        service::once(work, asked.as_ref(), |work| service::set_pool(work, setup, &id, pool.as_ref()))
    };
    app.write(run).await.map(|(answer, _)| Json(answer))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    account: AccountId,
}

async fn new_key(
    _: Admin,
    State(app): State<App>,
    Write(NewKey { account }, asked): Write<NewKey>,
) -> Result<(StatusCode, Json<Value>), Fail> {
    let (id, salt) = (service::random_name("key_")?, service::random_name("")?);
    let secret = app.config.admin_token.clone();
    let run = move |work: &mut Work<'_>, setup: &Setup| {
        let (answer, now) = service::once(work, asked.as_ref(), |work| {
            let key = service::derive_key(&secret, &salt)?;
            service::new_api_key(&mut service::Session::new(work, setup)?, &account, &id, &key)?;
            Ok(json!({ "id": id, "salt": salt }))
        })?;
        // The key itself is kept nowhere, so a repetition makes it again from what is.
        let salt = answer.get("salt").and_then(Value::as_str).unwrap_or_default();
        let key = service::derive_key(&secret, salt)?;
        if !now {
            service::check_api_key(work, &key)?;
        }
        Ok((json!({ "id": answer.get("id"), "key": key }), now))
    };
    app.write(run).await.map(made)
}

async fn revoke_key(
    _: Admin,
    State(app): State<App>,
    Path(id): Path<String>,
    Act(asked): Act,
) -> Result<StatusCode, Fail> {
    let run = move |work: &mut Work<'_>, setup: &Setup| {
        service::once(work, asked.as_ref(), |work| {
            service::revoke_api_key(&mut service::Session::new(work, setup)?, &id)
        })
    };
    app.write(run).await.map(|_| StatusCode::NO_CONTENT)
}

async fn grant(
    _: Admin,
    State(app): State<App>,
    Write(new, asked): Write<NewGrant>,
) -> Result<(StatusCode, Json<Value>), Fail> {
    let origin = origin(asked.as_ref())?;
    let run = move |work: &mut Work<'_>, setup: &Setup| {
        service::once(work, asked.as_ref(), |work| service::grant(work, setup, &new, &origin))
    };
    app.write(run).await.map(made)
}

/// What a grant is unique by: its key if it has one, so that the ledger itself refuses a second.
fn origin(asked: Option<&Asked>) -> Result<String, Error> {
    asked.map_or_else(|| service::random_name("admin:"), |asked| Ok(format!("admin:{}", asked.key())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bulk {
    /// Each as for one grant; read one by one, so that every complaint comes at once.
    grants: Vec<Value>,
    #[serde(default)]
    note: String,
}

/// Grants of one call at most: they are one transaction, and others wait for it.
const BULK_MAX: usize = 1_000;

async fn grants(
    _: Admin,
    State(app): State<App>,
    Write(bulk, asked): Write<Bulk>,
) -> Result<(StatusCode, Json<Value>), Fail> {
    let count = bulk.grants.len();
    if !(1..=BULK_MAX).contains(&count) {
        let why = format!("grants has {count} entries; give 1 to {BULK_MAX}, and more in further calls.");
        return Err(Fail(Invalid::Unprocessable.because(why)));
    }
    let origin = origin(asked.as_ref())?;
    let run = move |work: &mut Work<'_>, setup: &Setup| {
        service::once(work, asked.as_ref(), |work| {
            let items = all_or_nothing(work, setup, bulk, &origin)?;
            Ok(json!({ "items": items, "next": null }))
        })
    };
    app.write(run).await.map(made)
}

/// An error, whatever it is, undoes the grants before it.
fn all_or_nothing(
    work: &mut Work<'_>,
    setup: &Setup,
    bulk: Bulk,
    origin: &str,
) -> Result<Vec<service::Granted>, Error> {
    let (mut items, mut no, mut unknown) = (Vec::new(), Vec::new(), true);
    for (i, grant) in bulk.grants.into_iter().enumerate() {
        let read = serde_json::from_value(grant).map_err(|error| error.to_string());
        let granted =
            read.map_err(|why| Invalid::Unprocessable.because(why)).and_then(|mut new: NewGrant| {
                if new.note.is_empty() {
                    new.note.clone_from(&bulk.note);
                }
                service::grant(work, setup, &new, &format!("{origin}#{i}"))
            });
        match granted {
            Ok(granted) => items.push(granted),
            Err(Error::Invalid(kind, why)) => {
                unknown &= kind == Invalid::NotFound;
                no.push(format!("grants[{i}]: {why}"));
            }
            Err(error) => return Err(error),
        }
    }
    let kind = if unknown { Invalid::NotFound } else { Invalid::Unprocessable };
    if no.is_empty() { Ok(items) } else { Err(kind.because(no.join(" "))) }
}

/// Which part of which list.
#[derive(Deserialize)]
struct Asking {
    account: Option<AccountId>,
    request_id: Option<RequestId>,
    #[serde(default, deserialize_with = "super::door::whole")]
    cursor: Option<u64>,
    limit: Option<u32>,
}

impl Asking {
    fn page(&self) -> Page {
        super::page(self.cursor, self.limit)
    }
}

async fn transactions(
    _: Admin,
    State(app): State<App>,
    Params(asked): Params<Asking>,
) -> Result<Json<Value>, Fail> {
    let page = asked.page();
    let find = move |work: &mut Work<'_>, _: &Setup| {
        service::transactions(work, asked.account.as_ref(), asked.request_id.as_ref(), page)
    };
    let rows = app.read(find).await?;
    Ok(super::list(page, &rows, |row| Some(serde_json::to_value(row).unwrap_or_default())))
}

async fn benefits(_: Admin, State(app): State<App>) -> Result<Json<Value>, Fail> {
    let counts = app.read(|work, _| work.store.subscribers()).await?;
    let mut tiers = serde_json::Map::new();
    let mut total = Some(0_u64);
    for (id, tier) in app.setup.catalog.tiers.iter().filter(|(_, tier)| !tier.prices.is_empty()) {
        let active = counts.iter().find(|(of, _)| of == id).map_or(0, |(_, count)| *count);
        tiers.insert(id.to_string(), json!({ "active": active, "weight": tier.weight }));
        // Nobody of a tier whose weight is undecided adds nothing; anybody makes the sum unknown, not smaller.
        let adds = if active == 0 { Some(0) } else { tier.weight.and_then(|each| each.checked_mul(active)) };
        total = total.zip(adds).and_then(|(sum, more)| sum.checked_add(more));
    }
    Ok(Json(json!({ "tiers": tiers, "total": total })))
}
