//! Plays histories of gateways and billing out of seeds: `sim --seed 7`, `sim --seeds 1..10000`, `sim --soak` (MINUTES).
#![allow(clippy::unwrap_used, reason = "a tool for developers: it may end where it is used wrongly")]

use sim::field::{Broken, Counts, Mutant, Why, play};
use std::io::{IsTerminal, Write, stdout};
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const USAGE: &str =
    "sim --seed N | --seeds A..B | --mutants | --soak [MINUTES]   (THREADS: how many at a time)";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // A panic is told with the story that led to it.
    std::panic::set_hook(Box::new(|_| {}));
    match words[..] {
        ["--seed", seed] => one(seed.parse().unwrap()),
        ["--seeds", range] => {
            let (first, last) = range.split_once("..").unwrap_or((range, range));
            many(first.parse().unwrap()..last.parse::<u64>().unwrap() + 1, None)
        }
        ["--mutants"] => mutants(),
        ["--soak"] => soak(60),
        ["--soak", minutes] => soak(minutes.parse().unwrap()),
        _ => {
            println!("{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn one(seed: u64) -> ExitCode {
    match play(seed, None) {
        Ok(held) => {
            println!("seed {seed} holds: {:?}, digest {:016x}", held.counts, held.digest);
            ExitCode::SUCCESS
        }
        Err(broken) => {
            println!("{broken}");
            ExitCode::FAILURE
        }
    }
}

/// By which seed each mutant is caught, and by which rule.
fn mutants() -> ExitCode {
    let mut all = true;
    for mutant in Mutant::ALL {
        let caught = (1..=2_000).find_map(|seed| play(seed, Some(mutant)).err());
        all &= caught.is_some();
        let how = caught.map(|broken| format!("seed {}: {}", broken.seed, broken.violated));
        println!("{mutant:?}: {}", how.unwrap_or_else(|| "escapes".into()));
    }
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// From a seed that no earlier run began with.
fn soak(minutes: u64) -> ExitCode {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let first = now.as_secs() * 1_000;
    many(first..u64::MAX, Some(Duration::from_secs(minutes * 60)))
}

fn many(seeds: Range<u64>, time: Option<Duration>) -> ExitCode {
    let threads = std::env::var("THREADS").ok().and_then(|n| n.parse().ok());
    let threads: usize =
        threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let (next, stop, began) = (AtomicU64::new(seeds.start), AtomicBool::new(false), Instant::now());
    let (tell, told) = mpsc::channel::<Result<Counts, Box<Broken>>>();
    let (mut done, mut sum, mut broken) = (0_u64, Counts::default(), None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (tell, next, stop, end) = (tell.clone(), &next, &stop, seeds.end);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let over = seed >= end || time.is_some_and(|time| began.elapsed() >= time);
                    if over || tell.send(play(seed, None).map(|held| held.counts)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        for result in told {
            match result {
                Ok(counts) => {
                    done += 1;
                    sum.add(&counts);
                }
                Err(one) => {
                    stop.store(true, Ordering::Relaxed);
                    broken.get_or_insert(one);
                }
            }
            if done.is_multiple_of(50) && stdout().is_terminal() {
                print!("\r{done} seeds, {} a second", a_second(done, began));
                let _ = stdout().flush();
            }
        }
    });
    let seconds = began.elapsed().as_secs();
    println!("\r{done} seeds hold, from {}, in {seconds} s: {} a second", seeds.start, a_second(done, began));
    println!("{sum:?}");
    let settled = Why::ALL.iter().zip(sum.settled).map(|(why, cells)| format!("{why:?} {cells}"));
    println!("cells that the crash policy settled, by why: {}", settled.collect::<Vec<_>>().join(", "));
    match broken {
        None => ExitCode::SUCCESS,
        Some(broken) => {
            println!("\n{broken}\nPlay it again: make sim SEED={}", broken.seed);
            ExitCode::FAILURE
        }
    }
}

fn a_second(done: u64, began: Instant) -> u128 {
    u128::from(done) * 1_000 / began.elapsed().as_millis().max(1)
}
