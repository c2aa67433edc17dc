//! Gateways, the service and a hostile network between them, by the simulator's own random test, with a fuzzer's choices in
//! place of chance.

use crate::dice::Dice;
use contract::v1::{NeedMode, Size};
use ledger::CrashPolicy;
use sim::{Event, Options, World, check, happen, rest};
use units::Span;

pub(crate) fn run(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let crashes = first & 1 == 1;
    let crash = if first & 2 == 2 { CrashPolicy::Charge } else { CrashPolicy::Refund };
    let credits = [3, 10, 40, 400][usize::from(first >> 2) % 4];
    let mode = if first & 16 == 16 { NeedMode::Hold } else { NeedMode::Lease };
    let allow = u32::from(first & 32 == 32) * 3;
    let size = [None, None, Some(Size::Most), Some(Size::Estimate)][usize::from(first >> 6)];
    let ttl = Span::from_secs(3);
    let mut world =
        World::new(Options { envoys: 2, workers: 2, credits, mode, size, allow, crash, ttl, watch: false });
    let mut dice = Dice::new(data);
    let mut events = 0;
    // Whoever was cut off for as long as a tail may be dead as far as the ledger can know: a hold or lease that was soft
    // when it was last heard of is kept for so long, and no longer.
    let (mut cut_off, mut given_up) = (0, false);
    while !dice.is_over() && events < 200 {
        events += 1;
        let event = event(&mut dice, crashes);
        match event {
            Event::Later(millis) => cut_off += millis,
            Event::Settle => cut_off = 0,
            _ => {}
        }
        given_up |= cut_off >= ttl.millis();
        happen(&mut world, &event);
        if allow == 0 {
            check(&mut world);
        }
    }
    rest(&mut world);
    let (totals, oracle) = (world.totals(), world.oracle);
    assert_eq!(totals.leased, 0, "something is stranded: {totals:?} {oracle:?}");
    let booked = totals.used + totals.debt;
    // What nobody could price when it passed is charged when billing is back, if it was served and can be charged.
    let unpriced = i64::try_from(oracle.unpaid).unwrap() * 1_000_000;
    let used = oracle.served + oracle.beyond + if crashes { oracle.orphaned } else { 0 };
    // What fell short at a gateway that died before it told of it is told by nobody.
    let told = used - if crashes { oracle.beyond } else { 0 };
    let right = match (crashes, crash) {
        (false, CrashPolicy::Charge) if given_up => {
            (used..=used + unpriced + totals.crash_charged).contains(&booked)
        }
        (false, _) => (used..=used + unpriced).contains(&booked),
        (true, CrashPolicy::Refund) => booked <= used + unpriced,
        (true, CrashPolicy::Charge) => (told..=used + unpriced + totals.crash_charged).contains(&booked),
    };
    assert!(right, "{totals:?} {oracle:?}");
    assert!(crashes || world.faults("end_without_cell") == 0);
}

fn event(dice: &mut Dice<'_>, crashes: bool) -> Event {
    let which = dice.below(16);
    match dice.below(24) {
        0..=6 => Event::Ask(dice.below(2), dice.below(2)),
        7 => Event::Leave(which),
        8..=11 => Event::End(which, !dice.rarely(3)),
        12 | 13 => Event::Deliver(which),
        14 => Event::AnswerLost(which),
        15 => Event::Twice(which),
        16 => Event::Delayed(which),
        17 => Event::CallLost(which),
        18 | 19 => Event::Later(1 + dice.upto(1500)),
        20 => Event::Race(dice.below(2), u32::try_from(1 + dice.upto(40)).unwrap_or(1)),
        21 if crashes => Event::Jump(3_000 + dice.upto(17_000)),
        22 if crashes && dice.flag() => Event::KillEnvoy(dice.below(2)),
        22 if crashes => Event::KillWorker(dice.below(2), dice.below(2)),
        _ => Event::Settle,
    }
}
