//! Stripe's facts in every order and shape that the reference cases name, folded into where an account stands.
//! F-numbers name those cases.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use ledger::subscription::*;
use ledger::{Refusal, Terms};
use proptest::prelude::*;
use units::{Amount, Instant, Span, TierId};

const DAY: i64 = 86_400;
const START: i64 = 20_000 * DAY;
const END: i64 = START + 30 * DAY;

fn secs(at: i64) -> Instant {
    Instant::from_secs(at)
}

fn tier(name: &str) -> Option<TierId> {
    Some(TierId::new(name).unwrap())
}

fn plan(name: &str, rank: u32, credits: i64) -> Plan {
    let allowance = Allowance {
        credits: Amount::new(credits).unwrap(),
        trial_credits: Amount::new(5).unwrap(),
        per_seat: false,
        expiry_grace: Span::from_secs(3 * 86_400),
        priority: 5,
        rollover: Rollover::None,
        on_upgrade: OnUpgrade::ProratedDelta,
        refill: Refill::Period,
    };
    Plan { tier: tier(name).unwrap(), rank, price: 3000, allowance: Some(allowance) }
}

fn policy() -> Policy {
    let plans = [("price_p", plan("p", 1, 30)), ("price_q", plan("q", 2, 100))];
    Policy {
        plans: plans.into_iter().map(|(price, plan)| (price.to_owned(), plan)).collect(),
        default_tier: None,
        past_due_grace: Span::from_secs(7 * 86_400),
        on_cancel: OnCancel::PeriodEnd,
        while_collection_paused: WhileCollectionPaused::Allow,
        currency: "usd".to_owned(),
    }
}

fn item(price: &str, period_end: i64) -> Item {
    Item { price: price.to_owned(), quantity: 1, period_start: secs(START), period_end: secs(period_end) }
}

fn told(status: &str, created: i64) -> Snapshot {
    Snapshot {
        id: "sub_a".to_owned(),
        customer: "cus_1".to_owned(),
        status: Status::from(status.to_owned()),
        items: vec![item("price_p", END)],
        cancel_at: None,
        cancel_at_period_end: false,
        ended_at: (status == "canceled").then_some(secs(created)),
        trial_end: None,
        collection_paused: false,
        created: secs(created),
        event: format!("evt_{status}_{created}"),
    }
}

fn fold(snapshots: &[Snapshot]) -> Subscriptions {
    let mut all = Subscriptions::default();
    for snapshot in snapshots {
        all.fold(snapshot.clone(), &policy());
    }
    all
}

/// Where an account stands of whose payments nothing was told.
fn standing(all: &Subscriptions, policy: &Policy, now: Instant) -> Standing {
    ledger::subscription::standing(all, &Payments::default(), policy, now)
}

/// What the facts make of an account at an instant, in every order of the facts.
fn stands(snapshots: &[Snapshot], at: i64) -> (Option<TierId>, Stage, Option<Refusal>) {
    let mut reversed = snapshots.to_vec();
    reversed.reverse();
    let (one, other) = (fold(snapshots), fold(&reversed));
    assert_eq!(one, other, "the order does not matter");
    let standing = standing(&one, &policy(), secs(at));
    (standing.tier, standing.stage, standing.why)
}

const ACTIVE: (Stage, Option<Refusal>) = (Stage::Active, None);

fn on(name: &str, (stage, why): (Stage, Option<Refusal>)) -> (Option<TierId>, Stage, Option<Refusal>) {
    (tier(name), stage, why)
}

fn nowhere(stage: Stage, why: Refusal) -> (Option<TierId>, Stage, Option<Refusal>) {
    (None, stage, Some(why))
}

#[test]
fn f22_an_older_creation_does_not_undo_an_update() {
    assert_eq!(stands(&[told("active", START + 1), told("incomplete", START)], START + 2), on("p", ACTIVE));
}

#[test]
fn f23_the_end_is_final_whatever_is_told_later_or_in_the_same_second() {
    for late in [99, 100, 101] {
        let mut all = fold(&[told("canceled", START + 100)]);
        let folded = all.fold(told("active", START + late), &policy());
        assert!(matches!(folded, Folded::Older | Folded::Newer), "{folded:?}");
        let view = standing(&all, &Policy { on_cancel: OnCancel::Immediate, ..policy() }, secs(START + 200));
        assert_eq!((view.tier, view.why), (None, Some(Refusal::Canceled)));
    }
}

#[test]
fn f24_f25_two_tellings_of_one_second_are_chosen_by_rule_and_flagged() {
    let both = [told("trialing", START), told("active", START)];
    assert_eq!(stands(&both, START + 1), on("p", ACTIVE));
    let mut all = fold(&both[..1]);
    assert_eq!(all.fold(both[1].clone(), &policy()), Folded::Tie);
    assert_eq!(all.fold(both[0].clone(), &policy()), Folded::Tie);
    assert_eq!(all.fold(both[1].clone(), &policy()), Folded::Same);
    assert_eq!(all.fold(told("active", START - 1), &policy()), Folded::Older);
}

#[test]
fn f26_the_end_of_a_superseded_subscription_takes_nothing_away() {
    let new =
        Snapshot { id: "sub_b".to_owned(), items: vec![item("price_q", END)], ..told("active", START + 5) };
    let old = [told("active", START), told("canceled", START + 9)];
    assert_eq!(stands(&[old[0].clone(), new.clone(), old[1].clone()], START + 10), on("q", ACTIVE));
    let lower = Snapshot { id: "sub_b".to_owned(), ..told("active", START + 5) };
    let rest = Snapshot { items: vec![item("price_q", END)], ..old[1].clone() };
    let good = Snapshot { items: vec![item("price_q", END)], ..old[0].clone() };
    let higher = stands(&[good, rest, lower], START + 10);
    assert_eq!(higher, on("q", (Stage::Canceled, None)), "the paid rest of the better one");
}

#[test]
fn f27_a_first_payment_that_never_succeeds_gives_nothing() {
    let facts = [told("incomplete", START), told("incomplete_expired", START + 23 * 3600)];
    assert_eq!(stands(&facts[..1], START + 1), nowhere(Stage::Incomplete, Refusal::Incomplete));
    assert_eq!(stands(&facts, START + DAY), nowhere(Stage::Expired, Refusal::Expired));
    let canceled = [told("incomplete", START), told("canceled", START + 9)];
    assert_eq!(stands(&canceled, START + 10).0, None, "there is no paid rest of what was never paid");
}

#[test]
fn f28_f29_the_grace_runs_from_the_first_failure_and_ends_on_the_second() {
    let due = START + 30 * DAY;
    let mut facts = vec![told("active", START), told("past_due", due), told("past_due", due + 3 * DAY)];
    let grace = due + 7 * DAY;
    assert_eq!(stands(&facts, grace - 1), on("p", (Stage::PastDue, None)));
    assert_eq!(stands(&facts, grace), nowhere(Stage::PastDue, Refusal::PastDueGraceOver));
    let at = standing(&fold(&facts), &policy(), secs(due)).changes_at;
    assert_eq!(at, Some(secs(grace)), "and says when it will change");
    facts.push(told("active", grace + 1));
    assert_eq!(stands(&facts, grace + 2), on("p", ACTIVE));
    facts.push(told("past_due", grace + 60 * DAY));
    assert_eq!(
        stands(&facts, grace + 66 * DAY),
        on("p", (Stage::PastDue, None)),
        "a new failure, a new grace"
    );
    facts.push(told("unpaid", grace + 62 * DAY));
    assert_eq!(stands(&facts, grace + 62 * DAY), nowhere(Stage::Unpaid, Refusal::Unpaid));
}

#[test]
fn f30_a_scheduled_end_is_a_flag_until_it_comes_and_can_be_taken_back() {
    let flag = Snapshot { cancel_at_period_end: true, ..told("active", START + 1) };
    let date = Snapshot { cancel_at: Some(secs(END)), ..told("active", START + 1) };
    for scheduled in [flag, date] {
        let facts = [told("active", START), scheduled];
        assert_eq!(stands(&facts, END - 1), on("p", ACTIVE));
        let view = standing(&fold(&facts), &policy(), secs(START + 2));
        assert_eq!((view.cancel_at, view.changes_at), (Some(secs(END)), Some(secs(END))));
        assert_eq!(
            stands(&facts, END),
            nowhere(Stage::Expired, Refusal::Expired),
            "even if the word is late"
        );
        let undone = [facts[0].clone(), facts[1].clone(), told("active", START + 2)];
        assert_eq!(standing(&fold(&undone), &policy(), secs(START + 3)).cancel_at, None);
    }
}

#[test]
fn f31_a_cancellation_ends_at_once_or_with_the_paid_period() {
    let facts = fold(&[told("active", START), told("canceled", START + DAY)]);
    let at = |on_cancel, now| {
        let view = standing(&facts, &Policy { on_cancel, ..policy() }, secs(now));
        (view.tier, view.stage, view.why)
    };
    assert_eq!(at(OnCancel::Immediate, START + DAY), nowhere(Stage::Canceled, Refusal::Canceled));
    assert_eq!(at(OnCancel::PeriodEnd, END - 1), on("p", (Stage::Canceled, None)));
    assert_eq!(at(OnCancel::PeriodEnd, END), nowhere(Stage::Expired, Refusal::Expired));
    assert_eq!(at(OnCancel::Immediate, END), nowhere(Stage::Expired, Refusal::Expired));
    let dunned = [told("active", START), told("past_due", START + DAY), told("canceled", START + 9 * DAY)];
    assert_eq!(stands(&dunned, START + 10 * DAY).0, None, "an unpaid period has no paid rest");
}

#[test]
fn f32_paused_collection_is_a_flag() {
    let facts = fold(&[Snapshot { collection_paused: true, ..told("active", START) }]);
    assert_eq!(standing(&facts, &policy(), secs(START + 1)).tier, tier("p"));
    let deny = Policy { while_collection_paused: WhileCollectionPaused::Deny, ..policy() };
    let view = standing(&facts, &deny, secs(START + 1));
    assert_eq!((view.tier, view.stage, view.why), nowhere(Stage::Active, Refusal::Paused));
}

#[test]
fn f33_a_trial_without_a_way_to_pay_pauses_and_resumes_or_ends() {
    let trial = |status: &str, at| Snapshot { trial_end: Some(secs(START + 7 * DAY)), ..told(status, at) };
    let mut facts = vec![trial("trialing", START), trial("paused", START + 7 * DAY)];
    assert_eq!(stands(&facts[..1], START + 1), on("p", (Stage::Trialing, None)));
    assert_eq!(stands(&facts, START + 8 * DAY), nowhere(Stage::Paused, Refusal::Paused));
    facts.push(trial("active", START + 9 * DAY));
    assert_eq!(stands(&facts, START + 9 * DAY), on("p", ACTIVE));
    let over = |it: Snapshot| Snapshot { items: vec![item("price_p", START + 7 * DAY)], ..it };
    let ended = [over(trial("trialing", START)), over(trial("canceled", START + 7 * DAY))];
    assert_eq!(stands(&ended, START + 7 * DAY), nowhere(Stage::Expired, Refusal::TrialExpired));
}

#[test]
fn f34_an_unknown_price_keeps_the_last_known_plan_and_is_flagged() {
    let strange = Snapshot { items: vec![item("price_x", END)], ..told("active", START + 1) };
    let mut all = fold(&[told("active", START)]);
    assert_eq!(all.fold(strange.clone(), &policy()), Folded::UnknownPrice("price_x".to_owned()));
    assert_eq!(stands(&[told("active", START), strange.clone()], START + 2), on("p", ACTIVE));
    assert_eq!(stands(&[strange], START + 2), nowhere(Stage::NoSubscription, Refusal::NoSubscription));
}

#[test]
fn f34_none_of_a_price_is_no_plan_and_no_unknown_price() {
    let none = |price: &str, event: &str| {
        let items = vec![Item { quantity: 0, ..item(price, END) }];
        Snapshot { items, event: event.to_owned(), ..told("active", START + 1) }
    };
    for price in ["price_p", "price_x"] {
        let mut all = fold(&[told("active", START)]);
        assert_eq!(all.fold(none(price, "evt_none"), &policy()), Folded::Newer, "{price}");
        let nothing = nowhere(Stage::NoSubscription, Refusal::NoSubscription);
        assert_eq!(stands(&[told("active", START), none(price, "evt_none")], START + 2), nothing, "{price}");
        let again = [told("active", START), none(price, "evt_none"), told("active", START + 2)];
        assert_eq!(stands(&again, START + 3), on("p", ACTIVE), "{price}");
    }
    // Some of what is not known beside none of what is, or nothing at all, is looked at.
    let mut some = none("price_p", "evt_some");
    some.items.push(item("price_x", END));
    assert_eq!(fold(&[]).fold(some, &policy()), Folded::UnknownPrice("price_x".to_owned()));
    let nothing = Snapshot { items: Vec::new(), ..told("active", START) };
    assert_eq!(fold(&[]).fold(nothing, &policy()), Folded::UnknownPrice(String::new()));
}

#[test]
fn an_unknown_status_changes_nothing_and_is_flagged() {
    let mut all = fold(&[told("active", START)]);
    let before = all.clone();
    assert_eq!(all.fold(told("dormant", START + 1), &policy()), Folded::UnknownStatus("dormant".to_owned()));
    assert_eq!(all, before);
    assert_eq!(
        stands(&[told("dormant", START)], START),
        nowhere(Stage::NoSubscription, Refusal::NoSubscription)
    );
}

#[test]
fn f36_the_plan_items_period_counts_and_not_the_add_ons() {
    let items = vec![item("price_addon_yearly", START + 365 * DAY), item("price_p", END)];
    let all = fold(&[Snapshot { items, ..told("active", START) }]);
    assert_eq!(standing(&all, &policy(), secs(START)).current_period_end, Some(secs(END)));
}

#[test]
fn the_default_tier_catches_who_has_no_better_one_and_says_why() {
    let free = Policy { default_tier: tier("free"), ..policy() };
    let view = standing(&fold(&[told("unpaid", START)]), &free, secs(START + 1));
    assert_eq!((view.tier, view.stage, view.why), (tier("free"), Stage::Unpaid, Some(Refusal::Unpaid)));
    let view = standing(&Subscriptions::default(), &free, secs(START));
    assert_eq!((view.tier, view.stage), (tier("free"), Stage::NoSubscription));
}

fn invoice(reason: &str, price: &str, period_end: i64) -> InvoicePaid {
    let line = InvoiceLine {
        price: price.to_owned(),
        quantity: 3,
        proration: false,
        net: Some(3000),
        period_start: secs(START),
        period_end: secs(period_end),
    };
    InvoicePaid {
        id: "in_1".to_owned(),
        subscription: Some("sub_a".to_owned()),
        billing_reason: reason.to_owned(),
        paid_at: secs(START + 60),
        amount_paid: 3000,
        currency: Some("usd".to_owned()),
        lines: vec![line],
    }
}

fn granted(invoice: &InvoicePaid, facts: &[Snapshot]) -> Result<Terms, Withheld> {
    allowances(invoice, &mut Payments::default(), &fold(facts), &policy()).remove(0)
}

#[test]
fn a_paid_period_grants_its_allowance_whatever_its_subscription_is_known_to_be() {
    let cycle = invoice("subscription_cycle", "price_p", END);
    for facts in [vec![], vec![told("incomplete", START)], vec![told("active", START)]] {
        let terms = granted(&cycle, &facts).unwrap();
        assert_eq!((terms.amount.get(), terms.source_ref.as_str()), (30, "plan:in_1:price_p"));
        assert_eq!((terms.starts_at, terms.expires_at), (secs(START), secs(END + 3 * DAY)));
    }
}

#[test]
fn f41_f42_a_trial_is_told_by_its_end_and_not_by_a_price_of_nothing() {
    let free =
        |period_end| InvoicePaid { amount_paid: 0, ..invoice("subscription_create", "price_p", period_end) };
    let trial = [Snapshot { trial_end: Some(secs(START + 7 * DAY)), ..told("trialing", START) }];
    assert_eq!(granted(&free(START + 7 * DAY), &trial).unwrap().amount.get(), 5);
    let coupon = |start| {
        let mut free = free(END);
        free.lines[0].period_start = secs(start);
        free
    };
    assert_eq!(granted(&coupon(START + 7 * DAY), &trial).unwrap().amount.get(), 30, "a full coupon");
    // The trial was made longer, or cut short, before its own invoice was heard of.
    for end in [3 * DAY, 10 * DAY] {
        let moved = [Snapshot { trial_end: Some(secs(START + end)), ..told("trialing", START) }];
        assert_eq!(granted(&free(START + 7 * DAY), &moved).unwrap().amount.get(), 5, "{end}");
        let paid = invoice("subscription_cycle", "price_p", END);
        assert_eq!(granted(&paid, &moved).unwrap().amount.get(), 30, "what was paid for is no trial: {end}");
    }
    assert_eq!(granted(&free(END), &[]), Err(Withheld::UnknownTrial), "cannot be told yet");
}

#[test]
fn f53_and_other_payments_that_grant_nothing_say_why() {
    let ended = [told("active", START), told("canceled", START + 30)];
    assert_eq!(granted(&invoice("subscription_cycle", "price_p", END), &ended), Err(Withheld::Ended));
    let before = InvoicePaid { paid_at: secs(START + 29), ..invoice("subscription_cycle", "price_p", END) };
    assert!(granted(&before, &ended).is_ok(), "paid before it ended, told after");
    for reason in ["manual", "subscription_threshold", "upcoming"] {
        assert_eq!(granted(&invoice(reason, "price_p", END), &[]), Err(Withheld::Reason));
    }
    for reason in ["", "subscription_something_new"] {
        assert_eq!(granted(&invoice(reason, "price_p", END), &[]), Err(Withheld::UnknownReason));
    }
    assert_eq!(granted(&invoice("subscription_cycle", "price_x", END), &[]), Err(Withheld::UnknownPrice));
    assert_eq!(granted(&invoice("subscription_cycle", "price_p", START), &[]), Err(Withheld::Nonsense));
    let mut partly = invoice("subscription_cycle", "price_p", END);
    partly.lines[0].proration = true;
    assert_eq!(granted(&partly, &[]), Err(Withheld::Proration));
    let mut nobody = invoice("subscription_cycle", "price_p", END);
    nobody.lines[0].quantity = 0;
    assert_eq!(granted(&nobody, &[]), Err(Withheld::NoAllowance), "none of it was bought");
    let none = InvoicePaid { subscription: None, ..invoice("subscription_cycle", "price_p", END) };
    assert_eq!(granted(&none, &[]), Err(Withheld::NoSubscription));
}

#[test]
fn what_is_stored_comes_back() {
    let all = fold(&[told("active", START), told("past_due", START + 5)]);
    let json = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Subscriptions>(&json).unwrap(), all);
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let words = ["incomplete", "trialing", "active", "past_due", "unpaid", "paused", "canceled", "odd"];
    let all = (0..words.len(), 0..6_i64, 0..3_usize, 0..2_u64, any::<bool>());
    all.prop_map(move |(word, at, price, quantity, flag)| Snapshot {
        items: vec![Item { quantity, ..item(["price_p", "price_q", "price_x"][price], END) }],
        cancel_at_period_end: flag,
        event: format!("evt_{word}_{at}_{price}_{quantity}_{flag}"),
        ..told(words[word], START + at)
    })
}

proptest! {
    #[test]
    fn any_order_and_any_repetition_fold_to_the_same(
        facts in proptest::collection::vec(any_snapshot(), 0..8),
        order in any::<prop::sample::Index>(),
    ) {
        let mut other = facts.clone();
        other.rotate_left(if facts.is_empty() { 0 } else { order.index(facts.len()) });
        other.extend(facts.iter().rev().cloned());
        prop_assert_eq!(fold(&facts), fold(&other));
    }
}
