//! Gateways without the filter: one call, one durable charge.

use crate::support::{Answer, GATEWAY, World};
use serde_json::{Value, json};

async fn ask(world: &World, key: &str, endpoint: &str) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers =
        [("authorization", bearer.as_str()), ("x-tollgate-gateway-token", GATEWAY), ("x-request-id", "r-1")];
    world.call("POST", &format!("/ext_authz/{endpoint}/v1/images/generations?n=1"), &headers, "").await
}

async fn customer(world: &World, credits: u64) -> String {
    world.admin("POST", "accounts", &json!({"id": "acme"})).await.ok(201);
    world.admin("POST", "grants", &json!({"account": "acme", "credits": credits})).await.ok(201);
    let key = world.admin("POST", "api-keys", &json!({"account": "acme"})).await.ok(201);
    key["key"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_call_charges_at_once_and_the_last_credit_is_the_last() {
    let mut world = World::new().await;
    let key = customer(&world, 3).await;
    let first = ask(&world, &key, "embeddings").await;
    assert_eq!((first.status, first.headers["x-tollgate-account"].to_str().unwrap()), (200, "acme"));
    let account = world.account("acme").await;
    assert_eq!((&account["balance"], &account["held_micro"]), (&json!("2"), &json!(0)));
    // A new process never takes a name that was used.
    world.restart().await;
    assert_eq!(ask(&world, &key, "embeddings").await.status, 200);
    let both = tokio::join!(ask(&world, &key, "embeddings"), ask(&world, &key, "embeddings"));
    let mut statuses = [both.0.status, both.1.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 402]);
    assert_eq!(world.balance("acme").await, 0);
    assert_eq!(world.metric("tollgate_billing_calls_total", ("call", "ext_authz")), 3);
    let journal = world.admin("GET", "transactions?account=acme", &Value::Null).await.ok(200);
    let used = journal["items"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "used");
    assert_eq!(used.count(), 3);
}

#[tokio::test]
async fn whoever_may_not_pass_is_told_as_the_filter_tells_it() {
    let world = World::new().await;
    let key = customer(&world, 100).await;
    for (key, endpoint, status, reason) in [
        ("", "chat", 401, "unauthenticated"),
        ("tgk_nobody", "chat", 401, "unknown_customer"),
        (key.as_str(), "image", 403, "tier_not_allowed"),
        (key.as_str(), "dreams", 403, "endpoint_unknown"),
    ] {
        let answer = ask(&world, key, endpoint).await;
        assert_eq!(
            (answer.status, answer.headers["content-type"].to_str().unwrap()),
            (status, "application/problem+json")
        );
        assert_eq!(answer.headers["x-should-retry"], "false");
        let body = answer.json();
        assert_eq!((&body["reason"], &body["error"]["code"]), (&json!(reason), &json!(reason)));
        assert_eq!(body["request_id"], "r-1");
    }
    assert_eq!(world.balance("acme").await, 100_000_000);
}

#[tokio::test]
async fn only_a_gateway_may_charge() {
    let world = World::new().await;
    let bearer = format!("Bearer {}", customer(&world, 100).await);
    for token in ["", "gateway-token-of-guests"] {
        let headers = [("authorization", bearer.as_str()), ("x-tollgate-gateway-token", token)];
        assert_eq!(world.call("GET", "/ext_authz/chat", &headers, "").await.status, 401);
    }
    assert_eq!(world.call("GET", "/ext_authz/chat", &[("authorization", &bearer)], "").await.status, 401);
    assert_eq!(world.balance("acme").await, 100_000_000);
}

#[tokio::test]
async fn what_is_charged_by_tokens_is_charged_what_the_catalog_holds_where_nobody_counts() {
    let world = World::with(crate::tokens::catalog(), &[]).await;
    let key = customer(&world, 1).await;
    assert_eq!(ask(&world, &key, "chat").await.status, 200);
    let account = world.account("acme").await;
    assert_eq!((&account["balance_micro"], &account["held_micro"]), (&json!(950_000), &json!(0)));
}
