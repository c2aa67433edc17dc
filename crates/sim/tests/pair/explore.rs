//! Breadth first through all states, each known by 64 bits of it.

use crate::bounds::Bounds;
use crate::heal::Healer;
use crate::known::{Map, Set};
use crate::world::{LINE, Sides, Step, World};
use std::time::Instant;

/// What an exploration came to.
#[derive(Debug)]
#[allow(dead_code, reason = "printed")]
pub(crate) struct Explored {
    pub(crate) states: usize,
    /// How many ways from one to another.
    pub(crate) steps: usize,
    pub(crate) depth: usize,
    /// How many different books and gateways there are.
    pub(crate) books: usize,
    pub(crate) gateways: usize,
    /// From how many states it was tried that all comes to rest.
    pub(crate) healed: usize,
}

/// What was wrong, and how it came to that.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) why: String,
    pub(crate) how: Vec<Step>,
}

/// Two different states have the same 64 bits once in some millions of explorations of this size.
fn print_of(world: &World) -> u64 {
    let two = |[a, b]: [u32; 2]| u64::from(a) << 32 | u64::from(b);
    let bytes = |[a, b, c]: [u8; 3]| u64::from(a) << 16 | u64::from(b) << 8 | u64::from(c);
    let [r, s] = world.recalled.map(u64::from);
    let rest = u64::from(world.now) << 16 | u64::from(world.sends) << 8 | r << 1 | s;
    const { assert!(LINE == 2, "lines are hashed as pairs") };
    let words = [
        two(world.gateways),
        two(world.up[0]),
        two(world.up[1]),
        two(world.down[0]),
        two(world.down[1]),
        bytes(world.settled[0]) << 24 | bytes(world.settled[1]),
        u64::from(world.ledger) << 32 | rest,
    ];
    words.into_iter().fold(0x243f_6a88_85a3_08d3, |hash, word| {
        let folded = |a: u64, b: u64| {
            let wide = u128::from(a) * u128::from(b);
            (wide >> 64) as u64 ^ wide as u64
        };
        folded(hash ^ 0xa076_1d64_78bd_642f, word ^ 0xe703_7ed1_a0b4_28db) ^ hash.rotate_left(23)
    })
}

/// All states, or the first that is wrong. With `traced`, how it came to it too, which takes more memory.
pub(crate) fn explore(bounds: Bounds, traced: bool) -> Result<Explored, Broken> {
    let (begun, mut sides, mut healer) = (Instant::now(), Sides::new(bounds), Healer::default());
    let first = sides.first();
    let mut seen: Set<u64> = Set::default();
    let mut parents: Map<u64, (u64, Step)> = Map::default();
    let (mut wave, mut later, mut reached) = (vec![first], Vec::new(), Vec::new());
    let (mut depth, mut steps) = (0, 0);
    seen.insert(print_of(&first));
    while !wave.is_empty() {
        for world in wave.drain(..) {
            let from = print_of(&world);
            let broken =
                |parents: &Map<u64, (u64, Step)>, why, step| Broken { why, how: trace(parents, from, step) };
            reached.clear();
            if let Err((step, why)) = sides.next(&world, &mut reached) {
                return Err(broken(&parents, why, step));
            }
            steps += reached.len();
            for (step, to) in reached.drain(..) {
                let to = sides.canonical(to);
                let print = print_of(&to);
                if !seen.insert(print) {
                    continue;
                }
                if traced {
                    parents.insert(print, (from, step));
                }
                if let Err(why) = sides.check(&to).and_then(|()| healer.heal(&mut sides, &to)) {
                    return Err(broken(&parents, why, step));
                }
                later.push(to);
            }
        }
        assert!(
            seen.len() <= bounds.states_max,
            "more than {} states: choose smaller bounds",
            bounds.states_max
        );
        core::mem::swap(&mut wave, &mut later);
        depth += 1;
        if !sides.broken() {
            let (all, secs) = (seen.len(), begun.elapsed().as_secs());
            println!("  depth {depth}: {all} states, {} of them new, {secs} s", wave.len());
        }
    }
    let (books, gateways, states) = (sides.house.len(), sides.gateways.len(), seen.len());
    Ok(Explored { states, steps, depth, books, gateways, healed: healer.count() })
}

fn trace(parents: &Map<u64, (u64, Step)>, mut at: u64, last: Step) -> Vec<Step> {
    let mut how = vec![last];
    while let Some((before, step)) = parents.get(&at) {
        how.push(*step);
        at = *before;
    }
    how.reverse();
    how
}
