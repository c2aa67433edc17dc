//! What the logs tell of each request and delivery, and what no log and no file ever holds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what does not hold in a test is the test's failure"
)]

use serde_json::{Value, json};
use stage::client::{Call, raw};
use stage::harness::{Options, Stage, eventually};
use stage::leaks::{BODY_MARK, Leaks};
use stage::stripe::{self, event, now};
use stage::tools::root;

const APP: &str = "/webhooks/app";
const STRIPE: &str = "/webhooks/stripe";
const EMBEDDINGS: &str = "/v1/embeddings";

/// Costs a credit that no free window pays.
fn embed(stage: &Stage, credential: &str) -> Call {
    let body = json!({ "model": "scripted", "input": BODY_MARK });
    Call::post(stage.settings().gateway(EMBEDDINGS)).bearer(credential).json(&body)
}

fn note(id: &str) -> Value {
    event(id, "customer.updated", &json!({ "id": "cus_nobody", "object": "customer", "name": BODY_MARK }))
}

/// Ends Envoy, which writes its access log out then, and reads it: one line for each request.
fn access_log(stage: &mut Stage) -> Vec<Value> {
    stage.gateway.envoy.stop();
    let log = stage.gateway.envoy.log();
    let lines = log.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|no| panic!("{no}: {line}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_tells_who_asked_what_was_decided_and_what_it_cost() {
    let mut stage = Stage::start(Options::default());
    let (alice, bob) = (stage.token("alice"), stage.token("bob"));
    stage.account("alice", 5).await;
    let gateway = &stage.gateway;
    let charged = gateway.send(embed(&stage, &alice)).await;
    let answers = [
        gateway.send(embed(&stage, &alice).header("x-script", "status=500")).await.status,
        gateway.send(embed(&stage, &bob)).await.status,
        gateway
            .send(Call::post(stage.settings().gateway("/v1/embeddings?key=tgk_of_a_careless_sdk")))
            .await
            .status,
        gateway.send(gateway.delivery(APP, &note("evt_good"))).await.status,
        gateway
            .send(
                stripe::delivery(stage.settings().gateway(STRIPE), "whsec_somebody_elses", &note("evt_bad"))
                    .unwrap(),
            )
            .await
            .status,
        gateway.send(Call::get(stage.settings().gateway("/nowhere"))).await.status,
    ];
    assert_eq!((charged.status, answers), (200, [500, 402, 401, 200, 400, 404]));
    stage.billing.as_mut().unwrap().kill();
    let carol = stage.token("carol");
    assert_eq!(stage.gateway.send(embed(&stage, &carol)).await.status, 503);

    let lines = access_log(&mut stage);
    let own = [
        "account", "tier", "endpoint", "decision", "reason", "charged", "identity", "webhook", "event_id",
        "fault",
    ];
    let told = |path: &str, status: u16| {
        let all: Vec<_> =
            lines.iter().filter(|line| line["path"] == path && line["status"] == status).collect();
        let [line] = all[..] else { panic!("{path} {status}: {all:?} of {lines:?}") };
        let of_ours = |name: &&str| line.get(*name).is_some_and(|value| !value.is_null());
        own.into_iter()
            .filter(of_ours)
            .map(|name| (name.to_owned(), line[name].clone()))
            .collect::<serde_json::Map<_, _>>()
    };
    let expect = |path, status, wanted: Value| {
        assert_eq!(Value::Object(told(path, status)), wanted, "{path} {status}")
    };
    let alices = |charged: &str| json!({ "account": "alice", "tier": "free", "endpoint": "embeddings", "decision": "pass", "charged": charged });
    expect(EMBEDDINGS, 200, alices("1"));
    expect(EMBEDDINGS, 500, alices("0"));
    let refused = |reason: &str| json!({ "endpoint": "embeddings", "decision": reason, "reason": reason });
    expect(EMBEDDINGS, 402, refused("insufficient_credits"));
    let mut unknown = refused("unauthenticated");
    unknown["identity"] = json!("missing");
    expect(EMBEDDINGS, 401, unknown);
    let mut away = refused("service_unavailable");
    away["fault"] = json!("unreachable");
    expect(EMBEDDINGS, 503, away);
    expect(APP, 200, json!({ "webhook": "accepted", "event_id": "evt_good" }));
    expect(STRIPE, 400, json!({ "webhook": "mismatch" }));
    expect("/nowhere", 404, json!({}));
    let first = lines.iter().find(|line| line["status"] == 200 && line["path"] == EMBEDDINGS).unwrap();
    assert_eq!(first["request_id"], charged.header("x-tollgate-request-id"), "a customer can quote it");
}

/// Whatever the filter leaves for the access log has a field in the file that people copy.
#[test]
fn every_fact_has_a_field() {
    let root = root().unwrap();
    let yaml = std::fs::read_to_string(root.join("envoy/envoy.yaml")).unwrap();
    let mut facts = 0;
    let mut folders = vec![root.join("crates/gate/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let text = std::fs::read_to_string(&entry).unwrap();
            for fact in text.split('"').filter(|word| {
                word.strip_prefix("tollgate.").is_some_and(|key| key.bytes().all(|b| b.is_ascii_lowercase()))
            }) {
                facts += 1;
                assert!(
                    yaml.contains(&format!("%FILTER_STATE(wasm.{fact}:PLAIN)%")),
                    "{fact} of {}",
                    entry.display()
                );
            }
        }
    }
    assert!(facts >= 10, "only {facts} were found");
}

/// Everything at its most talkative, as an operator turns it on in need; only Envoy's own debug level, which prints all
/// headers, is not.
#[tokio::test(flavor = "multi_thread")]
async fn no_log_holds_a_secret_a_key_a_token_or_a_body() {
    const SECRET: &str = "whsec_/this+one=is/told?to&nobody";
    let options = Options::default()
        .with("STRIPE_WEBHOOK_SECRET", SECRET)
        .with("STRIPE_WEBHOOK_SECRET_PREVIOUS", "whsec_the-one-before-is-told-to-nobody")
        .with("ADMIN_TOKEN", "admins/token+that=is-secret")
        .with("GATEWAY_TOKEN", "gateways/token+that=is-secret")
        .with("RUST_LOG", "debug");
    let mut stage = Stage::start(options);
    let level = stage.gateway.send(Call::post(stage.settings().admin("/logging?wasm=trace"))).await;
    assert_eq!(level.status, 200, "{}", level.text());
    stage.account("alice", 3).await;
    let made = stage.admin_post("/admin/v1/api-keys", &json!({ "account": "alice" })).await;
    let (key, token) = (made["key"].as_str().unwrap().to_owned(), stage.token("alice"));
    let strangers_key = format!("tgk_{}", "Zz9y".repeat(8));
    let strangers_token = format!("{}AAAA", token.get(..token.len() - 4).unwrap());

    let statuses = [
        deliveries(&stage, SECRET).await,
        requests(&stage, &[&key, &strangers_key, &token, &strangers_token]).await,
        operators(&stage).await,
    ];
    for status in [200, 201, 400, 401, 402, 403, 404, 405, 409, 413, 500, 503] {
        assert!(statuses.concat().contains(&status), "nothing was answered {status}: {statuses:?}");
    }
    eventually("what is finished is reported", async || {
        stage.admin_get("/admin/v1/accounts/alice").await["held_micro"] == 0
    })
    .await;
    stage.billing.as_mut().unwrap().kill();
    let carol = stage.token("carol");
    assert_eq!(stage.gateway.send(embed(&stage, &carol)).await.status, 503);
    assert_eq!(stage.gateway.send(stage.gateway.delivery(APP, &note("evt_unclaimed"))).await.status, 503);
    stage.gateway.envoy.stop();

    let settings = stage.settings();
    let mut leaks = Leaks::of(settings);
    for (name, secret) in [
        ("alice's key", &key),
        ("a wrong key", &strangers_key),
        ("alice's token", &token),
        ("a wrong token", &strangers_token),
        ("carol's token", &carol),
    ] {
        leaks.add(name, secret);
    }
    let found = leaks.in_logs_under(&settings.run_dir);
    assert!(found.is_empty(), "{found:#?}");
    // Beside the logs lie Envoy's file and the ledger, which keeps events, but nothing by which anybody could pretend to be somebody.
    let bodies = |line: &String| line.contains("billing.db") && line.contains("a body");
    let found: Vec<_> =
        leaks.in_files_under(&settings.run_dir).into_iter().filter(|line| !bodies(line)).collect();
    assert!(found.is_empty(), "{found:#?}");
    // The search looks where something is to be found: both logs, at the levels that were asked for.
    let billing = stage.billing.as_ref().unwrap().log();
    assert!(billing.contains(r#""level":"DEBUG""#) && billing.contains("evt_bought"), "{billing}");
    assert!(stage.gateway.envoy.log().contains("[trace][wasm]"));
}

/// Deliveries of every kind; what they were answered.
async fn deliveries(stage: &Stage, secret: &str) -> Vec<u16> {
    let url = |path: &str| stage.settings().gateway(path);
    let signed = |path: &str, body: String| stripe::delivery_at(url(path), secret, body, now()).unwrap();
    let good = note("evt_twice").to_string();
    let bought = stripe::package_bought("evt_bought", "alice", "starter", 500, "usd");
    let mut odd = stripe::package_bought("evt_odd", "alice", BODY_MARK, 500, BODY_MARK);
    odd["data"]["object"]["client_reference_id"] = json!(BODY_MARK);
    let mut calls = vec![
        signed(APP, good.clone()),
        signed(APP, good.clone()),
        signed(STRIPE, bought.to_string()),
        signed(STRIPE, odd.to_string()),
        signed(APP, format!("{{\"id\": \"{BODY_MARK}\"")),
        signed(STRIPE, format!("[\"{BODY_MARK}\", {secret:?}]")),
        signed(
            STRIPE,
            json!({ "id": "evt_x", "type": BODY_MARK.repeat(40), "livemode": BODY_MARK }).to_string(),
        ),
        signed(APP, BODY_MARK.repeat(60_000)),
        stripe::delivery_at(url(APP), secret, good.clone(), units::Instant::from_secs(now().secs() - 4_000))
            .unwrap(),
        stripe::delivery_at(url(STRIPE), "whsec_somebody_elses", good.clone(), now()).unwrap(),
        Call::post(url(STRIPE)).body(good.clone()),
        Call::post(url(STRIPE)).header("stripe-signature", format!("t=1,v1={secret}")).body(good),
        signed(APP, note("evt_fails").to_string()).header("x-script", "status=500"),
        // The service itself is asked too, without a gateway in between.
        Call::post(stage.settings().billing(STRIPE)).header("stripe-signature", secret).body(BODY_MARK),
    ];
    calls.push(
        stripe::delivery_at(stage.settings().billing(STRIPE), secret, format!("{{\"{BODY_MARK}\""), now())
            .unwrap(),
    );
    all(stage, calls).await
}

/// Requests with every credential everywhere; what they were answered.
async fn requests(stage: &Stage, credentials: &[&String]) -> Vec<u16> {
    let url = |path: &str| stage.settings().gateway(path);
    let mut calls = vec![embed(stage, &stage.token("bob"))];
    for credential in credentials {
        calls.push(embed(stage, credential));
        calls.push(embed(stage, credential).http2().header("x-script", "status=500"));
        calls.push(embed(stage, credential).header("x-script", "reset"));
        calls.push(embed(stage, credential).header("x-script", "reset_after=0"));
        for header in ["x-api-key", "x-goog-api-key", "cookie"] {
            calls.push(Call::post(url("/v1/images/generations")).header(header, credential).body(BODY_MARK));
        }
        calls.push(Call::post(url(&format!("{EMBEDDINGS}?key={credential}&token={credential}"))));
        calls.push(embed(stage, credential).header("x-api-key", "tgk_another"));
        calls.push(embed(stage, &format!("{credential}\u{e9}")));
        calls.push(Call::get(url("/billing/balance")).bearer(credential));
        calls.push(Call::get(url("/billing/nothing-here")).bearer(credential));
        calls.push(Call::get(url(EMBEDDINGS)).bearer(credential));
        calls.push(embed(stage, credential).body(BODY_MARK.repeat(200_000)));
        let _ = raw(stage.settings().gateway_port, format!("POST {EMBEDDINGS} HTTP/1.1\r\nauthorization: Bearer {credential}\r\nbad\0header: x\r\n\r\n{BODY_MARK}").as_bytes());
    }
    all(stage, calls).await
}

/// What operators and other gateways get wrong; what they were answered.
async fn operators(stage: &Stage) -> Vec<u16> {
    let (settings, url) = (stage.settings(), |path: &str| stage.settings().billing(path));
    let grant = |credits: u32| json!({ "account": "alice", "credits": credits, "note": BODY_MARK });
    let once = |credits| {
        Call::post(url("/admin/v1/grants"))
            .bearer(&settings.admin_token)
            .header("idempotency-key", "a-grant")
            .json(&grant(credits))
    };
    let mut calls = vec![once(1), once(2)];
    for token in [&settings.admin_token, &settings.gateway_token, &settings.webhook_secret] {
        for path in [
            "/admin/v1/accounts",
            "/admin/v1/grants",
            "/admin/v1/api-keys",
            "/gateway/v1/sync",
            "/gateway/v1/hello",
            "/gateway/v1/events/claim",
        ] {
            for body in [
                json!({ "account": "alice", "credits": BODY_MARK, "node": "n", "note": BODY_MARK }),
                json!({ "id": "alice", "account": "nobody", "credits": 1 }),
            ] {
                calls.push(Call::post(url(path)).bearer(token).header("idempotency-key", "once").json(&body));
            }
            calls.push(Call::post(url(path)).bearer(token).body(format!("{{\"{BODY_MARK}")));
        }
        calls.push(Call::get(url(&format!("/admin/v1/accounts/nobody?token={token}"))).bearer(token));
        calls.push(Call::get(url("/v1/balance")).bearer(token).header("x-tollgate-subject", BODY_MARK));
        calls.push(
            Call::get(url("/ext_authz/chat/v1"))
                .header("x-tollgate-gateway-token", token)
                .bearer("tgk_wrong"),
        );
    }
    all(stage, calls).await
}

async fn all(stage: &Stage, calls: Vec<Call>) -> Vec<u16> {
    let mut statuses = Vec::new();
    for call in calls {
        // A broken answer is an answer here.
        statuses.push(stage.gateway.client.send(call).await.map_or(0, |answer| answer.status));
    }
    statuses
}
