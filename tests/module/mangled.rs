//! A billing service whose answers are nearly right: each is refused whole, passes nobody, and spoils nothing after it.

use crate::priced::{self, RICH, sells};
use crate::support::{
    CHAT, CHAT_BODY, ai_json, answer, assert_no_bug, billing, calls, delivery, document, event, pays,
    refusal, webhook, worker,
};
use host::{Answer, Envoy, Failure, Stream, Vm};
use serde_json::{Value, json};

type Mangle = fn(&mut Value);

const HELLO: &str = "/gateway/v1/hello";
const SYNC: &str = "/gateway/v1/sync";
const WATCH: &str = "/gateway/v1/watch?";
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
        for call in calls(vm)? {
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

/// News only make things faster: whatever is answered to the poll for them, requests are served as before, and it is not
/// repeated without a pause.
#[test]
fn news_that_make_no_sense_change_nothing() -> Result<(), Failure> {
    let note = |epoch: Value| json!([{"payer": "alice", "epoch": epoch, "kind": "recall"}]);
    let absurd = [
        json!(null),
        json!([]),
        json!({"after": -1, "reset": false, "notes": []}),
        json!({"after": 1, "reset": "no", "notes": []}),
        json!({"after": 1, "reset": false, "notes": note(json!(-1))}),
        json!({"after": 1, "reset": false, "notes": [{"payer": "", "epoch": 1, "kind": "recall"}]}),
        json!({"after": 1, "reset": false, "notes": [{"payer": "alice", "epoch": 1, "kind": "bankrupt"}]}),
        json!({"after": u64::MAX, "reset": true, "notes": note(json!(u64::MAX))}),
        json!({"after": 0, "reset": true, "notes": note(json!(0))}),
    ];
    let (envoy, vm) = worker_ai()?;
    serves(&vm, "nothing")?;
    for news in absurd {
        vm.pass(30_000)?;
        billing(&vm, &pays)?;
        let poll = vm.calls()?.into_iter().find(|call| call.path().starts_with(WATCH));
        let poll = poll.unwrap_or_else(|| panic!("nobody asks for news before {news}"));
        assert_eq!((poll.header(":method"), poll.body.len()), ("GET".to_owned(), 0));
        vm.answer(&poll, Answer::json(200, news.to_string()))?;
        serves(&vm, &news.to_string())?;
    }
    assert_no_bug(&envoy);
    Ok(())
}

fn worker_ai() -> Result<(Envoy, Vm), Failure> {
    let mut json = ai_json();
    json["routes"][0]["consult"] = json!("lease");
    let envoy = Envoy::new();
    worker(&envoy, &json).map(|vm| (envoy, vm))
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

/// What can be wrong with prices, holds and repetitions. Nobody passes on any of them.
const PRICED: [(&str, Mangle); 17] = [
    ("a list of the wrong shape", |sync| sync["lists"] = json!([])),
    ("a list that is null", |sync| sync["lists"]["chat"] = json!(null)),
    ("a list that is empty", |sync| sync["lists"]["chat"] = json!({})),
    ("no models", |sync| sync["lists"]["chat"]["models"] = json!(null)),
    ("a negative price", |sync| sync["lists"]["chat"]["models"][0]["input"] = json!(-1)),
    ("half a price", |sync| sync["lists"]["chat"]["models"][0]["output"] = json!(0.5)),
    ("a price beyond 2^53", |sync| sync["lists"]["chat"]["models"][0]["output"] = json!(1_i64 << 53)),
    ("a price in words", |sync| sync["lists"]["chat"]["models"][0]["output"] = json!("free")),
    ("a price left out", |sync| {
        sync["lists"]["chat"]["models"][0].as_object_mut().unwrap().remove("output");
    }),
    ("a matching of another kind", |sync| sync["lists"]["chat"]["models"][0]["matching"] = json!("regex")),
    ("a negative context", |sync| sync["lists"]["chat"]["models"][0]["context"] = json!(-1)),
    ("an unknown word for the unknown", |sync| sync["lists"]["chat"]["unknown"] = json!("free")),
    ("a list of no endpoint", |sync| sync["lists"][""] = sync["lists"]["chat"].clone()),
    ("a repetition of what was no repetition", |sync| sync["needs"][0]["paid"] = json!(1)),
    ("a payment of less than nothing", |sync| sync["needs"][0]["paid"] = json!(-1)),
    ("a payment in words", |sync| sync["needs"][0]["paid"] = json!("all of it")),
    ("a hold of nothing", |sync| hold(sync, 0)),
];

/// What is odd, and lets a request pass all the same: with what is held, and never for nothing.
const ODD: [(&str, Mangle); 8] = [
    ("no list", |sync| sync["lists"] = json!({})),
    ("another's list", |sync| sync["lists"] = json!({"image": sync["lists"]["chat"].clone()})),
    ("a list of another version", |sync| sync["lists"]["chat"]["version"] = json!(4)),
    ("a list of no models", |sync| sync["lists"]["chat"]["models"] = json!([])),
    ("the same model twice", |sync| {
        let models = sync["lists"]["chat"]["models"].as_array_mut().unwrap();
        models.push(models[0].clone());
    }),
    ("prices as high as they go", |sync| {
        let model = &mut sync["lists"]["chat"]["models"][0];
        for field in ["input", "cached", "cache_written", "output", "reasoning", "image"] {
            model[field] = json!((1_i64 << 53) - 1);
        }
        for field in ["context", "output_max", "output_usual", "image_tokens", "tools_tokens"] {
            model[field] = json!(u64::MAX);
        }
    }),
    ("a hold below what the request can cost", |sync| hold(sync, 1)),
    ("a hold far above it", |sync| hold(sync, 900_000_000)),
];

/// Holds so much for the need, or takes so much of the lease.
fn hold(sync: &mut Value, micro: i64) {
    let need = &mut sync["needs"][0];
    need["price"]["hold"] = json!(micro);
    if need["cells"][0]["held"] != json!(0) {
        for field in ["granted", "held"] {
            need["cells"][0][field] = json!(micro);
        }
    }
}

/// Answers what is asked, that with needs in it mangled, until the stream has its answer.
fn sell_mangled(vm: &Vm, stream: &Stream, mangle: Mangle) -> Result<(), Failure> {
    for _ in 0..60 {
        for call in calls(vm)? {
            let mut answer = sells(&call, RICH);
            if call.path() == SYNC && document(&call)["needs"] != json!([]) {
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

fn put(vm: &Vm, path: &'static str, mangle: Mangle) -> Result<Stream, Failure> {
    let body = priced::chat(&json!({"max_tokens": 50}));
    let stream = vm.stream()?;
    stream.request(&priced::fields(path, Some(body.len())), &body)?;
    sell_mangled(vm, &stream, mangle)?;
    Ok(stream)
}

/// An honest request, served and charged by what it used.
fn serves_priced(vm: &Vm, what: &str) -> Result<(), Failure> {
    for _ in 0..20 {
        priced::sell(vm, RICH)?;
        vm.pass(100)?;
    }
    let stream = put(vm, "/v1/chat/completions", |_| ())?;
    assert!(stream.passed(), "after {what}: {:?}", stream.reply());
    priced::answer(&stream, &priced::JSON, [priced::completion(&priced::usage(7, 2))])?;
    assert_eq!(priced::charged(&priced::end(vm, &stream, 0)?), 15, "after {what}");
    Ok(())
}

#[test]
fn prices_that_are_nearly_right_pass_nobody() -> Result<(), Failure> {
    for path in ["/v1/chat/completions", "/v1/leased", "/v1/estimated"] {
        for (what, mangle) in PRICED {
            let (envoy, vm) = priced::priced()?;
            let stream = put(&vm, path, mangle)?;
            assert_eq!(refusal(&stream), (503, "service_unavailable".to_owned()), "{path}: {what}");
            assert!(stream.forwarded_body().is_empty());
            stream.close(0)?;
            serves_priced(&vm, what)?;
            assert_no_bug(&envoy);
        }
    }
    Ok(())
}

#[test]
fn odd_prices_are_no_trap_and_nobody_passes_for_nothing() -> Result<(), Failure> {
    for path in ["/v1/chat/completions", "/v1/leased", "/v1/estimated"] {
        for (what, mangle) in ODD {
            let (envoy, vm) = priced::priced()?;
            // Its own answer says what it used, another one nothing, and a third that it was nothing at all.
            for text in
                [priced::completion(&priced::usage(7, 2)), "{}".into(), priced::completion(&json!(null))]
            {
                let stream = put(&vm, path, mangle)?;
                assert!(stream.passed(), "{path}: {what}: {:?}", stream.reply());
                let held = stream.forwarded_header("x-tollgate-hold");
                assert!(!held.is_empty() && held != "0", "{path}: {what}: {held}");
                priced::answer(&stream, &priced::JSON, [text])?;
                stream.close(0)?;
                let note = stream.note("tollgate.charged");
                assert!(!note.is_empty() && note != "0", "{path}: {what}: {note}");
                vm.pass(2_000)?;
                priced::sell(&vm, RICH)?;
            }
            vm.pass(61_000)?;
            serves_priced(&vm, what)?;
            assert_no_bug(&envoy);
        }
    }
    Ok(())
}

/// Some megabytes of prices: what reading them takes is bounded by how long an answer may be, and is paid once for each.
#[test]
fn a_list_may_be_long() -> Result<(), Failure> {
    let (envoy, vm) = priced::priced()?;
    vm.limit_fuel(1_500_000_000);
    let long: Mangle = |sync| {
        let models = sync["lists"]["chat"]["models"].as_array_mut().unwrap();
        for n in 0..10_000 {
            let mut model = models[0].clone();
            (model["name"], model["matching"]) = (json!(format!("gpt-{n}")), json!("exact"));
            models.push(model);
        }
    };
    let stream = put(&vm, "/v1/leased", long)?;
    assert!(stream.passed());
    priced::answer(&stream, &priced::JSON, [priced::completion(&priced::usage(7, 2))])?;
    stream.close(0)?;
    assert_eq!(stream.note("tollgate.charged"), "0.000015");
    serves_priced(&vm, "a long list")?;
    assert_no_bug(&envoy);
    Ok(())
}

/// The limit is lowered to what the hold pays for, be that nothing: the upstream is never asked for more.
#[test]
fn a_hold_below_the_request_bounds_it() -> Result<(), Failure> {
    let (envoy, vm) = priced::priced()?;
    let (_, mangle) = ODD[6];
    let stream = put(&vm, "/v1/chat/completions", mangle)?;
    let body: Value = serde_json::from_slice(&stream.forwarded_body()).unwrap();
    assert_eq!(body["max_tokens"], json!(0));
    assert_no_bug(&envoy);
    Ok(())
}
