//! A `Shelf` on Envoy's shared data, which is shared by every worker, has no expiry, and vanishes with the process.

use gate::{Shelf, Stale, Version};
use proxy_wasm::hostcalls;

/// What to expect of a key that was never written: its counter starts at 1 and grows by 1 for every write of any key,
/// so no version will be this one before 2^32 writes.
const ABSENT: u32 = u32::MAX;

/// The shared data of this VM's `vm_id`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SharedData;

impl Shelf for SharedData {
    fn read(&self, key: &str) -> Option<(Vec<u8>, Version)> {
        match hostcalls::get_shared_data(key) {
            Ok((value, Some(version))) => Some((value.unwrap_or_default(), Version(version))),
            Ok((_, None)) | Err(_) => None,
        }
    }

    fn write(&mut self, key: &str, value: &[u8], seen: Option<Version>) -> Result<(), Stale> {
        let expected = seen.map_or(ABSENT, |Version(version)| version);
        hostcalls::set_shared_data(key, Some(value), Some(expected)).map_err(|_| Stale)
    }
}
