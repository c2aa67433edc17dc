//! Says on what a measurement was made, for nobody can compare it without.

use serde::Serialize;
use std::fs::read_to_string;
use std::path::Path;
use std::process::Command;

/// The machine and the programs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) cpu: String,
    /// How many of its cores can be used.
    pub(crate) cores: usize,
    /// Linux's version.
    pub(crate) kernel: String,
    /// Envoy's version.
    pub(crate) envoy: String,
    /// How many processes wanted to run in the minute before (Linux's load average): above 0, something else was at work.
    pub(crate) load_before: String,
}

impl Machine {
    /// Looks around. What cannot be found out is `unknown`.
    pub(crate) fn here(envoy: &Path) -> Self {
        let unknown = || String::from("unknown");
        let cpu = read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        let first = |file| Some(read_to_string(file).ok()?.split_whitespace().next()?.to_owned());
        let version = Command::new(envoy).arg("--version").output().ok().and_then(|output| {
            // `…/envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Some(text.split_once("version:")?.1.trim().split('/').nth(1)?.to_owned())
        });
        Self {
            cpu: cpu.unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            kernel: first("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
            envoy: version.unwrap_or_else(unknown),
            load_before: first("/proc/loadavg").unwrap_or_else(unknown),
        }
    }
}
