//! The processes that are measured, and what each of them has used: one billing service and one upstream for the
//! whole run, a fresh Envoy for each measurement.

use crate::books::Books;
use crate::cpu::Reading;
use crate::load::{self, Aim, Pace};
use crate::variants::{PATH, Variant, WEBHOOK_PATH, write_empty};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HeaderName};
use serde::Serialize;
use serde_json::json;
use stage::processes::{self, Process};
use stage::settings::Settings;
use stage::tools::Tools;
use stage::{During as _, Result, Trouble, stripe};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How large a delivery of an event is, about.
const WEBHOOK_BYTES: usize = 4096;
/// What is reported in the background after the last answer belongs to the requests before it: long enough for that.
const SETTLE: Duration = Duration::from_millis(700);

/// What one load cost.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Phase {
    /// Answered as they should be.
    pub(crate) requests: u64,
    /// From the first request to the last answer.
    pub(crate) took_ns: u64,
    /// Half of the requests took no longer.
    pub(crate) p50_ns: u64,
    /// 99 of a hundred took no longer.
    pub(crate) p99_ns: u64,
    /// Processor time of Envoy, background work included.
    pub(crate) gateway_ns: u64,
    /// Processor time of the billing service.
    pub(crate) billing_ns: u64,
    /// Processor time of the upstream.
    pub(crate) upstream_ns: u64,
    /// Calls that the billing service counted.
    pub(crate) billing_calls: u64,
}

/// What runs for the whole bench; dropping it ends it.
pub(crate) struct Site<'a> {
    settings: &'a Settings,
    tools: &'a Tools,
    stop: &'a AtomicBool,
    books: Books<'a>,
    aim: Aim,
    upstream: Process,
    billing: Process,
}

/// A fresh Envoy, or why there is none.
pub(crate) enum Gateway {
    /// It is ready.
    Up(Process),
    /// This version of the filter does not know the way.
    Unknown,
}

impl<'a> Site<'a> {
    /// Starts the billing service and the upstream, and gives `customers` customers a key and credits.
    ///
    /// # Errors
    /// A process does not start, or the billing service refuses the customers.
    pub(crate) fn up(
        settings: &'a Settings,
        tools: &'a Tools,
        customers: usize,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        processes::ports_are_free(&settings.ports(), &settings.run_dir)?;
        let mut command = Command::new(std::env::current_exe().during("find this program")?);
        command.args(["upstream", &settings.upstream_port.to_string()]);
        let mut upstream = Process::start("upstream", command, &settings.run_dir)?;
        upstream.ready(settings.upstream_port, "/", stop)?;
        let billing = processes::billing(settings, tools, &[], stop)?;
        let books = Books::of(settings)?;
        let body = json!({ "model": "bench", "messages": [{ "role": "user", "content": "How much does it cost?" }] });
        let mut site = Self {
            settings,
            tools,
            stop,
            books,
            aim: Aim {
                port: settings.gateway_port,
                path: PATH.into(),
                proofs: Vec::new(),
                body: Bytes::from(body.to_string()),
                expect: StatusCode::OK,
            },
            upstream,
            billing,
        };
        let bearer = |key| (AUTHORIZATION, format!("Bearer {key}"));
        site.aim.proofs =
            (0..customers).map(|n| Ok(bearer(site.books.customer(n)?))).collect::<Result<_>>()?;
        Ok(site)
    }

    /// Starts an Envoy for one way.
    ///
    /// # Errors
    /// It does not start, for another reason than that the filter is too old for the way.
    pub(crate) fn gateway(&self, variant: Variant) -> Result<Gateway> {
        write_empty(self.settings)?;
        let file = variant.file(self.settings, &self.tools.module)?;
        match processes::envoy(self.settings, self.tools, &file, &[], self.stop) {
            Ok(envoy) => Ok(Gateway::Up(envoy)),
            Err(Trouble(why))
                if variant == Variant::Lease && why.contains("\"lease\": this is not in this version") =>
            {
                Ok(Gateway::Unknown)
            }
            Err(why) => Err(why),
        }
    }

    /// Loads an Envoy and tells what that cost.
    ///
    /// # Errors
    /// A request was not answered as it should be, a process is gone, or the bench was stopped.
    pub(crate) fn load(
        &self,
        envoy: &Process,
        variant: Variant,
        connections: usize,
        pace: Pace,
    ) -> Result<Phase> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Trouble("stopped".into()));
        }
        let look = || {
            Ok([
                Reading::of(envoy.pid())?,
                Reading::of(self.billing.pid())?,
                Reading::of(self.upstream.pid())?,
            ])
        };
        let (aim, calls) = (self.aim(variant), self.books.calls()?);
        let [gateway, billing, upstream] = look()?;
        let tally = load::fire(&aim, connections, pace)?;
        std::thread::sleep(SETTLE);
        let [gateway_now, billing_now, upstream_now] = look()?;
        Ok(Phase {
            requests: tally.latency.count(),
            took_ns: nanos(tally.took),
            p50_ns: tally.latency.quantile(500),
            p99_ns: tally.latency.quantile(990),
            gateway_ns: nanos(gateway_now.since(&gateway)),
            billing_ns: nanos(billing_now.since(&billing)),
            upstream_ns: nanos(upstream_now.since(&upstream)),
            billing_calls: self.books.calls()?.saturating_sub(calls),
        })
    }

    /// What is sent to this way.
    fn aim(&self, variant: Variant) -> Aim {
        let expect = match variant {
            Variant::Plain | Variant::Empty | Variant::Lease | Variant::Consult | Variant::ExtAuthz => {
                return self.aim.clone();
            }
            Variant::PlainWebhook => StatusCode::OK,
            Variant::ForgedWebhook => StatusCode::BAD_REQUEST,
        };
        // Well made, and of this minute, so that nothing but the signature itself tells that it is forged.
        let forged = format!("t={},v1={}", stripe::now().secs(), "5e".repeat(32));
        let filler = "x".repeat(WEBHOOK_BYTES.saturating_sub(event("").len()));
        Aim {
            port: self.aim.port,
            path: WEBHOOK_PATH.into(),
            proofs: vec![(HeaderName::from_static(webhook::HEADER_SIGNATURE), forged)],
            body: Bytes::from(event(&filler)),
            expect,
        }
    }
}

/// An event around some text.
fn event(text: &str) -> String {
    let object = json!({ "id": "cus_bench", "object": "customer", "description": text });
    stripe::event("evt_bench", "customer.updated", &object).to_string()
}

/// Removes what an earlier run left, the ledger too, so that each run begins alike.
///
/// # Errors
/// It cannot be removed.
pub(crate) fn clear(run_dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(run_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).during(format!("remove {}", run_dir.display()))
        }
        _ => Ok(()),
    }
}

pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
