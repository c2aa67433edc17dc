//! One suite for every store: what it answers, and that nothing half done remains.

mod paid;
mod payments;
mod people;
mod repeats;
mod told;
mod transactions;
mod usage;

use super::{
    ClaimKey, ClaimRow, ClaimState, EventKey, EventRow, EventStatus, Memory, Page, Sqlite, Store, UsageKey,
};
use contract::v1::UsageRecord;
use ledger::subscription::{Snapshot, Standing, Subscriptions};
use ledger::{
    Account, Book, CellId, Changes, Command, CrashPolicy, Decision, Expire, Exposure, Grant, GrantId, Ids,
    Lane, Leg, Mode, Need, Origin, Reply, Report, Rows, Shortfall, Source, Terms, Timing, Totals, WindowRule,
    step,
};
use std::collections::BTreeMap;
use told::event;
use units::{AccountId, Amount, EventId, Instant, NodeName, Span, TierId, Unit};

const NOW: Instant = Instant::from_secs(1_795_167_000);
const PAGE: Page = Page { before: None, limit: 10 };

fn each(test: impl Fn(&mut dyn Store)) {
    test(&mut Memory::default());
    let dir = tempfile::tempdir().unwrap();
    test(&mut Sqlite::open(&dir.path().join("x.db")).unwrap());
}

/// In a transaction, as the engine does it.
fn commit<T>(store: &mut dyn Store, run: impl FnOnce(&mut dyn Store) -> T) -> T {
    store.begin().unwrap();
    store.savepoint().unwrap();
    let done = run(store);
    store.release().unwrap();
    store.commit().unwrap();
    done
}

fn account(name: &str) -> AccountId {
    AccountId::new(name).unwrap()
}

fn node() -> NodeName {
    NodeName::new("n1").unwrap()
}

fn amount(n: i64) -> Amount {
    Amount::new(n).unwrap()
}

fn open(store: &mut dyn Store, name: &str) {
    let book = Book::open(account(name), Standing::none(Some(TierId::new("free").unwrap())));
    store.save(&book, &Changes { account: true, ..Changes::default() }).unwrap();
}

fn run(store: &mut dyn Store, name: &str, now: Instant, command: &Command) -> Reply {
    let mut book = store.load(&account(name), &[command.rows()], now).unwrap().unwrap();
    let mut ids = Ids::from(store.next_grant().unwrap());
    let outcome = step(&mut book, &mut ids, now, command).unwrap();
    store.save(&book, &outcome.changes).unwrap();
    outcome.reply
}

fn terms(source_ref: &str, n: i64) -> Terms {
    Terms {
        unit: Unit::Credits,
        scope: String::new(),
        source: Source::Purchase,
        source_ref: source_ref.into(),
        priority: 20,
        starts_at: Instant::EPOCH,
        expires_at: Instant::FAR,
        amount: amount(n),
    }
}

fn hold(generation: u64, n: i64) -> Command {
    let rule = WindowRule::utc_day("daily", amount(1), 0, NOW);
    let free = Leg {
        unit: Unit::Requests,
        scope: "daily".into(),
        need: Amount::ONE,
        least: None,
        ahead: Amount::ZERO,
        window: Some(rule),
    };
    let paid = Leg {
        unit: Unit::Credits,
        scope: String::new(),
        need: amount(n),
        least: None,
        ahead: Amount::ZERO,
        window: None,
    };
    Command::Need(Need {
        node: node(),
        incarnation: 1,
        mode: Mode::Hold { generation },
        lanes: vec![Lane { legs: vec![free] }, Lane { legs: vec![paid] }],
        wait: false,
        holders: 1,
        at_once: None,
        timing: Timing { ttl: Span::from_secs(30), grace: Span::ZERO, tail: Span::from_secs(30) },
        exposure: Exposure::Whole,
    })
}

fn report(cell: CellId, totals: Totals) -> Command {
    Command::Report(Report {
        cell,
        totals,
        target: Amount::ZERO,
        need: Amount::ZERO,
        holders: 1,
        timing: Timing { ttl: Span::from_secs(30), grace: Span::ZERO, tail: Span::from_secs(30) },
        exposure: Exposure::Whole,
        shortfall: Shortfall::Debt,
        gone: false,
    })
}

fn cell_of(reply: Reply) -> CellId {
    let Reply::Need(answer) = reply else { panic!("{reply:?}") };
    let Decision::Granted(granted) = answer.decision else { panic!("{:?}", answer.decision) };
    granted.cells[0].id.clone()
}

const HOLD: u64 = (1 << 40) | 1;

#[test]
fn a_book_comes_back_as_it_was_written() {
    each(|store| {
        commit(store, |store| {
            assert_eq!(store.load(&account("a"), &[], NOW).unwrap(), None);
            open(store, "a");
            open(store, "b");
            run(store, "a", NOW, &Command::Grant(terms("buy:1", 10)));
            run(store, "b", NOW, &Command::Grant(terms("buy:1", 7)));
        });
        // The first hold is free, the second is paid; both are in the book, and only in this one.
        let free = commit(store, |store| cell_of(run(store, "a", NOW, &hold(HOLD, 4))));
        let paid = commit(store, |store| cell_of(run(store, "a", NOW, &hold(HOLD + 1, 4))));
        let book = commit(store, |store| store.load(&account("a"), &[], NOW).unwrap().unwrap());
        assert_eq!(book.cells.keys().collect::<Vec<_>>(), [&paid, &free]);
        assert_eq!(book.grants.len(), 2);
        assert_eq!(book.grants[&paid.grant].leased, amount(4));
        assert_eq!(book.balance(NOW).unwrap().held, amount(4));
        book.check().unwrap();
        assert!(book.account.credited);
        assert_eq!(book.account.standing.tier, Some(TierId::new("free").unwrap()));
        let other =
            store.load(&account("b"), &[Rows::Cell(paid.clone()), Rows::Grant(paid.grant)], NOW).unwrap();
        assert!(other.unwrap().cells.is_empty(), "a cell of somebody else");
        assert_eq!(store.owner_of_grant(paid.grant).unwrap(), Some(account("a")));
        assert_eq!(store.owner_of_grant(GrantId(u64::MAX)).unwrap(), None);
        assert_eq!(store.owner_of_hold(&node(), 1, HOLD + 1).unwrap(), Some(account("a")));
        assert_eq!(store.owner_of_hold(&node(), 2, HOLD + 1).unwrap(), None);
        let journal = store.journal(Some(&account("a")), Page { before: None, limit: 2 }).unwrap();
        assert_eq!(journal.iter().map(|e| e.row.kind.as_str()).collect::<Vec<_>>(), ["leased", "leased"]);
        let older =
            store.journal(Some(&account("a")), Page { before: Some(journal[1].seq), limit: 9 }).unwrap();
        assert_eq!(older.iter().map(|e| e.row.kind.as_str()).collect::<Vec<_>>(), ["granted", "granted"]);
    });
}

#[test]
fn what_is_over_is_loaded_only_if_it_is_asked_for() {
    each(|store| {
        let cell = commit(store, |store| {
            open(store, "a");
            run(store, "a", NOW, &Command::Grant(terms("buy:1", 4)));
            run(store, "a", NOW, &hold(HOLD, 4));
            let cell = cell_of(run(store, "a", NOW, &hold(HOLD + 1, 4)));
            let done =
                Totals { admitted: amount(4), finished: amount(4), used: amount(4), ..Totals::default() };
            run(store, "a", NOW, &report(cell.clone(), done));
            cell
        });
        let load =
            |store: &mut dyn Store, rows: &[Rows]| store.load(&account("a"), rows, NOW).unwrap().unwrap();
        assert!(!load(store, &[]).grants.contains_key(&cell.grant), "it is used up");
        let origin = Origin { unit: Unit::Credits, source: Source::Purchase, source_ref: "buy:1".into() };
        let hold = Rows::Hold { node: node(), incarnation: 1, generation: HOLD + 1 };
        for rows in [Rows::Origin(origin), Rows::Grant(cell.grant), Rows::Cell(cell.clone()), hold.clone()] {
            assert!(load(store, std::slice::from_ref(&rows)).grants.contains_key(&cell.grant), "{rows:?}");
        }
        for rows in [Rows::Cell(cell.clone()), hold] {
            assert!(load(store, std::slice::from_ref(&rows)).cells.contains_key(&cell), "{rows:?}");
        }
        let leases = Rows::Leases { node: node(), incarnation: 1 };
        assert!(!load(store, &[leases]).cells.contains_key(&cell), "a hold is no lease");
        assert!(store.grants(&account("a")).unwrap().iter().all(|(id, _)| *id != cell.grant));
    });
}

#[test]
fn the_last_lease_of_a_process_is_found_even_if_it_is_over() {
    each(|store| {
        commit(store, |store| {
            open(store, "a");
            run(store, "a", NOW, &Command::Grant(terms("buy:1", 100)));
        });
        let lease = |generation_min| match hold(HOLD, 4) {
            Command::Need(mut need) => {
                need.lanes.remove(0);
                need.mode = Mode::Lease { generation_min };
                Command::Need(need)
            }
            other => other,
        };
        let first = commit(store, |store| cell_of(run(store, "a", NOW, &lease(1))));
        commit(store, |store| {
            let all = Totals { returned: amount(50), ..Totals::default() };
            run(store, "a", NOW, &report(first.clone(), all));
            for at in [31, 62, 93] {
                let expire = Expire { crash: CrashPolicy::Refund, shortfall: Shortfall::Debt };
                run(store, "a", NOW.plus(Span::from_secs(at)), &Command::Expire(expire));
            }
        });
        let rows = [Rows::Leases { node: node(), incarnation: 1 }];
        let book = store.load(&account("a"), &rows, NOW).unwrap().unwrap();
        assert_eq!(book.cells[&first].state, ledger::CellState::Closed);
        assert!(store.load(&account("a"), &[], NOW).unwrap().unwrap().cells.is_empty());
    });
}

#[test]
fn who_is_due_is_found() {
    each(|store| {
        commit(store, |store| {
            for name in ["a", "b", "c", "d"] {
                open(store, name);
            }
            run(store, "a", NOW, &hold(HOLD, 4));
            let soon = Terms { expires_at: NOW.plus(Span::from_secs(5)), ..terms("buy:1", 4) };
            run(store, "b", NOW, &Command::Grant(soon));
            let free = Some(TierId::new("free").unwrap());
            let changing =
                Standing { changes_at: Some(NOW.plus(Span::from_secs(9))), ..Standing::none(free) };
            run(store, "c", NOW, &Command::SetStanding(changing));
        });
        let due = |store: &mut dyn Store, secs| store.due(NOW.plus(Span::from_secs(secs)), None, 10).unwrap();
        assert_eq!(due(store, 4), []);
        assert_eq!(due(store, 5), [account("b")]);
        assert_eq!(due(store, 9), [account("b"), account("c")]);
        assert_eq!(due(store, 30), [account("a"), account("b"), account("c")]);
        let page = |store: &mut dyn Store, after: &str| {
            store.due(NOW.plus(Span::from_secs(30)), Some(&account(after)), 2).unwrap()
        };
        assert_eq!(store.due(NOW.plus(Span::from_secs(30)), None, 2).unwrap(), [account("a"), account("b")]);
        assert_eq!(page(store, "a"), [account("b"), account("c")]);
        assert_eq!((page(store, "b"), page(store, "c")), (vec![account("c")], vec![]));
        commit(store, |store| store.stale_standings(NOW).unwrap());
        assert_eq!(due(store, 0).len(), 4);
    });
}

#[test]
fn a_book_that_was_changed_by_another_is_not_overwritten() {
    each(|store| {
        commit(store, |store| {
            open(store, "a");
            run(store, "a", NOW, &Command::Grant(terms("buy:1", 4)));
        });
        let held = commit(store, |store| {
            run(store, "a", NOW, &hold(HOLD, 4));
            cell_of(run(store, "a", NOW, &hold(HOLD + 1, 1)))
        });
        let done = Totals { admitted: amount(1), finished: amount(1), used: amount(1), ..Totals::default() };
        for command in [Command::Suspend, hold(HOLD + 2, 1), report(held, done)] {
            store.begin().unwrap();
            let mut stale = store.load(&account("a"), &[command.rows()], NOW).unwrap().unwrap();
            run(store, "a", NOW, &command);
            let before = store.load(&account("a"), &[command.rows()], NOW).unwrap();
            let outcome = step(&mut stale, &mut Ids::from(9), NOW, &command).unwrap();
            let Changes { account: row, grants, cells, .. } = outcome.changes;
            // Each kind of row by itself.
            for (account, grants, cells) in
                [(row, [].into(), [].into()), (false, grants, [].into()), (false, [].into(), cells)]
            {
                let changes = Changes { account, grants, cells, journal: Vec::new() };
                store.savepoint().unwrap();
                assert!(
                    changes.is_empty() || store.save(&stale, &changes).is_err(),
                    "{command:?} {changes:?}"
                );
                store.rollback_to().unwrap();
            }
            assert_eq!(store.load(&account("a"), &[command.rows()], NOW).unwrap(), before);
            store.rollback();
        }
    });
}

#[test]
fn subscriptions_commands_and_settings_come_back() {
    each(|store| {
        let snapshot = Snapshot {
            id: "sub_1".into(),
            customer: "cus_1".into(),
            status: "active".to_owned().into(),
            items: Vec::new(),
            cancel_at: None,
            cancel_at_period_end: false,
            ended_at: None,
            trial_end: None,
            collection_paused: false,
            created: NOW,
            event: "evt_1".into(),
        };
        let mut known = Subscriptions::default();
        let policy = ledger::subscription::Policy {
            plans: BTreeMap::new(),
            default_tier: None,
            past_due_grace: Span::ZERO,
            on_cancel: ledger::subscription::OnCancel::Immediate,
            while_collection_paused: ledger::subscription::WhileCollectionPaused::Allow,
            currency: "usd".into(),
        };
        known.fold(snapshot, &policy);
        commit(store, |store| {
            open(store, "a");
            for _ in 0..2 {
                store.put_subscription(&account("a"), "sub_1", &known.0["sub_1"]).unwrap();
            }
            store.put_command("k", "d", "{}", NOW).unwrap();
            store.put_meta("m", "1").unwrap();
            store.put_meta("m", "2").unwrap();
        });
        assert_eq!(store.subscriptions(&account("a")).unwrap(), known);
        assert_eq!(store.subscriptions(&account("b")).unwrap(), Subscriptions::default());
        assert_eq!(store.command("k").unwrap(), Some(("d".into(), "{}".into())));
        assert_eq!((store.command("l").unwrap(), store.meta("n").unwrap()), (None, None));
        assert_eq!(store.meta("m").unwrap(), Some("2".into()));
    });
}

#[test]
fn what_gateways_told_is_kept_once() {
    each(|store| {
        let key = UsageKey { node: node(), incarnation: 1, worker: 1 };
        let record = |n: u64| -> UsageRecord {
            serde_json::from_value(serde_json::json!({
                "n": n, "request_id": "r", "account": "a", "endpoint": "chat", "returned": 0, "outcome": "charged",
                "charges": [{"grant": 1, "generation": 1, "amount": 3}], "price_version": 1,
                "at": "2026-11-20T09:30:00Z",
            }))
            .unwrap()
        };
        commit(store, |store| {
            open(store, "a");
            run(store, "a", NOW, &Command::Grant(terms("buy:1", 10)));
            assert_eq!(store.incarnation(&node()).unwrap(), 0);
            store.put_incarnation(&node(), 5, NOW).unwrap();
            store.put_incarnation(&node(), 4, NOW).unwrap();
            for (seq, came) in [(1, true), (1, false), (3, true), (2, false), (3, false), (4, true)] {
                assert_eq!(store.came(&key, seq).unwrap(), came, "{seq}");
            }
            assert!(store.came(&UsageKey { worker: 3, ..key.clone() }, 1).unwrap());
            assert!(store.put_usage(&key, &record(2), NOW).unwrap());
            assert_eq!(store.usage_acked(&key).unwrap(), 0);
            assert!(store.put_usage(&key, &record(1), NOW).unwrap());
            assert!(!store.put_usage(&key, &record(1), NOW).unwrap());
            assert_eq!(store.usage_acked(&key).unwrap(), 2);
            assert_eq!(store.usage_acked(&UsageKey { worker: 2, ..key.clone() }).unwrap(), 0);
        });
        assert_eq!(store.incarnation(&node()).unwrap(), 5);
        let usage = store.usage(Some(&account("a")), None, PAGE).unwrap();
        let since = |store: &mut dyn Store, from| store.served_since(&account("a"), from).unwrap();
        assert_eq!((usage.len(), since(store, NOW), since(store, NOW.plus(Span::from_secs(1)))), (2, 2, 0));
        let charged = |unit| usage[0].row.charged(unit).get();
        assert_eq!((charged(Unit::Credits), charged(Unit::Requests)), (3, 0));
        assert_eq!(usage[0].row.outcome, "charged");
    });
}

#[test]
fn claims_and_notes_are_kept() {
    each(|store| {
        let key = ClaimKey { endpoint: "app".into(), event: event(1, EventStatus::Applied, None).key };
        let row = |state| ClaimRow { state, claimant: "c".into(), token: "t".into(), until: NOW };
        commit(store, |store| {
            assert_eq!(store.claim(&key).unwrap(), None);
            store.put_claim(&key, &row(ClaimState::Claimed)).unwrap();
            store.put_claim(&key, &row(ClaimState::Done)).unwrap();
            open(store, "a");
            run(store, "a", NOW, &Command::Grant(terms("buy:1", 10)));
            store.put_note(GrantId(1), "why").unwrap();
        });
        assert_eq!(store.claim(&key).unwrap(), Some(row(ClaimState::Done)));
        assert_eq!(store.claim(&ClaimKey { endpoint: "other".into(), ..key }).unwrap(), None);
        assert_eq!(store.note(GrantId(1)).unwrap(), Some("why".into()));
        assert_eq!(store.note(GrantId(2)).unwrap(), None);
        assert_eq!(store.subscribers().unwrap(), []);
    });
}

/// The database is the last line: a ledger that forgot a rule could not write what came of it.
#[test]
fn a_book_that_does_not_add_up_is_refused_by_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Sqlite::open(&dir.path().join("x.db")).unwrap();
    commit(&mut store, |store| {
        open(store, "a");
        run(store, "a", NOW, &Command::Grant(terms("buy:1", 10)));
    });
    let mut book = store_load(&mut store);
    let minted = Grant { avail: amount(11), ver: 2, ..book.grants[&GrantId(1)].clone() };
    book.grants.insert(GrantId(1), minted);
    let changes = Changes { grants: [GrantId(1)].into(), ..Changes::default() };
    let error = super::Books::save(&mut store, &book, &changes).unwrap_err();
    assert!(matches!(error, crate::error::Error::Bug(_)), "{error:?}");
    let mut book = store_load(&mut store);
    book.account = Account { ver: 7, ..book.account };
    let changes = Changes { account: true, ..Changes::default() };
    assert!(super::Books::save(&mut store, &book, &changes).is_err(), "two versions ahead");
}

fn store_load(store: &mut Sqlite) -> Book {
    super::Books::load(store, &account("a"), &[], NOW).unwrap().unwrap()
}
