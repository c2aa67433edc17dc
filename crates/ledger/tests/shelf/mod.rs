//! One account with its subscriptions and what was paid for them, kept as a service keeps it.
#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(unreachable_pub, reason = "a module of every test, a crate of none")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_wrap, clippy::cast_lossless)]
#![allow(clippy::arithmetic_side_effects)]

use ledger::subscription::*;
use ledger::*;
use std::collections::BTreeMap;
use units::{AccountId, Amount, Instant, Span, TierId};

pub const DAY: i64 = 86_400;
/// 2026-01-15T00:00:00Z.
pub const START: i64 = 1_768_435_200;
pub const END: i64 = START + 30 * DAY;
pub const MID: i64 = START + 15 * DAY;
/// One credit.
pub const ONE: i64 = 1_000_000;

pub fn secs(at: i64) -> Instant {
    Instant::from_secs(at)
}

pub fn day(text: &str) -> Instant {
    Instant::from_rfc3339(&format!("{text}T00:00:00Z")).unwrap()
}

pub fn credits(n: i64) -> Amount {
    Amount::new(n * ONE).unwrap()
}

pub fn allowance(n: i64) -> Allowance {
    Allowance {
        credits: credits(n),
        trial_credits: credits(5),
        per_seat: false,
        expiry_grace: Span::from_secs(3 * 86_400),
        priority: 5,
        rollover: Rollover::None,
        on_upgrade: OnUpgrade::ProratedDelta,
        refill: Refill::Period,
    }
}

/// P costs $30 and brings 30 credits, Q $60 and 100, R $120 and 200, B $10 and none.
pub fn policy(edit: impl Fn(&mut Allowance)) -> Policy {
    let plan = |rank: u32, price: u64, n: i64| {
        let mut allowance = allowance(n);
        edit(&mut allowance);
        let allowance = Some(allowance).filter(|it| !it.credits.is_zero());
        Plan { tier: TierId::new(format!("t{rank}")).unwrap(), rank, price, allowance }
    };
    let plans = [
        ("b", plan(1, 1000, 0)),
        ("p", plan(2, 3000, 30)),
        ("q", plan(3, 6000, 100)),
        ("r", plan(4, 12_000, 200)),
    ];
    Policy {
        plans: plans.into_iter().map(|(price, plan)| (price.to_owned(), plan)).collect(),
        default_tier: None,
        past_due_grace: Span::from_secs(7 * 86_400),
        on_cancel: OnCancel::PeriodEnd,
        while_collection_paused: WhileCollectionPaused::Allow,
        currency: "usd".to_owned(),
    }
}

pub fn snapshot(price: &str, status: &str, created: i64) -> Snapshot {
    Snapshot {
        id: "sub_1".to_owned(),
        customer: "cus_1".to_owned(),
        status: Status::from(status.to_owned()),
        items: vec![Item {
            price: price.to_owned(),
            quantity: 1,
            period_start: secs(START),
            period_end: secs(END),
        }],
        cancel_at: None,
        cancel_at_period_end: false,
        ended_at: (status == "canceled").then_some(secs(created)),
        trial_end: None,
        collection_paused: false,
        created: secs(created),
        event: format!("evt_{status}_{price}_{created}"),
    }
}

pub fn line(price: &str, net: i64, from: i64, until: i64) -> InvoiceLine {
    InvoiceLine {
        price: price.to_owned(),
        quantity: 1,
        proration: false,
        net: Some(net),
        period_start: secs(from),
        period_end: secs(until),
    }
}

pub fn part(price: &str, net: i64, from: i64, until: i64) -> InvoiceLine {
    InvoiceLine { proration: true, ..line(price, net, from, until) }
}

pub fn invoice(id: &str, reason: &str, paid_at: i64, lines: Vec<InvoiceLine>) -> InvoicePaid {
    let sum: i64 = lines.iter().filter_map(|line| line.net).sum();
    InvoicePaid {
        id: id.to_owned(),
        subscription: Some("sub_1".to_owned()),
        billing_reason: reason.to_owned(),
        paid_at: secs(paid_at),
        amount_paid: u64::try_from(sum).unwrap_or(0),
        currency: Some("usd".to_owned()),
        lines,
    }
}

/// The n-th period of a plan, paid in its turn.
pub fn cycle(n: i64, price: &str, net: i64) -> InvoicePaid {
    let from = START + n * 30 * DAY;
    invoice(
        &format!("in_{n}"),
        "subscription_cycle",
        from + 60,
        vec![line(price, net, from, from + 30 * DAY)],
    )
}

/// P to Q in the middle of the first period, billed at once.
pub fn upgrade(id: &str, at: i64) -> InvoicePaid {
    let half = |full: i64| full * (END - at) / (END - START);
    invoice(
        id,
        "subscription_update",
        at,
        vec![part("p", -half(3000), at, END), part("q", half(6000), at, END)],
    )
}

/// Q to P.
pub fn downgrade(id: &str, at: i64) -> InvoicePaid {
    let half = |full: i64| full * (END - at) / (END - START);
    invoice(
        id,
        "subscription_update",
        at,
        vec![part("q", -half(6000), at, END), part("p", half(3000), at, END)],
    )
}

/// The account.
#[derive(Clone)]
pub struct Shelf {
    pub policy: Policy,
    pub subscriptions: Subscriptions,
    pub payments: Payments,
    pub book: Book,
    pub ids: Ids,
    pub now: Instant,
}

impl Shelf {
    pub fn new(policy: Policy) -> Self {
        let book = Book::open(AccountId::new("alice").unwrap(), Standing::none(None));
        let (subscriptions, payments) = (Subscriptions::default(), Payments::default());
        Self { policy, subscriptions, payments, book, ids: Ids::from(1), now: secs(START + 60) }
    }

    pub fn act(&mut self, command: &Command) -> Reply {
        step(&mut self.book, &mut self.ids, self.now, command).unwrap().reply
    }

    pub fn told(&mut self, snapshot: Snapshot) -> &mut Self {
        self.now = self.now.max(snapshot.created);
        self.subscriptions.fold(snapshot, &self.policy);
        self.restand();
        self
    }

    pub fn paid(&mut self, invoice: &InvoicePaid) -> Vec<Withheld> {
        self.now = self.now.max(invoice.paid_at);
        let all = allowances(invoice, &mut self.payments, &self.subscriptions, &self.policy);
        let mut withheld = Vec::new();
        for one in all {
            match one {
                Ok(terms) => self.grant(terms),
                Err(why) => withheld.push(why),
            }
        }
        self.restand();
        withheld
    }

    fn grant(&mut self, terms: Terms) {
        let reply = self.act(&Command::Grant(terms));
        assert!(matches!(reply, Reply::Grant(GrantAnswer::Made { .. })), "{reply:?}");
    }

    pub fn restand(&mut self) {
        for terms in refills(&mut self.payments, &self.subscriptions, &self.policy, self.now) {
            self.grant(terms);
        }
        let again = refills(&mut self.payments, &self.subscriptions, &self.policy, self.now);
        assert_eq!(again, [], "what has come does not come again");
        for (id, total) in over(&self.payments, &self.book.grants) {
            let (target, upto) = (VoidTarget::Grant(id), Upto::Total(total));
            self.act(&Command::Void(Void { target, upto, shortfall: Shortfall::WriteOff }));
        }
        assert_eq!(over(&self.payments, &self.book.grants), [], "what has ended does not end again");
        let mut standing = standing(&self.subscriptions, &self.payments, &self.policy, self.now);
        let next = next_refill(&self.payments, &self.subscriptions, &self.policy, self.now);
        standing.changes_at = standing.changes_at.into_iter().chain(next).min();
        self.act(&Command::SetStanding(standing));
    }

    /// Whatever time brings until then, in its turn.
    pub fn until(&mut self, at: Instant) -> &mut Self {
        while let Some(next) = self.book.account.standing.changes_at.filter(|next| *next <= at) {
            self.now = next;
            self.restand();
        }
        self.now = at;
        self.restand();
        self
    }

    /// Available credits, whole ones.
    pub fn left(&self) -> i64 {
        let micro = self.book.balance(self.now).unwrap().available.get();
        assert_eq!(micro % ONE, 0, "{micro}");
        micro / ONE
    }

    /// Available micro-credits.
    pub fn left_micro(&self) -> i64 {
        self.book.balance(self.now).unwrap().available.get()
    }

    pub fn use_up(&mut self, n: i64) {
        let leg = Leg {
            unit: units::Unit::Credits,
            scope: String::new(),
            need: credits(n),
            least: None,
            ahead: Amount::ZERO,
            window: None,
        };
        let generation = HOLD_GENERATION_MIN + self.ids.next + self.book.cells.len() as u64;
        let node = units::NodeName::new("node-1").unwrap();
        let timing = Timing { ttl: Span::from_secs(30), grace: Span::ZERO, tail: Span::from_secs(30) };
        let reply = self.act(&Command::Need(Need {
            node,
            incarnation: 1,
            mode: Mode::Hold { generation },
            lanes: vec![Lane { legs: vec![leg] }],
            wait: false,
            holders: 1,
            at_once: None,
            timing,
            exposure: Exposure::Whole,
        }));
        let Reply::Need(answer) = reply else { panic!("{reply:?}") };
        let Decision::Granted(granted) = answer.decision else { panic!("{answer:?}") };
        for cell in granted.cells {
            let all = cell.granted;
            let totals = Totals {
                admitted: all,
                finished: all,
                used: all,
                returned: Amount::ZERO,
                short: Amount::ZERO,
            };
            self.act(&Command::Report(Report {
                cell: cell.id,
                totals,
                target: Amount::ZERO,
                need: Amount::ZERO,
                holders: 1,
                timing,
                exposure: Exposure::Whole,
                shortfall: Shortfall::Debt,
                gone: false,
            }));
        }
    }

    /// What every origin was granted, in whole credits.
    pub fn granted(&self) -> BTreeMap<String, i64> {
        let terms = self.book.grants.values().map(|grant| &grant.terms);
        terms.map(|terms| (terms.source_ref.clone(), terms.amount.get() / ONE)).collect()
    }

    /// What was granted in all, in micro-credits.
    pub fn granted_micro(&self) -> i64 {
        self.book.grants.values().map(|grant| grant.terms.amount.get()).sum()
    }

    /// When what refills began, in days.
    pub fn refilled(&self) -> Vec<String> {
        let mut all: Vec<Instant> = self.book.grants.values().map(|grant| grant.terms.starts_at).collect();
        all.sort_unstable();
        all.iter().map(|at| at.to_rfc3339().chars().take(10).collect()).collect()
    }
}
