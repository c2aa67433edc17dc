//! A slot: what is admitted, what goes back, what is forgotten, and the form in which it is stored.

use super::*;
use contract::v1::{CellAnswer, CellLease};

fn amount(n: i64) -> Amount {
    Amount::new(n).unwrap()
}

fn lease(grant: u64, granted: i64, keep: bool) -> CellLease {
    CellLease {
        key: CellKey { grant, generation: 1 },
        unit: Unit::Credits,
        granted: amount(granted),
        held: Amount::ZERO,
        ttl_ms: 1000,
        exposure: amount(granted),
        scope: String::new(),
        keep,
    }
}

fn slot(grants: &[(u64, i64)]) -> Slot {
    let payer = PayerKey::of(&AccountId::new("alice").unwrap());
    let mut slot = Slot::new(payer, 3);
    slot.cells =
        grants.iter().map(|(g, n)| Cell::new(&lease(*g, *n, true), scope_tag(""), Instant::EPOCH)).collect();
    slot
}

const NOW: Instant = Instant::from_micros(10);

#[test]
fn a_hold_takes_cells_in_order_and_all_or_nothing() {
    let mut slot = slot(&[(1, 3), (2, 4)]);
    let held = slot.admit(scope_tag(""), Unit::Credits, amount(5), NOW).unwrap();
    assert_eq!(held.iter().map(|h| (h.key.grant, h.amount.get())).collect::<Vec<_>>(), [(1, 3), (2, 2)]);
    let before = slot.clone();
    assert_eq!(slot.admit(scope_tag(""), Unit::Credits, amount(3), NOW), None);
    assert_eq!(slot, before, "a hold that does not fit leaves no trace");
    assert_eq!(slot.admit(scope_tag("chat_day"), Unit::Credits, amount(1), NOW), None, "another scope");
    assert_eq!(slot.admit(scope_tag(""), Unit::Requests, amount(1), NOW), None, "another unit");
}

#[test]
fn nothing_is_admitted_after_the_deadline_or_beyond_the_exposure() {
    let mut late = slot(&[(1, 9)]);
    assert_eq!(late.admit(scope_tag(""), Unit::Credits, amount(1), Instant::from_secs(1)), None);
    let mut tight = slot(&[(1, 9)]);
    tight.cells.first_mut().unwrap().exposure = amount(2);
    assert!(tight.admit(scope_tag(""), Unit::Credits, amount(2), NOW).is_some());
    assert_eq!(tight.admit(scope_tag(""), Unit::Credits, amount(1), NOW), None);
    let answer = CellAnswer {
        key: CellKey { grant: 1, generation: 1 },
        granted: amount(9),
        acked_admitted: amount(2),
        ttl_ms: 1000,
        exposure: amount(2),
        state: CellState::Open,
        keep: true,
    };
    let told = tight.cells[0].report();
    tight.cells[0].merge(&answer, &told, NOW);
    assert!(tight.cells[0].is_told());
    assert!(tight.admit(scope_tag(""), Unit::Credits, amount(1), NOW).is_some());
}

#[test]
fn a_hold_ends_once_and_never_uses_more_than_it_held() {
    let mut slot = slot(&[(1, 9)]);
    let held = slot.admit(scope_tag(""), Unit::Credits, amount(4), NOW).unwrap()[0];
    assert_eq!(slot.finish(held, amount(99)), Some(true));
    assert_eq!(slot.cells[0].used, amount(4));
    assert_eq!(slot.finish(held, amount(1)), None, "the hold is gone");
    assert_eq!(slot.cells[0].free(), amount(5));
}

#[test]
fn a_nearly_empty_account_gets_back_at_once_what_a_hold_did_not_use() {
    let mut slot = slot(&[(1, 4)]);
    slot.cells[0].keep = false;
    let held = slot.admit(scope_tag(""), Unit::Credits, amount(4), NOW).unwrap()[0];
    assert_eq!(slot.finish(held, amount(1)), Some(false));
    assert_eq!(slot.cells[0].returned, amount(3));
    assert!(slot.cells[0].is_settled());
}

#[test]
fn stale_answers_change_nothing() {
    let mut cell = slot(&[(1, 9)]).cells[0];
    let told = cell.report();
    let soft = CellAnswer {
        key: cell.key,
        granted: amount(12),
        acked_admitted: amount(3),
        ttl_ms: 500,
        exposure: amount(9),
        state: CellState::Soft,
        keep: true,
    };
    cell.merge(&soft, &told, Instant::from_secs(5));
    let old = CellAnswer { granted: amount(9), acked_admitted: amount(1), state: CellState::Open, ..soft };
    cell.merge(&old, &told, Instant::EPOCH);
    assert_eq!((cell.granted, cell.acked, cell.state), (amount(12), amount(3), CellState::Soft));
    assert_eq!(cell.deadline, Instant::from_secs(1), "a soft cell's deadline is never moved");
}

#[test]
fn the_stored_form_is_exact_and_refuses_what_is_not_ours() {
    let slot = slot(&[(1, 3), (u64::MAX, 4)]);
    let stored = slot.encode();
    assert_eq!(Slot::decode(&stored), Ok(slot));
    assert_eq!(Slot::decode(b""), Err(SlotError::Foreign));
    assert_eq!(Slot::decode(b"\x01not ours"), Err(SlotError::Foreign));
    for cut in 1..stored.len() {
        let cut_short = Slot::decode(&stored[..cut]);
        let whole_cells = cut >= HEAD_BYTES && (cut - HEAD_BYTES).is_multiple_of(CELL_BYTES);
        assert_eq!(cut_short.is_ok(), whole_cells, "{cut}");
    }
    let mut negative = stored.clone();
    negative[HEAD_BYTES + 32 + 7] = 0x80;
    assert_eq!(Slot::decode(&negative), Err(SlotError::Malformed));
}

fn told(slot: &mut Slot) {
    slot.cells.iter_mut().for_each(|cell| cell.told = cell.sum());
}

const LATE: Instant = Instant::from_secs(2);

#[test]
fn a_cell_is_forgotten_when_it_is_over_and_known_to_be_and_never_comes_back() {
    let mut slot = slot(&[(1, 4)]);
    let held = slot.admit(scope_tag(""), Unit::Credits, amount(4), NOW).unwrap()[0];
    slot.finish(held, amount(3)).unwrap();
    slot.tidy(NOW);
    assert_eq!(slot.cells[0].free(), amount(1), "it may still be spent");
    slot.tidy(LATE);
    assert_eq!((slot.cells[0].free(), slot.cells[0].returned), (Amount::ZERO, amount(1)), "it goes back");
    told(&mut slot);
    slot.tidy(LATE);
    assert_eq!((slot.cells.len(), slot.floor), (0, 2));
    let left_out = slot.place(&[lease(1, 9, true)], LATE, LATE);
    assert_eq!(slot.cells.len(), 0, "its totals would begin anew, and what was spent be spent again");
    let left_out: Vec<_> = left_out.iter().map(|report| (report.gone, report.returned)).collect();
    assert_eq!(
        left_out,
        [(true, Amount::ZERO)],
        "the ledger knows how much of it was spent, this process does not"
    );
    let next = |generation| CellLease { key: CellKey { grant: 1, generation }, ..lease(1, 9, true) };
    let back = slot.place(&[next(2)], NOW, LATE);
    assert_eq!(slot.cells.len(), 0, "past its time");
    let told: Vec<_> = back.iter().map(|report| (report.admitted, report.returned)).collect();
    assert_eq!(told, [(Amount::ZERO, amount(9))], "and nobody else would report it");
    slot.place(&[next(2)], LATE, LATE);
    assert_eq!(slot.cells.len(), 0, "it has gone back");
    slot.place(&[next(3)], LATE, LATE);
    assert_eq!(slot.cells.len(), 1);
}

#[test]
fn requests_in_flight_keep_their_cell_until_none_can_be() {
    let mut slot = slot(&[(1, 4)]);
    slot.admit(scope_tag(""), Unit::Credits, amount(4), NOW).unwrap();
    told(&mut slot);
    slot.tidy(Instant::from_secs(3600));
    assert_eq!(slot.cells.len(), 1);
    slot.tidy(Instant::from_secs(3601));
    assert_eq!(slot.cells.len(), 0);
}

#[test]
fn a_slot_is_handed_over_only_if_nothing_is_lost_by_that() {
    let other = PayerKey::of(&AccountId::new("bob").unwrap());
    let hand = |slot: &Slot, incarnation, now| slot.clone().hand_over(other, incarnation, now);
    let mut live = slot(&[(1, 4)]);
    assert_eq!(hand(&live, 3, NOW), None, "it can still be spent");
    let left = hand(&live, 3, LATE).unwrap();
    assert_eq!(
        left.iter().map(|cell| cell.returned.get()).collect::<Vec<_>>(),
        [4],
        "the ledger hears of it"
    );
    let held = live.admit(scope_tag(""), Unit::Credits, amount(4), NOW).unwrap()[0];
    assert_eq!(hand(&live, 3, LATE), None, "a request is under way");
    live.finish(held, amount(4)).unwrap();
    assert_eq!(
        hand(&live, 3, NOW),
        None,
        "nothing is left of it, and the ledger does not know what was used"
    );
    assert_eq!(hand(&live, 4, LATE), None, "another life cannot tell of it");
    assert_eq!(hand(&live, 4, Instant::from_secs(3601)), Some(vec![]), "and need not, when it is settled");
    told(&mut live);
    assert_eq!(hand(&live, 3, NOW), Some(vec![]), "it knows");
    live.kept_until = LATE;
    assert_eq!(hand(&live, 3, NOW), None, "an answer is on its way");
    let mut taken = live.clone();
    taken.hand_over(other, 3, LATE).unwrap();
    assert_eq!((taken.payer, taken.floor, taken.cells.len()), (other, 2, 0));
}

#[test]
fn what_a_dead_worker_may_have_held_is_spent_no_more() {
    let mut slot = slot(&[(1, 4), (2, 4)]);
    slot.admit(scope_tag(""), Unit::Credits, amount(1), NOW).unwrap();
    slot.condemn();
    assert_eq!((slot.cells[0].returned, slot.cells[1].returned), (amount(3), Amount::ZERO));
    assert_eq!(slot.floor, 2);
    let held = slot.admit(scope_tag(""), Unit::Credits, amount(2), NOW).unwrap();
    assert_eq!(held[0].key.grant, 2, "a cell that nobody holds anything of lives on");
}

#[test]
fn there_is_room_for_so_many_cells_and_what_does_not_fit_goes_back() {
    let mut slot = slot(&(1..=8).map(|n| (n, 4)).collect::<Vec<_>>());
    let roomless = slot.place(&[lease(9, 7, true)], NOW, NOW);
    assert_eq!((roomless.len(), roomless[0].returned, slot.floor), (1, amount(7), 2));
    let more = slot.place(&[lease(9, 9, true)], NOW, NOW);
    assert!(more[0].gone, "another worker's question brought more of it: {more:?}");
    slot.cells[3].give_back();
    told(&mut slot);
    let next = CellLease { key: CellKey { grant: 10, generation: 2 }, ..lease(10, 7, true) };
    assert_eq!(slot.place(&[next], NOW, NOW), []);
    assert_eq!((slot.cells.len(), slot.cells[0].key.grant), (CELLS_MAX, 10));
    assert!(Slot::decode(&slot.encode()).is_ok());
}

#[test]
fn all_of_one_answer_is_entered_or_goes_back() {
    let mut full = slot(&(1..=8).map(|n| (n, 4)).collect::<Vec<_>>());
    let roomless = full.place(&[lease(9, 7, true), lease(10, 5, true)], NOW, NOW);
    assert_eq!(roomless.iter().map(|cell| cell.returned.get()).collect::<Vec<_>>(), [7, 5]);
    // Two that are over make room; the third of the answer finds none, and says so.
    let mut used_up = slot(&(1..=8).map(|n| (n, 4)).collect::<Vec<_>>());
    used_up.cells[3].give_back();
    used_up.cells[5].give_back();
    told(&mut used_up);
    let roomless = used_up.place(&[lease(9, 7, true), lease(10, 5, true), lease(11, 3, true)], NOW, NOW);
    assert_eq!(used_up.cells[..2].iter().map(|cell| cell.key.grant).collect::<Vec<_>>(), [9, 10]);
    assert_eq!(roomless.iter().map(|cell| cell.returned.get()).collect::<Vec<_>>(), [3]);
}

#[test]
fn what_an_answer_names_is_not_forgotten_for_it() {
    let mut slot = slot(&(1..=8).map(|n| (n, 4)).collect::<Vec<_>>());
    slot.cells[3].give_back();
    told(&mut slot);
    let before = slot.cells[3];
    slot.place(&[lease(9, 7, true), lease(4, 6, true)], NOW, NOW);
    let known = slot.cells.iter().find(|cell| cell.key == before.key).unwrap();
    assert_eq!((known.granted.get(), known.returned), (6, before.returned), "its totals go on");
}

#[test]
fn nothing_is_forgotten_while_a_lease_is_asked_for() {
    let mut slot = slot(&[(1, 4)]);
    slot.cells[0].give_back();
    told(&mut slot);
    let later = NOW.plus(Span::from_secs(3600));
    slot.kept_until = later.plus(Span::from_secs(2));
    slot.tidy(later);
    assert_eq!((slot.cells.len(), slot.floor), (1, 1));
    slot.tidy(slot.kept_until);
    assert_eq!((slot.cells.len(), slot.floor), (0, 2));
}

#[test]
fn a_repeated_lease_is_entered_once() {
    let mut slot = slot(&[(1, 4)]);
    slot.admit(scope_tag(""), Unit::Credits, amount(3), NOW).unwrap();
    slot.place(&[lease(2, 5, true), lease(1, 6, true)], NOW, NOW);
    slot.place(&[lease(2, 5, true), lease(1, 4, true)], NOW, NOW);
    let seen: Vec<_> = slot.cells.iter().map(|c| (c.key.grant, c.granted.get(), c.free().get())).collect();
    assert_eq!(seen, [(2, 5, 5), (1, 6, 3)], "in the order of spending, and totals only grow");
    slot.place(&[lease(1, 6, true)], Instant::EPOCH, Instant::from_micros(999_999));
    assert_eq!(slot.cells[0].deadline, NOW.plus(Span::from_secs(1)), "counted from when it was asked for");
}

proptest::proptest! {
    /// Somebody else may have written what decodes: whatever it says, working with it neither traps nor admits more
    /// than it says was granted.
    #[test]
    fn whatever_decodes_can_be_worked_with(
        mut stored in proptest::collection::vec(proptest::num::u8::ANY, HEAD_BYTES + CELL_BYTES..HEAD_BYTES + 2 * CELL_BYTES + 9),
        want in 1..1_000_000_i64,
        at in proptest::num::i64::ANY,
    ) {
        stored[0] = VERSION;
        // Half of what is random is no amount, unit or state; give the rest of the code something to work with.
        for n in 0..(stored.len() - HEAD_BYTES) / CELL_BYTES {
            let cell = HEAD_BYTES + n * CELL_BYTES;
            (0..9).for_each(|k| stored[cell + 32 + 8 * k + 6..cell + 32 + 8 * (k + 1)].fill(0));
            stored[cell + CELL_BYTES - 3..cell + CELL_BYTES].iter_mut().for_each(|byte| *byte %= 2);
        }
        stored.truncate(HEAD_BYTES + (stored.len() - HEAD_BYTES) / CELL_BYTES * CELL_BYTES);
        let mut slot = Slot::decode(&stored).unwrap();
        let (now, scope) = (Instant::from_micros(at), slot.cells[0].scope);
        let granted: i64 = slot.cells.iter().map(|cell| cell.granted.get()).sum();
        if let Some(held) = slot.admit(scope, Unit::Credits, amount(want), now) {
            assert!(want <= granted);
            assert_eq!(held.iter().map(|held| held.amount.get()).sum::<i64>(), want);
            held.into_iter().for_each(|held| _ = slot.finish(held, amount(want)));
        }
        slot.place(&[lease(1, want, true), lease(u64::MAX, want, false)], now, now);
        slot.tidy(now);
        slot.condemn();
        slot.give_back();
        slot.cells.iter().for_each(|cell| _ = cell.report());
        let before = slot.clone();
        if let Some(last) = slot.hand_over(slot.payer, 7, now) {
            assert!(last.len() <= before.cells.len() && slot.cells.is_empty());
        }
        assert_eq!(Slot::decode(&before.encode()), Ok(before));
    }
}
