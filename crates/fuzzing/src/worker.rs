//! A worker's machine between streams that come and go, a billing service that may answer anything, and memory that
//! others write to: each question gets one answer in bounded time, and what is reported only grows.

use crate::dice::Dice;
use crate::shelf::Open;
use crate::till::Till;
use crate::tree;
use billing::error::Error;
use billing::service;
use contract::v1::{
    CellKey, CellReport, Claim, ClaimAnswer, Complete, CompleteOutcome, Hello, NeedDecision, NeedMode,
    NeedShape, Outcome, PATH_CLAIM, PATH_COMPLETE, PATH_HELLO, PATH_SYNC, Price, Sync, SyncAnswer,
    UsageRecord,
};
use gate::Metric;
use gate::worker::{Answer, CallResult, Ended, Question, Report, Settings, Worker, WorkerEffect};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use units::{Amount, EndpointId, EventId, Instant, NodeName, RequestId, Span, Subject, SubjectKind};

/// Longer than this nobody waits: `wait` and `call` once for a lease and once for a hold, and a tick for each.
const PATIENCE: Span = Span::from_secs(10);
const TICK: Span = Span::from_millis(100);

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let mut rig = Rig::new();
    while !dice.is_over() {
        let w = dice.below(2);
        match dice.below(16) {
            0..=3 => rig.ask(w, &mut dice),
            4 => rig.withdraw(&mut dice),
            5..=7 => rig.answer(&mut dice, 0),
            8 | 9 => {
                let changes = 1 + dice.below(3);
                rig.answer(&mut dice, changes);
            }
            10 => rig.fail(&mut dice),
            11 | 12 => rig.end(&mut dice),
            13 if dice.rarely(4) => {
                rig.spoilt |= rig.shelf.spoil(&mut dice).is_some();
            }
            13 => rig.shelf.races = dice.below(40),
            14 if dice.rarely(4) => rig.replace(w),
            _ => {
                let ticks = dice.below(40);
                (0..ticks).for_each(|_| rig.tick());
            }
        }
    }
    rig.rest();
}

struct Call {
    at: (usize, u64),
    id: u64,
    path: &'static str,
    body: Vec<u8>,
}

struct Waiting {
    since: Instant,
    mode: Option<NeedMode>,
}

struct Rig {
    till: Till,
    shelf: Open,
    /// Each with the number of its life.
    workers: Vec<(u64, Worker)>,
    now: Instant,
    calls: Vec<Call>,
    waiting: BTreeMap<(u64, u32), Waiting>,
    last: u32,
    /// Holds under way: whose, called what, and the most that they may cost.
    holds: Vec<(u64, u64, Amount)>,
    taken: BTreeMap<(u64, u64), ()>,
    prices: Vec<Price>,
    told: BTreeMap<(u64, CellKey), CellReport>,
    usage: BTreeMap<(u64, u16, u64), UsageRecord>,
    /// What billing was told is not what is, so that totals prove nothing.
    spoilt: bool,
    /// Billing answered otherwise than it should.
    hostile: bool,
    lives: u64,
    ended: usize,
    /// Holds that billing knows nothing of, and how many of them ended as if they had never been.
    unpaid: BTreeSet<(u64, u64)>,
    untold: usize,
    buried: bool,
}

impl Rig {
    fn new() -> Self {
        let mut till = Till::new();
        till.open("alice", 20);
        till.open("bob", 400);
        let mut rig = Self {
            till,
            shelf: Open::default(),
            workers: Vec::new(),
            now: Instant::from_secs(1000),
            calls: Vec::new(),
            waiting: BTreeMap::new(),
            last: 0,
            holds: Vec::new(),
            taken: BTreeMap::new(),
            prices: Vec::new(),
            told: BTreeMap::new(),
            usage: BTreeMap::new(),
            spoilt: false,
            hostile: false,
            lives: 0,
            ended: 0,
            unpaid: BTreeSet::new(),
            untold: 0,
            buried: false,
        };
        for _ in 0..2 {
            let worker = rig.worker();
            rig.workers.push(worker);
        }
        rig
    }

    fn worker(&mut self) -> (u64, Worker) {
        self.lives += 1;
        let node = NodeName::new("n1").unwrap();
        (
            self.lives,
            Worker::new(Settings { node, call: Span::from_secs(2), wait: Span::from_secs(1), watch: false }),
        )
    }

    fn ask(&mut self, w: usize, dice: &mut Dice<'_>) {
        self.last += 1;
        let stream = self.last;
        let (question, mode) = if dice.rarely(5) {
            let claim = Claim {
                endpoint: "app".into(),
                livemode: false,
                account: "self".into(),
                event_id: EventId::new(format!("evt_{}", dice.below(3))).unwrap(),
                event_type: "invoice.paid".into(),
                claimant: format!("c{stream}"),
            };
            (Question::Claim(claim), None)
        } else {
            let mode = dice.pick(&[NeedMode::Lease, NeedMode::Lease, NeedMode::Hold, NeedMode::Identify]);
            let subject = Subject::new(SubjectKind::JwtSub, dice.pick(&["bob", "alice", "carol"])).unwrap();
            let endpoint = EndpointId::new(dice.pick(&["chat", "embeddings", "image"])).unwrap();
            let allow = u32::try_from(dice.below(3)).unwrap();
            (
                Question::Need { subject, endpoint, mode, shape: NeedShape::Fixed, allow, repeat: None },
                Some(mode),
            )
        };
        let life = self.workers[w].0;
        let answer = self.workers[w].1.ask(stream, question, self.now, &mut self.shelf);
        self.waiting.insert((life, stream), Waiting { since: self.now, mode });
        if let Some(answer) = answer {
            self.woken(life, stream, answer);
        }
        self.poll(w);
    }

    fn withdraw(&mut self, dice: &mut Dice<'_>) {
        if self.waiting.is_empty() {
            return;
        }
        let (life, stream) = *self.waiting.keys().nth(dice.below(self.waiting.len())).unwrap();
        self.waiting.remove(&(life, stream));
        let w = self.workers.iter().position(|(it, _)| *it == life).unwrap();
        self.workers[w].1.withdraw(stream);
        self.poll(w);
    }

    fn woken(&mut self, life: u64, stream: u32, answer: Answer) {
        let Some(waiting) = self.waiting.remove(&(life, stream)) else {
            panic!("{stream} was woken unasked: {answer:?}")
        };
        let pass = match (answer, waiting.mode) {
            (Answer::Ok(pass), Some(mode)) => {
                assert_eq!(pass.hold.is_some(), mode != NeedMode::Identify, "{mode:?} {pass:?}");
                pass
            }
            (Answer::Claimed(answer), None) => {
                if let ClaimAnswer::Fresh { token, .. } = answer {
                    self.complete(life, token);
                }
                return;
            }
            (Answer::Refused(refusal), Some(_)) => {
                return assert!((400..=599).contains(&refusal.status), "{refusal:?}");
            }
            (Answer::Unavailable(_), _) => return,
            (answer, mode) => panic!("{answer:?} for {mode:?}"),
        };
        let known = pass.decided.as_ref().is_none_or(|decided| self.prices.contains(&decided.price));
        assert!(known, "at a price that billing never said: {pass:?}");
        if let Some(hold) = pass.hold {
            assert!(self.taken.insert((life, hold), ()).is_none(), "two requests on one hold");
            self.holds.push((life, hold, pass.held));
            if pass.decided.is_none() {
                self.unpaid.insert((life, hold));
            }
        }
    }

    fn complete(&mut self, life: u64, token: String) {
        let complete = Complete {
            endpoint: "app".into(),
            livemode: false,
            account: "self".into(),
            event_id: EventId::new("evt_1").unwrap(),
            token,
            outcome: CompleteOutcome::Failed,
        };
        let report = Report::Completed { complete, ttl: Span::from_secs(30) };
        self.tell(life, report);
    }

    fn tell(&mut self, life: u64, report: Report) {
        if let Some((_, worker)) = self.workers.iter_mut().find(|(it, _)| *it == life) {
            worker.tell(report, self.now, &mut self.shelf);
        }
    }

    fn end(&mut self, dice: &mut Dice<'_>) {
        if self.holds.is_empty() {
            return;
        }
        let (life, hold, most) = self.holds.swap_remove(dice.below(self.holds.len()));
        let served = dice.flag();
        let (charged, outcome) =
            if served { (most, Outcome::Charged) } else { (Amount::ZERO, Outcome::Failed) };
        self.ended += 1;
        // What passed while billing was away, and was not served, is nothing to tell of.
        self.untold += usize::from(!served && self.unpaid.contains(&(life, hold)));
        let request_id = RequestId::numbered(u64::try_from(self.ended).unwrap());
        self.tell(life, Report::Ended(Ended::fixed(hold, charged, outcome, request_id, self.now)));
    }

    /// A VM dies, and another takes its place.
    fn replace(&mut self, w: usize) {
        let life = self.workers[w].0;
        self.waiting.retain(|(it, _), _| *it != life);
        self.holds.retain(|(it, ..)| *it != life);
        self.calls.retain(|call| call.at.1 != life);
        self.buried = true;
        self.workers[w] = self.worker();
    }

    /// The service answers; the answer is changed in so many places.
    fn answer(&mut self, dice: &mut Dice<'_>, changes: usize) {
        if self.calls.is_empty() {
            return;
        }
        let call = self.calls.remove(dice.below(self.calls.len()));
        let (mut status, mut body) = self.serve(&call);
        for _ in 0..changes {
            self.hostile = true;
            if dice.rarely(8) {
                status = dice.pick(&[200, 201, 204, 302, 401, 404, 429, 500, 0]);
            }
            tree::change(&mut body, dice);
        }
        let body = serde_json::to_vec(&body).unwrap();
        if let Ok(answer) = serde_json::from_slice::<SyncAnswer>(&body) {
            let prices = answer.needs.into_iter().filter_map(|need| match need.decision {
                NeedDecision::Ok { price, .. } => Some(price),
                _ => None,
            });
            self.prices.extend(prices);
            self.prices.dedup();
        }
        self.come_back(&call, &CallResult::Upstream { status, body: Some(body) });
    }

    fn fail(&mut self, dice: &mut Dice<'_>) {
        if self.calls.is_empty() {
            return;
        }
        let call = self.calls.remove(dice.below(self.calls.len()));
        let garbage = dice.bytes(20).to_vec();
        if dice.flag() {
            // It did its work, and the answer is lost.
            self.serve(&call);
        }
        let result = match dice.below(6) {
            0 => CallResult::NotSent,
            1 => CallResult::Reset,
            2 => CallResult::Local,
            3 => CallResult::Upstream { status: 200, body: None },
            4 => CallResult::Upstream { status: 503, body: Some(Vec::new()) },
            _ => CallResult::Upstream { status: 200, body: Some(garbage) },
        };
        self.come_back(&call, &result);
    }

    fn serve(&mut self, call: &Call) -> (u32, Value) {
        fn told<T: Serialize>(answer: Result<T, Error>) -> (u32, Value) {
            answer.map_or((422, Value::Null), |answer| (200, serde_json::to_value(answer).unwrap()))
        }
        match call.path {
            PATH_HELLO => {
                let hello: Hello = serde_json::from_slice(&call.body).unwrap();
                told(self.till.work(|work, setup| service::hello(work, setup, hello.node)))
            }
            PATH_SYNC => told(self.till.sync(&serde_json::from_slice(&call.body).unwrap())),
            PATH_CLAIM => {
                let claim: Claim = serde_json::from_slice(&call.body).unwrap();
                told(self.till.work(|work, setup| service::claim(work, setup, &claim, "token".into())))
            }
            PATH_COMPLETE => {
                let complete: Complete = serde_json::from_slice(&call.body).unwrap();
                told(self.till.work(|work, _| service::complete(work, &complete)))
            }
            other => panic!("nobody should call {other}"),
        }
    }

    fn come_back(&mut self, call: &Call, result: &CallResult) {
        let (w, life) = call.at;
        if self.workers[w].0 == life {
            self.workers[w].1.on_answer(call.id, result, self.now, &mut self.shelf);
            self.poll(w);
        }
    }

    fn tick(&mut self) {
        self.now = self.now.plus(TICK);
        self.till.now = self.till.now.plus(TICK);
        self.till.sweep();
        (0..self.workers.len()).for_each(|w| self.poll(w));
        for ((_, stream), waiting) in &self.waiting {
            assert!(self.now.since(waiting.since) <= PATIENCE, "{stream} waits for ever");
        }
    }

    fn poll(&mut self, w: usize) {
        for _ in 0..50 {
            let life = self.workers[w].0;
            let effects = self.workers[w].1.poll(self.now, &mut self.shelf);
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    WorkerEffect::Call { id, path, body, .. } => {
                        if path == PATH_SYNC {
                            self.hear(life, &serde_json::from_slice(&body).expect("a sync"));
                        }
                        self.calls.push(Call { at: (w, life), id, path, body });
                    }
                    WorkerEffect::Wake { stream, answer } => self.woken(life, stream, answer),
                    WorkerEffect::Count(Metric::Bug { bug }) => panic!("a bug: {bug}"),
                    WorkerEffect::Count(metric) => assert!(metric.is_listed(), "{metric:?}"),
                    WorkerEffect::Log(..) => {}
                    WorkerEffect::Watch { .. } => panic!("nobody is to watch"),
                }
            }
        }
        panic!("it never comes to rest");
    }

    /// What may be said to billing.
    fn hear(&mut self, life: u64, sync: &Sync) {
        assert!((1..=4095).contains(&sync.worker));
        let mut ids: Vec<u64> = sync.needs.iter().map(|need| need.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), sync.needs.len(), "two needs of one name");
        assert!(ids.iter().all(|id| (1..1 << 40).contains(id)));
        for cell in &sync.cells {
            assert!(
                self.spoilt || (cell.used <= cell.finished && cell.finished <= cell.admitted),
                "{cell:?}"
            );
            let last = self.told.entry((sync.incarnation, cell.key)).or_insert(*cell);
            let grew = cell.admitted >= last.admitted
                && cell.finished >= last.finished
                && cell.used >= last.used
                && cell.returned >= last.returned;
            assert!(grew || self.spoilt, "totals shrank: {last:?} {cell:?}");
            *last = *cell;
        }
        for record in &sync.usage {
            let key = (life, sync.worker, record.n);
            let same = self.usage.entry(key).or_insert_with(|| record.clone());
            assert_eq!(same, record, "a record was changed after it was told");
        }
    }

    /// From now on billing works, and every request ends.
    fn rest(&mut self) {
        let mut first = Dice::new(&[]);
        for _ in 0..400 {
            while !self.calls.is_empty() {
                self.answer(&mut first, 0);
            }
            while !self.holds.is_empty() {
                self.end(&mut first);
            }
            self.tick();
        }
        assert!(self.waiting.is_empty(), "somebody waits for ever");
        let mut told: Vec<&RequestId> = self.usage.values().map(|record| &record.request_id).collect();
        let records = told.len();
        told.sort();
        told.dedup();
        assert_eq!(told.len(), records, "two records of one request");
        if !self.hostile && !self.spoilt {
            assert!(self.workers.iter().all(|(_, worker)| worker.is_idle()), "something is still owed");
            let owed = self.ended - self.untold;
            assert!(self.buried || records == owed, "{records} records of {owed} requests");
            self.till.audit();
        }
    }
}
