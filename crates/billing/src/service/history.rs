//! The journal as it is shown: a page of it with what was left after each line, and the whole of it as an explanation.

use super::accounts::{Counters, counters};
use super::explain::{Told, change};
use crate::engine::Work;
use crate::error::{Error, Invalid};
use crate::store::{Page, Store, Stored};
use ledger::{Book, Grant, GrantId, JournalEntry, JournalKind, Terms};
use serde::Serialize;
use std::collections::BTreeMap;
use units::{AccountId, EndpointId, Instant, RequestId, Unit, signed_credits};

/// A line of the journal as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    seq: u64,
    at: Instant,
    account: AccountId,
    kind: &'static str,
    text: String,
    #[serde(flatten)]
    amount: Counters,
    /// What was left after it, holds aside; absent where lines of several accounts are shown, or of one request.
    balance: Option<String>,
    balance_micro: Option<i64>,
    grant: Option<String>,
    note: Option<String>,
}

/// True for what a customer understands: not for the comings and goings of holds, which change nothing that is owned.
const fn is_for_customers(kind: JournalKind) -> bool {
    use JournalKind::{Leased, Returned, VoidClaimed, VoidReleased};
    !matches!(kind, Leased | Returned | VoidClaimed | VoidReleased)
}

/// Lines of the journal that are read at a time at least for a page of a customer's history.
const HISTORY_ROWS: u32 = 100;

/// What stands around the lines of a page, each looked up once.
#[derive(Default)]
struct Around {
    terms: BTreeMap<GrantId, Option<Terms>>,
    notes: BTreeMap<GrantId, Option<String>>,
}

impl Around {
    fn look_up(&mut self, store: &mut dyn Store, entry: &JournalEntry) -> Result<(), Error> {
        let Some(grant) = entry.grant else { return Ok(()) };
        if let std::collections::btree_map::Entry::Vacant(slot) = self.terms.entry(grant) {
            slot.insert(store.terms_of_grant(grant)?);
        }
        // Why a grant was made stands with its first line.
        if entry.kind == JournalKind::Granted && !self.notes.contains_key(&grant) {
            self.notes.insert(grant, store.note(grant)?);
        }
        Ok(())
    }

    fn told<'a>(&'a self, entry: &'a JournalEntry, request: Option<&'a (RequestId, EndpointId)>) -> Told<'a> {
        let terms = entry.grant.and_then(|grant| self.terms.get(&grant)?.as_ref());
        let granted = entry.grant.filter(|_| entry.kind == JournalKind::Granted);
        let note = granted.and_then(|grant| self.notes.get(&grant)?.as_deref());
        Told { entry, terms, note, request }
    }
}

fn request(store: &mut dyn Store, entry: &JournalEntry) -> Result<Option<(RequestId, EndpointId)>, Error> {
    use JournalKind::{DebtUp, LateCovered, ShortCovered, Used};
    let charges = matches!(entry.kind, Used | LateCovered | ShortCovered | DebtUp);
    let cell = entry.cell.as_ref().filter(|cell| charges && cell.is_hold());
    cell.map_or(Ok(None), |cell| store.request_of_hold(cell))
}

/// A page of the journal, newest first. Where it is one account's, each line has what was left after it: reckoned back from
/// what the account owns now, so that a page costs what it shows and what is newer. Where it is one request's, what else
/// happened between its lines is not shown, nor what was left.
///
/// # Errors
/// [`Error::Store`].
pub fn transactions(
    work: &mut Work<'_>,
    account: Option<&AccountId>,
    request: Option<&RequestId>,
    page: Page,
) -> Result<Vec<Stored<Entry>>, Error> {
    let rows = rows(work.store, account, request, page)?;
    shown(work, account.filter(|_| request.is_none()), page, rows)
}

/// The same for the customer whose account it is: only lines that they understand. A page is full of those, whatever lies
/// between, unless there are no more.
///
/// # Errors
/// [`Error::Store`].
pub fn history(
    work: &mut Work<'_>,
    account: &AccountId,
    request: Option<&RequestId>,
    page: Page,
) -> Result<Vec<Stored<Entry>>, Error> {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let (mut found, mut before) = (Vec::new(), page.before);
    while found.len() < limit {
        let next =
            rows(work.store, Some(account), request, Page { before, limit: page.limit.max(HISTORY_ROWS) })?;
        let Some(last) = next.last() else { break };
        before = Some(last.seq);
        found.extend(next.into_iter().filter(|stored| is_for_customers(stored.row.kind)));
    }
    found.truncate(limit);
    shown(work, Some(account).filter(|_| request.is_none()), page, found)
}

fn rows(
    store: &mut dyn Store,
    account: Option<&AccountId>,
    request: Option<&RequestId>,
    page: Page,
) -> Result<Vec<Stored<JournalEntry>>, Error> {
    match request {
        Some(request) => store.journal_of_request(account, request, page),
        None => store.journal(account, page),
    }
}

/// Lines of a page in words; where it is the whole journal of an account, or all of it that changes what it owns, with what
/// was left.
fn shown(
    work: &mut Work<'_>,
    whole: Option<&AccountId>,
    page: Page,
    rows: Vec<Stored<JournalEntry>>,
) -> Result<Vec<Stored<Entry>>, Error> {
    let mut left =
        whole.map(|account| left_before(work.store, account, page, work.now)).transpose()?.flatten();
    let (mut around, mut shown) = (Around::default(), Vec::with_capacity(rows.len()));
    for Stored { seq, row } in rows {
        around.look_up(work.store, &row)?;
        let request = self::request(work.store, &row)?;
        let told = around.told(&row, request.as_ref());
        let (text, note) = (told.text(), told.note.map(str::to_owned));
        // What is about no grant is about debt, which is in credits.
        let unit = told.terms.map_or(Unit::Credits, |terms| terms.unit);
        let (balance_micro, changed) = (left, told.change());
        left = left.map(|left| left.saturating_sub(changed));
        let JournalEntry { at, account, amount, kind: of, grant, .. } = row;
        let entry = Entry {
            seq,
            at,
            account,
            kind: of.as_str(),
            text,
            amount: counters(unit, [("amount", amount)]),
            balance: balance_micro.map(signed_credits),
            balance_micro,
            grant: grant.map(|grant| grant.0.to_string()),
            note,
        };
        shown.push(Stored { seq, row: entry });
    }
    Ok(shown)
}

/// What an account owned after the newest line of a page; `None` if there is no such account.
fn left_before(
    store: &mut dyn Store,
    account: &AccountId,
    page: Page,
    now: Instant,
) -> Result<Option<i64>, Error> {
    let Some(book) = store.load(account, &[], now)? else { return Ok(None) };
    let newer = page.before.map_or(Ok(Vec::new()), |before| store.journal_sums(account, before))?;
    let newer = newer.into_iter().fold(0_i64, |sum, (kind, micro)| sum.saturating_add(change(kind, micro)));
    Ok(Some(owned(&book).saturating_sub(newer)))
}

/// What an account owns: what is available or lent, minus what it owes.
pub(super) fn owned(book: &Book) -> i64 {
    let parts = general(book).flat_map(|grant| [grant.avail, grant.leased]);
    parts.fold(book.account.debt.get().saturating_neg(), |sum, part| sum.saturating_add(part.get()))
}

fn general(book: &Book) -> impl Iterator<Item = &Grant> {
    book.grants.values().filter(|grant| grant.terms.is_general())
}

/// Why a balance is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Every line that says something about credits, oldest first.
    pub lines: Vec<ExplainedLine>,
    /// The balance as it is shown, in micro-credits: that of the last line.
    pub balance_micro: i64,
}

/// One line of an explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedLine {
    /// When.
    pub at: Instant,
    /// By how many micro-credits the balance moved.
    pub change: i64,
    /// What it was afterwards.
    pub balance: i64,
    /// What happened.
    pub text: String,
}

/// Explains a balance from the journal alone, from nothing, and then compares it with the book.
///
/// # Errors
/// [`Invalid::NotFound`]; [`Error::Bug`] if the journal does not come to what the book says.
pub fn explain(store: &mut dyn Store, account: &AccountId, now: Instant) -> Result<Explained, Error> {
    let book = store.load(account, &[], now)?;
    let book = book.ok_or_else(|| Invalid::NotFound.because(format!("There is no account {account}.")))?;
    let (mut around, mut lines, mut balance) = (Around::default(), Vec::new(), 0_i64);
    for entry in whole_journal(store, account)? {
        around.look_up(store, &entry)?;
        let request = request(store, &entry)?;
        let told = around.told(&entry, request.as_ref());
        let change = told.change();
        balance = balance.saturating_add(change);
        let says = change != 0
            || matches!(entry.kind, JournalKind::Repaid | JournalKind::Suspended | JournalKind::Resumed);
        if says {
            lines.push(ExplainedLine { at: entry.at, change, balance, text: told.text() });
        }
    }
    let (owned, shown) = (owned(&book), book.balance(now).map_err(|bug| Error::Bug(bug.to_string()))?);
    if owned != balance {
        let (journal, book) = (signed_credits(balance), signed_credits(owned));
        return Err(Error::Bug(format!("the journal of {account} comes to {journal}, its book to {book}")));
    }
    let of = |keep: &dyn Fn(&Grant) -> bool| {
        let parts = general(&book).filter(|grant| keep(grant)).map(|grant| grant.avail.get());
        parts.fold(0_i64, i64::saturating_add)
    };
    for (micro, text) in [
        (shown.held.get(), "is held for requests in flight"),
        (of(&|grant| grant.terms.starts_at > now), "may be spent later, not yet"),
        (of(&|grant| grant.terms.expires_at <= now), "has expired, and is entered at the next sweep"),
    ] {
        if micro != 0 {
            balance = balance.saturating_sub(micro);
            let text = format!("{} {text}", signed_credits(micro));
            lines.push(ExplainedLine { at: now, change: micro.saturating_neg(), balance, text });
        }
    }
    if balance != shown.shown() {
        let (journal, book) = (signed_credits(balance), signed_credits(shown.shown()));
        return Err(Error::Bug(format!("{account} is explained as {journal}, and shown as {book}")));
    }
    Ok(Explained { lines, balance_micro: balance })
}

/// Oldest first.
fn whole_journal(store: &mut dyn Store, account: &AccountId) -> Result<Vec<JournalEntry>, Error> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let rows = store.journal(Some(account), Page { before, limit: 1_000 })?;
        let Some(last) = rows.last() else { break };
        before = Some(last.seq);
        all.extend(rows.into_iter().map(|stored| stored.row));
    }
    all.reverse();
    Ok(all)
}
