//! Stripe's events, delivery by delivery: only what Stripe signed goes on, once, and what was not handled may come again.

use crate::support::{
    CLIENT_LEFT, SECRET, assert_no_bug, billing, delivery, document, event, pays, sign, webhook,
    webhook_json, worker,
};
use host::{Action, Answer, CallRefusal, Failure, NONE, Stream, Vm};

fn outcome(stream: &Stream) -> (Option<u32>, String) {
    (stream.reply().map(|reply| reply.status), stream.note("tollgate.webhook"))
}

#[test]
fn a_genuine_event_goes_on_and_is_remembered() -> Result<(), Failure> {
    let (envoy, vm) = webhook()?;
    let body = event("evt_1", 400);
    let mut headers = delivery(&envoy, "stripe", &body);
    headers.push(("x-tollgate-event-id", "evt_forged".to_owned()));
    let stream = vm.stream()?;
    assert_eq!(stream.request_headers(&headers, false)?, Action::Pause, "nothing goes on unverified");
    assert_eq!(stream.request_body(&body[..100], false)?, Action::Pause);
    assert_eq!(stream.request_body(&body[100..], false)?, Action::Pause);
    assert_eq!(stream.request_body("", true)?, Action::Continue);
    assert_eq!(stream.forwarded_header("x-tollgate-event-id"), "evt_1");
    assert_eq!(stream.forwarded_header("x-tollgate-event-type"), "invoice.paid");
    assert_eq!(stream.forwarded().iter().filter(|(name, _)| name == "x-tollgate-event-id").count(), 1);
    stream.response(200, "{}")?;
    stream.close(0)?;
    let again = vm.stream()?;
    again.request(&delivery(&envoy, "stripe", &body), &body)?;
    assert_eq!(outcome(&again), (Some(200), "duplicate".to_owned()));
    assert_eq!(again.answered_header("x-tollgate-duplicate"), "true");
    again.close(0)?;
    let metric =
        |name: &str| envoy.metric(&format!("tollgate_webhooks_total.endpoint.stripe.outcome.{name}"));
    assert_eq!((metric("forwarded"), metric("accepted"), metric("duplicate")), (Some(1), Some(1), Some(1)));
    assert!(vm.calls()?.is_empty(), "mode upstream asks nobody");
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn a_forged_event_goes_nowhere_whichever_way_its_body_ends() -> Result<(), Failure> {
    let (envoy, vm) = webhook()?;
    let (body, now) = (event("evt_1", 400), envoy.wall_ms() / 1000);
    let good = sign(SECRET, now, &body);
    for (why, signature, sent) in [
        ("another key", sign("whsec_another_key_0123", now, &body), &body),
        ("tampered", good.clone(), &event("evt_2", 400)),
        ("stale", sign(SECRET, now - 301, &body), &body),
        ("future", sign(SECRET, now + 301, &body), &body),
        ("no v1", good.replace("v1=", "v0="), &body),
        ("two t", format!("t={now},{good}"), &body),
        ("empty", String::new(), &body),
    ] {
        for trailers in [false, true] {
            let mut headers = delivery(&envoy, "stripe", sent);
            headers.last_mut().unwrap().1.clone_from(&signature);
            let stream = vm.stream()?;
            stream.request_headers(&headers, false)?;
            stream.request_body(sent, false)?;
            let action = if trailers {
                stream.request_trailers(&[("x-checksum", "1")])?
            } else {
                stream.request_body("", true)?
            };
            assert_eq!((action, stream.passed()), (Action::Pause, false), "{why}");
            let reply = stream.reply().expect(why);
            assert_eq!(
                (reply.status, reply.text().contains(&stream.note("tollgate.webhook"))),
                (400, false),
                "{why}"
            );
            stream.close(0)?;
        }
    }
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn trailers_end_a_genuine_event_as_well() -> Result<(), Failure> {
    let (envoy, vm) = webhook()?;
    let body = event("evt_1", 400);
    let stream = vm.stream()?;
    stream.request_headers(&delivery(&envoy, "stripe", &body), false)?;
    stream.request_body(&body, false)?;
    assert_eq!(stream.request_trailers(NONE)?, Action::Continue);
    assert_eq!(stream.forwarded_header("x-tollgate-event-id"), "evt_1");
    stream.response(200, "{}")?;
    stream.close(0)
}

#[test]
fn two_workers_forward_one_copy_and_the_retry_after_a_failure() -> Result<(), Failure> {
    let (envoy, first) = webhook()?;
    let second = worker(&envoy, &webhook_json())?;
    let body = event("evt_1", 400);
    let deliver = |vm: &Vm| {
        let stream = vm.stream()?;
        stream.request(&delivery(&envoy, "stripe", &body), &body)?;
        Ok::<_, Failure>(stream)
    };
    let (one, other) = (deliver(&first)?, deliver(&second)?);
    assert!(one.passed());
    assert_eq!(outcome(&other), (Some(409), "in_flight".to_owned()));
    other.close(0)?;
    one.response(500, "oh")?;
    one.close(0)?;
    let retry = deliver(&second)?;
    assert!(retry.passed(), "what failed may come again, at any worker");
    retry.response(204, "")?;
    retry.close(0)?;
    assert_eq!(outcome(&deliver(&first)?), (Some(200), "duplicate".to_owned()));
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn a_claimed_event_waits_for_its_claim_and_is_completed() -> Result<(), Failure> {
    let (envoy, vm) = webhook()?;
    for (id, status, completed) in [("evt_1", 200, "accepted"), ("evt_2", 500, "failed")] {
        let body = event(id, 400);
        let stream = vm.stream()?;
        stream.request(&delivery(&envoy, "app", &body), &body)?;
        assert!(!stream.passed(), "not before it is claimed");
        let claims = billing(&vm, &pays)?;
        assert_eq!(claims.last().map(|call| document(call)["event_id"].clone()), Some(id.into()));
        assert!(stream.passed());
        stream.response(status, "{}")?;
        stream.close(0)?;
        let calls = billing(&vm, &pays)?;
        assert_eq!(calls.len(), 1, "{calls:?}");
        let complete = document(&calls[0]);
        assert_eq!((&complete["outcome"], &complete["token"]), (&completed.into(), &"c_1".into()));
    }
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn a_claim_that_nobody_answers_is_a_503_and_the_event_may_come_again() -> Result<(), Failure> {
    let (envoy, vm) = webhook()?;
    let body = event("evt_1", 400);
    let answers = [
        Answer::reset(),
        Answer::from_envoy(503),
        Answer::json(500, "{}"),
        Answer::json(200, "surprise"),
        Answer::json(200, r#"{"decision":"perhaps"}"#),
        Answer::json(302, "").header("location", "/"),
    ];
    for answer in answers {
        let stream = vm.stream()?;
        stream.request(&delivery(&envoy, "app", &body), &body)?;
        while stream.reply().is_none() {
            for call in vm.calls()? {
                vm.answer(&call, answer.clone())?;
            }
            vm.pass(100)?;
        }
        assert_eq!(outcome(&stream), (Some(503), "claim_unavailable".to_owned()), "{answer:?}");
        stream.close(0)?;
    }
    vm.refuse_calls(Some(CallRefusal::UnknownCluster));
    let stream = vm.stream()?;
    stream.request(&delivery(&envoy, "app", &body), &body)?;
    vm.pass(10_000)?;
    assert_eq!(outcome(&stream), (Some(503), "claim_unavailable".to_owned()));
    vm.refuse_calls(None);
    let stream = vm.stream()?;
    stream.request(&delivery(&envoy, "app", &body), &body)?;
    billing(&vm, &pays)?;
    assert!(stream.passed());
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn a_client_that_leaves_while_its_claim_is_asked_for_leaves_nothing_behind() -> Result<(), Failure> {
    let (envoy, vm) = webhook()?;
    let body = event("evt_1", 400);
    let stream = vm.stream()?;
    stream.request(&delivery(&envoy, "app", &body), &body)?;
    let asked = vm.call()?;
    stream.close(CLIENT_LEFT)?;
    vm.answer(&asked, Answer::json(200, r#"{"decision":"fresh","token":"c_9","ttl_ms":30000}"#))?;
    let complete = document(&vm.call()?);
    assert_eq!((&complete["outcome"], &complete["token"]), (&"failed".into(), &"c_9".into()));
    billing(&vm, &pays)?;
    let retry = vm.stream()?;
    retry.request(&delivery(&envoy, "app", &body), &body)?;
    billing(&vm, &pays)?;
    assert!(retry.passed());
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn what_is_too_large_or_meant_for_another_is_refused() -> Result<(), Failure> {
    let (envoy, vm) = webhook()?;
    let large = vec![b'x'; 1024 * 1024 + 1];
    let stream = vm.stream()?;
    stream.request(&delivery(&envoy, "stripe", b""), &large)?;
    assert_eq!(outcome(&stream), (Some(413), "too_large".to_owned()));
    for (name, value, status) in
        [(":method", "GET", 405), (":path", "/elsewhere", 403), ("content-length", "99999999", 413)]
    {
        let mut headers = delivery(&envoy, "stripe", b"{}");
        headers.retain(|(key, _)| *key != name);
        headers.push((name, value.to_owned()));
        let stream = vm.stream()?;
        stream.request_headers(&headers, false)?;
        assert_eq!(stream.reply().map(|reply| reply.status), Some(status), "{name}: {value}");
    }
    assert_no_bug(&envoy);
    Ok(())
}
