//! Whatever happens to an account, its journal alone explains its balance.

use super::history::{explain, transactions};
use crate::engine::Work;
use crate::store::{HoldName, Memory, Page, Sqlite, Store};
use ledger::subscription::Standing;
use ledger::{
    Abandon, Book, Cell, CellId, CellState, Changes, Command, CrashPolicy, Expire, Exposure, GrantId,
    HOLD_GENERATION_MIN, Ids, Lane, Leg, Mode, Need, Report, Rows, Shortfall, Source, TakeBack, Terms,
    Timing, Totals, Upto, Void, VoidTarget, WindowRule, step,
};
use std::collections::BTreeSet;
use units::{AccountId, Amount, Instant, NodeName, Span, TierId, Unit};

const NOW: Instant = Instant::from_secs(1_795_167_000);

/// Numbers that look random, the same in every run (Knuth, MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n.max(1)
    }

    fn between(&mut self, from: Amount, to: Amount) -> Amount {
        let (from, to) = (from.get().unsigned_abs(), to.get().unsigned_abs());
        amount(from + self.below(to.saturating_sub(from) + 1))
    }
}

fn amount(n: u64) -> Amount {
    Amount::new(i64::try_from(n).unwrap()).unwrap()
}

fn account() -> AccountId {
    AccountId::new("a").unwrap()
}

const TIMING: Timing = Timing { ttl: Span::from_secs(30), grace: Span::ZERO, tail: Span::from_secs(30) };

fn need(dice: &mut Dice, n: u64, now: Instant) -> Command {
    let rule = WindowRule::utc_day("daily", amount(2), 0, now);
    let free = Leg {
        unit: Unit::Requests,
        scope: "daily".into(),
        need: Amount::ONE,
        least: None,
        ahead: Amount::ZERO,
        window: Some(rule),
    };
    let need = 1 + dice.below(9);
    let paid = Leg {
        unit: Unit::Credits,
        scope: String::new(),
        need: amount(need),
        least: (dice.below(3) == 0).then(|| amount(1 + dice.below(need))),
        ahead: Amount::ZERO,
        window: None,
    };
    let hold = Mode::Hold { generation: HOLD_GENERATION_MIN + n };
    let mode = if dice.below(2) == 0 { hold } else { Mode::Lease { generation_min: 1 } };
    Command::Need(Need {
        node: NodeName::new("n1").unwrap(),
        incarnation: 1,
        mode,
        lanes: vec![Lane { legs: vec![free] }, Lane { legs: vec![paid] }],
        wait: false,
        holders: 1,
        at_once: None,
        timing: TIMING,
        exposure: if dice.below(2) == 0 { Exposure::Whole } else { Exposure::AtMost(amount(3)) },
    })
}

fn report(dice: &mut Dice, id: &CellId, cell: &Cell) -> Command {
    let admitted = dice.between(cell.admitted, cell.granted.saturating_sub(cell.returned));
    let finished = dice.between(cell.finished, admitted);
    let used = dice.between(cell.used, finished);
    let free = cell.granted.saturating_sub(used).saturating_sub(admitted.saturating_sub(finished));
    let returned = dice.between(cell.returned, free);
    let short = amount(if dice.below(5) == 0 { dice.below(4) } else { 0 });
    Command::Report(Report {
        cell: id.clone(),
        totals: Totals { admitted, finished, used, returned, short },
        target: amount(dice.below(20)),
        need: Amount::ONE,
        holders: 1,
        timing: TIMING,
        exposure: Exposure::Whole,
        shortfall: shortfall(dice),
        gone: false,
    })
}

/// A hold that is over was used after all.
fn told_late(dice: &mut Dice, n: u64, store: &mut dyn Store) -> Option<Command> {
    let node = NodeName::new("n1").unwrap();
    let hold = HoldName { node, incarnation: 1, generation: HOLD_GENERATION_MIN + 1 + dice.below(n) };
    let cells = store.cells_of_hold(&hold).unwrap();
    let (id, cell) = cells.first().filter(|(_, cell)| cell.state == CellState::Closed)?;
    let all = cell.granted;
    let totals =
        Totals { admitted: all, finished: all, used: all, returned: Amount::ZERO, short: cell.short };
    Some(Command::Report(Report {
        cell: id.clone(),
        totals,
        target: Amount::ZERO,
        need: Amount::ONE,
        holders: 1,
        timing: TIMING,
        exposure: Exposure::Whole,
        shortfall: shortfall(dice),
        gone: false,
    }))
}

fn shortfall(dice: &mut Dice) -> Shortfall {
    if dice.below(3) == 0 { Shortfall::WriteOff } else { Shortfall::Debt }
}

fn terms(dice: &mut Dice, n: u64, now: Instant) -> Terms {
    let sources = [Source::Subscription, Source::Purchase, Source::Promo, Source::Adjust];
    let starts_at = if dice.below(6) == 0 { now.plus(Span::from_secs(40)) } else { now };
    let lasts = Span::from_secs(60 + dice.below(90));
    Terms {
        unit: Unit::Credits,
        scope: String::new(),
        source: sources[usize::try_from(dice.below(4)).unwrap()],
        source_ref: format!("ref:{n}"),
        priority: 20,
        starts_at,
        expires_at: if dice.below(4) > 0 { Instant::FAR } else { starts_at.plus(lasts) },
        amount: amount(1 + dice.below(60)),
    }
}

fn something(dice: &mut Dice, n: u64, book: &Book, now: Instant) -> Command {
    let cells: Vec<_> = book.cells.iter().collect();
    let cell = cells.get(usize::try_from(dice.below(u64::try_from(cells.len()).unwrap())).unwrap());
    match (dice.below(14), cell) {
        (0 | 1, _) => Command::Grant(terms(dice, n, now)),
        (2, _) => Command::Void(Void {
            target: VoidTarget::Grant(GrantId(1 + dice.below(n + 1))),
            upto: if dice.below(2) == 0 { Upto::All } else { Upto::Total(amount(dice.below(30))) },
            shortfall: shortfall(dice),
        }),
        // Of the same few, so that what was taken back comes again.
        (12 | 13, _) => Command::TakeBack(TakeBack {
            target: VoidTarget::Grant(GrantId(1 + dice.below(4))),
            revoked: amount(dice.below(3) * dice.below(30)),
            frozen: amount(dice.below(2) * dice.below(20)),
            shortfall: shortfall(dice),
        }),
        (3, _) => {
            let crash = if dice.below(2) == 0 { CrashPolicy::Refund } else { CrashPolicy::Charge };
            Command::Expire(Expire { crash, shortfall: shortfall(dice) })
        }
        (4, Some((id, _))) if id.is_hold() => {
            let (node, incarnation, generation) = (id.node.clone(), id.incarnation, id.generation);
            Command::Abandon(Abandon { node, incarnation, generation })
        }
        (5, _) if dice.below(4) == 0 => Command::Suspend,
        (6, _) => Command::Resume,
        (4..=8, Some((id, cell))) => report(dice, id, cell),
        _ => need(dice, n, now),
    }
}

fn run(store: &mut dyn Store, now: Instant, command: &Command) {
    let mut rows = vec![command.rows()];
    rows.retain(|rows| *rows != Rows::Base);
    let mut book = store.load(&account(), &rows, now).unwrap().unwrap();
    let mut ids = Ids::from(store.next_grant().unwrap());
    let outcome = step(&mut book, &mut ids, now, command).unwrap();
    store.save(&book, &outcome.changes).unwrap();
}

/// Every page of the journal: each line's balance is that of the line before it and what it changed.
fn pages_add_up(store: &mut dyn Store, now: Instant) {
    let (mut notes, mut counts) = (Vec::new(), Vec::new());
    let mut work = Work { store, now, notes: &mut notes, counts: &mut counts };
    let (mut before, mut balances) = (None, Vec::new());
    loop {
        let page = transactions(&mut work, Some(&account()), None, Page { before, limit: 7 }).unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.seq);
        balances.extend(page.iter().map(|line| serde_json::to_value(&line.row).unwrap()));
    }
    let book = work.store.load(&account(), &[], now).unwrap().unwrap();
    let general = book.grants.values().filter(|grant| grant.terms.is_general());
    let owned: i64 = general.map(|grant| grant.avail.get() + grant.leased.get()).sum();
    assert_eq!(balances[0]["balance_micro"], owned - book.account.debt.get());
    let moved = |line: &serde_json::Value| {
        let micro = line["amount_micro"].as_i64().unwrap_or(0);
        match line["kind"].as_str().unwrap() {
            "granted" | "restored" | "recovered" | "debt_down" => micro,
            "used" | "crash_charged" | "late_covered" | "short_covered" | "expired" | "voided"
            | "debt_up" => -micro,
            _ => 0,
        }
    };
    let mut balance = 0;
    for line in balances.iter().rev() {
        balance += moved(line);
        assert_eq!(line["balance_micro"], balance, "{line}");
    }
}

#[test]
fn every_balance_follows_from_its_journal() {
    let dir = tempfile::tempdir().unwrap();
    let mut kinds = BTreeSet::new();
    for seed in 1..=48 {
        let path = dir.path().join(format!("{seed}.db"));
        let on_disk = (seed % 4 == 0).then(|| Box::new(Sqlite::open(&path).unwrap()) as Box<dyn Store>);
        let mut store = on_disk.unwrap_or_else(|| Box::new(Memory::default()));
        let (store, mut dice, mut now) = (store.as_mut(), Dice(seed), NOW);
        store.begin().unwrap();
        let book = Book::open(account(), Standing::none(Some(TierId::new("free").unwrap())));
        store.save(&book, &Changes { account: true, ..Changes::default() }).unwrap();
        for n in 1..=120 {
            now = now.plus(Span::from_secs(dice.below(6)));
            let book = store.load(&account(), &[], now).unwrap().unwrap();
            let late = if dice.below(8) == 0 { told_late(&mut dice, n, store) } else { None };
            let command = late.unwrap_or_else(|| something(&mut dice, n, &book, now));
            run(store, now, &command);
            let shown = store.load(&account(), &[], now).unwrap().unwrap().balance(now).unwrap().shown();
            let explained =
                explain(store, &account(), now).unwrap_or_else(|e| panic!("seed {seed}, {n}: {e}"));
            assert_eq!(explained.balance_micro, shown, "seed {seed}, after {command:?}");
            let last = explained.lines.last().map_or(0, |line| line.balance);
            assert_eq!(last, shown, "seed {seed}, after {command:?}");
        }
        // What has expired, and no sweep came by yet.
        let later = now.plus(Span::from_secs(70));
        explain(store, &account(), later).unwrap();
        pages_add_up(store, now);
        let all = store.journal(None, Page { before: None, limit: 100_000 }).unwrap();
        kinds.extend(all.iter().map(|line| line.row.kind.as_str()));
        store.commit().unwrap();
    }
    // The dice must have led to each kind of line, but for the plan, which no line of credits is about.
    let missing: Vec<_> =
        ledger::JournalKind::ALL.iter().map(|kind| kind.as_str()).filter(|k| !kinds.contains(k)).collect();
    assert_eq!(missing, ["standing_changed"]);
}
