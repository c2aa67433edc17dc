//! Events that others sign: Stripe's npm SDK, and localstripe, which plays Stripe and was not written for us.

use crate::programs::{SDKS, command, run};
use serde_json::{Value, json};
use stage::client::Call;
use stage::harness::{Options, Stage, eventually};
use stage::processes::Process;
use stage::stripe::{event, now};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::AtomicBool;

#[tokio::test(flavor = "multi_thread")]
async fn what_stripes_npm_sdk_signs_passes_once_and_unchanged() {
    let stage = Stage::start(Options::default());
    let note = event("evt_npm", "customer.updated", &json!({ "id": "cus_é€", "object": "customer" }));
    let body = serde_json::to_string_pretty(&note).unwrap();
    let at = now().secs().to_string();
    let header = run("stripe_sign.cjs", &[&stage.settings().webhook_secret, &at], &body);
    let call = Call::post(stage.settings().gateway("/webhooks/app")).header("stripe-signature", header);
    let tampered = call.clone().body(body.replace("cus_é€", "cus_é"));
    assert_eq!(stage.gateway.send(tampered).await.status, 400);
    for duplicate in ["", "true"] {
        let answer = stage.gateway.send(call.clone().body(body.clone())).await;
        assert_eq!((answer.status, answer.header("x-tollgate-duplicate")), (200, duplicate));
    }
    let seen = stage.upstream.requests();
    let [item] = seen.as_slice() else { panic!("forwarded once, and not {} times", seen.len()) };
    assert_eq!(item.body_sha256, sha256(&body));
    stage.finish();
}

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// localstripe sends each event once, a second after it happened, all at the same time: the order is anybody's guess.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_at_localstripe_becomes_a_plan_here_and_ends_here_too() {
    let stage = Stage::start(Options::default());
    stage.account("kim", 0).await;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let mut server = command("play_stripe.py");
    server.arg(port.to_string());
    let mut localstripe = Process::start("localstripe", server, &stage.settings().run_dir).unwrap();
    localstripe.ready(port, "/js.stripe.com/v3/", &AtomicBool::new(false)).unwrap();
    let webhook = json!({
        "url": stage.settings().gateway("/webhooks/stripe"), "secret": stage.settings().webhook_secret,
    });
    let configure = Call::post(format!("http://127.0.0.1:{port}/_config/webhooks/tollgate")).json(&webhook);
    assert_eq!(stage.gateway.send(configure).await.status, 200);

    let port = port.to_string();
    let subscription = run("subscribe.py", &[&port, "subscribe", "kim", "price_pro"], "");
    let account = async || stage.admin_get("/admin/v1/accounts/kim").await;
    let stands = async |state: &str| account().await["state"] == state;
    eventually("the subscription is known", async || stands("active").await).await;
    assert_eq!(account().await["tier"], "pro");
    let token = stage.token("kim");
    let mine =
        stage.gateway.send(Call::get(stage.settings().gateway("/billing/subscription")).bearer(&token)).await;
    assert_eq!(
        (&mine.json()["tier"], &mine.json()["state"]),
        (&json!("pro"), &json!("active")),
        "{}",
        mine.text()
    );
    // Its invoice is paid, but does not say why it was made, as Stripe's do. No credits come of that, and a person is told.
    let odd = [
        ("invoice.payment_succeeded", "nothing was granted: unknown_reason"),
        ("payment_intent.succeeded", "amount_received is missing or is not what it always was"),
    ]
    .map(|(kind, why)| (kind.to_owned(), why.to_owned()));
    eventually("a person is told of what is odd", async || reviewed(&stage).await == odd).await;
    let grant = json!({ "account": "kim", "credits": 1000, "note": "the invoice was paid" });
    stage.admin_post("/admin/v1/grants", &grant).await;

    // What only this plan includes, asked with OpenAI's SDK and a token in the place of an API key.
    let image = [json!({ "key": token, "call": "images" })];
    let outcome = &SDKS[0].run(&stage.settings().gateway(""), &image).await[0];
    assert!(outcome["answer"]["data"][0]["b64_json"].is_string(), "{outcome}");
    eventually("an image costs five", async || stage.balance("kim").await == "995").await;

    run("subscribe.py", &[&port, "cancel", subscription.trim()], "");
    eventually("the subscription has ended", async || stands("canceled").await).await;
    assert_eq!(
        account().await["tier"],
        "pro",
        "what is paid for stays until its period ends: on_cancel in the catalog"
    );

    let known = stage.admin_get("/admin/v1/events").await;
    let of = |name: &str| {
        known["items"].as_array().unwrap().iter().filter(|event| event["status"] == name).count()
    };
    assert_eq!((of("unmatched"), of("waiting"), of("conflict")), (0, 0, 0), "{known}");
    assert_eq!(reviewed(&stage).await, odd);
    stage.finish();
}

/// The events that a person should look into: type and why, by type.
async fn reviewed(stage: &Stage) -> Vec<(String, String)> {
    let found = stage.admin_get("/admin/v1/events?status=review").await;
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let events = found["items"].as_array().unwrap().iter();
    let mut all: Vec<_> = events.map(|event| (text(event, "type"), text(event, "detail"))).collect();
    all.sort();
    all
}
