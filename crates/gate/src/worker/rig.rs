//! A billing service of a few lines, which keeps its own books, and a worker to speak with it.

use super::*;
use crate::shelf::MemoryShelf;
use contract::v1::*;
use std::collections::{BTreeMap, BTreeSet};
use units::{AccountId, Amount, EndpointId, RequestId, Subject, SubjectKind, TierId, Unit};

pub(crate) fn hello_answer(incarnation: u64) -> HelloAnswer {
    HelloAnswer {
        node: NodeName::new("n1").unwrap(),
        incarnation,
        intervals: Intervals {
            lease_ttl_ms: 30_000,
            lease_tail_ms: 30_000,
            sync_ms: 500,
            claim_ttl_ms: 30_000,
            wait_ms: 1000,
        },
        limits: Limits { cells_max: 100, needs_max: 100, usage_max: 100, body_bytes_max: 1 << 20 },
    }
}

pub(crate) fn standing(account: &str) -> Standing {
    Standing {
        account: AccountId::new(account).unwrap(),
        payer: AccountId::new(account).unwrap(),
        tier: TierId::new("pro").unwrap(),
        state: SubscriptionState::Active,
        balance_micro: 5_000_000,
        attributes: BTreeMap::new(),
        window: None,
        epoch: 1,
        valid_ms: 0,
        counted: false,
    }
}

/// A billing service in miniature: so many credits, a price of one, and every cell it ever gave.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) free: i64,
    pub(crate) charged: i64,
    pub(crate) held: BTreeMap<u64, i64>,
    closed: BTreeSet<u64>,
    pub(super) usage: BTreeMap<(u16, u64), UsageRecord>,
    pub(super) incarnations: u64,
    pub(crate) syncs: u64,
    /// While set, whoever cannot be served is told to try again.
    pub(crate) retry: bool,
}

pub(crate) const PRICE: i64 = 1_000_000;

impl Desk {
    pub(crate) fn with(credits: i64) -> Self {
        Self { free: credits * PRICE, ..Self::default() }
    }

    pub(crate) fn answer(&mut self, path: &str, body: &[u8]) -> CallResult {
        let body = match path {
            PATH_HELLO => {
                self.incarnations += 1;
                serde_json::to_vec(&hello_answer(self.incarnations))
            }
            PATH_SYNC => serde_json::to_vec(&self.sync(serde_json::from_slice(body).unwrap())),
            _ => panic!("{path}"),
        };
        CallResult::Upstream { status: 200, body: Some(body.unwrap()) }
    }

    fn sync(&mut self, sync: Sync) -> SyncAnswer {
        self.syncs += 1;
        for id in &sync.abandoned {
            self.free += self.held.remove(&(u64::from(sync.worker) << 40 | id)).unwrap_or(0);
        }
        let cells = sync.cells.iter().map(|cell| {
            if cell.finished == cell.admitted
                && let Some(held) = self.held.remove(&cell.key.generation)
            {
                assert_eq!(cell.used.get() + cell.returned.get(), held, "used and returned make up the hold");
                self.charged += cell.used.get();
                self.free += cell.returned.get();
                assert!(self.closed.insert(cell.key.generation), "a hold ends once");
            }
            let (granted, state) = (cell.admitted, CellState::Open);
            let (acked_admitted, exposure) = (granted, granted);
            CellAnswer { key: cell.key, granted, acked_admitted, ttl_ms: 30_000, exposure, state, keep: true }
        });
        let cells = cells.collect();
        for record in sync.usage {
            self.usage.insert((sync.worker, record.n), record);
        }
        let usage_acked =
            (1..).take_while(|n| self.usage.contains_key(&(sync.worker, *n))).last().unwrap_or(0);
        let needs = sync.needs.iter().map(|need| self.decide(sync.worker, need)).collect();
        SyncAnswer {
            sent_seq: sync.sent_seq,
            cells,
            needs,
            usage_acked,
            next_ms: 1000,
            notes: vec![],
            lists: BTreeMap::new(),
        }
    }

    fn decide(&mut self, worker: u16, need: &Need) -> NeedAnswer {
        let generation = u64::from(worker) << 40 | need.id;
        let hold = Amount::new(if need.mode == NeedMode::Hold { PRICE } else { 0 }).unwrap();
        let price = Price { unit: Unit::Credits, hold, scope: String::new(), version: 1 };
        let standing = Box::new(standing(&need.subject.value));
        let decision = if need.mode == NeedMode::Identify {
            NeedDecision::Ok { standing, price, cells: vec![], paid: Amount::ZERO }
        } else if self.held.contains_key(&generation) || self.free >= PRICE {
            if self.held.insert(generation, PRICE).is_none() {
                self.free -= PRICE;
            }
            let (key, unit) = (CellKey { grant: 1, generation }, Unit::Credits);
            let scope = String::new();
            let lease = CellLease {
                key,
                unit,
                granted: hold,
                held: hold,
                ttl_ms: 30_000,
                exposure: hold,
                scope,
                keep: true,
            };
            NeedDecision::Ok { standing, price, cells: vec![lease], paid: Amount::ZERO }
        } else if self.retry && need.wait_ms > 0 {
            NeedDecision::Retry { retry_ms: 50 }
        } else {
            let refusal = Box::new(Refusal::plain(Reason::InsufficientCredits));
            NeedDecision::Refused { refusal, cells: vec![] }
        };
        NeedAnswer { id: need.id, decision }
    }
}

/// A worker, its shelf, its clock, and what it has said so far.
pub(crate) struct Stage {
    pub(crate) worker: Worker,
    pub(crate) shelf: MemoryShelf,
    pub(crate) now: Instant,
    pub(crate) calls: Vec<(u64, &'static str, Vec<u8>)>,
    pub(crate) woken: Vec<(u32, Answer)>,
    pub(crate) counted: Vec<Metric>,
    /// Polls that were opened, and after what.
    pub(crate) watches: Vec<(u64, u64)>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let settings = Settings {
            node: NodeName::new("n1").unwrap(),
            call: Span::from_secs(2),
            wait: Span::from_secs(1),
            watch: false,
        };
        Self {
            worker: Worker::new(settings),
            shelf: MemoryShelf::default(),
            now: Instant::from_secs(1000),
            calls: vec![],
            woken: vec![],
            counted: vec![],
            watches: vec![],
        }
    }

    /// The same, and it hears of what happens.
    pub(crate) fn watching() -> Self {
        let mut stage = Self::new();
        stage.worker.settings.watch = true;
        stage
    }

    pub(crate) fn poll(&mut self) {
        for effect in self.worker.poll(self.now, &mut self.shelf) {
            match effect {
                WorkerEffect::Call { id, path, body, .. } => self.calls.push((id, path, body)),
                WorkerEffect::Watch { id, after, .. } => self.watches.push((id, after)),
                WorkerEffect::Wake { stream, answer } => self.woken.push((stream, answer)),
                WorkerEffect::Count(metric) => self.counted.push(metric),
                WorkerEffect::Log(..) => {}
            }
        }
    }

    pub(super) fn put(&mut self, stream: u32, question: Question) {
        let answer = self.worker.ask(stream, question, self.now, &mut self.shelf);
        self.woken.extend(answer.map(|answer| (stream, answer)));
    }

    pub(crate) fn later(&mut self, millis: u64) {
        self.now = self.now.plus(Span::from_millis(millis));
        self.poll();
    }

    pub(crate) fn ask(&mut self, stream: u32) {
        let subject = Subject::new(SubjectKind::JwtSub, "alice").unwrap();
        let endpoint = EndpointId::new("chat").unwrap();
        let (mode, shape, allow) = (NeedMode::Hold, NeedShape::Fixed, 0);
        let need = Question::Need { subject, endpoint, mode, shape, allow, repeat: None };
        self.put(stream, need);
        self.poll();
    }

    pub(super) fn claim(&mut self, stream: u32) {
        let claim = Claim {
            endpoint: "app".into(),
            livemode: false,
            account: "self".into(),
            event_id: units::EventId::new("evt_1").unwrap(),
            event_type: "invoice.paid".into(),
            claimant: format!("c{stream}"),
        };
        self.put(stream, Question::Claim(claim));
        self.poll();
    }

    /// The oldest call comes back.
    pub(super) fn reply(&mut self, result: &CallResult) {
        let (id, ..) = self.calls.remove(0);
        self.worker.on_answer(id, result, self.now, &mut self.shelf);
        self.poll();
    }

    pub(super) fn reply_json(&mut self, status: u32, body: &str) {
        self.reply(&CallResult::Upstream { status, body: Some(body.as_bytes().to_vec()) });
    }

    /// The oldest call is answered by the desk, and the answer changed on its way.
    pub(crate) fn answer_by(&mut self, desk: &mut Desk, change: impl Fn(CallResult) -> CallResult) {
        if let Some((_, path, body)) = self.calls.first() {
            let answer = change(desk.answer(path, body));
            self.reply(&answer);
        }
    }

    /// The oldest call never arrives.
    pub(crate) fn fail_call(&mut self) {
        if !self.calls.is_empty() {
            self.reply(&CallResult::Local);
        }
    }

    /// Every call is answered by the desk, until there is none.
    pub(crate) fn settle(&mut self, desk: &mut Desk) {
        while let Some((_, path, body)) = self.calls.first() {
            let answer = desk.answer(path, body);
            self.reply(&answer);
        }
    }

    pub(super) fn pass(&mut self, stream: u32) -> Pass {
        let at = self.woken.iter().position(|(s, _)| *s == stream).expect("woken");
        match self.woken.remove(at).1 {
            Answer::Ok(pass) => *pass,
            other => panic!("not let through: {other:?}"),
        }
    }

    pub(super) fn fault(&mut self, stream: u32) -> Fault {
        let at = self.woken.iter().position(|(s, _)| *s == stream).expect("woken");
        match self.woken.remove(at).1 {
            Answer::Unavailable(fault) => fault,
            other => panic!("no fault: {other:?}"),
        }
    }

    pub(crate) fn end(&mut self, hold: u64, charged: i64, outcome: Outcome) {
        let charged = Amount::new(charged).unwrap();
        let request_id = RequestId::new("r1").unwrap();
        let ended = Ended::fixed(hold, charged, outcome, request_id, self.now);
        self.worker.tell(Report::Ended(ended), self.now, &mut self.shelf);
        self.poll();
    }

    pub(crate) fn bugs(&self) -> usize {
        self.counted.iter().filter(|m| matches!(m, Metric::Bug { .. })).count()
    }
}
