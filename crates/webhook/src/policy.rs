//! Which verified events go on: by mode and by type. What does not is answered 200, so that Stripe does not retry it.

use core::fmt;
use core::str::FromStr;

/// Which `livemode` an endpoint takes. An endpoint for connected accounts receives both, whatever its own mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Livemode {
    /// Both.
    Any,
    /// Real money only.
    Live,
    /// Test mode and sandboxes only.
    Test,
}

/// A set of event types: `*` for all, `invoice.*` for all that begin with `invoice.`, or one type exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypePattern(Pattern);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    All,
    /// Ends with the dot.
    Under(Box<str>),
    Exactly(Box<str>),
}

/// A text that is no such policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// Not `any`, `live` or `test`.
    Livemode,
    /// Neither `*`, nor `some.prefix.*`, nor a type.
    TypePattern,
}

impl Livemode {
    /// Whether an event with this `livemode` goes on.
    #[must_use]
    pub const fn allows(self, livemode: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Live => livemode,
            Self::Test => !livemode,
        }
    }
}

impl FromStr for Livemode {
    type Err = PolicyError;
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text {
            "any" => Ok(Self::Any),
            "live" => Ok(Self::Live),
            "test" => Ok(Self::Test),
            _ => Err(PolicyError::Livemode),
        }
    }
}

impl TypePattern {
    /// Whether an event of this type belongs to the set.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        match &self.0 {
            Pattern::All => true,
            Pattern::Under(prefix) => event_type.strip_prefix(&**prefix).is_some_and(|rest| !rest.is_empty()),
            Pattern::Exactly(one) => event_type == &**one,
        }
    }
}

impl FromStr for TypePattern {
    type Err = PolicyError;
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let plain = |t: &str| {
            let name = |part: &str| {
                !part.is_empty()
                    && part.bytes().all(|b| {
                        b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'[' | b']')
                    })
            };
            t.split('.').all(name)
        };
        match text.strip_suffix(".*") {
            _ if text == "*" => Ok(Self(Pattern::All)),
            Some(prefix) if plain(prefix) => Ok(Self(Pattern::Under(format!("{prefix}.").into()))),
            None if plain(text) => Ok(Self(Pattern::Exactly(text.into()))),
            _ => Err(PolicyError::TypePattern),
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Livemode => "is not any, live or test",
            Self::TypePattern => "is not an event type such as invoice.paid, nor invoice.*, nor *",
        })
    }
}

impl core::error::Error for PolicyError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_words() {
        for (pattern, yes, no) in [
            ("*", &["invoice.paid", "x"][..], &[][..]),
            (
                "invoice.*",
                &["invoice.paid", "invoice.payment.x"],
                &["invoice", "invoice.", "invoiceitem.created"],
            ),
            ("invoice.paid", &["invoice.paid"], &["invoice.paid_", "invoice.pai", "x.invoice.paid"]),
            (
                "v2.core.account[identity].*",
                &["v2.core.account[identity].updated"],
                &["v2.core.account.updated"],
            ),
        ] {
            let pattern: TypePattern = pattern.parse().unwrap();
            assert!(yes.iter().all(|t| pattern.matches(t)), "{pattern:?} should match {yes:?}");
            assert!(!no.iter().any(|t| pattern.matches(t)), "{pattern:?} should match none of {no:?}");
        }
    }

    #[test]
    fn what_would_match_nothing_is_refused() {
        for text in [
            "",
            ".",
            ".*",
            "**",
            "*.paid",
            "invoice*",
            "invoice.*.x",
            "invoice..*",
            " invoice.paid",
            "Invoice.paid",
        ] {
            assert_eq!(text.parse::<TypePattern>(), Err(PolicyError::TypePattern), "{text:?}");
        }
        assert_eq!("Live".parse::<Livemode>(), Err(PolicyError::Livemode));
    }

    #[test]
    fn a_mode_lets_its_own_events_through() {
        for (mode, live, test) in [("any", true, true), ("live", true, false), ("test", false, true)] {
            let mode: Livemode = mode.parse().unwrap();
            assert_eq!((mode.allows(true), mode.allows(false)), (live, test), "{mode:?}");
        }
    }
}
