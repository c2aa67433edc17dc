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
use ledger::{CrashPolicy, Timing};
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

/// How much longer the ledger waits than the gateway, whose clock may run 500 ppm slow, before it takes back.
const GRACE: Span = Span::from_millis(200);

impl Setup {
    /// From settings and catalog.
    #[must_use]
    pub fn new(config: &Config, catalog: Catalog) -> Self {
        Self {
            policy: catalog.policy(),
            catalog,
            timing: Timing { ttl: config.lease_ttl, grace: GRACE, tail: config.lease_tail },
            crash: config.crash_policy,
            claim_ttl: config.claim_ttl,
            tells: config.outbox.is_some(),
        }
    }
}
