//! The gateways' side: workers with their shared memory and their Envoy's own clock, and what their streams are told.

use super::flight::{self, Flight, Wish};
use super::net::Message;
use super::{CALL, Event, Field, TICK, TICK_SOON, WAIT};
use crate::world::Contended;
use contract::v1::{NeedMode, NeedShape, Outcome};
use gate::Metric;
use gate::worker::{Answer, Ended, Pass, Question, Report, Settings, Worker, WorkerEffect};
use std::collections::{BTreeMap, BTreeSet};
use units::{AccountId, Amount, EndpointId, Instant, NodeName, RequestId, Span, Subject, SubjectKind, Unit};

/// One Envoy.
pub(super) struct Envoy {
    pub(super) node: NodeName,
    /// Which life of it, of all lives of all Envoys.
    pub(super) process: u64,
    began: Instant,
    ppm: i64,
    /// How far its clock is ahead beside that, in microseconds.
    pub(super) ahead: i64,
    pub(super) shelf: Contended,
    pub(super) workers: Vec<Slot>,
    /// Until then it stands still.
    pub(super) stands_until: Instant,
    /// Until then it is not there at all.
    pub(super) gone_until: Instant,
    /// What it says does not arrive; what is said to it does not.
    pub(super) cut: (bool, bool),
    /// When its clock last stood still, if it ever did.
    pub(super) thawed: Instant,
    /// By its own clock: when it last stood still or jumped.
    pub(super) upset: Instant,
    /// By payer, and by its own clock: the latest time of asking that was answered.
    pub(super) heard: BTreeMap<AccountId, Instant>,
    /// Ends that billing may not know of yet, and on which life of a worker.
    untold: Vec<(u64, AccountId, Unit, (i64, i64))>,
}

/// A worker at its place.
pub(super) struct Slot {
    pub(super) life: u64,
    pub(super) worker: Worker,
    /// Calls that it waits for.
    pub(super) pending: BTreeSet<u64>,
    /// When billing last heard of it, or it had nothing to say.
    pub(super) heard: Instant,
    /// What began before that may be taken for over: then it was last silent for so long.
    pub(super) lapsed: Instant,
}

impl Slot {
    /// Billing hears of it. A report may leave out for two thirds of a lease's time what was reported before, so after the third
    /// one a hold may have had its time.
    pub(super) fn hear(&mut self, now: Instant, ttl: Span) {
        if now.since(self.heard) > ttl.part(3) {
            self.lapsed = now;
        }
        self.heard = now;
    }
}

/// Somebody who waits for an answer.
pub(super) struct Asked {
    pub(super) at: (usize, usize),
    pub(super) life: u64,
    wish: Wish,
    /// Who it is, as far as a stop is about them.
    names: Vec<String>,
    /// By the Envoy's own clock.
    since: Instant,
    payer: AccountId,
}

impl Envoy {
    pub(super) fn new(n: usize, process: u64, ppm: i64, began: Instant) -> Self {
        Self {
            node: NodeName::new(format!("n{n}")).unwrap(),
            process,
            began,
            ppm,
            ahead: 0,
            shelf: Contended::default(),
            workers: Vec::new(),
            stands_until: began,
            gone_until: began,
            cut: (false, false),
            thawed: Instant::EPOCH,
            upset: began,
            heard: BTreeMap::new(),
            untold: Vec::new(),
        }
    }

    /// What its own clock says.
    pub(super) fn clock(&self, now: Instant) -> Instant {
        let since = now.micros() - self.began.micros();
        Instant::from_micros(now.micros() + since / 1_000 * self.ppm / 1_000 + self.ahead)
    }
}

impl Field {
    pub(super) fn clock(&self, envoy: usize) -> Instant {
        self.envoys[envoy].clock(self.now)
    }

    pub(super) fn is_there(&self, envoy: usize) -> bool {
        let envoy = &self.envoys[envoy];
        envoy.stands_until <= self.now && envoy.gone_until <= self.now
    }

    fn new_worker(&mut self, envoy: usize) -> Slot {
        self.last_life += 1;
        let (node, watch) = (self.envoys[envoy].node.clone(), self.plan.watch);
        let worker = Worker::new(Settings { node, call: CALL, wait: WAIT, watch });
        Slot { life: self.last_life, worker, pending: BTreeSet::new(), heard: self.now, lapsed: self.now }
    }

    /// Gives an Envoy its workers.
    pub(super) fn populate(&mut self, envoy: usize) {
        let workers = (0..self.plan.workers).map(|_| self.new_worker(envoy)).collect();
        self.envoys[envoy].workers = workers;
    }

    /// A request arrives, of a customer by its token or by a key.
    pub(super) fn ask(&mut self, at: (usize, usize), customer: usize, key: Option<String>, wish: Wish) {
        if !self.is_there(at.0) {
            return;
        }
        let mode = self.plan.mode(&mut self.dice);
        self.ask_in(at, customer, key, wish, mode);
    }

    pub(super) fn ask_in(
        &mut self,
        at: (usize, usize),
        customer: usize,
        key: Option<String>,
        wish: Wish,
        mode: NeedMode,
    ) {
        self.last_stream += 1;
        let (stream, local) = (self.last_stream, self.clock(at.0));
        let who = self.plan.customers[customer].clone();
        let mut names = vec![who.account.to_string(), who.payer.to_string()];
        names.extend(key.clone());
        let subject = match key {
            None => Subject::new(SubjectKind::JwtSub, who.account.as_str()),
            Some(key) => Subject::new(SubjectKind::ApiKeySha256, key),
        };
        let allow = if wish.endpoint == "chat" { self.plan.allow } else { 0 };
        let question = Question::Need {
            subject: subject.unwrap(),
            endpoint: EndpointId::new(wish.endpoint).unwrap(),
            mode,
            shape: wish.shape.clone(),
            allow,
            repeat: None,
        };
        let envoy = &mut self.envoys[at.0];
        let slot = &mut envoy.workers[at.1];
        self.witness.asks(envoy.process, &who.payer, slot.life);
        let (life, answer) = (slot.life, slot.worker.ask(stream, question, local, &mut envoy.shelf));
        let asked = Asked { at, life, wish, names, since: local, payer: who.payer };
        match answer {
            None => {
                let (account, endpoint) = (who.account, asked.wish.endpoint);
                self.tell(&format!("{account} asks for {endpoint} at Envoy {}, worker {}.", at.0, at.1));
                self.waiting.insert(stream, asked);
            }
            Some(answer) => self.answered(asked, answer, true),
        }
        self.poll(at);
    }

    fn answered(&mut self, asked: Asked, answer: Answer, warm: bool) {
        let (e, w) = asked.at;
        match answer {
            Answer::Ok(pass) => self.passed(&asked, &pass, warm),
            Answer::Refused(refusal) => {
                self.counts.refused += 1;
                let reason = refusal.reason.as_str();
                self.tell(&format!("Envoy {e}, worker {w}, refuses {}: {reason}.", asked.names[0]));
            }
            Answer::Unavailable(fault) => {
                self.counts.unavailable += 1;
                let fault = fault.as_str();
                self.tell(&format!(
                    "Envoy {e}, worker {w}, cannot decide about {}: {fault}.",
                    asked.names[0]
                ));
            }
            Answer::Claimed(_) => self.break_rule("nobody claimed anything".into()),
        }
    }

    fn passed(&mut self, asked: &Asked, pass: &Pass, warm: bool) {
        self.counts.passed += 1;
        self.counts.warm += u64::from(warm);
        let (e, w) = asked.at;
        let local = self.clock(e);
        let (held, hold) = (pass.held.get(), pass.hold.unwrap());
        let kind = pass.decided.as_ref().map(|decided| (decided.standing.payer.clone(), decided.price.unit));
        let (cost, outcome) = match &kind {
            Some(_) if self.served => (held, Outcome::Charged),
            Some((_, unit)) => flight::use_up(&asked.wish, held, *unit, &mut self.dice),
            None => (0, self.dice.pick(&[Outcome::Charged, Outcome::Failed])),
        };
        let how = if warm { "at once" } else { "after asking" };
        self.tell(&format!(
            "Envoy {e}, worker {w}, lets {} pass to {} {how}, holding {held}; it will cost {cost}.",
            asked.names[0], asked.wish.endpoint
        ));
        if let Some((payer, unit)) = &kind {
            self.auditor.take_off(self.envoys[e].process, (payer.clone(), *unit), held);
            let estimate = matches!(&asked.wish.shape, NeedShape::Tokens(shape) if shape.size == contract::v1::Size::Estimate);
            if cost > held && !estimate {
                self.break_rule(format!("a request costs {cost}, and {held} is held for it"));
            }
            let until = self.envoys[e].heard.get(payer).map(|sent| sent.plus(self.plan.ttl));
            if warm && until.is_none_or(|until| local >= until) {
                self.break_rule(format!("Envoy {e} lets {payer} pass at once, on what is too old to go by"));
            }
            let stops = asked.names.iter().filter_map(|name| self.stopped.get(name));
            if let Some(stop) = stops.map(|stops| stops[e]).min()
                && asked.since >= stop.plus(self.plan.ttl)
            {
                self.break_rule(format!("Envoy {e} lets {} pass, who was stopped long ago", asked.names[0]));
            }
        } else {
            // What it will be charged is not known; it is one credit or one request of a window.
            self.auditor.of(&asked.payer, Unit::Credits).unpaid += 1_000_000;
            self.auditor.of(&asked.payer, Unit::Requests).unpaid += 1;
        }
        self.last_flight += 1;
        let (life, process) = (self.envoys[e].workers[w].life, self.envoys[e].process);
        let began = self.now;
        let flight = Flight { at: asked.at, life, process, hold, began, kind, held, cost, outcome };
        self.flights.insert(self.last_flight, flight);
        self.check_at_once(&asked.payer);
        self.changed = true;
        let lasts = if self.calm {
            Span::from_millis(self.dice.between(2, 30))
        } else {
            flight::lasts(self.plan.ttl, self.plan.tail, &mut self.dice)
        };
        self.after(lasts, Event::Ends(self.last_flight));
    }

    /// No more of a payer's requests are under way than may be at once, as far as their gateways were there to tell of them.
    fn check_at_once(&mut self, payer: &AccountId) {
        let Some(most) = self.plan.at_once else { return };
        let told = |flight: &&Flight| {
            let slot = &self.envoys[flight.at.0].workers[flight.at.1];
            flight.began > slot.lapsed && self.now.since(slot.heard) <= self.plan.ttl.part(3)
        };
        let of = |flight: &&Flight| flight.kind.as_ref().is_some_and(|(whose, _)| whose == payer);
        let under_way = self.flights.values().filter(of).filter(told).count();
        if under_way > usize::try_from(most).unwrap() {
            self.break_rule(format!(
                "{under_way} requests of {payer} are under way, and {most} may be at once"
            ));
        }
    }

    /// The upstream is done with a request, and its gateway hears of it.
    pub(super) fn ends(&mut self, flight: u64) {
        let Some(flight) = self.flights.remove(&flight) else { return };
        let Flight { at, process, hold, held, cost, outcome, .. } = flight;
        self.tell(&format!(
            "A request at Envoy {}, worker {}, ends: {}, {cost}.",
            at.0,
            at.1,
            outcome.as_str()
        ));
        let (spent, beyond) = flight.delivered();
        if let Some((payer, unit)) = flight.kind {
            self.auditor.land(process, (&payer, unit), held, (spent, beyond));
            self.envoys[at.0].untold.push((flight.life, payer, unit, (spent, beyond)));
        }
        let local = self.clock(at.0);
        let charged = Amount::new(spent).unwrap();
        let fixed = Ended::fixed(hold, charged, outcome, RequestId::numbered(self.last_flight), local);
        let ended = Ended { beyond: Amount::new(beyond).unwrap(), ..fixed };
        let envoy = &mut self.envoys[at.0];
        let slot = &mut envoy.workers[at.1];
        slot.worker.tell(Report::Ended(ended), local, &mut envoy.shelf);
        if slot.worker.hurries(local) {
            self.poll(at);
        }
        self.changed = true;
    }

    /// A client that waits goes away.
    pub(super) fn leaves(&mut self, stream: u32) {
        let Some(asked) = self.waiting.get(&stream) else { return };
        if !self.is_there(asked.at.0) {
            return;
        }
        let (at, who) = (asked.at, asked.names[0].clone());
        self.waiting.remove(&stream);
        self.tell(&format!("{who} goes away from Envoy {}, worker {}.", at.0, at.1));
        self.envoys[at.0].workers[at.1].worker.withdraw(stream);
        self.poll(at);
    }

    /// Does what a worker says.
    pub(super) fn poll(&mut self, at: (usize, usize)) {
        let (local, began) = (self.clock(at.0), self.now);
        let envoy = &mut self.envoys[at.0];
        let slot = &mut envoy.workers[at.1];
        let (life, process, races) = (slot.life, envoy.process, envoy.shelf.races);
        let effects = slot.worker.poll(local, &mut envoy.shelf);
        if envoy.shelf.races < races {
            self.witness.loses_race(life, began);
        }
        for effect in effects {
            match effect {
                WorkerEffect::Call { id, path, body, timeout } => {
                    let message = Message {
                        at,
                        life,
                        process,
                        id,
                        path,
                        body,
                        began,
                        sent: local,
                        after: None,
                        wait: Span::ZERO,
                    };
                    self.send(message, timeout);
                }
                WorkerEffect::Watch { id, after, wait_ms, timeout } => {
                    let (path, body, wait) =
                        (contract::v1::PATH_WATCH, Vec::new(), Span::from_millis(wait_ms));
                    let after = Some(after);
                    let message =
                        Message { at, life, process, id, path, body, began, sent: local, after, wait };
                    self.send(message, timeout);
                }
                WorkerEffect::Wake { stream, answer } => match self.waiting.remove(&stream) {
                    Some(asked) if asked.life == life => self.answered(asked, answer, false),
                    _ => self.break_rule("a request is answered twice, or by another worker".into()),
                },
                WorkerEffect::Count(Metric::Bug { bug }) => {
                    self.break_rule(format!("the gateway counts a bug: {bug}"))
                }
                WorkerEffect::Count(_) | WorkerEffect::Log(..) => {}
            }
        }
    }

    pub(super) fn tick(&mut self, envoy: usize) {
        if self.is_there(envoy) {
            (0..self.plan.workers).for_each(|worker| self.poll((envoy, worker)));
            self.look_after(envoy);
        }
        // As the filter does: sooner, if something is due before.
        let soon = self.clock(envoy).plus(TICK);
        let mut due = self.envoys[envoy].workers.iter().filter_map(|slot| slot.worker.next_poll());
        let tick = if due.any(|due| due < soon) { TICK_SOON } else { TICK };
        self.after(tick, Event::Tick(envoy));
    }

    /// Nobody waits for too long; and who has nothing to tell has told everything.
    fn look_after(&mut self, e: usize) {
        let local = self.clock(e);
        let patience = WAIT.plus(CALL).plus(TICK).plus(TICK);
        let (envoy, now, ttl) = (&mut self.envoys[e], self.now, self.plan.ttl);
        let late = self.waiting.values().filter(|asked| asked.at.0 == e);
        let late = late.filter(|asked| local.since(asked.since.max(envoy.upset)) > patience).count();
        let mut idle = true;
        for slot in &mut envoy.workers {
            let told = slot.worker.is_idle();
            idle &= told;
            if told {
                slot.hear(now, ttl);
                self.witness.idles(slot.life, now);
            }
        }
        if idle {
            envoy.untold.clear();
        }
        if late > 0 {
            self.break_rule(format!("a request waits at Envoy {e} for ever"));
        }
    }

    /// A worker's VM is gone, with every request that was on it; the next request finds a new one.
    pub(super) fn trap(&mut self, at: (usize, usize)) {
        self.tell(&format!("The VM of Envoy {}, worker {}, traps.", at.0, at.1));
        let life = self.envoys[at.0].workers[at.1].life;
        self.bury(at.0, |other| other == life);
        self.witness.trap(life, self.now);
        let slot = self.new_worker(at.0);
        self.envoys[at.0].workers[at.1] = slot;
    }

    /// An Envoy is gone, its memory with it; it is back before long.
    pub(super) fn kill(&mut self, envoy: usize, away: Span) {
        self.tell(&format!("Envoy {envoy} is killed, and is back after {} ms.", away.millis()));
        self.bury(envoy, |_| true);
        let old = &self.envoys[envoy];
        self.last_process += 1;
        let mut new = Envoy::new(envoy, self.last_process, old.ppm, old.began);
        (new.ahead, new.cut, new.gone_until) = (old.ahead, old.cut, self.now.plus(away));
        new.upset = new.clock(self.now);
        self.envoys[envoy] = new;
        self.populate(envoy);
    }

    fn bury(&mut self, envoy: usize, dies: impl Fn(u64) -> bool) {
        self.waiting.retain(|_, asked| asked.at.0 != envoy || !dies(asked.life));
        let dead = self.flights.extract_if(.., |_, flight| flight.at.0 == envoy && dies(flight.life));
        for (_, flight) in dead.collect::<Vec<_>>() {
            // The upstream goes on, or has done so already.
            let (spent, beyond) = flight.delivered();
            if let Some((payer, unit)) = flight.kind {
                self.auditor.land(flight.process, (&payer, unit), flight.held, (spent, beyond));
                let books = self.auditor.of(&payer, unit);
                (books.lost, books.lost_beyond) = (books.lost + spent, books.lost_beyond + beyond);
            }
        }
        let untold = self.envoys[envoy].untold.extract_if(.., |(life, ..)| dies(*life)).collect::<Vec<_>>();
        for (_, payer, unit, (spent, beyond)) in untold {
            let books = self.auditor.of(&payer, unit);
            (books.lost, books.lost_beyond) = (books.lost + spent, books.lost_beyond + beyond);
        }
        self.changed = true;
    }
}
