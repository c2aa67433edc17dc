//! Both stores on payments, and on grants that are held for a dispute.

use super::*;
use crate::store::FactRow;
use ledger::{TakeBack, VoidTarget};

#[test]
fn what_was_told_of_a_payment_comes_back() {
    each(|store| {
        let told = FactRow { account: None, package: None, body: "{}".into() };
        let bought =
            FactRow { account: Some(account("a")), package: Some("starter".into()), body: "{1}".into() };
        commit(store, |store| {
            open(store, "a");
            store.put_payment_fact("pi_1", &told).unwrap();
            store.put_payment_fact("pi_2", &told).unwrap();
        });
        assert_eq!(store.payment_fact("pi_1").unwrap(), Some(told.clone()));
        assert_eq!(store.payment_fact("pi_3").unwrap(), None);
        commit(store, |store| store.put_payment_fact("pi_1", &bought).unwrap());
        assert_eq!(store.payment_fact("pi_1").unwrap(), Some(bought));
        assert_eq!(store.payment_fact("pi_2").unwrap(), Some(told));
        let of = |store: &mut dyn Store, name, package| store.payments_for(&account(name), package).unwrap();
        assert_eq!(of(store, "a", "starter"), ["pi_1"]);
        assert!(of(store, "a", "large").is_empty() && of(store, "b", "starter").is_empty());
    });
}

#[test]
fn the_grants_of_an_invoice_are_found_whatever_is_left_of_them() {
    each(|store| {
        let plan = |reference: &str| Terms { source: Source::Subscription, ..terms(reference, 10) };
        commit(store, |store| {
            open(store, "a");
            open(store, "b");
            for reference in ["plan:in_1:price_a", "plan:in_1:price_b:2", "plan:in_11:price_a", "plan:in_0:x"]
            {
                run(store, "a", NOW, &Command::Grant(plan(reference)));
            }
            run(store, "a", NOW, &Command::Grant(terms("plan:in_1:bought", 10)));
            run(store, "b", NOW, &Command::Grant(plan("plan:in_1:price_a")));
            run(store, "a", NOW, &back(1, 10, 0));
        });
        let found = store.grants_of_invoice(&account("a"), "in_1").unwrap();
        assert_eq!(found.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [1, 2]);
        assert!(store.grants_of_invoice(&account("a"), "in_").unwrap().is_empty());
    });
}

fn back(id: u64, revoked: i64, frozen: i64) -> Command {
    let (revoked, frozen) = (amount(revoked), amount(frozen));
    let target = VoidTarget::Grant(GrantId(id));
    Command::TakeBack(TakeBack { target, revoked, frozen, shortfall: Shortfall::WriteOff })
}

#[test]
fn a_grant_that_is_held_is_loaded_and_shown_though_nothing_of_it_can_be_spent() {
    each(|store| {
        commit(store, |store| {
            open(store, "a");
            run(store, "a", NOW, &Command::Grant(terms("buy:1", 10)));
            run(store, "a", NOW, &back(1, 4, 6));
        });
        let book = store.load(&account("a"), &[], NOW).unwrap().unwrap();
        let reversed = book.grants[&GrantId(1)].reversed;
        assert_eq!((reversed.revoked, reversed.frozen()), (amount(4), amount(6)));
        assert_eq!(reversed.shortfall, Shortfall::WriteOff);
        assert_eq!(store.grants(&account("a")).unwrap().len(), 1);
        commit(store, |store| run(store, "a", NOW, &back(1, 10, 0)));
        assert!(store.load(&account("a"), &[], NOW).unwrap().unwrap().grants.is_empty());
        assert!(store.grants(&account("a")).unwrap().is_empty());
    });
}

#[test]
fn a_database_of_an_earlier_release_keeps_its_grants() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    for schema in [include_str!("../sqlite/schema.sql"), include_str!("../sqlite/schema-2.sql")] {
        db.execute_batch(schema).unwrap();
    }
    db.execute_batch(
        "CREATE TABLE migration (version INTEGER PRIMARY KEY, at TEXT NOT NULL);
         INSERT INTO migration VALUES (1, ''), (2, '');
         INSERT INTO account VALUES ('a', 'free', 'active', NULL, NULL, NULL, NULL, 0, 1, 3, 0, 1);
         INSERT INTO grants VALUES (1, 'a', 'credits', '', 'purchase', 'buy:1', 20, 0, 1, 10, 2, 0, 5, 0, 3, 0, 4, 7);",
    )
    .unwrap();
    drop(db);
    let mut store = Sqlite::open(&path).unwrap();
    let grant = store_load(&mut store).grants[&GrantId(1)].clone();
    assert_eq!((grant.clawed, grant.reversed), (amount(4), ledger::Reversed::default()));
}
