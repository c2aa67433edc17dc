//! Claims on events: durable, leased, and done for ever once a handler has accepted.

use super::Setup;
use crate::engine::Work;
use crate::error::Error;
use crate::store::{ClaimKey, ClaimRow, ClaimState, EventKey};
use contract::v1::{Claim, ClaimAnswer, Complete, CompleteAnswer, CompleteOutcome, CompleteResult};

/// May this event be forwarded? `token` is a fresh secret, used if the claim is given.
///
/// # Errors
/// [`Error::Store`].
pub fn claim(work: &mut Work<'_>, setup: &Setup, asked: &Claim, token: String) -> Result<ClaimAnswer, Error> {
    let event =
        EventKey { livemode: asked.livemode, account: asked.account.clone(), id: asked.event_id.clone() };
    let key = ClaimKey { endpoint: asked.endpoint.clone(), event };
    let known = work.store.claim(&key)?;
    let answer = match known {
        Some(ClaimRow { state: ClaimState::Done, .. }) => ClaimAnswer::Done,
        Some(row) if row.state == ClaimState::Claimed && row.until > work.now => {
            let left = row.until.since(work.now).millis();
            if row.claimant == asked.claimant {
                ClaimAnswer::Fresh { token: row.token, ttl_ms: left }
            } else {
                ClaimAnswer::InFlight { retry_ms: left.max(1) }
            }
        }
        _ => {
            let until = work.now.plus(setup.claim_ttl);
            let claimant = asked.claimant.clone();
            let row = ClaimRow { state: ClaimState::Claimed, claimant, token: token.clone(), until };
            work.store.put_claim(&key, &row)?;
            ClaimAnswer::Fresh { token, ttl_ms: setup.claim_ttl.millis() }
        }
    };
    let word = match &answer {
        ClaimAnswer::Fresh { .. } => "fresh",
        ClaimAnswer::InFlight { .. } => "in_flight",
        ClaimAnswer::Done => "done",
    };
    work.count("tollgate_billing_claims_total", "answer", word);
    Ok(answer)
}

/// What became of it. An event that was accepted is done even if the claim had run out.
///
/// # Errors
/// [`Error::Store`].
pub fn complete(work: &mut Work<'_>, told: &Complete) -> Result<CompleteAnswer, Error> {
    let event =
        EventKey { livemode: told.livemode, account: told.account.clone(), id: told.event_id.clone() };
    let key = ClaimKey { endpoint: told.endpoint.clone(), event };
    let known = work.store.claim(&key)?;
    let mine = known.as_ref().is_some_and(|row| row.token == told.token);
    let state = known.as_ref().map(|row| row.state);
    let live = known.as_ref().is_some_and(|row| row.until > work.now);
    let accepted = told.outcome == CompleteOutcome::Accepted;
    let recorded = match (state, accepted) {
        (Some(ClaimState::Done), true) | (Some(ClaimState::Free), false) => mine,
        (Some(ClaimState::Claimed), _) => mine && live,
        _ => false,
    };
    let next = match (accepted, state) {
        (true, Some(ClaimState::Done)) => None,
        (true, _) => Some(ClaimState::Done),
        (false, Some(ClaimState::Claimed)) if mine => Some(ClaimState::Free),
        (false, _) => None,
    };
    if let Some(state) = next {
        // Whoever completed it holds the token by which a repetition is recognised.
        let row = known.unwrap_or(ClaimRow {
            state,
            claimant: String::new(),
            token: told.token.clone(),
            until: work.now,
        });
        work.store.put_claim(&key, &ClaimRow { state, token: told.token.clone(), ..row })?;
    }
    let result = if recorded { CompleteResult::Recorded } else { CompleteResult::Stale };
    Ok(CompleteAnswer { result })
}
