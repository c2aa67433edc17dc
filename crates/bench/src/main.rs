//! Measures what Tollgate costs: beside plain Envoy, and beside the obvious alternative, Envoy's `ext_authz`.

mod cpu;
mod figures;
mod histogram;
mod load;
mod machine;
mod run;
mod site;
mod summary;
mod targets;
mod upstream;
mod variants;

use clap::Parser;
use run::Plan;
use stage::{During as _, Result};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use variants::Variant;

/// Measures plain Envoy, the filter on a warm lease, the filter consulting every time, and Envoy's ext_authz on the same
/// billing service; and forged webhooks that the filter refuses, beside plain Envoy that forwards them. Writes target/bench/summary.json and summary.md. Ports come from the environment, as for `make run`.
#[derive(Parser)]
#[command(name = "bench")]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only these ways, with plain Envoy to compare them with.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Variant>,
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
    let is_wanted =
        |v: &Variant| args.only.is_empty() || args.only.iter().any(|only| only == v || only.base() == *v);
    let variants: Vec<_> = Variant::ALL.into_iter().filter(is_wanted).collect();
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_interrupt(Arc::clone(&stop))?;
    run::run(&variants, plan, &stop)
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
