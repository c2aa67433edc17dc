//! Turns what was measured into figures: per request, beside plain Envoy of the same round, and then the median over the rounds.
//!
//! Integers only: nanoseconds, thousandths.

use crate::site::Phase;
use crate::variants::Variant;
use serde::Serialize;
use std::collections::BTreeMap;

/// What one way cost in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    /// From 1.
    pub(crate) round: u32,
    /// Which way.
    pub(crate) variant: Variant,
    /// At a fixed rate: for latencies.
    pub(crate) rate: Phase,
    /// A fixed number of requests: for processor time.
    pub(crate) count: Phase,
    /// As fast as answers came: for throughput.
    pub(crate) closed: Phase,
}

/// Middle and ends of a figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Spread {
    /// The middle one, or halfway between the two middle ones.
    pub(crate) median: i64,
    /// The least.
    pub(crate) min: i64,
    /// The most.
    pub(crate) max: i64,
}

/// Every figure of a way, by its name in the summary.
pub(crate) type Figures = BTreeMap<&'static str, Spread>;

/// From a sample and plain Envoy's in the same round.
type Figure = fn(&Sample, &Sample) -> i64;

/// Processor time of Envoy per request, in ns.
pub(crate) const GATEWAY: &str = "gateway_ns";
/// The same as a multiple of plain Envoy's, in thousandths.
pub(crate) const GATEWAY_RATIO: &str = "gateway_ratio_milli";
/// Processor time of Envoy, billing and upstream per request, in ns.
pub(crate) const ALL: &str = "all_ns";
/// The same, beyond plain Envoy's.
pub(crate) const ALL_ADDED: &str = "all_added_ns";
/// Half of the requests took no longer, in ns, at the fixed rate.
pub(crate) const P50: &str = "p50_ns";
/// 99 of a hundred took no longer.
pub(crate) const P99: &str = "p99_ns";
/// Beyond plain Envoy's.
pub(crate) const P50_ADDED: &str = "p50_added_ns";
/// Beyond plain Envoy's.
pub(crate) const P99_ADDED: &str = "p99_added_ns";
/// Requests per second, as fast as answers came.
pub(crate) const PER_SECOND: &str = "per_second";
/// Calls to billing per request, in thousandths.
pub(crate) const CALLS: &str = "billing_calls_milli";

const FIGURES: [(&str, Figure); 10] = [
    (GATEWAY, |s, _| gateway(s)),
    (GATEWAY_RATIO, |s, plain| ratio(gateway(s), 1000, gateway(plain))),
    (ALL, |s, _| all(s)),
    (ALL_ADDED, |s, plain| all(s) - all(plain)),
    (P50, |s, _| signed(s.rate.p50_ns)),
    (P99, |s, _| signed(s.rate.p99_ns)),
    (P50_ADDED, |s, plain| signed(s.rate.p50_ns) - signed(plain.rate.p50_ns)),
    (P99_ADDED, |s, plain| signed(s.rate.p99_ns) - signed(plain.rate.p99_ns)),
    (PER_SECOND, |s, _| ratio(signed(s.closed.requests), 1_000_000_000, signed(s.closed.took_ns))),
    (CALLS, |s, _| ratio(signed(s.count.billing_calls), 1000, signed(s.count.requests))),
];

/// The figures of each way that was measured. A round without its plain Envoy compares with nothing and is left out.
pub(crate) fn figures(samples: &[Sample]) -> BTreeMap<Variant, Figures> {
    let plain_of = |of: &Sample| {
        let (round, base) = (of.round, of.variant.base());
        samples.iter().find(move |s| s.round == round && s.variant == base)
    };
    let mut all = BTreeMap::new();
    for variant in Variant::ALL {
        let of = samples.iter().filter(|s| s.variant == variant);
        let pairs: Vec<_> = of.filter_map(|s| Some((s, plain_of(s)?))).collect();
        let figures: Figures = FIGURES
            .iter()
            .filter_map(|(name, figure)| {
                Some((*name, spread(pairs.iter().map(|(s, plain)| figure(s, plain)))?))
            })
            .collect();
        if !figures.is_empty() {
            all.insert(variant, figures);
        }
    }
    all
}

/// `None` of nothing.
pub(crate) fn spread(values: impl Iterator<Item = i64>) -> Option<Spread> {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    let (low, high) = (values.get(values.len().saturating_sub(1) / 2)?, values.get(values.len() / 2)?);
    Some(Spread { median: low.midpoint(*high), min: *values.first()?, max: *values.last()? })
}

fn gateway(sample: &Sample) -> i64 {
    ratio(signed(sample.count.gateway_ns), 1, signed(sample.count.requests))
}

fn all(sample: &Sample) -> i64 {
    let Phase { gateway_ns, billing_ns, upstream_ns, requests, .. } = sample.count;
    ratio(signed(gateway_ns + billing_ns + upstream_ns), 1, signed(requests))
}

/// `value · scale / of`; nothing is measured of nothing, so the divisor is at least 1.
fn ratio(value: i64, scale: i64, of: i64) -> i64 {
    value.saturating_mul(scale) / of.max(1)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A sample in which everything follows from a few numbers: µs of the gateway and of billing per request, p50 and p99 in µs.
    pub(crate) fn sample(
        round: u32,
        variant: Variant,
        gateway: u64,
        billing: u64,
        p50: u64,
        p99: u64,
    ) -> Sample {
        let phase = Phase {
            requests: 100,
            took_ns: 50_000_000,
            p50_ns: p50 * 1000,
            p99_ns: p99 * 1000,
            gateway_ns: gateway * 100_000,
            billing_ns: billing * 100_000,
            upstream_ns: 0,
            billing_calls: u64::from(variant == Variant::ExtAuthz) * 100,
        };
        Sample { round, variant, rate: phase, count: phase, closed: phase }
    }

    #[test]
    fn each_round_is_compared_with_its_own_plain_envoy() {
        // The machine was twice as slow in round 2, which changes no ratio.
        let samples = [
            sample(1, Variant::Plain, 40, 0, 200, 900),
            sample(1, Variant::Lease, 50, 1, 210, 950),
            sample(2, Variant::Lease, 100, 1, 410, 2000),
            sample(2, Variant::Plain, 80, 0, 400, 1800),
            // No plain Envoy in this one.
            sample(3, Variant::Lease, 999, 999, 999, 999),
        ];
        let all = figures(&samples);
        let lease = &all[&Variant::Lease];
        assert_eq!(lease[GATEWAY_RATIO], Spread { median: 1250, min: 1250, max: 1250 });
        assert_eq!(lease[ALL_ADDED], Spread { median: 16_000, min: 11_000, max: 21_000 });
        assert_eq!(lease[P50_ADDED].median, 10_000);
        assert_eq!(lease[P99_ADDED], Spread { median: 125_000, min: 50_000, max: 200_000 });
        assert_eq!(lease[PER_SECOND].median, 2000);
        assert_eq!((lease[CALLS].max, all.len()), (0, 2));
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(spread([3, 1, 2].into_iter()), Some(Spread { median: 2, min: 1, max: 3 }));
        assert_eq!(spread([4, 1, 2, 3].into_iter()).map(|s| s.median), Some(2));
        assert_eq!(spread([].into_iter()), None);
    }
}
