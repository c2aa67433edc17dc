//! Months of longer periods where plans change, and periods that a change cut off: what was paid back brings no more, what was
//! paid for brings all.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod shelf;

use ledger::subscription::*;
use ledger::*;
use shelf::*;
use units::{Amount, Instant, Unit};

/// A year of a plan that refills by the month, paid on its first day.
fn year(id: &str, price: &str, from: &str, until: &str) -> InvoicePaid {
    let line = line(price, 36_000, day(from).secs(), day(until).secs());
    invoice(id, "subscription_create", day(from).secs(), vec![line])
}

/// From now on another whole period, with the rest of the old plan's paid back.
fn anew(id: &str, (old, new): (&str, &str), at: &str, until: &str, end: &str) -> InvoicePaid {
    let (at, until) = (day(at).secs(), day(until).secs());
    let lines = vec![part(old, -20_000, at, day(end).secs()), line(new, 36_000, at, until)];
    invoice(id, "subscription_update", at, lines)
}

fn started(price: &str) -> Shelf {
    let mut shelf = Shelf::new(policy(|it| it.refill = Refill::Monthly));
    shelf.told(snapshot(price, "active", day("2026-01-15").secs()));
    shelf.paid(&year("in_y", price, "2026-01-15", "2027-01-15"));
    shelf
}

fn refills(shelf: &Shelf, invoice: &str) -> usize {
    let prefix = format!("refill:{invoice}:");
    shelf.granted().keys().filter(|origin| origin.starts_with(&prefix)).count()
}

#[test]
fn a_year_that_was_cut_off_brings_nothing_beside_what_came_after_it() {
    let mut shelf = started("p");
    shelf.until(day("2026-04-20"));
    assert_eq!(refills(&shelf, "in_y"), 3);
    // To the same plan by the month, then three renewals.
    shelf.paid(&anew("in_m", ("p", "p"), "2026-04-20", "2026-05-20", "2027-01-15"));
    let months = ["2026-05-20", "2026-06-20", "2026-07-20", "2026-08-20"];
    for (n, (from, until)) in months.iter().zip(&months[1..]).enumerate() {
        shelf.until(day(from));
        let lines = vec![line("p", 3000, day(from).secs(), day(until).secs())];
        shelf.paid(&invoice(&format!("in_{n}"), "subscription_cycle", day(from).secs(), lines));
    }
    shelf.until(day("2026-12-20"));
    assert_eq!(refills(&shelf, "in_y"), 3, "{:?}", shelf.granted());
}

#[test]
fn a_year_that_became_a_plan_without_credits_brings_no_more_months() {
    let mut shelf = started("p");
    shelf.until(day("2026-04-20"));
    shelf.paid(&anew("in_b", ("p", "b"), "2026-04-20", "2026-05-20", "2027-01-15"));
    shelf.until(day("2026-12-20"));
    assert_eq!(refills(&shelf, "in_y"), 3, "{:?}", shelf.granted());
}

#[test]
fn a_year_of_months_after_another_plan_and_back_brings_all_of_its_months() {
    let mut shelf = started("p");
    shelf.paid(&anew("in_q", ("p", "q"), "2026-02-20", "2027-02-20", "2027-01-15"));
    shelf.paid(&anew("in_p", ("q", "p"), "2026-03-25", "2027-03-25", "2027-02-20"));
    shelf.until(day("2027-03-20"));
    assert_eq!((refills(&shelf, "in_y"), refills(&shelf, "in_q"), refills(&shelf, "in_p")), (1, 1, 11));
}

#[test]
fn a_plan_without_credits_that_is_upgraded_has_the_better_ones_months() {
    let mut shelf = started("b");
    let (at, end) = (day("2026-06-15").secs(), day("2027-01-15").secs());
    let lines = vec![part("b", -6_000, at, end), part("q", 40_000, at, end)];
    shelf.until(day("2026-06-15"));
    shelf.paid(&invoice("in_up", "subscription_update", at, lines));
    shelf.until(day("2027-01-10"));
    let months = shelf.granted().keys().filter(|origin| origin.starts_with("refill:in_y:b:")).count();
    // From 15 July to 15 December; that of June came with the upgrade itself.
    assert_eq!((months, shelf.granted()["upgrade:in_up"]), (6, 100), "{:?}", shelf.granted());
}

#[test]
fn what_is_replaced_is_a_plan_whatever_is_paid_back_beside_it() {
    let mut shelf = started("p");
    shelf.until(day("2026-04-20"));
    let mut invoice = anew("in_q", ("p", "q"), "2026-04-20", "2027-04-20", "2027-01-15");
    invoice.lines.insert(0, part("price_addon", -100, day("2026-04-20").secs(), day("2027-01-15").secs()));
    shelf.paid(&invoice);
    shelf.until(day("2026-12-20"));
    assert_eq!(refills(&shelf, "in_y"), 3, "{:?}", shelf.granted());
}

#[test]
fn a_change_that_was_paid_back_changes_no_more_months_and_one_whose_refund_failed_does() {
    for (back, then) in [(&[][..], 100), (&[true], 30), (&[true, false], 100)] {
        let mut shelf = started("p");
        let (at, end) = (day("2026-01-30").secs(), day("2027-01-15").secs());
        let lines = vec![part("p", -34_000, at, end), part("q", 68_000, at, end)];
        shelf.paid(&invoice("in_up", "subscription_update", at, lines));
        for stopped in back {
            assert_eq!(shelf.payments.stop("in_up", *stopped), ["sub_1"]);
            assert_eq!(shelf.payments.stop("in_up", *stopped), [""; 0], "once");
        }
        shelf.until(day("2026-02-20"));
        assert_eq!(shelf.granted()["refill:in_y:p:1"], then, "{back:?}");
    }
}

#[test]
fn a_change_that_is_billed_apart_brings_its_credits_in_the_month_in_which_it_is_paid() {
    for reason in ["automatic_pending_invoice_item_invoice", "manual", "subscription_threshold"] {
        let mut shelf = started("p");
        let (at, end) = (day("2026-01-30").secs(), day("2027-01-15").secs());
        shelf.until(day("2026-02-20"));
        let lines = vec![part("p", -34_000, at, end), part("q", 68_000, at, end)];
        let change = invoice("in_up", reason, day("2026-02-20").secs(), lines);
        assert_eq!(shelf.paid(&change), [Withheld::Proration, Withheld::Proration], "{reason}");
        // 16 of the 31 days of the month in which the plan was changed, beside the 30 of the one that it is now.
        assert_eq!(shelf.granted()["upgrade:in_up"], 70 * 16 / 31, "{reason}");
        assert_eq!(shelf.left_micro() / ONE, 30 + 70 * 16 / 31, "{reason}");
        shelf.until(day("2026-03-20"));
        assert_eq!((shelf.granted()["refill:in_y:p:2"], shelf.left()), (100, 100), "{reason}");
    }
}

#[test]
fn a_change_in_a_period_that_began_anew_brings_its_whole_difference() {
    let mut shelf = Shelf::new(policy(|it| it.on_upgrade = OnUpgrade::FullDelta));
    shelf.told(snapshot("p", "active", START));
    shelf.paid(&cycle(0, "p", 3000));
    let (at, end) = (START + 16 * DAY, START + 46 * DAY);
    let lines = vec![part("p", -1400, at, END), line("q", 6000, at, end)];
    shelf.paid(&invoice("in_q", "subscription_update", at, lines));
    assert_eq!(shelf.granted()["plan:in_q:q"], 86, "of the 30 of the first period 16 days had passed");
    // After the first period is over: it does not meet this change, and counts all the same.
    let at = START + 31 * DAY;
    let lines = vec![part("q", -3000, at, end), part("r", 6000, at, end)];
    shelf.paid(&invoice("in_r", "subscription_update", at, lines));
    assert_eq!(shelf.granted()["upgrade:in_r"], 100);
}

#[test]
fn what_was_paid_back_takes_no_room_and_gets_none_that_was_taken_meanwhile() {
    for (rule, first, then) in
        [(OnUpgrade::ProratedDelta, 63, 56), (OnUpgrade::FullDelta, 70, 70), (OnUpgrade::Reset, 70, 70)]
    {
        let mut shelf = Shelf::new(policy(|it| it.on_upgrade = rule));
        shelf.told(snapshot("p", "active", START));
        shelf.paid(&cycle(0, "p", 3000));
        shelf.paid(&upgrade("in_a", START + 3 * DAY));
        assert_eq!(shelf.granted()["upgrade:in_a"], first, "{rule:?}");
        shelf.payments.stop("in_a", true);
        // Its refund fails at once: all of it is the customer's.
        let mut failed = shelf.clone();
        failed.payments.stop("in_a", false);
        assert_eq!(failed.payments.held_back("upgrade:in_a"), Amount::ZERO, "{rule:?}");
        assert!(failed.paid(&upgrade("in_b", START + 6 * DAY)).contains(&Withheld::Capped) || first == 63);
        // It fails when another change has brought what one period may.
        shelf.paid(&upgrade("in_b", START + 6 * DAY));
        assert_eq!(shelf.granted()["upgrade:in_b"], then, "{rule:?}");
        assert_eq!(shelf.payments.held_back("upgrade:in_a"), Amount::ZERO, "{rule:?}");
        shelf.payments.stop("in_a", false);
        let kept = credits(first).saturating_sub(shelf.payments.held_back("upgrade:in_a"));
        assert_eq!(kept, credits(70 - then), "{rule:?}");
        assert_eq!(shelf.paid(&upgrade("in_c", START + 9 * DAY)).last(), Some(&Withheld::Capped), "{rule:?}");
        shelf.payments.stop("in_a", true);
        assert_eq!(shelf.payments.held_back("upgrade:in_a"), Amount::ZERO, "{rule:?}");
    }
}

/// None of a year of P from 10 February on, told in time.
fn none_of_it(rollover: Rollover) -> Shelf {
    let mut shelf = Shelf::new(policy(|it| (it.refill, it.rollover) = (Refill::Monthly, rollover)));
    shelf.told(snapshot("p", "active", day("2026-01-15").secs()));
    shelf.paid(&year("in_y", "p", "2026-01-15", "2027-01-15"));
    shelf.until(day("2026-02-10"));
    let mut none = snapshot("p", "active", day("2026-02-10").secs());
    none.items[0].quantity = 0;
    shelf.told(none);
    shelf
}

#[test]
fn a_year_of_which_none_is_subscribed_to_any_more_brings_no_months_however_it_ends() {
    for rollover in [Rollover::None, Rollover::All] {
        let mut shelf = none_of_it(rollover);
        shelf.until(day("2026-06-20"));
        assert_eq!((refills(&shelf, "in_y"), shelf.book.account.standing.stage), (0, Stage::NoSubscription));
        for items in [0, 1] {
            let mut shelf = shelf.clone();
            let mut canceled = snapshot("p", "canceled", day("2026-06-20").secs());
            canceled.items[0].quantity = items;
            shelf.told(canceled);
            assert_eq!(refills(&shelf, "in_y"), 0, "{rollover:?} {items} {:?}", shelf.granted());
        }
    }
}

#[test]
fn who_subscribes_again_has_the_months_that_begin_then_and_what_is_paid_for_the_rest_of_this_one() {
    for rollover in [Rollover::None, Rollover::All] {
        let mut shelf = none_of_it(rollover);
        let (again, end) = (day("2026-08-20").secs(), day("2027-01-15").secs());
        shelf.until(day("2026-08-20"));
        shelf.told(snapshot("p", "active", again));
        assert_eq!(refills(&shelf, "in_y"), 0, "{rollover:?}: the money of those months went back");
        shelf.paid(&invoice("in_up", "subscription_update", again, vec![part("p", 14_000, again, end)]));
        // 26 of the 31 days of the month of 15 August.
        assert_eq!(shelf.book.grants.values().last().unwrap().terms.amount.get(), 30 * ONE * 26 / 31);
        shelf.until(day("2026-12-20"));
        assert_eq!(refills(&shelf, "in_y"), 4, "from 15 September to 15 December");
    }
}

#[test]
fn when_there_was_none_of_it_is_known_in_whatever_order_that_is_told() {
    let told = |date: &str, quantity: u64| {
        let mut told = snapshot("p", "active", day(date).secs());
        told.items[0].quantity = quantity;
        told
    };
    let all = [told("2026-01-15", 1), told("2026-02-10", 0), told("2026-03-20", 1), told("2026-04-10", 1)];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
        let mut shelf = Shelf::new(policy(|it| (it.refill, it.rollover) = (Refill::Monthly, Rollover::All)));
        order.iter().for_each(|n| drop(shelf.subscriptions.fold(all[*n].clone(), &shelf.policy)));
        let kept = serde_json::to_string(&shelf.subscriptions).unwrap();
        shelf.subscriptions = serde_json::from_str(&kept).unwrap();
        shelf.paid(&year("in_y", "p", "2026-01-15", "2027-01-15"));
        shelf.until(day("2026-05-20"));
        assert_eq!(shelf.refilled(), ["2026-01-15", "2026-04-15", "2026-05-15"], "{order:?}");
    }
}

#[test]
fn however_often_it_is_told_what_was_told_of_the_time_that_counts_is_kept() {
    let mut shelf = none_of_it(Rollover::All);
    shelf.until(day("2026-03-20"));
    for n in 0..300 {
        shelf.told(snapshot("p", "active", day("2026-03-20").secs() + n));
    }
    shelf.until(day("2026-05-20"));
    assert_eq!(shelf.refilled(), ["2026-01-15", "2026-04-15", "2026-05-15"]);
    assert!(serde_json::to_string(&shelf.subscriptions).unwrap().len() < 4_000);
}

#[test]
fn a_year_that_was_granted_whole_is_not_granted_again_by_the_month() {
    let mut shelf = Shelf::new(policy(|_| {}));
    shelf.told(snapshot("p", "active", day("2026-01-15").secs()));
    shelf.paid(&year("in_y", "p", "2026-01-15", "2027-01-15"));
    // From today the catalog says that the plan refills by the month.
    shelf.policy = policy(|it| it.refill = Refill::Monthly);
    shelf.until(day("2026-06-20"));
    assert_eq!(refills(&shelf, "in_y"), 0, "{:?}", shelf.granted());
}

#[test]
fn lines_of_one_price_and_period_are_one() {
    let mut shelf = Shelf::new(policy(|it| it.per_seat = true));
    shelf.told(snapshot("p", "active", START));
    let seats = |quantity| InvoiceLine { quantity, ..line("p", 3000, START, END) };
    shelf.paid(&invoice("in_1", "subscription_create", START, vec![seats(10), seats(5)]));
    assert_eq!(shelf.granted()["plan:in_1:p"], 450);
}

#[test]
fn a_trial_with_a_fee_beside_it_is_a_trial_in_either_order() {
    let trial = Snapshot { trial_end: Some(secs(START + 7 * DAY)), ..snapshot("p", "trialing", START) };
    let mut fee = invoice("in_t", "subscription_create", START, vec![line("p", 0, START, START + 7 * DAY)]);
    fee.amount_paid = 500;
    for told_first in [true, false] {
        let mut shelf = Shelf::new(policy(|_| {}));
        let mut first = None;
        if told_first {
            shelf.told(trial.clone());
        } else {
            first = Some(shelf.paid(&fee));
            shelf.told(trial.clone());
        }
        shelf.paid(&fee);
        assert_eq!(shelf.granted()["plan:in_t:p"], 5, "{told_first} {first:?}");
    }
}

/// Somebody buys, spends and has something taken back within each month: the month's own credits come once all the same.
#[test]
fn t40_what_comes_every_month_comes_once_whatever_else_changes_in_it() {
    let mut shelf = started("p");
    for (month, days) in ["2026-01", "2026-02", "2026-03"].into_iter().zip([18, 16, 17]) {
        for (n, date) in [days, days + 2, days + 4].into_iter().enumerate() {
            shelf.until(day(&format!("{month}-{date}")));
            let terms = Terms {
                unit: Unit::Credits,
                scope: String::new(),
                source: Source::Purchase,
                source_ref: format!("buy:{month}:{n}"),
                priority: 1,
                starts_at: shelf.now,
                expires_at: Instant::FAR,
                amount: credits(7),
            };
            assert!(matches!(shelf.act(&Command::Grant(terms)), Reply::Grant(GrantAnswer::Made { .. })));
            shelf.restand();
            assert_eq!(shelf.left(), 30 + 7);
            shelf.use_up(3);
            shelf.restand();
            let origin = Origin {
                unit: Unit::Credits,
                source: Source::Purchase,
                source_ref: format!("buy:{month}:{n}"),
            };
            let target = VoidTarget::Origin(origin);
            shelf.act(&Command::Void(Void { target, upto: Upto::All, shortfall: Shortfall::WriteOff }));
            shelf.restand();
            assert_eq!(shelf.left(), 30);
        }
    }
    // The first month came with the payment itself.
    assert_eq!(refills(&shelf, "in_y"), 2);
}

#[test]
fn t43_a_trial_over_the_end_of_a_month_is_one_allowance() {
    for (from, until) in
        [("2026-01-28", "2026-02-04"), ("2026-02-27", "2026-04-01"), ("2026-12-31", "2027-01-01")]
    {
        for refill in [Refill::Monthly, Refill::Period] {
            let mut shelf = Shelf::new(policy(|it| (it.refill, it.rollover) = (refill, Rollover::All)));
            let mut trial = snapshot("p", "trialing", day(from).secs());
            trial.trial_end = Some(day(until));
            (trial.items[0].period_start, trial.items[0].period_end) = (day(from), day(until));
            shelf.told(trial);
            let line = line("p", 0, day(from).secs(), day(until).secs());
            shelf.paid(&invoice("in_t", "subscription_create", day(from).secs(), vec![line]));
            assert_eq!(shelf.left(), 5, "{from}");
            shelf.use_up(5);
            shelf.until(day(until));
            assert_eq!((shelf.left(), shelf.granted().len()), (0, 1), "{from} {refill:?}");
        }
    }
}
