//! What streams cost, beside plain Envoy of the same round, and then the median over the rounds. Integers only.

use super::Way;
use crate::figures::{Figures, spread};
use serde::Serialize;
use std::collections::BTreeMap;

/// Streams at a fixed pace, in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Paced {
    /// From 1.
    pub(crate) round: u32,
    pub(crate) way: Way,
    /// Pieces that were timed.
    pub(crate) chunks: u64,
    /// From the request to the first byte of the body.
    pub(crate) first_p50_ns: u64,
    pub(crate) first_p99_ns: u64,
    /// From the upstream to the client.
    pub(crate) chunk_p50_ns: u64,
    pub(crate) chunk_p99_ns: u64,
    /// Processor time of Envoy.
    pub(crate) gateway_ns: u64,
}

/// One long stream, in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Long {
    /// From 1.
    pub(crate) round: u32,
    pub(crate) way: Way,
    /// What the client received.
    pub(crate) bytes: u64,
    pub(crate) took_ns: u64,
    /// Processor time of Envoy.
    pub(crate) gateway_ns: u64,
    /// Memory of Envoy, in KiB: before the stream, after it, and the most it ever was.
    pub(crate) rss_before_kib: u64,
    pub(crate) rss_after_kib: u64,
    pub(crate) rss_most_kib: u64,
}

/// All that was measured of streams.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Streams {
    pub(crate) paced: BTreeMap<Way, Figures>,
    pub(crate) long: BTreeMap<Way, Figures>,
    pub(crate) paced_samples: Vec<Paced>,
    pub(crate) long_samples: Vec<Long>,
}

/// A figure of a sample beside the one of plain Envoy.
type Figure<S> = (&'static str, fn(&S, &S) -> i64);

const PACED: [Figure<Paced>; 10] = [
    ("first_p50_ns", |s, _| signed(s.first_p50_ns)),
    ("first_p50_added_ns", |s, plain| signed(s.first_p50_ns) - signed(plain.first_p50_ns)),
    ("first_p99_ns", |s, _| signed(s.first_p99_ns)),
    ("first_p99_added_ns", |s, plain| signed(s.first_p99_ns) - signed(plain.first_p99_ns)),
    ("chunk_p50_ns", |s, _| signed(s.chunk_p50_ns)),
    ("chunk_p50_added_ns", |s, plain| signed(s.chunk_p50_ns) - signed(plain.chunk_p50_ns)),
    ("chunk_p99_ns", |s, _| signed(s.chunk_p99_ns)),
    ("chunk_p99_added_ns", |s, plain| signed(s.chunk_p99_ns) - signed(plain.chunk_p99_ns)),
    ("gateway_ns", |s, _| per(s.gateway_ns, 1, s.chunks)),
    ("gateway_added_ns", |s, plain| per(s.gateway_ns, 1, s.chunks) - per(plain.gateway_ns, 1, plain.chunks)),
];

const LONG: [Figure<Long>; 7] = [
    ("bytes_per_second", |s, _| per(s.bytes, 1_000_000_000, s.took_ns)),
    ("ratio_milli", |s, plain| {
        let (this, other) =
            (per(s.bytes, 1_000_000_000, s.took_ns), per(plain.bytes, 1_000_000_000, plain.took_ns));
        this.saturating_mul(1000) / other.max(1)
    }),
    ("gateway_ns_per_mb", |s, _| per(s.gateway_ns, 1_000_000, s.bytes)),
    ("rss_before_kib", |s, _| signed(s.rss_before_kib)),
    ("rss_after_kib", |s, _| signed(s.rss_after_kib)),
    ("rss_most_kib", |s, _| signed(s.rss_most_kib)),
    ("rss_grown_kib", |s, _| signed(s.rss_most_kib) - signed(s.rss_before_kib)),
];

impl Streams {
    pub(crate) fn of(paced_samples: Vec<Paced>, long_samples: Vec<Long>) -> Self {
        let paced = figures(&paced_samples, &PACED, |sample| (sample.round, sample.way));
        let long = figures(&long_samples, &LONG, |sample| (sample.round, sample.way));
        Self { paced, long, paced_samples, long_samples }
    }
}

/// The figures of each way. A round without its plain Envoy compares with nothing and is left out.
fn figures<S>(samples: &[S], figures: &[Figure<S>], at: impl Fn(&S) -> (u32, Way)) -> BTreeMap<Way, Figures> {
    let plain_of = |of: &S| samples.iter().find(|other| at(other) == (at(of).0, Way::Plain));
    let of = |way| {
        let mine = samples.iter().filter(|sample| at(sample).1 == way);
        let pairs: Vec<_> = mine.filter_map(|sample| Some((sample, plain_of(sample)?))).collect();
        let spreads = figures.iter().filter_map(|(name, figure)| {
            Some((*name, spread(pairs.iter().map(|(sample, plain)| figure(sample, plain)))?))
        });
        (way, spreads.collect::<Figures>())
    };
    Way::ALL.into_iter().map(of).filter(|(_, figures)| !figures.is_empty()).collect()
}

/// `value · scale / of`, of at least 1.
fn per(value: u64, scale: u64, of: u64) -> i64 {
    let whole = u128::from(value).saturating_mul(u128::from(scale)) / u128::from(of.max(1));
    i64::try_from(whole).unwrap_or(i64::MAX)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A sample in which all follows from a few numbers of µs.
    pub(crate) fn paced(round: u32, way: Way, first: u64, chunk: u64, gateway: u64) -> Paced {
        Paced {
            round,
            way,
            chunks: 1000,
            first_p50_ns: first * 1000,
            first_p99_ns: first * 2000,
            chunk_p50_ns: chunk * 1000,
            chunk_p99_ns: chunk * 3000,
            gateway_ns: gateway * 1_000_000,
        }
    }

    pub(crate) fn long(round: u32, way: Way, took_ms: u64, most: u64) -> Long {
        Long {
            round,
            way,
            bytes: 100_000_000,
            took_ns: took_ms * 1_000_000,
            gateway_ns: took_ms * 500_000,
            rss_before_kib: 1000,
            rss_after_kib: most - 1,
            rss_most_kib: most,
        }
    }

    #[test]
    fn each_round_is_compared_with_its_own_plain_envoy() {
        let samples = vec![
            paced(1, Way::Plain, 400, 100, 10),
            paced(1, Way::Metered, 500, 110, 12),
            paced(2, Way::Metered, 900, 230, 24),
            paced(2, Way::Plain, 800, 200, 20),
            // No plain Envoy in this one.
            paced(3, Way::Metered, 9999, 9999, 9999),
        ];
        let long = vec![long(1, Way::Plain, 500, 1300), long(1, Way::Metered, 1000, 1500)];
        let all = Streams::of(samples, long);
        let metered = &all.paced[&Way::Metered];
        let added = metered["chunk_p50_added_ns"];
        assert_eq!((added.min, added.median, added.max), (10_000, 20_000, 30_000));
        assert_eq!(metered["first_p99_added_ns"].median, 200_000);
        assert_eq!((metered["gateway_ns"].min, metered["gateway_added_ns"].max), (12_000, 4_000));
        let metered = &all.long[&Way::Metered];
        assert_eq!((metered["bytes_per_second"].median, metered["ratio_milli"].median), (100_000_000, 500));
        assert_eq!((metered["rss_grown_kib"].median, metered["gateway_ns_per_mb"].median), (500, 5_000_000));
    }
}
