//! House rules that a compiler does not know, executed: which way the arrows point, who may name what, how a file begins and ends.
//!
//! Each rule is a function from text to complaints, so that it can be shown to fire on a bad sample before it is
//! believed about the project.

// All of it is test code; clippy's exemption for tests does not reach helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

mod cases;
mod failures;
mod reading;

use reading::{code, is_test_file, lines_naming, shipped};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Of our own crates, what each may use: (package, in what ships, besides in its tests).
const ARROWS: [(&str, &[&str], &[&str]); 17] = [
    ("tollgate-units", &[], &[]),
    ("tollgate-webhook", &["tollgate-units"], &["tollgate-webhook"]),
    ("tollgate-meter", &[], &[]),
    ("tollgate-contract", &["tollgate-units"], &[]),
    ("tollgate-ledger", &["tollgate-units"], &[]),
    ("tollgate-config", &["tollgate-units", "tollgate-meter", "tollgate-webhook"], &[]),
    (
        "tollgate-gate",
        &["tollgate-units", "tollgate-config", "tollgate-contract", "tollgate-meter", "tollgate-webhook"],
        &[],
    ),
    (
        "tollgate",
        &["tollgate-gate", "tollgate-contract", "tollgate-units", "tollgate-webhook"],
        &["tollgate-stage", "tollgate-host", "tollgate-scenarios"],
    ),
    (
        "tollgate-billing",
        &["tollgate-contract", "tollgate-webhook", "tollgate-ledger", "tollgate-units"],
        &["tollgate-stage"],
    ),
    ("tollgate-scenarios", &["tollgate-contract", "tollgate-webhook", "tollgate-units"], &[]),
    (
        "tollgate-stage",
        &["tollgate-contract", "tollgate-webhook", "tollgate-units", "tollgate-scenarios"],
        &[],
    ),
    ("tollgate-bench", &["tollgate-stage", "tollgate-webhook"], &[]),
    ("tollgate-soak", &["tollgate-stage", "tollgate-units"], &[]),
    ("tollgate-host", &[], &[]),
    (
        "tollgate-wasm32",
        &[
            "tollgate-gate",
            "tollgate-ledger",
            "tollgate-contract",
            "tollgate-scenarios",
            "tollgate-units",
            "tollgate-webhook",
        ],
        &[],
    ),
    (
        "tollgate-sim",
        &["tollgate-gate", "tollgate-ledger", "tollgate-contract", "tollgate-billing", "tollgate-units"],
        &[],
    ),
    (
        "tollgate-fuzzing",
        &[
            "tollgate-gate",
            "tollgate-ledger",
            "tollgate-contract",
            "tollgate-billing",
            "tollgate-meter",
            "tollgate-sim",
            "tollgate-units",
            "tollgate-webhook",
        ],
        &[],
    ),
];

/// The crates without I/O, clock or randomness.
const PURE: [&str; 7] = ["units", "webhook", "meter", "contract", "config", "gate", "ledger"];

/// All that pure crates may use from outside: text, numbers and hashes.
const PURE_OUTSIDE: [&str; 7] = ["base64", "hmac", "itoa", "serde", "serde_json", "sha2", "time"];

/// What pure crates never name outside tests, because its answer is different the next time, or nobody sees it.
const IMPURE: [&str; 23] = [
    "HashMap",
    "HashSet",
    "Instant::now",
    "OnceLock",
    "SystemTime",
    "dbg!",
    "eprint!",
    "eprintln!",
    "getrandom",
    "log::",
    "now_local",
    "now_utc",
    "print!",
    "println!",
    "rand",
    "static",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "tracing",
];

/// Modules of `std` that pure crates do not import in a group either: `use std::{env, fmt};`.
const IMPURE_STD: [&str; 6] = ["env", "fs", "io", "net", "process", "thread"];

/// The crates that serve HTTP, store, or drive those that do.
const SERVICE: [&str; 4] = ["billing", "stage", "bench", "soak"];

/// What only they and tests name.
const SERVICE_ONLY: [&str; 5] = ["axum", "hyper", "rusqlite", "tokio", "tracing_subscriber"];

const LINES_MAX: usize = 500;

/// Files above that, with their length today. The list may only shrink, and so may they.
const LONG: [(&str, usize); 0] = [];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the project: its path from the root, with `/`, and its text.
fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    ["crates", "src", "tests"].iter().for_each(|folder| walk(&root().join(folder), &mut found));
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// Puts every file to a rule and fails with all its complaints.
fn hold(rule: impl Fn(&str, &str) -> Vec<String>) {
    let complaints: Vec<String> = sources().iter().flat_map(|(path, text)| rule(path, text)).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

// --- The rules.

/// The dependencies of one package, as `cargo metadata` tells them.
fn arrows(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap();
    let Some((_, ships, tests)) = ARROWS.iter().find(|row| row.0 == name) else {
        return vec![format!("{name}: has no row in ARROWS; say there what it may use")];
    };
    let pure = name.strip_prefix("tollgate-").is_some_and(|short| PURE.contains(&short));
    let mut complaints = Vec::new();
    for dependency in package["dependencies"].as_array().unwrap() {
        let (other, for_tests) = (dependency["name"].as_str().unwrap(), dependency["kind"] == "dev");
        let ours = dependency["path"].is_string();
        let allowed = ships.contains(&other) || (for_tests && tests.contains(&other));
        if ours && !allowed {
            complaints.push(format!("{name}: must not use {other} (for tests: {for_tests})"));
        }
        if !ours && pure && !for_tests && !PURE_OUTSIDE.contains(&other) {
            complaints.push(format!("{name}: is pure, and {other} is not among what pure crates may use"));
        }
        let features = dependency["features"].as_array().unwrap();
        if !for_tests && features.iter().any(|feature| feature == "short-secrets") {
            complaints.push(format!("{name}: short-secrets of {other} is for tests only"));
        }
    }
    complaints
}

/// `proxy_wasm` is named in the filter only; what serves HTTP or stores, in the service, the stage and tests only.
fn who_names_what(path: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let complain = |what: &'static str, where_: &'static str| {
        let lines = lines_naming(&code, what).into_iter();
        lines
            .map(move |line| format!("{path}:{line}: names {what}, which belongs in {where_}"))
            .collect::<Vec<_>>()
    };
    let mut complaints = Vec::new();
    if !path.starts_with("src/") {
        complaints.extend(complain("proxy_wasm", "src/ only"));
    }
    let service = SERVICE.iter().any(|name| path.starts_with(&format!("crates/{name}/")));
    if !service && !is_test_file(path) {
        let each =
            SERVICE_ONLY.iter().flat_map(|what| complain(what, "billing, stage, bench, soak and tests only"));
        complaints.extend(each);
    }
    complaints
}

/// Pure crates name no clock, randomness, environment, file, network, log, global or unordered map.
fn purity(path: &str, text: &str) -> Vec<String> {
    if !PURE.iter().any(|name| path.starts_with(&format!("crates/{name}/src/"))) {
        return Vec::new();
    }
    let code = shipped(path, text);
    let mut complaints = Vec::new();
    for what in IMPURE {
        // A lifetime is no static.
        let code = if what == "static" { code.replace("'static", "") } else { code.clone() };
        let lines = lines_naming(&code, what).into_iter();
        complaints.extend(lines.map(|line| format!("{path}:{line}: a pure crate names {what}")));
    }
    for (at, _) in code.match_indices("use std::{") {
        let group = &code[at..at + code[at..].find(';').unwrap_or(code.len() - at)];
        let line = code[..at].matches('\n').count() + 1;
        let named = IMPURE_STD.iter().filter(|what| !lines_naming(group, what).is_empty());
        complaints.extend(named.map(|what| format!("{path}:{line}: a pure crate names std::{what}")));
    }
    complaints
}

/// A file opens with a sentence that says what it is for.
fn beginning(path: &str, text: &str) -> Vec<String> {
    let sentence =
        text.lines().next().and_then(|line| line.strip_prefix("//! ")).is_some_and(|s| !s.trim().is_empty());
    if sentence {
        Vec::new()
    } else {
        vec![format!("{path}:1: begins without a `//!` sentence on what it is for")]
    }
}

/// A file is short enough to be read.
fn length(path: &str, text: &str, long: &[(&str, usize)]) -> Vec<String> {
    let lines = text.lines().count();
    match long.iter().find(|(name, _)| *name == path) {
        None if lines > LINES_MAX => {
            vec![format!("{path}: has {lines} lines, more than {LINES_MAX}; divide it")]
        }
        Some((_, before)) if lines > *before => {
            vec![format!("{path}: grew from {before} to {lines} lines; divide it")]
        }
        Some(_) if lines <= LINES_MAX => vec![format!("{path}: has {lines} lines; take it out of LONG")],
        _ => Vec::new(),
    }
}

// --- The project keeps them.

#[test]
fn arrows_point_inward() {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let metadata: Value = serde_json::from_slice(&cargo.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let complaints: Vec<String> = packages.iter().flat_map(arrows).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    for (name, ..) in ARROWS {
        assert!(packages.iter().any(|p| p["name"] == name), "{name}: has a row in ARROWS, but is no package");
    }
}

#[test]
fn each_name_stays_where_it_belongs() {
    hold(who_names_what);
}

#[test]
fn pure_crates_are_pure() {
    hold(purity);
}

#[test]
fn each_file_says_what_it_is_for() {
    hold(beginning);
}

#[test]
fn no_file_is_too_long() {
    hold(|path, text| length(path, text, &LONG));
    let there = sources();
    for (name, _) in LONG {
        assert!(there.iter().any(|(path, _)| path == name), "{name}: is in LONG, but is no file");
    }
}

// --- The rules fire.

#[test]
fn every_kind_of_file_is_looked_at() {
    let there = sources();
    for path in [
        "src/lib.rs",
        "tests/tidy/main.rs",
        "crates/webhook/src/header.rs",
        "crates/contract/tests/golden.rs",
    ] {
        assert!(there.iter().any(|(name, _)| name == path), "{path} was not found");
    }
    for name in PURE {
        let prefix = format!("crates/{name}/src/");
        let code = there
            .iter()
            .filter(|(path, _)| path.starts_with(&prefix))
            .map(|(path, text)| shipped(path, text));
        assert!(code.map(|c| c.trim().len()).sum::<usize>() > 0, "nothing of {name} was looked at");
    }
}

#[test]
fn a_wrong_arrow_is_found() {
    let package = |name: &str, other: &str, kind: Value, path: Value, features: Value| {
        let dependency = serde_json::json!({"name": other, "kind": kind, "path": path, "features": features});
        arrows(&serde_json::json!({"name": name, "dependencies": [dependency]}))
    };
    let ours = |name, other, kind: Value| package(name, other, kind, "x".into(), Value::Array(vec![])).len();
    let outside =
        |name, other, kind: Value| package(name, other, kind, Value::Null, Value::Array(vec![])).len();
    for (name, other) in [
        ("tollgate-gate", "tollgate-ledger"),
        ("tollgate-ledger", "tollgate-gate"),
        ("tollgate-units", "tollgate-contract"),
        ("tollgate-contract", "tollgate-webhook"),
        ("tollgate", "tollgate-billing"),
        ("tollgate", "tollgate-stage"),
        ("tollgate-billing", "tollgate-gate"),
    ] {
        assert_eq!(ours(name, other, Value::Null), 1, "{name} → {other}");
    }
    assert_eq!(ours("tollgate-gate", "tollgate-contract", Value::Null), 0);
    assert_eq!(ours("tollgate-gate", "tollgate-ledger", "dev".into()), 1);
    assert_eq!(ours("tollgate", "tollgate-stage", "dev".into()), 0);
    assert_eq!(ours("tollgate-new", "tollgate-units", Value::Null), 1, "a crate without a row");
    assert_eq!(outside("tollgate-ledger", "tokio", Value::Null), 1);
    assert_eq!(outside("tollgate-ledger", "serde", Value::Null), 0);
    assert_eq!(outside("tollgate-ledger", "proptest", "dev".into()), 0);
    assert_eq!(outside("tollgate-billing", "tokio", Value::Null), 0);
    let short = |kind: Value| {
        package("tollgate-gate", "tollgate-webhook", kind, "x".into(), serde_json::json!(["short-secrets"]))
            .len()
    };
    assert_eq!((short(Value::Null), short("dev".into())), (1, 0));
}

#[test]
fn a_name_out_of_place_is_found() {
    for (path, text, complaints) in [
        ("crates/gate/src/x.rs", "use proxy_wasm::traits::Context;", 1),
        ("src/root.rs", "use proxy_wasm::traits::Context;", 0),
        ("tests/x.rs", "use proxy_wasm::traits::Context;", 1),
        ("src/root.rs", "tokio::spawn(f);", 1),
        ("crates/ledger/src/x.rs", "use {axum::Router, rusqlite::Connection};", 2),
        ("crates/billing/src/x.rs", "use axum::Router;", 0),
        ("tests/x.rs", "#[tokio::test] async fn f() {}", 0),
        ("crates/gate/src/x.rs", "// proxy_wasm\n/* tokio */ let a = \"axum\";", 0),
        ("crates/gate/src/x.rs", "let my_tokio = tokio_like;", 0),
    ] {
        assert_eq!(who_names_what(path, text).len(), complaints, "{path}: {text}");
    }
}

#[test]
fn an_impure_name_is_found() {
    for what in IMPURE {
        let text = format!("fn f() {{\n    {what} ();\n}}");
        assert_eq!(
            purity("crates/ledger/src/x.rs", &text),
            [format!("crates/ledger/src/x.rs:2: a pure crate names {what}")]
        );
        assert_eq!(purity("crates/ledger/tests/x.rs", &text).len(), 0, "{what} in a test");
        assert_eq!(purity("crates/ledger/src/step/tests.rs", &text).len(), 0, "{what} in a test");
        assert_eq!(purity("crates/billing/src/x.rs", &text).len(), 0, "{what} in the service");
        let tests = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n    fn f() {{ {what} (); }}\n}}\n");
        assert_eq!(purity("crates/gate/src/x.rs", &tests).len(), 0, "{what} under cfg(test)");
        let after = format!("{tests}fn b() {{ {what} (); }}");
        assert_eq!(
            purity("crates/gate/src/x.rs", &after),
            [format!("crates/gate/src/x.rs:6: a pure crate names {what}")]
        );
    }
    for what in IMPURE_STD {
        let text = format!("use std::{{\n    {what}::x, fmt,\n}};");
        assert_eq!(purity("crates/units/src/x.rs", &text).len(), 1, "{text}");
    }
    for text in [
        "#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;\n",
        "const A: &'static str = \"HashMap\";",
        "use std::{collections::BTreeMap, fmt};\nlet environment = 1;",
        "/// Not a HashMap, not `std::env`.\nfn strand(rand_: u8) {}",
    ] {
        assert_eq!(purity("crates/units/src/x.rs", text), [""; 0], "{text}");
    }
}

#[test]
fn a_file_without_a_sentence_or_end_is_found() {
    for text in ["", "\n//! A.", "//!", "//! ", "// A.", "use a;"] {
        assert_eq!(beginning("x.rs", text).len(), 1, "{text:?}");
    }
    assert_eq!(beginning("x.rs", "//! A.\n").len(), 0);
    let lines = |n| "//! A.\n".repeat(n);
    for (n, listed, complaints) in
        [(500, None, 0), (501, None, 1), (501, Some(501), 0), (502, Some(501), 1), (500, Some(501), 1)]
    {
        let long: Vec<(&str, usize)> = listed.map(|n| ("x.rs", n)).into_iter().collect();
        assert_eq!(length("x.rs", &lines(n), &long).len(), complaints, "{n} lines, listed {listed:?}");
    }
}
