//! What gateways told, in SQLite.

use super::super::{
    ClaimKey, ClaimRow, ClaimState, Gateways, Kept, Page, Stored, SumBy, UsageKey, UsageRow, UsageSum,
};
use super::Sqlite;
use super::read::{Columns, int, sql};
use contract::v1::{Basis, UsageRecord};
use rusqlite::params;
use std::ops::Range;
use units::{AccountId, Instant, NodeName, RequestId};

/// States of a claim and their words.
const STATES: [(ClaimState, &str); 3] =
    [(ClaimState::Claimed, "claimed"), (ClaimState::Free, "free"), (ClaimState::Done, "done")];

fn state_of(word: &str) -> Option<ClaimState> {
    STATES.into_iter().find(|(_, known)| *known == word).map(|(state, _)| state)
}

impl Sqlite {
    /// Moves the acknowledged number on over records that are here; what it is then.
    fn advance(&self, key: &UsageKey) -> Kept<u64> {
        let (inc, worker) = (int(key.incarnation)?, key.worker);
        self.exec(
            "INSERT INTO worker (node, incarnation, worker, usage_acked) VALUES (?1, ?2, ?3, 0)
             ON CONFLICT DO NOTHING",
            params![key.node.as_str(), inc, worker],
        )?;
        // The longest run without a gap that continues what was acknowledged. Counted here: as one recursive statement it
        // read every record of the worker for each new one.
        let acked = self.acked(key)?;
        let mut run = self
            .db
            .prepare_cached(
                "SELECT n FROM usage WHERE node = ?1 AND incarnation = ?2 AND worker = ?3 AND n > ?4 ORDER BY n",
            )
            .map_err(sql)?;
        let params = params![key.node.as_str(), inc, worker, int(acked)?];
        let mut rows = run.query(params).map_err(sql)?;
        let mut last = acked;
        while let Some(row) = rows.next().map_err(sql)? {
            let n = Columns::of(row).u64().map_err(sql)?;
            if last.checked_add(1) != Some(n) {
                break;
            }
            last = n;
        }
        if last > acked {
            self.exec(
                "UPDATE worker SET usage_acked = ?4 WHERE node = ?1 AND incarnation = ?2 AND worker = ?3",
                params![key.node.as_str(), inc, worker, int(last)?],
            )?;
        }
        Ok(last)
    }

    fn acked(&self, key: &UsageKey) -> Kept<u64> {
        let statement = "SELECT usage_acked FROM worker WHERE node = ?1 AND incarnation = ?2 AND worker = ?3";
        let params = params![key.node.as_str(), int(key.incarnation)?, key.worker];
        Ok(self.one(statement, params, |row| Columns::of(row).u64())?.unwrap_or(0))
    }
}

impl Gateways for Sqlite {
    fn incarnation(&mut self, node: &NodeName) -> Kept<u64> {
        let statement = "SELECT incarnation FROM node WHERE node = ?1";
        Ok(self.one(statement, [node.as_str()], |row| Columns::of(row).u64())?.unwrap_or(0))
    }

    fn put_incarnation(&mut self, node: &NodeName, incarnation: u64, now: Instant) -> Kept<()> {
        self.exec(
            "INSERT INTO node (node, incarnation, at) VALUES (?1, ?2, ?3) ON CONFLICT (node) DO UPDATE
             SET incarnation = max(incarnation, excluded.incarnation), at = excluded.at",
            params![node.as_str(), int(incarnation)?, now.micros()],
        )
        .map(drop)
    }

    fn came(&mut self, worker: &UsageKey, sent_seq: u64) -> Kept<bool> {
        let changed = self.exec(
            "INSERT INTO worker (node, incarnation, worker, usage_acked, sent_seq) VALUES (?1, ?2, ?3, 0, ?4)
             ON CONFLICT (node, incarnation, worker) DO UPDATE SET sent_seq = excluded.sent_seq
             WHERE excluded.sent_seq > sent_seq",
            params![worker.node.as_str(), int(worker.incarnation)?, worker.worker, int(sent_seq)?],
        )?;
        Ok(changed > 0)
    }

    fn put_usage(&mut self, key: &UsageKey, record: &UsageRecord, now: Instant) -> Kept<bool> {
        let tokens = record.tokens.as_ref();
        let number = |value: Option<u64>| value.map(int).transpose();
        let new = self.exec(
            "INSERT INTO usage (node, incarnation, worker, n, account_id, request_id, endpoint, outcome, returned,
                price_version, model, input, cached, output, at, received_at, beyond, basis, cache_written, reasoning,
                images)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)
             ON CONFLICT DO NOTHING",
            params![
                key.node.as_str(),
                int(key.incarnation)?,
                key.worker,
                int(record.n)?,
                record.account.as_str(),
                record.request_id.as_str(),
                record.endpoint.as_str(),
                record.outcome.as_str(),
                record.returned.get(),
                int(record.price_version)?,
                tokens.map(|tokens| tokens.model.as_str()),
                number(tokens.map(|tokens| tokens.input))?,
                number(tokens.map(|tokens| tokens.cached))?,
                number(tokens.map(|tokens| tokens.output))?,
                record.at.micros(),
                now.micros(),
                record.beyond.get(),
                record.basis.map(Basis::as_str),
                number(tokens.map(|tokens| tokens.cache_written))?,
                number(tokens.map(|tokens| tokens.reasoning))?,
                number(tokens.map(|tokens| tokens.images))?,
            ],
        )?;
        if new == 0 {
            return Ok(false);
        }
        let seq = self.db.last_insert_rowid();
        for charge in &record.charges {
            let (grant, generation) = (int(charge.key.grant)?, int(charge.key.generation)?);
            self.exec(
                "INSERT INTO charge (usage_seq, grant_id, generation, amount) VALUES (?1, ?2, ?3, ?4)",
                params![seq, grant, generation, charge.amount.get()],
            )?;
        }
        Ok(true)
    }

    fn usage_begins(&mut self, key: &UsageKey, n: u64) -> Kept<()> {
        self.exec(
            "INSERT INTO worker (node, incarnation, worker, usage_acked) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (node, incarnation, worker) DO UPDATE SET usage_acked = excluded.usage_acked
             WHERE excluded.usage_acked > usage_acked",
            params![key.node.as_str(), int(key.incarnation)?, key.worker, int(n.saturating_sub(1))?],
        )
        .map(drop)
    }

    fn usage_acked(&mut self, key: &UsageKey) -> Kept<u64> {
        self.advance(key)
    }

    fn served_since(&mut self, account: &AccountId, since: Instant) -> Kept<u64> {
        let count = self.one(
            "SELECT count(*) FROM usage WHERE account_id = ?1 AND at >= ?2
                AND outcome IN ('charged', 'client_left', 'broken')",
            params![account.as_str(), since.micros()],
            |row| Columns::of(row).u64(),
        )?;
        Ok(count.unwrap_or(0))
    }

    fn usage(
        &mut self,
        account: Option<&AccountId>,
        request: Option<&RequestId>,
        page: Page,
    ) -> Kept<Vec<Stored<UsageRow>>> {
        self.usage_rows(account, request, page)
    }

    fn usage_days(&mut self, account: &AccountId, page: Page) -> Kept<Vec<u64>> {
        self.days_of_usage(account, page)
    }

    fn usage_sums(&mut self, account: &AccountId, days: Range<u64>, by: SumBy) -> Kept<Vec<UsageSum>> {
        self.sums_of_usage(account, &days, by)
    }

    fn claim(&mut self, key: &ClaimKey) -> Kept<Option<ClaimRow>> {
        self.one(
            "SELECT state, claimant, token, until_at FROM claim
             WHERE endpoint = ?1 AND livemode = ?2 AND account = ?3 AND event_id = ?4",
            params![key.endpoint, key.event.livemode, key.event.account, key.event.id.as_str()],
            |row| {
                let mut c = Columns::of(row);
                let state = c.word(state_of)?;
                Ok(ClaimRow { state, claimant: c.text()?, token: c.text()?, until: c.at()? })
            },
        )
    }

    fn put_claim(&mut self, key: &ClaimKey, claim: &ClaimRow) -> Kept<()> {
        let state = STATES.into_iter().find(|(state, _)| *state == claim.state).map_or("", |(_, word)| word);
        self.exec(
            "INSERT INTO claim (endpoint, livemode, account, event_id, state, claimant, token, until_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (endpoint, livemode, account, event_id) DO UPDATE SET state = excluded.state,
                claimant = excluded.claimant, token = excluded.token, until_at = excluded.until_at",
            params![
                key.endpoint,
                key.event.livemode,
                key.event.account,
                key.event.id.as_str(),
                state,
                claim.claimant,
                claim.token,
                claim.until.micros()
            ],
        )
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Books, Transaction};
    use ledger::subscription::Standing;
    use ledger::{Book, Changes};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    const NOW: Instant = Instant::from_secs(1_795_176_000);

    /// How many steps of SQLite's machine it takes to keep one more record and to acknowledge it.
    fn steps(store: &mut Sqlite, key: &UsageKey, n: u64) -> u64 {
        let record = serde_json::json!({
            "n": n, "request_id": "r", "account": "alice", "endpoint": "chat", "returned": 0, "outcome": "failed",
            "charges": [], "price_version": 1, "at": "2026-11-20T09:30:00Z",
        });
        let record: UsageRecord = serde_json::from_value(record).unwrap();
        let taken = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&taken);
        let handler = move || {
            count.fetch_add(1, Ordering::Relaxed);
            false
        };
        store.db.progress_handler(1, Some(handler)).unwrap();
        assert!(store.put_usage(key, &record, NOW).unwrap());
        assert_eq!(store.usage_acked(key).unwrap(), n);
        store.db.progress_handler(0, None::<fn() -> bool>).unwrap();
        taken.load(Ordering::Relaxed)
    }

    #[test]
    fn a_record_costs_the_same_however_many_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Sqlite::open(&dir.path().join("x.db")).unwrap();
        let key = UsageKey { node: NodeName::new("n1").unwrap(), incarnation: 1, worker: 1 };
        store.begin().unwrap();
        let book = Book::open(AccountId::new("alice").unwrap(), Standing::none(None));
        store.save(&book, &Changes { account: true, ..Changes::default() }).unwrap();
        let few = (1..=10).map(|n| steps(&mut store, &key, n)).max().unwrap();
        (11..2000).for_each(|n| _ = steps(&mut store, &key, n));
        let many = steps(&mut store, &key, 2000);
        assert!(many < few + few / 2, "{few} steps among 10 records, {many} among 2,000");
        store.commit().unwrap();
    }
}
