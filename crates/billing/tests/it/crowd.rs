//! Many at once, over real HTTP: customers whom nobody knew, different ways to spend, gateways that all tell together.
//! T-numbers name bugs of other systems that must not happen here.

use crate::support::{GATEWAY, World, finished, need, sync};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::JoinSet;

const ONE: i64 = 1_000_000;

/// Each of them as a sync of its own, all at once; the answers.
async fn all_at_once(world: &Arc<World>, syncs: impl IntoIterator<Item = Value>) -> Vec<Value> {
    let mut asking = JoinSet::new();
    for parts in syncs {
        let world = Arc::clone(world);
        asking.spawn(async move { world.sync(&parts).await });
    }
    asking.join_all().await
}

fn granted(answer: &Value) -> bool {
    answer["needs"][0]["decision"] == "ok"
}

#[tokio::test]
async fn t01_the_first_requests_of_somebody_unknown_are_as_many_as_are_free() {
    let world = Arc::new(World::new().await);
    for who in ["alice", "bob", "carol"] {
        let asked = (1..=40).map(|id| json!({ "worker": id, "needs": [need(1, who, "chat")] }));
        let answers = all_at_once(&world, asked).await;
        assert_eq!(answers.iter().filter(|answer| granted(answer)).count(), 3, "{who}");
        let next = json!({ "node": "gateway-2", "needs": [need(1, who, "chat")] });
        assert_eq!(world.sync(&next).await["needs"][0]["refusal"]["reason"], "daily_limit_reached");
    }
}

/// Through the filter, through a gateway without it, while an operator gives more and takes nothing.
#[tokio::test]
async fn t04_two_ways_to_spend_at_once_spend_what_there_is() {
    let world = Arc::new(World::new().await);
    world
        .admin(
            "POST",
            "accounts",
            &json!({ "id": "acme", "subjects": [{ "kind": "jwt_sub", "value": "acme" }] }),
        )
        .await
        .ok(201);
    world.admin("POST", "grants", &json!({ "account": "acme", "credits": 10 })).await.ok(201);
    let key = world.admin("POST", "api-keys", &json!({ "account": "acme" })).await.ok(201);
    let bearer = format!("Bearer {}", key["key"].as_str().unwrap());
    let mut spending = JoinSet::new();
    for n in 1..=40_u64 {
        let (world, bearer) = (Arc::clone(&world), bearer.clone());
        spending.spawn(async move {
            match n % 4 {
                0 | 1 => {
                    let held =
                        world.sync(&json!({ "worker": n, "needs": [need(1, "acme", "embeddings")] })).await;
                    let passed = granted(&held);
                    if passed {
                        let cells = finished(&held["needs"][0], ONE);
                        world.sync(&json!({ "worker": n, "cells": cells })).await;
                    }
                    i64::from(passed)
                }
                2 => {
                    let headers = [("authorization", bearer.as_str()), ("x-tollgate-gateway-token", GATEWAY)];
                    let answer =
                        world.call("POST", "/ext_authz/embeddings/v1/embeddings", &headers, "").await;
                    assert!([200, 402].contains(&answer.status), "{} {}", answer.status, answer.text);
                    i64::from(answer.status == 200)
                }
                _ => {
                    let grant = json!({ "account": "acme", "credits": 1 });
                    world.admin("POST", "grants", &grant).await.ok(201);
                    0
                }
            }
        });
    }
    let spent: i64 = spending.join_all().await.into_iter().sum();
    assert!((10..=20).contains(&spent), "{spent}");
    let account = world.account("acme").await;
    assert_eq!((&account["held_micro"], &account["debt_micro"]), (&json!(0), &json!(0)));
    assert_eq!(world.balance("acme").await, 20 * ONE - spent * ONE);
}

#[tokio::test]
async fn t11_sixty_four_gateways_that_tell_at_once_are_all_heard() {
    const GATEWAYS: u64 = 64;
    let world = Arc::new(World::new().await);
    world.need(1, "alice", "models").await;
    world.admin("POST", "grants", &json!({ "account": "alice", "credits": 200 })).await.ok(201);
    let node = |n: u64| format!("gateway-{n}");
    let asks = |n: u64| {
        let needs = [need(2, "alice", "embeddings"), need(3, "alice", "embeddings")];
        json!({ "node": node(n + 10), "needs": needs })
    };
    let mut held = Vec::new();
    for n in 0..GATEWAYS {
        held.push(world.sync(&asks(n)).await);
    }
    assert_eq!(world.account("alice").await["held_micro"], 2 * 64 * ONE);
    // Each tells of one request that was served and one that failed, and what was used; and then once more, since no answer came.
    let tells = |n: u64, held: &Value| {
        let cell = &held["needs"][0]["cells"][0];
        let usage = json!({
            "n": 1, "request_id": format!("req_{n}"), "account": "alice", "endpoint": "embeddings", "returned": 0,
            "charges": [{ "grant": cell["grant"], "generation": cell["generation"], "amount": ONE }],
            "outcome": "charged", "price_version": 1, "at": "2026-11-20T09:30:00Z",
        });
        let mut cells = finished(&held["needs"][0], ONE).as_array().unwrap().clone();
        cells.extend(finished(&held["needs"][1], 0).as_array().unwrap().clone());
        json!({ "node": node(n + 10), "cells": cells, "usage": [usage] })
    };
    let all: Vec<Value> = (0..).zip(&held).map(|(n, held)| tells(n, held)).collect();
    let mut answers = all_at_once(&world, all.iter().cloned()).await;
    answers.extend(all_at_once(&world, all.iter().cloned()).await);
    assert_eq!(answers.len(), 2 * 64);
    for answer in answers {
        assert_eq!((&answer["usage_acked"], &answer["cells"][0]["state"]), (&json!(1), &json!("closed")));
    }
    let account = world.account("alice").await;
    assert_eq!((&account["held_micro"], &account["balance_micro"]), (&json!(0), &json!((200 - 64) * ONE)));
    assert_eq!(world.metric("tollgate_billing_usage_records_total", ("outcome", "charged")), 64);
    let late = sync(&json!({ "node": node(10), "sent_seq": 1, "cells": all[0]["cells"] }));
    assert_eq!(world.gateway("sync", &late).await.status, 409);
}
