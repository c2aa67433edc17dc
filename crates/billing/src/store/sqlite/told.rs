//! What explains a balance, and what others are told of, in SQLite.

use super::super::{History, Kept, Message, Outbox, Stored};
use super::Sqlite;
use super::books::{grant_by_number, grant_row};
use super::read::{Columns, int};
use ledger::{CellId, GrantId, JournalKind, Terms};
use rusqlite::params;
use units::{AccountId, EndpointId, Instant, RequestId};

impl History for Sqlite {
    fn terms_of_grant(&mut self, grant: GrantId) -> Kept<Option<Terms>> {
        // A number that the database cannot hold is nobody's.
        let Ok(id) = int(grant.0) else { return Ok(None) };
        Ok(self.one(&grant_by_number(), [id], grant_row)?.map(|(_, grant)| grant.terms))
    }

    fn journal_sums(&mut self, account: &AccountId, from: u64) -> Kept<Vec<(JournalKind, i64)>> {
        self.all(
            "SELECT j.kind, sum(j.amount) FROM journal j LEFT JOIN grants g ON g.id = j.grant_id
             WHERE j.account_id = ?1 AND j.seq >= ?2 AND (j.grant_id IS NULL OR (g.unit = 'credits' AND g.scope = ''))
             GROUP BY j.kind",
            params![account.as_str(), i64::try_from(from).unwrap_or(i64::MAX)],
            |row| {
                let mut c = Columns::of(row);
                Ok((c.word(JournalKind::parse)?, c.i64()?))
            },
        )
    }

    fn request_of_hold(&mut self, cell: &CellId) -> Kept<Option<(RequestId, EndpointId)>> {
        // The last condition names the index that holds have.
        self.one(
            "SELECT u.request_id, u.endpoint FROM charge c JOIN usage u ON u.seq = c.usage_seq
             WHERE c.grant_id = ?1 AND c.generation = ?2 AND u.node = ?3 AND u.incarnation = ?4
                AND c.generation >= 1099511627776 ORDER BY u.seq LIMIT 1",
            params![int(cell.grant.0)?, int(cell.generation)?, cell.node.as_str(), int(cell.incarnation)?],
            |row| {
                let mut c = Columns::of(row);
                Ok((c.id()?, c.id()?))
            },
        )
    }
}

impl Outbox for Sqlite {
    fn put_message(&mut self, message: &Message) -> Kept<()> {
        let at = message.at.micros();
        let params = params![message.id, message.kind, message.account.as_str(), message.body, at];
        self.exec(
            "INSERT INTO outbox (id, kind, account_id, body, at, next_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
            params,
        )
        .map(drop)
    }

    fn due_messages(&mut self, now: Instant, limit: u32) -> Kept<Vec<Stored<Message>>> {
        self.all(
            "SELECT seq, id, kind, account_id, body, at, attempts, last_error FROM outbox
             WHERE next_at <= ?1 ORDER BY next_at, seq LIMIT ?2",
            params![now.micros(), limit],
            |row| {
                let mut c = Columns::of(row);
                let seq = c.u64()?;
                let row = Message {
                    id: c.text()?,
                    kind: c.text()?,
                    account: c.id()?,
                    body: c.text()?,
                    at: c.at()?,
                    attempts: u32::try_from(c.u64()?).unwrap_or(u32::MAX),
                    last_error: c.maybe_text()?,
                };
                Ok(Stored { seq, row })
            },
        )
    }

    fn message_accepted(&mut self, seq: u64) -> Kept<()> {
        self.exec("DELETE FROM outbox WHERE seq = ?1", [int(seq)?]).map(drop)
    }

    fn message_refused(&mut self, seq: u64, error: &str, next: Option<Instant>) -> Kept<()> {
        self.exec(
            "UPDATE outbox SET attempts = attempts + 1, last_error = ?2, next_at = ?3 WHERE seq = ?1",
            params![int(seq)?, error, next.map(Instant::micros)],
        )
        .map(drop)
    }

    fn message_counts(&mut self) -> Kept<(u64, u64)> {
        let statement = "SELECT count(next_at), count(*) - count(next_at) FROM outbox";
        let counts = self.one(statement, [], |row| {
            let mut c = Columns::of(row);
            Ok((c.u64()?, c.u64()?))
        })?;
        Ok(counts.unwrap_or_default())
    }
}
