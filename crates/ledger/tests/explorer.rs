//! Every state that one lease cell can reach, at small bounds: the real ledger on one side, a small model of a gateway
//! on the other, and between them a network that loses, repeats, delays and reorders.
//!
//! One cell is enough: what cells take from a grant is serialised by the ledger and checked by its own invariants. What
//! is checked in every state: nothing is spent that is not reserved for the cell (or declared lost by a refund after a
//! crash), nothing is billed that was not used (or charged by policy), no honest report is refused, and a crash loses
//! at most the holds that the ledger knew plus the exposure. Seven broken variants must be caught, so that this test
//! proves that it can see.
//!
//! The gateway here is not the gate's own cell; that one meets the ledger in the simulator.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod desk;
use desk::*;
use ledger::*;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use units::{Amount, Instant, Span};

/// The bounds of one exploration. Time is in whole ticks (seconds).
#[derive(Clone, Copy)]
struct Bounds {
    credits: u8,
    exposure: u8,
    ttl: u8,
    longest: u8,
    until: u8,
    sends: u8,
    crash: CrashPolicy,
    mutant: Mutant,
    states_max: usize,
}

/// What is broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    DeadlineFromReceipt,
    NoExposureCap,
    NoReserveAtSoftEnd,
    DeltasUp,
    DeltasDown,
    ReportedHoldsReturned,
    DeadlineIgnored,
}

/// The ledger's side, small enough to be kept for every state; the book is rebuilt from it for every command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Ledger {
    avail: u8,
    billed: u8,
    debt: u8,
    granted: u8,
    returned: u8,
    admitted: u8,
    finished: u8,
    used: u8,
    late: u8,
    soft_at: u8,
    hard_at: u8,
    /// 0 no cell yet, 1 open, 2 soft, 3 closed.
    state: u8,
}

/// The gateway's side of the cell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Gateway {
    alive: bool,
    over: bool,
    granted: u8,
    returned: u8,
    admitted: u8,
    finished: u8,
    used: u8,
    acked: u8,
    deadline: u8,
    /// When each request in flight must have ended, plus one; 0 is none. Sorted.
    flight: [u8; 2],
}

/// A message on its way; `None` sorts first, so that two slots have one order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Up {
    Need { at: u8 },
    Report { admitted: u8, finished: u8, used: u8, returned: u8, target: u8, at: u8 },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
struct Down {
    granted: u8,
    acked: u8,
    at: u8,
    over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct World {
    now: u8,
    ledger: Ledger,
    gateway: Gateway,
    up: [Option<Up>; 2],
    down: [Option<Down>; 2],
    /// What the upstream really served.
    real: u8,
    /// What a refund after a crash declared lost.
    lost: u8,
    /// What the crash policy charged without knowing.
    overcharged: u8,
    crashes: u8,
    sends: u8,
}

/// How one world comes to the next.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "read by whoever reads a trace")]
enum Step {
    Begin,
    Admit,
    Finish { cost: u8 },
    GiveBack { free: u8 },
    Send(Up),
    Crash { served: u8 },
    Lose(Up),
    LedgerHears(Up),
    GatewayHears(Down),
    Expire,
    Tick,
}

/// A fast hash for small keys; nothing here comes from outside.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }
    fn write_u8(&mut self, byte: u8) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

fn byte(amount: Amount) -> u8 {
    u8::try_from(amount.get()).unwrap()
}

fn of(n: u8) -> Amount {
    amount(i64::from(n))
}

fn tick(n: u8) -> Instant {
    Instant::from_secs(i64::from(n))
}

fn the_cell() -> CellId {
    CellId { grant: GrantId(1), node: node(1), incarnation: 1, generation: 1 }
}

impl Bounds {
    fn small(crash: CrashPolicy, mutant: Mutant) -> Self {
        Self {
            credits: 2,
            exposure: 1,
            ttl: 1,
            longest: 1,
            until: 4,
            sends: 2,
            crash,
            mutant,
            states_max: 20_000_000,
        }
    }

    fn timing(&self) -> Timing {
        Timing {
            ttl: Span::from_secs(self.ttl.into()),
            grace: Span::ZERO,
            tail: Span::from_secs(self.longest.into()),
        }
    }

    fn told_exposure(&self) -> Exposure {
        let none = self.mutant == Mutant::NoReserveAtSoftEnd;
        Exposure::AtMost(of(if none { 0 } else { self.exposure }))
    }
}

/// Runs one command on the book that `ledger` stands for.
fn run(ledger: &mut Ledger, bounds: &Bounds, now: u8, command: &Command) -> Reply {
    let mut desk = Desk::with(i64::from(bounds.credits));
    desk.now = tick(now);
    desk.book.seen = tick(now);
    desk.book.account.debt = of(ledger.debt);
    let grant = desk.book.grants.get_mut(&GrantId(1)).unwrap();
    let state = match ledger.state {
        0 => None,
        1 => Some(CellState::Open),
        2 => Some(CellState::Soft),
        _ => Some(CellState::Closed),
    };
    let outstanding = match state {
        Some(CellState::Open | CellState::Soft) => ledger.granted - ledger.returned - ledger.used,
        _ => 0,
    };
    (grant.avail, grant.leased, grant.used) = (of(ledger.avail), of(outstanding), of(ledger.billed));
    if let Some(state) = state {
        let exposure = match bounds.told_exposure() {
            Exposure::AtMost(most) => most.min(of(ledger.granted)),
            Exposure::Whole => of(ledger.granted),
        };
        let cell = Cell {
            granted: of(ledger.granted),
            returned: of(ledger.returned),
            admitted: of(ledger.admitted),
            finished: of(ledger.finished),
            used: of(ledger.used),
            short: Amount::ZERO,
            late: of(ledger.late),
            soft_at: tick(ledger.soft_at),
            hard_at: tick(ledger.hard_at),
            state,
            exposure,
            ver: 1,
        };
        desk.book.cells.insert(the_cell(), cell);
    }
    let reply = desk.act(command).reply;
    let grant = &desk.book.grants[&GrantId(1)];
    (ledger.avail, ledger.billed) = (byte(grant.avail), byte(grant.used));
    ledger.debt = byte(desk.book.account.debt);
    assert!(desk.book.cells.len() <= 1, "one cell");
    if let Some(cell) = desk.book.cells.get(&the_cell()) {
        let secs = |at: Instant| u8::try_from(at.secs()).unwrap();
        (ledger.granted, ledger.returned) = (byte(cell.granted), byte(cell.returned));
        (ledger.admitted, ledger.finished) = (byte(cell.admitted), byte(cell.finished));
        (ledger.used, ledger.late) = (byte(cell.used), byte(cell.late));
        (ledger.soft_at, ledger.hard_at) = (secs(cell.soft_at), secs(cell.hard_at));
        ledger.state = match cell.state {
            CellState::Open => 1,
            CellState::Soft => 2,
            CellState::Closed => 3,
        };
    }
    reply
}

/// What the ledger makes of a message, and what it answers.
fn deliver(ledger: &mut Ledger, bounds: &Bounds, now: u8, message: Up) -> Result<Option<Down>, String> {
    let before = *ledger;
    let mut reply = match message {
        // A closed or soft cell would be answered with another cell, which is another exploration.
        Up::Need { .. } if ledger.state > 1 => return Ok(None),
        Up::Need { at } => {
            let mode = Mode::Lease { generation_min: 1, ahead: Amount::ZERO };
            let lanes = vec![credits(1)];
            let exposure = bounds.told_exposure();
            let need = Need { timing: bounds.timing(), exposure, ..need(mode, lanes, false) };
            match run(ledger, bounds, now, &Command::Need(need)) {
                Reply::Need(answer) => match answer.decision {
                    Decision::Granted(granted) => {
                        Down { granted: byte(granted.cells[0].granted), acked: 0, at, over: false }
                    }
                    _ => return Ok(None),
                },
                other => panic!("{other:?}"),
            }
        }
        Up::Report { mut admitted, mut finished, mut used, returned, target, at } => {
            let told = admitted;
            match bounds.mutant {
                Mutant::DeltasUp => {
                    admitted += ledger.admitted;
                    finished += ledger.finished;
                    used += ledger.used;
                }
                Mutant::ReportedHoldsReturned => admitted = finished,
                _ => {}
            }
            let told_totals = totals(admitted.into(), finished.into(), used.into(), returned.into());
            let command = Command::Report(Report {
                target: of(target),
                need: Amount::ONE,
                timing: bounds.timing(),
                exposure: bounds.told_exposure(),
                ..report(&the_cell(), told_totals)
            });
            let Reply::Report(answer) = run(ledger, bounds, now, &command) else { panic!() };
            if let (Some(why), true) = (answer.refused, before.state != 0) {
                return Err(format!("an honest report was refused: {why:?}"));
            }
            if answer.late.is_some() && before.state < 3 {
                return Err("a living cell could not pay for its own usage".to_owned());
            }
            if before.state == 0 {
                return Ok(None);
            }
            let held = bounds.mutant == Mutant::ReportedHoldsReturned;
            let acked = if held { told } else { byte(answer.cell.acked_admitted) };
            let over = answer.cell.state != CellState::Open;
            Down { granted: byte(answer.cell.granted), acked, at, over }
        }
    };
    if bounds.mutant == Mutant::DeltasDown {
        reply.granted -= before.granted;
    }
    Ok(Some(reply))
}

/// The ledger's answers are the same for the same question, so each is computed once.
#[derive(Default)]
struct Memory {
    delivered: Map<(Ledger, u8, Up), Result<(Ledger, Option<Down>), String>>,
    expired: Map<(Ledger, u8), Ledger>,
}

impl Memory {
    fn deliver(
        &mut self,
        from: Ledger,
        bounds: &Bounds,
        now: u8,
        message: Up,
    ) -> Result<(Ledger, Option<Down>), String> {
        let known = self.delivered.entry((from, now, message));
        known
            .or_insert_with(|| {
                let mut ledger = from;
                let down = deliver(&mut ledger, bounds, now, message)?;
                Ok((ledger, down))
            })
            .clone()
    }

    fn expire(&mut self, from: Ledger, bounds: &Bounds, now: u8) -> Ledger {
        *self.expired.entry((from, now)).or_insert_with(|| {
            let mut ledger = from;
            let expire = Expire { crash: bounds.crash, shortfall: Shortfall::Debt };
            run(&mut ledger, bounds, now, &Command::Expire(expire));
            ledger
        })
    }
}

fn put<T: Ord + Copy>(slots: &mut [Option<T>; 2], message: T) -> bool {
    if slots.contains(&Some(message)) {
        return false;
    }
    match slots.iter_mut().find(|slot| slot.is_none()) {
        Some(slot) => *slot = Some(message),
        None => return false,
    }
    slots.sort_unstable();
    true
}

fn drop_at<T: Ord + Copy>(slots: &mut [Option<T>; 2], index: usize) {
    slots[index] = None;
    slots.sort_unstable();
}

/// Everything that can happen next.
fn next(world: &World, bounds: &Bounds, memory: &mut Memory) -> Result<Vec<(Step, World)>, String> {
    let mut all = Vec::new();
    if world.gateway.alive {
        gateway_acts(world, bounds, &mut all);
    }
    for index in 0..2 {
        if let Some(message) = world.up[index] {
            let mut dropped = *world;
            drop_at(&mut dropped.up, index);
            all.push((Step::Lose(message), dropped));
            for kept in [false, true] {
                let mut to = *world;
                if !kept {
                    drop_at(&mut to.up, index);
                }
                let (ledger, down) = memory.deliver(world.ledger, bounds, world.now, message)?;
                to.ledger = ledger;
                if let Some(down) = down {
                    put(&mut to.down, down);
                }
                all.push((Step::LedgerHears(message), to));
            }
        }
        if let (Some(message), true) = (world.down[index], world.gateway.alive) {
            for kept in [false, true] {
                let mut to = *world;
                if !kept {
                    drop_at(&mut to.down, index);
                }
                hear(&mut to, bounds, message);
                all.push((Step::GatewayHears(message), to));
            }
        }
    }
    let ledger = memory.expire(world.ledger, bounds, world.now);
    if ledger != world.ledger {
        let mut to = *world;
        to.ledger = ledger;
        if ledger.state == 3 && world.ledger.state == 2 {
            settle(world, &mut to, bounds)?;
        }
        all.push((Step::Expire, to));
    }
    let must_end = world.gateway.flight.iter().any(|end| *end != 0 && *end <= world.now + 1);
    if world.now < bounds.until && !(world.gateway.alive && must_end) {
        all.push((Step::Tick, World { now: world.now + 1, ..*world }));
    }
    Ok(all)
}

/// A cell went through its hard end: what is lost, or charged without being known.
fn settle(world: &World, to: &mut World, bounds: &Bounds) -> Result<(), String> {
    let was = &world.ledger;
    let in_flight = world.gateway.admitted - world.gateway.finished;
    let unknown = (world.real + in_flight).saturating_sub(was.used);
    let bound = was.admitted - was.finished + bounds.exposure;
    if unknown > bound {
        return Err(format!("a crash lost {unknown}, more than known holds and exposure, {bound}"));
    }
    match bounds.crash {
        CrashPolicy::Charge => to.overcharged += was.granted - was.returned - was.used,
        CrashPolicy::Refund => to.lost += unknown,
    }
    Ok(())
}

fn gateway_acts(world: &World, bounds: &Bounds, all: &mut Vec<(Step, World)>) {
    let it = &world.gateway;
    let held = it.admitted - it.finished;
    let free = i16::from(it.granted) - i16::from(it.returned) - i16::from(it.used) - i16::from(held);
    let bounded =
        bounds.mutant == Mutant::NoExposureCap || it.admitted.saturating_sub(it.acked) < bounds.exposure;
    let in_time = world.now < it.deadline || bounds.mutant == Mutant::DeadlineIgnored;
    if !it.over && in_time && free >= 1 && held < 2 && bounded {
        let mut to = *world;
        to.gateway.admitted += 1;
        to.gateway.flight[0] = world.now + bounds.longest + 1;
        to.gateway.flight.sort_unstable();
        all.push((Step::Admit, to));
    }
    if held > 0 {
        for cost in 0..2 {
            let mut to = *world;
            to.gateway.finished += 1;
            to.gateway.used += cost;
            to.real += cost;
            let first = usize::from(to.gateway.flight[0] == 0);
            to.gateway.flight[first] = 0;
            to.gateway.flight.sort_unstable();
            all.push((Step::Finish { cost }, to));
        }
    }
    if free > 0 && !it.over {
        let mut to = *world;
        let free = u8::try_from(free).unwrap();
        to.gateway.returned += free;
        all.push((Step::GiveBack { free }, to));
    }
    if world.sends > 0 {
        let mut messages = vec![Up::Need { at: world.now }];
        for want in 0..3 {
            let Gateway { admitted, finished, used, returned, granted, over, .. } = *it;
            let target = if over { 0 } else { granted + want };
            messages.push(Up::Report { admitted, finished, used, returned, target, at: world.now });
        }
        for message in messages {
            let mut to = *world;
            to.sends -= 1;
            if put(&mut to.up, message) {
                all.push((Step::Send(message), to));
            }
        }
    }
    if world.crashes > 0 {
        for served in 0..=held {
            let mut to = *world;
            to.crashes -= 1;
            to.real += served;
            (to.gateway, to.down) = (Gateway::default(), [None; 2]);
            all.push((Step::Crash { served }, to));
        }
    }
}

fn hear(to: &mut World, bounds: &Bounds, message: Down) {
    let now = to.now;
    let it = &mut to.gateway;
    it.acked = it.acked.max(message.acked);
    if message.over {
        it.over = true;
        return;
    }
    it.granted = match bounds.mutant {
        Mutant::DeltasDown => (it.granted + message.granted).min(9),
        _ => it.granted.max(message.granted),
    };
    let from = if bounds.mutant == Mutant::DeadlineFromReceipt { now } else { message.at };
    it.deadline = it.deadline.max(from + bounds.ttl);
}

/// What must be true in every state, beyond the ledger's own invariants.
fn check(world: &World, bounds: &Bounds) -> Result<(), String> {
    let (ledger, gateway) = (&world.ledger, &world.gateway);
    let in_flight = gateway.admitted - gateway.finished;
    let refunded = ledger.state == 3 && bounds.crash == CrashPolicy::Refund;
    let reserved = if refunded { ledger.used } else { ledger.granted - ledger.returned };
    if world.real + in_flight > reserved + world.lost {
        let (real, lost) = (world.real, world.lost);
        return Err(format!(
            "overspent: {real} served and {in_flight} in flight, {reserved} reserved, {lost} lost"
        ));
    }
    if ledger.billed + ledger.debt > world.real + world.overcharged {
        return Err(format!("billed {} and owed {} for {} served", ledger.billed, ledger.debt, world.real));
    }
    Ok(())
}

/// How many states there are, if none is wrong; else what is wrong and how it came to that.
fn explore(bounds: Bounds) -> Result<usize, (String, Vec<Step>)> {
    let ledger = Ledger { avail: bounds.credits, ..Ledger::default() };
    let gateway = Gateway { alive: true, ..Gateway::default() };
    let (up, down) = ([None; 2], [None; 2]);
    let (real, lost, overcharged, crashes, sends) = (0, 0, 0, 1, bounds.sends);
    let first = World { now: 0, ledger, gateway, up, down, real, lost, overcharged, crashes, sends };
    let traced = bounds.mutant != Mutant::None;
    let mut memory = Memory::default();
    let mut parents: Vec<(usize, Step)> = vec![(0, Step::Begin)];
    let mut seen: Map<World, usize> = Map::default();
    let mut queue = VecDeque::from([(first, 0)]);
    seen.insert(first, 0);
    let trace = |parents: &[(usize, Step)], last: usize, step: Step| {
        let (mut steps, mut at) = (vec![step], last);
        while at != 0 {
            steps.push(parents[at].1);
            at = parents[at].0;
        }
        steps.reverse();
        steps
    };
    while let Some((world, number)) = queue.pop_front() {
        let reached = match next(&world, &bounds, &mut memory) {
            Ok(reached) => reached,
            Err(why) => return Err((why, trace(&parents, number, Step::Expire))),
        };
        for (step, to) in reached {
            if seen.contains_key(&to) {
                continue;
            }
            if let Err(why) = check(&to, &bounds) {
                return Err((why, trace(&parents, number, step)));
            }
            if traced {
                parents.push((number, step));
            }
            let number = parents.len() - 1;
            seen.insert(to, number);
            queue.push_back((to, number));
        }
        assert!(
            seen.len() <= bounds.states_max,
            "more than {} states: choose smaller bounds",
            bounds.states_max
        );
    }
    Ok(seen.len())
}

#[test]
fn no_reachable_state_overspends_or_overbills() {
    for crash in [CrashPolicy::Refund, CrashPolicy::Charge] {
        let states = explore(Bounds::small(crash, Mutant::None))
            .unwrap_or_else(|(why, how)| panic!("{crash:?}: {why}\n{how:#?}"));
        println!("{crash:?}: {states} states, complete");
        assert!(states > 10_000, "too few to mean anything: {states}");
    }
}

#[test]
fn every_broken_variant_is_caught() {
    use CrashPolicy::{Charge, Refund};
    for (mutant, crash) in [
        (Mutant::DeadlineFromReceipt, Refund),
        (Mutant::NoExposureCap, Charge),
        (Mutant::NoReserveAtSoftEnd, Charge),
        (Mutant::DeltasUp, Refund),
        (Mutant::DeltasDown, Charge),
        (Mutant::ReportedHoldsReturned, Charge),
        (Mutant::DeadlineIgnored, Refund),
    ] {
        match explore(Bounds::small(crash, mutant)) {
            Err((why, how)) => println!("{mutant:?}: {why} ({} steps)", how.len()),
            Ok(states) => panic!("{mutant:?} was not caught in {states} states"),
        }
    }
}

/// The proof rests on the exposure, not on clocks: a gateway that ignores its deadline cannot overspend under `charge`.
#[test]
fn under_charge_no_clock_is_needed() {
    explore(Bounds::small(CrashPolicy::Charge, Mutant::DeadlineIgnored)).unwrap();
}
