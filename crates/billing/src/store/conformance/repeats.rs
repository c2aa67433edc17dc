//! Both stores on requests that clients named.

use super::*;
use crate::store::{Charged, HoldName, RepeatRow, Repeats};

fn name(generation: u64) -> HoldName {
    HoldName { node: node(), incarnation: 1, generation }
}

#[test]
fn a_name_is_kept_in_its_account_replaced_and_forgotten_in_its_turn() {
    each(|store| {
        let (key, other, none) = ("a".repeat(64), "b".repeat(64), Charged::default());
        let row = |at: u64, paid: Charged, count: u32| RepeatRow {
            body: "c".repeat(64),
            hold: name(HOLD),
            at: NOW.plus(Span::from_secs(at)),
            paid,
            count,
        };
        commit(store, |store| {
            open(store, "a");
            open(store, "b");
            assert_eq!(store.oldest_repeat().unwrap(), None);
            store.put_repeat(&account("a"), &key, &row(2, none, 0)).unwrap();
            store.put_repeat(&account("a"), &other, &row(1, none, 0)).unwrap();
            store.put_repeat(&account("b"), &key, &row(0, none, 0)).unwrap();
        });
        let at = |store: &mut dyn Store, of: &str, key: &str| store.repeat(&account(of), key).unwrap();
        assert_eq!(at(store, "a", &key), Some(row(2, none, 0)));
        assert_eq!(at(store, "b", &other), None);
        assert_eq!(store.oldest_repeat().unwrap(), Some(NOW));
        let paid = Charged { credits: Amount::MAX, requests: amount(1) };
        let counted = RepeatRow { hold: name(HOLD + 1), ..row(3, paid, 2) };
        commit(store, |store| store.put_repeat(&account("a"), &key, &counted).unwrap());
        assert_eq!(at(store, "a", &key), Some(counted.clone()));
        // The oldest go first, those of that very instant too, and no more than asked for.
        commit(store, |store| store.forget_repeats(NOW.plus(Span::from_secs(1)), 1).unwrap());
        assert_eq!((at(store, "b", &key), at(store, "a", &other).is_some()), (None, true));
        commit(store, |store| store.forget_repeats(NOW.plus(Span::from_secs(1)), 10).unwrap());
        assert_eq!((at(store, "a", &other), at(store, "a", &key)), (None, Some(counted)));
    });
}

#[test]
fn the_cells_of_a_hold_are_found_closed_or_not() {
    each(|store| {
        let id = commit(store, |store| {
            open(store, "a");
            run(store, "a", NOW, &Command::Grant(terms("buy:1", 10)));
            run(store, "a", NOW, &hold(HOLD, 4)); // The window's one.
            cell_of(run(store, "a", NOW, &hold(HOLD + 1, 4)))
        });
        let found = store.cells_of_hold(&name(HOLD + 1)).unwrap();
        assert_eq!(found.iter().map(|(id, cell)| (id, cell.granted)).collect::<Vec<_>>(), [(&id, amount(4))]);
        let all = Totals { admitted: amount(4), finished: amount(4), used: amount(3), ..Totals::default() };
        commit(store, |store| run(store, "a", NOW, &report(id.clone(), all)));
        let found = store.cells_of_hold(&name(HOLD + 1)).unwrap();
        assert_eq!((found[0].1.state, found[0].1.used), (ledger::CellState::Closed, amount(3)));
        assert!(store.cells_of_hold(&name(HOLD + 2)).unwrap().is_empty());
        let elsewhere = HoldName { incarnation: 2, ..name(HOLD) };
        assert!(store.cells_of_hold(&elsewhere).unwrap().is_empty());
    });
}

#[test]
fn names_of_an_earlier_release_are_known_and_so_is_how_often_they_came() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    drop(Sqlite::open(&path).unwrap());
    let db = rusqlite::Connection::open(&path).unwrap();
    // As it was before the eleventh change.
    let key = "a".repeat(64);
    db.execute_batch(&format!(
        "DROP TABLE repeated; DROP INDEX api_key_of; DELETE FROM migration WHERE version > 10; {};
         INSERT INTO account (id, stage, suspended, credited, debt, epoch, ver)
            VALUES ('a', 'no_subscription', 0, 0, 0, 0, 1);
         INSERT INTO repeated VALUES ('a', '{key}', '{key}', 'n1', 1, {HOLD}, 7, '[{{}}, {{}}]')",
        include_str!("../sqlite/schema-9.sql")
    ))
    .unwrap();
    drop(db);
    let row = Sqlite::open(&path).unwrap().repeat(&account("a"), &key).unwrap().unwrap();
    assert_eq!((row.count, row.paid, row.hold.generation), (2, Charged::default(), HOLD));
}
