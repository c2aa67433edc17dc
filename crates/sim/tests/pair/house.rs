//! The real ledger behind syncs: what each book makes of each message, computed once.

use crate::bounds::{Bounds, Mutant};
use crate::known::{Known, Map};
use crate::sums::{Sums, only_grew, sums};
use contract::v1::{self, CellAnswer, CellKey, CellLease, CellReport};
use ledger::subscription::{Stage, Standing};
use ledger::*;
use units::{AccountId, Amount, Instant, NodeName, Span, TierId, Unit};

/// No message.
pub(crate) const NONE: u32 = u32::MAX;

/// Grants have the numbers 1 to 3: the bought credits, and windows as they come.
pub(crate) const GRANTS: usize = 3;
/// By grant: its number less one.
pub(crate) type PerGrant = [u8; GRANTS];
/// The scope of the windows.
pub(crate) const FREE: &str = "free";

/// What a gateway sends: totals, and the floor above which it wants a lease, if it wants one.
#[derive(Clone, Debug)]
pub(crate) struct Sync {
    pub(crate) sent: u8,
    pub(crate) told: Vec<CellReport>,
    pub(crate) asks: Option<u64>,
    /// Whether it says that an answer was lost.
    pub(crate) lost: bool,
}

/// What it is answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) sent: u8,
    pub(crate) told: Vec<CellReport>,
    pub(crate) cells: Vec<CellAnswer>,
    pub(crate) lent: Vec<CellLease>,
}

/// What came of a sync; the answer by its number, or [`NONE`] if it says nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) ledger: u32,
    pub(crate) answer: u32,
    /// Whether everybody is asked for what lies free, and whether the need was granted.
    pub(crate) recalls: bool,
    pub(crate) granted: bool,
}

/// A cell that came to its hard end with something left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled {
    pub(crate) node: usize,
    pub(crate) key: CellKey,
    /// What was left, what of it the ledger knew to be held, how far the gateway may have been ahead, what was charged.
    pub(crate) rest: u8,
    pub(crate) known: u8,
    pub(crate) exposure: u8,
    pub(crate) used: u8,
}

pub(crate) fn byte(amount: Amount) -> u8 {
    u8::try_from(amount.get()).unwrap()
}

pub(crate) fn of(n: u8) -> Amount {
    Amount::new(n.into()).unwrap()
}

pub(crate) fn tick(n: u8) -> Instant {
    Instant::from_secs(n.into())
}

/// The number of an instant, where the far future is one.
pub(crate) fn tock(at: Instant) -> u8 {
    u8::try_from(at.secs()).unwrap_or(u8::MAX)
}

fn node(n: usize) -> NodeName {
    NodeName::new(format!("node-{n}")).unwrap()
}

pub(crate) fn node_of(id: &CellId) -> usize {
    usize::from(id.node == node(1))
}

fn state(state: CellState) -> v1::CellState {
    match state {
        CellState::Open => v1::CellState::Open,
        CellState::Soft => v1::CellState::Soft,
        CellState::Closed => v1::CellState::Closed,
    }
}

fn key_of(id: &CellId) -> CellKey {
    CellKey { grant: id.grant.0, generation: id.generation }
}

/// What tells two books apart. Of a closed cell nobody asks any more when it ended.
fn name(book: &Book) -> Vec<u8> {
    let mut out = vec![byte(book.account.debt)];
    for grant in book.grants.values() {
        let parts = [grant.terms.amount, grant.avail, grant.leased, grant.used, grant.expired];
        out.extend(parts.map(byte));
        out.push(tock(grant.terms.expires_at));
    }
    for (id, cell) in &book.cells {
        out.extend([255, node_of(id) as u8, id.grant.0 as u8, id.generation as u8, cell.state as u8]);
        let totals = [cell.granted, cell.returned, cell.admitted, cell.finished, cell.used];
        out.extend(totals.map(byte));
        out.extend([byte(cell.late), byte(cell.exposure), tock(cell.soft_at), tock(cell.hard_at)]);
    }
    out
}

/// All books that were seen, and what they make of things.
pub(crate) struct House {
    bounds: Bounds,
    books: Known<Book>,
    pub(crate) answers: Known<Answer>,
    sums: Vec<Sums>,
    heard: Map<(u32, u32, usize, u8), Result<Heard, String>>,
    due: Map<(u32, u8), (u32, Vec<Settled>)>,
    swapped: Map<u32, u32>,
}

impl House {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let (heard, due, swapped) = (Map::default(), Map::default(), Map::default());
        let (books, answers, sums) = (Known::new(), Known::new(), Vec::new());
        Self { bounds, books, answers, sums, heard, due, swapped }
    }

    pub(crate) fn len(&self) -> usize {
        self.books.len()
    }

    pub(crate) fn sums(&self, ledger: u32) -> &Sums {
        &self.sums[ledger as usize]
    }

    fn number(&mut self, mut book: Book) -> u32 {
        book.account.ver = 0;
        book.seen = Instant::EPOCH;
        book.grants.values_mut().for_each(|grant| grant.ver = 0);
        for cell in book.cells.values_mut() {
            cell.ver = 0;
            if cell.state == CellState::Closed {
                (cell.soft_at, cell.hard_at, cell.exposure) = (Instant::EPOCH, Instant::EPOCH, Amount::ZERO);
            }
        }
        let number = self.books.number(name(&book), book);
        if self.sums.len() < self.books.len() {
            self.sums.push(sums(self.books.get(number)));
        }
        number
    }

    /// Somebody who has bought something.
    pub(crate) fn first(&mut self) -> u32 {
        let (tier, why) = (Some(TierId::new("free").unwrap()), None);
        let stage = Stage::Active;
        let standing =
            Standing { tier, stage, why, current_period_end: None, cancel_at: None, changes_at: None };
        let mut book = Book::open(AccountId::new("alice").unwrap(), standing);
        let terms = Terms {
            unit: Unit::Credits,
            scope: String::new(),
            source: Source::Purchase,
            source_ref: "buy:1".to_owned(),
            priority: 10,
            starts_at: Instant::EPOCH,
            expires_at: Instant::FAR,
            amount: of(self.bounds.credits),
        };
        step(&mut book, &mut Ids::from(1), Instant::EPOCH, &Command::Grant(terms)).unwrap();
        self.number(book)
    }

    /// The same, were the two gateways each other.
    pub(crate) fn swap(&mut self, ledger: u32) -> u32 {
        if let Some(known) = self.swapped.get(&ledger) {
            return *known;
        }
        let mut book = self.books.get(ledger).clone();
        let cells = core::mem::take(&mut book.cells);
        let other = |id: CellId| CellId { node: node(1 - node_of(&id)), ..id };
        book.cells = cells.into_iter().map(|(id, cell)| (other(id), cell)).collect();
        let number = self.number(book);
        self.swapped.extend([(ledger, number), (number, ledger)]);
        number
    }

    /// What comes of a message of a gateway; or why it is wrong.
    pub(crate) fn hear(
        &mut self,
        ledger: u32,
        (number, sync): (u32, &Sync),
        from: usize,
        now: u8,
    ) -> Result<Heard, String> {
        let question = (ledger, number, from, now);
        if let Some(known) = self.heard.get(&question) {
            return known.clone();
        }
        let mut book = self.books.get(ledger).clone();
        let heard = self.work(&mut book, sync, from, now).and_then(|mut heard| {
            heard.ledger = self.number(book.clone());
            // I6: what is told twice changes nothing.
            if self.bounds.mutant == Mutant::None {
                self.work(&mut book, sync, from, now)?;
                if self.number(book) != heard.ledger {
                    return Err(format!("I6: told twice, it counted twice: {sync:?}"));
                }
            }
            Ok(heard)
        });
        self.heard.insert(question, heard.clone());
        heard
    }

    fn work(&mut self, book: &mut Book, sync: &Sync, from: usize, now: u8) -> Result<Heard, String> {
        let node = node(if self.bounds.mutant == Mutant::NodesConfused { 0 } else { from });
        let (mut cells, mut lent) = (Vec::new(), Vec::new());
        for told in &sync.told {
            cells.push(self.report(book, &node, told, now)?);
        }
        let (mut recalls, mut granted) = (false, false);
        if let Some(floor) = sync.asks {
            let outcome = self.run(book, now, &Command::Need(self.need(node.clone(), floor, now)))?;
            recalls =
                outcome.effects.iter().any(|Effect::Note { kind, .. }| matches!(kind, NoteKind::Recall));
            let Reply::Need(answer) = outcome.reply else { return Err("no answer to a need".to_owned()) };
            if let Decision::Granted(it) = answer.decision {
                granted = true;
                lent = it.cells.iter().map(|cell| self.lease(book, cell)).collect();
            }
        }
        if sync.lost && self.bounds.mutant != Mutant::UnheardUntold {
            let unheard = self.unheard(book, &node, sync, &lent);
            lent.extend(unheard);
        }
        let silent = cells.is_empty() && lent.is_empty();
        let answer = Answer { sent: sync.sent, told: sync.told.clone(), cells, lent };
        let number = |answers: &mut Known<Answer>| answers.number(format!("{answer:?}").into_bytes(), answer);
        let answer = if silent { NONE } else { number(&mut self.answers) };
        Ok(Heard { ledger: 0, answer, recalls, granted })
    }

    /// As billing does: every lease of this gateway that it does not tell of, with no time left.
    fn unheard(&self, book: &Book, node: &NodeName, sync: &Sync, told: &[CellLease]) -> Vec<CellLease> {
        let known =
            |key: CellKey| sync.told.iter().any(|it| it.key == key) || told.iter().any(|it| it.key == key);
        let out = |(id, cell): &(&CellId, &Cell)| {
            id.node == *node
                && !id.is_hold()
                && cell.state != CellState::Closed
                && cell.outstanding() > cell.held()
                && !known(key_of(id))
        };
        let lease = |(id, cell): (&CellId, &Cell)| {
            let (granted, exposure, unit) = (cell.granted, cell.exposure, book.grants[&id.grant].terms.unit);
            let (ttl, keep, held) = (Span::ZERO, false, Amount::ZERO);
            self.lease(book, &CellGrant { id: id.clone(), unit, granted, held, ttl, exposure, keep })
        };
        book.cells.iter().filter(out).map(lease).collect()
    }

    fn run(&self, book: &mut Book, now: u8, command: &Command) -> Result<Outcome, String> {
        let before = book.clone();
        let mut ids = Ids::from(book.grants.len() as u64 + 1);
        book.seen = tick(now);
        let outcome = step(book, &mut ids, tick(now), command).map_err(|bug| bug.to_string())?;
        self.spoil(&before, book, command);
        book.check().map_err(|bug| bug.to_string())?;
        only_grew(&before, book).map(|()| outcome)
    }

    /// What a broken ledger would do beside.
    fn spoil(&self, before: &Book, book: &mut Book, command: &Command) {
        let Command::Report(Report { cell: id, totals, .. }) = command else { return };
        let back = byte(book.cells[id].returned) - byte(before.cells[id].returned);
        let used = book.cells[id].used.checked_sub(before.cells[id].used).unwrap();
        let window = book.grants[&id.grant].terms.source == Source::Window;
        let minus = |a: Amount, n: u8| a.checked_sub(of(n)).unwrap();
        match self.bounds.mutant {
            Mutant::WindowBecomesCredits if window && byte(book.grants[&id.grant].avail) >= back => {
                let free = book.grants.get_mut(&id.grant).unwrap();
                (free.avail, free.terms.amount) = (minus(free.avail, back), minus(free.terms.amount, back));
                let bought = book.grants.get_mut(&GrantId(1)).unwrap();
                bought.avail = bought.avail.checked_add(of(back)).unwrap();
                bought.terms.amount = bought.terms.amount.checked_add(of(back)).unwrap();
            }
            Mutant::EndedIsAvailable if window && byte(book.grants[&id.grant].expired) >= back => {
                let free = book.grants.get_mut(&id.grant).unwrap();
                (free.expired, free.avail) =
                    (minus(free.expired, back), free.avail.checked_add(of(back)).unwrap());
            }
            Mutant::LastReportCounts => {
                let cell = book.cells.get_mut(id).unwrap();
                if cell.state == CellState::Open {
                    (cell.admitted, cell.finished) = (totals.admitted, totals.finished);
                }
            }
            Mutant::LateTwice => {
                book.cells.get_mut(id).unwrap().late = Amount::ZERO;
            }
            Mutant::SoftReopened if before.cells[id].state == CellState::Soft && used.is_zero() => {
                let cell = book.cells.get_mut(id).unwrap();
                if cell.state == CellState::Soft {
                    cell.state = CellState::Open;
                }
            }
            _ => {}
        }
    }

    fn timing(&self) -> Timing {
        let Bounds { ttl, longest, .. } = self.bounds;
        let secs = |n: u8| Span::from_secs(n.into());
        Timing { ttl: secs(ttl), grace: Span::ZERO, tail: secs(longest) }
    }

    fn exposure(&self) -> Exposure {
        match self.bounds.exposure {
            _ if self.bounds.mutant == Mutant::NoReserve => Exposure::AtMost(Amount::ZERO),
            0 => Exposure::Whole,
            most => Exposure::AtMost(of(most)),
        }
    }

    /// What a gateway is told of how far it may be ahead: a broken ledger keeps less for it.
    fn told_exposure(&self, granted: Amount, exposure: Amount) -> Amount {
        match self.bounds.exposure {
            most if self.bounds.mutant == Mutant::NoReserve => of(most).min(granted),
            _ => exposure,
        }
    }

    fn report(
        &self,
        book: &mut Book,
        node: &NodeName,
        told: &CellReport,
        now: u8,
    ) -> Result<CellAnswer, String> {
        let CellReport { mut admitted, mut finished, mut used, returned, target, need, short, gone, key } =
            *told;
        let CellKey { grant, generation } = key;
        let cell = CellId { grant: GrantId(grant), node: node.clone(), incarnation: 1, generation };
        let row = book.cells.get(&cell).cloned();
        if let (Mutant::ReportsAreDeltas, Some(row)) = (self.bounds.mutant, &row) {
            let add = |a: &mut Amount, b: Amount| *a = a.checked_add(b).unwrap();
            add(&mut admitted, row.admitted);
            add(&mut finished, row.finished);
            add(&mut used, row.used);
        }
        let totals = Totals { admitted, finished, used, returned, short };
        let (timing, exposure, holders, shortfall) = (self.timing(), self.exposure(), 2, Shortfall::Debt);
        let report = Report { cell, totals, target, need, holders, timing, exposure, shortfall, gone };
        let Reply::Report(answer) = self.run(book, now, &Command::Report(report))?.reply else {
            return Err("no answer to a report".to_owned());
        };
        if let Some(why) = answer.refused {
            return Err(format!("an honest report was refused: {why:?}: {told:?}"));
        }
        if answer.late.is_some() && row.is_some_and(|row| row.state != CellState::Closed) {
            return Err(format!("a living cell could not pay for its own usage: {told:?}"));
        }
        let it = answer.cell;
        let exposure = self.told_exposure(it.granted, it.exposure);
        let (state, ttl_ms) = (state(it.state), it.ttl.millis());
        let (granted, acked_admitted, keep) = (it.granted, it.acked_admitted, it.keep);
        Ok(CellAnswer { key: told.key, granted, acked_admitted, ttl_ms, exposure, state, keep })
    }

    /// A lease for one request: of the window, if there is one, or of the credits.
    fn need(&self, node: NodeName, generation_min: u64, now: u8) -> Need {
        let later = now >= self.bounds.midnight;
        let midnight = tick(self.bounds.midnight);
        let limit = self.bounds.windows[usize::from(later)];
        let (starts_at, expires_at) =
            if later { (midnight, Instant::FAR) } else { (Instant::EPOCH, midnight) };
        let (name, source_ref) = (FREE.to_owned(), format!("{FREE}#{}", u8::from(later)));
        let rule = WindowRule { name, limit: of(limit), priority: 0, source_ref, starts_at, expires_at };
        let leg = |unit, scope: &str, window| {
            let (scope, need, least) = (scope.to_owned(), Amount::ONE, None);
            Lane { legs: vec![Leg { unit, scope, need, least, ahead: Amount::ZERO, window }] }
        };
        let free = (limit > 0).then(|| leg(Unit::Requests, FREE, Some(rule)));
        let mode = Mode::Lease { generation_min };
        let lanes = free.into_iter().chain([leg(Unit::Credits, "", None)]).collect();
        let (timing, exposure) = (self.timing(), self.exposure());
        Need { node, incarnation: 1, mode, lanes, wait: true, holders: 2, at_once: None, timing, exposure }
    }

    fn lease(&self, book: &Book, cell: &CellGrant) -> CellLease {
        let scope = book.grants[&cell.id.grant].terms.scope.clone();
        let ended = self.bounds.mutant == Mutant::EndIgnored && cell.ttl != Span::ZERO;
        let ttl = if ended { self.timing().ttl } else { cell.ttl };
        CellLease {
            key: key_of(&cell.id),
            unit: cell.unit,
            granted: cell.granted,
            held: cell.held,
            ttl_ms: ttl.millis(),
            exposure: self.told_exposure(cell.granted, cell.exposure),
            scope,
            keep: cell.keep,
        }
    }

    /// Whatever is due, and what was settled by that.
    pub(crate) fn expire(&mut self, ledger: u32, now: u8) -> Result<(u32, Vec<Settled>), String> {
        if let Some(known) = self.due.get(&(ledger, now)) {
            return Ok(known.clone());
        }
        let (mut book, mut settled) = (self.books.get(ledger).clone(), Vec::new());
        let hasty = self.bounds.mutant == Mutant::TailIgnored;
        let command = Command::Expire(Expire { crash: self.bounds.crash, shortfall: Shortfall::Debt });
        for later in [0, self.bounds.longest].into_iter().take(1 + usize::from(hasty)) {
            let before = book.clone();
            self.run(&mut book, now + later, &command)?;
            for (id, was) in before.cells.iter().filter(|(_, was)| was.state == CellState::Soft) {
                if book.cells[id].state == CellState::Closed && !was.outstanding().is_zero() {
                    settled.push(Settled {
                        node: node_of(id),
                        key: key_of(id),
                        rest: byte(was.outstanding()),
                        known: byte(was.held()),
                        exposure: byte(was.exposure),
                        used: byte(was.used),
                    });
                }
            }
        }
        let to = (self.number(book), settled);
        self.due.insert((ledger, now), to.clone());
        Ok(to)
    }

    /// Whether a hold of `n` credits is granted to a gateway now.
    pub(crate) fn grants(&mut self, ledger: u32, from: usize, now: u8, n: u8) -> Result<bool, String> {
        let mut need = self.need(node(from), 1, now);
        need.mode = Mode::Hold { generation: HOLD_GENERATION_MIN };
        need.lanes.retain(|lane| lane.legs[0].unit == Unit::Credits);
        need.lanes[0].legs[0].need = of(n);
        let mut book = self.books.get(ledger).clone();
        let Reply::Need(answer) = self.run(&mut book, now, &Command::Need(need))?.reply else {
            return Err("no answer to a need".to_owned());
        };
        match answer.decision {
            Decision::Granted(_) => Ok(true),
            Decision::Refused(_) => Ok(false),
            other => Err(format!("neither yes nor no: {other:?}")),
        }
    }
}
