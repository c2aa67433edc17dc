//! What several targets say: clocks, header maps, and an HMAC of their own.

use gate::{Headers, Now};
use sha2::{Digest, Sha256};
use units::{Instant, Span};

/// HMAC-SHA-256 as RFC 2104 defines it, over `t "." body`, in hexadecimal digits.
pub(crate) fn hmac_hex(secret: &str, t: &str, body: &[u8]) -> String {
    let mut key = [0_u8; 64];
    if secret.len() > 64 {
        key[..32].copy_from_slice(&Sha256::digest(secret));
    } else {
        key[..secret.len()].copy_from_slice(secret.as_bytes());
    }
    let pad = |with: u8| key.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
    let inner = Sha256::digest([&pad(0x36), t.as_bytes(), b".", body].concat());
    let tag = Sha256::digest([&pad(0x5c)[..], &inner].concat());
    tag.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `t=…,v1=…` as Stripe sends it.
pub(crate) fn signed(secret: &str, at: Instant, body: &[u8]) -> String {
    let t = at.secs().to_string();
    format!("t={t},v1={}", hmac_hex(secret, &t, body))
}

/// Header fields from pairs of bytes.
pub(crate) fn headers(pairs: &[(&str, &[u8])]) -> Headers {
    Headers::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect())
}

/// Both clocks, some time after noon.
pub(crate) fn at(span: Span) -> Now {
    Now { mono: Instant::from_secs(1000).plus(span), wall: Instant::from_secs(1_795_176_000).plus(span) }
}
