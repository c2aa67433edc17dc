//! The faults stop: everything must come to rest, all accounts agree, and the last credit be spendable anywhere.

use super::flight::Wish;
use super::plan::Customer;
use super::{CALL, Field, WAIT};
use contract::v1::NeedMode;
use std::collections::BTreeSet;
use units::{Instant, Span, Unit};

/// A request that needs what lies free elsewhere has it within this time.
const SOON: Span = Span::from_millis(200);
/// How much there is to be spent down to the last.
const LEFT: u64 = 12;

impl Field {
    /// From now on nothing breaks.
    pub(super) fn rest(&mut self) {
        self.tell("The faults stop.");
        (self.calm, self.doom) = (true, None);
        for e in 0..self.plan.envoys {
            self.heals(e);
            self.envoys[e].shelf.races = 0;
        }
        self.reconnect();
        for account in self.suspended.clone() {
            self.set_stop(&account, false);
        }
        // Whoever stands still goes on, and the longest request ends.
        let late = self.envoys.iter().map(|envoy| envoy.stands_until.max(envoy.gone_until)).max();
        let late = late.unwrap_or(self.now).max(self.down_until);
        self.until(late.max(self.now));
        let mut rounds = 0;
        while !(self.flights.is_empty() && self.waiting.is_empty()) && self.violated.is_none() {
            self.run_for(Span::from_millis(500));
            rounds += 1;
            if rounds > 120 {
                self.break_rule("somebody waits for ever".into());
            }
        }
        self.settle_all();
        self.close();
        self.counts.untold = u64::try_from(self.auditor.untold()).unwrap();
        let mut faithful = BTreeSet::new();
        for (grant, leases) in self.witness.recovered() {
            self.counts.recovered += leases;
            faithful.extend(self.auditor.payer(*grant).filter(|payer| self.witness.is_faithful(payer)));
        }
        self.counts.faithful = u64::try_from(faithful.len()).unwrap();
        // What is let through and not used after all is told within a second, and not sooner: see docs/proof.md.
        self.served = true;
        self.spend_the_last();
        if self.violated.is_none() {
            self.settle_all();
            self.close();
        }
    }

    fn until(&mut self, until: Instant) {
        while self.violated.is_none() && self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= until)
        {
            self.step();
        }
        self.now = self.now.max(until);
    }

    fn run_for(&mut self, span: Span) {
        self.until(self.now.plus(span));
    }

    /// Long enough for everything to be told, given back, or settled, and for late messages to have come.
    fn settle_all(&mut self) {
        let life = self.plan.ttl.plus(self.plan.tail);
        self.run_for(life.plus(life).plus(Span::from_secs(12)));
    }

    /// All is at rest, and the books agree.
    fn close(&mut self) {
        if self.violated.is_some() {
            return;
        }
        for e in 0..self.plan.envoys {
            if self.envoys[e].workers.iter().any(|slot| !slot.worker.is_idle()) {
                self.break_rule(format!("Envoy {e} has something left to tell"));
            }
        }
        for kind in self.auditor.kinds() {
            if let Err(what) = self.auditor.close(&kind, self.plan.crash) {
                self.break_rule(what);
            }
            let book = self.house.book(&kind.0, self.now);
            if book
                .cells
                .values()
                .any(|cell| cell.state != ledger::CellState::Closed && !cell.outstanding().is_zero())
            {
                self.break_rule(format!("a cell of {} is still open", kind.0));
            }
        }
    }

    /// What can be spent of general credits.
    fn spendable(&mut self, customer: &Customer) -> i64 {
        let books = self.auditor.see(&(customer.payer.clone(), Unit::Credits));
        books.avail - books.debt
    }

    /// Each account is brought down to a few credits. They are spent to the last one, by turns and then at one Envoy, though
    /// the others have some of them; and then there are none.
    fn spend_the_last(&mut self) {
        for n in 0..self.plan.customers.len() {
            let customer = self.plan.customers[n].clone();
            if self.violated.is_some() || customer.payer != customer.account {
                continue;
            }
            for (grant, row) in self.house.grants(&customer.payer) {
                if row.terms.unit == Unit::Credits {
                    self.house.void(&customer.payer, grant, self.now);
                }
            }
            self.took();
            self.notify();
            let debt = self.auditor.see(&(customer.payer.clone(), Unit::Credits)).debt;
            // Enough that both have a lease, where there is watching.
            let left = if self.plan.watch { 40 } else { LEFT };
            let credits = u64::try_from(debt).unwrap().div_ceil(1_000_000) + left;
            let name = self.name("grant");
            self.tell(&format!("{} is brought down to {left} credits.", customer.payer));
            self.house.top_up(&customer.payer, credits, &name, self.now);
            self.took();
            self.notify();
            self.spend(n, &customer);
        }
    }

    fn spend(&mut self, n: usize, customer: &Customer) {
        let (mut asked, kind) = (0, (customer.payer.clone(), Unit::Credits));
        // What a trapped worker had let through may turn up even now, and be charged late.
        let gone = |books: super::Columns| books.spent + books.after;
        let (there, before) = (self.spendable(customer), gone(self.auditor.see(&kind)));
        while there - (gone(self.auditor.see(&kind)) - before) >= 1_000_000 && self.violated.is_none() {
            let e = if asked < 6 { asked % self.plan.envoys } else { 0 };
            let at = (e, asked % self.plan.workers);
            let (before, began) = (self.counts.passed, self.now);
            self.ask_in(at, n, None, Wish::plain(), NeedMode::Lease);
            while !self.waiting.is_empty() && self.violated.is_none() {
                self.run_for(Span::from_millis(1));
            }
            let took = self.now.since(began);
            if self.counts.passed == before {
                // Without watching, what lies free elsewhere comes back after a while.
                if self.plan.watch {
                    self.break_rule(format!(
                        "{} is refused, though credits lie free elsewhere",
                        customer.payer
                    ));
                }
                self.settle_all();
                if self.spendable(customer) < 1_000_000 {
                    self.break_rule(format!("credits of {} do not come back", customer.payer));
                }
            } else if took > if self.plan.watch { SOON } else { WAIT.plus(CALL) } {
                self.break_rule(format!("{} waits {} ms for what lies free", customer.payer, took.millis()));
            }
            // It is over before the next one asks.
            while !self.flights.is_empty() && self.violated.is_none() {
                self.run_for(Span::from_millis(5));
            }
            asked += 1;
            if asked > 400 {
                self.break_rule("a few credits last for ever".into());
            }
        }
        let before = self.counts.passed;
        for e in 0..self.plan.envoys {
            self.ask_in((e, 0), n, None, Wish::plain(), NeedMode::Lease);
        }
        self.run_for(WAIT.plus(CALL));
        if self.counts.passed > before && self.violated.is_none() {
            self.break_rule(format!("{} is let through with nothing left", customer.payer));
        }
    }
}
