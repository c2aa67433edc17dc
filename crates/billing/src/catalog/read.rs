//! From YAML to a [`Catalog`], with every complaint at once.

use super::plans::{allowance, window};
use super::policies::{OVER_REVOKE, policies};
use super::tree::{Tree, credits, flag, span, text, texts, whole, word};
use super::{Catalog, Cost, Endpoint, Notify, Package, Purchase, Refusals, Tier, TierPrice, Words};
use crate::complaint::Complaints;
use contract::v1::Reason;
use ledger::Shortfall;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use units::{EndpointId, IdError, TierId};

/// The largest whole number that every JSON reader keeps exactly (RFC 8259, section 6).
pub(super) const WHOLE_MAX: u64 = 9_007_199_254_740_991;

pub(super) fn catalog(yaml: &str) -> Result<Catalog, Complaints> {
    let mut no = Complaints::default();
    let document: Value = serde_saphyr::from_str(yaml).unwrap_or_else(|error| {
        let error = error.to_string();
        no.add("the file", "not YAML", error.lines().next().unwrap_or("mend its syntax"));
        Value::Null
    });
    if !no.0.is_empty() {
        return Err(no);
    }
    let catalog = document_(&document, &mut no);
    if let Some(catalog) = &catalog {
        check_references(catalog, &mut no);
        check_prices(catalog, &mut no);
    }
    no.or(catalog)
}

fn document_(document: &Value, no: &mut Complaints) -> Option<Catalog> {
    let mut tree = Tree::new("", document, no);
    let version = tree.must("version", no, whole(1, 1));
    let product = tree.must("product", no, text);
    let currency = tree.must("currency", no, currency);
    let default_tier = tree.maybe("default_tier", no, id(TierId::new));
    let mut identity = tree.tree("identity", no);
    let mut keys = |key, default: &str, no: &mut Complaints| {
        let keys = identity.as_mut().and_then(|tree| tree.maybe(key, no, texts));
        keys.unwrap_or_else(|| vec![default.into()])
    };
    let account_keys = keys("account_keys", "user_id", no);
    let package_keys = keys("package_keys", "package_id", no);
    let purchase_keys = keys("purchase_keys", "purchase_type", no);
    let trusted = identity.as_mut().and_then(|tree| tree.maybe("trust_client_reference_id", no, flag));
    let account = identity
        .as_mut()
        .and_then(|tree| tree.maybe("account", no, word([("named", false), ("stripe_customer", true)])));
    if let Some(identity) = identity {
        identity.close(no);
    }
    let policies = policies(tree.tree("policies", no), no);
    let tiers = named(&mut tree, "tiers", no, TierId::new, tier);
    let packages = named(&mut tree, "packages", no, |name| Ok(name.to_owned()), package);
    let purchases = named(&mut tree, "purchases", no, |name| Ok(name.to_owned()), purchase);
    let mut endpoints = named(&mut tree, "endpoints", no, EndpointId::new, endpoint);
    let price_version = price_version(&endpoints);
    for endpoint in endpoints.values_mut() {
        if let Cost::Tokens(list) = &mut endpoint.cost {
            list.version = price_version;
        }
    }
    let refusals = refusals(tree.tree("refusals", no), no);
    let notify = notify(tree.tree("notify", no), no);
    let priced = document.get("endpoints").and_then(Value::as_object);
    let by_usage = |endpoint: &Value| endpoint.get("tokens").is_some();
    let names =
        priced.into_iter().flatten().map(|(name, endpoint)| (name.as_str(), by_usage(endpoint))).collect();
    super::gateway::check(tree.tree("gateway", no), &names, no);
    if tiers.is_empty() {
        no.add("tiers", "empty", "add at least one");
    }
    // A product may sell nothing by the request, but then it says so.
    if endpoints.is_empty() && priced.is_none_or(|priced| !priced.is_empty()) {
        no.add("endpoints", "empty", "add at least one, or write {} if nothing is sold by the request");
    }
    tree.close(no);
    let _complained_of = version;
    // What could not be read has its complaint; the rest is looked at all the same, so that every complaint comes at once.
    Some(Catalog {
        product: product.unwrap_or_default(),
        currency: currency.unwrap_or_default(),
        default_tier,
        account_keys,
        package_keys,
        purchase_keys,
        trust_client_reference_id: trusted.unwrap_or(true),
        customer_is_account: account.unwrap_or(false),
        purchases,
        policies,
        price_version,
        tiers,
        packages,
        endpoints,
        refusals,
        notify,
    })
}

/// Every entry of a mapping under the names its author chose; a name that `key` refuses is complained about.
fn named<'a, K: Ord, T>(
    tree: &mut Tree<'a>,
    section: &'static str,
    no: &mut Complaints,
    key: impl Fn(&'a str) -> Result<K, IdError>,
    read: impl Fn(Tree<'a>, &mut Complaints) -> Option<T>,
) -> BTreeMap<K, T> {
    let mut all = BTreeMap::new();
    for (name, entry) in tree.entries(section, no) {
        match key(name) {
            Ok(key) => drop(read(entry, no).map(|value| all.insert(key, value))),
            Err(error) => {
                no.add(tree.path(section), format!("{name:?}"), format!("the name {error}; rename it"))
            }
        }
    }
    all
}

fn id<T>(new: impl Fn(String) -> Result<T, IdError>) -> impl Fn(&Value) -> Result<T, String> {
    move |value| new(text(value)?).map_err(|error| format!("it {error}"))
}

fn currency(value: &Value) -> Result<String, String> {
    let code = text(value)?;
    let three = code.len() == 3 && code.bytes().all(|b| b.is_ascii_lowercase());
    three.then_some(code).ok_or_else(|| "write three lower-case letters as Stripe does, such as usd".into())
}

/// Each request that is counted is a row while it lasts.
const CONCURRENT_MAX: u64 = 1000;

fn tier(mut tree: Tree<'_>, no: &mut Complaints) -> Option<Tier> {
    let rank = tree.must("rank", no, whole(0, u64::from(u32::MAX)));
    let weight = tree.maybe("weight", no, weight).unwrap_or(Some(1));
    let prices = tree.list("prices", no).into_iter().filter_map(|price| tier_price(price, no)).collect();
    let allowance = tree.tree("allowance", no).map(|tree| allowance(tree, no));
    let windows = named(&mut tree, "windows", no, |name| Ok(name.to_owned()), window);
    let at_once = tree.maybe("max_concurrent", no, whole(1, CONCURRENT_MAX));
    let attributes = tree.maybe("attributes", no, attributes).unwrap_or_default();
    tree.close(no);
    Some(Tier {
        rank: u32::try_from(rank.unwrap_or_default()).ok()?,
        weight,
        prices,
        allowance: allowance.unwrap_or_default(),
        windows,
        at_once: at_once.and_then(|most| u32::try_from(most).ok()),
        attributes,
    })
}

fn weight(value: &Value) -> Result<Option<u64>, String> {
    match value.as_str() {
        Some("undecided") => Ok(None),
        _ => whole(0, WHOLE_MAX)(value).map(Some).map_err(|mend| format!("{mend}, or undecided")),
    }
}

fn tier_price(mut tree: Tree<'_>, no: &mut Complaints) -> Option<TierPrice> {
    let id = tree.must("id", no, text);
    let amount = tree.must("amount", no, whole(0, WHOLE_MAX));
    tree.close(no);
    Some(TierPrice { id: id?, amount: amount? })
}

/// Names and values that can stand in HTTP headers (RFC 9110, section 5).
fn attributes(value: &Value) -> Result<BTreeMap<String, String>, String> {
    let mend = "write names of a-z, 0-9 and - with printable texts as values";
    let map = value.as_object().ok_or(mend)?;
    let name_ok = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    map.iter()
        .map(|(name, value)| match value.as_str() {
            Some(text) if name_ok(name) && text.bytes().all(|b| (b' '..=b'~').contains(&b)) => {
                Ok((name.clone(), text.to_owned()))
            }
            _ => Err(mend.to_owned()),
        })
        .collect()
}

fn package(mut tree: Tree<'_>, no: &mut Complaints) -> Option<Package> {
    let price = tree.must("price", no, text);
    let amount = tree.must("amount", no, whole(1, WHOLE_MAX));
    let credits_ = tree.must("credits", no, credits);
    let expires = tree.must("expires", no, |value| match value.as_str() {
        Some("never") => Ok(None),
        _ => span(value).map(Some).map_err(|mend| format!("{mend}, or never")),
    });
    let on_over_revoke = tree.maybe("on_over_revoke", no, word(OVER_REVOKE)).unwrap_or(Shortfall::Debt);
    let unique_per_account = tree.maybe("unique_per_account", no, flag).unwrap_or(false);
    tree.close(no);
    let (price, amount, credits, lasts) = (price?, amount?, credits_?, expires?);
    Some(Package { price, amount, credits, lasts, on_over_revoke, unique_per_account })
}

fn purchase(mut tree: Tree<'_>, no: &mut Complaints) -> Option<Purchase> {
    let item_keys = tree.must("item_keys", no, |value| {
        texts(value)
            .ok()
            .filter(|keys| !keys.is_empty())
            .ok_or_else(|| "write a list of metadata keys".into())
    });
    let once = tree.maybe("unique_per_account", no, flag).unwrap_or(false);
    tree.close(no);
    Some(Purchase { item_keys: item_keys?, once })
}

fn endpoint(mut tree: Tree<'_>, no: &mut Complaints) -> Option<Endpoint> {
    let cost = super::price::cost(&mut tree, no);
    let tiers = tree.must("tiers", no, |value| match value.as_str() {
        Some("all") => Ok(None),
        _ => texts(value)
            .and_then(|names| {
                names.into_iter().map(|n| TierId::new(n).map_err(|e| format!("a name {e}"))).collect()
            })
            .map(Some)
            .map_err(|_| "write a list of tiers, or all".to_owned()),
    });
    tree.close(no);
    Some(Endpoint { cost, tiers: tiers.unwrap_or_default() })
}

fn refusals(tree: Option<Tree<'_>>, no: &mut Complaints) -> Refusals {
    let Some(mut tree) = tree else { return Refusals::default() };
    let upgrade_url = tree.maybe("upgrade_url", no, url);
    let buy_url = tree.maybe("buy_url", no, url);
    let mut words = BTreeMap::new();
    for (name, mut entry) in tree.entries("reasons", no) {
        let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == name);
        let status = entry.maybe("status", no, whole(400, 599)).and_then(|s| u16::try_from(s).ok());
        let title = entry.maybe("title", no, text);
        let detail = entry.maybe("detail", no, text);
        entry.close(no);
        match reason {
            Some(reason) => drop(words.insert(reason, Words { status, title, detail })),
            None => {
                let all: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
                no.add("refusals.reasons", format!("{name:?}"), format!("use one of {}", all.join(", ")));
            }
        }
    }
    tree.close(no);
    Refusals { upgrade_url, buy_url, words }
}

fn notify(tree: Option<Tree<'_>>, no: &mut Complaints) -> Notify {
    let Some(mut tree) = tree else { return Notify::default() };
    let balance_low = tree.maybe("balance_low", no, credits);
    tree.close(no);
    Notify { balance_low }
}

fn url(value: &Value) -> Result<String, String> {
    let url = text(value)?;
    let ok = url.starts_with("https://") || url.starts_with("http://") || url.starts_with('/');
    ok.then_some(url).ok_or_else(|| "write a URL that begins with https://, http:// or /".into())
}

fn check_references(catalog: &Catalog, no: &mut Complaints) {
    let tiers: BTreeSet<_> = catalog.tiers.keys().collect();
    if let Some(tier) = catalog.default_tier.as_ref().filter(|tier| !tiers.contains(tier)) {
        no.add(
            "default_tier",
            format!("{:?}", tier.as_str()),
            "name one of the tiers, or leave it out to refuse",
        );
    }
    for (name, endpoint) in &catalog.endpoints {
        for tier in endpoint.tiers.iter().flatten().filter(|tier| !tiers.contains(tier)) {
            no.add(
                format!("endpoints.{name}.tiers"),
                format!("{:?}", tier.as_str()),
                "name one of the tiers",
            );
        }
    }
    for (tier, window_name, window) in
        catalog.tiers.iter().flat_map(|(id, tier)| tier.windows.iter().map(move |(name, w)| (id, name, w)))
    {
        for name in window.endpoints.iter().filter(|name| !catalog.endpoints.contains_key(name)) {
            let path = format!("tiers.{tier}.windows.{window_name}.endpoints");
            no.add(path, format!("{:?}", name.as_str()), "name one of the endpoints");
        }
    }
}

/// A price that buys two things would have no answer to what was bought.
fn check_prices(catalog: &Catalog, no: &mut Complaints) {
    let of_tiers = catalog.tiers.iter().flat_map(|(id, tier)| {
        tier.prices
            .iter()
            .enumerate()
            .map(move |(i, price)| (format!("tiers.{id}.prices[{i}].id"), &price.id))
    });
    let of_packages = catalog.packages.iter().map(|(id, p)| (format!("packages.{id}.price"), &p.price));
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    for (path, price) in of_tiers.chain(of_packages) {
        if let Some(first) = seen.get(price.as_str()) {
            no.add(&path, format!("{price:?}"), format!("is used by {first} too; a price buys one thing"));
        } else {
            seen.insert(price, path);
        }
    }
}

/// A number that changes whenever a price does: 48 bits of a digest over all of them.
fn price_version(endpoints: &BTreeMap<EndpointId, Endpoint>) -> u64 {
    let mut digest = Sha256::new();
    for (name, endpoint) in endpoints {
        digest.update(format!("{name}={}\n", endpoint.cost.digested()));
    }
    digest.finalize().iter().take(6).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::Exposure;
    use units::{Amount, Span};

    const DEMO: &str = include_str!("../../../../catalogs/demo.yaml");

    #[test]
    fn the_demo_catalog_says_what_the_interface_promises() {
        let catalog = catalog(DEMO).unwrap_or_else(|no| panic!("{no}"));
        let tier = |name: &str| &catalog.tiers[&TierId::new(name).unwrap()];
        let endpoint = |name: &str| &catalog.endpoints[&EndpointId::new(name).unwrap()];
        assert_eq!(tier("free").windows["daily"].limit.get(), 3);
        assert_eq!(tier("pro").allowance.unwrap().credits.to_credits(), "1000");
        assert_eq!(catalog.tier_of_price("price_pro").unwrap().0.as_str(), "pro");
        assert_eq!(catalog.packages["starter"].credits.to_credits(), "100");
        assert_eq!(
            (&endpoint("chat").cost, &endpoint("image").cost),
            (&Cost::Fixed(Amount::CREDIT), &Cost::Fixed(Amount::from_credits("5").unwrap()))
        );
        assert!(!catalog.allows(&TierId::new("free").unwrap(), endpoint("image")));
        assert!(catalog.allows(&TierId::new("pro").unwrap(), endpoint("image")));
    }

    #[test]
    fn every_complaint_comes_at_once() {
        let bad = DEMO
            .replace("currency: usd", "currency: USD\nsurprise: 1")
            .replace("default_tier: free", "default_tier: gold")
            .replace("limit: 3", "limit: 0")
            .replace("credits: 1000", "credits: 0.5")
            .replace("price: price_starter", "price: price_pro")
            .replace("tiers: [pro]", "tiers: [platinum]");
        let no = catalog(&bad).unwrap_err();
        let paths: BTreeSet<_> = no.0.iter().map(|c| c.path.as_str()).collect();
        let expected = [
            "currency",
            "default_tier",
            "endpoints.image.tiers",
            "packages.starter.price",
            "surprise",
            "tiers.free.windows.daily.limit",
            "tiers.pro.allowance.credits",
        ];
        assert_eq!(paths, expected.into(), "{no}");
    }

    #[test]
    fn what_becomes_of_refunds_and_disputes_is_read_and_has_defaults() {
        let plain = catalog(DEMO).unwrap();
        let (package, policies) = (&plain.packages["starter"], plain.policies);
        assert_eq!((package.on_over_revoke, package.unique_per_account), (Shortfall::Debt, false));
        assert_eq!((policies.plan_over_revoke, policies.hold_on_inquiry), (Shortfall::WriteOff, false));
        let with = |policies: &str, package: &str| {
            let text = DEMO.replace("policies:\n", &format!("policies:\n{policies}"));
            catalog(&text.replace("expires: never", &format!("expires: never, {package}")))
        };
        let other = with(
            "  hold_on_inquiry: true\n  plan_over_revoke: negative\n",
            "on_over_revoke: floor_zero, unique_per_account: true",
        )
        .unwrap_or_else(|no| panic!("{no}"));
        let (package, policies) = (&other.packages["starter"], other.policies);
        assert_eq!((package.on_over_revoke, package.unique_per_account), (Shortfall::WriteOff, true));
        assert_eq!((policies.plan_over_revoke, policies.hold_on_inquiry), (Shortfall::Debt, true));
        let no = with(
            "  hold_on_inquiry: maybe\n  plan_over_revoke: debt\n",
            "on_over_revoke: zero, unique_per_account: 1",
        )
        .unwrap_err();
        let paths: BTreeSet<_> = no.0.iter().map(|c| c.path.as_str()).collect();
        let of_package = ["packages.starter.on_over_revoke", "packages.starter.unique_per_account"];
        let of_policies = ["policies.hold_on_inquiry", "policies.plan_over_revoke"];
        assert_eq!(paths, of_package.into_iter().chain(of_policies).collect(), "{no}");
    }

    #[test]
    fn what_becomes_of_shortfalls_and_repetitions_is_read_and_has_defaults() {
        let plain = catalog(DEMO).unwrap().policies;
        assert_eq!((plain.shortfall, plain.retries.most), (Shortfall::Debt, 2));
        assert_eq!(plain.retries.window, Span::from_secs(600));
        let with =
            |policies: &str| catalog(&DEMO.replace("policies:\n", &format!("policies:\n{policies}\n")));
        let other = with("  shortfall: write_off\n  retries: {window: 7d, most: 0}").unwrap().policies;
        assert_eq!((other.shortfall, other.retries.most), (Shortfall::WriteOff, 0));
        assert_eq!(other.retries.window, Span::from_secs(7 * 86_400));
        assert_eq!(with("  retries: {most: 5}").unwrap().policies.retries.window, plain.retries.window);
        assert_eq!(plain.exposure, None);
        assert_eq!(with("  exposure: lease").unwrap().policies.exposure, Some(Exposure::Whole));
        assert_eq!(with("  exposure: 4").unwrap().policies.exposure, Some(Exposure::Requests(4)));
        for nonsense in ["tight", "0", "1001", "-1", "1.5", "[4]"] {
            let no = with(&format!("  exposure: {nonsense}")).unwrap_err().to_string();
            assert!(no.contains("policies.exposure") && no.contains("from 1 to 1000"), "{no}");
        }
        let no = with("  shortfall: free\n  retries: {window: 8d, most: 101, often: 1}").unwrap_err();
        let paths: BTreeSet<_> = no.0.iter().map(|c| c.path.as_str()).collect();
        let of_retries = ["policies.retries.window", "policies.retries.most", "policies.retries.often"];
        assert_eq!(paths, of_retries.into_iter().chain(["policies.shortfall"]).collect(), "{no}");
    }

    #[test]
    fn what_is_no_yaml_is_refused() {
        for text in ["", "tiers: {", "- a\n- b", "version: 1\nversion: 1"] {
            assert!(catalog(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_price_change_changes_the_version() {
        let (one, two) = (catalog(DEMO).unwrap(), catalog(&DEMO.replace("cost: 5", "cost: 6")).unwrap());
        assert_ne!(one.price_version, two.price_version);
        assert!(one.price_version <= WHOLE_MAX);
    }
}
