//! A worker whose routes are read, a billing service with a price list, and requests and answers with usage in them.

use crate::support::{CHAT, ai_json, calls, document, pays, worker};
use contract::v1::{NeedShape, PriceList};
use host::{Answer, Call, Envoy, Failure, Stream, Vm};
use serde_json::{Value, json};

/// The limit of output that a request gets which states none.
pub(crate) const OUTPUT_MAX: i64 = 200;

/// The routes, all of one endpoint: path, and how it is read.
fn routes() -> [(&'static str, Value); 8] {
    let header = json!({"header": {"input": "x-in", "output": "x-out"}});
    let pointer = json!({"json_pointer": {"input": "/meta/read", "output": "/meta/written"}});
    let read = |hold: &str, usage: Value| json!({"hold": hold, "usage": usage, "request": "openai"});
    let mut leased = read("max_tokens", json!("openai"));
    leased["consult"] = json!("lease");
    let mut unpaid = read("max_tokens", json!("openai"));
    unpaid["on_unavailable"] = json!({"allow_bounded": 2});
    [
        ("/v1/chat/completions", read("max_tokens", json!("openai"))),
        ("/v1/leased", leased),
        ("/v1/estimated", read("estimate", json!("openai"))),
        ("/v1/messages", json!({"hold": "max_tokens", "usage": "anthropic"})),
        ("/v1/headers", read("max_tokens", header)),
        ("/v1/pointers", read("max_tokens", pointer)),
        ("/v1/envoys", read("max_tokens", json!("envoy_ai"))),
        ("/v1/unpaid", unpaid),
    ]
}

/// The configuration of the role `ai` with these routes.
pub(crate) fn priced_json() -> Value {
    let mut json = ai_json();
    let route = |(path, read): (&str, Value)| {
        let mut route = json!({"method": "POST", "path": path, "endpoint": "chat", "consult": "every_request",
            "on_unavailable": "deny"});
        for (key, value) in read.as_object().unwrap() {
            route[key] = value.clone();
        }
        route
    };
    json["routes"] = routes().into_iter().map(route).collect();
    json
}

/// A worker of an Envoy of its own, with these routes.
pub(crate) fn priced() -> Result<(Envoy, Vm), Failure> {
    let envoy = Envoy::new();
    worker(&envoy, &priced_json()).map(|vm| (envoy, vm))
}

/// A micro-credit for each token of the input, and four for each of the output.
pub(crate) fn list() -> Value {
    let model = json!({"name": "gpt-5", "matching": "prefix", "input": 1_000_000, "cached": 100_000,
        "cache_written": 1_000_000, "output": 4_000_000, "reasoning": 4_000_000, "image": 0, "context": 100_000,
        "output_max": OUTPUT_MAX, "output_usual": 20, "image_tokens": 50, "tools_tokens": 10});
    json!({"version": 3, "request": 0, "minimum": 0, "hold": 500, "output_min": 4, "unknown": "refuse",
        "models": [model]})
}

/// A billing service that knows the list, for a customer who can afford so many micro-credits a request.
pub(crate) fn sells(call: &Call, affords: i64) -> Value {
    let prices: PriceList = serde_json::from_value(list()).unwrap();
    let decide = |sync: &Value, need: &Value| {
        let mut decision = pays(sync, need);
        let shape: NeedShape = serde_json::from_value(need["shape"].clone()).unwrap();
        let NeedShape::Tokens(shape) = shape else { return decision };
        let hold = json!(prices.hold(&shape).unwrap().get().min(affords));
        decision["price"]["hold"] = hold.clone();
        if need["mode"] == "hold" {
            for field in ["granted", "held"] {
                decision["cells"][0][field] = hold.clone();
            }
        }
        decision
    };
    let mut answer = stage::rogue::honest(&call.path(), &document(call), &decide);
    if call.path().ends_with("/sync") && document(call)["needs"] != json!([]) {
        answer["lists"] = json!({"chat": list()});
    }
    answer
}

/// Answers every call that is under way, and all that follow from that; gives them back.
pub(crate) fn sell(vm: &Vm, affords: i64) -> Result<Vec<Call>, Failure> {
    let mut served = Vec::new();
    while let Some(call) = calls(vm)?.into_iter().next() {
        vm.answer(&call, Answer::json(200, sells(&call, affords).to_string()))?;
        served.push(call);
    }
    Ok(served)
}

/// Who can afford anything.
pub(crate) const RICH: i64 = 1 << 40;

/// The headers of a request to one of the routes; `length` if it says how long it is.
pub(crate) fn fields(path: &'static str, length: Option<usize>) -> Vec<(&'static str, String)> {
    let line =
        CHAT.iter().map(|(name, value)| (*name, if *name == ":path" { path } else { value }.to_owned()));
    line.chain(length.map(|length| ("content-length", length.to_string()))).collect()
}

/// A request to one of the routes, as it came, of a customer who can afford so much.
pub(crate) fn ask(vm: &Vm, path: &'static str, body: &str, affords: i64) -> Result<Stream, Failure> {
    let stream = vm.stream()?;
    stream.request(&fields(path, Some(body.len())), body)?;
    sell(vm, affords)?;
    Ok(stream)
}

/// A chat of one message, with more in its body.
pub(crate) fn chat(more: &Value) -> String {
    let mut body = json!({"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hello"}]});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body.to_string()
}

/// What is held for it, with this limit of output: its bytes, and four times the limit.
pub(crate) fn hold_of(body: &str, limit: i64) -> i64 {
    i64::try_from(body.len()).unwrap() + 4 * limit
}

/// An answer's headers, and its body in these pieces.
pub(crate) fn answer<P: AsRef<[u8]>>(
    stream: &Stream,
    headers: &[(&str, &str)],
    pieces: impl IntoIterator<Item = P>,
) -> Result<(), Failure> {
    let all: Vec<_> = [(":status", "200")].iter().chain(headers).copied().collect();
    stream.response_headers(&all, false)?;
    for piece in pieces {
        stream.response_body(piece, false)?;
    }
    stream.response_body("", true).map(drop)
}

/// The headers of a JSON answer, and of a stream.
pub(crate) const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
/// See [`JSON`].
pub(crate) const EVENTS: [(&str, &str); 1] = [("content-type", "text/event-stream")];

/// What OpenAI answers, with this usage.
pub(crate) fn completion(usage: &Value) -> String {
    json!({"id": "c1", "object": "chat.completion", "model": "gpt-5-mini-2026", "usage": usage,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}]})
    .to_string()
}

/// Such a usage.
pub(crate) fn usage(input: i64, output: i64) -> Value {
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
}

fn chunk(text: &str, usage: &str) -> String {
    format!(
        "data: {{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-5-mini-2026\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]{usage}}}\n\n"
    )
}

/// So many deltas as OpenAI streams them to who asks for usage, and this usage.
pub(crate) fn events(deltas: usize, usage: &Value) -> String {
    let deltas: String = (0..deltas).map(|_| chunk(" hello", ",\"usage\":null")).collect();
    format!("{deltas}data: {{\"id\":\"c1\",\"choices\":[],\"usage\":{usage}}}\n\ndata: [DONE]\n\n")
}

/// The same to who does not ask for it.
pub(crate) fn plain_events(deltas: usize) -> String {
    let deltas: String = (0..deltas).map(|_| chunk(" hello", "")).collect();
    format!("{deltas}data: [DONE]\n\n")
}

/// The one usage record that the stream's end came to.
pub(crate) fn end(vm: &Vm, stream: &Stream, flags: u64) -> Result<Value, Failure> {
    stream.close(flags)?;
    record(vm)
}

/// The one usage record that is told now.
pub(crate) fn record(vm: &Vm) -> Result<Value, Failure> {
    let told: Vec<Value> = sell(vm, RICH)?
        .iter()
        .flat_map(|call| document(call)["usage"].as_array().cloned().unwrap_or_default())
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    Ok(told[0].clone())
}

/// What of it was charged, beyond the hold too.
pub(crate) fn charged(record: &Value) -> i64 {
    let charges = record["charges"].as_array().unwrap().iter();
    charges.map(|charge| charge["amount"].as_i64().unwrap()).sum::<i64>()
        + record["beyond"].as_i64().unwrap_or(0)
}
