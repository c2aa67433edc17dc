//! Envoy accepts `envoy/envoy.yaml` as it stands, filter and all, and with the part that is commented out.

// All of it is test code; clippy's exemption for tests does not reach helpers of an integration test.
#![allow(clippy::unwrap_used)]

use stage::tools::{Tools, root};
use std::process::{Command, Output};

/// `envoy --mode validate` loads the module and applies its configuration, as a start does.
fn validate(edit: impl Fn(String) -> String, secret: Option<&str>) -> Output {
    let root = root().unwrap();
    let tools = Tools::find(&root).unwrap();
    let text = std::fs::read_to_string(root.join("envoy/envoy.yaml")).unwrap();
    // Where Cargo put it, should that be another folder than the file names.
    let text = text.replace("target/wasm32-wasip1/wasm/tollgate.wasm", &tools.module.display().to_string());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("envoy.yaml");
    std::fs::write(&file, edit(text)).unwrap();
    let mut envoy = Command::new(&tools.envoy);
    envoy.args(["--mode", "validate", "-c"]).arg(file).current_dir(root).env_clear();
    envoy.envs([
        ("GATEWAY_TOKEN", "a-token-of-this-test"),
        ("NODE", "n1"),
        ("PROVIDER_AUTHORIZATION", "Bearer sk-1"),
    ]);
    envoy.envs(secret.map(|secret| ("STRIPE_WEBHOOK_SECRET", secret)));
    envoy.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn as_it_stands() {
    let output = validate(|text| text, Some("whsec_0123456789abcdef"));
    assert!(output.status.success(), "{}", said(&output));
    let output = validate(|text| text, None);
    assert!(!output.status.success() && said(&output).contains("STRIPE_WEBHOOK_SECRET"), "{}", said(&output));
}

#[test]
fn with_the_providers_key_put_in() {
    let uncomment = |text: String| {
        let (head, tail) = text.split_once("    # typed_extension_protocol_options:").unwrap();
        let tail: String = tail.lines().map(|line| format!("{}\n", line.replacen("# ", "", 1))).collect();
        format!("{head}    typed_extension_protocol_options:{tail}")
    };
    let output = validate(uncomment, Some("whsec_0123456789abcdef"));
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("loading 1 static secret"), "{}", said(&output));
}
