//! Shared memory with its lid off: what lies in it can be seen, and overwritten, and writes can be made to come too late.

use crate::dice::Dice;
use gate::{Shelf, Stale, Version};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub(crate) struct Open {
    pub(crate) values: BTreeMap<String, (Vec<u8>, u32)>,
    writes: u32,
    /// So many writes from now on come too late.
    pub(crate) races: usize,
}

impl Open {
    /// Puts something else where something is, and says where.
    pub(crate) fn spoil(&mut self, dice: &mut Dice<'_>) -> Option<String> {
        if self.values.is_empty() {
            return None;
        }
        let at = dice.below(self.values.len());
        let (key, (value, version)) = self.values.iter_mut().nth(at)?;
        match dice.below(4) {
            0 => value.clear(),
            1 => value.truncate(dice.below(value.len() + 1)),
            2 => *value = dice.bytes(80).to_vec(),
            _ => {
                if let Some(byte) = value.get_mut(dice.below(300)) {
                    *byte = byte.wrapping_add(u8::try_from(1 + dice.below(255)).unwrap_or(1));
                }
            }
        }
        self.writes += 1;
        *version = self.writes;
        Some(key.clone())
    }
}

impl Shelf for Open {
    fn read(&self, key: &str) -> Option<(Vec<u8>, Version)> {
        self.values.get(key).map(|(value, version)| (value.clone(), Version(*version)))
    }

    fn write(&mut self, key: &str, value: &[u8], seen: Option<Version>) -> Result<(), Stale> {
        if self.races > 0 {
            self.races -= 1;
            return Err(Stale);
        }
        if self.values.get(key).map(|(_, version)| Version(*version)) != seen {
            return Err(Stale);
        }
        self.writes += 1;
        self.values.insert(key.to_owned(), (value.to_vec(), self.writes));
        Ok(())
    }
}
