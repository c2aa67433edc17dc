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

use bounds::Bounds;
use explore::explore;
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
