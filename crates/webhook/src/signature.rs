//! Checks a delivery against every configured secret in constant time, and makes the same kind of signature.
//!
//! What is signed is the text of `t`, a dot, and the raw bytes of the body (docs.stripe.com/webhooks). A body that was
//! decoded, trimmed or written again before it came here does not verify, and should not.

use crate::header::{self, Tag};
use crate::{Forgery, Secret};
use hmac::digest::CtOutput;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use units::Instant;

/// How far the sender's clock may be from ours, in whole seconds; both ends are included.
///
/// Stripe signs each retry anew, so that a narrow window never costs an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    /// How long ago it may have been signed. 0 means within this second, not "any time".
    pub past_s: u32,
    /// How far ahead of us the sender's clock may be.
    pub future_s: u32,
}

/// A delivery that is Stripe's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// When it was verified.
    pub at: Instant,
    /// When it was signed, by Stripe's clock.
    pub signed_at: Instant,
}

impl Default for Tolerance {
    /// 300 s both ways: the default of Stripe's libraries, of which some leave the future open.
    fn default() -> Self {
        Self { past_s: 300, future_s: 300 }
    }
}

/// Proves that a body was signed with one of `secrets`, and recently.
///
/// `header_lines` holds each `Stripe-Signature` line of the request, `body` its raw bytes. Every secret is tried with
/// every signature, and no comparison ends early, so that the time taken does not tell which one matched, or how nearly.
///
/// # Errors
/// [`Forgery`] names the first check that failed. Tell it to the metric and the log, never to the sender.
pub fn verify(
    header_lines: &[&[u8]],
    body: &[u8],
    secrets: &[Secret],
    tolerance: Tolerance,
    now: Instant,
) -> Result<Verified, Forgery> {
    if secrets.is_empty() {
        return Err(Forgery::NoSecret);
    }
    let header = header::parse(header_lines)?;
    let age = now.secs().saturating_sub(header.secs);
    if age > i64::from(tolerance.past_s) {
        return Err(Forgery::TooOld);
    }
    if age < i64::from(tolerance.future_s).saturating_neg() {
        return Err(Forgery::TooNew);
    }
    let matched = secrets.iter().fold(false, |matched, secret| {
        let Some(expected) = tag(secret, header.text, body) else { return matched };
        header.signatures.iter().fold(matched, |matched, signature| {
            // `CtOutput` compares in constant time; `|`, unlike `||`, always evaluates both sides.
            matched | (expected == CtOutput::new((*signature).into()))
        })
    });
    if !matched {
        return Err(Forgery::Mismatch);
    }
    Ok(Verified { at: now, signed_at: Instant::from_secs(header.secs) })
}

/// The `Stripe-Signature` that Stripe would send with `body` at the time `at`: for demonstrations and tests.
#[must_use]
pub fn sign(secret: &Secret, at: Instant, body: &[u8]) -> String {
    let at = at.secs().to_string();
    let tag = tag(secret, at.as_bytes(), body).map(|tag| Tag::from(tag.into_bytes())).unwrap_or_default();
    let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at},v1={hex}")
}

/// HMAC-SHA-256 over `t "." body`. `None` never happens: an HMAC takes a key of any length.
fn tag(secret: &Secret, t: &[u8], body: &[u8]) -> Option<CtOutput<Hmac<Sha256>>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.key()).ok()?;
    mac.update(t);
    mac.update(b".");
    mac.update(body);
    Some(mac.finalize())
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
