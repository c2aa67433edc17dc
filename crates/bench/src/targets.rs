//! What a warm request and a forged webhook may cost, and whether they do.

use crate::figures::{self as f, Figures};
use crate::variants::Variant;
use serde::Serialize;
use std::collections::BTreeMap;

/// One bound and what was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Target {
    /// What is bounded.
    pub(crate) what: &'static str,
    /// Absent if a way that it compares was not measured.
    pub(crate) met: Option<bool>,
    /// What was measured, in ns or thousandths.
    pub(crate) value: Option<i64>,
    /// What it may be at most.
    pub(crate) bound: Option<i64>,
    /// `ns`, or `milli` for thousandths.
    pub(crate) unit: &'static str,
}

/// How many thousandths of plain Envoy's processor time a warm request may cost the gateway.
const RATIO_MILLI_MAX: i64 = 1350;

/// How many thousandths of what it costs plain Envoy to forward a webhook it may cost to refuse a forged one: whoever
/// floods the gateway gains nothing by it.
const FORGED_RATIO_MILLI_MAX: i64 = 2000;

/// Compares medians.
pub(crate) fn targets(all: &BTreeMap<Variant, Figures>) -> [Target; 5] {
    let get =
        |variant, name| all.get(&variant).and_then(|figures| figures.get(name)).map(|spread| spread.median);
    let (lease, other) = (|name| get(Variant::Lease, name), |name| get(Variant::ExtAuthz, name));
    // Below, so the bound itself is one too many.
    let below = |bound: Option<i64>| bound.map(|bound| bound - 1);
    [
        target(
            "gateway CPU of a warm request, below that of ext_authz",
            "ns",
            lease(f::GATEWAY),
            below(other(f::GATEWAY)),
        ),
        target(
            "gateway CPU of a warm request, as a multiple of plain Envoy",
            "milli",
            lease(f::GATEWAY_RATIO),
            Some(RATIO_MILLI_MAX),
        ),
        target(
            "CPU added in all, against a quarter of what ext_authz adds",
            "ns",
            lease(f::ALL_ADDED),
            other(f::ALL_ADDED).map(|added| added / 4),
        ),
        target(
            "p99 added, below the p50 that ext_authz adds",
            "ns",
            lease(f::P99_ADDED),
            below(other(f::P50_ADDED)),
        ),
        target(
            "gateway CPU of a forged webhook of 4 KiB, as a multiple of plain Envoy",
            "milli",
            get(Variant::ForgedWebhook, f::GATEWAY_RATIO),
            Some(FORGED_RATIO_MILLI_MAX),
        ),
    ]
}

fn target(what: &'static str, unit: &'static str, value: Option<i64>, bound: Option<i64>) -> Target {
    Target { what, met: value.zip(bound).map(|(value, bound)| value <= bound), value, bound, unit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::sample;

    fn met(lease: (u64, u64, u64, u64)) -> [Option<bool>; 4] {
        let (gateway, billing, p50, p99) = lease;
        let samples = [
            sample(1, Variant::Plain, 100, 0, 100, 500),
            sample(1, Variant::Lease, gateway, billing, p50, p99),
            sample(1, Variant::ExtAuthz, 150, 150, 300, 900),
        ];
        let [cpu, ratio, all, p99, _] = targets(&f::figures(&samples)).map(|target| target.met);
        [cpu, ratio, all, p99]
    }

    #[test]
    fn a_forged_webhook_is_compared_with_a_forwarded_one() {
        let met = |forged| {
            let samples = [
                sample(1, Variant::Plain, 10, 0, 100, 500),
                sample(1, Variant::PlainWebhook, 50, 0, 100, 500),
                sample(1, Variant::ForgedWebhook, forged, 0, 100, 500),
            ];
            targets(&f::figures(&samples))[4].met
        };
        assert_eq!((met(100), met(101)), (Some(true), Some(false)));
    }

    #[test]
    fn each_bound_is_kept_or_broken_alone() {
        assert_eq!(met((135, 15, 110, 699)), [Some(true); 4]);
        assert_eq!(met((136, 0, 110, 699)), [Some(true), Some(false), Some(true), Some(true)]);
        assert_eq!(met((135, 16, 110, 699)), [Some(true), Some(true), Some(false), Some(true)]);
        assert_eq!(met((135, 15, 110, 700)), [Some(true), Some(true), Some(true), Some(false)]);
        assert_eq!(met((150, 0, 110, 699))[0], Some(false));
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let only = [sample(1, Variant::Plain, 100, 0, 100, 500), sample(1, Variant::Lease, 110, 0, 100, 500)];
        let met = targets(&f::figures(&only)).map(|target| target.met);
        assert_eq!(met, [None, Some(true), None, None, None]);
    }
}
