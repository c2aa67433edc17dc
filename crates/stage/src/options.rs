//! What is different from the demo in one test: settings, catalog, Envoy's file, the filters' configuration, programs.

use crate::envoy_file::{EnvoyFile, merge};
use crate::tools::Tools;
use crate::{Result, Trouble};
use serde_json::Value;
use std::path::{Path, PathBuf};

type Edit = Box<dyn Fn(&mut EnvoyFile) -> Result<()> + Send>;
type Equip = Box<dyn Fn(&mut Tools, &Path) -> Result<()> + Send>;

/// What is different from the demo in one test.
#[derive(Default)]
pub struct Options {
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) edits: Vec<Edit>,
    pub(crate) equip: Vec<Equip>,
    pub(crate) no_billing: bool,
    pub(crate) envoy: Option<PathBuf>,
    pub(crate) traps: bool,
    pub(crate) catalog: Option<String>,
    pub(crate) linked: bool,
    pub(crate) drain_s: Option<u32>,
}

impl Options {
    /// Sets a variable of the environment: one that `stage` knows, or one that only the billing service does.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }

    /// Edits Envoy's file after the settings are in.
    #[must_use]
    pub fn edit(mut self, edit: impl Fn(&mut EnvoyFile) -> Result<()> + Send + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    /// Sells by this catalog, which is written into the stage's folder.
    #[must_use]
    pub fn catalog(mut self, text: impl Into<String>) -> Self {
        self.catalog = Some(text.into());
        self
    }

    /// Edits the rule of the paying filter for one path, or its rules, if there is one for each of several methods.
    #[must_use]
    pub fn rule(self, path: &'static str, edit: impl Fn(&mut Value) + Send + 'static) -> Self {
        self.edit(move |file| {
            let mut found = false;
            file.plugin("ai", |plugin| {
                let rules = plugin.get_mut("routes").and_then(Value::as_array_mut).into_iter().flatten();
                for rule in rules.filter(|rule| is_at(rule, path)) {
                    edit(rule);
                    found = true;
                }
            })?;
            found.then_some(()).ok_or_else(|| Trouble(format!("the paying filter has no rule for {path}")))
        })
    }

    /// Edits Envoy's route for one path, or for one prefix: its retries, its timeouts, what is on there.
    #[must_use]
    pub fn route(self, path: &'static str, edit: impl Fn(&mut Value) + Send + 'static) -> Self {
        self.edit(move |file| {
            let routes = file.http()?.pointer_mut("/route_config/virtual_hosts/0/routes");
            let routes = routes.and_then(Value::as_array_mut).into_iter().flatten();
            let found = routes.into_iter().find(|route| route.get("match").is_some_and(|m| is_at(m, path)));
            edit(found.ok_or_else(|| Trouble(format!("the Envoy file has no route for {path}")))?);
            Ok(())
        })
    }

    /// Puts one more HTTP filter in front of another: `tollgate.ai`, or `envoy.filters.http.router`, after which none comes.
    #[must_use]
    pub fn filter_before(self, name: &'static str, filter: Value) -> Self {
        self.edit(move |file| {
            let filters = file.http()?.get_mut("http_filters").and_then(Value::as_array_mut);
            let filters = filters.ok_or_else(|| Trouble("the Envoy file has no http_filters".into()))?;
            let at = filters.iter().position(|one| one.get("name").and_then(Value::as_str) == Some(name));
            let at = at.ok_or_else(|| Trouble(format!("the Envoy file has no filter {name}")))?;
            filters.insert(at, filter.clone());
            Ok(())
        })
    }

    /// Merges a JSON patch (RFC 7386) into the configuration of the filter with this role.
    #[must_use]
    pub fn plugin(self, role: &'static str, patch: Value) -> Self {
        self.edit(move |file| file.plugin(role, |plugin| merge(plugin, &patch)))
    }

    /// Runs other programs than the project's own, or those in another way; the function is given the stage's folder.
    #[must_use]
    pub fn tools(mut self, equip: impl Fn(&mut Tools, &Path) -> Result<()> + Send + 'static) -> Self {
        self.equip.push(Box::new(equip));
        self
    }

    /// Loads the build of the module that traps when a request asks for it; then a trap fails no test.
    #[must_use]
    pub fn that_traps(mut self) -> Self {
        self.traps = true;
        self.tools(|tools, _| {
            tools.module = tools.trapping_module()?;
            Ok(())
        })
    }

    /// Starts no billing service: the test plays it, on [`Settings::billing_port`].
    #[must_use]
    pub const fn without_billing(mut self) -> Self {
        self.no_billing = true;
        self
    }

    /// Lets each Envoy reach the billing service through a [`Link`](crate::link::Link) of its own, which can be cut.
    #[must_use]
    pub const fn linked(mut self) -> Self {
        self.linked = true;
        self
    }

    /// Lets configuration be pushed to each Envoy while it runs. Old connections, and with them the old filter, live on for
    /// so long at most; ten minutes would be Envoy's own default.
    #[must_use]
    pub const fn pushable(mut self, drain_s: u32) -> Self {
        self.drain_s = Some(drain_s);
        self
    }

    /// Starts this Envoy instead of the one that the project pins.
    #[must_use]
    pub fn envoy(mut self, binary: impl Into<PathBuf>) -> Self {
        self.envoy = Some(binary.into());
        self
    }
}

fn is_at(rule: &Value, path: &str) -> bool {
    ["path", "prefix"].iter().any(|kind| rule.get(kind).and_then(Value::as_str) == Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use serde_json::json;

    fn edited(options: &Options) -> Result<EnvoyFile> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let settings = Settings::read(&root, |_| None).unwrap();
        let mut file = EnvoyFile::of(&settings, Path::new("/m/tollgate.wasm")).unwrap();
        options.edits.iter().try_for_each(|edit| edit(&mut file)).map(|()| file)
    }

    #[test]
    fn each_edit_reaches_its_place_and_no_other() {
        let options = Options::default()
            .rule("/v1/messages", |rule| merge(rule, &json!({ "hold": "edited" })))
            .route("/v1/", |route| {
                merge(route, &json!({ "route": { "retry_policy": { "num_retries": 2 } } }))
            })
            .filter_before("tollgate.ai", json!({ "name": "before" }))
            .filter_before("envoy.filters.http.router", json!({ "name": "after" }));
        let mut file = edited(&options).unwrap();
        file.plugin("ai", |plugin| {
            let held: Vec<_> =
                plugin["routes"].as_array().unwrap().iter().filter(|r| r["hold"] == "edited").collect();
            assert_eq!((held.len(), &held[0]["path"]), (1, &json!("/v1/messages")));
        })
        .unwrap();
        let http = file.http().unwrap();
        let retries: Vec<_> = http["route_config"]["virtual_hosts"][0]["routes"].as_array().unwrap().clone();
        let retries: Vec<_> = retries.iter().filter(|r| r["route"]["retry_policy"].is_object()).collect();
        assert_eq!((retries.len(), &retries[0]["match"]["prefix"]), (1, &json!("/v1/")));
        let names: Vec<_> = http["http_filters"].as_array().unwrap().iter().map(|f| &f["name"]).collect();
        assert_eq!(names[names.len() - 4..], ["before", "tollgate.ai", "after", "envoy.filters.http.router"]);
    }

    #[test]
    fn what_is_not_there_is_not_edited() {
        for options in [
            Options::default().rule("/v1/nowhere", |_| ()),
            Options::default().route("/v1/nowhere", |_| ()),
            Options::default().filter_before("nobody", Value::Null),
        ] {
            assert!(edited(&options).unwrap_err().0.contains(" has no "));
        }
    }
}
