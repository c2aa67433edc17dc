//! What time alone brings about: ends of grants, cells and standings. Bounded in number; the rest comes next time.

use super::{Session, Setup};
use crate::engine::Work;
use crate::error::Error;
use ledger::{Command, Expire, Reply, Shortfall};
use units::AccountId;

/// Accounts that are settled at a time.
const ACCOUNTS_MAX: u32 = 200;

/// The accounts whose time has come, and whether there may be more.
///
/// # Errors
/// [`Error::Store`].
pub fn due(work: &mut Work<'_>) -> Result<(Vec<AccountId>, bool), Error> {
    due_after(work, None)
}

/// The same, behind those that were found before: what cannot be settled stays due, and is not to hide all others.
///
/// # Errors
/// [`Error::Store`].
pub fn due_after(work: &mut Work<'_>, last: Option<&AccountId>) -> Result<(Vec<AccountId>, bool), Error> {
    let due = work.store.due(work.now, last, ACCOUNTS_MAX)?;
    let more = u32::try_from(due.len()).map_or(true, |count| count >= ACCOUNTS_MAX);
    Ok((due, more))
}

/// Settles what is due of one account. A command of its own, so that one account that cannot be settled keeps no other
/// from it.
///
/// # Errors
/// [`Error::Bug`] from the ledger, [`Error::Store`].
pub fn settle(work: &mut Work<'_>, setup: &Setup, account: &AccountId) -> Result<(), Error> {
    let mut session = Session::new(work, setup)?;
    // Loading a book brings its standing up to date.
    let expire = Expire { crash: setup.crash, shortfall: Shortfall::Debt };
    let reply = session.step(account, &Command::Expire(expire))?;
    let Reply::Expired(done) = reply else {
        return Err(Error::Bug(format!("an expiry was answered {reply:?}")));
    };
    let ends =
        [("soft", done.soft), ("closed_clean", done.closed_clean), ("closed_dirty", done.closed_dirty)];
    for (kind, count) in ends.into_iter().filter(|(_, count)| *count > 0) {
        session.work.counts.push(("tollgate_billing_swept_total", ("kind", kind.into()), count.into()));
    }
    Ok(())
}
