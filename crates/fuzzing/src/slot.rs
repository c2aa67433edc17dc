//! A payer's slot in shared memory: any bytes decode or are refused, and whatever is then done to it, no credit is made.

use crate::dice::Dice;
use contract::v1::{CellAnswer, CellKey, CellLease, CellReport, CellState};
use gate::lease::{Held, PayerKey, Slot, scope_tag};
use std::collections::BTreeMap;
use units::{AccountId, Amount, Instant, Span, Unit};

pub(crate) fn run(data: &[u8]) {
    if let Ok(slot) = Slot::decode(data) {
        assert_eq!(slot.encode(), data, "not the only way to write it");
        assert_eq!(Slot::decode(&slot.encode()), Ok(slot.clone()));
        // Totals that cannot be are worth nothing, and do no harm.
        let mut copy = slot;
        let now = copy.touched;
        let scopes: Vec<u64> = copy.cells.iter().map(|cell| cell.scope).collect();
        for scope in scopes {
            copy.admit(scope, Unit::Credits, Amount::ONE, now);
        }
        copy.condemn();
        copy.give_back();
        copy.tidy(now);
        assert!(Slot::decode(&copy.encode()).is_ok());
    }
    operate(&mut Dice::new(data));
}

/// What an onlooker knows of each cell.
#[derive(Default)]
struct Books {
    /// All that the ledger ever said it granted.
    granted: BTreeMap<CellKey, i64>,
    held: Vec<(Held, Instant)>,
    used: BTreeMap<CellKey, i64>,
    /// The highest totals told so far.
    told: BTreeMap<CellKey, CellReport>,
    /// Below it nothing may be told anew.
    gone: Vec<CellKey>,
}

fn amount(n: usize) -> Amount {
    Amount::new(i64::try_from(n).unwrap()).unwrap()
}

fn operate(dice: &mut Dice<'_>) {
    let payer = PayerKey::of(&AccountId::new("alice").unwrap());
    let mut slot = Slot::new(payer, 1);
    let mut now = Instant::from_secs(1000);
    let mut books = Books::default();
    while !dice.is_over() {
        match dice.below(8) {
            0 | 1 => place(&mut slot, dice, now, &mut books),
            2 | 3 => {
                let scope = scope_tag(dice.pick(&["", "free"]));
                let want = amount(1 + dice.below(8));
                if let Some(held) = slot.admit(scope, Unit::Credits, want, now) {
                    let sum: i64 = held.iter().map(|part| part.amount.get()).sum();
                    assert_eq!(sum, want.get(), "all or nothing");
                    books.held.extend(held.into_iter().map(|part| (part, now)));
                }
            }
            4 if !books.held.is_empty() => {
                let (held, _) = books.held.swap_remove(dice.below(books.held.len()));
                let used = amount(dice.below(10));
                if slot.finish(held, used).is_some() {
                    *books.used.entry(held.key).or_default() += used.min(held.amount).get();
                }
            }
            5 => merge(&mut slot, dice, now, &mut books),
            6 => slot.condemn(),
            _ => now = now.plus(Span::from_millis(u64::try_from(dice.below(40_000)).unwrap())),
        }
        if dice.rarely(3) {
            slot.tidy(now);
        }
        if dice.rarely(6) {
            slot.give_back();
        }
        slot = check(&slot, &mut books);
    }
}

fn place(slot: &mut Slot, dice: &mut Dice<'_>, now: Instant, books: &mut Books) {
    let mut leases: Vec<CellLease> = (0..=dice.below(3))
        .map(|_| CellLease {
            key: CellKey { grant: dice.number() % 6, generation: 1 + dice.number() % 4 },
            unit: Unit::Credits,
            granted: amount(dice.below(20)),
            held: Amount::ZERO,
            ttl_ms: 1 + dice.number() % 30_000,
            exposure: amount(dice.below(20)),
            scope: (dice.pick(&["", "free"])).to_owned(),
            keep: dice.flag(),
        })
        .collect();
    // No answer names a cell twice; the worker sees to that.
    leases.sort_by_key(|lease| lease.key);
    leases.dedup_by_key(|lease| lease.key);
    for lease in &leases {
        let most = books.granted.entry(lease.key).or_default();
        *most = lease.granted.get().max(*most);
    }
    let sent = now.minus(Span::from_millis(dice.number() % 3000));
    for report in slot.place(&leases, sent, now) {
        assert!(report.gone && (report.admitted, report.used) == (Amount::ZERO, Amount::ZERO), "{report:?}");
        assert!(slot.cell_mut(report.key).is_none() && report.key.generation < slot.floor, "{report:?}");
        if !books.gone.contains(&report.key) {
            books.held.retain(|(part, _)| part.key != report.key);
            books.gone.push(report.key);
        }
    }
}

fn merge(slot: &mut Slot, dice: &mut Dice<'_>, now: Instant, books: &mut Books) {
    if slot.cells.is_empty() {
        return;
    }
    let at = dice.below(slot.cells.len());
    let cell = &mut slot.cells[at];
    let told = cell.report();
    tell(books, &told);
    let answer = CellAnswer {
        key: cell.key,
        granted: amount(dice.below(40)),
        acked_admitted: amount(dice.below(40)),
        ttl_ms: dice.number() % 30_000,
        exposure: amount(dice.below(20)),
        state: dice.pick(&[CellState::Open, CellState::Open, CellState::Soft, CellState::Closed]),
        keep: dice.flag(),
    };
    let most = books.granted.entry(cell.key).or_default();
    *most = answer.granted.get().max(*most);
    cell.merge(&answer, &told, now);
}

/// What the ledger hears of a cell only grows.
fn tell(books: &mut Books, report: &CellReport) {
    let last = books.told.entry(report.key).or_insert(*report);
    assert!(report.admitted >= last.admitted && report.finished >= last.finished, "{last:?} {report:?}");
    assert!(report.used >= last.used && report.returned >= last.returned, "{last:?} {report:?}");
    *last = *report;
}

fn check(slot: &Slot, books: &mut Books) -> Slot {
    for cell in &slot.cells {
        let granted = books.granted[&cell.key];
        let held = cell.admitted.get() - cell.finished.get();
        assert!(held >= 0 && cell.used <= cell.finished, "{cell:?}");
        assert!(cell.granted.get() <= granted, "more than the ledger said: {cell:?}");
        let spoken_for = cell.used.get() + cell.returned.get() + held;
        assert!(spoken_for <= cell.granted.get(), "spent twice: {cell:?}");
        assert_eq!(cell.used.get(), books.used.get(&cell.key).copied().unwrap_or(0), "{cell:?}");
        let known: i64 = books
            .held
            .iter()
            .filter(|(part, _)| part.key == cell.key)
            .map(|(part, _)| part.amount.get())
            .sum();
        assert!(known >= held, "held by nobody: {cell:?}");
        assert!(cell.key.generation >= 1 && !books.gone.contains(&cell.key), "came back: {cell:?}");
        tell(books, &cell.report());
    }
    assert!(slot.cells.len() <= gate::lease::CELLS_MAX);
    // What is forgotten stays forgotten, and what was held on it is over.
    let here: Vec<CellKey> = slot.cells.iter().map(|cell| cell.key).collect();
    let forgotten: Vec<CellKey> =
        books.told.keys().filter(|key| !here.contains(key) && !books.gone.contains(key)).copied().collect();
    for key in forgotten {
        assert!(key.generation < slot.floor, "forgotten, and could come back: {key:?}");
        books.held.retain(|(part, _)| part.key != key);
        books.gone.push(key);
    }
    let stored = Slot::decode(&slot.encode()).expect("its own bytes");
    assert_eq!(&stored, slot);
    stored
}
