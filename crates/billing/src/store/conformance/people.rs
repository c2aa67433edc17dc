//! Who is who: bound once, in one pool at a time.

use super::{NOW, account, commit, each, open};
use crate::store::ApiKey;
use units::{Span, Subject, SubjectKind};

#[test]
fn people_are_bound_once() {
    each(|store| {
        let subject = Subject::new(SubjectKind::JwtSub, "alice").unwrap();
        let key = ApiKey {
            id: "key_1".into(),
            sha256: "ab".repeat(32),
            account: account("a"),
            created_at: NOW,
            revoked_at: None,
        };
        commit(store, |store| {
            open(store, "a");
            open(store, "b");
            store.bind_subject(&subject, &account("a"), NOW).unwrap();
            store.bind_customer("cus_1", &account("a"), NOW).unwrap();
            store.put_api_key(&key).unwrap();
            store.put_payee("pi_1", &account("a"), NOW).unwrap();
        });
        store.begin().unwrap();
        assert!(store.bind_subject(&subject, &account("b"), NOW).is_err());
        assert!(store.bind_customer("cus_1", &account("b"), NOW).is_err());
        assert!(store.put_payee("pi_1", &account("b"), NOW).is_err());
        store.rollback();
        assert_eq!(store.account_of_subject(&subject).unwrap(), Some(account("a")));
        let header = Subject::new(SubjectKind::Header, "alice").unwrap();
        assert_eq!(store.account_of_subject(&header).unwrap(), None);
        assert_eq!(store.account_of_customer("cus_1").unwrap(), Some(account("a")));
        assert_eq!(store.payee("pi_1").unwrap(), Some(account("a")));
        assert_eq!(store.api_key(&key.sha256).unwrap(), Some(key.clone()));
        let later = NOW.plus(Span::from_secs(1));
        commit(store, |store| {
            assert_eq!(store.revoke_api_key("key_1", NOW).unwrap(), Some(account("a")));
            assert_eq!(store.revoke_api_key("key_1", later).unwrap(), Some(account("a")));
            assert_eq!(store.revoke_api_key("key_2", NOW).unwrap(), None);
        });
        let revoked = ApiKey { revoked_at: Some(NOW), ..key.clone() };
        assert_eq!(store.api_key(&key.sha256).unwrap(), Some(revoked.clone()));
        let next = |id: &str, digit: &str, created_at| ApiKey {
            id: id.into(),
            sha256: digit.repeat(64),
            created_at,
            ..key.clone()
        };
        let (early, late) = (next("key_3", "2", NOW), next("key_0", "1", later));
        let others = ApiKey { account: account("b"), ..next("key_4", "0", NOW) };
        commit(store, |store| [&late, &others, &early].map(|key| store.put_api_key(key).unwrap()));
        assert_eq!(store.api_keys(&account("a")).unwrap(), [revoked, early, late]);
        assert_eq!(store.api_keys(&account("b")).unwrap(), [others]);
    });
}

#[test]
fn a_member_is_in_one_pool_at_a_time() {
    each(|store| {
        let (a, b, c) = (account("a"), account("b"), account("c"));
        commit(store, |store| ["c", "b", "a"].map(|name| open(store, name)));
        assert_eq!(store.pool_of(&a).unwrap(), None);
        commit(store, |store| {
            store.put_pool(&b, Some(&c), NOW).unwrap();
            store.put_pool(&a, Some(&b), NOW).unwrap();
            store.put_pool(&a, Some(&c), NOW).unwrap();
        });
        assert_eq!(store.pool_of(&a).unwrap(), Some(c.clone()));
        assert_eq!(store.members(&c).unwrap(), [a.clone(), b.clone()]);
        assert!(store.members(&b).unwrap().is_empty());
        commit(store, |store| store.put_pool(&a, None, NOW).unwrap());
        commit(store, |store| store.put_pool(&a, None, NOW).unwrap());
        assert_eq!((store.pool_of(&a).unwrap(), store.members(&c).unwrap()), (None, vec![b]));
    });
}
