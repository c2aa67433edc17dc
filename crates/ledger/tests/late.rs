//! Changes of plan that are paid late: they bring what can still be spent, or wait for a person.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod shelf;

use ledger::subscription::*;
use shelf::*;

fn with(edit: impl Fn(&mut Allowance)) -> Shelf {
    let mut shelf = Shelf::new(policy(edit));
    shelf.told(snapshot("p", "active", START));
    shelf.paid(&cycle(0, "p", 3000));
    shelf
}

#[test]
fn a_change_that_is_paid_when_its_period_and_grace_are_over_waits_for_a_person() {
    for reason in ["subscription_update", "manual", "automatic_pending_invoice_item_invoice"] {
        for (paid_at, late) in [(END + 3 * DAY - 1, false), (END + 3 * DAY, true), (END + 8 * DAY, true)] {
            let mut shelf = with(|_| {});
            shelf.until(secs(paid_at));
            let mut change = upgrade("in_up", MID);
            (change.billing_reason, change.paid_at) = (reason.to_owned(), secs(paid_at));
            let told = shelf.paid(&change);
            assert_eq!(told.contains(&Withheld::Late), late, "{reason} {told:?}");
            assert_eq!(shelf.granted_micro(), if late { 30 * ONE } else { 65 * ONE }, "{reason}");
            assert_eq!(shelf.paid(&change).contains(&Withheld::Late), late, "{reason}, told again");
        }
    }
}

#[test]
fn a_change_that_is_paid_when_the_next_period_was_paid_waits_for_a_person() {
    let mut shelf = with(|_| {});
    shelf.until(secs(END + 60));
    shelf.paid(&cycle(1, "q", 6000));
    let mut change = upgrade("in_up", MID);
    change.paid_at = secs(END + DAY);
    assert_eq!(shelf.paid(&change).last(), Some(&Withheld::Late));
    assert_eq!((shelf.left(), shelf.granted_micro()), (100, 130 * ONE));
    // Told late, and paid in time: it could have been spent.
    change.paid_at = secs(MID);
    assert_eq!(shelf.paid(&change), [Withheld::Proration, Withheld::Proration]);
}

#[test]
fn what_never_ends_is_never_late_and_what_brings_nothing_is_not_either() {
    let late = |shelf: &mut Shelf, mut change: InvoicePaid| {
        change.paid_at = secs(END + 8 * DAY);
        shelf.paid(&change)
    };
    for rollover in [Rollover::All, Rollover::Cap(credits(200))] {
        let mut shelf = with(|it| it.rollover = rollover);
        assert!(!late(&mut shelf, upgrade("in_up", MID)).contains(&Withheld::Late));
        assert_eq!(shelf.left(), 65, "{rollover:?}");
    }
    let mut shelf = with(|_| {});
    assert_eq!(late(&mut shelf, downgrade("in_down", MID)).last(), Some(&Withheld::NoUpgrade));
}

#[test]
fn of_a_year_of_months_it_is_spent_in_the_month_in_which_it_is_paid() {
    for reason in ["subscription_update", "manual"] {
        let mut shelf = Shelf::new(policy(|it| it.refill = Refill::Monthly));
        shelf.told(snapshot("p", "active", START));
        let end = day("2027-01-15").secs();
        shelf.paid(&invoice("in_y", "subscription_create", START, vec![line("p", 36_000, START, end)]));
        let (at, paid_at) = (day("2026-01-30").secs(), day("2026-03-20").secs());
        shelf.until(secs(paid_at));
        let mut change =
            invoice("in_up", reason, paid_at, vec![part("p", -34_000, at, end), part("q", 68_000, at, end)]);
        change.paid_at = secs(paid_at);
        let told = shelf.paid(&change);
        // 16 of the 31 days of the month in which the plan was changed, beside the 30 of the one that it is now.
        assert_eq!(shelf.left_micro() / ONE, 30 + 70 * 16 / 31, "{reason} {told:?}");
        shelf.until(day("2026-04-20"));
        assert_eq!(shelf.left(), 100, "{reason}");
    }
}

#[test]
fn what_was_paid_in_its_month_and_is_told_in_the_next_is_not_late() {
    let mut shelf = Shelf::new(policy(|it| it.refill = Refill::Monthly));
    shelf.told(snapshot("p", "active", START));
    let (at, end) = (day("2026-01-30").secs(), day("2027-01-15").secs());
    shelf.paid(&invoice("in_y", "subscription_create", START, vec![line("p", 36_000, START, end)]));
    shelf.until(day("2026-02-20"));
    let lines = vec![part("p", -34_000, at, end), part("q", 68_000, at, end)];
    let told = shelf.paid(&invoice("in_up", "subscription_update", at, lines));
    assert_eq!(told, [Withheld::Proration, Withheld::Proration]);
    assert_eq!(shelf.granted()["upgrade:in_up"], 70 * 16 / 31);
}
