//! The document is what the code says, and what the service answers is what the document says: every answer to every test is
//! held against it (`support.rs`).

use crate::support::Answer;
use serde_json::Value;
use std::path::Path;
use std::sync::LazyLock;

static DOCUMENT: LazyLock<Value> = LazyLock::new(billing::http::document);

#[test]
fn the_file_is_what_the_code_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi/billing.v1.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mend = "write it anew: tollgate-billing openapi > openapi/billing.v1.json";
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        assert_eq!(file["paths"][path], *item, "{path} differs; {mend}");
    }
    assert_eq!(file, *DOCUMENT, "{mend}");
}

#[test]
fn every_operation_says_what_it_does_and_refers_to_what_is_there() {
    let mut ids = Vec::new();
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let says = operation["summary"].as_str().unwrap();
            assert!(says.ends_with('.'), "{method} {path}: {says:?}");
            ids.push(operation["operationId"].as_str().unwrap().to_owned());
            assert!(
                operation["responses"].as_object().unwrap().keys().any(|status| status.starts_with('2')),
                "{path}"
            );
        }
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "two operations have one id");
    let mut refs = Vec::new();
    collect_refs(&DOCUMENT, &mut refs);
    let schemas = DOCUMENT["components"]["schemas"].as_object().unwrap();
    let responses = DOCUMENT["components"]["responses"].as_object().unwrap();
    for name in &refs {
        if let Some(name) = name.strip_prefix("#/components/responses/") {
            assert!(responses.contains_key(name), "there is no response {name}");
            continue;
        }
        assert!(schemas.contains_key(name), "there is no schema {name}");
    }
    let unused: Vec<_> = schemas.keys().filter(|name| !refs.contains(name)).collect();
    assert!(unused.is_empty(), "nothing refers to {unused:?}");
}

/// The contract's own examples are what the document says too.
#[test]
fn the_golden_examples_fit_the_document() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contract/examples/v1");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let schema = match name.split('.').collect::<Vec<_>>()[..] {
            ["problem", ..] => "RefusalProblem",
            ["hello", "request", ..] => "Hello",
            ["hello", ..] => "HelloAnswer",
            ["sync", "request", ..] => "Sync",
            ["sync", ..] => "SyncAnswer",
            ["watch", ..] => "WatchAnswer",
            ["claim", "request", ..] => "Claim",
            ["claim", ..] => "ClaimAnswer",
            ["complete", "request", ..] => "Complete",
            ["complete", ..] => "CompleteAnswer",
            _ => panic!("{name} is an example of what?"),
        };
        let example: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        fits(&serde_json::json!({ "$ref": format!("#/components/schemas/{schema}") }), &example)
            .unwrap_or_else(|why| panic!("{name}: {why}"));
        seen += 1;
    }
    assert!(seen >= 14, "{seen}");
}

fn collect_refs(value: &Value, refs: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str) {
                refs.push(name.trim_start_matches("#/components/schemas/").to_owned());
            }
            map.values().for_each(|value| collect_refs(value, refs));
        }
        Value::Array(all) => all.iter().for_each(|value| collect_refs(value, refs)),
        _ => {}
    }
}

/// Holds an answer against the document.
#[track_caller]
pub(crate) fn check(method: &str, path: &str, answer: &Answer) {
    if let Err(why) = conforms(method, path, answer) {
        panic!("{method} {path} was answered {}: {why}\n{}", answer.status, answer.text);
    }
}

fn conforms(method: &str, path: &str, answer: &Answer) -> Result<(), String> {
    let path = path.split('?').next().unwrap();
    let kind = answer.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let problem = || fits(&serde_json::json!({ "$ref": "#/components/schemas/Problem" }), &answer.json());
    let Some((_, item)) = paths.iter().find(|(template, _)| is_of(template, path)) else {
        return if answer.status == 404 { problem() } else { Err("no such path is documented".into()) };
    };
    // A GET is asked for its head too.
    let method = if method == "HEAD" && item["head"].is_null() { "get" } else { &method.to_lowercase() };
    if item[method].is_null() {
        let allow = answer.headers.get("allow").is_some();
        return if answer.status == 405 && allow {
            problem()
        } else {
            Err("no such method is documented".into())
        };
    }
    let documented = &item[method]["responses"][answer.status.to_string()];
    let documented = match documented["$ref"].as_str() {
        Some(name) => {
            &DOCUMENT["components"]["responses"][name.trim_start_matches("#/components/responses/")]
        }
        None => documented,
    };
    if documented.is_null() {
        return Err("no such status is documented".into());
    }
    let Some(content) = documented["content"].as_object() else {
        return if answer.text.is_empty() { Ok(()) } else { Err("no body is documented".into()) };
    };
    let (media, schema) = content.iter().next().unwrap();
    if !kind.starts_with(media.as_str()) {
        return Err(format!("it is {kind:?}, and documented as {media:?}"));
    }
    if media == "text/plain" || answer.text.is_empty() {
        return Ok(());
    }
    fits(&schema["schema"], &answer.json())
}

fn is_of(template: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    for part in template.split('/') {
        let Some(segment) = segments.next() else { return false };
        match part {
            // The wildcard takes the rest.
            "{path}" => return !segment.is_empty() || segments.next().is_some(),
            _ if part.starts_with('{') && !segment.is_empty() => {}
            _ if part == segment => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

/// As much of JSON Schema as the document uses; and a field that no schema names is refused, since then it is not documented.
fn fits(schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.trim_start_matches("#/components/schemas/");
        return fits(&DOCUMENT["components"]["schemas"][name], value).map_err(|why| format!("{name}: {why}"));
    }
    for word in ["anyOf", "oneOf"] {
        if let Some(all) = schema[word].as_array() {
            let whys: Vec<_> = all.iter().map(|one| fits(one, value)).collect();
            let fitting = whys.iter().filter(|why| why.is_ok()).count();
            return match fitting {
                0 => Err(format!("{value} fits none of: {whys:?}")),
                n if word == "oneOf" && n > 1 => Err(format!("{value} fits {n} at once")),
                _ => Ok(()),
            };
        }
    }
    let no = |what: &str| Err(format!("{value} is not {what} ({schema})"));
    match schema["type"].as_str() {
        Some("object") if !value.is_object() => return no("an object"),
        Some("array") if !value.is_array() => return no("a list"),
        Some("string") if !value.is_string() => return no("a text"),
        Some("integer") if !(value.is_i64() || value.is_u64()) => return no("whole"),
        Some("boolean") if !value.is_boolean() => return no("true or false"),
        Some("null") if !value.is_null() => return no("null"),
        _ => {}
    }
    if schema["const"] != Value::Null && schema["const"] != *value {
        return no("that word");
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return no("one of those words");
    }
    if let Some(number) = value.as_i64() {
        let within = |key: &str, holds: fn(i64, i64) -> bool| {
            schema[key].as_i64().is_none_or(|end| holds(number, end))
        };
        if !within("minimum", |n, min| n >= min) || !within("maximum", |n, max| n <= max) {
            return no("within its bounds");
        }
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count();
        let bound = |key: &str| schema[key].as_u64().map(|n| usize::try_from(n).unwrap());
        if bound("minLength").is_some_and(|n| length < n) || bound("maxLength").is_some_and(|n| length > n) {
            return no("of its length");
        }
        if schema["format"] == "date-time" && units::Instant::from_rfc3339(text).is_err() {
            return no("an instant");
        }
    }
    if let Some(items) = value.as_array() {
        return items.iter().try_for_each(|item| fits(&schema["items"], item));
    }
    let Some(map) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !map.contains_key(name.as_str().unwrap()) {
            return no(&format!("whole: {name} is missing"));
        }
    }
    for (name, value) in map {
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Null) if schema["type"].is_null() => {}
            (Value::Null, Value::Null | Value::Bool(false)) => {
                return no(&format!("known: {name} is not documented"));
            }
            (Value::Null, Value::Bool(_)) => {}
            (Value::Null, more) => fits(more, value).map_err(|why| format!("{name}: {why}"))?,
            (known, _) => fits(known, value).map_err(|why| format!("{name}: {why}"))?,
        }
    }
    Ok(())
}
