//! Both stores on usage: as it is shown, summed up, and traced to the journal.

use super::*;
use crate::store::{GrantCharge, SumBy, UsageSum};
use serde_json::{Value, json};
use units::RequestId;

const LARGEST: u64 = 9_007_199_254_740_991;

fn record(n: u64, at: &str, model: Option<&str>, more: &Value) -> UsageRecord {
    let mut record = json!({
        "n": n, "request_id": format!("r-{n}"), "account": "a", "endpoint": "chat", "returned": 0,
        "outcome": "charged", "charges": [], "price_version": 1, "at": at,
    });
    if let Some(model) = model {
        record["tokens"] = json!({
            "model": model, "input": 10, "cached": 4, "output": 5, "cache_written": 3, "reasoning": 2, "images": 1,
        });
    }
    for (key, value) in more.as_object().unwrap() {
        record[key] = value.clone();
    }
    serde_json::from_value(record).unwrap()
}

fn request(id: &str) -> RequestId {
    RequestId::new(id).unwrap()
}

fn worker() -> UsageKey {
    UsageKey { node: node(), incarnation: 1, worker: 1 }
}

/// Grant 1 has credits, grant 2 is the window's.
fn begin(store: &mut dyn Store) -> (CellId, CellId) {
    open(store, "a");
    open(store, "b");
    run(store, "a", NOW, &Command::Grant(terms("buy:1", 10)));
    let free = cell_of(run(store, "a", NOW, &hold(HOLD, 4)));
    let paid = cell_of(run(store, "a", NOW, &hold(HOLD + 1, 4)));
    (free, paid)
}

#[test]
fn a_record_comes_back_as_it_was_told() {
    each(|store| {
        let charges = json!([
            {"grant": 2, "generation": HOLD, "amount": 1},
            {"grant": 1, "generation": HOLD, "amount": 4},
            {"grant": 77, "generation": HOLD, "amount": 9},
        ]);
        let more = json!({"charges": charges, "beyond": 6, "basis": "at_least"});
        commit(store, |store| {
            begin(store);
            let told = record(1, "2026-11-20T09:30:00Z", Some("m"), &more);
            assert!(store.put_usage(&worker(), &told, NOW).unwrap());
            let plain = record(2, "2026-11-20T09:30:00Z", None, &json!({"account": "b"}));
            assert!(store.put_usage(&worker(), &plain, NOW).unwrap());
        });
        let all = store.usage(None, None, PAGE).unwrap();
        assert_eq!(all.iter().map(|stored| stored.row.account.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!((&all[0].row.used, &all[0].row.basis, all[0].row.beyond), (&None, &None, Amount::ZERO));
        let row = &all[1].row;
        let charge = |grant, unit, n| GrantCharge { grant: GrantId(grant), unit, amount: amount(n) };
        // What names no grant was charged nowhere.
        assert_eq!(row.charges, [charge(1, Unit::Credits, 4), charge(2, Unit::Requests, 1)]);
        assert_eq!((row.charged(Unit::Credits), row.charged(Unit::Requests)), (amount(10), amount(1)));
        assert_eq!((row.basis.as_deref(), row.outcome.as_str()), (Some("at_least"), "charged"));
        let used = row.used.as_ref().unwrap();
        assert_eq!((used.model.as_str(), used.input, used.cached, used.output), ("m", 10, 4, 5));
        assert_eq!((used.cache_written, used.reasoning, used.images), (3, 2, 1));
        let found = |store: &mut dyn Store, whose: Option<&str>, id: &str| {
            let whose = whose.map(account);
            store.usage(whose.as_ref(), Some(&request(id)), PAGE).unwrap().len()
        };
        assert_eq!((found(store, None, "r-1"), found(store, Some("a"), "r-1")), (1, 1));
        assert_eq!((found(store, Some("b"), "r-1"), found(store, None, "r-9")), (0, 0));
    });
}

#[test]
fn usage_is_summed_by_day_and_by_model() {
    each(|store| {
        let credits = json!({"charges": [{"grant": 1, "generation": HOLD, "amount": 3}], "beyond": 2});
        let window = json!({"charges": [{"grant": 2, "generation": HOLD, "amount": 1}]});
        commit(store, |store| {
            begin(store);
            for record in [
                record(1, "2026-11-19T23:59:59.999999Z", Some("m"), &credits),
                record(2, "2026-11-20T00:00:00Z", Some("m"), &credits),
                record(3, "2026-11-20T12:00:00Z", Some("l"), &window),
                record(4, "2026-11-20T13:00:00Z", None, &json!({"outcome": "failed"})),
                record(5, "2026-11-20T13:00:00Z", Some("m"), &json!({"account": "b"})),
                record(6, "1969-11-20T13:00:00Z", Some("m"), &window),
            ] {
                assert!(store.put_usage(&worker(), &record, NOW).unwrap());
            }
        });
        let days = |store: &mut dyn Store, before, limit| {
            store.usage_days(&account("a"), Page { before, limit }).unwrap()
        };
        let day = 20_777;
        assert_eq!(days(store, None, 10), [day, day - 1, 0]);
        assert_eq!((days(store, Some(day), 1), days(store, None, 2)), (vec![day - 1], vec![day, day - 1]));
        let sums = |store: &mut dyn Store, from, to, day, model| {
            store.usage_sums(&account("a"), from..to, SumBy { day, model }).unwrap()
        };
        let of = |day: Option<u64>, model: Option<&str>, n: u64| UsageSum {
            day,
            model: model.map(str::to_owned),
            requests: n,
            input: 10 * n,
            cached: 4 * n,
            cache_written: 3 * n,
            output: 5 * n,
            reasoning: 2 * n,
            images: n,
            ..UsageSum::default()
        };
        let by_day = sums(store, 0, u64::MAX, true, false);
        let expected = [
            UsageSum { charged_micro: 5, charged_requests: 1, ..of(Some(day), None, 2) },
            UsageSum { charged_micro: 5, ..of(Some(day - 1), None, 1) },
            UsageSum { charged_requests: 1, ..of(Some(0), None, 1) },
        ];
        assert_eq!(by_day, expected);
        let by_model = sums(store, 1, day + 1, false, true);
        let expected = [
            of(None, None, 0),
            UsageSum { charged_requests: 1, ..of(None, Some("l"), 1) },
            UsageSum { charged_micro: 10, ..of(None, Some("m"), 2) },
        ];
        assert_eq!(by_model, expected);
        let both: Vec<_> =
            sums(store, day - 1, day + 1, true, true).into_iter().map(|sum| (sum.day, sum.model)).collect();
        let named = |day, name: &str| (Some(day), Some(name.to_owned()));
        assert_eq!(both, [(Some(day), None), named(day, "l"), named(day, "m"), named(day - 1, "m")]);
        assert!(sums(store, day + 1, day + 2, true, true).is_empty());
    });
}

#[test]
fn no_sum_is_too_large_to_be_told() {
    each(|store| {
        let largest = |n: u64| {
            let tokens = json!({"model": "m", "input": LARGEST, "cached": LARGEST, "output": LARGEST,
                "cache_written": LARGEST, "reasoning": LARGEST, "images": LARGEST});
            let charges = json!([{"grant": 1, "generation": n, "amount": LARGEST}]);
            let more = json!({"tokens": tokens, "charges": charges, "beyond": LARGEST});
            record(n, "2026-11-20T00:00:00Z", None, &more)
        };
        // So many that their sum is no i64 any more.
        commit(store, |store| {
            begin(store);
            (1..=1_100).for_each(|n| assert!(store.put_usage(&worker(), &largest(n), NOW).unwrap()));
        });
        let sums = store.usage_sums(&account("a"), 0..u64::MAX, SumBy { day: false, model: true }).unwrap();
        let all = [sums[0].input, sums[0].output, sums[0].images, sums[0].charged_micro];
        assert_eq!((all, sums[0].requests), ([LARGEST; 4], 1_100));
        let one = store.usage(None, None, Page { before: None, limit: 1 }).unwrap();
        assert_eq!(one[0].row.charged(Unit::Credits), Amount::MAX);
    });
}

#[test]
fn a_request_finds_its_lines_in_the_journal() {
    each(|store| {
        let (free, paid) = commit(store, begin);
        let short = Totals {
            admitted: amount(4),
            finished: amount(4),
            used: amount(4),
            short: amount(9),
            ..Totals::default()
        };
        commit(store, |store| {
            run(store, "a", NOW, &Command::Grant(terms("buy:2", 3)));
            run(store, "a", NOW, &report(paid.clone(), short));
            let charge =
                |id: &CellId, n: i64| json!({"grant": id.grant.0, "generation": id.generation, "amount": n});
            let of_paid = json!({"charges": [charge(&paid, 4)]});
            let of_free = json!({"charges": [charge(&free, 1)]});
            store.put_usage(&worker(), &record(1, "2026-11-20T09:30:00Z", None, &of_paid), NOW).unwrap();
            store.put_usage(&worker(), &record(2, "2026-11-20T09:30:00Z", None, &of_free), NOW).unwrap();
        });
        let lines = |store: &mut dyn Store, whose: Option<&str>, id: &str| {
            let whose = whose.map(account);
            let found = store.journal_of_request(whose.as_ref(), &request(id), PAGE).unwrap();
            found.iter().map(|stored| (stored.row.kind.as_str(), stored.row.amount.get())).collect::<Vec<_>>()
        };
        // What the second purchase paid for is this request's too.
        let all = [("debt_up", 0), ("short_covered", 3), ("short_covered", 6), ("used", 4), ("leased", 4)];
        assert_eq!(lines(store, None, "r-1"), all[1..]);
        assert_eq!(lines(store, Some("a"), "r-1"), all[1..]);
        assert_eq!(lines(store, Some("b"), "r-1"), []);
        assert_eq!(lines(store, None, "r-2"), [("leased", 1)]);
        let page = Page { before: None, limit: 1 };
        let first = store.journal_of_request(None, &request("r-1"), page).unwrap();
        let page = Page { before: Some(first[0].seq), limit: 1 };
        let second = store.journal_of_request(None, &request("r-1"), page).unwrap();
        assert_eq!((first[0].row.amount, second[0].row.amount), (amount(3), amount(6)));
        // And the other way round: whichever grant paid, the line names the request.
        for stored in [&first[0], &second[0]] {
            let cell = stored.row.cell.as_ref().unwrap();
            assert_eq!(store.request_of_hold(cell).unwrap().unwrap().0.as_str(), "r-1");
        }
    });
}

#[test]
fn what_a_worker_forgot_is_not_waited_for() {
    each(|store| {
        commit(store, |store| {
            open(store, "a");
            let put = |store: &mut dyn Store, n: u64| {
                assert!(
                    store
                        .put_usage(&worker(), &record(n, "2026-11-20T09:30:00Z", None, &json!({})), NOW)
                        .unwrap()
                );
            };
            let acked = |store: &mut dyn Store| store.usage_acked(&worker()).unwrap();
            store.usage_begins(&worker(), 1).unwrap();
            assert_eq!(acked(store), 0);
            put(store, 3);
            put(store, 8);
            assert_eq!(acked(store), 0);
            store.usage_begins(&worker(), 3).unwrap();
            assert_eq!(acked(store), 3);
            // What began later is no earlier for having been told again.
            store.usage_begins(&worker(), 8).unwrap();
            store.usage_begins(&worker(), 2).unwrap();
            assert_eq!(acked(store), 8);
            put(store, 5);
            put(store, 9);
            assert_eq!(acked(store), 9);
            // Far ahead there is nothing yet, and at the end of all numbers nothing breaks.
            store.usage_begins(&worker(), 20).unwrap();
            assert_eq!(acked(store), 19);
            put(store, LARGEST);
            store.usage_begins(&worker(), LARGEST).unwrap();
            assert_eq!(acked(store), LARGEST);
            assert_eq!(store.usage_acked(&UsageKey { worker: 2, ..worker() }).unwrap(), 0);
        });
    });
}
