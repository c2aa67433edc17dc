//! Usage as it is shown and summed up, in SQLite.

use super::super::{GrantCharge, Kept, Page, Stored, SumBy, UsageRow, UsageSum};
use super::Sqlite;
use super::books::{before, unit_of};
use super::read::{Columns, int};
use contract::v1::Tokens;
use ledger::GrantId;
use rusqlite::{Row, params};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use units::{AccountId, RequestId, Unit};

/// Microseconds of a day.
const DAY: u64 = 86_400_000_000;
/// A sum of numbers up to 2^53 overflows what SQLite can say, and is an error there: their upper and lower bits are summed.
const LOWER_BITS: u32 = 26;

fn usage_row(row: &Row<'_>) -> rusqlite::Result<Stored<UsageRow>> {
    let mut c = Columns::of(row);
    let (seq, account, request_id, endpoint, outcome) = (c.u64()?, c.id()?, c.id()?, c.id()?, c.text()?);
    let (beyond, basis, at) = (c.amount()?, c.maybe_text()?, c.at()?);
    let model = c.maybe_text()?;
    let mut count = || c.maybe_u64();
    let (input, cached, output) = (count()?, count()?, count()?);
    // Records of an earlier release tell of no more.
    let (cache_written, reasoning, images) = (count()?, count()?, count()?);
    let used = model.zip(input).zip(output).map(|((model, input), output)| Tokens {
        model,
        input,
        cached: cached.unwrap_or(0),
        output,
        cache_written: cache_written.unwrap_or(0),
        reasoning: reasoning.unwrap_or(0),
        images: images.unwrap_or(0),
    });
    let charges = Vec::new();
    let row = UsageRow { account, request_id, endpoint, outcome, charges, beyond, basis, used, at };
    Ok(Stored { seq, row })
}

fn key(sum: &UsageSum) -> (Reverse<Option<u64>>, Option<String>) {
    (Reverse(sum.day), sum.model.clone())
}

impl Sqlite {
    pub(super) fn usage_rows(
        &self,
        account: Option<&AccountId>,
        request: Option<&RequestId>,
        page: Page,
    ) -> Kept<Vec<Stored<UsageRow>>> {
        // Each has its own statement, since one with optional filters would read the whole table.
        let filter = match (account, request) {
            (Some(_), None) => "account_id = ?1 AND ?2 IS NULL",
            (Some(_), Some(_)) => "account_id = ?1 AND request_id = ?2",
            (None, Some(_)) => "?1 IS NULL AND request_id = ?2",
            (None, None) => "?1 IS NULL AND ?2 IS NULL",
        };
        let statement = format!(
            "SELECT seq, account_id, request_id, endpoint, outcome, beyond, basis, at, model, input, cached, output,
                cache_written, reasoning, images
             FROM usage WHERE {filter} AND seq < ?3 ORDER BY seq DESC LIMIT ?4"
        );
        let params =
            params![account.map(AccountId::as_str), request.map(RequestId::as_str), before(page), page.limit];
        let mut rows = self.all(&statement, params, usage_row)?;
        for Stored { seq, row } in &mut rows {
            row.charges = self.all(
                "SELECT c.grant_id, g.unit, c.amount FROM charge c JOIN grants g ON g.id = c.grant_id
                 WHERE c.usage_seq = ?1 ORDER BY c.grant_id",
                [int(*seq)?],
                |row| {
                    let mut c = Columns::of(row);
                    Ok(GrantCharge { grant: GrantId(c.u64()?), unit: c.word(unit_of)?, amount: c.amount()? })
                },
            )?;
        }
        Ok(rows)
    }

    pub(super) fn days_of_usage(&self, account: &AccountId, page: Page) -> Kept<Vec<u64>> {
        let (mut days, mut before) = (Vec::new(), page.before.map(|day| day.saturating_mul(DAY)));
        while u32::try_from(days.len()).is_ok_and(|count| count < page.limit) {
            // One step in the index for each day, however much was used on it.
            let newest = self.one(
                "SELECT max(at) FROM usage WHERE account_id = ?1 AND at < ?2",
                params![account.as_str(), i64::try_from(before.unwrap_or(u64::MAX)).unwrap_or(i64::MAX)],
                |row| Columns::of(row).maybe_at(),
            )?;
            let Some(newest) = newest.flatten() else { break };
            let day = u64::try_from(newest.micros()).unwrap_or(0).checked_div(DAY).unwrap_or(0);
            days.push(day);
            if day == 0 {
                break; // All that is earlier is of this day too.
            }
            before = Some(day.saturating_mul(DAY));
        }
        Ok(days)
    }

    pub(super) fn sums_of_usage(
        &self,
        account: &AccountId,
        days: &Range<u64>,
        by: SumBy,
    ) -> Kept<Vec<UsageSum>> {
        let first = i64::try_from(days.start.saturating_mul(DAY)).unwrap_or(i64::MAX);
        // A clock before 1970 stands still there.
        let first = if days.start == 0 { i64::MIN } else { first };
        let end = i64::try_from(days.end.saturating_mul(DAY)).unwrap_or(i64::MAX);
        let day = if by.day { format!("max(u.at, 0) / {DAY}") } else { "NULL".to_owned() };
        let model = if by.model { "u.model" } else { "NULL" };
        let of = "u.account_id = ?1 AND u.at >= ?2 AND u.at < ?3";
        let parts = |column: &str| {
            format!(
                "coalesce(sum({column} >> {LOWER_BITS}), 0), coalesce(sum({column} & ((1 << {LOWER_BITS}) - 1)), 0)"
            )
        };
        let columns =
            ["u.input", "u.cached", "u.cache_written", "u.output", "u.reasoning", "u.images", "u.beyond"];
        let columns = columns.map(parts).join(", ");
        let statement = format!(
            "SELECT {day}, {model}, coalesce(sum(u.outcome IN ('charged', 'client_left', 'broken')), 0), {columns}
             FROM usage u WHERE {of} GROUP BY 1, 2"
        );
        let params = params![account.as_str(), first, end];
        let found = self.all(&statement, params, |row| {
            let mut c = Columns::of(row);
            let (day, model, requests) = (c.maybe_u64()?, c.maybe_text()?, c.u64()?);
            let mut next = || Ok::<_, rusqlite::Error>(whole(c.u64()?, c.u64()?));
            let (input, cached, cache_written) = (next()?, next()?, next()?);
            let (output, reasoning, images, charged_micro) = (next()?, next()?, next()?, next()?);
            let charged_requests = 0;
            let tokens =
                UsageSum { day, model, requests, input, cached, cache_written, ..UsageSum::default() };
            Ok(UsageSum { output, reasoning, images, charged_micro, charged_requests, ..tokens })
        })?;
        let mut sums: BTreeMap<_, _> = found.into_iter().map(|sum| (key(&sum), sum)).collect();
        let amount = parts("c.amount");
        let statement = format!(
            "SELECT {day}, {model}, g.unit, {amount} FROM usage u JOIN charge c ON c.usage_seq = u.seq
             JOIN grants g ON g.id = c.grant_id WHERE {of} GROUP BY 1, 2, 3"
        );
        let charged = self.all(&statement, params![account.as_str(), first, end], |row| {
            let mut c = Columns::of(row);
            let (day, model, unit) = (c.maybe_u64()?, c.maybe_text()?, c.word(unit_of)?);
            Ok((UsageSum { day, model, ..UsageSum::default() }, unit, whole(c.u64()?, c.u64()?)))
        })?;
        for (of, unit, amount) in charged {
            let sum = sums.entry(key(&of)).or_insert(of);
            let to = match unit {
                Unit::Credits => &mut sum.charged_micro,
                Unit::Requests => &mut sum.charged_requests,
            };
            *to = to.saturating_add(amount).min(UsageSum::MOST);
        }
        Ok(sums.into_values().collect())
    }
}

/// Upper and lower bits put together again.
fn whole(upper: u64, lower: u64) -> u64 {
    let upper = upper.saturating_mul(1 << LOWER_BITS);
    upper.saturating_add(lower).min(UsageSum::MOST)
}

#[cfg(test)]
mod tests {
    use super::super::steps::steps;
    use super::*;
    use crate::store::{Books, History};
    use ledger::{CellId, HOLD_GENERATION_MIN};
    use units::NodeName;

    /// One hold of one grant for each request, with two lines in the journal.
    fn hold(store: &Sqlite, n: u64) {
        let generation = HOLD_GENERATION_MIN + n;
        store
            .db
            .execute_batch(&format!(
                "INSERT INTO cell VALUES ('a', 1, 'n1', 1, {generation}, 1, 0, 1, 1, 1, 0, 0, 0, 0, 'closed', 0, 1);
                 INSERT INTO journal (at, account_id, grant_id, node, incarnation, generation, kind, amount)
                    VALUES (0, 'a', 1, 'n1', 1, {generation}, 'leased', 1), (0, 'a', 1, 'n1', 1, {generation}, 'used', 1);
                 INSERT INTO usage (seq, node, incarnation, worker, n, account_id, request_id, endpoint, outcome, returned,
                    price_version, at, received_at)
                    VALUES ({n}, 'n1', 1, 1, {n}, 'a', 'r-{n}', 'chat', 'charged', 0, 1, 0, 0);
                 INSERT INTO charge VALUES ({n}, 1, {generation}, 1);"
            ))
            .unwrap();
    }

    #[test]
    fn a_request_is_found_in_the_journal_as_fast_among_many() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Sqlite::open(&dir.path().join("x.db")).unwrap();
        store
            .db
            .execute_batch(
                "INSERT INTO account VALUES ('a', NULL, 'active', NULL, NULL, NULL, NULL, 0, 0, 0, 0, 1);
                 INSERT INTO grants (id, account_id, unit, scope, source, source_ref, priority, starts_at, expires_at, amount,
                    avail, leased, used, expired, voided, void_claim, clawed, ver)
                    VALUES (1, 'a', 'credits', '', 'purchase', 'x', 0, 0, 9, 9, 9, 0, 0, 0, 0, 0, 0, 1);",
            )
            .unwrap();
        let look = |store: &mut Sqlite| {
            let request = RequestId::new("r-5").unwrap();
            let lines = steps(store, |store| {
                let page = Page { before: None, limit: 10 };
                assert_eq!(store.journal_of_request(None, &request, page).unwrap().len(), 2);
            });
            let node = NodeName::new("n1").unwrap();
            let cell =
                CellId { grant: GrantId(1), node, incarnation: 1, generation: HOLD_GENERATION_MIN + 5 };
            let back = steps(store, |store| {
                assert_eq!(store.request_of_hold(&cell).unwrap().unwrap().0, request);
            });
            [lines, back]
        };
        (1..10).for_each(|n| hold(&store, n));
        let few = look(&mut store);
        (10..500).for_each(|n| hold(&store, n));
        let many = look(&mut store);
        for (few, many) in few.into_iter().zip(many) {
            assert!(many < few * 2, "{few} steps among 10 requests, {many} among 500");
        }
    }
}
