//! Every way in which a delivery fails to prove that it is Stripe's: for the metric and the log, never for the sender.

use core::fmt;

/// Why a delivery is refused. Checks run in this order, and the first that fails is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forgery {
    /// No secret is configured, so that nothing can be proved.
    NoSecret,
    /// No `Stripe-Signature`, or an empty one.
    NoHeader,
    /// More than one header line; Stripe sends one.
    SeveralHeaders,
    /// More than 4,096 bytes.
    HeaderTooLong,
    /// More than 32 elements.
    TooManyElements,
    /// An element that is not `key=value`.
    MalformedElement,
    /// More than 16 `v1` elements.
    TooManySignatures,
    /// More than one `t`: which one was signed, and which one is fresh?
    SeveralTimestamps,
    /// A `t` that is not 1 to 12 digits without a leading zero.
    MalformedTimestamp,
    /// No `t`.
    NoTimestamp,
    /// No `v1`. Other schemes do not count, or a sender could choose a weaker one.
    NoSignature,
    /// Each `v1` is something other than 64 lower-case hexadecimal digits.
    MalformedSignature,
    /// Signed longer ago than the tolerance: perhaps a replay.
    TooOld,
    /// Signed further in the future than the tolerance.
    TooNew,
    /// Well-formed and fresh, but no secret gives any of its signatures.
    Mismatch,
}

impl Forgery {
    /// Every variant, in the order of the checks.
    pub const ALL: [Forgery; 15] = [
        Self::NoSecret,
        Self::NoHeader,
        Self::SeveralHeaders,
        Self::HeaderTooLong,
        Self::TooManyElements,
        Self::MalformedElement,
        Self::TooManySignatures,
        Self::SeveralTimestamps,
        Self::MalformedTimestamp,
        Self::NoTimestamp,
        Self::NoSignature,
        Self::MalformedSignature,
        Self::TooOld,
        Self::TooNew,
        Self::Mismatch,
    ];

    /// As it is written in metric labels and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSecret => "no_secret",
            Self::NoHeader => "no_header",
            Self::SeveralHeaders => "several_headers",
            Self::HeaderTooLong => "header_too_long",
            Self::TooManyElements => "too_many_elements",
            Self::MalformedElement => "malformed_element",
            Self::TooManySignatures => "too_many_signatures",
            Self::SeveralTimestamps => "several_timestamps",
            Self::MalformedTimestamp => "malformed_timestamp",
            Self::NoTimestamp => "no_timestamp",
            Self::NoSignature => "no_signature",
            Self::MalformedSignature => "malformed_signature",
            Self::TooOld => "too_old",
            Self::TooNew => "too_new",
            Self::Mismatch => "mismatch",
        }
    }
}

impl fmt::Display for Forgery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for Forgery {}
