//! The loop around a slot: who may change it, and what becomes of a race.

use super::*;
use crate::shelf::{MemoryShelf, Stale, Version};
use units::AccountId;

const TABLE: Table = Table { incarnation: 7 };
const NOW: Instant = Instant::from_secs(1);

fn payer(name: &str) -> PayerKey {
    PayerKey::of(&AccountId::new(name).unwrap())
}

/// Another payer with the same slot.
fn rival(of: PayerKey) -> PayerKey {
    let names = (0..).map(|n| payer(&format!("rival{n}")));
    names.into_iter().find(|other| other.slot(SLOTS) == of.slot(SLOTS)).unwrap()
}

#[test]
fn a_slot_is_made_by_a_claim_and_changed_by_its_payer_only() {
    let (mut shelf, alice) = (MemoryShelf::default(), payer("alice"));
    let epoch = |epoch| move |slot: &mut Slot| slot.epoch = epoch;
    assert_eq!(TABLE.change(&mut shelf, alice, NOW, epoch(1)).map(|c| c.result), Err(Blocked::Taken));
    TABLE.claim(&mut shelf, alice, NOW, epoch(2)).unwrap();
    assert_eq!(TABLE.change(&mut shelf, alice, NOW, |slot| slot.epoch).unwrap().result, 2);
    let bob = rival(alice);
    TABLE.claim(&mut shelf, alice, NOW, |slot| slot.kept_until = Instant::from_secs(9)).unwrap();
    assert_eq!(TABLE.claim(&mut shelf, bob, NOW, epoch(3)).map(|c| c.result), Err(Blocked::Taken));
    TABLE.claim(&mut shelf, bob, Instant::from_secs(9), epoch(3)).unwrap();
    assert_eq!(TABLE.change(&mut shelf, alice, NOW, epoch(4)).map(|c| c.result), Err(Blocked::Taken));
    let next_life = Table { incarnation: 8 };
    assert_eq!(next_life.change(&mut shelf, bob, NOW, epoch(5)).map(|c| c.result), Err(Blocked::Taken));
}

#[test]
fn what_is_no_slot_is_never_guessed_at() {
    let (mut shelf, alice) = (MemoryShelf::default(), payer("alice"));
    let key = key(alice.slot(SLOTS));
    shelf.write(&key, b"\x02short", None).unwrap();
    assert_eq!(TABLE.claim(&mut shelf, alice, NOW, |_| ()), Err(Blocked::Malformed));
    let (_, seen) = shelf.read(&key).unwrap();
    shelf.write(&key, b"\x09of another version", Some(seen)).unwrap();
    let changed = TABLE.claim(&mut shelf, alice, NOW, |slot| slot.epoch = 1).unwrap();
    assert!(changed.foreign, "overwritten, and told");
}

/// A shelf on which somebody else always was a moment faster.
struct Contended(MemoryShelf, usize);

impl Shelf for Contended {
    fn read(&self, key: &str) -> Option<(Vec<u8>, Version)> {
        self.0.read(key)
    }
    fn write(&mut self, key: &str, value: &[u8], seen: Option<Version>) -> Result<(), Stale> {
        match self.1.checked_sub(1) {
            Some(left) => {
                self.1 = left;
                Err(Stale)
            }
            None => self.0.write(key, value, seen),
        }
    }
}

#[test]
fn a_race_is_run_again_and_given_up_after_so_many_times() {
    let alice = payer("alice");
    for (races, expected) in [(0, Ok(1)), (15, Ok(16)), (16, Err(Blocked::Busy))] {
        let mut shelf = Contended(MemoryShelf::default(), races);
        let mut tries = 0;
        let changed = TABLE.claim(&mut shelf, alice, NOW, |slot| {
            tries += 1;
            slot.epoch = 1;
            tries
        });
        assert_eq!(changed.map(|changed| changed.result), expected);
    }
}

/// A shelf on which a rival writes just before the first write.
struct Outrun<F>(MemoryShelf, Option<F>);

impl<F: FnOnce(&mut MemoryShelf)> Shelf for Outrun<F> {
    fn read(&self, key: &str) -> Option<(Vec<u8>, Version)> {
        self.0.read(key)
    }
    fn write(&mut self, key: &str, value: &[u8], seen: Option<Version>) -> Result<(), Stale> {
        if let Some(rival) = self.1.take() {
            rival(&mut self.0);
        }
        self.0.write(key, value, seen)
    }
}

#[test]
fn t48_of_two_workers_that_make_a_slot_at_once_the_second_finds_the_firsts() {
    let alice = payer("alice");
    let first = |who| {
        move |shelf: &mut MemoryShelf| {
            let mark = |slot: &mut Slot| (slot.epoch, slot.kept_until) = (7, Instant::from_secs(9));
            assert!(TABLE.claim(shelf, who, NOW, mark).is_ok());
        }
    };
    let mut shelf = Outrun(MemoryShelf::default(), Some(first(alice)));
    let mut seen = Vec::new();
    let second = |slot: &mut Slot| {
        seen.push(slot.epoch);
        slot.floor += 1;
    };
    assert!(!TABLE.claim(&mut shelf, alice, NOW, second).unwrap().foreign);
    assert_eq!(seen, [0, 7], "it began with nothing, and found what the other had written");
    let stored = TABLE.change(&mut shelf.0, alice, NOW, |slot| (slot.epoch, slot.floor)).unwrap();
    assert_eq!(stored.result, (7, 2), "both are in it");
    // And if the first was another payer with the same slot, the second has none.
    let mut shelf = Outrun(MemoryShelf::default(), Some(first(rival(alice))));
    let lost = TABLE.claim(&mut shelf, alice, NOW, |slot| slot.epoch = 1);
    assert_eq!(lost.map(|changed| changed.result), Err(Blocked::Taken));
}
