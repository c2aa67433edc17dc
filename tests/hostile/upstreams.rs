//! An upstream that answers anything at all, or nothing: the client gets an answer or a cut one, and pays for what was delivered.

use crate::{APP, customer, embed, has, note, one_worker, retried, unharmed};
use serde_json::json;
use stage::client::{Call, Client};
use stage::harness::{Options, Stage};
use stage::rogue::RogueUpstream;

const WELL: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";

/// An Envoy whose upstream says what a test wants, and that waits a second for it at most.
fn stage() -> (Stage, RogueUpstream) {
    let upstream = RogueUpstream::start().unwrap();
    let port = upstream.port();
    let options: Options = one_worker().edit(move |file| {
        file.address("upstream", port)?;
        let routes = file.http()?.pointer_mut("/route_config/virtual_hosts/0/routes").unwrap();
        for route in routes.as_array_mut().unwrap() {
            if route["route"]["cluster"] == "upstream" {
                route["route"]["idle_timeout"] = json!("1s");
                if route["match"]["path"] == APP {
                    route["route"]["timeout"] = json!("1s");
                }
            }
        }
        Ok(())
    });
    (Stage::start(options), upstream)
}

/// What it says, what the client sees of that (0: a cut answer), and how many credits it costs.
fn sayings() -> Vec<(&'static str, Vec<u8>, &'static [u16], u32)> {
    let text = |text: &str| text.replace('\n', "\r\n").into_bytes();
    let long = "x".repeat(100_000);
    let many: String = (0..300).map(|n| format!("x-{n}: 1\n")).collect();
    vec![
        ("nothing, and closes", vec![], &[502, 503], 0),
        ("bytes", b"\x16\x03\x01\x00\xff\r\n\r\n".to_vec(), &[502, 503], 0),
        ("half a line", text("HTTP/1.1 20"), &[502, 503], 0),
        ("no status", text("HTTP/1.1 OK\n\n"), &[502, 503], 0),
        ("a negative status", text("HTTP/1.1 -200 OK\n\n"), &[502, 503], 0),
        ("a status of four digits", text("HTTP/1.1 2000 OK\ncontent-length: 0\n\n"), &[0], 0),
        (
            "an upgrade",
            text("HTTP/1.1 101 Switching Protocols\nconnection: upgrade\nupgrade: websocket\n\n"),
            &[0, 101],
            0,
        ),
        (
            "a header of 100 kB",
            text(&format!("HTTP/1.1 200 OK\nx: {long}\ncontent-length: 0\n\n")),
            &[502, 503],
            0,
        ),
        ("300 headers", text(&format!("HTTP/1.1 200 OK\n{many}content-length: 0\n\n")), &[502, 503], 0),
        ("a negative length", text("HTTP/1.1 200 OK\ncontent-length: -1\n\n{}"), &[502, 503], 0),
        ("two lengths", text("HTTP/1.1 200 OK\ncontent-length: 2\ncontent-length: 3\n\n{}"), &[502, 503], 0),
        (
            "a header with a zero in it",
            b"HTTP/1.1 200 OK\r\nx: \0\r\ncontent-length: 0\r\n\r\n".to_vec(),
            &[502, 503],
            0,
        ),
        ("no such page", text("HTTP/1.1 404 No\ncontent-length: 0\n\n"), &[404], 0),
        ("a redirect", text("HTTP/1.1 302 Found\nlocation: /\ncontent-length: 0\n\n"), &[302], 0),
        (
            "early hints first",
            [text("HTTP/1.1 103 Early Hints\nlink: </a>\n\n"), WELL.to_vec()].concat(),
            &[200],
            1,
        ),
        (
            "a hundred times to continue",
            [text("HTTP/1.1 100 Continue\n\n").repeat(100), WELL.to_vec()].concat(),
            &[200],
            1,
        ),
        (
            "our own headers",
            text(
                "HTTP/1.1 200 OK\nx-tollgate-balance: 999\nx-tollgate-account: mallory\nx-tollgate-evil: 1\ncontent-length: 0\n\n",
            ),
            &[200],
            1,
        ),
        (
            "that it is free",
            text("HTTP/1.1 200 OK\nx-tollgate-charge: none\ncontent-length: 0\n\n"),
            &[200],
            0,
        ),
        (
            "a header that is no text",
            b"HTTP/1.1 200 OK\r\nx-odd: \xff\xfe\r\ncontent-length: 0\r\n\r\n".to_vec(),
            &[200],
            1,
        ),
        ("less than announced", text("HTTP/1.1 200 OK\ncontent-length: 100\n\n{}"), &[0], 1),
        ("chunks that are none", text("HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\nzz\n{}\n"), &[0], 1),
        ("no end", text("HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2\n{}\n"), &[0], 1),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_an_upstream_says_only_what_was_delivered_is_paid_for() {
    let (stage, upstream) = stage();
    let mut left = 100;
    let key = customer(&stage, "alice", left).await;
    for http2 in [false, true] {
        let mut wrong = Vec::new();
        for (what, bytes, seen, costs) in sayings() {
            upstream.say(Some(&bytes));
            let call = embed(&stage, &key, "");
            // A client of its own, for some of what comes breaks the connection.
            let answer = Client::default().send(if http2 { call.http2() } else { call }).await;
            let status = answer.as_ref().map_or(0, |answer| answer.status);
            if !seen.contains(&status) {
                wrong.push(format!("{what}, HTTP/2 {http2}: {status} {:?}", answer.as_ref().err()));
            }
            if let Ok(answer) = answer {
                assert_ne!(answer.header("x-tollgate-balance"), "999", "{what}");
                assert_eq!(answer.header("x-tollgate-evil"), "", "{what}");
            }
            left -= costs;
            if !http2 {
                has(&stage, "alice", left, what).await;
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        upstream.say(Some(WELL));
        assert_eq!(stage.gateway.send(embed(&stage, &key, "")).await.status, 200);
        left -= 1;
        has(&stage, "alice", left, "an honest one").await;
    }
    upstream.say(None);
    let answer = stage.gateway.send(embed(&stage, &key, "")).await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    has(&stage, "alice", left, "silence").await;
    unharmed(&stage).await;
    stage.finish();
}

/// F9: a handler that hangs past its time, resets or talks rubbish has handled nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_handler_made_no_sense_goes_through_on_the_retry() {
    let (stage, upstream) = stage();
    let mut wrong = Vec::new();
    let sayings = sayings().into_iter().map(|(what, bytes, seen, costs)| (what, Some(bytes), seen, costs));
    for (n, (what, bytes, seen, costs)) in sayings.chain([("silence", None, &[504][..], 0)]).enumerate() {
        let send = |n: usize| -> Call { stage.gateway.delivery(APP, &note(&format!("evt_{n}"))) };
        upstream.say(bytes.as_deref());
        let status = Client::default().send(send(n)).await.map_or(0, |answer| answer.status);
        // A redirect is never passed on to Stripe.
        let expected = if seen == [302] { &[502][..] } else { seen };
        if !expected.contains(&status) {
            wrong.push(format!("{what}: {status}"));
        }
        upstream.say(Some(WELL));
        let heard = upstream.heard();
        let retry = retried(&stage, &note(&format!("evt_{n}"))).await;
        // For a webhook a 2xx counts whatever it says of charges; a cut one does not.
        let was_handled = costs == 1 && status == 200 || what == "that it is free";
        assert_eq!(retry.status, 200, "{what}");
        assert_eq!(retry.header("x-tollgate-duplicate") == "true", was_handled, "{what}");
        assert_eq!(upstream.heard() == heard, was_handled, "{what}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    unharmed(&stage).await;
    stage.finish();
}
