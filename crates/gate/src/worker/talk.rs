//! What an exchange and its worker's machine say to each other.

use crate::text::Text;
use contract::v1::{
    Basis, Claim, ClaimAnswer, Complete, NeedMode, NeedShape, Outcome, Price, PriceList, Refusal, Repeat,
    Standing, Tokens,
};
use core::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use units::{Amount, EndpointId, Instant, RequestId, Span, Subject, Unit};

/// What an exchange asks, once, while its request is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// May this request pass?
    Need {
        /// Who is asking.
        subject: Subject,
        /// For what.
        endpoint: EndpointId,
        /// Whether something is to be held.
        mode: NeedMode,
        /// How large the request can be.
        shape: NeedShape,
        /// How many such requests may pass unpaid in one outage of billing.
        allow: u32,
        /// Set if the client may repeat it; it must be asked for with a hold then.
        repeat: Option<Box<Repeat>>,
    },
    /// May this event be forwarded? The same claim may be sent several times.
    Claim(Claim),
}

/// What the machine answers, once, unless the question was withdrawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The request may pass.
    Ok(Box<Pass>),
    /// It may not.
    Refused(Box<Refusal>),
    /// What billing says to the claim. `Fresh` must be followed by one [`Report::Completed`].
    Claimed(ClaimAnswer),
    /// Nobody could decide in time.
    Unavailable(Fault),
}

/// Leave to pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// What to call the hold in [`Report::Ended`], exactly one of which must follow; `None` if nothing is held.
    pub hold: Option<u64>,
    /// Who it is, and what it costs. `None` if nobody could say, because billing is away: the request passes within
    /// the route's allowance, its price is not known, and it is charged when billing is back.
    pub decided: Option<Rc<Decided>>,
    /// What is held, in the unit of the price.
    pub held: Amount,
    /// What was charged before for the same request: it is taken off what this one costs.
    pub paid: Amount,
    /// The balance when this request is held: below that of `decided`, if others have passed on it before.
    pub balance_micro: i64,
    /// What is left of the window, likewise.
    pub remaining: u64,
}

/// What billing said about a customer and an endpoint. Any number of requests may pass on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Who it is, and where they stand.
    pub standing: Standing,
    /// What the request costs at most that it was decided about, and each like it.
    pub price: Price,
    /// The endpoint's prices, where what a request costs depends on what it uses; unless a window pays for it.
    list: Option<Rc<PriceList>>,
    /// The same, whoever pays: it says how long answers of a model may be.
    bounds: Option<Rc<PriceList>>,
    /// What the exchanges make of it, once for all of them.
    pub(crate) told: OnceCell<Option<Told>>,
}

/// How a decision is told to the upstream and to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Headers for the upstream.
    pub(crate) upstream: Rc<[(Text, Text)]>,
    /// The hold in credits.
    pub(crate) hold: Arc<str>,
    /// The window's name and its quota, as the client is told of them.
    pub(crate) window: Option<(Arc<str>, Arc<str>)>,
}

impl Decided {
    /// As billing said it. What a window pays for costs one of its requests, whatever a list says.
    #[must_use]
    pub fn new(standing: Standing, price: Price, list: Option<Rc<PriceList>>) -> Self {
        let bounds = list.clone();
        let list = list.filter(|_| price.unit == Unit::Credits);
        Self { standing, price, list, bounds, told: OnceCell::new() }
    }

    /// What the endpoint's price list says of its models, whoever pays.
    #[must_use]
    pub fn bounds(&self) -> Option<&PriceList> {
        self.bounds.as_deref()
    }

    /// The prices by which it is charged, if that depends on what it uses.
    #[must_use]
    pub fn list(&self) -> Option<&PriceList> {
        self.list.as_deref()
    }

    /// What a request of this shape holds; `None` if billing has to say.
    #[must_use]
    pub fn hold(&self, shape: &NeedShape) -> Option<Amount> {
        match (self.list(), shape) {
            (None, _) => Some(self.price.hold),
            (Some(list), NeedShape::Fixed) => Some(list.hold),
            (Some(list), NeedShape::Tokens(shape)) => list.hold(shape).ok(),
        }
    }
}

impl Pass {
    /// Leave for a first request: what is shown is what was decided.
    #[must_use]
    pub fn new(hold: Option<u64>, decided: Rc<Decided>) -> Self {
        let Standing { balance_micro, window, .. } = &decided.standing;
        let (balance_micro, remaining) =
            (*balance_micro, window.as_ref().map_or(0, |window| window.remaining));
        let held = decided.price.hold;
        Self { hold, decided: Some(decided), held, paid: Amount::ZERO, balance_micro, remaining }
    }

    /// Leave that nobody decided about.
    #[must_use]
    pub fn unpaid(hold: u64) -> Self {
        let (decided, held, paid) = (None, Amount::ZERO, Amount::ZERO);
        Self { hold: Some(hold), decided, held, paid, balance_micro: 0, remaining: 0 }
    }
}

/// What an exchange tells when it is over; carried to billing until acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A request that held something ended.
    Ended(Ended),
    /// A claimed event was handled, or not.
    Completed {
        /// What to tell billing.
        complete: Complete,
        /// The claim's `ttl_ms`: after that, telling of a failure is of no use.
        ttl: Span,
    },
}

/// How a request ended that held something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// From [`Pass::hold`].
    pub hold: u64,
    /// What of its hold it really cost; what is above the hold is cut off and counted as a bug.
    pub charged: Amount,
    /// What it cost beyond its hold, where that was an estimate.
    pub beyond: Amount,
    /// How it ended.
    pub outcome: Outcome,
    /// What was used, as far as that is known.
    pub tokens: Option<Tokens>,
    /// By what it was charged, where the price depends on what was used.
    pub basis: Option<Basis>,
    /// What it turned out to be, for billing to price it afterwards; only of a request that nobody decided about.
    pub shape: NeedShape,
    /// The request as the client knows it.
    pub request_id: RequestId,
    /// The time of day.
    pub at: Instant,
}

impl Ended {
    /// The end of a request whose price does not depend on what it used.
    #[must_use]
    pub fn fixed(hold: u64, charged: Amount, outcome: Outcome, request_id: RequestId, at: Instant) -> Self {
        let (beyond, tokens, basis, shape) = (Amount::ZERO, None, None, NeedShape::Fixed);
        Self { hold, charged, beyond, outcome, tokens, basis, shape, request_id, at }
    }
}

/// How the world can fail on the way to billing and back. Each has a row in `docs/failure.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Too many requests wait, or too many reports are not acknowledged yet.
    Backlog,
    /// The call could not even begin: no such cluster, no healthy host, too many pending.
    NotSent,
    /// The connection broke off, or the answer was beyond Envoy's own bound.
    Reset,
    /// Envoy answered in billing's place: refused connection, timeout.
    Unreachable,
    /// Billing does not accept the gateway's token.
    Unauthorized,
    /// Billing answered with another 4xx.
    Rejected,
    /// Billing answered 5xx or 429, or anything else that is neither 200 nor 4xx.
    Failing,
    /// The answer is larger than any answer can be.
    TooLarge,
    /// The answer is not the JSON that the contract says.
    Garbage,
    /// The answer is to another call.
    Mismatch,
    /// The answer grants something else than what was asked.
    Nonsense,
    /// The answer leaves this question out.
    Unanswered,
    /// No answer came in time.
    Late,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 13] = [
        Self::Backlog,
        Self::NotSent,
        Self::Reset,
        Self::Unreachable,
        Self::Unauthorized,
        Self::Rejected,
        Self::Failing,
        Self::TooLarge,
        Self::Garbage,
        Self::Mismatch,
        Self::Nonsense,
        Self::Unanswered,
        Self::Late,
    ];

    /// As it is written in metric labels and the access log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Backlog => "backlog",
            Self::NotSent => "not_sent",
            Self::Reset => "reset",
            Self::Unreachable => "unreachable",
            Self::Unauthorized => "unauthorized",
            Self::Rejected => "rejected",
            Self::Failing => "failing",
            Self::TooLarge => "too_large",
            Self::Garbage => "garbage",
            Self::Mismatch => "mismatch",
            Self::Nonsense => "nonsense",
            Self::Unanswered => "unanswered",
            Self::Late => "late",
        }
    }
}
