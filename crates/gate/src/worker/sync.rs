//! The worker's sync: everything that waits goes out in one call, and every part of the answer goes to whom it belongs.

use super::allowance;
use super::books::{Bounds, Hold};
use super::lease::by_key;
use super::process::Membership;
use super::reply::{HOLD_GENERATION_MIN, check_pass, check_standing, check_sync};
use super::talk::{Answer, Decided, Fault, Pass};
use super::{Batch, CallResult, Pending, Worker};
use crate::effect::{Level, Metric};
use crate::entered::entered;
use crate::lease::PayerKey;
use crate::shelf::Shelf;
use contract::v1::{
    CellKey, CellLease, CellReport, Need, NeedAnswer, NeedDecision, NeedMode, PATH_SYNC, Price, PriceList,
    Reason, Refusal, Standing, Sync, SyncAnswer,
};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use units::{Amount, EndpointId, Instant, Span};

/// What an `ok` says.
pub(super) struct Granted {
    pub(super) standing: Standing,
    pub(super) price: Price,
    pub(super) cells: Vec<CellLease>,
    pub(super) paid: Amount,
    /// The endpoint's.
    pub(super) list: Option<Rc<PriceList>>,
}

impl Worker {
    /// Sends one sync with as much of what waits as the server's bounds allow.
    pub(super) fn send_sync(&mut self, membership: Membership, now: Instant, shelf: &mut dyn Shelf) {
        let limits = membership.limits;
        let most = |max: u32, share: u32| usize::try_from(max.div_ceil(share)).unwrap_or(usize::MAX);
        let mut leases = self.compose_leases(&membership, now, most(limits.cells_max, 1), shelf);
        let mut share = 1;
        loop {
            let (needs_max, cells_max) = (most(limits.needs_max, share), most(limits.cells_max, share));
            let mut needs = self.needs.compose(now, needs_max);
            needs.extend(self.unpaids.compose(needs_max.saturating_sub(needs.len())));
            let room = needs_max.saturating_sub(needs.len());
            let strays = self.strays.compose(&mut needs, room);
            needs.extend(strays);
            // Neither kind of report keeps the other one from being heard.
            let cells = cells_max.saturating_sub(leases.len().min(cells_max.div_euclid(2)));
            let bounds = Bounds { cells, usage: most(limits.usage_max, share), abandoned: needs_max };
            let page = self.books.compose(now, bounds);
            let told = leases.len().min(cells_max.saturating_sub(page.cells().count()));
            if needs.is_empty() && page.len() == 0 && told == 0 {
                return;
            }
            let least = needs.len().max(page.len()).max(told) <= 1;
            let reports =
                page.cells().copied().chain(leases.iter().take(told).map(|(_, cell)| *cell)).collect();
            let (body, needs) = self.body(membership, needs, reports, &page);
            if least || body.len() <= usize::try_from(limits.body_bytes_max).unwrap_or(usize::MAX) {
                for (payer, _) in leases.split_off(told) {
                    self.watch.touch(payer, now, now);
                }
                self.seq = self.seq.saturating_add(1);
                let needs = entered(needs.into_iter().map(|need| (need.id, need)));
                let batch = Batch { seq: self.seq, needs, page, leases, sent: now };
                self.books.sent(&batch.page);
                self.speaking = true;
                self.quiet_until = now.plus(membership.pause());
                return self.send_bytes(PATH_SYNC, body, Pending::Sync(Box::new(batch)));
            }
            // Too long for one body: half of it, then.
            share = share.saturating_mul(2);
        }
    }

    fn body(
        &self,
        membership: Membership,
        needs: Vec<Need>,
        cells: Vec<CellReport>,
        page: &super::Page,
    ) -> (Vec<u8>, Vec<Need>) {
        let sync = Sync {
            node: self.settings.node.clone(),
            incarnation: membership.incarnation,
            worker: membership.worker,
            sent_seq: self.seq.saturating_add(1),
            cells,
            needs,
            abandoned: page.abandoned.clone(),
            usage: page.usage.clone(),
            draining: self.draining,
        };
        (serde_json::to_vec(&sync).unwrap_or_default(), sync.needs)
    }

    pub(super) fn on_sync(
        &mut self,
        batch: &Batch,
        result: &CallResult,
        now: Instant,
        shelf: &mut dyn Shelf,
    ) {
        self.speaking = false;
        let answer = result.document::<SyncAnswer>().and_then(|answer| {
            let cells = batch.page.cells().chain(batch.leases.iter().map(|(_, told)| told));
            let (needs, cells) = (entered(batch.needs.keys().copied()), entered(cells.map(|cell| cell.key)));
            check_sync(&answer, batch.seq, needs, cells, self.books.usage_n()).map(|()| answer)
        });
        self.called("sync", answer.as_ref().err().copied());
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) => {
                self.books.unsent();
                for (payer, _) in &batch.leases {
                    self.watch.touch(*payer, now, now);
                }
                let waiting: Vec<u64> = batch.needs.keys().copied().collect();
                for need in batch.needs.values().filter(|_| fault != Fault::NotSent) {
                    self.go_unheard(need);
                }
                return self.failed(fault, &waiting, now, shelf);
            }
        };
        allowance::refill(shelf);
        let all = self.books.acknowledge(&batch.page, &answer.cells, answer.usage_acked, batch.sent);
        let mut passed_over = !self.merge_leases(batch, &answer.cells, now, shelf) || !all;
        self.complain_of_untaken(batch, &answer);
        self.heed(&answer.notes, now, shelf);
        self.learn(answer.lists, batch);
        let mut unanswered: BTreeSet<u64> = entered(batch.needs.keys().copied());
        for need in answer.needs {
            if let Some(asked) = batch.needs.get(&need.id).filter(|asked| unanswered.remove(&asked.id)) {
                if !matches!(need.decision, NeedDecision::Retry { .. }) {
                    self.strays.heard(asked);
                }
                self.on_decision(need, asked, batch.sent, now, shelf);
            }
        }
        for id in unanswered {
            passed_over |= self.unpaids.has(id);
            self.fail_need(id, Fault::Unanswered, now, shelf);
        }
        if passed_over {
            // A moment of peace before the same is told again.
            self.count(Metric::Fault { fault: "unacknowledged" });
            self.pace.failed(now);
        } else {
            self.pace.succeeded();
        }
    }

    /// A hold whose end billing heard of and did not believe.
    fn complain_of_untaken(&mut self, batch: &Batch, answer: &SyncAnswer) {
        let answers = by_key(&answer.cells);
        let holds = batch.page.ended.iter().filter(|told| told.key.generation >= HOLD_GENERATION_MIN);
        let untaken = holds.filter(|told| {
            answers.get(&told.key).is_some_and(|answer| answer.acked_admitted < told.admitted)
        });
        for told in untaken {
            let CellKey { grant, generation } = told.key;
            self.count(Metric::Fault { fault: "report_not_taken" });
            let line = format!("billing did not take the report of cell {grant}/{generation}; see its log");
            self.log(Level::Error, line);
        }
    }

    /// What endpoints cost now that something was asked for. Others are not remembered: a list may be long.
    fn learn(&mut self, lists: BTreeMap<EndpointId, PriceList>, batch: &Batch) {
        for (endpoint, list) in lists {
            let known = self.lists.get(&endpoint).is_some_and(|known| **known == list);
            if !known && batch.needs.values().any(|need| need.endpoint == endpoint) {
                self.lists.insert(endpoint, Rc::new(list));
            }
        }
    }

    /// Billing decided about a need. Nobody may be waiting for it any more; a hold has been
    /// abandoned then, and a lease is there for whoever comes next.
    fn on_decision(
        &mut self,
        need: NeedAnswer,
        asked: &Need,
        sent: Instant,
        now: Instant,
        shelf: &mut dyn Shelf,
    ) {
        let (id, mode) = (need.id, asked.mode);
        let list = self.lists.get(&asked.endpoint).cloned();
        if let Some((unpaid, end)) = self.unpaids.take(id) {
            return self.charge_unpaid(id, &unpaid, end, need.decision, list.as_deref(), sent);
        }
        let granted = match need.decision {
            NeedDecision::Ok { standing, price, cells, paid } => {
                // A list of another version is not what this was decided by.
                let list = list.filter(|list| list.version == price.version);
                Granted { standing: *standing, price, cells, paid, list }
            }
            NeedDecision::Retry { retry_ms } => return self.on_retry(id, retry_ms, now, shelf),
            NeedDecision::Refused { refusal, cells } => {
                self.take_unheard(&refusal, cells, sent);
                return self.on_refusal((id, mode), refusal, now, shelf);
            }
        };
        let Granted { price, cells, paid, .. } = &granted;
        // Only who asked for a repetition has paid before.
        let sound = if !paid.is_zero() && asked.repeat.is_none() {
            Err(Fault::Nonsense)
        } else {
            check_pass((mode, self.generation(id)), price, cells)
        };
        if let Err(fault) = sound.and_then(|()| check_standing(&granted.standing)) {
            return self.nonsense(id, fault, now, shelf);
        }
        if mode == NeedMode::Lease {
            return self.on_lent(id, granted, sent, now, shelf);
        }
        let Some(waiter) = self.needs.take(id) else { return };
        let Granted { standing, price, cells, paid, list } = granted;
        let mut hold = None;
        let decided = Rc::new(Decided::new(standing, price, list));
        if mode == NeedMode::Hold {
            let by_lease = waiter.mode == NeedMode::Lease;
            let awaited = asked.repeat.is_some() || decided.standing.counted;
            let prompt = !by_lease || awaited || cells.iter().any(|cell| !cell.keep);
            let (account, endpoint) = (decided.standing.account.clone(), waiter.key.1.clone());
            let price_version = decided.price.version;
            let beat = self.beat(&cells);
            self.books.open(id, Hold { account, endpoint, price_version, cells, prompt, beat }, sent);
            hold = Some(id);
            if by_lease {
                self.memory.put(waiter.key, Rc::clone(&decided), sent);
            }
        } else if waiter.holds {
            self.books.abandon(id);
        }
        self.count(Metric::WaitMs(now.since(waiter.asked).millis()));
        self.wake(waiter.stream, Answer::Ok(Box::new(Pass { paid, ..Pass::new(hold, decided) })));
    }

    fn on_retry(&mut self, id: u64, retry_ms: u64, now: Instant, shelf: &mut dyn Shelf) {
        match self.needs.get(id) {
            Some(waiter) if waiter.last_call => self.nonsense(id, Fault::Nonsense, now, shelf),
            Some(_) => self.needs.retry(id, Span::from_millis(retry_ms), now),
            None => {}
        }
    }

    fn on_refusal(
        &mut self,
        (id, mode): (u64, NeedMode),
        refusal: Box<Refusal>,
        now: Instant,
        shelf: &mut dyn Shelf,
    ) {
        if !(400..=599).contains(&refusal.status) {
            return self.nonsense(id, Fault::Nonsense, now, shelf);
        }
        if let (Some(membership), Some(payer)) = (self.membership, &refusal.payer) {
            self.raise_epoch(membership, PayerKey::of(payer), refusal.epoch, now, shelf);
        }
        let Some(waiter) = self.needs.take(id) else { return };
        // An earlier asking for a hold that was granted unheard is answered with that hold; but not where its time is over
        // meanwhile, which is this reason, or where there is one by now why nobody may hold anything.
        if mode != NeedMode::Hold || waiter.unheard || refusal.reason == Reason::ServiceUnavailable {
            self.give_back(id, &waiter);
        }
        self.memory.remove(&waiter.key);
        self.count(Metric::WaitMs(now.since(waiter.asked).millis()));
        self.wake(waiter.stream, Answer::Refused(refusal));
    }

    /// Something was asked for, and billing may have granted it.
    fn go_unheard(&mut self, need: &Need) {
        match need.mode {
            NeedMode::Identify => {}
            NeedMode::Hold => self.needs.miss(need.id),
            NeedMode::Lease => {
                if let Some(id) = self.needs.number() {
                    self.strays.put(need, id);
                }
            }
        }
    }

    fn nonsense(&mut self, id: u64, fault: Fault, now: Instant, shelf: &mut dyn Shelf) {
        self.log(Level::Error, format!("billing's decision on need {id} is {}", fault.as_str()));
        self.fail_need(id, fault, now, shelf);
    }

    /// How often a hold of these cells is told of.
    pub(super) fn beat(&self, cells: &[CellLease]) -> Span {
        let ttl = cells.iter().map(|cell| cell.ttl_ms).min().unwrap_or(0);
        let least = self.membership.map_or(Span::ZERO, |membership| membership.pause());
        Span::from_millis(ttl).part(3).max(least)
    }

    /// The generation of the cells that hold this need.
    pub(super) fn generation(&self, id: u64) -> u64 {
        let worker = self.membership.map_or(0, |membership| u64::from(membership.worker));
        worker.checked_shl(40).unwrap_or(0) | id
    }
}
