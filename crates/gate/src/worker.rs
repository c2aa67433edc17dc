//! One per VM: gathers what its streams ask and report, speaks with billing for all of them, and answers each.
//!
//! It is a machine like the rest: feed it with `ask`, `withdraw`, `tell` and `on_answer`, and after each (and on every
//! tick) do what `poll` says. At most one sync is under way, which carries everything that waits; meanwhile the next one
//! grows. Whatever billing does, a stream gets exactly one answer, in bounded time; and what is owed to billing is
//! repeated until acknowledged.
//!
//! Leases are shared by the workers of a process and so live on the shelf, one slot per payer: a request whose payer is
//! known and has enough in its slot is answered at once, and nobody is asked (see [`crate::lease`]).

mod alive;
mod allowance;
#[cfg(test)]
mod any_order;
mod books;
mod calls;
mod claims;
#[cfg(test)]
mod hostile_tests;
mod lease;
mod needs;
#[cfg(test)]
mod outage_tests;
mod pace;
#[cfg(test)]
mod priced_tests;
mod process;
mod reply;
#[cfg(test)]
pub(crate) mod rig;
mod strays;
mod sync;
mod talk;
#[cfg(test)]
mod tests;
mod warm;
mod watch;
mod watching;

pub use reply::CallResult;
pub(crate) use reply::attribute_fits;
pub(crate) use talk::Told;
pub use talk::{Answer, Decided, Ended, Fault, Pass, Question, Report};

use crate::Numbered;
use crate::effect::{Level, Metric};
use crate::lease::PayerKey;
use crate::shelf::Shelf;
use allowance::Unpaids;
use books::{Books, Finish, Page};
use claims::Claims;
use contract::v1::{self, CellReport, Need, NeedMode, PriceList};
use needs::{Asked, Needs, Waiter};
use pace::Pace;
use process::Membership;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use strays::Strays;
use units::{EndpointId, Instant, NodeName, Span};
use watch::Watch;

/// The largest answer that is read at all.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Streams that may wait in one worker.
const WAITERS_MAX: usize = 8192;
/// Holds under way and ends not yet acknowledged, in one worker; beyond, new requests are refused and no report is lost.
const BOOKS_MAX: usize = 32_768;

/// What the configuration says about talking to billing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The stable name of this Envoy.
    pub node: NodeName,
    /// How long one call may take.
    pub call: Span,
    /// How long billing may answer `retry` in all.
    pub wait: Span,
    /// Whether to hear at once of what happens to accounts, by a long poll.
    pub watch: bool,
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
    /// `GET` from billing what happened after this position, and say [`Worker::on_answer`] once, whatever happens.
    Watch {
        /// To be given back with the answer.
        id: u64,
        /// The position.
        after: u64,
        /// How long billing may wait for something to happen, in milliseconds.
        wait_ms: u64,
        /// How long it may take in all.
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
    Watch,
}

struct Batch {
    seq: u64,
    /// By their ids.
    needs: BTreeMap<u64, Need>,
    page: Page,
    /// Of cells in slots.
    leases: Vec<(PayerKey, CellReport)>,
    sent: Instant,
}

/// The machine.
pub struct Worker {
    settings: Settings,
    membership: Option<Membership>,
    calls: Numbered<Pending>,
    last_call: u64,
    seq: u64,
    /// True while a hello or a sync is under way.
    speaking: bool,
    pace: Pace,
    needs: Needs,
    books: Books,
    claims: Claims,
    unpaids: Unpaids,
    strays: Strays,
    memory: warm::Memory,
    /// The price list of each endpoint, as it was told last: one for all who are remembered.
    lists: BTreeMap<EndpointId, Rc<PriceList>>,
    watch: Watch,
    watching: watching::Watching,
    /// Ends that could not be entered into their slot yet, because other workers were faster.
    unfinished: VecDeque<Finish>,
    /// Leases that could not be entered into their slot yet, for the same reason.
    unplaced: VecDeque<lease::Lent>,
    /// Until then nothing is told that nobody waits for.
    quiet_until: Instant,
    /// When this worker is to say again that it is alive.
    alive_due: Instant,
    /// The next slot to look through for what a dead worker left.
    sweep: Option<u32>,
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
            calls: Numbered::default(),
            last_call: 0,
            seq: 0,
            speaking: false,
            pace: Pace::default(),
            needs: Needs::default(),
            books: Books::default(),
            claims: Claims::default(),
            unpaids: Unpaids::default(),
            strays: Strays::default(),
            memory: warm::Memory::default(),
            lists: BTreeMap::new(),
            watch: Watch::default(),
            watching: watching::Watching::default(),
            unfinished: VecDeque::new(),
            unplaced: VecDeque::new(),
            quiet_until: Instant::EPOCH,
            alive_due: Instant::EPOCH,
            sweep: None,
            draining: false,
            out: Vec::new(),
        }
    }

    /// A stream asks. Answers at once if it can; else the stream waits until it is woken with an answer. It must not have
    /// another question open.
    pub fn ask(
        &mut self,
        stream: u32,
        question: Question,
        now: Instant,
        shelf: &mut dyn Shelf,
    ) -> Option<Answer> {
        let late = self.unfinished.len().saturating_add(self.unplaced.len());
        let owed = [self.needs.len(), self.books.len(), self.unpaids.len(), self.strays.len(), late];
        let crowded = self.needs.len() >= WAITERS_MAX
            || owed.into_iter().fold(0, usize::saturating_add) >= BOOKS_MAX
            || self.claims.len() >= WAITERS_MAX;
        let accepted = match question {
            _ if crowded => false,
            Question::Need { subject, endpoint, mode, shape, allow, repeat } => {
                let key = (subject, endpoint);
                // Whether it was charged before, only billing knows.
                let mode = if repeat.is_some() { NeedMode::Hold } else { mode };
                if mode == NeedMode::Lease
                    && let lease::Warmth::Warm(pass) = self.warm(&key, &shape, now, shelf)
                {
                    return Some(Answer::Ok(pass));
                }
                let (subject, endpoint) = key;
                let asked = Asked { stream, subject, endpoint, mode, shape, allow, repeat, now };
                self.needs.push(asked, self.settings.wait, self.settings.call)
            }
            Question::Claim(claim) => {
                self.claims.ask(stream, claim, now.plus(self.settings.call));
                true
            }
        };
        if accepted {
            return None;
        }
        self.count(Metric::Fault { fault: Fault::Backlog.as_str() });
        Some(Answer::Unavailable(Fault::Backlog))
    }

    /// The stream has gone, or decided otherwise; it will not be woken.
    pub fn withdraw(&mut self, stream: u32) {
        if let Some((id, waiter)) = self.needs.take_stream(stream) {
            self.give_back(id, &waiter);
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
        let Answer::Ok(pass) = answer else { return };
        let Some(hold) = pass.hold else { return };
        if let Some(finish) = self.books.drop_leased(hold) {
            self.unfinished.push_back(finish);
        } else if !self.unpaids.drop(hold) {
            self.books.abandon(hold);
        }
    }

    /// Something ended; billing will be told until it acknowledges.
    pub fn tell(&mut self, report: Report, now: Instant, shelf: &mut dyn Shelf) {
        match report {
            Report::Completed { complete, ttl } => self.claims.tell(complete, ttl, now),
            Report::Ended(ended) => {
                self.count(Metric::Ended { outcome: ended.outcome.as_str() });
                if self.unpaids.end(&ended) {
                    return;
                }
                let later = self.membership.map_or(now, |membership| now.plus(membership.pause()));
                let (finish, bug) = self.books.end(ended, later);
                if let Some(bug) = bug {
                    self.count(Metric::Bug { bug });
                    self.log(Level::Error, format!("bug: {bug}: a report that does not fit its hold"));
                }
                if let Some(finish) = finish {
                    self.finish(finish, now, shelf);
                }
            }
        }
    }

    /// This process wants no more leases, for it is about to end.
    pub fn drain(&mut self) {
        self.draining = true;
        for payer in self.watch.all() {
            self.watch.touch(payer, Instant::EPOCH, Instant::EPOCH);
        }
    }

    /// True if nobody waits and nothing is owed to billing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let calls = self.calls.len().saturating_sub(usize::from(self.watching.is_open()));
        let waits = self.needs.len().saturating_add(self.claims.len()).saturating_add(calls);
        let late = self.unfinished.len().saturating_add(self.unplaced.len());
        let owes = self.unpaids.len().saturating_add(self.strays.len()).saturating_add(late);
        waits == 0 && owes == 0 && self.books.is_empty() && self.watch.is_told()
    }

    /// True if something should be done right now, and not at the next tick.
    #[must_use]
    pub fn hurries(&self, now: Instant) -> bool {
        let late = !(self.unfinished.is_empty() && self.unplaced.is_empty());
        late || self.next_poll().is_some_and(|due| due <= now)
    }

    /// What to do now. Call it after everything else, and from time to time.
    pub fn poll(&mut self, now: Instant, shelf: &mut dyn Shelf) -> Vec<WorkerEffect> {
        self.look_after(now, shelf);
        for id in self.needs.late(now) {
            self.fail_need(id, Fault::Late, now, shelf);
        }
        for stream in self.claims.late(now) {
            self.unavailable(stream, Fault::Late);
        }
        if !self.speaking && self.pace.allows(now) && self.has_reason(now) {
            if self.membership.is_none() {
                self.membership = process::join(shelf);
            }
            match self.membership {
                Some(membership) => {
                    self.rouse(now, shelf);
                    if self.has_reason(now) {
                        self.send_sync(membership, now, shelf);
                    }
                }
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

    /// Is there anything to be told or asked now?
    fn has_reason(&self, now: Instant) -> bool {
        let due = [self.needs.next_due(), self.watch.next_due(self.quiet_until)];
        let owed = self.unpaids.is_due() || self.strays.is_due() || self.books.is_due(now);
        owed || due.into_iter().flatten().any(|due| due <= now)
    }

    /// When `poll` will have something to do, if nothing happens before; `None` if never.
    #[must_use]
    pub fn next_poll(&self) -> Option<Instant> {
        let owed = (self.unpaids.is_due() || self.strays.is_due()).then_some(Instant::EPOCH);
        let due = [self.needs.next_due(), self.books.next_due(), self.watch.next_due(self.quiet_until), owed];
        let line = if self.speaking { None } else { due.into_iter().flatten().min() };
        let line = line.map(|due| due.max(self.pace.not_before()));
        [line, self.claims.next_due()].into_iter().flatten().min()
    }

    /// A call came back.
    pub fn on_answer(&mut self, call: u64, result: &CallResult, now: Instant, shelf: &mut dyn Shelf) {
        match self.calls.remove(call) {
            None => self.count(Metric::Bug { bug: "answer_without_call" }),
            Some(Pending::Hello) => self.on_hello(result, now, shelf),
            Some(Pending::Sync(batch)) => self.on_sync(&batch, result, now, shelf),
            Some(Pending::Claim(n)) => self.on_claim(n, result, now),
            Some(Pending::Complete(n)) => self.on_completion(n, result, now),
            Some(Pending::Watch) => self.on_watch(result, now, shelf),
        }
    }

    /// A hello or a sync failed, and `waiting` had hoped for it.
    fn failed(&mut self, fault: Fault, waiting: &[u64], now: Instant, shelf: &mut dyn Shelf) {
        self.pace.failed(now);
        if !fault.passes() || self.pace.is_out() {
            for id in waiting {
                self.fail_need(*id, fault, now, shelf);
            }
        }
    }

    fn fail_need(&mut self, id: u64, fault: Fault, now: Instant, shelf: &mut dyn Shelf) {
        let Some(waiter) = self.needs.take(id) else { return };
        self.give_back(id, &waiter);
        self.count(Metric::WaitMs(now.since(waiter.asked).millis()));
        match self.let_unpaid(&waiter, fault, shelf) {
            Some(pass) => self.wake(waiter.stream, Answer::Ok(pass)),
            None => self.unavailable(waiter.stream, fault),
        }
    }

    fn give_back(&mut self, id: u64, waiter: &Waiter) {
        if waiter.holds {
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

    fn count(&mut self, metric: Metric) {
        debug_assert!(metric.is_listed(), "{metric:?} is counted, and not in the list of metrics");
        self.out.push(WorkerEffect::Count(metric));
    }

    fn log(&mut self, level: Level, line: String) {
        self.out.push(WorkerEffect::Log(level, line));
    }
}
