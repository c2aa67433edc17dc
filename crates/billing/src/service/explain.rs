//! Why a balance is what it is: each line of the journal in plain words, and what it changed. Pure.
//!
//! What a line changes is what the account owns: what is available or lent to gateways, minus what it owes. What is held
//! for requests in flight is owned until it is charged, so it is subtracted once, after the last line.

use ledger::{JournalEntry, JournalKind, Source, Terms};
use units::{Amount, EndpointId, Instant, RequestId, Unit};

/// A line of the journal, and what is known around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    /// The line.
    pub(super) entry: &'a JournalEntry,
    /// What its grant is about.
    pub(super) terms: Option<&'a Terms>,
    /// Why an operator made that grant.
    pub(super) note: Option<&'a str>,
    /// The request that its hold was for.
    pub(super) request: Option<&'a (RequestId, EndpointId)>,
}

/// By how many micro-credits a line about general credits moves what the account owns.
#[must_use]
pub(super) const fn change(kind: JournalKind, micro: i64) -> i64 {
    use JournalKind as Kind;
    match kind {
        Kind::Granted | Kind::Restored | Kind::Recovered | Kind::DebtDown => micro,
        Kind::Used
        | Kind::CrashCharged
        | Kind::LateCovered
        | Kind::ShortCovered
        | Kind::Expired
        | Kind::Voided
        | Kind::DebtUp => micro.saturating_neg(),
        // What repays debt leaves what is available and what is owed alike; what is lent or comes back is owned all the time;
        // a claw says only why debt grew, which has a line of its own.
        Kind::Repaid
        | Kind::Leased
        | Kind::Returned
        | Kind::VoidClaimed
        | Kind::VoidReleased
        | Kind::Clawed
        | Kind::Unclawed
        | Kind::Frozen
        | Kind::Unfrozen
        | Kind::CrashRefunded
        | Kind::WrittenOff
        | Kind::Suspended
        | Kind::Resumed
        | Kind::StandingChanged => 0,
    }
}

impl Told<'_> {
    /// By how many micro-credits this line moves what the account owns; nothing if it is about requests of a window.
    #[must_use]
    pub(super) fn change(&self) -> i64 {
        let general = self.terms.is_none_or(Terms::is_general);
        if general { change(self.entry.kind, self.entry.amount.get()) } else { 0 }
    }

    /// The line in words.
    #[must_use]
    pub(super) fn text(&self) -> String {
        use JournalKind as Kind;
        let amount = amount(self.terms, self.entry.amount);
        let of = self.terms.map(origin).unwrap_or_default();
        match self.entry.kind {
            Kind::Granted => self.granted(&amount),
            Kind::Repaid => format!("{amount} of it went to what was owed"),
            Kind::Leased => format!("set {amount} aside for requests{}", self.through()),
            Kind::Used => format!("charged {amount} for {}", self.request()),
            Kind::Returned => format!("{amount} that was set aside came back{}", self.through()),
            Kind::Expired => format!("expired {amount} left of {of}"),
            Kind::Voided => format!("took back {amount} of {of}"),
            Kind::VoidClaimed => {
                format!("{amount} of {of} will be taken back when it returns from a gateway")
            }
            Kind::VoidReleased => format!("{amount} of {of} will not be taken back any more"),
            Kind::Restored => format!("gave back {amount} of {of}, which had been taken back"),
            Kind::Recovered => {
                format!("gave back {amount} of {of}, which had been taken back and paid for again")
            }
            Kind::DebtDown => format!("does not owe {amount} any more, since {of} was given back"),
            Kind::Unclawed => format!("{amount} of {of} is not taken back any more after it was used"),
            Kind::Frozen => format!("{amount} of {of} is held for a disputed payment"),
            Kind::Unfrozen => format!("{amount} of {of} is no longer held for a disputed payment"),
            Kind::Clawed => format!("{amount} of {of} is taken back after it was used"),
            Kind::CrashRefunded => format!("{amount} came back that a gateway had and never told of"),
            Kind::CrashCharged => {
                format!("charged {amount} that a gateway{} had and never told of", self.through())
            }
            Kind::LateCovered => format!("charged {amount} for {}, which was told of late", self.request()),
            Kind::ShortCovered => format!("charged {amount} beyond what was held for {}", self.request()),
            Kind::DebtUp => match &self.entry.cell {
                Some(_) => format!("owes {amount} for {}, which nothing was left for", self.request()),
                None => format!("owes {amount}, since it was used before {of} was taken back"),
            },
            Kind::WrittenOff => format!("{amount} of {of} was used, and is not owed"),
            Kind::Suspended => String::from("an operator stopped the account"),
            Kind::Resumed => String::from("an operator let the account go on"),
            Kind::StandingChanged => String::from("the plan or its stage changed"),
        }
    }

    fn granted(&self, amount: &str) -> String {
        let Some(terms) = self.terms else { return format!("granted {amount}") };
        let until = match terms.expires_at {
            at if at < Instant::FAR => format!(", to be spent before {}", moment(at)),
            _ => String::new(),
        };
        let note = self.note.map(|note| format!(": {note}")).unwrap_or_default();
        match terms.source {
            Source::Window => format!("granted {amount} for {}{until}", origin(terms)),
            Source::Subscription => format!("granted {amount} for {}{until}{note}", origin(terms)),
            Source::Purchase => format!("granted {amount}, {}{until}{note}", origin(terms)),
            Source::Promo | Source::Adjust => format!("granted {amount}, {}{until}{note}", origin(terms)),
        }
    }

    fn request(&self) -> String {
        match self.request {
            Some((request, endpoint)) => format!("{endpoint}, request {request}"),
            None => format!("requests{}", self.through()),
        }
    }

    fn through(&self) -> String {
        self.entry.cell.as_ref().map(|cell| format!(" through {}", cell.node)).unwrap_or_default()
    }
}

/// Where a grant came from, in words that follow "of" or a comma.
fn origin(terms: &Terms) -> String {
    let reference = terms.source_ref.as_str();
    match terms.source {
        Source::Window => match reference.split_once('#') {
            Some((name, when)) => format!("the window {name} of {when}"),
            None => format!("the window {reference}"),
        },
        Source::Subscription => {
            let invoice = reference.strip_prefix("plan:").and_then(|rest| rest.split(':').next());
            let from = moment(terms.starts_at);
            format!("the period from {from}, invoice {}", invoice.unwrap_or(reference))
        }
        Source::Purchase => {
            format!("the purchase {}", reference.strip_prefix("buy:").unwrap_or(reference))
        }
        Source::Promo => String::from("a gift"),
        Source::Adjust => String::from("a grant by an operator"),
    }
}

/// Credits as people write them; requests with their name, so that nobody takes them for credits.
fn amount(terms: Option<&Terms>, amount: Amount) -> String {
    match terms.map(|terms| terms.unit) {
        Some(Unit::Requests) if amount == Amount::ONE => String::from("1 request"),
        Some(Unit::Requests) => format!("{} requests", amount.get()),
        Some(Unit::Credits) | None => amount.to_credits(),
    }
}

/// The date alone where it is midnight in UTC.
fn moment(at: Instant) -> String {
    let text = at.to_rfc3339();
    text.strip_suffix("T00:00:00Z").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::{CellId, GrantId};
    use units::{AccountId, NodeName};

    const NOV: Instant = Instant::from_secs(1_793_491_200);
    const DEC: Instant = Instant::from_secs(1_796_083_200);

    fn terms(source: Source, source_ref: &str, unit: Unit, expires_at: Instant) -> Terms {
        let scope = if unit == Unit::Requests { "daily".into() } else { String::new() };
        let (starts_at, amount) = (NOV, Amount::CREDIT);
        Terms {
            unit,
            scope,
            source,
            source_ref: source_ref.into(),
            priority: 0,
            starts_at,
            expires_at,
            amount,
        }
    }

    fn line(
        kind: JournalKind,
        micro: i64,
        terms: Option<&Terms>,
        note: Option<&str>,
        on_cell: bool,
    ) -> (String, i64) {
        let node = NodeName::new("gateway-1").unwrap();
        let cell = CellId { grant: GrantId(1), node, incarnation: 1, generation: 1 };
        let entry = JournalEntry {
            at: NOV,
            account: AccountId::new("alice").unwrap(),
            grant: terms.map(|_| GrantId(1)),
            cell: on_cell.then_some(cell),
            kind,
            amount: Amount::new(micro).unwrap(),
        };
        let told = Told { entry: &entry, terms, note, request: None };
        (told.text(), told.change())
    }

    #[test]
    fn each_kind_of_line_says_what_it_did_and_moves_what_it_should() {
        let plan = terms(Source::Subscription, "plan:in_1:price_pro", Unit::Credits, DEC);
        let bought = terms(Source::Purchase, "buy:pi_1", Unit::Credits, Instant::FAR);
        let given = terms(Source::Adjust, "admin:k", Unit::Credits, Instant::FAR);
        let window = terms(Source::Window, "daily#2026-11-01", Unit::Requests, DEC);
        let (k, c) = (1_000_000_000, 1_000_000);
        use JournalKind as Kind;
        for (kind, micro, of, note, cell, text, moved) in [
            (
                Kind::Granted,
                k,
                Some(&plan),
                None,
                false,
                "granted 1000 for the period from 2026-11-01, invoice in_1, to be spent before 2026-12-01",
                k,
            ),
            (Kind::Granted, c, Some(&bought), None, false, "granted 1, the purchase pi_1", c),
            (
                Kind::Granted,
                c,
                Some(&given),
                Some("for the outage"),
                false,
                "granted 1, a grant by an operator: for the outage",
                c,
            ),
            (
                Kind::Granted,
                3,
                Some(&window),
                None,
                false,
                "granted 3 requests for the window daily of 2026-11-01, to be spent before 2026-12-01",
                0,
            ),
            (Kind::Used, c, Some(&bought), None, true, "charged 1 for requests through gateway-1", -c),
            (Kind::Used, 1, Some(&window), None, true, "charged 1 request for requests through gateway-1", 0),
            (
                Kind::Expired,
                12 * c,
                Some(&plan),
                None,
                false,
                "expired 12 left of the period from 2026-11-01, invoice in_1",
                -12 * c,
            ),
            (Kind::Voided, c, Some(&bought), None, false, "took back 1 of the purchase pi_1", -c),
            (
                Kind::DebtUp,
                c,
                Some(&bought),
                None,
                false,
                "owes 1, since it was used before the purchase pi_1 was taken back",
                -c,
            ),
            (
                Kind::DebtUp,
                c,
                Some(&bought),
                None,
                true,
                "owes 1 for requests through gateway-1, which nothing was left for",
                -c,
            ),
            (Kind::Repaid, c, Some(&bought), None, false, "1 of it went to what was owed", 0),
            (Kind::Suspended, 0, None, None, false, "an operator stopped the account", 0),
        ] {
            assert_eq!(line(kind, micro, of, note, cell), (text.to_owned(), moved), "{kind:?}");
        }
    }
}
