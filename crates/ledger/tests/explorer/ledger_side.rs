//! The real ledger, behind messages: what it makes of each, and what it answers.

use crate::desk::*;
use ledger::*;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use units::{Amount, Instant, Span};

/// The bounds of one exploration. Time is in whole ticks (seconds).
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) credits: u8,
    pub(crate) exposure: u8,
    pub(crate) ttl: u8,
    pub(crate) longest: u8,
    pub(crate) until: u8,
    pub(crate) sends: u8,
    pub(crate) crash: CrashPolicy,
    pub(crate) mutant: Mutant,
    /// Whether a need takes what there is, where that is less than it would like.
    pub(crate) less_does: bool,
    pub(crate) states_max: usize,
}

/// What is broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    None,
    DeadlineFromReceipt,
    NoExposureCap,
    NoReserveAtSoftEnd,
    DeltasUp,
    DeltasDown,
    ReportedHoldsReturned,
    DeadlineIgnored,
    /// The last report that arrives counts, though it was sent before another one.
    LastReportCounts,
}

/// The ledger's side, small enough to be kept for every state; the book is rebuilt from it for every command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) avail: u8,
    pub(crate) billed: u8,
    pub(crate) debt: u8,
    pub(crate) granted: u8,
    pub(crate) returned: u8,
    pub(crate) admitted: u8,
    pub(crate) finished: u8,
    pub(crate) used: u8,
    pub(crate) late: u8,
    pub(crate) soft_at: u8,
    pub(crate) hard_at: u8,
    /// 0 no cell yet, 1 open, 2 soft, 3 closed.
    pub(crate) state: u8,
}

/// A message to the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Up {
    Need { at: u8 },
    Report { admitted: u8, finished: u8, used: u8, returned: u8, target: u8, at: u8 },
}

/// An answer of the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Down {
    pub(crate) granted: u8,
    pub(crate) acked: u8,
    pub(crate) at: u8,
    pub(crate) over: bool,
}

/// A fast hash for small keys; nothing here comes from outside.
#[derive(Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }
    fn write_u8(&mut self, byte: u8) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

fn byte(amount: Amount) -> u8 {
    u8::try_from(amount.get()).unwrap()
}

fn of(n: u8) -> Amount {
    amount(i64::from(n))
}

fn tick(n: u8) -> Instant {
    Instant::from_secs(i64::from(n))
}

fn the_cell() -> CellId {
    CellId { grant: GrantId(1), node: node(1), incarnation: 1, generation: 1 }
}

impl Bounds {
    pub(crate) fn small(crash: CrashPolicy, mutant: Mutant) -> Self {
        Self {
            credits: 2,
            exposure: 1,
            ttl: 1,
            longest: 1,
            until: 4,
            sends: 2,
            crash,
            mutant,
            less_does: false,
            states_max: 20_000_000,
        }
    }

    /// A report may arrive after one that was sent later: one message asks for the lease, and two tell of it.
    pub(crate) fn disorder(crash: CrashPolicy, mutant: Mutant) -> Self {
        Self { sends: 3, until: 2, less_does: true, states_max: 30_000_000, ..Self::small(crash, mutant) }
    }

    pub(crate) fn timing(&self) -> Timing {
        Timing {
            ttl: Span::from_secs(self.ttl.into()),
            grace: Span::ZERO,
            tail: Span::from_secs(self.longest.into()),
        }
    }

    pub(crate) fn told_exposure(&self) -> Exposure {
        let none = self.mutant == Mutant::NoReserveAtSoftEnd;
        Exposure::AtMost(of(if none { 0 } else { self.exposure }))
    }
}

/// Runs one command on the book that `ledger` stands for.
pub(crate) fn run(ledger: &mut Ledger, bounds: &Bounds, now: u8, command: &Command) -> Reply {
    let mut desk = Desk::with(i64::from(bounds.credits));
    desk.now = tick(now);
    desk.book.seen = tick(now);
    desk.book.account.debt = of(ledger.debt);
    let grant = desk.book.grants.get_mut(&GrantId(1)).unwrap();
    let state = match ledger.state {
        0 => None,
        1 => Some(CellState::Open),
        2 => Some(CellState::Soft),
        _ => Some(CellState::Closed),
    };
    let outstanding = match state {
        Some(CellState::Open | CellState::Soft) => ledger.granted - ledger.returned - ledger.used,
        _ => 0,
    };
    (grant.avail, grant.leased, grant.used) = (of(ledger.avail), of(outstanding), of(ledger.billed));
    if let Some(state) = state {
        let exposure = match bounds.told_exposure() {
            Exposure::AtMost(most) => most.min(of(ledger.granted)),
            Exposure::Whole | Exposure::Requests(_) => of(ledger.granted),
        };
        let cell = Cell {
            granted: of(ledger.granted),
            returned: of(ledger.returned),
            admitted: of(ledger.admitted),
            finished: of(ledger.finished),
            used: of(ledger.used),
            short: Amount::ZERO,
            late: of(ledger.late),
            soft_at: tick(ledger.soft_at),
            hard_at: tick(ledger.hard_at),
            state,
            exposure,
            ver: 1,
        };
        desk.book.cells.insert(the_cell(), cell);
    }
    let reply = desk.act(command).reply;
    let grant = &desk.book.grants[&GrantId(1)];
    (ledger.avail, ledger.billed) = (byte(grant.avail), byte(grant.used));
    ledger.debt = byte(desk.book.account.debt);
    assert!(desk.book.cells.len() <= 1, "one cell");
    if let Some(cell) = desk.book.cells.get(&the_cell()) {
        let secs = |at: Instant| u8::try_from(at.secs()).unwrap();
        (ledger.granted, ledger.returned) = (byte(cell.granted), byte(cell.returned));
        (ledger.admitted, ledger.finished) = (byte(cell.admitted), byte(cell.finished));
        (ledger.used, ledger.late) = (byte(cell.used), byte(cell.late));
        (ledger.soft_at, ledger.hard_at) = (secs(cell.soft_at), secs(cell.hard_at));
        ledger.state = match cell.state {
            CellState::Open => 1,
            CellState::Soft => 2,
            CellState::Closed => 3,
        };
    }
    reply
}

/// What the ledger makes of a message, and what it answers.
pub(crate) fn deliver(
    ledger: &mut Ledger,
    bounds: &Bounds,
    now: u8,
    message: Up,
) -> Result<Option<Down>, String> {
    let before = *ledger;
    let mut reply = match message {
        // A closed or soft cell would be answered with another cell, which is another exploration.
        Up::Need { .. } if ledger.state > 1 => return Ok(None),
        Up::Need { at } => {
            let mode = Mode::Lease { generation_min: 1 };
            let lanes = vec![if bounds.less_does { at_least(2, 1) } else { credits(1) }];
            let exposure = bounds.told_exposure();
            let need = Need { timing: bounds.timing(), exposure, ..need(mode, lanes, false) };
            match run(ledger, bounds, now, &Command::Need(need)) {
                Reply::Need(answer) => match answer.decision {
                    Decision::Granted(granted) => {
                        Down { granted: byte(granted.cells[0].granted), acked: 0, at, over: false }
                    }
                    _ => return Ok(None),
                },
                other => panic!("{other:?}"),
            }
        }
        Up::Report { mut admitted, mut finished, mut used, returned, target, at } => {
            let told = admitted;
            match bounds.mutant {
                Mutant::DeltasUp => {
                    admitted += ledger.admitted;
                    finished += ledger.finished;
                    used += ledger.used;
                }
                Mutant::ReportedHoldsReturned => admitted = finished,
                _ => {}
            }
            let told_totals = totals(admitted.into(), finished.into(), used.into(), returned.into());
            let command = Command::Report(Report {
                target: of(target),
                need: Amount::ONE,
                timing: bounds.timing(),
                exposure: bounds.told_exposure(),
                ..report(&the_cell(), told_totals)
            });
            let Reply::Report(answer) = run(ledger, bounds, now, &command) else { panic!() };
            if bounds.mutant == Mutant::LastReportCounts && ledger.state == 1 {
                (ledger.admitted, ledger.finished) = (admitted, finished);
            }
            if went_back(&before, ledger) {
                return Err(format!("I5: an older report took back what a newer one told: {message:?}"));
            }
            if let (Some(why), true) = (answer.refused, before.state != 0) {
                return Err(format!("an honest report was refused: {why:?}"));
            }
            if answer.late.is_some() && before.state < 3 {
                return Err("a living cell could not pay for its own usage".to_owned());
            }
            if before.state == 0 {
                return Ok(None);
            }
            let held = bounds.mutant == Mutant::ReportedHoldsReturned;
            let acked = if held { told } else { byte(answer.cell.acked_admitted) };
            let over = answer.cell.state != CellState::Open;
            Down { granted: byte(answer.cell.granted), acked, at, over }
        }
    };
    if bounds.mutant == Mutant::DeltasDown {
        reply.granted -= before.granted;
    }
    Ok(Some(reply))
}

/// I5: a cell's totals only grow, and it only goes forward in its life.
fn went_back(before: &Ledger, after: &Ledger) -> bool {
    let all = |it: &Ledger| [it.granted, it.returned, it.admitted, it.finished, it.used, it.late, it.state];
    all(before).into_iter().zip(all(after)).any(|(before, after)| after < before)
}

/// The ledger after a message, and its answer; or why it was wrong.
pub(crate) type Heard = Result<(Ledger, Option<Down>), String>;

/// The ledger's answers are the same for the same question, so each is computed once.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) delivered: Map<(Ledger, u8, Up), Heard>,
    pub(crate) expired: Map<(Ledger, u8), Ledger>,
}

impl Memory {
    pub(crate) fn deliver(&mut self, from: Ledger, bounds: &Bounds, now: u8, message: Up) -> Heard {
        let known = self.delivered.entry((from, now, message));
        known
            .or_insert_with(|| {
                let mut ledger = from;
                let down = deliver(&mut ledger, bounds, now, message)?;
                Ok((ledger, down))
            })
            .clone()
    }

    pub(crate) fn expire(&mut self, from: Ledger, bounds: &Bounds, now: u8) -> Ledger {
        *self.expired.entry((from, now)).or_insert_with(|| {
            let mut ledger = from;
            let expire = Expire { crash: bounds.crash, shortfall: Shortfall::Debt };
            run(&mut ledger, bounds, now, &Command::Expire(expire));
            ledger
        })
    }
}
