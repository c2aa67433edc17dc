//! A billing service that hangs, breaks off, or answers anything at all: 503 in bounded time, and afterwards as before.

use crate::{APP, embed, note, one_worker, retried, unharmed};
use serde_json::json;
use stage::harness::{Stage, eventually};
use stage::rogue::{Conduct, RogueBilling};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const HELLO: &str = "/gateway/v1/hello";
const SYNC: &str = "/gateway/v1/sync";
const CLAIM: &str = "/gateway/v1/events/claim";
const COMPLETE: &str = "/gateway/v1/events/complete";

fn stage() -> (Stage, RogueBilling) {
    let stage = Stage::start(one_worker().without_billing());
    let billing = RogueBilling::start(stage.settings().billing_port).unwrap();
    (stage, billing)
}

/// Keys of customers whom nobody has seen yet, so that billing has to be asked.
fn key(n: usize) -> String {
    format!("tgk_{n:032}")
}

fn conducts() -> Vec<(&'static str, Conduct)> {
    let page = "<!doctype html><html><body>Welcome to nginx!</body></html>";
    let problem = r#"{"type":"about:blank","title":"Not Found","status":404}"#;
    let huge = || vec![b' '; 40 << 20].into();
    vec![
        ("resets the stream", Conduct::Reset),
        ("breaks off in its answer", Conduct::BreakOff),
        ("speaks HTTP/1.1 where HTTP/2 is spoken", Conduct::Noise(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("speaks TLS where nobody does", Conduct::Noise(b"\x15\x03\x01\x00\x02\x02\x46")),
        ("answers a page", Conduct::Answer(200, page.into())),
        ("answers nothing", Conduct::Answer(200, "".into())),
        ("answers bytes", Conduct::Answer(200, b"\xff\xfe\x00\x80".as_slice().into())),
        ("answers 40 MB", Conduct::Answer(200, huge())),
        ("answers brackets", Conduct::Answer(200, "[".repeat(1 << 20).into())),
        ("has no such version", Conduct::Answer(404, problem.into())),
        ("answers as the next version", Conduct::Mangle(|answer| *answer = json!({ "v2": answer.clone() }))),
        ("redirects", Conduct::Answer(302, "".into())),
        ("fails", Conduct::Answer(500, "oh".into())),
        ("is too busy", Conduct::Answer(429, "later".into())),
        ("does not know us", Conduct::Answer(401, "who?".into())),
        ("has no content", Conduct::Answer(204, "".into())),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_billing_answers_a_request_is_503_in_time_and_the_next_one_passes() {
    let (stage, billing) = stage();
    let mut customers = 1..;
    for path in [HELLO, SYNC] {
        for (what, conduct) in conducts() {
            billing.behave(path, conduct);
            let key = key(customers.next().unwrap());
            let began = Instant::now();
            let answer = stage.gateway.send(embed(&stage, &key, "")).await;
            assert!(began.elapsed() < Duration::from_secs(5), "{path} {what}: {:?}", began.elapsed());
            assert_eq!(
                (answer.status, &answer.json()["reason"]),
                (503, &json!("service_unavailable")),
                "{path} {what}"
            );
            assert_eq!(answer.header("retry-after"), "1", "{path} {what}");
            assert_eq!(answer.header("x-should-retry"), "true", "{path} {what}");
            if path == SYNC {
                billing.behave("", Conduct::Honest);
                eventually(what, async || stage.gateway.send(embed(&stage, &key, "")).await.status == 200)
                    .await;
            }
        }
        billing.behave("", Conduct::Honest);
        eventually(path, async || stage.gateway.send(embed(&stage, &key(0), "")).await.status == 200).await;
    }
    assert_eq!(billing.calls(CLAIM), 0);
    unharmed(&stage).await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_billing_answers_an_event_is_503_in_time_and_its_retry_passes() {
    let (stage, billing) = stage();
    for (n, (what, conduct)) in conducts().into_iter().enumerate() {
        let send = async || stage.gateway.send(stage.gateway.delivery(APP, &note(&format!("evt_{n}")))).await;
        billing.behave(CLAIM, conduct.clone());
        let began = Instant::now();
        assert_eq!(send().await.status, 503, "{what}");
        assert!(began.elapsed() < Duration::from_secs(5), "{what}: {:?}", began.elapsed());
        assert_eq!(stage.upstream.count(), u64::try_from(n).unwrap(), "{what}");
        // What became of an event is told until somebody listens.
        let noise = matches!(conduct, Conduct::Noise(_));
        billing.behave(COMPLETE, if noise { Conduct::Reset } else { conduct });
        let retry = retried(&stage, &note(&format!("evt_{n}"))).await;
        assert_eq!((retry.status, retry.header("x-tollgate-duplicate")), (200, ""), "{what}");
        let told = billing.calls(COMPLETE);
        billing.behave("", Conduct::Honest);
        eventually("it is told again", async || billing.calls(COMPLETE) > told).await;
        assert_eq!(send().await.header("x-tollgate-duplicate"), "true", "{what}");
    }
    unharmed(&stage).await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_while_billing_is_silent_leaves_nothing_behind() {
    let (stage, billing) = stage();
    for path in [HELLO, SYNC, CLAIM] {
        billing.behave(path, Conduct::Hang);
        let mut waiting = JoinSet::new();
        for n in 0..20 {
            let event = note(&format!("evt_{path}_{n}").replace('/', "_"));
            let call =
                if path == CLAIM { stage.gateway.delivery(APP, &event) } else { embed(&stage, &key(n), "") };
            let (client, call) = (stage.gateway.client.clone(), if n % 2 == 0 { call } else { call.http2() });
            waiting.spawn(async move {
                let left = tokio::time::timeout(Duration::from_millis(100), client.send(call)).await;
                assert!(left.is_err(), "nobody answers so soon");
            });
        }
        while let Some(left) = waiting.join_next().await {
            left.unwrap();
        }
        let stays = note(&format!("evt_stays_{path}").replace('/', "_"));
        // One that stays is answered, within the time that its wait and the call may take.
        let began = Instant::now();
        let call =
            if path == CLAIM { stage.gateway.delivery(APP, &stays) } else { embed(&stage, &key(99), "") };
        assert_eq!(stage.gateway.send(call).await.status, 503);
        assert!(began.elapsed() < Duration::from_secs(6), "{path}: {:?}", began.elapsed());
        assert_eq!(stage.upstream.count(), 0);
        billing.behave("", Conduct::Honest);
        eventually(path, async || {
            let paid = stage.gateway.send(embed(&stage, &key(1), "")).await.status == 200;
            let claimed = stage.gateway.send(stage.gateway.delivery(APP, &stays)).await.status == 200;
            paid && claimed
        })
        .await;
        stage.upstream.clear();
    }
    unharmed(&stage).await;
    stage.finish();
}
