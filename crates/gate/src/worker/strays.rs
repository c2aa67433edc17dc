//! Leases that were asked for and not heard of: billing may have lent them all the same, and nobody would report them.
//!
//! They are asked for once more, for nobody or with who waits anyway, until billing answers, and the question says that an
//! answer was lost ([`Need::lost`]): what billing lent is entered then or goes back, whatever it decides now. Not here: holds whose answer was lost, which are abandoned by their id.

use crate::Numbered;
use crate::entered::entered;
use crate::lease::scope_tag;
use contract::v1::{Need, NeedMode};
use std::collections::BTreeSet;

/// All of them, each customer and endpoint once.
#[derive(Debug, Default)]
pub(super) struct Strays {
    all: Numbered<Box<Need>>,
}

/// 64 bits of a digest of who asks for what: enough to tell all customers apart, and smaller than a map of names.
fn tag(need: &Need) -> u64 {
    let (kind, value) = (need.subject.kind.as_str(), need.subject.value.as_str());
    scope_tag(&[kind, value, need.endpoint.as_str()].join("\n"))
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
    pub(super) fn put(&mut self, need: &Need, id: u64) {
        if need.mode == NeedMode::Lease {
            // What an earlier answer may have lent is told with a later one, whichever of the two is asked again.
            let tag = tag(need);
            if self.all.get(tag).is_none() {
                self.all.insert(tag, Box::new(Need { id, wait_ms: 0, lost: true, ..need.clone() }));
            }
        }
    }

    /// Billing answered: whatever it lent to this customer is known now.
    pub(super) fn heard(&mut self, need: &Need) {
        if need.mode == NeedMode::Lease && self.is_due() {
            self.all.remove(tag(need));
        }
    }

    /// Up to `max` that are not asked for by somebody who waits; who asks for one of them says so.
    pub(super) fn compose(&self, asked: &mut [Need], max: usize) -> Vec<Need> {
        if !self.is_due() {
            return Vec::new();
        }
        let leases = asked.iter_mut().filter(|need| need.mode == NeedMode::Lease);
        let asked: BTreeSet<u64> = entered(leases.map(|need| {
            let tag = tag(need);
            need.lost = self.all.get(tag).is_some();
            tag
        }));
        let others = self.all.iter().filter(|(tag, _)| !asked.contains(tag));
        others.take(max).map(|(_, need)| (**need).clone()).collect()
    }
}
