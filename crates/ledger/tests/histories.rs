//! Random histories of subscriptions and payments: told in any order, any number of times, they end in the same.
//!
//! Left out is what nobody can know when it is told too early or too late: a payment made after an end or a pause and told
//! before it, and a change of plan, an end or a pause that is told after a month of a longer period has come. Nor is anything
//! spent in between, nor a period changed or cut off that itself began with a change: see `allowances` and `over`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![allow(clippy::cast_possible_wrap)]

mod shelf;
use ledger::subscription::*;
use proptest::prelude::*;
use shelf::*;
use std::collections::BTreeMap;
use units::Instant;

const PRICES: [&str; 4] = ["b", "p", "q", "r"];
const NOW: i64 = START + 91 * DAY;

#[derive(Clone, Debug)]
enum Fact {
    Told(Snapshot),
    Paid(InvoicePaid),
}

fn full(price: &str) -> i64 {
    policy(|_| {}).plans[price].price as i64
}

/// Plans by period: the one at its begin, and changes within it by day.
type Periods = Vec<(usize, Vec<(i64, usize)>)>;

/// What Stripe tells of such periods; changes are billed at once, or with the next period.
fn payments(periods: &Periods, at_once: bool, coupon: bool) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut late = Vec::new();
    for (n, (first, changes)) in (0_i64..).zip(periods) {
        let (from, until) = (START + n * 30 * DAY, START + (n + 1) * 30 * DAY);
        let mut regular = cycle(n, PRICES[*first], full(PRICES[*first]));
        regular.lines.splice(..0, late.drain(..));
        if coupon && n == 0 {
            (regular.amount_paid, regular.lines[0].net) = (0, Some(0));
        }
        facts.push(Fact::Paid(regular));
        let mut now = *first;
        for (index, (day, next)) in changes.iter().enumerate() {
            let at = from + day * DAY + index as i64;
            let share = |price: &str| full(price) * (until - at) / (until - from);
            let (old, new) = (PRICES[now], PRICES[*next]);
            let lines = vec![part(old, -share(old), at, until), part(new, share(new), at, until)];
            now = *next;
            if at_once {
                facts.push(Fact::Paid(invoice(&format!("in_{n}_{index}"), "subscription_update", at, lines)));
            } else {
                late.extend(lines);
            }
        }
    }
    facts
}

/// The first period, its changes, and a new one that cuts it off.
fn cut_off(changes: Vec<(i64, usize)>, next: usize) -> Vec<Fact> {
    let last = changes.last().map_or(1, |(_, price)| *price);
    let at = START + 29 * DAY;
    let lines = vec![
        part(PRICES[last], -full(PRICES[last]) / 30, at, END),
        line(PRICES[next], full(PRICES[next]), at, at + 30 * DAY),
    ];
    let mut facts = payments(&vec![(1, changes)], true, false);
    facts.push(Fact::Paid(invoice("in_anew", "subscription_update", at, lines)));
    let after = vec![line(PRICES[next], full(PRICES[next]), at + 30 * DAY, at + 60 * DAY)];
    facts.push(Fact::Paid(invoice("in_after", "subscription_cycle", at + 30 * DAY, after)));
    facts
}

fn snapshots() -> impl Strategy<Value = Vec<Fact>> {
    let words = ["trialing", "active", "past_due", "unpaid", "incomplete"];
    let one =
        (0..words.len(), 0..4_usize, 0..60_i64, any::<bool>()).prop_map(move |(word, price, day, flag)| {
            let mut told = snapshot(PRICES[price], words[word], START + day * DAY);
            told.cancel_at_period_end = flag;
            told.event = format!("{}_{flag}", told.event);
            Fact::Told(told)
        });
    let end = prop_oneof![Just(None), Just(Some("canceled")), Just(Some("paused collection"))];
    (proptest::collection::vec(one, 1..5), end).prop_map(|(mut all, end)| {
        // After every payment: see above.
        let mut last = snapshot("q", if end == Some("canceled") { "canceled" } else { "active" }, NOW - DAY);
        last.collection_paused = end == Some("paused collection");
        all.extend(end.map(|_| Fact::Told(last)));
        all
    })
}

fn periods() -> impl Strategy<Value = Periods> {
    // Changes of one period are told by their day.
    let changes = proptest::collection::vec((1..29_i64, 0..4_usize), 0..4).prop_map(|mut all| {
        all.sort_unstable();
        all
    });
    proptest::collection::vec((0..4_usize, changes), 1..4)
}

fn shuffled(facts: Vec<Fact>) -> impl Strategy<Value = (Vec<Fact>, Vec<Fact>)> {
    let twice: Vec<Fact> = facts.iter().chain(&facts).cloned().collect();
    (Just(facts), Just(twice).prop_shuffle())
}

fn any_rollover() -> impl Strategy<Value = Rollover> {
    prop_oneof![Just(Rollover::None), Just(Rollover::All), Just(Rollover::Cap(credits(220)))]
}

fn any_upgrade() -> impl Strategy<Value = OnUpgrade> {
    let all = [OnUpgrade::None, OnUpgrade::ProratedDelta, OnUpgrade::FullDelta, OnUpgrade::Reset];
    proptest::sample::select(all.to_vec())
}

/// Standing, and what is left, by when its period ends.
type End = (Standing, BTreeMap<Instant, i64>);

/// Tells them all; what waits for a subscription to be known is told again when it is.
fn tell(policy: Policy, facts: &[Fact]) -> (Shelf, End) {
    let mut shelf = Shelf::new(policy);
    shelf.now = secs(NOW);
    let mut waiting = Vec::new();
    for fact in facts {
        match fact {
            Fact::Told(snapshot) => {
                shelf.told(snapshot.clone());
                for invoice in std::mem::take(&mut waiting) {
                    shelf.paid(&invoice);
                }
            }
            Fact::Paid(invoice) => {
                if shelf.paid(invoice).contains(&Withheld::UnknownTrial) {
                    waiting.push(invoice.clone());
                }
            }
        }
    }
    let mut left = BTreeMap::new();
    let parts = shelf.payments.0.values().flat_map(|paid| &paid.0);
    let ends: BTreeMap<&String, Instant> = parts.map(|(origin, part)| (origin, part.ends_at)).collect();
    for grant in shelf.book.grants.values().filter(|grant| !grant.avail.is_zero()) {
        *left.entry(ends[&grant.terms.source_ref]).or_default() += grant.avail.get();
    }
    let standing = shelf.book.account.standing.clone();
    (shelf, (standing, left))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_order_and_any_repetition_of_a_history_end_in_the_same(
        (facts, other) in (periods(), any::<bool>(), any::<bool>(), snapshots()).prop_flat_map(
            |(periods, at_once, coupon, told)| {
                let mut facts = payments(&periods, at_once, coupon);
                facts.splice(..0, told);
                shuffled(facts)
            }),
        rollover in any_rollover(),
        on_upgrade in any_upgrade(),
    ) {
        let policy = || policy(|it| (it.rollover, it.on_upgrade) = (rollover, on_upgrade));
        let ((_, one), (shelf, two)) = (tell(policy(), &facts), tell(policy(), &other));
        prop_assert_eq!(one, two);
        // What came in one period is never more than the largest allowance among the plans of that period.
        for paid in shelf.payments.0.values() {
            for part in paid.0.values() {
                let same = paid.0.values().filter(|it| it.until == part.until && it.from < part.to);
                let granted: i64 = same.clone().map(|it| it.granted.get()).sum();
                let most = same.map(|it| it.most.get()).max().unwrap();
                prop_assert!(granted <= most, "{granted} of {most}: {:?}", shelf.payments);
            }
        }
    }

    #[test]
    fn any_order_of_a_period_that_was_cut_off_ends_in_the_same(
        (facts, other) in (periods(), 1..4_usize, snapshots()).prop_flat_map(|(mut periods, next, told)| {
            let mut facts = cut_off(periods.remove(0).1, next);
            facts.splice(..0, told);
            shuffled(facts)
        }),
        on_upgrade in any_upgrade(),
    ) {
        let policy = || policy(|it| (it.rollover, it.on_upgrade) = (Rollover::All, on_upgrade));
        let ((one, ends), (two, other)) = (tell(policy(), &facts), tell(policy(), &other));
        // Which of two periods that overlap brings what the cap leaves, the order says; how much it is, not.
        prop_assert_eq!(ends.0, other.0);
        prop_assert_eq!(one.left_micro(), two.left_micro());
    }

    #[test]
    fn any_order_of_what_is_known_of_a_year_brings_the_same_months(
        (facts, other) in (0..3_usize, proptest::collection::vec((0..3_usize, 0..60_i64), 1..4)).prop_flat_map(
            |(price, told)| {
                let words = ["trialing", "active", "past_due"];
                let told = told.iter().map(|(word, day)| {
                    let mut told = snapshot(PRICES[price + 1], words[*word], START + day * DAY);
                    told.items[0].period_end = secs(START + 365 * DAY);
                    Fact::Told(told)
                });
                let lines = vec![line(PRICES[price + 1], 50_000, START, START + 365 * DAY)];
                let year = Fact::Paid(invoice("in_y", "subscription_create", START, lines));
                shuffled(told.chain([year]).collect())
            }),
        rollover in any_rollover(),
    ) {
        let policy = || policy(|it| (it.rollover, it.refill) = (rollover, Refill::Monthly));
        let ((shelf, one), (other, two)) = (tell(policy(), &facts), tell(policy(), &other));
        prop_assert_eq!(one, two);
        prop_assert_eq!(shelf.granted(), other.granted());
        prop_assert_eq!(shelf.granted().len(), if rollover == Rollover::None { 2 } else { 4 });
    }
}
