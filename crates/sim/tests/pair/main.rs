//! Every state that two gateways of one account can reach, at small bounds: the real ledger on one side, the gate's own
//! slots and cells on the other, and between them a network that loses, repeats, delays and reorders.
//!
//! What one cell and the ledger can come to is explored in `crates/ledger/tests/explorer`; here is what two gateways do to
//! each other: a need that waits for what lies idle elsewhere, a recall, a window that ends while it is lent, the death of one
//! beside the other. In every state: no grant gave more than it had, counting what is in flight and what may still be let
//! through; nothing is charged that was not served; what a crash hides is within its bound; and from there, were nothing to
//! fail any more, a request gets what lies idle, all comes to rest with nothing lent, and the last credit can be had.
//!
//! Not here: workers, holds of single requests, sizes (each request holds one credit, so that the account is always nearly
//! empty), the death of both, and a life after death.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![allow(clippy::cast_possible_truncation)]
#![allow(clippy::needless_range_loop, reason = "one index goes through several tables")]

mod bounds;
mod explore;
mod gateway;
mod heal;
mod house;
mod known;
mod sums;
mod world;

use bounds::{Bounds, Mutant};
use explore::{Broken, Explored, explore};
use ledger::CrashPolicy;

fn hold(bounds: Bounds) -> Explored {
    let bounds = bounds.widened();
    println!("{bounds:?}");
    let traced = |bounds| explore(bounds, true).err();
    match explore(bounds, false) {
        Ok(explored) => {
            println!("{explored:?}, complete");
            assert!(explored.states > 1_000, "too few to mean anything");
            explored
        }
        Err(Broken { why, .. }) => panic!("{why}\n{:?}", traced(bounds).map(|broken| broken.how)),
    }
}

#[test]
fn no_state_of_two_gateways_and_bought_credits_is_wrong() {
    for crash in [CrashPolicy::Refund, CrashPolicy::Charge] {
        hold(Bounds::recall(crash));
    }
}

#[test]
fn no_state_of_two_gateways_whose_messages_overtake_each_other_is_wrong() {
    hold(Bounds::disorder(CrashPolicy::Refund));
    hold(Bounds::disorder(CrashPolicy::Charge));
}

/// With one message under way a newer one takes the older one's place.
#[test]
fn that_the_last_report_counts_is_not_seen_where_none_overtakes_another() {
    let bounds = Bounds { mutant: Mutant::LastReportCounts, ..Bounds::disorder(CrashPolicy::Charge) };
    assert!(explore(Bounds { up: 1, down: 1, ..bounds }, false).is_ok());
}

#[test]
fn no_state_of_two_gateways_and_a_window_that_ends_is_wrong() {
    hold(Bounds::midnight(CrashPolicy::Refund));
    hold(Bounds::midnight(CrashPolicy::Charge));
}

/// What is out and not told of goes back, though it was on its way or is needed.
#[test]
fn no_state_is_wrong_where_each_question_is_answered_with_all_that_is_out() {
    for crash in [CrashPolicy::Refund, CrashPolicy::Charge] {
        hold(Bounds { lost: true, ..Bounds::midnight(crash) });
        hold(Bounds { lost: true, ..Bounds::disorder(crash) });
    }
}

/// An explorer that catches nothing proves nothing.
#[test]
fn every_broken_variant_of_two_gateways_is_caught() {
    let mut escaped = Vec::new();
    for (mutant, bounds) in broken() {
        match explore(Bounds { mutant, states_max: 4_000_000, ..bounds }, true) {
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
        // A request lives on for a tick after its lease's time.
        (Mutant::TailIgnored, Bounds { longest: 2, ..recall(Refund) }),
        (Mutant::FloorForgotten, recall(Charge)),
        (Mutant::LastReportCounts, Bounds::disorder(Charge)),
        (Mutant::UnheardUntold, midnight(Charge)),
    ]
}
