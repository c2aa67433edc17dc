//! Both stores on what is undone, and how far.

use super::*;

#[test]
fn a_savepoint_undoes_one_command_and_a_rollback_all() {
    each(|store| {
        store.begin().unwrap();
        store.savepoint().unwrap();
        open(store, "kept");
        store.release().unwrap();
        store.savepoint().unwrap();
        open(store, "undone");
        store.rollback_to().unwrap();
        store.commit().unwrap();
        assert!(store.load(&account("kept"), &[], NOW).unwrap().is_some());
        assert!(store.load(&account("undone"), &[], NOW).unwrap().is_none());
        store.begin().unwrap();
        open(store, "dropped");
        store.rollback();
        assert!(store.load(&account("dropped"), &[], NOW).unwrap().is_none());
        commit(store, |_| ());
    });
}
