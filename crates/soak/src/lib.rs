//! Lets honest and hostile traffic loose on two Envoys and a billing service to which every fault happens by turns, and judges.
//!
//! Honest customers are warm, have ample credits, and are sent to an Envoy that is not about to be killed, as a load
//! balancer does; what else happens to them is either a defect or falls into a window in which billing was not there.

mod books;
mod chaos;
mod dice;
mod events;
mod faults;
mod field;
mod hostile;
mod judge;
mod least;
mod looks;
mod paying;
mod probe;
mod recall;
mod savers;
mod summary;
mod tally;

pub use recall::{Recalls, recalls};
pub use summary::Summary;

use field::Field;
use stage::harness::{Options, Stage};
use stage::{During as _, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long, how hard.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long there is traffic; settling comes on top.
    pub length: Duration,
    /// What is asked for, and in which order.
    pub seed: u64,
    /// About how long it takes from one kill to the next.
    pub pause: Duration,
    /// `LEASE_TTL_MS`. `LEASE_TAIL_MS` is three times that, so that who stood still for twice the lease time, or was cut off
    /// for so long, is back before the hard end and nothing may be lost.
    pub lease_ms: u32,
    /// How long an old configuration lives on after a push.
    pub drain_s: u32,
}

impl Plan {
    /// The real thing.
    #[must_use]
    pub const fn minutes(minutes: u64, seed: u64) -> Self {
        Self {
            length: Duration::from_secs(minutes.saturating_mul(60)),
            seed,
            pause: Duration::from_secs(4),
            lease_ms: 5_000,
            drain_s: 3,
        }
    }

    /// Shows that everything runs, and finds what is broken altogether.
    #[must_use]
    pub const fn short() -> Self {
        Self {
            length: Duration::from_secs(20),
            seed: 1,
            pause: Duration::from_millis(400),
            lease_ms: 1_500,
            drain_s: 2,
        }
    }
}

/// Runs it.
///
/// # Errors
/// Something cannot be started, or an account cannot be opened.
///
/// # Panics
/// As a test of it would: a killed process does not start again, or the filter trapped.
pub fn run(plan: &Plan) -> Result<Summary> {
    let runtime = tokio::runtime::Runtime::new().during("start a runtime")?;
    runtime.block_on(soak(plan))
}

async fn soak(plan: &Plan) -> Result<Summary> {
    let options = Options::default()
        .with("LEASE_TTL_MS", plan.lease_ms)
        .with("LEASE_TAIL_MS", plan.lease_ms.saturating_mul(3))
        .with("CLAIM_TTL_MS", events::CLAIM_TTL.as_millis())
        .with("CRASH_POLICY", "refund")
        .linked()
        .pushable(plan.drain_s)
        // An hour's access log would be gigabytes.
        .edit(|file| {
            file.http()?.as_object_mut().map(|http| http.remove("access_log"));
            Ok(())
        });
    let (stage, other) = tokio::task::block_in_place(|| {
        let stage = Stage::start(options);
        let other = stage.another_gateway();
        (stage, other)
    });
    let field = Arc::new(Field::open(&stage, &other).await?);
    let mut traffic = JoinSet::new();
    paying::start(&mut traffic, &field, plan.seed);
    events::start(&mut traffic, &field, plan.seed);
    hostile::start(&mut traffic, &field, plan.seed);
    savers::start(&mut traffic, &field, plan.seed);
    let mut watches = JoinSet::new();
    probe::start(&mut watches, &field, stage.settings().run_dir.clone());
    let began = Instant::now();
    let mut chaos = chaos::Chaos::new(stage, other, Arc::clone(&field), plan);
    chaos.rage(began).await?;
    field.stop();
    while let Some(joined) = traffic.join_next().await {
        field.joined(joined);
    }
    field.no_more();
    while let Some(joined) = watches.join_next().await {
        field.joined(joined);
    }
    let mut verdict = books::settle(&chaos, &field, plan).await?;
    chaos.look_at_all().await;
    verdict.extend(least::lines(plan, &field.tally));
    let summary = Summary::new(plan, &field.tally, verdict);
    chaos.end();
    Ok(summary)
}
