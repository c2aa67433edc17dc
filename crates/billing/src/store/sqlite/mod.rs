//! The store in one SQLite file: one connection that writes, others that only read.
//!
//! Durable means `synchronous=FULL`: a commit that was answered survives a power cut. A lost grant of a lease
//! would be a credit spent twice.

mod books;
mod facts;
mod gateways;
mod payments;
mod people;
mod read;
mod repeats;
#[cfg(test)]
mod steps;
mod told;
mod usage;

use super::{Kept, Store, Transaction};
use crate::error::Error;
use read::sql;
use rusqlite::{Connection, OpenFlags};
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;

/// Applied in order, once each; a released one is never edited.
const MIGRATIONS: [&str; 12] = [
    include_str!("schema.sql"),
    include_str!("schema-2.sql"),
    include_str!("schema-3.sql"),
    include_str!("schema-4.sql"),
    include_str!("schema-5.sql"),
    include_str!("schema-6.sql"),
    include_str!("schema-7.sql"),
    include_str!("schema-8.sql"),
    include_str!("schema-9.sql"),
    include_str!("schema-10.sql"),
    include_str!("schema-11.sql"),
    include_str!("schema-12.sql"),
];

/// A file that only its owner may read: who is who, what they bought, and what Stripe told are nobody else's. Given to
/// [`std::fs::OpenOptions`], it is so from the first; a file that is there keeps what its operator gave it.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Creates the file that SQLite is to open. Its log and its index get the same mode from SQLite.
fn create_private(path: &Path) -> Kept<()> {
    match private(&mut OpenOptions::new()).write(true).create_new(true).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(Error::Store(format!("it cannot be created ({error})")))
        }
        _ => Ok(()),
    }
}

/// A connection to the database.
pub struct Sqlite {
    db: Connection,
    writes: bool,
}

impl Store for Sqlite {}

impl Sqlite {
    /// Opens the file for writing, creates it if needed, and brings its schema up to date.
    ///
    /// # Errors
    /// [`Error::Store`] if it cannot be opened, is no database, or is of a newer release.
    pub fn open(path: &Path) -> Kept<Self> {
        create_private(path)?;
        let db = Connection::open(path).map_err(sql)?;
        // Each is set by name: builds of SQLite differ in their defaults.
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA wal_autocheckpoint = 4000; PRAGMA busy_timeout = 5000; PRAGMA trusted_schema = OFF;",
        )
        .map_err(sql)?;
        db.set_prepared_statement_cache_capacity(128);
        let mut store = Self { db, writes: true };
        store.migrate()?;
        Ok(store)
    }

    /// Opens the file, whose schema is up to date, for reading.
    ///
    /// # Errors
    /// [`Error::Store`] if it cannot be opened.
    pub fn open_for_reading(path: &Path) -> Kept<Self> {
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(sql)?;
        db.execute_batch("PRAGMA busy_timeout = 5000; PRAGMA query_only = ON;").map_err(sql)?;
        Ok(Self { db, writes: false })
    }

    /// Lets the file grow by a few pages only, as a full disk would.
    #[cfg(test)]
    pub(crate) fn fill_up(&self) {
        let pages: i64 = self.db.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        self.db.pragma_update(None, "max_page_count", pages + 4).unwrap();
    }

    fn migrate(&mut self) -> Kept<()> {
        let tx = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(sql)?;
        tx.execute_batch(
            "CREATE TABLE IF NOT EXISTS migration (version INTEGER PRIMARY KEY, at TEXT NOT NULL)",
        )
        .map_err(sql)?;
        let done: u32 = tx.query_row("SELECT count(*) FROM migration", [], |row| row.get(0)).map_err(sql)?;
        let done = usize::try_from(done).unwrap_or(usize::MAX);
        if done > MIGRATIONS.len() {
            return Err(Error::Store("the database was written by a newer release; run that one".into()));
        }
        for (version, migration) in (1_i64..).zip(MIGRATIONS).skip(done) {
            tx.execute_batch(migration).map_err(sql)?;
            tx.execute("INSERT INTO migration VALUES (?1, datetime('now'))", [version]).map_err(sql)?;
        }
        tx.commit().map_err(sql)
    }

    fn exec(&self, statement: &str, params: impl rusqlite::Params) -> Kept<usize> {
        self.db.prepare_cached(statement).and_then(|mut s| s.execute(params)).map_err(sql)
    }

    /// The first row, if there is one.
    fn one<T>(
        &self,
        statement: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Kept<Option<T>> {
        use rusqlite::OptionalExtension;
        let mut statement = self.db.prepare_cached(statement).map_err(sql)?;
        statement.query_row(params, read).optional().map_err(sql)
    }

    fn all<T>(
        &self,
        statement: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Kept<Vec<T>> {
        let mut statement = self.db.prepare_cached(statement).map_err(sql)?;
        let rows = statement.query_map(params, read).map_err(sql)?;
        rows.collect::<rusqlite::Result<_>>().map_err(sql)
    }
}

impl Transaction for Sqlite {
    fn begin(&mut self) -> Kept<()> {
        self.exec(if self.writes { "BEGIN IMMEDIATE" } else { "BEGIN" }, ()).map(drop)
    }

    fn commit(&mut self) -> Kept<()> {
        self.exec("COMMIT", ()).map(drop)
    }

    fn rollback(&mut self) {
        // Where SQLite has rolled back by itself (disk full), there is nothing left to do.
        if !self.db.is_autocommit()
            && let Err(error) = self.exec("ROLLBACK", ())
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }

    fn savepoint(&mut self) -> Kept<()> {
        self.exec("SAVEPOINT command", ()).map(drop)
    }

    fn release(&mut self) -> Kept<()> {
        self.exec("RELEASE command", ()).map(drop)
    }

    fn rollback_to(&mut self) -> Kept<()> {
        self.exec("ROLLBACK TO command", ())?;
        self.release()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A build of SQLite may have other defaults, and a file keeps its journal's mode from whoever had it before.
    #[test]
    fn a_commit_that_was_answered_survives_a_power_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("billing.db");
        let before = Connection::open(&path).unwrap();
        before.pragma_update(None, "journal_mode", "delete").unwrap();
        before.execute_batch("CREATE TABLE other (id INTEGER)").unwrap();
        drop(before);
        for _ in 0..2 {
            let store = Sqlite::open(&path).unwrap();
            let mode: String = store.db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
            let synchronous: i64 = store.db.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
            assert_eq!(
                (mode.as_str(), synchronous),
                ("wal", 2),
                "2 is FULL: the log is synced at each commit"
            );
        }
    }
}
