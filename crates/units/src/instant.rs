//! An instant is a number somebody handed us; nothing here knows what time it is.

use core::fmt;
use serde::{Deserialize, Serialize, Serializer};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Microseconds since 1970-01-01T00:00:00Z. On the gateway's monotonic clock the origin is arbitrary.
///
/// In JSON it is RFC 3339 in UTC, to the millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Instant(i64);

/// A length of time in microseconds, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(u64);

/// A text that is no RFC 3339 instant, or an instant outside the years 0 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstantError;

impl Instant {
    /// The origin.
    pub const EPOCH: Instant = Instant(0);
    /// An instant that never comes (9999-12-31T23:59:59Z); for what does not expire.
    pub const FAR: Instant = Instant(253_402_300_799_000_000);

    /// From microseconds since the origin.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From whole seconds since the origin; clamped to the range of the type.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the origin.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the origin, rounded down.
    #[must_use]
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Later by `span`; stops at the end of the type.
    #[must_use]
    pub fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.0).unwrap_or(i64::MAX)))
    }

    /// Earlier by `span`; stops at the beginning of the type.
    #[must_use]
    pub fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.0).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; nothing if it is not.
    #[must_use]
    pub fn since(self, earlier: Instant) -> Span {
        Span(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// As RFC 3339 in UTC with whole seconds, or with milliseconds where there are any.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let at = OffsetDateTime::from_unix_timestamp(self.secs()).ok();
        let Some(at) = at.filter(|at| (0..=9999).contains(&at.year())) else {
            return String::from("9999-12-31T23:59:59Z");
        };
        let millis = self.0.rem_euclid(1_000_000).div_euclid(1_000);
        // Every usage record has one, and formatting by a description takes ten times as long.
        let mut text = String::with_capacity(24);
        digits(&mut text, i64::from(at.year()), 1_000);
        for (before, part) in [
            ('-', u8::from(at.month())),
            ('-', at.day()),
            ('T', at.hour()),
            (':', at.minute()),
            (':', at.second()),
        ] {
            text.push(before);
            digits(&mut text, i64::from(part), 10);
        }
        if millis > 0 {
            text.push('.');
            digits(&mut text, millis, 100);
            text.truncate(text.trim_end_matches('0').len());
        }
        text.push('Z');
        text
    }

    /// Reads RFC 3339.
    ///
    /// # Errors
    /// [`InstantError`] if it is anything else.
    pub fn from_rfc3339(text: &str) -> Result<Self, InstantError> {
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InstantError)?;
        let micros = at.unix_timestamp_nanos().div_euclid(1_000);
        i64::try_from(micros).map(Self).map_err(|_| InstantError)
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// From microseconds.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// From milliseconds; clamped to the range of the type.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// From seconds; clamped to the range of the type.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds, rounded down.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0.div_euclid(1_000)
    }

    /// Whole seconds, rounded up: what a `Retry-After` must say.
    #[must_use]
    pub const fn secs_up(self) -> u64 {
        self.0.div_ceil(1_000_000)
    }

    /// A whole part of it, rounded down; a zero divisor gives no time.
    #[must_use]
    pub fn part(self, parts: u64) -> Self {
        Self(self.0.checked_div(parts).unwrap_or(0))
    }

    /// Both, one after the other.
    #[must_use]
    pub const fn plus(self, other: Span) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl TryFrom<String> for Instant {
    type Error = InstantError;
    fn try_from(text: String) -> Result<Self, InstantError> {
        Self::from_rfc3339(&text)
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_rfc3339())
    }
}

/// The decimal digits of `number` from that of `place` (a power of ten) on, with leading zeros.
fn digits(text: &mut String, number: i64, mut place: i64) {
    while let Some(rest) = number.checked_div(place) {
        let digit = u8::try_from(rest.rem_euclid(10)).unwrap_or(0);
        text.push(char::from(b'0'.saturating_add(digit)));
        place = place.div_euclid(10);
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl fmt::Display for InstantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is not an RFC 3339 instant such as 2026-11-20T09:30:00Z")
    }
}

impl core::error::Error for InstantError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_there_and_back() {
        let at = Instant::from_secs(1_763_631_000);
        assert_eq!(at.to_rfc3339(), "2025-11-20T09:30:00Z");
        assert_eq!(Instant::from_rfc3339("2025-11-20T10:30:00+01:00"), Ok(at));
        assert_eq!(Instant::FAR.to_rfc3339(), "9999-12-31T23:59:59Z");
        for text in ["0001-02-03T04:05:06.07Z", "1969-12-31T23:59:59.999Z", "2028-02-29T00:00:00.1Z"] {
            assert_eq!(Instant::from_rfc3339(text).unwrap().to_rfc3339(), text);
        }
        assert_eq!(Instant::from_rfc3339("yesterday"), Err(InstantError));
        assert_eq!(Instant::from_micros(i64::MAX).to_rfc3339(), "9999-12-31T23:59:59Z");
        assert_eq!(
            Instant::from_secs(-70_000_000_000).to_rfc3339(),
            "9999-12-31T23:59:59Z",
            "before the year 0"
        );
    }

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(Instant::from_micros(i64::MAX).plus(Span::from_secs(9)), Instant::from_micros(i64::MAX));
        assert_eq!(Instant::EPOCH.since(Instant::from_secs(5)), Span::ZERO);
        assert_eq!(Span::from_millis(1).secs_up(), 1);
        assert_eq!(Instant::from_micros(-1).secs(), -1);
    }
}
