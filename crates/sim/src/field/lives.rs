//! What each life of an Envoy consumed, beside what the ledger knew of it: its death hides no more than its leases held, and
//! than how far it might be ahead.
//!
//! What was consumed comes from the upstream, what was told from the journal. Of the ledger's rows it takes what the bound is
//! about: what was held as far as the ledger knew, and the exposure.

use super::auditor::Kind;
use ledger::{Cell, CellId};
use std::collections::BTreeMap;
use units::NodeName;

/// One life of an Envoy, with one payer and in one unit.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    /// Truth: delivered, of what was held for it; and what requests under way hold.
    spent: i64,
    flying: i64,
    /// Told, while its cells lived.
    used: i64,
    /// Given back because it fell silent.
    refunded: i64,
    /// What the crash policy may have hidden so far: of each cell that it settled what was held and the exposure, and no more
    /// than was left of it.
    hidden: Hidden,
}

/// What a cell may hide: by the holds that are known and the exposure, and by what is left of it.
#[derive(Clone, Copy, Debug, Default)]
struct Hidden {
    exposed: i64,
    left: i64,
}

impl Hidden {
    fn add(&mut self, cell: &Cell) {
        let (known, exposure, left) = (cell.held().get(), cell.exposure.get(), cell.outstanding().get());
        self.exposed += known + exposure;
        self.left += left.min(known + exposure);
    }
}

impl Life {
    const fn consumed(&self) -> i64 {
        self.spent + self.flying
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// By what the ledger calls it.
    names: BTreeMap<(NodeName, u64), u64>,
    all: BTreeMap<(Kind, u64), Life>,
}

impl Lives {
    /// A sync came that calls its Envoy so.
    pub(super) fn meet(&mut self, name: (NodeName, u64), life: u64) {
        self.names.insert(name, life);
    }

    /// Whose a cell is.
    pub(super) fn owner(&self, cell: &CellId) -> Option<u64> {
        self.names.get(&(cell.node.clone(), cell.incarnation)).copied()
    }

    fn of(&mut self, life: u64, kind: Kind) -> &mut Life {
        self.all.entry((kind, life)).or_default()
    }

    /// A request goes upstream.
    pub(super) fn take_off(&mut self, life: u64, kind: Kind, held: i64) {
        self.of(life, kind).flying += held;
    }

    /// It has come to this.
    pub(super) fn land(&mut self, life: u64, kind: Kind, held: i64, spent: i64) {
        let it = self.of(life, kind);
        (it.flying, it.spent) = (it.flying - held, it.spent + spent);
    }

    /// The ledger was told.
    pub(super) fn used(&mut self, cell: &CellId, kind: Kind, amount: i64) {
        if let Some(life) = self.owner(cell) {
            self.of(life, kind).used += amount;
        }
    }

    /// The ledger gave back what nobody told it of.
    pub(super) fn refunded(&mut self, cell: &CellId, kind: Kind, amount: i64) {
        if let Some(life) = self.owner(cell) {
            self.of(life, kind).refunded += amount;
        }
    }

    /// The crash policy settles a cell that was so before.
    pub(super) fn settled(&mut self, id: &CellId, kind: Kind, before: &Cell) {
        if let Some(life) = self.owner(id) {
            self.of(life, kind).hidden.add(before);
        }
    }

    fn of_kind<'a>(&'a self, kind: &'a Kind) -> impl Iterator<Item = (u64, &'a Life)> {
        self.all.range((kind.clone(), 0)..=(kind.clone(), u64::MAX)).map(|((_, life), it)| (*life, it))
    }

    /// Of what went back because gateways fell silent, what they had spent nevertheless.
    pub(super) fn lost(&self, kind: &Kind) -> i64 {
        self.of_kind(kind).map(|(_, it)| it.refunded.min((it.consumed() - it.used).max(0))).sum()
    }

    /// How many lives there are of which the ledger never heard all.
    pub(super) fn untold(&self) -> usize {
        self.all.values().filter(|it| it.consumed() > it.used).count()
    }

    /// What must hold at any time, with the `open` cells of this kind.
    pub(super) fn check<'a>(
        &self,
        kind: &Kind,
        open: impl Iterator<Item = (&'a CellId, &'a Cell)>,
    ) -> Result<(), String> {
        let mut hidden = BTreeMap::<u64, Hidden>::new();
        for (id, cell) in open {
            if let Some(life) = self.owner(id) {
                hidden.entry(life).or_default().add(cell);
            }
        }
        for (life, it) in self.of_kind(kind) {
            let (open, over) = (hidden.get(&life).copied().unwrap_or_default(), it.hidden);
            let untold = it.consumed() - it.used;
            let (exposed, left) = (open.exposed + over.exposed, open.left + over.left);
            if untold > exposed {
                return Err(format!(
                    "life {life} of an Envoy hides {untold}, more than the holds that are known and its exposure, {exposed}"
                ));
            }
            if untold > left {
                return Err(format!(
                    "life {life} of an Envoy spent {untold} untold, and {left} are left to it"
                ));
            }
        }
        Ok(())
    }
}
