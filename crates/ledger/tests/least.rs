//! Needs that less does for: what there is, at least so much, and only where all of it cannot be had by waiting.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod desk;
use desk::*;
use ledger::*;
use units::{Amount, Instant, Unit};

fn lease(n: u8, ahead: i64, lanes: Vec<Lane>) -> Need {
    let (mode, lanes) = (Mode::Lease { generation_min: 1 }, spoken(amount(ahead), lanes));
    Need { node: node(n), ..need(mode, lanes, false) }
}

fn granted(answer: NeedAnswer) -> Granted {
    match answer.decision {
        Decision::Granted(granted) => granted,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_there_is_is_held_if_it_is_enough_and_else_nothing() {
    let mut desk = Desk::with(10);
    let held = desk.held(H, vec![at_least(40, 10)]);
    assert_eq!((held.hold, held.cells[0].held, held.lane), (amount(10), amount(10), Some(0)));
    assert_eq!(desk.shown(), 0);
    // Told again, it is the same hold, whatever came since.
    desk.grant(terms(Source::Purchase, "buy:2", 9));
    let again = desk.held(H, vec![at_least(40, 10)]);
    assert_eq!((again.hold, &again.cells), (amount(10), &held.cells));
    let answer = desk.hold(H + 1, vec![at_least(40, 10)]);
    let refused = Refused { refusal: Refusal::InsufficientCredits, required: Some(amount(10)) };
    assert_eq!(answer.decision, Decision::Refused(refused));
    assert_eq!(desk.shown(), 9);
    assert_eq!(desk.held(H + 2, vec![at_least(9, 1)]).hold, amount(9), "what is there whole is taken whole");
}

#[test]
fn all_that_there_is_comes_in_burn_order_and_debt_is_left_out() {
    let mut desk = Desk::new();
    let soon = Instant::from_secs(NOON + 3600);
    desk.grant(Terms { priority: 5, ..terms(Source::Promo, "last", 10) });
    desk.grant(Terms { priority: 1, expires_at: soon, ..terms(Source::Promo, "first", 4) });
    desk.book.account.debt = amount(3);
    let held = desk.held(H, vec![at_least(100, 1)]);
    let taken: Vec<(u64, i64)> = held.cells.iter().map(|c| (c.id.grant.0, c.granted.get())).collect();
    assert_eq!((held.hold, taken), (amount(11), vec![(2, 4), (1, 7)]));
}

#[test]
fn a_later_lane_that_is_whole_comes_before_less_of_an_earlier_one() {
    let mut desk = Desk::with(5);
    let held = desk.held(H, vec![at_least(10, 1), window(1)]);
    assert_eq!((held.lane, held.unit), (Some(1), Unit::Requests));
    let held = desk.held(H + 1, vec![at_least(10, 1), window(1)]);
    assert_eq!((held.lane, held.hold), (Some(0), amount(5)));
    // All legs of a lane, or none.
    let both = || vec![Lane { legs: [window(1).legs, at_least(10, 1).legs].concat() }];
    let mut desk = Desk::with(5);
    let held = desk.held(H, both());
    assert_eq!((held.hold, held.cells.len()), (Amount::ONE, 2));
    desk.grant(terms(Source::Purchase, "buy:2", 5));
    assert_eq!(desk.refused(H + 1, both()), Refusal::InsufficientCredits);
    assert_eq!(desk.shown(), 5);
}

#[test]
fn one_that_waits_is_told_to_as_long_as_waiting_may_bring_more() {
    let mut desk = Desk::with(10);
    let other = desk.held(H, vec![credits(6)]).cells.remove(0).id;
    let ask = |wait| need(Mode::Hold { generation: H + 1 }, vec![at_least(10, 1)], wait);
    assert_eq!(desk.need(ask(true)).decision, Decision::Retry);
    assert_eq!(desk.shown(), 4, "nothing was taken");
    // What may come back does not make it whole: nothing is to be waited for.
    let more = need(Mode::Hold { generation: H + 2 }, vec![at_least(11, 5)], true);
    assert_eq!(
        desk.need(more).decision,
        Decision::Retry,
        "though less than that would do, and is not there yet"
    );
    let never = need(Mode::Hold { generation: H + 3 }, vec![at_least(11, 11)], true);
    assert!(matches!(desk.need(never).decision, Decision::Refused(_)));
    let enough = need(Mode::Hold { generation: H + 4 }, vec![at_least(11, 4)], true);
    assert_eq!(granted(desk.need(enough)).hold, amount(4));
    desk.abandon(H + 4);
    assert_eq!(granted(desk.need(ask(false))).hold, amount(4), "the last time, what there is");
    desk.finish(&other, 6);
}

#[test]
fn others_are_asked_for_what_they_do_not_use() {
    let mut desk = Desk::with(10);
    desk.need(lease(2, 0, vec![credits(6)]));
    let ask = Need { wait: false, ..need(Mode::Hold { generation: H }, vec![at_least(10, 1)], false) };
    let outcome = desk.act(&Command::Need(ask));
    let recalls = |effect: &Effect| matches!(effect, Effect::Note { kind: NoteKind::Recall, .. });
    assert!(outcome.effects.iter().any(recalls), "{:?}", outcome.effects);
    let Reply::Need(answer) = outcome.reply else { panic!() };
    assert_eq!(granted(*answer).hold, amount(4));
}

#[test]
fn a_lease_takes_what_there_is_beside_what_is_free_and_spoken_for() {
    let mut desk = Desk::with(20);
    let first = granted(desk.need(lease(1, 0, vec![at_least(15, 1)])));
    assert_eq!((first.hold, first.cells[0].granted), (amount(15), amount(15)));
    // The first need has the 15; 5 are left for the second.
    let second = granted(desk.need(lease(1, 15, vec![at_least(15, 5)])));
    assert_eq!((second.hold, second.cells[0].granted), (amount(5), amount(20)));
    // Asked again, each finds what it was given.
    assert_eq!(granted(desk.need(lease(1, 0, vec![at_least(15, 1)]))).hold, amount(15));
    assert_eq!(granted(desk.need(lease(1, 15, vec![at_least(15, 5)]))).hold, amount(5));
    assert!(matches!(desk.need(lease(1, 20, vec![at_least(15, 1)])).decision, Decision::Refused(_)));
    assert!(matches!(desk.need(lease(1, 16, vec![at_least(15, 5)])).decision, Decision::Refused(_)));
    // Another process gets nothing of it.
    assert!(matches!(desk.need(lease(2, 0, vec![at_least(15, 1)])).decision, Decision::Refused(_)));
}

#[test]
fn what_nobody_can_have_is_refused_and_no_bug() {
    let mut desk = Desk::with(10);
    let most = Amount::MAX.get();
    assert!(matches!(desk.need(lease(1, 5, vec![credits(most)])).decision, Decision::Refused(_)));
    let held = granted(desk.need(lease(1, 4, vec![at_least(most, 1)])));
    assert_eq!((held.hold, held.cells[0].granted), (amount(6), amount(10)));
    assert!(matches!(desk.need(lease(2, most, vec![at_least(most, 1)])).decision, Decision::Refused(_)));
}

#[test]
fn what_is_held_for_a_dispute_is_said_to_be_where_it_would_do() {
    let mut desk = Desk::with(10);
    let frozen = TakeBack {
        target: VoidTarget::Grant(GrantId(1)),
        revoked: Amount::ZERO,
        frozen: amount(10),
        shortfall: Shortfall::Debt,
    };
    desk.act(&Command::TakeBack(frozen));
    assert_eq!(desk.refused(H, vec![at_least(40, 10)]), Refusal::DisputedHold);
    assert_eq!(desk.refused(H + 1, vec![at_least(40, 11)]), Refusal::InsufficientCredits);
}

#[test]
fn a_least_of_nothing_or_above_the_need_is_a_mistake_of_the_caller() {
    for least in [0, 6] {
        let mut desk = Desk::with(10);
        let ask = need(Mode::Hold { generation: H }, vec![at_least(5, least)], false);
        let done = step(&mut desk.book, &mut desk.ids, desk.now, &Command::Need(ask));
        assert!(matches!(done, Err(Bug::Misuse { .. })), "{least}: {done:?}");
    }
}
