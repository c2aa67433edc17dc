//! Who is who, in SQLite.

use super::super::{ApiKey, Kept, People};
use super::Sqlite;
use super::read::Columns;
use rusqlite::{Row, params};
use units::{AccountId, Instant, Subject};

impl People for Sqlite {
    fn account_of_subject(&mut self, subject: &Subject) -> Kept<Option<AccountId>> {
        self.one(
            "SELECT account_id FROM subject WHERE kind = ?1 AND value = ?2",
            params![subject.kind.as_str(), subject.value],
            |row| Columns::of(row).id(),
        )
    }

    fn bind_subject(&mut self, subject: &Subject, account: &AccountId, now: Instant) -> Kept<()> {
        let params = params![subject.kind.as_str(), subject.value, account.as_str(), now.micros()];
        self.exec("INSERT INTO subject (kind, value, account_id, at) VALUES (?1, ?2, ?3, ?4)", params)
            .map(drop)
    }

    fn account_of_customer(&mut self, customer: &str) -> Kept<Option<AccountId>> {
        self.one("SELECT account_id FROM customer WHERE id = ?1", [customer], |row| Columns::of(row).id())
    }

    fn bind_customer(&mut self, customer: &str, account: &AccountId, now: Instant) -> Kept<()> {
        let params = params![customer, account.as_str(), now.micros()];
        self.exec("INSERT INTO customer (id, account_id, at) VALUES (?1, ?2, ?3)", params).map(drop)
    }

    fn pool_of(&mut self, account: &AccountId) -> Kept<Option<AccountId>> {
        let statement = "SELECT pool_id FROM member WHERE account_id = ?1";
        self.one(statement, [account.as_str()], |row| Columns::of(row).id())
    }

    fn members(&mut self, pool: &AccountId) -> Kept<Vec<AccountId>> {
        let statement = "SELECT account_id FROM member WHERE pool_id = ?1 ORDER BY account_id";
        self.all(statement, [pool.as_str()], |row| Columns::of(row).id())
    }

    fn put_pool(&mut self, account: &AccountId, pool: Option<&AccountId>, now: Instant) -> Kept<()> {
        let Some(pool) = pool else {
            return self.exec("DELETE FROM member WHERE account_id = ?1", [account.as_str()]).map(drop);
        };
        self.exec(
            "INSERT INTO member (account_id, pool_id, at) VALUES (?1, ?2, ?3)
             ON CONFLICT (account_id) DO UPDATE SET pool_id = excluded.pool_id, at = excluded.at",
            params![account.as_str(), pool.as_str(), now.micros()],
        )
        .map(drop)
    }

    fn put_api_key(&mut self, key: &ApiKey) -> Kept<()> {
        let ApiKey { id, sha256, account, created_at, revoked_at } = key;
        let revoked_at = revoked_at.map(Instant::micros);
        self.exec(
            "INSERT INTO api_key (id, sha256, account_id, created_at, revoked_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, sha256, account.as_str(), created_at.micros(), revoked_at],
        )
        .map(drop)
    }

    fn api_key(&mut self, sha256: &str) -> Kept<Option<ApiKey>> {
        let statement =
            "SELECT id, sha256, account_id, created_at, revoked_at FROM api_key WHERE sha256 = ?1";
        self.one(statement, [sha256], key_row)
    }

    fn api_keys(&mut self, account: &AccountId) -> Kept<Vec<ApiKey>> {
        self.all(
            "SELECT id, sha256, account_id, created_at, revoked_at FROM api_key WHERE account_id = ?1
             ORDER BY created_at, id",
            [account.as_str()],
            key_row,
        )
    }

    fn revoke_api_key(&mut self, id: &str, now: Instant) -> Kept<Option<AccountId>> {
        self.exec(
            "UPDATE api_key SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
            params![id, now.micros()],
        )?;
        self.one("SELECT account_id FROM api_key WHERE id = ?1", [id], |row| Columns::of(row).id())
    }
}

fn key_row(row: &Row<'_>) -> rusqlite::Result<ApiKey> {
    let mut c = Columns::of(row);
    Ok(ApiKey {
        id: c.text()?,
        sha256: c.text()?,
        account: c.id()?,
        created_at: c.at()?,
        revoked_at: c.maybe_at()?,
    })
}
