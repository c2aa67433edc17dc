//! Each body in `examples/` is what its type reads and writes, and whatever would make it ambiguous is refused.
//!
//! The refusals are not written down one by one: every field of every example is taken away, added to, and replaced
//! in turn, so that a field which comes to exist later is tried as well.

// All of it is test code; clippy's exemption for tests does not reach helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use contract::v1;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Reads a body and writes it again.
type Again = fn(Value) -> Result<Value, String>;

const GOLDEN: [(&str, Again); 16] = [
    ("hello.request", again::<v1::Hello>),
    ("hello.answer", again::<v1::HelloAnswer>),
    ("sync.request", again::<v1::Sync>),
    ("sync.answer", again::<v1::SyncAnswer>),
    ("claim.request", again::<v1::Claim>),
    ("claim.answer.fresh", again::<v1::ClaimAnswer>),
    ("claim.answer.in_flight", again::<v1::ClaimAnswer>),
    ("claim.answer.done", again::<v1::ClaimAnswer>),
    ("complete.request", again::<v1::Complete>),
    ("complete.answer", again::<v1::CompleteAnswer>),
    ("watch.answer", again::<v1::WatchAnswer>),
    ("problem.401", again::<v1::Problem>),
    ("problem.402", again::<v1::Problem>),
    ("problem.403", again::<v1::Problem>),
    ("problem.409", again::<v1::Problem>),
    ("problem.422", again::<v1::Problem>),
];

/// Fields that hold an amount, by their name, or with that of the object around them.
const AMOUNTS: [&str; 24] = [
    "acked_admitted",
    "admitted",
    "amount",
    "beyond",
    "exposure",
    "finished",
    "granted",
    "held",
    "hold",
    "image",
    "minimum",
    "models/cache_written",
    "models/cached",
    "models/input",
    "models/output",
    "models/reasoning",
    "need",
    "paid",
    "request",
    "required_micro",
    "returned",
    "short",
    "target",
    "used",
];

/// Fields that hold one of a closed set of words.
const ENUMS: [&str; 12] = [
    "basis", "decision", "kind", "matching", "mode", "outcome", "reason", "result", "size", "state", "unit",
    "unknown",
];

/// Fields that may be absent, as a path below some object; a problem's may be null as well.
const OPTIONAL: [&str; 21] = [
    "models/image_tokens",
    "needs/repeat",
    "refusal/balance_micro",
    "refusal/buy_url",
    "refusal/payer",
    "refusal/required_micro",
    "refusal/resets_at",
    "refusal/retry_after_s",
    "refusal/upgrade_url",
    "shape/output_max",
    "standing/window",
    "usage/basis",
    "usage/tokens",
    "problem/balance",
    "problem/balance_micro",
    "problem/buy_url",
    "problem/required_micro",
    "problem/resets_at",
    "problem/upgrade_url",
    // Attributes are whatever the catalog says.
    "attributes/max-context",
    "attributes/priority",
];

/// Fields that came later: they may be absent and are then nothing, false or empty, and are not written where they are that.
const LATER: [&str; 18] = [
    "cells/need",
    "cells/short",
    "lists/chat",
    "models/unseen",
    "needs/generation_min",
    "needs/paid",
    "shape/choices",
    "shape/clamp",
    "shape/images",
    "shape/makes",
    "shape/open",
    "shape/size",
    "shape/tools",
    "sync/lists",
    "tokens/cache_written",
    "tokens/images",
    "tokens/reasoning",
    "usage/beyond",
];

fn again<T: Serialize + DeserializeOwned>(body: Value) -> Result<Value, String> {
    let text = body.to_string();
    let read: T = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    Ok(serde_json::to_value(read).unwrap())
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"))
}

fn example(name: &str) -> Value {
    let path = folder().join("v1").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A JSON pointer to every value below, each with the last name on the way to it that is not a number.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(n, v)| (n.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in below {
        let pointer = format!("{at}/{name}");
        pointers(value, &pointer, found);
        found.push(pointer);
    }
}

/// The field that a pointer ends at, and the name of the object around it: `usage/tokens`, `problem/balance`.
fn field(file: &str, pointer: &str) -> (String, String) {
    let names: Vec<&str> =
        pointer.split('/').filter(|n| !n.is_empty() && n.parse::<u32>().is_err()).collect();
    let around = names.iter().rev().nth(1).copied().or(file.split('.').next()).unwrap();
    let name = names.last().unwrap();
    ((*name).to_owned(), format!("{around}/{name}"))
}

/// Calls `check` with every place of every example: (file, pointer, body, how to read it).
fn everywhere(mut check: impl FnMut(&str, &str, &Value, Again)) {
    for (file, again) in GOLDEN {
        let body = example(file);
        let mut found = Vec::new();
        pointers(&body, "", &mut found);
        found.iter().for_each(|pointer| check(file, pointer, &body, again));
    }
}

fn with(body: &Value, pointer: &str, value: Value) -> Value {
    let mut body = body.clone();
    *body.pointer_mut(pointer).unwrap() = value;
    body
}

#[test]
fn each_example_is_read_and_written_as_it_is() {
    for (file, again) in GOLDEN {
        let body = example(file);
        assert_eq!(again(body.clone()), Ok(body), "{file}");
    }
}

#[test]
fn each_file_is_tried_and_explained() {
    let tried: BTreeSet<String> = GOLDEN.iter().map(|(file, _)| format!("{file}.json")).collect();
    let there: BTreeSet<String> = std::fs::read_dir(folder().join("v1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(tried, there);
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let explained: BTreeSet<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `v1/")?.split_once('`').map(|(file, _)| file.to_owned()))
        .collect();
    assert_eq!(explained, there);
}

#[test]
fn a_missing_field_is_refused() {
    let mut optional = BTreeSet::new();
    everywhere(|file, pointer, body, again| {
        let (around, name) = pointer.rsplit_once('/').unwrap();
        let mut less = body.clone();
        let Some(object) = less.pointer_mut(around).unwrap().as_object_mut() else { return };
        object.remove(name).unwrap();
        let (_, path) = field(file, pointer);
        if OPTIONAL.contains(&path.as_str()) || LATER.contains(&path.as_str()) {
            optional.insert(path);
            assert!(again(less).is_ok(), "{file} without {pointer} should be read");
        } else {
            let why = again(less).expect_err(&format!("{file} without {pointer} was read"));
            assert!(why.contains("missing field") && why.contains(name), "{file} without {pointer}: {why}");
        }
    });
    let all: BTreeSet<String> = OPTIONAL.into_iter().chain(LATER).map(str::to_owned).collect();
    assert_eq!(optional, all, "what may be absent is tried");
}

#[test]
fn an_unknown_field_is_ignored() {
    everywhere(|file, pointer, body, again| {
        let mut more = body.clone();
        let Some(object) = more.pointer_mut(pointer).unwrap().as_object_mut() else { return };
        // Their names are whatever the catalog says.
        if pointer.ends_with("/attributes") || pointer.ends_with("/lists") {
            return;
        }
        object.insert("from_a_later_version".to_owned(), json!({"id": [1, null], "decision": "ok"}));
        assert_eq!(again(more).as_ref(), Ok(body), "{file} with more at {pointer}");
    });
    for (file, again) in GOLDEN {
        let mut more = example(file);
        more.as_object_mut().unwrap().insert("from_a_later_version".to_owned(), json!("x"));
        assert_eq!(again(more), Ok(example(file)), "{file} with more at the top");
    }
}

#[test]
fn an_unknown_word_is_refused() {
    let mut tried = BTreeSet::new();
    everywhere(|file, pointer, body, again| {
        let (name, _) = field(file, pointer);
        if ENUMS.contains(&name.as_str()) {
            for word in ["something_else", "", "OK"] {
                let why = again(with(body, pointer, json!(word)))
                    .expect_err(&format!("{file}{pointer} = {word:?}"));
                assert!(why.contains("unknown variant"), "{file}{pointer}: {why}");
            }
            tried.insert(name);
        }
    });
    assert_eq!(tried, ENUMS.into_iter().map(str::to_owned).collect());
}

#[test]
fn an_amount_is_a_whole_number_in_range() {
    let mut tried = BTreeSet::new();
    everywhere(|file, pointer, body, again| {
        let (name, path) = field(file, pointer);
        let known = [name, path.clone()].into_iter().find(|name| AMOUNTS.contains(&name.as_str()));
        if let Some(name) = known {
            let bad = [
                json!(-1),
                json!(9_007_199_254_740_992_u64),
                json!(u64::MAX),
                json!(1.5),
                json!(1.0),
                json!("1"),
            ];
            for value in bad {
                let body = with(body, pointer, value.clone());
                assert!(again(body).is_err(), "{file}{pointer} = {value} was read");
            }
            for value in [json!(0), json!(9_007_199_254_740_991_u64)] {
                let mut body = with(body, pointer, value.clone());
                let read = again(body.clone());
                if value == 0 && LATER.contains(&path.as_str()) {
                    let (around, name) = pointer.rsplit_once('/').unwrap();
                    body.pointer_mut(around).unwrap().as_object_mut().unwrap().remove(name);
                }
                assert_eq!(read, Ok(body));
            }
            let null = again(with(body, pointer, Value::Null));
            assert_eq!(null.is_ok(), OPTIONAL.contains(&path.as_str()), "{file}{pointer} = null");
            tried.insert(name);
        }
    });
    assert_eq!(tried, AMOUNTS.into_iter().map(str::to_owned).collect());
}

#[test]
fn every_other_number_is_whole_and_only_a_balance_may_be_negative() {
    everywhere(|file, pointer, body, again| {
        let (name, _) = field(file, pointer);
        if !body.pointer(pointer).unwrap().is_number() {
            return;
        }
        for value in [json!(1.5), json!("1"), json!(true), json!(null)].into_iter().filter(|value| {
            let (_, path) = field(file, pointer);
            !value.is_null() || !OPTIONAL.contains(&path.as_str())
        }) {
            assert!(again(with(body, pointer, value)).is_err(), "{file}{pointer}");
        }
        let negative = again(with(body, pointer, json!(-1)));
        assert_eq!(negative.is_ok(), name == "balance_micro", "{file}{pointer} = -1");
    });
}

#[test]
fn the_problems_are_what_a_refusal_becomes() {
    use units::{Amount, Instant};
    let plans = || Some("https://example.com/plans".to_owned());
    let unknown = v1::Refusal::plain(v1::Reason::UnknownCustomer);
    let poor = v1::Refusal {
        balance_micro: Some(250_000),
        required_micro: Some(Amount::CREDIT),
        resets_at: Some(Instant::from_rfc3339("2026-11-21T00:00:00Z").unwrap()),
        upgrade_url: plans(),
        buy_url: Some("https://example.com/credits".to_owned()),
        ..v1::Refusal::plain(v1::Reason::InsufficientCredits)
    };
    let lower = v1::Refusal {
        balance_micro: Some(12_000_000),
        required_micro: Amount::CREDIT.checked_mul(5),
        upgrade_url: plans(),
        ..v1::Refusal::plain(v1::Reason::TierNotAllowed)
    };
    let balance_micro = Some(12_000_000);
    let again = v1::Refusal { balance_micro, ..v1::Refusal::plain(v1::Reason::RequestInFlight) };
    let other = v1::Refusal { balance_micro, ..v1::Refusal::plain(v1::Reason::IdempotencyMismatch) };
    for (file, refusal, request_id) in [
        ("problem.401", unknown, "req_01JD3Q6X9A"),
        ("problem.402", poor, "req_01JD3Q6Y4C"),
        ("problem.403", lower, "req_01JD3Q6Z8E"),
        ("problem.409", again, "req_01JD3Q70B2"),
        ("problem.422", other, "req_01JD3Q71D5"),
    ] {
        assert_eq!(
            serde_json::to_value(v1::Problem::of(&refusal, request_id)).unwrap(),
            example(file),
            "{file}"
        );
    }
}
