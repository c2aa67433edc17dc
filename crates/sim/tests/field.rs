//! Whole histories out of seeds: each holds, the same seed tells the same story, and every mutant is caught.
#![allow(clippy::unwrap_used, clippy::panic)]

use sim::field::{Counts, Mutant, Why, play};

#[test]
fn two_hundred_histories_hold() {
    let mut sum = Counts::default();
    for seed in 1..=200 {
        let held = play(seed, None);
        let held = held.unwrap_or_else(|broken| panic!("{broken}\nPlay it again: make sim SEED={seed}"));
        sum.add(&held.counts);
    }
    println!("{sum:?}");
    // What is excused is looked at too: deaths that hid something, and answers that were lost and cost nothing.
    let settled = |why: Why| sum.settled[why as usize];
    assert!(settled(Why::Dead) >= 100 && settled(Why::Silent) >= 100, "{:?}", sum.settled);
    assert!(sum.untold >= 50, "{} deaths hid something", sum.untold);
    assert!(sum.recovered >= 50 && sum.faithful >= 20, "{} of {}", sum.recovered, sum.faithful);
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
