//! Amounts are whole micro-credits (or whole requests) in an `i64` between 0 and 2^53 − 1; there is no way to make one from a float.

use core::fmt;
use serde::{Deserialize, Serialize};

/// A non-negative quantity: micro-credits where the unit is [`Unit::Credits`], requests where it is [`Unit::Requests`].
///
/// The upper bound is the largest integer that every JSON reader keeps exactly (RFC 8259, section 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Amount(i64);

/// What an [`Amount`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Micro-credits: 1,000,000 of them are one credit.
    Credits,
    /// Whole requests, as counted by a window such as "3 a day".
    Requests,
}

/// Why a number is not an [`Amount`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AmountError {
    /// Below zero.
    Negative,
    /// Not digits with at most six decimals.
    NotDecimal,
    /// Above 2^53 − 1.
    TooLarge,
}

impl Amount {
    /// One credit.
    pub const CREDIT: Amount = Amount(1_000_000);
    /// 2^53 − 1.
    pub const MAX: Amount = Amount(9_007_199_254_740_991);
    /// One request, where the unit is requests.
    pub const ONE: Amount = Amount(1);
    /// Nothing.
    pub const ZERO: Amount = Amount(0);

    /// An amount of `value` micro-credits or requests.
    ///
    /// # Errors
    /// [`AmountError::Negative`] below zero, [`AmountError::TooLarge`] above 2^53 − 1.
    pub const fn new(value: i64) -> Result<Self, AmountError> {
        if value < 0 {
            Err(AmountError::Negative)
        } else if value > Self::MAX.0 {
            Err(AmountError::TooLarge)
        } else {
            Ok(Self(value))
        }
    }

    /// Reads credits as people write them: `12`, `0.5`, `12.345678`.
    ///
    /// # Errors
    /// [`AmountError`] says which rule was broken; a seventh decimal is refused, not rounded.
    pub fn from_credits(text: &str) -> Result<Self, AmountError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if text.starts_with('-') {
            return Err(AmountError::Negative);
        }
        if !digits(whole) || !digits(fraction) || fraction.len() > 6 {
            return Err(AmountError::NotDecimal);
        }
        let whole: i64 = whole.parse().map_err(|_| AmountError::TooLarge)?;
        let micro: i64 = format!("{fraction:0<6}").parse().map_err(|_| AmountError::NotDecimal)?;
        let total = whole.checked_mul(Self::CREDIT.0).and_then(|w| w.checked_add(micro));
        total.map_or(Err(AmountError::TooLarge), Self::new)
    }

    /// The number itself: micro-credits or requests.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// True for nothing at all.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` above [`Amount::MAX`].
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(|sum| Self::new(sum).ok())
    }

    /// The difference, or `None` if it would be negative.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).and_then(|rest| Self::new(rest).ok())
    }

    /// The difference, or zero if it would be negative. Only for "how much is left at most".
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        self.checked_sub(other).unwrap_or(Self::ZERO)
    }

    /// The product, or `None` above [`Amount::MAX`].
    #[must_use]
    pub fn checked_mul(self, times: u32) -> Option<Self> {
        self.0.checked_mul(i64::from(times)).and_then(|product| Self::new(product).ok())
    }

    /// A whole part of it, rounded down; a zero divisor gives nothing.
    #[must_use]
    pub fn part(self, parts: u32) -> Self {
        Self(self.0.checked_div(i64::from(parts)).unwrap_or(0))
    }

    /// As people read credits: `12`, `0.5`, `12.345678`. Meaningless for requests.
    #[must_use]
    pub fn to_credits(self) -> String {
        signed_credits(self.0)
    }
}

/// A signed number of micro-credits as people read credits: a balance in debt begins with `-`.
#[must_use]
pub fn signed_credits(micro: i64) -> String {
    let absolute = micro.unsigned_abs();
    let mut text = String::with_capacity(24);
    if micro < 0 {
        text.push('-');
    }
    // The balance is written for each request.
    let mut buffer = itoa::Buffer::new();
    text.push_str(buffer.format(absolute.div_euclid(1_000_000)));
    let fraction = absolute.rem_euclid(1_000_000);
    if fraction > 0 {
        text.push('.');
        // Seven digits, of which the first stands for the zeros that may lead the others.
        let digits = buffer.format(fraction.saturating_add(1_000_000));
        text.push_str(digits.strip_prefix('1').unwrap_or(digits).trim_end_matches('0'));
    }
    text
}

impl TryFrom<i64> for Amount {
    type Error = AmountError;
    fn try_from(value: i64) -> Result<Self, AmountError> {
        Self::new(value)
    }
}

impl From<Amount> for i64 {
    fn from(amount: Amount) -> i64 {
        amount.0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for AmountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Negative => "is below zero; an amount is never negative",
            Self::NotDecimal => "is not a number of credits such as 12 or 0.5 (at most six decimals)",
            Self::TooLarge => "is above 9007199254740991 (2^53 - 1), the largest amount",
        })
    }
}

impl core::error::Error for AmountError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_are_read_and_written_exactly() {
        for (text, micro) in [("0", 0), ("12", 12_000_000), ("0.5", 500_000), ("12.345678", 12_345_678)] {
            let amount = Amount::from_credits(text).unwrap();
            assert_eq!(amount.get(), micro);
            assert_eq!(amount.to_credits(), text);
        }
        assert_eq!(signed_credits(-80_000_000), "-80");
        assert_eq!(signed_credits(-1), "-0.000001");
        assert_eq!(signed_credits(11_100_110), "11.10011");
    }

    #[test]
    fn what_is_not_an_amount_has_a_reason() {
        for (text, why) in [
            ("-1", AmountError::Negative),
            ("", AmountError::NotDecimal),
            ("1.", AmountError::NotDecimal),
            (".5", AmountError::NotDecimal),
            ("1e3", AmountError::NotDecimal),
            ("1.2345678", AmountError::NotDecimal),
            ("9007199255", AmountError::TooLarge),
            ("99999999999999999999", AmountError::TooLarge),
        ] {
            assert_eq!(Amount::from_credits(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn arithmetic_stays_between_zero_and_the_maximum() {
        assert_eq!(Amount::MAX.checked_add(Amount::ONE), None);
        assert_eq!(Amount::ZERO.checked_sub(Amount::ONE), None);
        assert_eq!(Amount::MAX.checked_mul(2), None);
        assert_eq!(Amount::CREDIT.part(0), Amount::ZERO);
        assert_eq!(Amount::new(Amount::MAX.get().saturating_add(1)), Err(AmountError::TooLarge));
    }
}
