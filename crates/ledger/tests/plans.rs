//! What plans give: rollover, changes within a period, months of longer periods, seats. F-numbers name the reference cases.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![allow(clippy::cast_possible_truncation)]

mod shelf;
use ledger::subscription::*;
use shelf::*;
use units::{Amount, Instant};

fn with(edit: impl Fn(&mut Allowance)) -> Shelf {
    let mut shelf = Shelf::new(policy(edit));
    shelf.told(snapshot("p", "active", START));
    shelf
}

fn on_upgrade(on_upgrade: OnUpgrade) -> Shelf {
    let mut shelf = with(|it| it.on_upgrade = on_upgrade);
    shelf.paid(&cycle(0, "p", 3000));
    shelf
}

#[test]
fn f43_a_renewal_keeps_nothing_all_or_up_to_the_cap() {
    let cap = Rollover::Cap(credits(40));
    for (rollover, left) in [(Rollover::None, 30), (Rollover::All, 42), (cap, 40)] {
        for late in [false, true] {
            let mut shelf = with(|it| it.rollover = rollover);
            shelf.paid(&cycle(0, "p", 3000));
            shelf.use_up(18);
            // The renewal is paid an hour after the old period ended: until then its grace bridges.
            shelf.until(secs(END + 3600));
            assert_eq!(shelf.left(), 12);
            if late {
                assert_eq!(shelf.paid(&cycle(1, "p", 3000)), []);
                assert_eq!(shelf.paid(&cycle(0, "p", 3000)), [Withheld::Known]);
            } else {
                shelf.paid(&cycle(1, "p", 3000));
            }
            assert_eq!(shelf.left(), left, "{rollover:?}");
            assert_eq!(shelf.paid(&cycle(1, "p", 3000)), [Withheld::Known], "the same payment again");
            assert_eq!(shelf.left(), left, "{rollover:?}");
        }
    }
}

#[test]
fn what_rolls_over_does_not_end_and_what_does_not_ends_with_its_grace() {
    for (rollover, before, after) in
        [(Rollover::None, 30, 0), (Rollover::All, 30, 30), (Rollover::Cap(credits(40)), 30, 30)]
    {
        let mut shelf = with(|it| it.rollover = rollover);
        shelf.paid(&cycle(0, "p", 3000));
        assert_eq!(shelf.until(secs(END + 3 * DAY - 1)).left(), before, "{rollover:?}");
        assert_eq!(shelf.until(secs(END + 3 * DAY)).left(), after, "{rollover:?}");
    }
}

#[test]
fn of_many_periods_the_oldest_credits_end_and_what_came_within_the_period_is_not_cut() {
    let mut shelf = with(|it| it.rollover = Rollover::Cap(credits(40)));
    for n in 0..4 {
        shelf.paid(&cycle(n, "p", 3000));
    }
    assert_eq!(shelf.left(), 40);
    let left: Vec<i64> = shelf.book.grants.values().map(|it| it.avail.get() / ONE).collect();
    assert_eq!(left, [0, 0, 10, 30]);
    let at = START + 105 * DAY;
    let end = START + 120 * DAY;
    let change = vec![part("p", -1500, at, end), part("q", 3000, at, end)];
    shelf.paid(&invoice("in_up", "subscription_update", at, change));
    assert_eq!(shelf.left(), 75);
    shelf.paid(&cycle(3, "p", 3000));
    assert_eq!(shelf.left(), 75, "the renewal told again ends nothing that came after it");
}

#[test]
fn a_renewal_that_used_up_its_credits_still_ends_an_older_one_told_later() {
    let mut shelf = with(|_| {});
    shelf.until(secs(END + 60));
    shelf.paid(&cycle(1, "p", 3000));
    shelf.use_up(30);
    shelf.paid(&cycle(0, "p", 3000));
    assert_eq!(shelf.left(), 0);
}

#[test]
fn f44_an_upgrade_in_the_middle_of_a_period_grants_what_its_policy_says() {
    for (policy, more) in [
        (OnUpgrade::None, 0),
        (OnUpgrade::ProratedDelta, 35),
        (OnUpgrade::FullDelta, 70),
        (OnUpgrade::Reset, 70),
    ] {
        let mut shelf = on_upgrade(policy);
        shelf.paid(&upgrade("in_up", MID));
        assert_eq!(shelf.left(), 30 + more, "{policy:?}");
        shelf.paid(&upgrade("in_up", MID));
        assert_eq!(shelf.left(), 30 + more, "{policy:?}, told again");
        let origins: Vec<String> = shelf.granted().into_keys().collect();
        let expected = ["plan:in_0:p", "upgrade:in_up"];
        assert_eq!(origins, expected[..if more > 0 { 2 } else { 1 }]);
        // It ends with the period that it is a part of.
        shelf.paid(&cycle(1, "q", 6000));
        assert_eq!(shelf.left(), 100);
    }
}

#[test]
fn going_up_and_down_never_brings_more_than_the_largest_allowance() {
    for policy in [OnUpgrade::None, OnUpgrade::ProratedDelta, OnUpgrade::FullDelta, OnUpgrade::Reset] {
        let mut shelf = on_upgrade(policy);
        for n in 0..10 {
            let at = START + (1 + 2 * n) * DAY;
            let up = shelf.paid(&upgrade(&format!("in_up_{n}"), at));
            assert!(n < 8 || up.contains(&Withheld::Capped) || policy == OnUpgrade::None, "{up:?}");
            let down = shelf.paid(&downgrade(&format!("in_down_{n}"), at + DAY));
            assert!(down.contains(&Withheld::NoUpgrade), "{down:?}");
        }
        let all: i64 = shelf.book.grants.values().map(|grant| grant.terms.amount.get()).sum();
        assert_eq!(all, if policy == OnUpgrade::None { 30 * ONE } else { 100 * ONE }, "{policy:?}");
    }
}

#[test]
fn a_reset_counts_what_was_used_of_the_old_allowance() {
    let mut shelf = on_upgrade(OnUpgrade::Reset);
    shelf.use_up(18);
    shelf.paid(&upgrade("in_up", MID));
    assert_eq!(shelf.left(), 82);
}

#[test]
fn an_upgrade_told_before_its_period_makes_no_difference_to_the_sum() {
    for policy in [OnUpgrade::ProratedDelta, OnUpgrade::FullDelta, OnUpgrade::Reset] {
        let facts = [
            cycle(0, "p", 3000),
            upgrade("in_a", START + DAY),
            downgrade("in_b", MID),
            upgrade("in_c", MID + DAY),
        ];
        let mut sums = std::collections::BTreeSet::new();
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let mut shelf = with(|it| it.on_upgrade = policy);
            for n in order {
                shelf.paid(&facts[n]);
            }
            sums.insert(shelf.left_micro());
        }
        assert_eq!(sums.len(), 1, "{policy:?}: {sums:?}");
    }
}

#[test]
fn a_change_that_costs_nothing_brings_nothing() {
    let mut shelf = on_upgrade(OnUpgrade::FullDelta);
    let free =
        invoice("in_up", "subscription_update", MID, vec![part("p", 0, MID, END), part("q", 0, MID, END)]);
    assert!(shelf.paid(&free).contains(&Withheld::NoUpgrade));
    let less = vec![part("p", -1500, MID, END), part("q", 1000, MID, END)];
    assert!(shelf.paid(&invoice("in_less", "subscription_update", MID, less)).contains(&Withheld::NoUpgrade));
    assert_eq!(shelf.left(), 30);
}

#[test]
fn a_discount_brings_less() {
    let mut shelf = on_upgrade(OnUpgrade::ProratedDelta);
    let half = vec![part("p", -750, MID, END), part("q", 1500, MID, END)];
    shelf.paid(&invoice("in_up", "subscription_update", MID, half));
    assert_eq!(shelf.left_micro(), 30 * ONE + 17_500_000);
}

#[test]
fn what_cannot_be_reckoned_waits_for_a_person() {
    let mut shelf = on_upgrade(OnUpgrade::ProratedDelta);
    let change = |edit: fn(&mut InvoicePaid)| {
        let mut invoice = upgrade("in_up", MID);
        edit(&mut invoice);
        invoice
    };
    for (invoice, why) in [
        (change(|it| it.currency = Some("eur".to_owned())), Withheld::Currency),
        (change(|it| it.currency = None), Withheld::Currency),
        (change(|it| it.lines[1].net = None), Withheld::Nonsense),
        (change(|it| it.lines[0].price = "x".to_owned()), Withheld::UnknownPlan),
        (change(|it| it.lines[1].period_end = it.lines[1].period_start), Withheld::Nonsense),
        (change(|it| it.lines[1].quantity = 0), Withheld::Nonsense),
        (change(|it| it.lines[1].net = Some(i64::MAX)), Withheld::Nonsense),
    ] {
        let withheld = shelf.paid(&invoice);
        assert_eq!(withheld.last(), Some(&why), "{invoice:?}");
    }
    assert_eq!(shelf.left(), 30);
    // Something else on the same invoice is somebody else's.
    let mut other = upgrade("in_up", MID);
    other.lines.push(part("seats-of-another-product", 700, MID, END));
    shelf.paid(&other);
    assert_eq!(shelf.left(), 65);
}

#[test]
fn a_change_billed_with_the_next_period_brings_its_credits_then() {
    for (policy, more) in [
        (OnUpgrade::ProratedDelta, 35),
        (OnUpgrade::FullDelta, 70),
        (OnUpgrade::Reset, 0),
        (OnUpgrade::None, 0),
    ] {
        let mut shelf = on_upgrade(policy);
        shelf.until(secs(END + 60));
        let lines =
            vec![part("p", -1500, MID, END), part("q", 3000, MID, END), line("q", 6000, END, END + 30 * DAY)];
        shelf.paid(&invoice("in_1", "subscription_cycle", END + 60, lines));
        assert_eq!(shelf.left(), 100 + more, "{policy:?}");
        assert_eq!(shelf.until(secs(END + 33 * DAY - 1)).left(), 100 + more, "as long as that period");
        assert_eq!(shelf.until(secs(END + 33 * DAY)).left(), 0);
    }
}

#[test]
fn a_period_that_begins_with_the_change_brings_what_was_not_paid_back_of_the_one_it_cuts_off() {
    let anew = |id: &str, from: &str, to: &str, at: i64| {
        let (old, new) = if to == "q" { (3000, 6000) } else { (6000, 3000) };
        let lines =
            vec![part(from, -old * (END - at) / (END - START), at, END), line(to, new, at, at + 30 * DAY)];
        invoice(id, "subscription_update", at, lines)
    };
    // Half of 30 had passed, and 100 were paid for.
    let mut shelf = on_upgrade(OnUpgrade::None);
    shelf.paid(&anew("in_up", "p", "q", MID));
    assert_eq!(shelf.left(), 115);
    // On the last day nearly the whole is new.
    let mut late = on_upgrade(OnUpgrade::None);
    late.paid(&anew("in_up", "p", "q", END - DAY));
    assert_eq!(late.left(), 129);
    // To and fro at one time brings nothing.
    for n in 0..5 {
        let down = shelf.paid(&anew(&format!("in_down_{n}"), "q", "p", MID + 2 * n));
        assert!(down.contains(&Withheld::Capped), "{down:?}");
        shelf.paid(&anew(&format!("in_up_{n}"), "p", "q", MID + 2 * n + 1));
    }
    assert!((115 * ONE..115 * ONE + 1000).contains(&shelf.left_micro()), "{}", shelf.left_micro());
}

#[test]
fn a_month_that_becomes_a_year_of_months_loses_none() {
    let mut shelf = Shelf::new(policy(|it| it.refill = Refill::Monthly));
    let mut year = snapshot("p", "active", START);
    year.items[0].period_end = secs(MID + 365 * DAY);
    shelf.told(year);
    shelf.paid(&cycle(0, "p", 3000));
    let lines = vec![part("p", -1500, MID, END), line("p", 36_000, MID, MID + 365 * DAY)];
    shelf.paid(&invoice("in_y", "subscription_update", MID, lines));
    assert!((44 * ONE..=45 * ONE).contains(&shelf.left_micro()), "{}", shelf.left_micro());
    shelf.until(secs(MID + 32 * DAY));
    assert_eq!(shelf.left(), 30);
    assert_eq!(shelf.refilled(), ["2026-01-15", "2026-01-30", "2026-02-28"]);
}

#[test]
fn seats_multiply_the_allowance_if_the_catalog_says_so() {
    let seats = |quantity: u64| {
        let mut invoice = cycle(0, "p", 3000 * i64::try_from(quantity).unwrap());
        invoice.lines[0].quantity = quantity;
        invoice
    };
    let mut flat = with(|_| {});
    flat.paid(&seats(4));
    assert_eq!(flat.left(), 30);
    let mut each = with(|it| (it.per_seat, it.rollover) = (true, Rollover::Cap(credits(40))));
    each.paid(&seats(4));
    assert_eq!(each.left(), 120);
    // Two more from the middle on.
    let mut lines = vec![part("p", -6000, MID, END), part("p", 9000, MID, END)];
    (lines[0].quantity, lines[1].quantity) = (4, 6);
    each.paid(&invoice("in_up", "subscription_update", MID, lines));
    assert_eq!(each.left(), 150);
    let mut renewal = cycle(1, "p", 18_000);
    renewal.lines[0].quantity = 6;
    each.paid(&renewal);
    assert_eq!(each.left(), 240, "the cap is for each seat too");
}

fn annual(from: &str, until: &str) -> (Snapshot, InvoicePaid) {
    let (from, until) = (day(from), day(until));
    let mut told = snapshot("p", "active", from.secs());
    (told.items[0].period_start, told.items[0].period_end) = (from, until);
    let lines = vec![line("p", 36_000, from.secs(), until.secs())];
    (told, invoice("in_y", "subscription_create", from.secs() + 60, lines))
}

fn monthly() -> Shelf {
    Shelf::new(policy(|it| it.refill = Refill::Monthly))
}

#[test]
fn f55_a_year_is_refilled_by_the_month_until_it_is_canceled() {
    let (told, paid) = annual("2026-01-15", "2027-01-15");
    let mut shelf = monthly();
    shelf.told(told.clone());
    shelf.paid(&paid);
    assert_eq!(shelf.book.account.standing.changes_at, Some(day("2026-02-15")));
    assert_eq!(shelf.until(day("2026-02-14")).left(), 30);
    shelf.use_up(10);
    assert_eq!(shelf.until(day("2026-02-15")).left(), 30, "nothing rolls over");
    shelf.until(day("2026-03-20"));
    let mut canceled = snapshot("p", "canceled", day("2026-04-01").secs());
    canceled.items = told.items.clone();
    // The word of it comes in time, or after the sweep of 15 April would have come.
    for told_at in ["2026-04-01", "2026-04-02"] {
        let mut shelf = shelf.clone();
        shelf.until(day(told_at)).told(canceled.clone());
        shelf.until(day("2027-03-01"));
        assert_eq!(shelf.refilled(), ["2026-01-15", "2026-02-15", "2026-03-15"]);
    }
    // A scheduled end holds although the word that it came is late.
    let scheduled = Snapshot { cancel_at: Some(day("2026-04-01")), ..told };
    let scheduled = Snapshot { created: day("2026-03-21"), event: "evt_later".to_owned(), ..scheduled };
    shelf.told(scheduled).until(day("2026-04-20"));
    shelf.told(canceled);
    assert_eq!(shelf.refilled(), ["2026-01-15", "2026-02-15", "2026-03-15"]);
}

#[test]
fn f55_an_anchor_on_the_31st_is_kept() {
    let (told, paid) = annual("2026-01-31", "2027-01-31");
    let mut shelf = monthly();
    shelf.told(told);
    shelf.paid(&paid);
    shelf.until(day("2028-01-01"));
    let days = shelf.refilled();
    assert_eq!(days[..4], ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30"]);
    assert_eq!((days.len(), days[11].as_str()), (12, "2026-12-31"));
    assert_eq!(shelf.granted()["refill:in_y:p:11"], 30);
}

#[test]
fn a_quarter_is_three_months_wherever_its_short_month_is() {
    for (from, until, days) in [
        ("2026-02-28", "2026-05-31", vec!["2026-02-28", "2026-03-31", "2026-04-30"]),
        ("2025-11-30", "2026-02-28", vec!["2025-11-30", "2025-12-30", "2026-01-30"]),
        ("2026-01-15", "2026-04-15", vec!["2026-01-15", "2026-02-15", "2026-03-15"]),
        ("2026-02-28", "2026-03-31", vec!["2026-02-28"]),
        ("2026-01-31", "2026-02-28", vec!["2026-01-31"]),
        ("2026-01-20", "2026-02-01", vec!["2026-01-20"]),
    ] {
        let (told, paid) = annual(from, until);
        let mut shelf = monthly();
        shelf.told(told);
        shelf.paid(&paid);
        shelf.until(day("2027-01-01"));
        assert_eq!(shelf.refilled(), days, "{from} {until}");
    }
}

#[test]
fn a_refill_waits_while_nothing_is_owed_to_the_customer_any_more() {
    let (told, paid) = annual("2026-01-15", "2027-01-15");
    let at = day("2026-02-10");
    let changed = |edit: fn(&mut Snapshot)| {
        let mut told = Snapshot { created: at, event: "evt_2".to_owned(), ..told.clone() };
        edit(&mut told);
        told
    };
    for (change, after) in [
        (changed(|it| it.status = Status::Unpaid), 1),
        (changed(|it| it.status = Status::Paused), 1),
        (changed(|it| it.collection_paused = true), 1),
        (changed(|it| it.status = Status::PastDue), 2),
    ] {
        let mut shelf = monthly();
        shelf.told(told.clone());
        shelf.paid(&paid);
        shelf.until(at).told(change.clone());
        shelf.until(day("2026-02-20"));
        assert_eq!(shelf.refilled().len(), after, "{change:?}");
        // In order again, it gets what the current month brings.
        let well = Snapshot { created: day("2026-02-20"), event: "evt_3".to_owned(), ..told.clone() };
        shelf.told(well);
        assert_eq!(shelf.refilled(), ["2026-01-15", "2026-02-15"]);
    }
}

#[test]
fn a_late_sweep_grants_what_is_not_over_and_with_rollover_all_of_it() {
    for (rollover, count, left) in
        [(Rollover::None, 2, 30), (Rollover::All, 4, 120), (Rollover::Cap(credits(40)), 4, 40)]
    {
        let (told, paid) = annual("2026-01-15", "2027-01-15");
        let mut shelf = Shelf::new(policy(|it| (it.refill, it.rollover) = (Refill::Monthly, rollover)));
        shelf.told(told);
        shelf.paid(&paid);
        shelf.now = day("2026-04-20");
        shelf.restand();
        assert_eq!((shelf.refilled().len(), shelf.left()), (count, left), "{rollover:?}");
    }
}

#[test]
fn a_change_of_plan_changes_the_months_to_come() {
    let (told, paid) = annual("2026-01-15", "2027-01-15");
    let (at, end) = (day("2026-01-30"), day("2027-01-15"));
    let change = |from: &str, to: &str, net: [i64; 2]| {
        let lines = vec![part(from, net[0], at.secs(), end.secs()), part(to, net[1], at.secs(), end.secs())];
        invoice("in_up", "subscription_update", at.secs(), lines)
    };
    let cases = [
        (change("p", "q", [-34_000, 68_000]), 30 + 16 * 70 * ONE / 31 / ONE + 1, 100),
        (change("p", "b", [-34_000, 10_000]), 30, 0),
        (change("p", "p", [-34_000, 34_000]), 30, 30),
    ];
    for (invoice, now, then) in cases {
        let mut shelf = monthly();
        shelf.told(told.clone());
        shelf.paid(&paid);
        shelf.until(at);
        shelf.paid(&invoice);
        let left = shelf.left_micro();
        assert!((now - 1) * ONE < left && left <= now * ONE, "{left} {now}");
        shelf.until(day("2026-02-19"));
        assert_eq!(shelf.left(), then, "{invoice:?}");
    }
}

#[test]
fn a_year_that_was_paid_back_brings_no_more_months() {
    let (told, paid) = annual("2026-01-15", "2027-01-15");
    let mut shelf = monthly();
    shelf.told(told);
    shelf.paid(&paid);
    shelf.until(day("2026-02-20"));
    assert_eq!(shelf.payments.stop("in_0", true), [""; 0], "nobody's");
    assert_eq!(shelf.payments.stop("in_y", true), ["sub_1"]);
    assert_eq!(shelf.payments.stop("in_y", true), [""; 0], "once");
    shelf.restand();
    assert_eq!(shelf.book.account.standing.changes_at, None);
    shelf.until(day("2026-11-20"));
    assert_eq!(shelf.refilled(), ["2026-01-15", "2026-02-15"]);
    // The refund failed.
    assert_eq!(shelf.payments.stop("in_y", false), ["sub_1"]);
    shelf.restand();
    shelf.until(day("2026-12-20"));
    assert_eq!(shelf.refilled(), ["2026-01-15", "2026-02-15", "2026-11-15", "2026-12-15"]);
}

#[test]
fn f41_a_trial_is_no_period_and_nothing_is_kept_of_it() {
    let mut shelf = Shelf::new(policy(|it| it.rollover = Rollover::All));
    let trial = Snapshot { trial_end: Some(secs(START + 7 * DAY)), ..snapshot("p", "trialing", START) };
    shelf.told(trial);
    shelf.paid(&invoice("in_t", "subscription_create", START, vec![line("p", 0, START, START + 7 * DAY)]));
    assert_eq!(shelf.left(), 5);
    shelf.until(secs(START + 7 * DAY + 60));
    let from = START + 7 * DAY;
    shelf.paid(&invoice(
        "in_1",
        "subscription_cycle",
        from + 60,
        vec![line("p", 3000, from, from + 30 * DAY)],
    ));
    assert_eq!(shelf.left(), 30);
}

#[test]
fn f32_what_is_paid_while_collection_is_paused_waits_and_what_was_paid_before_does_not() {
    let mut shelf = with(|_| {});
    shelf.told(Snapshot { collection_paused: true, ..snapshot("p", "active", START + 10 * DAY) });
    shelf.told(Snapshot { collection_paused: true, ..snapshot("p", "active", START + 12 * DAY) });
    assert_eq!(shelf.paid(&cycle(1, "p", 3000)), [Withheld::Paused]);
    assert_eq!(shelf.left(), 0);
    shelf.paid(&cycle(0, "p", 3000));
    assert_eq!(shelf.left(), 30, "it was paid before the pause, and told after");
    shelf.told(snapshot("p", "active", END + DAY));
    shelf.until(secs(END + DAY));
    assert_eq!(shelf.paid(&cycle(1, "p", 3000)), []);
    assert_eq!(shelf.left(), 30);
    // Of two pauses the second counts: what was paid between them was not paid in it.
    shelf.told(Snapshot { collection_paused: true, ..snapshot("p", "active", END + 31 * DAY) });
    assert_eq!(shelf.paid(&cycle(2, "p", 3000)), []);
    assert_eq!(shelf.paid(&cycle(3, "p", 3000)), [Withheld::Paused]);
}

#[test]
fn an_end_of_time_does_no_harm() {
    let mut shelf = monthly();
    let (mut told, mut paid) = annual("2026-01-15", "2027-01-15");
    (told.items[0].period_end, paid.lines[0].period_end) = (Instant::FAR, Instant::FAR);
    shelf.told(told);
    shelf.paid(&paid);
    assert_eq!(shelf.until(day("2026-03-01")).left(), 30);
    assert_eq!(shelf.granted().values().sum::<i64>(), 60);
    assert_eq!(Amount::ZERO, shelf.book.account.debt);
}
