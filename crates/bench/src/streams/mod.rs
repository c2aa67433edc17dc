//! Streams: how much later each piece arrives because of the filter, and what a long one costs in time and in memory.
//!
//! Plain Envoy and the filter that reads usage out of the stream, in turn, as all else that is compared here.

mod client;
mod figures;
mod table;
mod upstream;

#[cfg(test)]
pub(crate) use figures::tests as samples;
pub(crate) use figures::{Long, Paced, Streams};
pub(crate) use table::markdown;

use crate::books::Books;
use crate::cpu::Reading;
use crate::memory::Memory;
use crate::run::say;
use crate::site::{clear, nanos};
use crate::variants::{common, without_filter};
use client::{Aim, Pace};
use serde::Serialize;
use stage::envoy_file::EnvoyFile;
use stage::processes::{self, Process};
use stage::settings::Settings;
use stage::tools::Tools;
use stage::{During as _, Result, Trouble};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use upstream::Clock;

/// What sells the streams, from the project's root.
const CATALOG: &str = "crates/bench/src/streams/metered.yaml";
/// Customers, in turn.
const CUSTOMERS: usize = 4;
/// Envoy gives memory back when it is at rest.
const REST: Duration = Duration::from_secs(1);

/// A way to pass a stream on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Way {
    /// Envoy without the filter.
    Plain,
    /// The filter, which charges by the usage in the stream.
    Metered,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Plan {
    /// Streams at a fixed pace; none if they are not asked for.
    pub(crate) paced: Option<PacedPlan>,
    /// Bytes of text in a long stream; none if it is not asked for.
    pub(crate) bytes: Option<u64>,
}

/// How many streams, and how fast.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct PacedPlan {
    /// At the same time.
    pub(crate) streams: usize,
    /// How many of them one after the other.
    pub(crate) batches: u32,
    /// Pieces of each.
    pub(crate) chunks: u64,
    /// Between two pieces.
    pub(crate) every_ms: u64,
}

impl Way {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Plain, Self::Metered];

    /// As it is written on the command line and in the summary.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Metered => "metered",
        }
    }

    /// The project's Envoy file, with the catalog's routes, edited for this way.
    fn file(self, settings: &Settings, module: &Path) -> Result<EnvoyFile> {
        let mut file = EnvoyFile::of(settings, module)?;
        common(&mut file)?;
        if self == Self::Plain {
            without_filter(&mut file)?;
        }
        Ok(file)
    }
}

/// What runs for all rounds; dropping it ends it.
struct Site<'a> {
    settings: &'a Settings,
    tools: &'a Tools,
    stop: &'a AtomicBool,
    runtime: tokio::runtime::Runtime,
    aim: Aim,
    _billing: Option<Process>,
}

/// The settings of these measurements: those of the bench, with a catalog and a folder of their own.
///
/// # Errors
/// The environment is wrong.
pub(crate) fn settings(root: &Path, get: impl Fn(&str) -> Option<String>) -> Result<Settings> {
    let run_dir = root.join("target/bench/run-streams").display().to_string();
    Settings::read(root, |name| match name {
        "RUN_DIR" => Some(run_dir.clone()),
        "CATALOG" => Some(CATALOG.to_owned()),
        _ => get(name),
    })
}

/// Measures these ways, plain Envoy among them.
///
/// # Errors
/// Something does not start, or a stream does not come whole.
pub(crate) fn run(
    settings: &Settings,
    tools: &Tools,
    ways: &[Way],
    rounds: u32,
    plan: Plan,
    stop: &AtomicBool,
) -> Result<Streams> {
    clear(&settings.run_dir)?;
    let site = Site::up(settings, tools, ways, stop)?;
    let (mut paced, mut long) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let first = usize::try_from(round - 1).unwrap_or_default() % ways.len().max(1);
        for way in ways.iter().cycle().skip(first).take(ways.len()).copied() {
            let named = |Trouble(why)| Trouble(format!("streams, {} in round {round}: {why}", way.name()));
            if let Some(plan) = plan.paced {
                let sample = site.paced(way, round, plan).map_err(named)?;
                say(&format!("round {round} of {rounds}: {}", told(&sample)));
                paced.push(sample);
            }
            if let Some(bytes) = plan.bytes {
                let sample = site.long(way, round, bytes).map_err(named)?;
                say(&format!("round {round} of {rounds}: {}", told_long(&sample)));
                long.push(sample);
            }
        }
    }
    Ok(Streams::of(paced, long))
}

impl<'a> Site<'a> {
    fn up(settings: &'a Settings, tools: &'a Tools, ways: &[Way], stop: &'a AtomicBool) -> Result<Self> {
        processes::ports_are_free(&settings.ports(), &settings.run_dir)?;
        let clock = Clock::start();
        upstream::start(settings.upstream_port, clock)?;
        let (mut billing, mut keys) = (None, Vec::new());
        if ways.contains(&Way::Metered) {
            billing = Some(processes::billing(settings, tools, &[], stop)?);
            let books = Books::of(settings)?;
            keys = (0..CUSTOMERS).map(|n| books.customer(n)).collect::<Result<_>>()?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.during("start a client")?;
        let aim = Aim { port: settings.gateway_port, keys, clock };
        Ok(Self { settings, tools, stop, runtime, aim, _billing: billing })
    }

    /// A fresh Envoy, warmed up.
    fn gateway(&self, way: Way) -> Result<Process> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Trouble("stopped".into()));
        }
        let file = way.file(self.settings, &self.tools.module)?;
        let envoy = processes::envoy(self.settings, self.tools, &file, &[], self.stop)?;
        let warm = Pace { streams: CUSTOMERS * 2, batches: 4, chunks: 20, every_ms: 1 };
        self.runtime.block_on(client::paced(&self.aim, warm))?;
        Ok(envoy)
    }

    fn paced(&self, way: Way, round: u32, plan: PacedPlan) -> Result<Paced> {
        let envoy = self.gateway(way)?;
        let PacedPlan { streams, batches, chunks, every_ms } = plan;
        let before = Reading::of(envoy.pid())?;
        let pace = Pace { streams, batches, chunks, every_ms };
        let tally = self.runtime.block_on(client::paced(&self.aim, pace))?;
        let used = Reading::of(envoy.pid())?.since(&before);
        Ok(Paced {
            round,
            way,
            chunks: tally.chunk.count(),
            first_p50_ns: tally.first.quantile(500),
            first_p99_ns: tally.first.quantile(990),
            chunk_p50_ns: tally.chunk.quantile(500),
            chunk_p99_ns: tally.chunk.quantile(990),
            gateway_ns: nanos(used),
        })
    }

    fn long(&self, way: Way, round: u32, bytes: u64) -> Result<Long> {
        let envoy = self.gateway(way)?;
        let (before, memory) = (Reading::of(envoy.pid())?, Memory::of(envoy.pid())?);
        let begun = Instant::now();
        let seen = self.runtime.block_on(client::fast(&self.aim, bytes))?;
        let took = begun.elapsed();
        let used = Reading::of(envoy.pid())?.since(&before);
        std::thread::sleep(REST);
        let after = Memory::of(envoy.pid())?;
        Ok(Long {
            round,
            way,
            bytes: seen,
            took_ns: nanos(took),
            gateway_ns: nanos(used),
            rss_before_kib: memory.now_kib,
            rss_after_kib: after.now_kib,
            rss_most_kib: after.most_kib,
        })
    }
}

fn told(sample: &Paced) -> String {
    format!(
        "stream, {:<8} first byte p50 {:>5} µs, p99 {:>6}; each piece p50 {:>5}, p99 {:>6}; gateway {:>3} µs of CPU per piece",
        sample.way.name(),
        sample.first_p50_ns / 1000,
        sample.first_p99_ns / 1000,
        sample.chunk_p50_ns / 1000,
        sample.chunk_p99_ns / 1000,
        sample.gateway_ns / sample.chunks.max(1) / 1000,
    )
}

fn told_long(sample: &Long) -> String {
    format!(
        "bytes,  {:<8} {} bytes in {} ms; Envoy held {} KiB before, {} after, {} at most",
        sample.way.name(),
        sample.bytes,
        sample.took_ns / 1_000_000,
        sample.rss_before_kib,
        sample.rss_after_kib,
        sample.rss_most_kib,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn tree(way: Way) -> (Value, Value) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let settings = settings(&root, |_| None).unwrap();
        let mut file = way.file(&settings, Path::new("/m/tollgate.wasm")).unwrap();
        let mut rule = Value::Null;
        let _ = file.plugin("ai", |plugin| {
            let rules = plugin["routes"].as_array().unwrap();
            rule = rules.iter().find(|rule| rule["path"] == "/v1/chat/completions").unwrap().clone();
        });
        (file.at("").unwrap().take(), rule)
    }

    #[test]
    fn both_ways_go_by_the_same_route_and_one_of_them_is_metered() {
        let [(plain, none), (metered, rule)] = Way::ALL.map(tree);
        let route = |tree: &Value| {
            let http = tree.pointer("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config");
            http.unwrap()["route_config"]["virtual_hosts"][0]["routes"][0].clone()
        };
        assert_eq!(
            (route(&plain), &route(&plain)["match"]["path"]),
            (route(&metered), &Value::from("/v1/chat/completions"))
        );
        assert!(none.is_null() && !plain.to_string().contains("tollgate."));
        assert_eq!((&rule["usage"], &rule["hold"]), (&Value::from("openai"), &Value::from("max_tokens")));
    }
}
