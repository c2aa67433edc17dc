//! What was paid for an account's subscriptions, and what each payment brought: so much of it as later ones depend on.

use super::policy::{Allowance, Rollover};
use crate::grant::{Source, Terms};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use units::{Amount, Instant, Unit};

/// What was paid for the subscriptions of one account, by Stripe's id of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payments(pub BTreeMap<String, Paid>);

/// What was paid for one subscription, by the origin of what it brought; stored whole, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Paid(pub BTreeMap<String, Part>);

/// What brought a part of a plan's credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// A trial.
    Trial,
    /// A period that was paid for in its turn.
    Period,
    /// A later month of a period that was paid for.
    Refill,
    /// A change of plan within a period.
    Change,
    /// A whole period that began with a change of plan.
    Anew,
}

/// A part of a plan's credits, and for what time it counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What brought it.
    pub kind: PartKind,
    /// The price that was paid for.
    pub price: String,
    /// How many of it.
    pub quantity: u64,
    /// The price that it took the place of, by a change of plan.
    pub replaces: Option<String>,
    /// From when to when it counts: parts whose times overlap share one cap.
    pub from: Instant,
    /// See `from`; a month where the plan refills monthly.
    pub to: Instant,
    /// Until when was paid.
    pub until: Instant,
    /// When it was paid.
    pub paid_at: Instant,
    /// What it would bring if there were no cap.
    pub due: Amount,
    /// The largest allowance among the plans that it names.
    pub most: Amount,
    /// What it brought.
    pub granted: Amount,
    /// From when it may be spent.
    pub starts_at: Instant,
    /// When its period ends; with no rollover it may be spent some time longer.
    pub ends_at: Instant,
    /// What becomes of the rest of it.
    pub rollover: Rollover,
    /// True if it does not count for what comes later: it was paid for after the end, or paid back whole.
    #[serde(default)]
    pub stopped: bool,
    /// What it brought and the customer has not: while it was stopped, others brought what one period may.
    #[serde(default)]
    pub held_back: Amount,
    /// True if its invoice cost nothing, so that nothing of it can be paid back.
    #[serde(default)]
    pub free: bool,
}

impl Payments {
    /// Notes whether an invoice was paid back whole: then no more months of its period come, and none are by the change of
    /// plan that it billed. The subscriptions whose payments changed by that, to be kept.
    pub fn stop(&mut self, invoice: &str, stopped: bool) -> Vec<String> {
        let mut changed = Vec::new();
        for (id, paid) in &mut self.0 {
            let of = paid.0.iter().filter(|(origin, _)| invoice_of(origin) == Some(invoice));
            let of = of.filter(|(_, part)| part.stopped != stopped).map(|(origin, _)| origin.clone());
            let origins: Vec<String> = of.collect();
            origins.iter().for_each(|origin| paid.stop(origin, stopped));
            changed.extend((!origins.is_empty()).then(|| id.clone()));
        }
        changed
    }

    /// What of a grant is not the customer's, though its money was kept after all: see [`Part::held_back`].
    #[must_use]
    pub fn held_back(&self, origin: &str) -> Amount {
        let part = self.0.values().find_map(|paid| paid.0.get(origin));
        part.map_or(Amount::ZERO, |part| part.held_back)
    }
}

/// The invoice that an origin names.
fn invoice_of(origin: &str) -> Option<&str> {
    let (kind, rest) = origin.split_once(':')?;
    match kind {
        "upgrade" => Some(rest),
        "plan" | "refill" => rest.split(':').next(),
        _ => None,
    }
}

impl Part {
    fn overlaps(&self, other: &Self) -> bool {
        self.from < other.to && other.from < self.to
    }

    /// The share of what is due for it that had passed at `end`, rounded down.
    fn passed(&self, end: Instant) -> Option<Amount> {
        self.share(self.due, end)
    }

    /// The share of an amount for its time that had passed at `end`, rounded down.
    fn share(&self, whole: Amount, end: Instant) -> Option<Amount> {
        let span = |to: Instant| i128::from(to.secs()).checked_sub(i128::from(self.from.secs()));
        let share = i128::from(whole.get()).checked_mul(span(end)?.max(0))?.checked_div(span(self.to)?)?;
        Amount::new(i64::try_from(share).ok()?).ok()
    }

    /// True for a period that began with a change that paid nothing back: a plan was added, and cut off nothing.
    fn is_added(&self) -> bool {
        self.kind == PartKind::Anew && self.replaces.is_none()
    }

    /// True for what comes in its turn, and is no consequence of a change.
    pub(super) fn is_regular(&self) -> bool {
        matches!(self.kind, PartKind::Period | PartKind::Refill)
    }

    /// The terms of its grant.
    pub(super) fn terms(&self, origin: &str, allowance: &Allowance) -> Terms {
        let expires_at = match self.rollover {
            Rollover::None => self.ends_at.plus(allowance.expiry_grace),
            Rollover::All | Rollover::Cap(_) => Instant::FAR,
        };
        Terms {
            unit: Unit::Credits,
            scope: String::new(),
            source: Source::Subscription,
            source_ref: origin.to_owned(),
            priority: allowance.priority,
            starts_at: self.starts_at,
            expires_at,
            amount: self.granted,
        }
    }
}

impl Paid {
    /// Enters a part under its origin, and says how much it brings. The parts of one time bring together what is due for
    /// them, but not more than the largest allowance among their plans; what comes regularly is never cut by that alone, and
    /// where a period was cut off, what had passed of it counts beside the new one, over all that were cut off in a row.
    /// Both sums only grow with what is known, and each part brings what the sum has grown by, so that the order in which
    /// parts come does not matter to their sum. `None` if it cannot be said.
    pub(super) fn enter(&mut self, origin: String, mut part: Part) -> Option<Amount> {
        part.granted = if part.kind == PartKind::Trial { part.due } else { self.brings(&part)? };
        let granted = part.granted;
        self.0.insert(origin, part);
        Some(granted)
    }

    /// Stops a part, or lets one go on whose money was kept after all. It took no room meanwhile: of what it brought it is
    /// given what fits beside what came since.
    fn stop(&mut self, origin: &str, stopped: bool) {
        let Some(mut part) = self.0.remove(origin) else { return };
        part.stopped = stopped;
        let fits =
            if stopped || part.kind == PartKind::Trial { Some(part.granted) } else { self.brings(&part) };
        part.held_back = part.granted.saturating_sub(fits.unwrap_or(Amount::ZERO));
        self.0.insert(origin.to_owned(), part);
    }

    /// True if it is known what paid for a period up to its end, and all of that went back. What was paid after the
    /// subscription had ended paid for none of it.
    pub(super) fn is_back(&self, period_end: Instant, ended: Instant) -> bool {
        let pays = |part: &&Part| {
            let holds = part.from < period_end && period_end <= part.until;
            // A change that cost nothing paid for nothing, and can never go back.
            let paid = part.kind != PartKind::Refill && (part.kind != PartKind::Change || !part.free);
            holds && paid && part.paid_at < ended
        };
        let mut parts = self.0.values().filter(pays).peekable();
        parts.peek().is_some() && parts.all(|part| part.stopped)
    }

    fn brings(&self, new: &Part) -> Option<Amount> {
        let (mut due, mut regular, mut granted) = (new.due, Amount::ZERO, Amount::ZERO);
        let mut most = new.most.max(self.moved(new)?);
        if new.is_regular() {
            regular = new.due;
        }
        for part in self.beside(new) {
            due = due.checked_add(part.due)?;
            most = most.max(part.most);
            granted = granted.checked_add(part.granted.saturating_sub(part.held_back))?;
            if part.is_regular() {
                regular = regular.checked_add(part.due)?;
            }
        }
        Some(due.min(most.max(regular)).saturating_sub(granted))
    }
}

impl Paid {
    /// The parts, not paid back whole, that share a cap with another: those of its time; and where one of them cut a period off, or was cut off,
    /// those of that period's time, and so on. Else a row of periods, each of which meets only the next, would bring each whole.
    /// A plan that was added shares one only with what takes its place: another's renewals go on beside it, as paid for.
    fn beside<'a>(&'a self, new: &'a Part) -> Vec<&'a Part> {
        let mut rest: Vec<&Part> =
            self.0.values().filter(|part| part.kind != PartKind::Trial && !part.stopped).collect();
        let mut row = vec![new];
        let mut at = 0;
        while let Some(known) = row.get(at).copied() {
            let cuts = |part: &Part| at == 0 || PartKind::Anew == part.kind || known.kind == PartKind::Anew;
            let apart = |part: &Part| {
                (part.is_added() || known.is_added()) && !self.are_one(new, &part.price, &known.price)
            };
            let (meets, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|part| part.overlaps(known) && cuts(part) && !apart(part));
            row.extend(meets);
            rest = others;
            at = at.saturating_add(1);
        }
        row.split_off(1)
    }

    /// True if two prices are one item of the subscription: the same, or one took the place of the other, perhaps by way of others.
    fn are_one(&self, new: &Part, price: &str, other: &str) -> bool {
        let mut known = BTreeSet::from([price]);
        let mut count = 0;
        while count < known.len() {
            count = known.len();
            for part in self.0.values().chain([new]) {
                let replaced = part.replaces.as_deref().unwrap_or(&part.price);
                if known.contains(replaced) || known.contains(part.price.as_str()) {
                    known.extend([replaced, &part.price]);
                }
            }
        }
        known.contains(other)
    }

    /// What may have been brought by now where periods were cut off by others that began with a change: of each what had
    /// passed of it and of the changes within it, for the rest was paid back, and the whole of the one after it, or of the
    /// best plan to which that one was changed. Nothing where none was.
    fn moved(&self, new: &Part) -> Option<Amount> {
        let row = self.beside(new).into_iter().chain([new]);
        let (changes, mut all): (Vec<&Part>, Vec<&Part>) =
            row.partition(|part| part.kind == PartKind::Change);
        all.retain(|part| part.kind != PartKind::Trial);
        all.sort_by_key(|part| (part.from, part.paid_at));
        let (mut passed, mut most) = (Amount::ZERO, Amount::ZERO);
        for (at, part) in all.iter().enumerate() {
            let end = all.get(at.checked_add(1)?).map_or(part.to, |next| next.from.min(part.to));
            let within = || changes.iter().filter(|it| part.from <= it.from && it.from < end);
            let best = within().map(|it| it.most).fold(part.due, Amount::max);
            if part.kind == PartKind::Anew {
                most = most.max(passed.checked_add(best)?);
            }
            let mut of_it = part.passed(end)?;
            for change in within() {
                of_it = of_it.checked_add(change.passed(end.min(change.to))?)?;
            }
            // Going up and down within it gains nothing.
            passed = passed.checked_add(of_it.min(part.share(best, end)?))?;
        }
        Some(most)
    }
}

/// What `quantity` of a plan brings in a whole period (or month, where it refills monthly).
pub(super) fn whole(each: Amount, allowance: &Allowance, quantity: u64) -> Option<Amount> {
    each.checked_mul(u32::try_from(if allowance.per_seat { quantity } else { 1 }).ok()?)
}

/// What becomes of the rest of what `quantity` of a plan brings: a cap is for each seat too.
pub(super) fn rollover(allowance: &Allowance, quantity: u64) -> Option<Rollover> {
    match allowance.rollover {
        Rollover::Cap(each) => whole(each, allowance, quantity).map(Rollover::Cap),
        other => Some(other),
    }
}
