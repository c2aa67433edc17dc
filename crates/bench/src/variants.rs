//! The ways that are compared: one Envoy file, in which only the filters between the routes and the router differ.
//!
//! Nothing else may differ, or something else would be measured.

use serde::Serialize;
use serde_json::{Value, json};
use stage::envoy_file::{EnvoyFile, merge};
use stage::settings::Settings;
use stage::{During as _, Result, Trouble};
use std::path::Path;

/// The path that all requests go to; the filter's endpoint and the authorisation path are both for `chat`.
pub(crate) const PATH: &str = "/v1/chat/completions";
/// The path that all webhooks go to: one whose events the upstream handles.
pub(crate) const WEBHOOK_PATH: &str = "/webhooks/app";

/// A way to have requests paid for, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Variant {
    /// Envoy without the filter: what everything is compared with.
    Plain,
    /// A filter that does nothing: what no filter can cost less than.
    Empty,
    /// The filter, spending from a lease in shared memory.
    Lease,
    /// The filter, asking the billing service about every request.
    Consult,
    /// Envoy's own filter, asking the same billing service, which charges at once.
    ExtAuthz,
    /// Envoy without the filter, forwarding webhooks.
    PlainWebhook,
    /// The filter, refusing webhooks whose signature is wrong.
    ForgedWebhook,
}

/// Writes the module of [`Variant::Empty`] where its Envoy file looks for it.
///
/// # Errors
/// The folder cannot be written to.
pub(crate) fn write_empty(settings: &Settings) -> Result<()> {
    let module = wat::parse_str(include_str!("empty.wat")).during("translate empty.wat")?;
    std::fs::write(settings.run_dir.join("empty.wasm"), module).during("write empty.wasm")
}

impl Variant {
    /// In the order of the tables.
    pub(crate) const ALL: [Self; 7] = [
        Self::Plain,
        Self::Empty,
        Self::Lease,
        Self::Consult,
        Self::ExtAuthz,
        Self::PlainWebhook,
        Self::ForgedWebhook,
    ];

    /// The way without the filter that this one is compared with.
    pub(crate) const fn base(self) -> Self {
        match self {
            Self::Plain | Self::Empty | Self::Lease | Self::Consult | Self::ExtAuthz => Self::Plain,
            Self::PlainWebhook | Self::ForgedWebhook => Self::PlainWebhook,
        }
    }

    /// As it is written on the command line and in the summary.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Empty => "empty",
            Self::Lease => "lease",
            Self::Consult => "consult",
            Self::ExtAuthz => "ext_authz",
            Self::PlainWebhook => "plain_webhook",
            Self::ForgedWebhook => "forged_webhook",
        }
    }

    /// The project's Envoy file, edited for this way.
    ///
    /// # Errors
    /// The file lacks a place that has to be edited.
    pub(crate) fn file(self, settings: &Settings, module: &Path) -> Result<EnvoyFile> {
        let empty = settings.run_dir.join("empty.wasm");
        let mut file = EnvoyFile::of(settings, if self == Self::Empty { &empty } else { module })?;
        common(&mut file)?;
        if self.base() == Self::PlainWebhook {
            // Else Envoy would close an HTTP/1 connection after each 400 of its own, and new connections be what is measured.
            merge(file.http()?, &json!({ "stream_error_on_invalid_http_message": true }));
        }
        match self {
            Self::Plain | Self::PlainWebhook => without_filter(&mut file)?,
            Self::Empty | Self::ForgedWebhook => {}
            Self::Lease => consult(&mut file, "lease")?,
            Self::Consult => consult(&mut file, "every_request")?,
            Self::ExtAuthz => {
                without_filter(&mut file)?;
                ext_authz(&mut file, &settings.gateway_token)?;
            }
        }
        Ok(file)
    }
}

/// What is changed for all of them alike.
pub(crate) fn common(file: &mut EnvoyFile) -> Result<()> {
    // A log line costs each way the same and would make their ratios look better than they are.
    merge(file.http()?, &json!({ "access_log": null }));
    // The kernel would spread a few connections unevenly over the workers, differently in each round.
    merge(
        file.at("/static_resources/listeners/0")?,
        &json!({ "connection_balance_config": { "exact_balance": {} } }),
    );
    Ok(())
}

/// Takes Tollgate out, from the chain and from the routes that name it.
pub(crate) fn without_filter(file: &mut EnvoyFile) -> Result<()> {
    let is_ours = |name: &str| name.starts_with("tollgate.");
    filters(file)?.retain(|filter| !filter.get("name").and_then(Value::as_str).is_some_and(is_ours));
    let routes =
        file.http()?.pointer_mut("/route_config/virtual_hosts/0/routes").and_then(Value::as_array_mut);
    for route in routes.ok_or_else(|| missing("routes"))? {
        if let Some(per_filter) = route.get_mut("typed_per_filter_config").and_then(Value::as_object_mut) {
            per_filter.retain(|name, _| !is_ours(name));
        }
    }
    Ok(())
}

/// Says where every priced route is held.
fn consult(file: &mut EnvoyFile, how: &str) -> Result<()> {
    file.plugin("ai", |plugin| {
        let routes = plugin.get_mut("routes").and_then(Value::as_array_mut).into_iter().flatten();
        routes.filter_map(Value::as_object_mut).filter(|route| route.contains_key("hold")).for_each(
            |route| {
                route.insert("consult".into(), json!(how));
            },
        );
    })
}

/// Envoy's own authorisation by HTTP, as its documentation shows it (`envoy.filters.http.ext_authz`, "HTTP service"), on the
/// cluster that the filter uses too: the client's `authorization`, the method and the path are sent, 200 lets the request pass.
fn ext_authz(file: &mut EnvoyFile, gateway_token: &str) -> Result<()> {
    let filters = filters(file)?;
    let before_router = filters.len().checked_sub(1).ok_or_else(|| missing("a router"))?;
    filters.insert(
        before_router,
        json!({
            "name": "envoy.filters.http.ext_authz",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
                "transport_api_version": "V3",
                "failure_mode_allow": false,
                "status_on_error": { "code": "ServiceUnavailable" },
                "http_service": {
                    "server_uri": { "uri": "http://billing", "cluster": "billing", "timeout": "2s" },
                    "path_prefix": "/ext_authz/chat",
                    "authorization_request": {
                        "headers_to_add": [{ "key": "x-tollgate-gateway-token", "value": gateway_token }],
                    },
                    "authorization_response": {
                        "allowed_upstream_headers": { "patterns": [{ "exact": "x-tollgate-account" }] },
                    },
                },
            },
        }),
    );
    Ok(())
}

fn filters(file: &mut EnvoyFile) -> Result<&mut Vec<Value>> {
    file.http()?.get_mut("http_filters").and_then(Value::as_array_mut).ok_or_else(|| missing("http_filters"))
}

fn missing(what: &str) -> Trouble {
    Trouble(format!("envoy/envoy.yaml has no {what} where the bench looks for them"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn tree(variant: Variant) -> Value {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let settings = Settings::read(&root, |_| None).unwrap();
        let mut file = variant.file(&settings, Path::new("/m/tollgate.wasm")).unwrap();
        file.at("").unwrap().take()
    }

    fn names(tree: &Value) -> Vec<String> {
        let filters = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
        let filters = tree.pointer(filters).unwrap().as_array().unwrap();
        filters.iter().map(|filter| filter["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn only_what_is_compared_differs() {
        let [plain, _, lease, consult, ext_authz, plain_webhook, _] = Variant::ALL.map(tree);
        let mut plain_webhook = plain_webhook;
        let http = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        plain_webhook
            .pointer_mut(http)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove("stream_error_on_invalid_http_message");
        assert_eq!(plain, plain_webhook);
        assert!(!plain.to_string().contains("tollgate."), "the filter is still named somewhere");
        let mut chain = names(&plain);
        chain.insert(chain.len() - 1, "envoy.filters.http.ext_authz".into());
        assert_eq!(names(&ext_authz), chain);
        let all: BTreeSet<_> = names(&lease).into_iter().collect();
        assert!(all.contains("tollgate.ai") && names(&plain).iter().all(|name| all.contains(name)));
        let [lease, consult] = [lease, consult].map(|tree| tree.to_string());
        assert!(!lease.contains("every_request") && !consult.contains(r#"consult\": \"lease"#));
        assert_eq!(lease.replace(r#"consult\": \"lease"#, r#"consult\": \"every_request"#), consult);
    }
}
