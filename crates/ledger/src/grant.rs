//! A grant: terms that never change, and counters that always add up to its amount.

use crate::command::Shortfall;
use crate::words::words;
use units::{Amount, Instant, Unit};

/// The ledger's number of a grant, unique over all accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId(pub u64);

words! {
    /// Where a grant came from.
    pub enum Source {
        /// A free allowance that refills: one grant for each window.
        Window = "window",
        /// The allowance of a paid period.
        Subscription = "subscription",
        /// Bought; it repays debt first.
        Purchase = "purchase",
        /// Given by the operator as a gift.
        Promo = "promo",
        /// Given by the operator as a correction; it repays debt first.
        Adjust = "adjust",
    }
}

/// What a grant is about; fixed when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What it counts.
    pub unit: Unit,
    /// What it may be spent on: `""` for general credits, else the name of a window rule.
    pub scope: String,
    /// Where it came from.
    pub source: Source,
    /// Names its origin, unique per (account, unit, source): an invoice line, a payment intent, `rule#2026-11-20`.
    pub source_ref: String,
    /// Lower is spent first.
    pub priority: i64,
    /// Not usable before.
    pub starts_at: Instant,
    /// Not usable at this instant or after; [`Instant::FAR`] for what does not expire.
    pub expires_at: Instant,
    /// How much.
    pub amount: Amount,
}

/// What a grant is unique by, within its account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// What it counts.
    pub unit: Unit,
    /// Where it came from.
    pub source: Source,
    /// See [`Terms::source_ref`].
    pub source_ref: String,
}

/// One grant of one account.
///
/// `terms.amount = avail + leased + used + expired + voided`, always. (A window whose rule was raised within the
/// window grows in `terms.amount`; nothing else changes the terms.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What it is about.
    pub terms: Terms,
    /// May be leased or held.
    pub avail: Amount,
    /// In cells that are not closed.
    pub leased: Amount,
    /// Charged, or spent on repaying debt.
    pub used: Amount,
    /// Not spent in time.
    pub expired: Amount,
    /// Taken back.
    pub voided: Amount,
    /// To be taken back from what is leased, as it returns. Part of `leased`.
    pub void_claim: Amount,
    /// Taken back after it had been used: it became debt, or was written off. Outside the sum above; it exists so
    /// that a void can state a total and be repeated.
    pub clawed: Amount,
    /// What a reversal undid of it (see [`crate::Command::TakeBack`]).
    pub reversed: Reversed,
    /// Grows by one with every command that changed the row; 1 when it is new.
    pub ver: u64,
}

/// What a reversal of its payment undid of a grant: refunds, disputes. Unlike a void it may fall again.
///
/// `aside ≤ voided + void_claim`, `owed ≤ reclaimed` and `clawed + reclaimed ≤ used` of the grant, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reversed {
    /// How much of the grant is revoked for good, as it was last told: the customer may use the rest and no more.
    pub revoked: Amount,
    /// Of what is voided or claimed, the part that is so by a reversal: revoked, or beyond that frozen.
    pub aside: Amount,
    /// Used beyond what was left after the revocation: it became debt, or was written off.
    pub reclaimed: Amount,
    /// Of what was reclaimed, the part that became debt, whether that was repaid since or not.
    pub owed: Amount,
    /// What becomes of usage beyond what is left.
    pub shortfall: Shortfall,
}

impl Reversed {
    /// Held for an open dispute: not spendable, and given back or revoked when the dispute ends.
    #[must_use]
    pub fn frozen(&self) -> Amount {
        self.aside.saturating_sub(self.revoked)
    }
}

impl Terms {
    /// What the grant is unique by.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin { unit: self.unit, source: self.source, source_ref: self.source_ref.clone() }
    }

    /// True for credits that may be spent on anything; debt is in these.
    #[must_use]
    pub fn is_general(&self) -> bool {
        self.unit == Unit::Credits && self.scope.is_empty()
    }
}

impl Grant {
    /// True while credits of it may be leased or held.
    #[must_use]
    pub fn is_live(&self, now: Instant) -> bool {
        self.terms.starts_at <= now && now < self.terms.expires_at
    }
}
