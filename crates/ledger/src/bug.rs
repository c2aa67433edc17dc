//! A bug is a broken rule of the program itself: the transaction is aborted and the book is dropped.

use core::fmt;

/// What can only happen if the program, or what was loaded, is wrong. Never a reaction to a customer or a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bug {
    /// An amount would have left its range (0 to 2^53 − 1).
    Range {
        /// Which sum or difference.
        what: &'static str,
    },
    /// An invariant does not hold after a command.
    Broken {
        /// Its number, `I1` to `I14`.
        invariant: &'static str,
        /// Which row, with its values.
        detail: String,
    },
    /// The caller gave a command that nothing legitimate can produce.
    Misuse {
        /// What is wrong with it and what to give instead.
        what: &'static str,
    },
    /// A row that the command needs was not loaded (see [`crate::Book`]).
    NotLoaded {
        /// Which row.
        what: String,
    },
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { what } => write!(f, "{what} would leave the range of an amount"),
            Self::Broken { invariant, detail } => write!(f, "invariant {invariant} is broken: {detail}"),
            Self::Misuse { what } => write!(f, "misused: {what}"),
            Self::NotLoaded { what } => write!(f, "not loaded: {what}"),
        }
    }
}

impl core::error::Error for Bug {}
