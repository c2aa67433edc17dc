//! Several deliveries of a few events at once, in any order: only what is genuine goes on, one copy at a time, and nothing
//! is accepted without the handler's 2xx.

use crate::dice::Dice;
use crate::shelf::Open;
use crate::words::{at, headers, hmac_hex, signed};
use contract::v1::{ClaimAnswer, CompleteOutcome};
use gate::config::Config;
use gate::worker::{Answer, Fault, Question, Report};
use gate::{Effect, Exchange, Flow, Input, Metric, Role};
use std::collections::BTreeSet;
use units::Span;
use webhook::Event;

const SECRET: &str = "whsec_test_secret_for_fuzzing";
const STREAMS: usize = 5;
const BODY_BYTES_MAX: usize = 400;
/// In-flight marks last 30 s, and no more time than this passes: one copy at a time, then, and none after it was accepted.
const LONGEST: Span = Span::from_secs(25);

type Name = (&'static str, String);

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let role = role(dice.flag());
    let mut shelf = Open::default();
    let mut now = Span::ZERO;
    let mut number = 0;
    let mut accepted = BTreeSet::new();
    let mut streams: Vec<Stream> = (0..STREAMS).map(|_| Stream::new(&role, &mut number, &mut dice)).collect();
    while !dice.is_over() {
        let n = dice.below(STREAMS);
        now = now.plus(Span::from_millis(u64::try_from(dice.below(200)).unwrap())).min(LONGEST);
        if streams[n].closed {
            streams[n] = Stream::new(&role, &mut number, &mut dice);
        }
        streams[n].step(&mut dice, now, &mut shelf);
        if streams[n].closed {
            streams[n].audit(&mut accepted);
        }
        let going: Vec<&Name> =
            streams.iter().filter(|s| s.is_going()).filter_map(|s| s.name.as_ref()).collect();
        for name in &going {
            assert_eq!(going.iter().filter(|other| other == &name).count(), 1, "two copies of {name:?}");
            assert!(!accepted.contains(*name), "forwarded after it was accepted: {name:?}");
        }
    }
    for stream in &mut streams {
        if !stream.closed {
            stream.close(0, now, &mut shelf);
            stream.audit(&mut accepted);
        }
    }
}

fn role(forwards_unclaimed: bool) -> Role {
    let word = if forwards_unclaimed { "forward" } else { "refuse" };
    let endpoint = |id: &str, dedupe: serde_json::Value| {
        serde_json::json!({"id": id, "path": format!("/webhooks/{id}"), "secrets_env": ["SECRET"],
            "tolerance_past_s": 300, "tolerance_future_s": 300, "body_bytes_max": BODY_BYTES_MAX,
            "livemode": "test", "forward_types": ["invoice.*"], "dedupe": dedupe})
    };
    let endpoints = [
        endpoint("stripe", serde_json::json!({"mode": "upstream"})),
        endpoint("app", serde_json::json!({"mode": "claim", "on_claim_unavailable": word})),
    ];
    let json = serde_json::json!({"role": "webhook", "endpoints": endpoints, "billing":
        {"cluster": "billing", "timeout_ms": 2000, "token_env": "TOKEN", "node_env": "NODE"}});
    let env = |name: &str| Some(if name == "SECRET" { SECRET.to_owned() } else { name.to_lowercase() });
    Role::from(Config::resolve(json.to_string().as_bytes(), &env).unwrap())
}

struct Stream {
    exchange: Exchange,
    path: &'static str,
    signature: String,
    body: Vec<u8>,
    /// Whether a plain check says that body and header belong together.
    genuine: bool,
    stage: Stage,
    /// What it is called once it went on.
    name: Option<Name>,
    status: Option<&'static str>,
    asked: bool,
    claims: usize,
    replied: bool,
    closed: bool,
    effects: Vec<Effect>,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Fresh,
    Body,
    Whole,
    Answered,
}

impl Stream {
    fn new(role: &Role, number: &mut u64, dice: &mut Dice<'_>) -> Self {
        *number += 1;
        let id = dice.pick(&["evt_1", "evt_1", "evt_1", "evt_2"]);
        let live = if dice.rarely(8) { "true" } else { "false" };
        let kind = if dice.rarely(8) { "charge.refunded" } else { "invoice.paid" };
        let mut body =
            format!(r#"{{"id":"{id}","object":"event","type":"{kind}","livemode":{live},"data":{{}}}}"#)
                .into_bytes();
        if dice.rarely(6) {
            // Spoilt before it was signed.
            let at = dice.below(body.len());
            body[at] = body[at].wrapping_add(1);
        }
        let t = at(Span::ZERO).wall;
        let mut signature = signed(SECRET, t, &body);
        if dice.rarely(6) {
            // Spoilt afterwards.
            match dice.below(3) {
                0 => body.push(b' '),
                1 => signature = signature.replace("v1", "v0"),
                _ => signature = dice.text(90),
            }
        }
        let genuine =
            signature == format!("t={},v1={}", t.secs(), hmac_hex(SECRET, &t.secs().to_string(), &body));
        let path = dice.pick(&["/webhooks/app", "/webhooks/app", "/webhooks/stripe", "/webhooks/none"]);
        Self {
            exchange: role.exchange(*number),
            path,
            signature,
            body,
            genuine,
            stage: Stage::Fresh,
            name: None,
            status: None,
            asked: false,
            claims: 0,
            replied: false,
            closed: false,
            effects: Vec::new(),
        }
    }

    fn is_going(&self) -> bool {
        self.name.is_some() && !self.closed
    }

    fn step(&mut self, dice: &mut Dice<'_>, now: Span, shelf: &mut Open) {
        if dice.rarely(16) {
            let flags = dice.pick(&[0, 0x4000, 0x1000_0000, 0x80_0000, 1 << 9]);
            return self.close(flags, now, shelf);
        }
        let whole = self.body.clone();
        match self.stage {
            Stage::Fresh => {
                self.stage = Stage::Body;
                let forged = ("x-tollgate-event-id", &b"evt_forged"[..]);
                let found = headers(&[
                    (":method", b"POST"),
                    (":path", self.path.as_bytes()),
                    ("stripe-signature", self.signature.as_bytes()),
                    forged,
                ]);
                let end = dice.rarely(20);
                self.tell(Input::RequestHeaders { headers: &found, end, verified: None }, now, shelf);
            }
            Stage::Body if dice.rarely(4) => {
                let size = dice.below(BODY_BYTES_MAX * 2);
                self.tell(Input::RequestBody { size, end: false, body: None }, now, shelf);
            }
            Stage::Body => {
                self.stage = Stage::Whole;
                // As Envoy gives it: only if it is wanted.
                let body = self.exchange.body_wanted().map(|max| &whole[..whole.len().min(max + 1)]);
                if dice.rarely(4) {
                    self.tell(Input::RequestTrailers { body }, now, shelf);
                } else {
                    self.tell(Input::RequestBody { size: whole.len(), end: true, body }, now, shelf);
                }
            }
            Stage::Whole if self.asked => {
                self.asked = false;
                let answer = match dice.below(7) {
                    0..=3 => {
                        self.claims += 1;
                        let ttl_ms = dice.pick(&[30_000, 1, u64::MAX]);
                        Answer::Claimed(ClaimAnswer::Fresh { token: "token_1".into(), ttl_ms })
                    }
                    4 => Answer::Claimed(ClaimAnswer::Done),
                    5 => Answer::Claimed(ClaimAnswer::InFlight { retry_ms: 1 }),
                    _ => Answer::Unavailable(dice.pick(&[Fault::Late, Fault::Reset, Fault::Garbage])),
                };
                self.tell(Input::Answered(answer), now, shelf);
            }
            Stage::Whole => {
                self.stage = Stage::Answered;
                let status = dice.pick(&["200", "204", "100", "301", "409", "500", "x"]);
                if self.is_going() {
                    self.status = Some(status);
                }
                let found = headers(&[(":status", status.as_bytes()), ("x-tollgate-tier", b"x")]);
                self.tell(Input::ResponseHeaders { headers: &found, end: dice.flag() }, now, shelf);
            }
            Stage::Answered => {
                let end = dice.flag();
                self.tell(Input::ResponseBody { size: 1, end, piece: None }, now, shelf);
            }
        }
    }

    fn close(&mut self, flags: u64, now: Span, shelf: &mut Open) {
        self.closed = true;
        self.tell(Input::Closed { code: Some(200), flags, usage: None }, now, shelf);
    }

    fn tell(&mut self, input: Input<'_>, now: Span, shelf: &mut Open) {
        let is_request = !matches!(
            input,
            Input::ResponseHeaders { .. } | Input::ResponseBody { .. } | Input::Closed { .. }
        );
        let flow = self.exchange.handle(input, at(now), shelf);
        while let Some(effect) = self.exchange.poll_effect() {
            match &effect {
                Effect::Ask(Question::Claim(claim)) => {
                    assert!(self.genuine && claim.endpoint == "app");
                    self.asked = true;
                }
                Effect::Ask(other) => panic!("{other:?}"),
                Effect::Withdraw => self.asked = false,
                Effect::Reply(reply) => {
                    assert!(!self.replied && self.name.is_none(), "answered twice, or after it went on");
                    self.replied = true;
                    assert!(reply.status == 200 || (400..=599).contains(&reply.status), "{}", reply.status);
                    assert!(reply.status != 200 || self.genuine, "200 for what is not genuine");
                }
                Effect::Count(Metric::Bug { bug }) => panic!("a bug: {bug}"),
                _ => {}
            }
            self.effects.push(effect);
        }
        if is_request && flow == Flow::Continue && self.name.is_none() {
            assert!(self.genuine && !self.replied, "went on unverified");
            let event = Event::read(&self.body).expect("went on, and is no event");
            assert!(!event.livemode && event.kind.starts_with("invoice."), "{event:?}");
            let stamped = self.effects.iter().rev().find_map(|effect| match effect {
                Effect::SetRequestHeader(name, value) if *name == "x-tollgate-event-id" => Some(value),
                _ => None,
            });
            assert_eq!(stamped.map(|value| &**value), Some(event.id.as_str()));
            self.name = Some((self.path, event.id.as_str().to_owned()));
        }
    }

    /// A finished stream owes nothing, and told the truth.
    fn audit(&self, accepted: &mut BTreeSet<Name>) {
        let count = |wanted: &[&str]| {
            let is_it = |effect: &&Effect| match effect {
                Effect::Count(Metric::Webhook { outcome, .. }) => wanted.contains(outcome),
                _ => false,
            };
            self.effects.iter().filter(is_it).count()
        };
        let (went_on, accepts) = (count(&["forwarded", "forwarded_unclaimed"]), count(&["accepted"]));
        assert_eq!(went_on, usize::from(self.name.is_some()));
        let is_ok = self.status.is_some_and(|status| status.starts_with('2'));
        assert!(accepts == 0 || (went_on == 1 && is_ok), "accepted without a 2xx");
        assert_eq!(went_on, accepts + count(&["failed"]), "what went on was settled, once");
        let completions: Vec<CompleteOutcome> = self
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Tell(Report::Completed { complete, .. }) => Some(complete.outcome),
                _ => None,
            })
            .collect();
        assert_eq!(completions.len(), self.claims, "every claim is completed, once");
        if let (Some(name), [outcome]) = (&self.name, &completions[..]) {
            let expected = if accepts == 1 { CompleteOutcome::Accepted } else { CompleteOutcome::Failed };
            assert_eq!(*outcome, expected, "{name:?}");
        }
        if let Some(name) = self.name.as_ref().filter(|_| accepts == 1) {
            accepted.insert(name.clone());
        }
        // Billing may say so too.
        if count(&["duplicate"]) == 1
            && let Ok(event) = Event::read(&self.body)
        {
            accepted.insert((self.path, event.id.as_str().to_owned()));
        }
    }
}
