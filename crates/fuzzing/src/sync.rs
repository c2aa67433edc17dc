//! A gateway that lies: whatever it reports and asks, each question gets one answer, the books add up, and hearing it
//! twice charges it once.

use crate::dice::Dice;
use crate::till::Till;
use crate::tree;
use contract::v1::{CellKey, CellLease, NeedDecision, NeedMode, Sync, SyncAnswer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use units::Span;

const CREDITS: u64 = 20;

pub(crate) fn run(data: &[u8]) {
    if data.starts_with(b"{") {
        // A body as it came.
        if let Ok(sync) = serde_json::from_slice::<Sync>(data) {
            let mut till = Till::new();
            till.open("alice", CREDITS);
            told(&mut till, &sync, &mut Said::new());
        }
        return;
    }
    let mut dice = Dice::new(data);
    let mut till = Till::new();
    till.open("alice", CREDITS);
    till.open("bob", CREDITS);
    let mut cells: Vec<CellLease> = Vec::new();
    let mut said = Said::new();
    let mut seq = 0;
    while !dice.is_over() {
        seq += 1;
        let mut document = document(&mut dice, &cells, seq);
        for _ in 0..dice.below(4) {
            tree::change(&mut document, &mut dice);
        }
        if let Ok(sync) = serde_json::from_value::<Sync>(document)
            && let Some(answer) = told(&mut till, &sync, &mut said)
        {
            for need in answer.needs {
                if let NeedDecision::Ok { cells: new, .. } = need.decision {
                    cells.extend(new);
                }
            }
        }
        if dice.rarely(3) {
            till.now = till.now.plus(Span::from_millis(u64::try_from(dice.below(70_000)).unwrap()));
            till.sweep();
            till.audit();
        }
    }
    till.now = till.now.plus(Span::from_secs(1000));
    till.sweep();
    till.audit();
}

/// What a gateway might say: of cells that it has, that it had, and of others.
fn document(dice: &mut Dice<'_>, cells: &[CellLease], seq: u64) -> Value {
    let reports: Vec<Value> = (0..dice.below(4))
        .map(|_| {
            let key = if cells.is_empty() || dice.rarely(6) {
                json!({"grant": dice.below(4), "generation": dice.below(5)})
            } else {
                let key = dice.pick(cells).key;
                json!({"grant": key.grant, "generation": key.generation})
            };
            let mut three = [0, 1, 2].map(|_| 500_000 * dice.below(12));
            three.sort_unstable();
            json!({"grant": key["grant"], "generation": key["generation"], "admitted": three[2], "finished": three[1],
                "used": three[0], "returned": 500_000 * dice.below(4), "target": 1_000_000 * dice.below(30),
                "need": 1_000_000 * dice.below(2), "gone": dice.rarely(6)})
        })
        .collect();
    let needs: Vec<Value> = (0..dice.below(4))
        .map(|n| {
            let value = dice.pick(&["alice", "bob", "carol"]);
            let endpoint = dice.pick(&["chat", "image", "embeddings", "nothing"]);
            let mode = dice.pick(&["identify", "hold", "lease"]);
            json!({"id": 1 + n + 4 * dice.below(3), "subject": {"kind": "jwt_sub", "value": value}, "endpoint": endpoint,
                "mode": mode, "shape": {"kind": "fixed"}, "wait_ms": 100 * dice.below(2), "generation_min": 1 + dice.below(3),
                "lost": mode == "lease" && dice.below(3) == 0})
        })
        .collect();
    let usage: Vec<Value> = (0..dice.below(3))
        .map(|_| {
            json!({"n": 1 + dice.below(5), "request_id": "r1", "account": "alice", "endpoint": "chat", "charges": [],
                "returned": 0, "outcome": "charged", "price_version": 1, "at": "2026-11-20T12:00:00Z"})
        })
        .collect();
    let abandoned: Vec<usize> = (0..dice.below(3)).map(|_| 1 + dice.below(12)).collect();
    json!({"node": dice.pick(&["n1", "n2"]), "incarnation": 1 + dice.below(2), "worker": 1 + dice.below(2), "sent_seq": 2 * seq,
        "cells": reports, "needs": needs, "abandoned": abandoned, "usage": usage, "draining": dice.rarely(8)})
}

/// The most that each cell was ever said to have used, by node, incarnation and key.
type Said = BTreeMap<(String, u64, CellKey), i64>;

/// Tells it, twice. What was used is never more than gateways said.
fn told(till: &mut Till, sync: &Sync, said: &mut Said) -> Option<SyncAnswer> {
    let answer = till.sync(sync).ok()?;
    sound(sync, &answer);
    for cell in &sync.cells {
        let most = said.entry((sync.node.to_string(), sync.incarnation, cell.key)).or_default();
        *most = cell.used.get().max(*most);
    }
    assert!(till.sync(sync).is_err(), "the same sync was carried out twice");
    let sync = &Sync { sent_seq: sync.sent_seq + 1, ..sync.clone() };
    let again = till.sync(sync).expect("it was taken before");
    sound(sync, &again);
    assert_eq!(again.usage_acked, answer.usage_acked);
    for (a, b) in answer.needs.iter().zip(&again.needs) {
        // A hold that was granted is found again, and no other.
        let held = |decision: &NeedDecision| match decision {
            NeedDecision::Ok { cells, .. } => cells.iter().map(|c| (c.key, c.held)).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        let is_hold = sync.needs.iter().any(|need| need.id == a.id && need.mode == NeedMode::Hold);
        let alone = sync.needs.iter().filter(|need| need.id == a.id).count() == 1;
        let gone =
            sync.abandoned.contains(&a.id) || sync.cells.iter().any(|cell| cell.key.generation >= 1 << 40);
        if is_hold && alone && !gone && matches!(a.decision, NeedDecision::Ok { .. }) {
            assert_eq!(held(&a.decision), held(&b.decision), "another hold for the same need");
        }
    }
    let sums = till.audit();
    for (account, sum) in &sums {
        assert!(sum.used <= sum.granted, "{account} used more than was granted: {sums:?}");
    }
    let used: i64 = sums.values().map(|sum| sum.used + sum.debt).sum();
    assert!(used <= said.values().sum(), "charged twice: {sums:?}");
    Some(answer)
}

fn sound(sync: &Sync, answer: &SyncAnswer) {
    assert_eq!(answer.sent_seq, sync.sent_seq);
    let asked: Vec<u64> = sync.needs.iter().map(|need| need.id).collect();
    let answered: Vec<u64> = answer.needs.iter().map(|need| need.id).collect();
    assert_eq!(answered, asked);
    let reported: Vec<_> = sync.cells.iter().map(|cell| cell.key).collect();
    assert_eq!(answer.cells.iter().map(|cell| cell.key).collect::<Vec<_>>(), reported);
    for (need, told) in sync.needs.iter().zip(&answer.needs) {
        match &told.decision {
            NeedDecision::Ok { price, cells, .. } => {
                let held: i64 = cells.iter().map(|cell| cell.held.get()).sum();
                match need.mode {
                    NeedMode::Identify => assert!(cells.is_empty()),
                    NeedMode::Hold => assert_eq!(held, price.hold.get(), "{told:?}"),
                    NeedMode::Lease => assert_eq!(held, 0, "{told:?}"),
                }
                let over = |cell: &CellLease| need.lost && cell.ttl_ms == 0;
                assert!(cells.iter().all(|it| (it.unit == price.unit || over(it)) && it.held <= it.granted));
            }
            NeedDecision::Retry { .. } => assert!(need.wait_ms > 0, "a final answer was asked for"),
            NeedDecision::Refused { refusal, cells } => {
                assert!((400..=599).contains(&refusal.status));
                assert!(need.lost || cells.is_empty(), "nothing was lost");
                assert!(cells.iter().all(|cell| cell.ttl_ms == 0 && cell.held.is_zero()), "{told:?}");
            }
        }
    }
    let bytes = serde_json::to_vec(answer).unwrap();
    assert_eq!(
        &serde_json::from_slice::<SyncAnswer>(&bytes).unwrap(),
        answer,
        "not what it says on the wire"
    );
}
