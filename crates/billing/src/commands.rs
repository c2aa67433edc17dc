//! What the program does beside serving: each command as a function from what it was given to what it prints.

use crate::catalog::Catalog;
use crate::config::Database;
use crate::error::Error;
use crate::serve::read_catalog;
use crate::service::{self, ExplainedLine};
use crate::store::{Sqlite, Transaction};
use std::path::Path;
use units::{AccountId, Instant, signed_credits};

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
