//! Clients that vanish, in each phase of a request and of an event: nothing is held for them, nothing is lost by them.

use crate::{APP, customer, embed, has, note, one_worker, unharmed};
use stage::client::Client;
use stage::harness::{Stage, eventually};
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// Says so much, waits a moment, and is gone.
fn vanish(port: u16, bytes: &[u8], after: Duration) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.write_all(bytes).unwrap();
    std::thread::sleep(after);
    let _ = socket.shutdown(Shutdown::Both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_client_vanished_costs_what_was_delivered() {
    let stage = Stage::start(one_worker());
    let mut left = 200;
    let key = customer(&stage, "alice", left).await;
    let port = stage.settings().gateway_port;
    let request = |script: &str| {
        format!(
            "POST /v1/embeddings HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\nx-script: {script}\r\ncontent-length: 17\r\n\r\n{{\"input\":\"hello\"}}"
        )
    };
    // First nobody is known, later everybody is: then a request goes on at its headers.
    for round in 0..3 {
        let whole = request("delay_ms=400");
        let body = whole.find("\r\n\r\n").unwrap() + 4;
        for cut in [1, 40, body - 2, body, body + 5, whole.len()] {
            for after in [0, 30] {
                vanish(port, &whole.as_bytes()[..cut], Duration::from_millis(after));
            }
        }
        has(&stage, "alice", left, "those who left before an answer").await;
        let streamed = request("stream;chunk_delay_ms=50");
        let before = stage.upstream.count();
        vanish(port, streamed.as_bytes(), Duration::from_millis(400));
        assert_eq!(stage.upstream.count(), before + 1);
        left -= 1;
        has(&stage, "alice", left, "one who left while it was answered").await;
        assert_eq!(stage.gateway.send(embed(&stage, &key, "")).await.status, 200);
        left -= 1;
        has(&stage, "alice", left, &format!("round {round}")).await;
    }
    unharmed(&stage).await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_sender_vanished_comes_again() {
    let stage = Stage::start(one_worker());
    for (n, wait) in [0, 1, 3, 10, 30, 100].into_iter().cycle().take(18).enumerate() {
        let event = note(&format!("evt_left_{n}"));
        let call = stage.gateway.delivery(APP, &event).header("x-script", "delay_ms=200");
        // A client of its own, so that leaving closes the connection.
        let client = Client::default();
        let call = if n % 2 == 0 { call } else { call.http2() };
        let sent = tokio::time::timeout(Duration::from_millis(wait), client.send(call)).await;
        assert!(sent.is_err(), "nobody answers so soon");
        drop(client);
        eventually(&format!("event {n} comes again"), async || {
            let retry = stage.gateway.send(stage.gateway.delivery(APP, &event)).await;
            assert!(
                retry.status == 409 || retry.header("x-tollgate-duplicate").is_empty(),
                "it was never accepted"
            );
            retry.status == 200
        })
        .await;
        let again = stage.gateway.send(stage.gateway.delivery(APP, &event)).await;
        assert_eq!((again.status, again.header("x-tollgate-duplicate")), (200, "true"));
    }
    unharmed(&stage).await;
    stage.finish();
}
