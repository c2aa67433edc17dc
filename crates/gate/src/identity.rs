//! Who is asking? One caller, named by everything in the request that could name one, or nobody.
//!
//! A request whose credentials name different callers, or that brings one which nobody knows how to read, is not
//! half-believed: it is unauthenticated. The order of the configured ways so decides nothing but what is tried first.

use crate::config::Identity;
use crate::input::{Headers, Single};
use sha2::{Digest, Sha256};
use units::{Subject, SubjectKind};

pub(crate) const AUTHORIZATION: &str = "authorization";

/// Why nobody is known, for the log and never for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nobody {
    /// No credential at all.
    Missing,
    /// One header, several times or with several values.
    Repeated,
    /// A credential of no configured kind, or a token that Envoy did not verify.
    Unreadable,
    /// Several, of different callers.
    Contradictory,
}

impl Nobody {
    /// As it is written in the access log.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Repeated => "repeated",
            Self::Unreadable => "unreadable",
            Self::Contradictory => "contradictory",
        }
    }
}

/// Tells who is asking; `verified` is the claim that names the caller, if Envoy verified a token.
///
/// # Errors
/// [`Nobody`] unless every credential names one and the same caller.
pub(crate) fn identify(
    ways: &[Identity],
    headers: &Headers,
    verified: Option<&[u8]>,
) -> Result<Subject, Nobody> {
    let (mut caller, mut contradictory) = (None, false);
    if let Some(claim) = verified {
        let claim = core::str::from_utf8(claim).map_err(|_| Nobody::Unreadable)?;
        caller = Some(Subject::new(SubjectKind::JwtSub, claim).map_err(|_| Nobody::Unreadable)?);
    }
    for name in credential_headers(ways) {
        let value = match headers.single(name) {
            Single::Absent => continue,
            Single::Repeated => return Err(Nobody::Repeated),
            Single::One(value) => core::str::from_utf8(value).map_err(|_| Nobody::Unreadable)?.trim(),
        };
        if value.is_empty() {
            continue;
        }
        // Envoy joins repetitions of some headers by a comma, which no credential can hold.
        if value.contains(',') {
            return Err(Nobody::Repeated);
        }
        let credential = if name == AUTHORIZATION { bearer(value).ok_or(Nobody::Unreadable)? } else { value };
        match api_key(ways, name, credential) {
            Some(subject) => match &caller {
                Some(known) => contradictory |= *known != subject,
                None => caller = Some(subject),
            },
            // The Bearer that is no key is the token which Envoy verified.
            None if name == AUTHORIZATION && verified.is_some() => {}
            None => return Err(Nobody::Unreadable),
        }
    }
    if contradictory { Err(Nobody::Contradictory) } else { caller.ok_or(Nobody::Missing) }
}

/// The headers that hold a credential of Tollgate's own, each once; they must not go upstream.
pub(crate) fn credential_headers(ways: &[Identity]) -> impl Iterator<Item = &str> {
    let names = || {
        ways.iter().flat_map(|way| {
            let (token, keys) = match way {
                Identity::Jwt { .. } => (Some(AUTHORIZATION), &[][..]),
                Identity::ApiKey { headers, .. } => (None, headers.as_slice()),
            };
            token.into_iter().chain(keys.iter().map(String::as_str))
        })
    };
    names()
        .enumerate()
        .filter(move |(n, name)| !names().take(*n).any(|earlier| earlier == *name))
        .map(|(_, name)| name)
}

/// RFC 6750, section 2.1: the scheme, in any case, and one token.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ')).then_some(token)
}

fn api_key(ways: &[Identity], header: &str, credential: &str) -> Option<Subject> {
    let is_key = ways.iter().any(|way| match way {
        Identity::Jwt { .. } => false,
        Identity::ApiKey { prefix, length, headers } => {
            headers.iter().any(|name| name == header)
                && credential.len() == *length
                && credential
                    .strip_prefix(prefix.as_str())
                    .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphanumeric()))
        }
    });
    if is_key {
        Subject::new(SubjectKind::ApiKeySha256, sha256_hex(credential.as_bytes())).ok()
    } else {
        None
    }
}

/// Lower-case hexadecimal digits of SHA-256.
fn sha256_hex(bytes: &[u8]) -> String {
    let digits = Sha256::digest(bytes).into_iter().flat_map(|byte| [byte.wrapping_shr(4), byte & 0xF]);
    let mut hex = String::with_capacity(64);
    hex.extend(digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)));
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "tgk_0123456789abcdefghijABCDEFGHIJ01";

    fn ways() -> Vec<Identity> {
        vec![
            Identity::Jwt { metadata: vec!["ns".into(), "payload".into()], claim: "sub".into() },
            Identity::ApiKey {
                prefix: "tgk_".into(),
                length: 36,
                headers: ["authorization", "x-api-key", "x-goog-api-key"].map(String::from).to_vec(),
            },
        ]
    }

    fn who(headers: &[(&str, &str)], verified: Option<&str>) -> Result<(SubjectKind, String), Nobody> {
        let headers: Headers = headers.iter().copied().collect();
        identify(&ways(), &headers, verified.map(str::as_bytes)).map(|s| (s.kind, s.value))
    }

    #[test]
    fn a_key_is_known_by_its_hash_wherever_it_stands() {
        // printf %s tgk_0123456789abcdefghijABCDEFGHIJ01 | sha256sum
        let hash = "ae768a785249ff3abd925947609c29d14fc31039f0eaca38f5b2221e8817c5be";
        let bearer = format!("Bearer {KEY}");
        for header in [("authorization", bearer.as_str()), ("x-api-key", KEY), ("x-goog-api-key", KEY)] {
            assert_eq!(who(&[header], None), Ok((SubjectKind::ApiKeySha256, hash.to_owned())));
        }
        assert!(who(&[("authorization", &bearer), ("x-api-key", KEY)], None).is_ok(), "the same one twice");
        assert!(who(&[("authorization", &format!("bearer  {KEY} "))], None).is_ok());
    }

    #[test]
    fn a_verified_token_names_its_subject_and_an_unverified_one_nobody() {
        let token = [("authorization", "Bearer eyJhbGciOiJFUzI1NiJ9.e30.c2ln")];
        assert_eq!(who(&token, Some("alice")), Ok((SubjectKind::JwtSub, "alice".to_owned())));
        assert_eq!(
            who(&[], Some("alice")),
            Ok((SubjectKind::JwtSub, "alice".to_owned())),
            "from a query parameter"
        );
        assert_eq!(who(&token, None), Err(Nobody::Unreadable));
    }

    #[test]
    fn whatever_is_not_one_caller_is_nobody() {
        let (bearer, other) = (format!("Bearer {KEY}"), KEY.replace('0', "1"));
        let twice = format!("{bearer},{bearer}");
        for (headers, verified, why) in [
            (vec![], None, Nobody::Missing),
            (vec![("authorization", "")], None, Nobody::Missing),
            (
                vec![("authorization", bearer.as_str()), ("authorization", bearer.as_str())],
                None,
                Nobody::Repeated,
            ),
            (vec![("authorization", twice.as_str())], None, Nobody::Repeated),
            (
                vec![("authorization", bearer.as_str()), ("x-api-key", other.as_str())],
                None,
                Nobody::Contradictory,
            ),
            (vec![("authorization", bearer.as_str())], Some("alice"), Nobody::Contradictory),
            (vec![("x-api-key", KEY)], Some("alice"), Nobody::Contradictory),
            (vec![("authorization", "Basic dXNlcjpwYXNz")], None, Nobody::Unreadable),
            (vec![("authorization", "Basic dXNlcjpwYXNz")], Some("alice"), Nobody::Unreadable),
            (vec![("authorization", KEY)], None, Nobody::Unreadable),
            (vec![("x-api-key", "sk-somebody-elses")], None, Nobody::Unreadable),
            (vec![("x-api-key", KEY.trim_end_matches("1"))], None, Nobody::Unreadable),
            (vec![("x-api-key", "tgk_0123456789abcdefghijABCDEFGHIJ0!")], None, Nobody::Unreadable),
            (vec![], Some("a\nb"), Nobody::Unreadable),
            (vec![], Some(""), Nobody::Unreadable),
        ] {
            assert_eq!(who(&headers, verified), Err(why), "{headers:?} {verified:?}");
        }
        let bytes = Headers::new(vec![("x-api-key".into(), vec![0xA1, 0xB1])]);
        assert_eq!(identify(&ways(), &bytes, None), Err(Nobody::Unreadable));
        assert_eq!(identify(&ways(), &Headers::default(), Some(b"\xA1")), Err(Nobody::Unreadable));
    }
}
