//! Random names and API keys; the only randomness of the service.

use crate::error::Error;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Letters and digits: what a key is written in.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// How many of them follow `tgk_`: 190 bits.
const KEY_LETTERS: usize = 32;
/// Letters of a random name: 142 bits, so that no two are ever alike.
const NAME_LETTERS: usize = 24;

/// A name nobody can guess.
///
/// # Errors
/// [`Error::Store`] if the system has no randomness to give.
pub fn random_name(prefix: &str) -> Result<String, Error> {
    let mut name = prefix.to_owned();
    while name.len() < prefix.len().saturating_add(NAME_LETTERS) {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(|error| Error::Store(format!("no randomness: {error}")))?;
        let missing = prefix.len().saturating_add(NAME_LETTERS).saturating_sub(name.len());
        name.extend(letters(&bytes).take(missing));
    }
    Ok(name)
}

/// The API key of a random salt. Neither the database, which has the salt, nor the secret alone can make it, and
/// together they can make it again for an operator whose connection broke before the answer came.
///
/// # Errors
/// [`Error::Bug`]: an HMAC takes a secret of any length.
pub fn derive_key(secret: &str, salt: &str) -> Result<String, Error> {
    let mut key = String::from("tgk_");
    for counter in 0..=u8::MAX {
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes());
        let mac = mac.map_err(|error| Error::Bug(error.to_string()))?;
        let block =
            mac.chain_update(b"tollgate api key\0").chain_update(salt).chain_update([counter]).finalize();
        let missing = KEY_LETTERS.saturating_add(4).saturating_sub(key.len());
        key.extend(letters(&block.into_bytes()).take(missing));
        if key.len() == KEY_LETTERS.saturating_add(4) {
            return Ok(key);
        }
    }
    Err(Error::Bug("a key did not fill up".into()))
}

/// Each letter equally likely: 248 is four times 62, and larger bytes are dropped.
fn letters(bytes: &[u8]) -> impl Iterator<Item = char> {
    bytes.iter().filter(|byte| **byte < 248).filter_map(|byte| {
        let letter = ALPHABET.get(usize::from(byte.checked_rem(62)?));
        letter.map(|letter| char::from(*letter))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_for_the_same_salt_only() {
        let key = derive_key("secret", "salt").unwrap();
        assert_eq!(key.len(), 36);
        assert!(key.strip_prefix("tgk_").unwrap().bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(derive_key("secret", "salt").unwrap(), key);
        assert_ne!(derive_key("secret", "tlas").unwrap(), key);
        assert_ne!(derive_key("terces", "salt").unwrap(), key);
    }

    #[test]
    fn names_differ() {
        let names: std::collections::BTreeSet<_> = (0..100).map(|_| random_name("x_").unwrap()).collect();
        assert_eq!(names.len(), 100);
        assert!(names.iter().all(|name| name.len() == 26));
    }
}
