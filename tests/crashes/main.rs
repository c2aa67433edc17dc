//! Processes killed, a filter that traps, a disk that is full: what was acknowledged is there, what was not is retried, and
//! the books agree with what the upstream served, within the stated bounds.
//!
//! Clocks here are real, since crashes are: what has to run out is made short, and waited for by polling.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what does not hold in a test is the test's failure"
)]

#[cfg(target_os = "linux")]
mod disk;
mod drain;
mod events;
#[path = "../support/mod.rs"]
mod support;
mod traps;

use stage::harness::Options;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What has to run out does so soon.
fn impatient() -> Options {
    Options::default().with("LEASE_TTL_MS", 1500).with("LEASE_TAIL_MS", 1500).with("CLAIM_TTL_MS", 1500)
}

/// A program that ends in running another one, with all arguments given to it.
fn wrapper(folder: &Path, name: &str, script: &str) -> stage::Result<PathBuf> {
    use stage::During as _;
    let path = folder.join(name);
    let mut options = std::fs::File::options();
    let file = options.write(true).create(true).truncate(true).mode(0o755).open(&path);
    file.and_then(|mut file| write!(file, "#!/bin/sh\n{script}\n"))
        .during(format!("write {}", path.display()))?;
    Ok(path)
}
