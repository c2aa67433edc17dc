//! All cells of one payer in one value, so that one compare-and-swap decides; a fixed binary form, versioned and bounded.
//!
//! A value that is not ours, or not of this version, is refused and never guessed at: the caller treats the slot
//! as taken and falls back to consulting.

use super::Cell;
use contract::v1::{CellKey, CellLease, CellReport, CellState};
use sha2::{Digest, Sha256};
use units::{AccountId, Amount, Instant, Span, Unit};

/// The most cells in a slot; a payer with more grants in use than this consults for each request.
pub const CELLS_MAX: usize = 8;

const VERSION: u8 = 2;

/// No request lives so long after its lease's time: what is still held then was held by a worker that died.
const LONGEST: Span = Span::from_secs(3600);

/// The first 128 bits of SHA-256 over a payer's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayerKey(pub [u8; 16]);

/// Everything this process may spend for one payer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Whose.
    pub payer: PayerKey,
    /// The life of this Envoy in which its cells were given.
    pub incarnation: u64,
    /// No cell of a generation below this is ever entered here again: what is forgotten is forgotten for good.
    pub floor: u64,
    /// What was remembered in an earlier epoch is void.
    pub epoch: u64,
    /// On the monotonic clock: when something was last admitted.
    pub touched: Instant,
    /// On the monotonic clock: until then no other payer may have the slot.
    pub kept_until: Instant,
    /// In the order in which they are to be spent.
    pub cells: Vec<Cell>,
}

/// What one request holds on one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which cell.
    pub key: CellKey,
    /// How much.
    pub amount: Amount,
}

/// Why a stored value is not a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotError {
    /// Of another version of the filter, or nobody's.
    Foreign,
    /// Cut short, too long, or with totals that cannot be.
    Malformed,
}

/// The 64 bits by which a slot knows a scope.
#[must_use]
pub fn scope_tag(scope: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(scope.as_bytes()).into();
    digest.first_chunk::<8>().map_or(0, |head| u64::from_le_bytes(*head))
}

impl PayerKey {
    /// The key of a payer.
    #[must_use]
    pub fn of(payer: &AccountId) -> Self {
        let digest: [u8; 32] = Sha256::digest(payer.as_str().as_bytes()).into();
        Self(digest.first_chunk::<16>().copied().unwrap_or_default())
    }

    /// Which of `slots` slots is this payer's.
    #[must_use]
    pub fn slot(self, slots: u32) -> u32 {
        let head = self.0.first_chunk::<4>().map_or(0, |head| u32::from_le_bytes(*head));
        head.checked_rem(slots).unwrap_or(0)
    }
}

impl Slot {
    /// A slot without cells.
    #[must_use]
    pub fn new(payer: PayerKey, incarnation: u64) -> Self {
        let (never, cells) = (Instant::EPOCH, Vec::new());
        Self { payer, incarnation, floor: 1, epoch: 0, touched: never, kept_until: never, cells }
    }

    /// Enters the cells that a need was answered with, in their order, before those that were here. Returns what goes back
    /// at once: because its time is over already, because there is no room for it, or because it is forgotten here, and
    /// what was lent on it meanwhile can be spent by nobody.
    pub fn place(&mut self, leases: &[CellLease], sent: Instant, now: Instant) -> Vec<CellReport> {
        let mut before = core::mem::take(&mut self.cells);
        let mut roomless = Vec::new();
        // What this very answer makes one forget is no reason to leave the rest of it out, which nobody would report then.
        let floor = self.floor;
        let told = |cell: &Cell| leases.iter().any(|lease| lease.key == cell.key);
        for lease in leases {
            if self.cells.iter().any(|cell| cell.key == lease.key) {
                continue;
            }
            let known = before.iter().position(|cell| cell.key == lease.key);
            let mut cell = match known {
                Some(at) => before.remove(at),
                None if lease.key.generation < floor => {
                    roomless.push(CellReport { gone: true, ..Cell::new(lease, 0, sent).report() });
                    continue;
                }
                None => Cell::new(lease, scope_tag(&lease.scope), sent),
            };
            cell.extend(lease, sent);
            if known.is_none() && now >= cell.deadline {
                roomless.push(self.turn_away(cell));
                continue;
            }
            if known.is_none() && self.cells.len().saturating_add(before.len()) >= CELLS_MAX {
                let spent = |cell: &Cell| cell.is_settled() && cell.is_told() && !told(cell);
                if let Some(spent) = before.iter().position(spent) {
                    self.raise_floor(before.remove(spent).key);
                } else {
                    roomless.push(self.turn_away(cell));
                    continue;
                }
            }
            self.cells.push(cell);
        }
        self.cells.append(&mut before);
        roomless
    }

    /// A cell that is not entered goes back, and never comes again: its totals would begin anew.
    fn turn_away(&mut self, mut cell: Cell) -> CellReport {
        self.raise_floor(cell.key);
        cell.give_back();
        CellReport { gone: true, ..cell.report() }
    }

    /// Puts in order what time has brought: what can no longer be spent goes back, and what is over, and known to be
    /// over, is forgotten; but not while a lease is asked for, for the ledger may lend on a cell that it still has.
    pub fn tidy(&mut self, now: Instant) {
        for cell in &mut self.cells {
            if cell.state != CellState::Open || now >= cell.deadline {
                cell.give_back();
            }
        }
        let asked = now < self.kept_until;
        let over = |cell: &Cell| {
            !asked
                && now >= cell.deadline
                && cell.is_told()
                && (cell.is_settled() || now >= cell.deadline.plus(LONGEST))
        };
        while let Some(out) = self.cells.iter().position(over) {
            let cell = self.cells.remove(out);
            self.raise_floor(cell.key);
        }
    }

    /// What is forgotten must not come back: its totals would begin anew.
    pub(super) fn raise_floor(&mut self, forgotten: CellKey) {
        self.floor = self.floor.max(forgotten.generation.saturating_add(1));
    }

    /// Gives back all that is free.
    pub fn give_back(&mut self) {
        for cell in &mut self.cells {
            cell.give_back();
        }
    }

    /// Others need what is free here: all of it goes back, and so does what becomes free until the ledger says otherwise.
    /// True if anything does.
    pub fn recall(&mut self) -> bool {
        let mut any = false;
        for cell in &mut self.cells {
            any |= !cell.free().is_zero();
            cell.keep = false;
            cell.give_back();
        }
        any
    }

    /// The requests in flight may be those of a worker that died: nothing more is admitted on their cells, and new
    /// leases get new generations. What is left of such a cell is settled by the crash policy when nobody reports it.
    pub fn condemn(&mut self) {
        for cell in self.cells.iter_mut().filter(|cell| !cell.held().is_zero()) {
            cell.state = cell.state.max(CellState::Soft);
            cell.give_back();
            self.floor = self.floor.max(cell.key.generation.saturating_add(1));
        }
    }

    /// Gives the slot to another payer, if nothing of its own one can be lost by that: what is forgotten has been told, so
    /// that the ledger knows better than this process what was spent of it. Returns what the ledger should still hear of
    /// the cells that were here.
    pub fn hand_over(&mut self, payer: PayerKey, incarnation: u64, now: Instant) -> Option<Vec<CellReport>> {
        let over = |cell: &Cell| {
            let at_rest = cell.is_settled() || (now >= cell.deadline && cell.held().is_zero());
            (at_rest && cell.is_told()) || now >= cell.deadline.plus(LONGEST)
        };
        let ours = self.incarnation == incarnation;
        if now < self.kept_until || !self.cells.iter().all(over) {
            return None;
        }
        let mut last = Vec::new();
        for cell in &mut self.cells {
            cell.give_back();
            if ours && !cell.is_told() {
                last.push(cell.report());
            }
            self.floor = self.floor.max(cell.key.generation.saturating_add(1));
        }
        *self = Self { floor: self.floor, ..Self::new(payer, incarnation) };
        Some(last)
    }

    /// Holds `need` on cells of `scope` in their order, all of it or nothing.
    pub fn admit(&mut self, scope: u64, unit: Unit, need: Amount, now: Instant) -> Option<Vec<Held>> {
        let fits = |cell: &Cell| cell.scope == scope && cell.unit == unit;
        let short =
            self.cells.iter().filter(|c| fits(c)).fold(need, |left, c| left.saturating_sub(c.spendable(now)));
        if !short.is_zero() {
            return None;
        }
        let mut left = need;
        let mut held = Vec::with_capacity(1);
        for cell in self.cells.iter_mut().filter(|c| fits(c)) {
            let amount = cell.admit(left, now);
            if !amount.is_zero() {
                held.push(Held { key: cell.key, amount });
                left = left.saturating_sub(amount);
            }
            if left.is_zero() {
                break;
            }
        }
        self.touched = now;
        Some(held)
    }

    /// Ends a hold on one of the cells. What is free after it goes back where it may not be kept. `None` if the cell
    /// or the hold is not known here; else whether it may be kept.
    pub fn finish(&mut self, held: Held, used: Amount) -> Option<bool> {
        let cell = self.cell_mut(held.key)?;
        if !cell.finish(held.amount, used) {
            return None;
        }
        if !cell.keep {
            cell.give_back_upto(held.amount.saturating_sub(used));
        }
        Some(cell.keep)
    }

    /// The cell of that key.
    pub fn cell_mut(&mut self, key: CellKey) -> Option<&mut Cell> {
        self.cells.iter_mut().find(|c| c.key == key)
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(HEAD_BYTES.saturating_add(self.cells.len().saturating_mul(CELL_BYTES)));
        out.push(VERSION);
        out.extend_from_slice(&self.payer.0);
        for word in [self.incarnation, self.floor, self.epoch] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for instant in [self.touched, self.kept_until] {
            out.extend_from_slice(&instant.micros().to_le_bytes());
        }
        for cell in &self.cells {
            for word in [cell.key.grant, cell.key.generation, cell.scope, cell.told] {
                out.extend_from_slice(&word.to_le_bytes());
            }
            for amount in [
                cell.granted,
                cell.returned,
                cell.admitted,
                cell.finished,
                cell.used,
                cell.acked,
                cell.exposure,
                cell.need,
                cell.short,
            ] {
                out.extend_from_slice(&amount.get().to_le_bytes());
            }
            out.extend_from_slice(&cell.deadline.micros().to_le_bytes());
            let unit = u8::from(cell.unit == Unit::Requests);
            let state = match cell.state {
                CellState::Open => 0,
                CellState::Soft => 1,
                CellState::Closed => 2,
            };
            out.extend_from_slice(&[unit, state, u8::from(cell.keep)]);
        }
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`SlotError`] says what is wrong with it; nothing is repaired.
    pub fn decode(stored: &[u8]) -> Result<Self, SlotError> {
        let mut reader = Reader(stored);
        if reader.byte() != Some(VERSION) {
            return Err(SlotError::Foreign);
        }
        let mut slot = reader.head().ok_or(SlotError::Malformed)?;
        while !reader.0.is_empty() {
            let cell = reader.cell().ok_or(SlotError::Malformed)?;
            if slot.cells.len() == CELLS_MAX {
                return Err(SlotError::Malformed);
            }
            slot.cells.push(cell);
        }
        Ok(slot)
    }
}

const HEAD_BYTES: usize = 1 + 16 + 3 * 8 + 2 * 8;
const CELL_BYTES: usize = 4 * 8 + 9 * 8 + 8 + 3;

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn word(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn signed(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    fn amount(&mut self) -> Option<Amount> {
        self.signed().and_then(|n| Amount::new(n).ok())
    }

    fn head(&mut self) -> Option<Slot> {
        Some(Slot {
            payer: PayerKey(self.take()?),
            incarnation: self.word()?,
            floor: self.word()?,
            epoch: self.word()?,
            touched: self.signed().map(Instant::from_micros)?,
            kept_until: self.signed().map(Instant::from_micros)?,
            cells: Vec::new(),
        })
    }

    fn cell(&mut self) -> Option<Cell> {
        Some(Cell {
            key: CellKey { grant: self.word()?, generation: self.word()? },
            scope: self.word()?,
            told: self.word()?,
            granted: self.amount()?,
            returned: self.amount()?,
            admitted: self.amount()?,
            finished: self.amount()?,
            used: self.amount()?,
            acked: self.amount()?,
            exposure: self.amount()?,
            need: self.amount()?,
            short: self.amount()?,
            deadline: Instant::from_micros(self.signed()?),
            unit: match self.byte()? {
                0 => Unit::Credits,
                1 => Unit::Requests,
                _ => return None,
            },
            state: match self.byte()? {
                0 => CellState::Open,
                1 => CellState::Soft,
                2 => CellState::Closed,
                _ => return None,
            },
            keep: match self.byte()? {
                0 => false,
                1 => true,
                _ => return None,
            },
        })
    }
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
