//! Usage beyond what was held: paid in burn order from what is available, then owed or written off; once, whatever state the cell is in.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod desk;
use desk::*;
use ledger::*;
use units::{Amount, Instant};

fn short(n: i64, totals: Totals) -> Totals {
    Totals { short: amount(n), ..totals }
}

/// A lease of 10 out of 30, of which 6 were admitted, finished and used.
fn lease() -> (Desk, CellId) {
    let mut desk = Desk::with(30);
    let ask = need(Mode::Lease { generation_min: 1 }, vec![credits(10)], false);
    let Decision::Granted(granted) = desk.need(ask).decision else { panic!() };
    let id = granted.cells[0].id.clone();
    assert_eq!(desk.book.cells[&id].granted, amount(10));
    desk.report(report(&id, totals(6, 6, 6, 0)));
    (desk, id)
}

fn told(desk: &mut Desk, id: &CellId, n: i64) -> Option<Late> {
    let cell = desk.book.cells[id].clone();
    let totals = Totals {
        admitted: cell.admitted,
        finished: cell.finished,
        used: cell.used,
        returned: cell.returned,
        short: amount(n),
    };
    let answer = desk.report(report(id, totals));
    assert_eq!(answer.refused, None);
    answer.late
}

#[test]
fn in_every_state_of_a_lease_it_is_paid_once() {
    for state in [CellState::Open, CellState::Soft, CellState::Closed] {
        let (mut desk, id) = lease();
        desk.report(report(&id, totals(8, 6, 6, 0))); // Two are in flight.
        if state != CellState::Open {
            desk.after(31_000).expire(CrashPolicy::Refund);
        }
        if state == CellState::Closed {
            desk.after(31_000).expire(CrashPolicy::Refund);
        }
        assert_eq!(desk.state(&id), state);
        let owned = desk.shown() + desk.book.balance(desk.now).unwrap().held.get();
        let late = Late { covered: amount(4), owed: Amount::ZERO, written_off: Amount::ZERO };
        assert_eq!(told(&mut desk, &id, 4), Some(late), "{state:?}");
        assert_eq!((told(&mut desk, &id, 4), told(&mut desk, &id, 3)), (None, None), "{state:?}");
        assert_eq!(told(&mut desk, &id, 5).unwrap().covered, amount(1), "{state:?}");
        let now = desk.shown() + desk.book.balance(desk.now).unwrap().held.get();
        assert_eq!(owned - now, 5, "{state:?}");
    }
}

#[test]
fn a_hold_that_cost_more_is_over_with_what_it_was_short_of() {
    let mut desk = Desk::with(10);
    let id = desk.held(H, vec![credits(4)]).cells.remove(0).id;
    let answer = desk.report(report(&id, short(3, totals(4, 4, 4, 0))));
    assert_eq!((answer.cell.state, answer.late.unwrap().covered), (CellState::Closed, amount(3)));
    assert_eq!(desk.shown(), 3);
    // Said later, of a hold that is over: the same.
    assert_eq!(
        told(&mut desk, &id, 13).unwrap(),
        Late { covered: amount(3), owed: amount(7), written_off: Amount::ZERO }
    );
    assert_eq!((desk.shown(), desk.debt()), (-7, 7));
    // The next purchase pays it.
    desk.grant(terms(Source::Purchase, "buy:2", 20));
    assert_eq!((desk.shown(), desk.debt()), (13, 0));
}

#[test]
fn what_ends_first_pays_first_whichever_grant_was_held() {
    let mut desk = Desk::with(10);
    let id = desk.held(H, vec![credits(4)]).cells.remove(0).id;
    let soon = Instant::from_secs(NOON + 3600);
    desk.grant(Terms { expires_at: soon, ..terms(Source::Promo, "gift", 5) });
    let journal = desk.act(&Command::Report(report(&id, short(8, totals(4, 4, 4, 0))))).changes.journal;
    let paid = journal.iter().filter(|line| line.kind == JournalKind::ShortCovered);
    let paid: Vec<_> = paid.map(|line| (line.grant.unwrap().0, line.amount.get())).collect();
    assert_eq!(paid, [(2, 5), (1, 3)]);
}

#[test]
fn what_is_lent_elsewhere_is_not_touched() {
    let (mut desk, id) = lease();
    let other = Need { node: node(2), ..need(Mode::Lease { generation_min: 1 }, vec![credits(20)], false) };
    desk.need(other);
    let late = told(&mut desk, &id, 4).unwrap();
    assert_eq!((late.covered, late.owed), (Amount::ZERO, amount(4)));
    assert_eq!(desk.shown(), 24 - 4, "what is free in leases is shown, and what is owed is not");
}

#[test]
fn an_operator_may_bear_it() {
    let mut desk = Desk::with(10);
    let id = desk.held(H, vec![credits(4)]).cells.remove(0).id;
    let shortfall = Shortfall::WriteOff;
    let answer = desk.report(Report { shortfall, ..report(&id, short(9, totals(4, 4, 4, 0))) });
    assert_eq!(answer.late.unwrap(), Late { covered: amount(6), owed: Amount::ZERO, written_off: amount(3) });
    assert_eq!((desk.shown(), desk.debt()), (0, 0));
}

#[test]
fn a_window_owes_nothing_and_the_next_one_pays_nothing() {
    let mut desk = Desk::with(10);
    let id = desk.held(H, vec![window(3)]).cells.remove(0).id;
    let answer = desk.report(report(&id, short(5, totals(1, 1, 1, 0))));
    assert_eq!(answer.late.unwrap(), Late { covered: amount(2), owed: Amount::ZERO, written_off: amount(3) });
    assert_eq!((desk.shown(), desk.debt()), (10, 0));
}

#[test]
fn more_than_an_amount_can_say_is_owed_as_far_as_it_can_and_no_further() {
    let mut desk = Desk::with(20);
    let ids: Vec<_> = (0..3).map(|n| desk.held(H + n, vec![credits(4)]).cells.remove(0).id).collect();
    for id in &ids {
        let answer = desk.report(report(id, Totals { short: Amount::MAX, ..totals(4, 4, 4, 0) }));
        assert_eq!((answer.refused, answer.cell.state), (None, CellState::Closed));
    }
    assert_eq!(desk.book.account.debt, Amount::MAX);
    // What comes now is kept, repays, and breaks nothing.
    desk.grant(terms(Source::Purchase, "buy:2", 100));
    assert_eq!(desk.debt(), Amount::MAX.get() - 100);
    assert_eq!(desk.refused(H + 9, vec![at_least(4, 1)]), Refusal::InsufficientCredits);
}

#[test]
fn a_report_that_is_not_believed_says_nothing_of_it_either() {
    let (mut desk, id) = lease();
    let before = bare(&desk.book);
    let answer = desk.report(report(&id, short(5, totals(6, 7, 6, 0))));
    assert_eq!(answer.refused, Some(ReportRefused::FinishedBeyondAdmitted));
    assert_eq!(bare(&desk.book), before);
}
