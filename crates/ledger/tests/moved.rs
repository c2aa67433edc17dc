//! Billing dates that are moved and plans that are added: what had passed of a period counts with its changes of plan, and what
//! is billed beside it counts for itself.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod shelf;

use ledger::subscription::*;
use shelf::*;

const HOUR: i64 = 3600;

fn with(edit: impl Fn(&mut Allowance)) -> Shelf {
    let mut shelf = Shelf::new(policy(edit));
    shelf.told(snapshot("p", "active", START));
    shelf
}

/// The billing date of a plan is moved: the rest of its period is paid back, and another begins.
fn moved(id: &str, price: &str, full: i64, at: i64, end: i64) -> InvoicePaid {
    let rest = full * (end - at) / (30 * DAY);
    invoice(
        id,
        "subscription_update",
        at,
        vec![part(price, -rest, at, end), line(price, full, at, at + 30 * DAY)],
    )
}

/// Every order of some.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for n in 0..count {
        let insert = |order: Vec<usize>| (0..=n).map(move |at| [&order[..at], &[n], &order[at..]].concat());
        all = all.into_iter().flat_map(insert).collect();
    }
    all
}

#[test]
fn of_a_period_that_is_cut_off_what_had_passed_counts_with_the_plan_to_which_it_was_changed() {
    for rule in [OnUpgrade::FullDelta, OnUpgrade::ProratedDelta, OnUpgrade::Reset] {
        let facts = [cycle(0, "p", 3000), upgrade("in_up", START + HOUR), moved("in_q", "q", 6000, MID, END)];
        let mut sums = std::collections::BTreeSet::new();
        for order in orders(facts.len()) {
            let mut shelf = with(|it| it.on_upgrade = rule);
            order.iter().for_each(|n| drop(shelf.paid(&facts[*n])));
            sums.insert(shelf.granted_micro());
        }
        assert_eq!(sums.len(), 1, "{rule:?} {sums:?}");
        // An hour less than half of the 100 of Q, and of the 30 of P that hour.
        let sum = *sums.first().unwrap();
        assert!((149 * ONE..=150 * ONE).contains(&sum), "{rule:?} {sum}");
    }
}

#[test]
fn a_period_that_was_changed_to_and_fro_before_it_was_cut_off_counts_as_the_best_of_its_plans_at_most() {
    for rule in [OnUpgrade::FullDelta, OnUpgrade::ProratedDelta, OnUpgrade::Reset] {
        let mut shelf = with(|it| it.on_upgrade = rule);
        shelf.paid(&cycle(0, "p", 3000));
        for n in 0..6 {
            shelf.paid(&upgrade(&format!("in_up_{n}"), START + (2 * n + 1) * DAY));
            shelf.paid(&downgrade(&format!("in_down_{n}"), START + (2 * n + 2) * DAY));
        }
        shelf.paid(&moved("in_p", "p", 3000, MID, END));
        // Half of the 100 at most had passed, and 100 had come: nothing is lacking.
        assert!(shelf.granted_micro() <= 100 * ONE, "{rule:?} {}", shelf.granted_micro());
        shelf.paid(&upgrade("in_up", MID + HOUR));
        assert!(shelf.granted_micro() <= 150 * ONE, "{rule:?} {}", shelf.granted_micro());
    }
}
