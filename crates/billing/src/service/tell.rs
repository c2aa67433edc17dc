//! What others are told of, written with what it tells of: a low balance, a purchase, a change of plan.

use super::{Session, Setup, need, random_name};
use crate::error::Error;
use crate::store::Message;
use ledger::{Book, JournalEntry, JournalKind};
use serde_json::{Value, json};
use units::{AccountId, Amount, signed_credits};

/// Messages that wait, at most: a receiver that is away must not fill the disk. Those that were given up have a bound of
/// their own, or they would leave no room for new ones.
const WAITING_MAX: u64 = 10_000;

impl Session<'_, '_, '_> {
    /// Writes a message, to be sent once this is committed; nothing where nobody is told.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn tell(&mut self, account: &AccountId, kind: &str, data: &Value) -> Result<(), Error> {
        if !self.setup.tells {
            return Ok(());
        }
        let full = self.work.store.messages_waiting()? >= WAITING_MAX;
        let outcome = if full { "dropped" } else { "written" };
        self.work.count("tollgate_billing_outbox_total", "outcome", outcome);
        if full {
            tracing::error!(%account, kind, "the outbox is full, so nobody is told of this");
            return Ok(());
        }
        let at = self.work.now;
        let body = json!({ "type": kind, "timestamp": at, "data": data }).to_string();
        let (id, kind, account) = (random_name("msg_")?, kind.to_owned(), account.clone());
        let (attempts, last_error, next_at) = (0, None, Some(at));
        self.work.store.put_message(&Message { id, kind, account, body, at, attempts, last_error, next_at })
    }
}

/// What an account owns, and the threshold, if others want to know when it falls below that.
pub(super) fn watched(setup: &Setup, book: &Book) -> Option<(Amount, i64)> {
    let threshold = setup.catalog.notify.balance_low.filter(|_| setup.tells)?;
    Some((threshold, super::history::owned(book)))
}

/// What others are told of a command: that an account owns less than the threshold from now on, that its plan is another.
pub(super) fn news(
    setup: &Setup,
    book: &Book,
    before: Option<(Amount, i64)>,
    journal: &[JournalEntry],
) -> Vec<(&'static str, Value)> {
    let (account, mut told) = (&book.account.id, Vec::new());
    if let (Some((threshold, before)), Some((_, after))) = (before, watched(setup, book))
        && before >= threshold.get()
        && after < threshold.get()
    {
        let data = json!({
            "account": account,
            "balance": signed_credits(after),
            "balance_micro": after,
            "threshold": threshold.to_credits(),
            "threshold_micro": threshold,
        });
        told.push(("balance.low", data));
    }
    if setup.tells && journal.iter().any(|entry| entry.kind == JournalKind::StandingChanged) {
        let standing = &book.account.standing;
        let data = json!({
            "account": account,
            "tier": standing.tier,
            "state": need::state(standing.stage),
            "current_period_end": standing.current_period_end,
            "cancel_at": standing.cancel_at,
        });
        told.push(("subscription.changed", data));
    }
    told
}
