//! What is held for requests under way, and what billing must still be told of those that ended; nothing here is ever dropped.

use super::talk::Ended;
use crate::Numbered;
use crate::entered::entered;
use crate::lease::{Held, PayerKey};
use contract::v1::{CellAnswer, CellKey, CellLease, CellReport, Charge, UsageRecord};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use units::{AccountId, Amount, EndpointId, Instant, Span};

/// A granted need whose request is under way.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) account: AccountId,
    pub(super) endpoint: EndpointId,
    pub(super) price_version: u64,
    pub(super) cells: Vec<CellLease>,
    /// False if its end need not be told at once.
    pub(super) prompt: bool,
    /// How often it is told of while it lasts: a third of its time, but where that ends with its grant no oftener than syncs
    /// go out that nobody waits for.
    pub(super) beat: Span,
}

/// What a request under way holds on leases.
#[derive(Clone, Debug)]
pub(super) struct Leased {
    pub(super) account: AccountId,
    pub(super) endpoint: EndpointId,
    pub(super) price_version: u64,
    pub(super) payer: PayerKey,
    pub(super) held: Vec<Held>,
}

/// The end of such a request, to be entered into its payer's slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finish {
    pub(super) payer: PayerKey,
    /// What was held, and how much of it was used.
    pub(super) parts: Vec<(Held, Amount)>,
    /// What was used beyond all of it.
    pub(super) beyond: Amount,
}

impl Finish {
    /// The end of a request that used nothing of what it held.
    pub(super) fn of_nothing(payer: PayerKey, held: Vec<Held>) -> Self {
        let parts = held.into_iter().map(|held| (held, Amount::ZERO)).collect();
        Self { payer, parts, beyond: Amount::ZERO }
    }
}

/// What a worker owes billing.
#[derive(Debug, Default)]
pub(super) struct Books {
    holds: Numbered<(Instant, Hold)>,
    /// When each hold is to be reported again, so that billing does not take it for lost.
    due: BTreeSet<(Instant, u64)>,
    leased: Numbered<Leased>,
    /// How many of these requests hold something on each leased cell.
    on_cell: BTreeMap<CellKey, u32>,
    cells: VecDeque<CellReport>,
    /// True if something of what ended must be told at once.
    hurry: bool,
    /// When the rest of it must be told.
    lazy: Option<Instant>,
    usage: VecDeque<UsageRecord>,
    usage_n: u64,
    abandoned: BTreeSet<u64>,
}

/// The part of one sync that these books fill.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Of holds that ended.
    pub(super) ended: Vec<CellReport>,
    /// Of holds that live on.
    pub(super) live: Vec<CellReport>,
    pub(super) usage: Vec<UsageRecord>,
    pub(super) abandoned: Vec<u64>,
}

impl Page {
    pub(super) fn cells(&self) -> impl Iterator<Item = &CellReport> {
        self.ended.iter().chain(&self.live)
    }

    /// The longest of its lists.
    pub(super) fn len(&self) -> usize {
        let cells = self.ended.len().saturating_add(self.live.len());
        cells.max(self.usage.len()).max(self.abandoned.len())
    }
}

/// The bounds of one page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) cells: usize,
    pub(super) usage: usize,
    pub(super) abandoned: usize,
}

impl Books {
    /// How much is written here, each hold with what its end will add.
    pub(super) fn len(&self) -> usize {
        let ended = self.cells.len().max(self.usage.len());
        let under_way = self.holds.len().saturating_add(self.leased.len());
        under_way.saturating_add(ended).saturating_add(self.abandoned.len())
    }

    /// True if billing knows everything, and no request is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last record that was ever written.
    pub(super) fn usage_n(&self) -> u64 {
        self.usage_n
    }

    /// A request is under way on this hold, which the sync sent at `sent` brought.
    pub(super) fn open(&mut self, id: u64, hold: Hold, sent: Instant) {
        let due = sent.plus(hold.beat);
        self.due.insert((due, id));
        self.holds.insert(id, (due, hold));
    }

    /// A request is under way on leases.
    pub(super) fn open_leased(&mut self, id: u64, leased: Leased) {
        for held in &leased.held {
            let count = self.on_cell.entry(held.key).or_default();
            *count = count.saturating_add(1);
        }
        self.leased.insert(id, leased);
    }

    /// Does a request of this worker hold anything on this leased cell?
    pub(super) fn holds_on(&self, key: CellKey) -> bool {
        self.on_cell.contains_key(&key)
    }

    fn take_leased(&mut self, id: u64) -> Option<Leased> {
        let leased = self.leased.remove(id)?;
        for held in &leased.held {
            if let Some(count) = self.on_cell.get_mut(&held.key) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.on_cell.remove(&held.key);
                }
            }
        }
        Some(leased)
    }

    /// A request that held something on leases was never sent on: nothing of it was used.
    pub(super) fn drop_leased(&mut self, id: u64) -> Option<Finish> {
        let Leased { payer, held, .. } = self.take_leased(id)?;
        Some(Finish::of_nothing(payer, held))
    }

    /// Totals that no slot remembers any more; told until acknowledged.
    pub(super) fn leave_behind(&mut self, cells: Vec<CellReport>) {
        self.hurry |= !cells.is_empty();
        for cell in cells {
            // A page names each cell once.
            match self.cells.iter_mut().find(|known| known.key == cell.key) {
                Some(known) => *known = later(known, &cell),
                None => self.cells.push_back(cell),
            }
        }
    }

    /// Whatever is held for this need is to go back, whether or not we know of it.
    pub(super) fn abandon(&mut self, id: u64) {
        self.hurry = true;
        if let Some((due, _)) = self.holds.remove(id) {
            self.due.remove(&(due, id));
        }
        self.abandoned.insert(id);
    }

    /// Writes down how a request ended; what it held on leases is returned, to be entered there. What need not be told at
    /// once is told at `later`. The second part names the broken invariant, if there is no such hold, or if more was
    /// charged than was held; then the whole hold is charged.
    pub(super) fn end(&mut self, ended: Ended, later: Instant) -> (Option<Finish>, Option<&'static str>) {
        let Ended { hold: id, charged, beyond, outcome, tokens, basis, request_id, at, .. } = ended;
        let (mut rest, mut returned, mut charges) = (charged, Amount::ZERO, Vec::new());
        let mut split = |key: CellKey, held: Amount| {
            let used = rest.min(held);
            let back = held.saturating_sub(used);
            rest = rest.saturating_sub(used);
            returned = returned.checked_add(back).unwrap_or(Amount::MAX);
            if !used.is_zero() {
                charges.push(Charge { key, amount: used });
            }
            (used, back)
        };
        let (finish, account, endpoint, price_version);
        if let Some((due, hold)) = self.holds.remove(id) {
            self.due.remove(&(due, id));
            let mut short = beyond;
            for cell in &hold.cells {
                let (used, returned) = split(cell.key, cell.held);
                let ended = CellReport { finished: cell.held, used, returned, short, ..under_way(cell) };
                self.cells.push_back(ended);
                short = Amount::ZERO;
            }
            self.hurry |= hold.prompt;
            (finish, account, endpoint, price_version) =
                (None, hold.account, hold.endpoint, hold.price_version);
        } else if let Some(leased) = self.take_leased(id) {
            let parts = leased.held.iter().map(|held| (*held, split(held.key, held.amount).0)).collect();
            finish = Some(Finish { payer: leased.payer, parts, beyond });
            (account, endpoint, price_version) = (leased.account, leased.endpoint, leased.price_version);
        } else {
            return (None, Some("end_without_hold"));
        }
        self.usage_n = self.usage_n.saturating_add(1);
        self.usage.push_back(UsageRecord {
            n: self.usage_n,
            request_id,
            account,
            endpoint,
            charges,
            returned,
            beyond,
            outcome,
            tokens,
            basis,
            price_version,
            at,
        });
        self.lazy = Some(self.lazy.map_or(later, |earlier| earlier.min(later)));
        (finish, (!rest.is_zero()).then_some("charged_beyond_hold"))
    }

    /// Evidence of a request for which nothing could be charged.
    pub(super) fn note_unpaid(&mut self, record: UsageRecord) {
        self.usage_n = self.usage_n.saturating_add(1);
        self.usage.push_back(UsageRecord { n: self.usage_n, ..record });
        self.hurry = true;
    }

    /// Is there anything that should not wait?
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.hurry || self.next_due().is_some_and(|due| due <= now)
    }

    /// When there is something to tell next, if nothing hurries.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let hurry = self.hurry.then_some(Instant::EPOCH);
        [hurry, self.lazy, self.due.first().map(|(due, _)| *due)].into_iter().flatten().min()
    }

    /// What to tell now: how holds ended, first; then those that live on and were last reported a third of their time ago.
    pub(super) fn compose(&self, now: Instant, bounds: Bounds) -> Page {
        let live =
            self.due.iter().take_while(|(due, _)| *due <= now).filter_map(|(_, id)| self.holds.get(*id));
        let live = live.flat_map(|(_, hold)| &hold.cells).map(under_way);
        let ended: Vec<_> = self.cells.iter().take(bounds.cells).copied().collect();
        Page {
            live: live.take(bounds.cells.saturating_sub(ended.len())).collect(),
            ended,
            usage: self.usage.iter().take(bounds.usage).cloned().collect(),
            abandoned: self.abandoned.iter().take(bounds.abandoned).copied().collect(),
        }
    }

    /// A page is on its way; what did not fit onto it follows at once.
    pub(super) fn sent(&mut self, page: &Page) {
        let all = page.ended.len() == self.cells.len()
            && page.usage.len() == self.usage.len()
            && page.abandoned.len() == self.abandoned.len();
        (self.hurry, self.lazy) = (!all, None);
    }

    /// It did not arrive, or nobody knows.
    pub(super) fn unsent(&mut self) {
        self.hurry |= !(self.cells.is_empty() && self.usage.is_empty() && self.abandoned.is_empty());
    }

    /// Billing answered a page that was sent at `sent`: what it acknowledged need not be told again. False if it passed
    /// over something.
    pub(super) fn acknowledge(
        &mut self,
        page: &Page,
        answers: &[CellAnswer],
        usage_acked: u64,
        sent: Instant,
    ) -> bool {
        let known: BTreeSet<CellKey> = entered(answers.iter().map(|cell| cell.key));
        let told: BTreeMap<CellKey, &CellReport> = entered(page.ended.iter().map(|cell| (cell.key, cell)));
        // What was said of a cell meanwhile is told next time.
        let is_told = |cell: &CellReport| told.get(&cell.key).is_some_and(|told| *told == cell);
        let left: Vec<_> =
            self.cells.iter().filter(|c| is_told(c) && !known.contains(&c.key)).copied().collect();
        self.cells.retain(|cell| !is_told(cell));
        // What billing passed over goes to the end of the line, so that it does not keep the others from being heard.
        self.cells.extend(left);
        for id in &page.abandoned {
            self.abandoned.remove(id);
        }
        while self.usage.front().is_some_and(|record| record.n <= usage_acked) {
            self.usage.pop_front();
        }
        for cell in page.live.iter().filter(|cell| known.contains(&cell.key)) {
            self.put_off(cell.key.generation & NEED_BITS, sent);
        }
        let all = page.cells().all(|cell| known.contains(&cell.key))
            && page.usage.iter().all(|record| record.n <= usage_acked);
        self.hurry |= !all;
        all
    }

    fn put_off(&mut self, id: u64, sent: Instant) {
        if let Some((due, hold)) = self.holds.get_mut(id) {
            self.due.remove(&(*due, id));
            *due = sent.plus(hold.beat);
            self.due.insert((*due, id));
        }
    }
}

/// The bits of a hold's generation that are the need's id.
const NEED_BITS: u64 = (1 << 40) - 1;

/// Totals of one cell only grow, so the larger of two are the later ones.
fn later(one: &CellReport, other: &CellReport) -> CellReport {
    CellReport {
        admitted: one.admitted.max(other.admitted),
        finished: one.finished.max(other.finished),
        used: one.used.max(other.used),
        returned: one.returned.max(other.returned),
        short: one.short.max(other.short),
        gone: one.gone || other.gone,
        ..*one
    }
}

fn under_way(cell: &CellLease) -> CellReport {
    let nothing = Amount::ZERO;
    CellReport {
        key: cell.key,
        admitted: cell.held,
        finished: nothing,
        used: nothing,
        returned: nothing,
        target: nothing,
        need: cell.held,
        short: nothing,
        gone: false,
    }
}
