//! Metered requests: each waits for its decision, goes on or is refused, and is told to billing as it ended.

use crate::support::{
    CHAT, CHAT_BODY, CLIENT_LEFT, Decide, ai, ai_json, assert_no_bug, billing, broke, calls, document, pays,
    refusal, worker,
};
use host::{Action, Answer, Call, CallRefusal, Failure, NONE, Stream, Vm};
use serde_json::{Value, json};

fn chat(vm: &Vm) -> Result<Stream, Failure> {
    let stream = vm.stream()?;
    stream.request(&CHAT, CHAT_BODY)?;
    Ok(stream)
}

/// The one usage record in these calls.
fn record(calls: &[Call]) -> Value {
    let records: Vec<Value> = calls
        .iter()
        .flat_map(|call| document(call)["usage"].as_array().cloned().unwrap_or_default())
        .collect();
    assert_eq!(records.len(), 1, "{records:?}");
    records[0].clone()
}

#[test]
fn a_paid_request_goes_on_and_is_charged() -> Result<(), Failure> {
    let (envoy, vm) = ai()?;
    let stream = vm.stream()?;
    let mut headers = CHAT.to_vec();
    headers.push(("x-tollgate-account", "somebody-else"));
    assert_eq!(stream.request(&headers, CHAT_BODY)?, Action::Pause);
    let asked = billing(&vm, &pays)?;
    assert_eq!(asked.iter().map(Call::path).collect::<Vec<_>>(), ["/gateway/v1/hello", "/gateway/v1/sync"]);
    assert!(stream.passed());
    assert_eq!(stream.forwarded_header("x-tollgate-account"), "alice");
    assert_eq!(stream.forwarded_header("x-tollgate-tier"), "pro");
    assert_eq!(stream.forwarded_header("authorization"), "", "the key is our own");
    stream.response(200, "{}")?;
    assert_eq!(stream.answered_header("x-tollgate-request-id"), CHAT[6].1);
    stream.close(0)?;
    let record = record(&billing(&vm, &pays)?);
    assert_eq!((&record["outcome"], &record["charges"][0]["amount"]), (&"charged".into(), &1_000_000.into()));
    assert!(calls(&vm)?.is_empty());
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn one_sync_asks_for_all_that_wait_and_each_gets_its_own_answer() -> Result<(), Failure> {
    let (envoy, vm) = ai()?;
    let streams = [chat(&vm)?, chat(&vm)?, chat(&vm)?];
    streams[1].close(CLIENT_LEFT)?;
    let calls =
        billing(&vm, &|sync, need| if need["id"] == 1 { pays(sync, need) } else { broke(sync, need) })?;
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(streams[0].passed());
    assert_eq!(refusal(&streams[2]), (402, "insufficient_credits".to_owned()));
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn a_refusal_is_one_that_an_ai_sdk_understands() -> Result<(), Failure> {
    let (envoy, vm) = ai()?;
    let stream = chat(&vm)?;
    billing(&vm, &broke)?;
    let reply = stream.reply().expect("a refusal");
    let body: Value = serde_json::from_str(&reply.text()).unwrap();
    assert_eq!(reply.status, 402);
    assert_eq!(reply.header("content-type"), "application/problem+json");
    assert_eq!(reply.header("x-should-retry"), "false");
    assert_eq!(reply.header("x-tollgate-request-id"), CHAT[6].1);
    assert_eq!(body["error"]["code"], "insufficient_credits");
    stream.close(0)?;
    assert!(billing(&vm, &pays)?.is_empty(), "a refused request owes nothing");
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn what_the_upstream_did_decides_what_is_charged() -> Result<(), Failure> {
    let (envoy, vm) = ai()?;
    for (status, flags, outcome, charged) in [
        (500, 0, "failed", false),
        (429, 0, "failed", false),
        (200, CLIENT_LEFT, "client_left", true),
        (200, 1 << 23, "broken", true),
    ] {
        let stream = chat(&vm)?;
        billing(&vm, &pays)?;
        stream.response(status, "{}")?;
        stream.close(flags)?;
        let record = record(&billing(&vm, &pays)?);
        assert_eq!(record["outcome"], outcome, "{status} {flags:x}");
        let charges = record["charges"].as_array().unwrap();
        assert_eq!(charges.iter().any(|charge| charge["amount"] != 0), charged, "{record}");
    }
    let stream = chat(&vm)?;
    billing(&vm, &pays)?;
    stream.close_as(Some(503), 1 << 5)?;
    assert_eq!(record(&billing(&vm, &pays)?)["returned"], 1_000_000, "refused by the upstream's own port");
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn billing_that_makes_no_sense_is_a_503_and_never_free() -> Result<(), Failure> {
    let cells = |cells: Value| {
        move |sync: &Value, need: &Value| {
            let mut answer = pays(sync, need);
            answer["cells"].clone_from(&cells);
            answer
        }
    };
    let price = |hold: Value| {
        move |sync: &Value, need: &Value| {
            let mut answer = pays(sync, need);
            answer["price"]["hold"].clone_from(&hold);
            answer
        }
    };
    let nonsense: [Decide<'_>; 8] = [
        &cells(json!([])),
        &cells(json!(null)),
        &price(json!(2_000_000)),
        &price(json!(-1)),
        &price(json!(1e300)),
        &price(json!("free")),
        &|_, _| json!({"decision": "sure"}),
        &|_, _| json!({"decision": "refused", "refusal": {"reason": "insufficient_credits", "status": 200}}),
    ];
    for (n, decide) in nonsense.into_iter().enumerate() {
        let (envoy, vm) = ai()?;
        let stream = chat(&vm)?;
        billing(&vm, decide)?;
        assert_eq!(refusal(&stream), (503, "service_unavailable".to_owned()), "{n}");
        stream.close(0)?;
        billing(&vm, &pays)?;
        assert_no_bug(&envoy);
    }
    Ok(())
}

#[test]
fn billing_that_does_not_answer_is_a_503() -> Result<(), Failure> {
    let answers = [
        Answer::reset(),
        Answer::from_envoy(503),
        Answer::from_envoy(504),
        Answer::json(200, ""),
        Answer::json(200, "<html>welcome</html>"),
        Answer::json(200, vec![b'x'; 5 * 1024 * 1024]),
        Answer::json(401, "{}"),
        Answer::json(500, "{}"),
        Answer::json(302, "").header("location", "/"),
        Answer::json(200, "{}").header(":status", "200"),
    ];
    for answer in answers {
        // Whatever the call is: first the hello fails, then the sync.
        for hello_first in [false, true] {
            let (envoy, vm) = ai()?;
            if hello_first {
                let warm_up = chat(&vm)?;
                billing(&vm, &broke)?;
                warm_up.close(0)?;
            }
            let stream = chat(&vm)?;
            for _ in 0..100 {
                for call in calls(&vm)? {
                    vm.answer(&call, answer.clone())?;
                }
                vm.pass(100)?;
            }
            assert_eq!(refusal(&stream), (503, "service_unavailable".to_owned()), "{answer:?}");
            assert_no_bug(&envoy);
        }
    }
    Ok(())
}

#[test]
fn a_call_that_cannot_be_sent_is_a_503_in_bounded_time() -> Result<(), Failure> {
    for refused in [CallRefusal::UnknownCluster, CallRefusal::NotSendable] {
        let (envoy, vm) = ai()?;
        vm.refuse_calls(Some(refused));
        let stream = chat(&vm)?;
        vm.pass(5_000)?;
        assert_eq!(refusal(&stream).0, 503, "{refused:?}");
        vm.refuse_calls(None);
        let next = chat(&vm)?;
        vm.pass(5_000)?;
        billing(&vm, &pays)?;
        assert!(next.passed() || next.reply().is_some());
        assert_no_bug(&envoy);
    }
    Ok(())
}

#[test]
fn a_silent_billing_does_not_keep_a_request_for_ever() -> Result<(), Failure> {
    let (envoy, vm) = ai()?;
    let stream = chat(&vm)?;
    let silent = calls(&vm)?.remove(0);
    vm.pass(4_000)?;
    assert_eq!(refusal(&stream), (503, "service_unavailable".to_owned()));
    stream.close(0)?;
    vm.answer(&silent, Answer::from_envoy(504))?;
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn who_is_nobody_is_asked_to_say_who_they_are() -> Result<(), Failure> {
    let (envoy, vm) = ai()?;
    let without = |name: &str| CHAT.into_iter().filter(|(key, _)| *key != name).collect::<Vec<_>>();
    let stream = vm.stream()?;
    stream.request_headers(&without("authorization"), false)?;
    assert_eq!(refusal(&stream), (401, "unauthenticated".to_owned()));
    let stream = vm.stream()?;
    stream.set_property(
        &["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", "jwt_payload", "sub"],
        "alice",
    );
    stream.request_headers(&without("authorization"), true)?;
    let calls = billing(&vm, &pays)?;
    let subject = &document(calls.last().unwrap())["needs"][0]["subject"];
    assert_eq!(subject, &json!({"kind": "jwt_sub", "value": "alice"}));
    assert!(stream.passed());
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn a_vouched_request_goes_on_at_once() -> Result<(), Failure> {
    let (envoy, vm) = ai()?;
    let mut headers = CHAT.to_vec();
    headers.retain(|(key, _)| !key.starts_with(":method") && *key != ":path");
    headers.extend([(":method", "GET"), (":path", "/billing/balance")]);
    let stream = vm.stream()?;
    assert_eq!(stream.request_headers(&headers, true)?, Action::Continue);
    assert_eq!(stream.forwarded_header("authorization"), "Bearer tollgate-demo-gateway");
    assert!(stream.forwarded_header("x-tollgate-subject").starts_with("api_key_sha256:"));
    stream.response(200, "{}")?;
    stream.close(0)?;
    assert!(calls(&vm)?.is_empty());
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn a_new_vm_after_a_trap_takes_a_number_of_its_own() -> Result<(), Failure> {
    let (envoy, vm) = ai()?;
    chat(&vm)?;
    let worker_of = |calls: &[Call]| document(calls.last().unwrap())["worker"].clone();
    assert_eq!(worker_of(&billing(&vm, &pays)?), 1);
    vm.limit_fuel(1000);
    assert!(matches!(chat(&vm), Err(Failure::Trap { .. })), "a callback without end is a trap");
    assert!(chat(&vm).is_err(), "and the VM is dead");
    let next = worker(&envoy, &ai_json())?;
    let stream = chat(&next)?;
    let calls = billing(&next, &pays)?;
    assert_eq!((calls.len(), worker_of(&calls)), (1, 2.into()), "no second hello, and another number");
    assert!(stream.passed());
    Ok(())
}

#[test]
fn trailers_end_a_request_as_well() -> Result<(), Failure> {
    let (envoy, vm) = ai()?;
    let stream = vm.stream()?;
    stream.request_headers(&CHAT, false)?;
    stream.request_body(CHAT_BODY, false)?;
    billing(&vm, &pays)?;
    assert!(!stream.passed(), "not before its last byte");
    assert_eq!(stream.request_trailers(NONE)?, Action::Continue);
    assert_eq!(stream.forwarded_header("x-tollgate-account"), "alice");
    stream.response_headers(&[(":status", "200")], false)?;
    stream.response_body("{", false)?;
    stream.response_trailers(&[("x-checksum", "1")])?;
    stream.close(0)?;
    assert_eq!(record(&billing(&vm, &pays)?)["outcome"], "charged");
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn only_a_preflight_of_a_route_passes_unasked() -> Result<(), Failure> {
    let (envoy, vm) = ai()?;
    let of = |path: &str, method: &str, body: &str| {
        let stream = vm.stream()?;
        let mut headers = vec![(":method", "OPTIONS"), (":scheme", "http"), (":authority", "gateway")];
        headers.extend([(":path", path), ("origin", "https://a"), ("access-control-request-method", method)]);
        if body.is_empty() {
            stream.request_headers(&headers, true)?;
        } else {
            stream.request(&headers, body)?;
        }
        let refused = if stream.passed() { 0 } else { refusal(&stream).0 };
        stream.close(0)?;
        Ok::<_, Failure>(refused)
    };
    assert_eq!(of(CHAT[3].1, "POST", "")?, 0);
    assert_eq!(of(CHAT[3].1, "", "")?, 405, "Envoy's own filter lets it by");
    assert_eq!(of(CHAT[3].1, "POST", CHAT_BODY)?, 405);
    assert_eq!(of("/v1/anything", "POST", "")?, 403);
    assert!(calls(&vm)?.is_empty());
    assert_no_bug(&envoy);
    Ok(())
}
