//! The program: reads its arguments, carries out one command, and says how that went.

use billing::clock::Clock;
use billing::commands;
use billing::config::Database;
use billing::serve::{configure, start};
use billing::stripe::Which;
use billing::token::dev_token;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use units::Span;

/// The billing service of Tollgate.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answers gateways, Stripe, operators and customers; set up by environment variables.
    Serve,
    /// Names everything that is wrong with a catalog, or says in a line what is in it. Starts nothing.
    #[command(visible_alias = "check-catalog")]
    Check {
        /// The catalog.
        file: PathBuf,
    },
    /// Says what an account has; with --explain also why, line by line. Reads the SQLite file and changes nothing, whether the
    /// service runs or not.
    Balance {
        /// The account's id.
        account: String,
        /// Each line of the journal that moved the balance, oldest first: when, by how much, what was left, and why.
        #[arg(long)]
        explain: bool,
        /// The database as a URL, such as sqlite://target/run/10000/billing.db; DATABASE_URL if left out.
        #[arg(long)]
        database: Option<String>,
    },
    /// Prints what the service answers, as OpenAPI 3.1: openapi/billing.v1.json.
    Openapi,
    /// Stripe's events, through the running service.
    Events {
        #[command(subcommand)]
        what: Events,
    },
    /// Prints a token that the demo's Envoy accepts.
    DevToken {
        /// Whom the token is about.
        #[arg(long)]
        sub: String,
        /// For how many seconds it holds.
        #[arg(long, default_value_t = 3600)]
        ttl: u32,
        /// The private key, ES256 in PKCS #8 PEM.
        #[arg(long, default_value = "envoy/demo/private.pem")]
        key: PathBuf,
        /// The key's id in the JWKS.
        #[arg(long)]
        kid: Option<String>,
    },
}

#[derive(Subcommand)]
enum Events {
    /// Applies an event again that failed, was parked, or waits for somebody to look. Doing it again changes nothing.
    Replay {
        /// Stripe's evt_...
        id: String,
        /// true or false: which of several events of this id.
        #[arg(long)]
        livemode: Option<bool>,
        /// Which of several events of this id: that of this connected account, acct_..., or self.
        #[arg(long)]
        stripe_account: Option<String>,
        /// Where the service listens; port BILLING_PORT of this machine if left out.
        #[arg(long)]
        service: Option<String>,
        /// The operators' bearer token.
        #[arg(long, env = "ADMIN_TOKEN", hide_env_values = true)]
        token: String,
    },
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Serve => serve(),
        Command::Check { file } => commands::check(&file).map(|told| println!("{told}")),
        Command::Balance { account, explain, database } => {
            let get = |name: &str| match (name, &database) {
                ("DATABASE_URL", Some(url)) => Some(url.clone()),
                _ => std::env::var(name).ok(),
            };
            let database = Database::read(get).map_err(|no| no.to_string());
            let told = database
                .and_then(|database| commands::balance(&account, explain, &database, Clock::system().now()));
            told.map(|told| println!("{told}"))
        }
        Command::Openapi => {
            println!("{}", commands::openapi());
            Ok(())
        }
        Command::Events { what: Events::Replay { id, livemode, stripe_account, service, token } } => {
            replay(&id, &Which { livemode, stripe_account }, service.as_deref(), &token)
        }
        Command::DevToken { sub, ttl, key, kid } => {
            let pem = std::fs::read(&key).map_err(|error| error.to_string());
            let ttl = Span::from_secs(u64::from(ttl));
            let token = pem.and_then(|pem| dev_token(&pem, kid.as_deref(), &sub, Clock::system().now(), ttl));
            token.map(|token| println!("{token}")).map_err(|error| format!("{}: {error}", key.display()))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate-billing: {}", error.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn replay(id: &str, which: &Which, service: Option<&str>, token: &str) -> Result<(), String> {
    let port = std::env::var("BILLING_PORT").unwrap_or_else(|_| "8081".into());
    let here = format!("http://127.0.0.1:{port}");
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let (told, applied) = runtime.block_on(commands::replay(service.unwrap_or(&here), token, id, which))?;
    if !applied {
        return Err(told);
    }
    println!("{told}");
    Ok(())
}

fn serve() -> Result<(), String> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A log that cannot be written, as on a full disk, would otherwise be complained of on stderr, and where stderr cannot be
    // written either that is a panic: of a call, or of the thread that writes the ledger.
    let log = tracing_subscriber::fmt().json().log_internal_errors(false);
    log.with_env_filter(filter).with_writer(std::io::stderr).init();
    let (config, catalog) = configure(|name| std::env::var(name).ok()).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
        let running = start(config, catalog, Clock::system()).await.map_err(|error| error.to_string())?;
        tracing::info!(address = %running.address, "ready");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending");
        running.stop().await.map_err(|error| error.to_string())
    })
}
