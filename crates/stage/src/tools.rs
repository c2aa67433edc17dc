//! Finds the programs and files that have to be there before anything can start, and says what makes them.

use crate::{During as _, Result, Trouble};
use std::path::{Path, PathBuf};

/// The programs and the module that a stage is made of.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Stock Envoy.
    pub envoy: PathBuf,
    /// The billing service.
    pub billing: PathBuf,
    /// The filter.
    pub module: PathBuf,
}

impl Tools {
    /// Looks for all of them: Envoy at `ENVOY_BIN` or in the tool folder, the rest where Cargo puts them.
    ///
    /// # Errors
    /// What is missing, all of it, with the command that makes it.
    pub fn find(root: &Path) -> Result<Self> {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        let envoy = envoy(root);
        let found = Self {
            envoy: envoy.clone().unwrap_or_default(),
            billing: target.join("release/tollgate-billing"),
            module: target.join("wasm32-wasip1/wasm/tollgate.wasm"),
        };
        let mut missing: Vec<_> = envoy.err().map(|Trouble(why)| why).into_iter().collect();
        for (file, what) in [(&found.billing, "the billing service"), (&found.module, "the filter")] {
            if !file.is_file() {
                missing
                    .push(format!("{what} is not built: there is no {}; run `make build`", file.display()));
            }
        }
        if missing.is_empty() { Ok(found) } else { Err(Trouble(missing.join("\n"))) }
    }

    /// The build of the filter that can be made to trap, for tests of what happens then.
    ///
    /// # Errors
    /// It is not built.
    pub fn trapping_module(&self) -> Result<PathBuf> {
        let path = self.module.with_file_name("../trap/tollgate.wasm");
        let mend = "run `make trap`";
        path.canonicalize().during(format!("find the filter that can trap at {}; {mend}", path.display()))
    }

    /// Complains about a program that is older than its sources: what a test then proved would be about old code.
    ///
    /// # Errors
    /// The program and the newer source.
    pub fn are_fresh(&self) -> Result<()> {
        for built in [&self.billing, &self.module] {
            let changed = |file: &Path| file.metadata().and_then(|data| data.modified()).ok();
            // Cargo writes beside each product what it was made from: `product: source source`.
            let sources = std::fs::read_to_string(built.with_extension("d")).unwrap_or_default();
            let sources = sources.split_once(':').map_or("", |(_, sources)| sources);
            if let Some(newer) =
                sources.split_whitespace().find(|source| changed(Path::new(source)) > changed(built))
            {
                return Err(Trouble(format!(
                    "{} is older than {newer}; run `make build trap`",
                    built.display()
                )));
            }
        }
        Ok(())
    }
}

/// The project's root: the nearest folder from here upwards that holds `envoy/envoy.yaml`.
///
/// # Errors
/// There is none.
pub fn root() -> Result<PathBuf> {
    let here = std::env::current_dir().during("find the current folder")?;
    let root = here.ancestors().find(|folder| folder.join("envoy/envoy.yaml").is_file());
    root.map(Path::to_owned).ok_or_else(|| {
        Trouble(format!("neither {} nor a folder above it is Tollgate's root", here.display()))
    })
}

/// Envoy's binary: `ENVOY_BIN`, from the root if it is relative, since tests run in their crates' folders; or the one in the
/// tool folder. The package's `bin/envoy` is a Python script around it.
fn envoy(root: &Path) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ENVOY_BIN").map(|path| root.join(path)) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(Trouble(format!("ENVOY_BIN is {}: there is no such file", path.display())))
        };
    }
    let lib = root.join(".tools/venv/lib");
    let pythons = std::fs::read_dir(&lib).into_iter().flatten().flatten();
    let mut binaries = pythons.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    binaries.find(|path| path.is_file()).ok_or_else(|| {
        Trouble(
            "Envoy is not installed: run `make setup`, or set ENVOY_BIN to an Envoy 1.40 of your own".into(),
        )
    })
}
