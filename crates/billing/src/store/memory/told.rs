//! What explains a balance, and what others are told of, in memory.

use super::{Memory, stale};
use crate::store::{History, Kept, Message, MessageStatus, Outbox, Page, Stored};
use ledger::{CellId, GrantId, HOLD_GENERATION_MIN, JournalKind, Terms};
use std::collections::BTreeMap;
use units::{AccountId, EndpointId, Instant, RequestId};

impl History for Memory {
    fn terms_of_grant(&mut self, grant: GrantId) -> Kept<Option<Terms>> {
        Ok(self.now.grants.get(&grant).map(|(_, grant)| grant.terms.clone()))
    }

    fn journal_sums(&mut self, account: &AccountId, from: u64) -> Kept<Vec<(JournalKind, i64)>> {
        let general = |grant: Option<GrantId>| {
            grant.is_none_or(|id| self.now.grants.get(&id).is_some_and(|(_, grant)| grant.terms.is_general()))
        };
        let mut sums: BTreeMap<JournalKind, i64> = BTreeMap::new();
        let rows = (1_u64..).zip(&self.now.journal);
        for (_, row) in
            rows.filter(|(seq, row)| *seq >= from && row.account == *account && general(row.grant))
        {
            let sum = sums.entry(row.kind).or_default();
            *sum = sum.saturating_add(row.amount.get());
        }
        Ok(sums.into_iter().collect())
    }

    fn request_of_hold(&mut self, cell: &CellId) -> Kept<Option<(RequestId, EndpointId)>> {
        let of = |charge: &contract::v1::Charge| charge.key.generation == cell.generation;
        let mut usage = self.now.usage.iter().filter(|(key, record)| {
            key.node == cell.node
                && key.incarnation == cell.incarnation
                && cell.generation >= HOLD_GENERATION_MIN
                && record.charges.iter().any(of)
        });
        Ok(usage.next().map(|(_, record)| (record.request_id.clone(), record.endpoint.clone())))
    }
}

impl Outbox for Memory {
    fn put_message(&mut self, message: &Message) -> Kept<()> {
        if self.now.outbox.values().any(|known| known.id == message.id) {
            return Err(stale("message"));
        }
        let seq = self.now.outbox_last.saturating_add(1);
        self.now.outbox_last = seq;
        self.now.outbox.insert(seq, message.clone());
        Ok(())
    }

    fn due_messages(&mut self, now: Instant, limit: u32) -> Kept<Vec<Stored<Message>>> {
        let mut due = self.numbered(|message| message.next_at.is_some_and(|at| at <= now));
        due.sort_by_key(|stored| (stored.row.next_at, stored.seq));
        due.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(due)
    }

    fn message_accepted(&mut self, seq: u64) -> Kept<()> {
        self.now.outbox.remove(&seq);
        Ok(())
    }

    fn message_refused(&mut self, seq: u64, error: &str, next: Option<Instant>) -> Kept<()> {
        if let Some(message) = self.now.outbox.get_mut(&seq) {
            message.attempts = message.attempts.saturating_add(1);
            message.last_error = Some(error.to_owned());
            message.next_at = next;
        }
        Ok(())
    }

    fn messages_waiting(&mut self) -> Kept<u64> {
        let waiting = self.numbered(|message| message.status() == MessageStatus::Waiting);
        Ok(u64::try_from(waiting.len()).unwrap_or(u64::MAX))
    }

    fn forget_dead_messages(&mut self, keep: u32) -> Kept<()> {
        let dead = self.numbered(|message| message.status() == MessageStatus::Dead);
        for old in dead.iter().rev().skip(usize::try_from(keep).unwrap_or(usize::MAX)) {
            self.now.outbox.remove(&old.seq);
        }
        Ok(())
    }

    fn messages(&mut self, status: Option<MessageStatus>, page: Page) -> Kept<Vec<Stored<Message>>> {
        let mut found = self.numbered(|message| status.is_none_or(|status| message.status() == status));
        found.retain(|stored| page.before.is_none_or(|before| stored.seq < before));
        found.reverse();
        found.truncate(usize::try_from(page.limit).unwrap_or(usize::MAX));
        Ok(found)
    }
}

impl Memory {
    /// Messages with their numbers, oldest first.
    fn numbered(&self, keep: impl Fn(&Message) -> bool) -> Vec<Stored<Message>> {
        let kept = self.now.outbox.iter().filter(|(_, message)| keep(message));
        kept.map(|(seq, message)| Stored { seq: *seq, row: message.clone() }).collect()
    }
}
