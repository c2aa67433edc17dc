//! Plays the faults by turns, kills Envoys and the billing service, and notes what was in doubt when an Envoy died.

use crate::Plan;
use crate::books::{PAID, credits, lent};
use crate::dice::Dice;
use crate::field::{Field, RISKING, TROUBLED, key_at};
use crate::hostile::{BEGUN, poor};
use crate::savers::saver;
use crate::tally::{Tally, Who};
use stage::Result;
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
/// What a dead Envoy had written is read by the upstream.
const ARRIVED_WITHIN: Duration = Duration::from_millis(100);
/// After an Envoy is back. Its connections are new, and nothing else is remembered of the dead one.
const ENVOY_GRACE: Duration = Duration::from_millis(500);
/// Tokens end after an hour.
const TOKENS_EVERY: Duration = Duration::from_secs(1_200);

/// How many faults there are; each has its turn.
const FAULTS: usize = 6;

/// Who kills.
pub(crate) struct Chaos {
    pub(crate) stage: Stage,
    other: Gateway,
    field: Arc<Field>,
    length: Duration,
    /// Milliseconds.
    pause: u64,
    /// `LEASE_TTL_MS`.
    lease_ms: u64,
    drain: Duration,
    dice: Dice,
    pushes: u32,
    /// By account: what an Envoy may not have told when it died, in micro-credits, all deaths together.
    pub(crate) in_doubt: BTreeMap<String, i64>,
}

impl Chaos {
    pub(crate) fn new(stage: Stage, other: Gateway, field: Arc<Field>, plan: &Plan) -> Self {
        let dice = Dice::new(plan.seed, 1);
        let (length, pause) = (plan.length, u64::try_from(plan.pause.as_millis()).unwrap_or(1_000));
        let lease_ms = u64::from(plan.lease_ms);
        let drain = Duration::from_secs(plan.drain_s.into());
        let in_doubt = BTreeMap::new();
        Self { stage, other, field, length, pause, lease_ms, drain, dice, pushes: 0, in_doubt }
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.field.tally
    }

    pub(crate) fn field(&self) -> &Field {
        &self.field
    }

    /// How long an old configuration lives on after a push.
    pub(crate) const fn drain(&self) -> Duration {
        self.drain
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
        Ok(())
    }

    /// What those that are left have counted, after everything is settled.
    pub(crate) async fn look_at_all(&mut self) {
        self.look(0).await;
        self.look(1).await;
        self.look_at_billing().await;
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
        self.look_at_billing().await;
        let window = self.field.tally.trouble(Who::Billing);
        let down = self.dice.millis(0, 1_200);
        if let Some(mut billing) = self.stage.billing.take() {
            block_in_place(|| billing.kill());
        }
        tokio::time::sleep(down).await;
        block_in_place(|| self.stage.restart_billing());
        self.field.tally.over(window, BILLING_GRACE);
        self.field.tally.count("kills: billing");
        tokio::time::sleep(BILLING_GRACE).await;
    }

    async fn freeze_billing(&mut self) {
        if self.is_billing_over_by_itself() {
            return;
        }
        let window = self.field.tally.trouble(Who::Billing);
        let still = self.dice.millis(200, 3_000);
        if let Some(billing) = &self.stage.billing {
            billing.signal(Signal::STOP);
            tokio::time::sleep(still).await;
            billing.signal(Signal::CONT);
        }
        self.field.tally.over(window, BILLING_GRACE);
        self.field.tally.count("standstills of billing");
        tokio::time::sleep(BILLING_GRACE).await;
    }

    /// Honest traffic has gone, and what it used has been told, before the Envoy is killed under what is left.
    async fn kill_envoy(&mut self, gateway: usize) -> Result<()> {
        let gateway = gateway % 2;
        self.field.close(gateway).await;
        tokio::time::sleep(TOLD_AFTER).await;
        self.look(gateway).await;
        let window = self.field.tally.trouble(Who::Envoy(gateway));
        let (died, process) = (Instant::now(), self.gateway_mut(gateway));
        block_in_place(|| process.envoy.kill());
        self.field.tally.count("kills: envoy");
        // What it had sent is on its way to the upstream.
        tokio::time::sleep(ARRIVED_WITHIN).await;
        self.doubt(gateway, died).await?;
        block_in_place(|| {
            if gateway == 0 {
                self.stage.restart_envoy();
            } else {
                self.stage.restart(&mut self.other);
            }
        });
        self.field.tally.over(window, ENVOY_GRACE);
        self.field.reopen(gateway);
        Ok(())
    }

    /// Notes what an Envoy that died at that instant may not have told: what was served through it since it surely had, and
    /// never more than was lent of the account.
    async fn doubt(&mut self, gateway: usize, died: Instant) -> Result<()> {
        let whose = [Who::Link(gateway), Who::Still(gateway), Who::Billing, Who::Machine];
        let since = self.field.tally.calm_since(died, TOLD_AFTER, &whose);
        let for_sure = died.saturating_duration_since(since).as_secs();
        self.field.tally.at_most("kills: envoy: seconds of which nothing was surely told, at most", for_sure);
        let savers = (0..self.field.tally.get("savers")).map(saver);
        let poor = (0..self.field.tally.get("poor customers")).map(poor);
        let same =
            RISKING.into_iter().map(str::to_owned).chain(savers).chain(poor).map(|name| (name.clone(), name));
        for (name, key) in same.chain([(TROUBLED.to_owned(), BEGUN.to_owned())]).collect::<Vec<_>>() {
            let served = self.stage.upstream.asked_since(PAID, &key_at(gateway, &key), since);
            if served > 0 {
                let doubt = lent(&self.field.account(&name).await?).min(credits(served));
                let sum = self.in_doubt.entry(name).or_default();
                *sum = sum.saturating_add(doubt);
            }
        }
        Ok(())
    }

    /// How many requests the upstream had for a path, by the key in their scripts.
    pub(crate) fn asked(&self, path: &str, key: &str) -> u64 {
        self.stage.upstream.asked(path, key)
    }

    /// How many requests it had that somebody paid for, through whichever Envoy, by the key that they were made with.
    pub(crate) fn served(&self, key: &str) -> u64 {
        let through = |gateway| self.asked(PAID, &key_at(gateway, key));
        through(0).saturating_add(through(1))
    }

    /// How many it had with this very key, for whatever path.
    pub(crate) fn asked_anywhere(&self, key: &str) -> u64 {
        self.stage.upstream.asked_anywhere(key)
    }

    /// Stops everything.
    pub(crate) fn end(self) {
        block_in_place(|| {
            drop(self.other);
            self.stage.finish();
        });
    }
}
