//! `Stripe-Signature`: the header and its verification agree with a reader that was written from the grammar alone.

use crate::dice::Dice;
use crate::words::hmac_hex;
use units::Instant;
use webhook::{Secret, Tolerance, sign, verify};

const SECRETS: [&str; 3] =
    ["whsec_test_secret_number_one", "whsec_test_secret_number_two", "not_stripes_at_all"];

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let now = Instant::from_secs(1_700_000_000 + i64::try_from(dice.below(1000)).unwrap());
    let tolerance = dice.pick(&[
        Tolerance::default(),
        Tolerance { past_s: 0, future_s: 0 },
        Tolerance { past_s: u32::MAX, future_s: 5 },
    ]);
    let known: Vec<&str> = SECRETS.into_iter().take(dice.below(SECRETS.len() + 1)).collect();
    let secrets: Vec<Secret> = known.iter().map(|text| Secret::new(text).unwrap()).collect();
    let body = dice.bytes(40);
    let lines: Vec<Vec<u8>> = match dice.below(12) {
        0 => vec![],
        1 => vec![line(&mut dice, now, body), line(&mut dice, now, body)],
        2 => vec![dice.rest().to_vec()],
        _ => vec![line(&mut dice, now, body)],
    };
    let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    let verdict = verify(&lines, body, &secrets, tolerance, now);
    assert_eq!(
        verdict.is_ok(),
        naive(&lines, body, &known, tolerance, now.secs()),
        "{verdict:?} for {lines:?}"
    );
    if verdict.is_ok() {
        // What is true of this body is true of no other.
        let other = [body, b"."].concat();
        assert!(verify(&lines, &other, &secrets, tolerance, now).is_err());
        assert!(verify(&lines, body, &[], tolerance, now).is_err());
    }
    if let Some(secret) = secrets.last() {
        let genuine = sign(secret, now, body);
        assert!(verify(&[genuine.as_bytes()], body, &secrets, tolerance, now).is_ok(), "its own signature");
    }
}

/// A header line out of elements that are right, nearly right and wrong.
fn line(dice: &mut Dice<'_>, now: Instant, body: &[u8]) -> Vec<u8> {
    let near = [-301_i64, -300, -299, -1, 0, 1, 4, 5, 6, 299, 300, 301, 100_000];
    let t = now.secs() + dice.pick(&near);
    let mut line = Vec::new();
    for n in 0..=dice.below(20) {
        if n > 0 {
            line.extend_from_slice(dice.pick(&[",", ",", ",", " , ", ",,", ";", "\t,"]).as_bytes());
        }
        let element = match dice.below(12) {
            0..=2 => format!("t={t}"),
            3..=6 => format!("v1={}", hmac_hex(dice.pick(&SECRETS), &t.to_string(), body)),
            7 => format!("v1={}", hmac_hex(dice.pick(&SECRETS), &t.to_string(), body).to_uppercase()),
            8 => format!(
                "t={}",
                dice.pick(&["0", "01", "", "+1", " 1", "1_0", "999999999999", "9999999999999"])
            ),
            9 => format!("{}={}", dice.pick(&["v0", "V1", "T", "v1", "", "a b", "x-_Y"]), dice.text(8)),
            10 => "v1=".to_owned() + &"0".repeat(dice.below(70)),
            _ => dice.text(70),
        };
        line.extend_from_slice(element.as_bytes());
    }
    if dice.rarely(20) {
        line.extend(std::iter::repeat_n(b'a', 4096));
    }
    line
}

/// The grammar of `webhook`'s header, read without any of its code.
fn naive(lines: &[&[u8]], body: &[u8], secrets: &[&str], tolerance: Tolerance, now: i64) -> bool {
    let [line] = lines else { return false };
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let elements: Vec<&[u8]> = line
        .split(|b| *b == b',')
        .map(|element| {
            let from = element.iter().position(|b| !blank(b)).unwrap_or(element.len());
            let to = element.iter().rposition(|b| !blank(b)).map_or(from, |at| at + 1);
            &element[from..to]
        })
        .collect();
    let mut pairs = Vec::new();
    for element in &elements {
        let Some(at) = element.iter().position(|b| *b == b'=') else { return false };
        let (key, value) = (&element[..at], &element[at + 1..]);
        if key.is_empty() || !key.iter().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(b)) {
            return false;
        }
        pairs.push((key, value));
    }
    let of = |name: &[u8]| pairs.iter().filter(|(key, _)| *key == name).map(|(_, v)| *v).collect::<Vec<_>>();
    let (times, tags) = (of(b"t"), of(b"v1"));
    let [t] = times[..] else { return false };
    let Ok(t) = core::str::from_utf8(t) else { return false };
    // One spelling: whatever prints otherwise than it was written is refused.
    let Some(secs) = t.parse::<u64>().ok().filter(|n| n.to_string() == t && t.len() <= 12) else {
        return false;
    };
    let age = i128::from(now) - i128::from(secs);
    line.len() <= 4096
        && elements.len() <= 32
        && (1..=16).contains(&tags.len())
        && (-i128::from(tolerance.future_s)..=i128::from(tolerance.past_s)).contains(&age)
        && secrets.iter().any(|secret| tags.contains(&hmac_hex(secret, t, body).as_bytes()))
}
