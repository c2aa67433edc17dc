//! A request that its client named and repeats (`Idempotency-Key`): one charge within the time that the catalog sets.
//!
//! A name counts within the account of whoever asks, never beyond it: nobody can use up, or learn of, another's.

use super::gateway::generation;
use super::people::Asker;
use super::{Session, Setup};
use crate::engine::Work;
use crate::error::Error;
use crate::store::{HoldName, RepeatRow};
use contract::v1::{Need, NeedMode, Price, Reason, Repeat, Sync};
use ledger::{Cell, CellId, CellState};
use units::{Amount, Unit};

/// What a named request is.
pub(super) enum Verdict {
    /// Unnamed, or its own first, or what came of the first was nothing: it is decided like any other.
    New,
    /// The first one is under way, or was another request.
    No(Reason),
    /// The first one was charged, at this price. `counts` if this was not answered so before.
    Again { price: Price, counts: bool },
}

fn hold(sync: &Sync, need: &Need) -> HoldName {
    let (node, incarnation) = (sync.node.clone(), sync.incarnation);
    HoldName { node, incarnation, generation: generation(sync, need.id) }
}

/// What is known of the request's name, unless that is too long ago.
fn known(
    session: &mut Session<'_, '_, '_>,
    asker: &Asker,
    repeat: &Repeat,
) -> Result<Option<RepeatRow>, Error> {
    let since = session.work.now.minus(session.setup.catalog.policies.retries.window);
    let row = session.work.store.repeat(&asker.account, &repeat.key)?;
    Ok(row.filter(|row| row.at > since))
}

/// Looks whether the request repeats one.
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
        return Ok(Verdict::New);
    };
    let Some(row) = known(session, asker, repeat)? else { return Ok(Verdict::New) };
    if row.body != repeat.body {
        return Ok(Verdict::No(Reason::IdempotencyMismatch));
    }
    let own = hold(sync, need);
    if row.hold == own {
        return Ok(Verdict::New); // The answer to it was lost: the ledger knows its hold.
    }
    let cells = session.work.store.cells_of_hold(&row.hold)?;
    if cells.iter().any(|(_, cell)| cell.state != CellState::Closed) {
        return Ok(Verdict::No(Reason::RequestInFlight));
    }
    let used = |cell: &Cell| ![cell.used, cell.late, cell.short].iter().all(|part| part.is_zero());
    if !cells.iter().any(|(_, cell)| used(cell)) {
        return Ok(Verdict::New);
    }
    let counts = !row.repeated.contains(&own);
    let most = session.setup.catalog.policies.retries.most;
    if counts && u32::try_from(row.repeated.len()).map_or(true, |count| count >= most) {
        return Ok(Verdict::New);
    }
    Ok(Verdict::Again { price: price(session, &cells)?, counts })
}

/// At what price it was held, in the unit of the grant that came first.
fn price(session: &mut Session<'_, '_, '_>, cells: &[(CellId, Cell)]) -> Result<Price, Error> {
    let (mut unit, mut scope, mut hold) = (None, String::new(), Amount::ZERO);
    for (id, cell) in cells {
        let terms = session.work.store.terms_of_grant(id.grant)?;
        let terms = terms.ok_or_else(|| Error::Bug(format!("the grant {} of a hold is gone", id.grant.0)))?;
        if unit.is_none() {
            (unit, scope) = (Some(terms.unit), terms.scope.clone());
        }
        if unit == Some(terms.unit) {
            hold = hold.checked_add(cell.granted).unwrap_or(Amount::MAX);
        }
    }
    let version = session.setup.catalog.price_version;
    Ok(Price { unit: unit.unwrap_or(Unit::Credits), hold, scope, version })
}

/// Keeps that this need holds for the request of this name.
///
/// # Errors
/// [`Error::Store`].
pub(super) fn remember(
    session: &mut Session<'_, '_, '_>,
    sync: &Sync,
    need: &Need,
    asker: &Asker,
) -> Result<(), Error> {
    let Some(repeat) = &need.repeat else { return Ok(()) };
    let own = hold(sync, need);
    // Asked again, it is as old as it was.
    if known(session, asker, repeat)?.is_some_and(|row| row.hold == own) {
        return Ok(());
    }
    let row = RepeatRow { body: repeat.body.clone(), hold: own, at: session.work.now, repeated: Vec::new() };
    session.work.store.put_repeat(&asker.account, &repeat.key, &row)
}

/// Keeps that this need was answered as a repetition.
///
/// # Errors
/// [`Error::Store`].
pub(super) fn count(
    session: &mut Session<'_, '_, '_>,
    sync: &Sync,
    need: &Need,
    asker: &Asker,
) -> Result<(), Error> {
    let Some(repeat) = &need.repeat else { return Ok(()) };
    let Some(mut row) = known(session, asker, repeat)? else { return Ok(()) };
    row.repeated.push(hold(sync, need));
    session.work.store.put_repeat(&asker.account, &repeat.key, &row)
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
