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
