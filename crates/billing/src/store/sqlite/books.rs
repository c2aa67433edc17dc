//! The ledger's books in SQLite: rows are read and written whole, with the version they had.

use super::super::{Books, Kept, Page, Stored};
use super::Sqlite;
use super::read::{Columns, int};
use crate::error::Error;
use ledger::subscription::{Stage, Standing};
use ledger::{
    Account, Book, Cell, CellId, CellState, Changes, Grant, GrantId, HOLD_GENERATION_MIN, JournalEntry,
    JournalKind, Refusal, Reversed, Rows, Shortfall, Source, Terms,
};
use rusqlite::{Row, params};
use units::{AccountId, Instant, NodeName, RequestId, TierId, Unit};

pub(super) const GRANT: &str =
    "id, unit, scope, source, source_ref, priority, starts_at, expires_at, amount, avail, leased,
    used, expired, voided, void_claim, clawed, revoked, aside, reclaimed, owed, owes, ver FROM grants";
pub(super) const CELL_COLUMNS: &str =
    "c.grant_id, c.node, c.incarnation, c.generation, c.granted, c.returned, c.admitted, c.finished,
    c.used, c.short, c.late, c.soft_at, c.hard_at, c.state, c.exposure, c.ver FROM cell c";

fn unit_word(unit: Unit) -> &'static str {
    match unit {
        Unit::Credits => "credits",
        Unit::Requests => "requests",
    }
}

pub(super) fn unit_of(word: &str) -> Option<Unit> {
    [Unit::Credits, Unit::Requests].into_iter().find(|unit| unit_word(*unit) == word)
}

fn account_row(id: &AccountId, row: &Row<'_>) -> rusqlite::Result<Account> {
    let mut c = Columns::of(row);
    let standing = Standing {
        tier: c.maybe_id()?,
        stage: c.word(Stage::parse)?,
        why: c.maybe_word(Refusal::parse)?,
        current_period_end: c.maybe_at()?,
        cancel_at: c.maybe_at()?,
        changes_at: c.maybe_at()?,
    };
    let (suspended, credited) = (c.flag()?, c.flag()?);
    Ok(Account {
        id: id.clone(),
        standing,
        suspended,
        credited,
        debt: c.amount()?,
        epoch: c.u64()?,
        ver: c.u64()?,
    })
}

pub(super) fn grant_row(row: &Row<'_>) -> rusqlite::Result<(GrantId, Grant)> {
    let mut c = Columns::of(row);
    let id = GrantId(c.u64()?);
    let terms = Terms {
        unit: c.word(unit_of)?,
        scope: c.text()?,
        source: c.word(Source::parse)?,
        source_ref: c.text()?,
        priority: c.i64()?,
        starts_at: c.at()?,
        expires_at: c.at()?,
        amount: c.amount()?,
    };
    let grant = Grant {
        terms,
        avail: c.amount()?,
        leased: c.amount()?,
        used: c.amount()?,
        expired: c.amount()?,
        voided: c.amount()?,
        void_claim: c.amount()?,
        clawed: c.amount()?,
        reversed: Reversed {
            revoked: c.amount()?,
            aside: c.amount()?,
            reclaimed: c.amount()?,
            owed: c.amount()?,
            shortfall: if c.flag()? { Shortfall::Debt } else { Shortfall::WriteOff },
        },
        ver: c.u64()?,
    };
    Ok((id, grant))
}

pub(super) fn cell_row(row: &Row<'_>) -> rusqlite::Result<(CellId, Cell)> {
    let mut c = Columns::of(row);
    let id = CellId { grant: GrantId(c.u64()?), node: c.id()?, incarnation: c.u64()?, generation: c.u64()? };
    let cell = Cell {
        granted: c.amount()?,
        returned: c.amount()?,
        admitted: c.amount()?,
        finished: c.amount()?,
        used: c.amount()?,
        short: c.amount()?,
        late: c.amount()?,
        soft_at: c.at()?,
        hard_at: c.at()?,
        state: c.word(CellState::parse)?,
        exposure: c.amount()?,
        ver: c.u64()?,
    };
    Ok((id, cell))
}

impl Sqlite {
    fn grants_where(&self, book: &mut Book, filter: &str, params: impl rusqlite::Params) -> Kept<()> {
        let grants = self.all(&format!("SELECT {GRANT} WHERE {filter}"), params, grant_row)?;
        book.grants.extend(grants);
        Ok(())
    }

    /// Adds cells of the account (parameter 1), and those of their grants that are not there yet.
    fn cells_where(&self, book: &mut Book, filter: &str, params: impl rusqlite::Params) -> Kept<()> {
        let cells = self.all(
            &format!("SELECT {CELL_COLUMNS} WHERE c.account_id = ?1 AND {filter}"),
            params,
            cell_row,
        )?;
        for (id, cell) in cells {
            if !book.grants.contains_key(&id.grant) {
                self.grants_where(book, "id = ?1", [int(id.grant.0)?])?;
            }
            book.cells.insert(id, cell);
        }
        Ok(())
    }

    fn load_rows(&self, book: &mut Book, rows: &Rows) -> Kept<()> {
        let account = book.account.id.clone();
        match rows {
            Rows::Base => Ok(()),
            Rows::Origin(origin) => {
                let params = params![
                    account.as_str(),
                    unit_word(origin.unit),
                    origin.source.as_str(),
                    origin.source_ref
                ];
                self.grants_where(
                    book,
                    "account_id = ?1 AND unit = ?2 AND source = ?3 AND source_ref = ?4",
                    params,
                )
            }
            Rows::Grant(id) => {
                let params = params![int(id.0)?, account.as_str()];
                self.grants_where(book, "id = ?1 AND account_id = ?2", params)
            }
            Rows::Cell(id) => {
                let grant = params![int(id.grant.0)?, account.as_str()];
                self.grants_where(book, "id = ?1 AND account_id = ?2", grant)?;
                let filter = "c.grant_id = ?2 AND c.node = ?3 AND c.incarnation = ?4 AND c.generation = ?5";
                let (inc, generation) = (int(id.incarnation)?, int(id.generation)?);
                let params = params![account.as_str(), int(id.grant.0)?, id.node.as_str(), inc, generation];
                self.cells_where(book, filter, params)
            }
            Rows::Hold { node, incarnation, generation } => {
                let filter = "c.node = ?2 AND c.incarnation = ?3 AND c.generation = ?4";
                let params = params![account.as_str(), node.as_str(), int(*incarnation)?, int(*generation)?];
                self.cells_where(book, filter, params)
            }
            Rows::Leases { node, incarnation } => {
                let filter = "c.grant_id = ?2 AND c.node = ?3 AND c.incarnation = ?4 AND c.generation < ?5
                    ORDER BY c.generation DESC LIMIT 1";
                let (inc, below) = (int(*incarnation)?, int(HOLD_GENERATION_MIN)?);
                for id in book.grants.keys().copied().collect::<Vec<_>>() {
                    let params = params![account.as_str(), int(id.0)?, node.as_str(), inc, below];
                    self.cells_where(book, filter, params)?;
                }
                Ok(())
            }
        }
    }

    fn save_account(&self, account: &Account) -> Kept<()> {
        let Account { id, standing, suspended, credited, debt, epoch, ver } = account;
        let done = self.exec(
            "INSERT INTO account (id, tier, stage, why, current_period_end, cancel_at, changes_at, suspended, credited,
                debt, epoch, ver) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
             ON CONFLICT (id) DO UPDATE SET tier = excluded.tier, stage = excluded.stage, why = excluded.why,
                current_period_end = excluded.current_period_end, cancel_at = excluded.cancel_at,
                changes_at = excluded.changes_at, suspended = excluded.suspended, credited = excluded.credited,
                debt = excluded.debt, epoch = excluded.epoch, ver = excluded.ver
             WHERE account.ver = excluded.ver - 1",
            params![
                id.as_str(),
                standing.tier.as_ref().map(TierId::as_str),
                standing.stage.as_str(),
                standing.why.map(Refusal::as_str),
                standing.current_period_end.map(Instant::micros),
                standing.cancel_at.map(Instant::micros),
                standing.changes_at.map(Instant::micros),
                suspended,
                credited,
                debt.get(),
                int(*epoch)?,
                int(*ver)?
            ],
        )?;
        written(done, "account", id)
    }

    fn save_grant(&self, account: &AccountId, id: GrantId, grant: &Grant) -> Kept<()> {
        let Grant { terms, avail, leased, used, expired, voided, void_claim, clawed, reversed, ver } = grant;
        let Reversed { revoked, aside, reclaimed, owed, shortfall } = reversed;
        let done = self.exec(
            "INSERT INTO grants (id, account_id, unit, scope, source, source_ref, priority, starts_at, expires_at,
                amount, avail, leased, used, expired, voided, void_claim, clawed, ver, revoked, aside, reclaimed, owed, owes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)
             ON CONFLICT (id) DO UPDATE SET amount = excluded.amount, avail = excluded.avail,
                leased = excluded.leased, used = excluded.used, expired = excluded.expired,
                voided = excluded.voided, void_claim = excluded.void_claim, clawed = excluded.clawed,
                revoked = excluded.revoked, aside = excluded.aside, reclaimed = excluded.reclaimed,
                owed = excluded.owed, owes = excluded.owes, ver = excluded.ver
             WHERE grants.ver = excluded.ver - 1",
            params![
                int(id.0)?,
                account.as_str(),
                unit_word(terms.unit),
                terms.scope,
                terms.source.as_str(),
                terms.source_ref,
                terms.priority,
                terms.starts_at.micros(),
                terms.expires_at.micros(),
                terms.amount.get(),
                avail.get(),
                leased.get(),
                used.get(),
                expired.get(),
                voided.get(),
                void_claim.get(),
                clawed.get(),
                int(*ver)?,
                revoked.get(),
                aside.get(),
                reclaimed.get(),
                owed.get(),
                *shortfall == Shortfall::Debt
            ],
        )?;
        written(done, "grant", id.0)
    }

    fn save_cell(&self, account: &AccountId, id: &CellId, cell: &Cell) -> Kept<()> {
        let done = self.exec(
            "INSERT INTO cell (account_id, grant_id, node, incarnation, generation, granted, returned, admitted, finished,
                used, short, late, soft_at, hard_at, state, exposure, ver)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
             ON CONFLICT (grant_id, node, incarnation, generation) DO UPDATE SET granted = excluded.granted,
                returned = excluded.returned, admitted = excluded.admitted, finished = excluded.finished,
                used = excluded.used, short = excluded.short, late = excluded.late, soft_at = excluded.soft_at,
                hard_at = excluded.hard_at, state = excluded.state, exposure = excluded.exposure,
                ver = excluded.ver
             WHERE cell.ver = excluded.ver - 1",
            params![
                account.as_str(),
                int(id.grant.0)?,
                id.node.as_str(),
                int(id.incarnation)?,
                int(id.generation)?,
                cell.granted.get(),
                cell.returned.get(),
                cell.admitted.get(),
                cell.finished.get(),
                cell.used.get(),
                cell.short.get(),
                cell.late.get(),
                cell.soft_at.micros(),
                cell.hard_at.micros(),
                cell.state.as_str(),
                cell.exposure.get(),
                int(cell.ver)?
            ],
        )?;
        written(done, "cell", id.generation)
    }

    fn append_journal(&self, entry: &JournalEntry) -> Kept<()> {
        let cell = entry.cell.as_ref();
        let number = |value: Option<u64>| value.map(int).transpose();
        self.exec(
            "INSERT INTO journal (at, account_id, grant_id, node, incarnation, generation, kind, amount)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                entry.at.micros(),
                entry.account.as_str(),
                number(entry.grant.map(|grant| grant.0))?,
                cell.map(|cell| cell.node.as_str()),
                number(cell.map(|cell| cell.incarnation))?,
                number(cell.map(|cell| cell.generation))?,
                entry.kind.as_str(),
                entry.amount.get()
            ],
        )
        .map(drop)
    }
}

fn journal_row(row: &Row<'_>) -> rusqlite::Result<Stored<JournalEntry>> {
    let mut c = Columns::of(row);
    let (seq, at, account) = (c.u64()?, c.at()?, c.id()?);
    let grant = c.maybe_u64()?.map(GrantId);
    let (node, inc, generation) = (c.maybe_id()?, c.maybe_u64()?, c.maybe_u64()?);
    let cell = match (grant, node, inc, generation) {
        (Some(grant), Some(node), Some(incarnation), Some(generation)) => {
            Some(CellId { grant, node, incarnation, generation })
        }
        _ => None,
    };
    let kind = c.word(JournalKind::parse)?;
    let entry = JournalEntry { at, account, grant, cell, kind, amount: c.amount()? };
    Ok(Stored { seq, row: entry })
}

/// One writer holds the only copy, so a row of another version means that two believed to.
fn written(rows: usize, what: &str, id: impl std::fmt::Display) -> Kept<()> {
    if rows == 1 { Ok(()) } else { Err(Error::Bug(format!("{what} {id} is not the one that was loaded"))) }
}

impl Books for Sqlite {
    fn load(&mut self, account: &AccountId, rows: &[Rows], now: Instant) -> Kept<Option<Book>> {
        let row = self.one(
            "SELECT tier, stage, why, current_period_end, cancel_at, changes_at, suspended, credited, debt, epoch, ver
             FROM account WHERE id = ?1",
            [account.as_str()],
            |row| account_row(account, row),
        )?;
        let Some(row) = row else { return Ok(None) };
        let mut book = Book::open(account.clone(), row.standing.clone());
        book.account = row;
        self.grants_where(&mut book, "account_id = ?1 AND (avail > 0 OR leased > 0)", [account.as_str()])?;
        self.grants_where(&mut book, "account_id = ?1 AND aside > revoked", [account.as_str()])?;
        let window = "account_id = ?1 AND source = 'window' AND expires_at > ?2";
        self.grants_where(&mut book, window, params![account.as_str(), now.micros()])?;
        self.cells_where(&mut book, "c.state <> 'closed'", [account.as_str()])?;
        for rows in rows {
            self.load_rows(&mut book, rows)?;
        }
        Ok(Some(book))
    }

    fn save(&mut self, book: &Book, changes: &Changes) -> Kept<()> {
        let missing = |what: &str| Error::Bug(format!("a {what} changed that is not in its book"));
        if changes.account {
            self.save_account(&book.account)?;
        }
        for id in &changes.grants {
            let grant = book.grants.get(id).ok_or_else(|| missing("grant"))?;
            self.save_grant(&book.account.id, *id, grant)?;
        }
        for id in &changes.cells {
            let cell = book.cells.get(id).ok_or_else(|| missing("cell"))?;
            self.save_cell(&book.account.id, id, cell)?;
        }
        changes.journal.iter().try_for_each(|entry| self.append_journal(entry))
    }

    fn next_grant(&mut self) -> Kept<u64> {
        let statement = "SELECT coalesce(max(id), 0) + 1 FROM grants";
        Ok(self.one(statement, [], |row| Columns::of(row).u64())?.unwrap_or(1))
    }

    fn owner_of_grant(&mut self, grant: GrantId) -> Kept<Option<AccountId>> {
        // A number that the database cannot hold is nobody's.
        let Ok(id) = int(grant.0) else { return Ok(None) };
        self.one("SELECT account_id FROM grants WHERE id = ?1", [id], |row| Columns::of(row).id())
    }

    fn owner_of_hold(&mut self, node: &NodeName, inc: u64, generation: u64) -> Kept<Option<AccountId>> {
        self.one(
            "SELECT account_id FROM cell WHERE node = ?1 AND incarnation = ?2 AND generation = ?3 LIMIT 1",
            params![node.as_str(), int(inc)?, int(generation)?],
            |row| Columns::of(row).id(),
        )
    }

    fn due(&mut self, now: Instant, after: Option<&AccountId>, limit: u32) -> Kept<Vec<AccountId>> {
        // Not one UNION, which SQLite makes of lists in order of their ids, and for that reads everybody; and `+` (SQLite, "The
        // query planner": unary +), so that it looks by time: few are due.
        self.all(
            "SELECT DISTINCT id FROM (
                SELECT id FROM account WHERE changes_at <= ?1 AND +id > ?3
                UNION ALL SELECT account_id FROM grants WHERE avail > 0 AND expires_at <= ?1 AND +account_id > ?3
                UNION ALL SELECT account_id FROM cell WHERE state = 'open' AND soft_at <= ?1 AND +account_id > ?3
                UNION ALL SELECT account_id FROM cell WHERE state <> 'closed' AND hard_at <= ?1 AND +account_id > ?3)
             ORDER BY id LIMIT ?2",
            params![now.micros(), limit, after.map_or("", AccountId::as_str)],
            |row| Columns::of(row).id(),
        )
    }

    fn grants(&mut self, account: &AccountId) -> Kept<Vec<(GrantId, Grant)>> {
        let statement = format!(
            "SELECT {GRANT} WHERE account_id = ?1 AND (avail > 0 OR leased > 0 OR aside > revoked)
             ORDER BY priority, expires_at, id"
        );
        self.all(&statement, [account.as_str()], grant_row)
    }

    fn journal(&mut self, account: Option<&AccountId>, page: Page) -> Kept<Vec<Stored<JournalEntry>>> {
        // Two statements, since one with an optional filter would read the whole table for one account.
        let filter = if account.is_some() { "account_id = ?1" } else { "?1 IS NULL" };
        let statement = format!(
            "SELECT seq, at, account_id, grant_id, node, incarnation, generation, kind, amount FROM journal
             WHERE {filter} AND seq < ?2 ORDER BY seq DESC LIMIT ?3"
        );
        let params = params![account.map(AccountId::as_str), before(page), page.limit];
        self.all(&statement, params, journal_row)
    }

    fn journal_of_request(
        &mut self,
        account: Option<&AccountId>,
        request: &RequestId,
        page: Page,
    ) -> Kept<Vec<Stored<JournalEntry>>> {
        // Two ways to the lines, each with its index: a hold is one request's, whichever grant pays; a lease is one grant's.
        // CROSS keeps SQLite from beginning with all holds of the gateway (SQLite, "The query planner": CROSS JOIN).
        let charged =
            "usage u CROSS JOIN charge c ON c.usage_seq = u.seq CROSS JOIN journal j ON j.generation = c.generation
            AND j.node = u.node AND j.incarnation = u.incarnation";
        let statement = format!(
            "SELECT seq, at, account_id, grant_id, node, incarnation, generation, kind, amount FROM journal
             WHERE seq IN (
                SELECT j.seq FROM {charged} WHERE u.request_id = ?4 AND j.generation >> 40 > 0
                UNION SELECT j.seq FROM {charged} AND j.grant_id = c.grant_id
                    WHERE u.request_id = ?4 AND j.generation >> 40 = 0)
             AND (?1 IS NULL OR account_id = ?1) AND seq < ?2 ORDER BY seq DESC LIMIT ?3"
        );
        let params = params![account.map(AccountId::as_str), before(page), page.limit, request.as_str()];
        self.all(&statement, params, journal_row)
    }

    fn note(&mut self, grant: GrantId) -> Kept<Option<String>> {
        self.one("SELECT note FROM grant_note WHERE grant_id = ?1", [int(grant.0)?], |row| {
            Columns::of(row).text()
        })
    }

    fn put_note(&mut self, grant: GrantId, note: &str) -> Kept<()> {
        let statement = "INSERT INTO grant_note (grant_id, note) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        self.exec(statement, params![int(grant.0)?, note]).map(drop)
    }

    fn subscribers(&mut self) -> Kept<Vec<(TierId, u64)>> {
        self.all(
            "SELECT tier, count(*) FROM account WHERE tier IS NOT NULL AND why IS NULL GROUP BY tier",
            [],
            |row| {
                let mut c = Columns::of(row);
                Ok((c.id()?, c.u64()?))
            },
        )
    }

    fn stale_standings(&mut self, now: Instant) -> Kept<()> {
        self.exec("UPDATE account SET changes_at = ?1", [now.micros()]).map(drop)
    }
}

/// A grant by its number (parameter 1).
pub(super) fn grant_by_number() -> String {
    format!("SELECT {GRANT} WHERE id = ?1")
}

/// The number before which a page ends.
pub(super) fn before(page: Page) -> i64 {
    page.before.and_then(|seq| i64::try_from(seq).ok()).unwrap_or(i64::MAX)
}
