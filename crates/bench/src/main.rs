//! Measures what Tollgate costs: beside plain Envoy, and beside the obvious alternative, Envoy's `ext_authz`.

mod books;
mod cpu;
mod figures;
mod histogram;
mod load;
mod machine;
mod memory;
mod run;
mod site;
mod streams;
mod summary;
mod targets;
mod upstream;
mod variants;

use clap::Parser;
use run::{Plan, What};
use stage::{During as _, Result};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use streams::Way;
use variants::Variant;

/// Measures plain Envoy, the filter on a warm lease, the filter consulting every time, and Envoy's ext_authz on the same
/// billing service; forged webhooks that the filter refuses, beside plain Envoy that forwards them; and streams that the filter
/// meters, beside plain Envoy. Writes target/bench/summary.json and summary.md. Ports come from the environment, as for `make run`.
#[derive(Parser)]
#[command(name = "bench")]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only these: ways of requests, with plain Envoy to compare them with; `stream` for streams at a fixed pace; `bytes` for a long one.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Only>,
    /// How streams are passed on [default: both].
    #[arg(long, value_delimiter = ',')]
    ways: Vec<Way>,
    /// How often each way is measured [default: 5, or 2 with --quick].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Requests per second for latencies.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Short loads: shows that everything runs, not how fast.
    #[arg(long)]
    quick: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Serves one fixed answer, as fast as it can; the bench starts it.
    Upstream {
        /// On loopback.
        port: u16,
    },
}

/// A part of the bench, or a way of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    Way(Variant),
    Stream,
    Bytes,
}

impl clap::ValueEnum for Only {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Only; 9] = {
            let [a, b, c, d, e, f, g] = Variant::ALL;
            [
                Only::Way(a),
                Only::Way(b),
                Only::Way(c),
                Only::Way(d),
                Only::Way(e),
                Only::Way(f),
                Only::Way(g),
                Only::Stream,
                Only::Bytes,
            ]
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        let name = match self {
            Self::Way(variant) => variant.name(),
            Self::Stream => "stream",
            Self::Bytes => "bytes",
        };
        Some(clap::builder::PossibleValue::new(name))
    }
}

fn main() -> ExitCode {
    match go(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn go(args: &Args) -> Result<()> {
    if let Some(Command::Upstream { port }) = args.command {
        return upstream::serve(upstream::listen(port)?);
    }
    let plan = if args.quick { Plan::quick() } else { Plan::default() };
    let plan = Plan { rounds: args.rounds.unwrap_or(plan.rounds), rate: args.rate, ..plan };
    let wanted = |only: Only| args.only.is_empty() || args.only.contains(&only);
    let is_wanted = |v: &Variant| {
        wanted(Only::Way(*v)) || args.only.iter().any(|only| matches!(only, Only::Way(of) if of.base() == *v))
    };
    let variants: Vec<_> = Variant::ALL.into_iter().filter(is_wanted).collect();
    let plan = Plan {
        streams: streams::Plan {
            paced: plan.streams.paced.filter(|_| wanted(Only::Stream)),
            bytes: plan.streams.bytes.filter(|_| wanted(Only::Bytes)),
        },
        ..plan
    };
    // Nothing can be said of the other one without plain Envoy.
    let ways = Way::ALL
        .into_iter()
        .filter(|way| args.ways.is_empty() || *way == Way::Plain || args.ways.contains(way));
    let what = What { variants, ways: ways.collect() };
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_interrupt(Arc::clone(&stop))?;
    run::run(&what, plan, &stop)
}

/// After a Ctrl-C the load under way ends first, so that every process is stopped in order.
fn stop_on_interrupt(stop: Arc<AtomicBool>) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().during("wait for Ctrl-C")?;
    std::thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            stop.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}
