//! What gateways told, in memory.

use super::{Memory, paged};
use crate::store::{ClaimKey, ClaimRow, Gateways, Kept, Page, Stored, UsageKey, UsageRow};
use contract::v1::{Outcome, UsageRecord};
use ledger::GrantId;
use units::{AccountId, Instant, NodeName, Unit};

impl Gateways for Memory {
    fn incarnation(&mut self, node: &NodeName) -> Kept<u64> {
        Ok(self.now.nodes.get(node).copied().unwrap_or(0))
    }

    fn put_incarnation(&mut self, node: &NodeName, incarnation: u64, _: Instant) -> Kept<()> {
        let known = self.now.nodes.entry(node.clone()).or_default();
        *known = incarnation.max(*known);
        Ok(())
    }

    fn came(&mut self, worker: &UsageKey, sent_seq: u64) -> Kept<bool> {
        let last = self.now.syncs.entry(worker.clone()).or_default();
        *last = sent_seq.max(*last);
        Ok(*last == sent_seq)
    }

    fn put_usage(&mut self, key: &UsageKey, record: &UsageRecord, _: Instant) -> Kept<bool> {
        let known = self.now.usage.iter().any(|(of, known)| of == key && known.n == record.n);
        if !known {
            self.now.usage.push((key.clone(), record.clone()));
        }
        Ok(!known)
    }

    fn usage_acked(&mut self, key: &UsageKey) -> Kept<u64> {
        let mut all: Vec<_> = self.now.usage.iter().filter(|(of, _)| of == key).map(|(_, r)| r.n).collect();
        all.sort_unstable();
        Ok((1_u64..).zip(all).take_while(|(n, found)| n == found).last().map_or(0, |(n, _)| n))
    }

    fn served_since(&mut self, account: &AccountId, since: Instant) -> Kept<u64> {
        let served = |outcome| !matches!(outcome, Outcome::Failed | Outcome::NotForwarded);
        let counts =
            |record: &UsageRecord| record.account == *account && record.at >= since && served(record.outcome);
        Ok(self.now.usage.iter().map(|(_, record)| record).filter(|record| counts(record)).count() as u64)
    }

    fn usage(&mut self, account: &AccountId, page: Page) -> Kept<Vec<Stored<UsageRow>>> {
        let found = paged(self.now.usage.iter(), page, |(_, record)| record.account == *account);
        let charged = |record: &UsageRecord, unit: Unit| {
            let of = |grant| self.now.grants.get(&GrantId(grant)).is_some_and(|(_, g)| g.terms.unit == unit);
            let amounts = record.charges.iter().filter(|charge| of(charge.key.grant));
            amounts.map(|charge| u64::try_from(charge.amount.get()).unwrap_or(0)).sum()
        };
        let shown = |record: &UsageRecord| UsageRow {
            request_id: record.request_id.clone(),
            endpoint: record.endpoint.clone(),
            outcome: record.outcome.as_str().to_owned(),
            charged_micro: charged(record, Unit::Credits),
            charged_requests: charged(record, Unit::Requests),
            model: record.tokens.as_ref().map(|tokens| tokens.model.clone()),
            tokens: record.tokens.as_ref().map(|tokens| (tokens.input, tokens.output)),
            at: record.at,
        };
        Ok(found.into_iter().map(|stored| Stored { seq: stored.seq, row: shown(&stored.row.1) }).collect())
    }

    fn claim(&mut self, key: &ClaimKey) -> Kept<Option<ClaimRow>> {
        Ok(self.now.claims.get(key).cloned())
    }

    fn put_claim(&mut self, key: &ClaimKey, claim: &ClaimRow) -> Kept<()> {
        self.now.claims.insert(key.clone(), claim.clone());
        Ok(())
    }
}
