//! How large leases are, and how far a gateway may be ahead on one.

use crate::command::{Exposure, Need};
use crate::grant::Grant;
use units::Amount;

/// Fewer requests than this are not worth a lease.
const SHARE_REQUESTS_MIN: i64 = 8;

/// Guided self-scheduling: each of the holders may take half its share of what is left, in whole requests of `need`
/// each. `None` if those are too few: the account is nearly empty, lends exactly what requests wait for, and wants back
/// what becomes free.
pub(super) fn share(left: Amount, holders: u32, need: Amount) -> Option<Amount> {
    let (part, need) = (left.part(holders.max(1).saturating_mul(2)), need.max(Amount::ONE));
    let requests = part.get().checked_div(need.get())?;
    let size = Amount::new(requests.checked_mul(need.get())?).ok()?;
    (requests >= SHARE_REQUESTS_MIN).then_some(size)
}

/// How far a gateway may be ahead, in credits.
pub(super) fn lead(exposure: Exposure, granted: Amount, request: Amount) -> Amount {
    let most = match exposure {
        Exposure::Whole => granted,
        Exposure::AtMost(most) => most,
        // More than anybody can hold is no bound.
        Exposure::Requests(n) => {
            let most = request.get().checked_mul(i64::from(n));
            most.and_then(|most| Amount::new(most).ok()).unwrap_or(granted)
        }
    };
    most.min(granted)
}

/// What the request takes of such a grant.
pub(super) fn size_of(need: &Need, grant: &Grant) -> Amount {
    let kind = (grant.terms.unit, grant.terms.scope.as_str());
    let leg = need.lanes.iter().flat_map(|lane| &lane.legs).find(|leg| leg.kind() == kind);
    leg.map_or(Amount::ZERO, |leg| leg.need)
}
