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

/// A stretch of time, both ends included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct During {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

impl During {
    /// Until now.
    pub(crate) fn since(from: Instant) -> Self {
        Self { from, to: Instant::now() }
    }
}

/// From a kill until what was killed is itself again.
#[derive(Clone, Copy, Debug)]
struct Window {
    who: Who,
    from: Instant,
    until: Option<Instant>,
    /// How many connections may be cut in it, and how many were.
    cuts: (u64, u64),
}

impl Window {
    fn meets(&self, during: During) -> bool {
        self.from <= during.to && self.until.is_none_or(|until| until >= during.from)
    }
}

/// A window that is open. Each is closed by whoever opened it: somebody else's trouble may last longer.
#[must_use]
#[derive(Debug)]
pub(crate) struct Open(usize);

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
    pub(crate) fn trouble(&self, who: Who) -> Open {
        self.trouble_from(who, Instant::now())
    }

    /// It began, or will begin, at that instant.
    pub(crate) fn trouble_from(&self, who: Who, from: Instant) -> Open {
        let mut windows = open(&self.windows);
        windows.push(Window { who, from, until: None, cuts: (0, 0) });
        Open(windows.len().saturating_sub(1))
    }

    /// It is over, or will be after `grace`.
    pub(crate) fn over(&self, window: Open, grace: Duration) {
        let until = Instant::now().checked_add(grace);
        if let Some(window) = open(&self.windows).get_mut(window.0) {
            window.until = until;
        }
    }

    /// So many connections may be cut in this window.
    pub(crate) fn allow_cuts(&self, window: &Open, most: u64) {
        if let Some(window) = open(&self.windows).get_mut(window.0) {
            window.cuts.0 = most;
        }
    }

    /// Whether a connection may have been cut by one of these windows of his, which then has one less to cut.
    pub(crate) fn cut(&self, during: During, who: Who) -> bool {
        let mut windows = open(&self.windows);
        let found = windows.iter_mut().find(|w| w.who == who && w.cuts.1 < w.cuts.0 && w.meets(during));
        found.map(|window| window.cuts.1 = window.cuts.1.saturating_add(1)).is_some()
    }

    /// How long ago the last trouble of any of these was over, in milliseconds, for whoever wonders.
    pub(crate) fn quiet_for(&self) -> u128 {
        let windows = open(&self.windows);
        windows.iter().filter_map(|w| w.until).max().map_or(0, |until| until.elapsed().as_millis())
    }

    /// The first of these that was in trouble at some time meanwhile.
    pub(crate) fn troubled(&self, during: During, whose: &[Who]) -> Option<Who> {
        let windows = open(&self.windows);
        let was = |who: &Who| windows.iter().any(|w| w.who == *who && w.meets(during));
        whose.iter().copied().find(was)
    }

    /// The last instant before `until` after which there was no trouble of any of these for so long, going back over all that
    /// are closer to each other.
    pub(crate) fn calm_since(&self, until: Instant, long: Duration, whose: &[Who]) -> Instant {
        let back = |at: Instant| at.checked_sub(long).unwrap_or(at);
        let windows = open(&self.windows);
        let mut since = back(until);
        while let Some(earlier) = windows
            .iter()
            .filter(|w| whose.contains(&w.who) && w.meets(During { from: since, to: until }))
            .map(|w| back(w.from))
            .find(|earlier| *earlier < since)
        {
            since = earlier;
        }
        since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_window_is_closed_by_its_own_handle() {
        let (tally, now) = (Tally::default(), Instant::now());
        let disk = tally.trouble(Who::Machine);
        let starved = tally.trouble_from(Who::Machine, now);
        tally.over(starved, Duration::ZERO);
        let later = During { from: now + SECOND, to: now + SECOND };
        assert_eq!(tally.troubled(later, &[Who::Machine]), Some(Who::Machine), "the disk still stands still");
        tally.over(disk, Duration::ZERO);
        assert_eq!(tally.troubled(later, &[Who::Machine]), None);
    }

    #[test]
    fn a_window_excuses_what_overlaps_it_and_nothing_before_or_after() {
        let (tally, now) = (Tally::default(), Instant::now());
        let window = tally.trouble_from(Who::Billing, now + SECOND);
        tally.over(window, SECOND * 2);
        let at = |from: u32, to: u32| During { from: now + SECOND * from, to: now + SECOND * to };
        let excused = |during| tally.troubled(during, &[Who::Envoy(0), Who::Billing]).is_some();
        assert_eq!(
            [at(0, 0), at(0, 1), at(1, 2), at(0, 9), at(4, 9)].map(excused),
            [false, true, true, true, false]
        );
    }

    #[test]
    fn no_more_is_cut_than_there_were_connections() {
        let (tally, now) = (Tally::default(), Instant::now());
        let window = tally.trouble_from(Who::Old(1), now);
        let during = During { from: now, to: now };
        assert!(!tally.cut(during, Who::Old(1)), "nobody said how many there are");
        tally.allow_cuts(&window, 2);
        let cuts = [Who::Old(0), Who::Old(1), Who::Old(1), Who::Old(1)].map(|who| tally.cut(during, who));
        assert_eq!(cuts, [false, true, true, false]);
    }

    #[test]
    fn what_may_not_have_been_told_goes_back_over_each_trouble_that_is_near() {
        let (tally, now) = (Tally::default(), Instant::now());
        let at = |seconds: u32| now + SECOND * seconds;
        for (who, from) in [(Who::Link(0), 4), (Who::Billing, 14), (Who::Machine, 17), (Who::Link(1), 10)] {
            let window = tally.trouble_from(who, at(from));
            tally.windows.lock().unwrap()[window.0].until = Some(at(from + 1));
        }
        let whose = [Who::Link(0), Who::Billing, Who::Machine];
        let since = |until| tally.calm_since(at(until), SECOND * 3, &whose);
        assert_eq!(since(30), at(27), "all is long over");
        assert_eq!(since(20), at(11), "the machine's trouble was soon after billing's");
        assert_eq!(since(9), at(6));
    }
}
