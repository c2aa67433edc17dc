//! What was told of payments, in memory.

use super::super::{FactRow, Kept, Payments};
use super::Memory;
use ledger::{Grant, GrantId, Source};
use units::AccountId;

impl Payments for Memory {
    fn payment_fact(&mut self, id: &str) -> Kept<Option<FactRow>> {
        Ok(self.now.facts.get(id).cloned())
    }

    fn put_payment_fact(&mut self, id: &str, row: &FactRow) -> Kept<()> {
        self.now.facts.insert(id.into(), row.clone());
        Ok(())
    }

    fn payments_for(&mut self, account: &AccountId, package: &str) -> Kept<Vec<String>> {
        let bought =
            |row: &FactRow| row.account.as_ref() == Some(account) && row.package.as_deref() == Some(package);
        Ok(self.now.facts.iter().filter(|(_, row)| bought(row)).map(|(id, _)| id.clone()).collect())
    }

    fn grants_of_invoice(&mut self, account: &AccountId, invoice: &str) -> Kept<Vec<(GrantId, Grant)>> {
        let prefixes = [format!("plan:{invoice}:"), format!("refill:{invoice}:")];
        let upgrade = format!("upgrade:{invoice}");
        let of = |grant: &Grant| {
            let origin = &grant.terms.source_ref;
            let its = *origin == upgrade || prefixes.iter().any(|prefix| origin.starts_with(prefix));
            grant.terms.source == Source::Subscription && its
        };
        let grants = self.now.of(account).filter(|(_, grant)| of(grant));
        Ok(grants.map(|(id, grant)| (id, grant.clone())).collect())
    }
}
