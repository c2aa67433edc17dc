//! Pools: accounts whose credits others spend. A team's members share one, an agent spends its owner's.
//!
//! What a member buys or is given stays its own: it is not spent while the member is in a pool, and is there when it has
//! left, as long as it lasts. To buy for the pool, name the pool.

use super::accounts::{AccountView, view};
use super::{Session, Setup};
use crate::engine::Work;
use crate::error::{Error, Invalid};
use ledger::Command;
use units::AccountId;

/// Puts an account into a pool, or lets it pay for itself again. What gateways remember of it is void at once; what it
/// has under way is settled where it was lent.
///
/// # Errors
/// [`Invalid::NotFound`] if there is no such account, [`Invalid::Unprocessable`] if there is no such pool,
/// [`Invalid::Conflict`] if the pool is in a pool, or the account is one: credits have one owner, so there are no chains.
pub fn set_pool(
    work: &mut Work<'_>,
    setup: &Setup,
    id: &AccountId,
    pool: Option<&AccountId>,
) -> Result<AccountView, Error> {
    let mut session = Session::new(work, setup)?;
    session.book(id)?;
    join(&mut session, id, pool)?;
    view(&mut session, id)
}

/// The same within a session. Doing it again changes nothing.
pub(super) fn join(
    session: &mut Session<'_, '_, '_>,
    id: &AccountId,
    pool: Option<&AccountId>,
) -> Result<(), Error> {
    if let Some(pool) = pool {
        may_pay(session, id, pool)?;
    }
    let before = session.work.store.pool_of(id)?;
    if before.as_ref() == pool {
        return Ok(());
    }
    session.work.store.put_pool(id, pool, session.work.now)?;
    // Gateways remember by who pays, and this is who paid until now.
    session.step(before.as_ref().unwrap_or(id), &Command::Announce).map(drop)
}

fn may_pay(session: &mut Session<'_, '_, '_>, id: &AccountId, pool: &AccountId) -> Result<(), Error> {
    match session.book(pool) {
        Ok(_) => {}
        Err(Error::Invalid(Invalid::NotFound, _)) => {
            let why = format!("There is no account {pool} that could be a pool; open it first.");
            return Err(Invalid::Unprocessable.because(why));
        }
        Err(error) => return Err(error),
    }
    let conflict = |why: String| Err(Invalid::Conflict.because(why));
    if pool == id {
        return conflict(format!("{id} cannot be its own pool; it pays for itself without one."));
    }
    if let Some(other) = session.work.store.pool_of(pool)? {
        return conflict(format!("{pool} is in the pool {other}, so it cannot be one; use {other}."));
    }
    let members = session.work.store.members(id)?;
    if let Some(member) = members.first() {
        return conflict(format!(
            "{id} is the pool of {member}, so it cannot be in one; move its members first."
        ));
    }
    Ok(())
}
