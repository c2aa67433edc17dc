//! What the catalog lets a gateway and a customer do at once.

use crate::support::{World, finished, need};
use serde_json::json;

#[tokio::test]
async fn a_catalog_says_how_far_a_gateway_may_be_ahead() {
    for (exposure, expected) in [("lease", 50_000_000), ("3", 3_000_000)] {
        let policies = format!("policies:\n  exposure: {exposure}\n");
        let catalog = crate::support::demo_catalog().replacen("policies:\n", &policies, 1);
        let world = World::with(catalog, &[]).await;
        world.need(1, "alice", "models").await;
        world.admin("POST", "grants", &json!({"account": "alice", "credits": 100})).await.ok(201);
        let mut asked = need(2, "alice", "embeddings");
        asked["mode"] = json!("lease");
        let answer = world.sync(&json!({"needs": [asked]})).await;
        let cell = &answer["needs"][0]["cells"][0];
        assert_eq!(
            (cell["granted"].as_i64(), cell["exposure"].as_i64()),
            (Some(50_000_000), Some(expected)),
            "{answer}"
        );
        // It counts for what is reported too.
        let key = |name: &str| cell[name].clone();
        let told = json!({"grant": key("grant"), "generation": key("generation"), "admitted": 2_000_000, "finished": 0,
            "used": 0, "returned": 0, "target": 0, "need": 1_000_000});
        let answer = world.sync(&json!({"cells": [told]})).await;
        assert_eq!(answer["cells"][0]["exposure"].as_i64(), Some(expected), "{answer}");
    }
}

#[tokio::test]
async fn a_tier_allows_so_many_requests_at_once_at_all_gateways_together() {
    let catalog = crate::support::demo_catalog().replacen(
        "tiers:\n  free:\n",
        "tiers:\n  free:\n    max_concurrent: 2\n",
        1,
    );
    let world = World::with(catalog, &[]).await;
    world.need(1, "alice", "models").await;
    world.admin("POST", "grants", &json!({"account": "alice", "credits": 100})).await.ok(201);
    let held = world.need(2, "alice", "embeddings").await;
    assert_eq!((&held["decision"], &held["standing"]["counted"]), (&json!("ok"), &json!(true)));
    let elsewhere = |id, wait: u64| {
        let mut asked = need(id, "alice", "embeddings");
        asked["wait_ms"] = json!(wait);
        json!({"node": "gateway-2", "needs": [asked]})
    };
    assert_eq!(world.sync(&elsewhere(1, 0)).await["needs"][0]["decision"], "ok");
    assert_eq!(world.sync(&elsewhere(2, 500)).await["needs"][0]["decision"], "retry", "one of them may end");
    let refused = world.sync(&elsewhere(2, 0)).await["needs"][0]["refusal"].clone();
    let told = (&refused["reason"], &refused["status"], &refused["retry_after_s"]);
    assert_eq!(told, (&json!("concurrency_limit_reached"), &json!(429), &json!(1)));
    assert_eq!(
        world.need(2, "alice", "embeddings").await["decision"],
        "ok",
        "the same one is no further one"
    );
    let mut who = need(3, "alice", "embeddings");
    who["mode"] = json!("identify");
    assert_eq!(
        world.sync(&json!({"needs": [who]})).await["needs"][0]["decision"],
        "ok",
        "what holds nothing is not counted"
    );
    assert_eq!(world.need(4, "bob", "chat").await["decision"], "ok", "nor is what others do");
    // What passed while billing was away is charged, however many are under way: it is over.
    let mut served = elsewhere(3, 0);
    served["needs"][0]["served"] = json!(true);
    assert_eq!(world.sync(&served).await["needs"][0]["decision"], "ok");
    assert_eq!(
        world.sync(&json!({"node": "gateway-2", "abandoned": [3]})).await["needs"],
        json!([]),
        "and is over again"
    );
    world.sync(&json!({"cells": finished(&held, 1_000_000)})).await;
    assert_eq!(world.sync(&elsewhere(2, 0)).await["needs"][0]["decision"], "ok");
}
