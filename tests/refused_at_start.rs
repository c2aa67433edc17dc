//! What is wrong with a configuration, a catalog or an environment is said at start, all of it at once, and nothing runs on it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what does not hold in a test is the test's failure"
)]

use serde_json::json;
use stage::harness::{Options, Stage};

/// Nothing came up, and what was said holds all of these.
fn refused(options: Options, complaints: &[&str]) {
    let Err(trouble) = Stage::try_start(options) else { panic!("it started, in spite of {complaints:?}") };
    for complaint in complaints {
        assert!(trouble.0.contains(complaint), "nothing about {complaint:?} in:\n{}", trouble.0);
    }
}

#[test]
fn a_bad_webhook_configuration_names_every_complaint() {
    let patch = json!({
        "endpoints": [
            { "id": "a", "path": "no-slash", "secrets_env": ["UNSET_SECRET"], "tolerance_past_s": 0, "tolerance_future_s": 300,
              "body_bytes_max": 1_048_576, "livemode": "sometimes", "forward_types": ["*"], "dedupe": { "mode": "maybe" } },
            { "id": "b", "path": "/b", "secrets_env": [], "tolerance_past_s": 300, "tolerance_future_s": 300,
              "body_bytes_max": 1_048_576, "livemode": "any", "forward_types": ["*"], "dedupe": { "mode": "claim" }, "typo": 1 }
        ]
    });
    refused(
        Options::default().plugin("webhook", patch),
        &[
            "no-slash",
            "UNSET_SECRET",
            "tolerance_past_s",
            "sometimes",
            "maybe",
            "typo",
            "endpoints[1].secrets_env",
        ],
    );
}

#[test]
fn a_bad_ai_configuration_names_every_complaint() {
    let patch = json!({
        "mode": "lenient",
        "billing": { "timeout_ms": 0 },
        "routes": [
            { "method": "POST", "path": "/v1/x", "endpoint": "x", "hold": "whatever", "consult": "every_request", "on_unavailable": "allow" },
            { "method": "POST", "path": "/v1/x", "endpoint": "y", "hold": "fixed", "consult": "every_request", "on_unavailable": "deny" }
        ]
    });
    refused(
        Options::default().plugin("ai", patch),
        &["lenient", "timeout_ms", "whatever", "\"allow\"", "routes[1]"],
    );
}

#[test]
fn a_secret_that_protects_nothing_is_refused_and_not_shown() {
    for secret in [" whsec_padded_secret_0123456789", "whsec_short"] {
        let Err(trouble) = Stage::try_start(Options::default().with("STRIPE_WEBHOOK_SECRET", secret)) else {
            panic!("it started with {secret:?}")
        };
        assert!(trouble.0.contains("STRIPE_WEBHOOK_SECRET"), "{}", trouble.0);
        assert!(!trouble.0.contains(secret.trim()), "the secret is shown: {}", trouble.0);
    }
}

#[test]
fn a_bad_environment_names_every_complaint() {
    refused(
        Options::default()
            .with("LIVEMODE", "perhaps")
            .with("CLAIM_TTL_MS", "soon")
            .with("ENVOY_CONCURRENCY", "0"),
        &["LIVEMODE", "perhaps", "CLAIM_TTL_MS", "soon", "ENVOY_CONCURRENCY"],
    );
}

#[test]
fn a_bad_catalog_names_every_complaint() {
    let folder = tempdir();
    let file = folder.join("bad.yaml");
    let good = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/catalogs/demo.yaml")).unwrap();
    let bad = good.replace("currency: usd", "currency: dollars").replacen("pro", "prof", 1);
    std::fs::write(&file, format!("{bad}\nsurprise: 1\n")).unwrap();
    refused(Options::default().with("CATALOG", file.display()), &["surprise", "dollars"]);
    std::fs::remove_dir_all(folder).unwrap();
}

fn tempdir() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("tollgate-catalog-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
