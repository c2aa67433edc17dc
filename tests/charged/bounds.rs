//! Who can pay how much: limits are lowered to it, nobody goes below zero by them, and an estimate errs by what is said.

use crate::rig::{Asked, chat, customer, has, options, record, start};
use serde_json::{Value, json};
use stage::client::Answer;
use stage::harness::{Stage, eventually};
use tokio::task::JoinSet;

async fn all_at_once(stage: &Stage, asked: Vec<Asked>) -> Vec<Answer> {
    let mut running = JoinSet::new();
    for one in asked {
        let client = stage.gateway.client.clone();
        running.spawn(async move { client.send(one.call()).await.unwrap() });
    }
    running.join_all().await
}

fn statuses(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

/// The bodies that the upstream got, in order.
fn bodies(stage: &Stage) -> Vec<Value> {
    let seen = stage.upstream.requests();
    seen.iter().map(|item| serde_json::from_str(&item.body).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_stated_where_none_is_and_lowered_to_what_can_be_paid() {
    let stage = start();
    let key = customer(&stage, "alice", 20_000).await;
    let asked = chat(&stage, &key, "input=20;tokens=7");
    let input = asked.bytes() * 10;
    // Nothing was stated: the model's own limit is, and 200 tokens of 60 are held for, had they been reasoning.
    assert_eq!(stage.gateway.send(asked.call()).await.status, 200);
    assert_eq!(bodies(&stage)[0]["max_completion_tokens"], json!(200));
    has(&stage, "alice", 20_000 - 480).await;
    let held = &stage.upstream.requests()[0].headers["x-tollgate-hold"];
    assert_eq!(*held, format!("0.{:06}", input + 12_000).trim_end_matches('0'));
    // What was stated and can be paid passes as it came, to the last byte.
    let stated = asked.clone().with(&json!({ "max_tokens": 150, "temperature": 0.5 }));
    assert_eq!(stage.gateway.send(stated.call()).await.status, 200);
    assert_eq!(stage.upstream.requests()[1].body.len(), usize::try_from(stated.bytes()).unwrap());
    assert_eq!(bodies(&stage)[1]["max_tokens"], json!(150));
    has(&stage, "alice", 20_000 - 2 * 480).await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_little_left_gets_a_shorter_answer_and_who_has_too_little_a_402() {
    let stage = start();
    // Enough for the input and some 18 tokens.
    let bytes = chat(&stage, "", "").bytes();
    let micro = u64::try_from(bytes * 10 + 18 * 60 + 59).unwrap();
    let key = customer(&stage, "bob", micro).await;
    let asked = chat(&stage, &key, "input=20;tokens=1000");
    let answer = stage.gateway.send(asked.call()).await;
    assert_eq!((answer.status, answer.json()["usage"]["completion_tokens"].as_i64()), (200, Some(18)));
    assert_eq!(bodies(&stage)[0]["max_completion_tokens"], json!(18));
    let left = i64::try_from(micro).unwrap() - 20 * 10 - 18 * 40;
    has(&stage, "bob", left).await;
    // Below four tokens an answer is of no use, says the catalog: the request is refused, and told what it takes.
    let long = asked
        .with(&json!({ "messages": [{ "role": "user", "content": "x".repeat(100) }], "max_tokens": 500 }));
    let refused = stage.gateway.send(long.call()).await;
    let body = refused.json();
    assert_eq!((refused.status, &body["reason"]), (402, &json!("insufficient_credits")), "{body}");
    assert_eq!(body["required_micro"], json!(long.bytes() * 10 + 4 * 60), "{body}");
    assert_eq!((stage.upstream.count(), refused.header("x-should-retry")), (1, "false"));
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_goes_below_zero_whatever_an_upstream_answers() {
    let stage = start();
    let another = stage.another_gateway();
    let key = customer(&stage, "carol", 100_000).await;
    stage.upstream.clear();
    let scripts = [
        "tokens=1000;delay_ms=5",
        "tokens=1000;over;delay_ms=5",
        "no_usage",
        "tokens=1000;over;input=9000",
        "status=500",
    ];
    let asked = (0..200).map(|n| {
        let more = match n % 4 {
            0 => json!({ "stream": true }),
            1 => json!({ "max_tokens": 30, "n": 3 }),
            2 => json!({ "max_tokens": 100_000 }),
            _ => json!({}),
        };
        let one = chat(&stage, &key, scripts[n % scripts.len()]).with(&more);
        if n % 2 == 0 { one.at(&another.settings) } else { one }
    });
    let answers = all_at_once(&stage, asked.collect()).await;
    assert!(statuses(&answers, 402) > 0, "it was to run out");
    assert_eq!(statuses(&answers, 402) + statuses(&answers, 200) + statuses(&answers, 500), 200);
    eventually("every hold is settled", async || {
        let books = stage.admin_get("/admin/v1/accounts/carol").await;
        assert_eq!(books["debt_micro"], json!(0), "{books}");
        let (left, held) = (books["balance_micro"].as_i64().unwrap(), &books["held_micro"]);
        assert!((0..=100_000).contains(&left), "{books}");
        *held == json!(0) && left < 5_000
    })
    .await;
    drop(another);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_errs_by_no_more_than_is_said_and_the_next_purchase_pays_for_it() {
    let stage = start();
    let path = "/v1/estimated/chat/completions";
    let messages = json!({ "messages": [{ "role": "user", "content": "hello there" }], "max_tokens": 100 });
    let probe = Asked::new(&stage, path, "", "", &messages);
    // 20 tokens are usual, and 100 are the most; of its bytes a quarter is probably its input.
    let (hold, most) = (probe.probable_input() * 10 + 20 * 60, probe.bytes() * 10 + 100 * 60);
    let key = customer(&stage, "dave", u64::try_from(5 * hold).unwrap()).await;
    let asked = |script: &str| Asked::new(&stage, path, &key, script, &messages);
    let answers = all_at_once(
        &stage,
        (0..8).map(|_| asked("input=40;tokens=100;reasoning=100;delay_ms=300")).collect(),
    )
    .await;
    let served = statuses(&answers, 200);
    assert_eq!((served, statuses(&answers, 402)), (5, 3), "as many as were held for");
    assert!(
        !stage.upstream.requests()[0].body.contains("max_completion_tokens"),
        "an estimate bounds nothing"
    );
    let cost = 40 * 10 + 100 * 60;
    assert!(cost > hold && cost <= most);
    has(&stage, "dave", 5 * hold - 5 * cost).await;
    let told = record(&stage, &key, 5).await;
    assert_eq!((&told["charged_micro"], &told["basis"]), (&json!(cost), &json!("stated")), "{told}");
    // The bound: what it could be at most, whatever is stated.
    let grant = json!({ "account": "dave", "credits": "1", "note": "test" });
    stage.admin_post("/admin/v1/grants", &grant).await;
    let before = 1_000_000 + 5 * hold - 5 * cost;
    has(&stage, "dave", before).await;
    assert_eq!(stage.gateway.send(asked("input=40;tokens=5000;over").call()).await.status, 200);
    has(&stage, "dave", before - most).await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_repeated_under_its_key_is_one_charge() {
    let stage = start();
    let key = customer(&stage, "erin", 1_000_000).await;
    let asked = chat(&stage, &key, "input=20;tokens=7");
    let named = |asked: &Asked, name: &str| asked.call().header("idempotency-key", name);
    let send = async |call| stage.gateway.send(call).await;
    assert_eq!(send(named(&asked, "one")).await.status, 200);
    has(&stage, "erin", 1_000_000 - 480).await;
    // What it costs is known at its end, and what the first one cost is paid for.
    assert_eq!(send(named(&asked, "one")).await.status, 200);
    let told = record(&stage, &key, 2).await;
    assert_eq!((&told["charged_micro"], &told["output_tokens"]), (&json!(0), &json!(7)), "{told}");
    has(&stage, "erin", 1_000_000 - 480).await;
    // Of all three the dearest is paid; the catalog allows two repetitions, and the next is a request of its own.
    for (tokens, left) in [(50, 2200), (7, 2680)] {
        let dearer = chat(&stage, &key, &format!("input=20;tokens={tokens}"));
        assert_eq!(send(named(&dearer, "one")).await.status, 200);
        has(&stage, "erin", 1_000_000 - left).await;
    }
    let other = asked.clone().with(&json!({ "temperature": 1 }));
    let mismatch = send(named(&other, "one")).await;
    assert_eq!((mismatch.status, &mismatch.json()["reason"]), (422, &json!("idempotency_mismatch")));
    // What failed was not charged, and its repetition is.
    let failing = chat(&stage, &key, "fail_first=1;key=two;input=20;tokens=7");
    assert_eq!(send(named(&failing, "two")).await.status, 500);
    eventually("its hold is back", async || send(named(&failing, "two")).await.status == 200).await;
    has(&stage, "erin", 1_000_000 - 2680 - 480).await;
    // While the first is under way, there is no second.
    let slow = chat(&stage, &key, "delay_ms=600;input=20;tokens=7");
    let (first, second) = tokio::join!(send(named(&slow, "three")), async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        send(named(&slow, "three")).await
    });
    assert_eq!((first.status, second.status), (200, 409), "{}", second.text());
    assert_eq!(
        (&second.json()["reason"], second.header("x-should-retry")),
        (&json!("request_in_flight"), "true")
    );
    has(&stage, "erin", 1_000_000 - 2680 - 2 * 480).await;
    // Somebody else's key of that name is another one.
    let frank = customer(&stage, "frank", 1_000_000).await;
    let theirs = chat(&stage, &frank, "input=20;tokens=7");
    assert_eq!(send(named(&theirs, "one")).await.header("x-tollgate-charged"), "");
    has(&stage, "frank", 1_000_000 - 480).await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passed_while_billing_was_away_is_charged_by_use_afterwards() {
    let allow = json!({ "allow_bounded": 3 });
    let options = options().rule("/v1/chat/completions", move |rule| rule["on_unavailable"] = allow.clone());
    let mut stage = Stage::start(options);
    let key = customer(&stage, "gina", 1_000_000).await;
    stage.billing.take().unwrap().stop();
    for script in ["input=20;tokens=7", "no_usage", "status=500"] {
        let asked = chat(&stage, &key, script).with(&json!({ "stream": script == "no_usage" }));
        let status = stage.gateway.send(asked.call()).await.status;
        assert_eq!(status, if script == "status=500" { 500 } else { 200 }, "{script}");
    }
    stage.restart_billing();
    let counted =
        chat(&stage, &key, "no_usage").with(&json!({ "stream": true })).probable_input() * 10 + 4 * 40;
    has(&stage, "gina", 1_000_000 - 480 - counted).await;
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_request_of_any_size_asks_nobody() {
    let stage = start();
    let key = customer(&stage, "hugo", 100_000_000).await;
    for n in 0..4 {
        assert_eq!(stage.gateway.send(chat(&stage, &key, "").call()).await.status, 200, "{n}");
    }
    let before = stage.billing_calls("sync").await;
    let began = std::time::Instant::now();
    let asked =
        (0..300).map(|n| chat(&stage, &key, "input=20;tokens=7").with(&json!({ "max_tokens": 1 + n % 190 })));
    let answers = all_at_once(&stage, asked.collect()).await;
    assert_eq!(statuses(&answers, 200), 300);
    let (calls, seconds) = (stage.billing_calls("sync").await - before, began.elapsed().as_secs() + 1);
    assert!(calls <= 2 * 2 * seconds + 2, "{calls} calls in {seconds} s");
    stage.finish();
}
