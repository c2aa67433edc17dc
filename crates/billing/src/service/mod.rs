//! What the service does, command by command, inside a transaction; no HTTP here, and no SQL.

mod accounts;
mod authz;
mod claims;
mod explain;
mod gateway;
mod history;
#[cfg(test)]
mod history_tests;
mod keys;
mod need;
mod once;
mod own;
mod people;
mod pools;
mod repeats;
#[cfg(test)]
mod repeats_tests;
mod session;
mod sweep;
#[cfg(test)]
mod sweep_tests;
mod tell;

pub use accounts::{
    AccountView, GrantView, Granted, KeyView, NewAccount, NewGrant, account, grant, open_account, suspend,
};
pub use authz::{Authz, charge_at_once};
pub use claims::{claim, complete};
pub use gateway::{hello, limits, sync};
pub use history::{Entry, Explained, ExplainedLine, explain, history, transactions};
pub use keys::{derive_key, random_name};
pub use once::{Asked, Once, once};
pub use own::{nobody, own_account, own_balance, own_subscription};
pub use people::{
    account_named, check_api_key, known_account, new_api_key, open_if_new, resolve, revoke_api_key,
};
pub use pools::set_pool;
pub use repeats::{forget_old_names, has_old_names};
pub use session::Session;
pub use sweep::{due, due_after, settle};

use crate::catalog::Catalog;
use crate::config::Config;
use ledger::subscription::Policy;
use ledger::{CrashPolicy, Exposure, Timing};
use units::Span;

/// What every command may know of how the service is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What is sold.
    pub catalog: Catalog,
    /// The same in the ledger's words.
    pub policy: Policy,
    /// How long cells live.
    pub timing: Timing,
    /// Who bears what a dead gateway held.
    pub crash: CrashPolicy,
    /// How long a claimed event is reserved.
    pub claim_ttl: Span,
    /// Whether others are told of what happens.
    pub tells: bool,
}

/// How much longer the ledger waits than the gateway before it takes back: for scheduling, and a thousandth of the time itself
/// for a gateway's clock that runs 500 ppm slow beside one here that runs as fast.
fn grace(ttl: Span) -> Span {
    Span::from_millis(200).plus(ttl.part(1_000))
}

/// How many requests a gateway may be ahead where a crash is charged to the customer, unless the catalog says otherwise: its
/// whole lease would be half of all that the customer has.
const CHARGED_AHEAD: u32 = 16;

impl Setup {
    /// From settings and catalog.
    #[must_use]
    pub fn new(config: &Config, catalog: Catalog) -> Self {
        Self {
            policy: catalog.policy(),
            catalog,
            timing: Timing { ttl: config.lease_ttl, grace: grace(config.lease_ttl), tail: config.lease_tail },
            crash: config.crash_policy,
            claim_ttl: config.claim_ttl,
            tells: config.outbox.is_some(),
        }
    }

    /// How far a gateway may be ahead of what it told: as the catalog says, or else as far as who bears a crash can bear.
    #[must_use]
    pub fn exposure(&self) -> Exposure {
        self.catalog.policies.exposure.unwrap_or(match self.crash {
            CrashPolicy::Refund => Exposure::Whole,
            CrashPolicy::Charge => Exposure::Requests(CHARGED_AHEAD),
        })
    }
}
