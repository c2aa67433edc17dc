//! Books of its own, from nothing but the journal.

use ledger::{Book, GrantId, JournalEntry, JournalKind};
use std::collections::BTreeMap;

/// The parts of a grant, in its smallest unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    amount: i64,
    avail: i64,
    leased: i64,
    used: i64,
    expired: i64,
    voided: i64,
    clawed: i64,
}

/// Of every grant, and the debt.
pub(crate) type Books = (BTreeMap<GrantId, Parts>, i64);

/// Every grant's parts as the journal tells them, newest first.
pub(crate) fn rebuild(newest_first: impl DoubleEndedIterator<Item = JournalEntry>) -> Books {
    let (mut grants, mut debt) = (BTreeMap::<GrantId, Parts>::new(), 0);
    for JournalEntry { grant, cell, kind, amount, .. } in newest_first.rev() {
        let amount = amount.get();
        match kind {
            JournalKind::DebtUp => debt += amount,
            JournalKind::Repaid | JournalKind::DebtDown => debt -= amount,
            _ => {}
        }
        let Some(grant) = grant else { continue };
        let parts = grants.entry(grant).or_default();
        // What ends or is taken back was in a cell if the line names one.
        let from = if cell.is_some() { &mut parts.leased } else { &mut parts.avail };
        match kind {
            JournalKind::Granted => {
                (parts.amount, parts.avail) = (parts.amount + amount, parts.avail + amount)
            }
            JournalKind::Repaid | JournalKind::LateCovered | JournalKind::ShortCovered => {
                (parts.avail, parts.used) = (parts.avail - amount, parts.used + amount);
            }
            JournalKind::Leased => {
                (parts.avail, parts.leased) = (parts.avail - amount, parts.leased + amount)
            }
            JournalKind::Used | JournalKind::CrashCharged => {
                (parts.leased, parts.used) = (parts.leased - amount, parts.used + amount);
            }
            JournalKind::Returned | JournalKind::CrashRefunded => {
                (parts.leased, parts.avail) = (parts.leased - amount, parts.avail + amount);
            }
            JournalKind::Expired => {
                *from -= amount;
                parts.expired += amount;
            }
            JournalKind::Voided => {
                *from -= amount;
                parts.voided += amount;
            }
            JournalKind::Restored => {
                (parts.voided, parts.avail) = (parts.voided - amount, parts.avail + amount);
            }
            JournalKind::Recovered => {
                (parts.used, parts.avail) = (parts.used - amount, parts.avail + amount);
            }
            JournalKind::Clawed => parts.clawed += amount,
            JournalKind::Unclawed => parts.clawed -= amount,
            _ => {}
        }
    }
    (grants, debt)
}

/// The same as the book has them.
pub(crate) fn kept(book: &Book) -> Books {
    let parts = |grant: &ledger::Grant| Parts {
        amount: grant.terms.amount.get(),
        avail: grant.avail.get(),
        leased: grant.leased.get(),
        used: grant.used.get(),
        expired: grant.expired.get(),
        voided: grant.voided.get(),
        clawed: grant.clawed.get() + grant.reversed.reclaimed.get(),
    };
    (book.grants.iter().map(|(id, grant)| (*id, parts(grant))).collect(), book.account.debt.get())
}
