//! Requests that are charged by use: what is held, what goes on, what the client sees, and what is charged, byte for byte.

use crate::priced::{
    EVENTS, JSON, OUTPUT_MAX, RICH, answer, ask, charged, chat, completion, end, events, fields, hold_of,
    plain_events, priced, priced_json, record, sell, sells, usage,
};
use crate::support::{CLIENT_LEFT, assert_no_bug, calls, document, refusal, worker};
use host::{Answer, Failure, NONE};
use serde_json::{Value, json};

/// A connection of the upstream's broke, in Envoy's response flags.
const UPSTREAM_BROKE: u64 = 1 << 6;

/// The body that went on, as JSON.
fn forwarded(stream: &host::Stream) -> Value {
    let body = stream.forwarded_body();
    assert_eq!(stream.forwarded_header("content-length"), body.len().to_string());
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn a_limit_is_stated_where_none_is_and_lowered_to_what_is_held() -> Result<(), Failure> {
    let (envoy, vm) = priced()?;
    let stated = chat(&json!({"max_tokens": 150, "temperature": 0.5}));
    for (body, affords, limit) in [
        (chat(&json!({})), RICH, json!({"max_completion_tokens": OUTPUT_MAX})),
        (chat(&json!({})), hold_of(&chat(&json!({})), 18) + 3, json!({"max_completion_tokens": 18})),
        (stated.clone(), RICH, json!({"max_tokens": 150})),
        (stated.clone(), hold_of(&stated, 9), json!({"max_tokens": 9})),
        (chat(&json!({"max_tokens": 90, "n": 2})), RICH, json!({"max_tokens": 90})),
    ] {
        let stream = ask(&vm, "/v1/chat/completions", &body, affords)?;
        assert!(stream.passed(), "{:?}", stream.reply());
        let mut expected: Value = serde_json::from_str(&body).unwrap();
        for (field, value) in limit.as_object().unwrap() {
            expected[field] = value.clone();
        }
        assert_eq!(forwarded(&stream), expected);
        if expected == serde_json::from_str::<Value>(&body).unwrap() {
            assert_eq!(stream.forwarded_body(), body.as_bytes(), "to the last byte");
        }
        answer(&stream, &JSON, [completion(&usage(7, 2))])?;
        assert_eq!(charged(&end(&vm, &stream, 0)?), 7 + 2 * 4);
    }
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn what_an_answer_says_is_charged_however_it_is_cut() -> Result<(), Failure> {
    let (envoy, vm) = priced()?;
    let cached = json!({"prompt_tokens": 20, "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 10}});
    let asked = chat(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let document = completion(&cached);
    let stream_of = events(3, &usage(20, 5));
    for (body, kind, text, cost) in
        [(chat(&json!({})), JSON, &document, 10 + 1 + 5 * 4), (asked, EVENTS, &stream_of, 20 + 5 * 4)]
    {
        for size in [1, 7, text.len()] {
            let stream = ask(&vm, "/v1/chat/completions", &body, RICH)?;
            answer(&stream, &kind, text.as_bytes().chunks(size))?;
            assert_eq!(stream.answered_body(), text.as_bytes(), "who asked for it gets all of it");
            let record = end(&vm, &stream, 0)?;
            assert_eq!((charged(&record), &record["basis"]), (cost, &json!("stated")), "{record}");
            assert_eq!(record["returned"], hold_of(&body, OUTPUT_MAX) - cost);
            assert_eq!(record["tokens"]["model"], "gpt-5-mini-2026");
        }
    }
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn usage_that_only_the_gateway_asked_for_is_hidden_wherever_the_answer_is_cut() -> Result<(), Failure> {
    let (envoy, vm) = priced()?;
    let body = chat(&json!({"stream": true, "max_tokens": 50}));
    let (text, expected) = (events(2, &usage(20, 5)), plain_events(2));
    for cut in 0..=text.len() {
        let stream = ask(&vm, "/v1/chat/completions", &body, RICH)?;
        assert_eq!(forwarded(&stream)["stream_options"], json!({"include_usage": true}));
        let length = text.len().to_string();
        let (first, second) = text.as_bytes().split_at(cut);
        answer(&stream, &[EVENTS[0], ("content-length", &length)], [first, second])?;
        assert_eq!(String::from_utf8(stream.answered_body()).unwrap(), expected, "cut at {cut}");
        assert_eq!(stream.answered_header("content-length"), "", "nobody knows it any more");
        assert_eq!(charged(&end(&vm, &stream, 0)?), 20 + 5 * 4, "cut at {cut}");
    }
    let stream = ask(&vm, "/v1/chat/completions", &body, RICH)?;
    answer(&stream, &EVENTS, text.as_bytes().chunks(1))?;
    assert_eq!(stream.answered_body(), expected.as_bytes(), "one byte at a time");
    end(&vm, &stream, 0)?;
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn each_place_where_usage_is_said_is_read() -> Result<(), Failure> {
    let (envoy, vm) = priced()?;
    let body = chat(&json!({"max_tokens": 50}));
    let told = |headers: &[(&'static str, &'static str)], text: &str, path: &'static str| {
        let stream = ask(&vm, path, &body, RICH)?;
        answer(&stream, headers, [text])?;
        if path == "/v1/envoys" {
            let at = ["metadata", "typed_filter_metadata", "envoy.ai.token_usage"];
            for (field, count) in [("input_tokens", 21_u64), ("output_tokens", 4)] {
                stream.set_property(&[&at[..], &[field]].concat(), count.to_le_bytes());
            }
            stream.set_property(&[&at[..], &["model"]].concat(), "gpt-5-mini");
        }
        let shown = stream.answered_header("x-tollgate-charged");
        Ok::<_, Failure>((charged(&end(&vm, &stream, 0)?), shown))
    };
    let headers = [("content-type", "text/plain"), ("x-in", "21"), ("x-out", "4")];
    assert_eq!(told(&headers, "hi", "/v1/headers")?, (37, "0.000037".into()), "the client hears it at once");
    let text = r#"{"choices":[],"meta":{"read":21,"written":4}}"#;
    assert_eq!(told(&JSON, text, "/v1/pointers")?, (37, String::new()));
    assert_eq!(told(&JSON, "{}", "/v1/envoys")?, (37, String::new()));
    let anthropic = r#"{"model":"gpt-5","usage":{"input_tokens":21,"output_tokens":4},"content":[]}"#;
    assert_eq!(told(&JSON, anthropic, "/v1/messages")?, (37, String::new()));
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn what_cannot_be_read_costs_the_whole_hold() -> Result<(), Failure> {
    let (envoy, vm) = priced()?;
    let body = chat(&json!({"max_tokens": 50}));
    for headers in [
        vec![JSON[0], ("content-encoding", "gzip")],
        vec![("content-type", "application/octet-stream")],
        vec![],
    ] {
        let stream = ask(&vm, "/v1/chat/completions", &body, RICH)?;
        assert_eq!(stream.forwarded_header("accept-encoding"), "");
        answer(&stream, &headers, [completion(&usage(7, 2))])?;
        let record = end(&vm, &stream, 0)?;
        assert_eq!((charged(&record), &record["basis"]), (hold_of(&body, 50), &json!("hold")), "{headers:?}");
    }
    // A compressed answer is not even asked for.
    let stream = vm.stream()?;
    let mut headers = fields("/v1/chat/completions", Some(body.len()));
    headers.push(("accept-encoding", "gzip, br".to_owned()));
    stream.request(&headers, &body)?;
    sell(&vm, RICH)?;
    assert_eq!((stream.passed(), stream.forwarded_header("accept-encoding")), (true, String::new()));
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn trailers_tell_the_client_what_it_cost() -> Result<(), Failure> {
    let (envoy, vm) = priced()?;
    let body = chat(&json!({"stream": true, "max_tokens": 50}));
    let stream = ask(&vm, "/v1/chat/completions", &body, RICH)?;
    stream.response_headers(&[(":status", "200"), EVENTS[0]], false)?;
    stream.response_body(events(2, &usage(20, 5)), false)?;
    assert_eq!(stream.answered_header("x-tollgate-charged"), "", "not known yet");
    stream.response_trailers(&[("x-tollgate-charged", "9"), ("x-checksum", "1")])?;
    assert_eq!(stream.answered_trailer("x-tollgate-charged"), "0.00004");
    assert_eq!(stream.answered_trailer("x-checksum"), "1");
    assert_eq!(charged(&end(&vm, &stream, 0)?), 40);
    // What failed costs nothing, and nothing is said of it behind the headers.
    let stream = ask(&vm, "/v1/chat/completions", &body, RICH)?;
    stream.response_headers(&[(":status", "500"), JSON[0]], false)?;
    assert_eq!(stream.answered_header("x-tollgate-charged"), "0");
    stream.response_trailers(NONE)?;
    assert_eq!(stream.answered_trailer("x-tollgate-charged"), "");
    assert_eq!(charged(&end(&vm, &stream, 0)?), 0);
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn an_answer_that_breaks_off_costs_what_was_delivered_and_never_nothing() -> Result<(), Failure> {
    let (envoy, vm) = priced()?;
    let body = chat(&json!({"stream": true, "max_tokens": 50}));
    let input = i64::try_from(body.len().div_ceil(4)).unwrap();
    let text = events(6, &usage(20, 5));
    let (deltas, _) = text.split_once("data: {\"id\":\"c1\",\"choices\":[]").unwrap();
    for (flags, outcome) in [(CLIENT_LEFT, "client_left"), (UPSTREAM_BROKE, "broken")] {
        // Six deltas of six bytes: nine tokens by their bytes.
        for (sent, cost, basis) in [
            (deltas, input + 9 * 4, "counted"),
            ("", hold_of(&body, 50), "hold"),
            (text.as_str(), 20 + 5 * 4, "stated"),
        ] {
            let stream = ask(&vm, "/v1/chat/completions", &body, RICH)?;
            stream.response_headers(&[(":status", "200"), EVENTS[0]], false)?;
            stream.response_body(sent, false)?;
            let record = end(&vm, &stream, flags)?;
            assert_eq!((charged(&record), &record["basis"]), (cost, &json!(basis)), "{record}");
            assert_eq!(record["outcome"], outcome);
        }
        let stream = ask(&vm, "/v1/chat/completions", &body, RICH)?;
        let record = end(&vm, &stream, flags)?;
        assert_eq!((charged(&record), &record["returned"]), (0, &json!(hold_of(&body, 50))), "{record}");
    }
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn an_estimate_that_falls_short_is_charged_beyond_its_hold() -> Result<(), Failure> {
    let (envoy, vm) = priced()?;
    let body = chat(&json!({"max_tokens": 50}));
    // A quarter of its bytes, and the usual twenty tokens.
    let hold = i64::try_from(body.len().div_ceil(4)).unwrap() + 4 * 20;
    for (usage, cost) in
        [(usage(10, 5), 10 + 5 * 4), (usage(10, 50), 10 + 50 * 4), (usage(10, 5_000), hold_of(&body, 50))]
    {
        let stream = ask(&vm, "/v1/estimated", &body, RICH)?;
        assert_eq!(stream.forwarded_body(), body.as_bytes(), "an estimate bounds nothing");
        answer(&stream, &JSON, [completion(&usage)])?;
        let record = end(&vm, &stream, 0)?;
        assert_eq!(charged(&record), cost, "{record}");
        assert_eq!(record["beyond"].as_i64().unwrap_or(0), (cost - hold).max(0));
    }
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn a_body_that_cannot_be_read_is_refused_before_anybody_is_asked() -> Result<(), Failure> {
    let (envoy, vm) = priced()?;
    let deep = format!(r#"{{"model":"gpt-5","messages":{}"#, "[".repeat(100_000));
    for body in [
        "",
        "null",
        "[]",
        "{",
        r#"{"model":"gpt-5","messages":[]} {}"#,
        r#"{"model":"gpt-5","messages":[],"max_tokens":-1}"#,
        r#"{"model":"gpt-5","messages":[],"max_tokens":1.5}"#,
        r#"{"model":"gpt-5","messages":[],"max_tokens":1e400}"#,
        r#"{"model":"gpt-5","messages":[],"max_tokens":"9"}"#,
        r#"{"model":"gpt-5","messages":[],"max_tokens":1,"max_tokens":999}"#,
        r#"{"model":"gpt-5","messages":[],"MAX_TOKENS":999}"#,
        r#"{"model":7,"messages":[]}"#,
        &deep,
    ] {
        let stream = ask(&vm, "/v1/chat/completions", body, RICH)?;
        let (status, _) = refusal(&stream);
        assert_eq!((status, stream.forwarded_body().len()), (400, 0), "{}", &body[..body.len().min(80)]);
        stream.close(0)?;
    }
    // Its headers are all there is.
    let stream = vm.stream()?;
    stream.request_headers(&fields("/v1/chat/completions", None), true)?;
    assert_eq!(refusal(&stream).0, 400);
    stream.close(0)?;
    assert!(calls(&vm)?.is_empty());
    assert_no_bug(&envoy);
    Ok(())
}

/// What is refused with 400 before anybody is asked.
fn assert_unreadable(vm: &host::Vm, headers: &[(&str, String)], body: &str) -> Result<(), Failure> {
    let stream = vm.stream()?;
    stream.request(headers, body)?;
    sell(vm, RICH)?;
    let (status, _) = refusal(&stream);
    assert_eq!((status, stream.forwarded_body().len()), (400, 0), "{headers:?} {body}");
    stream.close(0)?;
    assert!(calls(vm)?.is_empty());
    Ok(())
}

#[test]
fn what_another_model_would_answer_or_nothing_bounds_is_refused() -> Result<(), Failure> {
    let (envoy, vm) = priced()?;
    for (field, value) in [
        ("fallbacks", json!(["gpt-5"])),
        ("mock_testing_fallbacks", json!(true)),
        ("models", json!(["gpt-5"])),
        ("route", json!("fallback")),
        ("extra_body", json!({"models": ["gpt-5"]})),
    ] {
        let body = chat(&json!({ field: value }));
        assert_unreadable(&vm, &fields("/v1/chat/completions", Some(body.len())), &body)?;
    }
    for (field, value) in [
        ("fallbacks", json!([{"model": "gpt-5", "max_tokens": 9000}])),
        ("context_management", json!({"edits": [{"type": "compact_20260112"}]})),
        ("tools", json!([{"type": "advisor_20260301", "name": "advisor", "model": "gpt-5"}])),
    ] {
        let body = chat(&json!({ field: value }));
        assert_unreadable(&vm, &fields("/v1/messages", Some(body.len())), &body)?;
    }
    let clears = chat(&json!({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}));
    assert!(ask(&vm, "/v1/messages", &clears, RICH)?.passed());
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn a_body_in_other_letters_is_refused() -> Result<(), Failure> {
    let (envoy, vm) = priced()?;
    let body =
        chat(&json!({"max_tokens": 16, "user": "+ACI-,+ACI-max_tokens+ACI-:100000,+ACI-a+ACI-:+ACI-"}));
    for (name, value) in [("content-type", "application/json; charset=utf-7"), ("content-encoding", "gzip")] {
        let mut headers = fields("/v1/chat/completions", Some(body.len()));
        headers.retain(|(other, _)| *other != name);
        headers.push((name, value.to_owned()));
        assert_unreadable(&vm, &headers, &body)?;
    }
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn a_stream_of_anthropics_that_fails_midway_costs_what_was_delivered() -> Result<(), Failure> {
    let (envoy, vm) = priced()?;
    let body = chat(&json!({"max_tokens": 50, "stream": true}));
    let start = "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":21,\"output_tokens\":1}}}\n\n";
    let delta = "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\" hello\"}}\n\n";
    let error = "data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
    // Six deltas of six bytes: nine tokens by their bytes.
    for (deltas, cost) in [(6, 21 + 9 * 4), (0, 0)] {
        let stream = ask(&vm, "/v1/messages", &body, RICH)?;
        answer(&stream, &EVENTS, [start, &delta.repeat(deltas), error])?;
        let record = end(&vm, &stream, 0)?;
        assert_eq!(charged(&record), cost, "{record}");
    }
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn a_request_that_cannot_be_bounded_does_not_go_on() -> Result<(), Failure> {
    let (envoy, vm) = priced()?;
    let body = chat(&json!({}));
    let stream = vm.stream()?;
    stream.request(&fields("/v1/chat/completions", Some(body.len())), &body)?;
    // Asked for, and then there is nothing to be changed.
    vm.settle()?;
    stream.lose_body();
    let record = record(&vm)?;
    assert_eq!(refusal(&stream), (503, "service_unavailable".to_owned()));
    assert!(stream.forwarded_body().is_empty());
    stream.close(0)?;
    assert_eq!((charged(&record), &record["outcome"]), (0, &json!("not_forwarded")), "{record}");
    assert_eq!(record["returned"], hold_of(&body, OUTPUT_MAX));
    assert_eq!(envoy.metrics().keys().filter(|name| name.contains("body_not_edited")).count(), 1);
    // Where an operator forbids the filter to change bodies at all, the SDK ends the VM, and Envoy answers 503 itself.
    vm.fix_bodies(true);
    let stream = vm.stream()?;
    stream.request(&fields("/v1/chat/completions", Some(body.len())), &body)?;
    assert!(matches!(sell(&vm, RICH), Err(Failure::Trap { .. })));
    assert!(!stream.passed() && stream.forwarded_body().is_empty());
    let next = worker(&envoy, &priced_json())?;
    let stream = ask(&next, "/v1/chat/completions", &chat(&json!({"max_tokens": 5})), RICH)?;
    assert!(stream.passed(), "and what need not be changed passes");
    Ok(())
}

#[test]
fn what_a_lease_pays_for_is_bounded_and_charged_alike() -> Result<(), Failure> {
    let (envoy, vm) = priced()?;
    let body = chat(&json!({"stream": true}));
    let mut told = Vec::new();
    for n in 0..6 {
        let stream = vm.stream()?;
        stream.request(&fields("/v1/leased", Some(body.len())), &body)?;
        assert_eq!(stream.passed(), n > 1, "who is known, and has a lease, waits for nobody");
        told.extend(sell(&vm, RICH)?);
        assert_eq!(forwarded(&stream)["max_completion_tokens"], json!(OUTPUT_MAX));
        answer(&stream, &EVENTS, [events(2, &usage(20, 5))])?;
        assert_eq!(stream.answered_body(), plain_events(2).as_bytes());
        stream.close(0)?;
    }
    vm.pass(2_000)?;
    told.extend(sell(&vm, RICH)?);
    let records =
        told.iter().flat_map(|call| document(call)["usage"].as_array().cloned().unwrap_or_default());
    let costs: std::collections::BTreeMap<u64, i64> =
        records.map(|record| (record["n"].as_u64().unwrap(), charged(&record))).collect();
    assert_eq!(costs.into_values().collect::<Vec<_>>(), [40; 6]);
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn a_repetition_pays_what_it_costs_beyond_what_was_paid() -> Result<(), Failure> {
    let (envoy, vm) = priced()?;
    let body = chat(&json!({"max_tokens": 50}));
    for (paid, cost) in [(0, 15), (9, 6), (15, 0), (400, 0)] {
        let stream = vm.stream()?;
        let mut headers = fields("/v1/chat/completions", Some(body.len()));
        headers.push(("idempotency-key", "k1".to_owned()));
        stream.request(&headers, &body)?;
        while let Some(call) = calls(&vm)?.into_iter().next() {
            let mut answer = sells(&call, RICH);
            if let Some(need) = answer["needs"].as_array_mut().and_then(|needs| needs.first_mut()) {
                assert_eq!(document(&call)["needs"][0]["repeat"]["key"].as_str().map(str::len), Some(64));
                need["paid"] = json!(paid);
            }
            vm.answer(&call, Answer::json(200, answer.to_string()))?;
        }
        assert!(stream.passed());
        answer(&stream, &JSON, [completion(&usage(7, 2))])?;
        let record = end(&vm, &stream, 0)?;
        assert_eq!((charged(&record), &record["outcome"]), (cost, &json!("charged")), "{record}");
    }
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn what_passes_in_an_outage_tells_what_it_used() -> Result<(), Failure> {
    let (envoy, vm) = priced()?;
    let body = chat(&json!({"max_tokens": 50}));
    let stream = vm.stream()?;
    stream.request(&fields("/v1/unpaid", Some(body.len())), &body)?;
    for _ in 0..40 {
        for call in calls(&vm)? {
            vm.answer(&call, Answer::from_envoy(503))?;
        }
        vm.pass(100)?;
    }
    assert!(stream.passed(), "{:?}", stream.reply());
    answer(&stream, &JSON, [completion(&usage(21, 4))])?;
    stream.close(0)?;
    vm.pass(10_000)?;
    let asked = sell(&vm, RICH)?;
    let needs = asked.iter().flat_map(|call| document(call)["needs"].as_array().cloned().unwrap_or_default());
    let shapes: Vec<Value> = needs.map(|need| need["shape"].clone()).collect();
    let used = json!({"kind": "tokens", "input_max": 21, "output_max": 4, "model": "gpt-5-mini-2026"});
    assert_eq!(shapes, [used], "billing prices what it turned out to be");
    vm.pass(2_000)?;
    let told = asked.iter().flat_map(|call| document(call)["usage"].as_array().cloned().unwrap_or_default());
    let told: Vec<Value> = told.collect();
    let record = if told.is_empty() { record(&vm)? } else { told[0].clone() };
    assert_eq!(charged(&record), 21 + 4 * 4, "{record}");
    assert_no_bug(&envoy);
    Ok(())
}
