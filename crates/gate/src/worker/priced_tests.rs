//! A worker where requests differ in what they cost: leases that pay for holds of any size, what fell short of them, and
//! what only billing can price.

use super::rig::{Stage, hello_answer, standing};
use super::*;
use contract::v1::*;
use proptest::prelude::*;
use units::{Amount, RequestId, Subject, SubjectKind, Unit};

/// What is lent.
const LENT: i64 = 5_000;

fn amount(micro: i64) -> Amount {
    Amount::new(micro).unwrap()
}

/// A micro-credit for each token, of the model `m` alone.
fn list() -> PriceList {
    let (one, none) = (amount(1_000_000), Amount::ZERO);
    let model = ModelPrice {
        name: "m".into(),
        matching: Matching::Exact,
        input: one,
        cached: one,
        cache_written: one,
        output: one,
        reasoning: one,
        image: none,
        context: 10_000,
        output_max: 100,
        output_usual: 10,
        image_tokens: None,
        tools_tokens: 0,
        unseen: false,
    };
    let (unknown, models) = (UnknownModel::Refuse, vec![model]);
    PriceList { version: 1, request: none, minimum: none, hold: amount(50), output_min: 1, unknown, models }
}

/// A request of so many tokens.
fn shape(model: &str, tokens: u64) -> TokenShape {
    TokenShape {
        input_max: tokens,
        output_max: Some(0),
        model: model.into(),
        choices: 1,
        images: 0,
        makes: 0,
        tools: false,
        open: false,
        size: Size::Most,
        clamp: true,
    }
}

/// A billing service that lends, by a list or from a window, and keeps what it was told.
struct Lender {
    unit: Unit,
    /// What it heard of its lease last.
    lease: Option<CellReport>,
    asked: Vec<Need>,
    records: BTreeMap<u64, UsageRecord>,
}

impl Lender {
    fn new(unit: Unit) -> Self {
        Self { unit, lease: None, asked: Vec::new(), records: BTreeMap::new() }
    }

    fn answer(&mut self, path: &str, body: &[u8]) -> CallResult {
        let body = match path {
            PATH_HELLO => serde_json::to_vec(&hello_answer(1)),
            _ => serde_json::to_vec(&self.sync(serde_json::from_slice(body).unwrap())),
        };
        CallResult::Upstream { status: 200, body: Some(body.unwrap()) }
    }

    fn sync(&mut self, sync: Sync) -> SyncAnswer {
        self.records.extend(sync.usage.into_iter().map(|record| (record.n, record)));
        let cells = sync.cells.iter().map(|told| {
            if told.key.generation == 1 {
                let before = self.lease.unwrap_or(*told);
                let grew = |total: fn(&CellReport) -> Amount| total(told) >= total(&before);
                assert!(grew(|it| it.admitted) && grew(|it| it.finished) && grew(|it| it.used));
                assert!(grew(|it| it.returned) && grew(|it| it.short), "{before:?} {told:?}");
                self.lease = Some(*told);
            }
            let lent = if told.key.generation == 1 { amount(LENT) } else { told.admitted };
            CellAnswer {
                key: told.key,
                granted: lent,
                acked_admitted: told.admitted,
                ttl_ms: 30_000,
                exposure: lent,
                state: CellState::Open,
                keep: true,
            }
        });
        let cells = cells.collect();
        let needs = sync.needs.iter().map(|need| self.decide(need)).collect();
        SyncAnswer {
            sent_seq: sync.sent_seq,
            cells,
            needs,
            usage_acked: self.records.keys().copied().max().unwrap_or(0),
            next_ms: 1000,
            notes: vec![],
            lists: BTreeMap::from([(EndpointId::new("chat").unwrap(), list())]),
        }
    }

    fn decide(&mut self, need: &Need) -> NeedAnswer {
        self.asked.push(need.clone());
        let hold = match &need.shape {
            _ if self.unit == Unit::Requests => Some(Amount::ONE),
            NeedShape::Fixed => Some(list().hold),
            NeedShape::Tokens(shape) => list().hold(shape).ok(),
        };
        let Some(hold) = hold else {
            let refusal = Box::new(Refusal::plain(Reason::EndpointUnknown));
            return NeedAnswer {
                id: need.id,
                decision: NeedDecision::Refused { refusal, cells: Vec::new() },
            };
        };
        let price = Price { unit: self.unit, hold, scope: String::new(), version: 1 };
        let lease = need.mode == NeedMode::Lease;
        let (granted, held) = if lease { (amount(LENT), Amount::ZERO) } else { (hold, hold) };
        let generation = if lease { 1 } else { 1 << 40 | need.id };
        let cell = CellLease {
            key: CellKey { grant: 1, generation },
            unit: self.unit,
            granted,
            held,
            ttl_ms: 30_000,
            exposure: granted,
            scope: String::new(),
            keep: true,
        };
        let standing = Box::new(Standing { valid_ms: 60_000, ..standing("alice") });
        let decision = NeedDecision::Ok { standing, price, cells: vec![cell], paid: Amount::ZERO };
        NeedAnswer { id: need.id, decision }
    }
}

fn ask(stage: &mut Stage, stream: u32, shape: NeedShape) {
    let subject = Subject::new(SubjectKind::JwtSub, "alice").unwrap();
    let (endpoint, mode) = (EndpointId::new("chat").unwrap(), NeedMode::Lease);
    stage.put(stream, Question::Need { subject, endpoint, mode, shape, allow: 0, repeat: None });
    stage.poll();
}

fn settle(stage: &mut Stage, lender: &mut Lender) {
    while let Some((_, path, body)) = stage.calls.first() {
        let answer = lender.answer(path, &body.clone());
        stage.reply(&answer);
    }
}

fn end(stage: &mut Stage, hold: u64, charged: i64, beyond: i64) {
    let (request_id, at) = (RequestId::numbered(hold), stage.now);
    let ended = Ended::fixed(hold, amount(charged), Outcome::Charged, request_id, at);
    let report = Report::Ended(Ended { beyond: amount(beyond), ..ended });
    stage.worker.tell(report, stage.now, &mut stage.shelf);
    stage.poll();
}

/// A worker that is known to billing, with a customer who is known and has a lease; each request cost 50.
fn warm(lender: &mut Lender) -> Stage {
    let mut stage = Stage::new();
    for stream in 0..2 {
        ask(&mut stage, stream, NeedShape::Tokens(shape("m", 50)));
        settle(&mut stage, lender);
        let pass = stage.pass(stream);
        end(&mut stage, pass.hold.unwrap(), pass.held.get(), 0);
        settle(&mut stage, lender);
    }
    lender.asked.clear();
    stage
}

#[test]
fn one_lease_pays_for_requests_of_any_size() {
    let mut lender = Lender::new(Unit::Credits);
    let mut stage = warm(&mut lender);
    for (stream, tokens) in (10..).zip([1, 700, 33, 4_000, 50]) {
        ask(&mut stage, stream, NeedShape::Tokens(shape("m", tokens)));
        assert_eq!(stage.pass(stream).held, amount(i64::try_from(tokens).unwrap()));
    }
    ask(&mut stage, 20, NeedShape::Fixed);
    assert_eq!(stage.pass(20).held, amount(50), "of which nobody knows how much it can use");
    assert!(lender.asked.is_empty(), "nobody was asked");
    // 116 are left.
    ask(&mut stage, 21, NeedShape::Tokens(shape("m", 117)));
    assert_eq!(stage.woken.len(), 0);
    ask(&mut stage, 22, NeedShape::Tokens(shape("m", 116)));
    assert_eq!(stage.pass(22).held, amount(116), "who asks for less need not wait for who asks for more");
    assert_eq!(stage.bugs(), 0);
}

#[test]
fn what_only_billing_can_price_is_asked_for_with_a_hold() {
    let mut lender = Lender::new(Unit::Credits);
    let mut stage = warm(&mut lender);
    ask(&mut stage, 10, NeedShape::Tokens(shape("elsewhere", 7)));
    settle(&mut stage, &mut lender);
    let modes: Vec<NeedMode> = lender.asked.iter().map(|need| need.mode).collect();
    assert_eq!(modes, [NeedMode::Hold]);
    assert!(matches!(stage.woken.pop(), Some((10, Answer::Refused(_)))), "and it has the last word");
    assert_eq!(stage.bugs(), 0);
}

#[test]
fn what_a_window_pays_for_costs_one_of_its_requests_whatever_the_list_says() {
    let mut lender = Lender::new(Unit::Requests);
    let mut stage = warm(&mut lender);
    for (stream, model) in [(10, "m"), (11, "elsewhere")] {
        ask(&mut stage, stream, NeedShape::Tokens(shape(model, 9_999)));
        let pass = stage.pass(stream);
        let decided = pass.decided.unwrap();
        assert_eq!((pass.held, decided.price.unit, decided.list()), (Amount::ONE, Unit::Requests, None));
        end(&mut stage, pass.hold.unwrap(), 1, 0);
    }
    assert!(lender.asked.is_empty(), "nobody was asked");
    stage.later(2_000);
    settle(&mut stage, &mut lender);
    assert_eq!(lender.lease.unwrap().used, amount(3), "one was lent for, and two were warm");
    assert_eq!(stage.bugs(), 0);
}

/// What happens to a request on the lease, or to what is told of it.
#[derive(Clone, Debug)]
enum Event {
    Ask(u64),
    /// So many hundredths of the hold were used.
    End(usize, i64),
    Answered,
    AnswerLost,
    CallLost,
    Later(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (1..300_u64).prop_map(Event::Ask),
        5 => (any::<usize>(), 0..250_i64).prop_map(|(which, part)| Event::End(which, part)),
        3 => Just(Event::Answered),
        2 => Just(Event::AnswerLost),
        1 => Just(Event::CallLost),
        3 => (1..3_000_u64).prop_map(Event::Later),
    ]
}

proptest! {
    /// Whatever is lost or told twice, in the end billing knows of each token that was used, on the lease or beyond it.
    #[test]
    fn every_token_is_told_once_and_what_fell_short_too(events in prop::collection::vec(event(), 1..80)) {
        let mut lender = Lender::new(Unit::Credits);
        let mut stage = warm(&mut lender);
        let (mut running, mut used, mut short, mut stream) = (Vec::new(), 0, 0, 100);
        for event in &events {
            match event {
                Event::Ask(tokens) => {
                    ask(&mut stage, stream, NeedShape::Tokens(shape("m", *tokens)));
                    stream += 1;
                }
                Event::End(which, part) if !running.is_empty() => {
                    let pass: Pass = running.swap_remove(which % running.len());
                    let cost = pass.held.get() * part / 100;
                    let charged = cost.min(pass.held.get());
                    (used, short) = (used + charged, short + cost - charged);
                    end(&mut stage, pass.hold.unwrap(), charged, cost - charged);
                }
                Event::End(..) => {}
                Event::Answered | Event::AnswerLost => {
                    if let Some((_, path, body)) = stage.calls.first() {
                        let answer = lender.answer(path, &body.clone());
                        let lost = matches!(event, Event::AnswerLost);
                        stage.reply(if lost { &CallResult::Reset } else { &answer });
                    }
                }
                Event::CallLost => stage.fail_call(),
                Event::Later(millis) => stage.later(*millis),
            }
            for (_, answer) in stage.woken.drain(..) {
                if let Answer::Ok(pass) = answer {
                    running.push(*pass);
                }
            }
        }
        for _ in 0..60 {
            settle(&mut stage, &mut lender);
            for (_, answer) in core::mem::take(&mut stage.woken) {
                if let Answer::Ok(pass) = answer {
                    running.push(*pass);
                }
            }
            for pass in core::mem::take(&mut running) {
                end(&mut stage, pass.hold.unwrap(), 0, 0);
            }
            stage.later(1_000);
        }
        // Two requests of 50 had warmed it up, the second on the lease.
        let charged = lender.records.values().flat_map(|record| &record.charges);
        let charged: i64 = charged.map(|charge| charge.amount.get()).sum();
        let beyond: i64 = lender.records.values().map(|record| record.beyond.get()).sum();
        prop_assert_eq!((charged, beyond), (used + 100, short));
        let on_lease = |record: &&UsageRecord| record.charges.iter().any(|it| it.key.generation == 1);
        let (mut leased, mut fell) = (0, 0);
        for record in lender.records.values().filter(on_lease) {
            leased += record.charges.iter().map(|charge| charge.amount.get()).sum::<i64>();
            fell += record.beyond.get();
        }
        let lease = lender.lease.unwrap();
        prop_assert_eq!((lease.used.get(), lease.short.get(), lease.admitted), (leased, fell, lease.finished));
        prop_assert_eq!(stage.bugs(), 0);
    }
}
