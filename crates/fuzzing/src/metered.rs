//! One metered request, with headers and a fate that the bytes choose: who asks is who a plain reading says, nothing goes
//! on that was not let through, and whatever was held is settled once.

use crate::dice::Dice;
use crate::shelf::Open;
use crate::words::{at, headers};
use contract::v1::{ClaimAnswer, NeedMode, Price, Reason, Refusal, Standing, SubscriptionState, Window};
use gate::config::Config;
use gate::worker::{Answer, Decided, Fault, Pass, Question, Report};
use gate::{Effect, Exchange, Flow, Headers, Input, Metric, Role};
use std::collections::BTreeMap;
use std::rc::Rc;
use units::{AccountId, Amount, Instant, Span, SubjectKind, TierId, Unit};

const KEY: &str = "tgk_0123456789abcdefghijABCDEFGHIJ01";
const OTHER_KEY: &str = "tgk_1123456789abcdefghijABCDEFGHIJ01";
const TOKEN: &str = "gateway-token-secret";
const BODY_BYTES_MAX: usize = 1000;

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let (shadow, head) = (dice.rarely(4), dice.flag());
    let role = role(shadow, head);
    let request = request(&mut dice);
    let verified = dice.rarely(3).then(|| dice.pick(&[&b"alice"[..], b"a\nb", b"", b"\xff"]).to_vec());
    let mut story = Story {
        exchange: role.exchange(7),
        shelf: Open::default(),
        now: Span::ZERO,
        shadow,
        legal: true,
        asked: None,
        passes: Vec::new(),
        went_on: false,
        replied: false,
        closed: false,
        effects: Vec::new(),
    };
    if dice.rarely(30) {
        story.legal = false;
        story.tell(Input::RequestBody { size: 3, end: true, body: None });
    }
    let end = dice.flag();
    let flow = story.tell(Input::RequestHeaders { headers: &request, end, verified: verified.as_deref() });
    story.first(&request, verified.as_deref(), flow);
    let mut body_over = end;
    while !story.closed {
        story.now = story.now.plus(Span::from_millis(u64::try_from(dice.below(3000)).unwrap()));
        step(&mut story, &mut dice, &mut body_over);
    }
    story.audit();
}

fn role(shadow: bool, head: bool) -> Role {
    let (mode, wait) = (if shadow { "shadow" } else { "enforce" }, if head { "head" } else { "body" });
    let json = format!(
        r#"{{"role":"ai","mode":"{mode}","wait":"{wait}","body_bytes_max":{BODY_BYTES_MAX},
        "billing":{{"cluster":"billing","timeout_ms":2000,"token_env":"TOKEN","node_env":"NODE"}},
        "identity":[{{"kind":"jwt","metadata":["jwt","payload"],"claim":"sub"}},
          {{"kind":"api_key","prefix":"tgk_","length":36,"headers":["authorization","x-api-key"]}}],
        "routes":[{{"method":"POST","path":"/v1/chat","endpoint":"chat","hold":"fixed","consult":"every_request","on_unavailable":"deny"}},
          {{"method":"GET","path":"/v1/models","endpoint":"models","cost":0}},
          {{"method":"GET","prefix":"/billing/","vouch":true}}]}}"#
    );
    let env = |name: &str| Some(if name == "NODE" { "n1".to_owned() } else { TOKEN.to_owned() });
    Role::from(Config::resolve(json.as_bytes(), &env).unwrap())
}

fn request(dice: &mut Dice<'_>) -> Headers {
    let line = dice.pick(&[
        ("POST", "/v1/chat"),
        ("POST", "/v1/chat?x=1"),
        ("GET", "/v1/models"),
        ("GET", "/billing/balance"),
        ("OPTIONS", "/v1/chat"),
        ("GET", "/v1/chat"),
        ("CONNECT", "/v1/chat"),
        ("POST", "/elsewhere"),
    ]);
    let mut pairs: Vec<(String, Vec<u8>)> =
        vec![(":method".into(), line.0.into()), (":path".into(), line.1.into())];
    for _ in 0..dice.below(6) {
        let name = match dice.below(14) {
            0..=3 => "authorization".to_owned(),
            4 | 5 => "x-api-key".to_owned(),
            6 => "x-tollgate-account".to_owned(),
            7 => "X-Tollgate-Charge".to_owned(),
            8 => "x-request-id".to_owned(),
            9 => "content-length".to_owned(),
            10 => "upgrade".to_owned(),
            11 => "origin".to_owned(),
            12 => "access-control-request-method".to_owned(),
            _ => dice.text(12),
        };
        let value = match dice.below(10) {
            0 => KEY.as_bytes().to_vec(),
            1..=3 => format!("Bearer {KEY}").into_bytes(),
            4 => format!("bearer  {OTHER_KEY} ").into_bytes(),
            5 => b"Bearer eyJhbGciOiJFUzI1NiJ9.e30.c2ln".to_vec(),
            6 => format!("{KEY},{KEY}").into_bytes(),
            7 => b"1001".to_vec(),
            8 => Vec::new(),
            _ => dice.bytes(40).to_vec(),
        };
        pairs.push((name, value));
    }
    Headers::new(pairs)
}

/// What may come next, mostly.
fn step(story: &mut Story, dice: &mut Dice<'_>, body_over: &mut bool) {
    if dice.is_over() {
        return story.close(dice);
    }
    match dice.below(10) {
        0..=2 if !*body_over => {
            let (size, end) = (dice.below(2 * BODY_BYTES_MAX), dice.flag());
            *body_over = end;
            story.tell(Input::RequestBody { size, end, body: None });
        }
        3 if !*body_over => {
            *body_over = true;
            story.tell(Input::RequestTrailers { body: None });
        }
        4..=6 if story.asked == Some(true) => {
            let answer = answer(dice, story);
            let at_once = dice.rarely(6);
            story.answered(answer, at_once);
        }
        7 if story.went_on || story.replied || dice.rarely(4) => {
            let status = dice.pick(&["200", "204", "301", "404", "500", "x", ""]);
            let charge: &[u8] = if dice.rarely(4) { b"none" } else { b"all" };
            let found = headers(&[(":status", status.as_bytes()), ("x-tollgate-charge", charge)]);
            story.tell(Input::ResponseHeaders { headers: &found, end: dice.flag() });
            if !story.went_on {
                // Envoy answered in our place: nothing follows but the end.
                story.close(dice);
            }
        }
        8 if story.went_on => {
            let (size, end) = (dice.below(100), dice.flag());
            story.tell(Input::ResponseBody { size, end, piece: None });
        }
        9 if dice.rarely(8) => {
            // What Envoy and the worker never do.
            story.legal = false;
            let again = headers(&[(":method", b"POST"), (":path", b"/v1/chat")]);
            match dice.below(3) {
                0 => drop(story.tell(Input::RequestHeaders { headers: &again, end: false, verified: None })),
                1 => {
                    let claimed = Answer::Claimed(ClaimAnswer::Done);
                    story.answered(claimed, false);
                }
                _ => {
                    let answer = answer(dice, story);
                    story.answered(answer, false);
                }
            }
        }
        _ if dice.rarely(12) => story.close(dice),
        _ => {}
    }
}

fn answer(dice: &mut Dice<'_>, story: &Story) -> Answer {
    match dice.below(8) {
        0..=4 => {
            let name = if dice.rarely(6) { dice.text(10) } else { "plan".to_owned() };
            let value = if dice.rarely(6) { dice.text(10) } else { "pro".to_owned() };
            let window = Window {
                name: dice.text(8),
                limit: dice.number(),
                remaining: dice.number(),
                resets_at: Instant::from_secs(1_795_200_000),
            };
            let standing = Standing {
                account: AccountId::new("alice").unwrap(),
                payer: AccountId::new("team").unwrap(),
                tier: TierId::new("pro").unwrap(),
                state: SubscriptionState::Active,
                balance_micro: dice.number().cast_signed(),
                attributes: BTreeMap::from([(name, value)]),
                window: dice.flag().then_some(window),
                epoch: 1,
                valid_ms: 1,
            };
            let hold = Amount::new(i64::try_from(dice.below(3_000_000)).unwrap()).unwrap();
            let unit = dice.pick(&[Unit::Credits, Unit::Requests]);
            let number = u64::try_from(story.passes.len()).unwrap() + 1;
            let price = Price { unit, hold, scope: String::new(), version: 1 };
            Answer::Ok(Box::new(if dice.rarely(6) {
                Pass::unpaid(number)
            } else {
                Pass::new((!dice.rarely(4)).then_some(number), Rc::new(Decided::new(standing, price, None)))
            }))
        }
        5 | 6 => {
            let reason = dice.pick(&Reason::ALL);
            let detail = dice.text(20);
            let url = dice.flag().then(|| dice.text(20));
            let refusal = Refusal { detail, upgrade_url: url, ..Refusal::plain(reason) };
            Answer::Refused(Box::new(refusal))
        }
        _ => Answer::Unavailable(dice.pick(&[Fault::Late, Fault::Backlog, Fault::Garbage])),
    }
}

struct Story {
    exchange: Exchange,
    shelf: Open,
    now: Span,
    shadow: bool,
    /// False once it was told something that cannot be.
    legal: bool,
    /// True while a question is open, false when it was answered or withdrawn.
    asked: Option<bool>,
    passes: Vec<Pass>,
    went_on: bool,
    replied: bool,
    closed: bool,
    effects: Vec<Effect>,
}

impl Story {
    fn tell(&mut self, input: Input<'_>) -> Flow {
        let is_request = !matches!(
            input,
            Input::ResponseHeaders { .. } | Input::ResponseBody { .. } | Input::Closed { .. }
        );
        let flow = self.exchange.handle(input, at(self.now), &mut self.shelf);
        let new: Vec<Effect> = std::iter::from_fn(|| self.exchange.poll_effect()).collect();
        for effect in &new {
            match effect {
                Effect::Ask(_) => assert!(self.asked.replace(true).is_none(), "asked twice"),
                Effect::Withdraw => assert_eq!(self.asked.replace(false), Some(true), "nothing is asked"),
                Effect::Reply(reply) => {
                    assert!(!self.replied && !self.went_on, "answered and forwarded, or answered twice");
                    self.replied = true;
                    assert!((400..=599).contains(&reply.status), "{}", reply.status);
                    assert!(reply.headers.iter().all(|(_, value)| is_field(value.as_bytes())), "{reply:?}");
                    if !reply.body.is_empty() {
                        serde_json::from_slice::<serde_json::Value>(&reply.body).expect("a body of JSON");
                    }
                }
                Effect::SetRequestHeader(name, value) => {
                    assert!(is_token(name) && is_field(value.as_bytes()), "{name:?}: {value:?}");
                }
                Effect::SetRequestHeaders(all) => {
                    let fit = |(name, value): &(gate::Text, gate::Text)| {
                        is_token(name) && is_field(value.as_bytes())
                    };
                    assert!(all.iter().all(fit), "{all:?}");
                }
                Effect::SetResponseHeader(name, value) => {
                    assert!(is_token(name) && is_field(value.as_bytes()), "{name:?}: {value:?}");
                    assert!(!value.contains(TOKEN));
                }
                Effect::Count(Metric::Bug { bug }) => assert!(!self.legal, "a bug: {bug}"),
                _ => {}
            }
        }
        self.effects.extend(new);
        if is_request && flow == Flow::Continue {
            assert!(!self.replied, "goes on after its answer");
            self.went_on = true;
        }
        flow
    }

    /// What the headers alone decide, beside a plain reading of them.
    fn first(&mut self, request: &Headers, verified: Option<&[u8]>, flow: Flow) {
        if !self.legal {
            return;
        }
        let (Some(method), Some(path)) = (request.text(":method"), request.text(":path")) else {
            // Twice there, or no text: what is asked for is nobody's guess.
            assert!(flow == Flow::Pause || self.shadow, "{request:?} goes on");
            return;
        };
        let who = caller(request, verified);
        let refused = request.has("upgrade") || method == "CONNECT";
        let preflight =
            method == "OPTIONS" && request.has("origin") && request.has("access-control-request-method");
        let known = match (method, path.split('?').next().unwrap()) {
            ("POST", "/v1/chat") => Some(NeedMode::Hold),
            ("GET", "/v1/models") => Some(NeedMode::Identify),
            _ => None,
        };
        let question = self.effects.iter().find_map(|effect| match effect {
            Effect::Ask(Question::Need { subject, mode, .. }) => Some((subject.clone(), *mode)),
            _ => None,
        });
        if let Some((subject, mode)) = question {
            assert!(!refused && !preflight);
            assert_eq!(Some((subject.kind, subject.value)), who, "somebody else");
            assert_eq!(Some(mode), known);
            assert_eq!(flow, Flow::Pause);
        } else if flow == Flow::Continue && !self.shadow {
            let vouched = (method, path) == ("GET", "/billing/balance") && who.is_some();
            assert!(!refused && (preflight || vouched), "{request:?} goes on unasked");
        }
        if flow == Flow::Continue {
            self.is_stripped(request);
        }
    }

    /// Nothing of the gateway's own, and no credential of its own, goes upstream.
    fn is_stripped(&self, request: &Headers) {
        let gone = |name: &str| {
            self.effects.iter().any(|effect| match effect {
                Effect::RemoveRequestHeader(it) => it.eq_ignore_ascii_case(name),
                _ => false,
            })
        };
        for name in request.names_under("x-tollgate-") {
            assert!(gone(name), "{name} goes on");
        }
        if !self.shadow {
            for name in ["authorization", "x-api-key"].into_iter().filter(|name| request.has(name)) {
                assert!(gone(name), "{name} goes on");
            }
        }
    }

    fn answered(&mut self, answer: Answer, at_once: bool) {
        let legal = self.asked == Some(true) && !matches!(answer, Answer::Claimed(_));
        self.legal &= legal;
        let lets = matches!(answer, Answer::Ok(_)) && self.asked == Some(true);
        if let Answer::Ok(pass) = &answer {
            self.passes.push((**pass).clone());
        }
        if self.asked == Some(true) && matches!(answer, Answer::Claimed(_)) {
            // It takes its question back, or not: either way it is over.
        } else if self.asked == Some(true) {
            self.asked = Some(false);
        }
        let before = self.went_on;
        let flow = self.tell(if at_once { Input::AnsweredAtOnce(answer) } else { Input::Answered(answer) });
        if flow == Flow::Continue && !before {
            assert!(lets || self.shadow, "goes on without leave");
        }
    }

    fn close(&mut self, dice: &mut Dice<'_>) {
        let code = dice.flag().then(|| dice.number() % 600);
        let flags = dice.pick(&[0, 0, 0x4000, 0x1000_0000, 0x80_0000, 1 << 9]);
        self.closed = true;
        self.tell(Input::Closed { code, flags, usage: None });
    }

    fn audit(&mut self) {
        let was_open = self.asked == Some(true);
        assert!(!was_open || !self.legal, "a question is left open");
        let reports: Vec<(u64, Amount)> = self
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Tell(Report::Ended(ended)) => Some((ended.hold, ended.charged)),
                _ => None,
            })
            .collect();
        for pass in &self.passes {
            let of_it: Vec<_> = reports.iter().filter(|(hold, _)| Some(*hold) == pass.hold).collect();
            assert_eq!(of_it.len(), usize::from(pass.hold.is_some()), "settled once: {pass:?} {reports:?}");
            assert!(of_it.iter().all(|(_, charged)| *charged <= pass.held), "more than was held");
            assert!(
                self.went_on || of_it.iter().all(|(_, charged)| charged.is_zero()),
                "charged for nothing"
            );
        }
        let held = self.passes.iter().filter(|pass| pass.hold.is_some()).count();
        assert_eq!(reports.len(), held, "a report of nothing");
    }
}

/// RFC 9110, section 5.1.
fn is_token(name: &str) -> bool {
    let name = name.strip_prefix(':').unwrap_or(name);
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// RFC 9110, section 5.5: nothing that would end the field.
fn is_field(value: &[u8]) -> bool {
    !value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))
}

/// Who asks, read plainly: `None` unless every credential names the same one.
fn caller(request: &Headers, verified: Option<&[u8]>) -> Option<(SubjectKind, String)> {
    let mut callers = Vec::new();
    if let Some(claim) = verified {
        let claim = String::from_utf8(claim.to_vec()).ok()?;
        if claim.is_empty() || claim.chars().any(char::is_control) {
            return None;
        }
        callers.push((SubjectKind::JwtSub, claim));
    }
    for name in ["authorization", "x-api-key"] {
        let values: Vec<&[u8]> = request.all(name).collect();
        let value = match values[..] {
            [] => continue,
            [one] => core::str::from_utf8(one).ok()?.trim(),
            _ => return None,
        };
        if value.is_empty() {
            continue;
        }
        let credential = if name == "authorization" {
            let (scheme, token) = value.split_at_checked(7)?;
            if !scheme.eq_ignore_ascii_case("bearer ") {
                return None;
            }
            token.trim()
        } else {
            value
        };
        let is_key = credential.len() == 36
            && credential.starts_with("tgk_")
            && credential.bytes().skip(4).all(|byte| byte.is_ascii_alphanumeric());
        if is_key {
            use sha2::Digest;
            let digest = sha2::Sha256::digest(credential);
            callers.push((SubjectKind::ApiKeySha256, digest.iter().map(|b| format!("{b:02x}")).collect()));
        } else if credential.is_empty() || credential.contains([' ', ',']) || name == "x-api-key" {
            return None;
        } else {
            verified?;
        }
    }
    callers.dedup();
    if callers.len() == 1 { callers.pop() } else { None }
}
