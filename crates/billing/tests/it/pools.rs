//! Teams whose members spend one pool, and agents that have credits of their own or spend their owner's.

use crate::support::{GATEWAY, World, checkout, demo_catalog, event, finished, need};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const CREDIT: i64 = 1_000_000;

/// A team with 10 credits, and its members.
async fn team(world: &World, members: &[&str]) {
    world.admin("POST", "accounts", &json!({"id": "team"})).await.ok(201);
    world.admin("POST", "grants", &json!({"account": "team", "credits": 10})).await.ok(201);
    for id in members {
        let subjects = json!([{"kind": "jwt_sub", "value": id}]);
        let new = json!({"id": id, "subjects": subjects, "pool": "team"});
        assert_eq!(world.admin("POST", "accounts", &new).await.ok(201)["pool"], "team");
    }
}

async fn put_pool(world: &World, id: &str, pool: Value) -> u16 {
    world.admin("PUT", &format!("accounts/{id}/pool"), &json!({"pool": pool})).await.status
}

/// What gateways were told of a payer since they asked last.
async fn told(world: &World, since: &mut u64, payer: &str) -> bool {
    let news = world.gateway_get(&format!("watch?after={since}")).await.ok(200);
    *since = news["after"].as_u64().unwrap();
    news["notes"].as_array().unwrap().iter().any(|note| note["payer"] == payer)
}

#[tokio::test]
async fn members_spend_the_pool_and_are_named() {
    let world = World::new().await;
    team(&world, &["bob", "carol"]).await;
    let held = world.need(1, "bob", "embeddings").await;
    let standing = &held["standing"];
    assert_eq!((&standing["account"], &standing["payer"]), (&json!("bob"), &json!("team")), "{held}");
    assert_eq!(standing["balance_micro"], 9 * CREDIT);
    let usage = json!({
        "n": 1, "request_id": "req_1", "account": "bob", "endpoint": "embeddings", "returned": 0, "outcome": "charged",
        "charges": [{"grant": held["cells"][0]["grant"], "generation": held["cells"][0]["generation"], "amount": CREDIT}],
        "price_version": 1, "at": "2026-11-20T09:30:00Z",
    });
    world.sync(&json!({"cells": finished(&held, CREDIT), "usage": [usage]})).await;
    assert_eq!((world.balance("team").await, world.balance("bob").await), (9 * CREDIT, 0));
    assert_eq!(world.account("team").await["members"], json!(["bob", "carol"]));
    // What a customer is shown is what they can spend, and what they themselves did.
    for who in ["bob", "carol"] {
        let own = world.customer("/v1/balance", who).await.ok(200);
        assert_eq!((&own["account"], &own["payer"]), (&json!(who), &json!("team")));
        assert_eq!(own["balance_micro"], 9 * CREDIT);
    }
    let of = |who: &'static str| world.customer("/v1/usage", who);
    assert_eq!(of("bob").await.ok(200)["items"].as_array().unwrap().len(), 1);
    assert_eq!(of("carol").await.ok(200)["items"], json!([]));
    // No credits of its own moved: what it spent stands in the pool's history.
    assert_eq!(world.customer("/v1/history", "bob").await.ok(200)["items"], json!([]));
    let of_team = world.admin("GET", "transactions?account=team", &Value::Null).await.ok(200);
    assert!(of_team["items"][0]["text"].as_str().unwrap().contains("charged 1 for embeddings"), "{of_team}");
}

/// The free requests of a day are the pool's too, and its tier opens what its members may use.
#[tokio::test]
async fn windows_and_tier_are_the_pools() {
    let world = World::new().await;
    world.admin("POST", "accounts", &json!({"id": "team"})).await.ok(201);
    for id in ["bob", "carol"] {
        world.need(9, id, "nothing").await; // a subject that comes by itself is an account too
        assert_eq!(put_pool(&world, id, json!("team")).await, 200);
    }
    for (id, who) in [(1, "bob"), (2, "carol"), (3, "bob")] {
        assert_eq!(world.need(id, who, "chat").await["decision"], "ok");
    }
    for (id, who) in [(4, "bob"), (5, "carol")] {
        assert_eq!(world.need(id, who, "chat").await["refusal"]["reason"], "daily_limit_reached");
    }
    assert_eq!(world.need(6, "bob", "image").await["refusal"]["reason"], "tier_not_allowed");
    let mut sub = crate::support::subscription("sub_1", "cus_1", "active");
    sub["metadata"] = json!({"user_id": "team"});
    world.deliver(&event("evt_1", "customer.subscription.created", sub)).await.ok(200);
    let paid = crate::support::invoice("in_1", "cus_1", "sub_1");
    world.deliver(&event("evt_2", "invoice.paid", paid)).await.ok(200);
    assert_eq!(world.need(7, "bob", "image").await["standing"]["tier"], "pro");
    assert_eq!(world.customer("/v1/subscription", "carol").await.ok(200)["tier"], "pro");
}

#[tokio::test]
async fn who_joins_or_leaves_is_asked_about_anew_at_once() {
    let world = World::new().await;
    team(&world, &[]).await;
    world.need(1, "bob", "chat").await;
    let mut since = world.gateway_get("watch?after=0").await.ok(200)["after"].as_u64().unwrap();
    assert_eq!(put_pool(&world, "bob", json!("team")).await, 200);
    assert!(told(&world, &mut since, "bob").await, "until now bob paid");
    assert_eq!(world.need(2, "bob", "embeddings").await["decision"], "ok");
    assert_eq!(put_pool(&world, "bob", Value::Null).await, 200);
    assert!(told(&world, &mut since, "team").await, "until now the team paid");
    let alone = world.need(3, "bob", "embeddings").await;
    assert_eq!(
        (&alone["refusal"]["reason"], &alone["refusal"]["payer"]),
        (&json!("insufficient_credits"), &json!("bob"))
    );
    assert_eq!(world.account("bob").await["pool"], Value::Null);
}

/// Credits never change hands: what a member bought is there when it has left.
#[tokio::test]
async fn what_a_member_buys_stays_its_own() {
    let world = World::new().await;
    team(&world, &["bob"]).await;
    let bought = checkout("cs_1", "cus_1", Some("bob"), "payment");
    world.deliver(&event("evt_1", "checkout.session.completed", bought)).await.ok(200);
    assert_eq!(world.need(1, "bob", "embeddings").await["standing"]["payer"], "team");
    assert_eq!((world.balance("bob").await, world.balance("team").await), (100 * CREDIT, 9 * CREDIT));
    assert_eq!(put_pool(&world, "bob", Value::Null).await, 200);
    assert_eq!(world.need(2, "bob", "embeddings").await["standing"]["payer"], "bob");
    assert_eq!((world.balance("bob").await, world.balance("team").await), (99 * CREDIT, 9 * CREDIT));
}

#[tokio::test]
async fn a_member_that_is_stopped_stops_alone_and_a_pool_stops_all() {
    let world = World::new().await;
    team(&world, &["bob", "carol"]).await;
    let mut since = world.gateway_get("watch?after=0").await.ok(200)["after"].as_u64().unwrap();
    world.admin("POST", "accounts/bob/suspend", &Value::Null).await.ok(200);
    assert!(told(&world, &mut since, "team").await, "gateways know bob by the team");
    assert_eq!(world.need(1, "bob", "embeddings").await["refusal"]["reason"], "suspended");
    assert_eq!(world.need(2, "carol", "embeddings").await["decision"], "ok");
    world.admin("POST", "accounts/bob/resume", &Value::Null).await.ok(200);
    assert_eq!(world.need(3, "bob", "embeddings").await["decision"], "ok");
    world.admin("POST", "accounts/team/suspend", &Value::Null).await.ok(200);
    for (id, who) in [(4, "bob"), (5, "carol")] {
        assert_eq!(world.need(id, who, "embeddings").await["refusal"]["reason"], "suspended");
    }
}

/// A key that a gateway knows passes there unasked until the gateway hears of it, and gateways know who pays.
#[tokio::test]
async fn a_key_that_is_revoked_is_told_of_by_who_pays() {
    let world = World::new().await;
    team(&world, &["bob"]).await;
    world.admin("POST", "accounts", &json!({"id": "alone"})).await.ok(201);
    world.admin("POST", "grants", &json!({"account": "alone", "credits": 10})).await.ok(201);
    for (n, (account, payer)) in (0..).zip([("bob", "team"), ("alone", "alone")]) {
        let made = world.admin("POST", "api-keys", &json!({"account": account})).await.ok(201);
        let (key, path) =
            (made["key"].as_str().unwrap(), format!("api-keys/{}", made["id"].as_str().unwrap()));
        let known = ask_by_key(&world, 3 * n + 1, key).await["standing"]["epoch"].as_u64().unwrap();
        let since = world.gateway_get("watch?after=0").await.ok(200)["after"].as_u64().unwrap();
        assert_eq!(world.admin("DELETE", &path, &Value::Null).await.status, 204);
        let news = world.gateway_get(&format!("watch?after={since}")).await.ok(200);
        let note = json!({"payer": payer, "epoch": known + 1, "kind": "changed"});
        assert_eq!(news["notes"], json!([note]), "what is remembered from before is void");
        // Who does it again, since it could not be seen whether it was done, has it told again.
        assert_eq!(world.admin("DELETE", &path, &Value::Null).await.status, 204);
        let again = world.gateway_get(&format!("watch?after={}", news["after"])).await.ok(200);
        assert_eq!(again["notes"][0]["epoch"], known + 2);
        assert_eq!(ask_by_key(&world, 3 * n + 2, key).await["refusal"]["reason"], "unknown_customer");
        // Whoever else is paid for by the same credits only has to ask again.
        assert_eq!(world.need(3 * n + 3, account, "embeddings").await["standing"]["epoch"], known + 2);
    }
    let mut since = world.gateway_get("watch?after=0").await.ok(200)["after"].as_u64().unwrap();
    assert_eq!(world.admin("DELETE", "api-keys/nobody", &Value::Null).await.status, 404);
    assert!(!told(&world, &mut since, "alone").await);
}

#[tokio::test]
async fn there_are_no_chains_of_pools() {
    let world = World::new().await;
    team(&world, &["bob"]).await;
    world.admin("POST", "accounts", &json!({"id": "carol"})).await.ok(201);
    for (id, pool, status) in [
        ("nobody", json!("team"), 404),
        ("carol", json!("nobody"), 422),
        ("carol", json!("carol"), 409),
        ("carol", json!("bob"), 409),
        ("team", json!("carol"), 409),
        ("team", json!("bob"), 409),
        ("carol", json!("no id"), 400),
        ("carol", json!(7), 400),
        ("bob", json!("team"), 200),
        ("team", Value::Null, 200),
    ] {
        assert_eq!(put_pool(&world, id, pool.clone()).await, status, "{id} into {pool}");
    }
    // Left out is not the same as none.
    assert_eq!(world.admin("PUT", "accounts/bob/pool", &json!({})).await.status, 400);
    assert_eq!(world.account("bob").await["pool"], "team");
    // Nothing of an account whose pool is wrong remains.
    for pool in ["nobody", "bob"] {
        let refused = world.admin("POST", "accounts", &json!({"id": "dave", "pool": pool})).await.status;
        assert!([422, 409].contains(&refused), "{refused}");
        assert_eq!(world.admin("GET", "accounts/dave", &Value::Null).await.status, 404);
    }
}

/// A repetition that arrives late must not undo what was said after it.
#[tokio::test]
async fn joining_is_done_once_per_key() {
    let world = World::new().await;
    team(&world, &[]).await;
    world.admin("POST", "accounts", &json!({"id": "bob"})).await.ok(201);
    let path = "accounts/bob/pool";
    let (joins, leaves) = (json!({"pool": "team"}), json!({"pool": null}));
    let (first, second) = ([("idempotency-key", "p-1")], [("idempotency-key", "p-2")]);
    let joined = world.admin_with("PUT", path, &joins, &first).await.ok(200);
    assert_eq!(joined["pool"], "team");
    world.admin_with("PUT", path, &leaves, &second).await.ok(200);
    assert_eq!(world.admin_with("PUT", path, &joins, &first).await.ok(200), joined);
    assert_eq!(world.account("bob").await["pool"], Value::Null);
    for (path, body) in [(path, &leaves), ("accounts/team/pool", &joins)] {
        assert_eq!(world.admin_with("PUT", path, body, &first).await.status, 409, "{path}: {body}");
    }
    // What was refused is not remembered: the key is free for the next try.
    let third = [("idempotency-key", "p-3")];
    assert_eq!(world.admin_with("PUT", path, &json!({"pool": "nobody"}), &third).await.status, 422);
    assert_eq!(world.admin_with("PUT", path, &joins, &third).await.ok(200)["pool"], "team");
}

#[tokio::test]
async fn a_pool_outlives_a_restart() {
    let mut world = World::new().await;
    team(&world, &["bob"]).await;
    world.restart().await;
    assert_eq!(world.need(1, "bob", "embeddings").await["standing"]["payer"], "team");
}

async fn key_of(world: &World, account: &str) -> String {
    let key = world.admin("POST", "api-keys", &json!({"account": account})).await.ok(201);
    key["key"].as_str().unwrap().to_owned()
}

async fn ask_by_key(world: &World, id: u64, key: &str) -> Value {
    let digest: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut by_key = need(id, "", "embeddings");
    by_key["subject"] = json!({"kind": "api_key_sha256", "value": digest});
    world.sync(&json!({"needs": [by_key]})).await["needs"][0].clone()
}

#[tokio::test]
async fn an_agent_has_a_key_and_credits_bought_in_advance() {
    let catalog = demo_catalog().replace("account_keys: [user_id]", "account_keys: [agent_id, user_id]");
    let world = World::with(catalog, &[]).await;
    let mut bought = checkout("cs_1", "cus_1", None, "payment");
    bought["customer"] = Value::Null; // a guest: Stripe opens no customer for a machine
    bought["metadata"]["agent_id"] = json!("agent-7");
    world.deliver(&event("evt_1", "checkout.session.completed", bought)).await.ok(200);
    let key = key_of(&world, "agent-7").await;
    let held = ask_by_key(&world, 1, &key).await;
    assert_eq!((&held["decision"], &held["standing"]["payer"]), (&json!("ok"), &json!("agent-7")), "{held}");
    assert_eq!(world.balance("agent-7").await, 99 * CREDIT);
}

#[tokio::test]
async fn an_agent_spends_its_owners_credits_and_is_named() {
    let world = World::new().await;
    world.admin("POST", "accounts", &json!({"id": "alice"})).await.ok(201);
    world.admin("POST", "grants", &json!({"account": "alice", "credits": 2})).await.ok(201);
    world.admin("POST", "accounts", &json!({"id": "agent-7", "pool": "alice"})).await.ok(201);
    let key = key_of(&world, "agent-7").await;
    let held = ask_by_key(&world, 1, &key).await;
    let standing = &held["standing"];
    assert_eq!((&standing["account"], &standing["payer"]), (&json!("agent-7"), &json!("alice")), "{held}");
    // A gateway without the filter charges the owner too, and tells the upstream who asked.
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("x-tollgate-gateway-token", GATEWAY)];
    let passed = world.call("POST", "/ext_authz/embeddings/v1/x", &headers, "").await;
    assert_eq!((passed.status, passed.headers["x-tollgate-account"].to_str().unwrap()), (200, "agent-7"));
    assert_eq!(world.balance("alice").await, 0);
    assert_eq!(ask_by_key(&world, 2, &key).await["refusal"]["reason"], "insufficient_credits");
}
