//! Random histories: subscriptions, invoices, packages, gifts, spends and time, told in any order and any number of times.
//!
//! Three things are held to. The order of Stripe's events changes nothing. Both stores say the same after every step,
//! and every invariant holds. And the journal alone gives every balance, so that it is what an auditor can trust.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "cases/audit.rs"]
mod audit;
#[allow(dead_code)]
#[path = "cases/shapes.rs"]
mod shapes;
#[allow(dead_code)]
#[path = "cases/world.rs"]
mod world;

use billing::catalog::Catalog;
use billing::service::Setup;
use contract::v1::NeedDecision;
use serde_json::{Value, json};
use shapes::Shape;
use units::{Instant, Span};
use world::{World, setup};

const START: Instant = Instant::from_secs(1_795_167_000);
const DAY: u64 = 86_400;
/// Longer runs are asked for: `HISTORIES=5000 cargo test -p tollgate-billing --test histories`.
const HISTORIES: u64 = 40;

fn histories() -> u64 {
    std::env::var("HISTORIES").ok().map_or(HISTORIES, |count| count.parse().unwrap())
}

/// xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
struct Dice(u64);

impl Dice {
    fn of(seed: u64) -> Self {
        let mut dice = Self(0x9E37_79B9_7F4A_7C15 ^ (seed + 1).wrapping_mul(0xD134_2543_DE82_EF95));
        (0..8).for_each(|_| _ = dice.roll(2));
        dice
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.roll(u64::try_from(of.len()).unwrap())).unwrap()].clone()
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, usize::try_from(self.roll(u64::try_from(last).unwrap() + 1)).unwrap());
        }
    }
}

fn product() -> Setup {
    let mut catalog: Value = serde_saphyr::from_str(include_str!("cases/base.yaml")).unwrap();
    catalog["default_tier"] = json!("free");
    catalog["tiers"]["free"]["windows"] =
        json!({"daily": {"endpoints": ["chat"], "limit": 3, "period": "day"}});
    setup(Catalog::from_yaml(&catalog.to_string()).unwrap())
}

/// One customer of two, and what is theirs.
fn party(dice: &mut Dice) -> (&'static str, &'static str, &'static str, &'static str) {
    dice.pick(&[
        ("alice", "cus_1", "sub_1", "price_p"),
        ("alice", "cus_1", "sub_2", "price_q"),
        ("bob", "cus_2", "sub_3", "price_p"),
    ])
}

/// Something that Stripe tells, in the shape that it keeps, made at a day from `first` to before `last`. One invoice or payment is always told with
/// the same content, as Stripe does; what a subscription is like may change from each day to the next.
fn event(dice: &mut Dice, n: usize, first: u64, last: u64) -> Value {
    let (who, customer, sub, price) = party(dice);
    let day = first + dice.roll(last - first);
    let (at, period) = (format!("{}s", day * DAY + dice.roll(3)), day / 30);
    let (from, to) = (format!("{}d", period * 30), format!("{}d", period * 30 + 30));
    // The trial of one subscription is its first period.
    let (trial_end, paid) =
        if sub == "sub_2" { (json!("30d"), if period == 0 { 0 } else { 6000 }) } else { (Value::Null, 3000) };
    let metadata = if dice.roll(4) == 0 { json!({}) } else { json!({"user_id": who}) };
    let words = match dice.roll(10) {
        0..=3 => {
            let status = dice.pick(&[
                "incomplete",
                "trialing",
                "active",
                "active",
                "active",
                "past_due",
                "unpaid",
                "paused",
            ]);
            let kind = dice.pick(&["customer.subscription.created", "customer.subscription.updated"]);
            json!({"type": kind, "id": sub, "customer": customer, "status": status, "price": dice.pick(&[price, price, "price_new"]),
                "from": from, "to": to, "trial_end": trial_end, "metadata": metadata, "at": at,
                "cancel_at_period_end": dice.roll(5) == 0, "paused": dice.roll(8) == 0})
        }
        4..=6 => {
            let kind = dice.pick(&["invoice.paid", "invoice.payment_succeeded"]);
            let reason = if period == 0 { "subscription_create" } else { "subscription_cycle" };
            json!({"type": kind, "id": format!("in_{sub}_{period}"), "sub": sub, "customer": customer, "price": price,
                "paid": paid, "reason": reason, "from": from, "to": to, "metadata": metadata, "at": at})
        }
        7..=8 => {
            let payment = dice.roll(3);
            let id = format!("{customer}_{payment}");
            json!({"type": "checkout.session.completed", "id": format!("cs_{id}"), "intent": format!("pi_{id}"),
                "customer": customer, "reference": who, "package": "k", "at": at})
        }
        _ => {
            let kind = dice.pick(&["invoice.payment_failed", "invoice.voided"]);
            json!({"type": kind, "id": format!("in_{sub}_{period}_open"), "sub": sub, "customer": customer, "price": price,
                "from": from, "to": to, "metadata": metadata, "at": at})
        }
    };
    let Value::Object(mut words) = words else { panic!() };
    words.insert("evt".into(), json!(format!("evt_{n:03}")));
    shapes::event(&words, n, dice.pick(&Shape::ALL), START).unwrap()
}

/// The end of it without which grant of several alike a request was paid from: their numbers follow the order.
fn end(world: &mut World) -> Value {
    let mut state = world.state().unwrap();
    for account in state.as_object_mut().unwrap().values_mut() {
        account.as_object_mut().unwrap().remove("grants");
    }
    state
}

/// What happens between two bunches of events.
fn live(world: &mut World, spends: &[(&'static str, &'static str)], gift: u64) {
    for (who, endpoint) in spends {
        world.request(who, endpoint, true).unwrap();
    }
    if gift > 0 {
        // The second time it is known.
        for _ in 0..2 {
            _ = world.grant("alice", gift, "gift"); // unless there is no alice
        }
    }
}

/// Two bunches of events with life between them, each bunch in an order of its own, with repetitions.
fn tell(
    bunches: [&[Value]; 2],
    between: &(Vec<(&'static str, &'static str)>, u64),
    days: [u64; 2],
    dice: &mut Dice,
) -> (Value, String) {
    let mut world = World::in_memory(product(), START);
    let mut order = String::new();
    for (turn, (bunch, day)) in bunches.iter().zip(days).enumerate() {
        world.now = START.plus(Span::from_secs(day * DAY));
        let mut bunch: Vec<_> =
            bunch.iter().flat_map(|event| vec![event; 1 + usize::try_from(dice.roll(2)).unwrap()]).collect();
        dice.shuffle(&mut bunch);
        for event in bunch {
            order.push_str(&format!("\n  {event}"));
            world.deliver(event).unwrap();
        }
        world.sweep().unwrap();
        if turn == 0 {
            live(&mut world, &between.0, between.1);
        }
    }
    world.audit().unwrap();
    (end(&mut world), order)
}

#[test]
fn the_order_of_events_changes_nothing() {
    for seed in 0..histories() {
        let mut dice = Dice::of(seed);
        let day = 1 + dice.roll(70);
        let later = day + 1 + dice.roll(40);
        let first: Vec<_> =
            (0..3 + dice.roll(6)).map(|n| event(&mut dice, usize::try_from(n).unwrap(), 0, day)).collect();
        let then: Vec<_> = (0..dice.roll(5))
            .map(|n| event(&mut dice, 100 + usize::try_from(n).unwrap(), day, later))
            .collect();
        let spends: Vec<_> =
            (0..dice.roll(6)).map(|_| (dice.pick(&["alice", "bob"]), dice.pick(&["chat", "bulk"]))).collect();
        let between = (spends, dice.roll(3) * 5);
        let run = |dice: &mut Dice| tell([&first, &then], &between, [day, later], dice);
        let (known, order) = run(&mut dice);
        for _ in 0..8 {
            let (found, other) = run(&mut dice);
            assert_eq!(
                found, known,
                "history {seed}\n{between:?} on days {day} and {later}:{order}\nand{other}"
            );
        }
    }
}

/// One step on both stores; what each answered.
fn step(world: &mut World, dice: &mut Dice, n: usize, holds: &mut Vec<(u64, Vec<Value>)>) -> String {
    let day = world.now.since(START).secs_up() / DAY;
    let id = u64::try_from(n).unwrap() + 1;
    match dice.roll(12) {
        0..=4 => {
            // Most of what is told has just happened.
            let since = dice.pick(&[0, day, day]);
            let event = event(dice, n, since, day + 1);
            let times = 1 + dice.roll(2);
            (0..times).for_each(|_| world.deliver(&event).unwrap());
            event.to_string()
        }
        5..=6 => {
            let (who, endpoint) = (dice.pick(&["alice", "bob"]), dice.pick(&["chat", "bulk"]));
            format!("{who} {endpoint} {:?}", world.request(who, endpoint, true))
        }
        7 => {
            let (who, endpoint) = (dice.pick(&["alice", "bob"]), dice.pick(&["chat", "bulk"]));
            let decision = world.hold(who, endpoint, id).unwrap();
            if let NeedDecision::Ok { cells, .. } = &decision {
                holds.push((id, cells.iter().map(|cell| serde_json::to_value(cell).unwrap()).collect()));
            }
            format!("{who} holds for {endpoint}: {decision:?}")
        }
        8 => {
            let Some((id, cells)) = holds.pop() else { return "nothing to end".into() };
            let failed = dice.roll(3) == 0;
            let end = |cell: &Value| {
                let held = cell["held"].as_i64().unwrap();
                let used = if failed { 0 } else { held / 2 };
                json!({"grant": cell["grant"], "generation": cell["generation"], "admitted": held, "finished": held,
                    "used": used, "returned": held - used, "target": 0})
            };
            let cells: Vec<_> = cells.iter().map(end).collect();
            format!("hold {id} ends: {:?}", world.sync(&json!({"cells": cells})).unwrap())
        }
        9 => format!(
            "gift: {:?}",
            world.grant(dice.pick(&["alice", "bob"]), 1 + dice.roll(20), &format!("gift {}", dice.roll(9)))
        ),
        _ => {
            // Often to the hour in which a renewal is paid, when the old period is over and its credits are still there.
            let renewal = START.plus(Span::from_secs((day / 30 + 1) * 30 * DAY + 3_600)).since(world.now);
            world.now = world.now.plus(dice.pick(&[Span::from_secs(3_600), renewal, renewal]));
            world.sweep().unwrap();
            format!("now {}", world.now.to_rfc3339())
        }
    }
}

#[test]
fn both_stores_say_the_same_and_the_journal_alone_says_it_too() {
    for seed in 0..histories() / 4 {
        let mut memory = (World::in_memory(product(), START), Dice::of(seed), Vec::new());
        let mut sqlite = (World::in_sqlite(product(), START), Dice::of(seed), Vec::new());
        for n in 0..100 {
            let [here, there] = [&mut memory, &mut sqlite].map(|(world, dice, holds)| {
                let answer = step(world, dice, n, holds);
                world.audit().unwrap_or_else(|no| panic!("history {seed}, step {n}, {answer}: {no}"));
                (answer, world.state().unwrap())
            });
            assert_eq!(here, there, "history {seed}, step {n}");
        }
    }
}
