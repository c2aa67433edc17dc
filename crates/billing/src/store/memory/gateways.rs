//! What gateways told, in memory.

use super::{Memory, paged};
use crate::store::{
    ClaimKey, ClaimRow, Gateways, GrantCharge, Kept, Page, Stored, SumBy, UsageKey, UsageRow, UsageSum,
};
use contract::v1::{Outcome, UsageRecord};
use ledger::GrantId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use units::{AccountId, Instant, NodeName, RequestId, Unit};

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
        let new = sent_seq > *last;
        *last = sent_seq.max(*last);
        Ok(new)
    }

    fn put_usage(&mut self, key: &UsageKey, record: &UsageRecord, _: Instant) -> Kept<bool> {
        let known = self.now.usage.iter().any(|(of, known)| of == key && known.n == record.n);
        if !known {
            self.now.usage.push((key.clone(), record.clone()));
        }
        Ok(!known)
    }

    fn usage_begins(&mut self, key: &UsageKey, n: u64) -> Kept<()> {
        let first = self.now.usage_begins.entry(key.clone()).or_insert(1);
        *first = n.max(*first);
        Ok(())
    }

    fn usage_acked(&mut self, key: &UsageKey) -> Kept<u64> {
        let first = self.now.usage_begins.get(key).copied().unwrap_or(1);
        let all = self.now.usage.iter().filter(|(of, _)| of == key).map(|(_, record)| record.n);
        let all: BTreeSet<u64> = all.filter(|n| *n >= first).collect();
        let run = (first..).zip(all).take_while(|(n, found)| n == found).last();
        Ok(run.map_or(first.saturating_sub(1), |(n, _)| n))
    }

    fn served_since(&mut self, account: &AccountId, since: Instant) -> Kept<u64> {
        let served = |outcome| !matches!(outcome, Outcome::Failed | Outcome::NotForwarded);
        let counts =
            |record: &UsageRecord| record.account == *account && record.at >= since && served(record.outcome);
        Ok(self.now.usage.iter().map(|(_, record)| record).filter(|record| counts(record)).count() as u64)
    }

    fn usage(
        &mut self,
        account: Option<&AccountId>,
        request: Option<&RequestId>,
        page: Page,
    ) -> Kept<Vec<Stored<UsageRow>>> {
        let found = paged(&self.now.usage, page, |(_, record)| {
            account.is_none_or(|account| record.account == *account)
                && request.is_none_or(|request| record.request_id == *request)
        });
        Ok(found
            .into_iter()
            .map(|stored| Stored { seq: stored.seq, row: self.shown(&stored.row.1) })
            .collect())
    }

    fn usage_days(&mut self, account: &AccountId, page: Page) -> Kept<Vec<u64>> {
        let own = self.now.usage.iter().filter(|(_, record)| record.account == *account);
        let days: BTreeSet<u64> = own.map(|(_, record)| day_of(record.at)).collect();
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let older = days.into_iter().rev().filter(|day| page.before.is_none_or(|before| *day < before));
        Ok(older.take(limit).collect())
    }

    fn usage_sums(&mut self, account: &AccountId, days: Range<u64>, by: SumBy) -> Kept<Vec<UsageSum>> {
        let mut sums: BTreeMap<(Reverse<Option<u64>>, Option<String>), UsageSum> = BTreeMap::new();
        let own = self.now.usage.iter().map(|(_, record)| record).filter(|record| record.account == *account);
        for record in own.filter(|record| days.contains(&day_of(record.at))) {
            let row = self.shown(record);
            let day = by.day.then(|| day_of(row.at));
            let model = row.used.as_ref().filter(|_| by.model).map(|used| used.model.clone());
            let sum = sums.entry((Reverse(day), model.clone())).or_default();
            (sum.day, sum.model) = (day, model);
            let add = |to: &mut u64, n: u64| *to = to.saturating_add(n).min(UsageSum::MOST);
            add(
                &mut sum.requests,
                u64::from(!matches!(record.outcome, Outcome::Failed | Outcome::NotForwarded)),
            );
            if let Some(used) = &row.used {
                add(&mut sum.input, used.input);
                add(&mut sum.cached, used.cached);
                add(&mut sum.cache_written, used.cache_written);
                add(&mut sum.output, used.output);
                add(&mut sum.reasoning, used.reasoning);
                add(&mut sum.images, used.images);
            }
            add(&mut sum.charged_micro, row.charged(Unit::Credits).get().unsigned_abs());
            add(&mut sum.charged_requests, row.charged(Unit::Requests).get().unsigned_abs());
        }
        Ok(sums.into_values().collect())
    }

    fn claim(&mut self, key: &ClaimKey) -> Kept<Option<ClaimRow>> {
        Ok(self.now.claims.get(key).cloned())
    }

    fn put_claim(&mut self, key: &ClaimKey, claim: &ClaimRow) -> Kept<()> {
        self.now.claims.insert(key.clone(), claim.clone());
        Ok(())
    }
}

impl Memory {
    fn shown(&self, record: &UsageRecord) -> UsageRow {
        let charge = |charge: &contract::v1::Charge| {
            let grant = GrantId(charge.key.grant);
            let unit = self.now.grants.get(&grant).map(|(_, row)| row.terms.unit)?;
            Some(GrantCharge { grant, unit, amount: charge.amount })
        };
        let mut charges: Vec<_> = record.charges.iter().filter_map(charge).collect();
        charges.sort_by_key(|charge| charge.grant);
        UsageRow {
            account: record.account.clone(),
            request_id: record.request_id.clone(),
            endpoint: record.endpoint.clone(),
            outcome: record.outcome.as_str().to_owned(),
            charges,
            beyond: record.beyond,
            basis: record.basis.map(|basis| basis.as_str().to_owned()),
            used: record.tokens.clone(),
            at: record.at,
        }
    }
}

/// Days since 1970; a clock that is before it stands still.
fn day_of(at: Instant) -> u64 {
    at.secs().unsigned_abs().checked_div(86_400).filter(|_| at.secs() > 0).unwrap_or(0)
}
