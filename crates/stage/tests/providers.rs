//! The scripted upstream plays providers as they are: whatever it puts on the wire, it tells afterwards what it used and how far it got.
#![allow(clippy::unwrap_used, reason = "what does not hold in a test is the test's failure")]

use flate2::read::GzDecoder;
use http_body_util::BodyExt as _;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use stage::client::{Call, Client};
use stage::harness::eventually;
use stage::upstream::{Said, Upstream};
use std::io::Read as _;
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";
const STREAMS: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;

fn post(upstream: &Upstream, path: &str, script: &str, body: &'static str) -> Call {
    Call::post(format!("http://127.0.0.1:{}{path}", upstream.port())).header("x-script", script).body(body)
}

fn last(upstream: &Upstream) -> Said {
    upstream.requests().last().unwrap().said.clone().unwrap()
}

/// How far the last answer got, once nothing more of it is taken.
async fn at_rest(upstream: &Upstream) -> Said {
    eventually("the answer is at rest", async || {
        let before = last(upstream);
        tokio::time::sleep(Duration::from_millis(150)).await;
        last(upstream) == before
    })
    .await;
    last(upstream)
}

#[tokio::test]
async fn what_was_used_can_be_read_afterwards_whether_or_not_the_answer_said_so() {
    let (upstream, client) = (Upstream::start(0).unwrap(), Client::default());
    let script = "input=100;cached=40;tokens=30;reasoning=10;model=answered;no_usage";
    let body = r#"{"model":"asked","n":2,"max_tokens":20}"#;
    let answer = client.send(post(&upstream, "/v1/metered/chat/completions", script, body)).await.unwrap();
    assert_eq!(
        (answer.json()["choices"].as_array().map(Vec::len), answer.json().get("usage")),
        (Some(2), None)
    );
    let url = format!("http://127.0.0.1:{}/_requests", upstream.port());
    let item = client.send(Call::get(url)).await.unwrap().json()["items"][0].take();
    assert_eq!(item["body"], body);
    let expected = json!({
        "status": 200, "model": "answered", "input": 100, "cached": 40, "cache_written": 0, "output": 40,
        "reasoning": 10, "images": 0, "words": 6, "delivered_words": 6,
        "delivered_bytes": answer.body.len(), "told": false, "complete": true,
    });
    assert_eq!(item["said"], expected);
    client.send(post(&upstream, CHAT, "status=503", "")).await.unwrap();
    assert_eq!((last(&upstream).status, last(&upstream).output), (503, 0));
    client.send(post(&upstream, CHAT, "reset", "")).await.unwrap_err();
    assert_eq!(upstream.requests().last().unwrap().said, None);
    client.send(post(&upstream, "/v1/messages", "stream;restated=900;cached=20", "")).await.unwrap();
    assert_eq!((last(&upstream).input, last(&upstream).told), (920, true));
}

#[tokio::test]
async fn what_a_client_did_not_take_is_not_delivered() {
    let (upstream, client) = (Upstream::start(0).unwrap(), Client::default());
    for http2 in [false, true] {
        let call = post(&upstream, CHAT, "chunk_delay_ms=30;words=50", STREAMS);
        let mut stream = client.open(if http2 { call.http2() } else { call }).await.unwrap();
        // The beginning, and two pieces.
        for _ in 0..3 {
            assert!(stream.next().await.unwrap().is_some());
        }
        drop(stream);
        let said = at_rest(&upstream).await;
        assert!((2..40).contains(&said.delivered_words) && !said.complete && !said.told, "{said:?}");
    }
    client.send(post(&upstream, CHAT, "reset_after=3", STREAMS)).await.unwrap_err();
    assert_eq!((last(&upstream).delivered_words, last(&upstream).complete), (2, false));
    client.send(post(&upstream, CHAT, "abort_after_usage", STREAMS)).await.unwrap_err();
    let said = last(&upstream);
    assert_eq!((said.delivered_words, said.told, said.complete), (3, true, false));
}

#[tokio::test]
async fn a_long_stream_waits_for_whoever_reads_it() {
    let (upstream, client) = (Upstream::start(0).unwrap(), Client::default());
    let mut stream = client.open(post(&upstream, CHAT, "bytes=1000000000000", STREAMS)).await.unwrap();
    assert!(stream.next().await.unwrap().is_some());
    // What sockets hold on loopback, and no more.
    assert!(at_rest(&upstream).await.delivered_bytes < 64_000_000);
    drop(stream);
    let answer = client.send(post(&upstream, CHAT, "bytes=3000000", STREAMS)).await.unwrap();
    assert!(answer.body.len() > 3_000_000 && last(&upstream).complete);
}

#[tokio::test]
async fn bodies_are_put_on_the_wire_as_the_script_says() {
    let (upstream, client) = (Upstream::start(0).unwrap(), Client::default());
    let send = async |script: &str| client.send(post(&upstream, CHAT, script, STREAMS)).await.unwrap();
    let plain = send("").await.text();
    // By length: answers to the same question differ in the times at which they were given.
    let lengths = |text: &str| text.lines().map(str::len).collect::<Vec<_>>();
    assert_eq!(lengths(&plain), lengths(&format!("{}data: [DONE]\n\n", send("no_done").await.text())));
    let crlf = send("crlf").await.text();
    assert!(crlf.contains("}\r\n\r\ndata: ") && !crlf.replace("\r\n", "").contains('\n'));
    let mut stream = client.open(post(&upstream, CHAT, "frame=3;chunk_delay_ms=1", STREAMS)).await.unwrap();
    let (mut whole, mut cuts) = (Vec::new(), 0);
    while let Some(frame) = stream.next().await.unwrap() {
        cuts += usize::from(std::str::from_utf8(&frame).is_err());
        whole.extend_from_slice(&frame);
    }
    assert!(String::from_utf8(whole).unwrap().contains('🦀') && cuts > 0);
    assert_eq!(last(&upstream).delivered_words, 3);
    let packed = send("gzip").await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    let mut text = String::new();
    GzDecoder::new(&packed.body[..]).read_to_string(&mut text).unwrap();
    assert_eq!(lengths(&text), lengths(&plain));
    let whole = client.send(post(&upstream, CHAT, "gzip", "{}")).await.unwrap();
    assert_eq!(whole.header("content-length"), whole.body.len().to_string());
}

#[tokio::test]
async fn a_body_can_end_with_trailers() {
    let (upstream, mut pool) = (Upstream::start(0).unwrap(), Pool::builder(TokioExecutor::new()));
    let pool = pool.http2_only(true).build_http::<http_body_util::Full<Bytes>>();
    for body in [STREAMS, "{}"] {
        let request = hyper::Request::post(format!("http://127.0.0.1:{}{CHAT}", upstream.port()));
        let request = request.header("x-script", "trailers").body(Bytes::from(body).into()).unwrap();
        let body = pool.request(request).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-scripted"], "done");
        eventually("the end is noted", async || last(&upstream).complete).await;
    }
}

#[tokio::test]
async fn usage_can_be_such_as_no_provider_should_send() {
    let (upstream, client) = (Upstream::start(0).unwrap(), Client::default());
    let answer = client.send(post(&upstream, CHAT, "odd_usage", "{}")).await.unwrap().json();
    let usage: &Value = &answer["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!("5"), &json!(-7)));
}
