//! Reads `envoy/envoy.yaml`, edits it as the tree it is, and writes what one Envoy is started with.
//!
//! The file that people copy is thus the file that demo and tests run.

use crate::product::Product;
use crate::settings::Settings;
use crate::{During as _, Result, Trouble};
use serde_json::{Value, json};
use std::path::Path;

/// An Envoy configuration that can be edited.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvoyFile(Value);

impl EnvoyFile {
    /// Reads a YAML file.
    ///
    /// # Errors
    /// It cannot be read, or is no YAML.
    pub fn read(path: &Path) -> Result<Self> {
        let deed = format!("read {}", path.display());
        let text = std::fs::read_to_string(path).during(&deed)?;
        serde_saphyr::from_str(&text).map(Self).during(deed)
    }

    /// The project's own file, edited for these settings and this module.
    ///
    /// # Errors
    /// The file lacks a place that has to be edited; the error names it.
    pub fn of(settings: &Settings, module: &Path) -> Result<Self> {
        let mut file = Self::read(&settings.root.join("envoy/envoy.yaml"))?;
        file.set("/node/id", json!(settings.node))?;
        file.set("/admin/address/socket_address/port_value", json!(settings.admin_port))?;
        file.set(
            "/static_resources/listeners/0/address/socket_address/port_value",
            json!(settings.gateway_port),
        )?;
        file.address("billing", settings.billing_port)?;
        file.address("upstream", settings.upstream_port)?;
        file.files(&settings.root, module);
        if let Some(product) = Product::of(&settings.catalog)? {
            product.into_file(&mut file)?;
        }
        file.plugin("webhook", |plugin| {
            for endpoint in plugin.get_mut("endpoints").and_then(Value::as_array_mut).into_iter().flatten() {
                merge(endpoint, &json!({ "livemode": settings.livemode }));
            }
        })?;
        Ok(file)
    }

    /// Sets the value at a JSON pointer (RFC 6901) that is there already.
    ///
    /// # Errors
    /// There is nothing at that place.
    pub fn set(&mut self, pointer: &str, value: Value) -> Result<()> {
        *self.at(pointer)? = value;
        Ok(())
    }

    /// The value at a JSON pointer.
    ///
    /// # Errors
    /// There is nothing at that place.
    pub fn at(&mut self, pointer: &str) -> Result<&mut Value> {
        self.0.pointer_mut(pointer).ok_or_else(|| Trouble(format!("the Envoy file has nothing at {pointer}")))
    }

    /// The HTTP connection manager of the only listener.
    ///
    /// # Errors
    /// There is none.
    pub fn http(&mut self) -> Result<&mut Value> {
        self.at("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config")
    }

    /// Points a cluster at a port on loopback.
    ///
    /// # Errors
    /// There is no such cluster.
    pub fn address(&mut self, cluster: &str, port: u16) -> Result<()> {
        let found = named(self.at("/static_resources/clusters")?, cluster);
        let address = found.and_then(|cluster| {
            let lb = cluster.pointer_mut("/load_assignment/endpoints/0/lb_endpoints/0")?;
            lb.pointer_mut("/endpoint/address/socket_address/port_value")
        });
        *address
            .ok_or_else(|| Trouble(format!("the Envoy file has no cluster {cluster} with one address")))? =
            json!(port);
        Ok(())
    }

    /// The filter with this role, as Envoy is told of it.
    ///
    /// # Errors
    /// There is none.
    pub fn filter(&mut self, role: &str) -> Result<&mut Value> {
        let missing = || Trouble(format!("the Envoy file has no filter tollgate.{role}"));
        let filters = self.http()?.get_mut("http_filters").ok_or_else(missing)?;
        named(filters, &format!("tollgate.{role}")).ok_or_else(missing)
    }

    /// Edits the configuration of the filter with this role, which is JSON inside a string.
    ///
    /// # Errors
    /// There is no such filter, or its configuration is no JSON.
    pub fn plugin(&mut self, role: &str, edit: impl FnOnce(&mut Value)) -> Result<()> {
        let missing = || Trouble(format!("the filter tollgate.{role} is not configured by a StringValue"));
        let filter = self.filter(role)?;
        let text = filter.pointer_mut("/typed_config/config/configuration/value").ok_or_else(missing)?;
        let mut plugin = serde_json::from_str(text.as_str().unwrap_or_default())
            .during(format!("read the configuration of tollgate.{role}"))?;
        edit(&mut plugin);
        *text = Value::String(format!("{plugin:#}"));
        Ok(())
    }

    /// Writes it as JSON, which Envoy reads as well as YAML.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, format!("{:#}\n", self.0)).during(format!("write {}", path.display()))
    }

    /// Makes the paths of files absolute: the module's is given, all others are relative to the root.
    fn files(&mut self, root: &Path, module: &Path) {
        each_object(&mut self.0, &mut |fields| {
            if let Some(Value::String(name)) = fields.get_mut("filename") {
                let path = if name.ends_with(".wasm") { module.to_owned() } else { root.join(&*name) };
                *name = path.display().to_string();
            }
        });
    }
}

/// Merges `patch` into `target` as RFC 7386 says: objects deeply, `null` removes, all else replaces.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(fields) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn named<'a>(list: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    list.as_array_mut()?.iter_mut().find(|item| item.get("name").and_then(Value::as_str) == Some(name))
}

fn each_object(value: &mut Value, edit: &mut impl FnMut(&mut serde_json::Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            edit(fields);
            fields.values_mut().for_each(|value| each_object(value, edit));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_object(item, edit)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
    }

    fn edited() -> (EnvoyFile, String) {
        let vars = [
            ("GATEWAY_PORT", "1"),
            ("BILLING_PORT", "2"),
            ("UPSTREAM_PORT", "3"),
            ("ENVOY_ADMIN_PORT", "4"),
            ("NODE", "n1"),
            ("LIVEMODE", "live"),
            ("CATALOG", "envoy/envoy.yaml"),
        ];
        let get =
            |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let settings = Settings::read(&root(), get).unwrap();
        let file = EnvoyFile::of(&settings, Path::new("/m/tollgate.wasm")).unwrap();
        let text = file.0.to_string();
        (file, text)
    }

    #[test]
    fn every_setting_reaches_its_place() {
        let (mut file, text) = edited();
        for n in 1..=4 {
            assert_eq!(text.matches(&format!(r#""port_value":{n}"#)).count(), 1, "port {n}");
        }
        assert_eq!(text.matches(r#""filename":"/m/tollgate.wasm""#).count(), 2);
        assert!(
            text.contains(&format!("{}/envoy/demo/jwks.json", root().display()))
                && text.contains(r#""id":"n1""#)
        );
        file.plugin("webhook", |plugin| {
            let modes: Vec<_> =
                plugin["endpoints"].as_array().unwrap().iter().map(|e| &e["livemode"]).collect();
            assert_eq!(modes, ["live", "live"]);
        })
        .unwrap();
    }

    #[test]
    fn what_is_not_there_is_named_and_not_added() {
        let (mut file, _) = edited();
        assert!(
            file.set("/static_resources/listeners/7", Value::Null).unwrap_err().0.contains("listeners/7")
        );
        assert!(file.address("nobody", 1).unwrap_err().0.contains("nobody"));
        assert!(file.plugin("nobody", |_| ()).unwrap_err().0.contains("tollgate.nobody"));
    }

    #[test]
    fn a_patch_replaces_adds_and_removes() {
        let mut value = json!({ "a": { "b": 1, "c": 2 }, "d": [1] });
        merge(&mut value, &json!({ "a": { "b": null, "e": 3 }, "d": [2] }));
        assert_eq!(value, json!({ "a": { "c": 2, "e": 3 }, "d": [2] }));
    }
}
