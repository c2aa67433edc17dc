//! A gateway: the gate's own slot and cells, and requests that hold something on them. What each makes of everything
//! that it can do or hear, computed once.

use crate::bounds::{Bounds, Mutant};
use crate::house::{Answer, FREE, GRANTS, NONE, PerGrant, Sync, byte, of, tick};
use crate::known::{Known, Map};
use contract::v1::{CellKey, CellReport, CellState};
use gate::lease::{Held, PayerKey, Slot, scope_tag};
use std::rc::Rc;
use units::{AccountId, Amount, Instant, Unit};

/// Up to which time sums are kept.
const TIMES: usize = 10;

/// A request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    /// When it must have ended.
    ends: u8,
    key: CellKey,
}

/// One gateway. Of a dead one the cells say what its requests really used.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    pub(crate) alive: bool,
    pub(crate) slot: Slot,
    flight: Vec<Flight>,
    /// Totals that no slot remembers, told until they are answered.
    left: Vec<CellReport>,
    /// What the upstream really served, by grant.
    served: PerGrant,
}

/// What it can do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Act {
    Admit {
        free: bool,
    },
    Finish {
        at: usize,
        used: bool,
    },
    Recall,
    Send {
        asks: bool,
        /// The question says that an answer was lost.
        lost: bool,
        gives: bool,
    },
    Die {
        served: u8,
    },
    /// Time has passed.
    Age,
}

/// What became of it, and what it sent; [`NONE`] if nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Done {
    pub(crate) gateway: u32,
    pub(crate) sync: u32,
}

pub(crate) type Able = (Act, Done);

/// A gateway in sums.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) alive: bool,
    pub(crate) flights: usize,
    /// Which grants' cells have anything to spend, at each time.
    pub(crate) spendable: [PerGrant; TIMES],
    pub(crate) served: PerGrant,
    pub(crate) in_flight: PerGrant,
    pub(crate) free: u8,
    /// Something that the ledger has not heard of.
    pub(crate) untold: bool,
    /// When the first request must have ended.
    pub(crate) must_end: u8,
}

fn at(key: CellKey) -> usize {
    key.grant as usize - 1
}

fn sums(gateway: &Gateway) -> Sums {
    let (mut spendable, mut in_flight) = ([[0; GRANTS]; TIMES], [0; GRANTS]);
    for flight in &gateway.flight {
        in_flight[at(flight.key)] += 1;
    }
    let cells = &gateway.slot.cells;
    for (now, sums) in (0..).zip(&mut spendable) {
        cells.iter().for_each(|cell| sums[at(cell.key)] += byte(cell.spendable(tick(now))));
    }
    Sums {
        alive: gateway.alive,
        flights: gateway.flight.len(),
        spendable: if gateway.alive { spendable } else { [[0; GRANTS]; TIMES] },
        served: gateway.served,
        in_flight,
        free: if gateway.alive { cells.iter().map(|cell| byte(cell.free())).sum() } else { 0 },
        untold: !gateway.left.is_empty() || cells.iter().any(|cell| !cell.is_told()),
        must_end: gateway.flight.first().map_or(u8::MAX, |flight| flight.ends),
    }
}

/// What can make no difference any more is made the same.
fn canonical(gateway: &mut Gateway, now: u8) {
    let slot = &mut gateway.slot;
    slot.touched = Instant::EPOCH;
    if slot.kept_until <= tick(now) {
        slot.kept_until = Instant::EPOCH;
    }
    for cell in &mut slot.cells {
        cell.need = Amount::ONE;
        if cell.deadline <= tick(now) || cell.state != CellState::Open {
            cell.deadline = Instant::EPOCH;
        }
        if cell.state != CellState::Open {
            (cell.acked, cell.exposure, cell.keep) = (cell.admitted, Amount::ZERO, false);
        }
    }
    gateway.flight.sort_unstable();
}

fn name(gateway: &Gateway) -> Vec<u8> {
    let mut out = gateway.slot.encode();
    out.push(gateway.alive.into());
    out.extend(gateway.served);
    for flight in &gateway.flight {
        out.extend([255, flight.ends, flight.key.grant as u8, flight.key.generation as u8]);
    }
    for told in &gateway.left {
        let totals = [told.admitted, told.finished, told.used, told.returned];
        out.extend([254, told.key.grant as u8, told.key.generation as u8]);
        out.extend(totals.map(byte));
    }
    out
}

/// All gateways that were seen, and what they do.
pub(crate) struct Gateways {
    bounds: Bounds,
    all: Known<Gateway>,
    sums: Vec<Sums>,
    pub(crate) syncs: Known<Sync>,
    done: Map<(u32, u8, Act), Option<Done>>,
    heard: Map<(u32, u8, u32), u32>,
    able: Map<(u32, u8), Rc<[Able]>>,
    scopes: [u64; 2],
}

impl Gateways {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let (all, syncs, sums) = (Known::new(), Known::new(), Vec::new());
        let (done, heard, able) = (Map::default(), Map::default(), Map::default());
        Self { bounds, all, sums, syncs, done, heard, able, scopes: [scope_tag(""), scope_tag(FREE)] }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn sums(&self, gateway: u32) -> &Sums {
        &self.sums[gateway as usize]
    }

    pub(crate) fn first(&mut self) -> u32 {
        let slot = Slot::new(PayerKey::of(&AccountId::new("alice").unwrap()), 1);
        let (flight, left, served) = (Vec::new(), Vec::new(), [0; GRANTS]);
        self.number(Gateway { alive: true, slot, flight, left, served }, 0)
    }

    fn number(&mut self, mut gateway: Gateway, now: u8) -> u32 {
        canonical(&mut gateway, now);
        let number = self.all.number(name(&gateway), gateway);
        if self.sums.len() < self.all.len() {
            self.sums.push(sums(self.all.get(number)));
        }
        number
    }

    /// What requests used and hold of one cell, in truth.
    pub(crate) fn consumed(&self, gateway: u32, key: CellKey) -> Option<u8> {
        let cells = &self.all.get(gateway).slot.cells;
        cells.iter().find(|cell| cell.key == key).map(|cell| byte(cell.used) + byte(cell.held()))
    }

    /// When the last of its requests on a cell must have ended, if there is one.
    pub(crate) fn last_end(&self, gateway: u32, key: CellKey) -> Option<u8> {
        let flights = self.all.get(gateway).flight.iter().filter(|flight| flight.key == key);
        flights.map(|flight| flight.ends).max()
    }

    /// What becomes of a gateway that does this, and what it sends; `None` if it cannot.
    pub(crate) fn act(&mut self, gateway: u32, now: u8, act: Act) -> Option<Done> {
        if let Some(known) = self.done.get(&(gateway, now, act)) {
            return *known;
        }
        let mut to = self.all.get(gateway).clone();
        let sent = self.does(&mut to, now, act);
        let result = sent.map(|sync| Done { gateway: self.number(to, now), sync });
        self.done.insert((gateway, now, act), result);
        result
    }

    /// Everything that it can do at this time of itself and that makes a difference, and what becomes of it.
    pub(crate) fn able(&mut self, gateway: u32, now: u8) -> Rc<[Able]> {
        if let Some(known) = self.able.get(&(gateway, now)) {
            return Rc::clone(known);
        }
        let flights = self.sums(gateway).flights;
        let mut acts = vec![Act::Admit { free: false }, Act::Admit { free: true }, Act::Recall];
        let ways = [false, true];
        acts.extend((0..flights).flat_map(|at| ways.map(|used| Act::Finish { at, used })));
        // Who asks does not give back with the same breath.
        let sends = [(false, false), (false, true), (true, false)];
        let lost = self.bounds.lost;
        acts.extend(sends.map(|(asks, gives)| Act::Send { asks, lost: asks && lost, gives }));
        acts.extend((0..1 << flights).map(|served| Act::Die { served }));
        let mut able = Vec::new();
        for act in acts {
            let Some(done) = self.act(gateway, now, act) else { continue };
            let again = able.iter().any(|(_, known): &Able| *known == done);
            if !again && (done.gateway != gateway || done.sync != NONE) {
                able.push((act, done));
            }
        }
        let able: Rc<[Able]> = able.into();
        self.able.insert((gateway, now), Rc::clone(&able));
        able
    }

    /// What becomes of a gateway that hears this answer.
    pub(crate) fn hear(&mut self, gateway: u32, now: u8, (number, answer): (u32, &Answer)) -> u32 {
        if let Some(known) = self.heard.get(&(gateway, now, number)) {
            return *known;
        }
        let mut to = self.all.get(gateway).clone();
        self.hears(&mut to, answer, now);
        let result = self.number(to, now);
        self.heard.insert((gateway, now, number), result);
        result
    }

    fn does(&mut self, to: &mut Gateway, now: u8, act: Act) -> Option<u32> {
        match act {
            Act::Admit { free } => {
                let unit = if free { Unit::Requests } else { Unit::Credits };
                let scope = self.scopes[usize::from(free)];
                let full = to.flight.len() >= self.bounds.flight;
                let held = if full { None } else { to.slot.admit(scope, unit, Amount::ONE, tick(now)) }?;
                let ends = now + self.bounds.longest;
                to.flight.extend(held.iter().map(|held| Flight { ends, key: held.key }));
            }
            Act::Finish { at: n, used } => {
                let Flight { key, .. } = *to.flight.get(n)?;
                to.flight.remove(n);
                to.served[at(key)] += u8::from(used);
                // A cell that was settled long ago is not there any more.
                _ = to.slot.finish(Held { key, amount: Amount::ONE }, of(used.into()));
            }
            Act::Recall => self.recall(to),
            Act::Send { asks, lost, gives } => {
                if gives {
                    to.slot.give_back();
                }
                return self.send(to, now, asks, lost);
            }
            Act::Die { served } => die(to, served),
            Act::Age => {}
        }
        Some(NONE)
    }

    fn recall(&self, to: &mut Gateway) {
        match self.bounds.mutant {
            Mutant::RecallUnheeded | Mutant::RaisedAfterSending => {}
            _ => _ = to.slot.recall(),
        }
    }

    /// Takes in an answer, as a worker does: first what it says of reports, then what was lent.
    fn hears(&self, to: &mut Gateway, answer: &Answer, now: u8) {
        let late = self.bounds.mutant == Mutant::DeadlineFromReceipt;
        let sent = tick(if late { now } else { answer.sent });
        for (told, cell) in answer.told.iter().zip(&answer.cells) {
            to.left.retain(|left| left.key != told.key);
            if let Some(mine) = to.slot.cell_mut(told.key) {
                mine.merge(cell, told, sent);
            }
        }
        let before: Vec<(CellKey, Amount)> =
            to.slot.cells.iter().map(|cell| (cell.key, cell.granted)).collect();
        let roomless = to.slot.place(&answer.lent, sent, tick(now));
        // What was last said of a cell counts.
        to.left.retain(|left| roomless.iter().all(|report| report.key != left.key));
        to.left.extend(roomless);
        if self.bounds.mutant == Mutant::GrantedIsDelta {
            for lease in &answer.lent {
                let known = before.iter().find(|(key, _)| *key == lease.key);
                if let (Some((_, granted)), Some(cell)) = (known, to.slot.cell_mut(lease.key)) {
                    cell.granted = granted.checked_add(lease.granted).unwrap().min(of(9));
                }
            }
        }
    }

    /// Tells what the ledger does not know and what lives on, and asks for a lease or does not. Who says that an answer was
    /// lost tells of all that is known here.
    fn send(&mut self, to: &mut Gateway, now: u8, asks: bool, lost: bool) -> Option<u32> {
        let floor = to.slot.floor;
        to.slot.tidy(tick(now));
        if self.bounds.mutant == Mutant::FloorForgotten {
            to.slot.floor = floor;
        }
        let lives = |cell: &gate::lease::Cell| cell.state == CellState::Open && !cell.is_settled();
        let cells = to.slot.cells.iter().filter(|cell| lost || !cell.is_told() || lives(cell));
        let mut told: Vec<CellReport> = to.left.clone();
        told.extend(cells.map(|cell| self.report(cell)));
        told.sort_by_key(|told| told.key);
        if told.is_empty() && !asks {
            return None;
        }
        if asks {
            to.slot.kept_until = to.slot.kept_until.max(tick(now + 1));
        }
        let sync = Sync { sent: now, told, asks: asks.then_some(to.slot.floor), lost };
        Some(self.syncs.number(format!("{sync:?}").into_bytes(), sync))
    }

    fn report(&self, cell: &gate::lease::Cell) -> CellReport {
        let mut told = cell.report();
        let add = |a: &mut Amount, b: Amount| *a = a.checked_add(b).unwrap();
        match self.bounds.mutant {
            Mutant::HeldReturned => {
                told.finished = told.admitted;
                add(&mut told.returned, cell.held());
            }
            Mutant::RaisedAfterSending => add(&mut told.returned, cell.free()),
            _ => {}
        }
        told
    }
}

/// Its requests in flight were served, or were not.
fn die(to: &mut Gateway, served: u8) {
    for (n, flight) in to.flight.drain(..).enumerate() {
        let used = served >> n & 1;
        to.served[at(flight.key)] += used;
        if let Some(cell) = to.slot.cell_mut(flight.key) {
            cell.finish(Amount::ONE, of(used));
        }
    }
    for cell in &mut to.slot.cells {
        let nothing = Amount::ZERO;
        (cell.state, cell.granted, cell.returned) = (CellState::Closed, nothing, nothing);
        (cell.admitted, cell.finished, cell.told) = (nothing, nothing, 0);
    }
    to.left.clear();
    (to.alive, to.slot.floor, to.slot.kept_until) = (false, 1, Instant::EPOCH);
}
