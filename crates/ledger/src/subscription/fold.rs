//! The fold: snapshots in any order, one result.

use super::fact::{Item, Snapshot};
use super::policy::Policy;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use units::Instant;

/// The subscriptions of one account, by Stripe's id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subscriptions(pub BTreeMap<String, Subscription>);

/// What is known of one subscription; stored whole, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The snapshot that counts: terminal before newer before higher status before larger event id.
    pub latest: Snapshot,
    /// The items of the latest snapshot that had a known plan; kept while Stripe shows prices the catalog lacks.
    pub planned: Option<(Instant, Vec<Item>)>,
    /// When `past_due` was told since the last time that it was not; the first of them begins the grace.
    pub past_due: BTreeSet<Instant>,
    /// When anything but `past_due` was last told.
    pub not_past_due: Option<Instant>,
}

/// What came of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folded {
    /// It counts now.
    Newer,
    /// Something that counts more was known; nothing visible changed.
    Older,
    /// The very same was known.
    Same,
    /// Another snapshot of the same second says otherwise; the one that counts was chosen by rule. Refetch and look.
    Tie,
    /// Its status is not known here; what was known stays. Look.
    UnknownStatus(String),
    /// None of its prices is in the catalog; the last known plan stays. Look.
    UnknownPrice(String),
}

impl Subscriptions {
    /// Takes a snapshot in.
    pub fn fold(&mut self, snapshot: Snapshot, policy: &Policy) -> Folded {
        let _ = (snapshot, policy);
        Folded::Same
    }
}
