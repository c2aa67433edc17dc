//! Two thousand commands to one book, and everything that came of them.

use crate::{Numbers, Story};
use ledger::subscription::{Stage, Standing};
use ledger::{
    Abandon, Book, Command, CrashPolicy, Expire, Exposure, GrantId, HOLD_GENERATION_MIN, Ids, Lane, Leg,
    Mode, Need, Report, Shortfall, Source, TakeBack, Terms, Timing, Totals, Upto, Void, VoidTarget,
    WindowRule, step,
};
use units::{AccountId, Amount, Instant, NodeName, Span, TierId, Unit};

const TIMING: Timing =
    Timing { ttl: Span::from_secs(30), grace: Span::from_millis(200), tail: Span::from_secs(30) };

/// The digest of all outcomes.
#[must_use]
pub fn commands(count: u32) -> String {
    let tier = Some(TierId::new("pro").unwrap());
    let standing = Standing {
        tier,
        stage: Stage::Active,
        why: None,
        current_period_end: None,
        cancel_at: None,
        changes_at: None,
    };
    let mut book = Book::open(AccountId::new("alice").unwrap(), standing);
    let (mut ids, mut now) = (Ids::from(1), Instant::from_secs(1_795_176_000));
    let (mut numbers, mut story) = (Numbers(7), Story::default());
    for n in 0..count {
        now = now.plus(Span::from_millis(numbers.below(3000)));
        let command = command(&mut numbers, &book, n, now);
        let outcome =
            step(&mut book, &mut ids, now, &command).unwrap_or_else(|bug| panic!("{command:?}: {bug:?}"));
        story.tell(&outcome);
    }
    story.tell(&book);
    story.end()
}

fn amount(n: u64) -> Amount {
    Amount::new(n.cast_signed()).unwrap()
}

fn command(numbers: &mut Numbers, book: &Book, n: u32, now: Instant) -> Command {
    match numbers.below(12) {
        0 => Command::Grant(Terms {
            unit: Unit::Credits,
            scope: String::new(),
            source: Source::Purchase,
            source_ref: format!("pi_{}", numbers.below(u64::from(n) + 1)),
            priority: numbers.below(3).cast_signed(),
            starts_at: Instant::EPOCH,
            expires_at: now.plus(Span::from_secs(60 + numbers.below(400))),
            // Beyond 32 bits.
            amount: amount(1 + numbers.below(1 << 40)),
        }),
        1 if numbers.below(8) == 0 => Command::Void(Void {
            target: VoidTarget::Grant(GrantId(1 + numbers.below(20))),
            upto: Upto::Total(amount(numbers.below(1 << 39))),
            shortfall: Shortfall::Debt,
        }),
        1 if numbers.below(4) == 0 => Command::TakeBack(TakeBack {
            target: VoidTarget::Grant(GrantId(1 + numbers.below(20))),
            revoked: amount(numbers.below(1 << 39)),
            frozen: amount(numbers.below(1 << 39)),
            shortfall: Shortfall::Debt,
        }),
        2 => Command::Expire(Expire { crash: CrashPolicy::Refund, shortfall: Shortfall::Debt }),
        3 => {
            let generation = HOLD_GENERATION_MIN + numbers.below(40);
            Command::Abandon(Abandon { node: node(), incarnation: 1, generation })
        }
        4..=7 => need(numbers, now),
        _ => report(numbers, book).unwrap_or_else(|| need(numbers, now)),
    }
}

fn node() -> NodeName {
    NodeName::new("n1").unwrap()
}

fn need(numbers: &mut Numbers, now: Instant) -> Command {
    let credits = Leg {
        unit: Unit::Credits,
        scope: String::new(),
        need: amount(1 + numbers.below(1 << 36)),
        least: None,
        ahead: Amount::ZERO,
        window: None,
    };
    let rule = WindowRule::utc_day("free", amount(3), 0, now);
    let free = Leg {
        unit: Unit::Requests,
        scope: "free".into(),
        need: Amount::ONE,
        least: None,
        ahead: Amount::ZERO,
        window: Some(rule),
    };
    let lanes = vec![Lane { legs: vec![if numbers.below(5) == 0 { free } else { credits }] }];
    let mode = match numbers.below(3) {
        0 => Mode::Hold { generation: HOLD_GENERATION_MIN + numbers.below(40) },
        _ => Mode::Lease { generation_min: 1 + numbers.below(2) },
    };
    Command::Need(Need {
        node: node(),
        incarnation: 1,
        mode,
        lanes,
        wait: numbers.below(2) == 0,
        holders: 1 + u32::try_from(numbers.below(3)).unwrap(),
        at_once: None,
        timing: TIMING,
        exposure: Exposure::Whole,
    })
}

/// What an honest gateway would say of one of its cells.
fn report(numbers: &mut Numbers, book: &Book) -> Option<Command> {
    let at = usize::try_from(numbers.below(u64::try_from(book.cells.len()).unwrap().max(1))).unwrap();
    let (id, cell) = book.cells.iter().nth(at)?;
    let grown = amount(numbers.below(1 << 37)).min(cell.free());
    let admitted = cell.admitted.checked_add(grown)?;
    let finished = cell.finished.checked_add(amount(numbers.below(1 << 37)).min(cell.held()))?;
    let used = cell.used.checked_add(finished.saturating_sub(cell.finished).part(2))?;
    let totals = Totals { admitted, finished, used, returned: cell.returned, short: cell.short };
    Some(Command::Report(Report {
        cell: id.clone(),
        totals,
        target: cell.granted.checked_add(grown)?,
        need: Amount::ONE,
        holders: 1,
        timing: TIMING,
        exposure: Exposure::Whole,
        shortfall: Shortfall::Debt,
        gone: false,
    }))
}
