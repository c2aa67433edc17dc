//! A metered request: find what it costs and who pays, hold that much before it goes on, settle when it is over, however that is.
//!
//! Every hold that was granted ends in exactly one report, and nothing is forwarded that was not let through.
//! Not here: what a price is, and whether somebody can pay it. Billing decides that; see [`crate::worker`].

mod answer;
mod asking;
mod bill;
mod relay;

pub use asking::BodyEdit;

use super::{EndWanted, terms};
use crate::config::{
    AiConfig, Consult, Identity, Match, Metering, Mode, OnUnavailable, Priced, Terms, Usage, Wait,
};
use crate::identity::{AUTHORIZATION, credential_headers, identify};
use crate::input::{Flow, Headers, Input, Now};
use crate::problem::{self, Plain};
use crate::worker::{Answer, Fault, Pass, Question};
use crate::{Effect, Level, Metric, Text};
use answer::UpstreamAnswer;
use asking::{Asking, Measured, is_preflight, key_digest, letters, model_in};
use contract::v1::{NeedMode, NeedShape, Reason, Refusal};
use core::cell::OnceCell;
use meter::Source;
use relay::Relay;
use std::collections::VecDeque;
use std::rc::Rc;
use units::{EndpointId, RequestId, Subject};

/// What every header of Tollgate's own begins with.
const OWN: &str = "x-tollgate-";
/// The longest id of Envoy's that is taken over as the request's.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// One metered request.
#[derive(Debug)]
pub struct Metered {
    config: Rc<AiConfig>,
    /// As Envoy calls it; by its number if it does not, or by a name that is unfit to be told. Made when it is wanted first.
    request_id: OnceCell<RequestId>,
    number: u64,
    endpoint: Option<EndpointId>,
    /// How the request and its answer are read; absent where the route has no price.
    metering: Option<Rc<Metering>>,
    /// What was read of the request.
    measured: Option<Box<Measured>>,
    /// True if the answer tells what it used because that was asked for here.
    hides: bool,
    /// What reads the answer.
    relay: Relay,
    stage: Stage,
    effects: VecDeque<Effect>,
}

#[derive(Debug)]
enum Stage {
    /// Nothing is known yet.
    Unread,
    /// What is to be asked depends on the body, which is not complete yet.
    Reading(Box<Asking>),
    /// Billing was asked; nothing has gone upstream.
    Waiting { body_ended: bool, announced: bool },
    /// It may go on (without a pass, in shadow mode only), but is held until its body is complete.
    Ready(Option<Box<Pass>>),
    /// On its way. With a pass, there is something to settle.
    Forwarded { pass: Option<Box<Pass>>, answer: Option<UpstreamAnswer> },
    /// Answered from here.
    Replied,
    /// Over.
    Closed,
}

/// How one no is told.
enum No {
    Refusal(Box<Refusal>),
    Plain(Plain),
}

impl Metered {
    /// An exchange that nothing has happened to; see [`super::Role::exchange`].
    #[must_use]
    pub fn new(config: Rc<AiConfig>, number: u64) -> Self {
        let (endpoint, stage, effects) = (None, Stage::Unread, VecDeque::with_capacity(16));
        let (request_id, relay) = (OnceCell::new(), Relay::Unread);
        Self {
            config,
            request_id,
            number,
            endpoint,
            metering: None,
            measured: None,
            hides: false,
            relay,
            stage,
            effects,
        }
    }

    /// Takes in what happened. Drain [`Metered::poll_effect`] afterwards.
    pub fn handle(&mut self, input: Input<'_>, now: Now) -> Flow {
        match input {
            Input::RequestHeaders { headers, end, verified } => self.on_request(headers, end, verified, now),
            Input::RequestBody { size, end, body } => self.on_body(size, end, body, now),
            Input::RequestTrailers { body } => self.on_body(body.map_or(0, <[u8]>::len), true, body, now),
            Input::Answered(answer) => self.on_answer(answer, false, now),
            Input::AnsweredAtOnce(answer) => self.on_answer(answer, true, now),
            Input::ResponseHeaders { headers, .. } => {
                self.on_response(headers, now);
                Flow::Continue
            }
            Input::ResponseBody { end, piece, .. } => {
                if let Some(other) = piece.and_then(|piece| self.relay.pass(piece, end)) {
                    self.effects.push_back(Effect::SetResponsePiece(other));
                }
                Flow::Continue
            }
            Input::ResponseTrailers => {
                self.on_trailers();
                Flow::Continue
            }
            Input::EditFailed => self.on_edit_failed(now),
            Input::Closed { code, flags, usage } => {
                self.on_closed(code, flags, usage, now);
                Flow::Continue
            }
        }
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Only what was let through on a hold ends in a charge; the status is that of the answer's headers, if there were any.
    #[must_use]
    pub fn end_wanted(&self) -> EndWanted {
        match &self.stage {
            Stage::Forwarded { pass: Some(_), answer } => {
                let usage = self.metering.as_ref().is_some_and(|it| it.usage == Usage::EnvoyAi);
                EndWanted { code: answer.is_none(), flags: true, usage }
            }
            _ => EndWanted { code: false, flags: false, usage: false },
        }
    }

    /// The body is looked at where the price depends on it, or where the client may repeat it.
    #[must_use]
    pub fn body_wanted(&self) -> Option<usize> {
        matches!(self.stage, Stage::Reading(_)).then_some(self.config.body_bytes_max)
    }

    /// True if the pieces of the answer are to be seen.
    #[must_use]
    pub const fn answer_wanted(&self) -> bool {
        self.relay.reads()
    }

    fn on_request(&mut self, headers: &Headers, end: bool, verified: Option<&[u8]>, now: Now) -> Flow {
        if !matches!(self.stage, Stage::Unread) {
            return self.bug("headers_again", now);
        }
        for name in headers.names_under(OWN) {
            self.effects.push_back(Effect::RemoveRequestHeader(name.to_owned().into()));
        }
        let envoys = headers.text("x-request-id").filter(|id| id.len() <= REQUEST_ID_BYTES_MAX);
        if let Some(Ok(id)) = envoys.map(RequestId::new) {
            self.request_id = OnceCell::from(id);
        }
        let config = Rc::clone(&self.config);
        let (method, path) = (headers.text(":method").unwrap_or(""), headers.text(":path").unwrap_or(""));
        if method == "CONNECT" || headers.has("upgrade") || headers.has(":protocol") {
            return self.refuse(Reason::EndpointUnknown);
        }
        let found = config.routes.find(method, path);
        if matches!(found, Match::OtherMethod { .. }) && is_preflight(headers, end) {
            self.strip(headers, &config.identity);
            self.decided("preflight");
            return self.forward(None);
        }
        let terms = match found {
            Match::Route(route) => &route.terms,
            Match::OtherMethod { allow } => {
                return self.reply(No::Plain(Plain::MethodNotAllowed { allow }), true);
            }
            Match::None => return self.refuse(Reason::EndpointUnknown),
        };
        let endpoint = match terms {
            Terms::Priced(Priced { endpoint, .. }) | Terms::Free { endpoint } => Some(endpoint),
            Terms::Vouch => None,
        };
        self.endpoint = endpoint.cloned();
        if let Some(endpoint) = endpoint {
            self.note("tollgate.endpoint", endpoint.shared());
        }
        // In wasm32 a `usize` has 32 bits, and lengths beyond it are the ones to refuse.
        let length = headers.text("content-length").and_then(|text| text.parse::<u64>().ok());
        let fits = |length| usize::try_from(length).is_ok_and(|length| length <= config.body_bytes_max);
        if config.wait == Wait::Body && length.is_some_and(|length| !fits(length)) {
            return self.reply(No::Plain(Plain::TooLarge { max: config.body_bytes_max }), true);
        }
        let subject = match identify(&config.identity, headers, verified) {
            Ok(subject) => subject,
            Err(nobody) => {
                self.note("tollgate.identity", nobody.as_str());
                return self.refuse(Reason::Unauthenticated);
            }
        };
        self.strip(headers, &config.identity);
        let Some(endpoint) = endpoint.cloned() else {
            let vouch = terms::vouch(&subject, config.billing.token.expose());
            self.effects.extend(vouch);
            self.decided("vouched");
            return self.forward(None);
        };
        let Terms::Priced(priced) = terms else {
            let (mode, shape, allow, repeat) = (NeedMode::Identify, NeedShape::Fixed, 0, None);
            let question = Question::Need { subject, endpoint, mode, shape, allow, repeat };
            return self.ask(question, end || config.wait == Wait::Head, length.is_some());
        };
        self.on_priced(headers, (subject, priced, path), end, length.is_some(), now)
    }

    /// A request that has a price: what it can cost is known at its headers, or at its last byte.
    fn on_priced(
        &mut self,
        headers: &Headers,
        (subject, priced, path): (Subject, &Priced, &str),
        end: bool,
        announced: bool,
        now: Now,
    ) -> Flow {
        let allow = match priced.on_unavailable {
            OnUnavailable::Deny => 0,
            OnUnavailable::AllowBounded { k } => k,
        };
        let mode = match priced.consult {
            Consult::EveryRequest => NeedMode::Hold,
            Consult::Lease => NeedMode::Lease,
        };
        let (endpoint, metering) = (priced.endpoint.clone(), &priced.metering);
        self.metering = Some(Rc::clone(metering));
        if matches!(metering.usage, Usage::Body(_)) && headers.has("accept-encoding") {
            // What is compressed cannot be read as it passes.
            self.effects.push_back(Effect::RemoveRequestHeader("accept-encoding".into()));
        }
        let head = self.config.wait == Wait::Head;
        let key = if head { Ok(None) } else { key_digest(headers) };
        let Ok(key) = key else { return self.reply(No::Plain(Plain::KeyUnfit), end) };
        if head || (metering.request.is_none() && key.is_none()) {
            let (shape, repeat) = (NeedShape::Fixed, None);
            let question = Question::Need { subject, endpoint, mode, shape, allow, repeat };
            return self.ask(question, end || head, announced);
        }
        let model = match letters(metering, headers).and_then(|()| model_in(metering.request.as_ref(), path))
        {
            Ok(model) => model,
            Err(why) => return self.reply(No::Plain(Plain::Unreadable { why: why.to_owned() }), end),
        };
        if metering.request == Some(Source::Gemini) && headers.has("x-goog-fieldmask") {
            // It would leave the usage out of the answer.
            self.effects.push_back(Effect::RemoveRequestHeader("x-goog-fieldmask".into()));
        }
        let asking = Asking { subject, endpoint, mode, allow, key, model, path: path.to_owned() };
        if end {
            return self.put(asking, &[], end, announced, now);
        }
        self.stage = Stage::Reading(Box::new(asking));
        Flow::Pause
    }

    /// Asks, with what the whole body says where anybody reads it.
    fn put(&mut self, asking: Asking, body: &[u8], end: bool, announced: bool, now: Now) -> Flow {
        let Some(metering) = self.metering.clone() else { return self.bug("headers_again", now) };
        match asking.put(&metering, body) {
            Ok((question, measured)) => {
                self.measured = measured;
                self.ask(question, end, announced)
            }
            Err(why) => {
                self.note("tollgate.unreadable", why.as_str());
                self.reply(No::Plain(Plain::Unreadable { why: why.to_string() }), end)
            }
        }
    }

    fn ask(&mut self, question: Question, body_ended: bool, announced: bool) -> Flow {
        self.effects.push_back(Effect::Ask(question));
        self.stage = Stage::Waiting { body_ended, announced };
        Flow::Pause
    }

    /// Takes the credentials out, for they are this gateway's own.
    fn strip(&mut self, headers: &Headers, ways: &[Identity]) {
        let ours = credential_headers(ways).filter(|name| headers.has(name));
        self.effects.extend(ours.map(|name| {
            let fixed = (name == AUTHORIZATION).then_some(AUTHORIZATION.into());
            Effect::RemoveRequestHeader(fixed.unwrap_or_else(|| name.to_owned().into()))
        }));
    }

    fn on_body(&mut self, size: usize, end: bool, body: Option<&[u8]>, now: Now) -> Flow {
        let max = self.config.body_bytes_max;
        match &mut self.stage {
            Stage::Reading(_) if size > max => {
                self.stage = Stage::Replied;
                self.reply(No::Plain(Plain::TooLarge { max }), true)
            }
            Stage::Reading(_) if end => {
                let Stage::Reading(asking) = core::mem::replace(&mut self.stage, Stage::Replied) else {
                    return Flow::Pause;
                };
                match body {
                    Some(body) => self.put(*asking, body, true, true, now),
                    None => self.bug("body_missing", now),
                }
            }
            Stage::Reading(_) => Flow::Pause,
            Stage::Waiting { .. } if size > max => {
                self.effects.push_back(Effect::Withdraw);
                self.reply(No::Plain(Plain::TooLarge { max }), true)
            }
            Stage::Waiting { body_ended, .. } => {
                *body_ended = *body_ended || end;
                Flow::Pause
            }
            Stage::Ready(pass) if size > max => {
                let pass = pass.take();
                self.give_back(pass.as_deref(), now);
                self.reply(No::Plain(Plain::TooLarge { max }), true)
            }
            Stage::Ready(pass) if end => {
                let pass = pass.take();
                self.forward(pass)
            }
            Stage::Ready(_) | Stage::Replied | Stage::Closed => Flow::Pause,
            Stage::Forwarded { .. } => Flow::Continue,
            Stage::Unread => self.bug("body_before_headers", now),
        }
    }

    /// What is decided `at_once` goes on at its headers, unless nobody knows yet how long its body will be.
    fn on_answer(&mut self, answer: Answer, at_once: bool, now: Now) -> Flow {
        let Stage::Waiting { body_ended, announced } = self.stage else {
            if let Answer::Ok(pass) = answer {
                self.give_back(Some(&pass), now);
            }
            return self.bug("answer_without_question", now);
        };
        let body_ended = body_ended || at_once && announced;
        self.stage = Stage::Ready(None);
        match answer {
            Answer::Ok(pass) => {
                if let Some(decided) = &pass.decided {
                    let (account, tier) = (&decided.standing.account, &decided.standing.tier);
                    let Some(told) = terms::told(decided) else {
                        self.effects.push_back(Effect::Count(Metric::Fault { fault: "attribute_unfit" }));
                        let line = format!("tier {tier} has an attribute that is no header");
                        self.effects.push_back(Effect::Log(Level::Error, line));
                        self.give_back(Some(&pass), now);
                        return self.unavailable(Fault::Nonsense, body_ended);
                    };
                    self.effects.push_back(Effect::SetRequestHeaders(Rc::clone(&told.upstream)));
                    if let Some(hold) = terms::hold_text(&pass) {
                        self.effects.push_back(Effect::SetRequestHeader("x-tollgate-hold".into(), hold));
                    }
                    self.note("tollgate.account", account.shared());
                    self.note("tollgate.tier", tier.shared());
                }
                let id = self.request_id().shared().into();
                self.effects.push_back(Effect::SetRequestHeader("x-tollgate-request-id".into(), id));
                let metering = self.metering.as_deref();
                let edit =
                    self.measured.as_ref().zip(metering).and_then(|(measured, it)| measured.edit(it, &pass));
                if let Some(edit) = edit {
                    self.hides = edit.tells_usage();
                    self.effects.push_back(Effect::EditRequestBody(Box::new(edit)));
                }
                if body_ended {
                    return self.forward(Some(pass));
                }
                self.stage = Stage::Ready(Some(pass));
                Flow::Pause
            }
            Answer::Refused(refusal) => self.reply(No::Refusal(refusal), body_ended),
            Answer::Unavailable(fault) => self.unavailable(fault, body_ended),
            Answer::Claimed(_) => self.bug("claim_for_a_need", now),
        }
    }

    /// The stream ends, or Envoy answers it, before it was let through.
    fn overtaken(&mut self, now: Now) {
        match core::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Waiting { .. } => {
                self.effects.push_back(Effect::Withdraw);
                self.decided("left_waiting");
            }
            Stage::Ready(pass) => self.give_back(pass.as_deref(), now),
            Stage::Unread | Stage::Reading(_) | Stage::Forwarded { .. } | Stage::Replied | Stage::Closed => {}
        }
    }

    fn forward(&mut self, pass: Option<Box<Pass>>) -> Flow {
        if let Some(pass) = &pass {
            self.decided(match (pass.hold, &pass.decided) {
                (Some(_), Some(_)) if !pass.paid.is_zero() => "repeat",
                (Some(_), Some(_)) => "pass",
                (Some(_), None) => "unpaid",
                (None, _) => "identified",
            });
        }
        self.stage = Stage::Forwarded { pass, answer: None };
        Flow::Continue
    }

    /// It was let through within this very callback or wake, and cannot go on as it was to: it does not go on.
    fn on_edit_failed(&mut self, now: Now) -> Flow {
        if let Stage::Forwarded { pass, answer: None } = &mut self.stage {
            self.stage = Stage::Ready(pass.take());
        }
        self.bug("body_not_edited", now)
    }

    fn refuse(&mut self, reason: Reason) -> Flow {
        self.reply(No::Refusal(Box::new(Refusal::plain(reason))), true)
    }

    fn unavailable(&mut self, fault: Fault, whole: bool) -> Flow {
        self.note("tollgate.fault", fault.as_str());
        let refusal = Refusal { retry_after_s: Some(1), ..Refusal::plain(Reason::ServiceUnavailable) };
        self.reply(No::Refusal(Box::new(refusal)), whole)
    }

    /// An input came that cannot come in this stage. What has gone on stays as it is; nothing else goes on.
    fn bug(&mut self, bug: &'static str, now: Now) -> Flow {
        self.effects.push_back(Effect::Count(Metric::Bug { bug }));
        self.effects
            .push_back(Effect::Log(Level::Error, format!("bug: {bug} (request {})", self.request_id())));
        match core::mem::replace(&mut self.stage, Stage::Replied) {
            forwarded @ Stage::Forwarded { .. } => {
                self.stage = forwarded;
                return Flow::Continue;
            }
            over @ (Stage::Replied | Stage::Closed) => {
                self.stage = over;
                return Flow::Pause;
            }
            Stage::Waiting { .. } => self.effects.push_back(Effect::Withdraw),
            Stage::Ready(pass) => self.give_back(pass.as_deref(), now),
            Stage::Unread | Stage::Reading(_) => {}
        }
        self.unavailable(Fault::Nonsense, true)
    }

    /// Says no. In shadow mode the request goes on even so: at once, or when its body is `whole`.
    fn reply(&mut self, no: No, whole: bool) -> Flow {
        let id = self.request_id().as_str();
        let (decision, reply) = match no {
            No::Refusal(refusal) => (refusal.reason.as_str(), problem::refusal(&refusal, id)),
            No::Plain(plain) => (plain.as_str(), plain.reply(id)),
        };
        self.note("tollgate.reason", decision);
        self.decided(decision);
        if self.config.mode == Mode::Shadow {
            self.effects.push_back(Effect::Count(Metric::Shadowed { decision }));
            if whole {
                return self.forward(None);
            }
            self.stage = Stage::Ready(None);
            return Flow::Pause;
        }
        self.effects.push_back(Effect::Reply(reply));
        self.stage = Stage::Replied;
        Flow::Pause
    }

    fn request_id(&self) -> &RequestId {
        self.request_id.get_or_init(|| RequestId::numbered(self.number))
    }

    fn decided(&mut self, decision: &'static str) {
        let endpoint =
            self.endpoint.as_ref().map_or(Text::Fixed("none"), |endpoint| endpoint.shared().into());
        self.effects.push_back(Effect::Count(Metric::Request { endpoint, decision }));
        self.note("tollgate.decision", decision);
    }

    fn note(&mut self, key: &'static str, value: impl Into<Text>) {
        self.effects.push_back(Effect::Note { key, value: value.into() });
    }
}

#[cfg(test)]
mod head_tests;
#[cfg(test)]
mod metering_tests;
#[cfg(test)]
mod tests;
