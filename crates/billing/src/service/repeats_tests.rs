//! Every branch of a repetition, in both stores: what it is told, and what was paid before it.

use super::{Setup, sync};
use crate::catalog::Catalog;
use crate::engine::Work;
use crate::store::{Memory, Sqlite, Store};
use contract::v1::{CellReport, NeedDecision, Reason, Sync};
use ledger::{CrashPolicy, Timing};
use serde_json::json;
use units::{AccountId, Amount, Instant, Span};

const NOW: Instant = Instant::from_secs(1_795_167_000);

fn setup(crash: CrashPolicy) -> Setup {
    let catalog = include_str!("../../../../catalogs/demo.yaml");
    let catalog = Catalog::from_yaml(catalog).unwrap();
    Setup {
        policy: catalog.policy(),
        catalog,
        timing: Timing { ttl: Span::from_secs(30), grace: Span::ZERO, tail: Span::from_secs(30) },
        crash,
        claim_ttl: Span::from_secs(30),
        tells: false,
    }
}

/// One gateway's worker in front of a store.
struct Desk<'a> {
    store: &'a mut dyn Store,
    now: Instant,
    crash: CrashPolicy,
    syncs: u64,
}

impl Desk<'_> {
    fn sync(&mut self, parts: serde_json::Value) -> contract::v1::SyncAnswer {
        let mut all = json!({
            "node": "n1", "incarnation": 1, "worker": 1, "sent_seq": 0, "cells": [], "needs": [], "abandoned": [],
            "usage": [], "draining": false,
        });
        self.syncs += 1;
        all["sent_seq"] = self.syncs.into();
        for (key, value) in parts.as_object().unwrap() {
            all[key] = value.clone();
        }
        let asked: Sync = serde_json::from_value(all).unwrap();
        let (mut notes, mut counts) = (Vec::new(), Vec::new());
        let mut work = Work { store: self.store, now: self.now, notes: &mut notes, counts: &mut counts };
        sync(&mut work, &setup(self.crash), &asked).unwrap()
    }

    /// What becomes of one that is named so.
    fn asks(&mut self, id: u64, who: &str, key: char, body: char) -> NeedDecision {
        let need = json!({
            "id": id, "subject": {"kind": "jwt_sub", "value": who}, "endpoint": "chat", "mode": "hold",
            "shape": {"kind": "fixed"}, "wait_ms": 0,
            "repeat": {"key": key.to_string().repeat(64), "body": body.to_string().repeat(64)},
        });
        self.sync(json!({ "needs": [need] })).needs.remove(0).decision
    }

    fn ends(&mut self, held: &NeedDecision, used: Amount) {
        let NeedDecision::Ok { cells, .. } = held else { panic!("{held:?}") };
        let cells: Vec<CellReport> = cells
            .iter()
            .map(|cell| CellReport {
                key: cell.key,
                admitted: cell.held,
                finished: cell.held,
                used,
                returned: cell.held.saturating_sub(used),
                target: Amount::ZERO,
                gone: false,
                need: Amount::ZERO,
                short: Amount::ZERO,
            })
            .collect();
        self.sync(json!({ "cells": cells }));
    }

    /// Settles what ran out, as a sweep does.
    fn sweeps(&mut self, who: &str) {
        let (mut notes, mut counts) = (Vec::new(), Vec::new());
        let mut work = Work { store: self.store, now: self.now, notes: &mut notes, counts: &mut counts };
        super::settle(&mut work, &setup(self.crash), &AccountId::new(who).unwrap()).unwrap();
    }
}

fn told(decision: &NeedDecision) -> &'static str {
    match decision {
        NeedDecision::Ok { cells, .. } if cells.is_empty() => "nothing held",
        NeedDecision::Ok { paid, .. } if paid.is_zero() => "held",
        NeedDecision::Ok { paid, .. } if *paid == Amount::ONE => "one paid",
        NeedDecision::Refused { refusal, .. } if refusal.reason == Reason::RequestInFlight => "in flight",
        NeedDecision::Refused { refusal, .. } if refusal.reason == Reason::IdempotencyMismatch => "mismatch",
        other => panic!("{other:?}"),
    }
}

fn each(test: impl Fn(&mut Desk<'_>)) {
    test(&mut Desk { store: &mut Memory::default(), now: NOW, crash: CrashPolicy::Charge, syncs: 0 });
    let dir = tempfile::tempdir().unwrap();
    let mut store = Sqlite::open(&dir.path().join("x.db")).unwrap();
    test(&mut Desk { store: &mut store, now: NOW, crash: CrashPolicy::Charge, syncs: 0 });
}

#[test]
fn each_branch_is_the_same_in_both_stores() {
    each(|desk| {
        let first = desk.asks(1, "alice", 'a', 'b');
        assert_eq!(told(&first), "held");
        assert_eq!(desk.asks(1, "alice", 'a', 'b'), first, "the answer was lost");
        assert_eq!(told(&desk.asks(2, "alice", 'a', 'b')), "in flight");
        assert_eq!(told(&desk.asks(3, "alice", 'a', 'c')), "mismatch");
        assert_eq!(told(&desk.asks(4, "bob", 'a', 'c')), "held", "another's name");
        desk.ends(&first, Amount::ONE);
        let again = desk.asks(5, "alice", 'a', 'b');
        assert_eq!(told(&again), "one paid");
        assert_eq!(desk.asks(5, "alice", 'a', 'b'), again, "the answer was lost, and it counts once");
        assert_eq!(told(&desk.asks(6, "alice", 'a', 'b')), "in flight");
        desk.ends(&again, Amount::ZERO);
        let last = desk.asks(6, "alice", 'a', 'b');
        assert_eq!(told(&last), "one paid");
        desk.ends(&last, Amount::ZERO);
        let anew = desk.asks(7, "alice", 'a', 'b');
        assert_eq!(told(&anew), "held", "that were two");
        desk.ends(&anew, Amount::ZERO);
        assert_eq!(told(&desk.asks(8, "alice", 'a', 'b')), "held", "it failed");
        desk.sync(json!({"abandoned": [8]}));
        assert_eq!(told(&desk.asks(9, "alice", 'a', 'b')), "held", "it was given up");
        desk.now = desk.now.plus(Span::from_secs(601));
        assert_eq!(told(&desk.asks(10, "alice", 'a', 'd')), "held", "that was too long ago");
    });
}

#[test]
fn what_a_dead_gateway_was_charged_for_is_paid_and_until_then_under_way() {
    each(|desk| {
        assert_eq!(told(&desk.asks(1, "alice", 'a', 'b')), "held");
        for _ in 0..2 {
            desk.now = desk.now.plus(Span::from_secs(31));
            assert_eq!(told(&desk.asks(2, "alice", 'a', 'b')), "in flight");
            desk.sweeps("alice");
        }
        assert_eq!(told(&desk.asks(2, "alice", 'a', 'b')), "one paid");
    });
}

#[test]
fn one_whose_answer_was_lost_is_told_the_same_however_long_ago_the_first_one_was() {
    each(|desk| {
        let first = desk.asks(1, "alice", 'a', 'b');
        desk.ends(&first, Amount::ONE);
        desk.now = desk.now.plus(Span::from_secs(599));
        assert_eq!(told(&desk.asks(2, "alice", 'a', 'b')), "one paid");
        desk.now = desk.now.plus(Span::from_secs(2));
        assert_eq!(told(&desk.asks(2, "alice", 'a', 'b')), "one paid");
        assert_eq!(told(&desk.asks(3, "alice", 'a', 'b')), "held", "and this is the first of its name now");
        assert_eq!(told(&desk.asks(4, "alice", 'a', 'b')), "in flight");
    });
}

#[test]
fn what_is_told_of_a_dead_gateways_request_after_all_counts_too() {
    each(|desk| {
        desk.crash = CrashPolicy::Refund;
        let first = desk.asks(1, "alice", 'a', 'b');
        desk.now = desk.now.plus(Span::from_secs(31));
        desk.sweeps("alice");
        desk.now = desk.now.plus(Span::from_secs(31));
        desk.sweeps("alice");
        desk.ends(&first, Amount::ONE);
        assert_eq!(told(&desk.asks(2, "alice", 'a', 'b')), "one paid");
    });
}
