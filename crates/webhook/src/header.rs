//! Parses `Stripe-Signature`: one timestamp, any number of `v1` signatures, everything else ignored.
//!
//! Stripe's documentation gives the format by example (docs.stripe.com/webhooks, "Verify webhook signatures
//! manually"). Its own libraries disagree about whatever Stripe does not send: repeated timestamps, other spellings
//! of a number, stray elements. This grammar takes all that Stripe sends and refuses every point of disagreement:
//!
//! ```text
//! header  = element *( "," element )               at most 4,096 bytes and 32 elements
//! element = OWS key "=" value OWS                  OWS = *( SP / HTAB )
//! key     = 1*( ALPHA / DIGIT / "_" / "-" )        compared case-sensitively
//! t       = "0" / ( %x31-39 *11DIGIT )             exactly one
//! v1      = 64( DIGIT / %x61-66 )                  1 to 16; a malformed one is skipped
//! ```

use crate::Forgery;

/// An HMAC-SHA-256.
pub(crate) type Tag = [u8; 32];

const HEADER_BYTES_MAX: usize = 4_096;
const ELEMENTS_MAX: usize = 32;
const SIGNATURES_MAX: usize = 16;
const TIMESTAMP_DIGITS_MAX: usize = 12;

/// What a well-formed header says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    /// The timestamp as it was sent: this text is what is signed.
    pub(crate) text: &'a [u8],
    /// The same in seconds since 1970.
    pub(crate) secs: i64,
    /// The well-formed signatures; at least one.
    pub(crate) signatures: Vec<Tag>,
}

/// Parses all lines of the header that the request has.
///
/// # Errors
/// [`Forgery`] names the first rule that is broken.
pub(crate) fn parse<'a>(lines: &[&'a [u8]]) -> Result<Header<'a>, Forgery> {
    let line = match lines {
        [] | [[]] => return Err(Forgery::NoHeader),
        [line] => line,
        _ => return Err(Forgery::SeveralHeaders),
    };
    if line.len() > HEADER_BYTES_MAX {
        return Err(Forgery::HeaderTooLong);
    }
    let mut timestamp = None;
    let mut signatures = Vec::new();
    let mut signatures_seen: usize = 0;
    for (n, element) in line.split(|&b| b == b',').enumerate() {
        if n >= ELEMENTS_MAX {
            return Err(Forgery::TooManyElements);
        }
        match split(element).ok_or(Forgery::MalformedElement)? {
            (b"t", _) if timestamp.is_some() => return Err(Forgery::SeveralTimestamps),
            (b"t", text) => timestamp = Some((text, seconds(text).ok_or(Forgery::MalformedTimestamp)?)),
            (b"v1", _) if signatures_seen >= SIGNATURES_MAX => return Err(Forgery::TooManySignatures),
            (b"v1", hex) => {
                signatures_seen = signatures_seen.saturating_add(1);
                signatures.extend(tag(hex));
            }
            _ => {}
        }
    }
    let (text, secs) = timestamp.ok_or(Forgery::NoTimestamp)?;
    match (signatures_seen, signatures.is_empty()) {
        (0, _) => Err(Forgery::NoSignature),
        (_, true) => Err(Forgery::MalformedSignature),
        _ => Ok(Header { text, secs, signatures }),
    }
}

/// `key=value` without the blanks around it; the value may hold further `=`.
fn split(element: &[u8]) -> Option<(&[u8], &[u8])> {
    let element = trim(element);
    let at = element.iter().position(|&b| b == b'=')?;
    let (key, value) = (element.get(..at)?, element.get(at.checked_add(1)?..)?);
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    (!key.is_empty() && key.iter().all(plain)).then_some((key, value))
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

fn seconds(text: &[u8]) -> Option<i64> {
    let canonical = matches!(text, [b'0'] | [b'1'..=b'9', ..])
        && text.len() <= TIMESTAMP_DIGITS_MAX
        && text.iter().all(u8::is_ascii_digit);
    if canonical { core::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

fn tag(hex: &[u8]) -> Option<Tag> {
    let mut tag = Tag::default();
    if hex.len() != 64 {
        return None;
    }
    for (byte, pair) in tag.iter_mut().zip(hex.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(tag)
}

fn digit(hex: u8) -> Option<u8> {
    match hex {
        b'0'..=b'9' => hex.checked_sub(b'0'),
        b'a'..=b'f' => hex.checked_sub(b'a' - 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "4f1cd7feda9826e746b7d482c4badebb657398df1099e1046364f6196a230150";

    fn read(line: &str) -> Result<Header<'_>, Forgery> {
        parse(&[line.as_bytes()])
    }

    #[test]
    fn what_stripe_sends_is_read() {
        let line = format!("t=1700000000,v1={V1},v0=63f3");
        let header = read(&line).unwrap();
        assert_eq!((header.text, header.secs), (b"1700000000".as_slice(), 1_700_000_000));
        assert_eq!(header.signatures.len(), 1);
        assert_eq!(header.signatures[0][..3], [0x4f, 0x1c, 0xd7]);
        assert_eq!(header.signatures[0][31], 0x50);
    }

    #[test]
    fn what_does_no_harm_is_taken() {
        for (line, signatures) in [
            (format!("v1={V1},t=1"), 1),
            (format!(" t=1 ,\tv1={V1} "), 1),
            (format!("t=1,v1={V1},v1={V1}"), 2),
            (format!("t=1,v1=potato,v1={V1},v1=,v1={V1}=,v1={}", V1.to_uppercase()), 1),
            (format!("t=1,v1={V1},v2=a=b,X-y_Z=\u{1}"), 1),
            (format!("t=999999999999,v1={V1}"), 1),
            (format!("t=0,v1={V1}{}", ",a=".repeat(30)), 1),
            (format!("t=0{}", format!(",v1={V1}").repeat(16)), 16),
        ] {
            assert_eq!(read(&line).map(|h| h.signatures.len()), Ok(signatures), "{line:?}");
        }
    }

    #[test]
    fn each_broken_rule_has_its_own_reason() {
        for (line, why) in [
            (String::new(), Forgery::NoHeader),
            (format!("t=1,v1={V1},x={}", "y".repeat(4_096)), Forgery::HeaderTooLong),
            (format!("t=1,v1={V1}{}", ",a=".repeat(31)), Forgery::TooManyElements),
            (format!("t=1,v1={V1},"), Forgery::MalformedElement),
            (format!(",t=1,v1={V1}"), Forgery::MalformedElement),
            (format!("t=1,foo,v1={V1}"), Forgery::MalformedElement),
            (format!("t=1;v1={V1}"), Forgery::MalformedTimestamp),
            (format!("t=1,=,v1={V1}"), Forgery::MalformedElement),
            (format!("t=1,v 1={V1}"), Forgery::MalformedElement),
            (format!("t=1{}", ",v1=x".repeat(17)), Forgery::TooManySignatures),
            (format!("t=1,t=1,v1={V1}"), Forgery::SeveralTimestamps),
            (format!("T=1,v1={V1}"), Forgery::NoTimestamp),
            (format!("t=1,V1={V1},v0={V1}"), Forgery::NoSignature),
            ("t=1,v1=".to_owned(), Forgery::MalformedSignature),
            (format!("t=1,v1={}", V1.to_uppercase()), Forgery::MalformedSignature),
            (format!("t=1,v1= {V1}"), Forgery::MalformedSignature),
            (format!("t=1,v1={}", V1.strip_prefix('4').unwrap()), Forgery::MalformedSignature),
            (format!("t=1,v1={V1}0"), Forgery::MalformedSignature),
            (format!("t=1,v1={}", V1.replace('f', "g")), Forgery::MalformedSignature),
        ] {
            assert_eq!(read(&line), Err(why), "{line:?}");
        }
        assert_eq!(parse(&[]), Err(Forgery::NoHeader));
        assert_eq!(parse(&[b"t=1", b"t=1"]), Err(Forgery::SeveralHeaders));
    }

    #[test]
    fn a_timestamp_has_one_spelling() {
        for text in
            ["", "01", "00", "+1", "-1", " 1", "1_0", "1.0", "1e3", "0x1", "1abc", "１", "1000000000000", "٣"]
        {
            assert_eq!(read(&format!("t={text},v1={V1}")), Err(Forgery::MalformedTimestamp), "{text:?}");
        }
    }
}
