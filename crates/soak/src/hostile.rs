//! Whoever means harm, or knows no better: each request is answered or closed in time, and none of them passes.

use crate::dice::Dice;
use crate::events::APP;
use crate::field::{Ended, Field, LEAVER, TROUBLED, side};
use crate::judge::{Case, is_deny};
use crate::tally::During;
use serde_json::json;
use stage::client::{Call, Client};
use stage::stripe::{delivery, event};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How many do harm at once.
const HANDS: u64 = 3;
/// The key under which the upstream would count a forged event that passed.
pub(crate) const FORGED: &str = "forged";
/// What a poor customer has, who asks for much more all at once.
pub(crate) const POOR_CREDITS: u32 = 10;
/// The key of answers that are broken off, but begun well: they are charged.
pub(crate) const BEGUN: &str = "troubled-begun";
/// The key of answers that fail: they are not.
pub(crate) const FAILED: &str = "troubled-failed";
/// How long a poor customer's burst is apart from the next.
const POOR_PAUSE: Duration = Duration::from_secs(3);

/// The name of a poor customer.
pub(crate) fn poor(n: u64) -> String {
    format!("poor-{n}")
}

/// Sends them all off.
pub(crate) fn start(traffic: &mut JoinSet<()>, field: &Arc<Field>, seed: u64) {
    for n in 0..HANDS {
        traffic.spawn(harm(Arc::clone(field), Dice::new(seed, 400_u64.saturating_add(n))));
    }
    traffic.spawn(beg(Arc::clone(field)));
}

async fn harm(field: Arc<Field>, mut dice: Dice) {
    let client = Client::default();
    while !field.is_stopped() {
        let gateway = Field::any(&mut dice);
        match dice.below(10) {
            0..=5 => refused(&field, &client, gateway, &mut dice).await,
            6 => leaving(&field, &client, gateway, &mut dice).await,
            7 => troubled(&field, &client, gateway, &mut dice).await,
            _ => garbled(&field, gateway, &mut dice).await,
        }
        tokio::time::sleep(dice.millis(5, 60)).await;
    }
}

/// What is wrong with a request, and what it may be answered with.
fn bad(field: &Field, gateway: usize, dice: &mut Dice) -> Option<(&'static str, Call, &'static [u16])> {
    let url = |path| field.gateway(gateway, path);
    let paid = || Call::post(url("/v1/embeddings")).header("x-script", format!("key={FORGED}"));
    let app = || Call::post(url(APP)).header("x-script", format!("key={FORGED}"));
    let event = event("evt_forged", "customer.updated", &json!({ "id": "cus_nobody" }));
    let deep = "[".repeat(50_000);
    let secret = &side(&field.settings, gateway).webhook_secret;
    Some(match dice.below(13) {
        0 => {
            let call = delivery(url(APP), "whsec_somebody_elses_secret", &event).ok()?;
            ("forged event", call.header("x-script", format!("key={FORGED}")), &[400])
        }
        1 => {
            let stale = units_ago(3_600);
            let call = stage::stripe::delivery_at(url(APP), secret, event.to_string(), stale).ok()?;
            ("stale event", call.header("x-script", format!("key={FORGED}")), &[400])
        }
        2 => {
            let now = stage::stripe::now();
            let call = stage::stripe::delivery_at(url(APP), secret, deep, now).ok()?;
            ("signed, but no event", call.header("x-script", format!("key={FORGED}")), &[400])
        }
        3 => ("unsigned event", app().header("stripe-signature", [b't', b'=', 0xff]).body("{}"), &[400]),
        // Without a signature it is refused before its body is there.
        4 => ("event too large", app().body("x".repeat(1_500_000)), &[400, 413]),
        5 => ("nobody", paid().body("{}"), &[401]),
        6 => ("no text for a key", paid().header("authorization", [b'B', 0xa1, 0xff]).body("{}"), &[401]),
        7 => ("an invented key", paid().bearer(&format!("tgk_{:032}", dice.below(999))), &[401]),
        8 => ("somebody else's name", paid().header("x-tollgate-account", "honest-0").body(deep), &[401]),
        9 => ("unknown path", Call::get(url("/v2/%2e%2e/v1/embeddings")), &[400, 401, 403, 404, 405]),
        10 => ("wrong method", Call::get(url(APP)), &[405]),
        11 => {
            ("body too large", paid().bearer(&field.credential(LEAVER)).body("x".repeat(5_000_000)), &[413])
        }
        _ => ("header too large", paid().header("x-large", "x".repeat(70_000)), &[431]),
    })
}

fn units_ago(secs: u64) -> units::Instant {
    units::Instant::from_secs(stage::stripe::now().secs().saturating_sub_unsigned(secs))
}

async fn refused(field: &Field, client: &Client, gateway: usize, dice: &mut Dice) {
    let Some((what, call, allowed)) = bad(field, gateway, dice) else { return };
    // A large body may be cut off in HTTP/1.1, and its stream reset in HTTP/2.
    let large = allowed.contains(&413) || allowed.contains(&431);
    let began = Instant::now();
    let call = if dice.below(3) == 0 { call.http2() } else { call };
    let ended = field.send(client, call).await;
    let during = During::since(began);
    match ended {
        Ended::Answered(answer) if allowed.contains(&answer.status) => field.tally.count("hostile: refused"),
        Ended::Broken(_) if large => field.tally.count("hostile: cut off"),
        ended => {
            let (kind, name, defect) = ("hostile", what.to_owned(), "hostile: not refused");
            field.judge(Case { kind, name, gateway, during, ended, risks: true, defect });
        }
    }
}

/// Leaves at some moment: while it waits for a decision, for the upstream, or in the midst of the answer.
async fn leaving(field: &Field, client: &Client, gateway: usize, dice: &mut Dice) {
    let script = dice.one_of(&["delay_ms=40", "stream;chunk_delay_ms=15", "hang"]).unwrap_or_default();
    let call = field.paid(gateway, LEAVER, LEAVER, script);
    let call = if dice.below(2) == 0 { call.http2() } else { call };
    // It answers or is left; whoever leaves cannot tell that it hung.
    _ = tokio::time::timeout(dice.millis(0, 80), client.send(call)).await;
    field.tally.count("hostile: left");
}

/// What an upstream that fails, or breaks off, comes to at its client: one of these statuses, or, for none, a broken answer.
const TROUBLES: [(&str, &str, &[u16]); 6] = [
    (FAILED, "status=500", &[500]),
    (FAILED, "status=429", &[429]),
    // Envoy says so in the upstream's place.
    (FAILED, "reset", &[502, 503]),
    (FAILED, "header.x-tollgate-charge=none", &[200]),
    (BEGUN, "truncate", &[]),
    (BEGUN, "stream;reset_after=1", &[]),
];

async fn troubled(field: &Field, client: &Client, gateway: usize, dice: &mut Dice) {
    let Some((key, script, due)) = dice.one_of(&TROUBLES) else { return };
    let began = Instant::now();
    let ended = field.send(client, field.paid(gateway, TROUBLED, key, script)).await;
    let during = During::since(began);
    match ended {
        // The filter's own refusal is none of the upstream's answers.
        Ended::Answered(answer) if due.contains(&answer.status) && !is_deny(&answer) => {
            field.tally.count("hostile: upstream failed");
        }
        Ended::Broken(_) if due.is_empty() => field.tally.count("hostile: upstream failed"),
        ended => {
            let (kind, name, defect) =
                ("troubled", format!("{TROUBLED}, {script}"), "hostile: upstream's failure not passed on");
            field.judge(Case { kind, name, gateway, during, ended, risks: true, defect });
        }
    }
}

/// Bytes that no client would send, and then nothing more: it is answered, or closed from one side or the other.
async fn garbled(field: &Field, gateway: usize, dice: &mut Dice) {
    let texts: [&[u8]; 6] = [
        b"\x00\xff\x16\x03\x01garbage\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\xff\xff\xff\xff\xff\xff\xff",
        b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nten bytes.",
        b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"CONNECT 127.0.0.1:8081 HTTP/1.1\r\nhost: 127.0.0.1:8081\r\n\r\n",
    ];
    let Some(text) = dice.one_of(&texts) else { return };
    let port = side(&field.settings, gateway).gateway_port;
    let talk = async {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.write_all(text).await?;
        socket.read_u8().await
    };
    _ = tokio::time::timeout(dice.millis(10, 300), talk).await;
    field.tally.count("hostile: garbled");
}

/// New customers, one after the other, each of whom asks at both Envoys for four times what they have, all at once.
async fn beg(field: Arc<Field>) {
    let client = Client::default();
    for n in 0.. {
        if field.is_stopped() {
            return;
        }
        let name = poor(n);
        if let Err(trouble) = field.customer(&name, POOR_CREDITS).await {
            return field.tally.odd("hostile: no account", trouble.0);
        }
        field.tally.count("poor customers");
        let mut asking = JoinSet::new();
        for turn in 0..40_usize {
            let (field, client, name) = (Arc::clone(&field), client.clone(), name.clone());
            asking.spawn(async move {
                let began = Instant::now();
                let ended = field.send(&client, field.paid(turn, &name, &name, "")).await;
                let during = During::since(began);
                match ended {
                    Ended::Answered(answer) if answer.status == 200 => field.tally.count("poor: served"),
                    Ended::Answered(answer) if answer.status == 402 => field.tally.count("poor: refused"),
                    ended => {
                        let (kind, gateway, defect) = ("poor", turn, "poor: neither served nor refused");
                        field.judge(Case { kind, name, gateway, during, ended, risks: true, defect });
                    }
                }
            });
        }
        asking.join_all().await;
        tokio::time::sleep(POOR_PAUSE).await;
    }
}
