//! What a statement costs, for tests: in steps of SQLite's own machine, which are the same on every computer.

use super::Sqlite;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many steps something takes.
pub(super) fn steps(store: &mut Sqlite, run: impl FnOnce(&mut Sqlite)) -> u64 {
    let taken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&taken);
    let handler = move || {
        count.fetch_add(1, Ordering::Relaxed);
        false
    };
    store.db.progress_handler(1, Some(handler)).unwrap();
    run(store);
    store.db.progress_handler(0, None::<fn() -> bool>).unwrap();
    taken.load(Ordering::Relaxed)
}
