//! One case: its steps, the orders of its events, and whether what is found is what is expected.

use crate::BASE;
use crate::shapes::{self, Shape, instant};
use crate::world::{World, setup};
use billing::catalog::Catalog;
use contract::v1::NeedDecision;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use units::Instant;

/// 2026-11-20T09:30:00Z.
const START: Instant = Instant::from_secs(1_795_167_000);
/// Up to this many orders all are tried (6 events have as many); of more, a sample.
const ORDERS_MAX: usize = 720;
const SAMPLE: usize = 500;
/// Where every order of one shape was tried, so many of another do.
const ORDERS_OF_OTHER_SHAPES: usize = 6;

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) pending: Option<String>,
    catalog: String,
    start: Instant,
    /// In which of Stripe's versions it can happen.
    shapes: Vec<Shape>,
    steps: Vec<Map<String, Value>>,
}

/// How often an event comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copies {
    /// Once.
    One,
    /// Twice in a row, and all of them again at the end of each step.
    Same,
    /// Twice in a row, and all of them again under other ids at the end of each step.
    OtherId,
}

/// In which shape an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    All(Shape),
    /// One after the other: an endpoint's version was changed in between.
    Mixed,
}

const VERBS: [&str; 8] = ["events", "clock", "spend", "hold", "finish", "bind", "gift", "expect"];
const EXPECTED: [&str; 15] = [
    "account",
    "exists",
    "stage",
    "tier",
    "credits",
    "credits_at_most",
    "owed",
    "held",
    "granted",
    "period_end",
    "ends",
    "access",
    "events",
    "flagged",
    "noted",
];

type Order = Vec<Vec<usize>>;
type Holds = BTreeMap<String, Vec<Value>>;

impl Case {
    pub(crate) fn read(case: &Value) -> Self {
        let known = ["id", "about", "pending", "catalog", "start", "shapes", "steps"];
        let case = case.as_object().unwrap();
        let strange: Vec<_> = case.keys().filter(|key| !known.contains(&key.as_str())).collect();
        assert!(strange.is_empty(), "{strange:?} in {case:?}");
        let text = |key: &str| case.get(key).map(|text| text.as_str().unwrap().to_owned());
        let mut catalog: Value = serde_saphyr::from_str(BASE).unwrap();
        merge(&mut catalog, case.get("catalog").unwrap_or(&Value::Null));
        let named = |shape: &Shape| {
            case.get("shapes").is_none_or(|names| names.as_array().unwrap().contains(&json!(shape.name())))
        };
        let steps = case["steps"].as_array().unwrap().iter();
        Self {
            name: format!("{}: {}", text("id").unwrap(), text("about").unwrap()),
            pending: text("pending"),
            catalog: catalog.to_string(),
            start: case.get("start").map_or(START, |start| instant(start, START)),
            shapes: Shape::ALL.into_iter().filter(named).collect(),
            steps: steps.map(|step| step.as_object().unwrap().clone()).collect(),
        }
    }

    /// Every event can be written and everything else is known, in steps too that a pending case never reaches.
    fn proofread(&self) {
        for (place, event) in self.groups().flatten().enumerate() {
            for shape in &self.shapes {
                shapes::event(event.as_object().unwrap(), place + 1, *shape, self.start);
            }
        }
        for (verb, what) in self.steps.iter().flatten() {
            assert!(VERBS.contains(&verb.as_str()), "there is no step {verb:?}");
            let expected = what.as_object().filter(|_| verb == "expect").into_iter().flat_map(Map::keys);
            let strange: Vec<_> = expected.filter(|key| !EXPECTED.contains(&key.as_str())).collect();
            assert!(strange.is_empty(), "nothing can be expected of {strange:?}");
        }
    }

    pub(crate) fn run(&self) -> Result<(), String> {
        self.proofread();
        let catalog = Catalog::from_yaml(&self.catalog).map_err(|no| format!("its catalog: {no}"))?;
        let setup = setup(catalog);
        let orders = self.orders();
        let memory = || World::in_memory(setup.clone(), self.start);
        let mut end = None;
        let mut check = |world: World, order: &Order, writing, copies| {
            let told =
                |no: String| format!("{writing:?}, {copies:?}, in the order {}: {no}", self.told(order));
            let state = self.once(world, order, writing, copies).map_err(told)?;
            let known = end.get_or_insert_with(|| state.clone());
            if *known == state {
                return Ok(());
            }
            Err(told(format!("it ended otherwise than in the first order:\n{state:#}\nnot\n{known:#}")))
        };
        for order in &orders {
            for copies in [Copies::One, Copies::OtherId] {
                check(memory(), order, Writing::All(Shape::Dahlia), copies)?;
            }
        }
        for order in spread(&orders, ORDERS_OF_OTHER_SHAPES) {
            for writing in self.shapes.iter().map(|shape| Writing::All(*shape)).chain([Writing::Mixed]) {
                check(memory(), order, writing, Copies::Same)?;
            }
        }
        for order in spread(&orders, 2) {
            for copies in [Copies::Same, Copies::OtherId] {
                let world = World::in_sqlite(setup.clone(), self.start);
                check(world, order, Writing::Mixed, copies)?;
            }
        }
        Ok(())
    }

    /// The orders of each step's events: all of them, or a sample that always begins with the order they are written in.
    fn orders(&self) -> Vec<Order> {
        let sizes: Vec<usize> = self.groups().map(|group| group.len()).collect();
        let count = |n: usize| (1..=n).try_fold(1, usize::checked_mul).unwrap_or(usize::MAX);
        let all = sizes.iter().fold(1_usize, |all, n| all.saturating_mul(count(*n)));
        if all <= ORDERS_MAX {
            return sizes.iter().fold(vec![Vec::new()], |orders, n| {
                let each = permutations(*n);
                let longer =
                    |order: &Order, last: &Vec<usize>| [&order[..], std::slice::from_ref(last)].concat();
                orders.iter().flat_map(|order| each.iter().map(|last| longer(order, last))).collect()
            });
        }
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut order: Order = sizes.iter().map(|n| (0..*n).collect()).collect();
        let mut orders =
            vec![order.clone(), order.iter().map(|it| it.iter().rev().copied().collect()).collect()];
        while orders.len() < SAMPLE {
            order.iter_mut().for_each(|group| shuffle(group, &mut seed));
            orders.push(order.clone());
        }
        orders
    }

    fn groups(&self) -> impl Iterator<Item = &Vec<Value>> {
        self.steps.iter().filter_map(|step| step.get("events")).map(|events| events.as_array().unwrap())
    }

    /// An order as the events' ids.
    fn told(&self, order: &Order) -> String {
        let mut before = 0;
        let mut told = String::new();
        for (group, order) in self.groups().zip(order) {
            for n in order {
                let words = group[*n].as_object().unwrap();
                let (id, kind) = (shapes::id_of(words, before + n + 1), &words["type"]);
                write!(told, "\n    {id} {}", kind.as_str().unwrap()).unwrap();
            }
            before += group.len();
            told.push_str(" |");
        }
        told
    }

    /// The whole case in one order.
    fn once(
        &self,
        mut world: World,
        order: &Order,
        writing: Writing,
        copies: Copies,
    ) -> Result<Value, String> {
        let mut order = order.iter();
        let (mut place, mut delivered) = (0, Vec::new());
        let mut holds = Holds::new();
        for step in &self.steps {
            if let Some(events) = step.get("events") {
                let events = events.as_array().unwrap();
                self.deliver(
                    &mut world,
                    events,
                    place,
                    order.next().unwrap(),
                    writing,
                    copies,
                    &mut delivered,
                )?;
                place += events.len();
            } else {
                self.step(&mut world, step, &mut holds)?;
            }
        }
        world.sweep()?;
        world.audit()?;
        world.state()
    }

    #[allow(clippy::too_many_arguments)]
    fn deliver(
        &self,
        world: &mut World,
        events: &[Value],
        before: usize,
        order: &[usize],
        writing: Writing,
        copies: Copies,
        delivered: &mut Vec<Value>,
    ) -> Result<(), String> {
        let made = events.iter().map(|event| shapes::made_at(event.as_object().unwrap(), self.start)).max();
        world.now = world.now.max(made.unwrap_or(self.start));
        for (turn, n) in order.iter().enumerate() {
            let (words, place) = (events[*n].as_object().unwrap(), before + n + 1);
            let mut shape = match writing {
                Writing::All(shape) => shape,
                Writing::Mixed => self.shapes[(turn + n) % self.shapes.len()],
            };
            if writing == Writing::Mixed && words["type"].as_str().unwrap().starts_with("invoice_payment") {
                shape = Shape::Basil; // there was none before
            }
            let Some(event) = shapes::event(words, place, shape, self.start) else { continue };
            world.deliver(&event)?;
            if copies != Copies::One {
                world.deliver(&event)?;
            }
            delivered.push(event);
        }
        for event in delivered.iter().rev().filter(|_| copies != Copies::One) {
            let mut event = event.clone();
            if copies == Copies::OtherId {
                event["id"] = json!(format!("{}_again", event["id"].as_str().unwrap()));
            }
            world.deliver(&event)?;
        }
        Ok(())
    }

    fn step(&self, world: &mut World, step: &Map<String, Value>, holds: &mut Holds) -> Result<(), String> {
        let (verb, what) = step.iter().next().unwrap();
        assert_eq!(step.len(), 1, "one thing at a time: {step:?}");
        match verb.as_str() {
            "clock" => {
                world.now = instant(what, self.start);
                world.sweep()
            }
            "spend" => spend(world, what),
            "hold" => hold(world, what, holds),
            "finish" => {
                let used = what["used"].as_i64().unwrap() * 1_000_000;
                let cells: Vec<_> =
                    holds[what["hold"].as_str().unwrap()].iter().map(|it| finished(it, used)).collect();
                world.sync(&json!({"cells": cells})).map(drop)
            }
            "gift" => world.grant("alice", what.as_u64().unwrap(), "gift").map(drop),
            "bind" => world.bind(what["account"].as_str().unwrap(), what["customer"].as_str().unwrap()),
            "expect" => {
                world.sweep()?;
                self.expect(world, what)
            }
            other => panic!("there is no step {other:?}"),
        }
    }

    /// Compares what is expected with what is there; every difference is told.
    fn expect(&self, world: &mut World, expected: &Value) -> Result<(), String> {
        let who = expected.get("account").map_or("alice", |who| who.as_str().unwrap());
        let view = world.account(who)?.unwrap_or(Value::Null);
        let events = world.events()?;
        let mut no = String::new();
        for (what, wanted) in expected.as_object().unwrap() {
            let credits = |wanted: &Value| json!(micro(wanted));
            let at = |wanted: &Value| {
                if wanted.is_null() { Value::Null } else { json!(instant(wanted, self.start)) }
            };
            let (found, wanted) = match what.as_str() {
                "account" => continue,
                "exists" => (json!(!view.is_null()), wanted.clone()),
                "stage" => (view["state"].clone(), wanted.clone()),
                "tier" => (view["tier"].clone(), wanted.clone()),
                "credits" => (view["balance_micro"].clone(), credits(wanted)),
                "credits_at_most" => {
                    let (found, most) = (view["balance_micro"].as_i64().unwrap(), micro(wanted));
                    (json!(found.min(most)), json!(found))
                }
                "owed" => (view["debt_micro"].clone(), credits(wanted)),
                "held" => (view["held_micro"].clone(), credits(wanted)),
                "granted" => (json!(world.granted(who)?), credits(wanted)),
                "period_end" => (view["current_period_end"].clone(), at(wanted)),
                "ends" => (view["cancel_at"].clone(), at(wanted)),
                "access" => {
                    let of = |endpoint: &String| (endpoint.clone(), world.request(who, endpoint, false));
                    let found: Vec<_> = wanted.as_object().unwrap().keys().map(of).collect();
                    let found: BTreeMap<_, _> =
                        found.into_iter().map(|(k, v)| v.map(|v| (k, v))).collect::<Result<_, _>>()?;
                    let refused = |(k, v): (&String, &String)| {
                        let any = wanted[k] == "refused" && v != "ok";
                        (k.clone(), if any { "refused".to_owned() } else { v.clone() })
                    };
                    (json!(found.iter().map(refused).collect::<BTreeMap<_, _>>()), wanted.clone())
                }
                "events" => {
                    let status = |id: &String| events.get(id).map(|(status, _)| status.as_str());
                    let found = wanted.as_object().unwrap().keys().map(|id| (id.clone(), json!(status(id))));
                    (Value::Object(found.collect()), wanted.clone())
                }
                // One of these was given to a person, or is told to have been odd: which one depends on the order.
                "flagged" => {
                    let ids: Vec<&str> =
                        wanted.as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
                    let odd = |id: &&str| {
                        events
                            .get(*id)
                            .is_some_and(|(status, _)| matches!(status.as_str(), "review" | "conflict"))
                    };
                    (json!(ids.iter().any(odd)), json!(true))
                }
                "noted" => (
                    json!(events.values().any(|(_, detail)| detail.contains(wanted.as_str().unwrap()))),
                    json!(true),
                ),
                other => panic!("nothing can be expected of {other:?}"),
            };
            if found != wanted {
                write!(no, "\n  {what} is {found}, not {wanted}").unwrap();
            }
        }
        if no.is_empty() {
            Ok(())
        } else {
            Err(format!("at {}:{no}\n  {events:?}\n  {view}", world.now.to_rfc3339()))
        }
    }
}

fn spend(world: &mut World, what: &Value) -> Result<(), String> {
    let who = what.get("account").map_or("alice", |who| who.as_str().unwrap());
    for (endpoint, times) in what.as_object().unwrap().iter().filter(|(key, _)| *key != "account") {
        for n in 1..=times.as_i64().unwrap() {
            match world.request(who, endpoint, true)?.as_str() {
                "ok" => {}
                no => return Err(format!("request {n} of {times} to {endpoint} was refused: {no}")),
            }
        }
    }
    Ok(())
}

/// A request that holds, or asks for the very same hold again; what is refused is expected to be.
fn hold(world: &mut World, what: &Value, holds: &mut Holds) -> Result<(), String> {
    let (name, id) = (what["as"].as_str().unwrap(), what["id"].as_u64().unwrap());
    let decision = world.hold("alice", what["endpoint"].as_str().unwrap(), id)?;
    let refused = what.get("refused").map(|reason| reason.as_str().unwrap());
    match (&decision, refused) {
        (NeedDecision::Ok { cells, .. }, None) => {
            let cells: Vec<Value> = cells.iter().map(|cell| serde_json::to_value(cell).unwrap()).collect();
            if holds.get(name).is_some_and(|known| *known != cells) {
                return Err(format!("the hold {name} is another one now: {cells:?}"));
            }
            holds.insert(name.to_owned(), cells);
            Ok(())
        }
        (NeedDecision::Refused { refusal, .. }, Some(reason)) if refusal.reason.as_str() == reason => Ok(()),
        _ => Err(format!("the hold {name} was decided {decision:?}")),
    }
}

/// The report that a hold's cell has ended.
fn finished(cell: &Value, used: i64) -> Value {
    let held = cell["held"].as_i64().unwrap();
    json!({
        "grant": cell["grant"], "generation": cell["generation"], "admitted": held, "finished": held,
        "used": used, "returned": held - used, "target": 0,
    })
}

fn micro(credits: &Value) -> i64 {
    credits.as_i64().unwrap_or_else(|| panic!("no whole number of credits: {credits}")) * 1_000_000
}

/// Puts changes into a document; `null` takes away.
fn merge(into: &mut Value, changes: &Value) {
    let Some(changes) = changes.as_object() else { return };
    let into = into.as_object_mut().unwrap();
    for (key, change) in changes {
        match into.get_mut(key) {
            Some(value) if value.is_object() && change.is_object() => merge(value, change),
            _ if change.is_null() => drop(into.remove(key)),
            _ => drop(into.insert(key.clone(), change.clone())),
        }
    }
}

/// Every order of `0..n`, beginning with that one.
fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(n - 1);
    let with = |at: usize| {
        shorter.iter().map(move |order| {
            let mut order = order.clone();
            order.insert(at, n - 1);
            order
        })
    };
    (0..n).rev().flat_map(with).collect()
}

fn shuffle(order: &mut [usize], seed: &mut u64) {
    for last in (1..order.len()).rev() {
        // xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        order.swap(last, usize::try_from(*seed % (u64::try_from(last).unwrap() + 1)).unwrap());
    }
}

/// At most so many of them, evenly.
fn spread(orders: &[Order], count: usize) -> impl Iterator<Item = &Order> {
    orders.iter().step_by(orders.len().div_ceil(count).max(1))
}
