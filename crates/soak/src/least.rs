//! How much must have happened at least: where nobody asked and nothing failed, every other line of a verdict holds.

use crate::Plan;
use crate::books::Line;
use crate::events::QUIET;
use crate::tally::Tally;

/// Kinds of traffic: what they are counted as, in windows and out of them, and how many there are in ten seconds at the least.
/// On a quiet machine there are some ten times as many.
const TRAFFIC: [(&str, &[&str], u64); 12] = [
    ("honest requests served", &["honest, clear: served", "honest, in a window: served"], 100),
    ("requests of the risking served", &["risking, clear: served", "risking, in a window: served"], 60),
    ("requests of savers served", &["savers: served"], 50),
    ("requests of the poor served", &["poor: served"], 5),
    ("requests of the poor refused", &["poor: refused"], 5),
    ("events taken", &["events: taken"], 20),
    ("events for the app at a quiet time", &[QUIET], 5),
    ("packages bought", &["events: packages bought"], 5),
    ("hostile requests refused", &["hostile: refused"], 20),
    ("hostile requests left", &["hostile: left"], 3),
    ("failures of the upstream passed on", &["hostile: upstream failed"], 3),
    ("garbled connections", &["hostile: garbled"], 5),
];

/// Faults; each has its turn, whatever the time.
const FAULTS: [(&str, &[&str]); 6] = [
    ("kills of billing", &["kills: billing"]),
    ("kills of Envoy", &["kills: envoy"]),
    ("standstills of billing", &["standstills of billing"]),
    ("standstills of Envoy", &["standstills of envoy"]),
    (
        "partitions",
        &[
            "partitions: black hole",
            "partitions: billing hears nothing",
            "partitions: resets",
            "partitions: the gateway hears nothing",
            "partitions: slow",
        ],
    ),
    ("pushes", &["pushes: new VMs with the same id", "pushes: new roots in the same VMs"]),
];
/// A round of all faults takes a minute or two.
const ROUND_S: u64 = 200;

/// A line for each, whether there was enough of it.
pub(crate) fn lines(plan: &Plan, tally: &Tally) -> Vec<Line> {
    let seconds = plan.length.as_secs();
    let traffic =
        TRAFFIC.map(|(what, counters, in_ten)| (what, counters, seconds.saturating_mul(in_ten) / 10));
    let faults = FAULTS.map(|(what, counters)| (what, counters, seconds / ROUND_S));
    traffic
        .into_iter()
        .chain(faults)
        .map(|(what, counters, least)| line(tally, what, counters, least.max(1)))
        .collect()
}

fn line(tally: &Tally, what: &str, counters: &[&str], least: u64) -> Line {
    let count = counters.iter().map(|name| tally.get(name)).fold(0, u64::saturating_add);
    Line {
        what: format!("enough {what}"),
        holds: count >= least,
        figures: format!("{count}, at least {least}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_in_which_nothing_happened_does_not_hold() {
        let (plan, tally) = (Plan::short(), Tally::default());
        let broken = |tally: &Tally| lines(&plan, tally).iter().filter(|line| !line.holds).count();
        assert_eq!(broken(&tally), TRAFFIC.len() + FAULTS.len());
        for (_, counters, _) in TRAFFIC {
            // In windows as well as out of them.
            tally.add(counters.last().unwrap(), 1_000);
        }
        assert_eq!(broken(&tally), FAULTS.len());
        for (_, counters) in FAULTS {
            tally.count(counters.last().unwrap());
        }
        assert_eq!(broken(&tally), 0);
    }
}
