//! Stories of a worker, each told to a billing service of a few lines.

use super::rig::{Desk, PRICE, Stage, hello_answer, standing};
use super::*;
use contract::v1::*;
use std::collections::BTreeSet;

#[test]
fn nothing_is_said_before_there_is_a_reason() {
    let mut stage = Stage::new();
    for _ in 0..100 {
        stage.later(100);
    }
    assert!(stage.calls.is_empty() && stage.worker.is_idle() && stage.worker.next_poll().is_none());
}

#[test]
fn one_sync_carries_all_that_wait_and_the_next_one_grows_meanwhile() {
    let (mut stage, mut desk) = (Stage::new(), Desk::with(100));
    (1..=5).for_each(|stream| stage.ask(stream));
    assert_eq!(stage.calls.len(), 1, "the hello");
    let answer = desk.answer(PATH_HELLO, b"");
    stage.reply(&answer);
    assert_eq!((stage.calls.len(), stage.calls[0].1), (1, PATH_SYNC));
    (6..=9).for_each(|stream| stage.ask(stream));
    assert_eq!(stage.calls.len(), 1, "one sync at a time");
    stage.settle(&mut desk);
    assert_eq!(desk.syncs, 2);
    let holds: BTreeSet<_> = (1..=9).map(|stream| stage.pass(stream).hold.unwrap()).collect();
    assert_eq!(holds.len(), 9, "each has a hold of its own");
    for hold in holds {
        stage.end(hold, if hold % 2 == 0 { PRICE } else { 0 }, Outcome::Charged);
    }
    stage.settle(&mut desk);
    assert_eq!((desk.free, desk.charged, desk.held.len(), desk.usage.len()), (96 * PRICE, 4 * PRICE, 0, 9));
    assert!(stage.worker.is_idle());
}

#[test]
fn a_refusal_is_told_only_when_it_is_final() {
    let (mut stage, mut desk) = (Stage::new(), Desk::with(1));
    desk.retry = true;
    stage.ask(1);
    stage.settle(&mut desk);
    let first = stage.pass(1).hold.unwrap();
    stage.ask(2);
    stage.settle(&mut desk);
    assert!(stage.woken.is_empty(), "told to retry");
    stage.later(49);
    assert!(stage.calls.is_empty(), "not before its time");
    stage.end(first, 0, Outcome::Failed);
    stage.settle(&mut desk);
    stage.later(1);
    stage.settle(&mut desk);
    stage.pass(2);
    // Nothing comes back this time: the last question asks for a final answer, at the end of the wait.
    stage.ask(3);
    let asked = stage.now;
    while stage.woken.is_empty() {
        stage.settle(&mut desk);
        stage.later(10);
    }
    assert!(matches!(stage.woken[0].1, Answer::Refused(_)));
    assert!((990..=1060).contains(&stage.now.since(asked).millis()));
}

/// Its answer is a refusal, whatever the desk thinks.
fn refused(answer: CallResult, reason: Reason) -> CallResult {
    let CallResult::Upstream { body: Some(body), .. } = answer else { panic!("no answer") };
    let mut told: SyncAnswer = serde_json::from_slice(&body).unwrap();
    told.needs[0].decision =
        NeedDecision::Refused { refusal: Box::new(Refusal::plain(reason)), cells: vec![] };
    CallResult::Upstream { status: 200, body: Some(serde_json::to_vec(&told).unwrap()) }
}

/// The answer to it was lost, and when it was asked for again its grant had ended, or there was a reason to refuse it that billing
/// finds before it looks for the hold: nobody else knows of it.
#[test]
fn a_hold_that_was_granted_unheard_and_is_then_refused_goes_back() {
    for reason in [Reason::ServiceUnavailable, Reason::Suspended, Reason::UnknownCustomer] {
        let (mut stage, mut desk) = (Stage::new(), Desk::with(1));
        stage.ask(1);
        let answer = desk.answer(PATH_HELLO, b"");
        stage.reply(&answer);
        stage.answer_by(&mut desk, |_| CallResult::Reset);
        assert_eq!(desk.free, 0, "it is held");
        while stage.calls.is_empty() {
            stage.later(10);
        }
        stage.answer_by(&mut desk, |answer| refused(answer, reason));
        assert!(matches!(stage.woken[0].1, Answer::Refused(_)));
        stage.settle(&mut desk);
        assert_eq!(desk.free, PRICE, "{reason:?}: and goes back");
    }
}

#[test]
fn who_is_refused_and_was_heard_before_gives_up_nothing() {
    let (mut stage, mut desk) = (Stage::new(), Desk::with(0));
    desk.retry = true;
    stage.ask(1);
    let mut given_up = 0;
    while stage.woken.is_empty() {
        for (_, path, body) in stage.calls.iter().filter(|(_, path, _)| *path == PATH_SYNC) {
            given_up +=
                serde_json::from_slice::<Sync>(body).unwrap_or_else(|_| panic!("{path}")).abandoned.len();
        }
        stage.settle(&mut desk);
        stage.later(10);
    }
    stage.later(100);
    assert!(matches!(stage.woken[0].1, Answer::Refused(_)));
    assert_eq!((given_up, stage.calls.len()), (0, 0), "nothing is asked for in vain");
}

#[test]
fn billing_that_is_down_costs_a_moment_and_then_no_time_at_all() {
    let mut stage = Stage::new();
    stage.ask(1);
    let asked = stage.now;
    while stage.woken.is_empty() {
        if !stage.calls.is_empty() {
            stage.reply(&CallResult::Local);
        }
        stage.later(10);
    }
    assert_eq!(stage.fault(1), Fault::Unreachable);
    assert!(stage.now.since(asked).millis() < 300, "three attempts");
    let mut desk = Desk::with(1);
    stage.ask(2);
    while stage.woken.is_empty() {
        stage.settle(&mut desk);
        stage.later(10);
    }
    stage.pass(2);
    assert_eq!(stage.worker.pace.not_before(), Instant::EPOCH, "forgiven");
}

#[test]
fn no_stream_waits_for_ever_on_billing_that_hangs() {
    let mut stage = Stage::new();
    stage.ask(1);
    stage.later(2990);
    assert!(stage.woken.is_empty());
    stage.later(10);
    assert_eq!(stage.fault(1), Fault::Late);
    assert_eq!(stage.worker.books.len(), 0, "it was never sent, so nothing is held for it");
}

#[test]
fn what_makes_no_sense_is_a_fault_and_whatever_it_may_hold_goes_back() {
    let sync = |needs: &str| {
        format!(r#"{{"sent_seq":1,"cells":[],"needs":[{needs}],"usage_acked":0,"next_ms":1,"notes":[]}}"#)
    };
    let standing = serde_json::to_string(&standing("a")).unwrap();
    let ok = |hold: u64, cells: &str| {
        sync(&format!(
            r#"{{"id":1,"decision":"ok","standing":{standing},"price":{{"unit":"credits","hold":{hold},"scope":"","version":1}},"cells":[{cells}]}}"#
        ))
    };
    let cell = |generation: u64, held: i64| {
        format!(
            r#"{{"grant":1,"generation":{generation},"unit":"credits","granted":{held},"held":{held},"ttl_ms":1,"exposure":9,"scope":"","keep":true}}"#
        )
    };
    let own = 1_u64 << 40 | 1;
    for (body, expected) in [
        ("<html>".to_owned(), Fault::Garbage),
        (sync("").replace("\"sent_seq\":1", "\"sent_seq\":2"), Fault::Mismatch),
        (sync(r#"{"id":2,"decision":"retry","retry_ms":5}"#), Fault::Mismatch),
        (
            sync(r#"{"id":1,"decision":"retry","retry_ms":5},{"id":1,"decision":"retry","retry_ms":5}"#),
            Fault::Mismatch,
        ),
        (sync(r#"{"id":1,"decision":"maybe"}"#), Fault::Garbage),
        (sync("").replace("\"usage_acked\":0", "\"usage_acked\":3"), Fault::Mismatch),
        (sync(""), Fault::Unanswered),
        (ok(0, ""), Fault::Nonsense),
        (ok(5, ""), Fault::Nonsense),
        (ok(5, &cell(own, 4)), Fault::Nonsense),
        (ok(5, &cell(own + 1, 5)), Fault::Nonsense),
        (ok(5, &format!("{0},{0}", cell(own, 5))), Fault::Nonsense),
        (ok(5, &cell(own, -5)), Fault::Garbage),
    ] {
        let (mut stage, mut desk) = (Stage::new(), Desk::with(9));
        stage.ask(1);
        let hello = desk.answer(PATH_HELLO, b"");
        stage.reply(&hello);
        stage.reply_json(200, &body);
        assert_eq!(stage.fault(1), expected, "{body}");
        assert_eq!(
            stage
                .worker
                .books
                .compose(stage.now, books::Bounds { cells: 9, usage: 9, abandoned: 9 })
                .abandoned,
            [1]
        );
    }
    let (mut stage, mut desk) = (Stage::new(), Desk::with(9));
    stage.ask(1);
    let hello = desk.answer(PATH_HELLO, b"");
    stage.reply(&hello);
    stage.reply_json(200, &ok(5, &cell(own, 5)));
    assert_eq!(stage.pass(1).hold, Some(1), "the sound one of them passes");
}

#[test]
fn a_stream_that_left_before_its_answer_came_keeps_nothing() {
    let (mut stage, mut desk) = (Stage::new(), Desk::with(1));
    stage.ask(1);
    let hello = desk.answer(PATH_HELLO, b"");
    stage.reply(&hello);
    stage.worker.withdraw(1);
    stage.settle(&mut desk);
    stage.later(100);
    stage.settle(&mut desk);
    assert_eq!((desk.free, desk.held.len(), stage.woken.len()), (PRICE, 0, 0));
    assert!(stage.worker.is_idle());
}

#[test]
fn a_stream_that_was_gone_when_it_was_woken_keeps_nothing() {
    let (mut stage, mut desk) = (Stage::new(), Desk::with(1));
    stage.ask(1);
    stage.settle(&mut desk);
    let (_, answer) = stage.woken.remove(0);
    stage.worker.undelivered(&answer);
    stage.poll();
    stage.settle(&mut desk);
    assert_eq!((desk.free, desk.held.len()), (PRICE, 0));
}

#[test]
fn what_is_owed_is_told_until_it_is_acknowledged() {
    let (mut stage, mut desk) = (Stage::new(), Desk::with(3));
    stage.ask(1);
    stage.settle(&mut desk);
    let hold = stage.pass(1).hold.unwrap();
    stage.end(hold, PRICE, Outcome::Charged);
    for result in [CallResult::Reset, CallResult::Local, CallResult::NotSent] {
        stage.reply(&result);
        stage.later(1000);
    }
    // Billing did it, but its answer is lost.
    let (_, path, body) = stage.calls[0].clone();
    desk.answer(path, &body);
    stage.reply(&CallResult::Reset);
    stage.later(1000);
    stage.reply_json(500, "");
    stage.later(1000);
    assert!(!stage.worker.is_idle());
    stage.settle(&mut desk);
    assert_eq!((desk.charged, desk.free, desk.usage.len()), (PRICE, 2 * PRICE, 1));
    assert!(stage.worker.is_idle());
}

#[test]
fn a_report_that_billing_passed_over_is_told_again_after_a_moment() {
    let (mut stage, mut desk) = (Stage::new(), Desk::with(3));
    stage.ask(1);
    stage.settle(&mut desk);
    let hold = stage.pass(1).hold.unwrap();
    stage.end(hold, PRICE, Outcome::Charged);
    let seq = serde_json::from_slice::<Sync>(&stage.calls[0].2).unwrap().sent_seq;
    stage.reply_json(
        200,
        &format!(r#"{{"sent_seq":{seq},"cells":[],"needs":[],"usage_acked":1,"next_ms":1,"notes":[]}}"#),
    );
    assert!(stage.calls.is_empty() && !stage.worker.is_idle(), "not at once, or it would never stop");
    stage.later(50);
    stage.settle(&mut desk);
    assert_eq!(desk.charged, PRICE);
    assert!(stage.worker.is_idle());
}

#[test]
fn a_long_request_is_reported_every_third_of_its_time() {
    let (mut stage, mut desk) = (Stage::new(), Desk::with(1));
    stage.ask(1);
    stage.settle(&mut desk);
    let hold = stage.pass(1).hold.unwrap();
    let before = desk.syncs;
    for _ in 0..400 {
        stage.later(100);
        stage.settle(&mut desk);
    }
    assert_eq!(desk.syncs - before, 4, "40 s at a ttl of 30 s");
    stage.end(hold, PRICE, Outcome::Charged);
    stage.settle(&mut desk);
    assert_eq!((desk.charged, desk.held.len()), (PRICE, 0));
}

/// A hold of a window is granted a moment before that ends, for a stream that goes on.
#[test]
fn a_long_request_on_what_is_about_to_end_is_told_of_no_oftener_than_anything_else() {
    let (mut stage, mut desk) = (Stage::new(), Desk::with(1));
    stage.ask(1);
    let answer = desk.answer(PATH_HELLO, b"");
    stage.reply(&answer);
    stage.answer_by(&mut desk, |answer| {
        let CallResult::Upstream { body: Some(body), .. } = answer else { panic!("no answer") };
        let told = String::from_utf8(body).unwrap().replace("\"ttl_ms\":30000", "\"ttl_ms\":30");
        CallResult::Upstream { status: 200, body: Some(told.into_bytes()) }
    });
    assert!(stage.pass(1).hold.is_some());
    let before = desk.syncs;
    for _ in 0..1_000 {
        stage.later(10);
        stage.settle(&mut desk);
    }
    let syncs = desk.syncs - before;
    assert!((8..=20).contains(&syncs), "{syncs} in ten seconds");
}

#[test]
fn the_same_end_twice_is_a_bug_and_changes_nothing() {
    let (mut stage, mut desk) = (Stage::new(), Desk::with(1));
    stage.ask(1);
    stage.settle(&mut desk);
    let hold = stage.pass(1).hold.unwrap();
    stage.end(hold, 0, Outcome::Failed);
    assert_eq!(stage.bugs(), 0);
    stage.end(hold, PRICE, Outcome::Charged);
    stage.settle(&mut desk);
    assert_eq!((stage.bugs(), desk.charged, desk.free), (1, 0, PRICE));
}

#[test]
fn more_than_was_held_is_a_bug_and_charges_the_hold() {
    let (mut stage, mut desk) = (Stage::new(), Desk::with(2));
    stage.ask(1);
    stage.settle(&mut desk);
    let hold = stage.pass(1).hold.unwrap();
    stage.end(hold, 2 * PRICE, Outcome::Charged);
    stage.settle(&mut desk);
    assert_eq!((stage.bugs(), desk.charged), (1, PRICE));
}

#[test]
fn beyond_its_bounds_a_worker_refuses_and_forgets_nothing() {
    let mut stage = Stage::new();
    let many = u32::try_from(WAITERS_MAX).unwrap();
    (0..many).for_each(|stream| stage.ask(stream));
    assert!(stage.woken.is_empty());
    stage.ask(many);
    assert_eq!(stage.fault(many), Fault::Backlog);
}

#[test]
fn what_billing_has_not_acknowledged_is_bounded_and_none_of_it_is_lost() {
    let (mut stage, mut desk) = (Stage::new(), Desk::with(40_000));
    let most = u32::try_from(BOOKS_MAX).unwrap();
    let heard = |stage: &mut Stage, desk: &mut Desk| {
        while let Some((_, path, body)) = stage.calls.first() {
            let answer = desk.answer(path, body);
            stage.reply(&answer);
        }
    };
    let mut holds = Vec::new();
    for first in (0..most).step_by(4096) {
        (first..first + 4096).for_each(|stream| stage.ask(stream));
        heard(&mut stage, &mut desk);
        holds.extend((first..first + 4096).map(|stream| stage.pass(stream).hold.unwrap()));
        stage.woken.clear();
    }
    stage.ask(most);
    assert_eq!(stage.fault(most), Fault::Backlog);
    // What is told only makes room once it is acknowledged.
    holds.into_iter().for_each(|hold| stage.end(hold, PRICE, Outcome::Charged));
    stage.ask(most + 1);
    assert_eq!(stage.fault(most + 1), Fault::Backlog);
    heard(&mut stage, &mut desk);
    assert_eq!(desk.charged, i64::from(most) * PRICE);
    stage.ask(most + 2);
    heard(&mut stage, &mut desk);
    assert!(stage.pass(most + 2).hold.is_some());
}

#[test]
fn a_sync_keeps_to_the_servers_bounds() {
    let (mut stage, mut desk) = (Stage::new(), Desk::with(10_000));
    (0..1000).for_each(|stream| stage.ask(stream));
    let mut hello = hello_answer(1);
    hello.limits = Limits { cells_max: 7, needs_max: 400, usage_max: 5, body_bytes_max: 4096 };
    stage.reply_json(200, &serde_json::to_string(&hello).unwrap());
    while let Some((_, path, body)) = stage.calls.first() {
        assert!(body.len() <= 4096);
        let answer = desk.answer(path, body);
        stage.reply(&answer);
    }
    let holds: Vec<u64> = (0..1000).map(|stream| stage.pass(stream).hold.unwrap()).collect();
    holds.into_iter().for_each(|hold| stage.end(hold, PRICE, Outcome::Charged));
    while let Some((_, path, body)) = stage.calls.first() {
        let sync: Sync = serde_json::from_slice(body).unwrap();
        assert!(sync.cells.len() <= 7 && sync.usage.len() <= 5 && body.len() <= 4096);
        let answer = desk.answer(path, body);
        stage.reply(&answer);
    }
    assert_eq!((desk.charged, desk.usage.len()), (1000 * PRICE, 1000));
}

#[test]
fn claims_are_answered_repeated_and_released() {
    let mut stage = Stage::new();
    stage.claim(1);
    stage.reply(&CallResult::Reset);
    stage.later(50);
    stage.reply_json(200, r#"{"decision":"fresh","token":"t1","ttl_ms":30000}"#);
    assert!(
        matches!(&stage.woken[0], (1, Answer::Claimed(ClaimAnswer::Fresh { token, .. })) if token == "t1")
    );
    // One that went away while its claim was on its way.
    stage.claim(2);
    stage.worker.withdraw(2);
    stage.reply_json(200, r#"{"decision":"fresh","token":"t2","ttl_ms":30000}"#);
    let complete: Complete = serde_json::from_slice(&stage.calls[0].2).unwrap();
    assert_eq!((complete.token.as_str(), complete.outcome), ("t2", CompleteOutcome::Failed));
    stage.reply(&CallResult::Local);
    assert!(stage.calls.is_empty());
    stage.later(50);
    stage.reply_json(200, r#"{"result":"recorded"}"#);
    assert!(stage.worker.is_idle() && stage.woken.len() == 1);
}

#[test]
fn a_claim_that_nobody_can_grant_is_told_in_time_and_garbage_at_once() {
    let mut stage = Stage::new();
    stage.claim(1);
    stage.later(2000);
    assert_eq!(stage.fault(1), Fault::Late);
    stage.calls.clear();
    stage.claim(2);
    stage.reply_json(200, r#"{"decision":"sure"}"#);
    assert_eq!(stage.fault(2), Fault::Garbage);
}

#[test]
fn a_completion_is_given_up_when_it_is_of_no_use_any_more() {
    let mut stage = Stage::new();
    let complete = |outcome| Complete {
        endpoint: "app".into(),
        livemode: false,
        account: "self".into(),
        event_id: units::EventId::new("evt_1").unwrap(),
        token: "t".into(),
        outcome,
    };
    for (outcome, seconds) in [(CompleteOutcome::Failed, 30), (CompleteOutcome::Accepted, 600)] {
        let told = stage.now;
        let report = Report::Completed { complete: complete(outcome), ttl: Span::from_secs(30) };
        stage.worker.tell(report, told, &mut stage.shelf);
        stage.poll();
        while !stage.worker.is_idle() {
            if !stage.calls.is_empty() {
                stage.reply(&CallResult::Local);
            }
            stage.later(1000);
        }
        let took = stage.now.since(told).secs_up();
        assert!((seconds..=seconds + 2).contains(&took), "{outcome:?} was given up after {took} s");
    }
}
