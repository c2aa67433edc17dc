//! The one question the gate asks mid-decision: read a value, write it back unless someone else did.
//!
//! Envoy's shared data behind it is shared by every worker of one Envoy, has no expiry, lists no keys, and vanishes
//! with the process. A key, once written, is there for good: use a fixed set of keys.

/// Which writing of a value was read; a write that names it succeeds only if nothing was written since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub u32);

/// Somebody else wrote in between: read again and decide again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale;

/// Memory that all workers of one Envoy share.
pub trait Shelf {
    /// The value and its version, or nothing if it was never written.
    fn read(&self, key: &str) -> Option<(Vec<u8>, Version)>;

    /// Writes if the value is still the one that was read; `None` means that there was none.
    ///
    /// # Errors
    /// [`Stale`] if it is not.
    fn write(&mut self, key: &str, value: &[u8], seen: Option<Version>) -> Result<(), Stale>;
}

/// A shelf of one process's own, for tests and simulators.
#[derive(Clone, Debug, Default)]
pub struct MemoryShelf {
    values: std::collections::BTreeMap<String, (Vec<u8>, u32)>,
    writes: u32,
}

impl Shelf for MemoryShelf {
    fn read(&self, key: &str) -> Option<(Vec<u8>, Version)> {
        self.values.get(key).map(|(value, version)| (value.clone(), Version(*version)))
    }

    fn write(&mut self, key: &str, value: &[u8], seen: Option<Version>) -> Result<(), Stale> {
        if self.values.get(key).map(|(_, version)| Version(*version)) != seen {
            return Err(Stale);
        }
        self.writes = self.writes.wrapping_add(1);
        self.values.insert(key.to_owned(), (value.to_vec(), self.writes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_missed_another_is_stale() {
        let mut shelf = MemoryShelf::default();
        assert_eq!(shelf.write("k", b"1", None), Ok(()));
        assert_eq!(shelf.write("k", b"2", None), Err(Stale));
        let (_, seen) = shelf.read("k").unwrap();
        assert_eq!(shelf.write("k", b"2", Some(seen)), Ok(()));
        assert_eq!(shelf.write("k", b"3", Some(seen)), Err(Stale));
    }
}
