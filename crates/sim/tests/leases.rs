//! Leases between real gateways and the real service: whatever the network and the clock do, nothing is spent twice,
//! nothing is lost, and a warm request asks nobody.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use contract::v1::NeedMode;
use ledger::CrashPolicy;
use proptest::prelude::*;
use sim::{Options, QUIET, World, check, event, happen, rest};
use units::Span;

const CREDIT: i64 = 1_000_000;

const PLAIN: Options = Options {
    envoys: 2,
    workers: 2,
    credits: 10,
    mode: NeedMode::Lease,
    size: None,
    allow: 0,
    crash: CrashPolicy::Refund,
    ttl: Span::from_secs(3),
    watch: false,
};

/// All at once, and each that passes ends a moment later; `serve` says with what.
fn rush(world: &mut World, requests: usize, mut serve: impl FnMut(usize) -> bool) {
    for n in 0..requests {
        world.ask((n % 2, n / 2 % 2));
    }
    let mut ended = 0;
    for _ in 0..2_000 {
        world.settle();
        world.later(Span::from_millis(5));
        while !world.requests.is_empty() {
            world.end(0, serve(ended));
            ended += 1;
        }
        if world.waiting() == 0 {
            break;
        }
    }
}

#[test]
fn ten_credits_are_ten_requests_however_many_ask_and_wherever() {
    for mode in [NeedMode::Lease, NeedMode::Hold] {
        let mut world = World::new(Options { mode, ..PLAIN });
        rush(&mut world, 200, |_| true);
        assert_eq!((world.oracle.answered, world.oracle.unavailable), (200, 0), "{mode:?}");
        assert_eq!((world.oracle.served, world.oracle.refused), (10 * CREDIT, 190), "{mode:?}");
        world.run(QUIET);
        let totals = world.totals();
        assert_eq!((totals.used, totals.avail, totals.leased), (10 * CREDIT, 0, 0));
    }
}

/// A pool's slot is one at each gateway, whoever of its members asks.
#[test]
fn ten_credits_of_a_pool_are_ten_requests_of_its_members() {
    for mode in [NeedMode::Lease, NeedMode::Hold] {
        let mut world = World::new(Options { mode, ..PLAIN });
        world.join("bob");
        world.join("carol");
        // Each member at its own gateway, and both at both.
        for n in 0..100 {
            world.ask_as(
                (n % 2, n / 2 % 2),
                if n < 50 { ["bob", "carol"][n % 2] } else { ["carol", "bob"][n / 4 % 2] },
            );
        }
        rush(&mut world, 0, |_| true);
        assert_eq!((world.oracle.answered, world.oracle.unavailable), (100, 0), "{mode:?}");
        assert_eq!((world.oracle.served, world.oracle.refused), (10 * CREDIT, 90), "{mode:?}");
        world.run(QUIET);
        let totals = world.totals();
        assert_eq!((totals.used, totals.avail, totals.leased), (10 * CREDIT, 0, 0));
    }
}

#[test]
fn what_fails_is_not_charged_and_is_spent_again() {
    let mut world = World::new(PLAIN);
    rush(&mut world, 200, |n| n % 2 == 0);
    assert_eq!((world.oracle.served, world.oracle.unavailable), (10 * CREDIT, 0), "{:?}", world.oracle);
    world.run(QUIET);
    assert_eq!(world.totals().used, 10 * CREDIT);
}

#[test]
fn a_warm_request_asks_nobody() {
    let mut world = World::new(Options { envoys: 1, credits: 1_000_000, ..PLAIN });
    let started = world.now;
    for n in 0..200 {
        // Fifty at a time, ten milliseconds each: 10,000 in two seconds.
        (0..50).for_each(|k| world.ask((0, k % 2)));
        let before = world.oracle.answered;
        world.settle();
        assert!(n < 2 || before == world.oracle.answered, "somebody waited");
        world.later(Span::from_millis(10));
        while !world.requests.is_empty() {
            world.end(0, true);
        }
    }
    assert_eq!(world.oracle.served, 10_000 * CREDIT);
    let seconds = world.now.since(started).secs_up();
    let allowed = (2 * seconds + 1) * 2;
    assert!(world.billing.syncs <= allowed, "{} syncs in {seconds} s", world.billing.syncs);
    world.run(QUIET);
    let totals = world.totals();
    assert_eq!(
        (totals.used, totals.leased),
        (10_000 * CREDIT, 0),
        "and all of it is charged, and the rest back"
    );
}

#[test]
fn credits_that_lie_idle_in_one_envoy_are_back_before_long() {
    let mut world = World::new(Options { credits: 100, ..PLAIN });
    for _ in 0..3 {
        world.ask((0, 0));
        world.run(Span::from_millis(100));
        world.end(0, true);
    }
    assert!(world.totals().leased > 8 * CREDIT, "{:?}", world.totals());
    world.run(PLAIN.ttl);
    assert_eq!(world.totals().avail, 97 * CREDIT);
}

#[test]
fn a_suspended_customer_stops_at_the_next_sync_and_within_the_lease_time_at_the_latest() {
    for told in [true, false] {
        let mut world = World::new(Options { credits: 1000, envoys: 1, ..PLAIN });
        for _ in 0..10 {
            world.ask((0, 0));
            world.run(Span::from_millis(100));
            world.end(0, true);
        }
        world.suspend(true);
        let (before, since) = (world.oracle.refused, world.now);
        while world.oracle.refused == before && world.oracle.unavailable == 0 {
            world.ask((0, 0));
            if told {
                world.settle();
            }
            world.later(Span::from_millis(100));
            while !world.requests.is_empty() {
                world.end(0, true);
            }
        }
        let took = world.now.since(since).millis();
        // Who cannot be reached waits for the answer a while longer, and is not let through.
        assert!(took <= if told { 800 } else { 3000 + 2000 + 100 }, "{took} ms, told: {told}");
    }
}

#[test]
fn while_billing_is_away_the_warm_go_on_and_the_cold_get_their_routes_answer() {
    for (allow, passed) in [(0, 0), (3, 3)] {
        let mut world = World::new(Options { credits: 100, allow, ..PLAIN });
        for _ in 0..3 {
            world.ask((0, 0));
            world.run(Span::from_millis(100));
            world.end(0, true);
        }
        let lent = world.totals().leased / CREDIT;
        assert!(lent > 8);
        // Nothing arrives from now on.
        let answered = world.oracle.forwarded;
        for _ in 0..5 {
            world.ask((0, 0));
        }
        assert_eq!(world.oracle.forwarded, answered + 5, "warm");
        for n in 0..6 {
            world.ask((1, n % 2));
        }
        for _ in 0..100 {
            while world.calls() > 0 {
                world.give_up(0, true);
            }
            world.later(Span::from_millis(50));
        }
        assert_eq!((world.oracle.unpaid, world.oracle.unavailable), (passed, 6 - passed), "cold");
        while !world.requests.is_empty() {
            world.end(0, true);
        }
        world.run(QUIET);
        let totals = world.totals();
        let expected = (3 + 5 + i64::try_from(passed).unwrap()) * CREDIT;
        assert_eq!((totals.used + totals.debt, totals.leased), (expected, 0), "all of it is charged, once");
        assert_eq!(world.faults("unpaid_allowance"), 0);
    }
}

#[test]
fn a_worker_that_dies_takes_nothing_along_but_what_it_held() {
    for crash in [CrashPolicy::Refund, CrashPolicy::Charge] {
        let mut world = World::new(Options { envoys: 1, credits: 1000, crash, ..PLAIN });
        for n in 0..6 {
            world.ask((0, n % 2));
            world.run(Span::from_millis(100));
            world.end(0, true);
        }
        world.ask((0, 0));
        world.ask((0, 1));
        world.kill_worker((0, 0));
        let lived = world.oracle.orphaned;
        assert_eq!(lived, CREDIT);
        // The other worker goes on, on leases of a new generation once the silence is noticed.
        for _ in 0..300 {
            world.ask((0, 1));
            world.run(Span::from_millis(100));
            world.end(1, true);
        }
        assert_eq!(world.faults("worker_lost"), 1);
        // A long request of the living one is settled by its own end, and not by the policy.
        world.end(0, crash == CrashPolicy::Refund);
        world.run(QUIET);
        let (totals, served) = (world.totals(), world.oracle.served);
        assert_eq!(totals.leased, 0, "what it held is settled, although the lease was in use all the time");
        let charged = if crash == CrashPolicy::Refund { served } else { served + CREDIT };
        assert_eq!((totals.used, totals.debt), (charged, 0), "{crash:?}");
        assert_eq!(world.oracle.unavailable + world.oracle.refused, 0);
    }
}

#[test]
fn an_envoy_that_dies_costs_at_most_its_lease_and_everything_else_is_back() {
    for crash in [CrashPolicy::Refund, CrashPolicy::Charge] {
        let mut world = World::new(Options { credits: 100, crash, ..PLAIN });
        for n in 0..20 {
            world.ask((n % 2, n / 2 % 2));
            world.run(Span::from_millis(20));
            world.end(0, true);
        }
        (0..4).for_each(|_| world.ask((0, 0)));
        let lease = world.totals().leased;
        world.kill_envoy(0);
        world.run(QUIET);
        let (totals, oracle) = (world.totals(), world.oracle);
        assert_eq!(totals.leased, 0);
        let lost = totals.used - oracle.served - oracle.orphaned;
        match crash {
            CrashPolicy::Refund => assert!((-lease..=0).contains(&lost), "{lost} {lease}"),
            CrashPolicy::Charge => assert!((0..=lease).contains(&lost), "{lost} {lease}"),
        }
    }
}

#[test]
fn a_lease_whose_answer_was_lost_goes_back_though_its_customer_never_returns() {
    for (away, late) in [(0, false), (2_000, false), (4_000, false), (0, true), (4_000, true)] {
        let mut world = World::new(Options { credits: 100, crash: CrashPolicy::Charge, ..PLAIN });
        world.ask((0, 0));
        world.run(Span::from_millis(100));
        world.end(0, true);
        world.run(Span::from_millis(1_000));
        // Known now, so this one asks for a lease; and leaves, while billing falls silent.
        world.ask((0, 0));
        assert_eq!(world.calls(), 1);
        world.leave(0);
        if late {
            world.give_up(0, false);
        } else {
            world.deliver(0, true);
        }
        for _ in 0..away / 100 {
            // The first of them may be the one that arrives late.
            while world.calls() > usize::from(late) {
                world.give_up(usize::from(late), true);
            }
            world.later(Span::from_millis(100));
        }
        for _ in 0..if late { 25 } else { 0 } {
            while world.calls() > 1 {
                world.deliver(1, false);
            }
            world.later(Span::from_millis(100));
        }
        world.run(QUIET);
        let totals = world.totals();
        assert_eq!((totals.used, totals.avail), (CREDIT, 99 * CREDIT), "{away} ms, late: {late}");
    }
}

#[test]
fn a_lease_whose_answer_was_lost_goes_back_though_its_customer_is_refused_by_then() {
    for late in [0, 700] {
        let mut world = World::new(Options { credits: 100, crash: CrashPolicy::Charge, ..PLAIN });
        world.ask((0, 0));
        world.run(Span::from_millis(100));
        world.end(0, true);
        world.run(Span::from_millis(1_000));
        world.ask((0, 0));
        world.deliver(0, true);
        let lent = world.totals().leased;
        assert!(lent > CREDIT, "{lent}");
        world.later(Span::from_millis(late));
        world.suspend(true);
        world.run(Span::from_millis(2_500));
        // Long before its time is over, and not by the crash policy, which would charge it.
        let totals = world.totals();
        assert_eq!((totals.used, totals.leased, totals.avail), (CREDIT, 0, 99 * CREDIT), "{late} ms");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_network_does_all_that_was_served_is_charged_and_nothing_else(
        events in prop::collection::vec(event(false), 1..160),
        credits in prop_oneof![Just(3_u64), Just(10), Just(40), Just(400)],
    ) {
        let mut world = World::new(Options { credits, ..PLAIN });
        for event in &events {
            happen(&mut world, event);
            check(&mut world);
        }
        rest(&mut world);
        check(&mut world);
        let (totals, oracle) = (world.totals(), world.oracle);
        prop_assert_eq!(totals.leased, 0, "something is stranded");
        prop_assert_eq!(totals.used + totals.debt, oracle.served);
        prop_assert_eq!(world.faults("end_without_cell"), 0);
    }

    #[test]
    fn whatever_dies_no_more_is_lost_than_the_crash_policy_says(
        events in prop::collection::vec(event(true), 1..160),
        credits in prop_oneof![Just(10_u64), Just(40), Just(400)],
        charge in any::<bool>(),
    ) {
        let crash = if charge { CrashPolicy::Charge } else { CrashPolicy::Refund };
        let mut world = World::new(Options { credits, crash, ..PLAIN });
        for event in &events {
            happen(&mut world, event);
            check(&mut world);
        }
        rest(&mut world);
        check(&mut world);
        let (totals, oracle) = (world.totals(), world.oracle);
        prop_assert_eq!(totals.leased, 0, "something is stranded");
        let used = oracle.served + oracle.orphaned;
        match crash {
            CrashPolicy::Refund => prop_assert!(totals.used + totals.debt <= used, "{:?} {:?}", totals, oracle),
            CrashPolicy::Charge => prop_assert!(
                (used..=used + totals.crash_charged).contains(&(totals.used + totals.debt)),
                "{:?} {:?}", totals, oracle
            ),
        }
    }
}

/// One request from its beginning to its end: whether it passed, and how long that took.
fn serve(world: &mut World, at: (usize, usize)) -> (bool, Span) {
    let (began, before) = (world.now, world.oracle.forwarded);
    world.ask(at);
    while world.waiting() > 0 {
        world.settle();
        world.later(Span::from_millis(5));
    }
    world.end(0, true);
    (world.oracle.forwarded > before, world.now.since(began))
}

/// Credits that lie free at one gateway are no reason to refuse at another: they come back as soon as somebody needs them.
#[test]
fn what_one_gateway_has_free_is_spent_at_the_other_within_a_fifth_of_a_second() {
    let mut world = World::new(Options { credits: 40, watch: true, ..PLAIN });
    for _ in 0..3 {
        assert!(serve(&mut world, (1, 0)).0 && serve(&mut world, (0, 0)).0);
    }
    world.later(Span::from_secs(1));
    let lent = world.totals().leased;
    assert!(lent > 10 * CREDIT, "both have something: {lent}");
    for n in 6..40 {
        let (served, took) = serve(&mut world, (0, n % 2));
        assert!(served && took <= Span::from_millis(200), "request {n} of 40: {served} after {took:?}");
    }
    assert!(!serve(&mut world, (0, 0)).0 && !serve(&mut world, (1, 1)).0, "that was all");
    world.run(QUIET);
    let totals = world.totals();
    assert_eq!((totals.used, totals.avail, totals.leased, totals.debt), (40 * CREDIT, 0, 0, 0));
}

/// What lay free at one that died is refused elsewhere, since nobody knows whether it was spent, and served when its time is over.
#[test]
fn t53_what_lay_free_at_a_dead_gateway_is_served_elsewhere_when_its_time_is_over() {
    let mut world = World::new(Options { credits: 40, watch: true, ..PLAIN });
    for _ in 0..3 {
        assert!(serve(&mut world, (1, 0)).0 && serve(&mut world, (0, 0)).0);
    }
    world.run(Span::from_secs(1));
    world.kill_envoy(1);
    let died = world.now;
    let mut served = 6;
    while serve(&mut world, (0, served % 2)).0 {
        served += 1;
    }
    world.run(Span::from_millis(600));
    let in_doubt = world.totals().leased / CREDIT;
    assert_eq!((in_doubt > 8, served + usize::try_from(in_doubt).unwrap()), (true, 40), "{in_doubt}");
    while !serve(&mut world, (0, served % 2)).0 {
        assert!(world.now.since(died) < Span::from_secs(10), "it never comes back");
    }
    let took = world.now.since(died).millis();
    // All of it might have been spent, so it is in doubt until the hard end: its time, the grace, and as long again.
    assert!((5_000..=6_400).contains(&took), "after {took} ms");
    for n in served + 1..40 {
        assert!(serve(&mut world, (0, n % 2)).0, "request {n} of 40");
    }
    assert!(!serve(&mut world, (0, 0)).0 && !serve(&mut world, (1, 1)).0, "that was all");
    world.run(QUIET);
    let totals = world.totals();
    assert_eq!((totals.used, totals.avail, totals.leased, totals.debt), (40 * CREDIT, 0, 0, 0));
}

/// A new build of the filter, whose slots have another form, finds the memory of the old one: what that has used stays used.
#[test]
fn t50_a_filter_whose_slots_have_another_form_spends_nothing_twice() {
    let mut world = World::new(Options { credits: 100, envoys: 1, ..PLAIN });
    for n in 0..20 {
        assert!(serve(&mut world, (0, n % 2)).0);
    }
    world.run(Span::from_secs(1));
    assert!(world.totals().leased > 8 * CREDIT, "{:?}", world.totals());
    world.replace_filter(0);
    for n in 0..200 {
        serve(&mut world, (0, n % 2));
    }
    world.run(QUIET);
    let totals = world.totals();
    assert_eq!(
        (world.oracle.served, totals.used, totals.leased),
        (100 * CREDIT, 100 * CREDIT, 0),
        "{totals:?}"
    );
}
