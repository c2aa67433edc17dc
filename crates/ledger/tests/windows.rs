//! Free allowances that refill: made when needed, exact at the boundary, never carried over.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod desk;
use desk::*;
use ledger::*;
use units::{Amount, Instant, Unit};

const MIDNIGHT: i64 = NOON + 43_200;

fn at(secs: i64) -> Desk {
    Desk { now: Instant::from_secs(secs), ..Desk::new() }
}

#[test]
fn f56_three_a_day_to_the_second() {
    let mut desk = at(MIDNIGHT - 1);
    for n in 0..3 {
        let status = desk.hold(H + n, vec![window(3)]).window.unwrap();
        assert_eq!(status.remaining.get(), 2 - i64::try_from(n).unwrap());
        assert_eq!(status.resets_at, Instant::from_secs(MIDNIGHT));
    }
    assert_eq!(desk.refused(H + 3, vec![window(3)]), Refusal::DailyLimitReached);
    desk.now = Instant::from_micros(MIDNIGHT * 1_000_000 - 1);
    assert_eq!(desk.refused(H + 3, vec![window(3)]), Refusal::DailyLimitReached);
    desk.now = Instant::from_secs(MIDNIGHT);
    assert_eq!(desk.held(H + 3, vec![window(3)]).cells[0].granted, Amount::ONE);
    let refs: Vec<&str> = desk.book.grants.values().map(|grant| grant.terms.source_ref.as_str()).collect();
    assert_eq!(refs, ["free#2026-11-20", "free#2026-11-21"]);
}

#[test]
fn f57_first_the_free_ones_then_the_bought() {
    let mut desk = Desk::with(100_000);
    let lanes: Vec<Option<usize>> =
        (0..4).map(|n| desk.held(H + n, vec![window(3), credits(1)]).lane).collect();
    assert_eq!(lanes, [Some(0), Some(0), Some(0), Some(1)]);
    assert_eq!(desk.shown(), 99_999);
}

#[test]
fn the_reason_tells_credits_used_up_from_a_free_allowance_used_up() {
    let lanes = || vec![window(1), credits(1)];
    let mut never = Desk::new();
    never.held(H, lanes());
    assert_eq!(never.refused(H + 1, lanes()), Refusal::DailyLimitReached);
    let mut spent = Desk::with(1);
    spent.held(H, lanes());
    spent.held(H + 1, lanes());
    assert_eq!(spent.refused(H + 2, lanes()), Refusal::InsufficientCredits);
    assert_eq!(spent.hold(H + 2, lanes()).window.unwrap().remaining, Amount::ZERO);
    assert_eq!(Desk::new().refused(H, vec![credits(1)]), Refusal::InsufficientCredits);
}

#[test]
fn t35_t42_t44_what_was_taken_before_midnight_returns_to_the_day_it_came_from() {
    let mut desk = at(MIDNIGHT - 1);
    let id = desk.held(H, vec![window(1)]).cells.remove(0).id;
    desk.after(2_000);
    desk.expire(CrashPolicy::Refund);
    let today = desk.held(H + 1, vec![window(1)]).cells.remove(0).id;
    assert_ne!(today.grant, id.grant);
    desk.finish(&id, 0);
    let (yesterday, grant) = (&desk.book.grants[&id.grant], &desk.book.grants[&today.grant]);
    assert_eq!((yesterday.expired, yesterday.avail), (Amount::ONE, Amount::ZERO));
    assert_eq!((grant.leased, grant.avail), (Amount::ONE, Amount::ZERO));
    assert_eq!(desk.refused(H + 2, vec![window(1)]), Refusal::DailyLimitReached);
}

#[test]
fn what_comes_back_of_yesterday_expires_and_was_never_available() {
    let mut desk = at(MIDNIGHT - 1);
    let id = desk.held(H, vec![window(1)]).cells.remove(0).id;
    desk.after(2_000).expire(CrashPolicy::Refund);
    let outcome = desk.act(&Command::Report(report(&id, totals(1, 1, 0, 1))));
    let lines: Vec<_> = outcome.changes.journal.iter().map(|line| (line.kind, line.amount.get())).collect();
    assert_eq!(
        lines,
        [(JournalKind::Expired, 1)],
        "the history of an account tells of no credit that it never had"
    );
}

#[test]
fn t35_late_usage_of_yesterday_is_written_off_and_not_taken_from_today() {
    let mut desk = at(MIDNIGHT - 1);
    let id = desk.held(H, vec![window(2)]).cells.remove(0).id;
    desk.after(2_000).expire(CrashPolicy::Refund);
    desk.after(60_000).expire(CrashPolicy::Refund);
    desk.held(H + 1, vec![window(2)]);
    let late = desk.finish(&id, 1).late.unwrap();
    assert_eq!((late.written_off, late.owed, late.covered), (Amount::ONE, Amount::ZERO, Amount::ZERO));
    desk.held(H + 2, vec![window(2)]);
}

#[test]
fn t31_a_limit_that_was_changed_holds_at_once() {
    let mut desk = Desk::new();
    let passed = |desk: &mut Desk, from: u64, limit: i64| {
        (from..from + 9)
            .filter(|n| matches!(desk.hold(H + n, vec![window(limit)]).decision, Decision::Granted(_)))
            .count()
    };
    assert_eq!(passed(&mut desk, 0, 3), 3);
    assert_eq!(passed(&mut desk, 10, 5), 2);
    assert_eq!(passed(&mut desk, 20, 2), 0);
    assert_eq!(passed(&mut desk, 30, 5), 0, "what is in flight was claimed back and is allowed again");
    assert_eq!(passed(&mut desk, 40, 6), 1);
    let before = bare(&desk.book);
    assert_eq!(passed(&mut desk, 50, 6), 0);
    assert_eq!(bare(&desk.book), before);
}

#[test]
fn t39_what_has_ended_is_never_drawn_whether_or_not_anything_expired_it() {
    let mut desk = Desk::new();
    let end = Instant::from_secs(NOON + 1);
    desk.grant(Terms { expires_at: end, ..terms(Source::Subscription, "plan", 9) });
    desk.grant(Terms { starts_at: Instant::from_secs(NOON + 9), ..terms(Source::Promo, "next", 9) });
    assert_eq!(desk.shown(), 9);
    desk.now = end;
    assert_eq!(desk.shown(), 0);
    assert_eq!(desk.refused(H, vec![credits(1)]), Refusal::InsufficientCredits);
    assert_eq!(desk.book.grants[&GrantId(1)].expired, amount(9));
    desk.after(8_000).held(H, vec![credits(9)]);
}

#[test]
fn time_never_goes_back_in_a_book() {
    let mut desk = at(MIDNIGHT);
    desk.held(H, vec![window(1)]);
    desk.now = Instant::from_secs(MIDNIGHT - 5);
    assert_eq!(desk.refused(H + 1, vec![window(1)]), Refusal::DailyLimitReached);
    assert_eq!(desk.book.grants.len(), 1);
}

#[test]
fn a_window_that_never_refills_is_used_up_for_good() {
    let lifetime = || {
        let mut lane = window(1);
        lane.legs[0].window.as_mut().unwrap().expires_at = Instant::FAR;
        lane.legs[0].window.as_mut().unwrap().starts_at = Instant::from_secs(1);
        vec![lane]
    };
    let mut desk = Desk::new();
    desk.held(H, lifetime());
    let refused = desk.refused(H + 1, lifetime());
    assert_eq!(refused, Refusal::InsufficientCredits, "waiting for another day does not help");
    desk.after(1_000 * 86_400_000);
    assert_eq!(desk.refused(H + 2, lifetime()), Refusal::InsufficientCredits);
    assert_eq!(desk.book.grants.len(), 1);
}

#[test]
fn a_window_of_another_time_is_a_mistake_of_the_callers() {
    let mut desk = Desk::new();
    let mut lane = window(1);
    lane.legs[0].window =
        Some(WindowRule::utc_day("free", Amount::ONE, 0, Instant::from_secs(NOON - 86_400)));
    let command = Command::Need(need(Mode::Hold { generation: H }, vec![lane], false));
    assert!(matches!(step(&mut desk.book, &mut desk.ids, desk.now, &command), Err(Bug::Misuse { .. })));
}

#[test]
fn t41_what_begins_at_the_instant_at_which_something_ends_counts_from_then() {
    for purchase_first in [true, false] {
        let mut desk = at(MIDNIGHT - 1);
        let end = Instant::from_secs(MIDNIGHT);
        let old = Terms { expires_at: end, priority: 1, ..terms(Source::Subscription, "old", 5) };
        let new = Terms { starts_at: end, priority: 1, ..terms(Source::Subscription, "new", 7) };
        for terms in if purchase_first { [new, old] } else { [old, new] } {
            desk.grant(terms);
        }
        desk.now = Instant::from_micros(MIDNIGHT * 1_000_000 - 1);
        assert_eq!(desk.shown(), 5);
        desk.now = end;
        // Bought at that instant, and used at it.
        desk.grant(terms(Source::Purchase, "buy:1", 2));
        assert_eq!(desk.shown(), 9);
        desk.held(H, vec![credits(9)]);
        assert_eq!(desk.held(H + 1, vec![window(1)]).cells[0].granted, Amount::ONE);
        assert_eq!(desk.refused(H + 2, vec![window(1)]), Refusal::DailyLimitReached);
        let expired: i64 = desk.book.grants.values().map(|grant| grant.expired.get()).sum();
        assert_eq!((desk.shown(), expired), (0, 5));
    }
}

/// A lease of credits went soft unreported; what pays then is a window, and its answer has one price in one unit.
#[test]
fn what_a_window_pays_for_is_answered_with_nothing_but_the_window() {
    let mut desk = at(MIDNIGHT - 60);
    desk.grant(terms(Source::Purchase, "buy:1", 100));
    let lease = || Mode::Lease { generation_min: 1 };
    let granted = |answer: NeedAnswer| match answer.decision {
        Decision::Granted(granted) => granted,
        other => panic!("{other:?}"),
    };
    let lent = granted(desk.need(need(lease(), vec![credits(1)], false)));
    desk.after(TIMING.ttl.plus(TIMING.grace).millis()).expire(CrashPolicy::Refund);
    assert_eq!(desk.state(&lent.cells[0].id), CellState::Soft);
    let answer = granted(desk.need(need(lease(), vec![window(3), credits(1)], false)));
    assert!(answer.cells.iter().all(|cell| cell.unit == Unit::Requests), "{:?}", answer.cells);
    // Credits are told of when credits pay.
    let answer = granted(desk.need(need(lease(), vec![credits(1)], false)));
    assert!(answer.cells.iter().any(|cell| cell.id == lent.cells[0].id && !cell.keep));
}

/// Two needs of one message: the first is lent the last credit, the second could be paid by the window.
#[test]
fn what_is_spoken_for_in_credits_is_no_reason_to_pass_a_window_over() {
    let mut desk = at(NOON);
    desk.grant(terms(Source::Purchase, "buy:1", 1));
    let lease = |lanes| need(Mode::Lease { generation_min: 1 }, lanes, false);
    assert!(matches!(desk.need(lease(vec![credits(1)])).decision, Decision::Granted(_)));
    let lanes = || [vec![window(3)], spoken(Amount::ONE, vec![credits(1)])].concat();
    let Decision::Granted(granted) = desk.need(lease(lanes())).decision else { panic!("three are free") };
    assert_eq!((granted.lane, granted.unit), (Some(0), Unit::Requests));
    // Nor the other way round, and what is spoken for in its own kind still is.
    let taken = [spoken(amount(3), vec![window(3)]), spoken(Amount::ONE, vec![credits(1)])].concat();
    assert!(matches!(desk.need(lease(taken)).decision, Decision::Refused(_)));
    let taken = [spoken(amount(3), vec![window(3)]), vec![credits(1)]].concat();
    let Decision::Granted(granted) = desk.need(lease(taken)).decision else { panic!("a credit is free") };
    assert_eq!((granted.lane, granted.unit), (Some(1), Unit::Credits));
}

#[test]
fn midnight_makes_no_room_for_more_requests_at_once() {
    let mut desk = at(MIDNIGHT - 10);
    let of_two =
        |generation| Need { at_once: Some(2), ..need(Mode::Hold { generation }, vec![window(9)], false) };
    let granted = |answer: NeedAnswer| match answer.decision {
        Decision::Granted(granted) => granted,
        other => panic!("{other:?}"),
    };
    let first = granted(desk.need(of_two(H)));
    granted(desk.need(of_two(H + 1)));
    desk.after(10_000).expire(CrashPolicy::Refund);
    assert_eq!(desk.state(&first.cells[0].id), CellState::Soft, "its window is over, and its request is not");
    let crowded = desk.need(of_two(H + 2)).decision;
    let Decision::Refused(refused) = crowded else { panic!("{crowded:?}") };
    assert_eq!(refused.refusal, Refusal::ConcurrencyLimitReached);
    desk.finish(&first.cells[0].id, 1);
    granted(desk.need(of_two(H + 2)));
}
