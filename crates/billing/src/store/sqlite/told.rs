//! What explains a balance, and what others are told of, in SQLite.

use super::super::{History, Kept, Message, MessageStatus, Outbox, Page, Stored};
use super::Sqlite;
use super::books::{before, grant_by_number, grant_row};
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
        // Whichever grant pays, it is the hold's request. The bits of the generation name the index that holds have,
        // and CROSS has SQLite begin with the hold.
        self.one(
            "SELECT u.request_id, u.endpoint FROM cell k CROSS JOIN charge c CROSS JOIN usage u
             WHERE k.node = ?2 AND k.incarnation = ?3 AND k.generation = ?1
                AND c.grant_id = k.grant_id AND c.generation = ?1 AND c.generation >> 40 > 0
                AND u.seq = c.usage_seq AND u.node = ?2 AND u.incarnation = ?3 ORDER BY u.seq LIMIT 1",
            params![int(cell.generation)?, cell.node.as_str(), int(cell.incarnation)?],
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
        let next = message.next_at.map(Instant::micros);
        let params = params![message.id, message.kind, message.account.as_str(), message.body, at, next];
        self.exec(
            "INSERT INTO outbox (id, kind, account_id, body, at, next_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params,
        )
        .map(drop)
    }

    fn due_messages(&mut self, now: Instant, limit: u32) -> Kept<Vec<Stored<Message>>> {
        let statement = format!("SELECT {MESSAGE} WHERE next_at <= ?1 ORDER BY next_at, seq LIMIT ?2");
        self.all(&statement, params![now.micros(), limit], message_row)
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

    fn messages_waiting(&mut self) -> Kept<u64> {
        // The condition names the index of those that wait.
        let statement = "SELECT count(*) FROM outbox WHERE next_at IS NOT NULL";
        Ok(self.one(statement, [], |row| Columns::of(row).u64())?.unwrap_or_default())
    }

    fn forget_dead_messages(&mut self, keep: u32) -> Kept<()> {
        self.exec(
            "DELETE FROM outbox WHERE next_at IS NULL AND seq <=
                (SELECT seq FROM outbox WHERE next_at IS NULL ORDER BY seq DESC LIMIT 1 OFFSET ?1)",
            [keep],
        )
        .map(drop)
    }

    fn messages(&mut self, status: Option<MessageStatus>, page: Page) -> Kept<Vec<Stored<Message>>> {
        let filter = match status {
            None => "1",
            Some(MessageStatus::Waiting) => "next_at IS NOT NULL",
            Some(MessageStatus::Dead) => "next_at IS NULL",
        };
        let statement = format!("SELECT {MESSAGE} WHERE {filter} AND seq < ?1 ORDER BY seq DESC LIMIT ?2");
        self.all(&statement, params![before(page), page.limit], message_row)
    }
}

const MESSAGE: &str = "seq, id, kind, account_id, body, at, attempts, last_error, next_at FROM outbox";

fn message_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Stored<Message>> {
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
        next_at: c.maybe_at()?,
    };
    Ok(Stored { seq, row })
}

#[cfg(test)]
mod tests {
    use super::super::steps::steps;
    use super::*;
    use crate::store::{Books, Transaction};
    use ledger::subscription::Standing;
    use ledger::{Book, Changes};

    #[test]
    fn messages_are_counted_without_those_given_up_and_those_forgotten_without_those_that_wait() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Sqlite::open(&dir.path().join("x.db")).unwrap();
        store.begin().unwrap();
        let book = Book::open(AccountId::new("a").unwrap(), Standing::none(None));
        store.save(&book, &Changes { account: true, ..Changes::default() }).unwrap();
        let fill = |store: &Sqlite, next_at: &str| {
            let rows = format!(
                "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2000)
                 INSERT INTO outbox (id, kind, account_id, body, at, next_at)
                    SELECT '{next_at}' || n, 'balance.low', 'a', '{{}}', 1, {next_at} FROM n"
            );
            store.db.execute_batch(&rows).unwrap();
        };
        let waiting = |store: &mut Sqlite, n| assert_eq!(store.messages_waiting(), Ok(n));
        let few = steps(&mut store, |store| waiting(store, 0));
        fill(&store, "NULL");
        let many = steps(&mut store, |store| waiting(store, 0));
        assert!(many < few + 10, "{few} steps without any, {many} with 2,000 that were given up");
        store.forget_dead_messages(10).unwrap();
        let forget = |store: &mut Sqlite| store.forget_dead_messages(10).unwrap();
        let few = steps(&mut store, forget);
        fill(&store, "7");
        let many = steps(&mut store, forget);
        assert!(many < few + 10, "{few} steps without any, {many} with 2,000 that wait");
        store.commit().unwrap();
    }
}
