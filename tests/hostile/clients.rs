//! Clients that break HTTP on purpose: none gets past a price or a signature, and none is answered with a failure of ours.

use crate::{APP, customer, embed, has, note, one_worker, unharmed};
use serde_json::json;
use stage::client::{Call, raw};
use stage::frames::{Ending, Frames};
use stage::harness::Stage;
use stage::stripe::{delivery_at, now};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What the first line says; 0 if the connection is closed without any.
fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// The same worker serves an event and a request, in both protocols.
async fn serves(stage: &Stage, key: &str, n: &mut usize) {
    for http2 in [false, true] {
        *n += 1;
        for call in [embed(stage, key, ""), stage.gateway.delivery(APP, &note(&format!("evt_{n}")))] {
            let answer = stage.gateway.send(if http2 { call.http2() } else { call }).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_request_get_a_4xx_and_nothing_goes_on() {
    let stage = Stage::start(one_worker());
    let key = customer(&stage, "alice", 100).await;
    let paid = format!("host: a\r\nauthorization: Bearer {key}\r\nconnection: close\r\n");
    let embeddings = format!("POST /v1/embeddings HTTP/1.1\r\n{paid}");
    let webhook =
        "POST /webhooks/app HTTP/1.1\r\nhost: a\r\nconnection: close\r\nstripe-signature: t=1,v1=0\r\n";
    let long = "x".repeat(100_000);
    let many: String = (0..300).map(|n| format!("x-{n}: 1\r\n")).collect();
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n";
    let (mut n, mut wrong) = (0, Vec::new());
    for (what, bytes, expected) in [
        ("no request", "\r\n\r\n\0\0\0\0\r\n\r\n".to_owned(), &[0, 400][..]),
        ("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".to_owned(), &[0, 400]),
        ("half of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x07\0\0\0\0\0".to_owned(), &[0]),
        ("HTTP/0.9", "GET /v1/models\r\n\r\n".to_owned(), &[426]),
        ("HTTP/1.0", format!("POST /v1/embeddings HTTP/1.0\r\n{paid}\r\n"), &[426]),
        ("HTTP/3.0", format!("POST /v1/embeddings HTTP/3.0\r\n{paid}\r\n"), &[426]),
        ("no host", "POST /v1/embeddings HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(), &[400]),
        ("a method of its own", format!("BREW /v1/embeddings HTTP/1.1\r\n{paid}\r\n"), &[400, 405]),
        ("a path of 100 kB", format!("POST /v1/{long} HTTP/1.1\r\n{paid}\r\n"), &[431, 400, 403]),
        ("a path with a zero in it", format!("POST /v1/embed\0dings HTTP/1.1\r\n{paid}\r\n"), &[400]),
        ("an escaped zero", format!("POST /v1/embeddings%00 HTTP/1.1\r\n{paid}\r\n"), &[400, 403]),
        ("no path", format!("POST * HTTP/1.1\r\n{paid}\r\n"), &[400, 403, 404]),
        ("a header of 100 kB", format!("{embeddings}x: {long}\r\n\r\n"), &[431]),
        ("300 headers", format!("{embeddings}{many}\r\n"), &[431]),
        ("a header with a zero in it", format!("{embeddings}x: a\0b\r\n\r\n"), &[400]),
        ("a header without a colon", format!("{embeddings}x\r\n\r\n"), &[400]),
        ("a blank before the colon", format!("{embeddings}content-length : 2\r\n\r\n{{}}"), &[400]),
        ("a folded header", format!("{embeddings}x: a\r\n b: c\r\ncontent-length: 0\r\n\r\n"), &[400, 200]),
        ("two lengths", format!("{embeddings}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"), &[400]),
        ("a negative length", format!("{embeddings}content-length: -1\r\n\r\n"), &[400]),
        (
            "a length beyond 64 bits",
            format!("{embeddings}content-length: 18446744073709551616\r\n\r\n"),
            &[400],
        ),
        (
            "length and chunks",
            format!("{embeddings}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            &[400],
        ),
        (
            "an unknown encoding",
            format!("{embeddings}transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
            &[400, 501],
        ),
        ("chunks that are none", format!("{webhook}transfer-encoding: chunked\r\n\r\nzz\r\n"), &[400]),
        (
            "a websocket",
            format!("GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n{upgrade}\r\n"),
            &[403],
        ),
        (
            "a websocket for events",
            format!("POST /webhooks/app HTTP/1.1\r\nhost: a\r\n{upgrade}\r\n"),
            &[403],
        ),
        ("a tunnel", format!("CONNECT /v1/embeddings HTTP/1.1\r\n{paid}\r\n"), &[400, 403, 404]),
        ("a tunnel elsewhere", format!("CONNECT example.com:443 HTTP/1.1\r\n{paid}\r\n"), &[403, 404]),
        ("an event without a body", format!("{webhook}\r\n"), &[400]),
        (
            "an event of no path",
            "POST /webhooks/app/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_owned(),
            &[404],
        ),
        (
            "an event read",
            "GET /webhooks/app HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_owned(),
            &[405],
        ),
        (
            "an event with a query",
            webhook.replace("/app", "/app?a=/v1/models") + "content-length: 2\r\n\r\n{}",
            &[400],
        ),
        (
            "an event by another spelling",
            webhook.replace("/app", "/%61pp") + "content-length: 2\r\n\r\n{}",
            &[400, 403, 404],
        ),
        (
            "an event by a way round",
            webhook.replace("/app", "/./x/..//app") + "content-length: 2\r\n\r\n{}",
            &[400],
        ),
    ] {
        stage.upstream.clear();
        let answer = raw(stage.settings().gateway_port, bytes.as_bytes()).unwrap_or_default();
        if !expected.contains(&status(&answer)) {
            wrong.push(format!("{what}: {answer:?}"));
        }
        // A folded header may be read as one; then it is an honest request.
        assert_eq!(stage.upstream.count(), u64::from(status(&answer) == 200), "{what}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    serves(&stage, &key, &mut n).await;
    unharmed(&stage).await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_something_else_is_priced_as_what_it_is() {
    let stage = Stage::start(one_worker());
    let key = customer(&stage, "alice", 100).await;
    let port = stage.settings().gateway_port;
    let head = |key: &str| format!("host: a\r\nauthorization: Bearer {key}\r\n");
    let (paid, unpaid) = (head(&key), head("tgk_AAAABBBBCCCCDDDDEEEEFFFFGGGGHHHH"));
    let h2c = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\ncontent-length: 2\r\n\r\n{}";
    let pretend = "connection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n:path: /v1/models\r\nx-tollgate-account: mallory\r\n\r\n";
    let trailers = pretend.replace(":path: /v1/models\r\n", "");
    let absolute = "connection: close\r\ncontent-length: 2\r\n\r\n{}";
    let mut left = 100;
    for (what, line, rest, passes) in [
        ("h2c", "POST /v1/embeddings", h2c, true),
        ("trailers that pretend to be the path", "POST /v1/embeddings", pretend, false),
        ("trailers that pretend to be ours", "POST /v1/embeddings", trailers.as_str(), true),
        ("another host's whole address", "POST http://example.com/v1/embeddings", absolute, true),
        (
            "an override of the method",
            "POST /v1/embeddings",
            "x-http-method-override: GET\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
            true,
        ),
        (
            "another path in a header",
            "POST /v1/embeddings",
            "x-original-url: /v1/models\r\nx-envoy-original-path: /v1/models\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
            true,
        ),
        (
            "headers with underscores",
            "POST /v1/embeddings",
            "x_tollgate_account: mallory\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
            true,
        ),
    ] {
        stage.upstream.clear();
        for (who, expected) in [(&unpaid, 401), (&paid, 200)] {
            let bytes = format!("{line} HTTP/1.1\r\n{who}{rest}");
            let answer = first_answer(port, &bytes);
            let as_told = if passes { vec![expected] } else { vec![400, expected] };
            assert!(as_told.contains(&status(&answer)), "{what}: {answer:?}");
            left -= u32::from(status(&answer) == 200);
        }
        has(&stage, "alice", left, what).await;
        for item in stage.upstream.requests() {
            assert_eq!((item.path.as_str(), item.method.as_str()), ("/v1/embeddings", "POST"), "{what}");
            let account = item.headers.get("x-tollgate-account").map(String::as_str);
            assert_eq!(account, Some("alice"), "{what}");
            assert!(!format!("{item:?}").contains("mallory"), "{what}: {item:?}");
        }
        assert!(stage.upstream.count() <= 1, "{what}");
    }
    // F17: nobody brings our headers along, on any route.
    for path in ["/v1/embeddings", "/v1/models", "/webhooks/app", "/billing/balance", "/nowhere"] {
        let call = if path == "/v1/models" || path.starts_with("/billing") {
            Call::get(stage.settings().gateway(path))
        } else if path == APP {
            stage.gateway.delivery(APP, &note("evt_spoofed"))
        } else {
            Call::post(stage.settings().gateway(path)).json(&json!({}))
        };
        let spoofed =
            call.bearer(&key).header("x-tollgate-verified", "true").header("x-tollgate-account", "mallory");
        let spoofed =
            spoofed.header("x-tollgate-subject", "jwt_sub:bWFsbG9yeQ").header("x-tollgate-event-id", "evt_x");
        stage.upstream.clear();
        let answer = stage.gateway.send(spoofed).await;
        assert!(answer.status == 200 || path == "/nowhere", "{path}: {}", answer.text());
        for item in stage.upstream.requests() {
            let text = format!("{:?}", item.headers);
            assert!(
                !text.contains("mallory") && !text.contains("evt_x") && !text.contains("verified\""),
                "{text}"
            );
        }
    }
    unharmed(&stage).await;
    stage.finish();
}

/// Whatever comes back before the line falls silent: an answer to `upgrade` keeps it open.
fn first_answer(port: u16, bytes: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(bytes.as_bytes()).unwrap();
    let mut answer = [0; 4096];
    let n = socket.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_no_library_sends_are_reset_or_refused() {
    let stage = Stage::start(one_worker());
    let key = customer(&stage, "alice", 100).await;
    let bearer = format!("Bearer {key}");
    let port = stage.settings().gateway_port;
    let post = |path: &'static str| -> Vec<(&str, &[u8])> {
        vec![
            (":method", b"POST"),
            (":scheme", b"http"),
            (":authority", b"a"),
            (":path", path.as_bytes()),
            ("authorization", bearer.as_bytes()),
        ]
    };
    let and = |more: &[(&'static str, &'static [u8])]| -> Vec<(&str, &[u8])> {
        [post("/v1/embeddings"), more.to_vec()].concat()
    };
    let without = |name: &str| -> Vec<(&str, &[u8])> {
        post("/v1/embeddings").into_iter().filter(|(n, _)| *n != name).collect()
    };
    let whole = |fields: &[(&str, &[u8])]| Frames::default().headers(fields, false).data(b"{}", true);
    let event = note("evt_frames").to_string();
    let signed = |trailers: &[(&str, &[u8])]| {
        let fields: Vec<(&str, &[u8])> = vec![
            (":method", b"POST"),
            (":scheme", b"http"),
            (":authority", b"a"),
            (":path", b"/webhooks/app"),
            ("stripe-signature", b"t=1,v1=0"),
        ];
        Frames::default().headers(&fields, false).data(event.as_bytes(), false).headers(trailers, true)
    };
    let connect: &[(&str, &[u8])] =
        &[(":method", b"CONNECT"), (":authority", b"a:443"), ("authorization", bearer.as_bytes())];
    let websocket = [
        vec![(":method", b"CONNECT".as_slice()), (":protocol", b"websocket")],
        post("/v1/embeddings").into_iter().filter(|(name, _)| *name != ":method").collect(),
    ]
    .concat();
    for (what, frames) in [
        (
            "a path in the trailers",
            Frames::default()
                .headers(&post("/v1/embeddings"), false)
                .data(b"{}", false)
                .headers(&[(":path", b"/v1/models")], true),
        ),
        ("a status in a request", whole(&and(&[(":status", b"200")]))),
        ("two paths", whole(&and(&[(":path", b"/v1/models")]))),
        ("two methods", whole(&and(&[(":method", b"GET")]))),
        ("no path", whole(&without(":path"))),
        ("no method", whole(&without(":method"))),
        ("an empty path", whole(&[&without(":path")[..], &[(":path", b"")]].concat())),
        ("an unknown pseudo-header", whole(&and(&[(":price", b"0")]))),
        ("a header in capitals", whole(&and(&[("X-Tollgate-Account", b"mallory")]))),
        ("a header with a line break", whole(&and(&[("x", b"a\r\nx-tollgate-account: mallory")]))),
        ("a header with a zero", whole(&and(&[("x", b"\0")]))),
        ("a connection's header", whole(&and(&[("connection", b"keep-alive")]))),
        ("a length that is wrong", whole(&and(&[("content-length", b"1")]))),
        (
            "a header before the pseudo-headers",
            whole(&[&[("x", b"a".as_slice())][..], &post("/v1/embeddings")].concat()),
        ),
        ("a tunnel", Frames::default().headers(connect, false)),
        ("a websocket", Frames::default().headers(&websocket, false)),
        ("data after the end", Frames::default().headers(&post("/v1/nothing"), true).data(b"{}", true)),
        ("data before the headers", Frames::default().data(b"{}", true)),
        ("an event with another signature in its trailers", signed(&[("stripe-signature", b"t=1,v1=1")])),
        ("an event with a path in its trailers", signed(&[(":path", b"/v1/models")])),
    ] {
        let ending = frames.send(port).unwrap();
        let refused = matches!(ending, Ending::Reset | Ending::Closed | Ending::Status(400..=499));
        assert!(refused, "{what}: {ending:?}");
        assert_eq!(stage.upstream.count(), 0, "{what}");
    }
    has(&stage, "alice", 100, "frames").await;
    assert_eq!(whole(&post("/v1/embeddings")).send(port).unwrap(), Ending::Status(200), "an honest one");
    serves(&stage, &key, &mut 0).await;
    unharmed(&stage).await;
    stage.finish();
}

/// F21, F14, F20: what an event may hold, as long as Stripe signed it.
#[tokio::test(flavor = "multi_thread")]
async fn a_signed_event_may_be_as_odd_as_it_is_readable() {
    let stage = Stage::start(one_worker());
    let url = stage.settings().gateway(APP);
    let secret = &stage.settings().webhook_secret;
    let odd = |n: usize, more: &str| {
        format!(
            r#"{{"id":"evt_odd_{n}","object":"event","api_version":"2031-01-01.zebra","type":"invoice.upcoming","livemode":false{more}}}"#
        )
    };
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    for (n, (what, body, expected)) in [
        ("an unknown version, and no invoice id", odd(0, ""), 200),
        ("a megabyte in one text", odd(1, &format!(r#","data":"{}""#, "x".repeat(1_000_000))), 200),
        (
            "a hundred thousand fields",
            odd(2, &(0..60_000).map(|n| format!(r#","f{n}":0"#)).collect::<String>()),
            200,
        ),
        ("ten thousand brackets", odd(3, &format!(r#","data":{deep}"#)), 400),
        ("half a million brackets", odd(4, &format!(r#","data":{}"#, "[".repeat(500_000))), 400),
        ("two ids", odd(5, r#","id":"evt_other""#), 400),
        ("two types", odd(6, r#","type":"charge.refunded""#), 400),
        ("two of what nobody reads", odd(7, r#","data":1,"data":2"#), 200),
    ]
    .into_iter()
    .enumerate()
    {
        for http2 in [false, true] {
            let call = delivery_at(&url, secret, body.clone(), now()).unwrap();
            let answer = stage.gateway.send(if http2 { call.http2() } else { call }).await;
            assert_eq!(answer.status, expected, "{n}: {what}: {}", answer.text());
        }
    }
    assert_eq!(stage.upstream.count(), 4, "each readable one once");
    let key = customer(&stage, "alice", 100).await;
    let body = format!(r#"{{"input":{deep},"input":1}}"#);
    let answer = stage.gateway.send(embed(&stage, &key, "").body(body)).await;
    assert_eq!(answer.status, 200, "at a fixed price nobody reads the body");
    unharmed(&stage).await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_is_cut_off_in_time_and_pays_nothing() {
    // Long enough for an honest request on a busy machine, whose disk may keep billing waiting.
    let stage = Stage::start(one_worker().edit(|file| {
        let http = file.http()?;
        http["request_headers_timeout"] = json!("2s");
        http["request_timeout"] = json!("5s");
        http["stream_idle_timeout"] = json!("4s");
        for route in http.pointer_mut("/route_config/virtual_hosts/0/routes").unwrap().as_array_mut().unwrap()
        {
            if let Some(route) = route.get_mut("route") {
                route["idle_timeout"] = json!("4s");
            }
        }
        Ok(())
    }));
    let key = customer(&stage, "alice", 10_000).await;
    let port = stage.settings().gateway_port;
    let paid = format!("POST /v1/embeddings HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n");
    let webhook = "POST /webhooks/app HTTP/1.1\r\nhost: a\r\nstripe-signature: t=1,v1=0\r\n".to_owned();
    let stories = [
        ("half a header", paid[..40].to_owned(), ""),
        ("a header, letter by letter", paid[..40].to_owned(), "x"),
        ("no body", format!("{paid}content-length: 1000\r\n\r\n"), ""),
        ("a body, letter by letter", format!("{paid}content-length: 1000\r\n\r\n"), "x"),
        ("an event without its body", format!("{webhook}content-length: 1000\r\n\r\n"), ""),
        ("an event, letter by letter", format!("{webhook}content-length: 1000\r\n\r\n"), "x"),
    ];
    let slow: Vec<_> = stories
        .into_iter()
        .map(|(what, begin, more)| std::thread::spawn(move || (what, trickle(port, &begin, more))))
        .collect();
    let mut n = 0;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        serves(&stage, &key, &mut n).await;
    }
    for (what, (answer, took)) in slow.into_iter().map(|thread| thread.join().unwrap()) {
        assert!(took < Duration::from_secs(10), "{what}: {took:?}");
        assert!([0, 408, 504].contains(&status(&answer)), "{what}: {answer:?}");
    }
    let paid = u32::try_from(2 * (n / 2)).unwrap();
    has(&stage, "alice", 10_000 - paid, "the slow ones").await;
    unharmed(&stage).await;
    stage.finish();
}

/// Says the beginning, then a little more from time to time, until it is cut off: with what, and after how long.
fn trickle(port: u16, begin: &str, more: &str) -> (String, Duration) {
    let began = Instant::now();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.write_all(begin.as_bytes()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut answer = Vec::new();
    while began.elapsed() < Duration::from_secs(9) {
        let mut piece = [0; 4096];
        match socket.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => answer.extend(&piece[..n]),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                let _ = socket.write_all(more.as_bytes());
            }
            Err(_) => break,
        }
    }
    (String::from_utf8_lossy(&answer).into_owned(), began.elapsed())
}
