//! What Stripe's events do here: each once, in whatever order they come.
//!
//! An event and its effects are one transaction, so there is no event that was marked and not applied. Money has
//! keys of its own besides (invoice and price, payment intent or session), for several events tell of one payment.

#[cfg(test)]
mod any_order;
mod apply;
mod payment;
mod purchases;
mod read;
mod read_reversal;
mod reversal;
#[cfg(test)]
mod tests;
mod trouble;

pub use trouble::{ATTEMPTS_MAX, Which, again, failed, find};

use crate::engine::Work;
use crate::error::Error;
use crate::service::{Session, Setup};
use crate::store::{EventKey, EventRow, EventStatus, Tries};
use apply::{Applied, apply};
use serde_json::Value;
use units::Instant;
use webhook::{Event, OWN_ACCOUNT, Style};

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was taken for the first time, or was still open.
    New(EventStatus),
    /// It was done with already.
    Duplicate,
}

/// Takes a verified event in.
///
/// # Errors
/// [`Error::Store`] or [`Error::Bug`], whereupon nothing of it is recorded and Stripe will send it again.
pub fn take(work: &mut Work<'_>, setup: &Setup, event: &Event, body: String) -> Result<Taken, Error> {
    let key = EventKey { livemode: event.livemode, account: event.account.clone(), id: event.id.clone() };
    let known = work.store.event(&key)?;
    if known.as_ref().is_some_and(|row| !row.status.is_taken_again()) {
        return Ok(Taken::Duplicate);
    }
    let row = known.unwrap_or_else(|| trouble::new_row(key, event, body, work.now));
    let tries = tried(&row, work.now);
    let mut session = Session::new(work, setup)?;
    if event.style == Style::Thin {
        session.work.store.put_event(&EventRow { tries, ..row })?;
        return Ok(Taken::New(EventStatus::Ignored));
    }
    if event.account != OWN_ACCOUNT {
        // Its owner says what was paid there, and to whom: no money of ours came with it.
        let detail =
            format!("of the connected account {}, which nothing here is sold through", event.account);
        session.work.store.put_event(&EventRow { status: EventStatus::Review, detail, tries, ..row })?;
        return Ok(Taken::New(EventStatus::Review));
    }
    let (row, unlocks) = run(&mut session, row)?;
    if let Some(customer) = row.customer.as_ref().filter(|_| unlocks) {
        replay(&mut session, customer)?;
    }
    Ok(Taken::New(row.status))
}

/// Brings the grants of an invoice to what refunds and disputes left of them: for grants that are made later than the
/// invoice was paid. Those that its own events make are settled with them.
///
/// # Errors
/// [`Error::Store`] or [`Error::Bug`].
pub fn settle_invoice(session: &mut Session<'_, '_, '_>, invoice: &str) -> Result<(), Error> {
    reversal::settle(session, invoice).map(drop)
}

/// Applies again what waited for something to be known of this customer.
///
/// # Errors
/// [`Error::Store`] or [`Error::Bug`].
pub fn replay(session: &mut Session<'_, '_, '_>, customer: &str) -> Result<(), Error> {
    // What is applied may unlock what came before it; each round settles at least one, or is the last.
    loop {
        let mut settled = false;
        for row in session.work.store.waiting_events(customer)? {
            let before = row.status;
            let (row, _) = trouble::run_apart(session, row)?;
            settled |= row.status != before;
        }
        if !settled {
            return Ok(());
        }
    }
}

/// What an event tells: something that is somebody's, or what became of a payment that may be known.
enum What {
    Told(read::Told),
    Reversal(read_reversal::Reversal),
}

/// Applies one event and records what became of it; true if that may unlock others.
fn run(session: &mut Session<'_, '_, '_>, row: EventRow) -> Result<(EventRow, bool), Error> {
    // What identifies an event can be read where the whole cannot: a number beyond every range, half a surrogate pair.
    let body = serde_json::from_str::<Value>(&row.body)
        .map_err(|error| read::Unreadable(format!("its JSON cannot be read: {error}")));
    // Which payment paid which invoice is told by events about either.
    for (payment, invoice) in body.iter().flat_map(|body| read_reversal::links(body, &row.kind)) {
        reversal::link(session, &payment, &invoice)?;
    }
    let told = body.and_then(|body| match read_reversal::event(&body, &row.kind) {
        Some(reversal) => reversal.map(What::Reversal),
        None => read::event(&body, row.key.id.as_str(), &row.kind).map(What::Told),
    });
    let Applied { status, detail, customer, to, unlocks } = match told {
        Ok(What::Told(told)) => apply(session, told)?,
        Ok(What::Reversal(told)) => reversal::apply(session, &row.key, told)?,
        Err(read::Unreadable(why)) => Applied::review(why),
    };
    if matches!(status, EventStatus::Review | EventStatus::Conflict) {
        // What is the matter with it may quote its body, and stands with the event.
        tracing::warn!(id = %row.key.id, kind = row.kind, status = status.as_str(), "an event has to be looked at");
    }
    let tries = tried(&row, session.work.now);
    let row = EventRow { status, detail, customer, to, tries, ..row };
    session.work.store.put_event(&row)?;
    Ok((row, unlocks))
}

/// How it fared after it was applied once more, and nothing broke.
fn tried(row: &EventRow, now: Instant) -> Tries {
    Tries { count: row.tries.count.saturating_add(1), error: None, last_at: Some(now) }
}
