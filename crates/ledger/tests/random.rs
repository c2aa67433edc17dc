//! Random commands: the invariants after each (which `step` checks itself), what may only grow, what a repetition may
//! change (nothing), whether the journal explains every counter, and a naive model of holds beside it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod desk;
use desk::acts::*;
use desk::*;
use ledger::*;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;
use units::{Amount, Unit};

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_the_book_adds_up(acts in proptest::collection::vec((any_act(), 0..40_u64), 1..60)) {
        let mut desk = Desk::new();
        let mut journal = Vec::new();
        for (act, secs) in acts {
            check_act(&mut desk, &mut journal, act, secs);
        }
    }

    /// I7: any multiset and any order of one gateway's snapshots that holds the last one ends as the last one says.
    #[test]
    fn reports_may_be_lost_repeated_and_disordered(
        growth in proptest::collection::vec((small(), small(), small(), 0..2_u8, small()), 1..12),
        writes_off in any::<bool>(),
        sent in proptest::collection::vec(any::<Index>(), 0..24),
        grows in any::<bool>(),
    ) {
        let mut desk = Desk::with(100);
        let ask = need(Mode::Lease { generation_min: 1 }, vec![credits(100)], false);
        let Decision::Granted(granted) = desk.need(ask).decision else { panic!() };
        let id = granted.cells[0].id.clone();
        let (mut now, mut snapshots) = (Totals::default(), Vec::new());
        for (admit, finish, used, gives, short) in growth {
            let free = 100 - now.returned.get() - now.used.get() - (now.admitted.get() - now.finished.get());
            let admit = admit.get().min(free);
            now.admitted = amount(now.admitted.get() + admit);
            let finish = finish.get().min(now.admitted.get() - now.finished.get());
            now.finished = amount(now.finished.get() + finish);
            now.used = amount(now.used.get() + used.get().min(finish));
            if gives == 1 {
                let free = 100 - now.returned.get() - now.used.get() - (now.admitted.get() - now.finished.get());
                now.returned = amount(now.returned.get() + free);
            }
            now.short = amount(now.short.get() + short.get());
            snapshots.push(now);
        }
        let last = *snapshots.last().unwrap();
        let mut written_off = 0;
        let target = if grows { Amount::ZERO } else { amount(100) };
        for index in sent.iter().map(|it| it.index(snapshots.len())).chain([snapshots.len() - 1]).chain(sent.iter().map(|it| it.index(snapshots.len()))) {
            let shortfall = if writes_off { Shortfall::WriteOff } else { Shortfall::Debt };
            let before = desk.book.cells[&id].short;
            let answer = desk.report(Report { target, shortfall, ..report(&id, snapshots[index]) });
            prop_assert_eq!(answer.refused, None);
            let news = snapshots[index].short.saturating_sub(before);
            let late = answer.late.map_or(0, |late| late.covered.get() + late.owed.get() + late.written_off.get());
            prop_assert_eq!(late, news.get(), "what is short is paid for once, and all of it");
            written_off += answer.late.map_or(0, |late| late.written_off.get());
        }
        let row = &desk.book.cells[&id];
        let ends = Totals {
            admitted: row.admitted,
            finished: row.finished,
            used: row.used,
            returned: row.returned,
            short: row.short,
        };
        prop_assert_eq!(ends, last);
        let grant = &desk.book.grants[&GrantId(1)];
        // Whether what was short was covered or is owed, the order says; how much it is in all, not.
        let all = grant.used.get() + desk.debt() + written_off;
        prop_assert_eq!(all, last.used.get() + last.short.get());
        prop_assert_eq!(grant.used.get() + grant.avail.get(), last.used.get() + last.returned.get());
    }

    /// Holds, beside a model that anyone can check by eye.
    #[test]
    fn holds_do_what_a_naive_model_does(
        size in 1..60_i64,
        acts in proptest::collection::vec((0..4_u8, 0..12_u64, 1..20_i64, 1..20_i64), 1..80),
    ) {
        let mut desk = Desk::with(size);
        let (mut left, mut open, mut over) = (size, BTreeMap::new(), Vec::new());
        for (act, n, price, least) in acts {
            match act {
                0 | 1 => {
                    let lane = if act == 0 { credits(price) } else { at_least(price, least.min(price)) };
                    let decision = desk.hold(H + n, vec![lane]).decision;
                    let right = if over.contains(&n) {
                        decision == Decision::Over
                    } else if let Some(held) = open.get(&n) {
                        matches!(&decision, Decision::Granted(it) if it.hold.get() == *held && it.lane.is_none())
                    } else if price <= left {
                        left -= price;
                        open.insert(n, price);
                        matches!(&decision, Decision::Granted(it) if it.hold.get() == price && it.lane == Some(0))
                    } else if act == 1 && least <= left {
                        let all = std::mem::take(&mut left);
                        open.insert(n, all);
                        matches!(&decision, Decision::Granted(it) if it.hold.get() == all && it.lane == Some(0))
                    } else {
                        matches!(&decision, Decision::Refused(it) if it.refusal == Refusal::InsufficientCredits)
                    };
                    prop_assert!(right, "{n} for {price} with {left}: {decision:?}");
                }
                2 => {
                    if let Some(held) = open.remove(&n) {
                        let used = price.min(held);
                        desk.finish(&CellId { grant: GrantId(1), node: node(1), incarnation: 1, generation: H + n }, used);
                        left += held - used;
                        over.push(n);
                    }
                }
                _ => {
                    let held = open.remove(&n);
                    prop_assert_eq!(desk.abandon(H + n), held.unwrap_or(0));
                    over.extend(held.map(|_| n));
                    left += held.unwrap_or(0);
                }
            }
            let balance = desk.book.balance(desk.now).unwrap();
            prop_assert_eq!((balance.shown(), balance.held.get()), (left, open.values().sum::<i64>()));
        }
        prop_assert_eq!(desk.debt(), 0);
        prop_assert!(desk.book.grants.values().all(|grant| grant.terms.unit == Unit::Credits));
    }
}
