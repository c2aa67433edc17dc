//! Free allowances that refill, as gateways and customers see them. F-numbers name the reference cases.

use crate::support::{World, demo_catalog, finished, need, sync};
use serde_json::{Value, json};
use units::{Instant, Span};

const ONE: i64 = 1_000_000;

/// Time goes on until that day, and whoever sweeps has swept.
async fn until(world: &World, day: &str) {
    let at = Instant::from_rfc3339(&format!("{day}T00:00:00Z")).unwrap();
    world.advance(at.since(world.clock.now()));
    world.sweep().await;
}

#[tokio::test]
async fn f56_three_a_day_end_at_midnight_of_the_zone() {
    for (zone, midnight) in [("UTC", "2026-11-21T00:00:00Z"), ("Asia/Kolkata", "2026-11-20T18:30:00Z")] {
        let demo = demo_catalog().replace("period: day", &format!("period: day, time_zone: {zone}"));
        let world = World::with(demo, &[]).await;
        let midnight = Instant::from_rfc3339(midnight).unwrap();
        world.advance(Instant::from_secs(midnight.secs() - 1).since(world.clock.now()));
        for id in 1..=2 {
            assert_eq!(world.need(id, "alice", "chat").await["decision"], "ok", "{zone}");
        }
        // Two want the last one at once: one gets it.
        let both = json!({"needs": [need(3, "alice", "chat"), need(4, "alice", "chat")]});
        let other = json!({"needs": [need(5, "alice", "chat")], "worker": 2});
        let (both, other) = (sync(&both), sync(&other));
        let (both, other) = tokio::join!(world.gateway("sync", &both), world.gateway("sync", &other));
        let (both, other) = (both.ok(200), other.ok(200));
        let all = [&both["needs"][0], &both["needs"][1], &other["needs"][0]];
        assert_eq!(all.iter().filter(|need| need["decision"] == "ok").count(), 1, "{zone} {all:?}");
        let refused = all.iter().find(|need| need["decision"] == "refused").unwrap();
        assert_eq!(refused["refusal"]["reason"], "daily_limit_reached");
        assert_eq!(refused["refusal"]["resets_at"], midnight.to_rfc3339());
        world.advance(Span::from_secs(1));
        assert_eq!(world.need(6, "alice", "chat").await["decision"], "ok", "{zone}");
    }
}

#[tokio::test]
async fn a_month_and_a_lifetime_are_windows_too() {
    let month = World::with(demo_catalog().replace("period: day", "period: month"), &[]).await;
    for id in 1..=3 {
        assert_eq!(month.need(id, "alice", "chat").await["decision"], "ok");
    }
    until(&month, "2026-11-30").await;
    let refused = month.need(4, "alice", "chat").await;
    assert_eq!(refused["refusal"]["resets_at"], "2026-12-01T00:00:00Z");
    until(&month, "2026-12-01").await;
    assert_eq!(month.need(5, "alice", "chat").await["decision"], "ok");

    let lifetime = World::with(demo_catalog().replace("period: day", "period: lifetime"), &[]).await;
    for id in 1..=3 {
        assert_eq!(lifetime.need(id, "alice", "chat").await["decision"], "ok");
    }
    until(&lifetime, "2040-01-01").await;
    let refused = lifetime.need(4, "alice", "chat").await["refusal"].clone();
    assert_eq!((&refused["reason"], &refused["resets_at"]), (&json!("insufficient_credits"), &Value::Null));
    let shown = lifetime.customer("/v1/balance", "alice").await.ok(200);
    let window = json!([{"name": "daily", "limit": 3, "remaining": 0, "resets_at": null}]);
    assert_eq!(shown["windows"], window);
}

#[tokio::test]
async fn f57_first_the_free_ones_then_the_bought() {
    let world = World::new().await;
    world.need(9, "alice", "chat").await;
    world.admin("POST", "grants", &json!({"account": "alice", "credits": 100_000})).await.ok(201);
    for id in 1..=3 {
        let held = world.need(id, "alice", "chat").await;
        let unit = held["cells"][0]["held"].as_i64().unwrap();
        world.sync(&json!({"cells": finished(&held, unit)})).await;
    }
    assert_eq!(world.balance("alice").await, 99_999 * ONE);
}

/// What a limit is stands in the catalog, which is read when the service starts.
#[tokio::test]
async fn t31_a_limit_that_was_changed_holds_from_the_next_start() {
    let mut world = World::new().await;
    for id in 1..=2 {
        assert_eq!(world.need(id, "alice", "chat").await["decision"], "ok");
    }
    for (limit, left) in [(5, 3), (2, 0), (6, 1), (1, 0)] {
        world.stop().await;
        let text = demo_catalog().replace("limit: 3, period: day", &format!("limit: {limit}, period: day"));
        let catalog = billing::catalog::Catalog::from_yaml(&text).unwrap_or_else(|no| panic!("{no}"));
        let started = billing::serve::start(world.config(), catalog, world.clock.clone()).await;
        world.running = Some(started.unwrap());
        for n in 0..left {
            assert_eq!(world.need(limit * 10 + n, "alice", "chat").await["decision"], "ok", "{limit}");
        }
        let refused = world.need(limit * 10 + 9, "alice", "chat").await;
        assert_eq!(refused["refusal"]["reason"], "daily_limit_reached", "{limit}");
    }
}

#[tokio::test]
async fn a_window_pays_though_credits_are_lent_to_another_request_of_the_same_message() {
    for credits in [1, 10] {
        let world = World::with(demo_catalog(), &[]).await;
        world.need(1, "alice", "models").await;
        world.admin("POST", "grants", &json!({"account": "alice", "credits": credits})).await.ok(201);
        let lease = |id, endpoint| {
            let mut asked = need(id, "alice", endpoint);
            asked["mode"] = json!("lease");
            asked
        };
        let both = json!({"needs": [lease(2, "embeddings"), lease(3, "chat"), lease(4, "chat")]});
        let answer = world.sync(&both).await;
        let units = [0, 1, 2].map(|n| answer["needs"][n]["price"]["unit"].clone());
        assert_eq!(units, ["credits", "requests", "requests"], "{credits} credits: {answer}");
    }
}

#[tokio::test]
async fn what_is_told_of_a_spent_window_holds_until_the_first_of_them_refills() {
    let day = "      daily: {endpoints: [chat], limit: 3, period: day}";
    let both = "      a_month: {endpoints: [chat], limit: 1, period: month}\n      b_day: {endpoints: [chat], limit: 1, period: day}";
    let demo = demo_catalog().replace(day, both);
    assert!(demo.contains("b_day"));
    let world = World::with(demo, &[]).await;
    world.need(1, "alice", "models").await;
    world.admin("POST", "grants", &json!({"account": "alice", "credits": 100})).await.ok(201);
    until(&world, "2026-11-21").await;
    world.advance(Span::from_secs(86_400 - 15));
    let units = async |id: u64| {
        let answer = world.need(id, "alice", "chat").await;
        (answer["price"]["unit"].clone(), answer["standing"]["valid_ms"].as_i64())
    };
    assert_eq!(units(2).await.0, "requests");
    assert_eq!(units(3).await.0, "requests");
    assert_eq!(units(4).await, (json!("credits"), Some(15_000)), "the day is over before the month");
}
