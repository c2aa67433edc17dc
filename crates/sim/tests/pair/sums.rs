//! A book in sums, and what must never fall from one book to the next.

use crate::house::{PerGrant, byte, node_of, tock};
use ledger::Book;

/// A book in sums.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) amount: PerGrant,
    pub(crate) avail: PerGrant,
    pub(crate) leased: PerGrant,
    pub(crate) expired: PerGrant,
    /// When each ends.
    pub(crate) ends: PerGrant,
    /// By gateway: granted and not given back; charged, wherever it was taken from.
    pub(crate) reserved: [PerGrant; 2],
    pub(crate) billed: [PerGrant; 2],
    /// Charged or owed by anybody.
    pub(crate) paid: u8,
    pub(crate) debt: u8,
}

pub(crate) fn sums(book: &Book) -> Sums {
    let debt = byte(book.account.debt);
    let mut sums = Sums { paid: debt, debt, ..Sums::default() };
    for (id, grant) in &book.grants {
        let at = id.0 as usize - 1;
        (sums.amount[at], sums.avail[at]) = (byte(grant.terms.amount), byte(grant.avail));
        (sums.leased[at], sums.expired[at]) = (byte(grant.leased), byte(grant.expired));
        sums.ends[at] = tock(grant.terms.expires_at);
        sums.paid += byte(grant.used);
    }
    for (id, cell) in &book.cells {
        let (at, node) = (id.grant.0 as usize - 1, node_of(id));
        sums.reserved[node][at] += byte(cell.granted) - byte(cell.returned);
        sums.billed[node][at] += byte(cell.used) + byte(cell.late);
    }
    sums
}

/// I5: a cell's totals only grow, and it only goes forward in its life.
pub(crate) fn only_grew(before: &Book, after: &Book) -> Result<(), String> {
    for (id, was) in &before.cells {
        let is = &after.cells[id];
        let grew = [
            (was.granted, is.granted),
            (was.returned, is.returned),
            (was.admitted, is.admitted),
            (was.finished, is.finished),
            (was.used, is.used),
            (was.late, is.late),
        ];
        if grew.iter().any(|(was, is)| is < was) || is.state < was.state {
            return Err(format!("I5: {id:?} went back: {was:?} {is:?}"));
        }
    }
    Ok(())
}
