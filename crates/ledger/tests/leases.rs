//! Leases: sizes, growth, the two ends, late evidence, and what is taken back from them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod desk;
use desk::*;
use ledger::*;
use units::{Amount, Instant, NodeName};

fn lease(node: &NodeName, need: i64, ahead: i64) -> Need {
    Need {
        node: node.clone(),
        holders: 2,
        ..desk::need(Mode::Lease { generation_min: 1 }, spoken(amount(ahead), vec![credits(need)]), false)
    }
}

fn leased(desk: &mut Desk, ask: Need) -> Vec<CellGrant> {
    match desk.need(ask).decision {
        Decision::Granted(granted) => granted.cells,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rich_account_lends_a_share_and_a_poor_one_exactly_the_need() {
    let mut desk = Desk::with(1000);
    let sizes: Vec<i64> = (0..40)
        .map_while(|_| {
            let before = desk.shown();
            let cells = leased(&mut desk, lease(&node(1), 10, 0));
            assert_eq!(desk.shown(), before, "what is free in a lease is still available");
            let used: i64 = cells[0].granted.get();
            let id = cells[0].id.clone();
            let had = desk.book.cells[&id].used.get();
            desk.report(report(&id, totals(used, used, used, 0))); // all of it was used
            (desk.shown() >= 10).then_some(used - had)
        })
        .collect();
    assert_eq!(
        sizes[..6],
        [250, 180, 140, 100, 80, 10],
        "whole requests, and none in advance of the last few"
    );
    assert!(sizes[5..].iter().all(|size| *size == 10));
    assert_eq!(desk.book.cells.len(), 1, "one cell grows");
}

#[test]
fn a_need_is_not_answered_with_what_others_of_the_same_message_wait_for() {
    let mut desk = Desk::with(40);
    assert_eq!(leased(&mut desk, lease(&node(1), 10, 0))[0].granted, amount(10));
    assert_eq!(leased(&mut desk, lease(&node(1), 10, 0))[0].granted, amount(10), "repeated: free already");
    assert_eq!(leased(&mut desk, lease(&node(1), 10, 10))[0].granted, amount(20));
    assert_eq!(leased(&mut desk, lease(&node(1), 10, 30))[0].granted, amount(40));
    assert!(matches!(desk.need(lease(&node(1), 10, 40)).decision, Decision::Refused(_)));
}

#[test]
fn t52_what_lies_idle_elsewhere_is_recalled_and_waited_for() {
    let mut desk = Desk::with(20);
    let cell = leased(&mut desk, lease(&node(1), 20, 0)).remove(0);
    let outcome = desk.act(&Command::Need(Need { wait: true, ..lease(&node(2), 20, 0) }));
    let Reply::Need(answer) = outcome.reply else { panic!() };
    assert_eq!(answer.decision, Decision::Retry);
    assert!(matches!(outcome.effects[..], [Effect::Note { kind: NoteKind::Recall, epoch: 1, .. }]));
    desk.report(report(&cell.id, totals(0, 0, 0, 20)));
    assert_eq!(leased(&mut desk, lease(&node(2), 20, 0))[0].granted, amount(20));
}

#[test]
fn t53_what_lies_with_a_dead_process_comes_back_after_ttl_and_grace_less_holds_and_exposure() {
    let mut desk = Desk::with(20);
    let ask = Need { exposure: Exposure::AtMost(amount(3)), ..lease(&node(1), 20, 0) };
    let id = leased(&mut desk, ask).remove(0).id;
    desk.report(Report { exposure: Exposure::AtMost(amount(3)), ..report(&id, totals(6, 2, 1, 0)) });
    desk.after(30_200).expire(CrashPolicy::Refund);
    let row = &desk.book.cells[&id];
    assert_eq!((row.state, row.outstanding()), (CellState::Soft, amount(4 + 3)));
    assert_eq!(desk.book.grants[&GrantId(1)].avail, amount(12));
    let again = leased(&mut desk, lease(&node(1), 5, 0)).remove(0).id;
    assert_eq!(again.generation, 2, "a cell never goes back to open");
    desk.after(30_000).expire(CrashPolicy::Refund);
    assert_eq!(desk.book.cells[&id].outstanding(), Amount::ZERO);
    assert_eq!(desk.shown(), 19);
}

#[test]
fn what_comes_back_between_the_two_ends_is_not_charged_at_the_hard_one() {
    let mut desk = Desk::with(40);
    let id = leased(&mut desk, Need { exposure: Exposure::Whole, ..lease(&node(1), 10, 30) }).remove(0).id;
    assert_eq!(desk.book.cells[&id].granted, amount(40));
    desk.after(30_200).expire(CrashPolicy::Charge);
    assert_eq!(
        (desk.book.cells[&id].state, desk.shown()),
        (CellState::Soft, 0),
        "all of it may have been used"
    );
    // The gateway was cut off for longer than the lease, and is back before its time is over for good.
    desk.report(report(&id, totals(10, 0, 0, 30)));
    assert_eq!((desk.book.cells[&id].outstanding(), desk.shown()), (amount(10), 30));
    desk.report(report(&id, totals(10, 0, 0, 25)));
    desk.report(report(&id, totals(10, 10, 10, 30)));
    assert_eq!(desk.book.cells[&id].state, CellState::Closed);
    desk.after(60_000).expire(CrashPolicy::Charge);
    assert_eq!((desk.shown(), desk.book.grants[&GrantId(1)].used), (30, amount(10)));
}

#[test]
fn a_soft_cell_takes_evidence_and_gives_nothing() {
    let mut desk = Desk::with(20);
    let ask = Need { exposure: Exposure::AtMost(amount(3)), ..lease(&node(1), 20, 0) };
    let id = leased(&mut desk, ask).remove(0).id;
    desk.after(30_200).expire(CrashPolicy::Refund);
    let told = Report { target: amount(40), ..report(&id, totals(3, 1, 1, 0)) };
    let answer = desk.report(told.clone());
    assert_eq!((answer.cell.state, answer.cell.ttl.micros(), answer.refused), (CellState::Soft, 0, None));
    let returned = Report { totals: totals(3, 1, 1, 17), ..told };
    assert_eq!(desk.report(returned).refused, None, "its returns are in the ledger's own");
    assert_eq!(desk.book.cells[&id].outstanding(), amount(2));
    let beyond = desk.report(report(&id, totals(8, 8, 8, 0)));
    assert_eq!(beyond.late.map(|late| late.covered), Some(amount(5)), "a gateway that broke its bound");
    assert_eq!((desk.state(&id), desk.shown()), (CellState::Closed, 12));
    assert_eq!(desk.report(report(&id, totals(8, 8, 8, 0))).late, None);
}

#[test]
fn a_lease_grows_towards_its_target_and_never_past_an_earlier_grant() {
    let mut desk = Desk::with(100);
    let id = leased(&mut desk, Need { holders: 50, ..lease(&node(1), 1, 0) }).remove(0).id;
    let ask = |target, need| Report {
        target: amount(target),
        need: amount(need),
        holders: 1,
        ..report(&id, totals(1, 0, 0, 0))
    };
    assert_eq!(desk.report(ask(11, 1)).cell.granted, amount(11));
    assert_eq!(desk.report(ask(11, 1)).cell.granted, amount(11), "a total, so repeated for nothing");
    assert_eq!(desk.report(ask(500, 1)).cell.granted, amount(55));
    assert_eq!(desk.report(ask(500, 60)).cell.granted, amount(55), "less than one need is no use");
    desk.grant(Terms { priority: 1, ..terms(Source::Promo, "earlier", 5) });
    assert_eq!(desk.report(ask(500, 1)).cell.granted, amount(55), "I13: the earlier grant burns first");
}

#[test]
fn a_lease_does_not_grow_past_an_older_grant_that_ends_with_its_own() {
    let mut desk = Desk::with(10);
    desk.grant(terms(Source::Purchase, "buy:2", 10));
    let older = leased(&mut desk, lease(&node(1), 10, 0)).remove(0).id;
    let newer = leased(&mut desk, lease(&node(2), 4, 0)).remove(0).id;
    assert_eq!((older.grant, newer.grant), (GrantId(1), GrantId(2)));
    let ask = Report { target: amount(8), need: amount(4), ..report(&newer, totals(4, 0, 0, 0)) };
    desk.report(report(&older, totals(0, 0, 0, 10)));
    assert_eq!(desk.report(ask.clone()).cell.granted, amount(4), "the older one has ten again");
    leased(&mut desk, lease(&node(1), 10, 0));
    assert_eq!(desk.report(ask).cell.granted, amount(8));
}

#[test]
fn what_is_being_taken_back_is_lent_to_nobody() {
    let mut desk = Desk::with(100);
    let ask = Need { holders: 1, ..lease(&node(1), 1, 0) };
    leased(&mut desk, ask.clone());
    desk.void("buy:1", Upto::All);
    let answer = desk.need(ask).decision;
    assert!(matches!(answer, Decision::Refused(_)), "not even what is free in its own lease: {answer:?}");
}

#[test]
fn a_stopped_account_gets_no_more_time() {
    let mut desk = Desk::with(100);
    let id = leased(&mut desk, lease(&node(1), 1, 0)).remove(0).id;
    let soft_at = desk.book.cells[&id].soft_at;
    desk.act(&Command::Suspend);
    let told = Report { target: amount(90), ..report(&id, totals(5, 0, 0, 0)) };
    let answer = desk.after(10_000).report(told);
    assert_eq!((answer.cell.ttl.micros(), answer.cell.granted), (0, amount(25)));
    assert_eq!((desk.book.cells[&id].soft_at, desk.book.cells[&id].admitted), (soft_at, amount(5)));
}

#[test]
fn i9_a_lease_never_outlives_its_grant_and_what_comes_back_later_has_expired() {
    let mut desk = Desk::new();
    let end = Instant::from_secs(NOON + 10);
    desk.grant(Terms { expires_at: end, ..terms(Source::Promo, "ends", 20) });
    let cell = leased(&mut desk, lease(&node(1), 20, 0)).remove(0);
    assert_eq!((cell.ttl.millis(), desk.book.cells[&cell.id].soft_at), (10_000, end));
    desk.after(10_000).expire(CrashPolicy::Refund);
    desk.report(report(&cell.id, totals(12, 12, 7, 8)));
    desk.after(30_000).expire(CrashPolicy::Refund);
    let grant = &desk.book.grants[&GrantId(1)];
    assert_eq!((grant.used, grant.expired, grant.avail), (amount(7), amount(13), Amount::ZERO));
}

#[test]
fn a_void_takes_back_from_a_lease_as_it_returns_and_claws_what_was_used() {
    let mut desk = Desk::with(100);
    let id = leased(&mut desk, Need { holders: 1, ..lease(&node(1), 1, 0) }).remove(0).id;
    let VoidAnswer::Done { voided, claimed, clawed, .. } = desk.void("buy:1", Upto::All) else { panic!() };
    assert_eq!((voided.get(), claimed.get(), clawed.get()), (50, 50, 0));
    assert_eq!(desk.shown(), 0);
    let again = desk.void("buy:1", Upto::All);
    let zero = Amount::ZERO;
    assert_eq!(again, VoidAnswer::Done { id: GrantId(1), voided: zero, claimed: zero, clawed: zero });
    assert_eq!(desk.refused(H, vec![credits(1)]), Refusal::InsufficientCredits);
    assert_eq!(desk.report(report(&id, totals(20, 20, 12, 30))).cell.ttl.micros(), 0, "and no more time");
    let grant = &desk.book.grants[&GrantId(1)];
    assert_eq!((grant.voided, grant.void_claim, grant.clawed), (amount(80), amount(8), amount(12)));
    desk.report(report(&id, totals(20, 20, 12, 38)));
    assert_eq!((desk.debt(), desk.shown()), (12, -12));
}

#[test]
fn f49_refunds_are_totals() {
    let mut desk = Desk::with(100);
    for (upto, left) in [(10, 90), (50, 50), (10, 50), (50, 50)] {
        desk.void("buy:1", Upto::Total(amount(upto)));
        assert_eq!(desk.shown(), left);
    }
}

#[test]
fn f50_a_refund_of_what_was_spent_is_debt_that_the_next_purchase_repays() {
    let mut desk = Desk::with(100);
    let id = desk.held(H, vec![credits(80)]).cells.remove(0).id;
    desk.finish(&id, 80);
    desk.void("buy:1", Upto::All);
    assert_eq!(desk.shown(), -80);
    assert_eq!(desk.refused(H + 1, vec![credits(1)]), Refusal::InsufficientCredits);
    desk.grant(terms(Source::Subscription, "plan:in_1:price", 30));
    assert_eq!(
        (desk.shown(), desk.debt()),
        (-50, 80),
        "an allowance does not repay, and cannot be spent before"
    );
    assert_eq!(desk.refused(H + 1, vec![credits(1)]), Refusal::InsufficientCredits);
    let made = desk.grant(terms(Source::Purchase, "buy:2", 100));
    assert_eq!(made, GrantAnswer::Made { id: GrantId(3), repaid: amount(80) });
    assert_eq!((desk.shown(), desk.debt()), (50, 0));
}

#[test]
fn t24_t26_the_same_payment_grants_once_and_another_amount_is_a_conflict() {
    let mut desk = Desk::with(100);
    let epoch = desk.book.account.epoch;
    assert_eq!(desk.grant(terms(Source::Purchase, "buy:1", 100)), GrantAnswer::Known { id: GrantId(1) });
    assert_eq!(desk.grant(terms(Source::Purchase, "buy:1", 200)), GrantAnswer::Conflict { id: GrantId(1) });
    assert_eq!((desk.shown(), desk.book.account.epoch), (100, epoch));
    for nonsense in [
        terms(Source::Purchase, "zero", 0),
        Terms { expires_at: Instant::EPOCH, ..terms(Source::Purchase, "never", 1) },
        terms(Source::Purchase, "too much", Amount::MAX.get()),
        terms(Source::Window, "by hand", 1),
    ] {
        assert!(matches!(desk.grant(nonsense), GrantAnswer::Refused { .. }));
    }
    assert_eq!(desk.book.grants.len(), 1);
}

#[test]
fn a_new_vm_does_not_spend_from_the_cells_of_the_old_one() {
    let mut desk = Desk::with(100);
    assert_eq!(leased(&mut desk, lease(&node(1), 1, 0))[0].id.generation, 1);
    let mode = Mode::Lease { generation_min: 2 };
    let fresh = leased(&mut desk, Need { mode, ..lease(&node(1), 1, 0) }).remove(0);
    assert_eq!((fresh.id.generation, fresh.granted), (2, amount(18)));
    assert_eq!(desk.shown(), 100);
}

#[test]
fn what_is_free_may_be_kept_while_the_account_would_lend_it_again() {
    let mut desk = Desk::with(160);
    let cell = leased(&mut desk, Need { holders: 1, ..lease(&node(1), 10, 0) }).remove(0);
    assert_eq!((cell.granted, cell.keep), (amount(80), true));
    let told = |used| Report { need: amount(10), ..report(&cell.id, totals(used, used, used, 0)) };
    assert!(desk.report(told(0)).cell.keep, "or it would be lent anew at once");
    assert!(!desk.report(told(10)).cell.keep, "7 requests are a single need each");
    desk.grant(terms(Source::Purchase, "buy:2", 1000));
    assert!(desk.report(told(10)).cell.keep);
    desk.act(&Command::Suspend);
    assert!(!desk.report(told(10)).cell.keep);
}

#[test]
fn what_a_gateway_has_forgotten_goes_back_at_once_and_what_it_holds_of_it_does_not() {
    let mut desk = Desk::with(20);
    let id = leased(&mut desk, lease(&node(1), 12, 0)).remove(0).id;
    desk.report(report(&id, totals(5, 2, 1, 0)));
    let gone = Report { gone: true, ..report(&id, Totals::default()) };
    let answer = desk.report(gone.clone());
    assert_eq!((answer.refused, answer.cell.state), (None, CellState::Soft));
    let row = &desk.book.cells[&id];
    assert_eq!(
        (row.returned, row.held(), row.outstanding()),
        (amount(8), amount(3), amount(3)),
        "all but the holds"
    );
    assert_eq!(desk.book.grants[&GrantId(1)].avail, amount(16));
    assert_eq!(desk.report(gone.clone()).cell.state, CellState::Soft, "said again, it changes nothing");
    assert_eq!(desk.book.grants[&GrantId(1)].avail, amount(16));
    let next = leased(&mut desk, lease(&node(1), 5, 0)).remove(0).id;
    assert_eq!(next.generation, id.generation + 1, "nothing more is lent on it");
    let ended = desk.report(report(&id, totals(5, 5, 4, 8)));
    assert_eq!((ended.refused, ended.cell.state, ended.late), (None, CellState::Closed, None));
    assert_eq!((desk.book.grants[&GrantId(1)].used, desk.debt()), (amount(4), 0));
    assert_eq!(desk.report(gone).cell.state, CellState::Closed);
}

#[test]
fn an_exposure_of_requests_is_as_many_as_the_largest_that_asks() {
    let mut desk = Desk::with(400);
    let ask = |need| Need { exposure: Exposure::Requests(3), ..lease(&node(1), need, 0) };
    let cell = leased(&mut desk, ask(2)).remove(0);
    assert_eq!((cell.granted > amount(6), cell.exposure), (true, amount(6)));
    assert_eq!(
        leased(&mut desk, ask(5))[0].exposure,
        amount(15),
        "nothing more is lent, and it may be spent on this one"
    );
    assert_eq!(
        leased(&mut desk, ask(2))[0].exposure,
        amount(15),
        "what was allowed once is reserved until the end"
    );
    let most = Need { exposure: Exposure::Requests(u32::MAX), ..lease(&node(1), 9, 0) };
    let all = leased(&mut desk, most).remove(0);
    assert_eq!(all.exposure, all.granted, "never more than there is");
    let told =
        Report { exposure: Exposure::Requests(3), need: amount(2), ..report(&cell.id, totals(4, 0, 0, 0)) };
    assert_eq!(desk.report(told).cell.exposure, all.granted);
}

/// What fetching ahead of need, or sizes by measured demand, could save at most: docs/leases.md, "What was left out".
#[test]
fn a_gateway_that_spends_twenty_thousand_credits_asks_some_twenty_times() {
    for (holders, most) in [(1, 12), (4, 60)] {
        let mut desk = Desk::with(20_000);
        let (mut spent, mut asked) = (0, 0);
        loop {
            let cell = leased(&mut desk, Need { holders, ..lease(&node(1), 1, 0) }).remove(0);
            asked += 1;
            if !cell.keep {
                break;
            }
            spent = cell.granted.get();
            desk.report(Report { need: amount(1), ..report(&cell.id, totals(spent, spent, spent, 0)) });
        }
        println!("{holders} holders: {asked} questions for {spent} requests");
        assert!(spent > 19_800 && asked <= most, "{holders} holders: {asked} questions for {spent} requests");
    }
}
