//! What can happen to a world at random, and what must be true after it whatever it was.

use crate::World;
use proptest::prelude::*;
use units::Span;

/// Long enough for everything to be told, given back, or settled, where leases live for three seconds.
pub const QUIET: Span = Span::from_secs(20);

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Event {
    Ask(usize, usize),
    Leave(usize),
    End(usize, bool),
    Deliver(usize),
    AnswerLost(usize),
    Twice(usize),
    /// It arrives long after its sender gave it up.
    Delayed(usize),
    CallLost(usize),
    Settle,
    Later(u64),
    Race(usize, u32),
    Jump(u64),
    KillWorker(usize, usize),
    KillEnvoy(usize),
}

pub fn event(crashes: bool) -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (0..2_usize, 0..2_usize).prop_map(|(e, w)| Event::Ask(e, w)),
        1 => any::<usize>().prop_map(Event::Leave),
        8 => (any::<usize>(), prop::bool::weighted(0.7)).prop_map(|(n, served)| Event::End(n, served)),
        4 => any::<usize>().prop_map(Event::Deliver),
        1 => any::<usize>().prop_map(Event::AnswerLost),
        1 => any::<usize>().prop_map(Event::Twice),
        1 => any::<usize>().prop_map(Event::Delayed),
        1 => any::<usize>().prop_map(Event::CallLost),
        4 => Just(Event::Settle),
        4 => (1..1_500_u64).prop_map(Event::Later),
        1 => (0..2_usize, 1..40_u32).prop_map(|(envoy, races)| Event::Race(envoy, races)),
        1 => (3_000..20_000_u64).prop_map(move |ms| if crashes { Event::Jump(ms) } else { Event::Settle }),
        2 => (0..2_usize, 0..3_usize).prop_map(move |(envoy, worker)| match (crashes, worker) {
            (false, _) => Event::Settle,
            (true, 2) => Event::KillEnvoy(envoy),
            (true, _) => Event::KillWorker(envoy, worker),
        }),
    ]
}

pub fn happen(world: &mut World, event: &Event) {
    match *event {
        Event::Ask(envoy, worker) => world.ask((envoy, worker)),
        Event::Leave(which) => world.leave(which % world.waiting().max(1)),
        Event::End(which, served) => world.end(which, served),
        Event::Deliver(which) => world.deliver(which, false),
        Event::AnswerLost(which) => world.deliver(which, true),
        Event::Twice(which) => world.deliver_twice(which),
        Event::Delayed(which) => world.give_up(which, false),
        Event::CallLost(which) => world.give_up(which, true),
        Event::Settle => world.settle(),
        Event::Later(millis) => world.later(Span::from_millis(millis)),
        Event::Race(envoy, races) => world.contend(envoy, races),
        Event::Jump(millis) => world.jump(Span::from_millis(millis)),
        Event::KillWorker(envoy, worker) => world.kill_worker((envoy, worker)),
        Event::KillEnvoy(envoy) => world.kill_envoy(envoy),
    }
}

/// Never is more used than was granted, but for what the crash policy had given back.
pub fn check(world: &mut World) {
    let (oracle, totals) = (world.oracle, world.totals());
    assert!(
        oracle.used_at_most() <= totals.amount + totals.crash_refunded,
        "more was let through than granted: {oracle:?} {totals:?}"
    );
}

/// The world comes to rest: every request ends, the network works, and all times are over.
pub fn rest(world: &mut World) {
    world.settle();
    for n in 0.. {
        if world.requests.is_empty() && world.waiting() == 0 {
            break;
        }
        assert!(n < 200, "somebody waits for ever");
        while !world.requests.is_empty() {
            world.end(0, n % 2 == 0);
        }
        world.run(Span::from_millis(100));
    }
    world.run(QUIET);
}
