//! What is paid for: an SDK that speaks through the gateway gets what it gets from the upstream itself, streamed or not.

use crate::programs::{Maker, SDKS, Sdk};
use serde_json::{Value, json};
use stage::harness::{Options, Stage, eventually};

/// What can be asked both ways: everything that an SDK's maker offers of what the demo routes.
fn everything(sdk: Sdk, key: &str) -> Vec<Value> {
    let step = |call: &str| json!({ "key": key, "call": call });
    let stream = |call: &str| json!({ "key": key, "call": call, "stream": true });
    let broken = json!({ "x-script": "reset_after=2" });
    let mut steps = vec![
        step("chat"),
        stream("chat"),
        json!({ "key": key, "call": "chat", "stream": true, "headers": broken }),
    ];
    if sdk.maker == Maker::OpenAi {
        steps.extend([
            step("models"),
            json!({ "key": key, "call": "chat", "stream": true, "usage": true }),
            step("responses"),
            stream("responses"),
            step("embeddings"),
        ]);
    }
    steps
}

/// Takes out the times at which the upstream answered: two answers to the same question differ in them.
pub(crate) fn without_times(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| *name != "created" && *name != "created_at");
            kept.map(|(name, value)| (name.clone(), without_times(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_times).collect(),
        other => other.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sdk_gets_what_it_gets_without_a_gateway_and_pays_for_it() {
    let stage = Stage::start(Options::default());
    for sdk in SDKS {
        let (account, key) = sdk.customer(&stage, 10).await;
        let steps = everything(sdk, &key);
        let (gateway, upstream) = (stage.settings().gateway(""), stage.settings().upstream(""));
        // The upstream fails, always and once: the SDK tries again as it always does, and only what was delivered is charged.
        let once = json!({ "x-script": format!("fail_first=1;key={account}") });
        let failing = [
            json!({ "key": key, "call": "chat", "headers": { "x-script": "status=500" } }),
            json!({ "key": key, "call": "chat", "headers": once }),
        ];
        let all = [steps.as_slice(), &failing].concat();
        let (through, direct) = tokio::join!(sdk.run(&gateway, &all), sdk.run(&upstream, &steps));
        for ((step, through), direct) in steps.iter().zip(&through).zip(&direct) {
            let broken = step["headers"].is_object();
            let what = if broken { "raised" } else { "answer" };
            assert!(!direct[what].is_null(), "{sdk:?} {step}: {direct}");
            assert_eq!(without_times(&through[what]), without_times(&direct[what]), "{sdk:?} {step}");
            if !broken {
                told_with_the_answer(step, through, direct);
            }
        }

        let outcomes = &through[steps.len()..];
        assert_eq!(
            (&outcomes[0]["raised"], &outcomes[0]["status"]),
            (&json!("InternalServerError"), &json!(500))
        );
        assert!(outcomes[1]["answer"].is_object(), "{sdk:?}: {}", outcomes[1]);

        let seen = stage.upstream.requests();
        let mine: Vec<_> =
            seen.iter().filter(|item| item.headers.get("x-tollgate-account") == Some(&account)).collect();
        assert_eq!(
            mine.len(),
            steps.len() + 3 + 2,
            "{sdk:?}: three tries that failed, and two of which one did not"
        );
        for item in mine {
            let secret = ["authorization", "x-api-key"].iter().find(|name| item.headers.contains_key(**name));
            assert_eq!(secret, None, "{sdk:?}: a customer's key went upstream");
        }
        // Three chat requests a day are free, the list of models is, and each other step costs a credit.
        let left = if sdk.maker == Maker::OpenAi { "5" } else { "9" };
        eventually("what was delivered is charged", async || stage.balance(&account).await == left).await;
    }
    stage.finish();
}

/// An SDK's user can read what the gateway says beside the answer.
fn told_with_the_answer(step: &Value, through: &Value, direct: &Value) {
    let header = |name: &str| through["headers"][name].as_str().unwrap_or_default();
    assert!(direct["headers"]["x-tollgate-request-id"].is_null());
    assert!(!header("x-tollgate-request-id").is_empty(), "{step}: {through}");
    assert!(
        header("x-tollgate-balance").parse::<u32>().is_ok_and(|credits| credits <= 10),
        "{step}: {through}"
    );
    if step["call"] == "chat" {
        assert_eq!(header("ratelimit-policy"), "\"daily\";q=3", "{step}: {through}");
        assert!(header("ratelimit").starts_with("\"daily\";r="), "{step}: {through}");
    }
}
