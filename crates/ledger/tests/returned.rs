//! What is paid back whole: what it ended stays ended, and what it left without room is not made up.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod shelf;

use ledger::subscription::*;
use ledger::*;
use shelf::*;
use units::{Amount, Unit};

fn with(edit: impl Fn(&mut Allowance)) -> Shelf {
    let mut shelf = Shelf::new(policy(edit));
    shelf.told(snapshot("p", "active", START));
    shelf.paid(&cycle(0, "p", 3000));
    shelf
}

/// Pays an invoice back whole, as a service does it, or not after all.
fn back(shelf: &mut Shelf, invoice: &str, is_back: bool) {
    shelf.payments.stop(invoice, is_back);
    let grants: Vec<(String, Amount)> =
        shelf.book.grants.values().map(|it| (it.terms.source_ref.clone(), it.terms.amount)).collect();
    for (source_ref, amount) in grants.into_iter().filter(|(origin, _)| origin.contains(invoice)) {
        let revoked = if is_back { amount } else { shelf.payments.held_back(&source_ref) };
        let target =
            VoidTarget::Origin(Origin { unit: Unit::Credits, source: Source::Subscription, source_ref });
        let (frozen, shortfall) = (Amount::ZERO, Shortfall::Debt);
        shelf.act(&Command::TakeBack(TakeBack { target, revoked, frozen, shortfall }));
    }
    shelf.restand();
}

#[test]
fn what_ended_with_a_renewal_stays_ended_if_that_is_paid_back_later() {
    let mut shelf = with(|it| it.rollover = Rollover::Cap(credits(35)));
    shelf.until(secs(END + 60));
    shelf.paid(&cycle(1, "p", 3000));
    assert_eq!(shelf.left(), 35);
    back(&mut shelf, "in_1", true);
    assert_eq!(shelf.left(), 5);
    // And the next one leaves it.
    shelf.until(secs(END + 30 * DAY + 60));
    shelf.paid(&cycle(2, "p", 3000));
    assert_eq!(shelf.left(), 35);
}

#[test]
fn a_change_that_cost_nothing_keeps_nobody_in_a_period_that_was_paid_back() {
    // Q for half of the period, and P for it: for less, for as much, for more.
    for (nets, tier) in [([-3000, 1500], None), ([-1500, 1500], None), ([-1500, 1501], Some("t2"))] {
        let mut shelf = Shelf::new(policy(|_| {}));
        shelf.told(snapshot("q", "active", START));
        shelf.paid(&cycle(0, "q", 6000));
        let lines = vec![part("q", nets[0], MID, END), part("p", nets[1], MID, END)];
        shelf.paid(&invoice("in_down", "subscription_update", MID, lines));
        shelf.told(snapshot("p", "active", MID));
        back(&mut shelf, "in_0", true);
        assert_eq!(shelf.book.account.standing.tier.as_ref().unwrap().as_str(), "t2", "it lives");
        shelf.told(snapshot("p", "canceled", MID + DAY));
        assert_eq!(shelf.book.account.standing.tier.as_ref().map(|tier| tier.as_str()), tier, "{nets:?}");
        back(&mut shelf, "in_0", false);
        assert_eq!(shelf.book.account.standing.tier.as_ref().unwrap().as_str(), "t2", "{nets:?}");
    }
    // With a line that does not say what it costs, it may have cost something.
    let mut free = downgrade("in_down", MID);
    free.lines[1].net = None;
    assert!(!free.cost_nothing());
}

#[test]
fn what_a_change_brought_less_before_another_was_paid_back_is_not_made_up() {
    let up = |id: &str, days: i64| upgrade(id, START + days * DAY);
    for (told_first, left) in [(true, 30 + 56), (false, 30 + 7)] {
        let mut shelf = with(|_| {});
        shelf.paid(&up("in_a", 3));
        if told_first {
            back(&mut shelf, "in_a", true);
        }
        shelf.paid(&up("in_b", 6));
        if !told_first {
            back(&mut shelf, "in_a", true);
        }
        assert_eq!(shelf.left(), left);
    }
}
