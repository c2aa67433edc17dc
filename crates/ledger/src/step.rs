//! The one function that changes a book.

use crate::book::{Book, Ids};
use crate::bug::Bug;
use crate::command::Command;
use crate::outcome::Outcome;
use units::Instant;

/// Applies one command to one book at `now` (or at the latest `now` that the book has seen, if that is later).
///
/// Deterministic: the same book, numbers, instant and command give the same outcome. Reports of a message are
/// applied before its needs.
///
/// # Errors
/// A [`Bug`]: the caller aborts the transaction and drops the book. Whatever comes from outside has an outcome instead.
pub fn step(book: &mut Book, ids: &mut Ids, now: Instant, command: &Command) -> Result<Outcome, Bug> {
    book.seen = book.seen.max(now);
    let _ = (ids, command);
    Err(Bug::Misuse { what: "not built yet" })
}
