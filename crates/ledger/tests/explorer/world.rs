//! The gateway and the network, as small as they can be: everything that can happen next, and what must stay true.

use crate::ledger_side::{Bounds, Down, Ledger, Memory, Mutant, Up};
use ledger::CrashPolicy;

/// The gateway's side of the cell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Gateway {
    pub(crate) alive: bool,
    pub(crate) over: bool,
    pub(crate) granted: u8,
    pub(crate) returned: u8,
    pub(crate) admitted: u8,
    pub(crate) finished: u8,
    pub(crate) used: u8,
    pub(crate) acked: u8,
    pub(crate) deadline: u8,
    /// When each request in flight must have ended, plus one; 0 is none. Sorted.
    pub(crate) flight: [u8; 2],
}

/// One state of everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) now: u8,
    pub(crate) ledger: Ledger,
    pub(crate) gateway: Gateway,
    pub(crate) up: [Option<Up>; 2],
    pub(crate) down: [Option<Down>; 2],
    /// What the upstream really served.
    pub(crate) real: u8,
    /// What a refund after a crash declared lost.
    pub(crate) lost: u8,
    /// What the crash policy charged without knowing.
    pub(crate) overcharged: u8,
    pub(crate) crashes: u8,
    pub(crate) sends: u8,
}

/// How one world comes to the next.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "read by whoever reads a trace")]
pub(crate) enum Step {
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
pub(crate) fn next(
    world: &World,
    bounds: &Bounds,
    memory: &mut Memory,
) -> Result<Vec<(Step, World)>, String> {
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
pub(crate) fn check(world: &World, bounds: &Bounds) -> Result<(), String> {
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
