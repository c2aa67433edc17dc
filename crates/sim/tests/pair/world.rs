//! Two gateways, the ledger and the network between them: everything that can happen next, and what must stay true.

use crate::bounds::{Bounds, Mutant};
use crate::gateway::{Act, Done, Gateways};
use crate::house::{GRANTS, House, NONE, PerGrant, Settled};
use ledger::CrashPolicy;

/// The most messages of one gateway under way in one direction.
pub(crate) const LINE: usize = 2;

/// One state of everything: books, gateways and messages by their numbers.
///
/// A message that was heard stays where it is and may be heard again, and one that never is was lost; so it is with
/// recalls. When there is no room for another one, one of them is lost for good.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct World {
    pub(crate) gateways: [u32; 2],
    pub(crate) up: [[u32; LINE]; 2],
    pub(crate) down: [[u32; LINE]; 2],
    /// How many syncs may still be sent, by whomever.
    pub(crate) sends: u8,
    /// Whether it was asked for what lies free, and may hear so at any time from then on.
    pub(crate) recalled: [bool; 2],
    /// What the crash policy declared lost (`refund`), or charged without knowing (`charge`).
    pub(crate) settled: [PerGrant; 2],
    pub(crate) now: u8,
    pub(crate) ledger: u32,
}

/// How one world comes to the next. Which of the gateways is called the first is not the same in all steps of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "read by whoever reads a trace")]
pub(crate) enum Step {
    Begin,
    Gateway(usize, Act),
    GatewayHears(usize, u32),
    LedgerHears(usize, u32),
    Expire,
    Tick,
}

/// The two sides, with all that was computed of them.
pub(crate) struct Sides {
    pub(crate) bounds: Bounds,
    pub(crate) house: House,
    pub(crate) gateways: Gateways,
}

/// What comes next, or why that is wrong.
pub(crate) type Next = Result<(), (Step, String)>;

impl Sides {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, house: House::new(bounds), gateways: Gateways::new(bounds) }
    }

    pub(crate) fn first(&mut self) -> World {
        let (gateway, ledger) = (self.gateways.first(), self.house.first());
        let line = [[NONE; LINE]; 2];
        World {
            gateways: [gateway; 2],
            up: line,
            down: line,
            sends: self.bounds.sends,
            recalled: [false; 2],
            settled: [[0; GRANTS]; 2],
            now: 0,
            ledger,
        }
    }

    /// Of the two worlds that differ in the gateways' names alone, always the same one.
    pub(crate) fn canonical(&mut self, world: World) -> World {
        if world.gateways[0] < world.gateways[1] {
            return world;
        }
        let other = World {
            gateways: [world.gateways[1], world.gateways[0]],
            up: [world.up[1], world.up[0]],
            down: [world.down[1], world.down[0]],
            sends: world.sends,
            recalled: [world.recalled[1], world.recalled[0]],
            settled: [world.settled[1], world.settled[0]],
            now: world.now,
            ledger: self.house.swap(world.ledger),
        };
        other.min(world)
    }

    /// Everything that can happen next.
    pub(crate) fn next(&mut self, world: &World, all: &mut Vec<(Step, World)>) -> Next {
        for node in 0..2 {
            if self.gateways.sums(world.gateways[node]).alive {
                self.gateway_acts(world, node, all)?;
            }
            for at in 0..LINE {
                if world.up[node][at] != NONE {
                    self.ledger_hears(world, node, world.up[node][at], all)?;
                }
            }
        }
        self.expires(world, all)?;
        let overdue = |node: usize| {
            let it = self.gateways.sums(world.gateways[node]);
            it.alive && it.must_end <= world.now
        };
        if world.now < self.bounds.until && !overdue(0) && !overdue(1) {
            let mut to = World { now: world.now + 1, ..*world };
            for gateway in &mut to.gateways {
                if let Some(aged) = self.gateways.act(*gateway, to.now, Act::Age) {
                    *gateway = aged.gateway;
                }
            }
            all.push((Step::Tick, to));
        }
        Ok(())
    }

    fn gateway_acts(&mut self, world: &World, node: usize, all: &mut Vec<(Step, World)>) -> Next {
        for (act, done) in self.gateways.able(world.gateways[node], world.now).iter() {
            let can = match act {
                Act::Recall => world.recalled[node],
                Act::Send { .. } => world.sends > 0,
                Act::Die { .. } => self.bounds.dies && self.gateways.sums(world.gateways[1 - node]).alive,
                _ => true,
            };
            if can {
                self.does(world, node, *act, *done, all)?;
            }
        }
        for number in world.down[node].into_iter().filter(|number| *number != NONE) {
            let answer = (number, self.house.answers.get(number));
            let gateway = self.gateways.hear(world.gateways[node], world.now, answer);
            let mut to = *world;
            to.gateways[node] = gateway;
            all.push((Step::GatewayHears(node, number), to));
        }
        Ok(())
    }

    fn does(
        &mut self,
        world: &World,
        node: usize,
        act: Act,
        done: Done,
        all: &mut Vec<(Step, World)>,
    ) -> Next {
        let (step, mut to) = (Step::Gateway(node, act), *world);
        to.gateways[node] = done.gateway;
        match act {
            Act::Send { .. } => {
                to.sends -= 1;
                put(world.up[node], self.bounds.up, done.sync, |line| {
                    to.up[node] = line;
                    all.push((step, to));
                });
                return Ok(());
            }
            // Nobody hears what is sent to the dead.
            Act::Die { .. } => (to.down[node], to.recalled[node]) = ([NONE; LINE], false),
            Act::Admit { .. } => {
                let held = [world.gateways[node], done.gateway].map(|it| self.gateways.sums(it).in_flight);
                let ends = self.house.sums(world.ledger).ends;
                if (0..GRANTS).any(|at| held[1][at] > held[0][at] && ends[at] <= world.now) {
                    return Err((step, "a request was let through on what has ended".to_owned()));
                }
            }
            _ => {}
        }
        all.push((step, to));
        Ok(())
    }

    fn ledger_hears(&mut self, world: &World, node: usize, sync: u32, all: &mut Vec<(Step, World)>) -> Next {
        let step = Step::LedgerHears(node, sync);
        let message = (sync, self.gateways.syncs.get(sync));
        let heard = self.house.hear(world.ledger, message, node, world.now).map_err(|why| (step, why))?;
        let mut to = World { ledger: heard.ledger, ..*world };
        let lives = [0, 1].map(|node| self.gateways.sums(world.gateways[node]).alive);
        for (recalled, lives) in to.recalled.iter_mut().zip(lives) {
            *recalled |= heard.recalls && lives;
        }
        let answer = if lives[node] { heard.answer } else { NONE };
        put(world.down[node], self.bounds.down, answer, |line| {
            to.down[node] = line;
            all.push((step, to));
        });
        Ok(())
    }

    fn expires(&mut self, world: &World, all: &mut Vec<(Step, World)>) -> Next {
        let wrong = |why: String| (Step::Expire, why);
        let (ledger, ended) = self.house.expire(world.ledger, world.now).map_err(wrong)?;
        if ledger == world.ledger {
            return Ok(());
        }
        let mut to = World { ledger, ..*world };
        for end in ended {
            let more = self.unsaid(world.gateways[end.node], end, world.now).map_err(wrong)?;
            to.settled[end.node][end.key.grant as usize - 1] += more;
        }
        all.push((Step::Expire, to));
        Ok(())
    }

    /// What the crash policy decided without knowing: lost, or charged; never more than its bound.
    /// And never while a request may still be under way on it, at a gateway that lives.
    pub(crate) fn unsaid(&self, gateway: u32, end: Settled, now: u8) -> Result<u8, String> {
        if self.gateways.last_end(gateway, end.key).is_some_and(|ends| ends > now) {
            return Err(format!("settled at {now} while a request on it lives: {end:?}"));
        }
        let truly = self.gateways.consumed(gateway, end.key).unwrap_or(end.used);
        let (unknown, bound) = (truly.saturating_sub(end.used), end.known + end.exposure);
        if unknown > bound {
            return Err(format!("a crash lost {unknown}, more than known holds and exposure, {bound}"));
        }
        Ok(match self.bounds.crash {
            CrashPolicy::Charge => end.rest.saturating_sub(unknown),
            CrashPolicy::Refund => unknown,
        })
    }

    /// What must be true in every state, beyond the ledger's own invariants.
    pub(crate) fn check(&self, world: &World) -> Result<(), String> {
        let books = self.house.sums(world.ledger);
        let refunds = self.bounds.crash == CrashPolicy::Refund;
        let (mut served, mut gone, mut charged) = (0, [0; GRANTS], 0);
        for node in 0..2 {
            let it = self.gateways.sums(world.gateways[node]);
            for at in 0..GRANTS {
                let may = it.spendable[usize::from(world.now)][at];
                let (used, held) = (it.served[at], it.in_flight[at]);
                let (lost, over) = match world.settled[node][at] {
                    settled if refunds => (settled, 0),
                    settled => (0, settled),
                };
                let reserved = books.reserved[node][at];
                if used + held + may > reserved + lost {
                    return Err(format!(
                        "overspent: {used} served, {held} in flight, {may} to be spent; {reserved} reserved, {lost} lost"
                    ));
                }
                let billed = books.billed[node][at];
                if billed > used + over {
                    return Err(format!("charged {billed} for {used} served, {over} by policy"));
                }
                served += used;
                charged += over;
                gone[at] += used + held;
                if refunds {
                    gone[at] = gone[at].saturating_sub(lost);
                }
            }
        }
        if books.paid > served + charged {
            return Err(format!("{} charged and owed for {served} served", books.paid));
        }
        self.check_grants(world, gone)
    }

    /// No grant gave more than it had, or has more than it was.
    fn check_grants(&self, world: &World, gone: PerGrant) -> Result<(), String> {
        let books = self.house.sums(world.ledger);
        let Bounds { credits, windows, midnight, .. } = self.bounds;
        for at in 0..GRANTS {
            let most = match at {
                0 => credits,
                _ if books.ends[at] == midnight => windows[0],
                _ => windows[1],
            };
            if books.amount[at] != 0 && books.amount[at] != most {
                return Err(format!("grant {} has {} and was given {most}", at + 1, books.amount[at]));
            }
            let (avail, expired) = (books.avail[at], books.expired[at]);
            if gone[at] + avail + expired > books.amount[at] {
                let gone = gone[at];
                return Err(format!(
                    "grant {}: {gone} gone, {avail} available and {expired} expired of {}",
                    at + 1,
                    books.amount[at]
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn broken(&self) -> bool {
        self.bounds.mutant != Mutant::None
    }
}

/// Every line that may come of one more message: it is lost, or has its place, or takes another one's.
fn put(line: [u32; LINE], room: usize, message: u32, mut each: impl FnMut([u32; LINE])) {
    if message == NONE || line.contains(&message) {
        return each(line);
    }
    let used = line.iter().filter(|m| **m != NONE).count();
    if used < room {
        let mut to = line;
        to[used] = message;
        to.sort_unstable();
        return each(to);
    }
    each(line);
    for at in 0..used {
        let mut to = line;
        to[at] = message;
        to.sort_unstable();
        each(to);
    }
}
