//! Hears of what happened to accounts as soon as it did: one worker of a process keeps a long poll open, and the slots tell
//! the others.
//!
//! It only makes things faster. Whatever a gateway goes by runs out by itself, so who hears nothing is late and not wrong.

use super::pace::Pace;
use super::process::Membership;
use super::{CallResult, Pending, Worker, WorkerEffect};
use crate::effect::Metric;
use crate::lease::{Blocked, PayerKey};
use crate::shelf::Shelf;
use contract::v1::{Note, NoteKind, WatchAnswer};
use std::collections::VecDeque;
use units::{Instant, Span};

const KEY: &str = "tollgate/watch/1";
/// How often the worker that watches says so.
const EVERY: Span = Span::from_secs(1);
/// How long it may be silent before another one watches.
const SILENCE: Span = Span::from_secs(4);
/// How long billing may keep the poll, in milliseconds.
const POLL_MS: u64 = 20_000;
/// How long the call may take in all.
const TIMEOUT: Span = Span::from_secs(25);
/// Notes that wait for their slots, because other workers were faster; beyond that, they run out by themselves.
const NOTES_MAX: usize = 4096;

/// What a worker knows of the watch.
#[derive(Debug, Default)]
pub(super) struct Watching {
    /// What to ask after; 0 before the first answer.
    after: u64,
    /// The poll that is open.
    call: Option<u64>,
    /// Since when.
    since: Instant,
    /// When to see again whether this worker is the one.
    due: Instant,
    /// The last poll was answered at once, with no news in it.
    hasty: bool,
    pace: Pace,
    unheeded: VecDeque<Note>,
}

impl Watching {
    /// Is a poll open? It is nothing that anybody waits for.
    pub(super) const fn is_open(&self) -> bool {
        self.call.is_some()
    }
}

/// Makes this worker the one that watches, or leaves it so; false if another one is.
fn hold(shelf: &mut dyn Shelf, worker: u16, now: Instant) -> bool {
    let stored = shelf.read(KEY);
    let other = stored.as_ref().and_then(|(bytes, _)| {
        let (who, until) = bytes.split_first_chunk::<2>()?;
        let until = until.try_into().ok().map(i64::from_le_bytes)?;
        (u16::from_le_bytes(*who) != worker && now < Instant::from_micros(until)).then_some(())
    });
    if other.is_some() {
        return false;
    }
    let until = now.plus(SILENCE).micros().to_le_bytes();
    let bytes = [&worker.to_le_bytes()[..], &until].concat();
    shelf.write(KEY, &bytes, stored.map(|(_, seen)| seen)).is_ok()
}

impl Worker {
    /// Keeps a poll open, if this worker is the one to.
    pub(super) fn watch_over(&mut self, membership: Membership, now: Instant, shelf: &mut dyn Shelf) {
        for note in core::mem::take(&mut self.watching.unheeded) {
            self.heed_at_once(note, membership, now, shelf);
        }
        if !self.settings.watch || self.draining || now < self.watching.due {
            return;
        }
        self.watching.due = now.plus(EVERY);
        if hold(shelf, membership.worker, now)
            && self.watching.call.is_none()
            && self.watching.pace.allows(now)
        {
            self.last_call = self.last_call.saturating_add(1);
            let (id, after) = (self.last_call, self.watching.after);
            self.calls.insert(id, Pending::Watch);
            (self.watching.call, self.watching.since) = (Some(id), now);
            self.out.push(WorkerEffect::Watch { id, after, wait_ms: POLL_MS, timeout: TIMEOUT });
        }
    }

    pub(super) fn on_watch(&mut self, result: &CallResult, now: Instant, shelf: &mut dyn Shelf) {
        self.watching.call = None;
        let answer = result.document::<WatchAnswer>();
        self.called("watch", answer.as_ref().err().copied());
        let Ok(WatchAnswer { after, reset, notes }) = answer else {
            self.watching.pace.failed(now);
            // Who answers next may have started anew, and is asked again at once.
            (self.watching.due, self.watching.hasty) = (self.watching.pace.not_before(), false);
            return;
        };
        self.watching.pace.succeeded();
        // Nobody could say what was missed: what this worker remembers is void at once, and what others do, when it runs out.
        if reset && self.watching.after != 0 {
            self.memory = super::warm::Memory::default();
        }
        // Who asks for the first time, or of a service that has started anew, is told its place at once, and asks again at once
        // from there: until then it hears of nothing. A service that answers so twice running is not asked without a pause.
        let calm = self.watching.since.plus(EVERY);
        let hasty = notes.is_empty() && now < calm;
        let due = if hasty && self.watching.hasty { calm } else { now };
        (self.watching.after, self.watching.due, self.watching.hasty) = (after, due, hasty);
        let Some(membership) = self.membership else { return };
        for note in notes {
            self.heed_at_once(note, membership, now, shelf);
        }
    }

    /// What any worker remembers of the payer is void; and where others need what is free here, or it may not be spent any
    /// more, it goes back now.
    fn heed_at_once(&mut self, note: Note, membership: Membership, now: Instant, shelf: &mut dyn Shelf) {
        let payer = PayerKey::of(&note.payer);
        let back = !matches!(note.kind, NoteKind::Replenished);
        let changed = membership.table().change(shelf, payer, now, |slot| {
            slot.epoch = slot.epoch.max(note.epoch);
            (back && slot.recall(), back && !slot.cells.is_empty())
        });
        match changed {
            Ok(changed) => {
                let (recalled, any) = self.take_over(changed);
                if recalled {
                    self.count(Metric::Recalled);
                }
                if any {
                    // Billing wants back what it takes to be free here: if that is more than this process knows of, then
                    // because an answer was lost, and it hears of it now.
                    self.watch.touch_whole(payer, now, now.plus(membership.ttl().part(3)));
                }
            }
            Err(Blocked::Busy) if self.watching.unheeded.len() < NOTES_MAX => {
                self.watching.unheeded.push_back(note);
            }
            Err(blocked) => self.count_blocked(blocked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shelf::MemoryShelf;
    use crate::worker::rig::{Desk, Stage};

    #[test]
    fn one_worker_of_a_process_watches_and_another_takes_over_when_it_falls_silent() {
        let mut shelf = MemoryShelf::default();
        let at = Instant::from_secs;
        assert!(hold(&mut shelf, 1, at(10)) && !hold(&mut shelf, 2, at(13)));
        assert!(hold(&mut shelf, 1, at(13)) && !hold(&mut shelf, 2, at(16)), "it said so again");
        assert!(hold(&mut shelf, 2, at(17)) && !hold(&mut shelf, 1, at(18)));
        let (_, seen) = shelf.read(KEY).unwrap();
        shelf.write(KEY, b"rubbish", Some(seen)).unwrap();
        assert!(hold(&mut shelf, 1, at(18)), "what is no name is nobody's");
    }

    #[test]
    fn a_poll_follows_the_other_and_a_failure_is_waited_out() {
        let (mut stage, mut desk) = (Stage::watching(), Desk::with(5));
        stage.ask(1);
        stage.settle(&mut desk);
        let opened = |stage: &mut Stage| core::mem::take(&mut stage.watches);
        stage.later(1);
        let [(id, 0)] = opened(&mut stage)[..] else { panic!("no poll was opened") };
        stage.later(5_000);
        assert_eq!(opened(&mut stage), [], "one at a time");
        let answer = |after: u64| {
            let body = format!(r#"{{"after":{after},"reset":true,"notes":[]}}"#);
            CallResult::Upstream { status: 200, body: Some(body.into_bytes()) }
        };
        stage.worker.on_answer(id, &answer(77), stage.now, &mut stage.shelf);
        stage.poll();
        let [(id, 77)] = opened(&mut stage)[..] else { panic!("the next one follows at once") };
        stage.worker.on_answer(id, &CallResult::Reset, stage.now, &mut stage.shelf);
        stage.poll();
        assert_eq!(opened(&mut stage), []);
        stage.later(2_000);
        let [(id, 77)] = opened(&mut stage)[..] else { panic!("it goes on where it was") };
        stage.worker.on_answer(id, &answer(78), stage.now, &mut stage.shelf);
        stage.poll();
        let [(id, 78)] = opened(&mut stage)[..] else {
            panic!("it is told its place at once, and goes on there")
        };
        stage.worker.on_answer(id, &answer(79), stage.now, &mut stage.shelf);
        stage.poll();
        assert_eq!(opened(&mut stage), [], "no news, and at once, again: it is not asked without a pause");
        stage.later(1_000);
        let [(id, 79)] = opened(&mut stage)[..] else { panic!("the pause is over") };
        stage.worker.on_answer(id, &answer(80), stage.now, &mut stage.shelf);
        stage.poll();
        assert_eq!(opened(&mut stage), [], "nor a third time");
        stage.later(1_000);
        let [(id, 80)] = opened(&mut stage)[..] else { panic!("the pause is over") };
        stage.later(1_000);
        stage.worker.on_answer(id, &answer(80), stage.now, &mut stage.shelf);
        stage.poll();
        let [(id, 80)] = opened(&mut stage)[..] else {
            panic!("it was kept for a while, so nothing is hasty")
        };
        stage.worker.on_answer(id, &answer(80), stage.now, &mut stage.shelf);
        stage.poll();
        let [(id, 80)] = opened(&mut stage)[..] else { panic!("and this is the first such one again") };
        // It fails, and whoever is there then has started anew.
        stage.worker.on_answer(id, &CallResult::Reset, stage.now, &mut stage.shelf);
        stage.later(200);
        let [(id, 80)] = opened(&mut stage)[..] else { panic!("asked again after a moment") };
        stage.worker.on_answer(id, &answer(3), stage.now, &mut stage.shelf);
        stage.poll();
        assert!(matches!(opened(&mut stage)[..], [(_, 3)]), "from its place, at once");
    }
}
