//! The one place that knows what time it is; everything inside is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use units::{Instant, Span};

/// Wall-clock time, or a time that tests set.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's, but never earlier than it was: all who share it see one time that does not go back.
    System(Arc<AtomicI64>),
    /// Microseconds since 1970 that somebody else moves.
    Fake(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `at` until it is moved.
    #[must_use]
    pub fn fake(at: Instant) -> Self {
        Self::Fake(Arc::new(AtomicI64::new(at.micros())))
    }

    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::System(Arc::default())
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Instant {
        match self {
            Self::System(latest) => {
                let now = self.wall().micros();
                Instant::from_micros(latest.fetch_max(now, Ordering::SeqCst).max(now))
            }
            Self::Fake(at) => Instant::from_micros(at.load(Ordering::SeqCst)),
        }
    }

    /// What time the machine says that it is: what others say of their own time is compared with that. Unlike [`Self::now`] it
    /// goes back when the machine is set back, so a clock that was ahead for a moment refuses nobody for longer.
    #[must_use]
    pub fn wall(&self) -> Instant {
        match self {
            Self::System(_) => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Instant::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
            Self::Fake(_) => self.now(),
        }
    }

    /// By how many seconds the machine is behind the latest time that it told. As long as it is, time stands still for the ledger,
    /// which cannot take back what an earlier look at the clock ended.
    #[must_use]
    pub fn behind_secs(&self) -> u64 {
        let behind = self.now().micros().saturating_sub(self.wall().micros());
        u64::try_from(behind).unwrap_or(0).checked_div(1_000_000).unwrap_or(0)
    }

    /// Moves a fake clock on; the machine's clock is left alone.
    pub fn advance(&self, span: Span) {
        if let Self::Fake(at) = self {
            at.store(self.now().plus(span).micros(), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_set_back_does_not_set_back_the_ledger() {
        let clock = Clock::system();
        let now = clock.now();
        assert!(now > Instant::from_secs(1_700_000_000));
        let ahead = now.plus(Span::from_secs(600));
        let Clock::System(latest) = &clock else { panic!("the machine's") };
        latest.store(ahead.micros(), Ordering::SeqCst);
        assert_eq!((clock.now(), clock.clone().now()), (ahead, ahead));
        assert!((now..ahead).contains(&clock.wall()));
        assert!((590..=600).contains(&clock.behind_secs()));
        assert_eq!((Clock::system().behind_secs(), Clock::fake(now).behind_secs()), (0, 0));
    }
}
