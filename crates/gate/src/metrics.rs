//! Every metric that the filter can emit, in one list with the question that each answers; what is not in it is not counted.
//!
//! Envoy has no labels for a filter's metrics: they are parts of the name, `.label.value` each, which `stats_tags` in
//! Envoy's file take out again. Labels have closed sets of values, so that every series can be there from the start and
//! their number is bounded: by those sets, and by the endpoints that the configuration names.

use crate::Metric;
use crate::config::{Config, Priced, Terms};
use crate::text::Text;
use crate::worker::Fault;
use contract::v1::{Basis, Outcome, Reason};
use webhook::Forgery;

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// As it is scraped.
    pub name: &'static str,
    /// `counter` or `histogram`.
    pub kind: &'static str,
    /// Its labels, in the order in which they stand in Envoy's name of a series.
    pub labels: &'static [&'static str],
    /// The question that it answers.
    pub question: &'static str,
}

/// The list. `docs/metrics.md` tells the same, and a test compares them.
pub const LIST: [Family; 10] = [
    Family {
        name: "tollgate_requests_total",
        kind: "counter",
        labels: &["endpoint", "decision"],
        question: "What was decided about the requests for an endpoint?",
    },
    Family {
        name: "tollgate_shadowed_total",
        kind: "counter",
        labels: &["decision"],
        question: "What would have been refused, were the mode not shadow?",
    },
    Family {
        name: "tollgate_ended_total",
        kind: "counter",
        labels: &["outcome"],
        question: "How did requests end that held something?",
    },
    Family {
        name: "tollgate_charged_total",
        kind: "counter",
        labels: &["endpoint", "basis"],
        question: "How is it known what requests used whose price depends on it?",
    },
    Family {
        name: "tollgate_webhooks_total",
        kind: "counter",
        labels: &["endpoint", "outcome"],
        question: "What became of the deliveries of events?",
    },
    Family {
        name: "tollgate_calls_total",
        kind: "counter",
        labels: &["call", "result"],
        question: "How do calls to billing end?",
    },
    Family {
        name: "tollgate_recalls_total",
        kind: "counter",
        labels: &[],
        question: "How often did leases go back because billing asked for them?",
    },
    Family {
        name: "tollgate_faults_total",
        kind: "counter",
        labels: &["fault"],
        question: "Which part of the world fails, and how often?",
    },
    Family {
        name: "tollgate_bugs_total",
        kind: "counter",
        labels: &["bug"],
        question: "Is an invariant of the filter broken? Alert on any.",
    },
    Family {
        name: "tollgate_wait_ms",
        kind: "histogram",
        labels: &[],
        question: "How long do requests and deliveries wait for a decision of billing?",
    },
];

/// Where no rule, or no webhook endpoint, covers a request.
const NO_ENDPOINT: &str = "none";
const DECISIONS: [&str; 7] =
    ["pass", "repeat", "unpaid", "identified", "vouched", "preflight", "left_waiting"];
const REFUSALS: [&str; 4] =
    ["method_not_allowed", "body_too_large", "request_unreadable", "idempotency_key_unfit"];
/// Of deliveries; [`Forgery`]'s besides.
const DELIVERIES: [&str; 26] = [
    "accepted",
    "bad_text",
    "broken_off",
    "bug",
    "claim_unavailable",
    "duplicate",
    "empty_body",
    "failed",
    "forwarded",
    "forwarded_unclaimed",
    "handler_redirected",
    "in_flight",
    "memory_contended",
    "memory_full",
    "missing_field",
    "not_an_event",
    "not_an_object",
    "not_json",
    "not_utf8",
    "repeated_field",
    "too_deep",
    "too_large",
    "unwanted_type",
    "upgrade",
    "wrong_mode",
    "wrong_type",
];
/// Of deliveries that no endpoint is for.
const NOWHERE: [&str; 2] = ["other_method", "unknown_path"];
const CALLS: [&str; 5] = ["hello", "sync", "claim", "complete", "watch"];
const FAULTS: [&str; 18] = [
    "attribute_unfit",
    "claim_stale",
    "completion_lost",
    "end_without_cell",
    "report_not_taken",
    "seen_accept_missed",
    "seen_damaged",
    "seen_release_missed",
    "slot_busy",
    "slot_foreign",
    "slot_malformed",
    "slot_taken",
    "stream_gone",
    "unacknowledged",
    "unpaid_allowance",
    "usage_odd",
    "used_beyond_hold",
    "worker_lost",
];
const BUGS: [&str; 14] = [
    "answer_not_replaced",
    "answer_without_call",
    "answer_without_question",
    "body_before_headers",
    "body_missing",
    "body_not_edited",
    "body_without_headers",
    "charged_beyond_hold",
    "claim_answered_as_need",
    "claim_for_a_need",
    "effect_out_of_phase",
    "end_without_hold",
    "fresh_turned_away",
    "headers_again",
];

impl Metric {
    /// Which of [`LIST`] it is, and the values of its labels.
    #[must_use]
    pub fn series(&self) -> (&'static str, Vec<&str>) {
        match self {
            Self::Request { endpoint, decision } => ("tollgate_requests_total", vec![endpoint, decision]),
            Self::Shadowed { decision } => ("tollgate_shadowed_total", vec![decision]),
            Self::Ended { outcome } => ("tollgate_ended_total", vec![outcome]),
            Self::Charged { endpoint, basis } => ("tollgate_charged_total", vec![endpoint, basis]),
            Self::Webhook { endpoint, outcome } => ("tollgate_webhooks_total", vec![endpoint, outcome]),
            Self::Call { call, result } => ("tollgate_calls_total", vec![call, result]),
            Self::Fault { fault } => ("tollgate_faults_total", vec![fault]),
            Self::Bug { bug } => ("tollgate_bugs_total", vec![bug]),
            Self::Recalled => ("tollgate_recalls_total", Vec::new()),
            Self::WaitMs(_) => ("tollgate_wait_ms", Vec::new()),
        }
    }

    /// True if its labels have values of the closed sets.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        match self {
            Self::Request { decision, .. } => decisions().contains(decision),
            Self::Shadowed { decision } => refusals().contains(decision),
            Self::Ended { outcome } => Outcome::ALL.iter().any(|known| known.as_str() == *outcome),
            Self::Charged { basis, .. } => Basis::ALL.iter().any(|known| known.as_str() == *basis),
            Self::Webhook { endpoint, outcome } => {
                deliveries().contains(outcome) || (*endpoint == NO_ENDPOINT && NOWHERE.contains(outcome))
            }
            Self::Call { call, result } => CALLS.contains(call) && results().contains(result),
            Self::Fault { fault } => faults().contains(fault),
            Self::Bug { bug } => BUGS.contains(bug),
            Self::Recalled | Self::WaitMs(_) => true,
        }
    }
}

/// Every series that an instance with this configuration can emit; the values of histograms mean nothing.
#[must_use]
pub fn all(config: &Config) -> Vec<Metric> {
    let mut all = vec![Metric::WaitMs(0)];
    let results = results();
    for call in CALLS {
        all.extend(results.iter().map(|result| Metric::Call { call, result }));
    }
    all.extend(faults().iter().map(|fault| Metric::Fault { fault }));
    all.extend(BUGS.iter().map(|bug| Metric::Bug { bug }));
    match config {
        Config::Ai(ai) => {
            let mut endpoints = vec![NO_ENDPOINT];
            for route in ai.routes.iter() {
                match &route.terms {
                    Terms::Priced(Priced { endpoint, .. }) | Terms::Free { endpoint }
                        if !endpoints.contains(&endpoint.as_str()) =>
                    {
                        endpoints.push(endpoint.as_str());
                    }
                    Terms::Priced(_) | Terms::Free { .. } | Terms::Vouch => {}
                }
            }
            let decisions = decisions();
            for route in ai.routes.iter() {
                let Terms::Priced(Priced { endpoint, metering, .. }) = &route.terms else { continue };
                if !metering.is_fixed() {
                    let of = |basis: Basis| Metric::Charged {
                        endpoint: endpoint.as_str().to_owned().into(),
                        basis: basis.as_str(),
                    };
                    all.extend(Basis::ALL.map(of));
                }
            }
            for endpoint in endpoints.into_iter().map(|id| Text::Own(id.to_owned())) {
                let of = |decision: &&'static str| Metric::Request { endpoint: endpoint.clone(), decision };
                all.extend(decisions.iter().map(of));
            }
            all.push(Metric::Recalled);
            all.extend(Outcome::ALL.map(|outcome| Metric::Ended { outcome: outcome.as_str() }));
            all.extend(refusals().iter().map(|decision| Metric::Shadowed { decision }));
        }
        Config::Webhook(webhook) => {
            let deliveries = deliveries();
            let of =
                |endpoint: &str, outcome| Metric::Webhook { endpoint: endpoint.to_owned().into(), outcome };
            for endpoint in webhook.endpoints.iter() {
                all.extend(deliveries.iter().map(|outcome| of(&endpoint.id, outcome)));
            }
            all.extend(NOWHERE.iter().map(|outcome| of(NO_ENDPOINT, outcome)));
        }
    }
    all
}

fn refusals() -> Vec<&'static str> {
    [&REFUSALS[..], &Reason::ALL.map(Reason::as_str)].concat()
}

fn decisions() -> Vec<&'static str> {
    [&DECISIONS[..], &refusals()].concat()
}

fn deliveries() -> Vec<&'static str> {
    [&DELIVERIES[..], &Forgery::ALL.map(Forgery::as_str)].concat()
}

fn results() -> Vec<&'static str> {
    [&["ok"][..], &Fault::ALL.map(Fault::as_str)].concat()
}

fn faults() -> Vec<&'static str> {
    [&FAULTS[..], &Fault::ALL.map(Fault::as_str)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_series_belongs_to_one_of_the_list_and_has_its_labels() {
        for metric in [
            Metric::Request { endpoint: "chat".into(), decision: "pass" },
            Metric::Shadowed { decision: "unauthenticated" },
            Metric::Ended { outcome: "charged" },
            Metric::Charged { endpoint: "chat".into(), basis: "stated" },
            Metric::Webhook { endpoint: "stripe".into(), outcome: "mismatch" },
            Metric::Webhook { endpoint: "none".into(), outcome: "unknown_path" },
            Metric::Call { call: "sync", result: "late" },
            Metric::Fault { fault: "backlog" },
            Metric::Bug { bug: "headers_again" },
            Metric::WaitMs(1),
        ] {
            let (name, values) = metric.series();
            let family = LIST.into_iter().find(|family| family.name == name);
            assert_eq!(family.map(|family| family.labels.len()), Some(values.len()), "{metric:?}");
            assert!(metric.is_listed(), "{metric:?}");
        }
        assert!(!Metric::Bug { bug: "unheard_of" }.is_listed());
        assert!(!Metric::Call { call: "sync", result: "unheard_of" }.is_listed());
    }

    #[test]
    fn each_answers_a_question() {
        let questions: BTreeSet<_> = LIST.iter().map(|family| family.question).collect();
        assert!(questions.len() == LIST.len() && questions.iter().all(|question| question.contains('?')));
    }
}
