//! One metered request, with headers, a body, an answer and a fate that the bytes choose: who asks is who a plain reading
//! says, nothing goes on that was not let through and bounded, and whatever was held is settled once, by what was used.

mod asked;
mod caller;
mod charge;
mod passes;

use crate::dice::Dice;
use crate::shelf::Open;
use crate::words::{at, headers};
use asked::{BODY_BYTES_MAX, Route, TOKEN};
use caller::{caller, is_field, is_token};
use charge::Facts;
use contract::v1::{ClaimAnswer, NeedMode, NeedShape, Outcome};
use gate::worker::{Answer, Ended, Pass, Question, Report};
use gate::{Effect, Exchange, Flow, Headers, Input, Metric};
use passes::Asked;
use units::{Span, SubjectKind};

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let (shadow, head, usual) = (dice.rarely(4), dice.flag(), dice.flag());
    let role = asked::role(shadow, head);
    let request = asked::request(&mut dice, usual);
    let verified =
        (!usual && dice.rarely(3)).then(|| dice.pick(&[&b"alice"[..], b"a\nb", b"", b"\xff"]).to_vec());
    let route = request.text(":path").and_then(|path| Route::of(path, head));
    let mut story = Story {
        exchange: role.exchange(7),
        shelf: Open::default(),
        now: Span::ZERO,
        shadow,
        steady: usual && !dice.rarely(4),
        legal: true,
        route,
        who: caller(&request, verified.as_deref()),
        known: None,
        body: asked::body(&mut dice),
        fed: 0,
        body_over: false,
        breaks: dice.rarely(20),
        edited: None,
        hides: false,
        asked: None,
        question: None,
        passes: Vec::new(),
        went_on: false,
        replied: false,
        closed: false,
        reply: Reply::default(),
        effects: Vec::new(),
    };
    if dice.rarely(30) {
        story.legal = false;
        story.tell(Input::RequestBody { size: 3, end: true, body: None });
    }
    let end = story.body.is_empty() && dice.flag();
    story.body_over = end;
    story.known = match (request.text(":method"), request.text(":path")) {
        (Some("POST"), Some(_)) => route.map(|_| NeedMode::Hold),
        (Some("GET"), Some("/v1/models")) => Some(NeedMode::Identify),
        _ => None,
    };
    let flow = story.tell(Input::RequestHeaders { headers: &request, end, verified: verified.as_deref() });
    story.first(&request, flow);
    while !story.closed {
        story.now = story.now.plus(Span::from_millis(u64::try_from(dice.below(3000)).unwrap()));
        step(&mut story, &mut dice);
    }
    story.audit();
}

/// What may come next, mostly.
fn step(story: &mut Story, dice: &mut Dice<'_>) {
    if dice.is_over() {
        return story.close(dice);
    }
    if story.steady && !dice.rarely(10) {
        return story.go_on(dice);
    }
    match dice.below(10) {
        0..=2 if !story.body_over => story.send(dice),
        3 if !story.body_over => {
            story.body_over = true;
            let body = story.wanted();
            story.tell(Input::RequestTrailers { body: body.as_deref() });
        }
        4..=6 if story.asked == Some(true) => {
            let answer = story.answer(dice);
            let at_once = dice.rarely(6);
            story.answered(answer, at_once);
        }
        7 if story.reply.status.is_none() && (story.went_on || story.replied || dice.rarely(4)) => {
            story.respond(dice);
            if !story.went_on {
                // Envoy answered in our place: nothing follows but the end.
                story.close(dice);
            }
        }
        7 | 8 if story.went_on && story.reply.status.is_some() && !story.reply.over => story.relay(dice),
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
                    let answer = story.answer(dice);
                    story.answered(answer, false);
                }
            }
        }
        _ if dice.rarely(12) => story.close(dice),
        _ => {}
    }
}

/// The answer on its way.
#[derive(Default)]
struct Reply {
    status: Option<u64>,
    free: bool,
    /// What is still to come, what came, and what the client has of it.
    left: Vec<u8>,
    came: Vec<u8>,
    got: Vec<u8>,
    /// The same without what the client did not ask for.
    plain: Vec<u8>,
    events: bool,
    /// What it says, once all of it came.
    says: Option<(u64, u64)>,
    over: bool,
}

struct Story {
    exchange: Exchange,
    shelf: Open,
    now: Span,
    shadow: bool,
    /// True if mostly one thing comes after the other as it should.
    steady: bool,
    /// False once it was told something that cannot be.
    legal: bool,
    route: Option<Route>,
    /// Who asks, and how they are to be asked about, by a plain reading.
    who: Option<(SubjectKind, String)>,
    known: Option<NeedMode>,
    body: Vec<u8>,
    /// So much of it was sent.
    fed: usize,
    body_over: bool,
    /// True if no body can be changed.
    breaks: bool,
    edited: Option<Vec<u8>>,
    hides: bool,
    /// True while a question is open, false when it was answered or withdrawn.
    asked: Option<bool>,
    question: Option<Asked>,
    passes: Vec<Pass>,
    went_on: bool,
    replied: bool,
    closed: bool,
    reply: Reply,
    effects: Vec<Effect>,
}

impl Story {
    fn tell(&mut self, input: Input<'_>) -> Flow {
        let is_request = !matches!(
            input,
            Input::ResponseHeaders { .. }
                | Input::ResponseBody { .. }
                | Input::ResponseTrailers
                | Input::Closed { .. }
        );
        let mut flow = self.exchange.handle(input, at(self.now), &mut self.shelf);
        while let Some(effect) = self.exchange.poll_effect() {
            if let Effect::EditRequestBody(edit) = &effect {
                assert!(!self.legal || (self.body_over && self.edited.is_none()), "edited twice, or in part");
                if self.breaks {
                    self.legal = false;
                    flow = self.exchange.handle(Input::EditFailed, at(self.now), &mut self.shelf);
                } else {
                    let edited = edit.apply(&self.body[..self.fed]).expect("a change");
                    self.hides = charge::edit(self.route, &self.body[..self.fed], &edited);
                    self.edited = Some(edited);
                }
            }
            self.take_in(&effect);
            self.effects.push(effect);
        }
        if is_request && flow == Flow::Continue {
            assert!(!self.replied, "goes on after its answer");
            self.went_on = true;
        }
        flow
    }

    fn take_in(&mut self, effect: &Effect) {
        let fit = |name: &str, value: &str| is_token(name) && is_field(value.as_bytes());
        match effect {
            Effect::Ask(Question::Need { subject, mode, shape, repeat, .. }) => {
                assert!(self.asked.replace(true).is_none(), "asked twice");
                self.question = Some(Asked { mode: *mode, shape: shape.clone(), repeats: repeat.is_some() });
                if self.legal {
                    let who = Some((subject.kind, subject.value.clone()));
                    assert_eq!((who, Some(*mode)), (self.who.clone(), self.known), "somebody else");
                    let read = *shape != NeedShape::Fixed || repeat.is_some();
                    assert!(!read || self.body_over, "what nobody has read yet");
                }
            }
            Effect::Ask(Question::Claim(_)) => panic!("a claim"),
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
            Effect::SetRequestHeader(name, value) => assert!(fit(name, value), "{name:?}: {value:?}"),
            Effect::SetRequestHeaders(all) => {
                assert!(all.iter().all(|(name, value)| fit(name, value)), "{all:?}");
            }
            Effect::SetResponseHeader(name, value) | Effect::SetResponseTrailer(name, value) => {
                assert!(fit(name, value), "{name:?}: {value:?}");
                assert!(!value.contains(TOKEN));
            }
            Effect::Count(Metric::Bug { bug }) => assert!(!self.legal, "a bug: {bug}"),
            _ => {}
        }
    }

    /// What the headers alone decide, beside a plain reading of them.
    fn first(&mut self, request: &Headers, flow: Flow) {
        if !self.legal {
            return;
        }
        let (Some(method), Some(path)) = (request.text(":method"), request.text(":path")) else {
            // Twice there, or no text: what is asked for is nobody's guess.
            assert!(flow == Flow::Pause || self.shadow, "{request:?} goes on");
            return;
        };
        let refused = request.has("upgrade") || method == "CONNECT";
        let preflight =
            method == "OPTIONS" && request.has("origin") && request.has("access-control-request-method");
        if self.question.is_some() {
            assert!(!refused && !preflight);
            assert_eq!(flow, Flow::Pause);
        } else if flow == Flow::Continue && !self.shadow {
            let vouched = (method, path) == ("GET", "/billing/balance") && self.who.is_some();
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

    /// What usually comes next.
    fn go_on(&mut self, dice: &mut Dice<'_>) {
        if !self.body_over && !self.replied {
            self.send(dice);
        } else if self.asked == Some(true) {
            let answer = self.answer(dice);
            self.answered(answer, false);
        } else if self.went_on && self.reply.status.is_none() {
            self.respond(dice);
        } else if self.went_on && !self.reply.over {
            self.relay(dice);
        } else {
            self.close(dice);
        }
    }

    /// More of the client's body.
    fn send(&mut self, dice: &mut Dice<'_>) {
        let left = self.body.len() - self.fed;
        let end = dice.flag();
        let piece = if end { left } else { dice.below(left + 1) };
        self.fed += piece;
        self.body_over = end;
        let (size, before) = (if self.went_on { piece } else { self.fed }, self.went_on);
        let body = if end { self.wanted() } else { None };
        let flow = self.tell(Input::RequestBody { size, end, body: body.as_deref() });
        let let_through = self.shadow || !self.passes.is_empty();
        assert!(before || flow == Flow::Pause || let_through || !self.legal, "its body lets it through");
    }

    fn wanted(&self) -> Option<Vec<u8>> {
        let most = self.exchange.body_wanted()?;
        assert_eq!(most, BODY_BYTES_MAX);
        Some(self.body[..self.fed.min(most + 1)].to_vec())
    }

    fn answer(&self, dice: &mut Dice<'_>) -> Answer {
        let number = u64::try_from(self.passes.len()).unwrap() + 1;
        let unasked = Asked { mode: NeedMode::Hold, shape: NeedShape::Fixed, repeats: false };
        passes::answer(dice, number, self.question.as_ref().unwrap_or(&unasked))
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

    /// The upstream's headers, or those of who answers in its place.
    fn respond(&mut self, dice: &mut Dice<'_>) {
        let status = dice.pick(&["200", "200", "200", "204", "301", "404", "500", "x", ""]);
        let free = dice.rarely(6);
        let events = dice.flag();
        let usage = (dice.upto(200), dice.upto(200));
        let anthropic = self.route.is_some_and(|route| route.usage == "anthropic");
        let (told, plain) = charge::texts(anthropic, events, usage);
        let kind: &[u8] = if events { b"text/event-stream; charset=utf-8" } else { b"application/json" };
        let packed: &[u8] = if dice.rarely(5) { b"gzip" } else { b"identity" };
        let (read, written) = (usage.0.to_string(), usage.1.to_string());
        let charge: &[u8] = if free { b"none" } else { b"all" };
        let found = headers(&[
            (":status", status.as_bytes()),
            ("x-tollgate-charge", charge),
            ("content-type", kind),
            ("content-encoding", packed),
            ("x-in", read.as_bytes()),
            ("x-out", written.as_bytes()),
        ]);
        let said = match self.route.map_or("none", |route| route.usage) {
            "header" => Some(usage),
            "openai" if packed == b"identity" => Some(usage),
            "anthropic" if packed == b"identity" && !events => Some(usage),
            _ => None,
        };
        // What is said in a body is said once all of it came.
        let left = if dice.rarely(5) { dice.bytes(200).to_vec() } else { told.clone().into_bytes() };
        let says = said.filter(|_| left == told.as_bytes() || found.text("content-type").is_none());
        let plain = if left == told.as_bytes() { plain.into_bytes() } else { Vec::new() };
        let status = Some(status.parse().unwrap_or(0));
        self.reply = Reply { status, free, left, plain, events, says, ..Reply::default() };
        let end = dice.rarely(8);
        self.reply.over = end;
        self.tell(Input::ResponseHeaders { headers: &found, end });
    }

    /// More of the answer.
    fn relay(&mut self, dice: &mut Dice<'_>) {
        let all = dice.rarely(3);
        let length = if all { self.reply.left.len() } else { dice.below(self.reply.left.len() + 1) };
        let piece: Vec<u8> = self.reply.left.drain(..length).collect();
        self.reply.came.extend_from_slice(&piece);
        let (end, trailers) = (self.reply.left.is_empty() && dice.flag(), dice.rarely(4));
        let shown = self.exchange.answer_wanted().then_some(piece.as_slice());
        let before = self.effects.len();
        self.tell(Input::ResponseBody { size: piece.len(), end: end && !trailers, piece: shown });
        let other = self.effects[before..].iter().find_map(|effect| match effect {
            Effect::SetResponsePiece(other) => Some(other.clone()),
            _ => None,
        });
        self.reply.got.extend_from_slice(other.as_ref().unwrap_or(&piece));
        self.reply.over = end;
        if end && trailers {
            self.tell(Input::ResponseTrailers);
        }
        let Reply { came, got, plain, .. } = &self.reply;
        if !self.hides || !self.reply.events {
            assert_eq!(got, came, "an answer was changed");
        } else if !plain.is_empty() && self.exchange.answer_wanted() {
            assert!(plain.starts_with(got), "{:?}", String::from_utf8_lossy(got));
            assert!(!end || got == plain, "something is missing");
        }
    }

    fn close(&mut self, dice: &mut Dice<'_>) {
        let code = dice.flag().then(|| dice.number() % 600);
        let flags = dice.pick(&[0, 0, 0x4000, 0x1000_0000, 0x80_0000, 1 << 9]);
        self.closed = true;
        self.reply.status = self.reply.status.or(code);
        self.tell(Input::Closed { code, flags, usage: None });
    }

    fn audit(&self) {
        let was_open = self.asked == Some(true);
        assert!(!was_open || !self.legal, "a question is left open");
        let reports: Vec<&Ended> = self
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Tell(Report::Ended(ended)) => Some(ended),
                _ => None,
            })
            .collect();
        let shape = self.question.as_ref().map_or(&NeedShape::Fixed, |asked| &asked.shape);
        let success = matches!(self.reply.status, Some(200..=299)) && !self.reply.free;
        for pass in &self.passes {
            let of_it: Vec<_> = reports.iter().filter(|ended| Some(ended.hold) == pass.hold).collect();
            assert_eq!(of_it.len(), usize::from(pass.hold.is_some()), "settled once: {pass:?} {reports:?}");
            for ended in of_it {
                let delivered = success && self.went_on && ended.outcome != Outcome::NotForwarded;
                let in_order = self.reply.over && self.reply.left.is_empty();
                let by_headers = self.route.is_some_and(|route| route.usage == "header");
                let said = self.reply.says.filter(|_| in_order || by_headers);
                charge::charge(pass, ended, &Facts { route: self.route, shape, delivered, said });
            }
        }
        let held = self.passes.iter().filter(|pass| pass.hold.is_some()).count();
        assert_eq!(reports.len(), held, "a report of nothing");
        if let ([pass], NeedShape::Tokens(shape), true) = (&self.passes[..], shape, self.legal)
            && shape.clamp
            && self.went_on
            && !self.shadow
        {
            charge::bounded(self.route, self.edited.as_ref().unwrap_or(&self.body), pass, shape);
        }
    }
}
