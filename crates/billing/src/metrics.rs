//! Everything that the service counts, in one list with the question that each metric answers; in Prometheus' text format
//! (version 0.0.4).
//!
//! Labels have closed sets of values, and every series is there from the start: their number is bounded, and a rate can be
//! taken of the first event too.

use crate::error::{Error, Invalid};
use crate::store::EventStatus;
use contract::v1::{Outcome, Reason};
use ledger::ReportRefused;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One metric. What is not in [`LIST`] cannot be counted.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// As it is scraped.
    pub name: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// Its label; empty if it has none.
    pub label: &'static str,
    /// Every value that the label can have.
    pub values: fn() -> Vec<&'static str>,
    /// The question that it answers.
    pub question: &'static str,
}

/// Every metric of the service. `docs/metrics.md` tells the same, and a test compares them.
pub const LIST: [Family; 15] = [
    counter(
        "tollgate_billing_calls_total",
        "call",
        || vec!["hello", "sync", "claim", "complete", "watch", "ext_authz"],
        "How often do gateways call?",
    ),
    counter(
        "tollgate_billing_needs_total",
        "decision",
        || vec!["ok", "repeat", "retry", "refused"],
        "What was decided about requests that gateways asked about?",
    ),
    counter(
        "tollgate_billing_refusals_total",
        "reason",
        || Reason::ALL.map(Reason::as_str).to_vec(),
        "Why were requests refused?",
    ),
    counter(
        "tollgate_billing_usage_records_total",
        "outcome",
        || Outcome::ALL.map(Outcome::as_str).to_vec(),
        "How did the requests end that were paid for? Each record counts once, however often it is told.",
    ),
    counter(
        "tollgate_billing_claims_total",
        "answer",
        || vec!["fresh", "in_flight", "done"],
        "Are deliveries of events new, being handled, or done?",
    ),
    counter(
        "tollgate_billing_events_total",
        "outcome",
        events,
        "What became of Stripe's events? Look at review, conflict and parked.",
    ),
    counter(
        "tollgate_billing_duplicate_purchases_total",
        "",
        Vec::new,
        "How many events told of an account paying again for what it can have once only? One payment may be told by several. Nothing was granted for it.",
    ),
    counter("tollgate_billing_errors_total", "kind", errors, "What failed?"),
    counter("tollgate_billing_commits_total", "", Vec::new, "How often does the database sync to its disk?"),
    counter("tollgate_billing_commands_total", "", Vec::new, "How many commands did those commits hold?"),
    Family {
        name: "tollgate_billing_batch_size",
        kind: "gauge",
        label: "",
        values: Vec::new,
        question: "How many commands did the last commit hold?",
    },
    counter(
        "tollgate_billing_swept_total",
        "kind",
        || vec!["soft", "closed_clean", "closed_dirty"],
        "How many leases ran out unreported, and were they settled (clean), or by the crash policy (dirty)?",
    ),
    counter(
        "tollgate_billing_outbox_total",
        "outcome",
        || vec!["written", "accepted", "refused", "dead", "dropped"],
        "What became of the messages to others? dead was refused too often, dropped found the outbox full.",
    ),
    Family {
        name: "tollgate_billing_last_event_seconds",
        kind: "gauge",
        label: "",
        values: Vec::new,
        question: "When did Stripe's last event arrive, in Unix seconds? 0 if none ever did.",
    },
    Family {
        name: "tollgate_billing_clock_behind_seconds",
        kind: "gauge",
        label: "",
        values: Vec::new,
        question: "How far is the machine's clock behind the latest time that it told? As long as it is, nothing expires and no window begins anew.",
    },
];

const fn counter(
    name: &'static str,
    label: &'static str,
    values: fn() -> Vec<&'static str>,
    question: &'static str,
) -> Family {
    Family { name, kind: "counter", label, values, question }
}

fn events() -> Vec<&'static str> {
    let statuses = EventStatus::ALL.map(|(_, word)| word);
    statuses.into_iter().chain(["duplicate", "other_mode", "refused"]).collect()
}

/// Of calls, of the ledger's transactions, and of single reports inside of a call that succeeded.
fn errors() -> Vec<&'static str> {
    let calls = Invalid::ALL.into_iter().map(|kind| kind.told().1).chain(Error::OF_OURS);
    let reports = ReportRefused::ALL.iter().map(|why| why.as_str());
    calls.chain(["transaction", "unknown_grant", "overtaken", "refill"]).chain(reports).collect()
}

/// The series of all metrics, as they stand.
#[derive(Debug)]
pub struct Metrics {
    series: Mutex<BTreeMap<(&'static str, String), u64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let series = LIST.iter().flat_map(|family| {
            let values = if family.label.is_empty() { vec![""] } else { (family.values)() };
            values.into_iter().map(|value| ((family.name, labelled((family.label, value))), 0))
        });
        Self { series: Mutex::new(series.collect()) }
    }
}

impl Metrics {
    /// Counts `n` more of a series; `label` is (name, value).
    pub fn add(&self, name: &'static str, label: (&'static str, &str), n: u64) {
        let mut series = self.lock();
        let key = (name, labelled(label));
        debug_assert!(series.contains_key(&key), "{key:?} is counted, and not in the list");
        let count = series.entry(key).or_default();
        *count = count.saturating_add(n);
    }

    /// Counts one more.
    pub fn one(&self, name: &'static str, label: (&'static str, &str)) {
        self.add(name, label, 1);
    }

    /// Sets a gauge.
    pub fn set(&self, name: &'static str, value: u64) {
        self.lock().insert((name, String::new()), value);
    }

    /// A series as it stands.
    #[must_use]
    pub fn get(&self, name: &'static str, label: (&'static str, &str)) -> u64 {
        self.lock().get(&(name, labelled(label))).copied().unwrap_or_default()
    }

    /// All of it, for a scraper.
    #[must_use]
    pub fn text(&self) -> String {
        let series = self.lock();
        let mut text = String::new();
        for Family { name, kind, question, .. } in LIST {
            let _ = write!(text, "# HELP {name} {question}\n# TYPE {name} {kind}\n");
            for ((_, labels), value) in series.iter().filter(|((family, _), _)| *family == name) {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(&'static str, String), u64>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn labelled((name, value): (&str, &str)) -> String {
    if name.is_empty() { String::new() } else { format!("{{{name}=\"{value}\"}}") }
}

/// For series without a label.
pub const PLAIN: (&str, &str) = ("", "");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_shown() {
        let metrics = Metrics::default();
        metrics.one("tollgate_billing_calls_total", ("call", "sync"));
        metrics.add("tollgate_billing_calls_total", ("call", "sync"), 2);
        metrics.one("tollgate_billing_commits_total", PLAIN);
        let text = metrics.text();
        assert!(text.contains("tollgate_billing_calls_total{call=\"sync\"} 3\n"), "{text}");
        assert!(text.contains("tollgate_billing_commits_total 1\n"), "{text}");
    }

    #[test]
    fn every_series_of_the_list_is_there_from_the_start() {
        let text = Metrics::default().text();
        for family in LIST {
            let values = (family.values)();
            assert_eq!(values.is_empty(), family.label.is_empty(), "{}", family.name);
            let series = |value: &&str| format!("\n{}{{{}=\"{value}\"}} 0\n", family.name, family.label);
            let all: Vec<_> = values.iter().map(series).collect();
            assert!(all.iter().all(|line| text.contains(line)), "{all:?} in {text}");
            assert!(!values.is_empty() || text.contains(&format!("\n{} 0\n", family.name)), "{text}");
            assert!(text.contains(&format!("# HELP {} {}\n", family.name, family.question)), "{text}");
            assert!(family.question.ends_with(['?', '.']), "{} answers no question", family.name);
        }
    }

    #[test]
    fn the_document_tells_what_the_list_tells() {
        let document = include_str!("../../../docs/metrics.md");
        let rows: Vec<_> = document.lines().filter(|line| line.starts_with("| `tollgate_billing_")).collect();
        let row = |family: &Family| match family.label {
            "" => format!("| `{}` | | {} |", family.name, family.question),
            label => format!("| `{}` | `{label}` | {} |", family.name, family.question),
        };
        assert_eq!(rows, LIST.iter().map(row).collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "not in the list")]
    fn what_is_not_in_the_list_cannot_be_counted() {
        Metrics::default().one("tollgate_billing_calls_total", ("call", "unheard_of"));
    }
}
