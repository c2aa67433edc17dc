//! Watches the machine itself: where its disk or its clocks stand still, everybody is late, and nobody here is to blame.

use crate::field::Field;
use crate::tally::Who;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Longer than this, and the two seconds of a gateway's call may be over by the machine's fault.
const STALL: Duration = Duration::from_millis(700);
const EVERY: Duration = Duration::from_millis(100);
/// What had waited comes all at once.
const GRACE: Duration = Duration::from_secs(3);

/// Watches until the traffic ends.
pub(crate) fn start(traffic: &mut JoinSet<()>, field: &Arc<Field>, folder: PathBuf) {
    traffic.spawn(watch(Arc::clone(field), folder.join("soak.probe")));
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
