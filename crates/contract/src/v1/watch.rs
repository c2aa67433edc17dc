//! Notes, as soon as there are any, by a long poll.

use super::Note;
use serde::{Deserialize, Serialize};

/// The answer to `GET /gateway/v1/watch?after=N`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchAnswer {
    /// What to ask after next.
    pub after: u64,
    /// True if notes between the asked position and these are no longer known: forget everything remembered.
    pub reset: bool,
    /// In the order in which they happened.
    pub notes: Vec<Note>,
}
