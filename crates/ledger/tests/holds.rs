//! Holds of single requests: exact, idempotent, settled once, never leaked, and refused for the right reason.
//! T-numbers name bugs of other systems that must not happen here.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod desk;
use desk::*;
use ledger::*;
use units::{Amount, Instant, NodeName, Unit};

#[test]
fn t01_credit_for_one_passes_one() {
    let mut desk = Desk::with(10);
    let passed =
        (0..200).filter(|n| matches!(desk.hold(H + n, vec![credits(1)]).decision, Decision::Granted(_)));
    assert_eq!(passed.count(), 10);
    assert_eq!(desk.shown(), 0);
}

#[test]
fn t05_the_cost_is_the_price_and_not_one() {
    let mut desk = Desk::with(30);
    desk.held(H, vec![credits(20)]);
    assert_eq!(desk.refused(H + 1, vec![credits(20)]), Refusal::InsufficientCredits);
}

#[test]
fn a_hold_is_charged_in_part_and_the_rest_goes_back_where_it_came_from() {
    let mut desk = Desk::with(100);
    let answer = desk.hold(H, vec![credits(40)]);
    assert_eq!((answer.balance.shown(), answer.balance.held.get()), (60, 40));
    let Decision::Granted(granted) = answer.decision else { panic!() };
    assert_eq!((granted.lane, granted.unit, granted.hold), (Some(0), Unit::Credits, amount(40)));
    let [cell] = granted.cells.as_slice() else { panic!() };
    assert_eq!((cell.granted, cell.held, cell.exposure), (amount(40), amount(40), Amount::ZERO));
    desk.finish(&cell.id, 15);
    assert_eq!(desk.shown(), 85);
    assert_eq!(desk.state(&cell.id), CellState::Closed);
}

#[test]
fn one_hold_spans_several_grants_in_burn_order() {
    let mut desk = Desk::new();
    let soon = Instant::from_secs(NOON + 3600);
    desk.grant(Terms { priority: 5, ..terms(Source::Purchase, "late-priority", 10) });
    desk.grant(Terms { priority: 1, ..terms(Source::Promo, "first-never-ends", 3) });
    desk.grant(Terms { priority: 1, expires_at: soon, ..terms(Source::Promo, "first-ends-soon", 4) });
    let granted = desk.held(H, vec![credits(9)]);
    let taken: Vec<(u64, i64)> = granted.cells.iter().map(|c| (c.id.grant.0, c.granted.get())).collect();
    assert_eq!(taken, [(3, 4), (2, 3), (1, 2)]);
    let again = desk.held(H, vec![credits(9)]);
    assert_eq!(again.cells, granted.cells, "the same cells, in the same order");
    assert_eq!((again.hold, desk.shown()), (amount(9), 8));
}

#[test]
fn of_two_grants_that_end_together_the_older_is_spent_first() {
    let mut desk = Desk::new();
    desk.grant(terms(Source::Purchase, "older", 2));
    desk.grant(terms(Source::Purchase, "newer", 2));
    let granted = desk.held(H, vec![credits(3)]);
    let taken: Vec<(u64, i64)> = granted.cells.iter().map(|c| (c.id.grant.0, c.granted.get())).collect();
    assert_eq!(taken, [(1, 2), (2, 1)]);
}

#[test]
fn t32_credits_that_arrive_void_what_gateways_remember_of_a_refusal() {
    let mut desk = Desk::with(1);
    assert_eq!(desk.refused(H, vec![credits(2)]), Refusal::InsufficientCredits);
    let before = desk.book.account.epoch;
    let outcome = desk.act(&Command::Grant(terms(Source::Purchase, "buy:2", 1)));
    let (payer, epoch) = (desk.book.account.id.clone(), desk.book.account.epoch);
    assert!(epoch > before, "or a gateway would take it for what it knows already");
    assert_eq!(outcome.effects, [Effect::Note { payer, epoch, kind: NoteKind::Replenished }]);
    desk.held(H, vec![credits(2)]);
}

#[test]
fn t16_t17_whatever_ends_a_request_its_hold_returns_to_nothing() {
    let mut desk = Desk::with(10);
    for n in 0..50 {
        let granted = desk.held(H + n, vec![credits(7)]);
        if n % 2 == 0 {
            desk.finish(&granted.cells[0].id, 0); // failed upstream
        } else {
            assert_eq!(desk.abandon(H + n), 7); // the client left while it waited
        }
        assert_eq!(desk.shown(), 10);
    }
    assert_eq!(desk.book.balance(desk.now).unwrap().held, Amount::ZERO);
}

#[test]
fn t22_t27_settling_again_settles_once() {
    let mut desk = Desk::with(100);
    let id = desk.held(H, vec![credits(40)]).cells.remove(0).id;
    desk.finish(&id, 15);
    let once = bare(&desk.book);
    for _ in 0..3 {
        let answer = desk.finish(&id, 15);
        assert_eq!((answer.refused, answer.late), (None, None));
        assert_eq!(desk.abandon(H), 0, "too late to abandon");
    }
    assert_eq!(bare(&desk.book), once);
}

#[test]
fn a_repeated_need_finds_its_hold_and_a_finished_one_is_over() {
    let mut desk = Desk::with(100);
    let first = desk.held(H, vec![credits(40)]);
    let before = bare(&desk.book);
    let again = desk.held(H, vec![credits(40)]);
    assert_eq!((again.lane, &again.cells), (None, &first.cells));
    assert_eq!(bare(&desk.book), before);
    desk.finish(&first.cells[0].id, 40);
    assert_eq!(desk.hold(H, vec![credits(40)]).decision, Decision::Over);
    assert_eq!(desk.shown(), 60, "and nothing is held for it again");
}

/// Whoever is answered the second time counts the hold's time from when they asked the second time.
#[test]
fn a_repeated_need_gives_its_hold_the_time_that_it_tells() {
    let mut desk = Desk::with(100);
    desk.held(H, vec![credits(40)]);
    let again = desk.after(29_000).held(H, vec![credits(40)]);
    assert_eq!(again.cells[0].ttl, TIMING.ttl);
    desk.after(29_000).expire(CrashPolicy::Charge);
    assert_eq!(desk.state(&again.cells[0].id), CellState::Open);
}

#[test]
fn t33_a_refused_need_takes_nothing_from_any_leg() {
    let mut desk = Desk::with(1);
    let both = Lane { legs: [window(3).legs, credits(2).legs].concat() };
    assert_eq!(desk.refused(H, vec![both]), Refusal::InsufficientCredits);
    assert_eq!(desk.shown(), 1);
    assert!(desk.book.cells.is_empty());
    assert_eq!(desk.hold(H, vec![window(3)]).window.unwrap().remaining, amount(2));
}

#[test]
fn t28_a_lane_is_paid_whole_or_not_at_all() {
    let mut desk = Desk::with(5);
    let lanes = vec![Lane { legs: [credits(5).legs, window(0).legs].concat() }, credits(3)];
    let granted = desk.held(H, lanes);
    assert_eq!((granted.lane, granted.hold), (Some(1), amount(3)));
    assert_eq!(desk.shown(), 2);
}

#[test]
fn t47_nothing_left_is_zero_and_not_an_underflow() {
    let mut desk = Desk::with(5);
    let id = desk.held(H, vec![credits(5)]).cells.remove(0).id;
    let answer = desk.report(report(&id, totals(9, 9, 9, 0)));
    assert_eq!(answer.refused, Some(ReportRefused::BeyondGranted));
    assert_eq!(desk.shown(), 0);
    assert_eq!(desk.refused(H + 1, vec![credits(1)]), Refusal::InsufficientCredits);
}

#[test]
fn what_in_flight_may_return_is_waited_for_and_only_then_refused() {
    let mut desk = Desk::with(10);
    let first = desk.held(H, vec![credits(8)]);
    let ask = |wait| need(Mode::Hold { generation: H + 1 }, vec![credits(5)], wait);
    assert_eq!(desk.need(ask(true)).decision, Decision::Retry);
    let Decision::Refused(refused) = desk.need(ask(false)).decision else { panic!() };
    assert_eq!(refused, Refused { refusal: Refusal::InsufficientCredits, required: Some(amount(5)) });
    desk.finish(&first.cells[0].id, 1);
    assert!(
        matches!(desk.need(ask(true)).decision, Decision::Granted(_)),
        "a refused generation may ask again"
    );
    let too_much = need(Mode::Hold { generation: H + 2 }, vec![credits(11)], true);
    assert!(matches!(desk.need(too_much).decision, Decision::Refused(_)), "more than there ever is: at once");
}

#[test]
fn a_report_that_makes_no_sense_changes_nothing_and_has_a_name() {
    let mut desk = Desk::with(100);
    let id = desk.held(H, vec![credits(40)]).cells.remove(0).id;
    let before = desk.book.clone();
    let unknown = CellId { generation: H + 9, ..id.clone() };
    for (cell, told, why) in [
        (&id, totals(40, 41, 0, 0), ReportRefused::FinishedBeyondAdmitted),
        (&id, totals(40, 10, 11, 0), ReportRefused::UsedBeyondFinished),
        (&id, totals(40, 40, 20, 21), ReportRefused::BeyondGranted),
        (&id, totals(41, 0, 0, 0), ReportRefused::BeyondGranted),
        (
            &id,
            totals(Amount::MAX.get(), Amount::MAX.get(), Amount::MAX.get(), 1),
            ReportRefused::BeyondGranted,
        ),
        (&unknown, totals(1, 1, 1, 0), ReportRefused::UnknownCell),
    ] {
        let outcome = desk.act(&Command::Report(report(cell, told)));
        let Reply::Report(answer) = outcome.reply else { panic!() };
        assert_eq!(answer.refused, Some(why));
        assert!(outcome.changes.is_empty());
    }
    assert_eq!(desk.book, before);
}

#[test]
fn what_gateways_remember_is_void_when_it_is_announced() {
    let mut desk = Desk::with(100);
    let before = desk.book.clone();
    let outcome = desk.act(&Command::Announce);
    let epoch = before.account.epoch + 1;
    let note = Effect::Note { payer: before.account.id.clone(), epoch, kind: NoteKind::Changed };
    assert_eq!((outcome.effects, outcome.changes.journal), (vec![note], vec![]));
    assert_eq!((desk.book.account.epoch, &desk.book.grants), (epoch, &before.grants));
}

#[test]
fn what_is_suspended_or_nowhere_gets_nothing_but_its_requests_in_flight_end_well() {
    let mut desk = Desk::with(100);
    let id = desk.held(H, vec![credits(40)]).cells.remove(0).id;
    let outcome = desk.act(&Command::Suspend);
    let note = Effect::Note { payer: desk.book.account.id.clone(), epoch: 2, kind: NoteKind::Suspended };
    assert_eq!(outcome.effects, [note]);
    assert!(desk.act(&Command::Suspend).changes.is_empty());
    assert_eq!(desk.refused(H + 1, vec![credits(1)]), Refusal::Suspended);
    assert_eq!(desk.after(10_000).report(report(&id, totals(40, 0, 0, 0))).cell.ttl, TIMING.ttl);
    desk.finish(&id, 40);
    desk.act(&Command::Resume);
    desk.held(H + 1, vec![credits(60)]);
    let denied = subscription::Standing::none(None);
    desk.act(&Command::SetStanding(denied));
    assert_eq!(desk.refused(H + 2, vec![credits(1)]), Refusal::NoSubscription);
}

#[test]
fn identify_writes_nothing() {
    let mut desk = Desk::with(7);
    let outcome = desk.act(&Command::Need(need(Mode::Identify, vec![window(3)], false)));
    assert!(outcome.changes.is_empty());
    let Reply::Need(answer) = outcome.reply else { panic!() };
    assert_eq!((answer.decision, answer.balance.shown()), (Decision::Identified, 7));
    assert_eq!(answer.window.unwrap().remaining, amount(3));
}

#[test]
fn nothing_is_free_by_an_empty_lane_or_a_need_of_nothing() {
    let mut desk = Desk::with(7);
    let empty = Lane { legs: Vec::new() };
    for lane in [empty, credits(0)] {
        let command = Command::Need(need(Mode::Hold { generation: H }, vec![lane], false));
        let answer = step(&mut desk.book, &mut desk.ids, desk.now, &command);
        assert!(matches!(answer, Err(Bug::Misuse { .. })));
    }
    assert_eq!(desk.refused(H, Vec::new()), Refusal::InsufficientCredits);
}

#[test]
fn t20_a_hold_that_is_told_again_outlives_its_ttl() {
    let mut desk = Desk::with(10);
    let id = desk.held(H, vec![credits(10)]).cells.remove(0).id;
    for _ in 0..60 {
        desk.after(10_000).report(report(&id, totals(10, 0, 0, 0))); // a stream of ten minutes
        desk.expire(CrashPolicy::Refund);
        assert_eq!(desk.refused(H + 1, vec![credits(1)]), Refusal::InsufficientCredits);
    }
    assert_eq!(desk.state(&id), CellState::Open);
    desk.finish(&id, 10);
    assert_eq!((desk.shown(), desk.debt()), (0, 0));
}

#[test]
fn a_hold_that_nobody_tells_of_is_settled_by_the_crash_policy_and_only_then() {
    for (crash, left) in [(CrashPolicy::Refund, 10), (CrashPolicy::Charge, 0)] {
        let mut desk = Desk::with(10);
        let id = desk.held(H, vec![credits(10)]).cells.remove(0).id;
        assert_eq!(desk.after(30_199).expire(crash).soft, 0);
        assert_eq!(desk.after(1).expire(crash).soft, 1);
        assert_eq!((desk.shown(), desk.state(&id)), (0, CellState::Soft), "in flight is still in flight");
        assert_eq!(desk.after(29_999).expire(crash).closed_dirty, 0);
        let answer = desk.after(1).expire(crash);
        assert_eq!((answer.closed_dirty, answer.refunded.get() + answer.charged.get()), (1, 10));
        assert_eq!(desk.shown(), left);
        assert_eq!(desk.expire(crash), ExpireAnswer { next: desk.expire(crash).next, ..Default::default() });
    }
}

#[test]
fn t14_what_is_told_after_the_end_is_covered_or_owed_and_once() {
    let mut desk = Desk::with(10);
    let id = desk.held(H, vec![credits(10)]).cells.remove(0).id;
    desk.after(30_200).expire(CrashPolicy::Refund);
    desk.after(30_000).expire(CrashPolicy::Refund);
    desk.held(H + 1, vec![credits(6)]);
    let late = desk.finish(&id, 9).late.unwrap();
    assert_eq!((late.covered, late.owed, late.written_off), (amount(4), amount(5), Amount::ZERO));
    assert_eq!((desk.shown(), desk.finish(&id, 9).late), (-5, None));
    let mut desk = Desk::with(10);
    let id = desk.held(H, vec![credits(10)]).cells.remove(0).id;
    desk.after(30_200).expire(CrashPolicy::Charge);
    desk.after(30_000).expire(CrashPolicy::Charge);
    assert_eq!(desk.finish(&id, 9).late, None, "charged already");
}

#[test]
fn a_ledger_that_slept_listens_before_it_settles() {
    let mut desk = Desk::with(10);
    let id = desk.held(H, vec![credits(10)]).cells.remove(0).id;
    desk.after(3_600_000);
    assert_eq!(desk.expire(CrashPolicy::Refund).closed_dirty, 0);
    assert_eq!(desk.expire(CrashPolicy::Refund).closed_dirty, 0);
    assert_eq!(desk.finish(&id, 10).late, None);
    assert_eq!(desk.shown(), 0);
}

#[test]
fn used_beyond_any_hold_is_covered_once() {
    let mut desk = Desk::with(10);
    let id = desk.held(H, vec![credits(4)]).cells.remove(0).id;
    let told = Totals { short: amount(8), ..totals(4, 4, 4, 0) };
    let late = desk.report(report(&id, told)).late.unwrap();
    assert_eq!((late.covered, late.owed), (amount(6), amount(2)));
    assert_eq!(desk.report(report(&id, told)).late, None);
    assert_eq!(desk.shown(), -2);
}

#[test]
fn rows_that_changed_are_named_and_numbered() {
    let mut desk = Desk::with(10);
    let outcome = desk.act(&Command::Need(need(Mode::Hold { generation: H }, vec![credits(4)], false)));
    assert!(!outcome.changes.account);
    assert_eq!((outcome.changes.grants.len(), outcome.changes.cells.len()), (1, 1));
    let journal: Vec<_> =
        outcome.changes.journal.iter().map(|entry| (entry.kind, entry.amount.get())).collect();
    assert_eq!(journal, [(JournalKind::Leased, 4)]);
    assert_eq!(desk.book.grants[&GrantId(1)].ver, 2);
    assert_eq!(desk.book.cells.values().next().unwrap().ver, 1);
}

/// As `hold`, where two may be open at once.
fn of_two(node: &NodeName, generation: u64, wait: bool) -> Need {
    let asked = need(Mode::Hold { generation }, vec![credits(1)], wait);
    Need { node: node.clone(), at_once: Some(2), ..asked }
}

fn is_crowded(answer: &NeedAnswer) -> bool {
    matches!(&answer.decision, Decision::Refused(no) if no.refusal == Refusal::ConcurrencyLimitReached)
}

#[test]
fn so_many_holds_are_open_at_once_whichever_process_has_them() {
    let mut desk = Desk::with(100);
    let first = desk.need(of_two(&node(1), H, false));
    let Decision::Granted(first) = first.decision else { panic!("{first:?}") };
    assert!(matches!(desk.need(of_two(&node(2), H, false)).decision, Decision::Granted(_)));
    for (at, generation) in [(1, H + 1), (2, H + 1), (3, H)] {
        let no = desk.need(of_two(&node(at), generation, false));
        assert!(is_crowded(&no), "{no:?}");
        let Decision::Refused(refused) = &no.decision else { panic!() };
        assert_eq!(refused.required, Some(amount(1)));
        assert_eq!(desk.need(of_two(&node(at), generation, true)).decision, Decision::Retry);
    }
    assert_eq!(desk.shown(), 98, "who was refused holds nothing");
    // Whose answer was lost asks again, and is no third one.
    let again = Granted { lane: None, ..first.clone() };
    assert_eq!(desk.need(of_two(&node(1), H, false)).decision, Decision::Granted(again));
    desk.finish(&first.cells[0].id, 1);
    assert!(matches!(desk.need(of_two(&node(3), H, false)).decision, Decision::Granted(_)));
    assert!(is_crowded(&desk.need(of_two(&node(3), H + 1, false))));
    // What a tier does not bound is not bound, and it counts.
    assert!(matches!(desk.hold(H + 7, vec![credits(1)]).decision, Decision::Granted(_)));
}

#[test]
fn one_hold_of_several_grants_is_one_and_one_that_is_given_up_is_none() {
    let mut desk = Desk::new();
    for name in ["a", "b", "c"] {
        desk.grant(terms(Source::Purchase, name, 1));
    }
    let spans = Need { lanes: vec![credits(3)], ..of_two(&node(1), H, false) };
    let Decision::Granted(granted) = desk.need(spans).decision else { panic!() };
    assert_eq!(granted.cells.len(), 3);
    desk.grant(terms(Source::Purchase, "more", 10));
    assert!(matches!(desk.need(of_two(&node(1), H + 1, false)).decision, Decision::Granted(_)));
    assert!(is_crowded(&desk.need(of_two(&node(1), H + 2, false))));
    desk.abandon(H + 1);
    assert!(matches!(desk.need(of_two(&node(1), H + 2, false)).decision, Decision::Granted(_)));
    // A process that says no more makes room when its holds are settled, and not before: its requests may be under way.
    desk.after(TIMING.ttl.plus(TIMING.grace).millis()).expire(CrashPolicy::Refund);
    assert!(is_crowded(&desk.need(of_two(&node(2), H, false))));
    desk.after(TIMING.tail.millis()).expire(CrashPolicy::Refund);
    assert!(matches!(desk.need(of_two(&node(2), H, false)).decision, Decision::Granted(_)));
}

#[test]
fn a_lease_is_no_request_and_nobody_is_told_to_give_back_for_want_of_room() {
    let mut desk = Desk::with(100);
    let lease = need(Mode::Lease { generation_min: 1 }, vec![credits(1)], false);
    assert!(matches!(desk.need(lease).decision, Decision::Granted(_)));
    for n in 0..2 {
        assert!(matches!(desk.need(of_two(&node(2), H + n, false)).decision, Decision::Granted(_)));
    }
    let outcome = desk.act(&Command::Need(of_two(&node(2), H + 2, false)));
    assert_eq!(outcome.effects, []);
    desk.act(&Command::Suspend);
    assert!(matches!(
        desk.need(of_two(&node(2), H + 3, false)).decision,
        Decision::Refused(Refused { refusal: Refusal::Suspended, .. })
    ));
}
