//! A write that is repeated with the same idempotency key is not done again; its first answer is given.

use super::people::hex;
use crate::engine::Work;
use crate::error::{Error, Invalid};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What names a write: its key, and a digest of everything that was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    key: String,
    digest: String,
}

impl Asked {
    /// A write with this key, path and body.
    #[must_use]
    pub fn new(key: String, path: &str, body: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(path).chain_update([0]).chain_update(body).finalize();
        Self { key, digest: hex(&digest) }
    }

    /// The idempotency key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// The answer of a write, and whether it was done now.
pub type Once = (Value, bool);

/// Does it, unless the same was asked before with the same key: then gives the answer that was given then.
///
/// # Errors
/// [`Invalid::Conflict`] if the key was used for something else; whatever `run` gives, of which nothing is remembered.
pub fn once<T: Serialize>(
    work: &mut Work<'_>,
    asked: Option<&Asked>,
    run: impl FnOnce(&mut Work<'_>) -> Result<T, Error>,
) -> Result<Once, Error> {
    let bug = |error: serde_json::Error| Error::Bug(format!("an answer is no JSON: {error}"));
    if let Some(Asked { key, digest }) = asked
        && let Some((first, answer)) = work.store.command(key)?
    {
        if first != *digest {
            return Err(Invalid::Conflict
                .because("This Idempotency-Key was used for another request. Use a new one."));
        }
        return Ok((serde_json::from_str(&answer).map_err(bug)?, false));
    }
    let answer = serde_json::to_value(run(work)?).map_err(bug)?;
    if let Some(Asked { key, digest }) = asked {
        work.store.put_command(key, digest, &answer.to_string(), work.now)?;
    }
    Ok((answer, true))
}
