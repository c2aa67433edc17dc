//! Each way in which an answer can go, and what it costs then.

use crate::rig::{chat, customer, has, record, start};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_costs_what_it_says_it_used() {
    let stage = start();
    let key = customer(&stage, "alice", 1_000_000).await;
    let mut owned = 1_000_000;
    for (n, (script, stream, cost)) in [
        ("input=20;tokens=7", false, 20 * 10 + 7 * 40),
        ("input=20;tokens=7", true, 20 * 10 + 7 * 40),
        ("input=20;cached=15;tokens=9;reasoning=4", true, 5 * 10 + 15 + 5 * 40 + 4 * 60),
        ("input=20;tokens=7;usage_in=each;no_done", true, 20 * 10 + 7 * 40),
        ("input=20;tokens=7;frame=3;crlf", true, 20 * 10 + 7 * 40),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = stage.gateway.send(chat(&stage, &key, script, &json!({ "stream": stream }))).await;
        assert_eq!(answer.status, 200, "{script}: {}", answer.text());
        assert!(
            !stream || !answer.text().contains("prompt_tokens") || script.contains("each"),
            "{}",
            answer.text()
        );
        owned -= cost;
        has(&stage, "alice", owned).await;
        let told = record(&stage, &key, n + 1).await;
        assert_eq!((&told["input_tokens"], &told["charged_micro"]), (&json!(20), &json!(cost)), "{told}");
        assert_eq!(told["request_id"].as_str(), Some(answer.header("x-tollgate-request-id")));
    }
    stage.finish();
}
