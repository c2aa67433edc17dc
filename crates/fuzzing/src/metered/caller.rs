//! What a header field may be, and who asks, each read plainly.

use gate::Headers;
use units::SubjectKind;

/// RFC 9110, section 5.1.
pub(super) fn is_token(name: &str) -> bool {
    let name = name.strip_prefix(':').unwrap_or(name);
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// RFC 9110, section 5.5: nothing that would end the field.
pub(super) fn is_field(value: &[u8]) -> bool {
    !value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))
}

/// Who asks, read plainly: `None` unless every credential names the same one.
pub(super) fn caller(request: &Headers, verified: Option<&[u8]>) -> Option<(SubjectKind, String)> {
    let mut callers = Vec::new();
    if let Some(claim) = verified {
        let claim = String::from_utf8(claim.to_vec()).ok()?;
        if claim.is_empty() || claim.chars().any(char::is_control) {
            return None;
        }
        callers.push((SubjectKind::JwtSub, claim));
    }
    for name in ["authorization", "x-api-key"] {
        let values: Vec<&[u8]> = request.all(name).collect();
        let value = match values[..] {
            [] => continue,
            [one] => core::str::from_utf8(one).ok()?.trim(),
            _ => return None,
        };
        if value.is_empty() {
            continue;
        }
        let credential = if name == "authorization" {
            let (scheme, token) = value.split_at_checked(7)?;
            if !scheme.eq_ignore_ascii_case("bearer ") {
                return None;
            }
            token.trim()
        } else {
            value
        };
        let is_key = credential.len() == 36
            && credential.starts_with("tgk_")
            && credential.bytes().skip(4).all(|byte| byte.is_ascii_alphanumeric());
        if is_key {
            use sha2::Digest;
            let digest = sha2::Sha256::digest(credential);
            callers.push((SubjectKind::ApiKeySha256, digest.iter().map(|b| format!("{b:02x}")).collect()));
        } else if credential.is_empty() || credential.contains([' ', ',']) || name == "x-api-key" {
            return None;
        } else {
            verified?;
        }
    }
    callers.dedup();
    if callers.len() == 1 { callers.pop() } else { None }
}
