//! A request that its client named and repeats (`Idempotency-Key`): within the time that the catalog sets, all of that name cost
//! together what the dearest of them does.
//!
//! Each is held like any other; the gateway takes what those before it were charged off what it costs. So nobody reads an answer
//! for nothing by leaving the first one early. A name counts within the account of whoever asks, never beyond it: nobody can use
//! up, or learn of, another's.

use super::gateway::generation;
use super::people::Asker;
use super::{Session, Setup};
use crate::engine::Work;
use crate::error::Error;
use crate::store::{Charged, HoldName, RepeatRow};
use contract::v1::{Need, NeedMode, Price, Reason, Repeat, Sync};
use ledger::{Cell, CellId, CellState};
use units::{Amount, Unit};

/// What a request is by its name.
pub(super) enum Verdict {
    /// It has none.
    Unnamed,
    /// The last of its name is under way, or was another request.
    No(Reason),
    /// It is decided like any other.
    Named(Box<Named>),
}

/// What is known of a request that was named.
pub(super) struct Named {
    paid: Charged,
    /// What is to be kept of it if it passes; nothing if that is known already.
    keep: Option<RepeatRow>,
}

impl Named {
    /// What was charged before, in the unit of this price. Between a window's requests and credits there is no rate: where it was
    /// paid in the other one it is one charge already, and this is the whole hold.
    pub(super) fn paid(&self, price: &Price) -> Amount {
        let Charged { credits, requests } = self.paid;
        let (alike, other) = match price.unit {
            Unit::Credits => (credits, requests),
            Unit::Requests => (requests, credits),
        };
        if other.is_zero() { alike } else { alike.max(price.hold) }
    }
}

/// Looks what the request is by its name.
///
/// # Errors
/// [`Error::Store`].
pub(super) fn look(
    session: &mut Session<'_, '_, '_>,
    sync: &Sync,
    need: &Need,
    asker: &Asker,
) -> Result<Verdict, Error> {
    let Some(repeat) = need.repeat.as_ref().filter(|_| need.mode == NeedMode::Hold) else {
        return Ok(Verdict::Unnamed);
    };
    let (node, incarnation) = (sync.node.clone(), sync.incarnation);
    let own = HoldName { node, incarnation, generation: generation(sync, need.id) };
    let named = |paid, keep| Ok(Verdict::Named(Box::new(Named { paid, keep })));
    let first = first(session, repeat, own.clone());
    let Some(row) = session.work.store.repeat(&asker.account, &repeat.key)? else {
        return named(Charged::default(), Some(first));
    };
    let retries = session.setup.catalog.policies.retries;
    let is_own = row.hold == own;
    if !is_own && row.at <= session.work.now.minus(retries.window) {
        return named(Charged::default(), Some(first)); // That was too long ago.
    }
    if row.body != repeat.body {
        return Ok(Verdict::No(Reason::IdempotencyMismatch));
    }
    if is_own {
        return named(row.paid, None); // The answer to it was lost: the ledger knows its hold.
    }
    let cells = session.work.store.cells_of_hold(&row.hold)?;
    if cells.iter().any(|(_, cell)| cell.state != CellState::Closed) {
        return Ok(Verdict::No(Reason::RequestInFlight));
    }
    let paid = charged(session, row.paid, &cells)?;
    if paid == Charged::default() || row.count >= retries.most {
        return named(Charged::default(), Some(first));
    }
    named(paid, Some(RepeatRow { at: row.at, paid, count: row.count.saturating_add(1), ..first }))
}

/// What is kept of the first of a name.
fn first(session: &Session<'_, '_, '_>, repeat: &Repeat, hold: HoldName) -> RepeatRow {
    RepeatRow { body: repeat.body.clone(), hold, at: session.work.now, paid: Charged::default(), count: 0 }
}

/// What was charged before, and on these cells of a hold.
fn charged(
    session: &mut Session<'_, '_, '_>,
    before: Charged,
    cells: &[(CellId, Cell)],
) -> Result<Charged, Error> {
    let mut paid = before;
    for (id, cell) in cells {
        let terms = session.work.store.terms_of_grant(id.grant)?;
        let terms = terms.ok_or_else(|| Error::Bug(format!("the grant {} of a hold is gone", id.grant.0)))?;
        let sum = match terms.unit {
            Unit::Credits => &mut paid.credits,
            Unit::Requests => &mut paid.requests,
        };
        for part in [cell.used, cell.late, cell.short] {
            *sum = sum.checked_add(part).unwrap_or(Amount::MAX);
        }
    }
    Ok(paid)
}

/// Keeps that this need holds for the request of this name.
///
/// # Errors
/// [`Error::Store`].
pub(super) fn keep(
    session: &mut Session<'_, '_, '_>,
    need: &Need,
    asker: &Asker,
    named: &Named,
) -> Result<(), Error> {
    match (&need.repeat, &named.keep) {
        (Some(repeat), Some(row)) => session.work.store.put_repeat(&asker.account, &repeat.key, row),
        _ => Ok(()),
    }
}

/// Rows that are forgotten at a time.
const FORGOTTEN_MAX: u32 = 1_000;

/// True if there are names whose time is over.
///
/// # Errors
/// [`Error::Store`].
pub fn has_old_names(work: &mut Work<'_>, setup: &Setup) -> Result<bool, Error> {
    let until = work.now.minus(setup.catalog.policies.retries.window);
    Ok(work.store.oldest_repeat()?.is_some_and(|oldest| oldest <= until))
}

/// Forgets some of them, the oldest first.
///
/// # Errors
/// [`Error::Store`].
pub fn forget_old_names(work: &mut Work<'_>, setup: &Setup) -> Result<(), Error> {
    let until = work.now.minus(setup.catalog.policies.retries.window);
    work.store.forget_repeats(until, FORGOTTEN_MAX)
}
