//! Windows: free allowances that refill. A window is a grant, made when somebody first needs it.
//!
//! Which days and months there are depends on time zones, which are not known here: the caller says which window it is.

use units::{Amount, Instant};

/// A rule by which an allowance refills, and the window of it that holds the time of the need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowRule {
    /// Its name in the catalog; the scope of its grants.
    pub name: String,
    /// How much one window allows.
    pub limit: Amount,
    /// The priority of its grants.
    pub priority: i64,
    /// The name of this window's grant, such as `rule#2026-11-20`; another window of the rule has another.
    pub source_ref: String,
    /// When this window began.
    pub starts_at: Instant,
    /// When it ends and the next begins; [`Instant::FAR`] if it is the only one.
    pub expires_at: Instant,
}

impl WindowRule {
    /// The window of a rule that refills at midnight UTC, for which no calendar is needed: `rule#2026-11-20`.
    #[must_use]
    pub fn utc_day(name: &str, limit: Amount, priority: i64, now: Instant) -> Self {
        const DAY: i64 = 86_400;
        let day = now.secs().div_euclid(DAY);
        let starts_at = Instant::from_secs(day.saturating_mul(DAY));
        let expires_at = Instant::from_secs(day.saturating_add(1).saturating_mul(DAY));
        let date: String = starts_at.to_rfc3339().chars().take(10).collect();
        Self {
            name: name.to_owned(),
            limit,
            priority,
            source_ref: format!("{name}#{date}"),
            starts_at,
            expires_at,
        }
    }

    /// True if this window holds `now`.
    #[must_use]
    pub fn holds(&self, now: Instant) -> bool {
        self.starts_at <= now && now < self.expires_at
    }

    /// True if another window follows this one.
    #[must_use]
    pub fn refills(&self) -> bool {
        self.expires_at < Instant::FAR
    }
}
