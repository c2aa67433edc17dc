//! Deciding a need: the first lane that covers it whole is used, then the first that covers its least; no is said only when it
//! is final.

use super::size::{lead, share, size_of};
use super::{Work, minus, plus, sum};
use crate::bug::Bug;
use crate::cell::{Cell, CellId, CellState, HOLD_GENERATION_MIN};
use crate::command::{Lane, Leg, Mode, Need, Timing};
use crate::grant::{Grant, GrantId};
use crate::outcome::{CellGrant, Decision, Granted, NeedAnswer, NoteKind, Refusal, Refused};
use crate::window::WindowRule;
use std::collections::BTreeSet;
use units::{Amount, Instant, NodeName, Span, Unit};

/// What one lane would take: which cells, and how much more for each.
type Plan = Vec<(CellId, Amount)>;

/// How much of what a leg needs has to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// All of it.
    Whole,
    /// Its least, where it has one: then it takes what there is.
    Least,
}

/// How a need stands that no lane covers now.
struct Outlook {
    /// What others have may come back, and would do.
    later: bool,
    /// It would do together with what is held for a disputed payment, and not without.
    disputed: bool,
}

impl Work<'_> {
    pub(super) fn need(&mut self, need: &Need) -> Result<NeedAnswer, Bug> {
        well_formed(need, self.now)?;
        let decision = match self.repeated(need)? {
            Some(decision) => decision,
            None => self.decide(need)?,
        };
        let balance = self.book.balance(self.now)?;
        let window = self.window_status(&need.lanes)?;
        Ok(NeedAnswer { decision, balance, window, epoch: self.book.account.epoch })
    }

    /// The answer to a hold that was granted before.
    fn repeated(&mut self, need: &Need) -> Result<Option<Decision>, Bug> {
        let Mode::Hold { generation } = need.mode else { return Ok(None) };
        let own = |id: &CellId| is_of(id, &need.node, need.incarnation, generation);
        let open: Vec<CellId> = self
            .book
            .cells
            .iter()
            .filter(|(id, cell)| own(id) && cell.state == CellState::Open)
            .map(|(id, _)| id.clone())
            .collect();
        // It is told its time anew, and counts it from when it asked now.
        for id in &open {
            self.extend(id, need.timing)?;
        }
        let mut found: Vec<(&CellId, &Cell, &Grant)> = Vec::new();
        for (id, cell) in &self.book.cells {
            if own(id) {
                let grant = self.book.grants.get(&id.grant);
                let grant = grant
                    .ok_or_else(|| Bug::NotLoaded { what: format!("grant {} of a hold", id.grant.0) })?;
                found.push((id, cell, grant));
            }
        }
        found.sort_by_key(|(id, _, grant)| (grant.terms.priority, grant.terms.expires_at, id.grant));
        let Some((_, _, first)) = found.first() else { return Ok(None) };
        if found.iter().any(|(_, cell, _)| cell.state != CellState::Open) {
            return Ok(Some(Decision::Over));
        }
        let unit = first.terms.unit;
        let of_unit = found.iter().filter(|(_, _, grant)| grant.terms.unit == unit);
        let hold = sum(of_unit.map(|(_, cell, _)| cell.granted), "a hold")?;
        let told = |(id, cell, grant): &(&CellId, &Cell, &Grant)| self.told(id, cell, grant, need);
        let cells = found.iter().map(told).collect::<Result<_, _>>()?;
        Ok(Some(Decision::Granted(Granted { lane: None, unit, hold, cells })))
    }

    fn decide(&mut self, need: &Need) -> Result<Decision, Bug> {
        let account = &self.book.account;
        if account.standing.is_stale(self.now) && !account.suspended {
            return Err(Bug::Misuse { what: "the standing is stale: compute and set it before the need" });
        }
        let stopped = match (&account.standing.tier, account.standing.why) {
            _ if account.suspended => Some(Refusal::Suspended),
            (None, why) => Some(why.unwrap_or(Refusal::NoSubscription)),
            (Some(_), _) => None,
        };
        if let Some(refusal) = stopped {
            return Ok(Decision::Refused(Refused { refusal, required: required(&need.lanes) }));
        }
        if need.mode == Mode::Identify {
            return Ok(Decision::Identified);
        }
        if self.is_crowded(need) {
            let (refusal, required) = (Refusal::ConcurrencyLimitReached, required(&need.lanes));
            // One of them will be over soon.
            return Ok(if need.wait {
                Decision::Retry
            } else {
                Decision::Refused(Refused { refusal, required })
            });
        }
        match self.grant_lane(need, Extent::Whole)? {
            Some(granted) => Ok(Decision::Granted(granted)),
            None => self.turn_away(need),
        }
    }

    /// Are as many holds unsettled as may be at once? What a repeated need holds was found before, and is no further one.
    fn is_crowded(&self, need: &Need) -> bool {
        let Some(most) = need.at_once else { return false };
        // Soft ones too: their window may just have ended, with the request still under way.
        let held =
            self.book.cells.iter().filter(|(id, cell)| id.is_hold() && cell.state != CellState::Closed);
        // One hold may have cells of several grants.
        let holds: BTreeSet<_> = held.map(|(id, _)| (&id.node, id.incarnation, id.generation)).collect();
        u32::try_from(holds.len()).unwrap_or(u32::MAX) >= most
    }

    /// The first lane that is covered to this extent, carried out.
    fn grant_lane(&mut self, need: &Need, extent: Extent) -> Result<Option<Granted>, Bug> {
        for (lane, legs) in need.lanes.iter().enumerate() {
            for leg in &legs.legs {
                self.open_window(leg)?;
            }
            if let (Some((plan, hold)), Some(first)) = (self.cover(need, legs, extent)?, legs.legs.first()) {
                let (lane, unit, cells) = (Some(lane), first.unit, self.carry_out(need, legs, plan)?);
                return Ok(Some(Granted { lane, unit, hold, cells }));
            }
        }
        Ok(None)
    }

    /// How the lane would be paid and what its first leg would hold, or `None` if it cannot be paid to this extent.
    fn cover(&self, need: &Need, lane: &Lane, extent: Extent) -> Result<Option<(Plan, Amount)>, Bug> {
        let (mut plan, mut held) = (Plan::new(), None);
        for leg in &lane.legs {
            let mut own = Amount::ZERO;
            let mut cells: Vec<(CellId, Amount)> = Vec::new();
            // A grant that is being taken back lends nothing more, and what its leases have free is spoken for.
            for (id, grant) in
                self.usable(leg.kind()).into_iter().filter(|(_, grant)| grant.void_claim.is_zero())
            {
                let (cell, free) = self.cell_for(need, id);
                own = plus(own, free, "what is free in own leases")?;
                cells.push((cell, grant.avail));
            }
            let spendable = self.spendable(leg.kind())?;
            let Some((hold, missing)) = held_by(need, leg, own, spendable, extent)? else { return Ok(None) };
            held = held.or(Some(hold));
            let size = match need.mode {
                Mode::Lease { .. } if !missing.is_zero() => {
                    missing.max(share(spendable, need.holders, leg.need).unwrap_or(missing))
                }
                _ => missing,
            };
            let mut rest = size;
            for (cell, avail) in cells {
                let take = rest.min(avail);
                rest = minus(rest, take, "what a lane takes")?;
                let lends = matches!(need.mode, Mode::Lease { .. }) && self.book.cells.contains_key(&cell);
                if !take.is_zero() || lends {
                    plan.push((cell, take));
                }
            }
        }
        Ok(held.map(|held| (plan, held)))
    }

    /// Grants that the leg may take from, in burn order.
    fn usable(&self, (unit, scope): (Unit, &str)) -> Vec<(GrantId, &Grant)> {
        let fits =
            |grant: &Grant| grant.terms.unit == unit && grant.terms.scope == scope && grant.is_live(self.now);
        let mut grants: Vec<(GrantId, &Grant)> = self
            .book
            .grants
            .iter()
            .filter(|(_, grant)| fits(grant))
            .map(|(id, grant)| (*id, grant))
            .collect();
        grants.sort_by_key(|(id, grant)| (grant.terms.priority, grant.terms.expires_at, *id));
        grants
    }

    /// What could be taken of a kind of grant at most: available, less the debt where it is general credits.
    fn spendable(&self, kind: (Unit, &str)) -> Result<Amount, Bug> {
        let avail = sum(self.usable(kind).iter().map(|(_, grant)| grant.avail), "what is available")?;
        Ok(if is_general(kind) { avail.saturating_sub(self.book.account.debt) } else { avail })
    }

    /// Whether a gateway may keep what is `free` in its cell of a grant: not where the account would be nearly empty
    /// even with it, and not what is being taken back.
    pub(super) fn keeps(&self, grant: &Grant, free: Amount, holders: u32, need: Amount) -> Result<bool, Bug> {
        let left = self.spendable((grant.terms.unit, &grant.terms.scope))?;
        let left = plus(left, free, "what would be available")?;
        Ok(self.may_spend() && grant.void_claim.is_zero() && share(left, holders, need).is_some())
    }

    /// The cell of a grant that would serve the need, and what is free in it for the gateway already.
    fn cell_for(&self, need: &Need, grant: GrantId) -> (CellId, Amount) {
        let name =
            |generation| CellId { grant, node: need.node.clone(), incarnation: need.incarnation, generation };
        let generation_min = match need.mode {
            Mode::Hold { generation } => return (name(generation), Amount::ZERO),
            Mode::Lease { generation_min, .. } => generation_min,
            Mode::Identify => 0,
        };
        let leases = self.book.cells.range(name(0)..name(HOLD_GENERATION_MIN));
        match leases.last() {
            Some((id, cell)) if cell.state == CellState::Open && id.generation >= generation_min => {
                (id.clone(), cell.free())
            }
            Some((id, _)) => (name(id.generation.saturating_add(1).max(generation_min)), Amount::ZERO),
            None => (name(generation_min.max(1)), Amount::ZERO),
        }
    }

    /// Takes what the plan says.
    fn carry_out(&mut self, need: &Need, lane: &Lane, plan: Plan) -> Result<Vec<CellGrant>, Bug> {
        let mut told = Vec::new();
        for (id, take) in plan {
            if !take.is_zero() {
                self.lease(&id, take)?;
                self.book.cells.entry(id.clone()).or_insert_with(new_cell);
                let cell = self.cell(&id)?;
                cell.granted = plus(cell.granted, take, "what a cell was granted")?;
                if let Mode::Hold { .. } = need.mode {
                    cell.admitted = cell.granted;
                }
            }
            if let Mode::Lease { .. } = need.mode {
                self.expose(&id, need)?;
            }
            self.extend(&id, need.timing)?;
            if let (Some(cell), Some(grant)) = (self.book.cells.get(&id), self.book.grants.get(&id.grant)) {
                told.push(self.told(&id, cell, grant, need)?);
            }
        }
        told.extend(self.unheard(need, lane)?);
        Ok(told)
    }

    /// A gateway may be ahead by as much as the largest request on the cell needs.
    fn expose(&mut self, id: &CellId, need: &Need) -> Result<(), Bug> {
        let (Some(grant), Some(cell)) = (self.book.grants.get(&id.grant), self.book.cells.get(id)) else {
            return Err(Bug::NotLoaded { what: format!("{id:?} or its grant") });
        };
        let lead = lead(need.exposure, cell.granted, size_of(need, grant));
        if lead > cell.exposure {
            self.cell(id)?.exposure = lead;
        }
        Ok(())
    }

    /// Leases of the same process that are over, and of which something is out: whoever was told of them reports them, but
    /// if that answer was lost, nobody would. Only what the lane takes from: an answer has one price, in one unit.
    fn unheard(&self, need: &Need, lane: &Lane) -> Result<Vec<CellGrant>, Bug> {
        if !matches!(need.mode, Mode::Lease { .. }) {
            return Ok(Vec::new());
        }
        let mut told = Vec::new();
        for (id, cell) in &self.book.cells {
            let own = id.node == need.node && id.incarnation == need.incarnation && !id.is_hold();
            if !own || cell.state != CellState::Soft || cell.outstanding() <= cell.held() {
                continue;
            }
            let grant = self.book.grants.get(&id.grant);
            let fits = |grant: &&Grant| {
                lane.legs.iter().any(|leg| leg.kind() == (grant.terms.unit, grant.terms.scope.as_str()))
            };
            if let Some(grant) = grant.filter(fits) {
                told.push(CellGrant { ttl: Span::ZERO, keep: false, ..self.told(id, cell, grant, need)? });
            }
        }
        Ok(told)
    }

    /// Lets a cell live on, never beyond its grant.
    pub(super) fn extend(&mut self, id: &CellId, timing: Timing) -> Result<(), Bug> {
        let (Some(grant), Some(cell)) = (self.book.grants.get(&id.grant), self.book.cells.get(id)) else {
            return Err(Bug::NotLoaded { what: format!("{id:?} or its grant") });
        };
        let soft_at = self.now.plus(timing.ttl.plus(timing.grace)).min(grant.terms.expires_at);
        let soft_at = soft_at.max(cell.soft_at);
        let hard_at = soft_at.plus(timing.tail).max(cell.hard_at);
        if (soft_at, hard_at) != (cell.soft_at, cell.hard_at) {
            let cell = self.cell(id)?;
            (cell.soft_at, cell.hard_at) = (soft_at, hard_at);
        }
        Ok(())
    }

    fn told(&self, id: &CellId, cell: &Cell, grant: &Grant, need: &Need) -> Result<CellGrant, Bug> {
        Ok(CellGrant {
            id: id.clone(),
            unit: grant.terms.unit,
            granted: cell.granted,
            held: if id.is_hold() { cell.granted } else { Amount::ZERO },
            ttl: need.timing.ttl.min(grant.terms.expires_at.since(self.now)),
            exposure: cell.exposure,
            keep: self.keeps(grant, cell.free(), need.holders, size_of(need, grant))?,
        })
    }

    /// No lane covers it whole: ask again if what others hold may make it possible, else take what there is where that does,
    /// else no.
    fn turn_away(&mut self, need: &Need) -> Result<Decision, Bug> {
        let mut legs = need.lanes.iter().flat_map(|lane| &lane.legs);
        let lent = legs.any(|leg| {
            let grants = self.usable(leg.kind());
            grants.into_iter().any(|(id, _)| self.lends_elsewhere(need, id))
        });
        if lent {
            self.note(NoteKind::Recall)?;
        }
        if need.wait && self.outlook(need, Extent::Whole)?.later {
            return Ok(Decision::Retry);
        }
        if let Some(granted) = self.grant_lane(need, Extent::Least)? {
            return Ok(Decision::Granted(granted));
        }
        let outlook = self.outlook(need, Extent::Least)?;
        if need.wait && outlook.later {
            return Ok(Decision::Retry);
        }
        let mut legs = need.lanes.iter().flat_map(|lane| &lane.legs);
        let had_credits = self.book.account.credited && legs.clone().any(|leg| leg.unit == Unit::Credits);
        let refills = |leg: &Leg| leg.window.as_ref().is_some_and(WindowRule::refills);
        let refusal = if outlook.disputed {
            Refusal::DisputedHold
        } else if !had_credits && legs.any(refills) {
            Refusal::DailyLimitReached
        } else {
            Refusal::InsufficientCredits
        };
        Ok(Decision::Refused(Refused { refusal, required: required(&need.lanes) }))
    }

    /// What may come of it, were what others have to come back.
    fn outlook(&self, need: &Need, extent: Extent) -> Result<Outlook, Bug> {
        let (mut later, mut disputed) = (false, false);
        for lane in &need.lanes {
            let (mut all, mut unfrozen) = (true, true);
            for leg in &lane.legs {
                let grants = self.usable(leg.kind());
                let frozen = grants.iter().map(|(_, grant)| grant.reversed.frozen());
                let mut may = Amount::ZERO;
                let frozen = sum(frozen, "what is held for disputes")?;
                for (_, grant) in &grants {
                    let back = minus(grant.leased, grant.void_claim, "the void claim")?;
                    may = plus(
                        may,
                        plus(grant.avail, back, "what may be available")?,
                        "what may be available",
                    )?;
                }
                let debt = if is_general(leg.kind()) { self.book.account.debt } else { Amount::ZERO };
                let wanted = wanted(need, leg, extent);
                let does = |may: Amount| wanted.is_some_and(|wanted| may.saturating_sub(debt) >= wanted);
                all &= does(may);
                may = plus(may, frozen, "what would be available")?;
                unfrozen &= does(may);
            }
            later |= all;
            disputed |= unfrozen && !all;
        }
        Ok(Outlook { later, disputed })
    }

    /// True if another process's open lease of this grant has something free.
    fn lends_elsewhere(&self, need: &Need, grant: GrantId) -> bool {
        let own = |id: &CellId| id.node == need.node && id.incarnation == need.incarnation;
        let lends = |id: &CellId, cell: &Cell| {
            !id.is_hold() && cell.state == CellState::Open && !cell.free().is_zero()
        };
        let mut cells = self.book.cells.iter();
        cells.any(|(id, cell)| id.grant == grant && !own(id) && lends(id, cell))
    }
}

/// A cell that has nothing yet.
fn new_cell() -> Cell {
    let zero = Amount::ZERO;
    Cell {
        granted: zero,
        returned: zero,
        admitted: zero,
        finished: zero,
        used: zero,
        short: zero,
        late: zero,
        soft_at: Instant::EPOCH,
        hard_at: Instant::EPOCH,
        state: CellState::Open,
        exposure: zero,
        ver: 0,
    }
}

fn well_formed(need: &Need, now: Instant) -> Result<(), Bug> {
    let what = match need.mode {
        Mode::Hold { generation } if generation < HOLD_GENERATION_MIN => {
            Some("a hold's generation is a lease's: give worker << 40 | need id")
        }
        Mode::Lease { generation_min, .. } if generation_min >= HOLD_GENERATION_MIN => {
            Some("a lease's generation is a hold's: give a small one")
        }
        _ => None,
    };
    let legs = || need.lanes.iter().flat_map(|lane| &lane.legs);
    let names: BTreeSet<(usize, Unit, &str)> =
        need.lanes.iter().enumerate().fold(BTreeSet::new(), |mut set, (n, lane)| {
            set.extend(lane.legs.iter().map(|leg| (n, leg.unit, leg.scope.as_str())));
            set
        });
    let what = what.or_else(|| {
        if need.lanes.iter().any(|lane| lane.legs.is_empty()) {
            Some("a lane without legs would be free: leave the lane out")
        } else if legs().any(|leg| leg.need.is_zero()) {
            Some("a need of nothing would be free: ask with Mode::Identify")
        } else if legs().any(|leg| leg.least.is_some_and(|least| least.is_zero() || least > leg.need)) {
            Some("a leg's least is nothing, which would be free, or above its need: give 1 to the need")
        } else if names.len() != legs().count() {
            Some("two legs of one lane take from the same scope: add them up")
        } else if legs().any(|leg| leg.window.as_ref().is_some_and(|rule| rule.name != leg.scope)) {
            Some("a leg's window has another name than its scope")
        } else if legs().filter_map(|leg| leg.window.as_ref()).any(|rule| !rule.holds(now)) {
            Some("a leg's window is not the one of now: compute it for the book's time")
        } else if contradict(need) {
            Some("one window rule with two limits in one need: a name has one rule")
        } else {
            None
        }
    });
    what.map_or(Ok(()), |what| Err(Bug::Misuse { what }))
}

/// True if two legs name one window and mean two.
fn contradict(need: &Need) -> bool {
    let rules = || {
        need.lanes.iter().flat_map(|lane| &lane.legs).filter_map(|leg| Some((leg.unit, leg.window.as_ref()?)))
    };
    rules().any(|(unit, rule)| {
        rules().any(|(other, twin)| unit == other && rule.name == twin.name && rule != twin)
    })
}

fn is_of(id: &CellId, node: &NodeName, incarnation: u64, generation: u64) -> bool {
    id.generation == generation && id.incarnation == incarnation && id.node == *node
}

fn is_general((unit, scope): (Unit, &str)) -> bool {
    unit == Unit::Credits && scope.is_empty()
}

/// What must be free for the gateway after a leg is covered; `None` if that is more than anybody can have.
fn wanted(need: &Need, leg: &Leg, extent: Extent) -> Option<Amount> {
    let own = match (extent, leg.least) {
        (Extent::Least, Some(least)) => least,
        _ => leg.need,
    };
    ahead(need, leg).checked_add(own)
}

/// What is free in own leases and spoken for.
fn ahead(need: &Need, leg: &Leg) -> Amount {
    match need.mode {
        Mode::Lease { .. } => leg.ahead,
        Mode::Hold { .. } | Mode::Identify => Amount::ZERO,
    }
}

/// What a leg holds, and how much of that is missing in own leases; `None` if what there is does not do.
fn held_by(
    need: &Need,
    leg: &Leg,
    own: Amount,
    spendable: Amount,
    extent: Extent,
) -> Result<Option<(Amount, Amount)>, Bug> {
    let whole = wanted(need, leg, Extent::Whole).map(|wanted| wanted.saturating_sub(own));
    if let Some(missing) = whole.filter(|missing| *missing <= spendable) {
        return Ok(Some((leg.need, missing)));
    }
    let there = plus(own, spendable, "what is free and available")?.saturating_sub(ahead(need, leg));
    let does = leg.least.is_some_and(|least| extent == Extent::Least && least <= there);
    Ok(does.then_some((there.min(leg.need), spendable)))
}

/// What a need costs in general credits at least, for telling.
fn required(lanes: &[Lane]) -> Option<Amount> {
    let mut legs = lanes.iter().flat_map(|lane| &lane.legs);
    legs.find(|leg| leg.unit == Unit::Credits).map(|leg| leg.least.unwrap_or(leg.need))
}
