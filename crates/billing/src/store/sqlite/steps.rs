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

#[test]
fn who_is_due_is_found_without_a_look_at_everybody() {
    use super::super::{Books, Transaction};
    use ledger::subscription::Standing;
    use ledger::{Book, Changes};
    use units::{AccountId, Instant};

    let dir = tempfile::tempdir().unwrap();
    let mut store = Sqlite::open(&dir.path().join("x.db")).unwrap();
    store.begin().unwrap();
    for n in 0..1_000 {
        let changes_at = (n % 100 == 0).then_some(Instant::from_secs(1_000));
        let standing = Standing { changes_at, ..Standing::none(None) };
        let book = Book::open(AccountId::new(format!("a{n:03}")).unwrap(), standing);
        store.save(&book, &Changes { account: true, ..Changes::default() }).unwrap();
    }
    let taken = steps(&mut store, |store| {
        let half = AccountId::new("a499").unwrap();
        assert_eq!(store.due(Instant::from_secs(1_000), Some(&half), 200).unwrap().len(), 5);
    });
    assert!(taken < 500, "{taken} steps for 5 of 1,000");
    store.commit().unwrap();
}
