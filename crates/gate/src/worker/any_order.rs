//! Any order of what can happen to a worker: whatever is lost, repeated or late, the books balance in the end.

use super::rig::{Desk, PRICE, Stage};
use super::*;
use contract::v1::Outcome;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    Ask,
    /// A stream that may or may not wait leaves.
    Leave(u32),
    /// A call comes back as it should.
    Answered,
    /// Billing did it, but the answer is lost.
    AnswerLost,
    /// Billing never saw it.
    CallLost,
    Garbage,
    /// A request under way ends.
    End(usize, bool),
    Later(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Ask),
        1 => (0..40_u32).prop_map(Event::Leave),
        4 => Just(Event::Answered),
        1 => Just(Event::AnswerLost),
        1 => Just(Event::CallLost),
        1 => Just(Event::Garbage),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, charged)| Event::End(which, charged)),
        2 => (1..20_000_u64).prop_map(Event::Later),
    ]
}

/// What a test knows of the requests that passed.
#[derive(Default)]
struct Requests {
    under_way: Vec<u64>,
    charged: i64,
    woken: BTreeSet<u32>,
}

impl Requests {
    fn take_in(&mut self, stage: &mut Stage) {
        for (stream, answer) in stage.woken.drain(..) {
            assert!(self.woken.insert(stream), "a stream is woken once");
            if let Answer::Ok(pass) = answer {
                self.under_way.push(pass.hold.unwrap());
            }
        }
    }

    fn end(&mut self, stage: &mut Stage, which: usize, charged: bool) {
        if self.under_way.is_empty() {
            return;
        }
        let hold = self.under_way.swap_remove(which % self.under_way.len());
        let (amount, outcome) = if charged { (PRICE, Outcome::Charged) } else { (0, Outcome::Failed) };
        self.charged += amount;
        stage.end(hold, amount, outcome);
    }
}

fn garbage() -> CallResult {
    CallResult::Upstream { status: 200, body: Some(b"<html>".to_vec()) }
}

proptest! {
    #[test]
    fn every_stream_is_answered_once_and_every_credit_is_accounted_for(
        events in prop::collection::vec(event(), 1..120),
        retry in any::<bool>(),
    ) {
        let (mut stage, mut desk, mut requests) = (Stage::new(), Desk::with(5), Requests::default());
        desk.retry = retry;
        let (mut asked, mut left) = (0, BTreeSet::new());
        for event in events {
            match event {
                Event::Ask => {
                    stage.ask(asked);
                    asked += 1;
                }
                Event::Leave(stream) => {
                    if stream < asked && !requests.woken.contains(&stream) {
                        stage.worker.withdraw(stream);
                        left.insert(stream);
                    }
                }
                Event::Answered => stage.answer_by(&mut desk, |answer| answer),
                Event::AnswerLost => stage.answer_by(&mut desk, |_| CallResult::Reset),
                Event::Garbage => stage.answer_by(&mut desk, |_| garbage()),
                Event::CallLost => stage.fail_call(),
                Event::End(which, charged) => requests.end(&mut stage, which, charged),
                Event::Later(millis) => stage.later(millis),
            }
            requests.take_in(&mut stage);
            let held: i64 = desk.held.values().sum();
            prop_assert_eq!(desk.free + held + desk.charged, 5 * PRICE);
        }
        // From now on billing works, and every request ends.
        for _ in 0..100 {
            stage.settle(&mut desk);
            requests.take_in(&mut stage);
            requests.end(&mut stage, 0, false);
            stage.later(100);
        }
        let expected: BTreeSet<u32> = (0..asked).filter(|stream| !left.contains(stream)).collect();
        prop_assert!(expected.is_subset(&requests.woken), "somebody waits for ever");
        prop_assert!(requests.woken.is_disjoint(&left), "somebody who had left was woken");
        prop_assert!(stage.worker.is_idle(), "something is still owed");
        prop_assert_eq!((desk.charged, desk.held.len()), (requests.charged, 0));
        prop_assert_eq!(stage.bugs(), 0);
    }
}
