//! The twin in memory, for tests: the plainest thing that answers every question of [`Store`].

mod gateways;
mod payments;
mod repeats;
mod told;

use super::{
    ApiKey, Books, ClaimKey, ClaimRow, EventKey, EventRow, EventStatus, FactRow, Facts, Kept, Message, Page,
    People, RepeatRow, Store, Stored, Transaction, UsageKey,
};
use crate::error::Error;
use contract::v1::UsageRecord;
use ledger::subscription::{Paid, Payments, Subscription, Subscriptions};
use ledger::{
    Account, Book, Cell, CellId, CellState, Changes, Grant, GrantId, HOLD_GENERATION_MIN, JournalEntry, Rows,
    Source,
};
use std::collections::BTreeMap;
use units::{AccountId, EventId, Instant, NodeName, RequestId, Subject, TierId};

/// Everything, in maps.
#[derive(Default)]
pub struct Memory {
    now: Tables,
    /// What to come back to: the transaction's beginning, then a savepoint.
    marks: Vec<Tables>,
}

#[derive(Clone, Default)]
struct Tables {
    accounts: BTreeMap<AccountId, Account>,
    grants: BTreeMap<GrantId, (AccountId, Grant)>,
    cells: BTreeMap<CellId, Cell>,
    journal: Vec<JournalEntry>,
    notes: BTreeMap<GrantId, String>,
    subjects: BTreeMap<Subject, AccountId>,
    customers: BTreeMap<String, AccountId>,
    pools: BTreeMap<AccountId, AccountId>,
    keys: BTreeMap<String, ApiKey>,
    subscriptions: BTreeMap<String, (AccountId, Subscription)>,
    payments: BTreeMap<AccountId, Payments>,
    events: Vec<EventRow>,
    payees: BTreeMap<String, AccountId>,
    facts: BTreeMap<String, FactRow>,
    commands: BTreeMap<String, (String, String)>,
    meta: BTreeMap<String, String>,
    nodes: BTreeMap<NodeName, u64>,
    syncs: BTreeMap<UsageKey, u64>,
    usage: Vec<(UsageKey, UsageRecord)>,
    usage_begins: BTreeMap<UsageKey, u64>,
    claims: BTreeMap<ClaimKey, ClaimRow>,
    repeats: BTreeMap<(AccountId, String), RepeatRow>,
    outbox: BTreeMap<u64, Message>,
    outbox_last: u64,
}

impl Store for Memory {}

impl Transaction for Memory {
    fn begin(&mut self) -> Kept<()> {
        self.marks = vec![self.now.clone()];
        Ok(())
    }

    fn commit(&mut self) -> Kept<()> {
        self.marks.clear();
        Ok(())
    }

    fn rollback(&mut self) {
        if let Some(first) = self.marks.drain(..).next() {
            self.now = first;
        }
    }

    fn savepoint(&mut self) -> Kept<()> {
        self.marks.push(self.now.clone());
        Ok(())
    }

    fn release(&mut self) -> Kept<()> {
        self.marks.pop();
        Ok(())
    }

    fn rollback_to(&mut self) -> Kept<()> {
        self.now = self.marks.pop().ok_or_else(|| Error::Store("no savepoint".into()))?;
        Ok(())
    }
}

/// Newest first, numbered from 1, cut to the page.
fn paged<T: Clone>(rows: &[T], page: Page, keep: impl Fn(&T) -> bool) -> Vec<Stored<T>> {
    let numbered = rows.iter().enumerate().rev();
    let numbered = numbered.map(|(n, row)| (u64::try_from(n).unwrap_or(u64::MAX).saturating_add(1), row));
    let kept = numbered.filter(|(seq, row)| page.before.is_none_or(|before| *seq < before) && keep(row));
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    kept.take(limit).map(|(seq, row)| Stored { seq, row: row.clone() }).collect()
}

impl Tables {
    fn of<'a>(&'a self, account: &'a AccountId) -> impl Iterator<Item = (GrantId, &'a Grant)> {
        self.grants
            .iter()
            .filter(move |(_, (owner, _))| owner == account)
            .map(|(id, (_, grant))| (*id, grant))
    }

    fn add_cells(&self, book: &mut Book, keep: impl Fn(&CellId, &Cell) -> bool) {
        for (id, cell) in self.cells.iter().filter(|(id, cell)| keep(id, cell)) {
            if let Some((owner, grant)) = self.grants.get(&id.grant)
                && *owner == book.account.id
            {
                book.grants.insert(id.grant, grant.clone());
                book.cells.insert(id.clone(), cell.clone());
            }
        }
    }

    fn add_grants(&self, book: &mut Book, keep: impl Fn(GrantId, &Grant) -> bool) {
        let account = book.account.id.clone();
        let grants = self.of(&account).filter(|(id, grant)| keep(*id, grant));
        book.grants.extend(grants.map(|(id, grant)| (id, grant.clone())));
    }

    fn add_rows(&self, book: &mut Book, rows: &Rows) {
        match rows {
            Rows::Base => {}
            Rows::Origin(origin) => self.add_grants(book, |_, grant| grant.terms.origin() == *origin),
            Rows::Grant(id) => self.add_grants(book, |of, _| of == *id),
            Rows::Cell(cell) => {
                self.add_grants(book, |of, _| of == cell.grant);
                self.add_cells(book, |id, _| id == cell);
            }
            Rows::Hold { node, incarnation, generation } => self.add_cells(book, |id, _| {
                id.node == *node && id.incarnation == *incarnation && id.generation == *generation
            }),
            Rows::Leases { node, incarnation } => {
                for grant in book.grants.keys().copied().collect::<Vec<_>>() {
                    let of = |id: &CellId| {
                        id.grant == grant
                            && id.node == *node
                            && id.incarnation == *incarnation
                            && id.generation < HOLD_GENERATION_MIN
                    };
                    let last = self.cells.keys().filter(|id| of(id)).map(|id| id.generation).max();
                    self.add_cells(book, |id, _| of(id) && Some(id.generation) == last);
                }
            }
        }
    }
}

/// Something of it can be spent, or may come back from a lease or a dispute.
fn has_something(grant: &Grant) -> bool {
    !grant.avail.is_zero() || !grant.leased.is_zero() || !grant.reversed.frozen().is_zero()
}

fn stale(what: &str) -> Error {
    Error::Bug(format!("{what} is not the one that was loaded"))
}

impl Books for Memory {
    fn load(&mut self, account: &AccountId, rows: &[Rows], now: Instant) -> Kept<Option<Book>> {
        let Some(row) = self.now.accounts.get(account) else { return Ok(None) };
        let mut book = Book::open(account.clone(), row.standing.clone());
        book.account = row.clone();
        self.now.add_grants(&mut book, |_, grant| {
            let window = grant.terms.source == Source::Window && grant.terms.expires_at > now;
            has_something(grant) || window
        });
        self.now.add_cells(&mut book, |_, cell| cell.state != CellState::Closed);
        for rows in rows {
            self.now.add_rows(&mut book, rows);
        }
        Ok(Some(book))
    }

    fn save(&mut self, book: &Book, changes: &Changes) -> Kept<()> {
        let t = &mut self.now;
        let id = &book.account.id;
        if changes.account {
            let known = t.accounts.insert(id.clone(), book.account.clone());
            if known.is_some_and(|known| known.ver.checked_add(1) != Some(book.account.ver)) {
                return Err(stale("account"));
            }
        }
        for grant in &changes.grants {
            let row = book.grants.get(grant).ok_or_else(|| stale("grant"))?;
            let known = t.grants.insert(*grant, (id.clone(), row.clone()));
            if known.is_some_and(|(_, known)| known.ver.checked_add(1) != Some(row.ver)) {
                return Err(stale("grant"));
            }
        }
        for cell in &changes.cells {
            let row = book.cells.get(cell).ok_or_else(|| stale("cell"))?;
            let known = t.cells.insert(cell.clone(), row.clone());
            if known.is_some_and(|known| known.ver.checked_add(1) != Some(row.ver)) {
                return Err(stale("cell"));
            }
        }
        t.journal.extend(changes.journal.iter().cloned());
        Ok(())
    }

    fn next_grant(&mut self) -> Kept<u64> {
        Ok(self.now.grants.keys().next_back().map_or(1, |id| id.0.saturating_add(1)))
    }

    fn owner_of_grant(&mut self, grant: GrantId) -> Kept<Option<AccountId>> {
        Ok(self.now.grants.get(&grant).map(|(owner, _)| owner.clone()))
    }

    fn owner_of_hold(&mut self, node: &NodeName, inc: u64, generation: u64) -> Kept<Option<AccountId>> {
        let mut cells = self.now.cells.keys();
        let cell = cells.find(|id| id.node == *node && id.incarnation == inc && id.generation == generation);
        let grant = cell.and_then(|cell| self.now.grants.get(&cell.grant));
        Ok(grant.map(|(owner, _)| owner.clone()))
    }

    fn due(&mut self, now: Instant, after: Option<&AccountId>, limit: u32) -> Kept<Vec<AccountId>> {
        let t = &self.now;
        let cell_due = |id: GrantId| {
            t.cells.iter().any(|(cell, row)| {
                let soft = row.state == CellState::Open && row.soft_at <= now;
                cell.grant == id && (soft || row.state != CellState::Closed && row.hard_at <= now)
            })
        };
        let due = |account: &Account| {
            account.standing.changes_at.is_some_and(|at| at <= now)
                || t.of(&account.id).any(|(id, grant)| {
                    (!grant.avail.is_zero() && grant.terms.expires_at <= now) || cell_due(id)
                })
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(t.accounts
            .values()
            .filter(|account| after.is_none_or(|after| account.id > *after) && due(account))
            .map(|account| account.id.clone())
            .take(limit)
            .collect())
    }

    fn grants(&mut self, account: &AccountId) -> Kept<Vec<(GrantId, Grant)>> {
        let open = self.now.of(account).filter(|(_, grant)| has_something(grant));
        let mut open: Vec<_> = open.map(|(id, grant)| (id, grant.clone())).collect();
        open.sort_by_key(|(id, grant)| (grant.terms.priority, grant.terms.expires_at, *id));
        Ok(open)
    }

    fn journal(&mut self, account: Option<&AccountId>, page: Page) -> Kept<Vec<Stored<JournalEntry>>> {
        Ok(paged(&self.now.journal, page, |entry| account.is_none_or(|account| entry.account == *account)))
    }

    fn journal_of_request(
        &mut self,
        account: Option<&AccountId>,
        request: &RequestId,
        page: Page,
    ) -> Kept<Vec<Stored<JournalEntry>>> {
        let told = self.now.usage.iter().filter(|(_, record)| record.request_id == *request);
        let charged: Vec<_> = told
            .flat_map(|(key, record)| record.charges.iter().map(move |charge| (key, charge.key)))
            .collect();
        let about = |entry: &JournalEntry| {
            entry.cell.as_ref().is_some_and(|cell| {
                charged.iter().any(|(of, key)| {
                    let whose = of.node == cell.node && of.incarnation == cell.incarnation;
                    // What is charged beyond a hold may be another grant's, and is of this request all the same.
                    let grant = cell.is_hold() || entry.grant == Some(GrantId(key.grant));
                    whose && key.generation == cell.generation && grant
                })
            })
        };
        Ok(paged(&self.now.journal, page, |entry| {
            account.is_none_or(|account| entry.account == *account) && about(entry)
        }))
    }

    fn note(&mut self, grant: GrantId) -> Kept<Option<String>> {
        Ok(self.now.notes.get(&grant).cloned())
    }

    fn put_note(&mut self, grant: GrantId, note: &str) -> Kept<()> {
        self.now.notes.entry(grant).or_insert_with(|| note.into());
        Ok(())
    }

    fn subscribers(&mut self) -> Kept<Vec<(TierId, u64)>> {
        let mut count: BTreeMap<TierId, u64> = BTreeMap::new();
        for account in self.now.accounts.values().filter(|account| account.standing.why.is_none()) {
            if let Some(tier) = &account.standing.tier {
                let count = count.entry(tier.clone()).or_default();
                *count = count.saturating_add(1);
            }
        }
        Ok(count.into_iter().collect())
    }

    fn stale_standings(&mut self, now: Instant) -> Kept<()> {
        self.now.accounts.values_mut().for_each(|account| account.standing.changes_at = Some(now));
        Ok(())
    }
}

impl People for Memory {
    fn account_of_subject(&mut self, subject: &Subject) -> Kept<Option<AccountId>> {
        Ok(self.now.subjects.get(subject).cloned())
    }

    fn bind_subject(&mut self, subject: &Subject, account: &AccountId, _: Instant) -> Kept<()> {
        let known = self.now.subjects.insert(subject.clone(), account.clone());
        known.map_or(Ok(()), |_| Err(stale("subject")))
    }

    fn account_of_customer(&mut self, customer: &str) -> Kept<Option<AccountId>> {
        Ok(self.now.customers.get(customer).cloned())
    }

    fn bind_customer(&mut self, customer: &str, account: &AccountId, _: Instant) -> Kept<()> {
        let known = self.now.customers.insert(customer.into(), account.clone());
        known.map_or(Ok(()), |_| Err(stale("customer")))
    }

    fn pool_of(&mut self, account: &AccountId) -> Kept<Option<AccountId>> {
        Ok(self.now.pools.get(account).cloned())
    }

    fn members(&mut self, pool: &AccountId) -> Kept<Vec<AccountId>> {
        let members = self.now.pools.iter().filter(|(_, of)| *of == pool);
        Ok(members.map(|(account, _)| account.clone()).collect())
    }

    fn put_pool(&mut self, account: &AccountId, pool: Option<&AccountId>, _: Instant) -> Kept<()> {
        match pool {
            Some(pool) => drop(self.now.pools.insert(account.clone(), pool.clone())),
            None => drop(self.now.pools.remove(account)),
        }
        Ok(())
    }

    fn put_api_key(&mut self, key: &ApiKey) -> Kept<()> {
        let known = self.now.keys.insert(key.sha256.clone(), key.clone());
        known.map_or(Ok(()), |_| Err(stale("key")))
    }

    fn api_key(&mut self, sha256: &str) -> Kept<Option<ApiKey>> {
        Ok(self.now.keys.get(sha256).cloned())
    }

    fn api_keys(&mut self, account: &AccountId) -> Kept<Vec<ApiKey>> {
        let mut keys: Vec<_> =
            self.now.keys.values().filter(|key| key.account == *account).cloned().collect();
        keys.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(keys)
    }

    fn revoke_api_key(&mut self, id: &str, now: Instant) -> Kept<Option<AccountId>> {
        let key = self.now.keys.values_mut().find(|key| key.id == id);
        Ok(key.map(|key| {
            key.revoked_at = key.revoked_at.or(Some(now));
            key.account.clone()
        }))
    }
}

impl Facts for Memory {
    fn subscriptions(&mut self, account: &AccountId) -> Kept<Subscriptions> {
        let mine = self.now.subscriptions.iter().filter(|(_, (owner, _))| owner == account);
        Ok(Subscriptions(mine.map(|(id, (_, subscription))| (id.clone(), subscription.clone())).collect()))
    }

    fn put_subscription(&mut self, account: &AccountId, id: &str, subscription: &Subscription) -> Kept<()> {
        let row = self.now.subscriptions.entry(id.into());
        row.or_insert_with(|| (account.clone(), subscription.clone())).1 = subscription.clone();
        Ok(())
    }

    fn payments(&mut self, account: &AccountId) -> Kept<Payments> {
        Ok(self.now.payments.get(account).cloned().unwrap_or_default())
    }

    fn put_paid(&mut self, account: &AccountId, subscription: &str, paid: &Paid) -> Kept<()> {
        let mine = self.now.payments.entry(account.clone()).or_default();
        mine.0.insert(subscription.into(), paid.clone());
        Ok(())
    }

    fn event(&mut self, key: &EventKey) -> Kept<Option<EventRow>> {
        Ok(self.now.events.iter().find(|event| event.key == *key).cloned())
    }

    fn events_named(&mut self, id: &EventId) -> Kept<Vec<EventRow>> {
        Ok(self.now.events.iter().filter(|event| event.key.id == *id).cloned().collect())
    }

    fn put_event(&mut self, event: &EventRow) -> Kept<()> {
        match self.now.events.iter_mut().find(|known| known.key == event.key) {
            Some(known) => {
                (known.status, known.detail) = (event.status, event.detail.clone());
                (known.customer, known.to) = (event.customer.clone(), event.to.clone());
                known.tries = event.tries.clone();
            }
            None => self.now.events.push(event.clone()),
        }
        Ok(())
    }

    fn waiting_events(&mut self, customer: &str) -> Kept<Vec<EventRow>> {
        let waits = |event: &&EventRow| event.status.is_open() && event.customer.as_deref() == Some(customer);
        Ok(self.now.events.iter().filter(waits).cloned().collect())
    }

    fn events(&mut self, status: Option<EventStatus>, page: Page) -> Kept<Vec<Stored<EventRow>>> {
        Ok(paged(&self.now.events, page, |event| status.is_none_or(|status| event.status == status)))
    }

    fn event_counts(&mut self) -> Kept<Vec<(EventStatus, u64)>> {
        let mut counts: BTreeMap<EventStatus, u64> = BTreeMap::new();
        for event in &self.now.events {
            let count = counts.entry(event.status).or_default();
            *count = count.saturating_add(1);
        }
        Ok(counts.into_iter().collect())
    }

    fn last_event_at(&mut self) -> Kept<Option<Instant>> {
        Ok(self.now.events.last().map(|event| event.received_at))
    }

    fn payee(&mut self, payment: &str) -> Kept<Option<AccountId>> {
        Ok(self.now.payees.get(payment).cloned())
    }

    fn put_payee(&mut self, payment: &str, account: &AccountId, _: Instant) -> Kept<()> {
        let known = self.now.payees.insert(payment.into(), account.clone());
        known.map_or(Ok(()), |_| Err(stale("payment")))
    }

    fn command(&mut self, key: &str) -> Kept<Option<(String, String)>> {
        Ok(self.now.commands.get(key).cloned())
    }

    fn put_command(&mut self, key: &str, digest: &str, answer: &str, _: Instant) -> Kept<()> {
        let known = self.now.commands.insert(key.into(), (digest.into(), answer.into()));
        known.map_or(Ok(()), |_| Err(stale("command")))
    }

    fn meta(&mut self, key: &str) -> Kept<Option<String>> {
        Ok(self.now.meta.get(key).cloned())
    }

    fn put_meta(&mut self, key: &str, value: &str) -> Kept<()> {
        self.now.meta.insert(key.into(), value.into());
        Ok(())
    }
}
