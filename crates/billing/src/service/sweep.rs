//! What time alone brings about: ends of grants, cells and standings. Bounded per transaction; the rest comes next time.

use super::{Session, Setup};
use crate::engine::Work;
use crate::error::Error;
use ledger::{Command, Expire, Reply, Shortfall};

/// Accounts in one transaction at most.
const ACCOUNTS_MAX: u32 = 200;

/// Settles what is due; true if there may be more.
///
/// # Errors
/// [`Error::Bug`] from the ledger, [`Error::Store`].
pub fn sweep(work: &mut Work<'_>, setup: &Setup) -> Result<bool, Error> {
    let due = work.store.due(work.now, ACCOUNTS_MAX)?;
    let more = u32::try_from(due.len()).map_or(true, |count| count >= ACCOUNTS_MAX);
    let mut session = Session::new(work, setup)?;
    for account in &due {
        // Loading a book brings its standing up to date.
        let expire = Expire { crash: setup.crash, shortfall: Shortfall::Debt };
        let reply = session.step(account, &Command::Expire(expire))?;
        let Reply::Expired(done) = reply else {
            return Err(Error::Bug(format!("an expiry was answered {reply:?}")));
        };
        for (kind, count) in
            [("soft", done.soft), ("closed_clean", done.closed_clean), ("closed_dirty", done.closed_dirty)]
        {
            if count > 0 {
                session.work.counts.push((
                    "tollgate_billing_swept_total",
                    ("kind", kind.into()),
                    count.into(),
                ));
            }
        }
    }
    Ok(more)
}
