//! The calls that are not syncs: a process introduces itself, an event is claimed and completed.

use super::process;
use super::{CallResult, Fault, Pending, Worker};
use crate::effect::{Level, Metric};
use crate::shelf::Shelf;
use crate::worker::Answer;
use contract::v1::{
    self, ClaimAnswer, Complete, CompleteAnswer, CompleteOutcome, CompleteResult, Hello, HelloAnswer,
};
use units::{Instant, Span};

impl Worker {
    pub(super) fn send_hello(&mut self) {
        self.speaking = true;
        self.send(v1::PATH_HELLO, &Hello { node: self.settings.node.clone() }, Pending::Hello);
    }

    pub(super) fn on_hello(&mut self, result: &CallResult, now: Instant, shelf: &mut dyn Shelf) {
        self.speaking = false;
        let answer = result.document::<HelloAnswer>().and_then(|answer| {
            if process::is_sound(&answer, &self.settings.node) { Ok(answer) } else { Err(Fault::Nonsense) }
        });
        self.called("hello", answer.as_ref().err().copied());
        match answer {
            Ok(answer) => {
                self.pace.succeeded();
                process::found(shelf, &answer);
            }
            Err(fault) => {
                let everybody = self.needs.ids();
                self.failed(fault, &everybody, now, shelf);
            }
        }
    }

    pub(super) fn on_claim(&mut self, n: u64, result: &CallResult, now: Instant) {
        let answer = result.document::<ClaimAnswer>();
        self.called("claim", answer.as_ref().err().copied());
        let again = matches!(&answer, Err(fault) if fault.passes());
        match self.claims.claiming.get(n) {
            Some(claiming) if again && claiming.stream.is_some() => return self.claims.claim_failed(n, now),
            _ => {}
        }
        let Some(claiming) = self.claims.claiming.remove(n) else { return };
        match (claiming.stream, answer) {
            (Some(stream), Ok(answer)) => self.wake(stream, Answer::Claimed(answer)),
            (Some(stream), Err(fault)) => self.unavailable(stream, fault),
            (None, Ok(ClaimAnswer::Fresh { token, ttl_ms })) => {
                let v1::Claim { endpoint, livemode, account, event_id, .. } = claiming.claim;
                let outcome = CompleteOutcome::Failed;
                let complete = Complete { endpoint, livemode, account, event_id, token, outcome };
                self.claims.tell(complete, Span::from_millis(ttl_ms), now);
            }
            (None, _) => {}
        }
    }

    pub(super) fn on_completion(&mut self, n: u64, result: &CallResult, now: Instant) {
        let answer = result.document::<CompleteAnswer>();
        self.called("complete", answer.as_ref().err().copied());
        match answer {
            Ok(answer) => {
                let completed = self.claims.completing.remove(n);
                if answer.result == CompleteResult::Stale
                    && let Some(completed) = completed
                {
                    self.count(Metric::Fault { fault: "claim_stale" });
                    let id = completed.complete.event_id;
                    self.log(
                        Level::Warn,
                        format!("the claim on event {id} had run out before it was completed"),
                    );
                }
            }
            Err(_) if self.claims.completion_failed(n, now) => {
                self.count(Metric::Fault { fault: "completion_lost" });
                self.log(
                    Level::Error,
                    "what became of an event could not be told to billing in time".to_owned(),
                );
            }
            Err(_) => {}
        }
    }

    pub(super) fn called(&mut self, call: &'static str, fault: Option<Fault>) {
        self.count(Metric::Call { call, result: fault.map_or("ok", Fault::as_str) });
        if let Some(fault) = fault.filter(|fault| !fault.passes()) {
            let fault = fault.as_str();
            self.log(
                Level::Error,
                format!("billing's answer to {call} cannot be used ({fault}); see docs/failure.md"),
            );
        }
    }
}
