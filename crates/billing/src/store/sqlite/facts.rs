//! What Stripe told and what operators asked for, in SQLite.

use super::super::{EventKey, EventRow, EventStatus, Facts, Kept, Page, Stored, Tries};
use super::Sqlite;
use super::books::before;
use super::read::{Columns, corrupt};
use crate::error::Error;
use ledger::subscription::{Paid, Payments, Subscription, Subscriptions};
use rusqlite::{Row, params};
use units::{AccountId, EventId, Instant};

const EVENT: &str =
    "seq, livemode, account, id, kind, received_at, status, detail, customer, account_id, body, attempts, last_error,
    last_at FROM event";

fn event_row(row: &Row<'_>) -> rusqlite::Result<Stored<EventRow>> {
    let mut c = Columns::of(row);
    let seq = c.u64()?;
    let key = EventKey { livemode: c.flag()?, account: c.text()?, id: c.id()? };
    let row = EventRow {
        key,
        kind: c.text()?,
        received_at: c.at()?,
        status: c.word(EventStatus::parse)?,
        detail: c.text()?,
        customer: c.maybe_text()?,
        to: c.maybe_id()?,
        body: c.text()?,
        tries: Tries {
            count: u32::try_from(c.u64()?).unwrap_or(u32::MAX),
            error: c.maybe_text()?,
            last_at: c.maybe_at()?,
        },
    };
    Ok(Stored { seq, row })
}

impl Facts for Sqlite {
    fn subscriptions(&mut self, account: &AccountId) -> Kept<Subscriptions> {
        let rows =
            self.all("SELECT id, body FROM subscription WHERE account_id = ?1", [account.as_str()], |row| {
                let mut c = Columns::of(row);
                let (id, body) = (c.text()?, c.text()?);
                let body: Subscription =
                    serde_json::from_str(&body).map_err(|_| corrupt(1, "no subscription"))?;
                Ok((id, body))
            })?;
        Ok(Subscriptions(rows.into_iter().collect()))
    }

    fn put_subscription(&mut self, account: &AccountId, id: &str, subscription: &Subscription) -> Kept<()> {
        let body = serde_json::to_string(subscription).map_err(|error| Error::Bug(error.to_string()))?;
        self.exec(
            "INSERT INTO subscription (id, account_id, body) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            params![id, account.as_str(), body],
        )
        .map(drop)
    }

    fn payments(&mut self, account: &AccountId) -> Kept<Payments> {
        let statement = "SELECT subscription, body FROM paid WHERE account_id = ?1";
        let rows = self.all(statement, [account.as_str()], |row| {
            let mut c = Columns::of(row);
            let (subscription, body) = (c.text()?, c.text()?);
            let body: Paid = serde_json::from_str(&body).map_err(|_| corrupt(1, "no payments"))?;
            Ok((subscription, body))
        })?;
        Ok(Payments(rows.into_iter().collect()))
    }

    fn put_paid(&mut self, account: &AccountId, subscription: &str, paid: &Paid) -> Kept<()> {
        let body = serde_json::to_string(paid).map_err(|error| Error::Bug(error.to_string()))?;
        self.exec(
            "INSERT INTO paid (account_id, subscription, body) VALUES (?1, ?2, ?3)
             ON CONFLICT (account_id, subscription) DO UPDATE SET body = excluded.body",
            params![account.as_str(), subscription, body],
        )
        .map(drop)
    }

    fn event(&mut self, key: &EventKey) -> Kept<Option<EventRow>> {
        let statement = format!("SELECT {EVENT} WHERE livemode = ?1 AND account = ?2 AND id = ?3");
        let found = self.one(&statement, params![key.livemode, key.account, key.id.as_str()], event_row)?;
        Ok(found.map(|stored| stored.row))
    }

    fn events_named(&mut self, id: &EventId) -> Kept<Vec<EventRow>> {
        let found =
            self.all(&format!("SELECT {EVENT} WHERE id = ?1 ORDER BY seq"), [id.as_str()], event_row)?;
        Ok(found.into_iter().map(|stored| stored.row).collect())
    }

    fn put_event(&mut self, event: &EventRow) -> Kept<()> {
        self.exec(
            "INSERT INTO event (livemode, account, id, kind, received_at, status, detail, customer, account_id, body,
                attempts, last_error, last_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
             ON CONFLICT (livemode, account, id) DO UPDATE SET status = excluded.status, detail = excluded.detail,
                customer = excluded.customer, account_id = excluded.account_id,
                attempts = excluded.attempts, last_error = excluded.last_error, last_at = excluded.last_at",
            params![
                event.key.livemode,
                event.key.account,
                event.key.id.as_str(),
                event.kind,
                event.received_at.micros(),
                event.status.as_str(),
                event.detail,
                event.customer,
                event.to.as_ref().map(AccountId::as_str),
                event.body,
                event.tries.count,
                event.tries.error,
                event.tries.last_at.map(Instant::micros)
            ],
        )
        .map(drop)
    }

    fn waiting_events(&mut self, customer: &str) -> Kept<Vec<EventRow>> {
        let statement =
            format!("SELECT {EVENT} WHERE customer = ?1 AND status IN ('unmatched', 'waiting') ORDER BY seq");
        let found = self.all(&statement, [customer], event_row)?;
        Ok(found.into_iter().map(|stored| stored.row).collect())
    }

    fn events(&mut self, status: Option<EventStatus>, page: Page) -> Kept<Vec<Stored<EventRow>>> {
        let filter = if status.is_some() { "status = ?1" } else { "?1 IS NULL" };
        let statement = format!("SELECT {EVENT} WHERE {filter} AND seq < ?2 ORDER BY seq DESC LIMIT ?3");
        let status = status.map(EventStatus::as_str);
        self.all(&statement, params![status, before(page), page.limit], event_row)
    }

    fn event_counts(&mut self) -> Kept<Vec<(EventStatus, u64)>> {
        self.all("SELECT status, count(*) FROM event GROUP BY status", [], |row| {
            let mut c = Columns::of(row);
            Ok((c.word(EventStatus::parse)?, c.u64()?))
        })
    }

    fn last_event_at(&mut self) -> Kept<Option<Instant>> {
        let last = "SELECT received_at FROM event ORDER BY seq DESC LIMIT 1";
        self.one(last, [], |row| Columns::of(row).at())
    }

    fn payee(&mut self, payment: &str) -> Kept<Option<AccountId>> {
        self.one("SELECT account_id FROM payment WHERE id = ?1", [payment], |row| Columns::of(row).id())
    }

    fn put_payee(&mut self, payment: &str, account: &AccountId, now: Instant) -> Kept<()> {
        let params = params![payment, account.as_str(), now.micros()];
        self.exec("INSERT INTO payment (id, account_id, at) VALUES (?1, ?2, ?3)", params).map(drop)
    }

    fn command(&mut self, key: &str) -> Kept<Option<(String, String)>> {
        self.one("SELECT digest, answer FROM command WHERE key = ?1", [key], |row| {
            let mut c = Columns::of(row);
            Ok((c.text()?, c.text()?))
        })
    }

    fn put_command(&mut self, key: &str, digest: &str, answer: &str, now: Instant) -> Kept<()> {
        let params = params![key, digest, answer, now.micros()];
        self.exec("INSERT INTO command (key, digest, answer, at) VALUES (?1, ?2, ?3, ?4)", params).map(drop)
    }

    fn meta(&mut self, key: &str) -> Kept<Option<String>> {
        self.one("SELECT value FROM meta WHERE key = ?1", [key], |row| Columns::of(row).text())
    }

    fn put_meta(&mut self, key: &str, value: &str) -> Kept<()> {
        self.exec(
            "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [key, value],
        )
        .map(drop)
    }
}
