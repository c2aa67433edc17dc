//! What requests used and were charged, as customers and operators see it.

use crate::support::{World, finished, sync};
use crate::tokens::{asks, world};
use serde_json::{Value, json};

/// A request is held, ends, and is told of.
async fn used(world: &World, n: u64, at: &str, used: i64, beyond: i64) {
    let answer =
        world.sync(&json!({"needs": [asks(n + 1, "small", 1000, &json!({"size": "estimate"}))]})).await;
    let held = &answer["needs"][0];
    let mut cells = finished(held, used);
    cells[0]["short"] = json!(beyond);
    let record = json!({
        "n": n, "request_id": format!("req-{n}"), "account": "alice", "endpoint": "chat", "outcome": "charged",
        "charges": [{"grant": cells[0]["grant"], "generation": cells[0]["generation"], "amount": used}],
        "returned": cells[0]["returned"], "beyond": beyond, "basis": "stated", "price_version": 1, "at": at,
        "tokens": {"model": if n == 3 { "large" } else { "small" }, "input": 700, "cached": 100, "output": 90,
            "cache_written": 50, "reasoning": 40, "images": 2},
    });
    let answer = world.sync(&json!({"cells": cells, "usage": [record]})).await;
    assert_eq!(answer["usage_acked"], n);
}

async fn begun() -> World {
    let world = world().await;
    used(&world, 1, "2026-11-19T09:30:00Z", 1_050, 450).await;
    used(&world, 2, "2026-11-20T09:30:00Z", 1_000, 0).await;
    used(&world, 3, "2026-11-20T09:31:00Z", 700, 0).await;
    world
}

#[tokio::test]
async fn a_row_tells_what_was_used_what_it_was_charged_and_where() {
    let world = begun().await;
    let usage = world.customer("/v1/usage", "alice").await.ok(200);
    let items = usage["items"].as_array().unwrap();
    assert_eq!((items.len(), &usage["requests"]), (3, &json!({"today": 2, "month": 3})));
    let first = json!({
        "account": "alice", "request_id": "req-1", "endpoint": "chat", "outcome": "charged", "charged": "0.0015",
        "charged_micro": 1_500, "charged_requests": 0, "charges": [{"grant": "1", "amount_micro": 1_050}],
        "beyond_micro": 450, "basis": "stated", "model": "small", "input_tokens": 700, "cached_tokens": 100,
        "cache_written_tokens": 50, "output_tokens": 90, "reasoning_tokens": 40, "images": 2,
        "at": "2026-11-19T09:30:00Z",
    });
    assert_eq!(items[2], first);
    assert_eq!(world.balance("alice").await, 10_000 - 1_500 - 1_000 - 700);
    // Of one request, for its customer and for an operator, and for nobody else.
    let only = |list: Value| list["items"].as_array().unwrap().clone();
    assert_eq!(
        only(world.customer("/v1/usage?request_id=req-1", "alice").await.ok(200)),
        vec![first.clone()]
    );
    assert!(only(world.customer("/v1/usage?request_id=req-1", "bob").await.ok(200)).is_empty());
    let admin = |query: &'static str| world.admin("GET", query, &Value::Null);
    assert_eq!(only(admin("usage?request_id=req-1").await.ok(200)), [first]);
    assert_eq!(only(admin("usage?account=alice&limit=2").await.ok(200)).len(), 2);
    assert!(only(admin("usage?account=bob").await.ok(200)).is_empty());
}

#[tokio::test]
async fn the_request_id_finds_the_lines_of_the_journal() {
    let world = begun().await;
    let lines = |list: &Value| -> Vec<Value> {
        list["items"].as_array().unwrap().iter().map(|line| line["text"].clone()).collect()
    };
    let journal = world.admin("GET", "transactions?request_id=req-1", &Value::Null).await.ok(200);
    let beyond = "charged 0.00045 beyond what was held for chat, request req-1";
    let charged = "charged 0.00105 for chat, request req-1";
    assert_eq!(
        lines(&journal),
        [beyond, charged, "set 0.00105 aside for requests through gateway-1"].map(|text| json!(text))
    );
    assert_eq!(journal["items"][0]["balance"], Value::Null, "what lies between is not shown");
    let own = world.customer("/v1/history?request_id=req-1", "alice").await.ok(200);
    assert_eq!(lines(&own), [beyond, charged].map(|text| json!(text)));
    assert!(lines(&world.customer("/v1/history?request_id=req-1", "bob").await.ok(200)).is_empty());
    let of_bob = world.admin("GET", "transactions?account=bob&request_id=req-1", &Value::Null).await.ok(200);
    assert!(lines(&of_bob).is_empty());
}

#[tokio::test]
async fn sums_by_day_and_model_come_newest_first_and_in_pages() {
    let world = begun().await;
    let world = &world;
    let by =
        |query: String| async move { world.customer(&format!("/v1/usage?{query}"), "alice").await.ok(200) };
    let days = by("by=day".into()).await;
    let newest = json!({
        "day": "2026-11-20", "requests": 2, "input_tokens": 1_400, "cached_tokens": 200, "cache_written_tokens": 100,
        "output_tokens": 180, "reasoning_tokens": 80, "images": 4, "charged_micro": 1_700, "charged": "0.0017",
        "charged_requests": 0,
    });
    assert_eq!((&days["items"][0], &days["next"]), (&newest, &Value::Null));
    assert_eq!(
        (&days["items"][1]["day"], &days["items"][1]["charged"]),
        (&json!("2026-11-19"), &json!("0.0015"))
    );
    let one = by("by=day&limit=1".into()).await;
    assert_eq!(one["items"], json!([newest]));
    let older = by(format!("by=day&limit=1&cursor={}", one["next"])).await;
    assert_eq!(older["items"][0]["day"], "2026-11-19");
    assert_eq!(by(format!("by=day&limit=1&cursor={}", older["next"])).await["items"], json!([]));
    let models = by("by=model".into()).await;
    let named = |list: &Value| -> Vec<Value> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|sum| json!([sum["day"], sum["model"], sum["charged_micro"]])).collect()
    };
    assert_eq!(named(&models), [json!([null, "large", 700]), json!([null, "small", 2_500])]);
    let one = by("by=model&limit=1".into()).await;
    let rest = by(format!("by=model&limit=1&cursor={}", one["next"])).await;
    assert_eq!((named(&one).len(), named(&rest)), (1, vec![json!([null, "small", 2_500])]));
    let both = world.admin("GET", "usage?account=alice&by=day,model", &Value::Null).await.ok(200);
    assert_eq!(
        named(&both),
        [
            json!(["2026-11-20", "large", 700]),
            json!(["2026-11-20", "small", 1_000]),
            json!(["2026-11-19", "small", 1_500]),
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_summed_is_said() {
    let world = begun().await;
    let no = world.admin("GET", "usage?by=day", &Value::Null).await.ok(422);
    assert!(no["detail"].as_str().unwrap().contains("account"), "{no}");
    let no = world.customer("/v1/usage?by=day&request_id=req-1", "alice").await.ok(422);
    assert!(no["detail"].as_str().unwrap().contains("not both"), "{no}");
    world.customer("/v1/usage?by=week", "alice").await.ok(400);
}

/// A record of a request that cost nothing.
fn free(n: u64) -> Value {
    json!({
        "n": n, "request_id": format!("req-{n}"), "account": "alice", "endpoint": "chat", "outcome": "charged",
        "charges": [], "returned": 0, "price_version": 1, "at": "2026-11-20T09:30:00Z",
    })
}

#[tokio::test]
async fn a_worker_that_outlived_the_database_is_acknowledged_again() {
    let world = world().await;
    let page = |from: u64, to: u64| json!({ "usage": (from..=to).map(free).collect::<Vec<_>>() });
    // Up to 4,999 an earlier database has acknowledged them, and this one never heard of any.
    assert_eq!(world.sync(&page(5_000, 5_002)).await["usage_acked"], 5_002);
    assert_eq!(world.sync(&page(5_003, 5_003)).await["usage_acked"], 5_003);
    // An older sync that was overtaken says nothing any more, and each record is kept once.
    let mut late = sync(&page(1, 1));
    late["sent_seq"] = json!(0);
    assert_eq!(world.gateway("sync", &late).await.status, 409);
    let told = world.customer("/v1/usage", "alice").await.ok(200);
    assert_eq!(told["items"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn numbers_told_in_a_workers_name_do_not_take_its_records_for_told() {
    let world = world().await;
    let largest = 9_007_199_254_740_991_u64;
    assert_eq!(world.sync(&json!({ "usage": [free(largest)] })).await["usage_acked"], largest);
    // It is told of nothing that it has not told, or it would take the answer for another's.
    assert_eq!(world.sync(&json!({})).await["usage_acked"], 0);
    assert_eq!(world.sync(&json!({ "usage": [free(1), free(2)] })).await["usage_acked"], 2);
    let told = world.customer("/v1/usage", "alice").await.ok(200);
    assert_eq!(told["items"].as_array().unwrap().len(), 3);
    assert_eq!(world.balance("alice").await, 10_000);
}

/// What was held and came back is no line of a customer's history, and takes no room on its pages.
#[tokio::test]
async fn a_page_of_history_is_full_unless_it_is_the_last() {
    let world = world().await;
    for n in 2..8 {
        let needs = json!({"needs": [asks(n, "small", 1000, &json!({"size": "estimate"}))]});
        let held = world.sync(&needs).await["needs"][0].clone();
        world.sync(&json!({"cells": finished(&held, if n == 3 { 100 } else { 0 })})).await;
    }
    world.admin("POST", "grants", &json!({"account": "alice", "credits": 1})).await.ok(201);
    let all = world.customer("/v1/history", "alice").await.ok(200);
    let lines = all["items"].as_array().unwrap();
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!((kinds, &all["next"]), (vec!["granted", "used", "granted"], &Value::Null));
    assert_eq!(lines[1]["balance_micro"], 9_900);
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.customer(&format!("/v1/history?limit=1{cursor}"), "alice").await.ok(200);
        let items = page["items"].as_array().unwrap();
        assert_eq!(items.is_empty(), page["next"].is_null(), "{page}");
        paged.extend(items.clone());
        let Some(next) = page["next"].as_u64() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(&paged, lines);
}
