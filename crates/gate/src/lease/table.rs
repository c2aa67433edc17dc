//! All slots of a process: a fixed number of keys on the shelf, and the one loop that changes a slot by compare-and-swap.
//!
//! Payers outnumber slots. A slot belongs to one payer at a time; another one may have it when nothing can be lost by
//! that, and does without leases until then: it consults for each request.

use super::{PayerKey, Slot, SlotError};
use crate::shelf::Shelf;
use contract::v1::{CellLease, CellReport};
use units::Instant;

/// How many slots there are: some 250 bytes each when in use, a megabyte in all.
pub const SLOTS: u32 = 4096;

/// How often a change is tried against other workers before the caller has to do without.
const TRIES: usize = 16;

/// The table, as one life of this Envoy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Which life.
    pub incarnation: u64,
}

/// Why a slot could not be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// It is another payer's, and not free yet.
    Taken,
    /// Other workers were faster, every time.
    Busy,
    /// What is stored there is not a slot. It stays so: nobody knows what it would cost to overwrite it.
    Malformed,
}

/// A slot was changed, or was right already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed<T> {
    /// What the change came to.
    pub result: T,
    /// Cells of the payer who had the slot before: the ledger should still hear of them.
    pub left_behind: Vec<CellReport>,
    /// True if something was stored under the key that no version of this filter left there.
    pub foreign: bool,
}

impl Blocked {
    /// As it is written in metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "slot_taken",
            Self::Busy => "slot_busy",
            Self::Malformed => "slot_malformed",
        }
    }
}

impl Table {
    /// Whose slot number `n` is, if it has cells of this life.
    #[must_use]
    pub fn payer_at(&self, shelf: &dyn Shelf, n: u32) -> Option<PayerKey> {
        let (stored, _) = shelf.read(&key(n))?;
        let slot = Slot::decode(&stored).ok()?;
        (slot.incarnation == self.incarnation && !slot.cells.is_empty()).then_some(slot.payer)
    }

    /// Changes a payer's slot, if it has one. `change` may be tried several times.
    ///
    /// # Errors
    /// [`Blocked`], and nothing was changed.
    pub fn change<T>(
        &self,
        shelf: &mut dyn Shelf,
        payer: PayerKey,
        now: Instant,
        change: impl FnMut(&mut Slot) -> T,
    ) -> Result<Changed<T>, Blocked> {
        self.run(shelf, payer, now, false, change)
    }

    /// The same, and gives the payer the slot if it may have it.
    ///
    /// # Errors
    /// [`Blocked`], and nothing was changed.
    pub fn claim<T>(
        &self,
        shelf: &mut dyn Shelf,
        payer: PayerKey,
        now: Instant,
        change: impl FnMut(&mut Slot) -> T,
    ) -> Result<Changed<T>, Blocked> {
        self.run(shelf, payer, now, true, change)
    }

    /// Cells that were lent to a payer whose slot is another's are never entered in it, should the payer have it again.
    ///
    /// # Errors
    /// [`Blocked`], and nothing was changed.
    pub fn bar(&self, shelf: &mut dyn Shelf, payer: PayerKey, cells: &[CellLease]) -> Result<(), Blocked> {
        let key = key(payer.slot(SLOTS));
        for _ in 0..TRIES {
            let stored = shelf.read(&key);
            let mut slot = match stored.as_ref().map(|(bytes, _)| Slot::decode(bytes)) {
                Some(Ok(slot)) => slot,
                None | Some(Err(SlotError::Foreign)) => Slot::new(payer, self.incarnation),
                Some(Err(SlotError::Malformed)) => return Err(Blocked::Malformed),
            };
            // Its own by now: they are entered there instead.
            if slot.payer == payer && slot.incarnation == self.incarnation && stored.is_some() {
                return Err(Blocked::Busy);
            }
            cells.iter().for_each(|cell| slot.raise_floor(cell.key));
            if shelf.write(&key, &slot.encode(), stored.map(|(_, seen)| seen)).is_ok() {
                return Ok(());
            }
        }
        Err(Blocked::Busy)
    }

    fn run<T>(
        &self,
        shelf: &mut dyn Shelf,
        payer: PayerKey,
        now: Instant,
        claim: bool,
        mut change: impl FnMut(&mut Slot) -> T,
    ) -> Result<Changed<T>, Blocked> {
        let key = key(payer.slot(SLOTS));
        for _ in 0..TRIES {
            let stored = shelf.read(&key);
            let slot = match stored.as_ref().map(|(bytes, _)| Slot::decode(bytes)) {
                None | Some(Err(SlotError::Foreign)) => None,
                Some(Ok(slot)) => Some(slot),
                Some(Err(SlotError::Malformed)) => return Err(Blocked::Malformed),
            };
            // A value of another version can hold no live cell, for the version is part of the key.
            let foreign = slot.is_none() && stored.is_some();
            let (mut slot, left_behind) = self.owned(slot, payer, now, claim)?;
            let result = change(&mut slot);
            slot.tidy(now);
            let (before, seen) = stored.unzip();
            let after = slot.encode();
            if before.as_ref() == Some(&after) || shelf.write(&key, &after, seen).is_ok() {
                return Ok(Changed { result, left_behind, foreign });
            }
        }
        Err(Blocked::Busy)
    }

    /// The slot as this payer's.
    fn owned(
        &self,
        stored: Option<Slot>,
        payer: PayerKey,
        now: Instant,
        claim: bool,
    ) -> Result<(Slot, Vec<CellReport>), Blocked> {
        match stored {
            Some(slot) if slot.payer == payer && slot.incarnation == self.incarnation => {
                Ok((slot, Vec::new()))
            }
            None if claim => Ok((Slot::new(payer, self.incarnation), Vec::new())),
            Some(mut slot) if claim => {
                let left = slot.hand_over(payer, self.incarnation, now).ok_or(Blocked::Taken)?;
                Ok((slot, left))
            }
            None | Some(_) => Err(Blocked::Taken),
        }
    }
}

pub(crate) fn key(n: u32) -> String {
    let mut key = String::with_capacity(28);
    key.push_str("tollgate/lease/2/");
    key.push_str(itoa::Buffer::new().format(n));
    key
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
