//! What is refused: an SDK raises its own typed error with our reason in it, and asks again only where that helps.

use crate::programs::{Maker, SDKS, Sdk};
use serde_json::{Value, json};
use stage::harness::{Options, Stage};

/// A step, and the outcome that it must have: status, class, type, code, words of the message.
struct Refused(Value, u16, &'static str, &'static str, &'static str, &'static str);

fn refused(sdk: Sdk, key: &str) -> Vec<Refused> {
    let step = |call: &str| json!({ "key": key, "call": call });
    let with = |key: String| json!({ "key": key, "call": "chat" });
    let paid =
        |step, code, words| Refused(step, 402, sdk.payment_required, "insufficient_quota", code, words);
    let unknown =
        |step, code, words| Refused(step, 401, "AuthenticationError", "authentication_error", code, words);
    let stream = json!({ "key": key, "call": "chat", "stream": true });
    let mut all = vec![
        paid(step("chat"), "daily_limit_reached", "Your free requests for today are used up."),
        paid(stream, "daily_limit_reached", "Your free requests for today are used up."),
        unknown(with(format!("tgk_{}", "A".repeat(32))), "unknown_customer", "belongs to no customer"),
        unknown(with("sk-somebody-elses".into()), "unauthenticated", "Send a valid API key"),
    ];
    if sdk.maker == Maker::OpenAi {
        let (class, kind) = ("PermissionDeniedError", "permission_error");
        all.push(paid(step("embeddings"), "insufficient_credits", "Not enough credits"));
        all.push(Refused(
            step("images"),
            403,
            class,
            kind,
            "tier_not_allowed",
            "Your plan does not include this.",
        ));
    }
    all
}

/// How many requests this Envoy was sent.
async fn asked(stage: &Stage) -> u64 {
    stage.gateway.stats().await["http.gateway.downstream_rq_total"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_the_sdks_own_error_and_is_asked_for_once() {
    let mut stage = Stage::start(Options::default());
    let gateway = stage.settings().gateway("");
    for sdk in SDKS {
        let (account, key) = sdk.customer(&stage, 0).await;
        let free = vec![json!({ "key": key, "call": "chat" }); 3];
        let refused = refused(sdk, &key);
        let steps: Vec<_> = free.iter().chain(refused.iter().map(|refused| &refused.0)).cloned().collect();
        let before = asked(&stage).await;
        let outcomes = sdk.run(&gateway, &steps).await;
        assert_eq!(asked(&stage).await - before, steps.len() as u64, "{sdk:?} asked again: {outcomes:?}");
        let (free, outcomes) = outcomes.split_at(free.len());
        assert!(free.iter().all(|outcome| outcome["answer"].is_object()), "{sdk:?}: {free:?}");
        for (Refused(step, status, class, kind, code, words), outcome) in refused.iter().zip(outcomes) {
            let of = |name: &str| outcome[name].as_str().unwrap_or_default().to_owned();
            assert_eq!(outcome["status"], json!(status), "{sdk:?} {step}: {outcome}");
            assert_eq!(
                (of("raised"), of("type"), of("code")),
                ((*class).into(), (*kind).into(), (*code).into()),
                "{sdk:?} {step}"
            );
            assert!(of("message").contains(words), "{sdk:?} {step}: {outcome}");
            // OpenAI's npm SDK keeps nothing but the inner object.
            let whole = sdk.program.ends_with(".py") && *code != "unauthenticated";
            assert_eq!(outcome["buy_url"].is_string(), whole, "{sdk:?} {step}: {outcome}");
            let headers = &outcome["headers"];
            assert_eq!(headers["x-should-retry"], "false", "{sdk:?} {step}: {outcome}");
            assert!(headers["x-tollgate-request-id"].is_string(), "{sdk:?} {step}: {outcome}");
            assert_eq!(
                headers["x-tollgate-balance"].is_string(),
                *status != 401,
                "{sdk:?} {step}: {outcome}"
            );
        }
        let seen = stage.upstream.requests();
        let mine = seen.iter().filter(|item| item.headers.get("x-tollgate-account") == Some(&account));
        assert_eq!(mine.count(), 3, "{sdk:?}: what is refused never reaches the upstream");
    }
    assert_eq!(stage.upstream.count(), 12);

    // Nobody can say whether it is paid for: that may be otherwise soon, and the SDK does ask again.
    stage.billing.take().unwrap().kill();
    let before = asked(&stage).await;
    // A key that no lease knows.
    let step = [json!({ "key": format!("tgk_{}", "B".repeat(32)), "call": "chat" })];
    let [a, b, c, d] = SDKS.map(|sdk| sdk.run(&gateway, &step));
    let (a, b, c, d) = tokio::join!(a, b, c, d);
    for (sdk, outcome) in SDKS.iter().zip([&a[0], &b[0], &c[0], &d[0]]) {
        let (status, class) = (&outcome["status"], &outcome["raised"]);
        assert_eq!((status, class), (&json!(503), &json!(sdk.unavailable)), "{sdk:?}: {outcome}");
        assert_eq!(outcome["code"], "service_unavailable", "{sdk:?}: {outcome}");
    }
    assert_eq!(asked(&stage).await - before, 12, "each asked three times");
    assert_eq!(stage.upstream.count(), 12);
    stage.finish();
}
