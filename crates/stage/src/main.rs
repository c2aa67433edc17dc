//! `stage`: the commands behind `make run`, `make demo` and `make gateway`.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Puts Tollgate on one machine. Settings come from the environment; `make` lists them.")]
struct Arguments {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand)]
enum Commands {
    /// Start Envoy, the billing service and a scripted upstream, and stay up until Ctrl-C.
    Run,
    /// Start them, walk through what Tollgate does with real requests, check each outcome, and stop.
    Demo,
    /// Start one more Envoy on a billing service that runs already.
    Gateway,
    /// Start the scripted upstream alone.
    Upstream {
        /// Where to listen, on loopback.
        #[arg(long, env = "UPSTREAM_PORT", default_value_t = 8082)]
        port: u16,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Commands::Run => stage::run::run(),
        Commands::Demo => stage::demo::demo(),
        Commands::Gateway => stage::run::gateway(),
        Commands::Upstream { port } => stage::upstream::serve(port),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("{trouble}");
            ExitCode::FAILURE
        }
    }
}
