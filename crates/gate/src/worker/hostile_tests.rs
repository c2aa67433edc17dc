//! A worker on bad ground: shared memory that somebody else wrote into, a clock that leaps, and answers no server gives.
//!
//! Whatever it meets, every request is answered once and in time, and the next one is served.

use super::rig::{Desk, PRICE, Stage, hello_answer, standing};
use super::*;
use contract::v1::*;

/// A request of a customer who can pay, served by a billing service that works; until it is, `stage` may need a moment.
fn serves(stage: &mut Stage, desk: &mut Desk, stream: u32, why: &str) {
    stage.ask(stream);
    let asked = stage.now;
    while stage.woken.is_empty() {
        assert!(stage.now.since(asked) <= Span::from_secs(3), "{why}: nobody answers");
        stage.settle(desk);
        stage.later(20);
    }
    let hold = stage.pass(stream).hold.unwrap();
    stage.end(hold, PRICE, Outcome::Charged);
    stage.settle(desk);
}

#[test]
fn a_worker_that_finds_rubbish_in_shared_memory_says_hello_and_serves() {
    let process = |incarnation: u64, workers: &str, ttl: u64, bound: u64, body: u64| {
        format!(
            r#"{{"incarnation":{incarnation},"workers":{workers},"intervals":{{"lease_ttl_ms":{ttl},
            "lease_tail_ms":1,"sync_ms":1,"claim_ttl_ms":1,"wait_ms":1}},"limits":{{"cells_max":{bound},
            "needs_max":{bound},"usage_max":{bound},"body_bytes_max":{body}}}}}"#
        )
    };
    let nested = "[".repeat(10_000);
    for rubbish in [
        "",
        "\0",
        "null",
        "{}",
        "7",
        &nested,
        &process(0, "0", 1000, 100, 4096),
        &process(7, "0", 0, 100, 4096),
        &process(7, "0", 1000, 0, 4096),
        &process(7, "0", 1000, 100, 1),
        &process(7, "4095", 1000, 100, 4096),
        &process(7, "65535", 1000, 100, 4096),
        &process(7, "-1", 1000, 100, 4096),
        r#"{"1":9223372036854775807}"#,
        r#"{"1":-9223372036854775808,"65535":1}"#,
        r#"{"65536":1}"#,
        r#"{"1":1e999}"#,
    ] {
        for key in ["tollgate/process/2", "tollgate/alive/1", "tollgate/allowance/1"] {
            let (mut first, mut desk) = (Stage::new(), Desk::with(9));
            serves(&mut first, &mut desk, 1, "before");
            let seen = first.shelf.read(key).map(|(_, seen)| seen);
            first.shelf.write(key, rubbish.as_bytes(), seen).unwrap();
            serves(&mut first, &mut desk, 2, rubbish);
            // A worker that starts now reads who it is from there.
            let mut second = Stage { shelf: first.shelf.clone(), now: first.now, ..Stage::new() };
            // The desk knows workers by number only, and this one may get the number of the first again.
            let mut desk2 = Desk::with(9);
            serves(&mut second, &mut desk2, 1, rubbish);
            for _ in 0..30 {
                second.later(1000);
                second.settle(&mut desk2);
            }
            serves(&mut second, &mut desk2, 2, rubbish);
            for desk in [&desk, &desk2] {
                assert_eq!((desk.charged, desk.held.len()), (2 * PRICE, 0), "{key}: {rubbish}");
            }
            assert_eq!(second.bugs(), 0);
        }
    }
}

#[test]
fn a_clock_that_leaps_costs_an_answer_at_most() {
    const YEAR_MS: u64 = 365 * 86_400_000;
    for leap in [11_000, 3_600_000, YEAR_MS, 290_000 * YEAR_MS] {
        for step in 0..6 {
            let (mut stage, mut desk) = (Stage::new(), Desk::with(9));
            let leaps = |stage: &mut Stage, at| {
                if at == step {
                    stage.later(leap)
                }
            };
            leaps(&mut stage, 0);
            stage.ask(1);
            leaps(&mut stage, 1);
            stage.answer_by(&mut desk, |hello| hello);
            leaps(&mut stage, 2);
            stage.settle(&mut desk);
            let woken = stage.woken.pop();
            assert!(stage.woken.is_empty(), "answered once");
            leaps(&mut stage, 3);
            match woken {
                Some((1, Answer::Ok(pass))) => stage.end(pass.hold.unwrap(), PRICE, Outcome::Charged),
                Some((1, Answer::Unavailable(Fault::Late))) => assert!((1..=2).contains(&step)),
                other => panic!("{leap} ms at step {step}: {other:?}"),
            }
            leaps(&mut stage, 4);
            stage.settle(&mut desk);
            leaps(&mut stage, 5);
            stage.settle(&mut desk);
            // At the end of time itself nothing is asked for any more; anywhere before it is as ever.
            if leap < 290_000 * YEAR_MS {
                serves(&mut stage, &mut desk, 2, "after the leap");
                assert_eq!((desk.held.len(), stage.bugs()), (0, 0));
                assert_eq!(desk.free + desk.charged, 9 * PRICE);
            }
        }
    }
}

#[test]
fn an_answer_with_absurd_numbers_keeps_nobody_waiting() {
    let most = u64::MAX;
    let good = hello_answer(1);
    for hello in [
        HelloAnswer { incarnation: most, ..good.clone() },
        HelloAnswer { intervals: Intervals { sync_ms: most, ..good.intervals }, ..good.clone() },
        HelloAnswer { intervals: Intervals { sync_ms: 0, ..good.intervals }, ..good.clone() },
        HelloAnswer { intervals: Intervals { lease_ttl_ms: most, ..good.intervals }, ..good.clone() },
        HelloAnswer { intervals: Intervals { lease_ttl_ms: 1, ..good.intervals }, ..good.clone() },
        HelloAnswer {
            intervals: Intervals { wait_ms: most, lease_tail_ms: most, ..good.intervals },
            ..good.clone()
        },
        HelloAnswer {
            limits: Limits { cells_max: 1, needs_max: 1, usage_max: 1, body_bytes_max: 4096 },
            ..good.clone()
        },
        HelloAnswer {
            limits: Limits {
                cells_max: u32::MAX,
                needs_max: u32::MAX,
                usage_max: u32::MAX,
                body_bytes_max: u32::MAX,
            },
            ..good
        },
    ] {
        let (mut stage, mut desk) = (Stage::new(), Desk::with(9));
        stage.ask(1);
        stage.reply_json(200, &serde_json::to_string(&hello).unwrap());
        let hold = {
            stage.settle(&mut desk);
            stage.pass(1).hold.unwrap()
        };
        stage.end(hold, PRICE, Outcome::Charged);
        for stream in 2..5 {
            serves(&mut stage, &mut desk, stream, &format!("{hello:?}"));
        }
        assert_eq!(stage.bugs(), 0);
    }
    let account = serde_json::to_string(&standing("a")).unwrap();
    let lent = |generation: u64, granted: u64, ttl: u64, exposure: u64, epoch: u64| {
        let account = account.replace("\"epoch\":1", &format!("\"epoch\":{epoch}"));
        format!(
            r#"{{"id":1,"decision":"ok","standing":{account},"price":{{"unit":"credits","hold":{PRICE},"scope":"","version":{epoch}}},
            "cells":[{{"grant":{epoch},"generation":{generation},"unit":"credits","granted":{granted},"held":{PRICE},"ttl_ms":{ttl},
            "exposure":{exposure},"scope":"","keep":true}}]}}"#
        )
    };
    let own = 1 << 40 | 1;
    let amount_max = (1 << 53) - 1;
    let price = PRICE.unsigned_abs();
    for (decision, passes) in [
        (r#"{"id":1,"decision":"retry","retry_ms":0}"#.to_owned(), false),
        (format!(r#"{{"id":1,"decision":"retry","retry_ms":{most}}}"#), false),
        (lent(own, price, most, amount_max, most), true),
        (lent(own, price, 1, 0, most), true),
        (lent(own, price, 0, 0, 1), false),
        (lent(own, amount_max, 1, 0, 1), false),
        (lent(own, amount_max + 1, 1, 0, 1), false),
        (lent(most, price, 1, 0, 1), false),
        (lent(0, price, 1, 0, 1), false),
    ] {
        let (mut stage, mut desk) = (Stage::new(), Desk::with(9));
        stage.ask(1);
        stage.answer_by(&mut desk, |hello| hello);
        let (asked, mut calls) = (stage.now, 0);
        while stage.woken.is_empty() {
            assert!(stage.now.since(asked) <= Span::from_secs(3), "{decision}: nobody answers");
            if let Some((_, _, body)) = stage.calls.first() {
                let seq = serde_json::from_slice::<Sync>(body).unwrap().sent_seq;
                let head =
                    format!(r#""sent_seq":{seq},"cells":[],"usage_acked":0,"next_ms":{most},"notes":[]"#);
                stage.reply_json(200, &format!(r#"{{{head},"needs":[{decision}]}}"#));
                calls += 1;
            }
            stage.later(1);
        }
        assert!(calls <= 102, "{calls} questions in a second");
        match stage.woken.remove(0).1 {
            Answer::Ok(_) => assert!(passes, "{decision}"),
            Answer::Unavailable(fault) => assert!(!passes, "{decision}: {fault:?}"),
            other => panic!("{decision}: {other:?}"),
        }
        serves(&mut stage, &mut desk, 2, &decision);
    }
}
