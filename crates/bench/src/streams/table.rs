//! The streams' part of `summary.md`.

use super::{Plan, Streams, Way};
use crate::figures::{Figures, Spread};
use crate::summary::{micros, range, thousandths};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A figure and how it is shown.
type Column = (&'static str, fn(Spread) -> String);

const PACED_HEAD: &str = "\
| streams | first byte p50 | added | p99 | added | each piece p50 | added | p99 | added | gateway CPU per piece | added |
| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |
";
const PACED: [Column; 10] = [
    ("first_p50_ns", micros),
    ("first_p50_added_ns", micros),
    ("first_p99_ns", micros),
    ("first_p99_added_ns", micros),
    ("chunk_p50_ns", micros),
    ("chunk_p50_added_ns", micros),
    ("chunk_p99_ns", micros),
    ("chunk_p99_added_ns", micros),
    ("gateway_ns", micros),
    ("gateway_added_ns", micros),
];

const LONG_HEAD: &str = "\
| a long stream | MB per second | × plain | gateway CPU per MB | Envoy's memory before | after | at most | grown |
| --- | --: | --: | --: | --: | --: | --: | --: |
";
const LONG: [Column; 7] = [
    ("bytes_per_second", |s| range(s, |n| (n / 1_000_000).to_string())),
    ("ratio_milli", |s| range(s, thousandths)),
    ("gateway_ns_per_mb", micros),
    ("rss_before_kib", |s| range(s, mebi)),
    ("rss_after_kib", |s| range(s, mebi)),
    ("rss_most_kib", |s| range(s, mebi)),
    ("rss_grown_kib", |s| range(s, mebi)),
];

/// Both tables, as far as they were measured, each with what it was measured on.
pub(crate) fn markdown(streams: &Streams, plan: Plan, rounds: u32) -> String {
    let mut text = String::new();
    if let (Some(plan), false) = (plan.paced, streams.paced.is_empty()) {
        text.push_str(&table(PACED_HEAD, &PACED, &streams.paced));
        let _ = write!(
            text,
            "\nTimes in µs; medians of {rounds} rounds (least – most), comparisons within a round. {} streams at the same time, {} after each \
             other, of {} pieces, one every {} ms. First byte: from the request. Each piece: from the upstream to the client, by one clock.\n\n",
            plan.streams, plan.batches, plan.chunks, plan.every_ms
        );
    }
    if let (Some(bytes), false) = (plan.bytes, streams.long.is_empty()) {
        text.push_str(&table(LONG_HEAD, &LONG, &streams.long));
        let _ = write!(
            text,
            "\nOne stream with {} MB of text, read as fast as it comes, through a fresh Envoy; CPU in µs, memory in MiB, `at most` since \
             Envoy began.\n\n",
            bytes / 1_000_000
        );
    }
    text
}

fn table(head: &str, columns: &[Column], all: &BTreeMap<Way, Figures>) -> String {
    let mut text = head.to_owned();
    for (way, figures) in all {
        let show = |(name, show): &Column| figures.get(name).map_or("–".to_owned(), |spread| show(*spread));
        let cells: Vec<_> = columns.iter().map(show).collect();
        let _ = writeln!(text, "| {} | {} |", way.name(), cells.join(" | "));
    }
    text
}

/// KiB as MiB with one decimal.
fn mebi(kib: i64) -> String {
    let (sign, value) = (if kib < 0 { "−" } else { "" }, kib.unsigned_abs());
    format!("{sign}{}.{}", value / 1024, value % 1024 * 10 / 1024)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{long, paced};
    use super::*;
    use crate::run;

    #[test]
    fn people_see_what_was_measured_and_nothing_else() {
        let plan = run::Plan::default().streams;
        assert_eq!(markdown(&Streams::default(), plan, 5), "");
        let samples = vec![paced(1, Way::Plain, 400, 100, 10), paced(1, Way::Metered, 500, 110, 12)];
        let long = vec![long(1, Way::Plain, 500, 1024), long(1, Way::Metered, 1000, 2560)];
        let text = markdown(&Streams::of(samples, long), plan, 1);
        for line in [
            "| metered | 500.0 | 100.0 | 1000.0 | 200.0 | 110.0 | 10.0 | 330.0 | 30.0 | 12.0 | 2.0 |",
            "| metered | 100 | 0.500 | 5000.0 | 0.9 | 2.4 | 2.5 | 1.5 |",
            "20 streams at the same time",
            "One stream with 100 MB",
        ] {
            assert!(text.contains(line), "{line}\nis missing in\n{text}");
        }
        let columns: Vec<_> =
            text.lines().filter(|l| l.starts_with('|')).map(|l| l.matches('|').count()).collect();
        assert_eq!(columns, [12, 12, 12, 12, 9, 9, 9, 9]);
    }
}
