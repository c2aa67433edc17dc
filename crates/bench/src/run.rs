//! The rounds: in each of them every way once, one right after the other, so that a machine that changes its pace changes it for all.

use crate::figures::Sample;
use crate::load::Pace;
use crate::machine::Machine;
use crate::site::{Gateway, Phase, Site, clear};
use crate::streams::{self, PacedPlan, Streams, Way};
use crate::summary::{Skipped, Summary};
use crate::variants::Variant;
use serde::Serialize;
use stage::processes::Process;
use stage::settings::Settings;
use stage::tools::{self, Tools};
use stage::{During as _, Result, Trouble};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How much is measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Plan {
    /// How often each way is measured.
    pub(crate) rounds: u32,
    /// Customers, in turn.
    pub(crate) customers: usize,
    /// Envoy's.
    pub(crate) workers: u16,
    /// Requests before anything is measured.
    pub(crate) warm_up: usize,
    /// Requests per second, for latency: well below what any way can do.
    pub(crate) rate: u32,
    /// Requests at that rate.
    pub(crate) rate_requests: usize,
    /// Connections for them.
    pub(crate) rate_connections: usize,
    /// Requests for processor time.
    pub(crate) count_requests: usize,
    /// Connections for them.
    pub(crate) count_connections: usize,
    /// How long throughput is measured.
    pub(crate) closed_ms: u64,
    /// Connections for it.
    pub(crate) closed_connections: usize,
    /// Of streams.
    pub(crate) streams: streams::Plan,
}

/// Which ways are measured.
pub(crate) struct What {
    /// Of requests.
    pub(crate) variants: Vec<Variant>,
    /// Of streams.
    pub(crate) ways: Vec<Way>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rounds: 5,
            customers: 16,
            workers: 2,
            warm_up: 2_000,
            rate: 400,
            rate_requests: 2_000,
            rate_connections: 16,
            count_requests: 10_000,
            count_connections: 16,
            closed_ms: 3_000,
            closed_connections: 32,
            streams: streams::Plan {
                paced: Some(PacedPlan { streams: 20, batches: 8, chunks: 100, every_ms: 5 }),
                bytes: Some(100_000_000),
            },
        }
    }
}

impl Plan {
    /// Enough to see that everything runs; too little to believe.
    pub(crate) fn quick() -> Self {
        let (warm_up, rate_requests, count_requests, closed_ms) = (300, 400, 2_000, 1_000);
        let streams = streams::Plan {
            paced: Some(PacedPlan { streams: 20, batches: 2, chunks: 50, every_ms: 5 }),
            bytes: Some(10_000_000),
        };
        Self { rounds: 2, warm_up, rate_requests, count_requests, closed_ms, streams, ..Self::default() }
    }
}

/// Measures these ways, prints the table, and writes both summaries to `target/bench`.
///
/// # Errors
/// Something is not built, does not start, or answers otherwise than it should; nothing is written then.
pub(crate) fn run(what: &What, mut plan: Plan, stop: &AtomicBool) -> Result<()> {
    let root = tools::root()?;
    let (folder, env) = (root.join("target/bench"), |name: &str| std::env::var(name).ok());
    let run_dir = folder.join("run").display().to_string();
    let settings =
        Settings::read(&root, |name| if name == "RUN_DIR" { Some(run_dir.clone()) } else { env(name) })?;
    let tools = Tools::find(&root)?;
    plan.workers = settings.concurrency;
    clear(&settings.run_dir)?;
    let machine = Machine::here(&tools.envoy);
    let (mut samples, mut skipped) = (Vec::new(), Vec::new());
    if !what.variants.is_empty() {
        let site = Site::up(&settings, &tools, plan.customers, stop)?;
        (samples, skipped) = rounds(&site, &what.variants, plan)?;
    }
    let mut measured = Streams::default();
    if plan.streams.paced.is_some() || plan.streams.bytes.is_some() {
        let settings = streams::settings(&root, env)?;
        measured = streams::run(&settings, &tools, &what.ways, plan.rounds, plan.streams, stop)?;
    }
    let summary = Summary::of(machine, plan, samples, skipped, measured);
    std::fs::create_dir_all(&folder).during(format!("create {}", folder.display()))?;
    summary.write(&folder)?;
    say(&format!("\n{}\nWritten to {}.", summary.markdown(), folder.join("summary.{json,md}").display()));
    Ok(())
}

fn rounds(site: &Site<'_>, variants: &[Variant], plan: Plan) -> Result<(Vec<Sample>, Vec<Skipped>)> {
    let (mut samples, mut skipped) = (Vec::new(), Vec::<Skipped>::new());
    for round in 1..=plan.rounds {
        // Each round begins with another way: whoever comes first may find the machine rested.
        let first = usize::try_from(round - 1).unwrap_or_default() % variants.len().max(1);
        for variant in variants.iter().cycle().skip(first).take(variants.len()).copied() {
            if skipped.iter().any(|skipped| skipped.variant == variant) {
                continue;
            }
            let named = |Trouble(why)| Trouble(format!("{} in round {round}: {why}", variant.name()));
            match site.gateway(variant).map_err(named)? {
                Gateway::Up(envoy) => {
                    let sample = measure(site, &envoy, variant, round, plan).map_err(named)?;
                    say(&progress(&sample, plan));
                    samples.push(sample);
                }
                Gateway::Unknown => {
                    let why = "the filter of this version does not know `\"consult\": \"lease\"`";
                    say(&format!("{} is skipped: {why}", variant.name()));
                    skipped.push(Skipped { variant, why });
                }
            }
        }
    }
    Ok((samples, skipped))
}

fn measure(site: &Site<'_>, envoy: &Process, variant: Variant, round: u32, plan: Plan) -> Result<Sample> {
    let load = |connections, pace| site.load(envoy, variant, connections, pace);
    load(plan.count_connections, Pace::Count(plan.warm_up))?;
    let sample = Sample {
        round,
        variant,
        rate: load(
            plan.rate_connections,
            Pace::Rate { per_second: plan.rate, requests: plan.rate_requests },
        )?,
        count: load(plan.count_connections, Pace::Count(plan.count_requests))?,
        closed: load(plan.closed_connections, Pace::For(Duration::from_millis(plan.closed_ms)))?,
    };
    let Phase { requests, billing_calls, .. } = sample.count;
    if variant == Variant::Lease && billing_calls * 10 > requests {
        let what = format!("billing was called {billing_calls} times for {requests} requests");
        return Err(Trouble(format!(
            "{what}: they did not spend from a warm lease, so nothing of this is written down"
        )));
    }
    Ok(sample)
}

fn progress(sample: &Sample, plan: Plan) -> String {
    let Sample { round, variant, rate, count, closed } = sample;
    let per_request = |nanos: u64| nanos / count.requests.max(1) / 1000;
    format!(
        "round {round} of {}: {:<14} gateway {:>4} µs of CPU per request, billing {:>4}, upstream {:>3}; p50 {:>5} µs, p99 {:>6}; {:>6} per second",
        plan.rounds,
        variant.name(),
        per_request(count.gateway_ns),
        per_request(count.billing_ns),
        per_request(count.upstream_ns),
        rate.p50_ns / 1000,
        rate.p99_ns / 1000,
        closed.requests * 1000 / (closed.took_ns / 1_000_000).max(1),
    )
}

/// Standard output is where whoever typed the command looks; if it is gone, the files are still written.
pub(crate) fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}
