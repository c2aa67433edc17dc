//! Watches the machine itself: where its disk or its clocks stand still, or others have its processors, everybody is late, and
//! nobody here is to blame.

use crate::field::Field;
use crate::tally::Who;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Longer than this, and the two seconds of a gateway's call may be over by the machine's fault.
const STALL: Duration = Duration::from_millis(700);
const EVERY: Duration = Duration::from_millis(100);
/// What had waited comes all at once.
const GRACE: Duration = Duration::from_secs(3);

/// How often the kernel is asked for how long a process waited.
const STARVED_EVERY: Duration = Duration::from_secs(1);

/// Watches until the traffic ends.
pub(crate) fn start(traffic: &mut JoinSet<()>, field: &Arc<Field>, folder: PathBuf) {
    traffic.spawn(watch(Arc::clone(field), folder.join("soak.probe")));
    traffic.spawn(watch_waiting(Arc::clone(field)));
}

/// A process that could run and was not let, for most of a second, answers late through no fault of its own.
async fn watch_waiting(field: Arc<Field>) {
    let mut before = BTreeMap::new();
    while !field.is_stopped() {
        let mut now = BTreeMap::new();
        for pid_file in field.settings.iter().flat_map(|settings| {
            ["billing", "envoy"].map(|name| settings.run_dir.join(format!("{name}.pid")))
        }) {
            let pid = std::fs::read_to_string(pid_file).unwrap_or_default();
            now.append(&mut waited(&Path::new("/proc").join(pid.trim()).join("task")));
        }
        let longest =
            now.iter().filter_map(|(thread, waited)| Some(waited.saturating_sub(*before.get(thread)?)));
        let longest = longest.max().unwrap_or_default();
        field.tally.at_most(
            "kept from running within a second, ms at most",
            u64::try_from(longest.as_millis()).unwrap_or(0),
        );
        if longest > STALL {
            field.tally.trouble(Who::Machine);
            field.tally.over(Who::Machine, GRACE);
            field.tally.count("seconds in which a process was kept from running");
        }
        before = now;
        tokio::time::sleep(STARVED_EVERY).await;
    }
}

/// By thread: how long each thread of a process has waited for a processor. Empty where the kernel does not tell.
fn waited(tasks: &Path) -> BTreeMap<PathBuf, Duration> {
    let threads = std::fs::read_dir(tasks).into_iter().flatten().flatten().map(|entry| entry.path());
    let of = |thread: PathBuf| {
        // Nanoseconds on a processor, nanoseconds waiting for one, how often.
        let stat = std::fs::read_to_string(thread.join("schedstat")).ok()?;
        let nanos = stat.split_whitespace().nth(1)?.parse().ok()?;
        Some((thread, Duration::from_nanos(nanos)))
    };
    threads.filter_map(of).collect()
}

async fn watch(field: Arc<Field>, file: PathBuf) {
    while !field.is_stopped() {
        let began = Instant::now();
        let path = file.clone();
        let mut writing = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            let mut file = std::fs::File::create(path)?;
            file.write_all(&[0; 4096])?;
            file.sync_all()
        });
        if tokio::time::timeout(STALL, &mut writing).await.is_err() {
            field.tally.trouble(Who::Machine);
            _ = writing.await;
            note(&field, began);
        }
        let slept = Instant::now();
        tokio::time::sleep(EVERY).await;
        if slept.elapsed() > EVERY.saturating_add(STALL) {
            field.tally.trouble(Who::Machine);
            note(&field, slept);
        }
    }
}

fn note(field: &Field, since: Instant) {
    field.tally.over(Who::Machine, GRACE);
    field.tally.count("standstills of the machine");
    let millis = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    field.tally.at_most("standstill of the machine at most, ms", millis);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_how_long_each_thread_waited() {
        let threads = waited(Path::new("/proc/self/task"));
        assert!(!threads.is_empty());
        assert!(waited(Path::new("/proc/0/task")).is_empty());
    }
}
