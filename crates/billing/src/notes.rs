//! What happened to accounts, kept for a while in memory, so that gateways hear of it at once.
//!
//! It only makes things faster: whatever a gateway remembers runs out by itself, so losing this loses nothing.

use contract::v1::{Note, WatchAnswer};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;
use units::Instant;

/// So many are kept; who asks for older ones is told to forget everything.
const NOTES_MAX: usize = 4_096;

/// The notes and whoever waits for them.
pub struct Notes {
    ring: Mutex<VecDeque<Note>>,
    /// The position of the newest note.
    newest: watch::Sender<u64>,
}

impl Notes {
    /// Empty. Positions begin at the time of the start, so that those of an earlier process are recognised as old.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let first = u64::try_from(now.micros().max(1)).unwrap_or(1);
        Self { ring: Mutex::default(), newest: watch::Sender::new(first) }
    }

    /// Adds notes and wakes whoever waits.
    pub fn push(&self, notes: Vec<Note>) {
        if notes.is_empty() {
            return;
        }
        let count = u64::try_from(notes.len()).unwrap_or(u64::MAX);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.extend(notes);
        let excess = ring.len().saturating_sub(NOTES_MAX);
        ring.drain(..excess);
        self.newest.send_modify(|newest| *newest = newest.saturating_add(count));
    }

    /// What happened after a position, as far as it is known.
    #[must_use]
    pub fn since(&self, after: u64) -> WatchAnswer {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = *self.newest.borrow();
        let new = newest.checked_sub(after).and_then(|new| usize::try_from(new).ok());
        match new.and_then(|new| ring.len().checked_sub(new)) {
            Some(known) => {
                WatchAnswer { after: newest, reset: false, notes: ring.iter().skip(known).cloned().collect() }
            }
            None => WatchAnswer { after: newest, reset: true, notes: Vec::new() },
        }
    }

    /// Waits until there is something after a position.
    pub async fn wait(&self, after: u64) {
        let mut newest = self.newest.subscribe();
        // It ends with an error only if the sender is gone, and the sender is borrowed here.
        let _ = newest.wait_for(|newest| *newest != after).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::v1::NoteKind;
    use units::AccountId;

    fn note(epoch: u64) -> Note {
        Note { payer: AccountId::new("a").unwrap(), epoch, kind: NoteKind::Replenished }
    }

    #[test]
    fn a_position_from_elsewhere_means_forget_everything() {
        let notes = Notes::new(Instant::from_micros(1_000));
        let start = notes.since(0);
        assert!(start.reset && start.notes.is_empty());
        notes.push(vec![note(1), note(2)]);
        let answer = notes.since(start.after);
        assert_eq!((answer.reset, answer.notes.len(), answer.after), (false, 2, 1_002));
        assert_eq!(notes.since(1_001).notes, vec![note(2)]);
        assert!(notes.since(1_002).notes.is_empty());
        assert!(notes.since(5_000).reset, "a position of the future is not ours");
        notes.push(vec![note(3); NOTES_MAX]);
        assert!(notes.since(1_001).reset, "what was dropped is admitted to be");
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let notes = Notes::new(Instant::from_micros(1));
        let ((), ()) = tokio::join!(notes.wait(1), async { notes.push(vec![note(1)]) });
        assert_eq!(notes.since(1).notes.len(), 1);
    }
}
