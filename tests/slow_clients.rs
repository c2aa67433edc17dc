//! Clients that send or read as slowly as they can: none holds anything open for longer than `docs/limits.md` says, and
//! whoever is honest is served meanwhile.
//!
//! With `SLOW_CLIENTS=shipped` the timeouts are those of `envoy/envoy.yaml`, which takes minutes; else they are short.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what does not hold in a test is the test's failure"
)]

use serde_json::json;
use stage::client::{Call, raw};
use stage::envoy_file::EnvoyFile;
use stage::harness::{Options, Stage, eventually};
use stage::settings::Settings;
use stage::tools::root;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Connections of each kind.
const OF_EACH: usize = 8;
/// Those that do not read.
const DEAF: usize = 3;
/// How often a slow sender sends a byte.
const DRIP: Duration = Duration::from_millis(150);
/// Envoy's timers and this machine's business.
const LATE: Duration = Duration::from_secs(4);
/// Much more than kernel and Envoy would buffer for a reader that does not read.
const LARGE: usize = 16 << 20;

/// The shipped timeouts, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Timeouts {
    /// Until a request's head is whole.
    headers: u64,
    /// Until a request is whole.
    request: u64,
    /// Silence on a stream whose route says nothing.
    stream: u64,
    /// Silence on a webhook's stream.
    webhook: u64,
    /// Silence on a paid stream.
    paid: u64,
    /// A connection without a request.
    connection: u64,
}

const SHIPPED: Timeouts =
    Timeouts { headers: 10, request: 60, stream: 15, webhook: 15, paid: 300, connection: 300 };
const SHORT: Timeouts = Timeouts { headers: 1, request: 3, stream: 2, webhook: 2, paid: 4, connection: 4 };

impl Timeouts {
    /// In Envoy's file, in this order.
    const PLACES: [&str; 6] = [
        "/request_headers_timeout",
        "/request_timeout",
        "/stream_idle_timeout",
        "/route_config/virtual_hosts/0/routes/1/route/idle_timeout",
        "/route_config/virtual_hosts/0/routes/2/route/idle_timeout",
        "/common_http_protocol_options/idle_timeout",
    ];

    const fn list(self) -> [u64; 6] {
        [self.headers, self.request, self.stream, self.webhook, self.paid, self.connection]
    }
}

#[test]
fn the_shipped_timeouts_are_those_that_are_stated() {
    let root = root().unwrap();
    let settings = Settings::read(&root, |_| None).unwrap();
    let mut file = EnvoyFile::of(&settings, &root).unwrap();
    let http = file.http().unwrap();
    let limits = std::fs::read_to_string(root.join("docs/limits.md")).unwrap();
    for (place, seconds) in Timeouts::PLACES.into_iter().zip(SHIPPED.list()) {
        assert_eq!(http.pointer(place), Some(&json!(format!("{seconds}s"))), "{place}");
        let name = place.rsplit('/').next().unwrap();
        let row = limits
            .lines()
            .any(|line| line.contains(&format!("`{name}`")) && line.contains(&format!("| {seconds} s |")));
        assert!(row, "docs/limits.md has no row for {name} with {seconds} s");
    }
    assert_eq!(
        http.pointer("/route_config/virtual_hosts/0/routes/1/match/path"),
        Some(&json!("/webhooks/app"))
    );
    assert_eq!(http.pointer("/route_config/virtual_hosts/0/routes/2/match/prefix"), Some(&json!("/v1/")));
}

/// What became of a slow client.
#[derive(Debug)]
struct Cut {
    kind: &'static str,
    /// 0 if it was cut without a word.
    status: u16,
    after: Duration,
}

/// Sends the beginning, then a byte at a time for as long as it may, and reads what comes back.
async fn drip(kind: &'static str, port: u16, begin: String, then: Option<u8>) -> Cut {
    let began = Instant::now();
    let (mut read, mut write) = TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
    write.write_all(begin.as_bytes()).await.unwrap();
    let dripping = tokio::spawn(async move {
        while let Some(byte) = then {
            tokio::time::sleep(DRIP).await;
            if write.write_all(&[byte]).await.is_err() {
                break;
            }
        }
        // Kept open: that it is closed must be Envoy's doing.
        write
    });
    let mut answer = Vec::new();
    let _ = read.read_to_end(&mut answer).await;
    let after = began.elapsed();
    dripping.abort();
    let status = String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Cut { kind, status, after }
}

/// Asks for a large answer and does not read it.
async fn never_read(port: u16, key: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
    let request = format!(
        "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nx-script: padding={LARGE}\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn open(stage: &Stage) -> u64 {
    stage.gateway.stats().await.get("http.gateway.downstream_cx_active").copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_holds_nothing_open_beyond_the_stated_timeouts() {
    let shipped = std::env::var("SLOW_CLIENTS").is_ok_and(|which| which == "shipped");
    let times = if shipped { SHIPPED } else { SHORT };
    let edit = move |file: &mut EnvoyFile| {
        for (place, seconds) in Timeouts::PLACES.into_iter().zip(times.list()) {
            *file.http()?.pointer_mut(place).unwrap() = json!(format!("{seconds}s"));
        }
        Ok(())
    };
    // Whatever is held is settled by what happens to its request, not because its time is over.
    let stage = Stage::start(Options::default().edit(edit).with("LEASE_TTL_MS", 3_600_000));
    stage.account("slow", 100).await;
    let key = stage.admin_post("/admin/v1/api-keys", &json!({ "account": "slow" })).await["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let port = stage.settings().gateway_port;
    let paid = format!(
        "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: 100000\r\n\r\n{{"
    );
    let event = "POST /webhooks/app HTTP/1.1\r\nhost: x\r\nstripe-signature: t=1,v1=00\r\ncontent-length: 100000\r\n\r\n{".to_owned();
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_owned();
    let begin = "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nx-a: ".to_owned();
    // What each sends, what it goes on with, and after how many seconds at most that is over.
    let kinds = [
        ("slow head", begin.clone(), Some(b'a'), times.headers, 408),
        ("head that stops", begin, None, times.headers, 408),
        ("slow body of a request", paid.clone(), Some(b' '), times.request, 408),
        ("body of a request that stops", paid, None, times.request, 408),
        ("slow body of a webhook", event.clone(), Some(b' '), times.request, 408),
        ("body of a webhook that stops", event, None, times.webhook, 408),
        ("says nothing", String::new(), None, times.connection, 0),
        // Told to go away, then drained for 5 s, then closed within 1 s: Envoy's defaults.
        ("HTTP/2 without a request", preface, None, times.connection + 6, 0),
    ];
    let mut slow = JoinSet::new();
    for (kind, begin, then, ..) in &kinds {
        for _ in 0..OF_EACH {
            slow.spawn(drip(kind, port, begin.clone(), *then));
        }
    }
    // Who is honest is served, while all of them hang on.
    let honest = format!(
        "GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\r\n"
    );
    let answer = tokio::task::spawn_blocking(move || raw(port, honest.as_bytes())).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let began = Instant::now();
    let mut deaf = Vec::new();
    for _ in 0..DEAF {
        deaf.push(never_read(port, &key).await);
    }
    for cut in slow.join_all().await {
        let (.., seconds, status) = kinds.iter().find(|(kind, ..)| *kind == cut.kind).unwrap();
        let stated = Duration::from_secs(*seconds);
        assert!(
            cut.after <= stated + LATE && cut.after >= stated.mul_f32(0.5),
            "{cut:?}, and {seconds} s are stated"
        );
        // An HTTP/2 connection is told GOAWAY, which is no status line.
        assert_eq!(cut.status, *status, "{cut:?}");
    }
    // Counted from when the last byte moved, and an answer of this size takes a while to come.
    let stated = Duration::from_secs(times.paid) + 3 * LATE;
    while open(&stage).await > 0 {
        assert!(
            began.elapsed() <= stated,
            "{} connections are open after {:?}",
            open(&stage).await,
            began.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(deaf);
    nothing_is_held(&stage).await;
    assert_eq!(stage.upstream.requests().iter().filter(|item| item.path == "/webhooks/app").count(), 0);
    stage.finish();
}

/// Nothing is held for any of them, and only what was delivered is charged: the answers that nobody read.
async fn nothing_is_held(stage: &Stage) {
    eventually("everything is settled", async || stage.balance("slow").await == (100 - DEAF).to_string())
        .await;
    let stats = stage.gateway.stats().await;
    let active: Vec<_> = stats
        .iter()
        .filter(|(name, n)| name.ends_with("rq_active") && !name.contains("admin") && **n > 0)
        .collect();
    let active: Vec<_> = active.into_iter().filter(|(name, _)| !name.contains("cluster.billing")).collect();
    assert!(active.is_empty(), "{active:?}");
    // The gateway itself is as it was.
    assert_eq!(stage.gateway.send(Call::get(stage.settings().gateway("/nowhere"))).await.status, 404);
}
