//! From every state, what comes of it when nothing fails any more: no credit stays where nobody can use it.
//!
//! Whatever is under way in that state is lost first. Then messages arrive at once, and nobody dies any more.

use crate::bounds::Bounds;
use crate::gateway::Act;
use crate::house::{GRANTS, Heard, NONE, PerGrant};
use crate::known::Set;
use crate::world::{Sides, World};
use ledger::CrashPolicy;

/// The states that were tried, each once; and what was found beside.
#[derive(Default)]
pub(crate) struct Healer {
    /// With what the crash policy has settled, of which all has to add up in the end.
    tried: Set<(u32, [u32; 2], u8, [PerGrant; 2])>,
}

/// A state without messages.
#[derive(Clone, Copy)]
struct Rest {
    ledger: u32,
    gateways: [u32; 2],
    now: u8,
}

impl Healer {
    pub(crate) fn count(&self) -> usize {
        self.tried.len()
    }

    pub(crate) fn heal(&mut self, sides: &mut Sides, world: &World) -> Result<(), String> {
        let World { ledger, gateways, now, settled, .. } = *world;
        if !self.tried.insert((ledger, gateways, now, settled)) {
            return Ok(());
        }
        let rest = Rest { ledger, gateways, now };
        for asker in 0..2 {
            rest.asks(sides, asker)?;
        }
        self.comes_to_rest(rest, sides, world)
    }

    /// All requests end, all is told, time passes: nothing is lent any more, all that was used is charged, and what is
    /// available can be had.
    fn comes_to_rest(&mut self, mut it: Rest, sides: &mut Sides, world: &World) -> Result<(), String> {
        let mut asked = [false; 2];
        for node in [0, 1, 0] {
            asked[node] = it.ends(sides, node)?;
        }
        let mut settled = world.settled;
        let Bounds { ttl, longest, .. } = sides.bounds;
        for _ in 0..=2 * (ttl + longest) {
            it.now += 1;
            for node in 0..2 {
                it.does(sides, node, Act::Age);
            }
            let (ledger, ended) = sides.house.expire(it.ledger, it.now)?;
            it.ledger = ledger;
            for end in ended {
                if asked[end.node] {
                    return Err(format!(
                        "a lease was left to the crash policy though its gateway lives: {end:?}"
                    ));
                }
                let more = sides.unsaid(it.gateways[end.node], end, it.now)?;
                settled[end.node][end.key.grant as usize - 1] += more;
            }
            for node in 0..2 {
                it.tells_all(sides, node)?;
            }
        }
        if sides.house.sums(it.ledger).leased != [0; GRANTS] {
            return Err("something stays lent for ever".to_owned());
        }
        it.adds_up(sides, settled)?;
        it.can_be_had(sides)
    }
}

impl Rest {
    fn lives(&self, sides: &Sides, node: usize) -> bool {
        sides.gateways.sums(self.gateways[node]).alive
    }

    fn does(&mut self, sides: &mut Sides, node: usize, act: Act) -> bool {
        let done = sides.gateways.act(self.gateways[node], self.now, act);
        if let Some(done) = done {
            self.gateways[node] = done.gateway;
        }
        done.is_some()
    }

    /// A sync and its answer, if there is anything to say.
    fn talks(&mut self, sides: &mut Sides, node: usize, asks: bool) -> Result<Option<Heard>, String> {
        // Whatever was under way is lost, and who asks knows it.
        let send = Act::Send { asks, lost: asks, gives: false };
        let Some(done) = sides.gateways.act(self.gateways[node], self.now, send) else { return Ok(None) };
        let sync = (done.sync, sides.gateways.syncs.get(done.sync));
        let heard = sides.house.hear(self.ledger, sync, node, self.now)?;
        (self.ledger, self.gateways[node]) = (heard.ledger, done.gateway);
        if heard.answer != NONE {
            let answer = (heard.answer, sides.house.answers.get(heard.answer));
            self.gateways[node] = sides.gateways.hear(done.gateway, self.now, answer);
        }
        Ok(Some(heard))
    }

    /// What is over is put in order, and the ledger hears of everything.
    fn tells_all(&mut self, sides: &mut Sides, node: usize) -> Result<(), String> {
        for round in 0..4 {
            let untold = sides.gateways.sums(self.gateways[node]).untold;
            if !self.lives(sides, node) || (round > 0 && !untold) {
                return Ok(());
            }
            self.talks(sides, node, false)?;
        }
        Err("a gateway is never done with telling".to_owned())
    }

    /// Its requests end, all of them served; what may have been lent unheard is asked for; and all of it goes back.
    fn ends(&mut self, sides: &mut Sides, node: usize) -> Result<bool, String> {
        if !self.lives(sides, node) {
            return Ok(false);
        }
        while self.does(sides, node, Act::Finish { at: 0, used: true }) {}
        let heard = self.talks(sides, node, true)?;
        self.does(sides, node, Act::Recall);
        self.tells_all(sides, node)?;
        Ok(heard.is_some())
    }

    /// I16: a request that asks is let through as soon as others have given back what lies free, if that is enough.
    fn asks(mut self, sides: &mut Sides, asker: usize) -> Result<(), String> {
        let other = 1 - asker;
        if !self.lives(sides, asker) || !self.lives(sides, other) {
            return Ok(());
        }
        for round in 0..3 {
            let Some(heard) = self.talks(sides, asker, true)? else { return Ok(()) };
            if heard.granted {
                return Ok(());
            }
            if round == 0 {
                // What may have been lent to it unheard, it asks for once more; what is over goes back with that.
                self.talks(sides, other, true)?;
            }
            if heard.recalls {
                self.does(sides, other, Act::Recall);
            }
            self.tells_all(sides, other)?;
        }
        let (books, idle) = (sides.house.sums(self.ledger), sides.gateways.sums(self.gateways[other]).free);
        let there: u8 = (0..GRANTS).filter(|at| books.ends[*at] > self.now).map(|at| books.avail[at]).sum();
        if there > books.debt || idle > 0 {
            return Err(format!("refused, though {there} are available, and {idle} lie idle elsewhere"));
        }
        Ok(())
    }

    /// What was served is charged, what the crash policy settled apart.
    fn adds_up(&self, sides: &Sides, settled: [PerGrant; 2]) -> Result<(), String> {
        let books = sides.house.sums(self.ledger);
        let refunds = sides.bounds.crash == CrashPolicy::Refund;
        for node in 0..2 {
            let served = sides.gateways.sums(self.gateways[node]).served;
            for at in 0..GRANTS {
                let (served, billed, apart) = (served[at], books.billed[node][at], settled[node][at]);
                let (lost, over) = if refunds { (apart, 0) } else { (0, apart) };
                if served > billed + lost || billed > served + over {
                    return Err(format!("at rest {billed} are charged for {served} served, {apart} apart"));
                }
            }
        }
        Ok(())
    }

    /// The last credit can be spent, wherever it is asked for, and no credit beyond it.
    fn can_be_had(&self, sides: &mut Sides) -> Result<(), String> {
        let books = *sides.house.sums(self.ledger);
        let there = books.avail[0].saturating_sub(books.debt);
        for node in 0..2 {
            if !self.lives(sides, node) {
                continue;
            }
            for (n, expected) in [(there, true), (there + 1, false)] {
                if n > 0 && sides.house.grants(self.ledger, node, self.now, n)? != expected {
                    return Err(format!("at rest, of {there} there are, {n} are granted: {}", !expected));
                }
            }
        }
        Ok(())
    }
}
