//! Identifiers are opaque, bounded, printable ASCII, not interchangeable with one another, and cheap to clone.

use core::fmt;
use serde::{Deserialize, Serialize, Serializer};
use std::sync::Arc;

/// Why a text is not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdError {
    /// No character at all.
    Empty,
    /// A character outside the printable ASCII range `!`..=`~`.
    NotPrintable,
    /// More than 255 bytes. Stripe asks for room for 255 characters.
    TooLong,
}

/// The longest identifier, in bytes.
pub(crate) const ID_BYTES_MAX: usize = 255;

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        Err(IdError::Empty)
    } else if text.len() > ID_BYTES_MAX {
        Err(IdError::TooLong)
    } else if !text.bytes().all(|b| b.is_ascii_graphic()) {
        Err(IdError::NotPrintable)
    } else {
        Ok(())
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a text that is printable, not empty and at most 255 bytes long.
            ///
            /// # Errors
            /// [`IdError`] says which rule was broken.
            pub fn new(text: impl Into<Arc<str>>) -> Result<Self, IdError> {
                let text = text.into();
                check(&text)?;
                Ok(Self(text))
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text, without a copy.
            #[must_use]
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.as_str().to_owned()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// Whoever has a balance: a user, a team, an agent.
    AccountId
}
id! {
    /// A priced kind of work, such as `chat` or `image`.
    EndpointId
}
id! {
    /// Stripe's `evt_…`.
    EventId
}
id! {
    /// The stable name of one Envoy.
    NodeName
}
id! {
    /// What a client, its support and the logs call one request.
    RequestId
}
id! {
    /// A tier of the catalog, such as `free` or `pro`.
    TierId
}

impl RequestId {
    /// A name for a request that has no other.
    #[must_use]
    pub fn numbered(number: u64) -> Self {
        Self(format!("tollgate-{number:016x}").into())
    }
}

/// Where the name of a caller came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectKind {
    /// SHA-256 of a whole API key, 64 lower-case hexadecimal digits.
    ApiKeySha256,
    /// A header that a trusted proxy in front of this one sets.
    Header,
    /// The `sub` claim of a token that Envoy verified.
    JwtSub,
}

impl SubjectKind {
    /// As it is written in JSON and in `x-tollgate-subject`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiKeySha256 => "api_key_sha256",
            Self::Header => "header",
            Self::JwtSub => "jwt_sub",
        }
    }
}

/// Who is asking, as far as the gateway can tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawSubject")]
pub struct Subject {
    /// Where the name came from.
    pub kind: SubjectKind,
    /// The name: 1 to 255 bytes without control characters.
    pub value: String,
}

impl Subject {
    /// A subject from a name of 1 to 255 bytes without control characters.
    ///
    /// # Errors
    /// [`IdError`] says which rule was broken.
    pub fn new(kind: SubjectKind, value: impl Into<String>) -> Result<Self, IdError> {
        let value: String = value.into();
        if value.is_empty() {
            return Err(IdError::Empty);
        }
        if value.len() > ID_BYTES_MAX {
            return Err(IdError::TooLong);
        }
        if value.chars().any(char::is_control) {
            return Err(IdError::NotPrintable);
        }
        Ok(Self { kind, value })
    }
}

#[derive(Deserialize)]
struct RawSubject {
    kind: SubjectKind,
    value: String,
}

impl TryFrom<RawSubject> for Subject {
    type Error = IdError;
    fn try_from(raw: RawSubject) -> Result<Self, IdError> {
        Self::new(raw.kind, raw.value)
    }
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::NotPrintable => "holds a character that is not printable",
            Self::TooLong => "is longer than 255 bytes",
        })
    }
}

impl core::error::Error for IdError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_bounded_and_printable() {
        assert!(AccountId::new("user_1").is_ok());
        assert_eq!(AccountId::new(""), Err(IdError::Empty));
        assert_eq!(AccountId::new("a b"), Err(IdError::NotPrintable));
        assert_eq!(AccountId::new("é"), Err(IdError::NotPrintable));
        assert_eq!(AccountId::new("x".repeat(256)), Err(IdError::TooLong));
    }

    #[test]
    fn a_subject_may_be_any_text_without_control_characters() {
        assert!(Subject::new(SubjectKind::JwtSub, "anna müller").is_ok());
        assert_eq!(Subject::new(SubjectKind::JwtSub, "a\nb"), Err(IdError::NotPrintable));
    }
}
