//! What is charged by its tokens: an SDK gets the very objects that it gets from the upstream, in their order, and pays for what was used.

use crate::answers::without_times;
use crate::programs::{Maker, SDKS, Sdk};
use serde_json::{Value, json};
use stage::harness::{Options, Stage, eventually};
use stage::upstream::Said;

/// Credits that each SDK's customer has.
const CREDITS: u32 = 1000;

/// Everything that an SDK's maker offers of what is priced by tokens.
fn everything(sdk: Sdk, key: &str) -> Vec<Value> {
    let used = json!({ "x-script": "input=60;cached=20;cache_written=10;tokens=30;reasoning=5" });
    let step = |call: &str, more: Value| json!({ "key": key, "call": call, "more": more, "headers": used });
    let stream = |call: &str, usage: bool, more: Value| json!({ "key": key, "call": call, "stream": true, "usage": usage, "more": more, "headers": used });
    let (plain, two) = (json!({}), json!({ "n": 2, "max_tokens": 20 }));
    if sdk.maker == Maker::Anthropic {
        let cut = json!({ "max_tokens": 3 });
        return vec![
            step("chat", plain.clone()),
            step("chat", cut.clone()),
            stream("chat", false, plain),
            stream("chat", false, cut),
        ];
    }
    let mut steps = vec![step("embeddings", plain.clone())];
    for call in ["chat", "completions"] {
        for more in [&plain, &two] {
            steps.push(step(call, more.clone()));
            steps.extend([false, true].map(|usage| stream(call, usage, more.clone())));
        }
    }
    steps.extend([step("responses", plain.clone()), stream("responses", false, plain)]);
    steps
}

/// In micro-credits, by the prices of `metered.yaml`, of which the gateway knows nothing but what billing tells it.
fn price(path: &str, said: &Said) -> u64 {
    let Said { input, cached, cache_written, output, .. } = *said;
    if path.ends_with("/embeddings") {
        return input * 200;
    }
    (input - cached - cache_written) * 1000 + cached * 100 + cache_written * 1250 + output * 4000
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sdk_gets_every_object_as_it_was_sent_and_pays_by_its_tokens() {
    let stage = Stage::start(Options::default().catalog(include_str!("metered.yaml")));
    for sdk in SDKS {
        let (account, key) = sdk.customer(&stage, CREDITS).await;
        let steps = everything(sdk, &key);
        let (gateway, upstream) = (stage.settings().gateway(""), stage.settings().upstream(""));
        let (through, direct) = tokio::join!(sdk.run(&gateway, &steps), sdk.run(&upstream, &steps));
        for ((step, through), direct) in steps.iter().zip(&through).zip(&direct) {
            assert!(!direct["answer"].is_null(), "{sdk:?} {step}: {direct}");
            assert_eq!(without_times(&through["answer"]), without_times(&direct["answer"]), "{sdk:?} {step}");
            let silent = sdk.maker == Maker::OpenAi && step["stream"] == true && step["usage"] == false;
            if silent && step["call"] != "responses" {
                let chunks = through["answer"].as_array().unwrap();
                let told = chunks.iter().find(|chunk| chunk.get("usage").is_some());
                assert_eq!(told, None, "{sdk:?} {step}: nobody asked");
            }
        }

        let seen = stage.upstream.requests();
        let mine = seen.iter().filter(|item| item.headers.get("x-tollgate-account") == Some(&account));
        let said: Vec<_> = mine.map(|item| (item.path.as_str(), item.said.as_ref().unwrap())).collect();
        assert_eq!(said.len(), steps.len(), "{sdk:?}: each step was asked once");
        // What the client did not ask for, the gateway did: else there would be nothing to charge by.
        assert!(said.iter().all(|(_, said)| said.complete && said.told), "{sdk:?}: {said:?}");
        let used: u64 = said.iter().map(|(path, said)| price(path, said)).sum();
        let left = u64::from(CREDITS) * 1_000_000 - used;
        eventually("what was used is charged, and nothing else", async || {
            let account = stage.admin_get(&format!("/admin/v1/accounts/{account}")).await;
            account["held_micro"] == 0 && account["balance_micro"] == left
        })
        .await;
    }
    stage.finish();
}
