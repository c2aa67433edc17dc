//! Catalogs: whatever is accepted refers only to what is there, says the same as JSON, and has an answer for every refusal.

use crate::dice::Dice;
use crate::tree;
use billing::catalog::Catalog;
use contract::v1::Reason;
use serde_json::Value;
use std::collections::BTreeSet;

const DEMO: &str = include_str!("../../../catalogs/demo.yaml");

pub(crate) fn run(data: &[u8]) {
    if let Some(text) = data.strip_prefix(b"#") {
        // As somebody typed it.
        if let Ok(text) = core::str::from_utf8(text) {
            check(text);
        }
        return;
    }
    let mut dice = Dice::new(data);
    let mut document: Value = serde_saphyr::from_str(DEMO).unwrap();
    for _ in 0..dice.below(5) {
        tree::change(&mut document, &mut dice);
    }
    check(&document.to_string());
}

fn check(text: &str) {
    let catalog = match Catalog::from_yaml(text) {
        Ok(catalog) => catalog,
        Err(complaints) => {
            assert!(!complaints.0.is_empty(), "refused without a word");
            return;
        }
    };
    let document: Value = serde_saphyr::from_str(text).expect("accepted, and no YAML");
    // JSON is YAML (YAML 1.2, section 1.3).
    let again = Catalog::from_yaml(&document.to_string()).unwrap_or_else(|no| panic!("{no}"));
    assert_eq!(again, catalog);
    if let Some(tier) = &catalog.default_tier {
        assert!(catalog.tiers.contains_key(tier));
    }
    assert!(!catalog.tiers.is_empty());
    let mut prices = BTreeSet::new();
    for (name, tier) in &catalog.tiers {
        for price in &tier.prices {
            assert!(prices.insert(&price.id), "{} buys two things", price.id);
            assert_eq!(catalog.tier_of_price(&price.id).map(|(id, _)| id), Some(name));
        }
        let windows = tier.windows.values();
        assert!(windows.clone().all(|window| window.limit.get() > 0), "a window of nothing");
        assert!(windows.flat_map(|window| &window.endpoints).all(|id| catalog.endpoints.contains_key(id)));
        for (name, value) in &tier.attributes {
            let plain = |byte: u8| (b' '..=b'~').contains(&byte);
            assert!(!name.is_empty() && name.bytes().chain(value.bytes()).all(plain), "no header: {name}");
        }
    }
    assert!(catalog.packages.values().all(|package| prices.insert(&package.price) && package.amount > 0));
    for endpoint in catalog.endpoints.values() {
        assert!(!endpoint.cost.unsaid().hold.is_zero(), "nothing is free by omission");
        assert!(endpoint.tiers.iter().flatten().all(|tier| catalog.tiers.contains_key(tier)));
    }
    for reason in Reason::ALL {
        let refusal = catalog.refusal(reason);
        assert!((400..=599).contains(&refusal.status) && refusal.reason == reason);
        assert!(!refusal.title.trim().is_empty() && !refusal.detail.trim().is_empty());
    }
    assert_eq!(catalog.policy(), again.policy());
}
