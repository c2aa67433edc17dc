//! What is kept, as rows and the questions asked of them; no rule about money lives here.
//!
//! Two stores answer alike: SQLite, and a twin in memory for tests. One suite (`conformance`) holds both to it.

#[cfg(test)]
mod conformance;
mod memory;
mod rows;
mod sqlite;

pub use memory::Memory;
pub use rows::{
    ApiKey, Charged, ClaimKey, ClaimRow, ClaimState, EventKey, EventRow, EventStatus, FactRow, GrantCharge,
    HoldName, Message, MessageStatus, Page, RepeatRow, Stored, SumBy, Tries, UsageKey, UsageRow, UsageSum,
};
pub use sqlite::{Sqlite, private};

use crate::error::Error;
use contract::v1::UsageRecord;
use ledger::subscription::{Paid, Payments as PaidSubscriptions, Subscription, Subscriptions};
use ledger::{Book, Cell, CellId, Changes, Grant, GrantId, JournalEntry, JournalKind, Rows, Terms};
use std::ops::Range;
use units::{AccountId, EndpointId, EventId, Instant, NodeName, RequestId, Subject, TierId};

/// What is found, or why it could not be looked up.
pub type Kept<T> = Result<T, Error>;

/// Everything a command needs.
pub trait Store:
    Transaction + Books + People + Facts + Payments + Gateways + Repeats + History + Outbox + Send
{
}

/// All or nothing. Commands run in savepoints of one transaction.
pub trait Transaction {
    /// Begins a transaction; for a writer, with the lock that only one can have.
    fn begin(&mut self) -> Kept<()>;
    /// Makes it durable. An error means that nothing of it was kept.
    fn commit(&mut self) -> Kept<()>;
    /// Drops it, if there is one.
    fn rollback(&mut self);
    /// Marks a point to come back to.
    fn savepoint(&mut self) -> Kept<()>;
    /// Forgets the point.
    fn release(&mut self) -> Kept<()>;
    /// Comes back to the point and forgets it.
    fn rollback_to(&mut self) -> Kept<()>;
}

/// The ledger's books.
pub trait Books {
    /// The book of an account with everything that [`Book`] asks for and `rows` beyond; `None` for no such account.
    fn load(&mut self, account: &AccountId, rows: &[Rows], now: Instant) -> Kept<Option<Book>>;
    /// Writes what changed of a book. A row that is not the one that was loaded is a bug.
    fn save(&mut self, book: &Book, changes: &Changes) -> Kept<()>;
    /// A number above every grant's.
    fn next_grant(&mut self) -> Kept<u64>;
    /// Whose a grant is.
    fn owner_of_grant(&mut self, grant: GrantId) -> Kept<Option<AccountId>>;
    /// Whose the cells of a hold are, and so who pays.
    fn owner_of_hold(
        &mut self,
        node: &NodeName,
        incarnation: u64,
        generation: u64,
    ) -> Kept<Option<AccountId>>;
    /// Accounts with a grant, a cell or a standing whose time has come, in order of their ids from behind `after`, at most
    /// `limit`.
    fn due(&mut self, now: Instant, after: Option<&AccountId>, limit: u32) -> Kept<Vec<AccountId>>;
    /// Grants of an account of which something is left or is held for a dispute, in burn order.
    fn grants(&mut self, account: &AccountId) -> Kept<Vec<(GrantId, Grant)>>;
    /// The journal of an account (or of all), newest first, from before a cursor.
    fn journal(&mut self, account: Option<&AccountId>, page: Page) -> Kept<Vec<Stored<JournalEntry>>>;
    /// The lines about the cells that requests of this id were charged on; otherwise like `journal`.
    fn journal_of_request(
        &mut self,
        account: Option<&AccountId>,
        request: &RequestId,
        page: Page,
    ) -> Kept<Vec<Stored<JournalEntry>>>;
    /// Why an operator made a grant.
    fn note(&mut self, grant: GrantId) -> Kept<Option<String>>;
    /// Keeps why, once.
    fn put_note(&mut self, grant: GrantId, note: &str) -> Kept<()>;
    /// How many accounts a subscription gives each tier.
    fn subscribers(&mut self) -> Kept<Vec<(TierId, u64)>>;
    /// Marks every standing as stale, since the catalog changed.
    fn stale_standings(&mut self, now: Instant) -> Kept<()>;
}

/// Who is who.
pub trait People {
    /// The account of a subject.
    fn account_of_subject(&mut self, subject: &Subject) -> Kept<Option<AccountId>>;
    /// Binds a subject that is not bound yet.
    fn bind_subject(&mut self, subject: &Subject, account: &AccountId, now: Instant) -> Kept<()>;
    /// The account of a Stripe customer.
    fn account_of_customer(&mut self, customer: &str) -> Kept<Option<AccountId>>;
    /// Binds a customer that is not bound yet.
    fn bind_customer(&mut self, customer: &str, account: &AccountId, now: Instant) -> Kept<()>;
    /// Whose credits this account spends, if not its own.
    fn pool_of(&mut self, account: &AccountId) -> Kept<Option<AccountId>>;
    /// Who spends this account's credits besides itself, in order of their ids.
    fn members(&mut self, pool: &AccountId) -> Kept<Vec<AccountId>>;
    /// Puts an account into a pool, or out of the one that it is in.
    fn put_pool(&mut self, account: &AccountId, pool: Option<&AccountId>, now: Instant) -> Kept<()>;
    /// Keeps a new key.
    fn put_api_key(&mut self, key: &ApiKey) -> Kept<()>;
    /// The key of this digest, revoked or not.
    fn api_key(&mut self, sha256: &str) -> Kept<Option<ApiKey>>;
    /// The keys of an account, revoked or not, in the order in which they were made.
    fn api_keys(&mut self, account: &AccountId) -> Kept<Vec<ApiKey>>;
    /// Revokes a key; its account, or `None` if there is no such key.
    fn revoke_api_key(&mut self, id: &str, now: Instant) -> Kept<Option<AccountId>>;
}

/// What Stripe told, and what operators asked for.
pub trait Facts {
    /// What is known of an account's subscriptions.
    fn subscriptions(&mut self, account: &AccountId) -> Kept<Subscriptions>;
    /// Keeps what is known of one subscription.
    fn put_subscription(&mut self, account: &AccountId, id: &str, subscription: &Subscription) -> Kept<()>;
    /// What was paid for an account's subscriptions.
    fn payments(&mut self, account: &AccountId) -> Kept<PaidSubscriptions>;
    /// Keeps what was paid for one subscription.
    fn put_paid(&mut self, account: &AccountId, subscription: &str, paid: &Paid) -> Kept<()>;
    /// An event by its key.
    fn event(&mut self, key: &EventKey) -> Kept<Option<EventRow>>;
    /// Every event of this id: one, unless connected accounts have theirs.
    fn events_named(&mut self, id: &EventId) -> Kept<Vec<EventRow>>;
    /// Keeps an event, or what became of it since.
    fn put_event(&mut self, event: &EventRow) -> Kept<()>;
    /// Events that wait for something to be known of this customer, oldest first.
    fn waiting_events(&mut self, customer: &str) -> Kept<Vec<EventRow>>;
    /// Events, of one status or all, newest first.
    fn events(&mut self, status: Option<EventStatus>, page: Page) -> Kept<Vec<Stored<EventRow>>>;
    /// How many events there are of each status.
    fn event_counts(&mut self) -> Kept<Vec<(EventStatus, u64)>>;
    /// When the last event arrived.
    fn last_event_at(&mut self) -> Kept<Option<Instant>>;
    /// To whom a payment was credited: one payment is never credited to two accounts.
    fn payee(&mut self, payment: &str) -> Kept<Option<AccountId>>;
    /// Keeps to whom a payment was credited.
    fn put_payee(&mut self, payment: &str, account: &AccountId, now: Instant) -> Kept<()>;
    /// The digest of what was asked with an idempotency key, and the answer.
    fn command(&mut self, key: &str) -> Kept<Option<(String, String)>>;
    /// Keeps an answer.
    fn put_command(&mut self, key: &str, digest: &str, answer: &str, now: Instant) -> Kept<()>;
    /// A setting of the database itself.
    fn meta(&mut self, key: &str) -> Kept<Option<String>>;
    /// Keeps it.
    fn put_meta(&mut self, key: &str, value: &str) -> Kept<()>;
}

/// What became of payments after they were made: refunds, disputes, credit notes.
pub trait Payments {
    /// What was told of a payment or an invoice.
    fn payment_fact(&mut self, id: &str) -> Kept<Option<FactRow>>;
    /// Keeps what is known of it now.
    fn put_payment_fact(&mut self, id: &str, row: &FactRow) -> Kept<()>;
    /// The payments by which an account bought a package.
    fn payments_for(&mut self, account: &AccountId, package: &str) -> Kept<Vec<String>>;
    /// The grants of an account whose origin is an invoice (`plan:{invoice}:…`,
    /// `refill:{invoice}:…`, `upgrade:{invoice}`), whatever is left of them.
    fn grants_of_invoice(&mut self, account: &AccountId, invoice: &str) -> Kept<Vec<(GrantId, Grant)>>;
}

/// What explains a balance.
pub trait History {
    /// What a grant is about, however old it is.
    fn terms_of_grant(&mut self, grant: GrantId) -> Kept<Option<Terms>>;
    /// What the lines of an account's journal with this number or a higher one come to, kind by kind, in
    /// micro-credits; only of general credits.
    fn journal_sums(&mut self, account: &AccountId, from: u64) -> Kept<Vec<(JournalKind, i64)>>;
    /// The request that a hold was for, if its gateway told; none for a lease, which many requests spend from.
    fn request_of_hold(&mut self, cell: &CellId) -> Kept<Option<(RequestId, EndpointId)>>;
}

/// What others are told of.
pub trait Outbox {
    /// Keeps a new message, to be sent when it says.
    fn put_message(&mut self, message: &Message) -> Kept<()>;
    /// Messages whose time has come, the longest due first.
    fn due_messages(&mut self, now: Instant, limit: u32) -> Kept<Vec<Stored<Message>>>;
    /// Forgets a message that was accepted.
    fn message_accepted(&mut self, seq: u64) -> Kept<()>;
    /// Keeps why a message was not accepted, and when it is sent again; never, if absent.
    fn message_refused(&mut self, seq: u64, error: &str, next: Option<Instant>) -> Kept<()>;
    /// How many messages wait.
    fn messages_waiting(&mut self) -> Kept<u64>;
    /// Forgets the oldest of those that were given up, and keeps so many.
    fn forget_dead_messages(&mut self, keep: u32) -> Kept<()>;
    /// Messages of one status or all, newest first.
    fn messages(&mut self, status: Option<MessageStatus>, page: Page) -> Kept<Vec<Stored<Message>>>;
}

/// What gateways told.
pub trait Gateways {
    /// The highest incarnation of a node; 0 if it was never here.
    fn incarnation(&mut self, node: &NodeName) -> Kept<u64>;
    /// Raises it.
    fn put_incarnation(&mut self, node: &NodeName, incarnation: u64, now: Instant) -> Kept<()>;
    /// Keeps that a worker's sync of this number came; false if it came before, or a later one did.
    fn came(&mut self, worker: &UsageKey, sent_seq: u64) -> Kept<bool>;
    /// Keeps a usage record; false if it is there already.
    fn put_usage(&mut self, key: &UsageKey, record: &UsageRecord, now: Instant) -> Kept<bool>;
    /// Keeps that a worker has forgotten its records before this one, since they were acknowledged: they are not waited for.
    fn usage_begins(&mut self, key: &UsageKey, n: u64) -> Kept<()>;
    /// Up to which `n` a worker's records are all here, or not waited for.
    fn usage_acked(&mut self, key: &UsageKey) -> Kept<u64>;
    /// Usage of an account (or of all), of one request or all, newest first.
    fn usage(
        &mut self,
        account: Option<&AccountId>,
        request: Option<&RequestId>,
        page: Page,
    ) -> Kept<Vec<Stored<UsageRow>>>;
    /// The days (since 1970, in UTC) on which an account used something, newest first, from before a day, at most so many.
    fn usage_days(&mut self, account: &AccountId, page: Page) -> Kept<Vec<u64>>;
    /// What an account used from a day to before another, summed up: the newest day first, then models in order of their names,
    /// unknown ones first.
    fn usage_sums(&mut self, account: &AccountId, days: Range<u64>, by: SumBy) -> Kept<Vec<UsageSum>>;
    /// How many requests of an account were served since then, by the gateways' clocks: those of which something was
    /// delivered.
    fn served_since(&mut self, account: &AccountId, since: Instant) -> Kept<u64>;
    /// The claim on an event.
    fn claim(&mut self, key: &ClaimKey) -> Kept<Option<ClaimRow>>;
    /// Keeps what became of it.
    fn put_claim(&mut self, key: &ClaimKey, claim: &ClaimRow) -> Kept<()>;
}

/// Requests that clients named, so that a repetition is charged once.
pub trait Repeats {
    /// What an account's request of this key was.
    fn repeat(&mut self, account: &AccountId, key: &str) -> Kept<Option<RepeatRow>>;
    /// Keeps it, in place of an earlier one.
    fn put_repeat(&mut self, account: &AccountId, key: &str, row: &RepeatRow) -> Kept<()>;
    /// The cells of a hold, closed or not, whoever pays.
    fn cells_of_hold(&mut self, hold: &HoldName) -> Kept<Vec<(CellId, Cell)>>;
    /// When the longest known one began.
    fn oldest_repeat(&mut self) -> Kept<Option<Instant>>;
    /// Forgets those that began then or before, the oldest first, at most so many.
    fn forget_repeats(&mut self, until: Instant, limit: u32) -> Kept<()>;
}
