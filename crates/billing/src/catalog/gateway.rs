//! Where the product's own paths lie: checked here, beside the prices they lead to, and read by whoever sets a gateway up.
//!
//! The service itself makes no use of it. What can be wrong is told before a gateway is started with it, since there a path
//! without a rule is a 403, and a rule without a path is never met.

use super::tree::{Tree, text, texts, word};
use crate::complaint::Complaints;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use webhook::TypePattern;

/// What a customer can be shown of their own, as the last part of the service's own path.
const SHOWN: [(&str, &str); 6] = [
    ("tiers", "/v1/tiers"),
    ("packages", "/v1/packages"),
    ("subscription", "/v1/subscription"),
    ("balance", "/v1/balance"),
    ("history", "/v1/history"),
    ("usage", "/v1/usage"),
];

/// Where each path leads, and the methods that are spoken for there. A gateway's route knows no method: all that is said of
/// one path must lead to one place.
#[derive(Default)]
struct Places(BTreeMap<String, (String, BTreeSet<String>)>);

/// Checks the section; `endpoints` are the names of what has a price, and whether that depends on what is used.
pub(super) fn check(tree: Option<Tree<'_>>, endpoints: &BTreeMap<&str, bool>, no: &mut Complaints) {
    let Some(mut tree) = tree else { return };
    let mut places = Places::default();
    for mut entry in tree.list("webhooks", no) {
        entry.maybe("types", no, types);
        places.take(entry, "POST", |_| "the service's webhook".into(), no);
    }
    for mut entry in tree.list("requests", no) {
        let method = entry.must("method", no, method).unwrap_or_default();
        let upstream = entry.maybe("upstream", no, path);
        let endpoint = entry.must("endpoint", no, text);
        let by_usage = endpoint.as_ref().and_then(|name| endpoints.get(name.as_str()).copied());
        if let (Some(name), None) = (endpoint, by_usage) {
            no.add(entry.path("endpoint"), format!("{name:?}"), "name one of the endpoints");
        }
        reading(&mut entry, by_usage.unwrap_or(false), no);
        let leads = |path: &str| format!("{} at the upstream", upstream.as_deref().unwrap_or(path));
        places.take(entry, &method, leads, no);
    }
    for mut entry in tree.list("data", no) {
        let shown = entry.must("shows", no, word(SHOWN)).unwrap_or_default();
        places.take(entry, "GET", |_| format!("{shown} of the service"), no);
    }
    if let Some(health) = tree.maybe("health", no, path) {
        places.put(tree.path("health"), &health, "GET", "the service's health".into(), no);
    }
    tree.close(no);
}

impl Places {
    /// Takes an entry's `path`, in both spellings if it says so, and closes the entry.
    fn take(
        &mut self,
        mut entry: Tree<'_>,
        method: &str,
        leads: impl Fn(&str) -> String,
        no: &mut Complaints,
    ) {
        let written = entry.must("path", no, path);
        let either = entry.maybe("slash", no, word([("exact", false), ("either", true)])).unwrap_or(false);
        let at = entry.path("path");
        entry.close(no);
        let Some(written) = written else { return };
        let other = either.then(|| match written.strip_suffix('/') {
            Some(without) => without.to_owned(),
            None => format!("{written}/"),
        });
        for spelled in [Some(written.clone()), other].into_iter().flatten().filter(|path| !path.is_empty()) {
            self.put(at.clone(), &spelled, method, leads(&written), no);
        }
    }

    fn put(&mut self, at: String, path: &str, method: &str, leads: String, no: &mut Complaints) {
        if matches!(path, "/webhooks/stripe" | "/webhooks/app") || path.starts_with("/billing/") {
            no.add(at, format!("{path:?}"), "is there for every product; leave it out");
            return;
        }
        let (known, methods) =
            self.0.entry(path.to_owned()).or_insert_with(|| (leads.clone(), BTreeSet::new()));
        if *known != leads {
            no.add(at, format!("{path:?}"), format!("leads to {known} already; a path leads to one place"));
        } else if !methods.insert(method.to_owned()) {
            no.add(
                at,
                format!("{method} {path:?}"),
                "is there already, as it stands or by its slash; remove one",
            );
        }
    }
}

/// Who says what a request used, in words that a gateway knows.
const USAGE: [(&str, bool); 7] = [
    ("none", false),
    ("openai", true),
    ("openai_images", true),
    ("openai_responses", true),
    ("anthropic", true),
    ("gemini", true),
    ("envoy_ai", true),
];

/// How a gateway reads what a request may use and did use; `by_usage` if its price depends on that.
fn reading(entry: &mut Tree<'_>, by_usage: bool, no: &mut Complaints) {
    entry.maybe("hold", no, word([("fixed", ()), ("max_tokens", ()), ("estimate", ())]));
    entry.maybe("missing_usage", no, word([("counted", ()), ("hold", ()), ("input", ())]));
    let said = entry.get("usage").is_some();
    let reads = entry.maybe("usage", no, usage);
    // What complains of a usage has said that already.
    let silent = if said { reads == Some(false) } else { true };
    if by_usage && silent {
        let mend = "write who says what was used, such as openai: this endpoint's price depends on it";
        no.add(entry.path("usage"), if said { "none" } else { "missing" }, mend);
    }
}

/// Whether anybody says what was used.
fn usage(value: &Value) -> Result<bool, String> {
    let Some(map) = value.as_object() else {
        return word(USAGE)(value).map_err(|mend| format!("{mend}, {{header: …}} or {{json_pointer: …}}"));
    };
    let (mut names, mut says) = (map.keys(), map.values());
    let known = matches!(names.next().map(String::as_str), Some("header" | "json_pointer"));
    let filled = says.next().and_then(Value::as_object).is_some_and(|inner| !inner.is_empty());
    let one = known && filled && map.len() == 1;
    one.then_some(true).ok_or_else(|| "write {header: {…}} or {json_pointer: {…}}, and one of them".into())
}

/// A path as a gateway compares it: normalised, without a query.
fn path(value: &Value) -> Result<String, String> {
    let mend = "write a path that begins with /, without query, %, //, . or ..";
    let path = text(value)?;
    let plain = path.len() <= 1024 && path.bytes().all(|b| b.is_ascii_graphic() && !b"?#%\\".contains(&b));
    let normal = !path.contains("//") && !path.split('/').any(|part| part == "." || part == "..");
    (path.starts_with('/') && plain && normal).then_some(path).ok_or_else(|| mend.into())
}

fn method(value: &Value) -> Result<String, String> {
    let method = text(value)?;
    let sound = method.bytes().all(|b| b.is_ascii_uppercase()) && method != "CONNECT";
    sound.then_some(method).ok_or_else(|| "write a method in capitals, such as POST".into())
}

fn types(value: &Value) -> Result<(), String> {
    let mend = "write a list of event types, or of prefixes such as invoice.*";
    let patterns = texts(value).ok().filter(|all| !all.is_empty()).ok_or(mend)?;
    let sound = patterns.iter().all(|pattern| pattern.parse::<TypePattern>().is_ok());
    sound.then_some(()).ok_or_else(|| mend.into())
}

#[cfg(test)]
mod tests {
    use crate::catalog::Catalog;

    fn complaints(gateway: &str) -> Vec<String> {
        let demo = include_str!("../../../../catalogs/demo.yaml");
        complaints_of(demo, gateway)
    }

    fn complaints_of(demo: &str, gateway: &str) -> Vec<String> {
        let no = Catalog::from_yaml(&format!("{demo}\ngateway:\n{gateway}")).err();
        no.map(|no| no.0.iter().map(|c| format!("{} {}", c.path, c.value)).collect()).unwrap_or_default()
    }

    #[test]
    fn a_products_paths_are_taken() {
        let none: [&str; 0] = [];
        assert_eq!(complaints(""), none);
        let all = "
  webhooks: [{path: /hook/, slash: either, types: [invoice.*, customer.created]}, {path: /other}]
  requests:
  - {method: POST, path: /ask, endpoint: chat, upstream: /v1/chat/completions}
  - {method: PUT, path: /ask, endpoint: image, upstream: /v1/chat/completions}
  data: [{path: /mine/balance/, slash: either, shows: balance}]
  health: /health";
        assert_eq!(complaints(all), none);
    }

    #[test]
    fn every_complaint_comes_at_once() {
        let all = "
  webhooks: [{path: hook}, {path: /webhooks/stripe}, {path: /a, types: []}, {path: /b/../c}, {}]
  requests:
  - {method: post, path: /ask, endpoint: chat}
  - {method: POST, path: /draw, endpoint: picture}
  - {method: POST, path: /a, endpoint: chat}
  - {method: POST, path: /two/, slash: either, endpoint: chat}
  - {method: POST, path: /two, endpoint: chat, upstream: /two/}
  data: [{path: /billing/balance, shows: balance}, {path: /mine, shows: money}, {path: /mine, shows: usage}]
  health: /mine
  helth: /x";
        let told = complaints(all);
        for expected in [
            "gateway.webhooks[0].path \"hook\"",
            "gateway.webhooks[1].path \"/webhooks/stripe\"",
            "gateway.webhooks[2].types a list",
            "gateway.webhooks[3].path \"/b/../c\"",
            "gateway.webhooks[4].path missing",
            "gateway.requests[0].method \"post\"",
            "gateway.requests[1].endpoint \"picture\"",
            "gateway.requests[2].path \"/a\"",
            "gateway.requests[4].path POST \"/two\"",
            "gateway.data[0].path \"/billing/balance\"",
            "gateway.data[1].shows \"money\"",
            "gateway.data[2].path \"/mine\"",
            "gateway.health \"/mine\"",
            "gateway.helth \"/x\"",
        ] {
            assert!(told.iter().any(|told| told == expected), "{expected} is not among {told:#?}");
        }
        assert_eq!(told.len(), 14, "{told:#?}");
    }

    #[test]
    fn how_a_route_is_read_is_checked_and_what_is_charged_by_usage_must_be_told_it() {
        let demo = include_str!("../../../../catalogs/demo.yaml");
        let models = "{m: {input: 1, output: 1, context: 1, output_max: 1}}";
        let tokens = format!("tokens: {{hold: 1, unknown_model: refuse, models: {models}}}");
        let demo = demo.replace("chat: {cost: 1", &format!("chat: {{{tokens}"));
        let none: [&str; 0] = [];
        let all = "
  requests:
  - {method: POST, path: /a, endpoint: chat, hold: max_tokens, usage: openai, missing_usage: counted}
  - {method: POST, path: /b, endpoint: chat, hold: estimate, usage: {header: {input: x-in}}, missing_usage: hold}
  - {method: POST, path: /c, endpoint: chat, usage: {json_pointer: {input: /usage/in}}, missing_usage: input}
  - {method: POST, path: /d, endpoint: image, hold: fixed, usage: none}
  - {method: POST, path: /e, endpoint: image}";
        assert_eq!(complaints_of(&demo, all), none);
        let all = "
  requests:
  - {method: POST, path: /a, endpoint: chat, hold: most, usage: openai, missing_usage: free}
  - {method: POST, path: /b, endpoint: chat}
  - {method: POST, path: /c, endpoint: chat, usage: none}
  - {method: POST, path: /d, endpoint: chat, usage: cohere}
  - {method: POST, path: /e, endpoint: image, usage: {header: {}}}
  - {method: POST, path: /f, endpoint: image, usage: {header: {a: b}, json_pointer: {a: b}}}
  - {method: POST, path: /g, endpoint: image, usage: {body: {a: b}}}";
        let expected = [
            "gateway.requests[0].hold \"most\"",
            "gateway.requests[0].missing_usage \"free\"",
            "gateway.requests[1].usage missing",
            "gateway.requests[2].usage none",
            "gateway.requests[3].usage \"cohere\"",
            "gateway.requests[4].usage a mapping",
            "gateway.requests[5].usage a mapping",
            "gateway.requests[6].usage a mapping",
        ];
        assert_eq!(complaints_of(&demo, all), expected);
    }
}
