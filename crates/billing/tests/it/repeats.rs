//! Requests that clients name and repeat: within the time that the catalog sets they cost what the dearest does, and never another's.

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

/// What the gateway charges: what a request costs beyond what was paid for those before it.
async fn costs(world: &World, held: &Value, cost: i64) {
    ends(world, held, (cost - held["paid"].as_i64().unwrap_or(0)).max(0)).await;
}

#[tokio::test]
async fn a_repetition_is_held_and_told_what_was_paid_so_often_then_it_is_a_request_like_any_other() {
    let world = world().await;
    let first = decide(&world, &named(2, 'a', 'b')).await;
    assert_eq!((&first["price"]["hold"], &first["paid"]), (&json!(2_000), &Value::Null));
    ends(&world, &first, 1_500).await;
    for id in [3, 4] {
        let again = decide(&world, &named(id, 'a', 'b')).await;
        assert_eq!((&again["decision"], &again["paid"]), (&json!("ok"), &json!(1_500)));
        assert_eq!((&again["cells"][0]["held"], &again["price"]), (&json!(2_000), &first["price"]));
        // Its answer was lost: asked again it is the same one, and no further repetition.
        assert_eq!(decide(&world, &named(id, 'a', 'b')).await, again);
        assert_eq!(world.balance("alice").await, 6_500);
        assert_eq!(decide(&world, &named(9, 'a', 'b')).await["refusal"]["reason"], "request_in_flight");
        costs(&world, &again, 1_500).await;
        assert_eq!(world.balance("alice").await, 8_500);
    }
    assert_eq!(world.metric("tollgate_billing_needs_total", ("decision", "repeat")), 4);
    // The catalog lets two pass so; the third is the first of its name from now on.
    let anew = decide(&world, &named(5, 'a', 'b')).await;
    assert_eq!((&anew["paid"], &anew["cells"][0]["held"]), (&Value::Null, &json!(2_000)));
    assert_eq!(decide(&world, &named(6, 'a', 'b')).await["refusal"]["reason"], "request_in_flight");
    ends(&world, &anew, 1).await;
    assert_eq!(decide(&world, &named(6, 'a', 'b')).await["paid"], 1);
}

#[tokio::test]
async fn who_leaves_early_and_repeats_pays_what_the_dearest_attempt_costs() {
    for costs_in_turn in [[1, 1_800, 1_800], [1, 1_200, 1_900], [1_500, 1, 1_700], [1_900, 0, 1_800]] {
        let world = world().await;
        let mut charged = 0;
        for (id, cost) in (2..).zip(costs_in_turn) {
            let held = decide(&world, &named(id, 'a', 'b')).await;
            assert_eq!(held["cells"][0]["held"], 2_000, "nothing is read for which nothing is held");
            assert_eq!(held["paid"].as_i64().unwrap_or(0), charged, "{costs_in_turn:?}");
            costs(&world, &held, cost).await;
            charged = 10_000 - world.balance("alice").await;
        }
        assert_eq!(charged, costs_in_turn.into_iter().max().unwrap(), "{costs_in_turn:?}");
    }
}

#[tokio::test]
async fn what_ends_and_is_repeated_in_one_sync_counts_and_two_of_one_name_there_are_one_too_many() {
    let world = world().await;
    let first = decide(&world, &named(2, 'a', 'b')).await;
    let needs = [named(3, 'a', 'b'), named(4, 'a', 'b')];
    let answer = world.sync(&json!({"cells": finished(&first, 1_234), "needs": needs})).await;
    assert_eq!(answer["needs"][0]["paid"], 1_234);
    assert_eq!(answer["needs"][1]["refusal"]["reason"], "request_in_flight");
}

#[tokio::test]
async fn what_an_estimate_fell_short_of_was_paid_too() {
    let text = catalog().replace("policies:\n", "policies:\n  retries: {window: 10m, most: 9}\n");
    let world = world_with(text, "0.01").await;
    let estimate = |id| {
        let mut need = asks(id, "small", 1000, &json!({"output_max": 250, "size": "estimate"}));
        need["repeat"] = json!({"key": digest('a'), "body": digest('b')});
        need
    };
    let first = decide(&world, &estimate(2)).await;
    assert_eq!(first["price"]["hold"], 1_050);
    let mut cells = finished(&first, 1_050);
    cells[0]["short"] = json!(700);
    world.sync(&json!({ "cells": cells })).await;
    let again = decide(&world, &estimate(3)).await;
    assert_eq!((&again["price"]["hold"], &again["paid"]), (&json!(1_050), &json!(1_750)));
    // What is short once more comes on top.
    let mut cells = finished(&again, 0);
    cells[0]["short"] = json!(30);
    world.sync(&json!({ "cells": cells })).await;
    assert_eq!(decide(&world, &estimate(4)).await["paid"], 1_780);
    // No sum is more than an amount.
    let mut cells = finished(&decide(&world, &estimate(4)).await, 0);
    cells[0]["short"] = json!(9_007_199_254_740_991_i64);
    world.sync(&json!({ "cells": cells })).await;
    world.admin("POST", "grants", &json!({"account": "alice", "credits": "9000000000"})).await.ok(201);
    world.admin("POST", "grants", &json!({"account": "alice", "credits": "9000000000"})).await.ok(201);
    assert_eq!(decide(&world, &estimate(5)).await["paid"], 9_007_199_254_740_991_i64);
}

#[tokio::test]
async fn a_repetition_that_is_refused_or_waits_changes_nothing() {
    let world = world().await;
    let first = decide(&world, &named(2, 'a', 'b')).await;
    ends(&world, &first, 1_500).await;
    let other = decide(&world, &asks(3, "small", 1_000, &json!({"clamp": true, "output_max": 1_875}))).await;
    assert_eq!(other["price"]["hold"], 8_500);
    for _ in 0..3 {
        assert_eq!(decide(&world, &named(4, 'a', 'b')).await["refusal"]["reason"], "insufficient_credits");
        let mut waits = named(5, 'a', 'b');
        waits["wait_ms"] = json!(500);
        assert_eq!(decide(&world, &waits).await["decision"], "retry");
    }
    ends(&world, &other, 0).await;
    // Neither counted, nor became the last of its name.
    for id in [6, 7] {
        let again = decide(&world, &named(id, 'a', 'b')).await;
        assert_eq!(again["paid"], 1_500);
        ends(&world, &again, 0).await;
    }
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
    assert_eq!(decide(&world, &named(8, 'a', 'b')).await["paid"], 1_500);
}

#[tokio::test]
async fn what_failed_was_given_back_or_was_refused_is_tried_anew() {
    let world = world().await;
    let failed = decide(&world, &named(2, 'a', 'b')).await;
    ends(&world, &failed, 0).await;
    let second = decide(&world, &named(3, 'a', 'b')).await;
    assert_eq!((&second["paid"], &second["cells"][0]["held"]), (&Value::Null, &json!(2_000)));
    // The client left while it waited.
    world.sync(&json!({"abandoned": [3]})).await;
    let third = decide(&world, &named(4, 'a', 'b')).await;
    assert_eq!(third["cells"][0]["held"], 2_000);
    ends(&world, &third, 2_000).await;
    let fourth = decide(&world, &named(5, 'a', 'b')).await;
    assert_eq!(fourth["paid"], 2_000);
    // One that failed after one that was charged: that is still paid.
    ends(&world, &fourth, 0).await;
    let fifth = decide(&world, &named(8, 'a', 'b')).await;
    assert_eq!(fifth["paid"], 2_000);
    ends(&world, &fifth, 0).await;
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
    assert_eq!((&held["cells"][0]["held"], &held["paid"]), (&json!(2_000), &Value::Null));
    // Nor do members of a pool share names, though they share what pays.
    world.admin("PUT", "accounts/bob/pool", &json!({"pool": "alice"})).await.ok(200);
    bobs["id"] = json!(4);
    let mut other = named(5, 'a', 'c');
    other["subject"]["value"] = json!("carol");
    assert_eq!(decide(&world, &bobs).await["refusal"]["reason"], "request_in_flight");
    assert_eq!(decide(&world, &other).await["refusal"]["reason"], "insufficient_credits");
    assert_eq!(decide(&world, &named(6, 'a', 'b')).await["paid"], 2_000);
}

/// A world in which a window of three a day pays for chat first.
async fn windowed() -> World {
    let text = catalog().replace("policies:\n", "policies:\n  retries: {window: 7d, most: 2}\n");
    world_with(text.replace("endpoints: [embeddings]", "endpoints: [chat]"), "1").await
}

#[tokio::test]
async fn what_a_window_paid_for_is_one_of_it_however_often_it_is_repeated() {
    let world = windowed().await;
    let first = decide(&world, &named(2, 'a', 'b')).await;
    assert_eq!(first["price"]["unit"], "requests");
    ends(&world, &first, 1).await;
    let again = decide(&world, &named(3, 'a', 'b')).await;
    assert_eq!((&again["paid"], &again["price"]), (&json!(1), &first["price"]));
    assert_eq!(again["standing"]["window"]["remaining"], 1);
    costs(&world, &again, 1).await;
    assert_eq!(decide(&world, &asks(4, "small", 1, &json!({}))).await["standing"]["window"]["remaining"], 1);
}

#[tokio::test]
async fn what_was_paid_in_the_other_unit_is_one_charge_already() {
    // First a window's request, then credits.
    let world = windowed().await;
    let first = decide(&world, &named(2, 'a', 'b')).await;
    ends(&world, &first, 1).await;
    for id in [3, 4] {
        ends(&world, &decide(&world, &asks(id, "small", 1, &json!({}))).await, 1).await;
    }
    let again = decide(&world, &named(5, 'a', 'b')).await;
    assert_eq!((&again["price"]["unit"], &again["price"]["hold"]), (&json!("credits"), &json!(2_000)));
    assert_eq!(again["paid"], 2_000);
    assert_eq!(decide(&world, &named(5, 'a', 'b')).await, again, "told again, it is the same");
    costs(&world, &again, 2_000).await;
    assert_eq!(world.balance("alice").await, 1_000_000);
    // First credits, then the next day's window.
    let late = named(6, 'd', 'b');
    let first = decide(&world, &late).await;
    assert_eq!(first["price"]["unit"], "credits");
    ends(&world, &first, 1_500).await;
    world.advance(Span::from_secs(86_400));
    let again = decide(&world, &named(7, 'd', 'b')).await;
    assert_eq!((&again["price"]["unit"], &again["paid"]), (&json!("requests"), &json!(1)));
}

#[tokio::test]
async fn the_catalog_says_for_how_long_and_how_often() {
    let text = catalog().replace("policies:\n", "policies:\n  retries: {window: 1m, most: 1}\n");
    let world = world_with(text, "0.01").await;
    let first = decide(&world, &named(2, 'a', 'b')).await;
    ends(&world, &first, 1).await;
    let again = decide(&world, &named(3, 'a', 'b')).await;
    assert_eq!(again["paid"], 1);
    ends(&world, &again, 0).await;
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
