//! Leases at the gateway: what a payer's requests may spend in this process without asking, in one shared value per payer.
//!
//! Not here: when to ask the ledger for more (that is the worker's), and who a request belongs to.

mod cell;
mod slot;
mod table;

pub use cell::Cell;
pub use slot::{CELLS_MAX, Held, PayerKey, Slot, SlotError, scope_tag};
#[cfg(test)]
pub(crate) use table::key as slot_key;
pub use table::{Blocked, Changed, SLOTS, Table};
