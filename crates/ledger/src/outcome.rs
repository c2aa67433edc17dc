//! What comes of a command: a reply, the rows that changed, and what others should hear.

use crate::book::Balance;
use crate::cell::{CellId, CellState};
use crate::grant::{GrantId, Reversed};
use crate::words::words;
use std::collections::BTreeSet;
use units::{AccountId, Amount, Instant, Span, Unit};

/// Everything that came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// To whoever asked.
    pub reply: Reply,
    /// What to write, in one transaction, before the reply is told to anyone.
    pub changes: Changes,
    /// What to tell others once it is written.
    pub effects: Vec<Effect>,
}

/// Which rows changed; they are written whole, as the book now has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The account row.
    pub account: bool,
    /// Grants, new or changed.
    pub grants: BTreeSet<GrantId>,
    /// Cells, new or changed.
    pub cells: BTreeSet<CellId>,
    /// To be appended, in this order.
    pub journal: Vec<JournalEntry>,
}

/// One line of an account's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// When.
    pub at: Instant,
    /// Whose.
    pub account: AccountId,
    /// On which grant, where it is about one.
    pub grant: Option<GrantId>,
    /// On which cell, where it is about one.
    pub cell: Option<CellId>,
    /// What happened.
    pub kind: JournalKind,
    /// How much, in the grant's unit; micro-credits where there is no grant.
    pub amount: Amount,
}

words! {
    /// What can happen to credits.
    pub enum JournalKind {
        /// Arrived: `amount` grew.
        Granted = "granted",
        /// Of what arrived, this much repaid debt: `avail → used`, debt fell.
        Repaid = "repaid",
        /// `avail → leased`, for a hold or a lease.
        Leased = "leased",
        /// `leased → used`: charged.
        Used = "used",
        /// `leased → avail`: came back unspent.
        Returned = "returned",
        /// `avail or leased → expired`: not spent in time.
        Expired = "expired",
        /// `avail or leased → voided`: taken back.
        Voided = "voided",
        /// To be taken back from what is leased.
        VoidClaimed = "void_claimed",
        /// Taken back after it had been used.
        Clawed = "clawed",
        /// A dead process's rest went back, by the crash policy: `leased → avail` (or expired, voided: see those).
        CrashRefunded = "crash_refunded",
        /// A dead process's rest was charged, by the crash policy: `leased → used`.
        CrashCharged = "crash_charged",
        /// Usage that its own cell could not pay for, paid by this grant: `avail → used`.
        LateCovered = "late_covered",
        /// Usage beyond what was held, paid by this grant: `avail → used`.
        ShortCovered = "short_covered",
        /// Debt grew.
        DebtUp = "debt_up",
        /// Debt fell without being repaid: what had been taken back of a grant is the customer's again.
        DebtDown = "debt_down",
        /// `voided → avail`: what had been taken back is the customer's again (or expired: see that).
        Restored = "restored",
        /// `used → avail`: it had been taken back and repaid, and is the customer's again, who paid for it twice.
        Recovered = "recovered",
        /// Not to be taken back any more from what is leased.
        VoidReleased = "void_released",
        /// Not taken back any more after it had been used.
        Unclawed = "unclawed",
        /// Of what was voided or is claimed, this much is only held, for an open dispute.
        Frozen = "frozen",
        /// Not held any more: given back, revoked, or used by a request that was in flight.
        Unfrozen = "unfrozen",
        /// Usage that nothing covered and nobody owes.
        WrittenOff = "written_off",
        /// An operator stopped the account.
        Suspended = "suspended",
        /// An operator let it go on.
        Resumed = "resumed",
        /// Tier or stage changed.
        StandingChanged = "standing_changed",
    }
}

/// Something to do after the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell every gateway.
    Note {
        /// Whose credits it is about.
        payer: AccountId,
        /// What a gateway remembers from an earlier epoch is void.
        epoch: u64,
        /// What happened.
        kind: NoteKind,
    },
}

words! {
    /// What gateways are told of an account.
    pub enum NoteKind {
        /// Its tier, stage or grants changed.
        Changed = "changed",
        /// Give back what is free: others need it.
        Recall = "recall",
        /// Credits arrived, or it may spend again: forget refusals.
        Replenished = "replenished",
        /// It may not spend any more.
        Suspended = "suspended",
    }
}

words! {
    /// Why a need was refused, in order of precedence.
    pub enum Refusal {
        /// An operator stopped the account.
        Suspended = "suspended",
        /// A trial ended without a way to pay, or collection is paused and the catalog denies that.
        Paused = "paused",
        /// The first payment has not succeeded.
        Incomplete = "incomplete",
        /// The trial is over.
        TrialExpired = "trial_expired",
        /// The grace after a failed renewal is over.
        PastDueGraceOver = "past_due_grace_over",
        /// Retries of a failed payment are exhausted.
        Unpaid = "unpaid",
        /// The subscription was canceled.
        Canceled = "canceled",
        /// The subscription ended.
        Expired = "expired",
        /// There is no subscription and no default tier.
        NoSubscription = "no_subscription",
        /// As many requests are under way as may be at once.
        ConcurrencyLimitReached = "concurrency_limit_reached",
        /// Credits would cover it, but they are held for a disputed payment.
        DisputedHold = "disputed_hold",
        /// The allowance of a window is spent, and there never were credits.
        DailyLimitReached = "daily_limit_reached",
        /// Not enough credits.
        InsufficientCredits = "insufficient_credits",
    }
}

/// The reply to each kind of command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To `SetStanding`, `Suspend`, `Resume`, `Announce`: it is so now. `Changes` says whether it already was.
    Done,
    /// To `Grant`.
    Grant(GrantAnswer),
    /// To `Void`.
    Void(VoidAnswer),
    /// To `TakeBack`.
    TakenBack(TakenBack),
    /// To `Need`.
    Need(Box<NeedAnswer>),
    /// To `Report`.
    Report(Box<ReportAnswer>),
    /// To `Abandon`: how much went back in all; nothing if the hold is unknown or already over.
    Abandoned {
        /// How much went back.
        returned: Amount,
    },
    /// To `Expire`.
    Expired(ExpireAnswer),
}

/// What became of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantAnswer {
    /// It was made now.
    Made {
        /// Its number.
        id: GrantId,
        /// How much of it repaid debt.
        repaid: Amount,
    },
    /// The same terms were granted before; nothing changed.
    Known {
        /// Its number.
        id: GrantId,
    },
    /// Its origin was granted before on other terms; nothing changed. To be looked into.
    Conflict {
        /// The number of what is there.
        id: GrantId,
    },
    /// It is of nothing, ends before it begins, or the account would hold more than an amount can say; nothing changed.
    Refused {
        /// What is wrong.
        why: &'static str,
    },
}

/// What became of a void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoidAnswer {
    /// Nothing of that name was granted; nothing changed.
    Unknown,
    /// The parts of this command; all zero if it was carried out before.
    Done {
        /// Which grant.
        id: GrantId,
        /// Taken back now.
        voided: Amount,
        /// To be taken back from leases as they return.
        claimed: Amount,
        /// Was used already: now debt, or written off.
        clawed: Amount,
    },
}

/// What became of a reversal: where the grant stands after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenBack {
    /// Nothing of that name was granted, or it is a window; nothing changed.
    Unknown,
    /// It is so now.
    Done {
        /// Which grant.
        id: GrantId,
        /// As it is now.
        reversed: Reversed,
        /// False if it was so before.
        changed: bool,
    },
}

/// The decision on a need, and where the account stands after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedAnswer {
    /// The decision.
    pub decision: Decision,
    /// After the decision.
    pub balance: Balance,
    /// The first window among the lanes, after the decision.
    pub window: Option<WindowStatus>,
    /// See [`crate::Account::epoch`].
    pub epoch: u64,
}

/// What was decided about a need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To [`crate::Mode::Identify`] of an account that may spend.
    Identified,
    /// It may pass.
    Granted(Granted),
    /// This hold was granted before and is not open any more: nothing may be sent on it. Only a very late repetition
    /// sees this; it is answered as a fault, never as a grant.
    Over,
    /// Not now: what others hold in flight may come back. Ask again with the same generation.
    Retry,
    /// It may not pass.
    Refused(Refused),
}

/// See [`Decision::Granted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Which of the need's lanes pays, from 0; `None` for a repeated hold that an earlier call granted.
    pub lane: Option<usize>,
    /// The unit of the lane's first leg.
    pub unit: Unit,
    /// What is held for the lane's first leg: its need, or what there was of it (see [`crate::Leg::least`]).
    pub hold: Amount,
    /// Where it is held, in the order of spending.
    pub cells: Vec<CellGrant>,
}

/// A cell as it is given to a need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellGrant {
    /// Which cell.
    pub id: CellId,
    /// In what it counts.
    pub unit: Unit,
    /// All that was ever granted to it.
    pub granted: Amount,
    /// How much of it is admitted for this need: all of a hold, nothing of a lease.
    pub held: Amount,
    /// How long it may be spent from, counted from when the gateway asked.
    pub ttl: Span,
    /// See [`crate::Cell::exposure`].
    pub exposure: Amount,
    /// False if whatever is or becomes free in it is wanted back at once.
    pub keep: bool,
}

/// See [`Decision::Refused`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// What it would have cost in micro-credits at least: the first leg in general credits among the lanes.
    pub required: Option<Amount>,
}

/// Where a window stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowStatus {
    /// Its name in the catalog.
    pub name: String,
    /// How much it allows.
    pub limit: Amount,
    /// How much is left, free parts of open leases included.
    pub remaining: Amount,
    /// When it refills.
    pub resets_at: Instant,
}

/// The ledger's totals of a reported cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportAnswer {
    /// What the gateway is told.
    pub cell: CellAnswer,
    /// Set if the report was not believed; nothing changed. To be counted and looked into.
    pub refused: Option<ReportRefused>,
    /// Set if usage was covered from elsewhere than its own cell.
    pub late: Option<Late>,
}

/// See [`ReportAnswer::cell`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellAnswer {
    /// Which cell.
    pub id: CellId,
    /// All that was ever granted to it.
    pub granted: Amount,
    /// How much of `admitted` is known.
    pub acked_admitted: Amount,
    /// How long it may be spent from, counted from when the gateway sent the report; zero adds nothing.
    pub ttl: Span,
    /// See [`crate::Cell::exposure`].
    pub exposure: Amount,
    /// Whether it may be spent from at all.
    pub state: CellState,
    /// See [`CellGrant::keep`].
    pub keep: bool,
}

words! {
    /// Why a report was not believed.
    pub enum ReportRefused {
        /// No such cell was ever granted to that process.
        UnknownCell = "unknown_cell",
        /// More holds ended than began.
        FinishedBeyondAdmitted = "finished_beyond_admitted",
        /// More was used than was held by the requests that ended.
        UsedBeyondFinished = "used_beyond_finished",
        /// Used, returned and held make more than was granted.
        BeyondGranted = "beyond_granted",
    }
}

/// Usage that its own cell could not pay for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// Paid from what was available.
    pub covered: Amount,
    /// Now debt.
    pub owed: Amount,
    /// Borne by the operator.
    pub written_off: Amount,
}

/// What an expiry did, for metrics and the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireAnswer {
    /// Cells that went soft.
    pub soft: u32,
    /// Cells that were closed with nothing left to settle.
    pub closed_clean: u32,
    /// Cells that were closed with something left: their process never said what became of it.
    pub closed_dirty: u32,
    /// Of what was left, the part that went back, in whatever unit.
    pub refunded: Amount,
    /// Of what was left, the part that was charged, in whatever unit.
    pub charged: Amount,
    /// When something of this book is due next.
    pub next: Option<Instant>,
}

impl Changes {
    /// True if there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.account && self.grants.is_empty() && self.cells.is_empty() && self.journal.is_empty()
    }

    /// Adds what a later command on the same book changed.
    pub fn merge(&mut self, later: Changes) {
        self.account |= later.account;
        self.grants.extend(later.grants);
        self.cells.extend(later.cells);
        self.journal.extend(later.journal);
    }
}
