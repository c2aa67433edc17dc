//! The contract with gateways, over real HTTP.

use crate::support::{World, finished, need, sync};
use serde_json::{Value, json};
use units::Span;

const FREE: [&str; 3] = ["ok", "ok", "ok"];

#[tokio::test]
async fn three_free_requests_a_day_then_a_refusal_that_says_why() {
    let world = World::new().await;
    for (id, decision) in (1..).zip(FREE) {
        assert_eq!(world.need(id, "alice", "chat").await["decision"], decision);
    }
    let refused = world.need(4, "alice", "chat").await;
    let refusal = &refused["refusal"];
    assert_eq!((&refusal["reason"], &refusal["status"]), (&json!("daily_limit_reached"), &json!(402)));
    assert_eq!(refusal["resets_at"], "2026-11-21T00:00:00Z");
    assert_eq!((&refusal["balance_micro"], &refusal["required_micro"]), (&json!(0), &json!(1_000_000)));
    assert_eq!(refusal["buy_url"], "https://example.com/buy");
    // At midnight it refills, whether or not a sweep has come by.
    world.advance(Span::from_secs(14 * 3600 + 30 * 60));
    assert_eq!(world.need(5, "alice", "chat").await["decision"], "ok");
}

#[tokio::test]
async fn what_costs_credits_is_held_charged_and_returned() {
    let world = World::new().await;
    world.need(1, "alice", "models").await;
    let refused = world.need(2, "alice", "embeddings").await;
    assert_eq!(refused["refusal"]["reason"], "insufficient_credits");
    world.admin("POST", "grants", &json!({"account": "alice", "credits": 2, "note": "hello"})).await.ok(201);
    let (one, two) = (world.need(3, "alice", "embeddings").await, world.need(4, "alice", "embeddings").await);
    assert_eq!(
        one["price"],
        json!({"unit": "credits", "hold": 1_000_000, "scope": "", "version": one["price"]["version"]})
    );
    assert_eq!(world.account("alice").await["held_micro"], 2_000_000);
    let third = world.need(5, "alice", "embeddings").await;
    assert_eq!(third["refusal"]["reason"], "insufficient_credits");
    // One was charged, the other's upstream failed: its hold comes back.
    let charged = world.sync(&json!({"cells": finished(&one, 1_000_000)})).await;
    assert_eq!(charged["cells"][0]["state"], "closed");
    world.sync(&json!({"cells": finished(&two, 0)})).await;
    let account = world.account("alice").await;
    assert_eq!((&account["balance"], &account["held_micro"]), (&json!("1"), &json!(0)));
    // Telling it again changes nothing.
    world.sync(&json!({"cells": finished(&one, 1_000_000)})).await;
    assert_eq!(world.balance("alice").await, 1_000_000);
}

#[tokio::test]
async fn a_need_that_waits_is_told_to_come_back_while_others_hold_what_it_needs() {
    let world = World::new().await;
    world.need(1, "alice", "models").await;
    world.admin("POST", "grants", &json!({"account": "alice", "credits": 1})).await.ok(201);
    let first = world.need(2, "alice", "embeddings").await;
    let mut waiting = need(3, "alice", "embeddings");
    waiting["wait_ms"] = json!(1000);
    let answer = world.sync(&json!({"needs": [waiting]})).await;
    assert_eq!(answer["needs"][0], json!({"id": 3, "decision": "retry", "retry_ms": 20}));
    world.sync(&json!({"cells": finished(&first, 0), "needs": []})).await;
    let answer = world.sync(&json!({"needs": [waiting]})).await;
    assert_eq!(answer["needs"][0]["decision"], "ok");
}

#[tokio::test]
async fn a_repeated_need_repeats_the_answer_and_an_abandoned_one_goes_back() {
    let world = World::new().await;
    let first = world.need(1, "alice", "chat").await;
    let again = world.need(1, "alice", "chat").await;
    assert_eq!(first["cells"], again["cells"]);
    assert_eq!(again["standing"]["window"]["remaining"], 2);
    let answer = world.sync(&json!({"abandoned": [1], "needs": [need(2, "alice", "chat")]})).await;
    assert_eq!(answer["needs"][0]["standing"]["window"]["remaining"], 2);
    // What was given back may not be sent upstream any more.
    assert_eq!(world.need(1, "alice", "chat").await["refusal"]["reason"], "service_unavailable");
}

#[tokio::test]
async fn ten_credits_are_ten_requests_however_many_ask_at_once() {
    let world = World::new().await;
    world.need(1, "alice", "models").await;
    world.admin("POST", "grants", &json!({"account": "alice", "credits": 10})).await.ok(201);
    let asked: Vec<Value> = (0..200_u64).map(|id| need(id + 10, "alice", "embeddings")).collect();
    let world = std::sync::Arc::new(world);
    let mut syncs = tokio::task::JoinSet::new();
    for needs in asked.chunks(4) {
        let (world, parts) = (std::sync::Arc::clone(&world), json!({"needs": needs}));
        syncs.spawn(async move { world.sync(&parts).await });
    }
    let mut ok = 0;
    for answer in syncs.join_all().await {
        ok += answer["needs"].as_array().unwrap().iter().filter(|need| need["decision"] == "ok").count();
    }
    assert_eq!(ok, 10);
    assert_eq!(world.balance("alice").await, 0);
}

#[tokio::test]
async fn who_is_unknown_and_what_is_not_sold_are_refused_by_name() {
    let world = World::new().await;
    let mut unknown = need(1, "alice", "chat");
    unknown["subject"] = json!({"kind": "api_key_sha256", "value": "00".repeat(32)});
    let answer = world
        .sync(&json!({"needs": [
            unknown, need(2, "alice", "video"), need(3, "alice", "image"), need(4, "anna müller", "chat"),
        ]}))
        .await;
    let reasons: Vec<_> =
        answer["needs"].as_array().unwrap().iter().map(|n| n["refusal"]["reason"].clone()).collect();
    assert_eq!(
        reasons,
        [json!("unknown_customer"), json!("endpoint_unknown"), json!("tier_not_allowed"), Value::Null]
    );
    let statuses: Vec<_> =
        answer["needs"].as_array().unwrap().iter().map(|n| n["refusal"]["status"].clone()).collect();
    assert_eq!(statuses, [json!(401), json!(403), json!(403), Value::Null]);
    assert!(answer["needs"][3]["standing"]["account"].as_str().unwrap().starts_with("sub_"));
}

#[tokio::test]
async fn what_is_free_at_the_gateway_only_identifies() {
    let world = World::new().await;
    let mut models = need(1, "alice", "models");
    models["mode"] = json!("identify");
    let answer = world.sync(&json!({"needs": [models]})).await;
    let answer = &answer["needs"][0];
    assert_eq!(
        (&answer["decision"], &answer["cells"], &answer["price"]["hold"]),
        (&json!("ok"), &json!([]), &json!(0))
    );
    world.admin("POST", "accounts/alice/suspend", &Value::Null).await.ok(200);
    let answer = world.sync(&json!({"needs": [models.clone()]})).await;
    assert_eq!(answer["needs"][0]["refusal"]["reason"], "suspended");
    world.admin("POST", "accounts/alice/resume", &Value::Null).await.ok(200);
    assert_eq!(world.sync(&json!({"needs": [models]})).await["needs"][0]["decision"], "ok");
}

#[tokio::test]
async fn an_api_key_is_somebody_until_it_is_revoked() {
    use sha2::{Digest, Sha256};
    let world = World::new().await;
    world.admin("POST", "accounts", &json!({"id": "acme"})).await.ok(201);
    let key = world.admin("POST", "api-keys", &json!({"account": "acme"})).await.ok(201);
    let text = key["key"].as_str().unwrap();
    assert!(text.starts_with("tgk_") && text.len() == 36);
    let digest: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut by_key = need(1, "", "chat");
    by_key["subject"] = json!({"kind": "api_key_sha256", "value": digest});
    let answer = world.sync(&json!({"needs": [by_key]})).await;
    assert_eq!(answer["needs"][0]["standing"]["account"], "acme");
    let path = format!("api-keys/{}", key["id"].as_str().unwrap());
    assert_eq!(world.admin("DELETE", &path, &Value::Null).await.status, 204);
    assert_eq!(world.admin("DELETE", &path, &Value::Null).await.status, 204);
    assert_eq!(world.admin("DELETE", "api-keys/nobody", &Value::Null).await.status, 404);
    by_key["id"] = json!(2);
    let answer = world.sync(&json!({"needs": [by_key]})).await;
    assert_eq!(answer["needs"][0]["refusal"]["reason"], "unknown_customer");
    let database = std::fs::read(world.database()).unwrap();
    let found = |needle: &str| database.windows(needle.len()).any(|w| w == needle.as_bytes());
    assert!(!found(text), "the key itself is in the database");
}

#[tokio::test]
async fn incarnations_only_grow_and_outlive_a_restart() {
    let mut world = World::new().await;
    let hello = json!({"node": "gateway-1"});
    assert_eq!(world.gateway("hello", &hello).await.ok(200)["incarnation"], 1);
    assert_eq!(world.gateway("hello", &hello).await.ok(200)["incarnation"], 2);
    world.restart().await;
    assert_eq!(world.gateway("hello", &hello).await.ok(200)["incarnation"], 3);
    world.sync(&json!({"incarnation": 40})).await;
    assert_eq!(world.gateway("hello", &hello).await.ok(200)["incarnation"], 41);
    assert_eq!(world.gateway("hello", &json!({"node": "gateway-2"})).await.ok(200)["incarnation"], 1);
    // No more than Envoy can have been started since a backup.
    let no = world.gateway("sync", &sync(&json!({"incarnation": 1_000_042}))).await.ok(422);
    assert!(no["detail"].as_str().unwrap().contains("had 41 so far"), "{no}");
    assert_eq!(world.gateway("hello", &hello).await.ok(200)["incarnation"], 42);
    world.sync(&json!({"incarnation": 1_000_042})).await;
    assert_eq!(world.gateway("hello", &hello).await.ok(200)["incarnation"], 1_000_043);
}

#[tokio::test]
async fn a_hold_nobody_reports_goes_back_after_its_time_and_tail() {
    let world = World::new().await;
    world.need(1, "alice", "models").await;
    world.admin("POST", "grants", &json!({"account": "alice", "credits": 1})).await.ok(201);
    world.need(2, "alice", "embeddings").await;
    for secs in [31, 29] {
        world.advance(Span::from_secs(secs));
        world.sweep().await;
        assert_eq!(world.account("alice").await["held_micro"], 1_000_000);
    }
    world.advance(Span::from_secs(2));
    world.sweep().await;
    let account = world.account("alice").await;
    assert_eq!((&account["held_micro"], &account["balance_micro"]), (&json!(0), &json!(1_000_000)));
    assert_eq!(world.metric("tollgate_billing_swept_total", ("kind", "closed_dirty")), 1);
}

#[tokio::test]
async fn one_account_that_cannot_be_settled_keeps_no_other_from_it() {
    let world = World::new().await;
    for (id, name) in [(1, "alice"), (3, "bob")] {
        world.need(id, name, "models").await;
        world.admin("POST", "grants", &json!({"account": name, "credits": 1})).await.ok(201);
        world.need(id + 1, name, "embeddings").await;
    }
    let db = rusqlite::Connection::open(world.database()).unwrap();
    db.execute("UPDATE account SET stage = 'spoilt' WHERE id = 'alice'", []).unwrap();
    for secs in [31, 31] {
        world.advance(Span::from_secs(secs));
        world.sweep().await;
    }
    assert_eq!(world.account("bob").await["held_micro"], 0);
    db.execute("UPDATE account SET stage = (SELECT stage FROM account WHERE id = 'bob')", []).unwrap();
    for secs in [0, 31] {
        world.advance(Span::from_secs(secs));
        world.sweep().await;
    }
    assert_eq!(world.account("alice").await["held_micro"], 0);
}

#[tokio::test]
async fn under_the_other_policy_it_is_charged() {
    let world =
        World::with(crate::support::demo_catalog(), &[("CRASH_POLICY", "charge"), ("LEASE_TTL_MS", "1000")])
            .await;
    world.need(1, "alice", "models").await;
    world.admin("POST", "grants", &json!({"account": "alice", "credits": 1})).await.ok(201);
    let held = world.need(2, "alice", "embeddings").await;
    for secs in [2, 2] {
        world.advance(Span::from_secs(secs));
        world.sweep().await;
    }
    assert_eq!(world.account("alice").await["held_micro"], 0);
    assert_eq!(world.balance("alice").await, 0);
    // The report comes after all; it was charged once.
    world.sync(&json!({"cells": finished(&held, 1_000_000)})).await;
    assert_eq!(world.account("alice").await["debt_micro"], 0);
}

#[tokio::test]
async fn usage_is_kept_once_and_acknowledged_without_gaps() {
    let world = World::new().await;
    let decision = world.need(1, "alice", "chat").await;
    let record = |n: u64| {
        json!({
            "n": n, "request_id": format!("req_{n}"), "account": "alice", "endpoint": "chat",
            "charges": [{"grant": decision["cells"][0]["grant"], "generation": decision["cells"][0]["generation"], "amount": 1}],
            "returned": 0, "outcome": "charged", "price_version": 1, "at": "2026-11-20T09:30:00Z",
            "tokens": {"model": "m", "input": 3, "cached": 0, "output": 4},
        })
    };
    let acked = |answer: Value| answer["usage_acked"].as_u64().unwrap();
    assert_eq!(acked(world.sync(&json!({"usage": [record(1), record(3)]})).await), 1);
    assert_eq!(acked(world.sync(&json!({"usage": [record(2), record(3)]})).await), 3);
    assert_eq!(acked(world.sync(&json!({"usage": [record(1), record(2)]})).await), 2);
    assert_eq!(acked(world.sync(&json!({})).await), 0);
    assert_eq!(acked(world.sync(&json!({"worker": 2})).await), 0);
    assert_eq!(world.metric("tollgate_billing_usage_records_total", ("outcome", "charged")), 3);
    let usage = world.customer("/v1/usage", "alice").await.ok(200);
    // All three are spent; they were requests all the same.
    for id in [2, 3] {
        let held = world.need(id, "alice", "chat").await;
        world.sync(&json!({"cells": finished(&held, 1)})).await;
    }
    world.sync(&json!({"cells": finished(&decision, 1)})).await;
    let journal = world.admin("GET", "transactions?account=alice", &Value::Null).await.ok(200);
    assert!(
        journal["items"].as_array().unwrap().iter().all(|entry| entry["amount_requests"].is_u64()),
        "{journal}"
    );
    assert_eq!(usage["items"].as_array().unwrap().len(), 3);
    assert_eq!(
        (&usage["items"][0]["charged_requests"], &usage["items"][0]["output_tokens"]),
        (&json!(1), &json!(4))
    );
}

#[tokio::test]
async fn what_is_wrong_is_refused_whole() {
    let world = World::new().await;
    let auth = format!("Bearer {}", crate::support::GATEWAY);
    let good = sync(&json!({"needs": [need(1, "alice", "chat")]})).to_string();
    for (token, path, body, status) in [
        ("Bearer wrong", "/gateway/v1/sync", good.clone(), 401),
        ("", "/gateway/v1/sync", good.clone(), 401),
        (&auth, "/gateway/v2/sync", good.clone(), 404),
        (&auth, "/gateway/v1/sync", "{".into(), 400),
        (&auth, "/gateway/v1/sync", "{}".into(), 400),
        (&auth, "/gateway/v1/sync", " ".repeat(8_388_609), 413),
        (
            &auth,
            "/gateway/v1/sync",
            sync(&json!({"worker": 0, "needs": [need(1, "alice", "chat")]})).to_string(),
            422,
        ),
        (
            &auth,
            "/gateway/v1/sync",
            sync(&json!({"needs": [need(1 << 40, "alice", "chat")]})).to_string(),
            422,
        ),
        (
            &auth,
            "/gateway/v1/sync",
            sync(&json!({"abandoned": vec![1; 1001], "needs": [need(1, "alice", "chat")]})).to_string(),
            413,
        ),
        (&auth, "/gateway/v1/sync", sync(&json!({"incarnation": 0})).to_string(), 422),
    ] {
        let answer = world.call("POST", path, &[("authorization", token)], body).await;
        assert_eq!(answer.status, status, "{path} {}", answer.text);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.json()["status"], status);
    }
    let answer = world.call("GET", "/gateway/v1/sync", &[("authorization", &auth)], "").await;
    assert_eq!((answer.status, answer.headers["allow"].to_str().unwrap()), (405, "POST"));
    assert_eq!(
        world.admin("GET", "accounts/alice", &Value::Null).await.status,
        404,
        "something was half done"
    );
    assert_eq!(world.metric("tollgate_billing_calls_total", ("call", "sync")), 6);
}

#[tokio::test]
async fn a_cell_that_was_never_granted_is_closed_and_costs_nothing() {
    let world = World::new().await;
    let cell = json!({"grant": 77, "generation": 1, "admitted": 5, "finished": 5, "used": 5, "returned": 0, "target": 9});
    let answer = world.sync(&json!({"cells": [cell]})).await;
    assert_eq!((&answer["cells"][0]["state"], &answer["cells"][0]["granted"]), (&json!("closed"), &json!(0)));
}

fn claim(claimant: &str) -> Value {
    json!({"endpoint": "app", "livemode": false, "account": "self", "event_id": "evt_1", "type": "invoice.paid",
        "claimant": claimant})
}

fn complete(token: &Value, outcome: &str) -> Value {
    json!({"endpoint": "app", "livemode": false, "account": "self", "event_id": "evt_1", "token": token,
        "outcome": outcome})
}

#[tokio::test]
async fn one_delivery_has_an_event_at_a_time_and_an_accepted_one_is_done_for_ever() {
    let mut world = World::new().await;
    let first = world.gateway("events/claim", &claim("a")).await.ok(200);
    assert_eq!((&first["decision"], &first["ttl_ms"]), (&json!("fresh"), &json!(30_000)));
    let other = world.gateway("events/claim", &claim("b")).await.ok(200);
    assert_eq!(other, json!({"decision": "in_flight", "retry_ms": 30_000}));
    assert_eq!(world.gateway("events/claim", &claim("a")).await.ok(200)["token"], first["token"]);
    // Its handler failed: the retry gets through.
    let failed = world.gateway("events/complete", &complete(&first["token"], "failed")).await.ok(200);
    assert_eq!(failed["result"], "recorded");
    let second = world.gateway("events/claim", &claim("b")).await.ok(200);
    assert_eq!(second["decision"], "fresh");
    assert_ne!(second["token"], first["token"]);
    world.restart().await;
    let accepted = world.gateway("events/complete", &complete(&second["token"], "accepted")).await.ok(200);
    assert_eq!(accepted["result"], "recorded");
    assert_eq!(
        world.gateway("events/complete", &complete(&second["token"], "accepted")).await.ok(200)["result"],
        "recorded"
    );
    assert_eq!(
        world.gateway("events/complete", &complete(&second["token"], "failed")).await.ok(200)["result"],
        "stale"
    );
    world.advance(Span::from_secs(86_400));
    assert_eq!(world.gateway("events/claim", &claim("c")).await.ok(200), json!({"decision": "done"}));
    let mut elsewhere = claim("c");
    elsewhere["endpoint"] = json!("other");
    assert_eq!(world.gateway("events/claim", &elsewhere).await.ok(200)["decision"], "fresh");
}

/// F10: an Envoy died after it had forwarded an event, and before it could say what became of it.
#[tokio::test]
async fn a_claim_whose_gateway_died_runs_out_and_is_recorded_even_late() {
    let world = World::new().await;
    let first = world.gateway("events/claim", &claim("a")).await.ok(200);
    world.advance(Span::from_secs(31));
    let second = world.gateway("events/claim", &claim("b")).await.ok(200);
    assert_eq!(second["decision"], "fresh");
    // The first one failed late: the claim is the second one's.
    let late = world.gateway("events/complete", &complete(&first["token"], "failed")).await.ok(200);
    assert_eq!(late["result"], "stale");
    assert_eq!(world.gateway("events/claim", &claim("c")).await.ok(200)["decision"], "in_flight");
    // It was accepted late: it is done all the same.
    let late = world.gateway("events/complete", &complete(&first["token"], "accepted")).await.ok(200);
    assert_eq!(late["result"], "stale");
    assert_eq!(world.gateway("events/claim", &claim("c")).await.ok(200)["decision"], "done");
}

#[tokio::test]
async fn a_watch_hears_of_a_top_up_at_once() {
    let world = World::new().await;
    world.need(1, "alice", "models").await;
    let auth = format!("Bearer {}", crate::support::GATEWAY);
    let headers = [("authorization", auth.as_str())];
    let start = world.call("GET", "/gateway/v1/watch?after=0", &headers, "").await.ok(200);
    assert_eq!(start["reset"], true);
    let path = format!("/gateway/v1/watch?after={}", start["after"]);
    let none = world.call("GET", &format!("{path}&wait_ms=1"), &headers, "").await.ok(200);
    assert_eq!((&none["reset"], &none["notes"]), (&json!(false), &json!([])));
    let granted = json!({"account": "alice", "credits": 1});
    let (heard, _) =
        tokio::join!(world.call("GET", &path, &headers, ""), world.admin("POST", "grants", &granted));
    let heard = heard.ok(200);
    assert_eq!(
        (&heard["notes"][0]["kind"], &heard["notes"][0]["payer"]),
        (&json!("replenished"), &json!("alice"))
    );
}

#[tokio::test]
async fn golden_requests_are_understood_and_answered_as_the_contract_says_over_http2() {
    use contract::v1::{ClaimAnswer, CompleteAnswer, HelloAnswer, SyncAnswer};
    let mut world = World::new().await;
    world.speak_http2();
    let golden = |name: &str| -> Value {
        let path = format!("{}/../contract/examples/v1/{name}.request.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let hello = world.gateway("hello", &golden("hello")).await.ok(200);
    serde_json::from_value::<HelloAnswer>(hello).unwrap();
    let asked = golden("sync");
    let answer = world.gateway("sync", &asked).await.ok(200);
    let answer: SyncAnswer = serde_json::from_value(answer).unwrap();
    assert_eq!(answer.needs.len(), asked["needs"].as_array().unwrap().len());
    assert_eq!(answer.cells.len(), asked["cells"].as_array().unwrap().len());
    let claimed = world.gateway("events/claim", &golden("claim")).await.ok(200);
    assert!(matches!(serde_json::from_value(claimed).unwrap(), ClaimAnswer::Fresh { .. }));
    let completed = world.gateway("events/complete", &golden("complete")).await.ok(200);
    serde_json::from_value::<CompleteAnswer>(completed).unwrap();
}

#[tokio::test]
async fn a_sync_that_came_before_or_that_a_later_one_overtook_is_not_carried_out() {
    let world = World::new().await;
    world.need(1, "alice", "models").await;
    world.admin("POST", "grants", &json!({"account": "alice", "credits": 5})).await.ok(201);
    let first = sync(&json!({"needs": [need(2, "alice", "embeddings")]}));
    let second = sync(&json!({"needs": [need(3, "alice", "embeddings")]}));
    // The sender waited for the first in vain, gave it up, and sent a second one; then the first arrives.
    world.gateway("sync", &second).await.ok(200);
    let late = world.gateway("sync", &first).await.ok(409);
    assert_eq!(world.account("alice").await["held_micro"], 1_000_000, "{late}");
    // The same one twice: whoever repeats it is not the one who waits. A worker knows nothing of another one's numbers.
    world.gateway("sync", &second).await.ok(409);
    assert_eq!(world.account("alice").await["held_micro"], 1_000_000);
    let other = sync(&json!({"worker": 2, "needs": [need(2, "alice", "embeddings")]}));
    world.gateway("sync", &other).await.ok(200);
    assert_eq!(world.account("alice").await["held_micro"], 2_000_000);
}

#[tokio::test]
async fn what_an_upstream_says_of_its_tokens_stops_no_sync() {
    let world = World::new().await;
    world.need(1, "alice", "chat").await;
    let record = |n: u64, tokens: u64| {
        json!({
            "n": n, "request_id": format!("r-{n}"), "account": "alice", "endpoint": "chat", "outcome": "charged", "returned": 0,
            "charges": [], "price_version": 1, "at": "2026-11-20T09:30:00Z",
            "tokens": {"model": "m", "input": tokens, "cached": tokens, "output": tokens,
                "cache_written": tokens, "reasoning": tokens, "images": tokens},
        })
    };
    let answer = world.sync(&json!({ "usage": [record(1, u64::MAX), record(2, 7)] })).await;
    assert_eq!(answer["usage_acked"], 2);
    let usage = world.customer("/v1/usage", "alice").await.ok(200);
    let tokens: Vec<_> =
        usage["items"].as_array().unwrap().iter().map(|row| row["output_tokens"].clone()).collect();
    assert_eq!(tokens, [json!(7), json!(9_007_199_254_740_991_u64)]);
}

#[tokio::test]
async fn a_node_whose_incarnations_are_used_up_is_told_so() {
    let world = World::new().await;
    const LAST: u64 = (1 << 53) - 1;
    world.gateway("hello", &json!({"node": "gateway-1"})).await.ok(200);
    let db = rusqlite::Connection::open(world.database()).unwrap();
    db.execute("UPDATE node SET incarnation = ?1", [i64::try_from(LAST).unwrap()]).unwrap();
    let no = world.gateway("hello", &json!({"node": "gateway-1"})).await.ok(409);
    assert!(no["detail"].as_str().unwrap().contains("another name"), "{no}");
    world.gateway("hello", &json!({"node": "gateway-2"})).await.ok(200);
}
