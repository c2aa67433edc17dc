//! Windows: free allowances that refill. A window is a grant, made when somebody first needs it.

use units::{Amount, Instant};

/// A rule by which an allowance refills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowRule {
    /// Its name in the catalog; the scope of its grants.
    pub name: String,
    /// How much one window allows.
    pub limit: Amount,
    /// When it refills.
    pub period: Period,
    /// The priority of its grants.
    pub priority: i64,
}

/// How long a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// From midnight to midnight, UTC.
    Day,
}

impl WindowRule {
    /// The window that holds `now`: from, to (not included), and the name of its grant, `rule#2026-11-20`.
    #[must_use]
    pub fn window_at(&self, now: Instant) -> (Instant, Instant, String) {
        const DAY: i64 = 86_400;
        match self.period {
            Period::Day => {
                let day = now.secs().div_euclid(DAY);
                let from = Instant::from_secs(day.saturating_mul(DAY));
                let to = Instant::from_secs(day.saturating_add(1).saturating_mul(DAY));
                let date: String = from.to_rfc3339().chars().take(10).collect();
                (from, to, format!("{}#{date}", self.name))
            }
        }
    }
}
