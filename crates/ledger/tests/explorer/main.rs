//! Every state that one lease cell can reach, at small bounds: the real ledger on one side, a small model of a gateway
//! on the other, and between them a network that loses, repeats, delays and reorders.
//!
//! One cell is enough: what cells take from a grant is serialised by the ledger and checked by its own invariants. What
//! is checked in every state: nothing is spent that is not reserved for the cell (or declared lost by a refund after a
//! crash), nothing is billed that was not used (or charged by policy), no honest report is refused, and a crash loses
//! at most the holds that the ledger knew plus the exposure. Eight broken variants must be caught, so that this test
//! proves that it can see.
//!
//! The gateway here is not the gate's own cell; that one meets the ledger in the simulator.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "../desk/mod.rs"]
mod desk;
mod ledger_side;
mod world;

use ledger::CrashPolicy;
use ledger_side::{Bounds, Ledger, Map, Memory, Mutant};
use std::collections::VecDeque;
use world::{Gateway, Step, World, check, next};

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
    for (crash, less_does) in [
        (CrashPolicy::Refund, false),
        (CrashPolicy::Charge, false),
        (CrashPolicy::Refund, true),
        (CrashPolicy::Charge, true),
    ] {
        let states = explore(Bounds { less_does, ..Bounds::small(crash, Mutant::None) })
            .unwrap_or_else(|(why, how)| panic!("{crash:?}: {why}\n{how:#?}"));
        println!("{crash:?}: {states} states, complete");
        assert!(states > 10_000, "too few to mean anything: {states}");
    }
}

#[test]
fn no_order_of_reports_makes_a_state_wrong() {
    for crash in [CrashPolicy::Refund, CrashPolicy::Charge] {
        let states = explore(Bounds::disorder(crash, Mutant::None))
            .unwrap_or_else(|(why, how)| panic!("{crash:?}: {why}\n{how:#?}"));
        println!("three messages, {crash:?}: {states} states, complete");
        assert!(states > 10_000, "too few to mean anything: {states}");
    }
    // With one message less no report can follow another one, and this is not seen.
    let (crash, mutant) = (CrashPolicy::Charge, Mutant::LastReportCounts);
    assert!(explore(Bounds { sends: 2, ..Bounds::disorder(crash, mutant) }).is_ok());
    let (why, how) = explore(Bounds::disorder(crash, mutant)).expect_err("the last report counts");
    println!("{mutant:?}: {why} ({} steps)", how.len());
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
