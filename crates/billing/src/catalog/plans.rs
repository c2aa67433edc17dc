//! What a tier gives, read from YAML: its allowance of credits and its windows.

use super::read::WHOLE_MAX;
use super::tree::{Tree, credits, flag, span, text, texts, whole, word};
use super::{Allowance, OnUpgrade, Period, Refill, Rollover, Window, Zone};
use crate::complaint::Complaints;
use serde_json::Value;
use units::{Amount, EndpointId, Span};

pub(super) fn allowance(mut tree: Tree<'_>, no: &mut Complaints) -> Option<Allowance> {
    let credits_ = tree.must("credits", no, credits);
    let trial_credits = tree.maybe("trial_credits", no, credits).unwrap_or(Amount::ZERO);
    let expiry_grace = tree.maybe("expiry_grace", no, span).unwrap_or(Span::from_secs(3 * 86_400));
    let rollover = tree.maybe("rollover", no, rollover).unwrap_or_default();
    let upgrades = [
        ("none", OnUpgrade::None),
        ("prorated_delta", OnUpgrade::ProratedDelta),
        ("full_delta", OnUpgrade::FullDelta),
        ("reset", OnUpgrade::Reset),
    ];
    let on_upgrade = tree.maybe("on_upgrade", no, word(upgrades)).unwrap_or_default();
    let refills = [("period", Refill::Period), ("monthly", Refill::Monthly)];
    let refill = tree.maybe("refill", no, word(refills)).unwrap_or_default();
    let per_seat = tree.maybe("per_seat", no, flag).unwrap_or(false);
    let path = tree.path("rollover");
    tree.close(no);
    let credits = credits_?;
    // With less, a renewal would cut what it brings itself.
    if let Rollover::Cap(cap) = rollover
        && cap < credits
    {
        let (cap, credits) = (cap.to_credits(), credits.to_credits());
        no.add(path, format!("{{cap: {cap}}}"), format!("write at least the allowance, {credits}, or none"));
    }
    Some(Allowance { credits, trial_credits, expiry_grace, rollover, on_upgrade, refill, per_seat })
}

/// `none`, `all`, or `{cap: N}`.
fn rollover(value: &Value) -> Result<Rollover, String> {
    let mend = || "write none, all, or {cap: N} with a number of credits".to_owned();
    match value.as_str() {
        Some("none") => return Ok(Rollover::None),
        Some("all") => return Ok(Rollover::All),
        _ => {}
    }
    let map = value.as_object().filter(|map| map.len() == 1);
    let cap = map.and_then(|map| map.get("cap")).ok_or_else(mend)?;
    credits(cap).map(Rollover::Cap).map_err(|why| format!("{}; of the cap: {why}", mend()))
}

pub(super) fn window(mut tree: Tree<'_>, no: &mut Complaints) -> Option<Window> {
    let endpoints = tree.must("endpoints", no, |value| {
        texts(value)?
            .into_iter()
            .map(|name| EndpointId::new(name).map_err(|e| format!("a name {e}")))
            .collect()
    });
    let limit = tree.must("limit", no, whole(1, WHOLE_MAX));
    let periods = [("day", Period::Day), ("month", Period::Month), ("lifetime", Period::Lifetime)];
    let period = tree.must("period", no, word(periods));
    let zone = tree.maybe("time_zone", no, |value| Zone::named(&text(value)?)).unwrap_or_default();
    tree.close(no);
    let limit = Amount::new(i64::try_from(limit?).ok()?).ok()?;
    Some(Window { endpoints: endpoints?, limit, period: period?, zone })
}

#[cfg(test)]
mod tests {
    use crate::catalog::{Catalog, OnUpgrade, PackagesFor, Period, Refill, Rollover};
    use units::{Amount, TierId};

    const DEMO: &str = include_str!("../../../../catalogs/demo.yaml");

    fn with(from: &str, to: &str) -> String {
        assert!(DEMO.contains(from), "{from}");
        DEMO.replace(from, to)
    }

    #[test]
    fn every_key_of_a_plan_is_read_and_has_a_default() {
        let pro = |text: &str| Catalog::from_yaml(text).unwrap().tiers[&TierId::new("pro").unwrap()].clone();
        let plain = pro(DEMO).allowance.unwrap();
        assert_eq!((plain.rollover, plain.on_upgrade), (Rollover::None, OnUpgrade::ProratedDelta));
        assert_eq!((plain.refill, plain.per_seat), (Refill::Period, false));
        let all = "rollover: {cap: 4000}, on_upgrade: reset, refill: monthly, per_seat: true";
        let read = pro(&with("rollover: none", all)).allowance.unwrap();
        assert_eq!(read.rollover, Rollover::Cap(Amount::from_credits("4000").unwrap()));
        assert_eq!((read.on_upgrade, read.refill, read.per_seat), (OnUpgrade::Reset, Refill::Monthly, true));
        assert_eq!(pro(&with("rollover: none", "rollover: all")).allowance.unwrap().rollover, Rollover::All);
        for (word, read) in [
            ("none", OnUpgrade::None),
            ("prorated_delta", OnUpgrade::ProratedDelta),
            ("full_delta", OnUpgrade::FullDelta),
        ] {
            let catalog = with("rollover: none", &format!("on_upgrade: {word}"));
            assert_eq!(pro(&catalog).allowance.unwrap().on_upgrade, read);
        }
    }

    #[test]
    fn every_key_of_a_window_is_read() {
        let daily = |text: &str| {
            Catalog::from_yaml(text).unwrap().tiers[&TierId::new("free").unwrap()].windows["daily"].clone()
        };
        for (word, period) in [("day", Period::Day), ("month", Period::Month), ("lifetime", Period::Lifetime)]
        {
            let read = daily(&with("period: day", &format!("period: {word}, time_zone: Europe/Berlin")));
            assert_eq!((read.period, read.zone.name()), (period, "Europe/Berlin"));
        }
        assert_eq!(daily(DEMO).zone.name(), "UTC");
    }

    #[test]
    fn who_may_buy_packages_is_read() {
        let policies = |text: &str| Catalog::from_yaml(text).unwrap().policies;
        assert_eq!(policies(DEMO).packages_for, PackagesFor::Everybody);
        let own = with("policies:\n", "policies:\n  packages_for: subscribers\n");
        assert_eq!(policies(&own).packages_for, PackagesFor::Subscribers);
    }

    #[test]
    fn what_a_plan_cannot_mean_is_complained_about_where_it_stands() {
        for (from, to, path) in [
            ("rollover: none", "rollover: some", "tiers.pro.allowance.rollover"),
            ("rollover: none", "rollover: {cap: 1, floor: 2}", "tiers.pro.allowance.rollover"),
            ("rollover: none", "rollover: {cap: 0.5}", "tiers.pro.allowance.rollover"),
            ("rollover: none", "rollover: {cap: 999}", "tiers.pro.allowance.rollover"),
            ("rollover: none", "on_upgrade: double", "tiers.pro.allowance.on_upgrade"),
            ("rollover: none", "refill: weekly", "tiers.pro.allowance.refill"),
            ("rollover: none", "per_seat: 2", "tiers.pro.allowance.per_seat"),
            ("period: day", "period: week", "tiers.free.windows.daily.period"),
            ("period: day", "period: day, time_zone: Europe/Bielefeld", "tiers.free.windows.daily.time_zone"),
            ("period: day", "period: day, time_zone: Etc/Unknown", "tiers.free.windows.daily.time_zone"),
            ("policies:\n", "policies:\n  packages_for: nobody\n", "policies.packages_for"),
        ] {
            let no = Catalog::from_yaml(&with(from, to)).unwrap_err();
            let paths: Vec<_> = no.0.iter().map(|complaint| complaint.path.as_str()).collect();
            assert_eq!(paths, [path], "{to}: {no}");
        }
    }
}
