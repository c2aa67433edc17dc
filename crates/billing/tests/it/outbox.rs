//! What others are told of: signed, until it is accepted, and only if what it tells of was committed.

use crate::support::{World, checkout, demo_catalog, event, finished, subscription};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex};
use units::Span;

const KEY: &[u8] = b"a key of tests, 32 bytes in all.";

/// HMAC as RFC 2104 writes it, so that the signature is not checked by the code that made it.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let padded = |pad: u8| (0..64).map(move |i| key.get(i).copied().unwrap_or(0) ^ pad);
    let inner = Sha256::digest([padded(0x36).collect::<Vec<_>>(), message.to_vec()].concat());
    Sha256::digest([padded(0x5c).collect::<Vec<_>>(), inner.to_vec()].concat()).to_vec()
}

/// Somebody who is told, and answers as they are bid.
#[derive(Clone, Default)]
struct Receiver {
    got: Arc<Mutex<Vec<(String, i64, Value)>>>,
    answer: Arc<Mutex<u16>>,
}

impl Receiver {
    fn answers(&self, status: u16) {
        *self.answer.lock().unwrap() = status;
    }

    fn take(&self) -> Vec<(String, i64, Value)> {
        std::mem::take(&mut *self.got.lock().unwrap())
    }

    /// What they were told, without the surroundings.
    fn told(&self) -> Vec<(String, Value)> {
        let told = self.take().into_iter();
        told.map(|(_, _, body)| (body["type"].as_str().unwrap().to_owned(), body["data"].clone())).collect()
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, at) = (header("webhook-id"), header("webhook-timestamp"));
    let signed = [id.as_bytes(), b".", at.as_bytes(), b".", &body].concat();
    assert_eq!(header("webhook-signature"), format!("v1,{}", STANDARD.encode(hmac(KEY, &signed))));
    assert_eq!(header("content-type"), "application/json");
    receiver.got.lock().unwrap().push((id, at.parse().unwrap(), serde_json::from_slice(&body).unwrap()));
    StatusCode::from_u16(*receiver.answer.lock().unwrap()).unwrap()
}

/// A service that tells, and whom it tells.
async fn world() -> (World, Receiver) {
    let receiver = Receiver::default();
    receiver.answers(200);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/told", listener.local_addr().unwrap());
    let router = Router::new().route("/told", post(receive)).with_state(receiver.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let secret = format!("whsec_{}", STANDARD.encode(KEY));
    let catalog = format!("{}\nnotify: {{balance_low: 10}}\n", demo_catalog());
    (World::with(catalog, &[("OUTBOX_URL", &url), ("OUTBOX_SECRET", &secret)]).await, receiver)
}

async fn send(world: &World) {
    world.running.as_ref().unwrap().send_outbox().await;
}

fn outbox(world: &World, outcome: &str) -> u64 {
    world.metric("tollgate_billing_outbox_total", ("outcome", outcome))
}

#[tokio::test]
async fn purchases_plans_and_low_balances_are_told_once_each() {
    let (world, receiver) = world().await;
    let session = checkout("cs_1", "cus_1", Some("alice"), "payment");
    let bought = event("evt_1", "checkout.session.completed", session.clone());
    world.deliver(&bought).await.ok(200);
    world.deliver(&bought).await.ok(200);
    world.deliver(&event("evt_2", "checkout.session.completed", session)).await.ok(200);
    world
        .deliver(&event("evt_3", "customer.subscription.created", subscription("sub_1", "cus_1", "active")))
        .await
        .ok(200);
    world
        .deliver(&event("evt_4", "customer.subscription.updated", subscription("sub_1", "cus_1", "active")))
        .await
        .ok(200);
    send(&world).await;
    let purchase = json!({"account": "alice", "package": "starter", "payment": "pi_cs_1", "paid": 500, "currency": "usd",
        "credits": "100", "credits_micro": 100_000_000});
    let told = receiver.told();
    assert_eq!(told[0], ("purchase.completed".into(), purchase));
    assert_eq!(
        (told[1].0.as_str(), &told[1].1["tier"], &told[1].1["state"]),
        ("subscription.changed", &json!("pro"), &json!("active"))
    );
    assert_eq!(told.len(), 2, "{told:?}");
    // 93 of 100 credits go: below ten once, and not again at six.
    for id in 1..=19 {
        let need = crate::support::need(id, "alice", "image");
        let decision = world.sync(&json!({ "needs": [need] })).await["needs"][0].clone();
        world.sync(&json!({ "cells": finished(&decision, 5_000_000) })).await;
    }
    send(&world).await;
    let low = json!({"account": "alice", "balance": "5", "balance_micro": 5_000_000, "threshold": "10", "threshold_micro": 10_000_000});
    assert_eq!(receiver.told(), [("balance.low".to_owned(), low)]);
    send(&world).await;
    assert_eq!(receiver.take(), []);
    assert_eq!((outbox(&world, "written"), outbox(&world, "accepted")), (3, 3));
}

#[tokio::test]
async fn what_is_not_accepted_is_sent_again_under_its_id_and_given_up_in_the_end() {
    let (world, receiver) = world().await;
    receiver.answers(503);
    let session = checkout("cs_1", "cus_1", Some("alice"), "payment");
    world.deliver(&event("evt_1", "checkout.session.completed", session)).await.ok(200);
    send(&world).await;
    send(&world).await;
    let first = receiver.take();
    assert_eq!(first.len(), 1, "not before its time");
    world.advance(Span::from_secs(5));
    receiver.answers(302);
    send(&world).await;
    let second = receiver.take();
    assert_eq!((&second[0].0, &second[0].2), (&first[0].0, &first[0].2), "the same message");
    assert_eq!(second[0].1, first[0].1 + 5, "signed anew");
    for _ in 0..20 {
        world.advance(Span::from_secs(86_400));
        send(&world).await;
    }
    assert_eq!(receiver.take().len(), 8);
    assert_eq!((outbox(&world, "refused"), outbox(&world, "dead")), (9, 1));
    // Somebody who wants nothing any more is asked once.
    receiver.answers(410);
    let session = checkout("cs_2", "cus_1", Some("alice"), "payment");
    world.deliver(&event("evt_2", "checkout.session.completed", session)).await.ok(200);
    send(&world).await;
    world.advance(Span::from_secs(86_400));
    send(&world).await;
    assert_eq!((receiver.take().len(), outbox(&world, "dead")), (1, 2));
}

#[tokio::test]
async fn what_was_told_survives_a_restart_and_what_was_undone_is_not_told() {
    let (mut world, receiver) = world().await;
    let db = rusqlite::Connection::open(world.database()).unwrap();
    // The grant is made and the message written; then the event itself cannot be kept.
    db.execute_batch(
        "CREATE TRIGGER broken BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'a rule broke'); END",
    )
    .unwrap();
    let session = checkout("cs_1", "cus_1", Some("alice"), "payment");
    let bought = event("evt_1", "checkout.session.completed", session);
    assert_eq!(world.deliver(&bought).await.status, 500);
    send(&world).await;
    assert_eq!((receiver.take(), outbox(&world, "written")), (Vec::new(), 0));
    db.execute_batch("DROP TRIGGER broken").unwrap();
    receiver.answers(500);
    world.deliver(&bought).await.ok(200);
    send(&world).await;
    let first = receiver.take();
    world.restart().await;
    receiver.answers(200);
    world.advance(Span::from_secs(5));
    send(&world).await;
    let again = receiver.take();
    assert_eq!((first.len(), again.len(), &again[0].0), (1, 1, &first[0].0));
}

#[tokio::test]
async fn where_nobody_is_told_nothing_is_written() {
    let world = World::with(format!("{}\nnotify: {{balance_low: 10}}\n", demo_catalog()), &[]).await;
    let session = checkout("cs_1", "cus_1", Some("alice"), "payment");
    world.deliver(&event("evt_1", "checkout.session.completed", session)).await.ok(200);
    let db = rusqlite::Connection::open(world.database()).unwrap();
    assert_eq!(db.query_row("SELECT count(*) FROM outbox", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[tokio::test]
async fn while_an_answer_cannot_be_noted_nothing_is_sent_and_then_it_is_noted_once() {
    let (world, receiver) = world().await;
    let db = rusqlite::Connection::open(world.database()).unwrap();
    for (change, status, outcome) in [("UPDATE", 503, "refused"), ("DELETE", 200, "accepted")] {
        let full = format!(
            "CREATE TRIGGER full BEFORE {change} ON outbox BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        );
        db.execute_batch(&full).unwrap();
        receiver.answers(status);
        for n in 1..=2 {
            let session = checkout(&format!("cs_{n}_{status}"), "cus_1", Some("alice"), "payment");
            let bought = event(&format!("evt_{n}_{status}"), "checkout.session.completed", session);
            world.deliver(&bought).await.ok(200);
        }
        let already = outbox(&world, outcome);
        for _ in 0..3 {
            send(&world).await;
            world.advance(Span::from_secs(1));
        }
        assert_eq!((receiver.take().len(), outbox(&world, outcome)), (1, already), "{outcome}");
        receiver.answers(200);
        db.execute_batch("DROP TRIGGER full").unwrap();
        send(&world).await;
        assert_eq!(outbox(&world, outcome), already + if status == 200 { 2 } else { 1 }, "{outcome}");
        assert_eq!(receiver.take().len(), 1, "only the other one: {outcome}");
        world.advance(Span::from_secs(5));
        send(&world).await;
        receiver.take();
    }
    assert_eq!((outbox(&world, "refused"), outbox(&world, "accepted")), (1, 4));
}

/// Messages of an earlier time: when they are sent next is a word of SQL.
fn fill(db: &rusqlite::Connection, count: u32, next_at: &str) {
    let rows = format!(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})
         INSERT INTO outbox (id, kind, account_id, body, at, attempts, next_at, last_error)
            SELECT 'old_{next_at}_' || n, 'balance.low', 'alice', '{{}}', 1, 10, {next_at}, 'answered 500' FROM n"
    );
    db.execute_batch(&rows).unwrap();
}

#[tokio::test]
async fn those_given_up_keep_no_place_from_new_ones_and_the_oldest_of_them_go() {
    let (world, receiver) = world().await;
    world.admin("POST", "accounts", &json!({"id": "alice"})).await.ok(201);
    let db = rusqlite::Connection::open(world.database()).unwrap();
    fill(&db, 10_000, "NULL");
    receiver.answers(410);
    let buy = async |n: u32| {
        let session = checkout(&format!("cs_{n}"), "cus_1", Some("alice"), "payment");
        world.deliver(&event(&format!("evt_{n}"), "checkout.session.completed", session)).await.ok(200);
    };
    buy(1).await;
    assert_eq!((outbox(&world, "written"), outbox(&world, "dropped")), (1, 0));
    send(&world).await;
    let told = receiver.take();
    let kept = |next: &str| {
        let count = format!("SELECT count(*), max(id = ?1), min(seq) FROM outbox WHERE next_at IS {next}");
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        db.query_row(&count, [&told[0].0], row).unwrap()
    };
    assert_eq!(kept("NULL"), (1_000, Some(true), Some(9_002)), "with the one that was just given up");
    // Those that wait are bounded: beyond that nobody is told, and it is counted.
    receiver.answers(500);
    fill(&db, 9_999, "9000000000000000000");
    buy(2).await;
    buy(3).await;
    assert_eq!((outbox(&world, "written"), outbox(&world, "dropped")), (2, 1));
}

#[tokio::test]
async fn operators_see_whom_a_message_concerned_that_waits_or_was_given_up() {
    let (world, receiver) = world().await;
    let mut ids = Vec::new();
    for (account, status) in [("alice", 410), ("bob", 410), ("carol", 500)] {
        receiver.answers(status);
        let customer = format!("cus_{account}");
        let session = checkout(&format!("cs_{account}"), &customer, Some(account), "payment");
        let bought = event(&format!("evt_{account}"), "checkout.session.completed", session);
        world.deliver(&bought).await.ok(200);
        send(&world).await;
        ids.push(receiver.take()[0].0.clone());
    }
    let list = async |query: &str| {
        let page = world.admin("GET", &format!("outbox{query}"), &Value::Null).await.ok(200);
        let ids = page["items"].as_array().unwrap().iter().map(|message| message["id"].clone());
        (ids.collect::<Vec<_>>(), page["next"].clone())
    };
    assert_eq!(list("").await.0, [&*ids[2], &ids[1], &ids[0]]);
    assert_eq!(list("?status=waiting").await.0, [&*ids[2]]);
    let (first, next) = list("?status=dead&limit=1").await;
    assert_eq!(first, [&*ids[1]]);
    let (second, next) = list(&format!("?status=dead&limit=1&cursor={next}")).await;
    assert_eq!(second, [&*ids[0]]);
    assert_eq!(list(&format!("?status=dead&limit=1&cursor={next}")).await, (Vec::new(), Value::Null));
    let dead = world.admin("GET", "outbox?status=dead", &Value::Null).await.ok(200)["items"][1].clone();
    assert_eq!(
        (&dead["account"], &dead["type"], &dead["status"], &dead["attempts"], &dead["next_at"]),
        (&json!("alice"), &json!("purchase.completed"), &json!("dead"), &json!(1), &Value::Null)
    );
    assert_eq!(dead["last_error"], "answered 410: nobody wants it any more");
    assert_eq!(dead["body"]["data"]["payment"], "pi_cs_alice");
    let waits = world.admin("GET", "outbox?status=waiting", &Value::Null).await.ok(200)["items"][0].clone();
    assert_eq!((&waits["account"], &waits["next_at"]), (&json!("carol"), &json!("2026-11-20T09:30:05Z")));
    let no = world.admin("GET", "outbox?status=lost", &Value::Null).await.ok(400);
    assert_eq!(no["detail"], "status is \"lost\"; use one of waiting, dead.");
}
