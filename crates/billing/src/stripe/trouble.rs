//! Events that cannot be applied: none is lost, none is asked of Stripe for ever, and none keeps another from being applied.

use super::{Event, EventKey, EventRow, EventStatus, OWN_ACCOUNT, Style, Tries, replay, run};
use crate::engine::Work;
use crate::error::{Error, Invalid};
use crate::service::{Session, Setup};
use std::panic::{AssertUnwindSafe, catch_unwind};
use units::{EventId, Instant};

/// So often an event is applied before Stripe is not asked for it any more. Stripe sends an event again for up to three days
/// (Stripe, "Webhooks: automatic retries"); what has failed five times by then waits for a person.
pub const ATTEMPTS_MAX: u32 = 5;
/// As much of an error is kept.
const ERROR_BYTES_MAX: usize = 500;

/// Keeps that an event could not be applied; the transaction that tried is gone. What has become of it: failed, so that Stripe
/// is to send it again; parked, so that it is not; or whatever another delivery of it made of it meanwhile.
///
/// # Errors
/// [`Error::Store`].
pub fn failed(work: &mut Work<'_>, event: &Event, body: String, why: &str) -> Result<EventStatus, Error> {
    let key = EventKey { livemode: event.livemode, account: event.account.clone(), id: event.id.clone() };
    let row = match work.store.event(&key)? {
        Some(row) if !row.status.is_taken_again() => return Ok(row.status),
        Some(row) => row,
        None => new_row(key, event, body, work.now),
    };
    let row = in_vain(row, why, work.now);
    tracing::warn!(id = %row.key.id, attempts = row.tries.count, status = row.status.as_str(), "an event failed");
    work.store.put_event(&row)?;
    Ok(row.status)
}

/// An event that arrives for the first time.
pub(super) fn new_row(key: EventKey, event: &Event, body: String, now: Instant) -> EventRow {
    EventRow {
        key,
        kind: event.kind.clone(),
        received_at: now,
        status: EventStatus::Ignored,
        detail: String::from("thin events carry no object"),
        customer: None,
        to: None,
        body,
        tries: Tries::default(),
    }
}

/// The event after one more time that it was applied in vain.
fn in_vain(row: EventRow, why: &str, now: Instant) -> EventRow {
    let count = row.tries.count.saturating_add(1);
    let status = if count >= ATTEMPTS_MAX { EventStatus::Parked } else { EventStatus::Failed };
    let mut error = why.to_owned();
    error.truncate(why.floor_char_boundary(ERROR_BYTES_MAX));
    let tries = Tries { count, error: Some(error), last_at: Some(now) };
    EventRow { status, detail: String::from("a rule of the ledger broke when it was applied"), tries, ..row }
}

/// Carries something out in a session of its own, so that what breaks in it is undone alone; why, if it broke.
pub(super) fn apart<T>(
    session: &mut Session<'_, '_, '_>,
    what: impl FnOnce(&mut Session<'_, '_, '_>) -> Result<T, Error>,
) -> Result<Result<T, String>, Error> {
    let before = (session.work.notes.len(), session.work.counts.len());
    session.work.store.savepoint()?;
    let ran = catch_unwind(AssertUnwindSafe(|| what(&mut Session::new(session.work, session.setup)?)));
    let outcome = match ran {
        Ok(Ok(done)) => {
            session.work.store.release()?;
            Ok(Ok(done))
        }
        Ok(Err(Error::Bug(why))) => Ok(Err(why)),
        Ok(Err(error)) => Err(error),
        Err(_) => Ok(Err(String::from("it panicked"))),
    };
    if !matches!(outcome, Ok(Ok(_))) {
        session.work.store.rollback_to()?;
        session.work.notes.truncate(before.0);
        session.work.counts.truncate(before.1);
    }
    // Books that were open before may be other ones now.
    session.renew()?;
    outcome
}

/// Applies an event that is here already, apart from whatever led to it. One that breaks is parked, unless Stripe was told to
/// send it again: of any other it was told that it arrived.
pub(super) fn run_apart(session: &mut Session<'_, '_, '_>, row: EventRow) -> Result<(EventRow, bool), Error> {
    match apart(session, |session| run(session, row.clone()))? {
        Ok(done) => Ok(done),
        Err(why) => {
            let sent_again = row.status == EventStatus::Failed;
            let row = in_vain(row, &why, session.work.now);
            let status = if sent_again { row.status } else { EventStatus::Parked };
            let row = EventRow { status, ..row };
            tracing::warn!(id = %row.key.id, status = status.as_str(), "an event failed when it was applied again");
            session.work.store.put_event(&row)?;
            Ok((row, false))
        }
    }
}

/// Which of several events of one id.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// Stripe's `livemode`.
    pub livemode: Option<bool>,
    /// The connected account, or `self`.
    pub stripe_account: Option<String>,
}

/// One event by its id.
///
/// # Errors
/// [`Invalid::NotFound`]; [`Invalid::Conflict`] if there are several and `which` does not tell them apart.
pub fn find(work: &mut Work<'_>, id: &EventId, which: &Which) -> Result<EventRow, Error> {
    let mut found = work.store.events_named(id)?;
    found.retain(|row| which.livemode.is_none_or(|livemode| row.key.livemode == livemode));
    found.retain(|row| which.stripe_account.as_ref().is_none_or(|account| row.key.account == *account));
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(Invalid::NotFound.because(format!("There is no event {id}."))),
        (Some(row), true) => Ok(row),
        (Some(_), false) => Err(Invalid::Conflict
            .because(format!("There are several events {id}. Name one by livemode and stripe_account."))),
    }
}

/// Applies an event again, by hand; the event as it is then. One that was applied already stays as it is.
///
/// # Errors
/// As [`find`]; [`Invalid::Conflict`] for an event that has nothing to apply.
pub fn again(work: &mut Work<'_>, setup: &Setup, id: &EventId, which: &Which) -> Result<EventRow, Error> {
    let row = find(work, id, which)?;
    if row.status == EventStatus::Applied {
        return Ok(row);
    }
    if row.key.account != OWN_ACCOUNT {
        let of = format!("The event {id} is of the connected account {}", row.key.account);
        return Err(Invalid::Conflict.because(format!("{of}; nothing here is sold through it.")));
    }
    if Event::read(row.body.as_bytes()).is_ok_and(|event| event.style == Style::Thin) {
        return Err(
            Invalid::Conflict.because(format!("The event {id} is thin: it carries nothing to apply."))
        );
    }
    let mut session = Session::new(work, setup)?;
    let (row, unlocks) = run_apart(&mut session, row)?;
    if let Some(customer) = row.customer.as_ref().filter(|_| unlocks) {
        replay(&mut session, customer)?;
    }
    Ok(row)
}
