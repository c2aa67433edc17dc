//! Names every metric this filter can emit, in one list, with the question each one answers.
//!
//! Envoy has no labels for a filter's metrics: they are parts of the name, `.label.value` each, which `stats_tags` in
//! Envoy's file take out again. All are counters but the last.
//!
//! | metric | question |
//! | --- | --- |
//! | `tollgate_requests_total.endpoint.X.decision.Y` | What was decided about the requests for an endpoint? |
//! | `tollgate_shadowed_total.decision.X` | What would have been refused, were the mode not `shadow`? |
//! | `tollgate_ended_total.outcome.X` | How did requests end that held something? |
//! | `tollgate_webhooks_total.endpoint.X.outcome.Y` | What became of the deliveries of events? |
//! | `tollgate_calls_total.call.X.result.Y` | How do calls to billing end? |
//! | `tollgate_faults_total.fault.X` | Which part of the world fails, and how often? |
//! | `tollgate_bugs_total.bug.X` | Is an invariant of this filter broken? Alert on any. |
//! | `tollgate_wait_ms` (histogram) | How long do requests wait for a decision of billing? |

use gate::Metric;
use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Every name is defined once in a VM: the host makes a new entry for each definition.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    ids: RefCell<BTreeMap<String, u32>>,
}

impl Telemetry {
    /// Counts it. What the host refuses is not counted, and nothing else comes of it.
    pub(crate) fn count(&self, metric: &Metric) {
        let (kind, name) = match metric {
            Metric::WaitMs(_) => (MetricType::Histogram, "tollgate_wait_ms".to_owned()),
            _ => (MetricType::Counter, name(metric)),
        };
        let known = self.ids.borrow().get(&name).copied();
        let Some(id) = known.or_else(|| hostcalls::define_metric(kind, &name).ok()) else { return };
        if known.is_none() {
            self.ids.borrow_mut().insert(name, id);
        }
        let done = match metric {
            Metric::WaitMs(millis) => hostcalls::record_metric(id, *millis),
            _ => hostcalls::increment_metric(id, 1),
        };
        // Neither can happen with an id of this VM, and a metric is not worth more than a line.
        _ = done;
    }
}

fn name(metric: &Metric) -> String {
    match metric {
        Metric::Request { endpoint, decision } => {
            format!("tollgate_requests_total.endpoint.{}.decision.{decision}", value(endpoint))
        }
        Metric::Shadowed { decision } => format!("tollgate_shadowed_total.decision.{decision}"),
        Metric::Ended { outcome } => format!("tollgate_ended_total.outcome.{outcome}"),
        Metric::Webhook { endpoint, outcome } => {
            format!("tollgate_webhooks_total.endpoint.{}.outcome.{outcome}", value(endpoint))
        }
        Metric::Call { call, result } => format!("tollgate_calls_total.call.{call}.result.{result}"),
        Metric::Fault { fault } => format!("tollgate_faults_total.fault.{fault}"),
        Metric::Bug { bug } => format!("tollgate_bugs_total.bug.{bug}"),
        Metric::WaitMs(_) => "tollgate_wait_ms".to_owned(),
    }
}

/// A label's value must hold no dot, or it would end there.
fn value(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }).collect()
}
