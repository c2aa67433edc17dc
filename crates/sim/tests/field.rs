//! Whole histories out of seeds: each holds, the same seed tells the same story, and every mutant is caught.
#![allow(clippy::unwrap_used, clippy::panic)]

use sim::field::{Mutant, play};

#[test]
fn two_hundred_histories_hold() {
    for seed in 1..=200 {
        play(seed, None).unwrap_or_else(|broken| panic!("{broken}\nPlay it again: make sim SEED={seed}"));
    }
}

#[test]
fn a_seed_tells_the_same_story_every_time() {
    for seed in [1, 17, 99] {
        let (first, second) = (play(seed, None).unwrap(), play(seed, None).unwrap());
        assert_eq!(first, second);
        assert_ne!(first.digest, play(seed + 1, None).unwrap().digest);
    }
}

/// A simulator that catches nothing proves nothing.
#[test]
fn every_mutant_is_caught() {
    let mut escaped = Vec::new();
    for mutant in Mutant::ALL {
        let caught = (1..=1_500).find_map(|seed| play(seed, Some(mutant)).err());
        match caught {
            Some(broken) => println!("{mutant:?}: seed {}: {}", broken.seed, broken.violated),
            None => escaped.push(mutant),
        }
    }
    assert!(escaped.is_empty(), "nobody noticed {escaped:?}");
}
