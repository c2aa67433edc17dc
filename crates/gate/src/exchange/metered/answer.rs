//! The second half of a metered request: the answer on its way, and what is charged when it is over.

use super::bill::{Bill, Heard, bill};
use super::relay::{Relay, of_envoy};
use super::{Metered, OWN, Stage};
use crate::exchange::terms;
use crate::input::{EnvoyUsage, Headers, Now};
use crate::worker::{Ended, Pass, Report};
use crate::{Effect, Metric};
use contract::v1::{NeedShape, Outcome};
use units::Amount;

/// What the answer's headers said.
#[derive(Clone, Copy, Debug)]
pub(super) struct UpstreamAnswer {
    status: u64,
    /// A trusted upstream asked not to charge for it.
    free: bool,
}

impl UpstreamAnswer {
    /// True if something was delivered that is to be charged.
    const fn delivers(self) -> bool {
        matches!(self, Self { status: 200..=299, free: false })
    }
}

impl Metered {
    pub(super) fn on_response(&mut self, headers: &Headers, now: Now) {
        match &mut self.stage {
            // Our own reply comes by here too; it has everything already.
            Stage::Replied | Stage::Closed => return,
            // Envoy answers in our place (too large, idle for too long): nothing goes on any more.
            Stage::Unread | Stage::Reading(_) | Stage::Waiting { .. } | Stage::Ready(_) => {
                self.overtaken(now)
            }
            Stage::Forwarded { .. } => {}
        }
        for name in headers.names_under(OWN) {
            self.effects.push_back(Effect::RemoveResponseHeader(name.to_owned().into()));
        }
        let id = self.request_id().shared().into();
        self.effects.push_back(Effect::SetResponseHeader("x-tollgate-request-id".into(), id));
        if let Stage::Forwarded { pass, answer } = &mut self.stage {
            let status = headers.text(":status").and_then(|text| text.parse().ok()).unwrap_or(0);
            let free = headers.text("x-tollgate-charge") == Some("none");
            *answer = Some(UpstreamAnswer { status, free });
            let (Some(pass), Some(metering)) = (pass, &self.metering) else {
                // What has no price is told all the same who it was for.
                if let Stage::Forwarded { pass: Some(pass), .. } = &self.stage {
                    self.effects.extend(terms::to_client(pass, Some(Amount::ZERO), now.wall));
                }
                return;
            };
            if matches!(status, 200..=299) && pass.hold.is_some() {
                self.relay = Relay::new(&metering.usage, headers, self.hides);
            }
            let delivered = matches!(status, 200..=299) && !free;
            let listed = pass.decided.as_ref().is_some_and(|decided| decided.list().is_some());
            let charged = match &self.relay {
                _ if !delivered => Some(Amount::ZERO),
                _ if !listed => Some(pass.held.saturating_sub(pass.paid)),
                Relay::Headers(heard) => {
                    let shape = self.measured.as_ref().map(|measured| &measured.shape);
                    Some(bill(pass, metering, shape, heard, Outcome::Charged).charged)
                }
                Relay::Body { .. } | Relay::Unread => None,
            };
            self.effects.extend(terms::to_client(pass, charged, now.wall));
            if self.relay.hides() {
                self.effects.push_back(Effect::RemoveResponseHeader("content-length".into()));
            }
        }
    }

    /// The last that a client is told of, if it listens: what the request cost.
    pub(super) fn on_trailers(&mut self) {
        let Stage::Forwarded { pass: Some(pass), answer } = &self.stage else { return };
        let listed = pass.decided.as_ref().is_some_and(|decided| decided.list().is_some());
        if !listed || pass.hold.is_none() || !answer.is_some_and(UpstreamAnswer::delivers) {
            return;
        }
        let Some(metering) = &self.metering else { return };
        let shape = self.measured.as_ref().map(|measured| &measured.shape);
        let Bill { charged, beyond, .. } = bill(pass, metering, shape, &self.relay.heard(), Outcome::Charged);
        let all = charged.checked_add(beyond).unwrap_or(Amount::MAX);
        let text = terms::charge_text(pass, all);
        self.effects.push_back(Effect::SetResponseTrailer("x-tollgate-charged".into(), text));
    }

    pub(super) fn on_closed(&mut self, code: Option<u64>, flags: u64, usage: Option<&EnvoyUsage>, now: Now) {
        match core::mem::replace(&mut self.stage, Stage::Closed) {
            before @ (Stage::Waiting { .. } | Stage::Ready(_)) => {
                self.stage = before;
                self.overtaken(now);
            }
            Stage::Forwarded { pass: Some(pass), answer } => {
                // Should the answer's headers have gone unseen, the status that Envoy logs says what they were.
                let answer = answer.or(code.map(|status| UpstreamAnswer { status, free: false }));
                let mut outcome = terms::outcome(answer.map(|a| (a.status, a.free)), flags);
                let heard = usage.map_or_else(|| self.relay.heard(), of_envoy);
                let answer = answer.filter(|answer| !(answer.delivers() && heard.delivered_nothing()));
                if answer.is_none() && outcome == Outcome::Charged {
                    outcome = Outcome::Failed;
                }
                let bill = self.bill(&pass, answer, &heard, outcome);
                self.settle(&pass, bill, outcome, now);
            }
            Stage::Unread
            | Stage::Reading(_)
            | Stage::Forwarded { pass: None, .. }
            | Stage::Replied
            | Stage::Closed => {}
        }
    }

    /// Only what was delivered costs anything.
    fn bill(&mut self, pass: &Pass, answer: Option<UpstreamAnswer>, heard: &Heard, outcome: Outcome) -> Bill {
        let Some(metering) = self.metering.clone().filter(|_| answer.is_some_and(UpstreamAnswer::delivers))
        else {
            return Bill::default();
        };
        let shape = self.measured.as_ref().map(|measured| &measured.shape);
        let bill = bill(pass, &metering, shape, heard, outcome);
        if heard.odd {
            self.effects.push_back(Effect::Count(Metric::Fault { fault: "usage_odd" }));
        }
        if let Some(fault) = bill.fault {
            self.effects.push_back(Effect::Count(Metric::Fault { fault }));
        }
        if let (Some(basis), Some(endpoint)) = (bill.basis, &self.endpoint)
            && !metering.is_fixed()
        {
            let (endpoint, basis) = (endpoint.shared().into(), basis.as_str());
            self.effects.push_back(Effect::Count(Metric::Charged { endpoint, basis }));
        }
        bill
    }

    pub(super) fn give_back(&mut self, pass: Option<&Pass>, now: Now) {
        if let Some(pass) = pass {
            self.settle(pass, Bill::default(), Outcome::NotForwarded, now);
        }
    }

    fn settle(&mut self, pass: &Pass, bill: Bill, outcome: Outcome, now: Now) {
        let Some(hold) = pass.hold else { return };
        let Bill { charged, beyond, tokens, basis, .. } = bill;
        let all = charged.checked_add(beyond).unwrap_or(Amount::MAX);
        self.note("tollgate.charged", terms::charge_text(pass, all));
        if let Some(basis) = basis {
            self.note("tollgate.basis", basis.as_str());
        }
        let shape = match (&pass.decided, &self.measured) {
            (None, Some(measured)) => measured.afterwards(tokens.as_ref()),
            _ => NeedShape::Fixed,
        };
        let (request_id, at) = (self.request_id().clone(), now.wall);
        let ended = Ended { hold, charged, beyond, outcome, tokens, basis, shape, request_id, at };
        self.effects.push_back(Effect::Tell(Report::Ended(ended)));
    }
}
