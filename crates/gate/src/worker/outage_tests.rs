//! What an outage leaves behind: requests that passed unpaid, and leases that were lent unheard.

use super::rig::*;
use super::*;
use crate::lease::{Blocked, PayerKey, SLOTS, Slot, Table};
use crate::shelf::{MemoryShelf, Shelf, Stale, Version};
use contract::v1::*;
use units::{AccountId, Amount, EndpointId, Subject, SubjectKind, Unit};

fn put(stage: &mut Stage, stream: u32, who: &str, mode: NeedMode, allow: u32, repeat: Option<Repeat>) {
    let subject = Subject::new(SubjectKind::JwtSub, who).unwrap();
    let endpoint = EndpointId::new("chat").unwrap();
    let (shape, repeat) = (NeedShape::Fixed, repeat.map(Box::new));
    stage.put(stream, Question::Need { subject, endpoint, mode, shape, allow, repeat });
    stage.poll();
}

/// Billing answers nobody, until nobody waits.
fn outage(stage: &mut Stage) {
    while stage.woken.is_empty() {
        stage.fail_call();
        stage.later(10);
    }
}

fn last_sync(stage: &Stage) -> Sync {
    let (_, _, body) = stage.calls.iter().rfind(|(_, path, _)| *path == PATH_SYNC).expect("a sync");
    serde_json::from_slice(body).unwrap()
}

#[test]
fn what_its_client_named_does_not_pass_unpaid() {
    for named in [false, true] {
        let (mut stage, mut desk) = (Stage::new(), Desk::with(5));
        stage.ask(1);
        stage.settle(&mut desk);
        let hold = stage.pass(1).hold.unwrap();
        stage.end(hold, PRICE, Outcome::Charged);
        stage.settle(&mut desk);
        let repeat = named.then(|| Repeat { key: "a".repeat(64), body: "b".repeat(64) });
        put(&mut stage, 2, "alice", NeedMode::Hold, 1, repeat);
        outage(&mut stage);
        match (named, stage.woken.remove(0).1) {
            (false, Answer::Ok(pass)) => assert!(pass.decided.is_none(), "nobody has decided about it"),
            (true, Answer::Unavailable(_)) => {}
            (_, other) => panic!("named: {named}: {other:?}"),
        }
    }
}

#[test]
fn what_passed_unpaid_says_that_it_was_served_when_it_is_charged_for() {
    let (mut stage, mut desk) = (Stage::new(), Desk::with(5));
    put(&mut stage, 1, "alice", NeedMode::Hold, 1, None);
    assert!(stage.calls.iter().all(|(_, path, _)| *path == PATH_HELLO));
    let hello = desk.answer(PATH_HELLO, b"");
    stage.reply(&hello);
    assert!(last_sync(&stage).needs.iter().all(|need| !need.served), "it waits");
    outage(&mut stage);
    let hold = stage.pass(1).hold.unwrap();
    stage.end(hold, PRICE, Outcome::Charged);
    while stage.calls.is_empty() {
        stage.later(10);
    }
    let needs = last_sync(&stage).needs;
    assert_eq!(
        needs.iter().map(|need| (need.id, need.served, need.wait_ms)).collect::<Vec<_>>(),
        [(hold, true, 0)]
    );
    stage.settle(&mut desk);
    assert_eq!((desk.charged, desk.held.len()), (PRICE, 0));
}

/// Two payers that have to share a slot.
fn neighbours() -> (AccountId, AccountId) {
    let account = |n: u32| AccountId::new(format!("acct{n}")).unwrap();
    let place = |account: &AccountId| PayerKey::of(account).slot(SLOTS);
    let first = account(0);
    let second = (1..).map(account).find(|other| place(other) == place(&first)).unwrap();
    (first, second)
}

#[test]
fn a_lease_that_comes_when_its_slot_is_anothers_goes_back_and_is_never_entered() {
    let (mine, others) = neighbours();
    let payer = PayerKey::of;
    let (mut stage, mut desk) = (Stage::new(), Desk::with(5));
    stage.ask(1);
    stage.settle(&mut desk);
    let table = Table { incarnation: 1 };
    let until = stage.now.plus(Span::from_secs(9));
    table.claim(&mut stage.shelf, payer(&others), stage.now, |slot| slot.kept_until = until).unwrap();
    let lease = CellLease {
        key: CellKey { grant: 7, generation: 3 },
        unit: Unit::Credits,
        granted: Amount::new(9 * PRICE).unwrap(),
        held: Amount::ZERO,
        ttl_ms: 30_000,
        exposure: Amount::new(9 * PRICE).unwrap(),
        scope: String::new(),
        keep: true,
    };
    let price =
        Price { unit: Unit::Credits, hold: Amount::new(PRICE).unwrap(), scope: String::new(), version: 1 };
    let standing = Box::new(standing(mine.as_str()));
    let paid = Amount::ZERO;
    let granted = sync::Granted { standing: *standing, price, cells: vec![lease.clone()], paid, list: None };
    stage.worker.on_lent(99, granted, stage.now, stage.now, &mut stage.shelf);
    stage.poll();
    let told = last_sync(&stage).cells;
    let gone: Vec<_> = told.iter().filter(|cell| cell.gone).map(|cell| (cell.key, cell.admitted)).collect();
    assert_eq!(gone, [(lease.key, Amount::ZERO)], "{told:?}");
    // Another worker has the same answer, and is late with it.
    let after = until.plus(Span::from_secs(1));
    let place =
        |slot: &mut Slot| (slot.place(core::slice::from_ref(&lease), stage.now, after), slot.cells.len());
    let (roomless, cells) = table.claim(&mut stage.shelf, payer(&mine), after, place).unwrap().result;
    assert_eq!((roomless.len(), roomless[0].gone, cells), (1, true, 0));
}

#[test]
fn the_slot_of_another_stays_as_it_is_but_for_what_may_not_come() {
    let (mine, others) = neighbours();
    let (mine, others) = (PayerKey::of(&mine), PayerKey::of(&others));
    let (mut shelf, now, table) = (MemoryShelf::default(), Instant::from_secs(5), Table { incarnation: 1 });
    let lease = |generation| CellLease {
        key: CellKey { grant: 7, generation },
        unit: Unit::Credits,
        granted: Amount::ONE,
        held: Amount::ZERO,
        ttl_ms: 30_000,
        exposure: Amount::ONE,
        scope: String::new(),
        keep: true,
    };
    let before = table.claim(&mut shelf, others, now, |slot| {
        slot.place(&[lease(2)], now, now);
        slot.epoch = 8;
        slot.clone()
    });
    table.bar(&mut shelf, mine, &[lease(4), lease(6)]).unwrap();
    let after = table.change(&mut shelf, others, now, |slot| slot.clone()).unwrap().result;
    assert_eq!(after, Slot { floor: 7, ..before.unwrap().result });
    assert_eq!(
        table.bar(&mut shelf, others, &[lease(9)]),
        Err(Blocked::Busy),
        "its own: it is entered there"
    );
    let empty = &mut MemoryShelf::default();
    table.bar(empty, mine, &[lease(4)]).unwrap();
    assert_eq!(table.claim(empty, mine, now, |slot| slot.floor).unwrap().result, 5);
}

/// A shelf on which others are always faster.
struct Busy(MemoryShelf);

impl Shelf for Busy {
    fn read(&self, key: &str) -> Option<(Vec<u8>, Version)> {
        self.0.read(key)
    }
    fn write(&mut self, _: &str, _: &[u8], _: Option<Version>) -> Result<(), Stale> {
        Err(Stale)
    }
}

/// What it said may be news, such as a larger grant, and billing takes it for told.
#[test]
fn an_answer_that_could_not_be_entered_is_asked_for_again_whole() {
    let (mut stage, mut desk) = (Stage::new(), Desk::with(5));
    stage.ask(1);
    stage.settle(&mut desk);
    let (payer, table, now) = (PayerKey::of(&neighbours().0), Table { incarnation: 1 }, stage.now);
    let lease = CellLease {
        key: CellKey { grant: 7, generation: 1 },
        unit: Unit::Credits,
        granted: Amount::new(PRICE).unwrap(),
        held: Amount::ZERO,
        ttl_ms: 30_000,
        exposure: Amount::new(PRICE).unwrap(),
        scope: String::new(),
        keep: true,
    };
    let enter = |slot: &mut Slot| {
        slot.place(core::slice::from_ref(&lease), now, now);
        slot.cells[0].report()
    };
    let told = table.claim(&mut stage.shelf, payer, now, enter).unwrap().result;
    let batch = Batch {
        seq: 9,
        needs: Default::default(),
        page: Default::default(),
        leases: vec![(payer, told)],
        sent: now,
    };
    let more = CellAnswer {
        key: lease.key,
        granted: Amount::new(3 * PRICE).unwrap(),
        acked_admitted: Amount::ZERO,
        ttl_ms: 30_000,
        exposure: Amount::new(3 * PRICE).unwrap(),
        state: CellState::Open,
        keep: true,
    };
    let mut busy = Busy(stage.shelf);
    assert!(stage.worker.merge_leases(&batch, &[more], now, &mut busy));
    let due: Vec<_> = stage.worker.watch.take(now.plus(Span::from_secs(2)));
    assert!(due.contains(&(payer, true)), "the whole slot is told: {due:?}");
}
