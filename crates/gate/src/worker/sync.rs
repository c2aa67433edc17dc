//! The worker's sync: everything that waits goes out in one call, and every part of the answer goes to whom it belongs.

use super::books::{Bounds, Hold};
use super::process::Membership;
use super::reply::{check_pass, check_sync};
use super::talk::{Answer, Fault};
use super::{Batch, CallResult, Pending, Worker};
use crate::effect::{Level, Metric};
use contract::v1::{CellKey, Need, NeedAnswer, NeedDecision, NeedMode, PATH_SYNC, Sync, SyncAnswer};
use std::collections::BTreeSet;
use units::{Instant, Span};

impl Worker {
    /// Sends one sync with as much of what waits as the server's bounds allow.
    pub(super) fn send_sync(&mut self, membership: Membership, now: Instant) {
        self.seq = self.seq.saturating_add(1);
        let limits = membership.limits;
        let mut share = 1;
        loop {
            let part = |max: u32| usize::try_from(max.div_ceil(share)).unwrap_or(usize::MAX);
            let needs = self.needs.compose(now, part(limits.needs_max));
            let (cells, usage) = (part(limits.cells_max), part(limits.usage_max));
            let page = self.books.compose(now, Bounds { cells, usage, abandoned: part(limits.needs_max) });
            if needs.is_empty() && page.is_empty() {
                return;
            }
            let least =
                needs.len().max(page.cells.len()).max(page.usage.len()).max(page.abandoned.len()) <= 1;
            let ids = needs.iter().map(|need| need.id).collect();
            let body = self.body(membership, needs, &page);
            if least || body.len() <= usize::try_from(limits.body_bytes_max).unwrap_or(usize::MAX) {
                let batch = Batch { seq: self.seq, needs: ids, page, sent: now };
                self.speaking = true;
                return self.send_bytes(PATH_SYNC, body, Pending::Sync(Box::new(batch)));
            }
            // Too long for one body: half of it, then.
            share = share.saturating_mul(2);
        }
    }

    fn body(&self, membership: Membership, needs: Vec<Need>, page: &super::Page) -> Vec<u8> {
        let sync = Sync {
            node: self.settings.node.clone(),
            incarnation: membership.incarnation,
            worker: membership.worker,
            sent_seq: self.seq,
            cells: page.cells.clone(),
            needs,
            abandoned: page.abandoned.clone(),
            usage: page.usage.clone(),
            draining: self.draining,
        };
        serde_json::to_vec(&sync).unwrap_or_default()
    }

    pub(super) fn on_sync(&mut self, batch: &Batch, result: &CallResult, now: Instant) {
        self.speaking = false;
        let cells: BTreeSet<CellKey> = batch.page.cells.iter().map(|cell| cell.key).collect();
        let answer = result.document::<SyncAnswer>().and_then(|answer| {
            check_sync(&answer, batch.seq, &batch.needs, &cells, self.books.usage_n()).map(|()| answer)
        });
        self.called("sync", answer.as_ref().err().copied());
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) => {
                let waiting: Vec<u64> = batch.needs.iter().copied().collect();
                return self.failed(fault, &waiting, now);
            }
        };
        if self.books.acknowledge(&batch.page, &answer.cells, answer.usage_acked, batch.sent) {
            self.pace.succeeded();
        } else {
            // A moment of peace before the same is told again.
            self.count(Metric::Fault { fault: "unacknowledged" });
            self.pace.failed(now);
        }
        let untaken = batch.page.ended().filter(|told| {
            answer.cells.iter().any(|cell| cell.key == told.key && cell.acked_admitted < told.admitted)
        });
        for told in untaken {
            let CellKey { grant, generation } = told.key;
            self.count(Metric::Fault { fault: "report_not_taken" });
            let line = format!("billing did not take the report of cell {grant}/{generation}; see its log");
            self.log(Level::Error, line);
        }
        let mut unanswered = batch.needs.clone();
        for need in answer.needs {
            unanswered.remove(&need.id);
            self.on_decision(need, batch.sent, now);
        }
        for id in unanswered {
            self.fail_need(id, Fault::Unanswered, now);
        }
    }

    /// Billing decided about a need; nobody may be waiting for it any more, and then it has been abandoned already.
    fn on_decision(&mut self, need: NeedAnswer, sent: Instant, now: Instant) {
        let id = need.id;
        let Some(waiter) = self.needs.get(id) else { return };
        let (mode, last_call) = (waiter.mode, waiter.last_call);
        let answer = match need.decision {
            NeedDecision::Retry { .. } if last_call => Err(Fault::Nonsense),
            NeedDecision::Retry { retry_ms } => {
                return self.needs.retry(id, Span::from_millis(retry_ms), now);
            }
            NeedDecision::Refused { refusal } if !(400..=599).contains(&refusal.status) => {
                Err(Fault::Nonsense)
            }
            NeedDecision::Refused { refusal } => Ok(Answer::Refused(refusal)),
            NeedDecision::Ok { standing, price, cells } => {
                let generation = self.generation(id);
                check_pass((mode, generation), *standing, price, &cells).map(|mut pass| {
                    if mode == NeedMode::Hold
                        && let Some(endpoint) = self.needs.endpoint(id)
                    {
                        let (account, endpoint) = (pass.standing.account.clone(), endpoint.clone());
                        let hold = Hold { account, endpoint, price_version: pass.price.version, cells };
                        self.books.open(id, hold, sent);
                        pass.hold = Some(id);
                    }
                    Answer::Ok(Box::new(pass))
                })
            }
        };
        match answer {
            Ok(answer) => {
                if let Some(waiter) = self.needs.take(id) {
                    self.count(Metric::WaitMs(now.since(waiter.asked).millis()));
                    self.wake(waiter.stream, answer);
                }
            }
            Err(fault) => {
                self.log(Level::Error, format!("billing's decision on need {id} is {}", fault.as_str()));
                self.fail_need(id, fault, now);
            }
        }
    }

    /// The generation of the cells that hold this need.
    fn generation(&self, id: u64) -> u64 {
        let worker = self.membership.map_or(0, |membership| u64::from(membership.worker));
        worker.checked_shl(40).unwrap_or(0) | id
    }
}
