//! What a worker does with leases: lets requests through on them, enters what billing lent, and tells what became of it.
//!
//! Every worker tells of the slots that it changed itself, in totals read from the slot at that moment, so it does not
//! matter who else tells of them. A lease that is in use is told again every third of its time; one on which nothing was
//! admitted for half of its time goes back.

use super::books::{Finish, Leased};
use super::process::Membership;
use super::reply::is_over;
use super::sync::Granted;
use super::talk::{Answer, Decided, Fault, Pass};
use super::warm::Key;
use super::{Batch, Worker, alive};
use crate::effect::{Level, Metric};
use crate::entered::entered;
use crate::lease::{Blocked, Cell, Changed, Held, PayerKey, SLOTS, Slot, scope_tag};
use crate::shelf::Shelf;
use contract::v1::{
    CellAnswer, CellKey, CellLease, CellReport, CellState, NeedMode, NeedShape, Note, Price, Refusal,
};
use std::collections::BTreeMap;
use std::rc::Rc;
use units::{Instant, Span};

/// How many slots are looked through at a time after a worker died.
const SWEEP: u32 = 256;

/// Whether a request can be let through without asking.
pub(super) enum Warmth {
    Warm(Box<Pass>),
    /// It has to be asked for, in this mode, and a lease's generation must be at least so much.
    Cold(NeedMode, u64),
}

/// What billing lent to a payer, by the sync sent at `sent`.
pub(super) struct Lent {
    payer: PayerKey,
    epoch: u64,
    cells: Vec<CellLease>,
    sent: Instant,
}

/// What billing answered about each cell.
pub(super) fn by_key(answers: &[CellAnswer]) -> BTreeMap<CellKey, &CellAnswer> {
    entered(answers.iter().map(|cell| (cell.key, cell)))
}

impl Worker {
    /// Lets a request through on its payer's slot, if that has enough. If not, the slot is kept for what billing lends.
    /// Who is not known yet is asked for with a hold: whose slot it would be is known only afterwards.
    pub(super) fn warm(
        &mut self,
        key: &Key,
        shape: &NeedShape,
        now: Instant,
        shelf: &mut dyn Shelf,
    ) -> Warmth {
        let by_hold = Warmth::Cold(NeedMode::Hold, 1);
        let (Some(membership), Some(warm)) = (self.membership, self.memory.get(key)) else { return by_hold };
        // Whatever is asked now is answered by then.
        let answered = now.plus(self.settings.wait).plus(self.settings.call);
        let kept = answered.plus(self.settings.wait).plus(self.settings.call);
        if warm.decided.standing.counted {
            return by_hold;
        }
        // What nobody here can size, billing answers, slot or none.
        let Some(hold) = warm.decided.hold(shape) else { return by_hold };
        let Price { unit, version, .. } = warm.decided.price;
        let (payer, scope) = (warm.payer, warm.scope);
        let changed = membership.table().claim(shelf, payer, now, |slot| {
            let holds = warm.holds(slot.epoch, now);
            let held = if holds { slot.admit(scope, unit, hold, now) } else { None };
            if held.is_none() && slot.kept_until < answered {
                slot.kept_until = kept;
            }
            (held, slot.floor)
        });
        let (held, floor) = match changed {
            Ok(changed) => self.take_over(changed),
            Err(blocked) => {
                self.count_blocked(blocked);
                return by_hold;
            }
        };
        let Some(held) = held else {
            // The whole slot is told with the question: by it the ledger knows what is free here, and this process hears
            // of what was lent on its cells by an answer that was lost.
            self.watch.touch_whole(payer, now, now.plus(membership.ttl().part(3)));
            return Warmth::Cold(NeedMode::Lease, floor);
        };
        let (Some(id), Some(warm)) = (self.needs.number(), self.memory.get(key)) else {
            self.unfinished.push_back(Finish::of_nothing(payer, held));
            return by_hold;
        };
        let pass = Box::new(warm.pass(id, hold));
        let (account, endpoint) = (warm.decided.standing.account.clone(), key.1.clone());
        self.books.open_leased(id, Leased { account, endpoint, price_version: version, payer, held });
        // Its end will be told soon enough, and tells of its beginning.
        self.touch_at(payer, membership, now.plus(membership.pause()), now);
        Warmth::Warm(pass)
    }

    /// Those who are about to be asked for may have been served by what was lent to others.
    pub(super) fn rouse(&mut self, now: Instant, shelf: &mut dyn Shelf) {
        for id in self.needs.due_leases(now) {
            let waiter = self.needs.get(id).map(|waiter| (waiter.key.clone(), waiter.shape.clone()));
            let Some((key, shape)) = waiter else { continue };
            match self.warm(&key, &shape, now, shelf) {
                Warmth::Warm(pass) => self.let_through(id, pass, now),
                Warmth::Cold(mode, generation_min) => self.needs.ask_for(id, mode, generation_min),
            }
        }
    }

    fn let_through(&mut self, id: u64, pass: Box<Pass>, now: Instant) {
        if let Some(waiter) = self.needs.take(id) {
            self.give_back(id, &waiter);
            self.count(Metric::WaitMs(now.since(waiter.asked).millis()));
            self.wake(waiter.stream, Answer::Ok(pass));
        }
    }

    /// Billing lent something, in answer to need `id`: it is entered, and the need served, in one change.
    pub(super) fn on_lent(
        &mut self,
        id: u64,
        granted: Granted,
        sent: Instant,
        now: Instant,
        shelf: &mut dyn Shelf,
    ) {
        let Some(membership) = self.membership else { return };
        let Granted { standing, price, cells, list, .. } = granted;
        let (payer, scope) = (PayerKey::of(&standing.payer), scope_tag(&price.scope));
        let waiter = self.needs.get(id).cloned();
        let lent = Lent { payer, epoch: standing.epoch, cells, sent };
        let admit =
            |slot: &mut Slot| waiter.as_ref().and_then(|_| slot.admit(scope, price.unit, price.hold, now));
        let held = self.enter(lent, membership, now, shelf, admit);
        let Some(waiter) = waiter else { return };
        let (account, price_version, amount) = (standing.account.clone(), price.version, price.hold);
        let decided = Rc::new(Decided::new(standing, price, list));
        self.memory.put(waiter.key.clone(), Rc::clone(&decided), sent);
        match (held, self.needs.number()) {
            (Some(held), Some(hold)) => {
                // What is lent is still shown as its customer's: this request takes its part of it.
                let known = self.memory.get(&waiter.key);
                let pass =
                    known.map_or_else(|| Pass::new(Some(hold), decided), |warm| warm.pass(hold, amount));
                let endpoint = waiter.key.1;
                self.books.open_leased(hold, Leased { account, endpoint, price_version, payer, held });
                self.let_through(id, Box::new(pass), now);
            }
            (Some(held), None) => self.put_back(payer, held),
            // Another worker was faster: next time it wants a hold of its own.
            (None, _) => self.needs.rob(id, now),
        }
    }

    /// What was lent by an answer that was lost goes back, though no more is lent now: with the next poll, as what could not be
    /// entered before.
    pub(super) fn take_unheard(&mut self, refusal: &Refusal, cells: Vec<CellLease>, sent: Instant) {
        match &refusal.payer {
            Some(payer) if !cells.is_empty() && cells.iter().all(is_over) => {
                self.unplaced.push_back(Lent {
                    payer: PayerKey::of(payer),
                    epoch: refusal.epoch,
                    cells,
                    sent,
                });
            }
            _ if cells.is_empty() => {}
            _ => self.count(Metric::Fault { fault: Fault::Nonsense.as_str() }),
        }
    }

    /// Enters what was lent, and takes of it at once what `admit` does; later, if other workers are faster now. What is not
    /// entered would be reported by nobody.
    fn enter(
        &mut self,
        lent: Lent,
        membership: Membership,
        now: Instant,
        shelf: &mut dyn Shelf,
        admit: impl Fn(&mut Slot) -> Option<Vec<Held>>,
    ) -> Option<Vec<Held>> {
        let changed = membership.table().claim(shelf, lent.payer, now, |slot| {
            slot.epoch = slot.epoch.max(lent.epoch);
            let roomless = slot.place(&lent.cells, lent.sent, now);
            let held = admit(slot);
            if held.is_none() {
                // Nobody takes it, so it does not stay where it is wanted back.
                lent.cells.iter().filter(|lease| !lease.keep).for_each(|lease| {
                    if let Some(cell) = slot.cell_mut(lease.key) {
                        cell.give_back();
                    }
                });
            }
            (held, roomless)
        });
        match changed {
            Ok(changed) => {
                let (held, roomless) = self.take_over(changed);
                self.books.leave_behind(roomless);
                let keep = lent.cells.iter().all(|lease| lease.keep);
                self.touch(lent.payer, membership, keep || held.is_some(), now);
                held
            }
            Err(blocked) => {
                self.count(Metric::Fault { fault: blocked.as_str() });
                match blocked {
                    Blocked::Busy => self.unplaced.push_back(lent),
                    Blocked::Taken => self.turn_away(lent, membership, shelf),
                    // What stands there may be what was spent of it: that is for the crash policy.
                    Blocked::Malformed => {}
                }
                None
            }
        }
    }

    /// What was lent for a payer whose slot is another's by now goes back, and is never entered after that, whoever else of
    /// this process heard of it.
    fn turn_away(&mut self, lent: Lent, membership: Membership, shelf: &mut dyn Shelf) {
        match membership.table().bar(shelf, lent.payer, &lent.cells) {
            Ok(()) => {
                let gone =
                    |lease: &CellLease| CellReport { gone: true, ..Cell::new(lease, 0, lent.sent).report() };
                self.books.leave_behind(lent.cells.iter().map(gone).collect());
            }
            Err(Blocked::Busy) => self.unplaced.push_back(lent),
            Err(Blocked::Taken | Blocked::Malformed) => {}
        }
    }

    fn put_back(&mut self, payer: PayerKey, held: Vec<Held>) {
        self.unfinished.push_back(Finish::of_nothing(payer, held));
    }

    /// Enters the end of a request into its payer's slot; later, if other workers are faster now.
    pub(super) fn finish(&mut self, finish: Finish, now: Instant, shelf: &mut dyn Shelf) {
        let Some(membership) = self.membership else { return self.unfinished.push_back(finish) };
        let changed = membership.table().change(shelf, finish.payer, now, |slot| {
            let ended = finish.parts.iter().map(|(held, used)| slot.finish(*held, *used));
            let ended: Vec<Option<bool>> = ended.collect();
            if let Some((first, _)) = finish.parts.first()
                && let Some(cell) = slot.cell_mut(first.key)
            {
                cell.fall_short(finish.beyond);
            }
            (ended.iter().all(Option::is_some), ended.into_iter().flatten().all(|keep| keep))
        });
        let known = match changed {
            Ok(changed) => {
                let (known, keep) = self.take_over(changed);
                self.touch(finish.payer, membership, keep, now);
                known
            }
            Err(Blocked::Busy) => return self.unfinished.push_back(finish),
            Err(Blocked::Taken | Blocked::Malformed) => false,
        };
        if !known {
            // Its cell was settled by the crash policy long ago; what it used is in its usage record.
            self.count(Metric::Fault { fault: "end_without_cell" });
            self.log(Level::Warn, "a request outlived the lease that it was let through on".to_owned());
        }
    }

    /// Reads what is to be told of slots, and gives back what lies idle in them.
    pub(super) fn compose_leases(
        &mut self,
        membership: &Membership,
        now: Instant,
        most: usize,
        shelf: &mut dyn Shelf,
    ) -> Vec<(PayerKey, CellReport)> {
        let (ttl, table, draining) = (membership.ttl(), membership.table(), self.draining);
        let (beat, soon) = (now.plus(ttl.part(3)), now.plus(ttl.part(3)).plus(ttl.part(3)));
        let (books, mut told) = (&self.books, Vec::new());
        for (payer, whole) in self.watch.take(now) {
            if told.len() >= most {
                if whole {
                    self.watch.touch_whole(payer, now, now);
                } else {
                    self.watch.touch(payer, now, now);
                }
                continue;
            }
            let changed = table.change(shelf, payer, now, |slot| {
                if draining || now.since(slot.touched) >= ttl.part(2) {
                    slot.give_back();
                }
                slot.tidy(now);
                let lives = |cell: &crate::lease::Cell| {
                    let in_use = cell.state == CellState::Open && !cell.is_settled();
                    cell.deadline <= soon && (in_use || books.holds_on(cell.key))
                };
                let cells = slot.cells.iter().filter(|cell| whole || !cell.is_told() || lives(cell));
                (cells.map(|cell| (payer, cell.report())).collect::<Vec<_>>(), slot.cells.is_empty())
            });
            match changed {
                Ok(Changed { result: (_, true), .. }) | Err(Blocked::Taken | Blocked::Malformed) => {
                    self.watch.forget(payer);
                }
                Ok(Changed { result: (cells, false), .. }) => {
                    self.watch.look_again(payer, beat);
                    told.extend(cells);
                }
                Err(Blocked::Busy) => self.watch.touch(payer, now, beat),
            }
        }
        told
    }

    /// Takes in what billing answered to reports of leases. False if it passed over one.
    pub(super) fn merge_leases(
        &mut self,
        batch: &Batch,
        answers: &[CellAnswer],
        now: Instant,
        shelf: &mut dyn Shelf,
    ) -> bool {
        let Some(membership) = self.membership else { return true };
        let answers = by_key(answers);
        let mut all = true;
        for (payer, told) in &batch.leases {
            let Some(answer) = answers.get(&told.key) else {
                all = false;
                self.watch.touch(*payer, now, now);
                continue;
            };
            let changed = membership.table().change(shelf, *payer, now, |slot| {
                let Some(cell) = slot.cell_mut(told.key) else { return false };
                cell.merge(answer, told, batch.sent);
                let before = cell.returned;
                if !cell.keep {
                    cell.give_back();
                }
                cell.returned > before
            });
            match changed {
                Ok(Changed { result: gave_back, .. }) if gave_back => {
                    self.touch(*payer, membership, false, now);
                }
                // What the answer said of grants may have been news: the whole slot is told, and answered, once more.
                Err(Blocked::Busy) => {
                    let beat = now.plus(membership.ttl().part(3));
                    self.watch.touch_whole(*payer, self.quiet_until.max(now), beat);
                }
                Ok(_) | Err(Blocked::Taken | Blocked::Malformed) => {}
            }
        }
        all
    }

    /// Something happened to payers: what any worker of this process remembers of them from earlier is void.
    pub(super) fn heed(&mut self, notes: &[Note], now: Instant, shelf: &mut dyn Shelf) {
        let Some(membership) = self.membership else { return };
        for note in notes {
            self.raise_epoch(membership, PayerKey::of(&note.payer), note.epoch, now, shelf);
        }
    }

    pub(super) fn raise_epoch(
        &mut self,
        membership: Membership,
        payer: PayerKey,
        epoch: u64,
        now: Instant,
        shelf: &mut dyn Shelf,
    ) {
        let raise = |slot: &mut crate::lease::Slot| slot.epoch = slot.epoch.max(epoch);
        // A payer without a slot has nothing to be spent; and whoever is too slow here hears of it again.
        if let Err(blocked @ (Blocked::Busy | Blocked::Malformed)) =
            membership.table().change(shelf, payer, now, raise)
        {
            self.count_blocked(blocked);
        }
    }

    /// What time brings, apart from calls: ends that wait for their slot, signs of life, and what the dead left.
    pub(super) fn look_after(&mut self, now: Instant, shelf: &mut dyn Shelf) {
        for finish in core::mem::take(&mut self.unfinished) {
            self.finish(finish, now, shelf);
        }
        let Some(membership) = self.membership else { return };
        for lent in core::mem::take(&mut self.unplaced) {
            self.enter(lent, membership, now, shelf, |_| None);
        }
        self.watch_over(membership, now, shelf);
        if self.draining && self.is_idle() {
            // Should others be faster, the next poll tries again; and at worst they take this worker for dead.
            _ = alive::leave(shelf, membership.worker);
            return;
        }
        if now >= self.alive_due {
            self.alive_due = now.plus(alive::EVERY);
            if alive::say(shelf, membership.worker, now) {
                self.count(Metric::Fault { fault: "worker_lost" });
                self.log(Level::Warn, "a worker of this Envoy fell silent: its leases are ended".to_owned());
                self.sweep = Some(0);
            }
        }
        if let Some(first) = self.sweep {
            let end = first.saturating_add(SWEEP).min(SLOTS);
            for n in first..end {
                let Some(payer) = membership.table().payer_at(shelf, n) else { continue };
                match membership.table().change(shelf, payer, now, Slot::condemn) {
                    Ok(_) => self.touch(payer, membership, true, now),
                    // Nobody sweeps again for the dead worker: the next poll goes on from here.
                    Err(Blocked::Busy) => return self.sweep = Some(n),
                    Err(Blocked::Taken | Blocked::Malformed) => {}
                }
            }
            self.sweep = (end < SLOTS).then_some(end);
        }
    }

    /// What a change came to; what it found in the way is seen to.
    pub(super) fn take_over<T>(&mut self, changed: Changed<T>) -> T {
        if changed.foreign {
            self.count(Metric::Fault { fault: "slot_foreign" });
        }
        self.books.leave_behind(changed.left_behind);
        changed.result
    }

    pub(super) fn count_blocked(&mut self, blocked: Blocked) {
        if blocked != Blocked::Taken {
            self.count(Metric::Fault { fault: blocked.as_str() });
        }
    }

    /// This worker changed a payer's slot. What may be kept is told as soon as the pause since the last sync is over;
    /// what may not, at once.
    pub(super) fn touch(&mut self, payer: PayerKey, membership: Membership, keep: bool, now: Instant) {
        let due = if keep { self.quiet_until.max(now) } else { now };
        self.touch_at(payer, membership, due, now);
    }

    fn touch_at(&mut self, payer: PayerKey, membership: Membership, due: Instant, now: Instant) {
        let beat = now.plus(Span::from_micros(membership.ttl().micros()).part(3));
        self.watch.touch(payer, due, beat);
    }
}
