//! Every target over its seeds, and over changes of them that one fixed seed chooses: a fuzzer's run, as short as it is repeatable.
//!
//! `FUZZ_INPUT=file FUZZER=name cargo test -p tollgate-fuzzing one_input` runs one target over one file.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use fuzzing::{TARGETS, target};
use std::path::Path;

/// How many changed inputs each target gets: what it does in some seconds.
const ROUNDS: [(&str, u32); 16] = [
    ("signature", 6_000),
    ("event", 20_000),
    ("usage", 20_000),
    ("ask", 20_000),
    ("config", 1_000),
    ("catalog", 1_000),
    ("texts", 20_000),
    ("slot", 2_000),
    ("seen", 2_000),
    ("metered", 6_000),
    ("delivery", 600),
    ("worker", 60),
    ("stripe", 150),
    ("sync", 150),
    ("ledger", 300),
    ("world", 30),
];

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
    let mut files: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().map(|it| it.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    /// A seed with some changes, or nothing but chance.
    fn input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = if seeds.is_empty() || self.below(3) == 0 {
            (0..self.below(400)).map(|_| self.next().to_le_bytes()[0]).collect()
        } else {
            seeds[self.below(seeds.len())].clone()
        };
        for _ in 0..self.below(6) {
            let at = self.below(bytes.len() + 1);
            match self.below(5) {
                0 => bytes.insert(at, self.next().to_le_bytes()[0]),
                1 => bytes.truncate(at),
                2 => bytes.extend_from_within(at..),
                3 if at < bytes.len() => drop(bytes.remove(at)),
                _ if at < bytes.len() => bytes[at] = self.next().to_le_bytes()[0],
                _ => {}
            }
        }
        bytes.truncate(4096);
        bytes
    }
}

fn run(name: &str) {
    let target = target(name).unwrap();
    let seeds = seeds(name);
    seeds.iter().for_each(|seed| (target.run)(seed));
    let mut numbers = Numbers(1);
    let rounds = ROUNDS.iter().find(|row| row.0 == name).unwrap().1;
    for round in 0..rounds {
        let input = numbers.input(&seeds);
        let result = std::panic::catch_unwind(|| (target.run)(&input));
        if let Err(panic) = result {
            let file = std::env::temp_dir().join(format!("tollgate-{name}-{round}"));
            std::fs::write(&file, &input).unwrap();
            eprintln!("{name} fails with {}", file.display());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn one_input() {
    let (Ok(name), Ok(file)) = (std::env::var("FUZZER"), std::env::var("FUZZ_INPUT")) else { return };
    (target(&name).unwrap().run)(&std::fs::read(file).unwrap());
}

#[test]
fn every_target_has_its_rounds() {
    let mut named = TARGETS.map(|target| target.name);
    let mut rounds = ROUNDS.map(|row| row.0);
    named.sort_unstable();
    rounds.sort_unstable();
    assert_eq!(named, rounds);
}

macro_rules! short {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*
    };
}

short!(
    signature, event, usage, ask, config, catalog, texts, slot, seen, metered, delivery, worker, stripe,
    sync, ledger, world
);
