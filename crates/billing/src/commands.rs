//! What the program does beside serving: each command as a function from what it was given to what it prints.

use crate::catalog::Catalog;
use crate::client::Caller;
use crate::config::Database;
use crate::error::Error;
use crate::serve::read_catalog;
use crate::service::{self, ExplainedLine};
use crate::store::{Sqlite, Transaction};
use crate::stripe::Which;
use axum::http::{Method, Uri, header};
use serde_json::Value;
use std::path::Path;
use units::{AccountId, EventId, Instant, signed_credits};

/// Checks a catalog and says what is in it. Nothing is started, and nothing beside the file is read.
///
/// # Errors
/// Every complaint, a line each.
pub fn check(file: &Path) -> Result<String, String> {
    let catalog = read_catalog(file).map_err(|no| format!("{} has to be mended:\n{no}", file.display()))?;
    Ok(format!("{} is in order: {}", file.display(), summary(&catalog)))
}

fn summary(catalog: &Catalog) -> String {
    let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let windows = catalog.tiers.values().map(|tier| tier.windows.len()).sum();
    let parts = [
        count(catalog.tiers.len(), "tier", "tiers"),
        count(catalog.packages.len(), "package", "packages"),
        count(catalog.endpoints.len(), "endpoint", "endpoints"),
        count(windows, "window", "windows"),
    ];
    let default = catalog.default_tier.as_ref();
    let default = default.map_or("accounts without a subscription are refused".into(), |tier| {
        format!("accounts without a subscription are on {tier}")
    });
    format!("{} in {}, {}; {default}", catalog.product, catalog.currency, parts.join(", "))
}

/// The balance of an account, and why it is what it is: read from the database itself, which a running service does not mind.
///
/// # Errors
/// What cannot be read, and what to do.
pub fn balance(account: &str, why: bool, database: &Database, now: Instant) -> Result<String, String> {
    let Database::Sqlite(path) = database else {
        return Err("this database is kept in memory by its service; ask that".into());
    };
    let at = |error: Error| format!("{}: {}", path.display(), read_as(&error));
    if !path.is_file() {
        return Err(format!("there is no database {}; give --database sqlite://PATH", path.display()));
    }
    let id = AccountId::new(account).map_err(|error| format!("the account {account:?} {error}"))?;
    let mut store = Sqlite::open_for_reading(path).map_err(at)?;
    store.begin().map_err(at)?;
    let explained = service::explain(&mut store, &id, now);
    store.rollback();
    let explained = explained.map_err(at)?;
    let mut told = String::new();
    let lines = explained.lines.iter().filter(|_| why);
    for ExplainedLine { at, change, balance, text } in lines {
        let sign = if *change > 0 { "+" } else { "" };
        let (change, balance) = (signed_credits(*change), signed_credits(*balance));
        let change = if change == "0" { String::new() } else { format!("{sign}{change}") };
        told.push_str(&format!("{:<24}  {change:>12}  {balance:>12}  {text}\n", at.to_rfc3339()));
    }
    told.push_str(&format!("balance of {id}: {}", signed_credits(explained.balance_micro)));
    Ok(told)
}

/// What went wrong, for whoever typed the command: they may see the inside of it.
fn read_as(error: &Error) -> String {
    match error {
        Error::Invalid(_, detail) => detail.clone(),
        Error::Store(why) if why.contains("no such") => {
            format!("{why}; it was written by an older release, start the service of this one first")
        }
        other => other.to_string(),
    }
}

/// Applies an event again, through the running service; what became of it. False if it still is not applied. Where connected
/// accounts have events of the same id, `which` tells them apart.
///
/// # Errors
/// What the service says, or why it cannot be asked.
pub async fn replay(service: &str, token: &str, id: &str, which: &Which) -> Result<(String, bool), String> {
    let id = EventId::new(id).map_err(|error| format!("an event id {error}"))?;
    let livemode = which.livemode.map(|livemode| format!("livemode={livemode}"));
    let account = which.stripe_account.as_ref().map(|account| format!("stripe_account={}", encoded(account)));
    let query = livemode.into_iter().chain(account).collect::<Vec<_>>().join("&");
    let service = service.trim_end_matches('/');
    let to = format!("{service}/admin/v1/events/{}/replay?{query}", encoded(id.as_str()));
    let to: Uri =
        to.parse().map_err(|_| format!("{service:?} is no URL; give one such as http://127.0.0.1:8081"))?;
    let headers = [(header::AUTHORIZATION, format!("Bearer {token}"))];
    let answer = Caller::default().call(Method::POST, &to, &headers, "").await;
    let (status, body) = answer.map_err(|why| format!("{service}: {why}; does the service run there?"))?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    if status != 200 {
        return Err(format!("answered {status}: {}", text("detail")));
    }
    if text("status").is_empty() {
        return Err("answered 200, and did not say what became of it; ask again".into());
    }
    let why = if text("last_error").is_empty() { text("detail") } else { text("last_error") };
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    Ok((format!("{id} is {}{why}", text("status")), text("status") == "applied"))
}

/// As part of a URL (RFC 3986, section 2.1).
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// What the service answers, as OpenAPI 3.1 in JSON.
#[must_use]
pub fn openapi() -> String {
    format!("{:#}", crate::http::document())
}
