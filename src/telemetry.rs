//! Emits what the gate counts, under the names of `gate::metrics`: each series from the start, so that a scrape shows zero
//! instead of nothing, and a rate can be taken of the first event too.

use gate::Metric;
use gate::metrics::LIST;
use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;
use std::cell::RefCell;

/// Every series is defined once in a VM: the host makes a new entry for each definition.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    /// In order of the metrics, to be searched by halves.
    ids: RefCell<Vec<(Metric, u32)>>,
}

impl Telemetry {
    /// Makes it known to the host.
    pub(crate) fn define(&self, metric: &Metric) {
        _ = self.id(metric);
    }

    /// Counts it. What the host refuses is not counted, and nothing else comes of it.
    pub(crate) fn count(&self, metric: &Metric) {
        let Some(id) = self.id(metric) else { return };
        // Neither call can fail with an id of this VM, and a metric is not worth more than a line.
        _ = match metric {
            Metric::WaitMs(millis) => hostcalls::record_metric(id, *millis),
            _ => hostcalls::increment_metric(id, 1),
        };
    }

    /// Counts all of them, by one call to the host for those that are alike.
    pub(crate) fn count_all<'a>(&self, metrics: impl IntoIterator<Item = &'a Metric>) {
        let mut counted: Vec<(u32, i64)> = Vec::new();
        for metric in metrics {
            if let Metric::WaitMs(_) = metric {
                self.count(metric);
            } else if let Some(id) = self.id(metric) {
                match counted.iter_mut().find(|(known, _)| *known == id) {
                    Some((_, times)) => *times = times.saturating_add(1),
                    None => counted.push((id, 1)),
                }
            }
        }
        for (id, times) in counted {
            _ = hostcalls::increment_metric(id, times);
        }
    }

    fn id(&self, metric: &Metric) -> Option<u32> {
        // One histogram, whatever is recorded in it.
        let (kind, series) = match metric {
            Metric::WaitMs(_) => (MetricType::Histogram, &Metric::WaitMs(0)),
            counted => (MetricType::Counter, counted),
        };
        let mut ids = self.ids.borrow_mut();
        match ids.binary_search_by(|(known, _)| known.cmp(series)) {
            Ok(place) => ids.get(place).map(|(_, id)| *id),
            Err(place) => {
                let id = hostcalls::define_metric(kind, &name(series)).ok()?;
                ids.insert(place, (series.clone(), id));
                Some(id)
            }
        }
    }
}

/// As Envoy knows it: `tollgate_requests_total.endpoint.chat.decision.pass`.
fn name(metric: &Metric) -> String {
    let (family, values) = metric.series();
    let labels = LIST.iter().find(|known| known.name == family).map_or(&[][..], |known| known.labels);
    let mut name = family.to_owned();
    for (label, text) in labels.iter().zip(values) {
        for part in [".", label, ".", &value(text)] {
            name.push_str(part);
        }
    }
    name
}

/// A label's value must hold no dot, or it would end there.
fn value(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }).collect()
}
