//! All cells of one payer in one value, so that one compare-and-swap decides; a fixed binary form, versioned and bounded.
//!
//! A value that is not ours, or not of this version, is refused and never guessed at: the caller treats the slot
//! as taken and falls back to consulting.

use super::Cell;
use contract::v1::{CellKey, CellState};
use sha2::{Digest, Sha256};
use units::{AccountId, Amount, Instant, Unit};

/// The most cells in a slot; a payer with more grants in use than this consults for each request.
pub const CELLS_MAX: usize = 8;

const VERSION: u8 = 1;

/// The first 128 bits of SHA-256 over a payer's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayerKey(pub [u8; 16]);

/// Everything this process may spend for one payer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Whose.
    pub payer: PayerKey,
    /// What was remembered in an earlier epoch is void.
    pub epoch: u64,
    /// On the monotonic clock: when something was last admitted.
    pub touched: Instant,
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
    pub fn new(payer: PayerKey, epoch: u64, now: Instant) -> Self {
        Self { payer, epoch, touched: now, cells: Vec::new() }
    }

    /// Holds `need` on cells of `scope` in their order, all of it or nothing.
    pub fn admit(&mut self, scope: u64, unit: Unit, need: Amount, now: Instant) -> Option<Vec<Held>> {
        let mut left = need;
        let mut held = Vec::with_capacity(1);
        let mut cells = self.cells.clone();
        for cell in cells.iter_mut().filter(|c| c.scope == scope && c.unit == unit) {
            let amount = cell.admit(left, now);
            if !amount.is_zero() {
                held.push(Held { key: cell.key, amount });
                left = left.saturating_sub(amount);
            }
            if left.is_zero() {
                break;
            }
        }
        if !left.is_zero() {
            return None;
        }
        self.cells = cells;
        self.touched = now;
        Some(held)
    }

    /// Ends a hold on one of the cells. False if the cell or the hold is not known here.
    pub fn finish(&mut self, held: Held, used: Amount) -> bool {
        self.cell_mut(held.key).is_some_and(|cell| {
            let known = cell.finish(held.amount, used);
            if known && !cell.keep {
                cell.give_back();
            }
            known
        })
    }

    /// What could be admitted on `scope` at `now`.
    #[must_use]
    pub fn spendable(&self, scope: u64, unit: Unit, now: Instant) -> Amount {
        self.cells
            .iter()
            .filter(|c| c.scope == scope && c.unit == unit)
            .try_fold(Amount::ZERO, |sum, c| sum.checked_add(c.spendable(now)))
            .unwrap_or(Amount::MAX)
    }

    /// The cell of that key.
    pub fn cell_mut(&mut self, key: CellKey) -> Option<&mut Cell> {
        self.cells.iter_mut().find(|c| c.key == key)
    }

    /// Nothing left that the ledger would have to hear of: the slot may be given to another payer.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.cells.iter().all(|c| c.state == CellState::Closed || c.is_settled())
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(HEAD_BYTES.saturating_add(self.cells.len().saturating_mul(CELL_BYTES)));
        out.push(VERSION);
        out.extend_from_slice(&self.payer.0);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.touched.micros().to_le_bytes());
        for cell in &self.cells {
            for word in [cell.key.grant, cell.key.generation, cell.scope] {
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
        let head = (|| Some((reader.take::<16>()?, reader.word()?, reader.signed()?)))();
        let Some((payer, epoch, touched)) = head else { return Err(SlotError::Malformed) };
        let mut slot = Self::new(PayerKey(payer), epoch, Instant::from_micros(touched));
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

const HEAD_BYTES: usize = 1 + 16 + 8 + 8;
const CELL_BYTES: usize = 3 * 8 + 7 * 8 + 8 + 3;

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

    fn cell(&mut self) -> Option<Cell> {
        Some(Cell {
            key: CellKey { grant: self.word()?, generation: self.word()? },
            scope: self.word()?,
            granted: self.amount()?,
            returned: self.amount()?,
            admitted: self.amount()?,
            finished: self.amount()?,
            used: self.amount()?,
            acked: self.amount()?,
            exposure: self.amount()?,
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
mod tests {
    use super::*;
    use contract::v1::{CellAnswer, CellLease};

    fn amount(n: i64) -> Amount {
        Amount::new(n).unwrap()
    }

    fn lease(grant: u64, granted: i64, keep: bool) -> CellLease {
        CellLease {
            key: CellKey { grant, generation: 1 },
            unit: Unit::Credits,
            granted: amount(granted),
            held: Amount::ZERO,
            ttl_ms: 1000,
            exposure: amount(granted),
            scope: String::new(),
            keep,
        }
    }

    fn slot(grants: &[(u64, i64)]) -> Slot {
        let payer = PayerKey::of(&AccountId::new("alice").unwrap());
        let mut slot = Slot::new(payer, 3, Instant::EPOCH);
        slot.cells = grants
            .iter()
            .map(|(g, n)| Cell::new(&lease(*g, *n, true), scope_tag(""), Instant::EPOCH))
            .collect();
        slot
    }

    const NOW: Instant = Instant::from_micros(10);

    #[test]
    fn a_hold_takes_cells_in_order_and_all_or_nothing() {
        let mut slot = slot(&[(1, 3), (2, 4)]);
        let held = slot.admit(scope_tag(""), Unit::Credits, amount(5), NOW).unwrap();
        assert_eq!(held.iter().map(|h| (h.key.grant, h.amount.get())).collect::<Vec<_>>(), [(1, 3), (2, 2)]);
        let before = slot.clone();
        assert_eq!(slot.admit(scope_tag(""), Unit::Credits, amount(3), NOW), None);
        assert_eq!(slot, before, "a hold that does not fit leaves no trace");
        assert_eq!(slot.admit(scope_tag("chat_day"), Unit::Credits, amount(1), NOW), None, "another scope");
        assert_eq!(slot.admit(scope_tag(""), Unit::Requests, amount(1), NOW), None, "another unit");
    }

    #[test]
    fn nothing_is_admitted_after_the_deadline_or_beyond_the_exposure() {
        let mut late = slot(&[(1, 9)]);
        assert_eq!(late.admit(scope_tag(""), Unit::Credits, amount(1), Instant::from_secs(1)), None);
        let mut tight = slot(&[(1, 9)]);
        tight.cells.first_mut().unwrap().exposure = amount(2);
        assert!(tight.admit(scope_tag(""), Unit::Credits, amount(2), NOW).is_some());
        assert_eq!(tight.admit(scope_tag(""), Unit::Credits, amount(1), NOW), None);
        let answer = CellAnswer {
            key: CellKey { grant: 1, generation: 1 },
            granted: amount(9),
            acked_admitted: amount(2),
            ttl_ms: 1000,
            exposure: amount(2),
            state: CellState::Open,
            keep: true,
        };
        tight.cells.first_mut().unwrap().merge(&answer, NOW);
        assert!(tight.admit(scope_tag(""), Unit::Credits, amount(1), NOW).is_some());
    }

    #[test]
    fn a_hold_ends_once_and_never_uses_more_than_it_held() {
        let mut slot = slot(&[(1, 9)]);
        let held = slot.admit(scope_tag(""), Unit::Credits, amount(4), NOW).unwrap()[0];
        assert!(slot.finish(held, amount(99)));
        assert_eq!(slot.cells[0].used, amount(4));
        assert!(!slot.finish(held, amount(1)), "the hold is gone");
        assert_eq!(slot.cells[0].free(), amount(5));
    }

    #[test]
    fn a_nearly_empty_account_gets_back_at_once_what_a_hold_did_not_use() {
        let mut slot = slot(&[(1, 4)]);
        slot.cells[0].keep = false;
        let held = slot.admit(scope_tag(""), Unit::Credits, amount(4), NOW).unwrap()[0];
        assert!(slot.finish(held, amount(1)));
        assert_eq!(slot.cells[0].returned, amount(3));
        assert!(slot.is_settled());
    }

    #[test]
    fn stale_answers_change_nothing() {
        let mut cell = slot(&[(1, 9)]).cells[0];
        let soft = CellAnswer {
            key: cell.key,
            granted: amount(12),
            acked_admitted: amount(3),
            ttl_ms: 500,
            exposure: amount(9),
            state: CellState::Soft,
            keep: true,
        };
        cell.merge(&soft, Instant::from_secs(5));
        let old =
            CellAnswer { granted: amount(9), acked_admitted: amount(1), state: CellState::Open, ..soft };
        cell.merge(&old, Instant::EPOCH);
        assert_eq!((cell.granted, cell.acked, cell.state), (amount(12), amount(3), CellState::Soft));
        assert_eq!(cell.deadline, Instant::from_secs(1), "a soft cell's deadline is never moved");
    }

    #[test]
    fn the_stored_form_is_exact_and_refuses_what_is_not_ours() {
        let slot = slot(&[(1, 3), (u64::MAX, 4)]);
        let stored = slot.encode();
        assert_eq!(Slot::decode(&stored), Ok(slot));
        assert_eq!(Slot::decode(b""), Err(SlotError::Foreign));
        assert_eq!(Slot::decode(b"\x02not ours"), Err(SlotError::Foreign));
        for cut in 1..stored.len() {
            let cut_short = Slot::decode(&stored[..cut]);
            let whole_cells = cut >= HEAD_BYTES && (cut - HEAD_BYTES).is_multiple_of(CELL_BYTES);
            assert_eq!(cut_short.is_ok(), whole_cells, "{cut}");
        }
        let mut negative = stored.clone();
        negative[HEAD_BYTES + 24 + 7] = 0x80;
        assert_eq!(Slot::decode(&negative), Err(SlotError::Malformed));
    }
}
