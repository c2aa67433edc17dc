//! Any order of events on routes that are read: nothing passes unasked, unread or unbounded, and every hold ends once.

use super::bill::tests::{amount, list};
use super::*;
use crate::config::Config;
use crate::input::EnvoyUsage;
use crate::worker::rig::standing;
use crate::worker::{Decided, Ended, Report};
use contract::v1::{Outcome, Price, Size, TokenShape};
use proptest::prelude::*;
use units::{Amount, Instant, Unit};

pub(super) const KEY: &str = "tgk_0123456789abcdefghijABCDEFGHIJ01";

const BODIES: [&str; 5] = [
    r#"{"model":"m","messages":[]}"#,
    r#"{"model":"m","messages":[],"max_tokens":50,"stream":true}"#,
    r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#,
    r#"{"model":"m","messages":[],"max_tokens":5,"max_tokens":5000}"#,
    "",
];

const ANSWERS: [&str; 4] = [
    r#"{"model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":30}}"#,
    "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}],\"usage\":null}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":9000}}\n\n",
    "data: [DO",
];

pub(super) fn config(hold: &str, usage: &str) -> Rc<AiConfig> {
    let json = format!(
        r#"{{"role":"ai","mode":"enforce","wait":"body","body_bytes_max":1000,
        "billing":{{"cluster":"billing","timeout_ms":2000,"token_env":"GATEWAY_TOKEN","node_env":"NODE"}},
        "identity":[{{"kind":"api_key","prefix":"tgk_","length":36,"headers":["x-api-key"]}}],
        "routes":[{{"method":"POST","path":"/v1/chat","endpoint":"chat","hold":"{hold}","usage":"{usage}","request":"openai",
          "consult":"lease","on_unavailable":"deny"}}]}}"#
    );
    let env = |name: &str| Some(if name == "NODE" { "n1".to_owned() } else { "gateway-token".to_owned() });
    match Config::resolve(json.as_bytes(), &env).unwrap() {
        Config::Ai(config) => Rc::new(config),
        Config::Webhook(_) => panic!("another role"),
    }
}

/// Something that happens, in an order that Envoy need not keep to.
#[derive(Clone, Debug)]
enum Event {
    Request {
        end: bool,
    },
    Piece(usize),
    BodyEnd {
        with_body: bool,
    },
    Trailers {
        with_body: bool,
    },
    /// So many hundredths of what the request holds; and whether its body can be changed.
    Ok {
        part: i64,
        listed: bool,
        breaks: bool,
    },
    /// So much was paid before.
    Repeats(i64),
    Unpaid,
    Refused,
    Late,
    Response {
        status: u16,
        events: bool,
    },
    Answer {
        which: usize,
        end: bool,
    },
    ResponseTrailers,
    Closed {
        flags: u64,
        usage: bool,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let part = prop::sample::select(vec![100, 100, 60, 1, 300]);
    prop_oneof![
        3 => any::<bool>().prop_map(|end| Event::Request { end }),
        1 => (0..2000_usize).prop_map(Event::Piece),
        4 => prop::bool::weighted(0.9).prop_map(|with_body| Event::BodyEnd { with_body }),
        1 => prop::bool::weighted(0.9).prop_map(|with_body| Event::Trailers { with_body }),
        4 => (part, prop::bool::weighted(0.8), prop::bool::weighted(0.2))
            .prop_map(|(part, listed, breaks)| Event::Ok { part, listed, breaks }),
        1 => (1..500_i64).prop_map(Event::Repeats),
        1 => Just(Event::Unpaid),
        1 => Just(Event::Refused),
        1 => Just(Event::Late),
        3 => (prop::sample::select(vec![200, 200, 404, 500]), any::<bool>())
            .prop_map(|(status, events)| Event::Response { status, events }),
        3 => (0..ANSWERS.len(), any::<bool>()).prop_map(|(which, end)| Event::Answer { which, end }),
        1 => Just(Event::ResponseTrailers),
        1 => (prop::sample::select(vec![0_u64, 0x4000, 0x80_0000]), any::<bool>())
            .prop_map(|(flags, usage)| Event::Closed { flags, usage }),
    ]
}

/// One request, and what an onlooker knows of it.
struct Story {
    exchange: Metered,
    body: &'static str,
    effects: Vec<Effect>,
    passes: Vec<Pass>,
    /// Its whole body was shown.
    read: bool,
    allowed: bool,
    let_through: bool,
    /// Its body had to be changed, and could not be.
    broken: bool,
}

impl Story {
    fn tell(&mut self, input: Input<'_>, breaks: bool) -> Flow {
        let now = Now { mono: Instant::from_secs(5), wall: Instant::from_secs(1_800_000_000) };
        let mut flow = self.exchange.handle(input, now);
        while let Some(effect) = self.exchange.poll_effect() {
            if let Effect::EditRequestBody(edit) = &effect {
                let edited = edit.apply(self.body.as_bytes()).expect("a change of the body that was read");
                serde_json::from_slice::<serde_json::Value>(&edited).expect("and it is JSON still");
                if breaks {
                    self.broken = true;
                    flow = self.exchange.handle(Input::EditFailed, now);
                }
            }
            self.effects.push(effect);
        }
        flow
    }

    /// A pass for what was asked for, if anything was.
    fn pass(&self, part: i64, listed: bool) -> Pass {
        let asked = self.shape().map_or(amount(50), |shape| list().hold(&shape).unwrap());
        let hold = amount((asked.get() * part / 100).max(1));
        let price = Price { unit: Unit::Credits, hold, scope: String::new(), version: 1 };
        let list = listed.then(|| Rc::new(list()));
        let number = u64::try_from(self.passes.len()).unwrap() + 1;
        Pass::new(Some(number), Rc::new(Decided::new(standing("alice"), price, list)))
    }

    fn shape(&self) -> Option<TokenShape> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Ask(Question::Need { shape: NeedShape::Tokens(shape), .. }) => Some(shape.clone()),
            _ => None,
        })
    }

    fn asked(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Ask(_)))
    }

    fn replies(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Reply(_))).count()
    }

    fn happen(&mut self, event: &Event) {
        let body = Some(self.body.as_bytes());
        let answer = match event {
            Event::Ok { part, listed, .. } => Some(Answer::Ok(Box::new(self.pass(*part, *listed)))),
            Event::Repeats(paid) => {
                let pass = Pass { paid: amount(*paid), ..self.pass(100, true) };
                Some(Answer::Ok(Box::new(pass)))
            }
            Event::Unpaid => {
                let number = u64::try_from(self.passes.len()).unwrap() + 1;
                Some(Answer::Ok(Box::new(Pass::unpaid(number))))
            }
            Event::Refused => Some(Answer::Refused(Box::new(Refusal::plain(Reason::Unpaid)))),
            Event::Late => Some(Answer::Unavailable(Fault::Late)),
            _ => None,
        };
        if let Some(answer) = answer {
            if let Answer::Ok(pass) = &answer {
                self.passes.push((**pass).clone());
                self.allowed |= self.asked();
            }
            let flow = self.tell(Input::Answered(answer), matches!(event, Event::Ok { breaks: true, .. }));
            self.let_through |= flow == Flow::Continue;
            return;
        }
        let flow = match event {
            Event::Request { end } => {
                let headers = [(":method", "POST"), (":path", "/v1/chat"), ("x-api-key", KEY)];
                let headers: Headers = headers.into_iter().collect();
                self.read |= *end;
                self.tell(Input::RequestHeaders { headers: &headers, end: *end, verified: None }, false)
            }
            Event::Piece(size) => {
                self.tell(Input::RequestBody { size: *size, end: false, body: None }, false)
            }
            Event::BodyEnd { with_body } => {
                self.read |= with_body;
                let (size, body) = (self.body.len(), body.filter(|_| *with_body));
                self.tell(Input::RequestBody { size, end: true, body }, false)
            }
            Event::Trailers { with_body } => {
                self.read |= with_body;
                self.tell(Input::RequestTrailers { body: body.filter(|_| *with_body) }, false)
            }
            other => {
                self.answer(other);
                return;
            }
        };
        self.let_through |= flow == Flow::Continue;
    }

    /// What happens on the way back.
    fn answer(&mut self, event: &Event) {
        let envoys = EnvoyUsage { input: Some(9), output: Some(30), ..EnvoyUsage::default() };
        match event {
            Event::Response { status, events } => {
                let kind = if *events { "text/event-stream" } else { "application/json" };
                let status = status.to_string();
                let headers: Headers =
                    [(":status", status.as_str()), ("content-type", kind)].into_iter().collect();
                self.tell(Input::ResponseHeaders { headers: &headers, end: false }, false);
            }
            Event::Answer { which, end } => {
                let piece = ANSWERS[*which].as_bytes();
                let shown = self.exchange.answer_wanted().then_some(piece);
                self.tell(Input::ResponseBody { size: piece.len(), end: *end, piece: shown }, false);
            }
            Event::ResponseTrailers => drop(self.tell(Input::ResponseTrailers, false)),
            Event::Closed { flags, usage } => {
                let usage = usage.then_some(&envoys).filter(|_| self.exchange.end_wanted().usage);
                self.tell(Input::Closed { code: Some(200), flags: *flags, usage }, false);
            }
            other => panic!("{other:?} is no answer"),
        }
    }

    fn reports(&self) -> Vec<Ended> {
        let ends = self.effects.iter().filter_map(|effect| match effect {
            Effect::Tell(Report::Ended(ended)) => Some(ended.clone()),
            _ => None,
        });
        ends.collect()
    }
}

proptest! {
    #[test]
    fn every_hold_ends_once_and_nothing_passes_unasked_or_unread(
        mut events in prop::collection::vec(event(), 0..14),
        usual in prop::bool::weighted(0.7),
        body in prop::sample::select(BODIES.to_vec()),
        hold in prop::sample::select(vec!["max_tokens", "estimate"]),
        usage in prop::sample::select(vec!["openai", "envoy_ai", "none"]),
    ) {
        if usual {
            // Most random orders begin with nonsense: let most of them begin as Envoy does.
            let end = Event::BodyEnd { with_body: true };
            events.splice(..0, [Event::Request { end: body.is_empty() }, end]);
        }
        events.push(Event::Closed { flags: 0, usage: false });
        let exchange = Metered::new(config(hold, usage), 7);
        let (effects, passes) = (Vec::new(), Vec::new());
        let mut story =
            Story { exchange, body, effects, passes, read: false, allowed: false, let_through: false, broken: false };
        for event in &events {
            story.happen(event);
            prop_assert!(story.replies() <= 1);
            prop_assert!(story.read || !story.asked(), "asked before the body was read");
            let free = story.allowed && story.replies() == 0;
            prop_assert!(!story.let_through || free, "passed without leave, or after a no");
            prop_assert!(!story.let_through || !story.broken, "passed as it was not to");
            let edits = story.effects.iter().filter(|effect| matches!(effect, Effect::EditRequestBody(_)));
            prop_assert!(edits.count() <= 1);
        }
        let (reports, shape) = (story.reports(), story.shape());
        prop_assert_eq!(reports.len(), story.passes.iter().filter(|pass| pass.hold.is_some()).count());
        for pass in story.passes.iter().filter(|pass| pass.hold.is_some()) {
            let own: Vec<_> = reports.iter().filter(|ended| Some(ended.hold) == pass.hold).collect();
            prop_assert_eq!(own.len(), 1, "every hold ends in exactly one report");
            let Ended { charged, beyond, outcome, .. } = own[0];
            prop_assert!(*charged <= pass.held);
            let estimate = shape.as_ref().filter(|shape| shape.size == Size::Estimate);
            let most = estimate.map_or(Amount::ZERO, |shape| list().most(shape).unwrap());
            prop_assert!(*beyond <= most.saturating_sub(pass.held), "{:?} beyond {:?}", beyond, pass.held);
            let nothing = matches!(outcome, Outcome::NotForwarded | Outcome::Failed) || pass.decided.is_none();
            let may_be_nothing = nothing || !pass.paid.is_zero();
            prop_assert!(if charged.is_zero() { may_be_nothing } else { !nothing }, "{:?}", own[0]);
        }
    }
}

/// Every answer of every shape that never began, streamed or not.
#[test]
fn t17_what_fails_before_it_answers_costs_nothing_in_any_shape() {
    let end = |flags| Event::Closed { flags, usage: true };
    let failed = |events| vec![Event::Response { status: 500, events }, end(0)];
    let endings = [
        (failed(false), Outcome::Failed),
        (failed(true), Outcome::Failed),
        (
            vec![
                Event::Response { status: 404, events: false },
                Event::Answer { which: 0, end: true },
                end(0),
            ],
            Outcome::Failed,
        ),
        (vec![Event::Response { status: 500, events: true }, end(0x80_0000)], Outcome::Failed),
    ];
    for usage in ["openai", "openai_images", "openai_responses", "anthropic", "gemini", "envoy_ai", "none"] {
        for (hold, body) in [("max_tokens", BODIES[0]), ("max_tokens", BODIES[1]), ("estimate", BODIES[2])] {
            for (ending, expected) in &endings {
                let exchange = Metered::new(config(hold, usage), 7);
                let (effects, passes) = (Vec::new(), Vec::new());
                let mut story = Story {
                    exchange,
                    body,
                    effects,
                    passes,
                    read: false,
                    allowed: false,
                    let_through: false,
                    broken: false,
                };
                let ok = Event::Ok { part: 100, listed: true, breaks: false };
                let begins = [Event::Request { end: false }, Event::BodyEnd { with_body: true }, ok];
                begins.iter().chain(ending).for_each(|event| story.happen(event));
                assert!(story.let_through, "{usage} {body}");
                let reports = story.reports();
                let told: Vec<_> =
                    reports.iter().map(|it| (it.charged.get(), it.beyond.get(), it.outcome)).collect();
                assert_eq!(told, [(0, 0, *expected)], "{usage} {hold} {ending:?}");
            }
        }
    }
}
