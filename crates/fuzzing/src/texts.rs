//! Amounts, times and names: what is read prints as it was meant, and agrees with arithmetic done by hand.

use crate::dice::Dice;
use units::{AccountId, Amount, Instant, Span, Subject, SubjectKind, signed_credits};

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    credits(&text);
    times(&text);
    names(&text);
    let mut dice = Dice::new(data);
    let (a, b) = (dice.number(), dice.number());
    arithmetic(a.cast_signed(), b.cast_signed());
    let (at, span) = (Instant::from_micros(a.cast_signed()), Span::from_micros(b));
    assert!(at.plus(span) >= at && at.minus(span) <= at);
    assert!(at.plus(span).since(at) <= span);
    let shown = signed_credits(a.cast_signed());
    let back = Amount::from_credits(shown.trim_start_matches('-'));
    assert_eq!(
        back.ok().map(|it| it.get().unsigned_abs()),
        in_range(u128::from(a.cast_signed().unsigned_abs()))
    );
}

fn in_range(micro: u128) -> Option<u64> {
    u64::try_from(micro).ok().filter(|micro| *micro <= 9_007_199_254_740_991)
}

/// Credits, digit by digit.
fn credits(text: &str) {
    let mut parts = text.split('.');
    let (whole, fraction, rest) = (parts.next().unwrap_or(""), parts.next(), parts.next());
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let well_formed = rest.is_none() && digits(whole) && fraction.is_none_or(|f| digits(f) && f.len() <= 6);
    let expected = if well_formed && whole.trim_start_matches('0').len() <= 12 {
        let mut micro: u128 = 0;
        for digit in whole.bytes() {
            micro = micro * 10 + u128::from(digit - b'0');
        }
        let padded = format!("{:0<6}", fraction.unwrap_or(""));
        for digit in padded.bytes() {
            micro = micro * 10 + u128::from(digit - b'0');
        }
        in_range(micro)
    } else {
        None
    };
    let read = Amount::from_credits(text).ok();
    assert_eq!(read.map(|amount| amount.get().unsigned_abs()), expected, "{text:?}");
    if let Some(amount) = read {
        assert_eq!(Amount::from_credits(&amount.to_credits()), Ok(amount));
    }
}

/// A time that was read prints as a time that reads the same, to the millisecond.
fn times(text: &str) {
    let Ok(at) = Instant::from_rfc3339(text) else { return };
    let printed = at.to_rfc3339();
    let again = Instant::from_rfc3339(&printed).unwrap_or_else(|_| panic!("{text} printed as {printed}"));
    assert_eq!(again.micros().div_euclid(1000), at.micros().div_euclid(1000), "{text} {printed}");
    assert!(printed.ends_with('Z'), "{printed}");
}

fn names(text: &str) {
    let plain = !text.is_empty() && text.len() <= 255 && text.bytes().all(|byte| byte > 32 && byte < 127);
    assert_eq!(AccountId::new(text).is_ok(), plain, "{text:?}");
    if let Ok(subject) = Subject::new(SubjectKind::JwtSub, text) {
        let json = serde_json::to_string(&subject).unwrap();
        assert_eq!(serde_json::from_str::<Subject>(&json).unwrap(), subject);
        assert!(!text.chars().any(char::is_control));
    }
}

fn arithmetic(a: i64, b: i64) {
    let (Ok(x), Ok(y)) = (Amount::new(a), Amount::new(b)) else {
        assert!(Amount::new(a).is_ok() == in_range(u128::from(a.unsigned_abs())).is_some_and(|_| a >= 0));
        return;
    };
    let wide = |n: Amount| i128::from(n.get());
    let sum = wide(x) + wide(y);
    assert_eq!(x.checked_add(y).map(wide), (sum <= wide(Amount::MAX)).then_some(sum));
    assert_eq!(x.checked_sub(y).map(wide), (wide(x) >= wide(y)).then_some(wide(x) - wide(y)));
    assert_eq!(wide(x.saturating_sub(y)), (wide(x) - wide(y)).max(0));
    let times = u32::try_from(b & 0xFFFF_FFFF).unwrap_or(0);
    let product = wide(x) * i128::from(times);
    assert_eq!(x.checked_mul(times).map(wide), (product <= wide(Amount::MAX)).then_some(product));
    assert!(times == 0 || wide(x.part(times)) == wide(x) / i128::from(times));
}
