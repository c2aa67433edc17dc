//! A bad plugin configuration is refused at load, with every complaint in the log, and no secret.

use crate::support::{ENV, SECRET, ai_json, module, webhook_json};
use host::{Envoy, Failure};
use serde_json::{Value, json};

/// What the log says of a configuration that is refused.
fn complaints(json: &Value, env: &[(&str, &str)]) -> Result<Vec<String>, Failure> {
    let vm = Envoy::new().worker(module(), env)?;
    match vm.configure(&json.to_string()) {
        Err(Failure::Refused { log }) => Ok(log),
        other => panic!("accepted: {other:?}\n{json}"),
    }
}

#[test]
fn what_is_right_is_accepted_without_a_word() -> Result<(), Failure> {
    for json in [webhook_json(), ai_json()] {
        let vm = Envoy::new().worker(module(), &ENV)?;
        vm.configure(&json.to_string())?;
        assert_eq!(vm.log(), []);
        assert!(vm.calls()?.is_empty(), "a configuration that is only tried out asks nobody");
    }
    Ok(())
}

#[test]
fn every_complaint_is_told_at_once() -> Result<(), Failure> {
    let mut json = webhook_json();
    json["endpoints"][0]["tolerance_past_s"] = json!(0);
    json["endpoints"][0]["path"] = json!("webhooks");
    json["endpoints"][1]["livemode"] = json!("perhaps");
    json["endpoints"][1].as_object_mut().unwrap().remove("body_bytes_max");
    json["surprise"] = json!(true);
    json["billing"]["timeout_ms"] = json!("soon");
    let log = complaints(&json, &ENV)?;
    for wrong in ["tolerance_past_s", "path", "livemode", "body_bytes_max", "surprise", "timeout_ms"] {
        assert!(log.iter().any(|line| line.contains(wrong)), "{wrong} in {log:#?}");
    }
    assert_eq!(log.len(), 6, "{log:#?}");
    Ok(())
}

/// F5: a secret that is unset, empty or padded is no secret, and nothing loads with it.
#[test]
fn an_environment_that_lacks_something_is_refused() -> Result<(), Failure> {
    let all_but = |name: &str| ENV.into_iter().filter(|(key, _)| *key != name).collect::<Vec<_>>();
    for (json, name) in
        [(webhook_json(), "STRIPE_WEBHOOK_SECRET"), (ai_json(), "GATEWAY_TOKEN"), (ai_json(), "NODE")]
    {
        for value in [None, Some(""), Some(" padded-0123456789abcdef "), Some("\u{fffd}\n")] {
            let mut env = all_but(name);
            env.extend(value.map(|value| (name, value)));
            let log = complaints(&json, &env)?;
            assert!(log.iter().any(|line| line.contains(name)), "{name}={value:?}: {log:#?}");
        }
    }
    let mut short = all_but("STRIPE_WEBHOOK_SECRET");
    short.push(("STRIPE_WEBHOOK_SECRET", &SECRET[..15]));
    let log = complaints(&webhook_json(), &short)?;
    assert!(!log.iter().any(|line| line.contains(&SECRET[..15])), "a secret is never told: {log:#?}");
    Ok(())
}

#[test]
fn what_is_no_configuration_is_refused_without_a_trap() -> Result<(), Failure> {
    let deep = "[".repeat(100_000);
    let long = format!(r#"{{"role":"{}"}}"#, "x".repeat(1_000_000));
    for text in [
        "",
        "null",
        "{}",
        "[]",
        "{\"role\":",
        r#"{"role":"both"}"#,
        r#"{"role":"ai","role":"ai"}"#,
        "\u{0}",
        &deep,
        &long,
    ] {
        let vm = Envoy::new().worker(module(), &ENV)?;
        match vm.configure(text) {
            Err(Failure::Refused { log }) => assert!(!log.is_empty(), "{}", &text[..text.len().min(40)]),
            other => panic!("{other:?}: {}", &text[..text.len().min(40)]),
        }
    }
    Ok(())
}

#[test]
fn without_a_configuration_nothing_passes() -> Result<(), Failure> {
    let vm = Envoy::new().worker(module(), &ENV)?;
    let stream = vm.stream()?;
    stream.request_headers(&crate::support::CHAT, true)?;
    assert_eq!(stream.reply().map(|reply| reply.status), Some(503));
    stream.close(0)
}
