//! From the `policies` of a catalog's YAML to [`Policies`], with every complaint at once.

use super::tree::{Tree, flag, span, text, whole, word};
use super::{PackagesFor, Policies, Retries};
use crate::complaint::Complaints;
use ledger::{Exposure, Shortfall};
use serde_json::Value;
use units::Span;

/// What becomes of credits that were used and then refunded: owed, or the operator's loss.
pub(super) const OVER_REVOKE: [(&str, Shortfall); 2] =
    [("negative", Shortfall::Debt), ("floor_zero", Shortfall::WriteOff)];

pub(super) fn policies(tree: Option<Tree<'_>>, no: &mut Complaints) -> Policies {
    let mut policies = Policies {
        past_due_grace: Span::from_secs(7 * 86_400),
        cancel_keeps_period: true,
        access_while_paused: true,
        packages_for: PackagesFor::Everybody,
        hold_on_inquiry: false,
        plan_over_revoke: Shortfall::WriteOff,
        shortfall: Shortfall::Debt,
        exposure: None,
        retries: Retries { window: Span::from_secs(600), most: 2 },
    };
    let Some(mut tree) = tree else { return policies };
    if let Some(grace) = tree.maybe("past_due_grace", no, span) {
        policies.past_due_grace = grace;
    }
    if let Some(keeps) = tree.maybe("on_cancel", no, word([("period_end", true), ("immediate", false)])) {
        policies.cancel_keeps_period = keeps;
    }
    if let Some(allow) = tree.maybe("while_collection_paused", no, word([("allow", true), ("deny", false)])) {
        policies.access_while_paused = allow;
    }
    let whom = [("everybody", PackagesFor::Everybody), ("subscribers", PackagesFor::Subscribers)];
    if let Some(whom) = tree.maybe("packages_for", no, word(whom)) {
        policies.packages_for = whom;
    }
    if let Some(hold) = tree.maybe("hold_on_inquiry", no, flag) {
        policies.hold_on_inquiry = hold;
    }
    if let Some(shortfall) = tree.maybe("plan_over_revoke", no, word(OVER_REVOKE)) {
        policies.plan_over_revoke = shortfall;
    }
    let words = [("debt", Shortfall::Debt), ("write_off", Shortfall::WriteOff)];
    if let Some(shortfall) = tree.maybe("shortfall", no, word(words)) {
        policies.shortfall = shortfall;
    }
    policies.exposure = tree.maybe("exposure", no, exposure);
    if let Some(retries) = tree.tree("retries", no) {
        policies.retries = self::retries(retries, policies.retries, no);
    }
    tree.close(no);
    policies
}

/// More than this many requests ahead is hardly a bound.
const EXPOSURE_MAX: u64 = 1000;

fn exposure(value: &Value) -> Result<Exposure, String> {
    if text(value).is_ok_and(|text| text == "lease") {
        return Ok(Exposure::Whole);
    }
    let requests = whole(1, EXPOSURE_MAX)(value).ok().and_then(|n| u32::try_from(n).ok());
    let mend = || format!("write lease, or how many requests it may be, from 1 to {EXPOSURE_MAX}");
    requests.map(Exposure::Requests).ok_or_else(mend)
}

/// The longest that a charge is remembered for its repetitions: each is a row that is kept so long.
const RETRIES_DAYS_MAX: u64 = 7;

fn retries(mut tree: Tree<'_>, default: Retries, no: &mut Complaints) -> Retries {
    let longest = Span::from_secs(RETRIES_DAYS_MAX * 86_400);
    let window = tree.maybe("window", no, |value| match span(value) {
        Ok(window) if window > longest => Err(format!("write {RETRIES_DAYS_MAX}d or less")),
        other => other,
    });
    let most = tree.maybe("most", no, whole(0, 100)).and_then(|most| u32::try_from(most).ok());
    tree.close(no);
    Retries { window: window.unwrap_or(default.window), most: most.unwrap_or(default.most) }
}
