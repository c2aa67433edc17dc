//! Why a command was not carried out. Whatever fails is rolled back whole; nothing is half done.
//!
//! Not here: refusals of customers. Those are correct answers, and travel as such.

use std::fmt;

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Whoever asked has to ask differently.
    Invalid(Invalid, String),
    /// The database failed, is full, or is locked; asking again may help.
    Store(String),
    /// There are more commands waiting than can be kept.
    Busy,
    /// The service is ending.
    Stopped,
    /// An invariant is broken. The command was rolled back alone.
    Bug(String),
}

/// What is wrong with what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// It cannot be read.
    Malformed,
    /// The connection ended before all of it had come; nobody hears the answer.
    BrokenOff,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// Nothing of that name is here.
    NotFound,
    /// The path is known, but not with this method.
    Method,
    /// It contradicts what is already recorded.
    Conflict,
    /// It is larger than the limits say.
    TooLarge,
    /// It is said to be something other than JSON.
    NoJson,
    /// It can be read, and makes no sense.
    Unprocessable,
}

impl Invalid {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::BrokenOff,
        Self::Unauthorized,
        Self::NotFound,
        Self::Method,
        Self::Conflict,
        Self::TooLarge,
        Self::NoJson,
        Self::Unprocessable,
    ];

    /// HTTP status, short name, title.
    #[must_use]
    pub const fn told(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Malformed => (400, "malformed", "Not understood"),
            Self::BrokenOff => (400, "broken_off", "Not all of it came"),
            Self::Unauthorized => (401, "unauthorized", "Not authorised"),
            Self::NotFound => (404, "not_found", "Not found"),
            Self::Method => (405, "method_not_allowed", "Method not allowed"),
            Self::Conflict => (409, "conflict", "Conflict"),
            Self::TooLarge => (413, "too_large", "Too large"),
            Self::NoJson => (415, "unsupported_media_type", "Not JSON"),
            Self::Unprocessable => (422, "unprocessable", "Cannot be done"),
        }
    }

    /// An error of this kind.
    pub fn because(self, detail: impl Into<String>) -> Error {
        Error::Invalid(self, detail.into())
    }
}

impl Error {
    /// The short names of what is not the asker's fault.
    pub const OF_OURS: [&'static str; 4] = ["store_unavailable", "busy", "stopping", "bug"];

    /// HTTP status, short name, title.
    #[must_use]
    pub const fn told(&self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Invalid(kind, _) => kind.told(),
            Self::Store(_) => (503, "store_unavailable", "Database unavailable"),
            Self::Busy => (503, "busy", "Too busy"),
            Self::Stopped => (503, "stopping", "Stopping"),
            Self::Bug(_) => (500, "bug", "Internal error"),
        }
    }

    /// The same, said of one part of what was asked.
    #[must_use]
    pub fn at(self, place: &str) -> Self {
        match self {
            Self::Invalid(kind, detail) => Self::Invalid(kind, format!("{place}: {detail}")),
            other => other,
        }
    }

    /// What the caller may know of it; the inside of a failure goes to the log only.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Invalid(_, detail) => detail,
            Self::Store(_) => "The ledger could not be written; nothing was changed. Try again.",
            Self::Busy => "More commands are waiting than can be kept. Try again.",
            Self::Stopped => "The service is ending. Try again.",
            Self::Bug(_) => "A rule of the ledger was about to be broken, so nothing was changed.",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(kind, detail) => write!(f, "{}: {detail}", kind.told().1),
            Self::Store(why) | Self::Bug(why) => write!(f, "{}: {why}", self.told().1),
            Self::Busy | Self::Stopped => f.write_str(self.told().1),
        }
    }
}

impl std::error::Error for Error {}
