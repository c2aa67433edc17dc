//! Random commands, and what must be true after each: for the property tests of this crate and for the fuzzer.

use super::*;
use proptest::prelude::*;

/// Amounts are small, so that commands meet.
pub fn small() -> impl Strategy<Value = Amount> {
    (0..24_i64).prop_map(amount)
}

fn lanes() -> impl Strategy<Value = Vec<Lane>> {
    let lanes = proptest::collection::vec((0..5_u8, 1..20_i64, 1..20_i64), 0..3);
    (1..5_i64, lanes).prop_map(|(limit, lanes)| {
        let lane = |(kind, n, least): (u8, i64, i64)| match kind {
            0 => credits(n),
            1 => window(limit),
            2 => at_least(n, least.min(n)),
            3 => Lane { legs: [window(limit).legs, at_least(n, least.min(n)).legs].concat() },
            _ => Lane { legs: [window(limit).legs, credits(n).legs].concat() },
        };
        lanes.into_iter().map(lane).collect()
    })
}

fn any_need() -> impl Strategy<Value = Command> {
    let mode = prop_oneof![
        1 => Just(Mode::Identify),
        4 => (0..6_u64).prop_map(|n| Mode::Hold { generation: H + n }),
        4 => (1..3_u64).prop_map(|generation_min| Mode::Lease { generation_min }),
    ];
    let exposure = prop_oneof![Just(Exposure::Whole), small().prop_map(Exposure::AtMost)];
    let lanes = (small(), lanes()).prop_map(|(ahead, lanes)| spoken(ahead, lanes));
    let at_once = prop_oneof![3 => Just(None), 1 => (1..4_u32).prop_map(Some)];
    (mode, lanes, any::<bool>(), 1..3_u8, 1..4_u32, exposure, at_once).prop_map(
        |(mode, lanes, wait, process, holders, exposure, at_once)| {
            Command::Need(Need { node: node(process), holders, exposure, at_once, ..need(mode, lanes, wait) })
        },
    )
}

fn any_totals() -> impl Strategy<Value = Totals> {
    let short = prop_oneof![18 => Just(Amount::ZERO), 5 => small(), 1 => Just(Amount::MAX)];
    (small(), small(), small(), small(), short).prop_map(|(a, b, c, returned, short)| {
        let mut three = [a, b, c];
        three.sort_unstable(); // mostly believable: used ≤ finished ≤ admitted
        Totals { admitted: three[2], finished: three[1], used: three[0], returned, short }
    })
}

/// A command, or a report of whichever cell the number meets.
#[derive(Clone, Debug)]
pub enum Act {
    Command(Command),
    Report(usize, Totals, Amount, Amount),
    /// A report of which only the growth is random: what an honest gateway would say.
    Spend(usize, Amount, Amount),
}

pub fn any_act() -> impl Strategy<Value = Act> {
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
    let back = (1..6_u64, small(), small(), shortfall()).prop_map(|(id, revoked, frozen, shortfall)| {
        let target = VoidTarget::Grant(GrantId(id));
        Command::TakeBack(TakeBack { target, revoked, frozen, shortfall })
    });
    let abandon = (1..3_u8, 0..6_u64)
        .prop_map(|(n, g)| Command::Abandon(Abandon { node: node(n), incarnation: 1, generation: H + g }));
    let crash = prop_oneof![Just(CrashPolicy::Refund), Just(CrashPolicy::Charge)];
    let expire =
        (crash, shortfall()).prop_map(|(crash, shortfall)| Command::Expire(Expire { crash, shortfall }));
    prop_oneof![
        3 => grant.prop_map(Act::Command),
        1 => void.prop_map(Act::Command),
        3 => back.prop_map(Act::Command),
        8 => any_need().prop_map(Act::Command),
        1 => abandon.prop_map(Act::Command),
        4 => expire.prop_map(Act::Command),
        1 => prop_oneof![Just(Command::Suspend), Just(Command::Resume)].prop_map(Act::Command),
        4 => (any::<usize>(), any_totals(), small(), small()).prop_map(|(i, t, x, n)| Act::Report(i, t, x, n)),
        8 => (any::<usize>(), small(), small()).prop_map(|(i, n, u)| Act::Spend(i, n, u)),
    ]
}

pub fn command_of(act: Act, book: &Book) -> Option<Command> {
    let pick = |index: usize| {
        let cells: Vec<_> = book.cells.iter().collect();
        (!cells.is_empty()).then(|| cells[index % cells.len()])
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

/// I5: what may only grow has only grown. A reversal may undo what an earlier one did.
pub fn only_grew(command: &Command, before: &Book, after: &Book) {
    let undoes = matches!(command, Command::TakeBack(_));
    assert!(after.account.epoch >= before.account.epoch && after.seen >= before.seen);
    for (id, was) in &before.grants {
        let is = &after.grants[id];
        assert!(undoes || is.used >= was.used && is.voided >= was.voided, "{was:?} {is:?}");
        assert!(is.expired >= was.expired && (undoes || is.reversed.frozen() <= was.reversed.frozen()));
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
pub fn earlier_left(after: &Book, taken: GrantId) -> bool {
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
pub fn explained(book: &Book, journal: &[JournalEntry]) {
    use JournalKind::*;
    let sum = |kinds: &[JournalKind], grant: Option<GrantId>| -> i64 {
        let lines = journal.iter().filter(|line| kinds.contains(&line.kind));
        lines.filter(|line| grant.is_none() || line.grant == grant).map(|line| line.amount.get()).sum()
    };
    for (id, grant) in &book.grants {
        let of = |kinds: &[JournalKind]| sum(kinds, Some(*id));
        assert_eq!(grant.terms.amount.get(), of(&[Granted]), "granted {grant:?}");
        // Late usage names the grant that paid; what nothing covered names the one it should have come from.
        let used = of(&[Used, CrashCharged, LateCovered, ShortCovered, Repaid]) - of(&[Recovered]);
        assert_eq!(grant.used.get(), used, "used {grant:?}");
        assert_eq!(grant.expired.get(), of(&[Expired]), "expired {grant:?}");
        assert_eq!(grant.voided.get(), of(&[Voided]) - of(&[Restored]), "voided {grant:?}");
        let clawed = grant.clawed.get() + grant.reversed.reclaimed.get();
        assert_eq!(clawed, of(&[Clawed]) - of(&[Unclawed]), "clawed {grant:?}");
        assert_eq!(grant.reversed.frozen().get(), of(&[Frozen]) - of(&[Unfrozen]), "frozen {grant:?}");
    }
    let debt = sum(&[DebtUp], None) - sum(&[Repaid, DebtDown], None);
    assert_eq!(book.account.debt.get(), debt, "debt");
}

/// What a reversal must have come to, whatever was before it.
pub fn taken_back(grant: &Grant, back: &TakeBack) {
    let amount = grant.terms.amount.get();
    let revoked = back.revoked.get().min(amount);
    let total = amount.min(revoked + back.frozen.get());
    let unspent = grant.avail.get() + grant.leased.get() - grant.void_claim.get();
    // Either all of it is set aside, or nothing is left to be.
    let aside = grant.reversed.aside.get();
    assert!(aside == total || aside < total && unspent == 0, "{grant:?}");
    // Nothing is reclaimed that was used of what is left, and everything that was used beyond.
    let used = grant.used.get() - grant.clawed.get();
    assert_eq!(grant.reversed.reclaimed.get(), (used - (amount - revoked)).max(0), "{grant:?}");
}

/// Does one thing some time later, twice, and checks all that must be true after each.
pub fn check_act(desk: &mut Desk, journal: &mut Vec<JournalEntry>, act: Act, secs: u64) {
    desk.now = desk.now.plus(Span::from_secs(secs / 4));
    let Some(command) = command_of(act, &desk.book) else { return };
    let before = desk.book.clone();
    let outcome = desk.act(&command);
    only_grew(&command, &before, &desk.book);
    if let (Command::TakeBack(back), Reply::TakenBack(TakenBack::Done { id, .. })) =
        (&command, &outcome.reply)
    {
        taken_back(&desk.book.grants[id], back);
    }
    for line in outcome.changes.journal.iter().filter(|line| line.kind == JournalKind::Leased) {
        assert!(!earlier_left(&desk.book, line.grant.unwrap()), "I13: {command:?}");
    }
    journal.extend(outcome.changes.journal);
    explained(&desk.book, journal);
    let once = bare(&desk.book);
    let grows = matches!(&command, Command::Report(report)
        if desk.book.cells.get(&report.cell).is_some_and(|cell| cell.granted < report.target));
    if !grows && !matches!(command, Command::Expire(_)) {
        let again = desk.act(&command);
        journal.extend(again.changes.journal);
        assert_eq!(bare(&desk.book), once, "I6: {command:?}");
    }
    let balance = desk.book.balance(desk.now).unwrap();
    let general = desk.book.grants.values().filter(|grant| grant.terms.is_general());
    let there: i64 = general.map(|grant| grant.avail.get() + grant.leased.get()).sum();
    assert!(balance.available.get() + balance.held.get() <= there);
}
