//! What really happened, counted where nobody in the protocol can see it.

/// In micro-credits, at the price that each request was let through at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oracle {
    /// Requests that were answered in some way.
    pub answered: u64,
    /// Requests that went upstream.
    pub forwarded: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests about which nobody could decide.
    pub unavailable: u64,
    /// Requests that went upstream while billing was away, within the allowance.
    pub unpaid: u64,
    /// What the upstream served, and its gateway could tell.
    pub served: i64,
    /// The same, beyond what was held for it.
    pub beyond: i64,
    /// What the upstream served or may have, for requests whose gateway died.
    pub orphaned: i64,
    /// What requests under way may still use.
    pub under_way: i64,
}

impl Oracle {
    /// All that may have been used up to now.
    #[must_use]
    pub const fn used_at_most(&self) -> i64 {
        self.served + self.orphaned + self.under_way
    }
}
