//! A book, a clock and the shortest words for commands, shared by the tests of this crate.
#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(unreachable_pub, reason = "a module of every test, a crate of none")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects)]

pub mod acts;

use ledger::subscription::{Stage, Standing};
use ledger::*;
use units::{AccountId, Amount, Instant, NodeName, Span, TierId, Unit};

/// 2026-11-20T12:00:00Z, in seconds.
pub const NOON: i64 = 1_795_176_000;
/// The first need of worker 1.
pub const H: u64 = 1 << 40;

pub struct Desk {
    pub book: Book,
    pub ids: Ids,
    pub now: Instant,
}

pub fn amount(n: i64) -> Amount {
    Amount::new(n).unwrap()
}

pub fn node(n: u8) -> NodeName {
    NodeName::new(format!("node-{n}")).unwrap()
}

pub fn standing(tier: &str) -> Standing {
    let tier = Some(TierId::new(tier).unwrap());
    let (stage, why) = (Stage::Active, None);
    Standing { tier, stage, why, current_period_end: None, cancel_at: None, changes_at: None }
}

pub const TIMING: Timing =
    Timing { ttl: Span::from_secs(30), grace: Span::from_millis(200), tail: Span::from_secs(30) };

pub fn terms(source: Source, origin: &str, n: i64) -> Terms {
    Terms {
        unit: Unit::Credits,
        scope: String::new(),
        source,
        source_ref: origin.to_owned(),
        priority: 10,
        starts_at: Instant::EPOCH,
        expires_at: Instant::FAR,
        amount: amount(n),
    }
}

pub fn credits(n: i64) -> Lane {
    credits_or(n, None)
}

/// So many, or what there is, if that is at least so much.
pub fn at_least(n: i64, least: i64) -> Lane {
    credits_or(n, Some(amount(least)))
}

fn credits_or(n: i64, least: Option<Amount>) -> Lane {
    Lane {
        legs: vec![Leg {
            unit: Unit::Credits,
            scope: String::new(),
            need: amount(n),
            least,
            ahead: Amount::ZERO,
            window: None,
        }],
    }
}

/// Of what is free in own leases, so much is spoken for by other needs, in each kind.
#[allow(dead_code)]
pub fn spoken(ahead: Amount, mut lanes: Vec<Lane>) -> Vec<Lane> {
    lanes.iter_mut().flat_map(|lane| &mut lane.legs).for_each(|leg| leg.ahead = ahead);
    lanes
}

/// Three a day or so; which day it is, the desk says when it is asked.
pub fn window(limit: i64) -> Lane {
    let rule = WindowRule::utc_day("free", amount(limit), 0, Instant::EPOCH);
    let (scope, need) = (rule.name.clone(), Amount::ONE);
    Lane {
        legs: vec![Leg {
            unit: Unit::Requests,
            scope,
            need,
            least: None,
            ahead: Amount::ZERO,
            window: Some(rule),
        }],
    }
}

/// The same command with the windows of `now` in it.
fn dated(command: &Command, now: Instant) -> Command {
    let mut command = command.clone();
    if let Command::Need(need) = &mut command {
        let legs = need.lanes.iter_mut().flat_map(|lane| &mut lane.legs);
        for rule in legs.filter_map(|leg| leg.window.as_mut()).filter(|rule| rule.starts_at == Instant::EPOCH)
        {
            *rule = WindowRule::utc_day(&rule.name, rule.limit, rule.priority, now);
        }
    }
    command
}

impl Desk {
    pub fn new() -> Self {
        let book = Book::open(AccountId::new("alice").unwrap(), standing("free"));
        Self { book, ids: Ids::from(1), now: Instant::from_secs(NOON) }
    }

    /// A desk with a purchase of `n`.
    pub fn with(n: i64) -> Self {
        let mut desk = Self::new();
        desk.grant(terms(Source::Purchase, "buy:1", n));
        desk
    }

    pub fn after(&mut self, millis: u64) -> &mut Self {
        self.now = self.now.plus(Span::from_millis(millis));
        self
    }

    pub fn act(&mut self, command: &Command) -> Outcome {
        let command = dated(command, self.now.max(self.book.seen));
        step(&mut self.book, &mut self.ids, self.now, &command).unwrap()
    }

    pub fn grant(&mut self, terms: Terms) -> GrantAnswer {
        match self.act(&Command::Grant(terms)).reply {
            Reply::Grant(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub fn need(&mut self, need: Need) -> NeedAnswer {
        match self.act(&Command::Need(need)).reply {
            Reply::Need(answer) => *answer,
            other => panic!("{other:?}"),
        }
    }

    pub fn hold(&mut self, generation: u64, lanes: Vec<Lane>) -> NeedAnswer {
        self.need(need(Mode::Hold { generation }, lanes, false))
    }

    pub fn held(&mut self, generation: u64, lanes: Vec<Lane>) -> Granted {
        match self.hold(generation, lanes).decision {
            Decision::Granted(granted) => granted,
            other => panic!("{other:?}"),
        }
    }

    pub fn refused(&mut self, generation: u64, lanes: Vec<Lane>) -> Refusal {
        match self.hold(generation, lanes).decision {
            Decision::Refused(refused) => refused.refusal,
            other => panic!("{other:?}"),
        }
    }

    /// Reports a hold's request as ended, `used` of the cell being used.
    pub fn finish(&mut self, id: &CellId, used: i64) -> ReportAnswer {
        let granted = self.book.cells[id].granted;
        let used = amount(used);
        let returned = granted.saturating_sub(used);
        let totals = Totals { admitted: granted, finished: granted, used, returned, short: Amount::ZERO };
        self.report(report(id, totals))
    }

    pub fn report(&mut self, report: Report) -> ReportAnswer {
        match self.act(&Command::Report(report)).reply {
            Reply::Report(answer) => *answer,
            other => panic!("{other:?}"),
        }
    }

    pub fn abandon(&mut self, generation: u64) -> i64 {
        let command = Command::Abandon(Abandon { node: node(1), incarnation: 1, generation });
        match self.act(&command).reply {
            Reply::Abandoned { returned } => returned.get(),
            other => panic!("{other:?}"),
        }
    }

    pub fn expire(&mut self, crash: CrashPolicy) -> ExpireAnswer {
        match self.act(&Command::Expire(Expire { crash, shortfall: Shortfall::Debt })).reply {
            Reply::Expired(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub fn void(&mut self, origin: &str, upto: Upto) -> VoidAnswer {
        let origin = Origin { unit: Unit::Credits, source: Source::Purchase, source_ref: origin.to_owned() };
        let target = VoidTarget::Origin(origin);
        match self.act(&Command::Void(Void { target, upto, shortfall: Shortfall::Debt })).reply {
            Reply::Void(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub fn shown(&self) -> i64 {
        self.book.balance(self.now).unwrap().shown()
    }

    pub fn debt(&self) -> i64 {
        self.book.account.debt.get()
    }

    pub fn state(&self, id: &CellId) -> CellState {
        self.book.cells[id].state
    }
}

pub fn need(mode: Mode, lanes: Vec<Lane>, wait: bool) -> Need {
    Need {
        node: node(1),
        incarnation: 1,
        mode,
        lanes,
        wait,
        holders: 1,
        at_once: None,
        timing: TIMING,
        exposure: Exposure::Whole,
    }
}

pub fn totals(admitted: i64, finished: i64, used: i64, returned: i64) -> Totals {
    Totals {
        admitted: amount(admitted),
        finished: amount(finished),
        used: amount(used),
        returned: amount(returned),
        short: Amount::ZERO,
    }
}

pub fn report(id: &CellId, totals: Totals) -> Report {
    Report {
        cell: id.clone(),
        totals,
        target: Amount::ZERO,
        need: Amount::ZERO,
        holders: 1,
        timing: TIMING,
        exposure: Exposure::Whole,
        shortfall: Shortfall::Debt,
        gone: false,
    }
}

/// The book without row numbers: what a repeated command must not change.
pub fn bare(book: &Book) -> Book {
    let mut bare = book.clone();
    bare.account.ver = 0;
    bare.grants.values_mut().for_each(|grant| grant.ver = 0);
    bare.cells.values_mut().for_each(|cell| cell.ver = 0);
    bare
}
