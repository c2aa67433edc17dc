//! The protocol done wrongly, at its edges: messages changed on their way, commits lost, a ledger in haste. Nothing of what
//! ships is touched. Each of these must be caught, or the simulator proves nothing.

use contract::v1::{CellKey, CellReport, NeedDecision, Note, NoteKind, Sync, SyncAnswer};
use std::collections::BTreeMap;
use units::{Amount, Span};

/// Generations from here on are holds of single requests.
const HOLDS: u64 = 1 << 40;

/// One thing done wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A gateway's deadline counts from when the answer came, and not from when it asked.
    DeadlineFromReceipt,
    /// A gateway goes by a lease long after its time.
    DeadlineIgnored,
    /// A gateway tells what has changed since it told the last time, and not totals.
    ReportsAreDeltas,
    /// A gateway adds what it was granted to what it had been granted before.
    AnswersAreDeltas,
    /// A gateway gives back what requests under way hold.
    HeldIsReturned,
    /// A gateway says that it gives back what is free, and spends it all the same.
    ReturnedAfterSending,
    /// Billing answers before what it did is on disk, and loses it.
    AckBeforeDurable,
    /// Nobody is told that others need what lies free.
    RecallDropped,
    /// The ledger takes back before gateways stop.
    LedgerInHaste,
    /// The end of requests on leases is not told.
    EndsDropped,
    /// What a request cost beyond its hold is told twice.
    BeyondTwice,
    /// What a request cost beyond its hold is not told.
    BeyondDropped,
    /// A hold that is in use is given up.
    LiveHoldAbandoned,
    /// Each new life of a node has the same number.
    SameIncarnation,
    /// What is charged is a little more than what was used.
    Overcharged,
    /// A gateway spends a lease without waiting for what it told to be acknowledged.
    AheadOfExposure,
}

impl Mutant {
    /// Every one of them.
    pub const ALL: [Self; 16] = [
        Self::DeadlineFromReceipt,
        Self::DeadlineIgnored,
        Self::ReportsAreDeltas,
        Self::AnswersAreDeltas,
        Self::HeldIsReturned,
        Self::ReturnedAfterSending,
        Self::AckBeforeDurable,
        Self::RecallDropped,
        Self::LedgerInHaste,
        Self::EndsDropped,
        Self::BeyondTwice,
        Self::BeyondDropped,
        Self::LiveHoldAbandoned,
        Self::SameIncarnation,
        Self::Overcharged,
        Self::AheadOfExposure,
    ];
}

/// By Envoy, its life, and the cell's key.
type Name = (usize, u64, CellKey);

/// Does it.
pub(super) struct Spoiler {
    mutant: Mutant,
    /// What was last told of each cell.
    told: BTreeMap<Name, CellReport>,
    /// What each cell was last said to have been granted.
    granted: BTreeMap<Name, Amount>,
    /// The life of each Envoy, as it was last said.
    lives: BTreeMap<usize, u64>,
    calls: u64,
}

fn plus(a: Amount, b: Amount) -> Amount {
    a.checked_add(b).unwrap_or(Amount::MAX)
}

impl Spoiler {
    pub(super) fn new(mutant: Mutant) -> Self {
        let (told, granted, lives) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { mutant, told, granted, lives, calls: 0 }
    }

    /// How far ahead of its time the ledger settles what is due.
    pub(super) fn hastes(&self) -> &'static [Span] {
        const TIMELY: &[Span] = &[Span::ZERO];
        const HASTY: &[Span] = &[Span::from_secs(9), Span::from_secs(60)];
        if self.mutant == Mutant::LedgerInHaste { HASTY } else { TIMELY }
    }

    /// True if what billing does now will be lost.
    pub(super) fn forgets(&mut self) -> bool {
        self.calls += 1;
        self.mutant == Mutant::AckBeforeDurable && self.calls.is_multiple_of(9)
    }

    /// Which notes are told to nobody.
    pub(super) fn drops(&self) -> impl Fn(&Note) -> bool + use<> {
        let drops = self.mutant == Mutant::RecallDropped;
        move |note| drops && note.kind == NoteKind::Recall
    }

    /// What a node is told to be, whatever it was before.
    pub(super) fn spoil_hello(&self, body: &[u8]) -> Vec<u8> {
        let mut hello: contract::v1::HelloAnswer = serde_json::from_slice(body).unwrap();
        if self.mutant == Mutant::SameIncarnation {
            hello.incarnation = 1;
        }
        serde_json::to_vec(&hello).unwrap()
    }

    /// A sync on its way to billing.
    pub(super) fn spoil_sync(&mut self, envoy: usize, body: &[u8]) -> Vec<u8> {
        let mut sync: Sync = serde_json::from_slice(body).unwrap();
        let life = sync.incarnation;
        self.lives.insert(envoy, life);
        for cell in &mut sync.cells {
            let (honest, name, lease) = (*cell, (envoy, life, cell.key), cell.key.generation < HOLDS);
            let before = self.told.insert(name, honest);
            let held = cell.admitted.saturating_sub(cell.finished);
            match self.mutant {
                Mutant::ReportsAreDeltas => {
                    if let Some(before) = before {
                        cell.admitted = cell.admitted.saturating_sub(before.admitted);
                        cell.finished = cell.finished.saturating_sub(before.finished).min(cell.admitted);
                        cell.used = cell.used.saturating_sub(before.used).min(cell.finished);
                        cell.returned = cell.returned.saturating_sub(before.returned);
                    }
                }
                Mutant::HeldIsReturned if lease => {
                    (cell.finished, cell.returned) = (cell.admitted, plus(cell.returned, held));
                }
                Mutant::ReturnedAfterSending if lease => {
                    let granted = self.granted.get(&name).copied().unwrap_or(Amount::ZERO);
                    let gone = plus(plus(cell.used, held), cell.returned);
                    cell.returned = plus(cell.returned, granted.saturating_sub(gone));
                }
                Mutant::EndsDropped if lease => {
                    (cell.finished, cell.used) = (Amount::ZERO, Amount::ZERO);
                }
                Mutant::BeyondTwice => cell.short = plus(cell.short, cell.short),
                Mutant::BeyondDropped => cell.short = Amount::ZERO,
                Mutant::LiveHoldAbandoned if !lease && !held.is_zero() => {
                    sync.abandoned.push(cell.key.generation % HOLDS);
                }
                Mutant::Overcharged => cell.used = plus(cell.used, Amount::ONE).min(cell.finished),
                _ => {}
            }
        }
        serde_json::to_vec(&sync).unwrap()
    }

    /// What billing said is remembered.
    pub(super) fn learn_answer(&mut self, envoy: usize, body: &[u8]) {
        let answer: SyncAnswer = serde_json::from_slice(body).unwrap();
        let Some(life) = self.lives.get(&envoy).copied() else { return };
        for cell in &answer.cells {
            self.granted.insert((envoy, life, cell.key), cell.granted);
        }
        for need in &answer.needs {
            if let NeedDecision::Ok { cells, .. } = &need.decision {
                self.granted.extend(cells.iter().map(|cell| ((envoy, life, cell.key), cell.granted)));
            }
        }
    }

    /// An answer that has come to a sync of `age`.
    pub(super) fn spoil_answer(&mut self, body: &[u8], age: Span) -> Vec<u8> {
        let mut answer: SyncAnswer = serde_json::from_slice(body).unwrap();
        let more = match self.mutant {
            Mutant::DeadlineFromReceipt => age.millis(),
            Mutant::DeadlineIgnored => 20_000,
            _ => 0,
        };
        let longer = |ttl: &mut u64| *ttl += if *ttl > 0 { more } else { 0 };
        let ahead = self.mutant == Mutant::AheadOfExposure;
        for cell in &mut answer.cells {
            longer(&mut cell.ttl_ms);
            if self.mutant == Mutant::AnswersAreDeltas && cell.key.generation < HOLDS {
                cell.granted = plus(cell.granted, cell.granted);
                cell.exposure = Amount::MAX;
            }
            if ahead {
                cell.exposure = Amount::MAX;
            }
        }
        for need in &mut answer.needs {
            if let NeedDecision::Ok { cells, standing, .. } = &mut need.decision {
                standing.valid_ms += more;
                for cell in cells {
                    longer(&mut cell.ttl_ms);
                    if ahead {
                        cell.exposure = Amount::MAX;
                    }
                }
            }
        }
        serde_json::to_vec(&answer).unwrap()
    }
}
