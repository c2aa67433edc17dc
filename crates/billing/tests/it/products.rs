//! What only some products need of the service: customers without accounts of their own, things without credits, weights to come.

use crate::support::{World, checkout, demo_catalog, event, subscription};
use serde_json::{Value, json};

/// The demo, with what a product needs put into its file.
async fn world(edits: &[(&str, &str)]) -> World {
    let edit = |text: String, (what, by): &(&str, &str)| {
        assert!(text.contains(what), "{what} is not in the demo's catalog");
        text.replace(what, by)
    };
    World::with(edits.iter().fold(demo_catalog(), edit), &[]).await
}

async fn detail(world: &World, id: &str) -> (String, String) {
    let events = world.admin("GET", "events", &Value::Null).await.ok(200);
    let found = events["items"].as_array().unwrap().iter().find(|event| event["id"] == id).unwrap().clone();
    let text = |key: &str| found[key].as_str().unwrap().to_owned();
    (text("status"), text("detail"))
}

#[tokio::test]
async fn a_product_without_users_has_stripes_customers_as_accounts() {
    let world = world(&[("  account_keys", "  account: stripe_customer\n  account_keys")]).await;
    let mut sub = subscription("sub_1", "cus_1", "active");
    sub["metadata"] = json!({"user_id": "mallory"});
    world.deliver(&event("evt_1", "customer.subscription.created", sub)).await.ok(200);
    assert_eq!(world.event_status("evt_1").await, "applied");
    assert_eq!(world.account("cus_1").await["tier"], "pro");
    let nobody = world.admin("GET", "accounts/mallory", &Value::Null).await;
    assert_eq!(nobody.status, 404, "metadata names nobody here: {}", nobody.text);

    // A customer that an operator gave to somebody stays theirs, and that is no conflict.
    let theirs = json!({"id": "alice", "subjects": [], "stripe_customer": "cus_2"});
    world.admin("POST", "accounts", &theirs).await.ok(201);
    let sub = subscription("sub_2", "cus_2", "active");
    world.deliver(&event("evt_2", "customer.subscription.created", sub)).await.ok(200);
    assert_eq!(world.event_status("evt_2").await, "applied");
    assert_eq!(world.account("alice").await["tier"], "pro");
}

#[tokio::test]
async fn a_sum_with_an_undecided_weight_is_unknown_and_not_smaller() {
    let world = world(&[("    rank: 1\n", "    rank: 1\n    weight: undecided\n")]).await;
    let benefits = world.admin("GET", "benefits", &Value::Null).await.ok(200);
    assert_eq!(benefits, json!({"tiers": {"pro": {"active": 0, "weight": null}}, "total": 0}));
    let mut sub = subscription("sub_1", "cus_1", "active");
    sub["metadata"] = json!({"user_id": "alice"});
    world.deliver(&event("evt_1", "customer.subscription.created", sub)).await.ok(200);
    let benefits = world.admin("GET", "benefits", &Value::Null).await.ok(200);
    assert_eq!(benefits, json!({"tiers": {"pro": {"active": 1, "weight": null}}, "total": null}));
}

#[tokio::test]
async fn a_thing_without_credits_is_remembered_once_however_it_is_told() {
    let things =
        "purchases:\n  vector: {item_keys: [vectorId, vector_id], unique_per_account: true}\npackages:\n";
    let world = world(&[("packages:\n", things)]).await;
    let session = |id: &str, metadata: Value| {
        let mut session = checkout(id, "cus_1", Some("alice"), "payment");
        session["metadata"] = metadata;
        event(&format!("evt_{id}"), "checkout.session.completed", session)
    };
    let seventh = json!({"purchase_type": "vector", "vector_id": "7"});
    world.deliver(&session("a", seventh.clone())).await.ok(200);
    assert_eq!(detail(&world, "evt_a").await, ("applied".into(), "vector 7 for 500 usd".into()));
    let intent = json!({"id": "pi_a", "object": "payment_intent", "customer": "cus_1", "amount_received": 500,
        "currency": "usd", "metadata": seventh});
    world.deliver(&event("evt_intent", "payment_intent.succeeded", intent)).await.ok(200);
    assert_eq!(detail(&world, "evt_intent").await, ("applied".into(), "recorded before".into()));

    // The same thing again, by another payment: a person has to look, whatever tells of it.
    let other = session("b", seventh.clone());
    world.deliver(&other).await.ok(200);
    let (status, why) = detail(&world, "evt_b").await;
    assert!(
        status == "conflict" && why.contains("alice") && why.contains("has it already"),
        "{status} {why}"
    );
    let intent = json!({"id": "pi_b", "object": "payment_intent", "customer": "cus_1", "amount_received": 500,
        "currency": "usd", "metadata": seventh});
    world.deliver(&event("evt_intent_b", "payment_intent.succeeded", intent)).await.ok(200);
    assert_eq!(world.event_status("evt_intent_b").await, "conflict");
    assert_eq!(world.metric("tollgate_billing_duplicate_purchases_total", ("", "")), 2);
    // Its money goes back, and it can be had again.
    let charge = json!({"id": "ch_a", "object": "charge", "payment_intent": "pi_a", "customer": "cus_1",
        "amount": 500, "amount_refunded": 500, "refunded": true, "currency": "usd", "metadata": {}});
    world.deliver(&event("evt_back", "charge.refunded", charge)).await.ok(200);
    assert_eq!(world.event_status("evt_back").await, "applied");
    world.deliver(&session("f", seventh.clone())).await.ok(200);
    assert_eq!(detail(&world, "evt_f").await, ("applied".into(), "vector 7 for 500 usd".into()));

    // Another thing is another purchase; one that does not say which is put to review; none of it is a credit.
    world.deliver(&session("c", json!({"purchase_type": "vector", "vector_id": "8"}))).await.ok(200);
    assert_eq!(world.event_status("evt_c").await, "applied");
    world.deliver(&session("d", json!({"purchase_type": "vector", "package_id": "starter"}))).await.ok(200);
    assert_eq!(world.event_status("evt_d").await, "review");
    world.deliver(&session("e", json!({"purchase_type": "poster"}))).await.ok(200);
    assert_eq!(world.event_status("evt_e").await, "ignored");
    assert_eq!(world.balance("alice").await, 0);
}

#[test]
fn every_catalog_that_is_shipped_is_in_order() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../catalogs");
    let mut products = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let catalog = billing::catalog::Catalog::from_yaml(&std::fs::read_to_string(&path).unwrap());
        let catalog = catalog.unwrap_or_else(|no| panic!("{}: {no}", path.display()));
        assert_eq!(path.file_stem().and_then(|name| name.to_str()), Some(catalog.product.as_str()));
        products.push(catalog.product);
    }
    products.sort();
    for product in ["allthrive", "awareness", "demo", "icraft", "threshold", "tokens", "vantage"] {
        assert!(products.iter().any(|there| there == product), "{product} is not among {products:?}");
    }
}
