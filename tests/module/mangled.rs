//! A billing service whose answers are nearly right: each is refused whole, passes nobody, and spoils nothing after it.

use crate::support::{
    CHAT, CHAT_BODY, ai_json, answer, assert_no_bug, billing, delivery, document, event, pays, refusal,
    webhook, worker,
};
use host::{Answer, Envoy, Failure, Stream, Vm};
use serde_json::{Value, json};

type Mangle = fn(&mut Value);

const HELLO: &str = "/gateway/v1/hello";
const SYNC: &str = "/gateway/v1/sync";
const CLAIM: &str = "/gateway/v1/events/claim";

/// What can be wrong with any answer.
const SHAPES: [(&str, Mangle); 6] = [
    ("null", |answer| *answer = json!(null)),
    ("a list", |answer| *answer = json!([answer.clone()])),
    ("a text", |answer| *answer = json!(answer.to_string())),
    ("another version", |answer| *answer = json!({ "version": 2, "data": answer.clone() })),
    ("nothing in it", |answer| *answer = json!({})),
    ("a page", |answer| *answer = json!("<html><body>Welcome to nginx!</body></html>")),
];

const HELLOS: [(&str, Mangle); 9] = [
    ("another's name", |hello| hello["node"] = json!("gateway-2")),
    ("no number", |hello| hello["incarnation"] = json!(0)),
    ("a negative number", |hello| hello["incarnation"] = json!(-1)),
    ("a number beyond 64 bits", |hello| hello["incarnation"] = json!(1e30)),
    ("no time", |hello| hello["intervals"]["lease_ttl_ms"] = json!(0)),
    ("a time in words", |hello| hello["intervals"]["sync_ms"] = json!("500ms")),
    ("half a bound", |hello| hello["limits"]["needs_max"] = json!(0.5)),
    ("no room", |hello| hello["limits"]["usage_max"] = json!(0)),
    ("no bounds", |hello| hello["limits"] = json!(null)),
];

/// What can be wrong with the answer to a sync that carries one need, whether it is lent to or held for.
const SYNCS: [(&str, Mangle); 27] = [
    ("another's answer", |sync| sync["sent_seq"] = json!(999)),
    ("an earlier answer", |sync| sync["sent_seq"] = json!(0)),
    ("a need twice", |sync| {
        let need = sync["needs"][0].clone();
        sync["needs"].as_array_mut().unwrap().push(need);
    }),
    ("an unknown need", |sync| sync["needs"][0]["id"] = json!(77)),
    ("no need", |sync| sync["needs"] = json!([])),
    ("an unknown cell", |sync| {
        sync["cells"]
            .as_array_mut()
            .unwrap()
            .push(json!({"grant": 99, "generation": 1, "granted": 1, "acked_admitted": 0,
            "ttl_ms": 1, "exposure": 1, "state": "open", "keep": true}));
    }),
    ("more than was told", |sync| sync["usage_acked"] = json!(1_000_000)),
    ("an unknown decision", |sync| sync["needs"][0]["decision"] = json!("sure")),
    ("an unknown state", |sync| sync["needs"][0]["standing"]["state"] = json!("zombie")),
    ("no standing", |sync| sync["needs"][0]["standing"] = json!(null)),
    ("an unknown unit", |sync| sync["needs"][0]["price"]["unit"] = json!("euros")),
    ("no price", |sync| sync["needs"][0]["price"] = json!(null)),
    ("a price of nothing", |sync| {
        sync["needs"][0]["price"]["hold"] = json!(0);
        sync["needs"][0]["cells"] = json!([]);
    }),
    ("a negative price", |sync| sync["needs"][0]["price"]["hold"] = json!(-1_000_000)),
    ("half a price", |sync| sync["needs"][0]["price"]["hold"] = json!(0.5)),
    ("a price in words", |sync| sync["needs"][0]["price"]["hold"] = json!("1000000")),
    ("a price beyond 2^53", |sync| sync["needs"][0]["price"]["hold"] = json!(1_i64 << 53)),
    ("a negative grant", |sync| sync["needs"][0]["cells"][0]["granted"] = json!(-1)),
    ("a cell twice", |sync| {
        let cell = sync["needs"][0]["cells"][0].clone();
        sync["needs"][0]["cells"].as_array_mut().unwrap().push(cell);
    }),
    ("a cell in another unit", |sync| sync["needs"][0]["cells"][0]["unit"] = json!("requests")),
    ("a cell of no generation", |sync| sync["needs"][0]["cells"][0]["generation"] = json!(0)),
    ("a cell of another", |sync| sync["needs"][0]["cells"][0]["generation"] = json!((1_u64 << 40) + 999)),
    ("an account of no letters", |sync| sync["needs"][0]["standing"]["account"] = json!("")),
    ("an account with a header in it", |sync| {
        sync["needs"][0]["standing"]["account"] = json!("alice\r\nx-admin: yes");
    }),
    ("an attribute with a header in it", |sync| {
        sync["needs"][0]["standing"]["attributes"] = json!({"priority": "high\r\nx-admin: yes"});
    }),
    ("a refusal without a reason", |sync| {
        sync["needs"][0] =
            json!({"id": sync["needs"][0]["id"], "decision": "refused", "refusal": {"status": 402}});
    }),
    ("a refusal that says yes", |sync| {
        sync["needs"][0] = json!({"id": sync["needs"][0]["id"], "decision": "refused",
            "refusal": {"reason": "insufficient_credits", "status": 200, "title": "", "detail": ""}});
    }),
];

const CLAIMS: [(&str, Mangle); 5] = [
    ("an unknown decision", |claim| claim["decision"] = json!("sure")),
    ("no token", |claim| claim["token"] = json!(null)),
    ("a token that is a number", |claim| claim["token"] = json!(1)),
    ("a negative time", |claim| claim["ttl_ms"] = json!(-1)),
    ("no time", |claim| claim["ttl_ms"] = json!(null)),
];

fn chat(vm: &Vm) -> Result<Stream, Failure> {
    let stream = vm.stream()?;
    stream.request(&CHAT, CHAT_BODY)?;
    Ok(stream)
}

/// Answers what the module asks, that of one path mangled, until the stream has its answer.
fn answer_mangled(vm: &Vm, stream: &Stream, path: &str, mangle: Mangle) -> Result<(), Failure> {
    for _ in 0..60 {
        for call in vm.calls()? {
            let mut answer = answer(&call, &pays);
            let asks = path != SYNC || document(&call)["needs"] != json!([]);
            if call.path() == path && asks {
                mangle(&mut answer);
            }
            vm.answer(&call, Answer::json(200, answer.to_string()))?;
        }
        if stream.reply().is_some() || stream.passed() {
            return Ok(());
        }
        vm.pass(100)?;
    }
    panic!("nobody answers the stream");
}

fn serves(vm: &Vm, what: &str) -> Result<(), Failure> {
    let stream = chat(vm)?;
    for _ in 0..20 {
        billing(vm, &pays)?;
        vm.pass(100)?;
    }
    assert!(stream.passed(), "after {what}: {:?}", stream.reply());
    stream.response(200, "{}")?;
    stream.close(0)?;
    billing(vm, &pays).map(drop)
}

#[test]
fn a_hello_or_sync_that_is_nearly_right_passes_nobody() -> Result<(), Failure> {
    for consult in ["every_request", "lease"] {
        let hellos = SHAPES.iter().chain(&HELLOS).map(|mangled| (HELLO, mangled));
        let syncs = SHAPES.iter().chain(&SYNCS).map(|mangled| (SYNC, mangled));
        for (path, (what, mangle)) in hellos.chain(syncs) {
            let mut json = ai_json();
            json["routes"][0]["consult"] = json!(consult);
            let envoy = Envoy::new();
            let vm = worker(&envoy, &json)?;
            if path == SYNC {
                // Who is known already is lent to; before that, each request has a hold of its own.
                serves(&vm, "nothing")?;
                vm.pass(61_000)?;
                billing(&vm, &pays)?;
            }
            let stream = chat(&vm)?;
            answer_mangled(&vm, &stream, path, *mangle)?;
            assert_eq!(
                refusal(&stream),
                (503, "service_unavailable".to_owned()),
                "{consult}, {path}: {what}"
            );
            stream.close(0)?;
            serves(&vm, what)?;
            assert_no_bug(&envoy);
        }
    }
    Ok(())
}

#[test]
fn a_claim_that_is_nearly_right_forwards_nothing() -> Result<(), Failure> {
    for (what, mangle) in SHAPES.iter().chain(&CLAIMS) {
        let (envoy, vm) = webhook()?;
        let body = event("evt_1", 400);
        let stream = vm.stream()?;
        stream.request(&delivery(&envoy, "app", &body), &body)?;
        answer_mangled(&vm, &stream, CLAIM, *mangle)?;
        let outcome = (stream.reply().map(|reply| reply.status), stream.note("tollgate.webhook"));
        assert_eq!(outcome, (Some(503), "claim_unavailable".to_owned()), "{what}");
        stream.close(0)?;
        let retry = vm.stream()?;
        retry.request(&delivery(&envoy, "app", &body), &body)?;
        billing(&vm, &pays)?;
        assert!(retry.passed(), "after {what}");
        retry.response(200, "{}")?;
        retry.close(0)?;
        // What became of it is told until billing's answer makes sense.
        let call = vm.call()?;
        vm.answer(&call, Answer::json(200, r#"{"result":"perhaps"}"#))?;
        vm.pass(1_000)?;
        let again = document(&vm.call()?);
        assert_eq!((&again, &again["outcome"]), (&document(&call), &json!("accepted")), "after {what}");
        billing(&vm, &pays)?;
        assert_no_bug(&envoy);
    }
    Ok(())
}
