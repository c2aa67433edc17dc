//! Requests that clients named, in memory.

use super::Memory;
use crate::store::{HoldName, Kept, RepeatRow, Repeats};
use ledger::{Cell, CellId};
use units::{AccountId, Instant};

impl Repeats for Memory {
    fn repeat(&mut self, account: &AccountId, key: &str) -> Kept<Option<RepeatRow>> {
        Ok(self.now.repeats.get(&(account.clone(), key.to_owned())).cloned())
    }

    fn put_repeat(&mut self, account: &AccountId, key: &str, row: &RepeatRow) -> Kept<()> {
        self.now.repeats.insert((account.clone(), key.to_owned()), row.clone());
        Ok(())
    }

    fn cells_of_hold(&mut self, hold: &HoldName) -> Kept<Vec<(CellId, Cell)>> {
        let of = |id: &CellId| {
            id.node == hold.node && id.incarnation == hold.incarnation && id.generation == hold.generation
        };
        Ok(self
            .now
            .cells
            .iter()
            .filter(|(id, _)| of(id))
            .map(|(id, cell)| (id.clone(), cell.clone()))
            .collect())
    }

    fn oldest_repeat(&mut self) -> Kept<Option<Instant>> {
        Ok(self.now.repeats.values().map(|row| row.at).min())
    }

    fn forget_repeats(&mut self, until: Instant, limit: u32) -> Kept<()> {
        let mut old: Vec<_> = self.now.repeats.iter().filter(|(_, row)| row.at <= until).collect();
        old.sort_by_key(|(_, row)| row.at);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let old: Vec<_> = old.into_iter().take(limit).map(|(key, _)| key.clone()).collect();
        old.iter().for_each(|key| drop(self.now.repeats.remove(key)));
        Ok(())
    }
}
