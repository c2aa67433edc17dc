//! Writes down what was measured: `summary.json` for programs, `summary.md` for people.
//!
//! `summary.json`, schema 1, integers only (`_ns` nanoseconds, `_milli` thousandths):
//!
//! | field | what |
//! | --- | --- |
//! | `schema` | 1 |
//! | `machine` | `cpu`, `cores`, `kernel`, `envoy`, `load_before` |
//! | `plan` | how it was measured: rounds, requests, connections, rate, customers, workers |
//! | `variants.<way>.<figure>` | `median`, `min`, `max` over the rounds, per request; figures as named in `figures.rs`, the added ones and ratios against plain Envoy of the same round |
//! | `targets[]` | `what`, `met` (true, false, or null if not measured), `value`, `bound`, `unit` |
//! | `skipped[]` | `variant`, `why` |
//! | `samples[]` | `round`, `variant`, and for each of the loads `rate`, `count`, `closed` what it cost |
//! | `streams` | `paced.<way>.<figure>` and `long.<way>.<figure>` with `median`, `min`, `max`, figures as named in `streams/figures.rs`; `paced_samples[]`, `long_samples[]` |

use crate::figures::{self as f, Figures, Sample, Spread};
use crate::machine::Machine;
use crate::run::Plan;
use crate::streams::{self, Streams};
use crate::targets::{Target, targets};
use crate::variants::Variant;
use serde::Serialize;
use stage::{During as _, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// Everything that is written.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    schema: u32,
    machine: Machine,
    plan: Plan,
    variants: BTreeMap<Variant, Figures>,
    targets: [Target; 5],
    skipped: Vec<Skipped>,
    samples: Vec<Sample>,
    streams: Streams,
}

/// A way that was not measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Skipped {
    /// Which one.
    pub(crate) variant: Variant,
    /// Why not.
    pub(crate) why: &'static str,
}

const HEAD: &str = "\
| | gateway CPU | × plain | CPU of everything | added | p50 | added | p99 | added | most per second | calls to billing |
| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |
";

impl Summary {
    /// Works out the figures.
    pub(crate) fn of(
        machine: Machine,
        plan: Plan,
        samples: Vec<Sample>,
        skipped: Vec<Skipped>,
        streams: Streams,
    ) -> Self {
        let variants = f::figures(&samples);
        let targets = targets(&variants);
        Self { schema: 1, machine, plan, variants, targets, skipped, samples, streams }
    }

    /// Writes both files.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).during("write the summary")?;
        for (name, text) in [("summary.json", json + "\n"), ("summary.md", self.markdown())] {
            let path = folder.join(name);
            std::fs::write(&path, text).during(format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// A table with its machine, and a verdict for each target.
    pub(crate) fn markdown(&self) -> String {
        let Self { machine, plan, .. } = self;
        let mut text = format!(
            "{} ({} cores), Linux {}, Envoy {} with {} workers; load average before: {}.\n\n",
            machine.cpu, machine.cores, machine.kernel, machine.envoy, plan.workers, machine.load_before
        );
        text.push_str(&streams::markdown(&self.streams, plan.streams, plan.rounds));
        if !self.samples.is_empty() || !self.skipped.is_empty() {
            self.requests(&mut text);
        }
        text
    }

    /// The table of requests, and what is to be said of it.
    fn requests(&self, text: &mut String) {
        text.push_str(HEAD);
        for (variant, figures) in &self.variants {
            let cells = COLUMNS
                .map(|(name, show)| figures.get(name).map_or(String::from("–"), |spread| show(*spread)));
            let _ = writeln!(text, "| {} | {} |", variant.name(), cells.join(" | "));
        }
        let Plan {
            rounds,
            rate,
            rate_requests,
            count_requests,
            count_connections,
            closed_connections,
            customers,
            ..
        } = &self.plan;
        let _ = write!(
            text,
            "\nPer request; medians of {rounds} rounds (least – most), comparisons within a round. Times in µs. CPU over {count_requests} \
             requests on {count_connections} connections, latency over {rate_requests} at {rate} a second counted from when each was due, \
             most per second on {closed_connections} connections that share the machine with what they load; {customers} customers. CPU of \
             everything: Envoy, billing, upstream.\n\n"
        );
        for skipped in &self.skipped {
            let _ = writeln!(text, "- {}: not measured: {}", skipped.variant.name(), skipped.why);
        }
        self.targets.iter().for_each(|target| text.push_str(&verdict(target)));
        for variant in self.saturated() {
            let _ = writeln!(
                text,
                "- warning: at {rate} a second, {} kept the machine more than half busy: its latencies are those of a queue; lower --rate",
                variant.name()
            );
        }
    }

    /// The ways for which the rate was too high for this machine.
    fn saturated(&self) -> BTreeSet<Variant> {
        let cores = u64::try_from(self.machine.cores).unwrap_or(1);
        let is_busy = |s: &&Sample| {
            let used = s.rate.gateway_ns + s.rate.billing_ns + s.rate.upstream_ns;
            used > s.rate.took_ns.saturating_mul(cores) / 2
        };
        self.samples.iter().filter(is_busy).map(|s| s.variant).collect()
    }
}

/// A figure and how it is shown.
type Column = (&'static str, fn(Spread) -> String);

const COLUMNS: [Column; 10] = [
    (f::GATEWAY, micros),
    (f::GATEWAY_RATIO, |s| range(s, thousandths)),
    (f::ALL, micros),
    (f::ALL_ADDED, micros),
    (f::P50, micros),
    (f::P50_ADDED, micros),
    (f::P99, micros),
    (f::P99_ADDED, micros),
    (f::PER_SECOND, |s| range(s, |n| n.to_string())),
    (f::CALLS, |s| range(s, thousandths)),
];

fn verdict(target: &Target) -> String {
    let show = |value: Option<i64>| match (value, target.unit) {
        (None, _) => String::from("not measured"),
        (Some(value), "milli") => thousandths(value),
        (Some(value), _) => format!("{} µs", tenths(value)),
    };
    let word = match target.met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "open",
    };
    format!("- {word}: {}: {}, at most {}\n", target.what, show(target.value), show(target.bound))
}

/// Nanoseconds of all rounds as microseconds.
pub(crate) fn micros(spread: Spread) -> String {
    range(spread, tenths)
}

/// The middle, and the ends if they differ.
pub(crate) fn range(Spread { median, min, max }: Spread, show: impl Fn(i64) -> String) -> String {
    if min == max { show(median) } else { format!("{} ({} – {})", show(median), show(min), show(max)) }
}

/// Nanoseconds as microseconds with one decimal.
fn tenths(nanos: i64) -> String {
    let (sign, value) = (if nanos < 0 { "−" } else { "" }, nanos.unsigned_abs());
    format!("{sign}{}.{}", value / 1000, value % 1000 / 100)
}

/// Thousandths as a number.
pub(crate) fn thousandths(value: i64) -> String {
    let (sign, value) = (if value < 0 { "−" } else { "" }, value.unsigned_abs());
    format!("{sign}{}.{:03}", value / 1000, value % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::sample;

    fn summary() -> Summary {
        let machine = Machine {
            cpu: "Abacus".into(),
            cores: 2,
            kernel: "6.1".into(),
            envoy: "1.40.0".into(),
            load_before: "0.10".into(),
        };
        let samples = vec![
            sample(1, Variant::Plain, 100, 0, 100, 500),
            sample(1, Variant::ExtAuthz, 150, 80, 300, 900),
            sample(2, Variant::Plain, 100, 0, 110, 500),
            sample(2, Variant::ExtAuthz, 152, 82, 300, 400),
        ];
        let skipped = vec![Skipped { variant: Variant::Lease, why: "it is not there yet" }];
        Summary::of(machine, Plan::default(), samples, skipped, Streams::default())
    }

    #[test]
    fn people_see_every_way_and_what_is_missing() {
        let text = summary().markdown();
        for line in [
            "Abacus (2 cores), Linux 6.1, Envoy 1.40.0",
            "| plain | 100.0 | 1.000 | 100.0 | 0.0 | 105.0 (100.0 – 110.0) |",
            "| ext_authz | 151.0 (150.0 – 152.0) | 1.510 (1.500 – 1.520) | 232.0 (230.0 – 234.0) | 132.0 (130.0 – 134.0) |",
            "150.0 (−100.0 – 400.0) | 2000 | 1.000 |",
            "- lease: not measured: it is not there yet",
            "- open: p99 added, below the p50 that ext_authz adds: not measured, at most 194.9 µs",
        ] {
            assert!(text.contains(line), "{line}\nis missing in\n{text}");
        }
        let columns: Vec<_> =
            text.lines().filter(|l| l.starts_with('|')).map(|l| l.matches('|').count()).collect();
        assert_eq!(columns, [12; 4]);
    }

    #[test]
    fn a_way_that_fills_the_machine_is_named() {
        let mut busy = summary();
        assert!(!busy.markdown().contains("warning"));
        for sample in &mut busy.samples {
            sample.rate.billing_ns += u64::from(sample.variant == Variant::ExtAuthz) * sample.rate.took_ns;
        }
        let warnings: Vec<_> = busy.saturated().into_iter().collect();
        assert_eq!(warnings, [Variant::ExtAuthz]);
        assert!(busy.markdown().contains("- warning: at 400 a second, ext_authz kept"));
    }

    #[test]
    fn programs_see_the_same() {
        let json = serde_json::to_value(summary()).unwrap();
        assert_eq!(json["schema"], 1);
        assert_eq!(json["variants"]["ext_authz"]["gateway_ratio_milli"]["median"], 1510);
        assert_eq!(json["samples"][1]["variant"], "ext_authz");
        assert_eq!(json["targets"][0]["met"], serde_json::Value::Null);
        assert_eq!(json["skipped"][0]["variant"], "lease");
    }
}
