//! Tokens for the demo and for development, signed with a key that everybody has. Never trust that key elsewhere.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use units::{Instant, Span};

/// Issuer and audience of the demo's tokens.
const ISSUER: &str = "tollgate-demo";

/// A token for `sub` that ends after `ttl`, signed with an ES256 key (PKCS #8, PEM).
///
/// # Errors
/// What is wrong with the key.
pub fn dev_token(
    pem: &[u8],
    kid: Option<&str>,
    sub: &str,
    now: Instant,
    ttl: Span,
) -> Result<String, String> {
    let key =
        EncodingKey::from_ec_pem(pem).map_err(|error| format!("is no ES256 key in PKCS #8 PEM: {error}"))?;
    let mut header = Header::new(Algorithm::ES256);
    header.kid = kid.map(str::to_owned);
    let claims = json!({
        "sub": sub, "iss": ISSUER, "aud": ISSUER, "iat": now.secs(), "exp": now.plus(ttl).secs(),
    });
    encode(&header, &claims, &key).map_err(|error| format!("does not sign: {error}"))
}
