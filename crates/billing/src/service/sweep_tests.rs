//! Very many whose time is over at one instant.

use super::{Setup, due, settle, sync};
use crate::catalog::Catalog;
use crate::engine::Work;
use crate::error::Error;
use crate::store::{Memory, Sqlite, Store};
use contract::v1::{NeedDecision, Sync};
use ledger::{CrashPolicy, Timing};
use serde_json::{Value, json};
use units::{Instant, Span};

const NOW: Instant = Instant::from_secs(1_795_167_000);
const TOMORROW: Instant = Instant::from_secs(1_795_167_000 + 86_400);
const CROWD: u64 = 450;

fn setup() -> Setup {
    let catalog = Catalog::from_yaml(include_str!("../../../../catalogs/demo.yaml")).unwrap();
    let (ttl, tail) = (Span::from_secs(30), Span::from_secs(30));
    let timing = Timing { ttl, grace: Span::ZERO, tail };
    let (policy, crash) = (catalog.policy(), CrashPolicy::Refund);
    Setup { catalog, policy, timing, crash, claim_ttl: ttl, tells: false }
}

/// In a transaction of its own.
fn work<T>(store: &mut dyn Store, now: Instant, run: impl FnOnce(&mut Work<'_>) -> Result<T, Error>) -> T {
    let (mut notes, mut counts) = (Vec::new(), Vec::new());
    store.begin().unwrap();
    let done = run(&mut Work { store, now, notes: &mut notes, counts: &mut counts }).unwrap();
    store.commit().unwrap();
    done
}

/// Asks for one request of each of them; how many of a day's three are left to each then.
fn ask(store: &mut dyn Store, now: Instant, node: &str, who: &[u64]) -> Vec<u64> {
    let need = |n: &u64| {
        let subject = json!({ "kind": "jwt_sub", "value": format!("u{n}") });
        json!({ "id": n + 1, "subject": subject, "endpoint": "chat", "mode": "hold",
            "shape": { "kind": "fixed" }, "wait_ms": 0 })
    };
    let needs: Vec<Value> = who.iter().map(need).collect();
    let asked = json!({ "node": node, "incarnation": 1, "worker": 1, "sent_seq": 1, "cells": [], "needs": needs,
        "abandoned": [], "usage": [], "draining": false });
    let asked: Sync = serde_json::from_value(asked).unwrap();
    let answer = work(store, now, |work| sync(work, &setup(), &asked));
    let left = answer.needs.into_iter().map(|need| match need.decision {
        NeedDecision::Ok { standing, .. } => standing.window.unwrap().remaining,
        other => panic!("{other:?}"),
    });
    left.collect()
}

/// Sweeps as often as there is more, and says how many were settled each time; `between` any two something is done.
fn sweep(store: &mut dyn Store, now: Instant, mut between: impl FnMut(&mut dyn Store, u64)) -> Vec<usize> {
    let mut settled = Vec::new();
    for times in 0.. {
        let (found, more) = work(store, now, due);
        settled.push(found.len());
        // Each is a command of its own; as in the service they share a transaction.
        work(store, now, |work| found.iter().try_for_each(|account| settle(work, &setup(), account)));
        if !more {
            break;
        }
        between(store, times);
    }
    settled
}

#[test]
fn t45_of_very_many_so_many_are_settled_at_a_time_and_what_is_asked_meanwhile_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Box<dyn Store>; 2] =
        [Box::<Memory>::default(), Box::new(Sqlite::open(&dir.path().join("x.db")).unwrap())];
    for mut store in stores {
        let (store, all): (&mut dyn Store, Vec<u64>) = (&mut *store, (0..CROWD).collect());
        assert!(ask(store, NOW, "n1", &all).iter().all(|left| *left == 2));
        // The day and the holds are over for all of them, and nobody has come by.
        let settled = sweep(store, TOMORROW, |store, times| {
            // Of those that were settled and those that were not, one each: both have a new day.
            let some = [times, CROWD - 1 - times];
            assert_eq!(ask(store, TOMORROW, &format!("n{}", times + 2), &some), [2, 2]);
        });
        assert_eq!(settled, [200, 200, 50]);
        // What was in flight is in doubt for another while; then it is over for each of them, once.
        let settled = sweep(store, TOMORROW.plus(Span::from_secs(31)), |_, _| ());
        assert_eq!(settled, [200, 200, 50]);
        sweep(store, TOMORROW.plus(Span::from_secs(62)), |_, _| ());
        assert_eq!(work(store, TOMORROW.plus(Span::from_secs(93)), due), (Vec::new(), false));
    }
}
