//! What explains a balance, how events fared, and what others are told of.

use super::*;
use crate::store::{Facts, Message, MessageStatus, Tries};
use contract::v1::Outcome;
use ledger::JournalKind;

#[test]
fn a_balance_is_explained_by_terms_sums_and_requests() {
    each(|store| {
        let cell = commit(store, |store| {
            open(store, "a");
            open(store, "b");
            run(store, "a", NOW, &Command::Grant(terms("buy:1", 10)));
            run(store, "b", NOW, &Command::Grant(terms("buy:1", 7)));
            run(store, "a", NOW, &hold(HOLD, 4));
            cell_of(run(store, "a", NOW, &hold(HOLD + 1, 4)))
        });
        assert_eq!(store.terms_of_grant(cell.grant).unwrap(), Some(terms("buy:1", 10)));
        assert_eq!(store.terms_of_grant(GrantId(u64::MAX)).unwrap(), None);
        // The window's grant and its hold are not counted: they are no credits.
        let sums = store.journal_sums(&account("a"), 0).unwrap();
        assert_eq!(sums, [(JournalKind::Granted, 10), (JournalKind::Leased, 4)]);
        let newest = store.journal(Some(&account("a")), Page { before: None, limit: 1 }).unwrap()[0].seq;
        assert_eq!(store.journal_sums(&account("a"), newest).unwrap(), [(JournalKind::Leased, 4)]);
        assert_eq!(store.journal_sums(&account("a"), newest + 1).unwrap(), []);
        assert_eq!(store.request_of_hold(&cell).unwrap(), None);
        commit(store, |store| {
            let key = UsageKey { node: node(), incarnation: 1, worker: 1 };
            let told = |n: u64, generation: u64| {
                let told = serde_json::json!({
                    "n": n, "request_id": format!("r-{n}"), "account": "a", "endpoint": "chat", "outcome": Outcome::Charged,
                    "charges": [{"grant": cell.grant.0, "generation": generation, "amount": 4}], "returned": 0,
                    "price_version": 1, "at": NOW,
                });
                serde_json::from_value::<UsageRecord>(told).unwrap()
            };
            store.put_usage(&key, &told(1, cell.generation), NOW).unwrap();
            store.put_usage(&key, &told(2, 5), NOW).unwrap();
        });
        let (request, endpoint) = store.request_of_hold(&cell).unwrap().unwrap();
        assert_eq!((request.as_str(), endpoint.as_str()), ("r-1", "chat"));
        let lease = CellId { generation: 5, ..cell.clone() };
        assert_eq!(store.request_of_hold(&lease).unwrap(), None, "many requests spend from a lease");
        assert_eq!(store.request_of_hold(&CellId { incarnation: 2, ..cell }).unwrap(), None);
    });
}

pub(super) fn event(n: u32, status: EventStatus, customer: Option<&str>) -> EventRow {
    let id = EventId::new(format!("evt_{n}")).unwrap();
    EventRow {
        key: EventKey { livemode: false, account: "self".into(), id },
        kind: "invoice.paid".into(),
        received_at: NOW,
        status,
        detail: String::new(),
        customer: customer.map(str::to_owned),
        to: None,
        body: "{}".into(),
        tries: Tries::default(),
    }
}

#[test]
fn events_are_kept_by_key_and_found_while_they_wait() {
    each(|store| {
        commit(store, |store| {
            store.put_event(&event(1, EventStatus::Unmatched, Some("cus_1"))).unwrap();
            store.put_event(&event(2, EventStatus::Waiting, Some("cus_1"))).unwrap();
            store.put_event(&event(3, EventStatus::Unmatched, Some("cus_2"))).unwrap();
            store.put_event(&event(4, EventStatus::Applied, Some("cus_1"))).unwrap();
        });
        let ids = |rows: &[EventRow]| rows.iter().map(|row| row.key.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(&store.waiting_events("cus_1").unwrap()), ["evt_1", "evt_2"]);
        commit(store, |store| {
            let changed = EventRow { detail: "why".into(), ..event(1, EventStatus::Review, Some("cus_1")) };
            store.put_event(&changed).unwrap();
        });
        assert_eq!(ids(&store.waiting_events("cus_1").unwrap()), ["evt_2"]);
        let key = event(1, EventStatus::Review, None).key;
        assert_eq!(store.event(&key).unwrap().unwrap().detail, "why");
        assert_eq!(store.event(&EventKey { livemode: true, ..key.clone() }).unwrap(), None);
        assert_eq!(store.event(&EventKey { account: "acct_1".into(), ..key }).unwrap(), None);
        let all = store.events(None, PAGE).unwrap();
        assert_eq!(
            all.iter().map(|e| e.row.key.id.to_string()).collect::<Vec<_>>(),
            ["evt_4", "evt_3", "evt_2", "evt_1"]
        );
        assert_eq!(store.events(Some(EventStatus::Unmatched), PAGE).unwrap().len(), 1);
        let counts: BTreeMap<_, _> = store.event_counts().unwrap().into_iter().collect();
        assert_eq!((counts[&EventStatus::Applied], counts[&EventStatus::Review]), (1, 1));
        assert_eq!(store.last_event_at().unwrap(), Some(NOW));
    });
}

#[test]
fn an_event_remembers_how_it_fared() {
    each(|store| {
        let tries = Tries { count: 3, error: Some("a rule broke".into()), last_at: Some(NOW) };
        let other = EventKey { account: "acct_1".into(), ..event(1, EventStatus::Failed, None).key };
        commit(store, |store| {
            store.put_event(&event(1, EventStatus::Failed, None)).unwrap();
            let parked = EventRow { tries: tries.clone(), ..event(1, EventStatus::Parked, None) };
            store.put_event(&parked).unwrap();
            store.put_event(&EventRow { key: other, ..event(1, EventStatus::Review, None) }).unwrap();
        });
        let id = EventId::new("evt_1").unwrap();
        let found = store.events_named(&id).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].status, &found[0].tries), (EventStatus::Parked, &tries));
        assert_eq!(store.events_named(&EventId::new("evt_2").unwrap()).unwrap(), []);
        assert_eq!(store.events(Some(EventStatus::Parked), PAGE).unwrap().len(), 1);
    });
}

#[test]
fn messages_are_due_until_they_are_accepted_or_given_up() {
    each(|store| {
        let message = |n: u32| Message {
            id: format!("msg_{n}"),
            kind: "balance.low".into(),
            account: account("a"),
            body: "{}".into(),
            at: NOW,
            attempts: 0,
            last_error: None,
            next_at: Some(NOW),
        };
        commit(store, |store| {
            open(store, "a");
            (1..=3).for_each(|n| store.put_message(&message(n)).unwrap());
        });
        let due = |store: &mut dyn Store, now| store.due_messages(now, 10).unwrap();
        let all = due(store, NOW);
        assert_eq!(
            all.iter().map(|m| m.row.clone()).collect::<Vec<_>>(),
            (1..=3).map(message).collect::<Vec<_>>()
        );
        assert_eq!(store.due_messages(NOW, 1).unwrap(), all[..1]);
        assert_eq!(due(store, NOW.minus(Span::from_secs(1))), []);
        let later = NOW.plus(Span::from_secs(5));
        commit(store, |store| {
            store.message_accepted(all[0].seq).unwrap();
            store.message_refused(all[1].seq, "503", Some(later)).unwrap();
            store.message_refused(all[2].seq, "410", None).unwrap();
        });
        assert_eq!((due(store, NOW), store.messages_waiting().unwrap()), (Vec::new(), 1));
        let again = due(store, later);
        assert_eq!((again.len(), again[0].row.attempts), (1, 1));
        assert_eq!(again[0].row.last_error.as_deref(), Some("503"));
        let seen = |store: &mut dyn Store, status, before, limit| {
            let page = Page { before, limit };
            store
                .messages(status, page)
                .unwrap()
                .into_iter()
                .map(|m| (m.seq, m.row.status()))
                .collect::<Vec<_>>()
        };
        let (waits, dead) = ((all[1].seq, MessageStatus::Waiting), (all[2].seq, MessageStatus::Dead));
        assert_eq!(seen(store, None, None, 9), [dead, waits]);
        assert_eq!(
            (seen(store, None, None, 1), seen(store, None, Some(dead.0), 1)),
            (vec![dead], vec![waits])
        );
        for one in [waits, dead] {
            assert_eq!(seen(store, Some(one.1), None, 9), [one]);
            assert_eq!(seen(store, Some(one.1), Some(one.0), 9), []);
        }
        // A number is not given twice, so that nothing is mistaken for what was accepted.
        commit(store, |store| {
            store.message_accepted(all[2].seq).unwrap();
            store.put_message(&message(4)).unwrap();
        });
        assert!(due(store, NOW)[0].seq > all[2].seq);
    });
}

#[test]
fn of_the_messages_that_were_given_up_the_newest_are_kept_and_all_that_wait() {
    each(|store| {
        commit(store, |store| {
            open(store, "a");
            for n in 1..=6_u32 {
                let message = Message {
                    id: format!("msg_{n}"),
                    kind: "balance.low".into(),
                    account: account("a"),
                    body: "{}".into(),
                    at: NOW,
                    attempts: 0,
                    last_error: None,
                    next_at: Some(NOW).filter(|_| n == 2),
                };
                store.put_message(&message).unwrap();
            }
        });
        let ids = |store: &mut dyn Store| {
            store.messages(None, PAGE).unwrap().into_iter().map(|m| m.row.id).collect::<Vec<_>>()
        };
        for (keep, left) in [(5, "654321"), (3, "6542"), (3, "6542"), (0, "2")] {
            commit(store, |store| store.forget_dead_messages(keep).unwrap());
            assert_eq!(ids(store), left.chars().map(|n| format!("msg_{n}")).collect::<Vec<_>>());
        }
        assert_eq!(store.messages_waiting().unwrap(), 1);
    });
}

#[test]
fn events_of_an_earlier_release_keep_their_status_and_wait_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE migration (version INTEGER PRIMARY KEY, at TEXT NOT NULL)").unwrap();
    for (version, schema) in
        [(1, include_str!("../sqlite/schema.sql")), (2, include_str!("../sqlite/schema-2.sql"))]
    {
        db.execute_batch(schema).unwrap();
        db.execute("INSERT INTO migration VALUES (?1, 'then')", [version]).unwrap();
    }
    for (id, status) in [("evt_1", "applied"), ("evt_2", "unmatched"), ("evt_3", "conflict")] {
        db.execute(
            "INSERT INTO event (livemode, account, id, kind, received_at, status, detail, customer, body)
             VALUES (0, 'self', ?1, 'invoice.paid', 7000000, ?2, 'why', 'cus_1', '{}')",
            [id, status],
        )
        .unwrap();
    }
    drop(db);
    let mut store = Sqlite::open(&path).unwrap();
    let statuses: Vec<_> = store.events(None, PAGE).unwrap().into_iter().map(|e| e.row.status).collect();
    assert_eq!(statuses, [EventStatus::Conflict, EventStatus::Unmatched, EventStatus::Applied]);
    let waiting = store.waiting_events("cus_1").unwrap();
    assert_eq!(waiting.len(), 1);
    let tries = Tries { count: 1, error: None, last_at: Some(Instant::from_secs(7)) };
    assert_eq!((&waiting[0].tries, waiting[0].detail.as_str()), (&tries, "why"));
}
