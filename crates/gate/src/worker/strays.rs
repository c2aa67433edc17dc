//! Leases that were asked for and not heard of: billing may have lent them all the same, and nobody would report them.
//!
//! They are asked for once more, for nobody, until billing answers; what it lent is entered then, and goes back unless
//! somebody comes for it. Not here: holds whose answer was lost, which are abandoned by their id.

use super::warm::Key;
use contract::v1::{Need, NeedMode};
use std::collections::{BTreeMap, BTreeSet};

/// All of them, each customer and endpoint once.
#[derive(Debug, Default)]
pub(super) struct Strays {
    all: BTreeMap<Key, Need>,
}

impl Strays {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Is there anything to ask for?
    pub(super) fn is_due(&self) -> bool {
        !self.all.is_empty()
    }

    /// No answer came to this need. It is asked again under `id`, which nobody waits for.
    pub(super) fn put(&mut self, need: Need, id: u64) {
        if need.mode == NeedMode::Lease {
            let key = (need.subject.clone(), need.endpoint.clone());
            // What an earlier answer may have lent is told with a later one, whichever of the two is asked again.
            self.all.entry(key).or_insert(Need { id, wait_ms: 0, ..need });
        }
    }

    /// Billing answered: whatever it lent to this customer is known now.
    pub(super) fn heard(&mut self, need: Need) {
        if need.mode == NeedMode::Lease {
            self.all.remove(&(need.subject, need.endpoint));
        }
    }

    /// Up to `max` that are not asked for by somebody who waits.
    pub(super) fn compose(&self, asked: &[Need], max: usize) -> Vec<Need> {
        if self.all.is_empty() {
            return Vec::new();
        }
        let leases = asked.iter().filter(|need| need.mode == NeedMode::Lease);
        let asked: BTreeSet<_> = leases.map(|need| (&need.subject, &need.endpoint)).collect();
        let others = self.all.values().filter(|need| !asked.contains(&(&need.subject, &need.endpoint)));
        others.take(max).cloned().collect()
    }
}
