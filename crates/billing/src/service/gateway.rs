//! The calls of the hot path: a gateway introduces itself, and syncs.

use super::need::{decide, holders};
use super::people::{Asker, asker, is_digest};
use super::{Session, Setup};
use crate::engine::Work;
use crate::error::{Error, Invalid};
use crate::store::UsageKey;
use contract::v1::{
    CellAnswer, CellKey, CellReport, CellState, HelloAnswer, Intervals, Limits, Need, NeedAnswer,
    NeedDecision, NeedMode, Note, NoteKind, PriceList, Sync, SyncAnswer, Tokens, UsageRecord,
};
use ledger::{Abandon, CellId, Command, GrantId, HOLD_GENERATION_MIN, Reply, Report, Rows, Totals};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use units::{AccountId, Amount, EndpointId, NodeName};

/// Bounds of one call. Two syncs a second of this size carry the records of some 30,000 requests a second from one worker;
/// were there room for fewer, its backlog would fill under load that its leases allow.
#[must_use]
pub const fn limits() -> Limits {
    Limits { cells_max: 2_000, needs_max: 1_000, usage_max: 20_000, body_bytes_max: 8_388_608 }
}

/// How long a waiting request may be told to retry in all.
const WAIT_MS: u64 = 1_000;
/// The shortest time between two background syncs of one worker: well below two a second, so that with the first
/// question about a customer and the first lease it is not more.
const SYNC_MS: u64 = 800;
/// The greatest worker number and need id: together they make a generation of 52 bits.
const WORKER_MAX: u16 = 4_095;
const NEED_ID_MAX: u64 = HOLD_GENERATION_MIN - 1;
/// How far an incarnation may be ahead of those that are known. A database that was restored is behind by as many as Envoy was
/// started since, and never by a million; believed however large it is, one sync would use up all that a node can have.
const AHEAD_MAX: u64 = 1_000_000;
/// The largest whole number that every JSON reader keeps exactly.
const WHOLE_MAX: u64 = 9_007_199_254_740_991;

/// Gives a node an incarnation that it never had.
///
/// # Errors
/// [`Invalid::Conflict`] if there is none left: somebody told of the last one. [`Error::Store`].
pub fn hello(work: &mut Work<'_>, setup: &Setup, node: NodeName) -> Result<HelloAnswer, Error> {
    let incarnation = work.store.incarnation(&node)?.saturating_add(1);
    if incarnation > WHOLE_MAX {
        let what =
            format!("The node {node} has had every incarnation there is; give this Envoy another name.");
        return Err(Invalid::Conflict.because(what));
    }
    work.store.put_incarnation(&node, incarnation, work.now)?;
    let intervals = Intervals {
        lease_ttl_ms: setup.timing.ttl.millis(),
        lease_tail_ms: setup.timing.tail.millis(),
        sync_ms: SYNC_MS,
        claim_ttl_ms: setup.claim_ttl.millis(),
        wait_ms: WAIT_MS,
    };
    Ok(HelloAnswer { node, incarnation, intervals, limits: limits() })
}

/// Takes reports in, gives back what is not wanted any more, keeps evidence, then decides about those who wait.
///
/// # Errors
/// [`Invalid::TooLarge`], [`Invalid::Unprocessable`], or [`Invalid::Conflict`] where it came before, or a later one of the same
/// worker did, whereupon nothing of it was done; [`Error::Store`].
pub fn sync(work: &mut Work<'_>, setup: &Setup, sync: &Sync) -> Result<SyncAnswer, Error> {
    check(sync)?;
    let known = work.store.incarnation(&sync.node)?;
    if sync.incarnation.saturating_sub(known) > AHEAD_MAX {
        let what = format!("incarnation is {}; {} had {known} so far.", sync.incarnation, sync.node);
        return Err(Invalid::Unprocessable.because(what));
    }
    if known < sync.incarnation {
        // Told by a gateway that outlived this database: never give it to another process.
        work.store.put_incarnation(&sync.node, sync.incarnation, work.now)?;
    }
    let (node, incarnation, worker) = (sync.node.clone(), sync.incarnation, sync.worker);
    if !work.store.came(&UsageKey { node, incarnation, worker }, sync.sent_seq)? {
        // A worker sends one after the other and none twice, so it has given this one up, or something on the way repeats
        // what it was not asked to. What is asked for here would be lent to nobody.
        work.count("tollgate_billing_errors_total", "kind", "overtaken");
        let what =
            format!("Sync {} of worker {worker} came before, or a later one of it did.", sync.sent_seq);
        return Err(Invalid::Conflict.because(what));
    }
    let mut session = Session::new(work, setup)?;
    let owners = owners(&mut session, sync)?;
    let mut cells = Vec::with_capacity(sync.cells.len());
    for (cell, owner) in sync.cells.iter().zip(&owners.cells) {
        cells.push(report(&mut session, sync, cell, owner.as_ref())?);
    }
    for (id, owner) in sync.abandoned.iter().zip(&owners.abandoned) {
        if let Some(owner) = owner {
            let (node, incarnation) = (sync.node.clone(), sync.incarnation);
            let abandon = Abandon { node, incarnation, generation: generation(sync, *id) };
            session.step(owner, &Command::Abandon(abandon))?;
        }
    }
    let usage_acked = keep_usage(&mut session, sync)?;
    let mut needs = Vec::with_capacity(sync.needs.len());
    let mut ahead = super::need::Ahead::new();
    for (need, asker) in sync.needs.iter().zip(&owners.needs) {
        let decision = decide(&mut session, sync, need, asker.as_ref(), &mut ahead)?;
        needs.push(NeedAnswer { id: need.id, decision });
    }
    let next_ms = setup.timing.ttl.part(3).millis().max(1);
    let notes = notes(&mut session, sync, &owners.cells)?;
    let lists = lists(setup, sync, &needs);
    Ok(SyncAnswer { sent_seq: sync.sent_seq, cells, needs, usage_acked, next_ms, notes, lists })
}

/// The price list of each endpoint for which a need was granted here by which it, or the next one, is charged, or its limit
/// of output set: a window pays for no more than that either. Not where nothing is held: nobody would look into it.
fn lists(setup: &Setup, sync: &Sync, needs: &[NeedAnswer]) -> BTreeMap<EndpointId, PriceList> {
    let uses = |need: &Need, decision: &NeedDecision| {
        need.mode != NeedMode::Identify && matches!(decision, NeedDecision::Ok { .. })
    };
    let used = sync.needs.iter().zip(needs).filter(|(need, answer)| uses(need, &answer.decision));
    let list = |id: &EndpointId| setup.catalog.endpoints.get(id)?.cost.list().cloned();
    used.filter_map(|(need, _)| Some((need.endpoint.clone(), list(&need.endpoint)?))).collect()
}

/// Where each payer stands whose lease was reported: what is remembered from an earlier epoch is void.
fn notes(
    session: &mut Session<'_, '_, '_>,
    sync: &Sync,
    owners: &[Option<AccountId>],
) -> Result<Vec<Note>, Error> {
    let leases = sync.cells.iter().zip(owners).filter(|(cell, _)| cell.key.generation < HOLD_GENERATION_MIN);
    let payers: BTreeSet<&AccountId> = leases.filter_map(|(_, owner)| owner.as_ref()).collect();
    let mut notes = Vec::with_capacity(payers.len());
    for payer in payers {
        let account = &session.book(payer)?.account;
        let stopped = account.suspended || account.standing.tier.is_none();
        let kind = if stopped { NoteKind::Suspended } else { NoteKind::Changed };
        notes.push(Note { payer: payer.clone(), epoch: account.epoch, kind });
    }
    Ok(notes)
}

/// The generation of the hold of one need.
pub(super) fn generation(sync: &Sync, need: u64) -> u64 {
    u64::from(sync.worker).wrapping_shl(40) | need
}

fn check(sync: &Sync) -> Result<(), Error> {
    let limits = limits();
    for (what, count, max) in [
        ("cells", sync.cells.len(), limits.cells_max),
        ("needs", sync.needs.len(), limits.needs_max),
        ("abandoned", sync.abandoned.len(), limits.needs_max),
        ("usage", sync.usage.len(), limits.usage_max),
    ] {
        if u32::try_from(count).map_or(true, |count| count > max) {
            return Err(Invalid::TooLarge
                .because(format!("{what} has {count} entries; at most {max} fit. Split it.")));
        }
    }
    let no = |what: String| Err(Invalid::Unprocessable.because(what));
    if !(1..=WORKER_MAX).contains(&sync.worker) {
        return no(format!("worker is {}; it goes from 1 to {WORKER_MAX}.", sync.worker));
    }
    if !(1..=WHOLE_MAX).contains(&sync.incarnation) {
        return no(format!("incarnation is {}; use the one that hello gave.", sync.incarnation));
    }
    let ids = sync.needs.iter().map(|need| &need.id).chain(&sync.abandoned);
    if let Some(id) = ids.into_iter().find(|id| !(1..=NEED_ID_MAX).contains(*id)) {
        return no(format!("a need has the id {id}; ids go from 1 to 2^40 - 1."));
    }
    let least = sync.needs.iter().map(|need| need.generation_min);
    if let Some(least) = least.into_iter().find(|least| !(1..HOLD_GENERATION_MIN).contains(least)) {
        return no(format!("a need asks for generation {least}; leases have 1 to 2^40 - 1."));
    }
    for (mode, repeat) in sync.needs.iter().filter_map(|need| Some((need.mode, need.repeat.as_ref()?))) {
        if mode != NeedMode::Hold {
            return no(
                "a need that repeats asks for a lease or for nothing; only a hold is one request's.".into()
            );
        }
        if !is_digest(&repeat.key) || !is_digest(&repeat.body) {
            return no("a need that repeats is not named by digests; each is 64 digits of 0-9a-f.".into());
        }
    }
    let keys = sync
        .cells
        .iter()
        .map(|cell| cell.key)
        .chain(sync.usage.iter().flat_map(|u| u.charges.iter().map(|c| c.key)));
    if sync.sent_seq > WHOLE_MAX {
        return no(format!("sent_seq is {}; it is at most 2^53 - 1.", sync.sent_seq));
    }
    if let Some(key) = keys.into_iter().find(|key| key.grant > WHOLE_MAX || key.generation > WHOLE_MAX) {
        return no(format!("a cell is named {}/{}; both are at most 2^53 - 1.", key.grant, key.generation));
    }
    if let Some(record) = sync.usage.iter().find(|record| !(1..=WHOLE_MAX).contains(&record.n)) {
        return no(format!("a usage record has the number {}; they go from 1 to 2^53 - 1.", record.n));
    }
    if let Some(record) = sync.usage.iter().find(|record| record.price_version > WHOLE_MAX) {
        return no(format!(
            "a usage record names price version {}; they go to 2^53 - 1.",
            record.price_version
        ));
    }
    Ok(())
}

/// Who pays for what this sync is about; each book's rows are known before it is loaded.
struct Owners {
    cells: Vec<Option<AccountId>>,
    abandoned: Vec<Option<AccountId>>,
    needs: Vec<Option<Asker>>,
}

fn owners(session: &mut Session<'_, '_, '_>, sync: &Sync) -> Result<Owners, Error> {
    let mut owners = Owners { cells: Vec::new(), abandoned: Vec::new(), needs: Vec::new() };
    let hold = |id: u64| Rows::Hold {
        node: sync.node.clone(),
        incarnation: sync.incarnation,
        generation: generation(sync, id),
    };
    for cell in &sync.cells {
        let owner = session.work.store.owner_of_grant(GrantId(cell.key.grant))?;
        if let Some(owner) = &owner {
            session.want(owner, Rows::Cell(cell_id(sync, cell.key)));
        }
        owners.cells.push(owner);
    }
    for id in &sync.abandoned {
        let generation = generation(sync, *id);
        let owner = session.work.store.owner_of_hold(&sync.node, sync.incarnation, generation)?;
        if let Some(owner) = &owner {
            session.want(owner, hold(*id));
        }
        owners.abandoned.push(owner);
    }
    for Need { id, subject, .. } in &sync.needs {
        let asker = asker(session, subject)?;
        if let Some(Asker { payer, .. }) = &asker {
            session.want(payer, hold(*id));
        }
        owners.needs.push(asker);
    }
    Ok(owners)
}

/// The ledger's name of a gateway's cell.
pub(super) fn cell_id(sync: &Sync, key: CellKey) -> CellId {
    let (node, incarnation) = (sync.node.clone(), sync.incarnation);
    CellId { grant: GrantId(key.grant), node, incarnation, generation: key.generation }
}

/// Takes in what one cell has come to.
pub(super) fn report(
    session: &mut Session<'_, '_, '_>,
    sync: &Sync,
    cell: &CellReport,
    owner: Option<&AccountId>,
) -> Result<CellAnswer, Error> {
    let CellReport { key, admitted, finished, used, returned, target, need, short, gone } = *cell;
    let unknown = CellAnswer {
        key,
        granted: Amount::ZERO,
        acked_admitted: Amount::ZERO,
        ttl_ms: 0,
        exposure: Amount::ZERO,
        state: CellState::Closed,
        keep: false,
    };
    let Some(owner) = owner else {
        tracing::warn!(grant = key.grant, node = %sync.node, "a cell of an unknown grant was reported");
        session.work.count("tollgate_billing_errors_total", "kind", "unknown_grant");
        return Ok(unknown);
    };
    let report = Report {
        cell: cell_id(sync, key),
        totals: Totals { admitted, finished, used, returned, short },
        target: if sync.draining { Amount::ZERO } else { target },
        need,
        holders: holders(session.book(owner)?, sync),
        timing: session.setup.timing,
        exposure: session.setup.exposure(),
        shortfall: session.setup.catalog.policies.shortfall,
        gone,
    };
    let reply = session.step(owner, &Command::Report(report))?;
    let Reply::Report(answer) = reply else {
        return Err(Error::Bug(format!("a report was answered {reply:?}")));
    };
    if let Some(why) = answer.refused {
        tracing::warn!(why = why.as_str(), grant = key.grant, node = %sync.node, "a report was not believed");
        session.work.count("tollgate_billing_errors_total", "kind", why.as_str());
    }
    Ok(CellAnswer {
        granted: answer.cell.granted,
        acked_admitted: answer.cell.acked_admitted,
        ttl_ms: answer.cell.ttl.millis(),
        exposure: answer.cell.exposure,
        state: match answer.cell.state {
            ledger::CellState::Open => CellState::Open,
            ledger::CellState::Soft => CellState::Soft,
            ledger::CellState::Closed => CellState::Closed,
        },
        keep: answer.cell.keep,
        ..unknown
    })
}

/// What an upstream says of its tokens is evidence, and charged by nobody: a number that is none is kept as the largest there is.
/// Refused, it would come back with every sync, and nothing of that worker would ever be entered.
fn countable(record: &UsageRecord) -> Cow<'_, UsageRecord> {
    let Some(tokens) = &record.tokens else { return Cow::Borrowed(record) };
    let Tokens { model, input, cached, output, cache_written, reasoning, images } = tokens.clone();
    let least = |count: u64| count.min(WHOLE_MAX);
    let counted = Tokens {
        model,
        input: least(input),
        cached: least(cached),
        output: least(output),
        cache_written: least(cache_written),
        reasoning: least(reasoning),
        images: least(images),
    };
    if counted == *tokens {
        return Cow::Borrowed(record);
    }
    Cow::Owned(UsageRecord { tokens: Some(counted), ..record.clone() })
}

/// Keeps evidence; up to which record it is all here. A worker tells of the oldest record that it has first, so where an older
/// one is missing, it was acknowledged by a database that this one is a backup of, or came after. It would be waited for in vain,
/// and the worker would tell of all that followed until it had no room left.
fn keep_usage(session: &mut Session<'_, '_, '_>, sync: &Sync) -> Result<u64, Error> {
    let key = UsageKey { node: sync.node.clone(), incarnation: sync.incarnation, worker: sync.worker };
    let work = &mut *session.work;
    let numbers = sync.usage.iter().map(|record| record.n);
    if let Some(first) = numbers.clone().min() {
        work.store.usage_begins(&key, first)?;
    }
    let mut new = BTreeMap::<_, u64>::new();
    for record in &sync.usage {
        if work.store.put_usage(&key, &countable(record), work.now)? {
            let count = new.entry(record.outcome.as_str()).or_default();
            *count = count.saturating_add(1);
        }
    }
    for (outcome, count) in new {
        work.counts.push(("tollgate_billing_usage_records_total", ("outcome", outcome.to_owned()), count));
    }
    // Never beyond what was told here: numbers that somebody else told of in its name are not this worker's.
    Ok(work.store.usage_acked(&key)?.min(numbers.max().unwrap_or(0)))
}
