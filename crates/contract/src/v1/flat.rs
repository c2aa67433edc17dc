//! How answers are read whose fields lie side by side in JSON and in parts here: each field once, straight from the text.
//!
//! What serde derives for `flatten` and `tag` keeps the whole of it in memory first, and reads it from there again: twice the
//! work for the busiest call, and a second reader of every type within.

use super::{
    CellAnswer, CellKey, CellLease, CellState, ClaimAnswer, NeedAnswer, NeedDecision, Price, Refusal,
    Standing,
};
use serde::Deserialize;
use units::{Amount, Unit};

/// What the decision needs is not there.
type Missing = &'static str;

/// A [`CellAnswer`] as it is written.
#[derive(Deserialize)]
pub(super) struct FlatCellAnswer {
    grant: u64,
    generation: u64,
    granted: Amount,
    acked_admitted: Amount,
    ttl_ms: u64,
    exposure: Amount,
    state: CellState,
    keep: bool,
}

impl From<FlatCellAnswer> for CellAnswer {
    fn from(flat: FlatCellAnswer) -> Self {
        let FlatCellAnswer { grant, generation, granted, acked_admitted, ttl_ms, exposure, state, keep } =
            flat;
        Self { key: CellKey { grant, generation }, granted, acked_admitted, ttl_ms, exposure, state, keep }
    }
}

/// A [`CellLease`] as it is written.
#[derive(Deserialize)]
pub(super) struct FlatCellLease {
    grant: u64,
    generation: u64,
    unit: Unit,
    granted: Amount,
    held: Amount,
    ttl_ms: u64,
    exposure: Amount,
    scope: String,
    keep: bool,
}

impl From<FlatCellLease> for CellLease {
    fn from(flat: FlatCellLease) -> Self {
        let FlatCellLease { grant, generation, unit, granted, held, ttl_ms, exposure, scope, keep } = flat;
        let key = CellKey { grant, generation };
        Self { key, unit, granted, held, ttl_ms, exposure, scope, keep }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Decided {
    Ok,
    Retry,
    Refused,
}

/// A [`NeedAnswer`] as it is written.
#[derive(Deserialize)]
pub(super) struct FlatNeedAnswer {
    id: u64,
    decision: Decided,
    standing: Option<Box<Standing>>,
    price: Option<Price>,
    cells: Option<Vec<CellLease>>,
    #[serde(default)]
    paid: Amount,
    retry_ms: Option<u64>,
    refusal: Option<Box<Refusal>>,
}

impl TryFrom<FlatNeedAnswer> for NeedAnswer {
    type Error = Missing;

    fn try_from(flat: FlatNeedAnswer) -> Result<Self, Missing> {
        let FlatNeedAnswer { id, decision, standing, price, cells, paid, retry_ms, refusal } = flat;
        let decision = match decision {
            Decided::Ok => NeedDecision::Ok {
                standing: standing.ok_or("missing field `standing`")?,
                price: price.ok_or("missing field `price`")?,
                cells: cells.ok_or("missing field `cells`")?,
                paid,
            },
            Decided::Retry => NeedDecision::Retry { retry_ms: retry_ms.ok_or("missing field `retry_ms`")? },
            Decided::Refused => NeedDecision::Refused {
                refusal: refusal.ok_or("missing field `refusal`")?,
                cells: cells.unwrap_or_default(),
            },
        };
        Ok(Self { id, decision })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Claimed {
    Fresh,
    InFlight,
    Done,
}

/// A [`ClaimAnswer`] as it is written.
#[derive(Deserialize)]
pub(super) struct FlatClaimAnswer {
    decision: Claimed,
    token: Option<String>,
    ttl_ms: Option<u64>,
    retry_ms: Option<u64>,
}

impl TryFrom<FlatClaimAnswer> for ClaimAnswer {
    type Error = Missing;

    fn try_from(flat: FlatClaimAnswer) -> Result<Self, Missing> {
        let FlatClaimAnswer { decision, token, ttl_ms, retry_ms } = flat;
        Ok(match decision {
            Claimed::Fresh => Self::Fresh {
                token: token.ok_or("missing field `token`")?,
                ttl_ms: ttl_ms.ok_or("missing field `ttl_ms`")?,
            },
            Claimed::InFlight => Self::InFlight { retry_ms: retry_ms.ok_or("missing field `retry_ms`")? },
            Claimed::Done => Self::Done,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_decision_needs_must_be_there_and_what_it_does_not_need_is_ignored() {
        let need = |text: &str| serde_json::from_str::<NeedAnswer>(text).map(|answer| answer.decision);
        let retry = NeedDecision::Retry { retry_ms: 5 };
        assert_eq!(need(r#"{"id":1,"decision":"retry","retry_ms":5,"more":[{}]}"#).unwrap(), retry);
        assert_eq!(need(r#"{"retry_ms":5,"decision":"retry","cells":[],"id":1}"#).unwrap(), retry);
        for lacking in [
            r#"{"id":1,"decision":"retry"}"#,
            r#"{"id":1,"decision":"retry","retry_ms":null}"#,
            r#"{"id":1,"decision":"refused","retry_ms":5}"#,
            r#"{"id":1,"decision":"ok","cells":[]}"#,
            r#"{"id":1,"decision":"maybe","retry_ms":5}"#,
            r#"{"id":1,"retry_ms":5}"#,
            r#"{"decision":"retry","retry_ms":5}"#,
            r#"{"id":1,"decision":"retry","retry_ms":5,"retry_ms":5}"#,
        ] {
            assert!(need(lacking).is_err(), "{lacking}");
        }
        let claim = |text: &str| serde_json::from_str::<ClaimAnswer>(text);
        assert_eq!(claim(r#"{"decision":"done"}"#).unwrap(), ClaimAnswer::Done);
        assert!(claim(r#"{"decision":"fresh","token":"t"}"#).is_err());
        assert!(claim(r#"{"decision":"in_flight","ttl_ms":1}"#).is_err());
    }
}
