//! Random commands: the invariants after each (which `step` checks itself), what may only grow, what a repetition may
//! change (nothing), whether the journal explains every counter, and a naive model of holds beside it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod desk;
use desk::*;
use ledger::*;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;
use units::{Amount, Instant, Span, Unit};

/// Amounts are small, so that commands meet.
fn small() -> impl Strategy<Value = Amount> {
    (0..24_i64).prop_map(amount)
}

fn lanes() -> impl Strategy<Value = Vec<Lane>> {
    let lanes = proptest::collection::vec((0..3_u8, 1..20_i64), 0..3);
    (1..5_i64, lanes).prop_map(|(limit, lanes)| {
        let lane = |(kind, n)| match kind {
            0 => credits(n),
            1 => window(limit),
            _ => Lane { legs: [window(limit).legs, credits(n).legs].concat() },
        };
        lanes.into_iter().map(lane).collect()
    })
}

fn any_need() -> impl Strategy<Value = Command> {
    let mode = prop_oneof![
        1 => Just(Mode::Identify),
        4 => (0..6_u64).prop_map(|n| Mode::Hold { generation: H + n }),
        4 => (1..3_u64, small()).prop_map(|(generation_min, ahead)| Mode::Lease { generation_min, ahead }),
    ];
    let exposure = prop_oneof![Just(Exposure::Whole), small().prop_map(Exposure::AtMost)];
    (mode, lanes(), any::<bool>(), 1..3_u8, 1..4_u32, exposure).prop_map(
        |(mode, lanes, wait, process, holders, exposure)| {
            Command::Need(Need { node: node(process), holders, exposure, ..need(mode, lanes, wait) })
        },
    )
}

fn any_totals() -> impl Strategy<Value = Totals> {
    let short = prop_oneof![9 => Just(Amount::ZERO), 1 => small()];
    (small(), small(), small(), small(), short).prop_map(|(a, b, c, returned, short)| {
        let mut three = [a, b, c];
        three.sort_unstable(); // mostly believable: used ≤ finished ≤ admitted
        Totals { admitted: three[2], finished: three[1], used: three[0], returned, short }
    })
}

/// A command, or a report of whichever cell the index meets.
#[derive(Clone, Debug)]
enum Act {
    Command(Command),
    Report(Index, Totals, Amount, Amount),
    /// A report of which only the growth is random: what an honest gateway would say.
    Spend(Index, Amount, Amount),
}

fn any_act() -> impl Strategy<Value = Act> {
    let shortfall = || prop_oneof![Just(Shortfall::Debt), Just(Shortfall::WriteOff)];
    let source = prop_oneof![Just(Source::Purchase), Just(Source::Promo), Just(Source::Subscription)];
    let grant =
        (source, 0..4_u8, 1..40_i64, 0..3_i64, 1..200_i64).prop_map(|(source, n, amount, priority, secs)| {
            let expires_at = Instant::from_secs(NOON + secs);
            Command::Grant(Terms { priority, expires_at, ..terms(source, &format!("g{n}"), amount) })
        });
    let upto = prop_oneof![Just(Upto::All), small().prop_map(Upto::Total)];
    let void = (1..6_u64, upto, shortfall()).prop_map(|(id, upto, shortfall)| {
        Command::Void(Void { target: VoidTarget::Grant(GrantId(id)), upto, shortfall })
    });
    let abandon = (1..3_u8, 0..6_u64)
        .prop_map(|(n, g)| Command::Abandon(Abandon { node: node(n), incarnation: 1, generation: H + g }));
    let crash = prop_oneof![Just(CrashPolicy::Refund), Just(CrashPolicy::Charge)];
    let expire =
        (crash, shortfall()).prop_map(|(crash, shortfall)| Command::Expire(Expire { crash, shortfall }));
    prop_oneof![
        3 => grant.prop_map(Act::Command),
        1 => void.prop_map(Act::Command),
        8 => any_need().prop_map(Act::Command),
        1 => abandon.prop_map(Act::Command),
        4 => expire.prop_map(Act::Command),
        1 => prop_oneof![Just(Command::Suspend), Just(Command::Resume)].prop_map(Act::Command),
        4 => (any::<Index>(), any_totals(), small(), small()).prop_map(|(i, t, x, n)| Act::Report(i, t, x, n)),
        8 => (any::<Index>(), small(), small()).prop_map(|(i, n, u)| Act::Spend(i, n, u)),
    ]
}

fn command_of(act: Act, book: &Book) -> Option<Command> {
    let pick = |index: Index| {
        let cells: Vec<_> = book.cells.iter().collect();
        (!cells.is_empty()).then(|| cells[index.index(cells.len())])
    };
    match act {
        Act::Command(command) => Some(command),
        Act::Report(index, totals, target, need) => {
            let (id, _) = pick(index)?;
            Some(Command::Report(Report { target, need, ..report(id, totals) }))
        }
        Act::Spend(index, n, used) => {
            let (id, row) = pick(index)?;
            let grow = n.min(row.free());
            let admitted = row.admitted.checked_add(grow).unwrap();
            let finished = row.finished.checked_add(n.min(row.held())).unwrap();
            let used = row.used.checked_add(used.min(finished.saturating_sub(row.finished))).unwrap();
            let told = Totals { admitted, finished, used, returned: row.returned, short: row.short };
            Some(Command::Report(Report { target: row.granted.checked_add(n).unwrap(), ..report(id, told) }))
        }
    }
}

/// I5: what may only grow has only grown.
fn only_grew(before: &Book, after: &Book) {
    assert!(after.account.epoch >= before.account.epoch && after.seen >= before.seen);
    for (id, was) in &before.grants {
        let is = &after.grants[id];
        assert!(
            is.used >= was.used && is.expired >= was.expired && is.voided >= was.voided,
            "{was:?} {is:?}"
        );
        assert!(is.clawed >= was.clawed && is.terms.amount >= was.terms.amount, "{was:?} {is:?}");
    }
    for (id, was) in &before.cells {
        let is = &after.cells[id];
        let grew = [
            (was.granted, is.granted),
            (was.returned, is.returned),
            (was.admitted, is.admitted),
            (was.finished, is.finished),
            (was.used, is.used),
            (was.short, is.short),
            (was.late, is.late),
            (was.exposure, is.exposure),
        ];
        assert!(grew.iter().all(|(was, is)| is >= was), "{was:?} {is:?}");
        assert!(is.state >= was.state && is.soft_at >= was.soft_at && is.hard_at >= was.hard_at);
        assert!(was.state != CellState::Closed || is.granted == was.granted, "I8");
    }
}

/// I13: whether an earlier grant of the kind was left with anything when this one was taken from.
fn earlier_left(after: &Book, taken: GrantId) -> bool {
    let terms = &after.grants[&taken].terms;
    after.grants.iter().any(|(id, grant)| {
        grant.terms.unit == terms.unit
            && grant.terms.scope == terms.scope
            && grant.is_live(after.seen)
            && (grant.terms.priority, grant.terms.expires_at, *id) < (terms.priority, terms.expires_at, taken)
            && !grant.avail.is_zero()
    })
}

/// Every counter is the sum of what the journal says.
fn explained(book: &Book, journal: &[JournalEntry]) {
    use JournalKind::*;
    let sum = |kinds: &[JournalKind], grant: Option<GrantId>| -> i64 {
        let lines = journal.iter().filter(|line| kinds.contains(&line.kind));
        lines.filter(|line| grant.is_none() || line.grant == grant).map(|line| line.amount.get()).sum()
    };
    for (id, grant) in &book.grants {
        let of = |kinds: &[JournalKind]| sum(kinds, Some(*id));
        assert_eq!(grant.terms.amount.get(), of(&[Granted]), "granted {grant:?}");
        // Late usage names the grant that paid; what nothing covered names the one it should have come from.
        assert_eq!(grant.used.get(), of(&[Used, CrashCharged, LateCovered, Repaid]), "used {grant:?}");
        assert_eq!(grant.expired.get(), of(&[Expired]), "expired {grant:?}");
        assert_eq!(grant.voided.get(), of(&[Voided]), "voided {grant:?}");
        assert_eq!(grant.clawed.get(), of(&[Clawed]), "clawed {grant:?}");
    }
    assert_eq!(book.account.debt.get(), sum(&[DebtUp], None) - sum(&[Repaid], None), "debt");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_the_book_adds_up(acts in proptest::collection::vec((any_act(), 0..40_u64), 1..60)) {
        let mut desk = Desk::new();
        let mut journal = Vec::new();
        for (act, secs) in acts {
            desk.now = desk.now.plus(Span::from_secs(secs / 4));
            let Some(command) = command_of(act, &desk.book) else { continue };
            let before = desk.book.clone();
            let outcome = desk.act(&command);
            only_grew(&before, &desk.book);
            for line in outcome.changes.journal.iter().filter(|line| line.kind == JournalKind::Leased) {
                prop_assert!(!earlier_left(&desk.book, line.grant.unwrap()), "I13: {command:?}");
            }
            journal.extend(outcome.changes.journal);
            explained(&desk.book, &journal);
            let once = bare(&desk.book);
            let grows = matches!(&command, Command::Report(report)
                if desk.book.cells.get(&report.cell).is_some_and(|cell| cell.granted < report.target));
            if !grows && !matches!(command, Command::Expire(_)) {
                let again = desk.act(&command);
                journal.extend(again.changes.journal);
                prop_assert_eq!(&bare(&desk.book), &once, "I6: {:?}", command);
            }
            let balance = desk.book.balance(desk.now).unwrap();
            let general = desk.book.grants.values().filter(|grant| grant.terms.is_general());
            let there: i64 = general.map(|grant| grant.avail.get() + grant.leased.get()).sum();
            prop_assert!(balance.available.get() + balance.held.get() <= there);
        }
    }

    /// I7: any multiset and any order of one gateway's snapshots that holds the last one ends as the last one says.
    #[test]
    fn reports_may_be_lost_repeated_and_disordered(
        growth in proptest::collection::vec((small(), small(), small(), 0..2_u8), 1..12),
        sent in proptest::collection::vec(any::<Index>(), 0..24),
        grows in any::<bool>(),
    ) {
        let mut desk = Desk::with(100);
        let ask = need(Mode::Lease { generation_min: 1, ahead: Amount::ZERO }, vec![credits(100)], false);
        let Decision::Granted(granted) = desk.need(ask).decision else { panic!() };
        let id = granted.cells[0].id.clone();
        let (mut now, mut snapshots) = (Totals::default(), Vec::new());
        for (admit, finish, used, gives) in growth {
            let free = 100 - now.returned.get() - now.used.get() - (now.admitted.get() - now.finished.get());
            let admit = admit.get().min(free);
            now.admitted = amount(now.admitted.get() + admit);
            let finish = finish.get().min(now.admitted.get() - now.finished.get());
            now.finished = amount(now.finished.get() + finish);
            now.used = amount(now.used.get() + used.get().min(finish));
            if gives == 1 {
                let free = 100 - now.returned.get() - now.used.get() - (now.admitted.get() - now.finished.get());
                now.returned = amount(now.returned.get() + free);
            }
            snapshots.push(now);
        }
        let last = *snapshots.last().unwrap();
        let target = if grows { Amount::ZERO } else { amount(100) };
        for index in sent.iter().map(|it| it.index(snapshots.len())).chain([snapshots.len() - 1]).chain(sent.iter().map(|it| it.index(snapshots.len()))) {
            let answer = desk.report(Report { target, ..report(&id, snapshots[index]) });
            prop_assert_eq!((answer.refused, answer.late), (None, None));
        }
        let row = &desk.book.cells[&id];
        let ends = Totals {
            admitted: row.admitted,
            finished: row.finished,
            used: row.used,
            returned: row.returned,
            short: row.short,
        };
        prop_assert_eq!(ends, last);
        let grant = &desk.book.grants[&GrantId(1)];
        prop_assert_eq!((grant.used, grant.avail), (last.used, last.returned));
    }

    /// Holds, beside a model that anyone can check by eye.
    #[test]
    fn holds_do_what_a_naive_model_does(
        size in 1..60_i64,
        acts in proptest::collection::vec((0..4_u8, 0..12_u64, 1..20_i64), 1..80),
    ) {
        let mut desk = Desk::with(size);
        let (mut left, mut open, mut over) = (size, BTreeMap::new(), Vec::new());
        for (act, n, price) in acts {
            match act {
                0 | 1 => {
                    let decision = desk.hold(H + n, vec![credits(price)]).decision;
                    let right = if over.contains(&n) {
                        decision == Decision::Over
                    } else if let Some(held) = open.get(&n) {
                        matches!(&decision, Decision::Granted(it) if it.hold.get() == *held && it.lane.is_none())
                    } else if price <= left {
                        left -= price;
                        open.insert(n, price);
                        matches!(&decision, Decision::Granted(it) if it.hold.get() == price && it.lane == Some(0))
                    } else {
                        matches!(&decision, Decision::Refused(it) if it.refusal == Refusal::InsufficientCredits)
                    };
                    prop_assert!(right, "{n} for {price} with {left}: {decision:?}");
                }
                2 => {
                    if let Some(held) = open.remove(&n) {
                        let used = price.min(held);
                        desk.finish(&CellId { grant: GrantId(1), node: node(1), incarnation: 1, generation: H + n }, used);
                        left += held - used;
                        over.push(n);
                    }
                }
                _ => {
                    let held = open.remove(&n);
                    prop_assert_eq!(desk.abandon(H + n), held.unwrap_or(0));
                    over.extend(held.map(|_| n));
                    left += held.unwrap_or(0);
                }
            }
            let balance = desk.book.balance(desk.now).unwrap();
            prop_assert_eq!((balance.shown(), balance.held.get()), (left, open.values().sum::<i64>()));
        }
        prop_assert_eq!(desk.debt(), 0);
        prop_assert!(desk.book.grants.values().all(|grant| grant.terms.unit == Unit::Credits));
    }
}
