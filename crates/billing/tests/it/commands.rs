//! The commands beside `serve`, as whoever types them sees them.

use crate::process::refused;
use crate::support::{ADMIN, World, checkout, demo_catalog, event, finished};
use billing::stripe::Which;
use serde_json::{Value, json};
use std::process::{Command, Stdio};

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate-billing"));
    command.args(args).env_clear();
    command
}

pub(crate) fn told(command: &mut Command) -> String {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_catalog_is_checked_without_serving() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("catalog.yaml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, demo_catalog()).unwrap();
    for name in ["check", "check-catalog"] {
        let told = told(&mut program(&[name, path]));
        assert!(told.contains("2 tiers, 1 package, 4 endpoints, 1 window;"), "{told}");
    }
    std::fs::write(&file, demo_catalog().replace("rank: 1", "rang: 1")).unwrap();
    let told = refused(&mut program(&["check", path]));
    assert!(told.contains("tiers.pro.rang") && told.contains("tiers.pro.rank"), "{told}");
    let told = refused(&mut program(&["check", "/nowhere/catalog.yaml"]));
    assert!(told.contains("cannot be read"), "{told}");
}

#[test]
fn a_bad_catalog_hears_all_of_it_at_once_with_place_value_and_mend() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("catalog.yaml");
    let catalog = demo_catalog()
        .replace("currency: usd", "currency: dollars\nsurprise: 1")
        .replace("default_tier: free", "default_tier: gold")
        .replace("tiers: [pro]", "tiers: [platinum]")
        .replace("image: {cost: 5", "image: {cost: -5")
        .replace("allowance: {credits: 1000", "allowance: {credits: 99999999999")
        .replace("amount: 500", "amount: 99999999999999999999")
        .replace("{id: price_pro, amount: 2000}", "{id: price_starter, amount: 2000}");
    std::fs::write(&file, catalog).unwrap();
    let told = refused(&mut program(&["check", file.to_str().unwrap()]));
    for line in [
        "currency is \"dollars\": write three",
        "surprise is 1: remove it",
        "default_tier is \"gold\": name one of the tiers",
        "endpoints.image.cost is -5: it is below zero",
        "tiers.pro.allowance.credits is 99999999999: it is above",
        "endpoints.image.tiers is \"platinum\"",
        "packages.starter.amount is 1",
    ] {
        assert!(told.contains(line), "{line:?} is missing in {told}");
    }
    // A price that buys two things, each whole, and a tier nobody knows.
    let catalog = demo_catalog()
        .replace("tiers: [pro]", "tiers: [platinum]")
        .replace("amount: 2000}", "amount: 2000}\n      - {id: price_pro, amount: 3}")
        .replace("price: price_starter", "price: price_pro");
    std::fs::write(&file, catalog).unwrap();
    let told = refused(&mut program(&["check", file.to_str().unwrap()]));
    for line in [
        "endpoints.image.tiers is \"platinum\"",
        "tiers.pro.prices[1].id is \"price_pro\": is used by tiers.pro.prices[0].id too",
        "packages.starter.price is \"price_pro\": is used by tiers.pro.prices[0].id too",
    ] {
        assert!(told.contains(line), "{line:?} is missing in {told}");
    }
}

#[tokio::test]
async fn a_balance_is_explained_beside_the_running_service() {
    let world = World::new().await;
    for (credits, note) in [(40, "for the outage"), (2, "")] {
        let grant = json!({"account": "alice", "credits": credits, "note": note});
        if credits == 40 {
            world.admin("POST", "accounts", &json!({"id": "alice"})).await.ok(201);
        }
        world.admin("POST", "grants", &grant).await.ok(201);
    }
    world
        .admin("POST", "accounts", &json!({"id": "a2", "subjects": [{"kind": "jwt_sub", "value": "x"}]}))
        .await
        .ok(201);
    // One image is paid and told of by its request, one is still under way.
    let subject = json!({"kind": "header", "value": "alice"});
    world.admin("POST", "accounts", &json!({"id": "bound", "subjects": [subject]})).await.ok(201);
    let decision = world.need(7, "alice", "embeddings").await;
    let mut cells = finished(&decision, 1_000_000);
    let cell = cells[0].take();
    cells[0] = cell.clone();
    let usage = json!([{
        "n": 1, "request_id": "req-1", "account": "alice", "endpoint": "embeddings", "outcome": "charged", "returned": 0,
        "charges": [{"grant": cell["grant"], "generation": cell["generation"], "amount": 1_000_000}],
        "price_version": 1, "at": "2026-11-20T09:30:00Z",
    }]);
    world.sync(&json!({ "cells": cells, "usage": usage })).await;
    world.sync(&json!({ "needs": [crate::support::need(8, "alice", "embeddings")] })).await;
    let database = format!("sqlite://{}", world.database().display());
    let explain = |account: &str| {
        let told = told(&mut program(&["balance", account, "--explain", "--database", &database]));
        told.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let lines = explain("alice");
    let at = "2026-11-20T09:30:00Z";
    assert_eq!(
        lines[..3],
        [
            format!("{at} +40 40 granted 40, a grant by an operator: for the outage"),
            format!("{at} +2 42 granted 2, a grant by an operator"),
            format!("{at} -1 41 charged 1 for embeddings, request req-1"),
        ]
    );
    assert!(lines[3].ends_with("-1 40 1 is held for requests in flight"), "{lines:?}");
    assert_eq!(lines[4..], ["balance of alice: 40"]);
    assert_eq!(world.balance("alice").await, 40_000_000);
    assert_eq!(explain("bound"), ["balance of bound: 0"]);
    // The customer sees the same lines, newest first, each with what was left.
    let history = world.customer("/v1/history", "alice").await.ok(200);
    let lines: Vec<_> =
        history["items"].as_array().unwrap().iter().map(|line| (&line["balance"], &line["text"])).collect();
    assert_eq!(lines[0], (&json!("41"), &json!("charged 1 for embeddings, request req-1")));
    assert_eq!(lines[2], (&json!("40"), &json!("granted 40, a grant by an operator: for the outage")));
    let path = format!("/v1/history?limit=1&cursor={}", history["items"][1]["seq"]);
    let older = world.customer(&path, "alice").await.ok(200);
    assert_eq!(
        (&older["items"][0]["balance"], &older["items"][0]["balance_micro"]),
        (&json!("40"), &json!(40_000_000))
    );
    let all = world.admin("GET", "transactions", &Value::Null).await.ok(200);
    assert_eq!(
        all["items"][0]["balance"],
        Value::Null,
        "lines of several accounts have no balance in common"
    );
    let refused = refused(&mut program(&["balance", "nobody", "--database", &database]));
    assert!(refused.contains("There is no account nobody."), "{refused}");
    let refused =
        crate::process::refused(&mut program(&["balance", "a", "--database", "sqlite:///tmp/none.db"]));
    assert!(refused.contains("there is no database /tmp/none.db"), "{refused}");
}

#[tokio::test]
async fn of_several_events_of_one_id_the_one_that_is_named_is_replayed() {
    let world = World::new().await;
    let bought =
        event("evt_1", "checkout.session.completed", checkout("cs_1", "cus_1", Some("alice"), "payment"));
    let mut connected = bought.clone();
    connected["account"] = json!("acct_1");
    world.deliver(&connected).await.ok(200);
    world.deliver(&bought).await.ok(200);
    let service = format!("http://{}", world.running.as_ref().unwrap().address);
    let replay = async |which: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tollgate-billing"));
        command.args(["events", "replay", "evt_1", "--service", &service]).args(which).env_clear();
        let output = command.env("ADMIN_TOKEN", ADMIN).output().await.unwrap();
        let told = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.success(), String::from_utf8(told).unwrap())
    };
    for (which, done, says) in [
        ([].as_slice(), false, "answered 409: There are several events evt_1. Name one"),
        (&["--livemode", "false"], false, "answered 409: There are several events evt_1. Name one"),
        (&["--livemode", "true"], false, "answered 404: There is no event evt_1."),
        (&["--stripe-account", "self"], true, "evt_1 is applied: 100 credits\n"),
        (&["--livemode", "false", "--stripe-account", "self"], true, "evt_1 is applied: 100 credits\n"),
        (&["--stripe-account", "acct_1"], false, "connected account acct_1"),
        (
            &["--stripe-account", "no one&stripe_account=self"],
            false,
            "answered 404: There is no event evt_1.",
        ),
        (&["--livemode", "maybe"], false, "possible values: true, false"),
    ] {
        let (was_done, told) = replay(which).await;
        assert!(was_done == done && told.contains(says), "{which:?}: {told}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_say_what_became_of_an_event_is_none() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = format!("http://{}", listener.local_addr().unwrap());
    let silent = axum::Router::new().fallback(async || "");
    tokio::spawn(async move { axum::serve(listener, silent).await });
    let told = billing::commands::replay(&service, ADMIN, "evt_1", &Which::default()).await;
    assert_eq!(told, Err("answered 200, and did not say what became of it; ask again".into()));
}
