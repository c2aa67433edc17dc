//! Some Envoys, billing, and a network between them.

use crate::{Billing, Oracle};
use contract::v1::{NeedMode, NeedShape, Outcome, Size, TokenShape};
use gate::worker::{Answer, CallResult, Ended, Question, Report, Settings, Worker, WorkerEffect};
use gate::{MemoryShelf, Metric, Shelf, Stale, Version};
use ledger::CrashPolicy;
use std::collections::BTreeMap;
use units::{AccountId, Amount, EndpointId, Instant, NodeName, RequestId, Span, Subject, SubjectKind};

/// Who pays for everything.
const CUSTOMER: &str = "alice";
/// How long one call may take.
const CALL: Span = Span::from_secs(2);
/// Between two ticks of a worker.
const TICK: Span = Span::from_millis(100);

/// How a world is set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many Envoys.
    pub envoys: usize,
    /// How many workers each.
    pub workers: usize,
    /// What the customer has.
    pub credits: u64,
    /// How requests are decided.
    pub mode: NeedMode,
    /// How much is held for each; `None` where all cost the same.
    pub size: Option<Size>,
    /// How many may pass unpaid in an outage.
    pub allow: u32,
    /// Who bears what dies.
    pub crash: CrashPolicy,
    /// How long leases live, and how long after that requests may run.
    pub ttl: Span,
    /// Whether each Envoy hears at once of what happens.
    pub watch: bool,
}

/// A request under way.
#[derive(Clone, Debug)]
pub struct Request {
    /// On which Envoy and worker.
    pub at: (usize, usize),
    hold: u64,
    price: i64,
}

struct Call {
    at: (usize, usize),
    /// Which worker of those that were at this place.
    life: u64,
    id: u64,
    path: &'static str,
    body: Vec<u8>,
    sent: Instant,
    /// False if its sender has given it up.
    awaited: bool,
}

/// A poll that is open.
struct Poll {
    at: (usize, usize),
    life: u64,
    id: u64,
    after: u64,
}

/// Memory on which other workers were a moment faster, so many times from now on.
#[derive(Default)]
pub(crate) struct Contended {
    memory: MemoryShelf,
    pub(crate) races: u32,
    /// Whether a filter is there whose slots have another form.
    other_form: bool,
}

impl Contended {
    /// The form's number, or another one, in the keys that carry it.
    fn key(&self, key: &str) -> String {
        if self.other_form { key.replacen("/2", "/other", 1) } else { key.to_owned() }
    }
}

impl Shelf for Contended {
    fn read(&self, key: &str) -> Option<(Vec<u8>, Version)> {
        self.memory.read(&self.key(key))
    }

    fn write(&mut self, key: &str, value: &[u8], seen: Option<Version>) -> Result<(), Stale> {
        if self.races > 0 {
            self.races -= 1;
            return Err(Stale);
        }
        let key = self.key(key);
        self.memory.write(&key, value, seen)
    }
}

struct Envoy {
    node: NodeName,
    shelf: Contended,
    workers: Vec<(u64, Worker)>,
}

/// Everything.
pub struct World {
    options: Options,
    /// The clock of all.
    pub now: Instant,
    /// The service.
    pub billing: Billing,
    /// What really happened.
    pub oracle: Oracle,
    /// Requests under way.
    pub requests: Vec<Request>,
    /// What the workers counted.
    pub counted: BTreeMap<Metric, u64>,
    envoys: Vec<Envoy>,
    calls: Vec<Call>,
    polls: Vec<Poll>,
    waiting: BTreeMap<u32, ((usize, usize), u64)>,
    last_stream: u32,
    lives: u64,
    customer: AccountId,
}

impl World {
    /// At rest.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let (now, customer) = (Instant::from_secs(1_000_000), AccountId::new(CUSTOMER).unwrap());
        let mut billing = Billing::new(options.ttl, options.ttl, options.crash);
        billing.open(&customer, options.credits, now);
        let mut world = Self {
            options,
            now,
            billing,
            oracle: Oracle::default(),
            requests: Vec::new(),
            counted: BTreeMap::new(),
            envoys: Vec::new(),
            calls: Vec::new(),
            polls: Vec::new(),
            waiting: BTreeMap::new(),
            last_stream: 0,
            lives: 0,
            customer,
        };
        for n in 0..options.envoys {
            let node = NodeName::new(format!("n{n}")).unwrap();
            let mut envoy = Envoy { node, shelf: Contended::default(), workers: Vec::new() };
            envoy.workers = (0..options.workers).map(|_| world.worker(&envoy.node)).collect();
            world.envoys.push(envoy);
        }
        world
    }

    fn worker(&mut self, node: &NodeName) -> (u64, Worker) {
        self.lives += 1;
        (
            self.lives,
            Worker::new(Settings {
                node: node.clone(),
                call: CALL,
                wait: Span::from_secs(1),
                watch: self.options.watch,
            }),
        )
    }

    /// Somebody spends the customer's credits from now on.
    pub fn join(&mut self, member: &str) {
        self.billing.join(&AccountId::new(member).unwrap(), &self.customer.clone(), self.now);
    }

    /// A request arrives.
    pub fn ask(&mut self, at: (usize, usize)) {
        self.ask_as(at, CUSTOMER);
    }

    /// A request of somebody arrives.
    pub fn ask_as(&mut self, at: (usize, usize), subject: &str) {
        self.last_stream += 1;
        let stream = self.last_stream;
        let question = Question::Need {
            subject: Subject::new(SubjectKind::JwtSub, subject).unwrap(),
            endpoint: EndpointId::new(if self.options.size.is_some() { "tokens" } else { "chat" }).unwrap(),
            mode: self.options.mode,
            shape: self.options.size.map_or(NeedShape::Fixed, |size| shape(stream, size)),
            allow: self.options.allow,
            repeat: None,
        };
        let envoy = &mut self.envoys[at.0];
        let (life, worker) = &mut envoy.workers[at.1];
        match worker.ask(stream, question, self.now, &mut envoy.shelf) {
            Some(answer) => self.answered(at, answer),
            None => _ = self.waiting.insert(stream, (at, *life)),
        }
        self.poll(at);
    }

    fn answered(&mut self, at: (usize, usize), answer: Answer) {
        self.oracle.answered += 1;
        match answer {
            Answer::Ok(pass) => {
                self.oracle.forwarded += 1;
                self.oracle.unpaid += u64::from(pass.decided.is_none());
                let (hold, price) = (pass.hold.unwrap(), pass.held.get());
                self.oracle.under_way += price;
                self.requests.push(Request { at, hold, price });
            }
            Answer::Refused(_) => self.oracle.refused += 1,
            Answer::Unavailable(_) => self.oracle.unavailable += 1,
            Answer::Claimed(_) => panic!("nobody claimed anything"),
        }
    }

    /// A waiting client goes away.
    pub fn leave(&mut self, which: usize) {
        let Some((stream, (at, _))) = self.waiting.iter().nth(which).map(|(s, w)| (*s, *w)) else { return };
        self.waiting.remove(&stream);
        self.envoys[at.0].workers[at.1].1.withdraw(stream);
        self.poll(at);
    }

    /// A request under way ends.
    pub fn end(&mut self, which: usize, served: bool) {
        if self.requests.is_empty() {
            return;
        }
        let Request { at, hold, price } = self.requests.swap_remove(which % self.requests.len());
        self.oracle.under_way -= price;
        // Of what was held, so many hundredths: all of a fixed price, less of the most that it could be, and of an estimate
        // more as well.
        let part = i64::try_from(hold * 37 % 100).unwrap();
        let part = match self.options.size {
            None => 100,
            Some(Size::Most) => 1 + part,
            Some(Size::Estimate) => 1 + 2 * part,
        };
        let (cost, outcome) =
            if served { (price * part / 100, Outcome::Charged) } else { (0, Outcome::Failed) };
        let used = cost.min(price);
        self.oracle.served += used;
        self.oracle.beyond += cost - used;
        let (used, beyond) = (Amount::new(used).unwrap(), Amount::new(cost - used).unwrap());
        let ended = Ended::fixed(hold, used, outcome, RequestId::numbered(hold), self.now);
        let report = Report::Ended(Ended { beyond, ..ended });
        let envoy = &mut self.envoys[at.0];
        envoy.workers[at.1].1.tell(report, self.now, &mut envoy.shelf);
        if envoy.workers[at.1].1.hurries(self.now) {
            self.poll(at);
        }
    }

    fn poll(&mut self, at: (usize, usize)) {
        let envoy = &mut self.envoys[at.0];
        let (life, worker) = &mut envoy.workers[at.1];
        let life = *life;
        let effects = worker.poll(self.now, &mut envoy.shelf);
        for effect in effects {
            match effect {
                WorkerEffect::Call { id, path, body, .. } => {
                    let (sent, awaited) = (self.now, true);
                    self.calls.push(Call { at, life, id, path, body, sent, awaited });
                }
                WorkerEffect::Wake { stream, answer } => {
                    assert_eq!(self.waiting.remove(&stream), Some((at, life)), "woken twice, or unasked");
                    self.answered(at, answer);
                }
                WorkerEffect::Count(metric) => {
                    assert!(!matches!(metric, Metric::Bug { .. }), "{metric:?}");
                    *self.counted.entry(metric).or_default() += 1;
                }
                WorkerEffect::Log(..) => {}
                WorkerEffect::Watch { id, after, .. } => self.polls.push(Poll { at, life, id, after }),
            }
        }
    }

    /// How many calls are on their way.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// A call arrives; its answer too, unless it is `lost`, or its sender has given it up.
    pub fn deliver(&mut self, which: usize, lost: bool) {
        if self.calls.is_empty() {
            return;
        }
        let call = self.calls.remove(which % self.calls.len());
        let answer = self.billing.answer(call.path, &call.body, self.now);
        self.come_back(&call, if lost { CallResult::Reset } else { answer });
    }

    /// A call is given up by its sender. Unless it is `lost`, it arrives some day.
    pub fn give_up(&mut self, which: usize, lost: bool) {
        if self.calls.is_empty() {
            return;
        }
        let which = which % self.calls.len();
        let call = self.calls.remove(which);
        self.come_back(&call, CallResult::Local);
        if !lost {
            self.calls.push(Call { awaited: false, ..call });
        }
    }

    /// A call arrives twice, and the second answer is the one that is seen.
    pub fn deliver_twice(&mut self, which: usize) {
        if let Some(call) = self.calls.get(which % self.calls.len().max(1)) {
            self.billing.answer(call.path, &call.body.clone(), self.now);
            self.deliver(which, false);
        }
    }

    fn come_back(&mut self, call: &Call, result: CallResult) {
        let envoy = &mut self.envoys[call.at.0];
        let (life, worker) = &mut envoy.workers[call.at.1];
        if call.awaited && *life == call.life {
            worker.on_answer(call.id, &result, self.now, &mut envoy.shelf);
            self.poll(call.at);
        }
    }

    /// Time passes; calls that take too long are given up, and the ledger settles what is due.
    pub fn later(&mut self, span: Span) {
        let until = self.now.plus(span);
        while self.now < until {
            self.now = self.now.plus(TICK).min(until);
            for which in (0..self.calls.len()).rev() {
                if self.calls[which].awaited && self.now.since(self.calls[which].sent) >= CALL {
                    self.give_up(which, false);
                }
            }
            self.billing.sweep(self.now);
            self.tick();
        }
    }

    /// Time stands still for everybody but the clock: a machine that was suspended wakes up.
    pub fn jump(&mut self, span: Span) {
        self.now = self.now.plus(span);
        self.later(TICK);
    }

    /// Polls are answered as soon as something has happened.
    fn hear(&mut self) {
        for Poll { at, life, id, after } in core::mem::take(&mut self.polls) {
            match self.billing.watched(after) {
                None => self.polls.push(Poll { at, life, id, after }),
                Some(answer) => {
                    let envoy = &mut self.envoys[at.0];
                    let (now_there, worker) = &mut envoy.workers[at.1];
                    if *now_there == life {
                        worker.on_answer(id, &answer, self.now, &mut envoy.shelf);
                        self.poll(at);
                    }
                }
            }
        }
    }

    fn tick(&mut self) {
        self.hear();
        for envoy in 0..self.envoys.len() {
            for worker in 0..self.envoys[envoy].workers.len() {
                self.poll((envoy, worker));
            }
        }
    }

    /// A worker's VM dies, with every request that was on it; the next request finds a new one.
    pub fn kill_worker(&mut self, at: (usize, usize)) {
        self.bury(|other| other == at);
        let node = self.envoys[at.0].node.clone();
        self.envoys[at.0].workers[at.1] = self.worker(&node);
    }

    /// A whole Envoy dies, its memory with it, and starts anew.
    pub fn kill_envoy(&mut self, which: usize) {
        self.bury(|(envoy, _)| envoy == which);
        let node = self.envoys[which].node.clone();
        let workers = (0..self.options.workers).map(|_| self.worker(&node)).collect();
        self.envoys[which] = Envoy { node, shelf: Contended::default(), workers };
    }

    fn bury(&mut self, dies: impl Fn((usize, usize)) -> bool) {
        self.waiting.retain(|_, (at, _)| !dies(*at));
        let oracle = &mut self.oracle;
        self.requests.retain(|request| {
            if dies(request.at) {
                oracle.under_way -= request.price;
                oracle.orphaned += request.price;
            }
            !dies(request.at)
        });
    }

    /// Billing stops the customer, or lets them go on.
    pub fn suspend(&mut self, stop: bool) {
        self.billing.suspend(&self.customer.clone(), stop, self.now);
    }

    /// What became of the customer's credits.
    pub fn totals(&mut self) -> crate::billing_side::Totals {
        self.billing.totals(&self.customer.clone(), self.now)
    }

    /// An Envoy gets a filter whose slots have another form. Its memory stays, and the workers of the old one are gone.
    pub fn replace_filter(&mut self, envoy: usize) {
        self.envoys[envoy].shelf.other_form = true;
        (0..self.options.workers).for_each(|worker| self.kill_worker((envoy, worker)));
    }

    /// The next so many writes to an Envoy's shared memory come too late.
    pub fn contend(&mut self, envoy: usize, races: u32) {
        self.envoys[envoy].shelf.races = races;
    }

    /// Everything arrives, without delay, until nothing is on its way.
    pub fn settle(&mut self) {
        while !self.calls.is_empty() {
            self.deliver(0, false);
        }
    }

    /// Everything arrives, for a while.
    pub fn run(&mut self, span: Span) {
        let until = self.now.plus(span);
        while self.now < until {
            self.settle();
            self.later(TICK);
        }
        self.settle();
    }

    /// How often a fault was counted.
    #[must_use]
    pub fn faults(&self, name: &str) -> u64 {
        let of = |metric: &Metric| matches!(metric, Metric::Fault { fault } if *fault == name);
        self.counted.iter().filter(|(metric, _)| of(metric)).map(|(_, count)| count).sum()
    }

    /// How many wait for an answer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

/// A request of some tokens, now few and now many: at a thousandth of a credit each.
fn shape(stream: u32, size: Size) -> NeedShape {
    let (input_max, output_max) = (u64::from(stream) * 7919 % 900 + 1, u64::from(stream) * 104_729 % 300);
    NeedShape::Tokens(TokenShape {
        input_max,
        output_max: Some(output_max),
        model: "m".into(),
        choices: 1,
        images: 0,
        makes: 0,
        tools: false,
        open: false,
        size,
        clamp: false,
    })
}
