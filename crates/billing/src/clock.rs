//! The one place that knows what time it is; everything inside is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use units::{Instant, Span};

/// Wall-clock time, or a time that tests set.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's.
    System,
    /// Microseconds since 1970 that somebody else moves.
    Fake(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `at` until it is moved.
    #[must_use]
    pub fn fake(at: Instant) -> Self {
        Self::Fake(Arc::new(AtomicI64::new(at.micros())))
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Instant {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Instant::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
            Self::Fake(at) => Instant::from_micros(at.load(Ordering::SeqCst)),
        }
    }

    /// Moves a fake clock on; the machine's clock is left alone.
    pub fn advance(&self, span: Span) {
        if let Self::Fake(at) = self {
            at.store(self.now().plus(span).micros(), Ordering::SeqCst);
        }
    }
}
