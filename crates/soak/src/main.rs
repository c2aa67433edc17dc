//! `soak`: the command behind `make soak`.

use clap::Parser;
use soak::Plan;
use std::process::ExitCode;

/// Honest and hostile traffic through two Envoys, to which, and to the billing service, every fault happens by turns; then the
/// verdict, also in target/soak/summary.json.
#[derive(Parser)]
struct Args {
    /// How long.
    #[arg(long, env = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// The same seed asks for the same kinds of things in the same order; when they happen is up to the machine.
    #[arg(long, env = "SEED", default_value_t = 1)]
    seed: u64,
    /// Only measures, in so many rounds, how soon the last credits that lie free in one Envoy are spendable at the other.
    #[arg(long, env = "RECALLS", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    recalls: Option<u32>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(rounds) = args.recalls {
        return match soak::recalls(rounds) {
            Ok(figures) => {
                print!("{figures}");
                ExitCode::SUCCESS
            }
            Err(trouble) => {
                eprintln!("soak: {trouble}");
                ExitCode::FAILURE
            }
        };
    }
    match soak::run(&Plan::minutes(args.minutes, args.seed)).and_then(|summary| summary.report()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            eprintln!("soak: {trouble}");
            ExitCode::FAILURE
        }
    }
}
