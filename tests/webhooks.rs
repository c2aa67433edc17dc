//! Stripe's events through real Envoy: verified over their raw bytes, let through once, never lost.
//!
//! Signed by Stripe's own SDK where it matters who signs. What the pure crates show on their own is not repeated here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what does not hold in a test is the test's failure"
)]

use serde_json::{Value, json};
use stage::client::{Answer, Call, raw};
use stage::harness::{Options, Stage, eventually};
use stage::stripe::{delivery_at, event, now};
use std::io::Write as _;
use std::process::{Command, Stdio};
use tokio::task::JoinSet;
use units::Span;

const SECRET: &str = "whsec_a_secret_of_this_test_alone";
const APP: &str = "/webhooks/app";
const STRIPE: &str = "/webhooks/stripe";

fn stage() -> Stage {
    Stage::start(Options::default().with("STRIPE_WEBHOOK_SECRET", SECRET))
}

fn note(id: &str) -> Value {
    event(id, "customer.updated", &json!({ "id": "cus_nobody", "object": "customer" }))
}

/// The header that Stripe's Python SDK makes; the SDK verifies it too before we do.
fn signed_by_stripes_sdk(secret: &str, at: i64, body: &str) -> String {
    let python = stage::tools::root().unwrap().join(".tools/venv/bin/python");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/sign.py");
    let mut child = Command::new(python)
        .args([script, secret, &at.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 of .tools/venv starts");
    child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success());
    String::from_utf8(done.stdout).unwrap()
}

fn forwarded(stage: &Stage, path: &str) -> usize {
    stage.upstream.requests().iter().filter(|item| item.path == path).count()
}

/// A worker that trapped or hangs would not serve this.
async fn still_alive(stage: &Stage) {
    for n in 0..4 {
        let good = stage.gateway.delivery(APP, &note(&format!("evt_alive_{}_{n}", now().micros())));
        let call = if n % 2 == 0 { good } else { good.http2() };
        let answer = stage.gateway.send(call).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_signed_by_stripes_sdk_reaches_the_handler_once_and_unchanged() {
    let stage = stage();
    let body = serde_json::to_string_pretty(&note("evt_sdk")).unwrap().replace("cus_nobody", "cus_é€");
    let at = now().secs();
    let header = signed_by_stripes_sdk(SECRET, at, &body);
    let call = Call::post(stage.settings().gateway(APP))
        .header("content-type", "application/json; charset=utf-8")
        .header("stripe-signature", &header)
        .header("x-tollgate-event-id", "evt_forged")
        .header("x-tollgate-verified", "yes")
        .body(body.clone());
    let first = stage.gateway.send(call.clone()).await;
    assert_eq!(first.status, 200, "{}", first.text());
    let again = stage.gateway.send(call.clone()).await;
    assert_eq!((again.status, again.header("x-tollgate-duplicate")), (200, "true"));
    // A retry of Stripe's has a timestamp and signature of its own.
    let retry = signed_by_stripes_sdk(SECRET, at + 1, &body);
    let call = Call::post(stage.settings().gateway(APP)).header("stripe-signature", retry).body(body.clone());
    assert_eq!(stage.gateway.send(call).await.status, 200);

    let seen = stage.upstream.requests();
    assert_eq!(seen.len(), 1, "forwarded once: {seen:?}");
    let item = &seen[0];
    assert_eq!(item.body_sha256, sha256(&body), "the body is not touched");
    let header = |name: &str| item.headers.get(name).map(String::as_str);
    assert_eq!(header("x-tollgate-event-id"), Some("evt_sdk"));
    assert_eq!(header("x-tollgate-event-type"), Some("customer.updated"));
    assert_eq!(header("x-tollgate-event-livemode"), Some("false"));
    assert_eq!(header("x-tollgate-verified"), None, "a client's own x-tollgate-* never passes");
    stage.finish();
}

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_stripes_is_400_and_never_forwarded() {
    let stage = stage();
    let at = now();
    let url = stage.settings().gateway(APP);
    let body = note("evt_forged").to_string();
    let good = signed_by_stripes_sdk(SECRET, at.secs(), &body);
    let v1 = good.split_once("v1=").unwrap().1.to_owned();
    let t = at.secs();
    let with = |header: String| Call::post(&url).header("stripe-signature", header).body(body.clone());
    let signed = |secret: &str, at| delivery_at(&url, secret, body.clone(), at).unwrap();
    let empty_secret = {
        use hmac::{KeyInit as _, Mac as _};
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"").unwrap();
        mac.update(format!("{t}.{body}").as_bytes());
        let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
        format!("t={t},v1={hex}")
    };
    let calls = [
        ("tampered", with(good.clone()).body(body.replace("cus_nobody", "cus_somebody"))),
        ("another secret", signed("whsec_not_the_secret_of_this_test", at)),
        ("stale", signed(SECRET, at.minus(Span::from_secs(302)))),
        ("future", signed(SECRET, at.plus(Span::from_secs(330)))),
        ("empty secret", with(empty_secret)),
        ("v0 only", with(format!("t={t},v0={v1}"))),
        ("two t", with(format!("t={t},t={t},v1={v1}"))),
        ("upper case", with(format!("t={t},v1={}", v1.to_uppercase()))),
        ("no header", Call::post(&url).body(body.clone())),
        ("two headers", with(good.clone()).header("stripe-signature", &good)),
        ("not UTF-8", with(String::new()).header("stripe-signature", [0xa1, 0xb1])),
        ("empty body", with(good.clone()).body("")),
        ("signed, but no event", delivery_at(&url, SECRET, "[]".into(), at).unwrap()),
        (
            "signed, id twice",
            delivery_at(&url, SECRET, body.replacen('{', r#"{"id":"evt_2","#, 1), at).unwrap(),
        ),
    ];
    for (what, call) in calls {
        for call in [call.clone(), call.http2()] {
            let answer = stage.gateway.send(call).await;
            assert_eq!(answer.status, 400, "{what}: {}", answer.text());
            for leak in ["signature", "timestamp", "secret", "stale"] {
                assert!(!answer.text().to_lowercase().contains(leak), "{what} tells why: {}", answer.text());
            }
        }
    }
    let trailers = with(good.replace(&v1, &"0".repeat(64))).trailer("x-trailer", "1").http2();
    assert_eq!(stage.gateway.send(trailers).await.status, 400, "trailers do not go round the check");
    assert_eq!(stage.upstream.count(), 0);
    still_alive(&stage).await;
    let honest = with(good).trailer("x-trailer", "1").http2();
    assert_eq!(stage.gateway.send(honest).await.status, 200, "an honest one with trailers passes");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_post_of_a_bounded_body_is_looked_at() {
    let stage = stage();
    let url = stage.settings().gateway(APP);
    for call in [Call::get(&url), Call::get(&url).http2()] {
        let answer = stage.gateway.send(call).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
    }
    let huge = format!(r#"{{"id":"evt_huge","object":"event","type":"a","pad":"{}"}}"#, "x".repeat(2 << 20));
    let call = delivery_at(&url, SECRET, huge, now()).unwrap();
    for (what, call) in [("HTTP/1.1", call.clone()), ("HTTP/2", call.clone().http2())] {
        // While a client still uploads, HTTP/2 may show it a reset stream instead of the answer.
        match stage.gateway.client.send(call).await {
            Ok(answer) => assert_eq!(answer.status, 413, "{what}: {}", answer.text()),
            Err(reset) => assert!(what == "HTTP/2", "{what}: {reset}"),
        }
        still_alive(&stage).await;
    }
    let chunked = "POST /webhooks/app HTTP/1.1\r\nhost: a\r\nconnection: close\r\nstripe-signature: t=1,v1=0\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut bytes = chunked.as_bytes().to_vec();
    for _ in 0..40 {
        bytes.extend_from_slice(b"10000\r\n");
        bytes.extend_from_slice(&vec![b'x'; 0x10000]);
        bytes.extend_from_slice(b"\r\n");
    }
    if let Ok(answer) = raw(stage.settings().gateway_port, &bytes) {
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    }
    still_alive(&stage).await;
    assert!(stage.upstream.requests().iter().all(|item| item.path == APP && item.method == "POST"));
    assert_eq!(stage.upstream.count(), 12, "only the honest ones");
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_copies_at_once_reach_the_handler_once() {
    let stage = stage();
    for round in 0..3 {
        let id = format!("evt_fifty_{round}");
        let statuses = copies(&stage, APP, &note(&id), 50, "delay_ms=40").await;
        assert!(statuses.iter().all(|status| matches!(status, 200 | 409)), "{statuses:?}");
        assert_eq!(forwarded(&stage, APP), round + 1, "{statuses:?}");
        assert_eq!(copies(&stage, APP, &note(&id), 1, "").await, [200], "and afterwards it is known");
    }
    // Where the billing service is the handler, its own books say how often it was handled.
    let bought = stage::stripe::package_bought("evt_fifty_bought", "fifty", "starter", 500, "usd");
    let statuses = copies(&stage, STRIPE, &bought, 50, "").await;
    assert!(statuses.iter().all(|status| matches!(status, 200 | 409)), "{statuses:?}");
    assert!(statuses.contains(&200), "{statuses:?}");
    assert_eq!(copies(&stage, STRIPE, &bought, 1, "").await, [200]);
    assert_eq!(stage.balance("fifty").await, "100");
    stage.finish();
}

async fn copies(stage: &Stage, path: &str, event: &Value, times: usize, script: &str) -> Vec<u16> {
    let mut all = JoinSet::new();
    for n in 0..times {
        let client = stage.gateway.client.clone();
        let call = stage.gateway.delivery(path, event).header("x-script", script);
        let call = if n % 2 == 0 { call } else { call.http2() };
        all.spawn(async move { client.send(call).await.map(|answer| answer.status) });
    }
    all.join_all().await.into_iter().map(|status| status.unwrap_or(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_handler_failed_goes_through_on_the_retry() {
    let stage = stage();
    for (n, script) in ["status=500", "status=404", "reset", "status=301"].into_iter().enumerate() {
        let event = note(&format!("evt_retry_{n}"));
        let send = |script: &str| stage.gateway.delivery(APP, &event).header("x-script", script);
        stage.upstream.clear();
        let failed = stage.gateway.send(send(script)).await;
        assert!(!(200..300).contains(&failed.status), "{script}: {}", failed.status);
        // Stripe waits for minutes; we need not. Until the release has arrived the answer is 409, and never a 200.
        let retry = retried(&stage, || send("")).await;
        assert_eq!(retry.status, 200, "{script}");
        assert_eq!(retry.header("x-tollgate-duplicate"), "", "{script}: the retry was forwarded");
        assert_eq!(forwarded(&stage, APP), 2, "{script}");
        let again = stage.gateway.send(send("")).await;
        assert_eq!((again.status, again.header("x-tollgate-duplicate")), (200, "true"), "{script}");
    }
    stage.finish();
}

async fn retried(stage: &Stage, call: impl Fn() -> Call) -> Answer {
    for _ in 0..200 {
        let answer = stage.gateway.send(call()).await;
        if answer.status != 409 {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("still 409 after four seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_share_one_claim_and_two_endpoints_do_not() {
    let stage = stage();
    let other = stage.another_gateway();
    let event = note("evt_two");
    let (one, two) = tokio::join!(
        stage.gateway.send(stage.gateway.delivery(APP, &event).header("x-script", "delay_ms=100")),
        other.send(other.delivery(APP, &event).header("x-script", "delay_ms=100")),
    );
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    eventually("the other gateway learns that it is done", async || {
        other.send(other.delivery(APP, &event)).await.status == 200
    })
    .await;
    assert_eq!(forwarded(&stage, APP), 1);
    assert_eq!(stage.gateway.send(stage.gateway.delivery(STRIPE, &event)).await.status, 200);
    let known = stage.admin_get("/admin/v1/events").await;
    assert!(known.to_string().contains("evt_two"), "billing got its own copy: {known}");
    drop(other);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_cannot_be_asked_for_is_503_and_nothing_is_lost() {
    let mut stage = stage();
    stage.billing.take().unwrap().kill();
    let event = note("evt_no_billing");
    let answer = stage.gateway.send(stage.gateway.delivery(APP, &event)).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(stage.upstream.count(), 0);
    stage.restart_billing();
    let retry = retried(&stage, || stage.gateway.delivery(APP, &event)).await;
    assert_eq!((retry.status, forwarded(&stage, APP)), (200, 1));
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_without_a_gap_and_a_mode_is_kept_out() {
    let previous = "whsec_the_one_before_this_one_here";
    let options = Options::default()
        .with("STRIPE_WEBHOOK_SECRET", SECRET)
        .with("STRIPE_WEBHOOK_SECRET_PREVIOUS", previous)
        .with("LIVEMODE", "test");
    let stage = Stage::start(options);
    for (n, secret) in [SECRET, previous].into_iter().enumerate() {
        let body = note(&format!("evt_rotated_{n}")).to_string();
        let call = delivery_at(stage.settings().gateway(APP), secret, body, now()).unwrap();
        assert_eq!(stage.gateway.send(call).await.status, 200);
    }
    assert_eq!(stage.upstream.count(), 2);
    let mut live = note("evt_live");
    live["livemode"] = json!(true);
    let answer = stage.gateway.send(stage.gateway.delivery(APP, &live)).await;
    assert_eq!(
        (answer.status, stage.upstream.count()),
        (200, 2),
        "of the other mode: 200, and not forwarded"
    );
    stage.finish();
}
