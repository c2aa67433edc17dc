//! Known answers, and each rule of the check once kept and once broken.

use super::*;

const SECRET: &str = "whsec_test_secret";
const ROLLED: &str = "whsec_test_secret_rolled_key";
const COMPACT: &[u8] = br#"{"id":"evt_test_webhook","object":"event"}"#;
const PRETTY: &[u8] = b"{\n  \"id\": \"evt_test_webhook\",\n  \"object\": \"event\"\n}";
const NOW: i64 = 1_700_000_000;

fn secret(text: &str) -> Secret {
    Secret::new(text).unwrap()
}

fn at(secs: i64) -> Instant {
    Instant::from_secs(secs)
}

/// Verifies one header line at its own time, with the default tolerance.
fn check(line: &str, body: &[u8], secrets: &[&str], now: i64) -> Result<Verified, Forgery> {
    let secrets: Vec<Secret> = secrets.iter().copied().map(secret).collect();
    verify(&[line.as_bytes()], body, &secrets, Tolerance::default(), at(now))
}

/// Made with Python's `hmac`: (secret, t, body, v1).
fn known_answers() -> [(&'static str, i64, Vec<u8>, &'static str); 7] {
    let bom = [b"\xef\xbb\xbf".as_slice(), br#"{"id":"evt_1"}"#].concat();
    let cafe =
        r#"{"id":"evt_1","object":"event","type":"invoice.paid","data":{"object":{"description":"café €"}}}"#;
    [
        (
            SECRET,
            1_492_774_577,
            COMPACT.into(),
            "88a022085c6bdb887b02cb26ff76dd681234d9675c0f22844059f55552a8883a",
        ),
        (
            SECRET,
            1_492_774_577,
            PRETTY.into(),
            "c2f890decbc5ede7c5060bb9a6d31e0626a4342bacb9aeae2adb1bcea72f9812",
        ),
        (SECRET, NOW, cafe.into(), "5033d0f514b14d9d5826494cdad73d156cfc7a371afbe07a5fc1f08bd246a50f"),
        (SECRET, NOW, Vec::new(), "316b9ab98c15bfa039d243f3196acee619cf29749a91a634e6a8154e2f7b6727"),
        (SECRET, NOW, bom, "c4618465e9eef32a80737c6a6c3c2b28fccea6b9edcde8ec7862efaaf1621dc3"),
        (
            SECRET,
            NOW,
            b"{\"id\":\"evt_\xff\"}".into(),
            "21d5227bec1359274aca577bcfe3cdbc92e2809fff9cb5032b144580e33ec76f",
        ),
        (
            ROLLED,
            1_492_774_577,
            COMPACT.into(),
            "9e010fbc4cc8f6c5dc44a6824569d0ab0d471b5fd81ab229d222117f0a69c435",
        ),
    ]
}

#[test]
fn known_answers_are_made_and_verified() {
    for (key, t, body, v1) in known_answers() {
        let line = sign(&secret(key), at(t), &body);
        assert_eq!(line, format!("t={t},v1={v1}"));
        assert_eq!(check(&line, &body, &[key], t), Ok(Verified { at: at(t), signed_at: at(t) }));
    }
}

#[test]
fn the_key_is_the_whole_secret_and_nothing_else() {
    for (why, t, v1) in [
        ("an empty key", NOW, "72520bd8a1c535c0ee095bf2123441b4f93f59a36101f4eea2496cbc71007443"),
        ("without whsec_", 1_492_774_577, "19b22a63f99cb0defe6b047b5b4b3c4f009f7a98df34387c9937221be2aa5b36"),
        ("with a newline", 1_492_774_577, "79af7bd63678a79d554238b94f8284ca02e06cd9ae1bf279b27be1d4f5f1f10e"),
    ] {
        assert_eq!(check(&format!("t={t},v1={v1}"), COMPACT, &[SECRET], t), Err(Forgery::Mismatch), "{why}");
    }
}

#[test]
fn while_a_secret_is_rolled_either_signature_will_do() {
    let old = sign(&secret(SECRET), at(NOW), COMPACT);
    let new = sign(&secret(ROLLED), at(NOW), COMPACT);
    let v1 = |line: &str| line.rsplit(',').next().unwrap().to_owned();
    let (new_old, old_new) = (format!("{new},{}", v1(&old)), format!("{old},{}", v1(&new)));
    for line in [&old, &new, &new_old, &old_new] {
        for secrets in [&[ROLLED, SECRET], &[SECRET, ROLLED]] {
            assert!(check(line, COMPACT, secrets, NOW).is_ok(), "{line} with both");
        }
    }
    assert_eq!(check(&old, COMPACT, &[ROLLED], NOW), Err(Forgery::Mismatch));
    for line in [&new, &new_old, &old_new] {
        assert!(check(line, COMPACT, &[ROLLED], NOW).is_ok(), "{line} with the new one only");
    }
}

#[test]
fn one_changed_byte_anywhere_is_a_mismatch() {
    let line = sign(&secret(SECRET), at(NOW), PRETTY);
    for n in 0..PRETTY.len() {
        let mut body = PRETTY.to_vec();
        body[n] ^= 1;
        assert_eq!(check(&line, &body, &[SECRET], NOW), Err(Forgery::Mismatch), "byte {n}");
    }
    assert_eq!(check(&line, COMPACT, &[SECRET], NOW), Err(Forgery::Mismatch), "written again");
    assert_eq!(check(&line, &[PRETTY, b"\n"].concat(), &[SECRET], NOW), Err(Forgery::Mismatch));
    for n in line.len() - 64..line.len() {
        let mut forged = line.clone().into_bytes();
        forged[n] = if forged[n] == b'0' { b'1' } else { b'0' };
        let forged = String::from_utf8(forged).unwrap();
        assert_eq!(check(&forged, PRETTY, &[SECRET], NOW), Err(Forgery::Mismatch), "{forged}");
    }
    let other_t = line.replace("t=1700000000", "t=1700000001");
    assert_eq!(check(&other_t, PRETTY, &[SECRET], NOW), Err(Forgery::Mismatch));
}

#[test]
fn both_ends_of_the_window_are_included() {
    let line = sign(&secret(SECRET), at(NOW), COMPACT);
    for (now, expected) in [
        (NOW + 299, None),
        (NOW + 300, None),
        (NOW + 301, Some(Forgery::TooOld)),
        (NOW - 299, None),
        (NOW - 300, None),
        (NOW - 301, Some(Forgery::TooNew)),
    ] {
        assert_eq!(check(&line, COMPACT, &[SECRET], now).err(), expected, "{}", now - NOW);
    }
    // A fraction of a second does not count: 300.999999 s is 300 whole ones.
    let late = Instant::from_micros((NOW + 300) * 1_000_000 + 999_999);
    let secrets = [secret(SECRET)];
    assert!(verify(&[line.as_bytes()], COMPACT, &secrets, Tolerance::default(), late).is_ok());
}

#[test]
fn a_tolerance_is_what_it_says() {
    let line = sign(&secret(SECRET), at(NOW), COMPACT);
    let check = |past_s, future_s, now| {
        verify(&[line.as_bytes()], COMPACT, &[secret(SECRET)], Tolerance { past_s, future_s }, at(now)).err()
    };
    assert_eq!(check(0, 0, NOW), None);
    assert_eq!(check(0, 0, NOW + 1), Some(Forgery::TooOld), "0 does not switch the check off");
    assert_eq!(check(0, 0, NOW - 1), Some(Forgery::TooNew));
    assert_eq!(check(0, u32::MAX, NOW - 1_000_000_000), None);
    assert_eq!(check(u32::MAX, 0, NOW + 1_000_000_000), None);
    assert_eq!(check(300, 300, i64::MIN), Some(Forgery::TooNew));
    assert_eq!(check(300, 300, i64::MAX), Some(Forgery::TooOld));
}

#[test]
fn the_first_check_that_fails_is_told() {
    let stale = format!("t=1,v1={}", "0".repeat(64));
    assert_eq!(check(&stale, COMPACT, &[], NOW), Err(Forgery::NoSecret));
    assert_eq!(check("", COMPACT, &[SECRET], NOW), Err(Forgery::NoHeader));
    assert_eq!(check(&stale, COMPACT, &[SECRET], NOW), Err(Forgery::TooOld), "time before signature");
    let good = sign(&secret(SECRET), at(NOW), COMPACT);
    let lines = [good.as_bytes(), good.as_bytes()];
    let result = verify(&lines, COMPACT, &[secret(SECRET)], Tolerance::default(), at(NOW));
    assert_eq!(result, Err(Forgery::SeveralHeaders));
    let v0 = good.replace("v1", "v0");
    assert_eq!(check(&v0, COMPACT, &[SECRET], NOW), Err(Forgery::NoSignature), "a weaker scheme");
}

#[test]
fn every_reason_has_its_own_label() {
    let labels: std::collections::BTreeSet<&str> = Forgery::ALL.iter().map(|f| f.as_str()).collect();
    assert_eq!(labels.len(), Forgery::ALL.len());
}
