//! The scripted upstream does what a request says, over both protocols, and remembers it.

use serde_json::json;
use sha2::{Digest as _, Sha256};
use stage::client::{Call, Client, raw};
use stage::upstream::Upstream;

const CHAT: &str = "/v1/chat/completions";

fn post(upstream: &Upstream, path: &str, script: &str) -> Call {
    Call::post(format!("http://127.0.0.1:{}{path}", upstream.port())).header("x-script", script).body("{}")
}

#[tokio::test]
async fn a_request_gets_what_its_script_says_and_is_remembered() {
    let (upstream, client) = (Upstream::start(0).unwrap(), Client::default());
    let call = post(&upstream, CHAT, "tokens=9;header.x-a=b").header("x-twice", "1").header("x-twice", "2");
    let answer = client.send(call.body("abc")).await.unwrap();
    assert_eq!((answer.status, answer.header("x-a")), (200, "b"));
    assert_eq!(answer.json().pointer("/usage/completion_tokens"), Some(&json!(9)));
    let answer = client.send(post(&upstream, CHAT, "status=503").http2()).await.unwrap();
    assert_eq!((answer.status, answer.json()["error"]["type"].as_str()), (503, Some("server_error")));

    let url = format!("http://127.0.0.1:{}/_requests", upstream.port());
    let heard = client.send(Call::get(&url)).await.unwrap().json();
    assert_eq!((&heard["count"], &heard["items"][0]["method"]), (&json!(2), &json!("POST")));
    assert_eq!(heard["items"][0]["headers"]["x-twice"], "1, 2");
    let sha = Sha256::digest("abc").iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(heard["items"][0]["body_sha256"], sha);
    client.send(Call::new("DELETE".parse().unwrap(), &url)).await.unwrap();
    assert_eq!((upstream.count(), upstream.requests().len()), (0, 0));
}

#[tokio::test]
async fn failures_are_counted_by_path_and_key() {
    let (upstream, client) = (Upstream::start(0).unwrap(), Client::default());
    let mut statuses = Vec::new();
    for script in
        ["fail_first=1;key=a", "fail_first=1;key=b", "fail_first=1;key=a", "fail_every=2", "fail_every=2"]
    {
        statuses.push(client.send(post(&upstream, CHAT, script)).await.unwrap().status);
    }
    assert_eq!(statuses, [500, 500, 200, 200, 500]);
}

#[tokio::test]
async fn answers_can_break_in_every_way() {
    let (upstream, client) = (Upstream::start(0).unwrap(), Client::default());
    for script in ["reset", "truncate", "stream;reset_after=2"] {
        for call in [post(&upstream, CHAT, script), post(&upstream, CHAT, script).http2()] {
            assert!(client.send(call).await.is_err(), "{script}");
        }
    }
    let mut stream = client.open(post(&upstream, CHAT, "stream;reset_after=2")).await.unwrap();
    assert!(stream.next().await.unwrap().is_some() && stream.next().await.unwrap().is_some());
    assert!(stream.next().await.is_err());
    assert_eq!(client.send(post(&upstream, CHAT, "statsu=500")).await.unwrap().status, 400);
}

#[tokio::test]
async fn a_stream_comes_when_asked_for_by_script_or_body() {
    let (upstream, client) = (Upstream::start(0).unwrap(), Client::default());
    let by_script = client.send(post(&upstream, "/v1/messages", "stream")).await.unwrap();
    assert!(by_script.header("content-type").starts_with("text/event-stream"));
    assert!(by_script.text().ends_with("data: {\"type\":\"message_stop\"}\n\n"), "{}", by_script.text());
    let ask = |more: &str| post(&upstream, CHAT, "").body(format!("{{\"stream\":true{more}}}"));
    assert!(!client.send(ask("")).await.unwrap().text().contains("usage"));
    let asked = ask(",\"stream_options\":{\"include_usage\":true}");
    assert!(client.send(asked).await.unwrap().text().contains("completion_tokens"));
}

#[tokio::test]
async fn trailers_and_raw_bytes_can_be_sent() {
    let (upstream, client) = (Upstream::start(0).unwrap(), Client::default());
    let call = post(&upstream, CHAT, "").trailer("x-last", "1").http2();
    assert_eq!(client.send(call).await.unwrap().status, 200);
    let port = upstream.port();
    let answer = tokio::task::spawn_blocking(move || {
        raw(port, b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n")
    });
    assert!(answer.await.unwrap().unwrap().starts_with("HTTP/1.1 200"));
}
