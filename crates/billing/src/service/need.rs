//! One request that waits: who is asking, may they, and what does it cost.

use super::gateway::generation;
use super::people::{self, Asker};
use super::repeats::{self, Verdict};
use super::{Session, Setup};
use crate::catalog::{Endpoint, ToHold};
use crate::error::Error;
use contract::v1::{
    CellKey, CellLease, HoldError, Need, NeedDecision, NeedMode, Price, Reason, Refusal, Standing,
    SubscriptionState, Sync, Window,
};
use ledger::subscription::Stage;
use ledger::{Book, Command, Decision, Granted, Lane, Leg, Mode, NeedAnswer, Reply};
use std::collections::{BTreeMap, BTreeSet};
use units::{AccountId, Amount, Instant, Span, TierId, Unit};

/// What is free in leases and already spoken for by earlier needs of the same sync, by payer and kind of grant.
pub(super) type Ahead = BTreeMap<(AccountId, Unit, String), Amount>;

/// Decides about one need. A refusal is an answer, not an error.
pub(super) fn decide(
    session: &mut Session<'_, '_, '_>,
    sync: &Sync,
    need: &Need,
    asker: Option<&Asker>,
    ahead: &mut Ahead,
) -> Result<NeedDecision, Error> {
    let decision = match asker {
        None => refused(session.setup.catalog.refusal(Reason::UnknownCustomer)),
        Some(asker) => of_account(session, sync, need, asker, ahead)?,
    };
    let decision = if need.lost && need.mode == NeedMode::Lease {
        with_unheard(session, sync, need, asker, decision)?
    } else {
        decision
    };
    let word = match &decision {
        NeedDecision::Ok { paid, .. } if !paid.is_zero() => "repeat",
        NeedDecision::Ok { .. } => "ok",
        NeedDecision::Retry { .. } => "retry",
        NeedDecision::Refused { refusal, .. } => {
            session.work.count("tollgate_billing_refusals_total", "reason", refusal.reason.as_str());
            "refused"
        }
    };
    session.work.count("tollgate_billing_needs_total", "decision", word);
    Ok(decision)
}

fn of_account(
    session: &mut Session<'_, '_, '_>,
    sync: &Sync,
    need: &Need,
    asker: &Asker,
    ahead: &mut Ahead,
) -> Result<NeedDecision, Error> {
    let setup = session.setup;
    let owner = &asker.payer;
    let endpoint = setup.catalog.endpoints.get(&need.endpoint);
    // Only what is declared free at the gateway may be outside of the catalog.
    if endpoint.is_none() && need.mode != NeedMode::Identify {
        return Ok(refused(setup.catalog.refusal(Reason::EndpointUnknown)));
    }
    // A pool's own stop is the ledger's to see; a member's is not, since it is judged on the pool's book.
    let stopped = asker.account != *owner && session.book(&asker.account)?.account.suspended;
    let book = session.book(owner)?;
    let standing = book.account.standing.clone();
    let size = size(need, endpoint);
    let forbidden = if stopped { Some(Reason::Suspended) } else { forbidden(setup, &standing, endpoint) };
    // Whoever may use the endpoint is told that it has no price for this; a window does not pay for it either.
    let forbidden = forbidden.or(size.err().map(|HoldError::ModelUnknown| Reason::ModelUnknown));
    let holders = holders(book, sync);
    let verdict = repeats::look(session, sync, need, asker)?;
    let forbidden = forbidden.or(if let Verdict::No(reason) = verdict { Some(reason) } else { None });
    let size = size.unwrap_or_default();
    let mut lanes = size.map_or_else(Vec::new, |size| {
        setup.catalog.lanes(standing.tier.as_ref(), &need.endpoint, size, session.work.now)
    });
    for leg in lanes.iter_mut().flat_map(|lane| &mut lane.legs) {
        leg.ahead = ahead.get(&kind(owner, leg)).copied().unwrap_or_default();
    }
    let mode = match need.mode {
        NeedMode::Identify => Mode::Identify,
        _ if forbidden.is_some() => Mode::Identify,
        NeedMode::Hold => Mode::Hold { generation: generation(sync, need.id) },
        NeedMode::Lease => Mode::Lease { generation_min: need.generation_min },
    };
    let asked = ledger::Need {
        node: sync.node.clone(),
        incarnation: sync.incarnation,
        mode,
        lanes: lanes.clone(),
        wait: need.wait_ms > 0,
        holders,
        // What was served already has to be charged, however many are under way now.
        at_once: at_once(setup, &standing).filter(|_| !need.served),
        timing: setup.timing,
        exposure: setup.exposure(),
    };
    let reply = session.step(owner, &Command::Need(asked))?;
    let Reply::Need(answer) = reply else { return Err(Error::Bug(format!("a need was answered {reply:?}"))) };
    let told = Told { session, asker, size, lanes: &lanes, answer: &answer };
    let decision = match (&answer.decision, forbidden) {
        (Decision::Refused(no), _) => told.refuse(reason(no.refusal), no.required),
        (_, Some(reason)) => told.refuse(reason, size.map(|size| size.least.unwrap_or(size.hold))),
        (Decision::Identified, None) => told.pass(&standing, None)?,
        (Decision::Granted(granted), None) => {
            if need.mode == NeedMode::Lease {
                speak_for(ahead, owner, granted, &lanes);
            }
            told.pass(&standing, Some(granted))?
        }
        // A hold that was settled already must not be sent upstream a second time.
        (Decision::Over, None) => told.refuse(Reason::ServiceUnavailable, None),
        (Decision::Retry, None) => NeedDecision::Retry { retry_ms: retry_ms(need.wait_ms) },
    };
    Ok(match (decision, verdict) {
        (NeedDecision::Ok { standing, price, cells, .. }, Verdict::Named(named)) => {
            repeats::keep(session, need, asker, &named)?;
            NeedDecision::Ok { standing, paid: named.paid(&price), price, cells }
        }
        (decision, _) => decision,
    })
}

fn at_once(setup: &Setup, standing: &ledger::subscription::Standing) -> Option<u32> {
    setup.catalog.tiers.get(standing.tier.as_ref()?)?.at_once
}

fn kind(owner: &AccountId, leg: &Leg) -> (AccountId, Unit, String) {
    (owner.clone(), leg.unit, leg.scope.clone())
}

/// What was lent for this need is spoken for.
fn speak_for(ahead: &mut Ahead, owner: &AccountId, granted: &Granted, lanes: &[Lane]) {
    let lane = granted.lane.and_then(|lane| lanes.get(lane));
    for (n, leg) in lane.iter().flat_map(|lane| &lane.legs).enumerate() {
        // The first one may hold less than it needs, where that does.
        let taken = if n == 0 { granted.hold } else { leg.need };
        let spoken = ahead.entry(kind(owner, leg)).or_default();
        *spoken = spoken.checked_add(taken).unwrap_or(Amount::MAX);
    }
}

/// What the request holds in credits; nothing for an endpoint outside of the catalog, where nothing is held.
fn size(need: &Need, endpoint: Option<&Endpoint>) -> Result<Option<ToHold>, HoldError> {
    let Some(endpoint) = endpoint else { return Ok(None) };
    match need.mode {
        // Nothing is held now, so nothing depends on the model.
        NeedMode::Identify => Ok(Some(endpoint.cost.unsaid())),
        NeedMode::Hold | NeedMode::Lease => endpoint.cost.size(&need.shape).map(Some),
    }
}

/// Why the tier may not use the endpoint. Where a lapsed subscription is the cause, that is what helps to know.
fn forbidden(
    setup: &Setup,
    standing: &ledger::subscription::Standing,
    endpoint: Option<&Endpoint>,
) -> Option<Reason> {
    let (tier, endpoint) = (standing.tier.as_ref()?, endpoint?);
    if setup.catalog.allows(tier, endpoint) {
        return None;
    }
    match standing.why {
        None | Some(ledger::Refusal::NoSubscription) => Some(Reason::TierNotAllowed),
        Some(why) => Some(reason(why)),
    }
}

/// Soon at first, for most requests are short; then less often.
const fn retry_ms(wait_ms: u64) -> u64 {
    match wait_ms {
        0..=600 => 80,
        601..=900 => 40,
        _ => 20,
    }
}

/// How many processes have something of an account to spend; whoever asks is one of them.
pub(super) fn holders(book: &Book, sync: &Sync) -> u32 {
    let lends = |id: &ledger::CellId, cell: &ledger::Cell| {
        !id.is_hold() && cell.state == ledger::CellState::Open && !cell.outstanding().is_zero()
    };
    let lending = book.cells.iter().filter(|(id, cell)| lends(id, cell));
    let processes = lending.map(|(id, _)| (&id.node, id.incarnation));
    let processes: BTreeSet<_> = processes.chain([(&sync.node, sync.incarnation)]).collect();
    u32::try_from(processes.len()).unwrap_or(u32::MAX)
}

fn refused(refusal: Refusal) -> NeedDecision {
    NeedDecision::Refused { refusal: Box::new(refusal), cells: Vec::new() }
}

/// An answer was lost that may have lent something. Whatever is decided now, with it goes every lease of this process and payer
/// that the process does not report, to be given back: nobody else would tell of it, and it would come to its hard end.
fn with_unheard(
    session: &mut Session<'_, '_, '_>,
    sync: &Sync,
    need: &Need,
    asker: Option<&Asker>,
    mut decision: NeedDecision,
) -> Result<NeedDecision, Error> {
    let payer = match asker {
        Some(asker) => Some(asker.payer.clone()),
        // What was lent before the key was revoked is out all the same.
        None => people::payer_of_key(session.work, &need.subject)?,
    };
    let Some(payer) = payer else { return Ok(decision) };
    let book = session.book(&payer)?;
    match &mut decision {
        NeedDecision::Ok { cells, .. } => cells.extend(unheard(book, sync, cells)),
        NeedDecision::Refused { refusal, cells } => {
            cells.extend(unheard(book, sync, cells));
            (refusal.payer, refusal.epoch) = (Some(payer), book.account.epoch);
        }
        // It will be asked again.
        NeedDecision::Retry { .. } => {}
    }
    Ok(decision)
}

/// The leases of the process that asks that are neither reported by it nor `told` already, as far as anything is out on them.
fn unheard(book: &Book, sync: &Sync, told: &[CellLease]) -> Vec<CellLease> {
    let known: BTreeSet<CellKey> =
        sync.cells.iter().map(|cell| cell.key).chain(told.iter().map(|cell| cell.key)).collect();
    let unheard = |(id, cell): (&ledger::CellId, &ledger::Cell)| {
        let key = CellKey { grant: id.grant.0, generation: id.generation };
        let own = id.node == sync.node && id.incarnation == sync.incarnation && !id.is_hold();
        let out = cell.state != ledger::CellState::Closed && cell.outstanding() > cell.held();
        let terms = &book.grants.get(&id.grant).filter(|_| own && out && !known.contains(&key))?.terms;
        Some(CellLease {
            key,
            unit: terms.unit,
            granted: cell.granted,
            held: Amount::ZERO,
            ttl_ms: 0,
            exposure: cell.exposure,
            scope: terms.scope.clone(),
            keep: false,
        })
    };
    book.cells.iter().filter_map(unheard).collect()
}

fn reason(refusal: ledger::Refusal) -> Reason {
    match refusal {
        ledger::Refusal::Suspended => Reason::Suspended,
        ledger::Refusal::Paused => Reason::Paused,
        ledger::Refusal::Incomplete => Reason::Incomplete,
        ledger::Refusal::TrialExpired => Reason::TrialExpired,
        ledger::Refusal::PastDueGraceOver => Reason::PastDueGraceOver,
        ledger::Refusal::Unpaid => Reason::Unpaid,
        ledger::Refusal::Canceled => Reason::Canceled,
        ledger::Refusal::Expired => Reason::Expired,
        ledger::Refusal::NoSubscription => Reason::NoSubscription,
        ledger::Refusal::ConcurrencyLimitReached => Reason::ConcurrencyLimitReached,
        ledger::Refusal::DisputedHold => Reason::DisputedHold,
        ledger::Refusal::DailyLimitReached => Reason::DailyLimitReached,
        ledger::Refusal::InsufficientCredits => Reason::InsufficientCredits,
    }
}

/// The ledger's stage in the contract's word.
pub(super) fn state(stage: Stage) -> SubscriptionState {
    match stage {
        Stage::NoSubscription => SubscriptionState::NoSubscription,
        Stage::Incomplete => SubscriptionState::Incomplete,
        Stage::Trialing => SubscriptionState::Trialing,
        Stage::Active => SubscriptionState::Active,
        Stage::PastDue => SubscriptionState::PastDue,
        Stage::Unpaid => SubscriptionState::Unpaid,
        Stage::Paused => SubscriptionState::Paused,
        Stage::Canceled => SubscriptionState::Canceled,
        Stage::Expired => SubscriptionState::Expired,
    }
}

/// What the gateway is told of a decision.
struct Told<'a, 's, 'w, 'e> {
    session: &'a Session<'s, 'w, 'e>,
    asker: &'a Asker,
    size: Option<ToHold>,
    /// How it could be paid for.
    lanes: &'a [Lane],
    answer: &'a NeedAnswer,
}

impl Told<'_, '_, '_, '_> {
    fn refuse(&self, reason: Reason, required: Option<Amount>) -> NeedDecision {
        let plain = self.session.setup.catalog.refusal(reason);
        let resets_at = self.answer.window.as_ref().map(|window| window.resets_at);
        // A lifetime has no end to wait for.
        let resets_at = resets_at.filter(|at| *at < Instant::FAR);
        let waiting_helps = matches!(reason, Reason::DailyLimitReached | Reason::InsufficientCredits);
        let until_reset = resets_at.filter(|_| waiting_helps);
        refused(Refusal {
            balance_micro: Some(self.answer.balance.shown()),
            required_micro: required,
            resets_at,
            retry_after_s: until_reset
                .map(|at| at.since(self.session.work.now).secs_up())
                .or(plain.retry_after_s),
            payer: Some(self.asker.payer.clone()),
            epoch: self.answer.epoch,
            ..plain
        })
    }

    fn pass(
        &self,
        standing: &ledger::subscription::Standing,
        granted: Option<&Granted>,
    ) -> Result<NeedDecision, Error> {
        // Only an account with a tier passes the ledger.
        let tier: &TierId = standing
            .tier
            .as_ref()
            .ok_or_else(|| Error::Bug(format!("{} passed without a tier", self.asker.payer)))?;
        let catalog = &self.session.setup.catalog;
        let attributes = catalog.tiers.get(tier).map(|tier| tier.attributes.clone()).unwrap_or_default();
        let window = self.answer.window.as_ref().map(|window| Window {
            name: window.name.clone(),
            limit: whole(window.limit),
            remaining: whole(window.remaining),
            resets_at: window.resets_at,
        });
        let version = catalog.price_version;
        let price = match granted {
            Some(granted) => {
                Price { unit: granted.unit, hold: granted.hold, scope: self.scope(granted), version }
            }
            None => {
                let hold = self.size.map_or(Amount::ZERO, |size| size.hold);
                Price { unit: Unit::Credits, hold, scope: String::new(), version }
            }
        };
        let standing = Standing {
            account: self.asker.account.clone(),
            payer: self.asker.payer.clone(),
            tier: tier.clone(),
            state: state(standing.stage),
            balance_micro: self.answer.balance.shown(),
            attributes,
            window,
            epoch: self.answer.epoch,
            valid_ms: self.valid(standing).millis(),
            counted: catalog.tiers.get(tier).is_some_and(|tier| tier.at_once.is_some()),
        };
        let cells = granted.map_or_else(Vec::new, |granted| self.cells(granted, &price.scope));
        Ok(NeedDecision::Ok { standing: Box::new(standing), price, cells, paid: Amount::ZERO })
    }

    /// For how long this holds: no longer than a lease, than the tier, or than any window that pays, or will when it has begun
    /// anew.
    fn valid(&self, standing: &ledger::subscription::Standing) -> Span {
        let ends = [standing.changes_at, self.answer.window.as_ref().map(|window| window.resets_at)];
        let windows = self.lanes.iter().flat_map(|lane| &lane.legs).filter_map(|leg| leg.window.as_ref());
        let now = self.session.work.now;
        let ends = ends.into_iter().flatten().chain(windows.map(|window| window.expires_at));
        ends.map(|end| end.since(now)).fold(self.session.setup.timing.ttl, Span::min)
    }

    /// What kind of grant pays. A repeated hold was paid by the lane of its unit.
    fn scope(&self, granted: &Granted) -> String {
        let lane = granted.lane.and_then(|lane| self.lanes.get(lane));
        let leg = lane.and_then(|lane| lane.legs.first()).or_else(|| {
            self.lanes.iter().filter_map(|lane| lane.legs.first()).find(|leg| leg.unit == granted.unit)
        });
        leg.map(|leg| leg.scope.clone()).unwrap_or_default()
    }

    fn cells(&self, granted: &Granted, scope: &str) -> Vec<CellLease> {
        let lease = |cell: &ledger::CellGrant| CellLease {
            key: CellKey { grant: cell.id.grant.0, generation: cell.id.generation },
            unit: cell.unit,
            granted: cell.granted,
            held: cell.held,
            ttl_ms: cell.ttl.millis(),
            exposure: cell.exposure,
            scope: scope.to_owned(),
            keep: cell.keep,
        };
        granted.cells.iter().map(lease).collect()
    }
}

fn whole(amount: Amount) -> u64 {
    u64::try_from(amount.get()).unwrap_or(0)
}
