//! A product's own paths, from the section `gateway` of its catalog, as routes and rules of the Envoy file.
//!
//! The billing service checks the section when it starts; here it is only followed. What the file says of its own routes
//! (limits, timeouts, which filter is off) holds for the product's as well, for each is made from the one it stands beside.

use crate::envoy_file::EnvoyFile;
use crate::{During as _, Result, Trouble};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// The paths of a product.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Product {
    /// Where Stripe delivers to.
    pub webhooks: Vec<Webhook>,
    /// What is sold by the request.
    pub requests: Vec<Request>,
    /// What customers are shown of their own.
    pub data: Vec<Data>,
    /// Where anybody may ask whether Stripe reaches the service.
    pub health: Option<String>,
}

/// A path that Stripe delivers to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    path: String,
    #[serde(default)]
    slash: Slash,
    /// Which types go on; all if absent.
    types: Option<Vec<String>>,
}

/// A path with a price.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    method: String,
    path: String,
    #[serde(default)]
    slash: Slash,
    endpoint: String,
    /// The path at the upstream, if it is another.
    upstream: Option<String>,
    /// How much is held before it passes: `fixed`, `max_tokens` or `estimate`.
    hold: Option<String>,
    /// Where the answer says what was used: a format by its name, or places in headers or in the document.
    usage: Option<Value>,
    /// By what it is charged if the answer does not say: `counted`, `hold` or `input`.
    missing_usage: Option<String>,
}

impl Request {
    /// What the filter's rule for it says beside those of all paid paths. The filter's defaults are left to the filter.
    fn metering(&self) -> impl Iterator<Item = (String, Value)> {
        let hold = self.hold.as_ref().filter(|hold| *hold != "fixed").map(|hold| json!(hold));
        let usage = self.usage.clone().filter(|usage| *usage != json!("none"));
        let missing = self.missing_usage.as_ref().map(|missing| json!(missing));
        let all = [("hold", hold), ("usage", usage), ("missing_usage", missing)];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)))
    }
}

/// A path under which customers see something of their own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    path: String,
    #[serde(default)]
    slash: Slash,
    /// The last part of the service's own path.
    shows: String,
}

/// Whether a path is the same with and without a slash at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slash {
    /// As it is written, and no other.
    #[default]
    Exact,
    /// Both are answered, by a rewrite: a redirect would lose a webhook, which Stripe does not follow.
    Either,
}

impl Slash {
    fn spellings(self, path: &str) -> Vec<String> {
        let other = match (self, path.strip_suffix('/')) {
            (Self::Exact, _) => None,
            (Self::Either, Some(without)) => Some(without.to_owned()),
            (Self::Either, None) => Some(format!("{path}/")),
        };
        [Some(path.to_owned()), other].into_iter().flatten().filter(|path| !path.is_empty()).collect()
    }
}

impl Product {
    /// The product of a catalog, if it says where its paths lie.
    ///
    /// # Errors
    /// The file cannot be read, is no YAML, or its section `gateway` is not understood.
    pub fn of(catalog: &Path) -> Result<Option<Self>> {
        let deed = format!("read {}", catalog.display());
        let text = std::fs::read_to_string(catalog).during(&deed)?;
        let document: Value = serde_saphyr::from_str(&text).during(&deed)?;
        let section = document.get("gateway").filter(|section| !section.is_null());
        section.map(|section| Self::deserialize(section).during(format!("{deed}: gateway"))).transpose()
    }

    /// Every path with what is done there, for whoever starts it.
    #[must_use]
    pub fn tour(&self) -> Vec<String> {
        let webhooks = self.webhooks.iter().map(|w| format!("POST {}   Stripe's events", w.path));
        let requests =
            self.requests.iter().map(|r| format!("{} {}   endpoint {}", r.method, r.path, r.endpoint));
        let data = self.data.iter().map(|d| format!("GET {}   a customer's own {}", d.path, d.shows));
        let health =
            self.health.iter().map(|path| format!("GET {path}   whether Stripe reaches the service"));
        webhooks.chain(requests).chain(data).chain(health).collect()
    }

    /// Puts the product's routes in front of the file's own, and its rules into the filters. Tollgate's own paths stay
    /// (`/webhooks/…`, `/billing/`); the paid ones of the demo go.
    ///
    /// # Errors
    /// The file lacks a route to make one like it.
    pub fn into_file(&self, file: &mut EnvoyFile) -> Result<()> {
        let routes = file
            .http()?
            .pointer_mut("/route_config/virtual_hosts/0/routes")
            .and_then(Value::as_array_mut)
            .ok_or_else(|| Trouble("the Envoy file has no list of routes".into()))?;
        let webhook = like(routes, "/match/path", "/webhooks/stripe")?;
        let paid = like(routes, "/match/prefix", "/v1/")?;
        let own = like(routes, "/match/prefix", "/billing/")?;
        routes.retain(|route| route.pointer("/match/prefix") != Some(&json!("/v1/")));
        let mut open = own.clone();
        open.as_object_mut().into_iter().for_each(|open| {
            // The one route besides the webhooks' on which nobody is asked who they are.
            open.insert("typed_per_filter_config".into(), json!({ "tollgate.ai": off() }));
        });

        let (mut first, mut known) = (Vec::new(), BTreeSet::new());
        let mut add = |template: &Value, paths: Vec<String>, to: &str| {
            for path in paths {
                if known.insert(path.clone()) {
                    first.push(routed(template, &path, to));
                }
            }
        };
        for one in &self.webhooks {
            add(&webhook, one.slash.spellings(&one.path), "/webhooks/stripe");
        }
        for one in &self.requests {
            let to = one.upstream.as_ref().unwrap_or(&one.path);
            add(&paid, one.slash.spellings(&one.path), to);
        }
        for one in &self.data {
            add(&own, one.slash.spellings(&one.path), &format!("/v1/{}", one.shows));
        }
        if let Some(path) = &self.health {
            add(&open, vec![path.clone()], "/health/stripe");
        }
        routes.splice(0..0, first);

        file.plugin("webhook", |plugin| self.endpoints(plugin))?;
        file.plugin("ai", |plugin| self.rules(plugin))
    }

    /// The webhook filter's endpoints: each like the file's own that goes to the service.
    fn endpoints(&self, plugin: &mut Value) {
        let Some(all) = plugin.get_mut("endpoints").and_then(Value::as_array_mut) else { return };
        let Some(like) = all.iter().find(|one| one.get("id") == Some(&json!("stripe"))).cloned() else {
            return;
        };
        for one in &self.webhooks {
            for path in one.slash.spellings(&one.path) {
                let mut made = like.clone();
                let number = all.len();
                if let Some(fields) = made.as_object_mut() {
                    fields.insert("id".into(), json!(format!("product-{number}")));
                    fields.insert("path".into(), json!(path));
                    fields.extend(one.types.iter().map(|types| ("forward_types".into(), json!(types))));
                }
                all.push(made);
            }
        }
    }

    /// The paying filter's rules: for each path what it costs, or that it shows a customer their own.
    fn rules(&self, plugin: &mut Value) {
        let Some(all) = plugin.get_mut("routes").and_then(Value::as_array_mut) else { return };
        let Some(like) = all.iter().find(|one| one.get("hold").is_some()).cloned() else { return };
        all.retain(|one| one.get("vouch").is_some());
        for one in &self.requests {
            for path in one.slash.spellings(&one.path) {
                let mut made = like.clone();
                if let Some(fields) = made.as_object_mut() {
                    fields.insert("method".into(), json!(one.method));
                    fields.insert("path".into(), json!(path));
                    fields.insert("endpoint".into(), json!(one.endpoint));
                    fields.extend(one.metering());
                }
                all.push(made);
            }
        }
        let data = self.data.iter().flat_map(|one| one.slash.spellings(&one.path));
        all.extend(data.map(|path| json!({ "method": "GET", "path": path, "vouch": true })));
    }
}

/// A copy of the route with this value at this place.
fn like(routes: &[Value], pointer: &str, value: &str) -> Result<Value> {
    let found = routes.iter().find(|route| route.pointer(pointer).and_then(Value::as_str) == Some(value));
    found.cloned().ok_or_else(|| Trouble(format!("the Envoy file has no route with {value} at {pointer}")))
}

/// The same route for another path. `prefix_rewrite` replaces the whole of an exact path, and keeps the query
/// (Envoy, `RouteAction.prefix_rewrite`).
fn routed(template: &Value, path: &str, to: &str) -> Value {
    let mut route = template.clone();
    if let Some(fields) = route.as_object_mut() {
        fields.insert("match".into(), json!({ "path": path }));
    }
    if let Some(action) = route.get_mut("route").and_then(Value::as_object_mut) {
        action.remove("prefix_rewrite");
        if path != to {
            action.insert("prefix_rewrite".into(), json!(to));
        }
    }
    route
}

/// A filter that does nothing on a route.
fn off() -> Value {
    json!({ "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    const CATALOG: &str = "
gateway:
  webhooks: [{path: /hook/, slash: either, types: [invoice.*]}]
  requests:
  - {method: POST, path: /ask, endpoint: story, upstream: /v1/chat/completions}
  - {method: PUT, path: /ask, endpoint: tale, upstream: /v1/chat/completions}
  data: [{path: /mine, slash: either, shows: balance}]
  health: /health
";

    fn made(catalog: &str) -> EnvoyFile {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.yaml");
        std::fs::write(&path, catalog).unwrap();
        let get = |name: &str| (name == "CATALOG").then(|| path.display().to_string());
        let settings = Settings::read(&root, get).unwrap();
        EnvoyFile::of(&settings, Path::new("/m/tollgate.wasm")).unwrap()
    }

    fn routes(file: &mut EnvoyFile) -> Vec<(String, String, String)> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("-").to_owned();
        let routes = file.http().unwrap()["route_config"]["virtual_hosts"][0]["routes"].as_array().unwrap();
        let place = |route: &Value| text(route.pointer("/match/path").or(route.pointer("/match/prefix")));
        let row = |r: &Value| {
            (place(r), text(r.pointer("/route/cluster")), text(r.pointer("/route/prefix_rewrite")))
        };
        routes.iter().map(row).collect()
    }

    #[test]
    fn each_path_leads_where_the_catalog_says() {
        let mut file = made(CATALOG);
        let rows = routes(&mut file);
        let rows: Vec<_> = rows.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        let expected = [
            ("/hook/", "billing", "/webhooks/stripe"),
            ("/hook", "billing", "/webhooks/stripe"),
            ("/ask", "upstream", "/v1/chat/completions"),
            ("/mine", "billing", "/v1/balance"),
            ("/mine/", "billing", "/v1/balance"),
            ("/health", "billing", "/health/stripe"),
            ("/webhooks/stripe", "billing", "-"),
            ("/webhooks/app", "upstream", "-"),
            ("/billing/", "billing", "/v1/"),
            ("/", "-", "-"),
        ];
        assert_eq!(rows, expected);
        file.plugin("webhook", |plugin| {
            let all = plugin["endpoints"].as_array().unwrap();
            let paths: Vec<_> = all.iter().map(|one| one["path"].as_str().unwrap()).collect();
            assert_eq!(paths, ["/webhooks/stripe", "/webhooks/app", "/hook/", "/hook"]);
            assert_eq!(
                (&all[2]["forward_types"], &all[2]["dedupe"]["mode"]),
                (&json!(["invoice.*"]), &json!("upstream"))
            );
            assert_ne!(all[2]["id"], all[3]["id"]);
        })
        .unwrap();
        file.plugin("ai", |plugin| {
            let all = plugin["routes"].as_array().unwrap();
            let rows: Vec<_> = all
                .iter()
                .map(|one| (one["path"].as_str(), one["endpoint"].as_str(), one["vouch"] == true))
                .collect();
            let expected = [
                (None, None, true),
                (Some("/ask"), Some("story"), false),
                (Some("/ask"), Some("tale"), false),
                (Some("/mine"), None, true),
                (Some("/mine/"), None, true),
            ];
            assert_eq!(rows, expected);
        })
        .unwrap();
    }

    #[test]
    fn what_is_charged_by_use_says_so_and_all_else_is_as_before() {
        let mut file = made(
            "
gateway:
  requests:
  - {method: POST, path: /v1/chat/completions, endpoint: chat, hold: max_tokens, usage: openai, missing_usage: hold}
  - {method: POST, path: /v1/rows, endpoint: rows, hold: estimate, usage: {header: {input: x-in, output: x-out}}}
  - {method: POST, path: /v1/fixed, endpoint: chat, hold: fixed, usage: none}
  - {method: POST, path: /v1/plain, endpoint: chat}
",
        );
        let rows: Vec<_> = routes(&mut file).into_iter().map(|row| row.0).collect();
        assert_eq!(rows[..4], ["/v1/chat/completions", "/v1/rows", "/v1/fixed", "/v1/plain"]);
        file.plugin("ai", |plugin| {
            let rule = |path: &str| {
                let rules = plugin["routes"].as_array().unwrap().iter();
                let mine: Vec<_> = rules.filter(|rule| rule["path"] == path).cloned().collect();
                let [rule] = mine.as_slice() else { panic!("{path} has {} rules", mine.len()) };
                rule.clone()
            };
            let chat = rule("/v1/chat/completions");
            assert_eq!(
                [&chat["hold"], &chat["usage"], &chat["missing_usage"], &chat["consult"]],
                ["max_tokens", "openai", "hold", "lease"]
            );
            let rows = rule("/v1/rows");
            assert_eq!(
                (&rows["hold"], &rows["usage"]["header"]["input"]),
                (&json!("estimate"), &json!("x-in"))
            );
            let mut plain = rule("/v1/plain");
            plain["path"] = json!("/v1/fixed");
            assert_eq!(rule("/v1/fixed"), plain);
            assert_eq!((&plain["hold"], plain.get("usage")), (&json!("fixed"), None));
        })
        .unwrap();
    }

    #[test]
    fn payment_is_off_nowhere_but_where_nothing_is_sold() {
        let mut file = made(CATALOG);
        let all =
            file.http().unwrap()["route_config"]["virtual_hosts"][0]["routes"].as_array().unwrap().clone();
        let off = |route: &Value| {
            route.pointer("/typed_per_filter_config/tollgate.ai/disabled") == Some(&json!(true))
        };
        let off: Vec<_> = all.iter().filter(|route| off(route)).map(|route| &route["match"]).collect();
        let paths = ["/hook/", "/hook", "/health", "/webhooks/stripe", "/webhooks/app"]
            .map(|path| json!({ "path": path }));
        assert_eq!(off, paths.iter().chain([&json!({ "prefix": "/" })]).collect::<Vec<_>>());
    }

    #[test]
    fn a_catalog_without_paths_leaves_the_file_as_it_is() {
        let rows = routes(&mut made("product: x"));
        assert!(rows.iter().any(|row| row.0 == "/v1/") && rows.len() == 5, "{rows:?}");
    }
}
