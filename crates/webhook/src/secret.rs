//! A signing secret: checked once when it is configured, and never shown again.

use core::fmt;

/// The secret of one Stripe endpoint, `whsec_` included: the whole string is the key, as it stands.
///
/// Stripe's key is not what other schemes make of the same prefix: nothing is cut off, nothing is decoded.
/// There is no `PartialEq`, whose time would tell how much of a guess is right, and no way to print it.
#[derive(Clone)]
pub struct Secret(Box<str>);

/// Why a text cannot be a secret. None of them shows the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretError {
    /// Nothing: a variable that was never set. Anybody can sign with an empty key.
    Empty,
    /// Blanks or a newline at either end, as pasting leaves them.
    Padded,
    /// A blank, a newline or a control character inside. NUL bytes would also pad an empty key to any length.
    NotPrintable,
    /// Fewer than 16 bytes: could be guessed. Stripe's have 38.
    TooShort,
}

/// The fewest bytes of a secret.
const SECRET_BYTES_MIN: usize = 16;

impl Secret {
    /// Takes the text that Stripe's dashboard or command line shows.
    ///
    /// # Errors
    /// [`SecretError`] says which rule was broken.
    pub fn new(text: &str) -> Result<Self, SecretError> {
        let secret = Self::of_any_length(text)?;
        if text.len() < SECRET_BYTES_MIN { Err(SecretError::TooShort) } else { Ok(secret) }
    }

    /// The same without the least length, for known answers of other people's test suites.
    ///
    /// # Errors
    /// [`SecretError`] says which of the other rules was broken.
    #[cfg(feature = "short-secrets")]
    pub fn short(text: &str) -> Result<Self, SecretError> {
        Self::of_any_length(text)
    }

    /// False for a text that does not begin like Stripe's: worth a warning, for it may be another kind of key.
    #[must_use]
    pub fn looks_like_stripes(&self) -> bool {
        self.0.starts_with("whsec_")
    }

    /// The key of the HMAC.
    pub(crate) fn key(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn of_any_length(text: &str) -> Result<Self, SecretError> {
        if text.is_empty() {
            Err(SecretError::Empty)
        } else if text.trim() != text {
            Err(SecretError::Padded)
        } else if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            Err(SecretError::NotPrintable)
        } else {
            Ok(Self(text.into()))
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty; set it to the endpoint's signing secret (whsec_…)",
            Self::Padded => "begins or ends with a blank or a newline; remove it",
            Self::NotPrintable => "holds a blank, a newline or a control character; paste the secret again",
            Self::TooShort => "is shorter than 16 bytes; use the endpoint's whole signing secret (whsec_…)",
        })
    }
}

impl core::error::Error for SecretError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_proves_nothing_is_refused() {
        for (text, why) in [
            ("", SecretError::Empty),
            (" ", SecretError::Padded),
            ("whsec_test_secret\n", SecretError::Padded),
            (" whsec_test_secret", SecretError::Padded),
            ("\u{a0}whsec_test_secret", SecretError::Padded),
            ("whsec_test secret", SecretError::NotPrintable),
            ("whsec_test\r\nsecret", SecretError::NotPrintable),
            ("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", SecretError::NotPrintable),
            ("whsec_123456789", SecretError::TooShort),
        ] {
            assert_eq!(Secret::new(text).err(), Some(why), "{text:?}");
        }
    }

    #[test]
    fn the_whole_text_is_the_key_and_is_never_shown() {
        let secret = Secret::new("whsec_1234567890").unwrap();
        assert_eq!(secret.key(), b"whsec_1234567890");
        assert_eq!(format!("{secret:?} {:?}", [&secret]), "Secret(…) [Secret(…)]");
        assert!(secret.looks_like_stripes());
        assert!(!Secret::new("sk_live_1234567890").unwrap().looks_like_stripes());
    }
}
