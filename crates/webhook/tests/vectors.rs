//! Other people's signatures: what Stripe's suites assert, what its libraries really do, and what is decided here where they differ.
//!
//! Runs over a folder that the variable `VECTORS` names, from the workspace's root or absolute; without it every
//! test here says `skipped` and passes. A case that is not in [`DECISIONS`] must come out as its suite asserts or,
//! where no suite does, as all libraries agree.

// All of it is test code; clippy's exemption for tests does not reach helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use std::path::PathBuf;
use units::Instant;
use webhook::{Event, EventError, Forgery, Secret, SecretError, Style, Tolerance, sign, verify};

/// What is decided where the libraries differ among themselves, or all of them from us: (ours, why, cases).
const DECISIONS: &[(&str, &str, &[&str])] = &[
    (
        "too_old",
        "published: a tolerance of 0 switches the check off. Here it means within this second: no setting admits a replay",
        &["node-old-but-no-tolerance", "python-old-no-tol"],
    ),
    (
        "too_new",
        "four of five leave the future open; one bounds it. Here it is bounded: with a clock kept right that costs nothing",
        &["probe-future-301s", "probe-future-1h"],
    ),
    (
        "secret_padded",
        "published: a mismatch with every event. Here the secret is refused when it is configured",
        &["node-secret-trailing-space"],
    ),
    (
        "secret_empty",
        "three of five verify with an empty key, so that anybody can sign. Here it is no secret",
        &["probe-empty-secret"],
    ),
    (
        "accept",
        "published: refused by the function for snapshot events, its signature being right. Here both styles are events",
        &["node-v2-thin-event", "python-v2", "go-v2"],
    ),
    (
        "accept",
        "some or all refuse blanks around an element. They change nothing that is signed, and a proxy may add them",
        &[
            "probe-space-after-comma",
            "probe-tab-after-comma",
            "probe-space-before-t",
            "probe-v1-trailing-space",
        ],
    ),
    (
        "several_timestamps",
        "first wins, last wins, or both are used. Here there is one, so that what is signed is what is fresh",
        &[
            "probe-two-t-first-valid",
            "probe-two-t-last-valid",
            "probe-two-t-first-fresh-signed-is-old",
            "probe-two-t-last-fresh-signed-is-old",
            "probe-joined-headers-bad-then-good",
            "probe-joined-headers-comma-space",
        ],
    ),
    (
        "malformed_timestamp",
        "each reads other spellings of a number, and signs what it read. Here it is 1 to 12 digits, signed as sent",
        &[
            "probe-t-leading-zero-signed-as-sent",
            "probe-t-leading-zero-signed-normalised",
            "probe-t-plus-sign-normalised",
            "probe-t-space-normalised",
            "probe-t-underscore-normalised",
            "probe-t-trailing-letters-normalised",
            "probe-t-decimal-normalised",
            "probe-t-exponent-normalised",
            "probe-t-hex",
            "probe-t-fullwidth-digits",
            "probe-t-negative",
            "probe-t-minus-one-no-tolerance",
            "probe-t-overflow-i64",
            "probe-t-2^63-1",
            "probe-t-milliseconds",
        ],
    ),
    (
        "malformed_signature",
        "some take upper case, or cut off what follows a second `=`. Stripe sends 64 lower-case digits",
        &["probe-uppercase-hex", "probe-v1-with-trailing-=junk", "probe-v1-with-trailing-="],
    ),
    (
        "malformed_element",
        "four of five skip what is not key=value, one refuses. A header that Stripe did not write is refused",
        &["probe-part-without-=", "probe-trailing-comma", "probe-leading-comma"],
    ),
    (
        "header_too_long",
        "all compare any number of signatures. Stripe sends one per active secret; the work for one header is bounded",
        &["probe-101-signatures-last-valid"],
    ),
    (
        "body_not_utf8",
        "some decode before they hash, some never look. Here the signature is right, and JSON is UTF-8 (RFC 8259, 8.1)",
        &["probe-body-non-utf8-byte"],
    ),
    (
        "body_not_json",
        "one drops the byte order mark before it hashes. Here the signature is right, and JSON begins without one",
        &["probe-body-utf8-bom"],
    ),
    (
        "body_not_an_object",
        "accepted, or a crash. An event is an object",
        &["probe-body-json-array", "probe-body-json-null"],
    ),
    (
        "body_repeated_field",
        "all accept, and which `id` counts is chance. Here an identity is stated once",
        &["probe-body-duplicate-id-keys"],
    ),
    (
        "accept",
        "two of five refuse half a surrogate pair. It lies in a field that is not read here",
        &["probe-body-escaped-surrogate"],
    ),
];

/// The folder, or `None` after saying that the test is skipped.
fn vectors(part: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("VECTORS").filter(|v| !v.is_empty()) else {
        println!("skipped: VECTORS names no folder of vectors");
        return None;
    };
    Some(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(folder).join(part))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A text, or nothing for null.
fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap_or_default()
}

/// What becomes of a case here: `accept`, or the label of the refusal.
fn ours(case: &Value) -> String {
    let secret = match Secret::short(text(case, "secret")) {
        Ok(secret) => [secret],
        Err(why) => return format!("secret_{why:?}").to_lowercase(),
    };
    let body = BASE64_STANDARD.decode(text(case, "payload_b64")).unwrap();
    let tolerance = u32::try_from(case["tolerance"].as_u64().unwrap()).unwrap_or(u32::MAX);
    let tolerance = Tolerance { past_s: tolerance, future_s: tolerance };
    let now = Instant::from_secs(case["now"].as_i64().unwrap());
    match verify(&[text(case, "header").as_bytes()], &body, &secret, tolerance, now) {
        Err(why) => why.as_str().to_owned(),
        // The suites' bodies are not whole events: what a library does not read may be missing.
        Ok(_) => match Event::read(&body) {
            Ok(_) | Err(EventError::Missing(_)) => "accept".to_owned(),
            Err(why) => format!("body_{}", why.as_str()),
        },
    }
}

/// What the outside says of a case, in our labels; empty if it says nothing or not one thing.
fn theirs(case: &Value) -> &'static [&'static str] {
    let agreed = case["observed"]["python"].as_str().filter(|_| case["sdks_agree"] == true);
    match case["published_expectation"].as_str().or(agreed).unwrap_or_default() {
        "accept" => &["accept"],
        "reject:timestamp" => &["too_old", "too_new"],
        "reject:mismatch" => &["mismatch", "malformed_signature"],
        "reject:noscheme" => &["no_signature"],
        "reject:malformed" | "reject:nopayload" => {
            &["malformed_element", "malformed_timestamp", "no_timestamp"]
        }
        "reject:noheader" => &["no_header"],
        "reject:json" => &["body_not_json"],
        "reject:any" => &["secret_empty"],
        _ => &[],
    }
}

#[test]
fn signatures_come_out_as_asserted_or_as_decided() {
    let Some(path) = vectors("stripe/signatures/stripe-signature-vectors.json") else { return };
    let cases = json(&std::fs::read_to_string(path).unwrap());
    let cases = cases["cases"].as_array().unwrap();
    assert!(cases.len() >= 125);
    let mut wrong = Vec::new();
    for case in cases {
        let (id, ours) = (text(case, "id"), ours(case));
        let decided = DECISIONS.iter().find(|(_, _, ids)| ids.contains(&id));
        let right = match decided {
            Some((decision, _, _)) => ours == *decision && !theirs(case).contains(decision),
            None => theirs(case).contains(&ours.as_str()),
        };
        if !right {
            wrong.push(format!(
                "{id}: {ours}, outside {:?}, decided {:?}",
                theirs(case),
                decided.map(|d| d.0)
            ));
        }
    }
    for id in DECISIONS.iter().flat_map(|d| d.2) {
        if !cases.iter().any(|case| text(case, "id") == *id) {
            wrong.push(format!("{id}: decided, but there is no such case"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} cases, {} decided here", cases.len(), DECISIONS.iter().map(|d| d.2.len()).sum::<usize>());
}

#[test]
fn what_ships_refuses_the_suites_short_secrets() {
    let Some(path) = vectors("stripe/signatures/stripe-signature-vectors.json") else { return };
    for case in json(&std::fs::read_to_string(path).unwrap())["cases"].as_array().unwrap() {
        let secret = text(case, "secret");
        let long = secret.len() >= 16 && secret.trim() == secret;
        assert_eq!(Secret::new(secret).is_ok(), long, "{secret:?} of {}", text(case, "id"));
    }
    assert_eq!(Secret::new("webhook_secret").err(), Some(SecretError::TooShort));
}

/// A fake Stripe's deliveries, captured from the wire.
#[test]
fn deliveries_of_localstripe_verify() {
    let Some(path) = vectors("stripe/localstripe/captured-events.jsonl") else { return };
    let secrets = [Secret::short("whsec_testmat").unwrap()];
    let mut count = 0;
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let delivery = json(line);
        let (header, body) =
            (text(&delivery["headers"], "Stripe-Signature"), text(&delivery, "body").as_bytes());
        let signed: i64 = header.split([',', '=']).nth(1).unwrap().parse().unwrap();
        let at = Instant::from_secs(signed);
        let check = |body| {
            verify(&[header.as_bytes()], body, &secrets, Tolerance::default(), at).map(|v| v.signed_at)
        };
        assert_eq!(check(body), Ok(at), "{header}");
        assert_eq!(check(&[body, b"\n"].concat()), Err(Forgery::Mismatch));
        assert_eq!(sign(&secrets[0], at, body), header);
        assert_eq!(Event::read(body).map(|e| e.style), Ok(Style::Snapshot), "{}", text(&delivery, "body"));
        count += 1;
    }
    assert!(count >= 30, "{count}");
}

/// The other scheme whose secrets begin with `whsec_`: its header is laid out in other ways, and no layout helps.
#[test]
fn standard_webhooks_never_verify() {
    let Some(path) = vectors("standard-webhooks/vectors.json") else { return };
    let vectors = json(&std::fs::read_to_string(path).unwrap());
    let mut count = 0;
    for case in vectors["vectors"].as_array().unwrap().iter().filter(|c| c["secret"].is_string()) {
        let secret = [Secret::new(text(case, "secret")).unwrap()];
        let t = case["timestamp"].as_i64().unwrap_or(1_649_367_553);
        let base64 = text(case, "signature").trim_start_matches("v1,");
        let hex: String =
            BASE64_STANDARD.decode(base64).unwrap().iter().map(|b| format!("{b:02x}")).collect();
        let body = text(case, "body");
        for line in
            [text(case, "signature").to_owned(), format!("t={t},v1={base64}"), format!("t={t},v1={hex}")]
        {
            for body in [body.to_owned(), format!("{}.{t}.{body}", text(case, "id"))] {
                let result = verify(
                    &[line.as_bytes()],
                    body.as_bytes(),
                    &secret,
                    Tolerance::default(),
                    Instant::from_secs(t),
                );
                assert!(result.is_err(), "{line} verified");
                count += 1;
            }
        }
    }
    assert!(count >= 12, "{count}");
}

#[test]
fn every_event_of_stripe_ruby_mock_is_read() {
    let Some(folder) = vectors("stripe/events-stripe-ruby-mock") else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let body = std::fs::read(&path).unwrap();
        let event = Event::read(&body).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        let whole: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((event.id.as_str(), event.kind.as_str()), (text(&whole, "id"), text(&whole, "type")));
        assert_eq!(Some(event.livemode), whole["livemode"].as_bool());
        count += 1;
    }
    assert!(count >= 80, "{count}");
}
