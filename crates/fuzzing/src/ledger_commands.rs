//! Commands to one book, by the ledger's own random test: what must be true after each, with a fuzzer's choices in place of chance.

use crate::dice::Dice;
use desk::acts::{Act, check_act};
use desk::{Desk, NOON, at_least, credits, need, node, spoken, terms, window};
use ledger::{
    Abandon, Command, CrashPolicy, Expire, Exposure, GrantId, HOLD_GENERATION_MIN, Lane, Mode, Need,
    Shortfall, Source, TakeBack, Terms, Totals, Upto, Void, VoidTarget,
};
use units::{Amount, Instant};

#[path = "../../ledger/tests/desk/mod.rs"]
mod desk;

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let mut desk = Desk::new();
    let mut journal = Vec::new();
    let mut acts = 0;
    while !dice.is_over() && acts < 200 {
        acts += 1;
        let (act, secs) = (act(&mut dice), dice.upto(40));
        check_act(&mut desk, &mut journal, act, secs);
    }
}

/// Amounts are small, so that commands meet.
fn small(dice: &mut Dice<'_>) -> Amount {
    amount(dice, 24)
}

fn amount(dice: &mut Dice<'_>, below: u32) -> Amount {
    Amount::new(dice.upto(below).cast_signed()).unwrap()
}

fn act(dice: &mut Dice<'_>) -> Act {
    match dice.below(17) {
        0 | 1 => Act::Command(Command::Grant(grant(dice))),
        2 => {
            let upto = if dice.flag() { Upto::All } else { Upto::Total(small(dice)) };
            let target = VoidTarget::Grant(GrantId(1 + dice.upto(5)));
            Act::Command(Command::Void(Void { target, upto, shortfall: shortfall(dice) }))
        }
        3..=6 => Act::Command(Command::Need(asked(dice))),
        7 => {
            let (node, generation) = (node(1 + u8::from(dice.flag())), HOLD_GENERATION_MIN + dice.upto(6));
            Act::Command(Command::Abandon(Abandon { node, incarnation: 1, generation }))
        }
        8 => {
            let crash = dice.pick(&[CrashPolicy::Refund, CrashPolicy::Charge]);
            Act::Command(Command::Expire(Expire { crash, shortfall: shortfall(dice) }))
        }
        9 => Act::Command(dice.pick(&[Command::Suspend, Command::Resume])),
        10 | 11 => {
            let mut three = [small(dice), small(dice), small(dice)];
            three.sort_unstable();
            let short = if dice.rarely(10) { small(dice) } else { Amount::ZERO };
            let [used, finished, admitted] = three;
            let totals = Totals { admitted, finished, used, returned: small(dice), short };
            Act::Report(dice.below(64), totals, small(dice), small(dice))
        }
        16 => {
            let target = VoidTarget::Grant(GrantId(1 + dice.upto(5)));
            let (revoked, frozen) = (small(dice), small(dice));
            Act::Command(Command::TakeBack(TakeBack { target, revoked, frozen, shortfall: shortfall(dice) }))
        }
        _ => Act::Spend(dice.below(64), small(dice), small(dice)),
    }
}

fn shortfall(dice: &mut Dice<'_>) -> Shortfall {
    dice.pick(&[Shortfall::Debt, Shortfall::WriteOff])
}

fn grant(dice: &mut Dice<'_>) -> Terms {
    let source = dice.pick(&[Source::Purchase, Source::Promo, Source::Subscription]);
    let origin = format!("g{}", dice.below(4));
    let size = 1 + dice.upto(39).cast_signed();
    let expires_at = Instant::from_secs(NOON + 1 + dice.upto(199).cast_signed());
    Terms { priority: dice.upto(3).cast_signed(), expires_at, ..terms(source, &origin, size) }
}

fn asked(dice: &mut Dice<'_>) -> Need {
    let mode = match dice.below(9) {
        0 => Mode::Identify,
        1..=4 => Mode::Hold { generation: HOLD_GENERATION_MIN + dice.upto(6) },
        _ => Mode::Lease { generation_min: 1 + dice.upto(2) },
    };
    let limit = 1 + dice.upto(4).cast_signed();
    let lanes = (0..dice.below(3))
        .map(|_| {
            let n = 1 + dice.upto(19).cast_signed();
            match dice.below(4) {
                0 => credits(n),
                1 => window(limit),
                2 => at_least(n, (1 + dice.upto(19).cast_signed()).min(n)),
                _ => Lane { legs: [window(limit).legs, credits(n).legs].concat() },
            }
        })
        .collect();
    let exposure = if dice.flag() { Exposure::AtMost(small(dice)) } else { Exposure::Whole };
    let holders = u32::try_from(1 + dice.upto(3)).unwrap();
    let node = node(1 + u8::from(dice.flag()));
    let lanes = spoken(small(dice), lanes);
    let at_once = if dice.below(4) == 0 { u32::try_from(1 + dice.upto(2)).ok() } else { None };
    Need { node, holders, exposure, at_once, ..need(mode, lanes, dice.flag()) }
}
