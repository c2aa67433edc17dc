//! Stories of one request each, and then any sequence of events at all.

use super::*;
use crate::config::Config;
use crate::worker::rig::standing;
use crate::worker::{Decided, Report};
use contract::v1::{Outcome, Price, Window};
use proptest::prelude::*;
use units::{Amount, Instant, Unit};

const KEY: &str = "tgk_0123456789abcdefghijABCDEFGHIJ01";

fn config(mode: &str, wait: &str) -> Rc<AiConfig> {
    let json = format!(
        r#"{{"role":"ai","mode":"{mode}","wait":"{wait}","body_bytes_max":1000,
        "billing":{{"cluster":"billing","timeout_ms":2000,"token_env":"GATEWAY_TOKEN","node_env":"NODE"}},
        "identity":[{{"kind":"jwt","metadata":["jwt","payload"],"claim":"sub"}},
          {{"kind":"api_key","prefix":"tgk_","length":36,"headers":["authorization","x-api-key"]}}],
        "routes":[{{"method":"POST","path":"/v1/chat","endpoint":"chat","hold":"fixed","consult":"every_request","on_unavailable":"deny"}},
          {{"method":"GET","path":"/v1/models","endpoint":"models","cost":0}},
          {{"method":"GET","prefix":"/billing/","vouch":true}}]}}"#
    );
    let env = |name: &str| Some(if name == "NODE" { "n1" } else { "gateway-token-secret" }.to_owned());
    match Config::resolve(json.as_bytes(), &env).unwrap() {
        Config::Ai(config) => Rc::new(config),
        Config::Webhook(_) => panic!("another role"),
    }
}

/// One request, and everything that came of it.
struct Story {
    exchange: Metered,
    effects: Vec<Effect>,
}

impl Story {
    fn new() -> Self {
        Self::of(config("enforce", "body"))
    }

    fn of(config: Rc<AiConfig>) -> Self {
        Self { exchange: Metered::new(config, 7), effects: Vec::new() }
    }

    fn tell(&mut self, input: Input<'_>) -> Flow {
        let wall = Instant::from_secs(1_800_000_000);
        let flow = self.exchange.handle(input, Now { mono: Instant::from_secs(5), wall });
        self.effects.extend(std::iter::from_fn(|| self.exchange.poll_effect()));
        flow
    }

    fn request(&mut self, line: &str, headers: &[(&str, &str)], end: bool) -> Flow {
        let (method, path) = line.split_once(' ').unwrap();
        let all = [(":method", method), (":path", path)];
        let headers: Headers = all.iter().chain(headers).copied().collect();
        self.tell(Input::RequestHeaders { headers: &headers, end, verified: None })
    }

    /// A paid request whose headers are all there is.
    fn asked() -> Self {
        let mut story = Self::new();
        assert_eq!(story.request("POST /v1/chat", &[("x-api-key", KEY)], true), Flow::Pause);
        assert!(matches!(story.question(), Question::Need { mode: NeedMode::Hold, .. }));
        story
    }

    fn forwarded() -> Self {
        let mut story = Self::asked();
        assert_eq!(story.tell(Input::Answered(pass(3_000_000))), Flow::Continue);
        story
    }

    fn body(&mut self, size: usize, end: bool) -> Flow {
        self.tell(Input::RequestBody { size, end, body: None })
    }

    fn response(&mut self, status: &str, headers: &[(&str, &str)]) {
        let headers: Headers = [(":status", status)].iter().chain(headers).copied().collect();
        self.tell(Input::ResponseHeaders { headers: &headers, end: false });
    }

    fn closed(&mut self, code: Option<u64>, flags: u64) {
        self.tell(Input::Closed { code, flags, usage: None });
    }

    fn question(&self) -> &Question {
        let found = self.effects.iter().find_map(|e| if let Effect::Ask(q) = e { Some(q) } else { None });
        found.expect("asked")
    }

    fn reply(&self) -> (u16, String) {
        let found = self.effects.iter().find_map(|e| if let Effect::Reply(r) = e { Some(r) } else { None });
        let reply = found.expect("replied");
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        (reply.status, body["reason"].as_str().unwrap().to_owned())
    }

    fn reports(&self) -> Vec<(i64, Outcome)> {
        let ends = self.effects.iter().filter_map(|effect| match effect {
            Effect::Tell(Report::Ended(ended)) => Some((ended.charged.get(), ended.outcome)),
            _ => None,
        });
        ends.collect()
    }

    fn sent(&self, name: &str) -> Option<&str> {
        self.effects.iter().rev().find_map(|effect| match effect {
            Effect::SetRequestHeader(key, value) | Effect::SetResponseHeader(key, value) => {
                (*key == name).then_some(&**value)
            }
            Effect::SetRequestHeaders(all) => {
                all.iter().find(|(key, _)| *key == name).map(|(_, value)| &**value)
            }
            _ => None,
        })
    }

    fn has(&self, wanted: &Effect) -> bool {
        self.effects.contains(wanted)
    }
}

fn removed(name: &str) -> Effect {
    Effect::RemoveRequestHeader(name.to_owned().into())
}

fn pass(hold: i64) -> Answer {
    let price =
        Price { unit: Unit::Credits, hold: Amount::new(hold).unwrap(), scope: String::new(), version: 1 };
    let mut standing = standing("alice");
    standing.attributes.insert("Model-Max".into(), "big".into());
    let resets_at = Instant::from_secs(1_800_000_060);
    standing.window = Some(Window { name: "daily".into(), limit: 3, remaining: 1, resets_at });
    Answer::Ok(Box::new(Pass::new((hold > 0).then_some(9), Rc::new(Decided::new(standing, price, None)))))
}

#[test]
fn a_paid_request_passes_with_our_headers_and_none_of_the_clients() {
    let mut story = Story::new();
    let spoofed = [("x-api-key", KEY), ("x-tollgate-account", "evil"), ("X-Tollgate-Attr-Any", "1")];
    let id = [("x-request-id", "req-1")];
    assert_eq!(story.request("POST /v1/chat", &[&spoofed[..], &id].concat(), true), Flow::Pause);
    for name in ["x-tollgate-account", "X-Tollgate-Attr-Any", "x-api-key"] {
        assert!(story.has(&removed(name)), "{name}");
    }
    assert_eq!(story.tell(Input::Answered(pass(3_000_000))), Flow::Continue);
    for (name, value) in [
        ("x-tollgate-account", "alice"),
        ("x-tollgate-tier", "pro"),
        ("x-tollgate-state", "active"),
        ("x-tollgate-request-id", "req-1"),
        ("x-tollgate-hold", "3"),
        ("x-tollgate-attr-model-max", "big"),
    ] {
        assert_eq!(story.sent(name), Some(value), "{name}");
    }
    story.response("200", &[("x-tollgate-account", "spoofed")]);
    assert!(story.has(&Effect::RemoveResponseHeader("x-tollgate-account".into())));
    assert_eq!(story.sent("x-tollgate-balance"), Some("5"));
    assert_eq!(story.sent("x-tollgate-charged"), Some("3"));
    assert_eq!(story.sent("ratelimit-policy"), Some("\"daily\";q=3"));
    assert_eq!(story.sent("ratelimit"), Some("\"daily\";r=1;t=60"));
    story.closed(Some(200), 0);
    assert_eq!(story.reports(), [(3_000_000, Outcome::Charged)]);
}

#[test]
fn what_the_upstream_did_decides_what_is_charged() {
    for (status, headers, flags, expected) in [
        ("200", vec![], 0x80_0000, (3_000_000, Outcome::Broken)),
        ("200", vec![], 0x4000, (3_000_000, Outcome::ClientLeft)),
        ("201", vec![("x-tollgate-charge", "none")], 0, (0, Outcome::Failed)),
        ("201", vec![("x-tollgate-charge", "nonesuch")], 0, (3_000_000, Outcome::Charged)),
        ("500", vec![], 0, (0, Outcome::Failed)),
        ("302", vec![], 0, (0, Outcome::Failed)),
        ("abc", vec![], 0, (0, Outcome::Failed)),
    ] {
        let mut story = Story::forwarded();
        story.response(status, &headers);
        let charged = if expected.0 > 0 { "3" } else { "0" };
        assert_eq!(story.sent("x-tollgate-charged"), Some(charged), "{status}");
        assert_eq!(
            story.sent("x-tollgate-balance"),
            Some(if expected.0 > 0 { "5" } else { "8" }),
            "{status}"
        );
        story.closed(Some(200), flags);
        assert_eq!(story.reports(), [expected], "{status} {flags:#x}");
    }
    for (code, flags, expected) in [
        (None, 0x4000, (0, Outcome::ClientLeft)),
        (Some(503), 0x20, (0, Outcome::Failed)),
        (Some(200), 0, (3_000_000, Outcome::Charged)),
    ] {
        let mut story = Story::forwarded();
        story.closed(code, flags);
        story.closed(code, flags);
        assert_eq!(story.reports(), [expected], "no headers seen, {code:?}");
    }
}

#[test]
fn it_goes_on_when_both_the_answer_and_the_last_byte_are_there() {
    for trailers in [false, true] {
        let mut story = Story::new();
        assert_eq!(story.request("POST /v1/chat", &[("x-api-key", KEY)], false), Flow::Pause);
        assert_eq!(story.body(10, false), Flow::Pause);
        assert_eq!(story.tell(Input::Answered(pass(1))), Flow::Pause, "the body is not complete");
        assert_eq!(story.body(20, false), Flow::Pause);
        let last = if trailers {
            Input::RequestTrailers { body: None }
        } else {
            Input::RequestBody { size: 30, end: true, body: None }
        };
        assert_eq!(story.tell(last), Flow::Continue);

        let mut story = Story::new();
        story.request("POST /v1/chat", &[("x-api-key", KEY)], false);
        let last = if trailers {
            Input::RequestTrailers { body: None }
        } else {
            Input::RequestBody { size: 30, end: true, body: None }
        };
        assert_eq!(story.tell(last), Flow::Pause, "the answer is not there");
        assert_eq!(story.tell(Input::Answered(pass(1))), Flow::Continue);
    }
    let mut head = Story::of(config("enforce", "head"));
    head.request("POST /v1/chat", &[("x-api-key", KEY)], false);
    assert_eq!(head.tell(Input::Answered(pass(1))), Flow::Continue, "nobody waits for the body");
    assert_eq!(head.body(5000, true), Flow::Continue);
}

#[test]
fn what_is_decided_at_once_goes_on_at_its_headers_if_it_said_how_long_it_is() {
    let mut story = Story::new();
    story.request("POST /v1/chat", &[("x-api-key", KEY), ("content-length", "900")], false);
    assert_eq!(story.tell(Input::AnsweredAtOnce(pass(1))), Flow::Continue);
    assert_eq!(story.body(900, true), Flow::Continue);
    for (size, expected) in [(900, Flow::Continue), (1001, Flow::Pause)] {
        let mut chunked = Story::new();
        chunked.request("POST /v1/chat", &[("x-api-key", KEY)], false);
        assert_eq!(chunked.tell(Input::AnsweredAtOnce(pass(1))), Flow::Pause);
        assert_eq!(chunked.body(400, false), Flow::Pause);
        assert_eq!(chunked.body(size, true), expected);
        let told = chunked.effects.iter().any(|effect| matches!(effect, Effect::Tell(_)));
        assert_eq!(told, expected == Flow::Pause, "what was held goes back");
    }
    let mut crowded = Story::new();
    crowded.request("POST /v1/chat", &[("x-api-key", KEY)], false);
    assert_eq!(crowded.tell(Input::AnsweredAtOnce(Answer::Unavailable(Fault::Backlog))), Flow::Pause);
    assert_eq!(crowded.reply().0, 503);
}

#[test]
fn what_passes_while_billing_is_away_says_nothing_of_who_it_is_and_is_charged_later() {
    let unpaid = Answer::Ok(Box::new(Pass::unpaid(9)));
    let mut story = Story::asked();
    assert_eq!(story.tell(Input::Answered(unpaid)), Flow::Continue);
    assert!(!story.effects.iter().any(|e| matches!(e, Effect::SetRequestHeaders(_))));
    let set = |e: &Effect| if let Effect::SetRequestHeader(name, _) = e { Some(name.clone()) } else { None };
    assert_eq!(story.effects.iter().filter_map(set).collect::<Vec<_>>(), ["x-tollgate-request-id"]);
    story.response("200", &[]);
    story.closed(Some(200), 0);
    let told =
        story.effects.iter().filter_map(|e| if let Effect::Tell(told) = e { Some(told) } else { None });
    let told: Vec<_> = told.collect();
    let [Report::Ended(ended)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((ended.hold, ended.outcome), (9, Outcome::Charged));
}

#[test]
fn a_body_that_is_too_large_is_refused_whether_it_says_so_or_not() {
    let mut story = Story::new();
    story.request("POST /v1/chat", &[("x-api-key", KEY), ("content-length", "1001")], false);
    assert_eq!(story.reply(), (413, "body_too_large".into()));
    let mut waiting = Story::new();
    waiting.request("POST /v1/chat", &[("x-api-key", KEY)], false);
    assert_eq!(waiting.body(1001, false), Flow::Pause);
    assert!(waiting.has(&Effect::Withdraw));
    assert_eq!(waiting.reply().0, 413);
    let mut held = Story::new();
    held.request("POST /v1/chat", &[("x-api-key", KEY)], false);
    held.tell(Input::Answered(pass(1)));
    assert_eq!(held.body(1001, true), Flow::Pause);
    held.response("413", &[]);
    held.closed(Some(413), 0);
    assert_eq!((held.reply().0, held.reports()), (413, vec![(0, Outcome::NotForwarded)]));
    let mut exact = Story::new();
    exact.request("POST /v1/chat", &[("x-api-key", KEY), ("content-length", "1000")], false);
    exact.tell(Input::Answered(pass(1)));
    assert_eq!(exact.body(1000, true), Flow::Continue);
}

#[test]
fn what_is_not_offered_is_refused_by_name() {
    for (line, headers, expected) in [
        ("POST /v1/other", vec![], (403, "endpoint_unknown")),
        ("PUT /v1/chat", vec![], (405, "method_not_allowed")),
        ("OPTIONS /v1/chat", vec![], (405, "method_not_allowed")),
        ("OPTIONS /v1/chat", vec![("origin", "https://a")], (405, "method_not_allowed")),
        ("CONNECT /v1/chat", vec![], (403, "endpoint_unknown")),
        ("POST /v1/chat", vec![("upgrade", "websocket")], (403, "endpoint_unknown")),
        ("POST /v1/chat", vec![(":protocol", "websocket")], (403, "endpoint_unknown")),
        ("POST /v1/chat", vec![], (401, "unauthenticated")),
        ("GET /v1/models", vec![], (401, "unauthenticated")),
        ("GET /billing/balance", vec![], (401, "unauthenticated")),
    ] {
        let mut story = Story::new();
        assert_eq!(story.request(line, &headers, true), Flow::Pause, "{line}");
        assert_eq!(story.reply(), (expected.0, expected.1.to_owned()), "{line} {headers:?}");
        let before = story.effects.len();
        story.response("403", &[]);
        story.closed(Some(403), 0);
        assert_eq!(story.effects.len(), before, "nothing is added to an answer of our own");
    }
}

#[test]
fn a_preflight_passes_without_a_credential_and_without_being_asked_about() {
    let mut story = Story::new();
    let headers = [("origin", "https://a"), ("access-control-request-method", "POST"), ("x-api-key", KEY)];
    assert_eq!(story.request("OPTIONS /v1/chat", &headers, true), Flow::Continue);
    assert!(story.has(&removed("x-api-key")));
}

#[test]
fn a_free_endpoint_wants_an_identity_and_charges_nothing() {
    let mut story = Story::new();
    story.request("GET /v1/models", &[("authorization", &format!("Bearer {KEY}"))], true);
    assert!(matches!(story.question(), Question::Need { mode: NeedMode::Identify, .. }));
    assert_eq!(story.tell(Input::Answered(pass(0))), Flow::Continue);
    story.response("200", &[]);
    story.closed(Some(200), 0);
    assert!(story.reports().is_empty() && story.sent("x-tollgate-charged").is_none());
}

#[test]
fn the_gateway_vouches_on_billings_own_routes() {
    let mut story = Story::new();
    let headers: Headers =
        [(":method", "GET"), (":path", "/billing/balance"), ("authorization", "Bearer e.y.j")]
            .into_iter()
            .collect();
    let input =
        Input::RequestHeaders { headers: &headers, end: true, verified: Some("anna müller".as_bytes()) };
    assert_eq!(story.tell(input), Flow::Continue);
    assert_eq!(story.sent("x-tollgate-subject"), Some("jwt_sub:YW5uYSBtw7xsbGVy"));
    assert_eq!(story.sent("authorization"), Some("Bearer gateway-token-secret"));
    let order: Vec<_> = story
        .effects
        .iter()
        .filter(|e| match e {
            Effect::RemoveRequestHeader(name) | Effect::SetRequestHeader(name, _) => *name == "authorization",
            _ => false,
        })
        .collect();
    assert!(matches!(order[..], [Effect::RemoveRequestHeader(_), Effect::SetRequestHeader(..)]));
}

#[test]
fn a_refusal_and_a_fault_are_told_and_hold_nothing() {
    let mut story = Story::asked();
    let refusal = Box::new(Refusal::plain(Reason::InsufficientCredits));
    assert_eq!(story.tell(Input::Answered(Answer::Refused(refusal))), Flow::Pause);
    assert_eq!(story.reply(), (402, "insufficient_credits".into()));
    let mut story = Story::asked();
    assert_eq!(story.tell(Input::Answered(Answer::Unavailable(Fault::Late))), Flow::Pause);
    assert_eq!(story.reply(), (503, "service_unavailable".into()));
    story.closed(Some(503), 0);
    assert!(story.reports().is_empty() && !story.has(&Effect::Withdraw));
}

#[test]
fn whoever_leaves_while_waiting_withdraws() {
    let mut story = Story::asked();
    story.closed(None, 0x4000);
    assert!(story.has(&Effect::Withdraw));
    let mut timed_out = Story::asked();
    timed_out.response("504", &[]);
    assert!(timed_out.has(&Effect::Withdraw), "Envoy answered in our place");
    assert_eq!(timed_out.tell(Input::Answered(pass(1))), Flow::Pause, "and an answer that comes even so");
    assert_eq!(timed_out.reports(), [(0, Outcome::NotForwarded)], "goes back");
}

#[test]
fn an_attribute_that_is_no_header_lets_nobody_pass() {
    for (name, value) in [("a b", "1"), ("", "1"), ("a", "1\r\nx-admin: 1")] {
        let mut story = Story::asked();
        let Answer::Ok(mut granted) = pass(1) else { panic!() };
        let Decided { mut standing, price, .. } = Rc::unwrap_or_clone(granted.decided.take().unwrap());
        standing.attributes.insert(name.into(), value.into());
        granted.decided = Some(Rc::new(Decided::new(standing, price, None)));
        assert_eq!(story.tell(Input::Answered(Answer::Ok(granted))), Flow::Pause);
        assert_eq!((story.reply().0, story.reports()), (503, vec![(0, Outcome::NotForwarded)]));
    }
}

#[test]
fn in_shadow_everything_passes_and_what_would_not_is_counted() {
    let shadow = || Story::of(config("shadow", "body"));
    let counted = |story: &Story, what| story.has(&Effect::Count(Metric::Shadowed { decision: what }));
    let mut story = shadow();
    assert_eq!(story.request("POST /v1/chat", &[("authorization", "Bearer sk-own")], true), Flow::Continue);
    assert!(counted(&story, "unauthenticated") && !story.has(&removed("authorization")), "not ours to take");
    let mut story = shadow();
    story.request("POST /v1/chat", &[("x-api-key", KEY)], false);
    let refusal = Box::new(Refusal::plain(Reason::InsufficientCredits));
    assert_eq!(
        story.tell(Input::Answered(Answer::Refused(refusal))),
        Flow::Pause,
        "its body is not complete"
    );
    assert_eq!(story.body(5, true), Flow::Continue);
    assert!(counted(&story, "insufficient_credits"));
    let mut story = shadow();
    story.request("POST /v1/chat", &[("x-api-key", KEY)], false);
    assert_eq!(story.body(2000, false), Flow::Continue);
    assert!(counted(&story, "body_too_large") && story.has(&Effect::Withdraw));
    story.closed(Some(200), 0);
    assert!(!story.effects.iter().any(|e| matches!(e, Effect::Reply(_))));
}

/// Anything that may happen to a stream, in an order that Envoy need not keep to.
#[derive(Clone, Debug)]
enum Event {
    Request { known: bool, end: bool },
    Body { size: usize, end: bool },
    Trailers,
    Ok(i64),
    Refused,
    Late,
    Response(u16),
    Closed(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (any::<bool>(), any::<bool>()).prop_map(|(known, end)| Event::Request { known, end }),
        (0..2000_usize, any::<bool>()).prop_map(|(size, end)| Event::Body { size, end }),
        Just(Event::Trailers),
        (0..2_i64).prop_map(Event::Ok),
        Just(Event::Refused),
        Just(Event::Late),
        (100..600_u16).prop_map(Event::Response),
        prop_oneof![Just(0_u64), Just(0x4000), any::<u64>()].prop_map(Event::Closed),
    ]
}

proptest! {
    #[test]
    fn every_hold_ends_once_and_nothing_passes_unasked(
        mut events in prop::collection::vec(event(), 0..12),
        head in any::<bool>(),
        usual in any::<bool>(),
    ) {
        if usual {
            // Most random orders begin with nonsense: let half of them begin as Envoy does.
            events.insert(0, Event::Request { known: true, end: false });
        }
        events.push(Event::Closed(0));
        let mut story = Story::of(config("enforce", if head { "head" } else { "body" }));
        let (mut granted, mut let_through, mut allowed) = (0, false, false);
        for event in events {
            let (is_ok, is_way) = (matches!(event, Event::Ok(_)), !matches!(event, Event::Response(_) | Event::Closed(_)));
            let flow = match event {
                Event::Request { known, end } => {
                    let key = if known { KEY } else { "?" };
                    story.request("POST /v1/chat", &[("x-api-key", key)], end)
                }
                Event::Body { size, end } => story.body(size, end),
                Event::Trailers => story.tell(Input::RequestTrailers { body: None }),
                Event::Ok(hold) => {
                    granted += usize::from(hold > 0);
                    story.tell(Input::Answered(pass(hold)))
                }
                Event::Refused => {
                    story.tell(Input::Answered(Answer::Refused(Box::new(Refusal::plain(Reason::Unpaid)))))
                }
                Event::Late => story.tell(Input::Answered(Answer::Unavailable(Fault::Late))),
                Event::Response(status) => {
                    story.response(&status.to_string(), &[]);
                    Flow::Pause
                }
                Event::Closed(flags) => {
                    story.closed(None, flags);
                    Flow::Pause
                }
            };
            allowed = allowed || is_ok;
            let_through = let_through || (is_way && flow == Flow::Continue);
            let replies = story.effects.iter().filter(|e| matches!(e, Effect::Reply(_))).count();
            prop_assert!(replies <= 1);
            prop_assert!(!let_through || (allowed && replies == 0), "passed without leave, or after a no");
        }
        prop_assert_eq!(story.reports().len(), granted, "every hold ends in exactly one report");
        for (charged, outcome) in story.reports() {
            prop_assert!(outcome != Outcome::NotForwarded || charged == 0);
        }
    }
}
