//! Counters and gauges in Prometheus' text format (version 0.0.4); labels come from closed sets, so that their number is bounded.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    series: Mutex<BTreeMap<(&'static str, String), u64>>,
}

/// The families: name, type, help. A series outside of them is not shown, so a new one belongs here first.
const FAMILIES: [(&str, &str, &str); 12] = [
    ("tollgate_billing_calls_total", "counter", "Calls of gateways."),
    ("tollgate_billing_needs_total", "counter", "Decisions about requests."),
    ("tollgate_billing_refusals_total", "counter", "Requests refused, by reason."),
    (
        "tollgate_billing_usage_records_total",
        "counter",
        "Usage records taken for the first time, by outcome.",
    ),
    ("tollgate_billing_claims_total", "counter", "Answers to claims of events."),
    ("tollgate_billing_events_total", "counter", "Stripe's events by outcome."),
    ("tollgate_billing_errors_total", "counter", "Calls that failed, by kind."),
    ("tollgate_billing_commits_total", "counter", "Transactions committed."),
    ("tollgate_billing_commands_total", "counter", "Commands in them."),
    ("tollgate_billing_batch_size", "gauge", "Commands in the last transaction."),
    ("tollgate_billing_swept_total", "counter", "Cells and grants settled because their time was over."),
    ("tollgate_billing_last_event_seconds", "gauge", "When Stripe's last event arrived, in Unix seconds."),
];

/// Shown from the start, so that a rate can be taken of the first call too.
const CALLS: [&str; 5] = ["hello", "sync", "claim", "complete", "watch"];

impl Default for Metrics {
    fn default() -> Self {
        let calls = CALLS.map(|call| (("tollgate_billing_calls_total", labelled(("call", call))), 0));
        Self { series: Mutex::new(BTreeMap::from(calls)) }
    }
}

impl Metrics {
    /// Counts `n` more of a series; `label` is (name, value).
    pub fn add(&self, name: &'static str, label: (&'static str, &str), n: u64) {
        let mut series = self.lock();
        let count = series.entry((name, labelled(label))).or_default();
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
        for (family, kind, help) in FAMILIES {
            let _ = write!(text, "# HELP {family} {help}\n# TYPE {family} {kind}\n");
            for ((_, labels), value) in series.iter().filter(|((name, _), _)| *name == family) {
                let _ = writeln!(text, "{family}{labels} {value}");
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
}
