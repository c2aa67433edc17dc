//! Measures how soon the last credits that lie free in one Envoy are spendable at another: what a customer waits for them.

use crate::field::{Ended, Field};
use stage::client::Client;
use stage::harness::{Options, Stage};
use stage::{During as _, Result, Trouble};
use std::fmt;
use std::time::{Duration, Instant};
use tokio::task::block_in_place;

/// Enough for leases at first.
const CREDITS: u32 = 40;
/// Requests at the Envoy that is left with the rest of its lease.
const ELSEWHERE: u32 = 3;

/// Waiting times of all rounds, sorted.
#[derive(Clone, Debug)]
pub struct Recalls {
    /// The slowest request of each round: the one for which credits had to come back.
    recalled: Vec<Duration>,
    /// All others, which found credits where they were.
    others: Vec<Duration>,
}

/// Plays so many rounds, each with a new customer, and nothing else going on.
///
/// # Errors
/// Something cannot be started, or a credit was not spendable.
///
/// # Panics
/// As a test of it would.
pub fn recalls(rounds: u32) -> Result<Recalls> {
    let runtime = tokio::runtime::Runtime::new().during("start a runtime")?;
    runtime.block_on(async {
        let (stage, other) = block_in_place(|| {
            let stage = Stage::start(Options::default());
            let other = stage.another_gateway();
            (stage, other)
        });
        let field = Field::open(&stage, &other).await?;
        let mut all = Recalls { recalled: Vec::new(), others: Vec::new() };
        for round in 0..rounds {
            all.round(&field, &format!("recalled-{round}")).await?;
        }
        all.recalled.sort_unstable();
        all.others.sort_unstable();
        block_in_place(|| {
            drop(other);
            stage.finish();
        });
        Ok(all)
    })
}

impl Recalls {
    async fn round(&mut self, field: &Field, name: &str) -> Result<()> {
        field.customer(name, CREDITS).await?;
        let client = Client::default();
        let served = async |gateway| {
            let began = Instant::now();
            match field.send(&client, field.paid(gateway, name, name, "")).await {
                Ended::Answered(answer) if answer.status == 200 => Ok(began.elapsed()),
                Ended::Answered(answer) => Err(Trouble(format!("{name}: {}", answer.text()))),
                Ended::Broken(why) => Err(Trouble(why)),
                Ended::Hung => Err(Trouble(format!("{name}: hung"))),
            }
        };
        for _ in 0..ELSEWHERE {
            served(1).await?;
        }
        let mut waits = Vec::new();
        for _ in ELSEWHERE..CREDITS {
            waits.push(served(0).await?);
        }
        // The first one makes the customer known to this Envoy.
        let mut waits = waits.split_off(1);
        waits.sort_unstable();
        self.recalled.extend(waits.pop());
        self.others.append(&mut waits);
        Ok(())
    }
}

fn at(sorted: &[Duration], hundredths: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last.saturating_mul(hundredths) / 100).copied().unwrap_or_default()
}

impl fmt::Display for Recalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, all) in [
            ("the last credits, free at another Envoy", &self.recalled),
            ("all other requests", &self.others),
        ] {
            let [median, p99, max] = [50, 99, 100].map(|part| at(all, part));
            writeln!(f, "{what}: {} requests, median {median:.1?}, p99 {p99:.1?}, max {max:.1?}", all.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_a_sorted_list() {
        let all: Vec<_> = (1..=101).map(Duration::from_millis).collect();
        assert_eq!([0, 50, 99, 100].map(|part| at(&all, part).as_millis()), [1, 51, 100, 101]);
        assert_eq!(at(&[], 50), Duration::ZERO);
    }
}
