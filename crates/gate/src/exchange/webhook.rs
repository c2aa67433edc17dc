//! A Stripe delivery: buffer, verify, recognise, forward, and remember only what was accepted.
//!
//! Nothing goes upstream before the last byte was verified, whichever way the body ends. An unverified sender
//! learns only that it was refused; why is in the metric, the access log and the log. For a genuine event every
//! answer but 2xx makes Stripe try again later, so that 409 and 503 lose nothing, and only what was really
//! handled, or is not wanted at all, is answered 200 (docs.stripe.com/webhooks, "Event delivery behaviors").

mod telling;

use crate::config::{DedupeMode, Endpoint, Match, OnClaimUnavailable, WebhookConfig};
use crate::seen::{Begun, EventKey, Marked, Owner, Seen};
use crate::worker::{Answer, Fault, Question, Report};
use crate::{Effect, Flow, Headers, Input, Level, Metric, Now, Shelf};
use ::webhook::{Event, Forgery, HEADER_SIGNATURE, Verified, verify};
use contract::v1::{Claim, ClaimAnswer, Complete, CompleteOutcome};
use std::collections::VecDeque;
use std::rc::Rc;
use units::{Instant, Span};

/// What every header of Tollgate's own begins with; nobody else may set one, in either direction.
const OWN_HEADERS: &str = "x-tollgate-";

/// Envoy's response flags (`CoreResponseFlag`) that can stand beside a good answer: a delay or a fault injected on
/// purpose, and a rate limit service that was passed over. Every other flag, known or not, says that it broke.
const FLAGS_HARMLESS: u64 = 1 << 9 | 1 << 10 | 1 << 13;
/// The client closed the connection, or reset the stream.
const FLAGS_CLIENT_LEFT: u64 = 1 << 14 | 1 << 28;

/// One delivery, from first header to last byte.
#[derive(Debug)]
pub struct Delivery {
    config: Rc<WebhookConfig>,
    owner: Owner,
    stage: Stage,
    effects: VecDeque<Effect>,
}

#[derive(Debug)]
enum Stage {
    /// Nothing is known yet.
    Unread,
    /// Its body is on the way.
    Reading(Reading),
    /// Verified and marked as in flight here; billing is asked for a claim.
    Claiming { case: Box<Case>, asked: Instant },
    /// It went upstream, and is to be settled when the stream is over.
    Forwarded(Box<Forwarded>),
    /// Answered, broken off or closed: nothing is owed any more.
    Over,
}

#[derive(Debug)]
struct Reading {
    endpoint: Rc<Endpoint>,
    signature: Vec<u8>,
    /// The client's headers under our own prefix.
    forged: Vec<String>,
}

/// A genuine event that may have to go on.
#[derive(Debug)]
struct Case {
    endpoint: Rc<Endpoint>,
    event: Event,
    key: EventKey,
    verified: Verified,
    forged: Vec<String>,
}

#[derive(Debug)]
struct Forwarded {
    case: Case,
    claim: Option<Token>,
    answer: Option<HandlerAnswer>,
}

/// Proof of a claim.
#[derive(Debug)]
struct Token {
    token: String,
    ttl: Span,
}

/// What is known of the handler's answer.
#[derive(Clone, Copy, Debug)]
struct HandlerAnswer {
    status: u16,
    is_complete: bool,
}

impl Delivery {
    /// A delivery of which nothing has been seen. No other delivery that this Envoy handles may have the same owner.
    #[must_use]
    pub fn new(config: Rc<WebhookConfig>, owner: Owner) -> Self {
        Self { config, owner, stage: Stage::Unread, effects: VecDeque::new() }
    }

    /// Takes what happened, and says what becomes of the data that it brought; then drain [`Delivery::poll_effect`].
    pub fn handle(&mut self, input: Input<'_>, now: Now, shelf: &mut dyn Shelf) -> Flow {
        let is_response = matches!(input, Input::ResponseHeaders { .. } | Input::ResponseBody { .. });
        let is_stray = matches!(input, Input::Answered(_)) && !matches!(self.stage, Stage::Claiming { .. });
        self.stage = match (core::mem::replace(&mut self.stage, Stage::Over), input) {
            (Stage::Unread, Input::RequestHeaders { headers, end, .. }) => self.open(headers, end),
            (Stage::Reading(reading), Input::RequestBody { size, end, body }) => {
                self.read(reading, size, end, body, now, shelf)
            }
            (Stage::Reading(reading), Input::RequestTrailers { body }) => {
                self.check(reading, body.unwrap_or_default(), now, shelf)
            }
            (Stage::Claiming { case, asked }, Input::Answered(answer)) => {
                self.effects.push_back(Effect::Count(Metric::WaitMs(now.mono.since(asked).millis())));
                self.answered(*case, answer, now, shelf)
            }
            (Stage::Forwarded(forwarded), Input::ResponseHeaders { headers, end }) => {
                self.handler_answers(forwarded, headers, end)
            }
            (Stage::Forwarded(mut forwarded), Input::ResponseBody { end, .. }) => {
                if let Some(answer) = &mut forwarded.answer {
                    answer.is_complete |= end;
                }
                Stage::Forwarded(forwarded)
            }
            (Stage::Forwarded(forwarded), Input::Closed { flags, .. }) => {
                self.settle(*forwarded, flags, now, shelf)
            }
            // Envoy answers in our place (too large, idle for too long), or the client left.
            (Stage::Reading(reading), Input::ResponseHeaders { .. } | Input::Closed { .. }) => {
                self.count(&reading.endpoint.id, "broken_off");
                Stage::Over
            }
            (Stage::Claiming { case, .. }, Input::ResponseHeaders { .. } | Input::Closed { .. }) => {
                self.abandon(&case, now, shelf)
            }
            (Stage::Unread, Input::RequestBody { .. } | Input::RequestTrailers { .. }) => {
                self.bug("body_without_headers");
                self.reply(503, "Not checked", &[])
            }
            (_, Input::Closed { .. }) => Stage::Over,
            // What else may come changes nothing: an answer of our own on its way out, trailers after the end.
            (stage, _) => stage,
        };
        if is_stray {
            self.bug("answer_without_question");
        }
        let is_forwarded = matches!(self.stage, Stage::Forwarded(_)) && !is_stray;
        if is_response || is_forwarded { Flow::Continue } else { Flow::Pause }
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// How many bytes of the body are wanted at its end, at most; `None` if it is not.
    #[must_use]
    pub fn body_wanted(&self) -> Option<usize> {
        if let Stage::Reading(reading) = &self.stage { Some(reading.endpoint.body_bytes_max) } else { None }
    }

    /// Everything that the headers alone decide.
    fn open(&mut self, headers: &Headers, end: bool) -> Stage {
        let config = Rc::clone(&self.config);
        let (method, path) = (headers.text(":method"), headers.text(":path"));
        let endpoint = match config.endpoints.find(method.unwrap_or_default(), path.unwrap_or_default()) {
            Match::Route(endpoint) => Rc::clone(endpoint),
            Match::OtherMethod { allow } => {
                self.count("none", "other_method");
                return self.reply(405, "Method not allowed", &[("allow", allow)]);
            }
            // The filter runs on this route, so somebody expects it to be checked: never let it through unchecked.
            Match::None => {
                self.count("none", "unknown_path");
                return self.reply(403, "Not offered here", &[]);
            }
        };
        let mut signatures = headers.all(HEADER_SIGNATURE);
        let signature = match (signatures.next(), signatures.next()) {
            (Some(signature), None) => signature.to_vec(),
            (None, _) => return self.refuse(&endpoint, Forgery::NoHeader.as_str()),
            (Some(_), Some(_)) => return self.refuse(&endpoint, Forgery::SeveralHeaders.as_str()),
        };
        let declared = headers.text("content-length").map(str::parse);
        match declared {
            _ if headers.has("upgrade") => return self.refuse(&endpoint, "upgrade"),
            _ if end => return self.refuse(&endpoint, "empty_body"),
            Some(Ok(bytes)) if endpoint.body_bytes_max < bytes => return self.too_large(&endpoint),
            // Counted below, whatever was declared.
            _ => {}
        }
        let forged = headers.names_under(OWN_HEADERS).into_iter().map(str::to_owned).collect();
        Stage::Reading(Reading { endpoint, signature, forged })
    }

    fn read(
        &mut self,
        reading: Reading,
        size: usize,
        end: bool,
        body: Option<&[u8]>,
        now: Now,
        shelf: &mut dyn Shelf,
    ) -> Stage {
        match body {
            _ if size > reading.endpoint.body_bytes_max => self.too_large(&reading.endpoint),
            _ if !end => Stage::Reading(reading),
            None if size > 0 => {
                self.bug("body_missing");
                self.reply(503, "Not checked", &[])
            }
            body => self.check(reading, body.unwrap_or_default(), now, shelf),
        }
    }

    /// The body is complete: is it Stripe's, which event is it, and is it wanted?
    fn check(&mut self, reading: Reading, body: &[u8], now: Now, shelf: &mut dyn Shelf) -> Stage {
        let Reading { endpoint, signature, forged } = reading;
        if body.is_empty() {
            return self.refuse(&endpoint, "empty_body");
        }
        if body.len() > endpoint.body_bytes_max {
            return self.too_large(&endpoint);
        }
        let verified = match verify(&[&signature], body, &endpoint.secrets, endpoint.tolerance, now.wall) {
            Ok(verified) => verified,
            Err(forgery) => return self.refuse(&endpoint, forgery.as_str()),
        };
        let event = match Event::read(body) {
            Ok(event) => event,
            Err(error) => {
                self.log(Level::Warn, &endpoint, &format!("signed, but no event: {error}"));
                return self.refuse(&endpoint, error.as_str());
            }
        };
        self.note("tollgate.event", event.id.as_str());
        if !endpoint.livemode.allows(event.livemode) {
            return self.acknowledge(&endpoint, "wrong_mode", false);
        }
        if !endpoint.forwards(&event.kind) {
            return self.acknowledge(&endpoint, "unwanted_type", false);
        }
        let key = EventKey::of(&endpoint.id, event.livemode, &event.account, &event.id);
        self.begin(Case { endpoint, event, key, verified, forged }, now, shelf)
    }

    /// Marks it as in flight in this Envoy's memory, and forwards it or asks for a claim.
    fn begin(&mut self, case: Case, now: Now, shelf: &mut dyn Shelf) -> Stage {
        let begun = self.mark(&case, case.endpoint.dedupe.in_flight, now, shelf);
        if begun != Begun::Fresh {
            return self.not_fresh(&case, begun);
        }
        match case.endpoint.dedupe.mode {
            DedupeMode::Upstream => self.forward(case, None, false),
            DedupeMode::Claim { .. } => {
                let claim = self.claim(&case, now);
                self.effects.push_back(Effect::Ask(Question::Claim(claim)));
                Stage::Claiming { case: Box::new(case), asked: now.mono }
            }
        }
    }

    fn mark(&mut self, case: &Case, span: Span, now: Now, shelf: &mut dyn Shelf) -> Begun {
        let mut seen = Seen::on(shelf);
        let begun = seen.begin(case.key, self.owner, now.wall, span);
        if seen.damaged() {
            self.fault("seen_damaged");
        }
        begun
    }

    fn not_fresh(&mut self, case: &Case, begun: Begun) -> Stage {
        match begun {
            Begun::Accepted => self.acknowledge(&case.endpoint, "duplicate", true),
            Begun::InFlight { .. } => self.turn_away(&case.endpoint, 409, "in_flight"),
            Begun::Contended => self.turn_away(&case.endpoint, 503, "memory_contended"),
            Begun::Full => self.turn_away(&case.endpoint, 503, "memory_full"),
            Begun::Fresh => {
                self.bug("fresh_turned_away");
                self.turn_away(&case.endpoint, 503, "bug")
            }
        }
    }

    /// Billing has answered the claim, or nobody has.
    fn answered(&mut self, case: Case, answer: Answer, now: Now, shelf: &mut dyn Shelf) -> Stage {
        match answer {
            Answer::Claimed(ClaimAnswer::Fresh { token, ttl_ms }) => {
                self.claimed(case, Token { token, ttl: Span::from_millis(ttl_ms) }, now, shelf)
            }
            Answer::Claimed(ClaimAnswer::Done) => {
                self.remember(&case, now, shelf);
                self.acknowledge(&case.endpoint, "duplicate", true)
            }
            Answer::Claimed(ClaimAnswer::InFlight { .. }) => {
                self.release(&case, now, shelf);
                self.turn_away(&case.endpoint, 409, "in_flight")
            }
            Answer::Unavailable(fault) => self.unclaimed(case, fault, now, shelf),
            Answer::Ok(_) | Answer::Refused(_) => {
                self.bug("claim_answered_as_need");
                self.unclaimed(case, Fault::Nonsense, now, shelf)
            }
        }
    }

    /// The claim is ours. The mark in this Envoy's memory, which may have run out meanwhile, is made to last as long.
    fn claimed(&mut self, case: Case, token: Token, now: Now, shelf: &mut dyn Shelf) -> Stage {
        let begun = self.mark(&case, token.ttl.max(case.endpoint.dedupe.in_flight), now, shelf);
        if begun == Begun::Fresh {
            return self.forward(case, Some(token), false);
        }
        let outcome = match begun {
            Begun::Accepted => CompleteOutcome::Accepted,
            _ => CompleteOutcome::Failed,
        };
        self.complete(&case, token, outcome);
        self.release(&case, now, shelf);
        self.not_fresh(&case, begun)
    }

    fn unclaimed(&mut self, case: Case, fault: Fault, now: Now, shelf: &mut dyn Shelf) -> Stage {
        self.note("tollgate.fault", fault.as_str());
        if case.endpoint.dedupe.mode == (DedupeMode::Claim { on_unavailable: OnClaimUnavailable::Forward }) {
            // The mark may have run out during the wait: only who holds it may forward.
            let begun = self.mark(&case, case.endpoint.dedupe.in_flight, now, shelf);
            if begun == Begun::Fresh {
                return self.forward(case, None, true);
            }
            self.release(&case, now, shelf);
            return self.not_fresh(&case, begun);
        }
        self.release(&case, now, shelf);
        self.turn_away(&case.endpoint, 503, "claim_unavailable")
    }

    fn forward(&mut self, case: Case, claim: Option<Token>, is_unchecked: bool) -> Stage {
        let removed = case.forged.iter().cloned().map(|name| Effect::RemoveRequestHeader(name.into()));
        self.effects.extend(removed);
        let livemode = if case.event.livemode { "true" } else { "false" };
        let verified_at = case.verified.at.to_rfc3339();
        let mut stamps = vec![
            ("x-tollgate-event-id", case.event.id.as_str()),
            ("x-tollgate-event-type", &case.event.kind),
            ("x-tollgate-event-account", &case.event.account),
            ("x-tollgate-event-livemode", livemode),
            ("x-tollgate-event-verified-at", &verified_at),
        ];
        if is_unchecked {
            stamps.push(("x-tollgate-dedupe", "unavailable"));
        }
        let set = |(name, value): (&'static str, &str)| {
            Effect::SetRequestHeader(name.into(), value.to_owned().into())
        };
        self.effects.extend(stamps.into_iter().map(set));
        self.count(&case.endpoint.id, if is_unchecked { "forwarded_unclaimed" } else { "forwarded" });
        Stage::Forwarded(Box::new(Forwarded { case, claim, answer: None }))
    }

    fn handler_answers(&mut self, mut forwarded: Box<Forwarded>, headers: &Headers, end: bool) -> Stage {
        for name in headers.names_under(OWN_HEADERS) {
            self.effects.push_back(Effect::RemoveResponseHeader(name.to_owned().into()));
        }
        // What is not a status is not a success.
        let status: u16 = headers.text(":status").and_then(|status| status.parse().ok()).unwrap_or(0);
        if (300..400).contains(&status) {
            // Stripe follows no redirect and takes it for a failure; saying so makes the mistake visible.
            self.effects.push_back(Effect::SetResponseHeader(":status".into(), "502".into()));
            self.effects.push_back(Effect::RemoveResponseHeader("location".into()));
            self.count(&forwarded.case.endpoint.id, "handler_redirected");
        }
        forwarded.answer = Some(HandlerAnswer { status, is_complete: end });
        Stage::Forwarded(forwarded)
    }

    /// The stream is over: what the handler did with the event is now certain, or never will be.
    fn settle(&mut self, forwarded: Forwarded, flags: u64, now: Now, shelf: &mut dyn Shelf) -> Stage {
        let Forwarded { case, claim, answer } = forwarded;
        let is_whole = answer.is_some_and(|a| a.is_complete);
        // A client that left after the last byte has taken nothing back.
        let harmless = FLAGS_HARMLESS | if is_whole { FLAGS_CLIENT_LEFT } else { 0 };
        let is_accepted = answer.is_some_and(|a| (200..300).contains(&a.status)) && flags & !harmless == 0;
        let outcome = if is_accepted {
            self.remember(&case, now, shelf);
            self.count(&case.endpoint.id, "accepted");
            CompleteOutcome::Accepted
        } else {
            self.release(&case, now, shelf);
            self.count(&case.endpoint.id, "failed");
            let status = answer.map_or(0, |a| a.status);
            let text = format!("{} was not accepted (status {status}, flags {flags:#x})", case.event.id);
            self.log(Level::Warn, &case.endpoint, &text);
            CompleteOutcome::Failed
        };
        if let Some(token) = claim {
            self.complete(&case, token, outcome);
        }
        Stage::Over
    }

    fn abandon(&mut self, case: &Case, now: Now, shelf: &mut dyn Shelf) -> Stage {
        self.effects.push_back(Effect::Withdraw);
        self.release(case, now, shelf);
        self.count(&case.endpoint.id, "broken_off");
        Stage::Over
    }

    fn remember(&mut self, case: &Case, now: Now, shelf: &mut dyn Shelf) {
        let marked = Seen::on(shelf).accept(case.key, self.owner, now.wall, case.endpoint.dedupe.remember);
        if marked == Marked::Missed {
            self.fault("seen_accept_missed");
        }
    }

    fn release(&mut self, case: &Case, now: Now, shelf: &mut dyn Shelf) {
        if Seen::on(shelf).release(case.key, self.owner, now.wall) == Marked::Missed {
            self.fault("seen_release_missed");
        }
    }

    fn claim(&self, case: &Case, now: Now) -> Claim {
        // The time tells this delivery from one that had the same owner before a restart.
        let claimant = format!("{}/{:x}/{:x}", self.config.billing.node, self.owner.0, now.wall.micros());
        Claim {
            endpoint: case.endpoint.id.clone(),
            livemode: case.event.livemode,
            account: case.event.account.clone(),
            event_id: case.event.id.clone(),
            event_type: case.event.kind.clone(),
            claimant,
        }
    }

    fn complete(&mut self, case: &Case, token: Token, outcome: CompleteOutcome) {
        let complete = Complete {
            endpoint: case.endpoint.id.clone(),
            livemode: case.event.livemode,
            account: case.event.account.clone(),
            event_id: case.event.id.clone(),
            token: token.token,
            outcome,
        };
        self.effects.push_back(Effect::Tell(Report::Completed { complete, ttl: token.ttl }));
    }
}

#[cfg(test)]
mod tests;
