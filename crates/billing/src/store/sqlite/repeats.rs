//! Requests that clients named, in SQLite.

use super::super::{Charged, HoldName, Kept, RepeatRow, Repeats};
use super::Sqlite;
use super::books::{CELL_COLUMNS, cell_row};
use super::read::{Columns, int};
use ledger::{Cell, CellId};
use rusqlite::params;
use units::{AccountId, Instant};

impl Repeats for Sqlite {
    fn repeat(&mut self, account: &AccountId, key: &str) -> Kept<Option<RepeatRow>> {
        self.one(
            "SELECT body, node, incarnation, generation, at, paid_credits, paid_requests, count FROM repeated
             WHERE account_id = ?1 AND key = ?2",
            params![account.as_str(), key],
            |row| {
                let mut c = Columns::of(row);
                let body = c.text()?;
                let hold = HoldName { node: c.id()?, incarnation: c.u64()?, generation: c.u64()? };
                let at = c.at()?;
                let paid = Charged { credits: c.amount()?, requests: c.amount()? };
                Ok(RepeatRow { body, hold, at, paid, count: c.u32()? })
            },
        )
    }

    fn put_repeat(&mut self, account: &AccountId, key: &str, row: &RepeatRow) -> Kept<()> {
        let HoldName { node, incarnation, generation } = &row.hold;
        self.exec(
            "INSERT INTO repeated (account_id, key, body, node, incarnation, generation, at, paid_credits, paid_requests, count)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (account_id, key) DO UPDATE SET body = excluded.body, node = excluded.node,
                incarnation = excluded.incarnation, generation = excluded.generation, at = excluded.at,
                paid_credits = excluded.paid_credits, paid_requests = excluded.paid_requests, count = excluded.count",
            params![
                account.as_str(),
                key,
                row.body,
                node.as_str(),
                int(*incarnation)?,
                int(*generation)?,
                row.at.micros(),
                row.paid.credits.get(),
                row.paid.requests.get(),
                row.count
            ],
        )
        .map(drop)
    }

    fn cells_of_hold(&mut self, hold: &HoldName) -> Kept<Vec<(CellId, Cell)>> {
        let statement = format!(
            "SELECT {CELL_COLUMNS} WHERE c.node = ?1 AND c.incarnation = ?2 AND c.generation = ?3
             ORDER BY c.grant_id"
        );
        let params = params![hold.node.as_str(), int(hold.incarnation)?, int(hold.generation)?];
        self.all(&statement, params, cell_row)
    }

    fn oldest_repeat(&mut self) -> Kept<Option<Instant>> {
        let statement = "SELECT at FROM repeated ORDER BY at LIMIT 1";
        self.one(statement, [], |row| Columns::of(row).at())
    }

    fn forget_repeats(&mut self, until: Instant, limit: u32) -> Kept<()> {
        self.exec(
            "DELETE FROM repeated WHERE (account_id, key) IN
                (SELECT account_id, key FROM repeated WHERE at <= ?1 ORDER BY at LIMIT ?2)",
            params![until.micros(), limit],
        )
        .map(drop)
    }
}
