//! How long to leave billing alone after it failed: twice as long each time, up to a second, and not at all after a success.

use units::{Instant, Span};

const FIRST: Span = Span::from_millis(50);
const DOUBLINGS_MAX: u32 = 5;
const LONGEST: Span = Span::from_millis(1_000);
/// After so many failures in a row nobody is kept waiting for the next attempt.
const PATIENCE: u32 = 3;

/// The pace of one line of calls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    failures: u32,
    not_before: Instant,
}

impl Pace {
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub(super) fn failed(&mut self, now: Instant) {
        let times = 1_u64.checked_shl(self.failures.min(DOUBLINGS_MAX)).unwrap_or(1);
        let wait = Span::from_micros(FIRST.micros().saturating_mul(times)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.plus(wait);
    }

    /// May a call go out?
    pub(super) fn allows(&self, now: Instant) -> bool {
        now >= self.not_before
    }

    /// When a call may go out again.
    pub(super) fn not_before(&self) -> Instant {
        self.not_before
    }

    /// Has it failed so often that whoever waits is better told?
    pub(super) fn is_out(&self) -> bool {
        self.failures >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait_up_to_a_second() {
        let mut pace = Pace::default();
        let at = Instant::from_secs(10);
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert_eq!(pace.is_out(), waits.len() >= 3);
            pace.failed(at);
            waits.push(pace.not_before().since(at).millis());
        }
        assert_eq!(waits, [50, 100, 200, 400, 800, 1000, 1000, 1000]);
        assert!(!pace.allows(at) && pace.allows(at.plus(Span::from_secs(1))));
        pace.succeeded();
        assert!(pace.allows(at) && !pace.is_out());
    }
}
