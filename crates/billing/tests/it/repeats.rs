//! Requests that clients name and repeat: one charge within the time that the catalog sets, and never another's.

use crate::support::{World, finished, sync};
use crate::tokens::{asks, catalog, world, world_with};
use serde_json::{Value, json};
use units::Span;

fn digest(text: char) -> String {
    text.to_string().repeat(64)
}

/// A need of the small model, 2,000 micro-credits, that its client named.
fn named(id: u64, key: char, body: char) -> Value {
    let mut need = asks(id, "small", 1000, &json!({"output_max": 250}));
    need["repeat"] = json!({"key": digest(key), "body": digest(body)});
    need
}

async fn decide(world: &World, need: &Value) -> Value {
    world.sync(&json!({ "needs": [need] })).await["needs"][0].clone()
}

async fn ends(world: &World, held: &Value, used: i64) {
    world.sync(&json!({"cells": finished(held, used)})).await;
}

#[tokio::test]
async fn a_repetition_of_what_was_charged_is_charged_once_so_often_then_it_is_a_request_like_any_other() {
    let world = world().await;
    let first = decide(&world, &named(2, 'a', 'b')).await;
    assert_eq!((&first["price"]["hold"], &first["repeats"]), (&json!(2_000), &Value::Null));
    ends(&world, &first, 1_500).await;
    for id in [3, 4] {
        let again = decide(&world, &named(id, 'a', 'b')).await;
        assert_eq!((&again["decision"], &again["repeats"]), (&json!("ok"), &json!(true)));
        assert_eq!((&again["cells"], &again["price"]), (&json!([]), &first["price"]));
        // Its answer was lost: asked again it is the same one, and no further repetition.
        assert_eq!(decide(&world, &named(id, 'a', 'b')).await, again);
        assert_eq!(world.balance("alice").await, 8_500);
    }
    assert_eq!(decide(&world, &named(3, 'a', 'b')).await["repeats"], true, "however late it is asked again");
    assert_eq!(world.metric("tollgate_billing_needs_total", ("decision", "repeats")), 5);
    // The catalog lets two pass; the third is held, and is the first of its name from now on.
    let anew = decide(&world, &named(5, 'a', 'b')).await;
    assert_eq!((&anew["repeats"], &anew["cells"][0]["held"]), (&Value::Null, &json!(2_000)));
    assert_eq!(decide(&world, &named(6, 'a', 'b')).await["refusal"]["reason"], "request_in_flight");
    ends(&world, &anew, 1).await;
    assert_eq!(decide(&world, &named(6, 'a', 'b')).await["repeats"], true);
}

#[tokio::test]
async fn two_of_one_name_are_not_under_way_at_once_and_a_name_is_of_one_request() {
    let world = world().await;
    let first = decide(&world, &named(2, 'a', 'b')).await;
    // The answer to the first was lost: it is the same hold, and not in the way of itself.
    assert_eq!(decide(&world, &named(2, 'a', 'b')).await["cells"], first["cells"]);
    let second = decide(&world, &named(3, 'a', 'b')).await["refusal"].clone();
    assert_eq!((&second["reason"], &second["status"]), (&json!("request_in_flight"), &json!(409)));
    assert_eq!(second["retry_after_s"], 1);
    let other = decide(&world, &named(4, 'a', 'c')).await["refusal"].clone();
    assert_eq!((&other["reason"], &other["status"]), (&json!("idempotency_mismatch"), &json!(422)));
    assert_eq!(other["retry_after_s"], Value::Null);
    ends(&world, &first, 1_500).await;
    // Charged or not, the name stays that of the first.
    assert_eq!(decide(&world, &named(5, 'a', 'c')).await["refusal"]["reason"], "idempotency_mismatch");
    assert_eq!(decide(&world, &named(6, 'd', 'c')).await["decision"], "ok");
    // Who repeats needs nothing any more.
    let all = asks(7, "small", 1_000, &json!({"clamp": true}));
    assert_eq!(decide(&world, &all).await["decision"], "ok");
    assert_eq!(decide(&world, &named(8, 'a', 'b')).await["repeats"], true);
}

#[tokio::test]
async fn what_failed_was_given_back_or_was_refused_is_tried_anew() {
    let world = world().await;
    let failed = decide(&world, &named(2, 'a', 'b')).await;
    ends(&world, &failed, 0).await;
    let second = decide(&world, &named(3, 'a', 'b')).await;
    assert_eq!((&second["repeats"], &second["cells"][0]["held"]), (&Value::Null, &json!(2_000)));
    // The client left while it waited.
    world.sync(&json!({"abandoned": [3]})).await;
    let third = decide(&world, &named(4, 'a', 'b')).await;
    assert_eq!(third["cells"][0]["held"], 2_000);
    ends(&world, &third, 2_000).await;
    assert_eq!(decide(&world, &named(5, 'a', 'b')).await["repeats"], true);
    // Refused, a name is nobody's yet, whatever it is used for next.
    let mut large = named(6, 'e', 'b');
    large["shape"]["model"] = json!("big-1");
    assert_eq!(decide(&world, &large).await["refusal"]["reason"], "insufficient_credits");
    assert_eq!(decide(&world, &named(7, 'e', 'f')).await["decision"], "ok");
}

#[tokio::test]
async fn a_name_is_its_accounts_own() {
    let world = world().await;
    let first = decide(&world, &named(2, 'a', 'b')).await;
    ends(&world, &first, 2_000).await;
    // T23: bob's request is bob's to pay, and neither in the way of alice's nor free.
    let mut bobs = named(3, 'a', 'b');
    bobs["subject"]["value"] = json!("bob");
    assert_eq!(decide(&world, &bobs).await["refusal"]["reason"], "insufficient_credits");
    world.admin("POST", "grants", &json!({"account": "bob", "credits": "0.01"})).await.ok(201);
    let held = decide(&world, &bobs).await;
    assert_eq!((&held["cells"][0]["held"], &held["repeats"]), (&json!(2_000), &Value::Null));
    // Nor do members of a pool share names, though they share what pays.
    world.admin("PUT", "accounts/bob/pool", &json!({"pool": "alice"})).await.ok(200);
    bobs["id"] = json!(4);
    let mut other = named(5, 'a', 'c');
    other["subject"]["value"] = json!("carol");
    assert_eq!(decide(&world, &bobs).await["refusal"]["reason"], "request_in_flight");
    assert_eq!(decide(&world, &other).await["refusal"]["reason"], "insufficient_credits");
    assert_eq!(decide(&world, &named(6, 'a', 'b')).await["repeats"], true);
}

#[tokio::test]
async fn what_a_window_paid_for_is_repeated_alike() {
    let world = world_with(catalog().replace("endpoints: [embeddings]", "endpoints: [chat]"), "1").await;
    let first = decide(&world, &named(2, 'a', 'b')).await;
    assert_eq!(first["price"]["unit"], "requests");
    ends(&world, &first, 1).await;
    let again = decide(&world, &named(3, 'a', 'b')).await;
    assert_eq!((&again["repeats"], &again["price"]), (&json!(true), &first["price"]));
    assert_eq!(again["standing"]["window"]["remaining"], 2);
}

#[tokio::test]
async fn the_catalog_says_for_how_long_and_how_often() {
    let text = catalog().replace("policies:\n", "policies:\n  retries: {window: 1m, most: 1}\n");
    let world = world_with(text, "0.01").await;
    let first = decide(&world, &named(2, 'a', 'b')).await;
    ends(&world, &first, 1).await;
    assert_eq!(decide(&world, &named(3, 'a', 'b')).await["repeats"], true);
    assert_eq!(decide(&world, &named(4, 'a', 'b')).await["cells"][0]["held"], 2_000, "one is the most");
    world.advance(Span::from_secs(61));
    // Even one that is under way: the name is free again, for anything.
    assert_eq!(decide(&world, &named(5, 'a', 'c')).await["cells"][0]["held"], 2_000);
    world.advance(Span::from_secs(61));
    world.sweep().await;
    assert_eq!(decide(&world, &named(6, 'a', 'b')).await["cells"][0]["held"], 2_000);
}

#[tokio::test]
async fn what_is_no_name_is_refused_whole() {
    let world = world().await;
    for (key, body) in [("a", digest('b')), (&digest('g'), digest('b')), (&digest('a'), "B".repeat(64))] {
        let mut need = named(2, 'a', 'b');
        need["repeat"] = json!({"key": key, "body": body});
        let answer = world.gateway("sync", &sync(&json!({ "needs": [need] }))).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        assert!(answer.text.contains("64 digits"), "{}", answer.text);
    }
    let mut lease = named(2, 'a', 'b');
    lease["mode"] = json!("lease");
    assert_eq!(world.gateway("sync", &sync(&json!({ "needs": [lease] }))).await.status, 422);
}

#[tokio::test]
async fn a_suspended_account_repeats_nothing() {
    let world = world().await;
    let first = decide(&world, &named(2, 'a', 'b')).await;
    ends(&world, &first, 1).await;
    world.admin("POST", "accounts/alice/suspend", &Value::Null).await.ok(200);
    assert_eq!(decide(&world, &named(3, 'a', 'b')).await["refusal"]["reason"], "suspended");
}
