//! What can be asked of a book.

use crate::cell::{CellId, Totals};
use crate::grant::{GrantId, Origin, Terms};
use crate::subscription::Standing;
use crate::window::WindowRule;
use units::{Amount, NodeName, Span, Unit};

/// One thing to do to one account. Every command may be repeated: the second time changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Credits or requests arrive, once per origin. Answered by [`crate::Reply::Grant`].
    Grant(Terms),
    /// A grant is taken back, up to a total. Answered by [`crate::Reply::Void`].
    Void(Void),
    /// What was paid for a grant went back, or is disputed, or came again: totals that may rise and fall. Answered by
    /// [`crate::Reply::TakenBack`].
    TakeBack(TakeBack),
    /// Tier, stage and reason change. Answered by [`crate::Reply::Done`].
    SetStanding(Standing),
    /// An operator stops the account. Answered by [`crate::Reply::Done`].
    Suspend,
    /// An operator lets it go on. Answered by [`crate::Reply::Done`].
    Resume,
    /// Who spends from the account has changed: whatever gateways remember of it is void. Answered by
    /// [`crate::Reply::Done`]. Repeated, it makes them ask once more than they had to.
    Announce,
    /// A request waits for a decision. Answered by [`crate::Reply::Need`].
    Need(Need),
    /// A gateway tells totals of one cell, and may ask for more. Answered by [`crate::Reply::Report`].
    Report(Report),
    /// A hold is not wanted any more: nothing was sent upstream. Answered by [`crate::Reply::Abandoned`].
    Abandon(Abandon),
    /// Whatever is due: grants, soft and hard ends of cells. Answered by [`crate::Reply::Expired`].
    Expire(Expire),
}

/// Rows that must be loaded for a command, beyond what [`crate::Book`] asks for in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// None.
    Base,
    /// The grant of this origin, whatever is left of it.
    Origin(Origin),
    /// This grant, whatever is left of it.
    Grant(GrantId),
    /// This cell, closed or not, and its grant.
    Cell(CellId),
    /// All cells of this hold, closed or not, and their grants.
    Hold {
        /// Which Envoy.
        node: NodeName,
        /// Which life of it.
        incarnation: u64,
        /// Which hold.
        generation: u64,
    },
    /// Of every loaded grant, the lease cell of this process with the highest generation below
    /// [`crate::HOLD_GENERATION_MIN`], closed or not.
    Leases {
        /// Which Envoy.
        node: NodeName,
        /// Which life of it.
        incarnation: u64,
    },
}

/// See [`Command::Void`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Void {
    /// Which grant.
    pub target: VoidTarget,
    /// How much of it shall be taken back in all, earlier voids included.
    pub upto: Upto,
    /// What becomes of the part that was already used.
    pub shortfall: Shortfall,
}

/// See [`Command::TakeBack`]. Only for grants that somebody was given: a window is never taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeBack {
    /// Which grant.
    pub target: VoidTarget,
    /// How much of it is revoked for good, in all; not more than the grant's amount ever is.
    pub revoked: Amount,
    /// How much more is held for an open dispute, in all. Only what is unspent can be held: nothing becomes debt.
    pub frozen: Amount,
    /// What becomes of the revoked part that was used already, or will be by requests in flight.
    pub shortfall: Shortfall,
}

/// Which grant to void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoidTarget {
    /// By number.
    Grant(GrantId),
    /// By origin.
    Origin(Origin),
}

/// How much to void in all. A total, so that it may be repeated and told out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upto {
    /// The whole grant.
    All,
    /// This much; not more than the grant's amount is ever taken.
    Total(Amount),
}

/// What becomes of usage that nothing covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shortfall {
    /// The account owes it (credits only: requests of a window are always written off).
    #[default]
    Debt,
    /// The operator bears it; the journal says so.
    WriteOff,
}

/// Who bears what a dead process held when it died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CrashPolicy {
    /// The customer gets it back.
    #[default]
    Refund,
    /// The customer is charged.
    Charge,
}

/// A way to pay for a request: all legs, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// At least one; the first one's unit and need are the price that is told.
    pub legs: Vec<Leg>,
}

/// One thing that a lane takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// In what.
    pub unit: Unit,
    /// From grants of this scope: `""` for general credits, else [`WindowRule::name`].
    pub scope: String,
    /// How much, above zero. What costs nothing is asked for with [`Mode::Identify`].
    pub need: Amount,
    /// With how much it does, from 1 to `need`, where all of `need` cannot be had and nothing is to be waited for: then it takes
    /// what there is. `None` for all or nothing.
    pub least: Option<Amount>,
    /// For leases: of what is free in own leases of this unit and scope, how much is already spoken for by other needs of the
    /// same message. What is spoken for in another kind is no reason to pass this one over.
    pub ahead: Amount,
    /// The rule that fills the scope, if it is one.
    pub window: Option<WindowRule>,
}

/// How long cells live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long the gateway may spend from a cell, counted from when it asked.
    pub ttl: Span,
    /// How much longer the ledger waits before it takes free parts back.
    pub grace: Span,
    /// The longest request: how much longer holds are kept.
    pub tail: Span,
}

/// By how much a gateway's admissions may be ahead of what the ledger acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// By the whole lease.
    Whole,
    /// By this much.
    AtMost(Amount),
    /// By what so many requests hold, each as much as the one that asks.
    Requests(u32),
}

/// What a granted need becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only standing, balance and window; nothing is written.
    Identify,
    /// Exactly the need (or what there is of it: see [`Leg::least`]), admitted at once, in cells of this generation
    /// (at least [`crate::HOLD_GENERATION_MIN`]). Repeating the generation finds the same cells.
    Hold {
        /// Which hold.
        generation: u64,
    },
    /// A lease in the process's open cell of each grant, so large that at least [`Leg::ahead`] and `need` are free in it (or
    /// what there is, at least `ahead + least`: see [`Leg::least`]).
    /// The ledger picks the generation. Reports of the same message must be applied first: what they admitted is
    /// what tells a repeated need from a new one.
    Lease {
        /// Cells of a smaller generation are not used (they were another VM's).
        generation_min: u64,
    },
}

/// See [`Command::Need`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Which Envoy asks.
    pub node: NodeName,
    /// Which life of it.
    pub incarnation: u64,
    /// What for.
    pub mode: Mode,
    /// Ways to pay, in order: the first that covers the need whole is used, else the first that covers its least.
    pub lanes: Vec<Lane>,
    /// Whether it may be told to ask again; if not, the answer is final.
    pub wait: bool,
    /// How many processes spend from this account, at least 1: it bounds the size of a lease.
    pub holders: u32,
    /// How many holds may be unsettled at once, whichever process has them; `None` for any number. Leases are not counted: whoever is
    /// bounded so is asked for with holds.
    pub at_once: Option<u32>,
    /// How long the cells live.
    pub timing: Timing,
    /// For leases; a hold has none.
    pub exposure: Exposure,
}

/// See [`Command::Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which cell.
    pub cell: CellId,
    /// Its totals.
    pub totals: Totals,
    /// The total grant that the gateway would like; for leases. A repeated report may come nearer to it, never past.
    pub target: Amount,
    /// The smallest extension that is worth anything (one request); zero if unknown.
    pub need: Amount,
    /// See [`Need::holders`].
    pub holders: u32,
    /// How long the cell lives from now on.
    pub timing: Timing,
    /// See [`Need::exposure`].
    pub exposure: Exposure,
    /// What becomes of usage that nothing covers.
    pub shortfall: Shortfall,
    /// True if the gateway has no such cell and never will have it again: all that is not held goes back.
    pub gone: bool,
}

/// See [`Command::Abandon`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandon {
    /// Which Envoy.
    pub node: NodeName,
    /// Which life of it.
    pub incarnation: u64,
    /// Which hold; at least [`crate::HOLD_GENERATION_MIN`].
    pub generation: u64,
}

/// See [`Command::Expire`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expire {
    /// Who bears what nobody reported.
    pub crash: CrashPolicy,
    /// What becomes of a void that can no longer be taken from a lease.
    pub shortfall: Shortfall,
}

impl Leg {
    /// Which kind of grant it takes from: unit and scope.
    #[must_use]
    pub fn kind(&self) -> (Unit, &str) {
        (self.unit, &self.scope)
    }
}

impl Command {
    /// Which rows must be loaded for it, if they exist, beyond what [`crate::Book`] asks for in any case.
    #[must_use]
    pub fn rows(&self) -> Rows {
        match self {
            Self::Grant(terms) => Rows::Origin(terms.origin()),
            Self::Void(Void { target, .. }) | Self::TakeBack(TakeBack { target, .. }) => match target {
                VoidTarget::Grant(id) => Rows::Grant(*id),
                VoidTarget::Origin(origin) => Rows::Origin(origin.clone()),
            },
            Self::Need(Need { node, incarnation, mode, .. }) => match mode {
                Mode::Identify => Rows::Base,
                Mode::Hold { generation } => {
                    Rows::Hold { node: node.clone(), incarnation: *incarnation, generation: *generation }
                }
                Mode::Lease { .. } => Rows::Leases { node: node.clone(), incarnation: *incarnation },
            },
            Self::Report(report) => Rows::Cell(report.cell.clone()),
            Self::Abandon(Abandon { node, incarnation, generation }) => {
                Rows::Hold { node: node.clone(), incarnation: *incarnation, generation: *generation }
            }
            Self::SetStanding(_) | Self::Suspend | Self::Resume | Self::Announce | Self::Expire(_) => {
                Rows::Base
            }
        }
    }
}
