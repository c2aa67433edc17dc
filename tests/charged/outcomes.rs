//! Each way in which an answer can go, and what it costs then (the rows of what is charged in `docs/prices.md`).

use crate::rig::{Asked, Purse, chat, has, options, record, start};
use serde_json::{Value, json};
use stage::client::Call;
use stage::harness::Stage;

/// What the scripted upstream's text comes to where nobody counts its tokens: 16 bytes, in three pieces.
const COUNTED: i64 = 4 * 40;

fn streamed(asked: Asked) -> Asked {
    asked.with(&json!({ "stream": true }))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_costs_what_it_says_it_used() {
    let stage = start();
    let mut alice = Purse::of(&stage, "alice").await;
    for (script, stream, cost) in [
        ("input=20;tokens=7", false, 20 * 10 + 7 * 40),
        ("input=20;tokens=7", true, 20 * 10 + 7 * 40),
        ("input=20;cached=15;tokens=9;reasoning=4", true, 5 * 10 + 15 + 5 * 40 + 4 * 60),
        ("input=20;tokens=7;usage_in=each;no_done", true, 20 * 10 + 7 * 40),
        ("input=20;tokens=7;usage_in=groq", true, 20 * 10 + 7 * 40),
        ("input=20;tokens=7;frame=3;crlf", true, 20 * 10 + 7 * 40),
        ("input=20;tokens=7;model=dearest", false, 20 * 100 + 7 * 400),
    ] {
        let asked = chat(&stage, &alice.key, script).with(&json!({ "stream": stream }));
        let answer = stage.gateway.send(asked.call()).await;
        assert_eq!(answer.status, 200, "{script}: {}", answer.text());
        let told = answer.text().contains("prompt_tokens");
        assert_eq!(
            told,
            !stream || script.contains("each") || script.contains("groq"),
            "{script}: who asked for it?"
        );
        let record = alice.paid(&stage, cost, "stated").await;
        assert_eq!(record["input_tokens"], json!(20), "{record}");
        assert_eq!(record["request_id"].as_str(), Some(answer.header("x-tollgate-request-id")));
    }
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_of_answer_is_read() {
    let stage = start();
    let mut bob = Purse::of(&stage, "bob").await;
    let words = json!({ "role": "user", "content": "hello" });
    for (path, body) in [
        ("/v1/messages", json!({ "messages": [words], "max_tokens": 50 })),
        ("/v1/responses", json!({ "input": "hello" })),
        ("/v1/completions", json!({ "prompt": "hello", "max_tokens": 50 })),
    ] {
        for stream in [false, true] {
            let asked = Asked::new(&stage, path, &bob.key, "input=20;tokens=7", &body);
            let answer = stage.gateway.send(asked.with(&json!({ "stream": stream })).call()).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            bob.paid(&stage, 20 * 10 + 7 * 40, "stated").await;
        }
    }
    let cache = "input=20;cached=5;cache_written=10;tokens=7;restated=90";
    let asked = Asked::new(
        &stage,
        "/v1/messages",
        &bob.key,
        cache,
        &json!({ "messages": [words], "max_tokens": 50 }),
    );
    assert_eq!(stage.gateway.send(streamed(asked).call()).await.status, 200);
    let said = stage.upstream.requests().pop().unwrap().said.unwrap();
    let plain = i64::try_from(said.input - said.cached).unwrap();
    let record = bob.paid(&stage, plain * 10 + 5 + 7 * 40, "stated").await;
    assert_eq!(record["input_tokens"], json!(said.input), "what was stated last: {record}");
    let asked = Asked::new(&stage, "/v1/embeddings", &bob.key, "input=20", &json!({ "input": "hello" }));
    assert_eq!(stage.gateway.send(asked.call()).await.status, 200);
    bob.paid(&stage, 200, "stated").await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_delivered_costs_nothing() {
    let stage = Stage::start(
        options().route("/v1/chat/completions", |route| route["route"]["timeout"] = json!("0.5s")),
    );
    let mut carol = Purse::of(&stage, "carol").await;
    for (script, status) in [
        ("status=500", 500),
        ("status=429", 429),
        ("status=400", 400),
        ("reset", 503),
        ("hang", 504),
        ("header.x-tollgate-charge=none", 200),
    ] {
        for stream in [false, true] {
            let asked = chat(&stage, &carol.key, script).with(&json!({ "stream": stream }));
            let answer = stage.gateway.send(asked.call()).await;
            assert!(
                answer.status == status || (script == "reset" && answer.status == 502),
                "{script}: {}",
                answer.status
            );
            assert_eq!(
                answer.header("x-tollgate-charged"),
                if answer.status < 500 || script == "status=500" {
                    "0"
                } else {
                    answer.header("x-tollgate-charged")
                }
            );
            carol.kept(&stage, "failed").await;
        }
    }
    // Refused here: nobody was asked.
    stage.upstream.clear();
    let unknown = chat(&stage, &carol.key, "").with(&json!({ "model": "unheard-of" }));
    let answer = stage.gateway.send(unknown.call()).await;
    assert_eq!(
        (answer.status, &answer.json()["reason"]),
        (403, &json!("model_unknown")),
        "{}",
        answer.text()
    );
    for body in
        ["{", "[]", r#"{"model":"scripted","messages":[],"max_tokens":-1}"#, r#"{"model":"a","model":"b"}"#]
    {
        let call = Call::post(stage.settings().gateway("/v1/chat/completions"))
            .bearer(&carol.key)
            .body(body.to_owned());
        let answer = stage.gateway.send(call).await;
        assert_eq!(
            (answer.status, &answer.json()["reason"]),
            (400, &json!("request_unreadable")),
            "{body}: {}",
            answer.text()
        );
    }
    assert_eq!(stage.upstream.count(), 0);
    has(&stage, "carol", carol.left).await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_stated_is_counted() {
    let stage = start();
    let mut dave = Purse::of(&stage, "dave").await;
    for (script, stream, basis) in [
        ("no_usage", false, "counted"),
        ("no_usage", true, "counted"),
        ("odd_usage", false, "counted"),
        ("odd_usage", true, "counted"),
    ] {
        let asked = chat(&stage, &dave.key, script).with(&json!({ "stream": stream }));
        assert_eq!(stage.gateway.send(asked.call()).await.status, 200);
        dave.paid(&stage, asked.probable_input() * 10 + COUNTED, basis).await;
    }
    // Nobody here reads what is compressed, whatever it says: the hold is all that is known.
    let asked = chat(&stage, &dave.key, "input=20;tokens=7;gzip").with(&json!({ "max_tokens": 50 }));
    assert_eq!(stage.gateway.send(asked.call()).await.status, 200);
    dave.paid(&stage, asked.bytes() * 10 + 50 * 60, "hold").await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_broke_off_costs_what_came_of_it() {
    let stage = start();
    let mut erin = Purse::of(&stage, "erin").await;
    // The role, `Paid ` and `and `: nine bytes in two pieces.
    let asked = streamed(chat(&stage, &erin.key, "reset_after=3;chunk_delay_ms=5"));
    assert!(stage.gateway.client.send(asked.call()).await.is_err());
    erin.paid(&stage, asked.probable_input() * 10 + 3 * 40, "counted").await;
    // Anthropic says at the beginning what came in.
    let words =
        json!({ "messages": [{ "role": "user", "content": "hello" }], "max_tokens": 50, "stream": true });
    let asked = Asked::new(
        &stage,
        "/v1/messages",
        &erin.key,
        "input=20;tokens=7;reset_after=4;chunk_delay_ms=5",
        &words,
    );
    assert!(stage.gateway.client.send(asked.call()).await.is_err());
    erin.paid(&stage, 20 * 10 + 3 * 40, "at_least").await;
    // All was said before it broke.
    let asked = streamed(chat(&stage, &erin.key, "input=20;tokens=7;abort_after_usage"));
    _ = stage.gateway.client.send(asked.call()).await;
    erin.paid(&stage, 20 * 10 + 7 * 40, "stated").await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_pays_for_what_was_delivered() {
    let stage = start();
    let mut fred = Purse::of(&stage, "fred").await;
    // Before the answer began: nothing was delivered.
    let asked = streamed(chat(&stage, &fred.key, "delay_ms=400"));
    let call = asked.call();
    let left =
        tokio::time::timeout(std::time::Duration::from_millis(150), stage.gateway.client.send(call)).await;
    assert!(left.is_err(), "it had answered already");
    fred.kept(&stage, "client_left").await;
    // Within it: what had come.
    let asked = streamed(chat(&stage, &fred.key, "words=500;chunk_delay_ms=20"));
    let mut answer = stage.gateway.client.open(asked.call()).await.unwrap();
    for _ in 0..4 {
        answer.next().await.unwrap();
    }
    drop(answer);
    fred.records += 1;
    let told = record(&stage, &fred.key, fred.records).await;
    assert_eq!((&told["outcome"], &told["basis"]), (&json!("client_left"), &json!("counted")), "{told}");
    let (input, output) = (asked.probable_input(), told["output_tokens"].as_i64().unwrap());
    assert!((2..40).contains(&output), "some of five hundred: {told}");
    assert_eq!(told["charged_micro"], json!(input * 10 + output * 40));
    fred.left -= input * 10 + output * 40;
    // After all was told: what was told.
    let asked = streamed(chat(&stage, &fred.key, "input=20;tokens=7"));
    let mut answer = stage.gateway.client.open(asked.call()).await.unwrap();
    while answer.next().await.unwrap().is_some() {}
    drop(answer);
    fred.paid(&stage, 20 * 10 + 7 * 40, "stated").await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_may_say_what_is_charged_where_nothing_is_stated() {
    let rule = |missing: &'static str| move |rule: &mut Value| rule["missing_usage"] = json!(missing);
    let stage = Stage::start(
        options().rule("/v1/chat/completions", rule("hold")).rule("/v1/completions", rule("input")),
    );
    let mut gina = Purse::of(&stage, "gina").await;
    let asked = chat(&stage, &gina.key, "no_usage").with(&json!({ "max_tokens": 50 }));
    assert_eq!(stage.gateway.send(asked.call()).await.status, 200);
    gina.paid(&stage, asked.bytes() * 10 + 50 * 60, "hold").await;
    let asked = Asked::new(&stage, "/v1/completions", &gina.key, "no_usage", &json!({ "prompt": "hello" }));
    assert_eq!(stage.gateway.send(asked.call()).await.status, 200);
    gina.paid(&stage, asked.probable_input() * 10, "input").await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn envoys_retry_is_one_hold_and_one_charge() {
    let retry = json!({ "retry_on": "5xx", "num_retries": 2 });
    let options = options()
        .route("/v1/chat/completions", move |route| route["route"]["retry_policy"] = retry.clone())
        .edit(|file| {
            let clusters = file.at("/static_resources/clusters")?.as_array_mut().into_iter().flatten();
            // By itself Envoy is not to repeat what costs money.
            clusters
                .filter(|cluster| cluster["name"] == "upstream")
                .for_each(|cluster| cluster["circuit_breakers"]["thresholds"][0]["max_retries"] = json!(3));
            Ok(())
        });
    let stage = Stage::start(options);
    let mut ida = Purse::of(&stage, "ida").await;
    for stream in [false, true] {
        let script = format!("fail_first=1;key={stream};input=20;tokens=7");
        let asked = chat(&stage, &ida.key, &script).with(&json!({ "stream": stream }));
        assert_eq!(stage.gateway.send(asked.call()).await.status, 200);
        ida.paid(&stage, 20 * 10 + 7 * 40, "stated").await;
    }
    assert_eq!(stage.upstream.count(), 4);
    let bodies: Vec<_> = stage.upstream.requests().into_iter().map(|item| item.body).collect();
    assert_eq!(
        (&bodies[0], &bodies[2]),
        (&bodies[1], &bodies[3]),
        "the second attempt is bounded as the first was"
    );
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_says_that_it_failed_costs_nothing() {
    let stage = start();
    let mut lara = Purse::of(&stage, "lara").await;
    for stream in [false, true] {
        let asked = chat(&stage, &lara.key, "says_error").with(&json!({ "stream": stream }));
        let answer = stage.gateway.send(asked.call()).await;
        assert!(answer.status == 200 && answer.text().contains("error"), "{}", answer.text());
        lara.kept(&stage, "failed").await;
    }
    stage.finish();
}
