//! The listener in a file of its own, where it can be changed while Envoy runs: a push of configuration without a server for it.

use crate::envoy_file::EnvoyFile;
use crate::{During as _, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What a push changes, besides a number that makes it differ from the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// The filters' own configuration: each VM gets one more root, beside the old one.
    Roots,
    /// The configuration of their VMs: new VMs, with the same `vm_id` and so with the same shared memory.
    Vms,
}

impl Push {
    /// Makes the change. The number may be any below a million; what it does to the filters nobody notices.
    ///
    /// # Errors
    /// The file lacks a place that has to be edited.
    pub fn edit(self, number: u32, file: &mut EnvoyFile) -> Result<()> {
        match self {
            Self::Roots => {
                let less = |limit: &mut Value, than: u32| *limit = json!(than.saturating_sub(number));
                file.plugin("ai", |plugin| {
                    plugin.get_mut("body_bytes_max").into_iter().for_each(|limit| less(limit, 4_194_304));
                })?;
                file.plugin("webhook", |plugin| {
                    let endpoints = plugin.get_mut("endpoints").and_then(Value::as_array_mut);
                    for endpoint in endpoints.into_iter().flatten() {
                        endpoint
                            .get_mut("body_bytes_max")
                            .into_iter()
                            .for_each(|limit| less(limit, 1_048_576));
                    }
                })
            }
            Self::Vms => ["ai", "webhook"].iter().try_for_each(|role| {
                let vm = file.filter(role)?.pointer_mut("/typed_config/config/vm_config");
                let told = json!({
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": number.to_string(),
                });
                vm.and_then(Value::as_object_mut)
                    .map(|vm| vm.insert("configuration".to_owned(), told))
                    .map(drop)
                    .ok_or_else(|| crate::Trouble(format!("the filter tollgate.{role} has no vm_config")))
            }),
        }
    }
}

/// An Envoy file whose listener Envoy reads from a second file.
pub(crate) struct Pushed {
    /// With the listener in it.
    whole: EnvoyFile,
    path: PathBuf,
}

impl Pushed {
    /// Takes the listener out of the file.
    pub(crate) fn take(file: &mut EnvoyFile, run_dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(run_dir).during(format!("create {}", run_dir.display()))?;
        let pushed = Self { whole: file.clone(), path: run_dir.join("listener.json") };
        pushed.write()?;
        file.set("/static_resources/listeners", json!([]))?;
        let config = json!({ "lds_config": { "path_config_source": { "path": pushed.path } } });
        crate::envoy_file::merge(file.at("")?, &json!({ "dynamic_resources": config }));
        Ok(pushed)
    }

    /// Changes it, for Envoy to see.
    pub(crate) fn push(&mut self, edit: impl FnOnce(&mut EnvoyFile) -> Result<()>) -> Result<()> {
        edit(&mut self.whole)?;
        self.write()
    }

    /// Envoy looks for a file that takes another's place, so it is never read half written.
    fn write(&self) -> Result<()> {
        let mut whole = self.whole.clone();
        let mut listeners = whole.at("/static_resources/listeners")?.take();
        let kind = json!({ "@type": "type.googleapis.com/envoy.config.listener.v3.Listener" });
        for listener in listeners.as_array_mut().into_iter().flatten() {
            crate::envoy_file::merge(listener, &kind);
        }
        let (next, deed) = (self.path.with_extension("next"), format!("write {}", self.path.display()));
        std::fs::write(&next, json!({ "resources": listeners }).to_string()).during(&deed)?;
        std::fs::rename(&next, &self.path).during(deed)
    }
}
