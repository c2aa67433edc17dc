//! Reversals: refunds, failed refunds and disputes take back of a grant, and give back, exactly what they should.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod desk;
use desk::*;
use ledger::*;
use proptest::prelude::*;
use units::{Amount, Unit};

fn back(desk: &mut Desk, origin: &str, revoked: i64, frozen: i64) -> Outcome {
    lenient(desk, origin, revoked, frozen, Shortfall::Debt)
}

fn lenient(desk: &mut Desk, origin: &str, revoked: i64, frozen: i64, shortfall: Shortfall) -> Outcome {
    let origin = Origin { unit: Unit::Credits, source: Source::Purchase, source_ref: origin.to_owned() };
    let (target, revoked, frozen) = (VoidTarget::Origin(origin), amount(revoked), amount(frozen));
    desk.act(&Command::TakeBack(TakeBack { target, revoked, frozen, shortfall }))
}

/// A desk with a purchase of 100 of which `used` was used.
fn used(used: i64) -> Desk {
    let mut desk = Desk::with(100);
    spend(&mut desk, H, used);
    desk
}

fn spend(desk: &mut Desk, generation: u64, n: i64) {
    if n > 0 {
        let held = desk.held(generation, vec![credits(n)]);
        for cell in held.cells {
            desk.finish(&cell.id, cell.granted.get());
        }
    }
}

fn kinds(outcome: &Outcome) -> Vec<(&'static str, i64)> {
    outcome.changes.journal.iter().map(|line| (line.kind.as_str(), line.amount.get())).collect()
}

#[test]
fn a_refund_takes_its_share_once_however_often_and_in_whatever_order_it_is_told() {
    for order in [[10, 50, 50], [50, 10, 50], [50, 50, 50]] {
        let mut desk = Desk::with(100);
        for revoked in order {
            back(&mut desk, "buy:1", revoked, 0);
        }
        assert_eq!((desk.shown(), desk.debt()), (50, 0), "{order:?}");
    }
}

#[test]
fn what_was_used_of_a_refunded_grant_is_owed_or_written_off() {
    let mut desk = used(80);
    back(&mut desk, "buy:1", 100, 0);
    assert_eq!((desk.shown(), desk.debt()), (-80, 80));
    assert_eq!(desk.refused(H + 1, vec![credits(1)]), Refusal::InsufficientCredits);
    let mut desk = used(80);
    lenient(&mut desk, "buy:1", 100, 0, Shortfall::WriteOff);
    assert_eq!((desk.shown(), desk.debt()), (0, 0));
    // Half of it is still theirs: of what was used, only what is beyond that half is owed.
    let mut desk = used(80);
    back(&mut desk, "buy:1", 50, 0);
    assert_eq!((desk.shown(), desk.debt()), (-30, 30));
}

#[test]
fn a_refund_that_failed_gives_all_of_it_back() {
    let mut desk = used(80);
    back(&mut desk, "buy:1", 100, 0);
    let undone = back(&mut desk, "buy:1", 0, 0);
    assert_eq!(kinds(&undone), [("unclawed", 80), ("debt_down", 80), ("restored", 20)]);
    assert_eq!((desk.shown(), desk.debt()), (20, 0));
    assert!(back(&mut desk, "buy:1", 0, 0).changes.is_empty());
    spend(&mut desk, H + 1, 20);
}

#[test]
fn a_refund_that_failed_after_its_debt_was_repaid_gives_the_repayment_back() {
    let mut desk = used(80);
    back(&mut desk, "buy:1", 100, 0);
    desk.grant(terms(Source::Purchase, "buy:2", 90));
    assert_eq!((desk.shown(), desk.debt()), (10, 0));
    let undone = back(&mut desk, "buy:1", 0, 0);
    assert_eq!(kinds(&undone), [("unclawed", 80), ("recovered", 80), ("restored", 20)]);
    assert_eq!((desk.shown(), desk.debt()), (110, 0), "190 were bought and 80 used");
    // And the next refund takes it again.
    back(&mut desk, "buy:1", 100, 0);
    assert_eq!((desk.shown(), desk.debt()), (10, 0));
    assert!(back(&mut desk, "buy:1", 100, 0).changes.is_empty());
}

#[test]
fn what_is_held_for_a_dispute_is_released_exactly_or_revoked() {
    for (revoked, shown) in [(0, 70), (40, 60), (100, -30)] {
        let mut desk = used(30);
        let held = back(&mut desk, "buy:1", 0, 100);
        assert_eq!(kinds(&held), [("voided", 70), ("frozen", 70)]);
        assert_eq!((desk.shown(), desk.debt()), (0, 0), "what is only held is no debt");
        let freed = back(&mut desk, "buy:1", revoked, 0);
        assert!(kinds(&freed).contains(&("unfrozen", 70)));
        assert_eq!(desk.shown(), shown.min(70 - revoked), "{revoked}");
        assert!(back(&mut desk, "buy:1", revoked, 0).changes.is_empty());
    }
}

/// What gateways are told by a command.
fn told(outcome: &Outcome) -> Vec<(NoteKind, u64)> {
    outcome.effects.iter().map(|Effect::Note { epoch, kind, .. }| (*kind, *epoch)).collect()
}

/// A desk of whose 100 credits half is lent to a gateway.
fn lent() -> Desk {
    let mut desk = Desk::with(100);
    let outcome = desk.act(&Command::Need(need(Mode::Lease { generation_min: 1 }, vec![credits(1)], false)));
    let Reply::Need(answer) = outcome.reply else { panic!() };
    assert!(matches!(answer.decision, Decision::Granted(_)));
    desk
}

#[test]
fn gateways_are_told_of_a_refund_and_of_a_dispute_and_what_they_have_is_recalled() {
    for (revoked, frozen) in [(100, 0), (0, 100)] {
        let mut desk = lent();
        let epoch = desk.book.account.epoch + 1;
        let taken = back(&mut desk, "buy:1", revoked, frozen);
        assert_eq!(told(&taken), [(NoteKind::Changed, epoch), (NoteKind::Recall, epoch)]);
        assert_eq!(told(&back(&mut desk, "buy:1", revoked, frozen)), [], "it is so already");
        let undone = back(&mut desk, "buy:1", 0, 0);
        assert_eq!(told(&undone), [(NoteKind::Replenished, epoch + 1)]);
    }
    // What is free covers it: nothing has to come back, and what is remembered is void all the same.
    let mut desk = lent();
    let epoch = desk.book.account.epoch + 1;
    assert_eq!(told(&back(&mut desk, "buy:1", 50, 0)), [(NoteKind::Changed, epoch)]);
}

#[test]
fn gateways_are_told_of_a_void_and_what_they_have_is_recalled() {
    let mut desk = lent();
    let epoch = desk.book.account.epoch + 1;
    let mut void = |upto: i64| {
        let origin = Origin { unit: Unit::Credits, source: Source::Purchase, source_ref: "buy:1".to_owned() };
        let (target, upto) = (VoidTarget::Origin(origin), Upto::Total(amount(upto)));
        told(&desk.act(&Command::Void(Void { target, upto, shortfall: Shortfall::Debt })))
    };
    assert_eq!(void(50), [(NoteKind::Changed, epoch)]);
    assert_eq!(void(100), [(NoteKind::Changed, epoch + 1), (NoteKind::Recall, epoch + 1)]);
    assert_eq!(void(100), [], "it is so already");
}

#[test]
fn a_need_that_only_what_is_held_would_cover_is_told_of_the_dispute() {
    let mut desk = Desk::with(100);
    back(&mut desk, "buy:1", 0, 40);
    assert_eq!(desk.refused(H, vec![credits(61)]), Refusal::DisputedHold);
    assert_eq!(desk.refused(H, vec![credits(101)]), Refusal::InsufficientCredits);
    spend(&mut desk, H, 60);
    assert_eq!(desk.refused(H + 1, vec![window(0), credits(1)]), Refusal::DisputedHold);
    back(&mut desk, "buy:1", 0, 0);
    spend(&mut desk, H + 1, 40);
}

#[test]
fn a_dispute_while_requests_are_in_flight_holds_what_comes_back() {
    let mut desk = Desk::with(100);
    let first = desk.held(H, vec![credits(60)]).cells[0].id.clone();
    let second = desk.held(H + 1, vec![credits(40)]).cells[0].id.clone();
    back(&mut desk, "buy:1", 0, 100);
    assert_eq!(desk.book.grants[&GrantId(1)].reversed.frozen(), amount(100));
    desk.finish(&first, 50);
    let grant = desk.book.grants[&GrantId(1)].clone();
    assert_eq!(
        (grant.reversed.frozen(), grant.voided, grant.void_claim),
        (amount(50), amount(10), amount(40))
    );
    assert_eq!(desk.debt(), 0);
    // The dispute is lost: what was used is owed, and so will be what is still in flight.
    back(&mut desk, "buy:1", 100, 0);
    assert_eq!(desk.debt(), 50);
    desk.finish(&second, 40);
    assert_eq!((desk.debt(), desk.shown()), (90, -90));
    back(&mut desk, "buy:1", 0, 0);
    assert_eq!((desk.debt(), desk.shown()), (0, 10));
}

#[test]
fn what_is_recovered_stands_in_for_a_claim_that_a_request_in_flight_may_use_up() {
    let mut desk = Desk::with(50);
    spend(&mut desk, H, 35);
    back(&mut desk, "buy:1", 33, 0);
    desk.grant(terms(Source::Purchase, "buy:2", 50));
    assert_eq!(
        (desk.shown(), desk.debt()),
        (32, 0),
        "18 of the second repaid what the first no longer covers"
    );
    let in_flight = desk.held(H + 1, vec![credits(18)]).cells[0].id.clone();
    back(&mut desk, "buy:2", 33, 0);
    assert_eq!((desk.shown(), desk.debt()), (-1, 1), "14 went at once, 18 are claimed, and 1 is owed");
    desk.grant(terms(Source::Purchase, "buy:3", 50));
    // One of what is claimed may stay leased: the credit that came back is taken for it.
    let fewer = back(&mut desk, "buy:2", 15, 0);
    assert_eq!(
        kinds(&fewer),
        [("unclawed", 1), ("recovered", 1), ("void_released", 17), ("voided", 1), ("void_released", 1),]
    );
    desk.finish(&in_flight, 18);
    assert_eq!((desk.shown(), desk.debt()), (49, 0), "150 bought, 53 used, 48 taken back");
    assert!(back(&mut desk, "buy:2", 15, 0).changes.is_empty());
}

#[test]
fn what_is_recovered_stands_in_for_a_claim_when_more_is_taken_too() {
    let mut desk = Desk::with(50);
    spend(&mut desk, H, 21);
    let in_flight = desk.held(H + 1, vec![credits(5)]).cells[0].id.clone();
    back(&mut desk, "buy:1", 31, 0);
    desk.grant(terms(Source::Purchase, "buy:2", 50));
    assert_eq!(
        (desk.shown(), desk.debt()),
        (48, 0),
        "24 went at once, 5 are claimed, and 2 were owed and repaid"
    );
    let other = back(&mut desk, "buy:1", 26, 4);
    assert_eq!(
        kinds(&other),
        [
            ("unclawed", 2),
            ("recovered", 2),
            ("voided", 1),
            ("voided", 1),
            ("void_released", 1),
            ("frozen", 4),
        ]
    );
    desk.finish(&in_flight, 5);
    assert_eq!((desk.shown(), desk.debt()), (48, 0), "100 bought, 26 used, 26 taken back");
}

#[test]
fn what_comes_back_of_a_grant_that_has_ended_is_expired() {
    let mut desk = Desk::new();
    let ends = desk.now.plus(units::Span::from_secs(10));
    desk.grant(Terms { expires_at: ends, ..terms(Source::Purchase, "buy:1", 100) });
    back(&mut desk, "buy:1", 60, 0);
    desk.after(10_000);
    let undone = back(&mut desk, "buy:1", 0, 0);
    assert_eq!(kinds(&undone), [("expired", 40), ("restored", 60), ("expired", 60)]);
    assert_eq!(desk.shown(), 0);
    assert!(back(&mut desk, "buy:1", 0, 0).changes.is_empty());
}

#[test]
fn what_repaid_a_debt_that_is_none_any_more_is_not_lost_with_a_grant_that_has_ended() {
    let mut desk = Desk::new();
    let ends = desk.now.plus(units::Span::from_secs(10));
    desk.grant(Terms { expires_at: ends, ..terms(Source::Purchase, "buy:1", 100) });
    spend(&mut desk, H, 60);
    back(&mut desk, "buy:1", 100, 0);
    desk.grant(terms(Source::Purchase, "buy:2", 100));
    assert_eq!((desk.shown(), desk.debt()), (40, 0), "60 of it repaid what was used of the first");
    desk.after(10_000);
    let undone = back(&mut desk, "buy:1", 0, 0);
    assert_eq!(kinds(&undone), [("unclawed", 60), ("granted", 60), ("restored", 40), ("expired", 40)]);
    assert_eq!((desk.shown(), desk.debt()), (100, 0), "200 were bought, 60 used, and 40 not spent in time");
    assert!(back(&mut desk, "buy:1", 0, 0).changes.is_empty());
    // And the next refund takes what was used again.
    back(&mut desk, "buy:1", 100, 0);
    assert_eq!((desk.shown(), desk.debt()), (40, 60));
    back(&mut desk, "buy:1", 0, 0);
    assert_eq!((desk.shown(), desk.debt()), (100, 0));
}

#[test]
fn a_period_that_was_ended_by_a_void_stays_ended() {
    let mut desk = used(30);
    desk.void("buy:1", Upto::Total(amount(70)));
    back(&mut desk, "buy:1", 50, 0);
    back(&mut desk, "buy:1", 0, 0);
    assert_eq!((desk.shown(), desk.debt()), (0, 0));
}

#[test]
fn a_window_and_what_is_unknown_are_never_taken_back() {
    let mut desk = Desk::new();
    desk.held(H, vec![window(3)]);
    for id in [1, 9] {
        let target = VoidTarget::Grant(GrantId(id));
        let command = Command::TakeBack(TakeBack {
            target,
            revoked: Amount::ONE,
            frozen: Amount::ONE,
            shortfall: Shortfall::Debt,
        });
        let outcome = desk.act(&command);
        assert_eq!(outcome.reply, Reply::TakenBack(TakenBack::Unknown));
        assert!(outcome.changes.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever was taken back and given back in between, an account is worth what it bought less what its requests
    /// used, less what is revoked, less what is held.
    #[test]
    fn an_account_is_worth_what_it_paid_for(
        acts in proptest::collection::vec((0..5_u8, 0..3_u64, 0..60_i64, 0..60_i64), 1..60),
    ) {
        let mut desk = Desk::new();
        let (mut journal, mut open): (Vec<JournalEntry>, Vec<Vec<CellId>>) = (Vec::new(), Vec::new());
        let mut revoked = [0_i64; 3];
        let mut generation = H;
        for (act, n, a, b) in acts {
            let buy = format!("buy:{n}");
            let outcome = match act {
                0 => Some(desk.act(&Command::Grant(terms(Source::Purchase, &buy, 50)))),
                1 => {
                    generation += 1;
                    let outcome = desk.act(&Command::Need(need(Mode::Hold { generation }, vec![credits(a.max(1))], false)));
                    if let Reply::Need(answer) = &outcome.reply
                        && let Decision::Granted(granted) = &answer.decision
                    {
                        open.push(granted.cells.iter().map(|cell| cell.id.clone()).collect());
                    }
                    Some(outcome)
                }
                2 if !open.is_empty() => {
                    for id in open.swap_remove(usize::try_from(n).unwrap() % open.len()) {
                        let row = desk.book.cells[&id].clone();
                        let used = a.min(row.granted.get());
                        let returned = row.granted.get() - used;
                        let told = totals(row.granted.get(), row.granted.get(), used, returned);
                        journal.extend(desk.act(&Command::Report(report(&id, told))).changes.journal);
                    }
                    None
                }
                _ => {
                    let outcome = back(&mut desk, &buy, a, b);
                    if let Reply::TakenBack(TakenBack::Done { reversed, .. }) = outcome.reply {
                        revoked[usize::try_from(n).unwrap()] = reversed.revoked.get();
                    }
                    Some(outcome)
                }
            };
            journal.extend(outcome.into_iter().flat_map(|outcome| outcome.changes.journal));
            let charged: i64 = journal.iter().filter(|line| line.kind == JournalKind::Used).map(|line| line.amount.get()).sum();
            let grants = || desk.book.grants.values();
            let bought: i64 = grants().map(|grant| grant.terms.amount.get()).sum();
            let frozen: i64 = grants().map(|grant| grant.reversed.frozen().get()).sum();
            let unspent: i64 = grants().map(|it| it.avail.get() + it.leased.get() - it.void_claim.get()).sum();
            let worth = bought - charged - revoked.iter().sum::<i64>() - frozen;
            prop_assert_eq!(unspent - desk.debt(), worth, "{:?}", desk.book);
        }
    }
}
