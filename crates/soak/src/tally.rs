//! What is counted while it runs, and when which process was not itself.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Whose trouble a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The billing service was killed or stood still.
    Billing,
    /// The machine's disk or clock stood still.
    Machine,
    /// This Envoy was killed.
    Envoy(usize),
    /// This Envoy was stopped, as a machine that sleeps.
    Still(usize),
    /// This Envoy was cut off from billing.
    Link(usize),
    /// This Envoy still had connections of an earlier configuration, which it closes in the end.
    Old(usize),
}

impl Who {
    /// Whatever may excuse an Envoy, what explains most first.
    pub(crate) const fn that_excuse(gateway: usize) -> [Self; 5] {
        [Self::Link(gateway), Self::Still(gateway), Self::Envoy(gateway), Self::Billing, Self::Machine]
    }

    /// For the names of counters.
    pub(crate) const fn told(self) -> &'static str {
        match self {
            Self::Billing => "billing away",
            Self::Machine => "the machine stood still",
            Self::Envoy(_) => "its Envoy killed",
            Self::Still(_) => "its Envoy stood still",
            Self::Link(_) => "its Envoy cut off",
            Self::Old(_) => "an old configuration",
        }
    }
}

/// From a kill, which is in the past for whoever asks, until what was killed is itself again.
#[derive(Clone, Copy, Debug)]
struct Window {
    who: Who,
    until: Option<Instant>,
}

/// Counters by name, and windows of trouble.
#[derive(Default)]
pub(crate) struct Tally {
    counts: Mutex<BTreeMap<String, u64>>,
    windows: Mutex<Vec<Window>>,
    samples: Mutex<Vec<Odd>>,
}

/// Something that should not have happened.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Odd {
    pub(crate) what: String,
    pub(crate) detail: String,
}

/// Of odd things of one kind, so many are told in full.
const SAMPLES_MAX: usize = 8;

fn open<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    /// Counts one more.
    pub(crate) fn count(&self, name: &str) {
        self.add(name, 1);
    }

    /// Counts so many more.
    pub(crate) fn add(&self, name: &str, n: u64) {
        let mut counts = open(&self.counts);
        let count = counts.entry(name.to_owned()).or_default();
        *count = count.saturating_add(n);
    }

    /// Keeps the largest.
    pub(crate) fn at_most(&self, name: &str, n: u64) {
        let mut counts = open(&self.counts);
        let count = counts.entry(name.to_owned()).or_default();
        *count = n.max(*count);
    }

    /// Counts something that should not have happened, and keeps some of its details.
    pub(crate) fn odd(&self, what: &str, detail: impl Into<String>) {
        self.count(what);
        let detail = format!("{} ({} ms after the last window)", detail.into(), self.quiet_for());
        let mut samples = open(&self.samples);
        if samples.iter().filter(|odd| odd.what == what).count() < SAMPLES_MAX {
            samples.push(Odd { what: what.to_owned(), detail });
        }
    }

    /// How many there were.
    pub(crate) fn get(&self, name: &str) -> u64 {
        open(&self.counts).get(name).copied().unwrap_or(0)
    }

    /// All counters, and the odd things.
    pub(crate) fn all(&self) -> (BTreeMap<String, u64>, Vec<Odd>) {
        (open(&self.counts).clone(), open(&self.samples).clone())
    }

    /// Trouble begins.
    pub(crate) fn trouble(&self, who: Who) {
        open(&self.windows).push(Window { who, until: None });
    }

    /// It is over, or will be after `grace`.
    pub(crate) fn over(&self, who: Who, grace: Duration) {
        let until = Instant::now().checked_add(grace);
        for window in open(&self.windows).iter_mut().filter(|w| w.who == who && w.until.is_none()) {
            window.until = until;
        }
    }

    /// How long ago the last trouble of any of these was over, in milliseconds, for whoever wonders.
    pub(crate) fn quiet_for(&self) -> u128 {
        let windows = open(&self.windows);
        windows.iter().filter_map(|w| w.until).max().map_or(0, |until| until.elapsed().as_millis())
    }

    /// The first of these that was in trouble at some time since then.
    pub(crate) fn troubled(&self, since: Instant, whose: &[Who]) -> Option<Who> {
        let windows = open(&self.windows);
        let was =
            |who: &Who| windows.iter().any(|w| w.who == *who && w.until.is_none_or(|until| until >= since));
        whose.iter().copied().find(was)
    }
}
