//! One per VM: gathers what its streams ask and report, speaks with billing for all of them, and answers each.
//!
//! It is a machine like the rest: feed it with `ask`, `withdraw`, `tell` and `on_answer`, and after each (and on every
//! tick) do what `poll` says. At most one sync is under way, which carries everything that waits; meanwhile the next one
//! grows. Whatever billing does, a stream gets exactly one answer, in bounded time; and what is owed to billing is
//! repeated until acknowledged.
//!
//! Not here: leases. They are shared by the workers of a process and so live on the shelf, one slot per payer; this
//! machine will carry their reports and needs in the same sync.

#[cfg(test)]
mod any_order;
mod books;
mod claims;
mod needs;
mod pace;
mod process;
mod reply;
#[cfg(test)]
pub(crate) mod rig;
mod sync;
mod talk;
#[cfg(test)]
mod tests;

pub use books::outcome_name;
pub use reply::CallResult;
pub use talk::{Answer, Fault, Pass, Question, Report};

use crate::effect::{Level, Metric};
use crate::shelf::Shelf;
use books::{Books, Page};
use claims::Claims;
use contract::v1::{
    self, ClaimAnswer, Complete, CompleteAnswer, CompleteOutcome, CompleteResult, Hello, HelloAnswer,
    NeedMode,
};
use needs::{Asked, Needs};
use pace::Pace;
use process::Membership;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use units::{Instant, NodeName, Span};

/// The largest answer that is read at all.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Streams that may wait in one worker.
const WAITERS_MAX: usize = 8192;
/// Holds under way and ends not yet acknowledged, in one worker; beyond, new requests are refused and no report is lost.
const BOOKS_MAX: usize = 16_384;

/// What the configuration says about talking to billing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The stable name of this Envoy.
    pub node: NodeName,
    /// How long one call may take.
    pub call: Span,
    /// How long billing may answer `retry` in all.
    pub wait: Span,
}

/// One thing for the host to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerEffect {
    /// `POST` this to billing, and say [`Worker::on_answer`] once, whatever happens.
    Call {
        /// To be given back with the answer.
        id: u64,
        /// Where to.
        path: &'static str,
        /// JSON.
        body: Vec<u8>,
        /// How long it may take.
        timeout: Span,
    },
    /// Give this answer to that stream's exchange; say [`Worker::undelivered`] if it is gone.
    Wake {
        /// As it was asked.
        stream: u32,
        /// The answer.
        answer: Answer,
    },
    /// Count something.
    Count(Metric),
    /// Write a line into Envoy's log.
    Log(Level, String),
}

enum Pending {
    Hello,
    Sync(Box<Batch>),
    Claim(u64),
    Complete(u64),
}

struct Batch {
    seq: u64,
    needs: BTreeSet<u64>,
    page: Page,
    sent: Instant,
}

/// The machine.
pub struct Worker {
    settings: Settings,
    membership: Option<Membership>,
    calls: BTreeMap<u64, Pending>,
    last_call: u64,
    seq: u64,
    /// True while a hello or a sync is under way.
    speaking: bool,
    pace: Pace,
    needs: Needs,
    books: Books,
    claims: Claims,
    draining: bool,
    out: Vec<WorkerEffect>,
}

impl Worker {
    /// A worker that has not spoken to billing yet, and will not before it has a reason to.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            membership: None,
            calls: BTreeMap::new(),
            last_call: 0,
            seq: 0,
            speaking: false,
            pace: Pace::default(),
            needs: Needs::default(),
            books: Books::default(),
            claims: Claims::default(),
            draining: false,
            out: Vec::new(),
        }
    }

    /// A stream asks, and waits until it is woken with an answer. It must not have another question open.
    pub fn ask(&mut self, stream: u32, question: Question, now: Instant) {
        let crowded = self.needs.len() >= WAITERS_MAX
            || self.needs.len().saturating_add(self.books.len()) >= BOOKS_MAX
            || self.claims.len() >= WAITERS_MAX;
        let accepted = match question {
            _ if crowded => false,
            Question::Need { subject, endpoint, mode, shape } => {
                let asked = Asked { stream, subject, endpoint, mode, shape, now };
                self.needs.push(asked, self.settings.wait, self.settings.call)
            }
            Question::Claim(claim) => {
                self.claims.ask(stream, claim, now.plus(self.settings.call));
                true
            }
        };
        if !accepted {
            self.unavailable(stream, Fault::Backlog);
        }
    }

    /// The stream has gone, or decided otherwise; it will not be woken.
    pub fn withdraw(&mut self, stream: u32) {
        if let Some((id, waiter)) = self.needs.take_stream(stream) {
            self.give_back(id, waiter.mode, waiter.sent);
        }
        self.claims.withdraw(stream);
        let is_its = |effect: &mut WorkerEffect| matches!(effect, WorkerEffect::Wake { stream: s, .. } if *s == stream);
        let dropped: Vec<_> = self.out.extract_if(.., is_its).collect();
        for effect in dropped {
            if let WorkerEffect::Wake { answer, .. } = effect {
                self.undelivered(&answer);
            }
        }
    }

    /// A stream that was woken turned out to be gone: its hold goes back.
    pub fn undelivered(&mut self, answer: &Answer) {
        self.count(Metric::Fault { fault: "stream_gone" });
        if let Answer::Ok(pass) = answer
            && let Some(hold) = pass.hold
        {
            self.books.abandon(hold);
        }
    }

    /// Something ended; billing will be told until it acknowledges.
    pub fn tell(&mut self, report: Report, now: Instant) {
        match report {
            Report::Completed { complete, ttl } => self.claims.tell(complete, ttl, now),
            ended @ Report::Ended { .. } => {
                if let Report::Ended { outcome, .. } = &ended {
                    self.count(Metric::Ended { outcome: outcome_name(*outcome) });
                }
                if let Err(bug) = self.books.end(ended) {
                    self.count(Metric::Bug { bug });
                    self.log(Level::Error, format!("bug: {bug}: a report that does not fit its hold"));
                }
            }
        }
    }

    /// This process wants no more leases, for it is about to end.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// True if nobody waits and nothing is owed to billing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.needs.len() == 0 && self.books.is_empty() && self.claims.len() == 0 && self.calls.is_empty()
    }

    /// What to do now. Call it after everything else, and from time to time.
    pub fn poll(&mut self, now: Instant, shelf: &mut dyn Shelf) -> Vec<WorkerEffect> {
        for id in self.needs.late(now) {
            self.fail_need(id, Fault::Late, now);
        }
        for stream in self.claims.late(now) {
            self.unavailable(stream, Fault::Late);
        }
        let may_speak = !self.speaking && self.pace.allows(now);
        if may_speak && (self.needs.next_due().is_some_and(|due| due <= now) || self.books.is_due(now)) {
            if self.membership.is_none() {
                self.membership = process::join(shelf);
            }
            match self.membership {
                Some(membership) => self.send_sync(membership, now),
                None => self.send_hello(),
            }
        }
        for (n, claim) in self.claims.due_claims(now) {
            self.send(v1::PATH_CLAIM, &claim, Pending::Claim(n));
        }
        for (n, complete) in self.claims.due_completions(now) {
            self.send(v1::PATH_COMPLETE, &complete, Pending::Complete(n));
        }
        core::mem::take(&mut self.out)
    }

    /// When `poll` will have something to do, if nothing happens before; `None` if never.
    #[must_use]
    pub fn next_poll(&self) -> Option<Instant> {
        let line = || [self.needs.next_due(), self.books.next_due()].into_iter().flatten().min();
        let line = if self.speaking { None } else { line() };
        let line = line.map(|due| due.max(self.pace.not_before()));
        [line, self.claims.next_due()].into_iter().flatten().min()
    }

    /// A call came back.
    pub fn on_answer(&mut self, call: u64, result: &CallResult, now: Instant, shelf: &mut dyn Shelf) {
        match self.calls.remove(&call) {
            None => self.count(Metric::Bug { bug: "answer_without_call" }),
            Some(Pending::Hello) => self.on_hello(result, now, shelf),
            Some(Pending::Sync(batch)) => self.on_sync(&batch, result, now),
            Some(Pending::Claim(n)) => self.on_claim(n, result, now),
            Some(Pending::Complete(n)) => self.on_completion(n, result, now),
        }
    }

    fn send_hello(&mut self) {
        self.speaking = true;
        self.send(v1::PATH_HELLO, &Hello { node: self.settings.node.clone() }, Pending::Hello);
    }

    fn on_hello(&mut self, result: &CallResult, now: Instant, shelf: &mut dyn Shelf) {
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
                self.failed(fault, &everybody, now);
            }
        }
    }

    fn on_claim(&mut self, n: u64, result: &CallResult, now: Instant) {
        let answer = result.document::<ClaimAnswer>();
        self.called("claim", answer.as_ref().err().copied());
        let again = matches!(&answer, Err(fault) if fault.passes());
        match self.claims.claiming.get(&n) {
            Some(claiming) if again && claiming.stream.is_some() => return self.claims.claim_failed(n, now),
            _ => {}
        }
        let Some(claiming) = self.claims.claiming.remove(&n) else { return };
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

    fn on_completion(&mut self, n: u64, result: &CallResult, now: Instant) {
        let answer = result.document::<CompleteAnswer>();
        self.called("complete", answer.as_ref().err().copied());
        match answer {
            Ok(answer) => {
                let completed = self.claims.completing.remove(&n);
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

    /// A hello or a sync failed, and `waiting` had hoped for it.
    fn failed(&mut self, fault: Fault, waiting: &[u64], now: Instant) {
        self.pace.failed(now);
        if !fault.passes() || self.pace.is_out() {
            for id in waiting {
                self.fail_need(*id, fault, now);
            }
        }
    }

    fn fail_need(&mut self, id: u64, fault: Fault, now: Instant) {
        if let Some(waiter) = self.needs.take(id) {
            self.give_back(id, waiter.mode, waiter.sent);
            self.count(Metric::WaitMs(now.since(waiter.asked).millis()));
            self.unavailable(waiter.stream, fault);
        }
    }

    fn give_back(&mut self, id: u64, mode: NeedMode, sent: bool) {
        if sent && mode != NeedMode::Identify {
            self.books.abandon(id);
        }
    }

    fn unavailable(&mut self, stream: u32, fault: Fault) {
        self.count(Metric::Fault { fault: fault.as_str() });
        self.wake(stream, Answer::Unavailable(fault));
    }

    fn wake(&mut self, stream: u32, answer: Answer) {
        self.out.push(WorkerEffect::Wake { stream, answer });
    }

    fn send(&mut self, path: &'static str, body: &impl Serialize, pending: Pending) {
        // The contract's types have no map whose keys could fail to be text.
        let body = serde_json::to_vec(body).unwrap_or_default();
        self.send_bytes(path, body, pending);
    }

    fn send_bytes(&mut self, path: &'static str, body: Vec<u8>, pending: Pending) {
        self.last_call = self.last_call.saturating_add(1);
        self.calls.insert(self.last_call, pending);
        self.out.push(WorkerEffect::Call { id: self.last_call, path, body, timeout: self.settings.call });
    }

    fn called(&mut self, call: &'static str, fault: Option<Fault>) {
        self.count(Metric::Call { call, result: fault.map_or("ok", Fault::as_str) });
        if let Some(fault) = fault.filter(|fault| !fault.passes()) {
            let fault = fault.as_str();
            self.log(
                Level::Error,
                format!("billing's answer to {call} cannot be used ({fault}); see docs/failure.md"),
            );
        }
    }

    fn count(&mut self, metric: Metric) {
        self.out.push(WorkerEffect::Count(metric));
    }

    fn log(&mut self, level: Level, line: String) {
        self.out.push(WorkerEffect::Log(level, line));
    }
}
