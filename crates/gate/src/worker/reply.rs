//! What came back from billing, and whether it can be believed: anything but a sound answer has the name of a fault.

use super::talk::Fault;
use crate::entered::entered;
use contract::v1::{CellKey, CellLease, NeedMode, Price, Standing, SyncAnswer};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use units::Amount;

/// How a call ended, as the host saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// The host refused to send it.
    NotSent,
    /// The connection broke off after it was sent.
    Reset,
    /// Envoy answered by itself, in billing's place.
    Local,
    /// Billing answered.
    Upstream {
        /// The HTTP status.
        status: u32,
        /// The body; `None` if it is larger than [`super::ANSWER_BYTES_MAX`].
        body: Option<Vec<u8>>,
    },
}

impl CallResult {
    /// The document that a 200 carries.
    pub(super) fn document<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        match self {
            Self::NotSent => Err(Fault::NotSent),
            Self::Reset => Err(Fault::Reset),
            Self::Local => Err(Fault::Unreachable),
            Self::Upstream { status: 200, body: Some(body) } => {
                serde_json::from_slice(body).map_err(|_| Fault::Garbage)
            }
            Self::Upstream { status: 200, body: None } => Err(Fault::TooLarge),
            Self::Upstream { status: 401 | 403, .. } => Err(Fault::Unauthorized),
            Self::Upstream { status: 400..=428 | 430..=499, .. } => Err(Fault::Rejected),
            Self::Upstream { .. } => Err(Fault::Failing),
        }
    }
}

impl Fault {
    /// True if the same call may well succeed a moment later.
    pub(super) const fn passes(self) -> bool {
        matches!(self, Self::NotSent | Self::Reset | Self::Unreachable | Self::Failing)
    }

    /// True if billing is away, and not we or it in the wrong.
    pub(super) const fn is_outage(self) -> bool {
        self.passes() || matches!(self, Self::Late)
    }
}

/// Generations from here on are holds of single requests; smaller ones are leases.
pub(super) const HOLD_GENERATION_MIN: u64 = 1 << 40;

/// Is this the answer to that sync: its number, its needs and its cells, each at most once and no other?
pub(super) fn check_sync(
    answer: &SyncAnswer,
    seq: u64,
    mut needs_left: BTreeSet<u64>,
    mut cells_left: BTreeSet<CellKey>,
    usage_max: u64,
) -> Result<(), Fault> {
    let known = answer.needs.iter().all(|need| needs_left.remove(&need.id))
        && answer.cells.iter().all(|cell| cells_left.remove(&cell.key));
    if answer.sent_seq == seq && known && answer.usage_acked <= usage_max {
        Ok(())
    } else {
        Err(Fault::Mismatch)
    }
}

/// Can all of it be told upstream? What cannot is not remembered either, or it would spoil later requests too.
pub(super) fn check_standing(standing: &Standing) -> Result<(), Fault> {
    let fit = standing.attributes.iter().all(|(name, value)| attribute_fits(name, value));
    if fit { Ok(()) } else { Err(Fault::Nonsense) }
}

/// Is a tier's attribute fit to be a header?
pub(crate) fn attribute_fits(name: &str, value: &str) -> bool {
    let name_fits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    name_fits && !value.chars().any(char::is_control)
}

/// Does an `ok` hold exactly what its own price says, in cells that belong to the need alone; or lend cells of that kind?
pub(super) fn check_pass(
    (mode, generation): (NeedMode, u64),
    price: &Price,
    cells: &[CellLease],
) -> Result<(), Fault> {
    let held = cells.iter().try_fold(Amount::ZERO, |sum, cell| sum.checked_add(cell.held));
    let sound = match mode {
        NeedMode::Identify => cells.is_empty(),
        NeedMode::Hold => {
            // What is free says so in its route (`cost: 0`), and is never asked for with a hold.
            !price.hold.is_zero()
                && held == Some(price.hold)
                && distinct(cells)
                && cells.iter().all(|c| {
                    c.unit == price.unit
                        && c.key.generation == generation
                        && c.granted == c.held
                        && !c.held.is_zero()
                        && c.ttl_ms > 0
                })
        }
        NeedMode::Lease => {
            !price.hold.is_zero()
                && distinct(cells)
                && cells
                    .iter()
                    .all(|c| is_over(c) || (is_lease(c) && c.unit == price.unit && c.scope == price.scope))
        }
    };
    if sound { Ok(()) } else { Err(Fault::Nonsense) }
}

fn is_lease(cell: &CellLease) -> bool {
    (1..HOLD_GENERATION_MIN).contains(&cell.key.generation) && cell.held.is_zero()
}

/// Is it a lease that nothing can be spent on, told since we may not have heard of it?
pub(super) fn is_over(cell: &CellLease) -> bool {
    is_lease(cell) && cell.ttl_ms == 0
}

fn distinct(cells: &[CellLease]) -> bool {
    entered::<_, BTreeSet<_>>(cells.iter().map(|c| c.key)).len() == cells.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::v1::CompleteAnswer;

    fn fault(result: &CallResult) -> Fault {
        result.document::<CompleteAnswer>().unwrap_err()
    }

    #[test]
    fn whatever_is_no_answer_has_the_name_of_a_fault() {
        let upstream =
            |status, body: &str| CallResult::Upstream { status, body: Some(body.as_bytes().to_vec()) };
        assert_eq!(fault(&CallResult::NotSent), Fault::NotSent);
        assert_eq!(fault(&CallResult::Reset), Fault::Reset);
        assert_eq!(fault(&CallResult::Local), Fault::Unreachable);
        assert_eq!(fault(&CallResult::Upstream { status: 200, body: None }), Fault::TooLarge);
        let good = r#"{"result":"recorded"}"#;
        for (status, body, expected) in [
            (200, "<html>welcome</html>", Fault::Garbage),
            (200, "", Fault::Garbage),
            (200, "{}", Fault::Garbage),
            (200, r#"{"result":"sort of"}"#, Fault::Garbage),
            (200, r#"{"result":"recorded"} trailing"#, Fault::Garbage),
            (204, good, Fault::Failing),
            (302, good, Fault::Failing),
            (401, good, Fault::Unauthorized),
            (403, good, Fault::Unauthorized),
            (404, good, Fault::Rejected),
            (409, good, Fault::Rejected),
            (429, good, Fault::Failing),
            (500, good, Fault::Failing),
            (0, good, Fault::Failing),
        ] {
            assert_eq!(fault(&upstream(status, body)), expected, "{status} {body}");
        }
        assert!(upstream(200, good).document::<CompleteAnswer>().is_ok());
    }
}
