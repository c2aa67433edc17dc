//! Every state that two gateways of one account can reach, at small bounds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![allow(clippy::cast_possible_truncation)]

mod bounds;
mod explore;
mod gateway;
mod heal;
mod house;
mod known;
mod world;

use bounds::{Bounds, Mutant};
use explore::{Broken, explore};
use ledger::CrashPolicy;

#[test]
fn no_state_of_two_gateways_is_wrong() {
    for bounds in [Bounds::recall(CrashPolicy::Refund), Bounds::midnight(CrashPolicy::Refund)] {
        let bounds = bounds.widened();
        println!("{bounds:?}");
        match explore(bounds, std::env::var("TRACE").is_ok()) {
            Ok(explored) => println!("{explored:?}, complete"),
            Err(broken) => panic!("{}\n{:?}", broken.why, broken.how),
        }
    }
}

/// An explorer that catches nothing proves nothing.
#[test]
fn every_broken_variant_of_two_gateways_is_caught() {
    let mut escaped = Vec::new();
    for (mutant, bounds) in broken() {
        match explore(Bounds { mutant, ..bounds }, true) {
            Err(Broken { why, how }) => println!("{mutant:?}: {why} ({} steps)", how.len()),
            Ok(explored) => escaped.push((mutant, explored.states)),
        }
    }
    assert!(escaped.is_empty(), "nobody noticed {escaped:?}");
}

/// Each in the smallest world that shows it.
fn broken() -> Vec<(Mutant, Bounds)> {
    use CrashPolicy::{Charge, Refund};
    let recall = |crash| Bounds::recall(crash);
    let midnight = |crash| Bounds::midnight(crash);
    vec![
        (Mutant::HeldReturned, recall(Charge)),
        (Mutant::RaisedAfterSending, recall(Charge)),
        (Mutant::WindowBecomesCredits, midnight(Charge)),
        (Mutant::EndedIsAvailable, midnight(Charge)),
        (Mutant::GrantedIsDelta, recall(Charge)),
        (Mutant::ReportsAreDeltas, recall(Charge)),
        (Mutant::RecallUnheeded, recall(Charge)),
        (Mutant::DeadlineFromReceipt, recall(Refund)),
        (Mutant::EndIgnored, midnight(Charge)),
        (Mutant::NodesConfused, recall(Charge)),
        (Mutant::LateTwice, recall(Refund)),
        (Mutant::NoReserve, recall(Charge)),
        (Mutant::SoftReopened, recall(Charge)),
        (Mutant::TailIgnored, recall(Refund)),
        (Mutant::FloorForgotten, recall(Charge)),
    ]
}
