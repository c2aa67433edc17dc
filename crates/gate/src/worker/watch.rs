//! Which slots this worker has to tell billing of, and when: soon after it changed them, and from time to time as long as
//! something is in them.
//!
//! Only numbers and times; what is in the slots is read when it is told.

use crate::Numbered;
use crate::lease::{PayerKey, SLOTS};
use std::collections::BTreeSet;
use units::Instant;

/// At most one entry per slot, so its size is bounded by the table's.
#[derive(Debug, Default)]
pub(super) struct Watch {
    slots: Numbered<(PayerKey, Instant)>,
    beats: BTreeSet<(Instant, u32)>,
    dirty: BTreeSet<u32>,
    /// Of these, the slots of which everything is to be told, known or not.
    whole: BTreeSet<u32>,
    due: Option<Instant>,
}

impl Watch {
    /// This worker changed a payer's slot; billing is to be told at `due`, and after that again at `beat`.
    pub(super) fn touch(&mut self, payer: PayerKey, due: Instant, beat: Instant) {
        let n = payer.slot(SLOTS);
        self.dirty.insert(n);
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        if self.slots.get(n.into()).is_none_or(|(known, _)| *known != payer) {
            self.look_again(payer, beat);
        }
    }

    /// The same, and billing may know more of its cells than this process: it is told of all of them, and answers how each
    /// stands.
    pub(super) fn touch_whole(&mut self, payer: PayerKey, due: Instant, beat: Instant) {
        self.whole.insert(payer.slot(SLOTS));
        self.touch(payer, due, beat);
    }

    /// There is something in a payer's slot: look at it at `beat`.
    pub(super) fn look_again(&mut self, payer: PayerKey, beat: Instant) {
        let n = payer.slot(SLOTS);
        self.drop_beat(n);
        self.slots.insert(n.into(), (payer, beat));
        self.beats.insert((beat, n));
    }

    /// There is nothing of this payer's any more.
    pub(super) fn forget(&mut self, payer: PayerKey) {
        let n = payer.slot(SLOTS);
        if self.slots.get(n.into()).is_some_and(|(known, _)| *known == payer) {
            self.drop_beat(n);
            self.slots.remove(n.into());
            self.dirty.remove(&n);
            self.whole.remove(&n);
        }
    }

    /// Whose slots are to be looked at when something is told at `now`: all that changed, and those whose time has come; and
    /// whether everything in them is to be told.
    pub(super) fn take(&mut self, now: Instant) -> Vec<(PayerKey, bool)> {
        let (mut slots, whole) = (core::mem::take(&mut self.dirty), core::mem::take(&mut self.whole));
        self.due = None;
        slots.extend(self.beats.iter().take_while(|(beat, _)| *beat <= now).map(|(_, n)| *n));
        let known = slots.iter().filter_map(|n| Some((self.slots.get((*n).into())?.0, whole.contains(n))));
        known.collect()
    }

    /// Every payer that is watched.
    pub(super) fn all(&self) -> Vec<PayerKey> {
        self.slots.values().map(|(payer, _)| *payer).collect()
    }

    /// When something is to be told next. What is only told again waits until `quiet_until`, to be told with the rest.
    pub(super) fn next_due(&self, quiet_until: Instant) -> Option<Instant> {
        let beat = self.beats.first().map(|(beat, _)| (*beat).max(quiet_until));
        [self.due, beat].into_iter().flatten().min()
    }

    /// True if nothing has to be told.
    pub(super) fn is_told(&self) -> bool {
        self.dirty.is_empty()
    }

    fn drop_beat(&mut self, n: u32) {
        if let Some((_, beat)) = self.slots.get(n.into()) {
            self.beats.remove(&(*beat, n));
        }
    }
}
