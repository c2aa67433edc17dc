//! Requests that are charged for what they used: how much is held, when less does, and what becomes of what an estimate fell short of.

use crate::support::{World, demo_catalog, finished, need, sync};
use serde_json::{Value, json};

const ONE: i64 = 1_000_000;

/// `chat` by tokens: 1 micro-credit per input token and 4 per output token, 1,000 of them at most.
const TOKENS: &str = r#"chat:
    tiers: all
    tokens:
      hold: "0.05"
      output_min: 100
      unknown_model: refuse
      models:
        small: {input: 1, output: 4, context: 10000, output_max: 1000, output_usual: 200}
        "big*": {input: 10, output: 40, context: 10000, output_max: 1000, unseen: true}"#;

pub(crate) fn catalog() -> String {
    let demo = demo_catalog().replace("chat: {cost: 1, tiers: all}", TOKENS);
    assert!(demo.contains("unknown_model"), "the demo's catalog has changed");
    demo.replace("endpoints: [chat]", "endpoints: [embeddings]")
}

pub(crate) async fn world() -> World {
    world_with(catalog(), "0.01").await
}

pub(crate) async fn world_with(catalog: String, credits: &str) -> World {
    let world = World::with(catalog, &[]).await;
    world.need(1, "alice", "models").await;
    world.admin("POST", "grants", &json!({"account": "alice", "credits": credits})).await.ok(201);
    world
}

/// A need of so many bytes of input for a model, with what else is said of its shape.
pub(crate) fn asks(id: u64, model: &str, input_max: u64, more: &Value) -> Value {
    let mut need = need(id, "alice", "chat");
    need["shape"] = json!({"kind": "tokens", "input_max": input_max, "model": model});
    for (key, value) in more.as_object().unwrap() {
        need["shape"][key] = value.clone();
    }
    need
}

async fn decide(world: &World, need: Value) -> Value {
    world.sync(&json!({ "needs": [need] })).await
}

#[tokio::test]
async fn a_request_holds_the_most_that_it_can_cost_and_the_list_comes_with_it() {
    let world = world().await;
    let answer = decide(&world, asks(2, "small", 1000, &json!({"output_max": 500}))).await;
    let (held, list) = (&answer["needs"][0], &answer["lists"]["chat"]);
    assert_eq!((&held["decision"], &held["price"]["hold"]), (&json!("ok"), &json!(1000 + 4 * 500)));
    assert_eq!((&list["models"][0]["name"], &list["models"][0]["unseen"]), (&json!("big"), &json!(true)));
    assert_eq!(list["models"][1]["unseen"], Value::Null);
    assert_eq!(
        (&list["models"][1]["name"], &list["models"][1]["output"]),
        (&json!("small"), &json!(4 * ONE))
    );
    assert_eq!(list["version"], held["price"]["version"]);
    // Charged is what was used; the rest is back at once.
    world.sync(&json!({"cells": finished(held, 1234)})).await;
    assert_eq!(world.balance("alice").await, 10_000 - 1234);
    // One that states no limit gets the model's, and an estimate holds what is usual.
    let estimate = asks(3, "small", 1000, &json!({"size": "estimate"}));
    let both = world.sync(&json!({"needs": [asks(4, "small", 1000, &json!({})), estimate]})).await;
    let held = |n: usize| both["needs"][n]["price"]["hold"].clone();
    assert_eq!((held(0), held(1)), (json!(1000 + 4 * 1000), json!(250 + 4 * 200)));
}

#[tokio::test]
async fn where_nothing_is_said_of_a_request_the_catalog_says_what_it_holds() {
    let world = world_with(catalog(), "0.07").await;
    let answer = decide(&world, need(2, "alice", "chat")).await;
    assert_eq!(answer["needs"][0]["price"]["hold"], 50_000);
    assert_eq!(answer["lists"]["chat"]["hold"], 50_000);
    let refused = &decide(&world, need(3, "alice", "chat")).await["needs"][0]["refusal"];
    assert_eq!(
        (&refused["reason"], &refused["required_micro"]),
        (&json!("insufficient_credits"), &json!(50_000))
    );
    // One who is only asked about holds nothing, and needs no list.
    let mut identify = asks(4, "nobody-has-it", 1, &json!({}));
    identify["mode"] = json!("identify");
    let answer = decide(&world, identify).await;
    assert_eq!((&answer["needs"][0]["decision"], &answer["lists"]), (&json!("ok"), &Value::Null));
}

#[tokio::test]
async fn a_shape_of_an_endpoint_with_one_price_costs_that_price() {
    let world = world_with(catalog(), "7").await;
    let mut embeddings = asks(2, "anything", u64::MAX, &json!({}));
    embeddings["endpoint"] = json!("embeddings");
    // The first ones are free.
    for id in 2..5 {
        embeddings["id"] = json!(id);
        let answer = decide(&world, embeddings.clone()).await;
        assert_eq!(
            (&answer["needs"][0]["price"]["unit"], &answer["lists"]),
            (&json!("requests"), &Value::Null)
        );
    }
    embeddings["id"] = json!(5);
    let answer = decide(&world, embeddings).await;
    assert_eq!((&answer["needs"][0]["price"]["hold"], &answer["lists"]), (&json!(ONE), &Value::Null));
}

#[tokio::test]
async fn less_than_the_whole_does_where_the_gateway_can_lower_the_limit() {
    let world = world().await;
    // 10,000 are there; this could cost 1,000 + 40 * 1,000.
    let whole = |id, clamp: bool| asks(id, "big-1", 100, &json!({"clamp": clamp}));
    let refused = &decide(&world, whole(2, false)).await["needs"][0]["refusal"];
    assert_eq!(
        (&refused["reason"], &refused["required_micro"]),
        (&json!("insufficient_credits"), &json!(41_000))
    );
    let granted = &decide(&world, whole(3, true)).await["needs"][0];
    assert_eq!((&granted["decision"], &granted["price"]["hold"]), (&json!("ok"), &json!(10_000)));
    assert_eq!(world.balance("alice").await, 0);
    // Told again, it is the same hold.
    assert_eq!(decide(&world, whole(3, true)).await["needs"][0]["price"]["hold"], 10_000);
    world.sync(&json!({"cells": finished(granted, 6_000)})).await;
    // 4,000 do not do for 100 output tokens: what would is told.
    let refused = &decide(&world, whole(4, true)).await["needs"][0]["refusal"];
    assert_eq!(
        (&refused["reason"], &refused["required_micro"]),
        (&json!("insufficient_credits"), &json!(5_000))
    );
    assert_eq!(world.balance("alice").await, 4_000);
}

#[tokio::test]
async fn one_that_can_wait_waits_before_it_takes_less() {
    let world = world().await;
    let first = &decide(&world, asks(2, "small", 2000, &json!({}))).await["needs"][0];
    assert_eq!(first["price"]["hold"], 6_000);
    let mut second = asks(3, "small", 2000, &json!({"clamp": true}));
    second["wait_ms"] = json!(500);
    assert_eq!(decide(&world, second.clone()).await["needs"][0]["decision"], "retry");
    second["wait_ms"] = json!(0);
    let less = &decide(&world, second.clone()).await["needs"][0];
    assert_eq!((&less["decision"], &less["price"]["hold"]), (&json!("ok"), &json!(4_000)));
}

#[tokio::test]
async fn a_model_without_a_price_is_refused_and_the_dearest_is_as_good_as_any() {
    let world = world().await;
    for mode in ["hold", "lease"] {
        let mut unknown = asks(2, "unheard-of", 10, &json!({"clamp": true}));
        unknown["mode"] = json!(mode);
        let refused = &decide(&world, unknown).await["needs"][0]["refusal"];
        assert_eq!(
            (&refused["reason"], &refused["status"]),
            (&json!("model_unknown"), &json!(403)),
            "{mode}"
        );
    }
    assert_eq!(world.balance("alice").await, 10_000);
    // Whoever may not use the endpoint at all is told that.
    world.admin("POST", "accounts/alice/suspend", &Value::Null).await.ok(200);
    let refused = &decide(&world, asks(3, "unheard-of", 10, &json!({}))).await["needs"][0]["refusal"];
    assert_eq!(refused["reason"], "suspended");
    let dearest = catalog().replace("unknown_model: refuse", "unknown_model: dearest");
    let world = world_with(dearest, "0.1").await;
    let held = &decide(&world, asks(2, "unheard-of", 10, &json!({}))).await["needs"][0];
    assert_eq!(held["price"]["hold"], 100 + 40_000);
}

#[tokio::test]
async fn a_window_comes_first_and_counts_one_whatever_the_request_is() {
    let world = world_with(catalog().replace("endpoints: [embeddings]", "endpoints: [chat]"), "1").await;
    let mut lease = asks(2, "big-1", 1000, &json!({}));
    let answer = decide(&world, lease.clone()).await;
    let price = &answer["needs"][0]["price"];
    assert_eq!(
        (&price["unit"], &price["hold"], &price["scope"]),
        (&json!("requests"), &json!(1), &json!("daily"))
    );
    // Its limit of output is lowered to the model's, for a window pays for no more than that.
    assert_eq!(answer["lists"]["chat"]["models"][0]["output_max"], 1_000);
    // From a lease the next request may be another's to pay for, and the gateway asks nobody.
    (lease["mode"], lease["id"]) = (json!("lease"), json!(3));
    let answer = decide(&world, lease.clone()).await;
    assert_eq!(answer["needs"][0]["price"]["unit"], "requests");
    assert_eq!(answer["lists"]["chat"]["models"][0]["name"], "big");
    // A window pays for no model that has no price.
    let refused = &decide(&world, asks(4, "unheard-of", 10, &json!({}))).await["needs"][0]["refusal"];
    assert_eq!(refused["reason"], "model_unknown");
}

#[tokio::test]
async fn what_is_larger_than_any_amount_is_refused_and_breaks_nothing() {
    let world = world().await;
    let largest = json!({"output_max": u64::MAX, "choices": u64::MAX, "images": u64::MAX, "makes": u64::MAX});
    let mut first = asks(2, "small", 100, &json!({"output_max": 10}));
    let mut largest = asks(3, "small", u64::MAX, &largest);
    (first["mode"], largest["mode"]) = (json!("lease"), json!("lease"));
    let answer = world.sync(&json!({"needs": [first, largest]})).await;
    assert_eq!(answer["needs"][0]["decision"], "ok");
    assert_eq!(answer["needs"][1]["refusal"]["reason"], "insufficient_credits");
    // Clamped, it gets what there is: its limit is lowered to what that pays for.
    largest["shape"]["clamp"] = json!(true);
    (largest["shape"]["choices"], largest["shape"]["input_max"]) = (json!(1), json!(10));
    (largest["shape"]["images"], largest["shape"]["makes"]) = (json!(0), json!(0));
    let answer = world.sync(&json!({"needs": [largest]})).await;
    assert_eq!(answer["needs"][0]["decision"], "ok");
    assert_eq!(answer["needs"][0]["price"]["hold"], 10_000);
}

#[tokio::test]
async fn a_lease_grows_to_what_there_is_where_less_does() {
    let world = world().await;
    let mut lease = asks(2, "big-1", 100, &json!({"clamp": true}));
    lease["mode"] = json!("lease");
    let answer = decide(&world, lease.clone()).await;
    let granted = &answer["needs"][0];
    assert_eq!(
        (&granted["price"]["hold"], &granted["cells"][0]["granted"]),
        (&json!(10_000), &json!(10_000))
    );
    // The answer was lost: asked again, it is the same lease.
    assert_eq!(decide(&world, lease.clone()).await["needs"][0]["cells"], granted["cells"]);
    // A second one in the same sync finds nothing left.
    let mut second = lease.clone();
    second["id"] = json!(3);
    let answer = world.sync(&json!({"needs": [lease, second]})).await;
    assert_eq!(answer["needs"][0]["price"]["hold"], 10_000);
    assert_eq!(answer["needs"][1]["refusal"]["reason"], "insufficient_credits");
}

/// A hold's request has ended: all of it was used, and so much more.
fn fell_short(decision: &Value, short: i64) -> Value {
    let mut cells = finished(decision, decision["price"]["hold"].as_i64().unwrap());
    cells[0]["short"] = json!(short);
    cells
}

#[tokio::test]
async fn what_an_estimate_fell_short_of_is_covered_then_owed_and_the_next_purchase_pays_it() {
    let world = world().await;
    let held = decide(&world, asks(2, "small", 1000, &json!({"size": "estimate"}))).await["needs"][0].clone();
    assert_eq!(held["price"]["hold"], 1_050);
    // 8,950 are left; it cost 10,000 more than was held. Told three times, it is charged once.
    for _ in 0..3 {
        world.sync(&json!({"cells": fell_short(&held, 10_000)})).await;
        let account = world.account("alice").await;
        assert_eq!((&account["balance_micro"], &account["debt_micro"]), (&json!(-1_050), &json!(1_050)));
    }
    // An older total changes nothing, a larger one adds what is new.
    world.sync(&json!({"cells": fell_short(&held, 9_000)})).await;
    world.sync(&json!({"cells": fell_short(&held, 10_050)})).await;
    assert_eq!(world.balance("alice").await, -1_100);
    let refused = &decide(&world, asks(3, "small", 1, &json!({"clamp": true}))).await["needs"][0]["refusal"];
    assert_eq!(refused["reason"], "insufficient_credits");
    world.admin("POST", "grants", &json!({"account": "alice", "credits": "0.01"})).await.ok(201);
    let account = world.account("alice").await;
    assert_eq!((&account["balance_micro"], &account["debt_micro"]), (&json!(8_900), &json!(0)));
    // Each line says what moved.
    let history = world.customer("/v1/history", "alice").await.ok(200);
    let texts: Vec<_> =
        history["items"].as_array().unwrap().iter().map(|line| line["text"].clone()).collect();
    let told = |what: &str| texts.iter().any(|text| text.as_str().unwrap().contains(what));
    assert!(told("charged 0.00895 beyond what was held for requests through gateway-1"), "{texts:#?}");
    assert!(told("owes 0.00105 for requests through gateway-1, which nothing was left for"), "{texts:#?}");
}

#[tokio::test]
async fn an_operator_may_bear_what_estimates_fall_short_of() {
    let text = catalog().replace("policies:\n", "policies:\n  shortfall: write_off\n");
    let world = world_with(text, "0.01").await;
    let held = decide(&world, asks(2, "small", 1000, &json!({"size": "estimate"}))).await["needs"][0].clone();
    world.sync(&json!({"cells": fell_short(&held, 10_000)})).await;
    let account = world.account("alice").await;
    assert_eq!((&account["balance_micro"], &account["debt_micro"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_shortfall_that_no_amount_can_say_breaks_nothing() {
    let world = world_with(catalog(), "0.1").await;
    let most = 9_007_199_254_740_991_i64;
    for id in 2..5 {
        let asked = asks(id, "small", 1, &json!({"size": "estimate"}));
        let mut held = decide(&world, asked).await["needs"][0].clone();
        if held["decision"] != "ok" {
            // Nobody who owes so much gets anything; what was held before may still end.
            world
                .admin("POST", "grants", &json!({"account": "alice", "credits": "9000000000"}))
                .await
                .ok(201);
            held = decide(&world, asks(id + 10, "small", 1, &json!({"size": "estimate"}))).await["needs"][0]
                .clone();
        }
        if held["decision"] == "ok" {
            let answer =
                world.gateway("sync", &sync(&json!({"cells": fell_short(&held, most)}))).await.ok(200);
            assert_eq!(answer["cells"][0]["state"], "closed");
        }
    }
    let debt = world.account("alice").await["debt_micro"].as_i64().unwrap();
    assert!(debt > 0 && debt <= most, "{debt}");
}
