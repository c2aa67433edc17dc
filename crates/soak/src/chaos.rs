//! Plays the faults by turns, kills Envoys and the billing service, and notes what was in doubt when an Envoy died.

use crate::Plan;
use crate::books::{PAID, lent};
use crate::dice::Dice;
use crate::field::{Field, RISKING, TROUBLED, side};
use crate::hostile::poor;
use crate::savers::saver;
use crate::tally::{Tally, Who};
use stage::Result;
use stage::client::Call;
use stage::harness::{Gateway, Stage};
use stage::processes::Signal;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::block_in_place;

/// After billing is back, a gateway may wait for a second before it tries again, and the call may take two.
pub(crate) const BILLING_GRACE: Duration = Duration::from_secs(3);
/// Totals travel every half second; twice that, and a call's time.
const TOLD_AFTER: Duration = Duration::from_secs(3);
/// The last moments of an Envoy, whose requests may be unreported.
const LAST: Duration = Duration::from_millis(1_000);
/// After an Envoy is back. Its connections are new, and nothing else is remembered of the dead one.
const ENVOY_GRACE: Duration = Duration::from_millis(500);
/// Tokens end after an hour.
const TOKENS_EVERY: Duration = Duration::from_secs(1_200);

/// How many faults there are; each has its turn.
const FAULTS: usize = 6;

/// Who kills.
pub(crate) struct Chaos {
    stage: Stage,
    other: Gateway,
    field: Arc<Field>,
    length: Duration,
    /// Milliseconds.
    pause: u64,
    /// `LEASE_TTL_MS`.
    lease_ms: u64,
    dice: Dice,
    pushes: u32,
    /// By account: what was lent through an Envoy when it died, in micro-credits, all deaths together.
    pub(crate) in_doubt: BTreeMap<String, i64>,
}

impl Chaos {
    pub(crate) fn new(stage: Stage, other: Gateway, field: Arc<Field>, plan: &Plan) -> Self {
        let dice = Dice::new(plan.seed, 1);
        let (length, pause) = (plan.length, u64::try_from(plan.pause.as_millis()).unwrap_or(1_000));
        let lease_ms = u64::from(plan.lease_ms);
        let in_doubt = BTreeMap::new();
        Self { stage, other, field, length, pause, lease_ms, dice, pushes: 0, in_doubt }
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.field.tally
    }

    pub(crate) fn field(&self) -> &Field {
        &self.field
    }

    pub(crate) const fn lease_ms(&self) -> u64 {
        self.lease_ms
    }

    pub(crate) const fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    pub(crate) const fn gateway(&self, gateway: usize) -> &Gateway {
        if gateway == 0 { &self.stage.gateway } else { &self.other }
    }

    pub(crate) const fn gateway_mut(&mut self, gateway: usize) -> &mut Gateway {
        if gateway == 0 { &mut self.stage.gateway } else { &mut self.other }
    }

    /// No push is like another one.
    pub(crate) const fn next_push(&mut self) -> u32 {
        self.pushes = self.pushes.saturating_add(1);
        self.pushes
    }

    /// How many filters have introduced themselves in this life of billing's.
    pub(crate) async fn hellos(&self) -> u64 {
        self.stage.billing_calls("hello").await
    }

    /// Until the time is over, and each fault has had its turn.
    pub(crate) async fn rage(&mut self, began: Instant) -> Result<()> {
        let (mut told, mut tokens) = (Instant::now(), Instant::now());
        for turn in 0_usize.. {
            tokio::time::sleep(self.dice.millis(self.pause / 2, self.pause.saturating_mul(3) / 2)).await;
            if turn >= FAULTS && began.elapsed() >= self.length {
                break;
            }
            let round = turn / FAULTS;
            match turn % FAULTS {
                0 => self.kill_billing().await,
                1 => self.kill_envoy(round).await?,
                2 => self.cut_off(round).await,
                3 => self.push(round).await,
                4 => self.freeze_billing().await,
                // Not the one that was cut off in this round.
                _ => self.freeze_envoy((round + 1) % 2).await,
            }
            if tokens.elapsed() > TOKENS_EVERY {
                self.field.renew_tokens(&self.stage);
                tokens = Instant::now();
            }
            if told.elapsed() > Duration::from_secs(30) {
                told = Instant::now();
                self.progress(began);
            }
        }
        self.look(0).await;
        self.look(1).await;
        Ok(())
    }

    fn progress(&self, began: Instant) {
        let tally = &self.field.tally;
        let served =
            tally.get("honest, clear: served").saturating_add(tally.get("honest, in a window: served"));
        println!(
            "{:>5} s: {served} honest served, {} events taken, {} kills, {} defects",
            began.elapsed().as_secs(),
            tally.get("events: taken"),
            tally.get("kills: billing").saturating_add(tally.get("kills: envoy")),
            crate::summary::defects(tally),
        );
    }

    pub(crate) async fn kill_billing(&mut self) {
        self.field.tally.trouble(Who::Billing);
        let down = self.dice.millis(0, 1_200);
        if let Some(mut billing) = self.stage.billing.take() {
            self.see_memory("memory at most: billing, KiB", billing.pid());
            block_in_place(|| billing.kill());
        }
        tokio::time::sleep(down).await;
        block_in_place(|| self.stage.restart_billing());
        self.field.tally.over(Who::Billing, BILLING_GRACE);
        self.field.tally.count("kills: billing");
        tokio::time::sleep(BILLING_GRACE).await;
    }

    async fn freeze_billing(&mut self) {
        self.field.tally.trouble(Who::Billing);
        let still = self.dice.millis(200, 3_000);
        if let Some(billing) = &self.stage.billing {
            billing.signal(Signal::STOP);
            tokio::time::sleep(still).await;
            billing.signal(Signal::CONT);
        }
        self.field.tally.over(Who::Billing, BILLING_GRACE);
        self.field.tally.count("standstills of billing");
        tokio::time::sleep(BILLING_GRACE).await;
    }

    /// Honest traffic has gone, and what it used has been told, before the Envoy is killed under what is left.
    async fn kill_envoy(&mut self, gateway: usize) -> Result<()> {
        let gateway = gateway % 2;
        self.field.close(gateway).await;
        tokio::time::sleep(TOLD_AFTER.saturating_sub(LAST)).await;
        let risking = *side(&RISKING, gateway);
        let before = self.asked(PAID, risking);
        tokio::time::sleep(LAST).await;
        self.look(gateway).await;
        self.field.tally.trouble(Who::Envoy(gateway));
        let process = self.gateway_mut(gateway);
        block_in_place(|| process.envoy.kill());
        self.field.tally.count("kills: envoy");
        let last = self.asked(PAID, risking).saturating_sub(before);
        self.field.tally.add(&format!("{risking}: served just before a kill"), last);
        // Of those who come one after the other, one may not have been quite done when the next one came.
        let last = |all: u64| all.saturating_sub(2)..all;
        let savers = last(self.field.tally.get("savers")).map(saver);
        let poor = last(self.field.tally.get("poor customers")).map(poor);
        for name in [risking, TROUBLED].map(str::to_owned).into_iter().chain(savers).chain(poor) {
            let doubt = lent(&self.field.account(&name).await?);
            let sum = self.in_doubt.entry(name).or_default();
            *sum = sum.saturating_add(doubt);
        }
        block_in_place(|| {
            if gateway == 0 {
                self.stage.restart_envoy();
            } else {
                self.stage.restart(&mut self.other);
            }
        });
        self.field.tally.over(Who::Envoy(gateway), ENVOY_GRACE);
        self.field.reopen(gateway);
        Ok(())
    }

    /// What an Envoy's counters tell of its life so far.
    async fn look(&self, gateway: usize) {
        let of = self.gateway(gateway);
        let stats = of.stats().await;
        for (name, count) in &stats {
            if name.contains(".vm_reload") {
                self.field.tally.add("traps (vm_reload)", *count);
            } else if name.contains("tollgate_bugs_total") {
                self.field.tally.add("bugs counted by the filter", *count);
            } else if let (Some((_, fault)), true) =
                (name.split_once("tollgate_faults_total.fault."), *count > 0)
            {
                self.field.tally.add(&format!("faults: {fault}"), *count);
            }
        }
        self.field.tally.add("traps (log)", u64::from(of.trap().is_some()));
        self.see_memory("memory at most: envoy, KiB", of.envoy.pid());
    }

    fn see_memory(&self, name: &str, pid: u32) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        self.field.tally.at_most(name, kib.unwrap_or(0));
    }

    /// How many requests the upstream had for a path, by the key in their scripts.
    pub(crate) fn asked(&self, path: &str, key: &str) -> u64 {
        self.stage.upstream.asked(path, key)
    }

    /// What the billing service counted of a series, in this life.
    pub(crate) async fn billing_bugs(&self) -> u64 {
        let metrics =
            self.stage.gateway.send(Call::get(self.stage.settings().billing("/metrics"))).await.text();
        let bugs =
            metrics.lines().filter(|line| line.starts_with("tollgate_billing_errors_total{kind=\"bug\"}"));
        bugs.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).fold(0, u64::saturating_add)
    }

    /// Stops everything.
    pub(crate) fn end(self) {
        block_in_place(|| {
            drop(self.other);
            self.stage.finish();
        });
    }
}
