//! AI requests through real Envoy: who passes, who is refused and how, and that exactly what was used is charged.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what does not hold in a test is the test's failure"
)]

use serde_json::{Value, json};
use stage::client::{Answer, Call};
use stage::harness::{Options, Stage, eventually};
use tokio::task::JoinSet;

fn chat(stage: &Stage, key: &str, script: &str) -> Call {
    stage.gateway.chat(key).header("x-script", script)
}

/// An endpoint that costs a credit and that no free window pays for.
fn embed(stage: &Stage, key: &str, script: &str) -> Call {
    let body = json!({ "model": "scripted", "input": "hello" });
    Call::post(stage.settings().gateway("/v1/embeddings")).bearer(key).header("x-script", script).json(&body)
}

/// An account with an API key and credits.
async fn customer(stage: &Stage, id: &str, credits: u32) -> String {
    stage.account(id, credits).await;
    let made = stage.admin_post("/admin/v1/api-keys", &json!({ "account": id })).await;
    made["key"].as_str().unwrap().to_owned()
}

async fn all_at_once(stage: &Stage, calls: impl IntoIterator<Item = Call>, at_once: usize) -> Vec<u16> {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(at_once));
    let mut running = JoinSet::new();
    for call in calls {
        let (client, gate) = (stage.gateway.client.clone(), gate.clone());
        running.spawn(async move {
            let _turn = gate.acquire_owned().await.unwrap();
            client.send(call).await.map_or(0, |answer| answer.status)
        });
    }
    running.join_all().await
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|s| **s == status).count()
}

async fn settled(stage: &Stage, account: &str) {
    eventually("every hold is reported", async || {
        let books = stage.admin_get(&format!("/admin/v1/accounts/{account}")).await;
        books["held_micro"] == 0
    })
    .await;
}

/// The shape that outsiders rely on.
fn refusal(answer: &Answer, status: u16, reason: &str) -> Value {
    let body = answer.json();
    assert_eq!((answer.status, body["reason"].as_str()), (status, Some(reason)), "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json");
    for field in [
        "type",
        "title",
        "status",
        "detail",
        "balance",
        "balance_micro",
        "required_micro",
        "resets_at",
        "upgrade_url",
        "buy_url",
    ] {
        assert!(body.get(field).is_some(), "no {field} in {body}");
    }
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        _ => "insufficient_quota",
    };
    assert_eq!((&body["error"]["type"], &body["error"]["code"]), (&json!(kind), &json!(reason)));
    assert!(body["error"]["message"].as_str().is_some_and(|m| !m.is_empty()));
    assert_eq!(body["request_id"].as_str(), Some(answer.header("x-tollgate-request-id")));
    assert!(!answer.header("x-tollgate-request-id").is_empty());
    if status != 503 {
        assert_eq!(answer.header("x-should-retry"), "false", "{reason}");
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_what_is_paid_for_reaches_the_upstream() {
    let stage = Stage::start(Options::default());
    let key = customer(&stage, "ten", 10).await;
    let calls = (0..200).map(|n| {
        let call = embed(&stage, &key, "delay_ms=5");
        if n % 2 == 0 { call } else { call.http2() }
    });
    let statuses = all_at_once(&stage, calls.collect::<Vec<_>>(), 50).await;
    assert_eq!((count(&statuses, 200), count(&statuses, 402)), (10, 190), "{statuses:?}");
    assert_eq!(stage.upstream.count(), 10);
    settled(&stage, "ten").await;
    eventually("ten were charged", async || stage.balance("ten").await == "0").await;

    let key = customer(&stage, "half", 10).await;
    stage.upstream.clear();
    let calls: Vec<_> = (0..200).map(|_| embed(&stage, &key, "fail_every=2")).collect();
    let statuses = all_at_once(&stage, calls, 50).await;
    assert_eq!(
        count(&statuses, 200),
        10,
        "a failure charges nothing, and what it held is spent again: {statuses:?}"
    );
    assert_eq!(count(&statuses, 200) + count(&statuses, 402) + count(&statuses, 500), 200);
    settled(&stage, "half").await;
    let books = stage.admin_get("/admin/v1/accounts/half").await;
    assert_eq!((&books["balance"], &books["debt_micro"]), (&json!("0"), &json!(0)), "{books}");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_customer_has_three_a_day_and_then_is_told_what_to_do() {
    let stage = Stage::start(Options::default());
    let token = stage.token("alice");
    for n in 0..3 {
        let answer = stage.gateway.send(chat(&stage, &token, "")).await;
        assert_eq!(answer.status, 200, "request {n}: {}", answer.text());
        assert!(answer.json()["usage"].is_object(), "the answer is the upstream's own");
        let left = format!("\"daily\";r={};", 2 - n);
        assert!(answer.header("ratelimit").starts_with(&left), "request {n}: {:?}", answer.headers);
    }
    let fourth = stage.gateway.send(chat(&stage, &token, "")).await;
    let body = refusal(&fourth, 402, "daily_limit_reached");
    assert!(body["resets_at"].as_str().is_some_and(|at| at.ends_with("T00:00:00Z")), "{body}");
    assert_eq!(stage.upstream.count(), 3);

    let bought = stage::stripe::package_bought("evt_alice", "alice", "starter", 500, "usd");
    assert_eq!(stage.gateway.send(stage.gateway.delivery("/webhooks/stripe", &bought)).await.status, 200);
    let answer = stage.gateway.send(chat(&stage, &token, "")).await;
    assert_eq!((answer.status, answer.header("x-tollgate-charged")), (200, "1"), "{:?}", answer.headers);
    eventually("it cost a credit", async || stage.balance("alice").await == "99").await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_reason_status_and_shape() {
    let stage = Stage::start(Options::default());
    let url = |path: &str| stage.settings().gateway(path);
    let key = customer(&stage, "bob", 1).await;
    let send = async |call: Call| stage.gateway.send(call).await;

    refusal(&send(Call::post(url("/v1/embeddings")).json(&json!({}))).await, 401, "unauthenticated");
    refusal(&send(embed(&stage, "sk-not-one-of-ours", "")).await, 401, "unauthenticated");
    refusal(&send(embed(&stage, "eyJhbGciOiJub25lIn0.e30.", "")).await, 401, "unauthenticated");
    let unknown = format!("tgk_{}", "A".repeat(32));
    refusal(&send(embed(&stage, &unknown, "")).await, 401, "unknown_customer");
    refusal(&send(Call::get(url("/v1/models")).bearer(&unknown)).await, 401, "unknown_customer");
    let image = Call::post(url("/v1/images/generations")).bearer(&key).json(&json!({ "prompt": "a cat" }));
    refusal(&send(image).await, 403, "tier_not_allowed");

    assert_eq!(send(embed(&stage, &key, "")).await.status, 200);
    let body = refusal(&send(embed(&stage, &key, "")).await, 402, "insufficient_credits");
    assert_eq!((&body["balance"], &body["required_micro"]), (&json!("0"), &json!(1_000_000)));
    assert_eq!(send(Call::get(url("/v1/models")).bearer(&key)).await.status, 200, "costs nothing");

    assert_eq!(send(Call::get(url("/nowhere")).bearer(&key)).await.status, 404);
    let other = send(Call::get(url("/v1/chat/completions")).bearer(&key)).await;
    assert_eq!((other.status, other.header("allow")), (405, "POST"));
    assert_eq!(stage.upstream.count(), 2, "one embedding, one list of models");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_no_rule_prices_is_refused() {
    let stage = Stage::start(Options::default());
    let key = customer(&stage, "carol", 10).await;
    for path in ["/v1/forgotten", "/v1/forgotten/models", "/v1/forgotten?path=/v1/models"] {
        let call = Call::post(stage.settings().gateway(path)).bearer(&key).json(&json!({}));
        refusal(&stage.gateway.send(call).await, 403, "endpoint_unknown");
    }
    for path in ["/v1//embeddings", "/v1/x/../embeddings"] {
        let call = Call::post(stage.settings().gateway(path)).bearer(&key).json(&json!({}));
        assert_eq!(stage.gateway.send(call).await.status, 200, "{path} is normalised, and priced");
    }
    let call = Call::post(stage.settings().gateway("/v1%2Fembeddings")).bearer(&key).json(&json!({}));
    assert_eq!(stage.gateway.send(call).await.status, 400, "an escaped slash is rejected");
    eventually("two were charged", async || stage.balance("carol").await == "8").await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_is_proved_and_never_taken_from_a_header() {
    // A key that was used lately goes on for as long as its lease does, and no longer.
    let stage = Stage::start(Options::default().with("LEASE_TTL_MS", 1000));
    let key = customer(&stage, "dave", 20).await;
    let url = stage.settings().gateway("/v1/embeddings");
    let body = json!({ "input": "x" });
    for header in ["x-api-key", "x-goog-api-key"] {
        let call = Call::post(&url).header(header, &key).header("x-tollgate-account", "mallory").json(&body);
        let answer = stage.gateway.send(call.header("x-tollgate-tier", "pro")).await;
        assert_eq!(answer.status, 200, "{header}: {}", answer.text());
    }
    let seen = stage.upstream.requests();
    for item in &seen {
        assert_eq!(item.headers.get("x-tollgate-account").map(String::as_str), Some("dave"));
        assert_eq!(item.headers.get("x-tollgate-tier").map(String::as_str), Some("free"));
        assert_eq!(item.headers.get("x-tollgate-hold").map(String::as_str), Some("1"));
        for secret in ["authorization", "x-api-key", "x-goog-api-key"] {
            assert!(!item.headers.contains_key(secret), "{secret} went upstream: {item:?}");
        }
    }
    let twice = Call::post(&url).bearer(&key).bearer(&key).json(&body);
    refusal(&stage.gateway.send(twice).await, 401, "unauthenticated");
    let odd = Call::post(&url).header("authorization", [b'B', 0xa1, 0xff]).json(&body);
    refusal(&stage.gateway.send(odd).await, 401, "unauthenticated");
    let forged = stage.token("dave").replace('.', ".x");
    refusal(&stage.gateway.send(embed(&stage, &forged, "")).await, 401, "unauthenticated");

    let made = stage.admin_post("/admin/v1/api-keys", &json!({ "account": "dave" })).await;
    let (id, second) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!(stage.gateway.send(embed(&stage, second, "")).await.status, 200);
    let path = stage.settings().billing(&format!("/admin/v1/api-keys/{id}"));
    let revoke = Call::new("DELETE".parse().unwrap(), path).bearer(&stage.settings().admin_token);
    assert_eq!(stage.gateway.send(revoke.header("idempotency-key", "revoke")).await.status, 204);
    eventually("the key is unknown", async || {
        stage.gateway.send(embed(&stage, second, "")).await.status == 401
    })
    .await;
    refusal(&stage.gateway.send(embed(&stage, second, "")).await, 401, "unknown_customer");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_see_their_own_data_and_nobody_elses() {
    let stage = Stage::start(Options::default());
    let key = customer(&stage, "erin", 7).await;
    stage.account("frank", 3).await;
    let get = |path: &str| Call::get(stage.settings().gateway(path));
    let mine = stage.gateway.send(get("/billing/balance").bearer(&key)).await;
    assert_eq!((mine.status, &mine.json()["balance"]), (200, &json!("7")), "{}", mine.text());
    let spoofed = get("/billing/balance").bearer(&key).header("x-tollgate-subject", "jwt_sub:ZnJhbms");
    assert_eq!(stage.gateway.send(spoofed).await.json()["balance"], "7");
    refusal(&stage.gateway.send(get("/billing/balance")).await, 401, "unauthenticated");
    for path in ["tiers", "packages", "subscription", "history", "usage"] {
        let answer = stage.gateway.send(get(&format!("/billing/{path}")).bearer(&key)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let direct =
        Call::get(stage.settings().billing("/v1/balance")).header("x-tollgate-subject", "jwt_sub:ZXJpbg");
    assert_eq!(stage.gateway.send(direct).await.status, 401, "nobody but a gateway may vouch");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_may_ask_first_and_can_read_a_refusal() {
    let stage = Stage::start(Options::default());
    let url = stage.settings().gateway("/v1/chat/completions");
    let preflight = Call::new("OPTIONS".parse().unwrap(), &url)
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type,idempotency-key");
    let answer = stage.gateway.send(preflight).await;
    assert!((200..300).contains(&answer.status), "{} {}", answer.status, answer.text());
    assert!(!answer.header("access-control-allow-origin").is_empty());
    let allowed: Vec<_> = answer.header("access-control-allow-headers").split(", ").collect();
    assert!(allowed.contains(&"idempotency-key") && allowed.contains(&"authorization"), "{allowed:?}");
    let refused = Call::post(&url).header("origin", "https://app.example.com").json(&json!({}));
    let answer = stage.gateway.send(refused).await;
    refusal(&answer, 401, "unauthenticated");
    assert!(!answer.header("access-control-allow-origin").is_empty(), "{:?}", answer.headers);
    assert_eq!(stage.upstream.count(), 0);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_upstream_did_decides_what_is_charged() {
    let stage = Stage::start(Options::default());
    let key = customer(&stage, "gina", 20).await;
    for (script, charged) in [
        ("", 1),
        ("status=429", 0),
        ("status=503", 0),
        ("reset", 0),
        ("stream", 1),
        ("truncate", 1),
        ("header.x-tollgate-charge=none", 0),
    ] {
        let before: u32 = stage.balance("gina").await.parse().unwrap();
        // A cut answer is an error for the client; what counts is what was delivered.
        let _ = stage.gateway.client.send(embed(&stage, &key, script)).await;
        let expected = (before - charged).to_string();
        eventually(script, async || stage.balance("gina").await == expected).await;
        settled(&stage, "gina").await;
        // The next report carries the totals of this one too: had it charged more, it would show.
    }
    let before = stage.upstream.count();
    let mut stream =
        stage.gateway.client.open(chat(&stage, &key, "stream;chunk_delay_ms=300")).await.unwrap();
    assert_eq!(stream.status, 200);
    stream.next().await.unwrap();
    drop(stream);
    settled(&stage, "gina").await;
    assert_eq!(stage.upstream.count(), before + 1);
    let journal = stage.admin_get("/admin/v1/transactions?account=gina").await;
    assert!(journal["items"].as_array().is_some_and(|items| !items.is_empty()), "{journal}");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_billing_nothing_passes_and_afterwards_everything_is_as_before() {
    let mut stage = Stage::start(Options::default());
    let key = customer(&stage, "hank", 10).await;
    assert_eq!(stage.gateway.send(embed(&stage, &key, "")).await.status, 200);
    stage.billing.take().unwrap().kill();
    let answers = all_at_once(&stage, (0..20).map(|_| embed(&stage, &key, "")).collect::<Vec<_>>(), 20).await;
    assert_eq!(count(&answers, 503), 20, "{answers:?}");
    let answer = stage.gateway.send(embed(&stage, &key, "")).await;
    let body = answer.json();
    assert_eq!(body["reason"], "service_unavailable");
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(stage.upstream.count(), 1);
    stage.restart_billing();
    eventually("it passes again", async || stage.gateway.send(embed(&stage, &key, "")).await.status == 200)
        .await;
    eventually("two were charged", async || stage.balance("hank").await == "8").await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_while_it_waits_costs_nothing() {
    let stage = Stage::start(Options::default());
    let key = customer(&stage, "ivy", 5).await;
    let mut all = JoinSet::new();
    for _ in 0..30 {
        let (client, call) = (stage.gateway.client.clone(), embed(&stage, &key, "delay_ms=300"));
        all.spawn(async move {
            let _ = tokio::time::timeout(std::time::Duration::from_millis(3), client.send(call)).await;
        });
    }
    all.join_all().await;
    // Whoever left before the upstream answered is not charged, wherever the request had come to.
    // A hold may be asked for only now, where a worker comes late to what they sent: what is back at one look need not be at the
    // next. So one that stays follows them, and it is all that may be missing in the end.
    eventually("one that stays passes", async || {
        stage.gateway.send(embed(&stage, &key, "")).await.status == 200
    })
    .await;
    eventually("one is charged", async || stage.balance("ivy").await == "4").await;
    settled(&stage, "ivy").await;
    eventually("only one is charged", async || stage.balance("ivy").await == "4").await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_streamed_bodies_pass_whole_or_not_at_all() {
    let stage = Stage::start(Options::default());
    let key = customer(&stage, "jack", 20).await;
    for size in [0, 1, 100_000, 1_000_000, 3_000_000] {
        for http2 in [false, true] {
            let call = embed(&stage, &key, "").body("x".repeat(size));
            let answer = stage.gateway.send(if http2 { call.http2() } else { call }).await;
            assert_eq!(answer.status, 200, "{size} {http2}: {}", answer.text());
        }
    }
    let trailers = embed(&stage, &key, "").trailer("x-t", "1").http2();
    assert_eq!(stage.gateway.send(trailers).await.status, 200);
    eventually("eleven were charged", async || stage.balance("jack").await == "9").await;
    let huge = |size| embed(&stage, &key, "").body("x".repeat(size));
    // The second does not say how long it is, and its customer is warm.
    for huge in [huge(9_000_000), huge(5_000_000).trailer("x-t", "1").http2()] {
        let before = stage.upstream.count();
        if let Ok(answer) = stage.gateway.client.send(huge).await {
            assert_eq!(answer.status, 413);
        }
        assert_eq!(stage.upstream.count(), before);
    }
    settled(&stage, "jack").await;
    assert_eq!(stage.balance("jack").await, "9");
    stage.finish();
}
