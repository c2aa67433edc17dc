//! What was paid for subscriptions comes back as it was kept last.

use super::{account, commit, each, open};
use ledger::subscription::{Paid, Payments};

const PAID: &str = r#"{"plan:in_1:price_p": {"kind": "period", "price": "price_p", "quantity": 1, "replaces": null,
    "from": "2026-11-20T00:00:00Z", "to": "2026-12-20T00:00:00Z", "until": "2026-12-20T00:00:00Z",
    "paid_at": "2026-11-20T00:00:00Z", "due": 5, "most": 5, "granted": 5, "starts_at": "2026-11-20T00:00:00Z",
    "ends_at": "2026-12-20T00:00:00Z", "rollover": {"cap": 7}}}"#;

#[test]
fn payments_come_back_by_account_and_subscription() {
    each(|store| {
        let paid: Paid = serde_json::from_str(PAID).unwrap();
        commit(store, |store| {
            open(store, "a");
            open(store, "b");
            store.put_paid(&account("a"), "sub_1", &Paid::default()).unwrap();
            store.put_paid(&account("a"), "sub_1", &paid).unwrap();
            store.put_paid(&account("a"), "sub_2", &Paid::default()).unwrap();
        });
        let kept = [("sub_1".to_owned(), paid.clone()), ("sub_2".to_owned(), Paid::default())];
        assert_eq!(store.payments(&account("a")).unwrap(), Payments(kept.into()));
        assert_eq!(store.payments(&account("b")).unwrap(), Payments::default());
    });
}
