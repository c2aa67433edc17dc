//! The fold: snapshots in any order, any number of times, one result.

use super::fact::{Snapshot, Status};
use super::policy::{Plan, Policy};
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
    /// The snapshot that counts: terminal before newer before later stage before larger event id. `created` alone is
    /// no order: it is in whole seconds, and a deleted subscription never comes back.
    pub latest: Snapshot,
    /// The same among the snapshots of which the catalog knew a price, or that have none of any: while Stripe shows prices
    /// that it lacks, the last known plan stays.
    pub planned: Option<Snapshot>,
    /// When it was last told to be trialing or active.
    pub good_at: Option<Instant>,
    /// When it was told to be past due or unpaid since `good_at`; the first of them begins the grace.
    pub owing: BTreeSet<Instant>,
    /// When it was last told not to have its collection paused.
    #[serde(default)]
    pub collecting_at: Option<Instant>,
    /// When it was told to have its collection paused since `collecting_at`; the first of them began the pause.
    #[serde(default)]
    pub paused: BTreeSet<Instant>,
    /// Whether there was any of what it is for, by when that was told; for what began while there was none, nothing is due,
    /// whatever is told later.
    #[serde(default)]
    pub any: BTreeMap<Instant, bool>,
}

/// What came of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folded {
    /// It counts now.
    Newer,
    /// Something that counts more was known.
    Older,
    /// The very same was known.
    Same,
    /// Another snapshot of the same second says otherwise; the one that counts was chosen by rule. Refetch and look.
    Tie,
    /// Its status is not known here; what was known stays. Look.
    UnknownStatus(String),
    /// It counts now, but the catalog has none of its prices; the last known plan stays. Look. The first price.
    UnknownPrice(String),
}

/// More tellings of one unpaid invoice or one pause than this are not kept; the earliest ones are.
const TELLINGS_MAX: usize = 64;

/// More tellings than these of what is known already are not kept; the latest ones are: Stripe tells for three days at most.
const SAME_MAX: usize = 16;

impl Subscriptions {
    /// Takes a snapshot in.
    pub fn fold(&mut self, snapshot: Snapshot, policy: &Policy) -> Folded {
        if let Status::Unknown(word) = &snapshot.status {
            return Folded::UnknownStatus(word.clone());
        }
        let known = self.0.remove(&snapshot.id);
        let id = snapshot.id.clone();
        // Of a snapshot without a plan; one that has none of anything has no plan, and that is known.
        let strange = || snapshot.items.iter().find(|item| item.quantity > 0).map(|item| item.price.clone());
        let unknown_price = match plan_of(&snapshot, policy) {
            Some(_) => None,
            None if snapshot.items.is_empty() => Some(String::new()),
            None => strange(),
        };
        let is_planned = unknown_price.is_none();
        let (folded, mut next) = match known {
            None => {
                let planned = Some(snapshot.clone()).filter(|_| unknown_price.is_none());
                let next = Subscription {
                    latest: snapshot.clone(),
                    planned,
                    good_at: None,
                    owing: BTreeSet::new(),
                    collecting_at: None,
                    paused: BTreeSet::new(),
                    any: BTreeMap::new(),
                };
                (unknown_price.map_or(Folded::Newer, Folded::UnknownPrice), next)
            }
            Some(mut next) => {
                let folded = judge(&snapshot, &next.latest, unknown_price.clone());
                if unknown_price.is_none() && next.planned.as_ref().is_none_or(|it| key(&snapshot) > key(it))
                {
                    next.planned = Some(snapshot.clone());
                }
                if key(&snapshot) > key(&next.latest) {
                    next.latest = snapshot.clone();
                }
                (folded, next)
            }
        };
        if is_planned {
            next.remember_any(&snapshot);
        }
        self.0.insert(id, next.remember(&snapshot));
        folded
    }
}

impl Subscription {
    /// Notes when it was well and when it owed; of terminal states neither is said.
    fn remember(mut self, snapshot: &Snapshot) -> Self {
        match snapshot.status {
            Status::Trialing | Status::Active => self.good_at = self.good_at.max(Some(snapshot.created)),
            Status::PastDue | Status::Unpaid => drop(self.owing.insert(snapshot.created)),
            _ => {}
        }
        if snapshot.collection_paused {
            self.paused.insert(snapshot.created);
        } else {
            self.collecting_at = self.collecting_at.max(Some(snapshot.created));
        }
        self.owing.retain(|at| Some(*at) > self.good_at);
        self.paused.retain(|at| Some(*at) > self.collecting_at);
        for told in [&mut self.owing, &mut self.paused] {
            while told.len() > TELLINGS_MAX {
                told.pop_last();
            }
        }
        self
    }

    /// Notes whether there was any of it. Of tellings in a row that say the same, those but for the first matter only if one
    /// between them comes late; so of these only the last are kept.
    fn remember_any(&mut self, snapshot: &Snapshot) {
        let any = is_any(snapshot);
        // Of two that are told of one second, the one that counts more is `planned`, which is asked first.
        self.any.entry(snapshot.created).and_modify(|known| *known |= any).or_insert(any);
        let mut before = None;
        let same = self.any.iter().filter(|(_, any)| before.replace(**any) == Some(**any));
        let same: Vec<Instant> = same.map(|(at, _)| *at).collect();
        let surplus = same.len().saturating_sub(SAME_MAX);
        for at in same.iter().take(surplus) {
            self.any.remove(at);
        }
        while self.any.len() > TELLINGS_MAX {
            self.any.pop_first();
        }
    }

    /// False if there was none of it at that time, as far as that is known.
    pub(super) fn was_any(&self, at: Instant) -> bool {
        let told = self.any.range(..=at).next_back();
        let planned = self.planned.as_ref().filter(|planned| planned.created <= at);
        match (told, planned) {
            (Some((told, any)), planned) if planned.is_none_or(|it| it.created < *told) => *any,
            (_, Some(planned)) => is_any(planned),
            _ => true,
        }
    }

    /// Since when its collection is paused, if it is.
    #[must_use]
    pub fn paused_since(&self) -> Option<Instant> {
        self.paused.first().copied().filter(|_| self.latest.collection_paused)
    }
}

/// Whether a snapshot that has a plan, or none of any, has any.
fn is_any(snapshot: &Snapshot) -> bool {
    snapshot.items.iter().any(|item| item.quantity > 0)
}

/// By what one snapshot counts more than another.
fn key(snapshot: &Snapshot) -> (bool, Instant, &Status, &str) {
    (snapshot.status.is_terminal(), snapshot.created, &snapshot.status, &snapshot.event)
}

fn judge(new: &Snapshot, latest: &Snapshot, unknown_price: Option<String>) -> Folded {
    let but_for_event = Snapshot { event: latest.event.clone(), ..new.clone() };
    if new == latest {
        Folded::Same
    } else if new.created == latest.created
        && new.status.is_terminal() == latest.status.is_terminal()
        && but_for_event != *latest
    {
        Folded::Tie
    } else if key(new) < key(latest) {
        Folded::Older
    } else {
        unknown_price.map_or(Folded::Newer, Folded::UnknownPrice)
    }
}

/// The best plan among a snapshot's items, and the item.
pub(super) fn plan_of<'a>(
    snapshot: &'a Snapshot,
    policy: &'a Policy,
) -> Option<(&'a Plan, &'a super::fact::Item)> {
    // None of something is not something: Stripe keeps such a subscription active.
    let items = snapshot.items.iter().filter(|item| item.quantity > 0);
    let plans = items.filter_map(|item| Some((policy.plans.get(&item.price)?, item)));
    plans.max_by_key(|(plan, item)| (plan.rank, item.period_end))
}
