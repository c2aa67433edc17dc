//! Judges what did not end well, once it is known how the machine was meanwhile: late, and by what happened at that time.

use crate::field::{Ended, Field, HUNG};
use crate::tally::{During, Who};
use serde_json::Value;
use stage::client::Answer;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A 5xx that is not the documented `deny` of a route whose gateway or billing was not itself.
pub(crate) const FIVE: &str = "5xx that nothing excuses";

type Judgement = Box<dyn FnOnce(&Field) + Send>;

/// What waits for its judgement.
#[derive(Default)]
pub(crate) struct Docket(Mutex<Vec<(Instant, Judgement)>>);

impl Docket {
    fn put(&self, at: Instant, judgement: Judgement) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((at, judgement));
    }

    /// What was over before that instant.
    fn due(&self, known: Instant) -> Vec<Judgement> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extract_if(.., |(at, _)| *at < known).map(|(_, judgement)| judgement).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// A request that did not end as all of them should.
pub(crate) struct Case {
    /// Whose, for the names of counters.
    pub(crate) kind: &'static str,
    /// Under which name it would be charged.
    pub(crate) name: String,
    pub(crate) gateway: usize,
    pub(crate) during: During,
    pub(crate) ended: Ended,
    /// Whoever sends it does not keep away from an Envoy that is killed.
    pub(crate) risks: bool,
    /// What it is counted as if nothing excuses it.
    pub(crate) defect: &'static str,
}

impl Field {
    /// Judges as soon as it is known how the machine was until the end of that time.
    pub(crate) fn judge_later(&self, during: During, judgement: impl FnOnce(&Self) + Send + 'static) {
        self.docket.put(during.to, Box::new(judgement));
    }

    /// The same for a request.
    pub(crate) fn judge(&self, case: Case) {
        self.judge_later(case.during, |field| case.judged(field));
    }

    /// Judges what was over at an instant until which all that happened is known.
    pub(crate) fn judge_until(&self, known: Instant) {
        for judgement in self.docket.due(known) {
            judgement(self);
        }
    }

    /// Was billing, this Envoy, its way to billing, or the whole machine not itself at some time meanwhile?
    pub(crate) fn excuse(&self, during: During, gateway: usize) -> Option<Who> {
        self.tally.troubled(during, &Who::that_excuse(gateway % 2))
    }

    /// Whether a connection may have broken because it was one of an earlier configuration, whose time was over. Of a request
    /// on it nobody can say here whether it was delivered, and so whether it is charged: it is in doubt.
    pub(crate) fn is_cut(&self, kind: &str, name: &str, during: During, gateway: usize) -> bool {
        let cut = self.tally.cut(during, Who::Old(gateway % 2));
        if cut {
            self.tally.count(&format!("{kind}: cut with an old configuration"));
            self.tally.count(&format!("cut {name}"));
        }
        cut
    }

    /// Whether a connection broke with its Envoy, which was killed, or stopped so long that its timeouts were over.
    pub(crate) fn is_broken_off(&self, kind: &str, during: During, gateway: usize) -> bool {
        let gateway = gateway % 2;
        let who = self.tally.troubled(during, &[Who::Envoy(gateway), Who::Still(gateway)]);
        if let Some(who) = who {
            self.tally.count(&format!("{kind}, connection broken: {}", who.told()));
        }
        who.is_some()
    }

    /// Whether a 5xx to whoever asks for what an upstream delivers well is the route's `deny`, in a window. It is counted by
    /// what excuses it; any other is a defect, whoever made it.
    pub(crate) fn is_policy(&self, kind: &str, during: During, gateway: usize, answer: &Answer) -> bool {
        let excuse = self.excuse(during, gateway);
        let known = excuse.filter(|_| is_deny(answer));
        match known {
            Some(who) => self.tally.count(&format!("{kind}, denied (503): {}", who.told())),
            None => {
                let told = format!("{kind} at gateway {}: {} {}", gateway % 2, answer.status, answer.text());
                self.tally.odd(FIVE, format!("{told} ({excuse:?})"));
            }
        }
        known.is_some()
    }
}

impl Case {
    fn judged(self, field: &Field) {
        let Self { kind, name, gateway, during, ended, risks, defect } = self;
        let told = match ended {
            Ended::Hung => return field.tally.odd("hung", format!("{name}: longer than {HUNG:?}")),
            Ended::Answered(answer) if answer.status >= 500 => {
                field.is_policy(kind, during, gateway, &answer);
                return;
            }
            Ended::Broken(_) if field.is_cut(kind, &name, during, gateway) => return,
            Ended::Broken(_) if risks && field.is_broken_off(kind, during, gateway) => return,
            Ended::Answered(answer) => format!("{} {}", answer.status, answer.text()),
            Ended::Broken(why) => why,
        };
        let (gateway, excuse) = (gateway % 2, field.excuse(during, gateway));
        field.tally.odd(defect, format!("{name} at gateway {gateway}: {told} ({excuse:?})"));
    }
}

/// The documented answer of a route with `deny` when billing cannot be asked: a 503 with its reason, made by the filter.
pub(crate) fn is_deny(answer: &Answer) -> bool {
    let reason = answer.json().get("reason").and_then(Value::as_str).map(str::to_owned);
    answer.status == 503 && reason.as_deref() == Some("service_unavailable")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_was_not_over_yet_waits() {
        let (docket, now) = (Docket::default(), Instant::now());
        docket.put(now, Box::new(|_| ()));
        assert!(docket.due(now).is_empty() && !docket.is_empty());
        assert_eq!(docket.due(now + Duration::from_millis(1)).len(), 1);
        assert!(docket.is_empty());
    }
}
