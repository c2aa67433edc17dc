//! What a worker remembers of those who were let through lately, so that the next request need not ask who it is.
//!
//! In this VM's memory and not in the shared one: a second shared table would cost every warm request one more call to
//! the host, and save each worker one question per customer and lease time. What must be known by all workers, that
//! something has changed, is the epoch in the payer's slot.

use super::talk::{Decided, Pass};
use crate::Numbered;
use crate::lease::{PayerKey, scope_tag};
use std::collections::BTreeMap;
use std::rc::Rc;
use units::{Amount, EndpointId, Instant, Span, Subject, Unit};

/// How many are remembered; the oldest give way.
const WARM_MAX: usize = 4096;

/// Who asks, for what.
pub(super) type Key = (Subject, EndpointId);

/// What was last decided about somebody.
#[derive(Clone, Debug)]
pub(super) struct Warm {
    pub(super) payer: PayerKey,
    /// The price's scope, as slots know it.
    pub(super) scope: u64,
    pub(super) decided: Rc<Decided>,
    /// The balance and what is left of the window, after those who passed since it was decided.
    balance_micro: i64,
    remaining: u64,
    /// From then on it is only a hint at who pays.
    valid_until: Instant,
    age: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: BTreeMap<Key, Warm>,
    by_age: Numbered<Key>,
    last_age: u64,
}

impl Warm {
    /// May a request be let through on this, if its payer's slot is in this epoch?
    pub(super) fn holds(&self, epoch: u64, now: Instant) -> bool {
        now < self.valid_until && self.decided.standing.epoch >= epoch
    }

    /// Leave for one more request, which brings down what is shown of the balance or the window.
    pub(super) fn pass(&mut self, hold: u64, held: Amount) -> Pass {
        match self.decided.price.unit {
            Unit::Credits => self.balance_micro = self.balance_micro.saturating_sub(held.get()),
            Unit::Requests => self.remaining = self.remaining.saturating_sub(1),
        }
        let (balance_micro, remaining) = (self.balance_micro, self.remaining);
        let (hold, decided) = (Some(hold), Some(Rc::clone(&self.decided)));
        Pass { hold, decided, held, paid: Amount::ZERO, balance_micro, remaining }
    }
}

impl Memory {
    pub(super) fn get(&mut self, key: &Key) -> Option<&mut Warm> {
        self.entries.get_mut(key)
    }

    /// Remembers what a sync that was sent at `sent` was answered.
    pub(super) fn put(&mut self, key: Key, decided: Rc<Decided>, sent: Instant) {
        self.remove(&key);
        if self.entries.len() >= WARM_MAX
            && let Some(oldest) = self.by_age.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.last_age = self.last_age.saturating_add(1);
        let Decided { standing, price, .. } = &*decided;
        let (payer, scope) = (PayerKey::of(&standing.payer), scope_tag(&price.scope));
        let valid_until = sent.plus(Span::from_millis(standing.valid_ms));
        let Pass { balance_micro, remaining, .. } = Pass::new(None, Rc::clone(&decided));
        let warm = Warm { payer, scope, decided, balance_micro, remaining, valid_until, age: self.last_age };
        self.by_age.insert(self.last_age, key.clone());
        self.entries.insert(key, warm);
    }

    /// Somebody was refused: nothing that was remembered holds.
    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(warm) = self.entries.remove(key) {
            self.by_age.remove(warm.age);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::rig::standing;
    use contract::v1::{Price, Standing};
    use units::SubjectKind;

    fn key(n: usize) -> Key {
        (Subject::new(SubjectKind::JwtSub, format!("s{n}")).unwrap(), EndpointId::new("chat").unwrap())
    }

    fn put(memory: &mut Memory, n: usize) {
        let hold = Amount::new(2).unwrap();
        let price = Price { unit: Unit::Credits, hold, scope: String::new(), version: 1 };
        let standing = Standing { valid_ms: 1000, balance_micro: 9, epoch: 3, ..standing("alice") };
        memory.put(key(n), Rc::new(Decided::new(standing, price, None)), Instant::EPOCH);
    }

    #[test]
    fn so_many_are_remembered_and_the_oldest_give_way() {
        let mut memory = Memory::default();
        (0..WARM_MAX).for_each(|n| put(&mut memory, n));
        put(&mut memory, 0);
        put(&mut memory, WARM_MAX);
        assert_eq!((memory.entries.len(), memory.by_age.len()), (WARM_MAX, WARM_MAX));
        assert!(memory.get(&key(1)).is_none() && memory.get(&key(0)).is_some(), "0 was decided about anew");
        memory.remove(&key(0));
        assert!(memory.get(&key(0)).is_none());
    }

    #[test]
    fn what_is_remembered_holds_for_a_while_and_in_its_epoch() {
        let mut memory = Memory::default();
        put(&mut memory, 0);
        let warm = memory.get(&key(0)).unwrap();
        assert!(warm.holds(3, Instant::from_micros(999_999)));
        assert!(!warm.holds(3, Instant::from_secs(1)), "its time is over");
        assert!(!warm.holds(4, Instant::EPOCH), "something has changed");
        let shown: Vec<i64> = (0..3).map(|n| warm.pass(n, Amount::new(2).unwrap()).balance_micro).collect();
        assert_eq!(shown, [7, 5, 3]);
    }
}
