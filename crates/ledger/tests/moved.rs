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

/// Y brings 10 credits a year.
fn beside_a_year() -> Shelf {
    let mut shelf = with(|_| {});
    let plan = Plan { price: 12_000, allowance: Some(allowance(10)), ..shelf.policy.plans["b"].clone() };
    shelf.policy.plans.insert("y".to_owned(), plan);
    shelf
}

#[test]
fn a_plan_that_is_added_counts_for_itself_and_takes_nothing_from_renewals() {
    let (first, second, third) = (START + 10 * DAY, START + 20 * DAY, START + 40 * DAY);
    let year =
        invoice("in_y", "subscription_update", second, vec![line("y", 12_000, second, second + 365 * DAY)]);
    let renewal = |n: i64| {
        let from = first + n * 30 * DAY;
        let lines = vec![line("q", 6000, from, from + 30 * DAY)];
        invoice(&format!("in_r{n}"), "subscription_cycle", from, lines)
    };
    let facts = [cycle(0, "q", 6000), moved("in_a", "q", 6000, first, END), year, renewal(1), renewal(2)];
    for order in orders(facts.len()) {
        let mut shelf = beside_a_year();
        order.iter().for_each(|n| drop(shelf.paid(&facts[*n])));
        let granted = shelf.granted();
        assert_eq!((granted["plan:in_r1:q"], granted["plan:in_r2:q"]), (100, 100), "{order:?} {granted:?}");
        assert_eq!(granted["plan:in_y:y"], 10, "{order:?}");
        // A third of the first period had passed.
        assert_eq!(shelf.granted_micro() / ONE, 100 + 33 + 10 + 200, "{order:?}");
    }
    // It is moved again within a renewal: a third of that had passed.
    let mut shelf = beside_a_year();
    facts[..4].iter().for_each(|fact| drop(shelf.paid(fact)));
    shelf.paid(&moved("in_b", "q", 6000, third + 10 * DAY, third + 30 * DAY));
    assert_eq!(shelf.granted()["plan:in_b:q"], 33);
}

#[test]
fn a_better_plan_that_is_added_takes_nothing_from_the_renewals_of_the_other() {
    let mut shelf = with(|_| {});
    shelf.paid(&cycle(0, "p", 3000));
    let at = START + 20 * DAY;
    shelf.paid(&invoice("in_q", "subscription_update", at, vec![line("q", 72_000, at, at + 365 * DAY)]));
    shelf.paid(&cycle(1, "p", 3000));
    assert_eq!((shelf.granted()["plan:in_q:q"], shelf.granted()["plan:in_1:p"]), (100, 30));
    // What is added with the billing date of the other moved, on one invoice.
    let mut shelf = beside_a_year();
    shelf.paid(&cycle(0, "q", 6000));
    let mut both = moved("in_a", "q", 6000, MID, END);
    both.lines.push(line("y", 12_000, MID, MID + 365 * DAY));
    shelf.paid(&both);
    assert_eq!((shelf.granted()["plan:in_a:q"], shelf.granted()["plan:in_a:y"]), (50, 10));
    assert_eq!(shelf.payments.0["sub_1"].0["plan:in_a:y"].replaces, None);
}

#[test]
fn a_plan_that_was_had_for_nothing_is_replaced_all_the_same() {
    let mut shelf = with(|_| {});
    shelf.paid(&cycle(0, "p", 0)); // the subscription is not on trial: a coupon
    let lines = vec![part("p", 0, MID, END), line("q", 6000, MID, MID + 30 * DAY)];
    shelf.paid(&invoice("in_q", "subscription_update", MID, lines));
    assert_eq!(shelf.granted_micro(), 115 * ONE);
}
