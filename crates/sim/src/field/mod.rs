//! A field of gateways and one billing service, in which everything that can go wrong does, as one seed says.
//!
//! The real machines of both sides run in virtual time, from one event to the next: [`Field`] has their clocks, the network
//! between them and the upstream behind them. After every event an auditor compares its own plain books with the
//! ledger's; when the faults stop, all must come to rest, and the last credit be spendable anywhere. What happens is told
//! in sentences, so that a failing seed is a story.

mod acts;
mod auditor;
mod dice;
mod envoy;
mod flight;
mod house;
mod lives;
mod mutant;
mod net;
mod plan;
mod rest;
mod story;
mod witness;

pub use auditor::Columns;
pub use dice::Dice;
pub use mutant::Mutant;
pub use plan::{Customer, Faults, Plan};
pub use story::Story;
pub use witness::Why;

use auditor::Auditor;
use envoy::{Asked, Envoy};
use flight::Flight;
use house::{House, Said};
use ledger::{Cell, CellId};
use net::{Message, Poll};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use units::{AccountId, Instant, Span, Unit};
use witness::{Circumstances, Witness};

/// How long one call may take.
const CALL: Span = Span::from_secs(2);
/// How long billing may let a request wait.
const WAIT: Span = Span::from_secs(1);
/// Between two ticks of an Envoy.
const TICK: Span = Span::from_millis(100);
/// The same while something is due.
const TICK_SOON: Span = Span::from_millis(20);
/// Between two looks of billing at what is due.
const SWEEP: Span = Span::from_millis(250);

/// What is going to happen.
enum Event {
    /// Something of the history's own.
    Act,
    Tick(usize),
    Sweep,
    Arrive(Message),
    Again(Message),
    Back(Message, gate::worker::CallResult, Said),
    Timeout(Message),
    /// A poll has lasted as long as it was to.
    PollOver(u64),
    Ends(u64),
    Leaves(u32),
    Heals(usize),
    Asks(usize, usize),
}

/// Everything.
pub struct Field {
    plan: Plan,
    dice: Dice,
    now: Instant,
    queue: BTreeMap<(Instant, u64), Event>,
    last_event: u64,
    house: House,
    /// Until then billing is down.
    down_until: Instant,
    /// How it dies when it is called next: before what it does is durable, or after.
    doom: Option<bool>,
    envoys: Vec<Envoy>,
    /// Streams that wait for an answer.
    waiting: BTreeMap<u32, Asked>,
    last_stream: u32,
    last_life: u64,
    last_process: u64,
    flights: BTreeMap<u64, Flight>,
    last_flight: u64,
    polls: BTreeMap<u64, Poll>,
    /// Accounts and keys that may not spend, and since when by each Envoy's clock.
    stopped: BTreeMap<String, Vec<Instant>>,
    keys: Vec<(String, usize)>,
    suspended: BTreeSet<AccountId>,
    named: u64,
    auditor: Auditor,
    witness: Witness,
    story: Story,
    mutant: Option<mutant::Spoiler>,
    /// The faults have stopped.
    calm: bool,
    /// From now on every request that passes is served.
    served: bool,
    changed: bool,
    violated: Option<String>,
    /// Requests that were answered, and how.
    counts: Counts,
}

/// What a history came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that went upstream.
    pub passed: u64,
    /// Of those, the ones that asked nobody.
    pub warm: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests about which nobody could decide.
    pub unavailable: u64,
    /// Events.
    pub events: u64,
    /// Cells that the crash policy settled, by why.
    pub settled: [u64; Why::ALL.len()],
    /// Leases whose answer was lost, and that their gateways heard of after all.
    pub recovered: u64,
    /// Payers with such a lease of whom the crash policy settled nothing.
    pub faithful: u64,
    /// Lives of Envoys that ended, with one payer each, of which billing never heard all.
    pub untold: u64,
}

impl Counts {
    const fn settle(&mut self, why: Why) {
        self.settled[why as usize] += 1;
    }

    /// The sum of many.
    pub fn add(&mut self, other: &Self) {
        let Self { passed, warm, refused, unavailable, events, settled, recovered, faithful, untold } =
            *other;
        self.passed += passed;
        self.warm += warm;
        self.refused += refused;
        self.unavailable += unavailable;
        self.events += events;
        for (sum, one) in self.settled.iter_mut().zip(settled) {
            *sum += one;
        }
        self.recovered += recovered;
        self.faithful += faithful;
        self.untold += untold;
    }
}

/// A history that broke a rule.
pub struct Broken {
    /// What makes it happen again.
    pub seed: u64,
    /// Which rule.
    pub violated: String,
    text: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}\n\n{}", self.seed, self.violated, self.text)
    }
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A history that broke none: what it came to, and a digest of its story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// What it came to.
    pub counts: Counts,
    /// The same for the same story, and for no other.
    pub digest: u64,
}

/// Plays the history of a seed, with one thing done wrongly if there is a mutant.
///
/// # Errors
/// [`Broken`] with the rule, and the story.
pub fn play(seed: u64, mutant: Option<Mutant>) -> Result<Held, Box<Broken>> {
    let mut field = Field::new(seed, mutant);
    // A machine that panics has its story told as well.
    let panicked = catch_unwind(AssertUnwindSafe(|| field.run())).err();
    if let Some(panicked) = panicked {
        let text = panicked.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panicked.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        field.violated = Some(format!("a panic: {}", text.unwrap_or_default()));
    }
    match field.violated.take() {
        None => Ok(Held { counts: field.counts, digest: field.story.digest() }),
        Some(violated) => {
            let text = format!("{}\n{}\n{}", field.plan, field.story.end(), field.auditor);
            Err(Box::new(Broken { seed, violated, text }))
        }
    }
}

impl Field {
    fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut dice = Dice::new(seed);
        let plan = Plan::of(seed, &mut dice);
        let mut field = Self {
            house: House::new(&plan),
            now: plan.start,
            queue: BTreeMap::new(),
            last_event: 0,
            down_until: plan.start,
            doom: None,
            envoys: Vec::new(),
            waiting: BTreeMap::new(),
            last_stream: 0,
            last_life: 0,
            last_process: 0,
            flights: BTreeMap::new(),
            last_flight: 0,
            polls: BTreeMap::new(),
            stopped: BTreeMap::new(),
            keys: Vec::new(),
            suspended: BTreeSet::new(),
            named: 0,
            auditor: Auditor::default(),
            witness: Witness::default(),
            story: Story::new(plan.start),
            mutant: mutant.map(mutant::Spoiler::new),
            calm: false,
            served: false,
            changed: false,
            violated: None,
            counts: Counts::default(),
            dice,
            plan,
        };
        field.open();
        field
    }

    /// Everybody is there, and nobody has done anything.
    fn open(&mut self) {
        for n in 0..self.plan.envoys {
            self.last_process += 1;
            let envoy = Envoy::new(n, self.last_process, self.plan.ppm[n], self.now);
            self.envoys.push(envoy);
            self.populate(n);
            let first = self.dice.between(0, 99);
            self.after(Span::from_millis(first), Event::Tick(n));
        }
        // A pool is there before its members.
        for n in 0..self.plan.customers.len() {
            let plan::Customer { account, payer, credits } = self.plan.customers[n].clone();
            let pool = (payer != account).then_some(payer);
            let key = self.name("key");
            self.house.open(&account, pool.as_ref(), &key, self.now);
            self.keys.push((key, n));
            let name = self.name("grant");
            self.house.top_up(&account, credits, &name, self.now);
        }
        self.took();
        self.after(SWEEP, Event::Sweep);
        self.after(Span::from_millis(1), Event::Act);
    }

    /// A name that nothing else has.
    fn name(&mut self, what: &str) -> String {
        self.named += 1;
        format!("{what}-{:060}", self.named)
    }

    fn after(&mut self, span: Span, event: Event) {
        self.last_event += 1;
        self.queue.insert((self.now.plus(span), self.last_event), event);
    }

    fn tell(&mut self, sentence: &str) {
        self.story.tell(self.now, sentence);
    }

    /// A rule is broken. The first one counts.
    fn break_rule(&mut self, what: String) {
        self.violated.get_or_insert(what);
    }

    fn run(&mut self) {
        let mut acts = self.plan.acts;
        while acts > 0 && self.violated.is_none() {
            if self.step() {
                acts -= 1;
                self.act();
                let pause = match self.dice.between(0, 19) {
                    0..=11 => self.dice.between(0, 40),
                    12..=18 => self.dice.between(40, 600),
                    _ => self.dice.between(600, 6_000),
                };
                self.after(Span::from_millis(pause), Event::Act);
                self.check();
            }
        }
        if self.violated.is_none() {
            self.rest();
        }
    }

    /// The next event. True if it is for the history to say what happens.
    fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.queue.pop_first() else { return true };
        self.now = self.now.max(at);
        self.counts.events += 1;
        let of = match &event {
            Event::Tick(envoy) => Some(*envoy),
            Event::Back(message, ..) | Event::Timeout(message) => Some(message.at.0),
            Event::Ends(flight) => self.flights.get(flight).map(|flight| flight.at.0),
            _ => None,
        };
        if let Some(envoy) = of
            && self.envoys[envoy].stands_until > self.now
        {
            // It stands still: this is seen when it goes on.
            let rest = self.envoys[envoy].stands_until.since(self.now);
            self.after(rest, event);
            return false;
        }
        match event {
            Event::Act => return true,
            Event::Tick(envoy) => self.tick(envoy),
            Event::Sweep => self.sweep(),
            Event::Arrive(message) => self.arrive(message),
            Event::Again(message) => self.arrive(message),
            Event::Back(message, result, said) => self.back(&message, &result, &said),
            Event::Timeout(message) => self.time_out(&message),
            Event::PollOver(poll) => self.poll_over(poll),
            Event::Ends(flight) => self.ends(flight),
            Event::Leaves(stream) => self.leaves(stream),
            Event::Heals(envoy) => self.heals(envoy),
            Event::Asks(envoy, customer) if !self.calm => {
                let worker = self.dice.place(self.plan.workers);
                self.ask((envoy, worker), customer, None, flight::Wish::plain());
            }
            Event::Asks(..) => {}
        }
        self.check();
        false
    }

    /// Takes in what the ledger wrote down.
    fn took(&mut self) {
        self.took_settled(&BTreeMap::new());
    }

    /// The same, where what was written of these cells settled them.
    fn took_settled(&mut self, soft: &BTreeMap<CellId, Cell>) {
        for line in self.house.lines(soft) {
            if let Some(grant) = line.entry.grant
                && !self.auditor.knows(grant)
            {
                let unit = self.house.terms(grant).unit;
                self.auditor.learn(grant, &line.entry.account, unit);
            }
            self.auditor.enter(&line);
            self.changed = true;
        }
    }

    /// The auditor looks at everything that changed.
    fn check(&mut self) {
        if !core::mem::take(&mut self.changed) {
            return;
        }
        for kind in self.auditor.kinds() {
            let book = self.house.book(&kind.0, self.now);
            let grants = self.house.grants(&kind.0);
            let mut shown = (0, 0, None);
            for (_, grant) in grants.iter().filter(|(_, grant)| grant.terms.unit == kind.1) {
                shown = (shown.0 + grant.avail.get(), shown.1 + grant.leased.get(), None);
            }
            if kind.1 == Unit::Credits {
                shown.2 = Some(book.account.debt.get());
            }
            if let Err(what) = self.auditor.check(&kind, shown, &book) {
                self.break_rule(what);
            }
        }
    }

    fn sweep(&mut self) {
        self.after(SWEEP, Event::Sweep);
        if self.now < self.down_until {
            return;
        }
        let hastes = self.mutant.as_ref().map_or(&[Span::ZERO][..], mutant::Spoiler::hastes);
        for account in self.house.due(self.now.plus(hastes[0])) {
            let before = self.crashed(&account);
            for haste in hastes {
                let soft = self.house.settle(&account, self.now, *haste);
                self.witness(&account, &soft);
                self.took_settled(&soft);
            }
            let after = self.crashed(&account);
            if after != before {
                let (credits, requests) = (after.0 - before.0, after.1 - before.1);
                self.tell(&format!(
                    "The ledger settles {credits} micro-credits and {requests} requests of {account} that nobody reported."
                ));
            }
        }
        self.notify();
    }

    /// What was left of cells whose time is over for good, the crash policy has settled.
    fn witness(&mut self, account: &AccountId, soft: &BTreeMap<CellId, Cell>) {
        let open = self.house.book(account, self.now).cells;
        for (id, before) in soft.iter().filter(|(id, _)| !open.contains_key(id)) {
            if before.outstanding().is_zero() {
                continue;
            }
            self.auditor.settle(account, id, before);
            let process = self.auditor.owner(id).unwrap();
            let envoy = self.envoys.iter().find(|envoy| envoy.process == process);
            let it = Circumstances {
                now: self.now,
                ttl: self.plan.ttl,
                payer: account,
                process,
                lives: envoy.is_some(),
                thawed: envoy.map_or(Instant::EPOCH, |envoy| envoy.thawed),
            };
            match self.witness.judge(id, before, &it) {
                Ok(why) => self.counts.settle(why),
                Err(what) => self.break_rule(what),
            }
        }
    }

    /// What the crash policy has settled of an account: in credits, and in requests of a window.
    fn crashed(&self, account: &AccountId) -> (i64, i64) {
        let of = |unit| {
            let books = self.auditor.see(&(account.clone(), unit));
            books.crash_charged + books.crash_refunded
        };
        (of(Unit::Credits), of(Unit::Requests))
    }
}
