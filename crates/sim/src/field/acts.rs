//! What happens of itself in a history: customers ask, operators and payments change accounts, and things break.

use super::flight::Wish;
use super::plan::Customer;
use super::{Event, Field};
use units::{AccountId, Amount, Span, Unit};

impl Field {
    /// One thing, as the dice say.
    pub(super) fn act(&mut self) {
        match self.dice.between(0, 99) {
            0..=54 => self.act_ask(),
            55..=57 => self.act_leave(),
            58..=61 if self.plan.faults.give => self.act_give(),
            62..=65 if self.plan.faults.refund => self.act_take(),
            66..=68 if self.plan.faults.stop => self.act_stop(),
            69 | 70 if self.plan.faults.revoke => self.act_key(),
            71 if self.plan.faults.trap => {
                let at = self.place();
                self.trap(at);
            }
            72 if self.plan.faults.kill => {
                let (at, away) = (self.place(), self.dice.between(0, 3_000));
                self.kill(at.0, Span::from_millis(away));
            }
            73..=76 => self.act_clock(),
            77..=80 if self.plan.faults.cut => {
                let (e, ways) =
                    (self.place().0, self.dice.pick(&[(true, true), (true, false), (false, true)]));
                let longest = 2 * (self.plan.ttl.millis() + self.plan.tail.millis());
                let span = Span::from_millis(self.dice.between(50, longest));
                self.cut(e, ways, span);
            }
            81..=83 if self.plan.faults.restart => self.doom = Some(self.dice.percent(50)),
            84..=86 if self.plan.faults.race => {
                let (e, races) = (self.place().0, u32::try_from(self.dice.between(1, 40)).unwrap());
                self.envoys[e].shelf.races = races;
            }
            _ => {}
        }
    }

    fn place(&mut self) -> (usize, usize) {
        (self.dice.place(self.plan.envoys), self.dice.place(self.plan.workers))
    }

    fn act_ask(&mut self) {
        let many = if self.dice.percent(15) { self.dice.between(2, 12) } else { 1 };
        let at = self.place();
        for _ in 0..many {
            let at = if self.dice.percent(50) { at } else { self.place() };
            let customer = self.dice.place(self.plan.customers.len());
            // Old keys are tried as well.
            let own: Vec<String> =
                self.keys.iter().filter(|(_, of)| *of == customer).map(|(key, _)| key.clone()).collect();
            let key = self.dice.percent(40).then(|| self.dice.pick(&own));
            let wish = Wish::thrown(&mut self.dice);
            self.ask(at, customer, key, wish);
            if self.dice.percent(4) {
                let soon = Span::from_millis(self.dice.between(0, 1_500));
                self.after(soon, Event::Leaves(self.last_stream));
            }
        }
    }

    fn act_leave(&mut self) {
        if !self.waiting.is_empty() {
            let n = self.dice.place(self.waiting.len());
            let stream = *self.waiting.keys().nth(n).unwrap();
            self.leaves(stream);
        }
    }

    fn is_up(&self) -> bool {
        self.now >= self.down_until
    }

    fn anybody(&mut self) -> Customer {
        let n = self.dice.place(self.plan.customers.len());
        self.plan.customers[n].clone()
    }

    fn act_give(&mut self) {
        if !self.is_up() {
            return;
        }
        let Customer { payer, .. } = self.anybody();
        let (credits, name) = (self.dice.pick(&[1, 2, 5, 20, 100, 1_000]), self.name("grant"));
        if !self.plan.faults.end || self.dice.percent(50) {
            self.tell(&format!("{payer} buys {credits} credits."));
            self.house.top_up(&payer, credits, &name, self.now);
        } else {
            let span = Span::from_millis(self.dice.between(200, 20_000));
            self.tell(&format!("{payer} is given {credits} credits for {} ms.", span.millis()));
            self.house.gift(&payer, credits, &name, self.now.plus(span), self.now);
        }
        self.took();
        self.notify();
    }

    /// A payment is refunded, or disputed.
    fn act_take(&mut self) {
        if !self.is_up() {
            return;
        }
        let Customer { payer, .. } = self.anybody();
        let mut grants = self.house.grants(&payer);
        grants.retain(|(_, grant)| grant.terms.unit == Unit::Credits);
        if grants.is_empty() {
            return;
        }
        let (id, grant) = self.dice.pick(&grants);
        if self.dice.percent(25) {
            self.tell(&format!("Grant {} of {payer} is taken back.", id.0));
            self.house.void(&payer, id, self.now);
        } else {
            let all = u64::try_from(grant.terms.amount.get()).unwrap();
            let mut part = || Amount::new(i64::try_from(self.dice.between(0, all)).unwrap()).unwrap();
            let (revoked, frozen) = (part(), part());
            self.tell(&format!(
                "Of grant {} of {payer}, {revoked:?} are refunded and {frozen:?} disputed.",
                id.0
            ));
            self.house.take_back(&payer, id, (revoked, frozen), self.now);
        }
        self.took();
        self.notify();
    }

    /// Since when somebody may not spend, by each Envoy's clock.
    fn stop(&mut self, name: &str) {
        let clocks = (0..self.plan.envoys).map(|e| self.clock(e).max(self.envoys[e].upset)).collect();
        self.stopped.entry(name.to_owned()).or_insert(clocks);
    }

    fn act_stop(&mut self) {
        if !self.is_up() {
            return;
        }
        let Customer { account, .. } = self.anybody();
        let stop = self.suspended.is_empty() || self.dice.percent(20);
        let account = if stop { account } else { self.suspended.first().unwrap().clone() };
        self.set_stop(&account, stop);
    }

    pub(super) fn set_stop(&mut self, account: &AccountId, stop: bool) {
        self.tell(&format!("{account} is {}.", if stop { "stopped" } else { "let go on" }));
        self.house.suspend(account, stop, self.now);
        if stop {
            self.suspended.insert(account.clone());
            self.stop(account.as_str());
        } else {
            self.suspended.remove(account);
            self.stopped.remove(account.as_str());
        }
        self.took();
        self.notify();
    }

    fn act_key(&mut self) {
        if !self.is_up() {
            return;
        }
        let n = self.dice.place(self.keys.len());
        let (key, customer) = self.keys[n].clone();
        let account = self.plan.customers[customer].account.clone();
        if !self.stopped.contains_key(&key) {
            self.tell(&format!("A key of {account} is revoked."));
            self.house.revoke(&key, self.now);
            self.stop(&key);
            let new = self.name("key");
            self.house.new_key(&account, &new, self.now);
            self.keys.push((new, customer));
        }
    }

    fn act_clock(&mut self) {
        let (e, faults) = (self.place().0, self.plan.faults);
        let span =
            Span::from_millis(self.dice.between(100, 2 * (self.plan.ttl.millis() + self.plan.tail.millis())));
        match self.dice.between(0, 2) {
            0 if faults.pause => {
                self.tell(&format!("Envoy {e} stands still for {} ms.", span.millis()));
                self.stand(e, span);
            }
            1 if faults.freeze => {
                self.tell(&format!("Envoy {e} stands still for {} ms, and its clock too.", span.millis()));
                self.envoys[e].ahead -= i64::try_from(span.micros()).unwrap();
                self.stand(e, span);
                self.envoys[e].thawed = self.envoys[e].stands_until;
            }
            2 if faults.jump => {
                self.tell(&format!("The clock of Envoy {e} jumps forward by {} ms.", span.millis()));
                self.envoys[e].ahead += i64::try_from(span.micros()).unwrap();
                // Whoever stands still sees it when it goes on.
                let seen = self.now.max(self.envoys[e].stands_until);
                self.envoys[e].upset = self.envoys[e].clock(seen);
            }
            _ => {}
        }
    }

    fn stand(&mut self, e: usize, span: Span) {
        let until = self.envoys[e].stands_until.max(self.now).plus(span);
        self.envoys[e].stands_until = until;
        self.envoys[e].upset = self.envoys[e].clock(until);
    }
}
