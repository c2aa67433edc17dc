//! What a customer is shown of their own account.

use super::people::payer;
use super::{Session, Setup, need, resolve};
use crate::engine::Work;
use crate::error::{Error, Invalid};
use ledger::subscription::permits;
use ledger::{Command, Exposure, Mode, Reply};
use serde_json::{Value, json};
use units::{AccountId, Instant, NodeName, Subject, signed_credits};

/// The account of a customer for whom a gateway vouches; one that is new is opened.
///
/// # Errors
/// [`Invalid::Unauthorized`] if it is nobody's.
pub fn own_account(work: &mut Work<'_>, setup: &Setup, subject: &Subject) -> Result<AccountId, Error> {
    let account = resolve(&mut Session::new(work, setup)?, subject)?;
    account.ok_or_else(nobody)
}

/// What is said to whom nobody knows.
#[must_use]
pub fn nobody() -> Error {
    Invalid::Unauthorized.because("This API key belongs to no customer, or was revoked.")
}

/// Plan, stage, and what can be done about it; of a member, those of its pool.
///
/// # Errors
/// [`Invalid::NotFound`].
pub fn own_subscription(work: &mut Work<'_>, setup: &Setup, id: &AccountId) -> Result<Value, Error> {
    let payer = payer(work, id)?;
    let mut session = Session::looking(work, setup)?;
    let suspended = session.book(id)?.account.suspended;
    let mut account = session.book(&payer)?.account.clone();
    account.suspended |= suspended;
    let (standing, stage) = (&account.standing, account.standing.stage);
    let can = permits(standing, account.suspended, setup.catalog.policies.packages_for);
    Ok(json!({
        "account": id,
        "payer": payer,
        "tier": standing.tier,
        "state": need::state(stage),
        "current_period_end": standing.current_period_end,
        "cancel_at": standing.cancel_at,
        "can_use_credits": can.can_use_credits,
        "can_subscribe": can.can_subscribe,
        "can_change_plan": can.can_change_plan,
        "can_buy_package": can.can_buy_package && !setup.catalog.packages.is_empty(),
    }))
}

/// Credits, and what is left of the windows of the tier; of a member, those of its pool.
///
/// # Errors
/// [`Invalid::NotFound`].
pub fn own_balance(work: &mut Work<'_>, setup: &Setup, id: &AccountId) -> Result<Value, Error> {
    let payer = payer(work, id)?;
    let mut session = Session::looking(work, setup)?;
    let tier = session.book(&payer)?.account.standing.tier.clone();
    let windows = tier.as_ref().and_then(|tier| setup.catalog.tiers.get(tier)).map(|tier| &tier.windows);
    let mut shown = Vec::new();
    for (name, window) in windows.into_iter().flatten() {
        let endpoint = window.endpoints.iter().find_map(|id| setup.catalog.endpoints.get_key_value(id));
        let Some((endpoint_id, endpoint)) = endpoint else { continue };
        let mut lanes =
            setup.catalog.lanes(tier.as_ref(), endpoint_id, endpoint.cost.unsaid(), session.work.now);
        lanes.retain(|lane| lane.legs.iter().any(|leg| leg.scope == *name));
        if let Some(status) = status(&mut session, &payer, lanes)? {
            let (limit, remaining) = (status.limit, status.remaining);
            shown.push(json!({
                "name": name, "limit": limit, "remaining": remaining,
                // A lifetime has no end to wait for.
                "resets_at": Some(status.resets_at).filter(|at| *at < Instant::FAR),
            }));
        }
    }
    let balance = session.balance(&payer)?;
    Ok(json!({
        "account": id,
        "payer": payer,
        "balance": signed_credits(balance.shown()),
        "balance_micro": balance.shown(),
        "held_micro": balance.held,
        "debt_micro": balance.debt,
        "windows": shown,
    }))
}

/// Where a window stands: asked by a need that takes nothing.
fn status(
    session: &mut Session<'_, '_, '_>,
    account: &AccountId,
    lanes: Vec<ledger::Lane>,
) -> Result<Option<ledger::WindowStatus>, Error> {
    let node = NodeName::new("billing").map_err(|error| Error::Bug(error.to_string()))?;
    let need = ledger::Need {
        node,
        incarnation: 0,
        mode: Mode::Identify,
        lanes,
        wait: false,
        holders: 1,
        at_once: None,
        timing: session.setup.timing,
        exposure: Exposure::Whole,
    };
    match session.step(account, &Command::Need(need))? {
        Reply::Need(answer) => Ok(answer.window),
        other => Err(Error::Bug(format!("a need was answered {other:?}"))),
    }
}
