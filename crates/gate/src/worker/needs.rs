//! Requests that wait for a decision: who, since when, and how long billing may still tell them to try again.

use super::warm::Key;
use crate::Numbered;
use contract::v1::{Need, NeedMode, NeedShape, Repeat};
use units::{EndpointId, Instant, Span, Subject};

/// The shortest time after which a need is asked again, however short a time billing names.
const RETRY_MIN: Span = Span::from_millis(10);
/// Need ids have 40 bits on the wire.
const ID_MAX: u64 = (1 << 40) - 1;

/// One request that waits.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    pub(super) stream: u32,
    /// What its route wants.
    pub(super) mode: NeedMode,
    /// What it is asked for next, and the generation that a lease must have at least.
    ask: (NeedMode, u64),
    pub(super) asked: Instant,
    /// Who asks, for what.
    pub(super) key: Key,
    pub(super) shape: NeedShape,
    repeat: Option<Box<Repeat>>,
    /// How many may pass unpaid in an outage.
    pub(super) allow: u32,
    /// Until then billing may answer `retry`.
    patience: Instant,
    /// From then on it is too late for any answer.
    deadline: Instant,
    /// When to ask (again).
    due: Instant,
    /// True once a hold was asked for: billing may have made one, whatever became of the answer.
    pub(super) holds: bool,
    /// True if a hold was asked for and no answer came: billing may have made it, and know of a reason to refuse since.
    pub(super) unheard: bool,
    /// True if others took what was lent for it: next time it wants a hold of its own.
    robbed: bool,
    /// True if the last time it was asked, it asked for a final answer.
    pub(super) last_call: bool,
}

/// All of them, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Needs {
    waiters: Numbered<Waiter>,
    by_stream: Numbered<u64>,
    last_id: u64,
}

/// What a stream asked, and when it asked.
pub(super) struct Asked {
    pub(super) stream: u32,
    pub(super) subject: Subject,
    pub(super) endpoint: EndpointId,
    pub(super) mode: NeedMode,
    pub(super) shape: NeedShape,
    pub(super) allow: u32,
    pub(super) repeat: Option<Box<Repeat>>,
    pub(super) now: Instant,
}

impl Waiter {
    /// Did its client name it, so that a repetition is charged once?
    pub(super) fn is_named(&self) -> bool {
        self.repeat.is_some()
    }
}

impl Needs {
    /// A number for a need or a hold, never given before.
    pub(super) fn number(&mut self) -> Option<u64> {
        self.last_id = self.last_id.checked_add(1).filter(|id| *id <= ID_MAX)?;
        Some(self.last_id)
    }

    /// Lets a request wait: `wait` for retries, and `call` more for the last answer. False if there are no ids left.
    pub(super) fn push(&mut self, asked: Asked, wait: Span, call: Span) -> bool {
        let Some(id) = self.number() else { return false };
        let Asked { stream, subject, endpoint, mode, shape, allow, repeat, now } = asked;
        let patience = now.plus(wait);
        let waiter = Waiter {
            stream,
            mode,
            ask: (mode, 1),
            asked: now,
            key: (subject, endpoint),
            shape,
            repeat,
            allow,
            patience,
            deadline: patience.plus(call),
            due: now,
            holds: false,
            unheard: false,
            robbed: false,
            last_call: false,
        };
        self.by_stream.insert(stream.into(), id);
        self.waiters.insert(id, waiter);
        true
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn get(&self, id: u64) -> Option<&Waiter> {
        self.waiters.get(id)
    }

    /// Those that a lease would serve, and that are about to be asked.
    pub(super) fn due_leases(&self, now: Instant) -> Vec<u64> {
        let due = self.waiters.iter().filter(|(_, w)| w.due <= now && w.mode == NeedMode::Lease);
        due.map(|(id, _)| id).collect()
    }

    /// How it is to be asked next.
    pub(super) fn ask_for(&mut self, id: u64, mode: NeedMode, generation_min: u64) {
        if let Some(waiter) = self.waiters.get_mut(id) {
            let mode = if core::mem::take(&mut waiter.robbed) { NeedMode::Hold } else { mode };
            waiter.ask = (mode, generation_min);
        }
    }

    /// Others took what was lent for it.
    pub(super) fn rob(&mut self, id: u64, now: Instant) {
        if let Some(waiter) = self.waiters.get_mut(id) {
            (waiter.robbed, waiter.due) = (true, now);
        }
    }

    /// No answer came to it, which was asked for a hold.
    pub(super) fn miss(&mut self, id: u64) {
        if let Some(waiter) = self.waiters.get_mut(id) {
            waiter.unheard = true;
        }
    }

    /// It is answered, or nobody waits for it any more.
    pub(super) fn take(&mut self, id: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(id)?;
        self.by_stream.remove(waiter.stream.into());
        Some(waiter)
    }

    /// The same, by its stream.
    pub(super) fn take_stream(&mut self, stream: u32) -> Option<(u64, Waiter)> {
        let id = *self.by_stream.get(stream.into())?;
        self.take(id).map(|waiter| (id, waiter))
    }

    /// Everybody.
    pub(super) fn ids(&self) -> Vec<u64> {
        self.waiters.iter().map(|(id, _)| id).collect()
    }

    /// Those for whom it is too late. All have the same patience, so the oldest come first.
    pub(super) fn late(&self, now: Instant) -> Vec<u64> {
        self.waiters.iter().take_while(|(_, w)| w.deadline <= now).map(|(id, _)| id).collect()
    }

    /// Billing asks to be asked again; at the end of its patience at the latest, for a final answer then.
    pub(super) fn retry(&mut self, id: u64, after: Span, now: Instant) {
        if let Some(waiter) = self.waiters.get_mut(id) {
            waiter.due = now.plus(after.max(RETRY_MIN)).min(waiter.patience.max(now));
        }
    }

    /// Up to `max` that are due, as they are to be asked now.
    pub(super) fn compose(&mut self, now: Instant, max: usize) -> Vec<Need> {
        let due = self.waiters.iter_mut().filter(|(_, w)| w.due <= now).take(max);
        due.map(|(id, w)| {
            let wait_ms = w.patience.since(now).millis();
            let (mode, generation_min) = w.ask;
            w.holds |= mode == NeedMode::Hold;
            w.last_call = wait_ms == 0;
            let ((subject, endpoint), shape) = (w.key.clone(), w.shape.clone());
            let (repeat, served, lost) = (w.repeat.as_deref().cloned(), false, false);
            Need { id, subject, endpoint, mode, shape, wait_ms, generation_min, repeat, served, lost }
        })
        .collect()
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiters.values().map(|w| w.due).min()
    }
}
