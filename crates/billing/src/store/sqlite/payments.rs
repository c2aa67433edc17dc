//! What was told of payments, in SQLite.

use super::super::{FactRow, Kept, Payments};
use super::Sqlite;
use super::books::{GRANT, grant_row};
use super::read::Columns;
use ledger::{Grant, GrantId};
use rusqlite::params;
use units::AccountId;

impl Payments for Sqlite {
    fn payment_fact(&mut self, id: &str) -> Kept<Option<FactRow>> {
        self.one("SELECT account_id, package, body FROM payment_fact WHERE id = ?1", [id], |row| {
            let mut c = Columns::of(row);
            Ok(FactRow { account: c.maybe_id()?, package: c.maybe_text()?, body: c.text()? })
        })
    }

    fn put_payment_fact(&mut self, id: &str, row: &FactRow) -> Kept<()> {
        self.exec(
            "INSERT INTO payment_fact (id, account_id, package, body) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET account_id = excluded.account_id, package = excluded.package,
                body = excluded.body",
            params![id, row.account.as_ref().map(AccountId::as_str), row.package, row.body],
        )
        .map(drop)
    }

    fn payments_for(&mut self, account: &AccountId, package: &str) -> Kept<Vec<String>> {
        let statement = "SELECT id FROM payment_fact WHERE account_id = ?1 AND package = ?2 ORDER BY id";
        self.all(statement, [account.as_str(), package], |row| Columns::of(row).text())
    }

    fn grants_of_invoice(&mut self, account: &AccountId, invoice: &str) -> Kept<Vec<(GrantId, Grant)>> {
        // A range, since the index knows no prefixes: `;` follows `:`.
        let [plan, refill] =
            ["plan", "refill"].map(|kind| (format!("{kind}:{invoice}:"), format!("{kind}:{invoice};")));
        let upgrade = format!("upgrade:{invoice}");
        let statement = format!(
            "SELECT {GRANT} WHERE account_id = ?1 AND unit = 'credits' AND source = 'subscription'
             AND (source_ref >= ?2 AND source_ref < ?3 OR source_ref >= ?4 AND source_ref < ?5 OR source_ref = ?6)
             ORDER BY id"
        );
        let params = params![account.as_str(), plan.0, plan.1, refill.0, refill.1, upgrade];
        self.all(&statement, params, grant_row)
    }
}
