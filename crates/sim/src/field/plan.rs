//! What stays the same in one history: who there is, how things are set up, and which faults there can be.

use super::dice::Dice;
use contract::v1::NeedMode;
use ledger::CrashPolicy;
use std::fmt;
use units::{AccountId, Instant, Span};

/// Midnight, from which a window begins.
const MIDNIGHT: i64 = 86_400 * 20_000;

/// Which faults there can be. Each history has some of them, so that none hides behind the others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Messages are lost.
    pub loss: bool,
    /// Messages are late, some of them beyond the time of a lease.
    pub delay: bool,
    /// Messages arrive twice.
    pub repeat: bool,
    /// One Envoy is cut off for a while, in one direction or in both.
    pub cut: bool,
    /// Workers' VMs trap.
    pub trap: bool,
    /// Envoys are killed, and start anew.
    pub kill: bool,
    /// An Envoy stands still for a while, and its clock goes on.
    pub pause: bool,
    /// An Envoy stands still for a while, and so does its clock.
    pub freeze: bool,
    /// An Envoy's clock goes wrong by some hundred microseconds a second.
    pub drift: bool,
    /// An Envoy's clock jumps forward.
    pub jump: bool,
    /// Billing dies, before or after what it was doing is on disk, and starts again.
    pub restart: bool,
    /// Other workers are a moment faster.
    pub race: bool,
    /// Accounts are stopped.
    pub stop: bool,
    /// Keys are revoked.
    pub revoke: bool,
    /// Payments are refunded and disputed.
    pub refund: bool,
    /// Credits end.
    pub end: bool,
    /// Credits are bought, so that there are several grants.
    pub give: bool,
}

/// Somebody who asks.
#[derive(Clone, Debug)]
pub struct Customer {
    /// Its account, and its subject.
    pub account: AccountId,
    /// Whose credits it spends.
    pub payer: AccountId,
    /// What it begins with.
    pub credits: u64,
}

/// All of that.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What everything comes from.
    pub seed: u64,
    /// How many Envoys.
    pub envoys: usize,
    /// How many workers each.
    pub workers: usize,
    /// Who asks.
    pub customers: Vec<Customer>,
    /// How many of a hundred requests are decided by a lease; the others by a hold of their own.
    pub leased: u64,
    /// How many requests of an Envoy may pass unpaid while billing is away.
    pub allow: u32,
    /// Free requests a day of one endpoint.
    pub window: Option<u64>,
    /// How many requests of one payer may be under way at once.
    pub at_once: Option<u64>,
    /// Who bears what dies.
    pub crash: CrashPolicy,
    /// How many requests a gateway may be ahead of what it told, if it may not spend a whole lease.
    pub exposure: Option<u64>,
    /// How long leases live.
    pub ttl: Span,
    /// How much longer the ledger keeps holds.
    pub tail: Span,
    /// Whether gateways hear at once of what happens.
    pub watch: bool,
    /// What can go wrong.
    pub faults: Faults,
    /// How fast each Envoy's clock is, in millionths too much.
    pub ppm: Vec<i64>,
    /// When it begins.
    pub start: Instant,
    /// How many things happen.
    pub acts: u64,
}

impl Plan {
    /// What a seed says; `dice` throws on for the history.
    #[must_use]
    pub fn of(seed: u64, dice: &mut Dice) -> Self {
        let envoys = usize::try_from(dice.between(2, 3)).unwrap();
        let workers = usize::try_from(dice.between(1, 3)).unwrap();
        let faults = faults(dice);
        let drift = |dice: &mut Dice| {
            if faults.drift { i64::try_from(dice.between(0, 2_000)).unwrap() - 1_000 } else { 0 }
        };
        let ppm = (0..envoys).map(|_| drift(dice)).collect();
        let ttl = Span::from_secs(dice.pick(&[2, 3, 5]));
        let before = i64::try_from(dice.between(0, 90)).unwrap();
        Self {
            seed,
            envoys,
            workers,
            customers: customers(dice),
            leased: dice.pick(&[100, 100, 80, 50, 0]),
            allow: dice.pick(&[0, 0, 0, 2]),
            window: dice.percent(50).then(|| dice.between(1, 6)),
            at_once: at_once(seed),
            crash: dice.pick(&[CrashPolicy::Refund, CrashPolicy::Charge]),
            ttl,
            // A gateway reports twice within the time of a lease, so a shorter tail would settle what lives.
            tail: ttl.plus(Span::from_secs(dice.pick(&[0, 2, 5]))),
            watch: dice.percent(60),
            exposure: dice.percent(30).then(|| dice.between(1, 5)),
            faults,
            ppm,
            start: Instant::from_secs(MIDNIGHT - before),
            acts: dice.between(60, 260),
        }
    }

    pub(super) fn mode(&self, dice: &mut Dice) -> NeedMode {
        if dice.percent(self.leased) { NeedMode::Lease } else { NeedMode::Hold }
    }

    /// The catalog: two endpoints of one credit, one of which a window pays for, and one that is priced by tokens.
    pub(super) fn catalog(&self) -> String {
        let windows = self.window.map_or(String::new(), |limit| {
            format!(", windows: {{daily: {{endpoints: [chat], limit: {limit}, period: day}}}}")
        });
        let at_once = self.at_once.map_or(String::new(), |most| format!(", max_concurrent: {most}"));
        let exposure = self.exposure.map_or("lease".into(), |requests| requests.to_string());
        format!(
            "
version: 1
product: sim
currency: usd
default_tier: basic
identity: {{account_keys: [user_id], package_keys: [package_id], trust_client_reference_id: true}}
policies: {{past_due_grace: 7d, on_cancel: period_end, while_collection_paused: allow, exposure: {exposure}}}
tiers: {{basic: {{rank: 0{at_once}{windows}}}}}
packages: {{}}
endpoints:
  chat: {{cost: 1, tiers: all}}
  plain: {{cost: 1, tiers: all}}
  metered:
    tiers: all
    tokens:
      hold: 1
      unknown_model: refuse
      models:
        scripted: {{input: 2000, output: 10000, context: 8000, output_max: 200, output_usual: 30}}
"
        )
    }
}

fn faults(dice: &mut Dice) -> Faults {
    // Some histories are calm, and some are a battle.
    let often = dice.pick(&[0, 20, 40, 60]);
    let mut one = || dice.percent(often);
    Faults {
        loss: one(),
        delay: one(),
        repeat: one(),
        cut: one(),
        trap: one(),
        kill: one(),
        pause: one(),
        freeze: one(),
        drift: one(),
        jump: one(),
        restart: one(),
        race: one(),
        stop: dice.percent(40),
        revoke: dice.percent(40),
        refund: dice.percent(40),
        end: dice.percent(40),
        give: dice.percent(60),
    }
}

/// From dice of its own, so that all else of a history is as it was before there were such limits.
fn at_once(seed: u64) -> Option<u64> {
    let mut dice = Dice::new(!seed);
    dice.percent(15).then(|| dice.between(1, 4))
}

fn customers(dice: &mut Dice) -> Vec<Customer> {
    let names: &[&str] = dice.pick(&[&["alice"][..], &["alice", "bob"], &["alice", "bob", "carol"]]);
    let pooled = dice.percent(40);
    let all = names.iter().map(|name| {
        let account = AccountId::new(*name).unwrap();
        let payer = if pooled { AccountId::new(names[0]).unwrap() } else { account.clone() };
        Customer { account, payer, credits: dice.pick(&[3, 10, 40, 400, 4_000]) }
    });
    all.collect()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            envoys, workers, leased, allow, window, at_once, crash, exposure, ttl, tail, watch, ..
        } = self;
        let (ttl, tail) = (ttl.millis(), tail.millis());
        writeln!(
            f,
            "{envoys} Envoys with {workers} workers each; {leased} % by lease; {allow} may pass unpaid; window {window:?}; \
             {at_once:?} at once; \
             {crash:?} on a crash; exposure {exposure:?}; ttl {ttl} ms, tail {tail} ms; watch {watch}"
        )?;
        for Customer { account, payer, credits } in &self.customers {
            writeln!(f, "{account} begins with {credits} credits and spends those of {payer}")?;
        }
        writeln!(f, "{:?}, clocks {:?} ppm", self.faults, self.ppm)
    }
}
