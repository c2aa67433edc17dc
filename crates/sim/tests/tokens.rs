//! Requests that differ in what they cost, between real gateways and the real service: whatever the network does, what was
//! used is charged once, what was held and not used is back, and what fell short is covered or owed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use contract::v1::{NeedMode, Size};
use ledger::CrashPolicy;
use proptest::prelude::*;
use sim::{Options, World, check, event, happen, rest};
use units::Span;

const PLAIN: Options = Options {
    envoys: 2,
    workers: 2,
    credits: 10,
    mode: NeedMode::Lease,
    size: Some(Size::Most),
    allow: 0,
    crash: CrashPolicy::Refund,
    ttl: Span::from_secs(3),
    watch: false,
};

fn options() -> impl Strategy<Value = Options> {
    let credits = prop_oneof![Just(1_u64), Just(3), Just(40), Just(400)];
    let mode = prop_oneof![2 => Just(NeedMode::Lease), 1 => Just(NeedMode::Hold)];
    let size = prop_oneof![Just(Some(Size::Most)), Just(Some(Size::Estimate))];
    (credits, mode, size, any::<bool>(), any::<bool>()).prop_map(|(credits, mode, size, charge, watch)| {
        let crash = if charge { CrashPolicy::Charge } else { CrashPolicy::Refund };
        Options { credits, mode, size, crash, watch, ..PLAIN }
    })
}

#[test]
fn requests_of_any_size_pass_on_leases_and_are_charged_by_what_they_used() {
    for size in [Size::Most, Size::Estimate] {
        let mut world = World::new(Options { credits: 400, size: Some(size), ..PLAIN });
        for n in 0..200 {
            world.ask((n % 2, n / 2 % 2));
            world.run(Span::from_millis(20));
            world.end(0, n % 5 > 0);
        }
        let syncs = world.billing.syncs;
        rest(&mut world);
        let (totals, oracle) = (world.totals(), world.oracle);
        assert_eq!((oracle.answered, oracle.refused + oracle.unavailable), (200, 0), "{size:?}");
        assert_eq!((totals.used, totals.leased, totals.debt), (oracle.served + oracle.beyond, 0, 0));
        assert_eq!(oracle.beyond > 0, size == Size::Estimate);
        assert!(syncs < 150, "{syncs} syncs for 200 requests, most of which ask nobody");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_network_does_all_that_was_used_is_charged_and_nothing_else(
        events in prop::collection::vec(event(false), 1..160),
        options in options(),
    ) {
        // Who is cut off for long is taken for dead, and would be charged twice by the other policy.
        let mut world = World::new(Options { crash: CrashPolicy::Refund, ..options });
        for event in &events {
            happen(&mut world, event);
            check(&mut world);
        }
        rest(&mut world);
        check(&mut world);
        let (totals, oracle) = (world.totals(), world.oracle);
        prop_assert_eq!(totals.leased, 0, "something is stranded");
        prop_assert_eq!(totals.used + totals.debt, oracle.served + oracle.beyond, "{:?} {:?}", totals, oracle);
        // What was refunded of somebody who was cut off for long may be lent to others when that gateway tells of it: then it is
        // owed, and what others give back pays for it. In all nothing is lost by that: see the line above.
        prop_assert!(
            totals.debt <= oracle.beyond + totals.crash_refunded,
            "only what fell short is owed: {:?} {:?}",
            totals,
            oracle
        );
        prop_assert_eq!(world.faults("end_without_cell"), 0);
    }

    #[test]
    fn whatever_dies_no_more_is_lost_than_the_crash_policy_says(
        events in prop::collection::vec(event(true), 1..160),
        options in options(),
    ) {
        let mut world = World::new(options);
        for event in &events {
            happen(&mut world, event);
            check(&mut world);
        }
        rest(&mut world);
        check(&mut world);
        let (totals, oracle) = (world.totals(), world.oracle);
        prop_assert_eq!(totals.leased, 0, "something is stranded");
        let (all, charged) = (oracle.served + oracle.orphaned + oracle.beyond, totals.used + totals.debt);
        match options.crash {
            CrashPolicy::Refund => prop_assert!(charged <= all, "{:?} {:?}", totals, oracle),
            // What fell short at a gateway that died before it told of it is told by nobody.
            CrashPolicy::Charge => prop_assert!(
                (all - oracle.beyond..=all + totals.crash_charged).contains(&charged),
                "{:?} {:?}", totals, oracle
            ),
        }
    }
}
