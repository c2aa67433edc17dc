//! What the filter itself costs, in instructions of the interpreter: the same in every run, so that a regression shows in one.
//!
//! It is a measure of change, not of time: what reads byte by byte, by the state that it is in, seems to count for more here than
//! it takes. `make bench` says how long it takes.

use crate::priced::{self, EVENTS, RICH, priced_json, sell};
use crate::support::{CHAT, CHAT_BODY, ai, ai_json, billing, delivery, event, pays, webhook, worker};
use host::{Envoy, Failure, Stream, Vm};
use serde_json::json;

/// A consulted request of its own, from first header to acknowledged charge. Parsing and writing JSON is most of it.
const CONSULTED_MAX: u64 = 1_000_000;
/// A request that a lease pays for: two changes of a slot, headers, notes and counters, and no JSON at all.
const LEASED_MAX: u64 = 300_000;
/// A webhook of 4 KiB, mode `upstream`. SHA-256 is 80 instructions a byte, 40 % of it all; reading the JSON is 25 %.
const WEBHOOK_4_KIB_MAX: u64 = 960_000;
/// A leased request whose body of 1 KiB is read, bounded and edited, and whose answer is read: a small document.
const STRICT_1_KIB_MAX: u64 = 700_000;
/// A KiB of a stream of chat deltas, read as it passes. Reading JSON is nearly all of it.
const STREAMED_KIB_MAX: u64 = 900_000;
/// The same where usage has to be taken out of it: each event is held until it is complete, and read once more.
const HIDDEN_KIB_MAX: u64 = 1_900_000;

/// The fuel of one story on a worker that has been through it `warm` times.
fn fuel(vm: &Vm, warm: usize, story: impl Fn(usize) -> Result<Stream, Failure>) -> Result<u64, Failure> {
    for n in 0..warm {
        story(n)?;
    }
    let before = vm.fuel();
    story(warm)?;
    Ok(vm.fuel() - before)
}

/// A metered request; `calls` is how many calls to billing it must take in all.
fn request(vm: &Vm, calls: usize) -> Result<Stream, Failure> {
    let stream = vm.stream()?;
    stream.request(&CHAT, CHAT_BODY)?;
    let asked = billing(vm, &pays)?.len();
    assert!(stream.passed());
    stream.response(200, "{}")?;
    stream.close(0)?;
    assert_eq!(asked + billing(vm, &pays)?.len(), calls);
    Ok(stream)
}

fn consulted() -> Result<u64, Failure> {
    let (_, vm) = ai()?;
    request(&vm, 3)?;
    fuel(&vm, 10, |_| request(&vm, 2))
}

/// A request that a lease pays for: no call at all, neither before it goes on nor right after it ended.
fn leased() -> Result<u64, Failure> {
    let mut configuration = ai_json();
    configuration["routes"][0]["consult"] = json!("lease");
    let vm = worker(&Envoy::new(), &configuration)?;
    // Who it is, and what that costs; then the lease.
    request(&vm, 2)?;
    request(&vm, 1)?;
    fuel(&vm, 10, |_| request(&vm, 0))
}

fn webhook_4_kib() -> Result<u64, Failure> {
    let (envoy, vm) = webhook()?;
    fuel(&vm, 10, |n| {
        let body = event(&format!("evt_{n}"), 4096);
        let stream = vm.stream()?;
        stream.request(&delivery(&envoy, "stripe", &body), &body)?;
        assert!(stream.passed());
        stream.response(200, "{}")?;
        stream.close(0)?;
        Ok(stream)
    })
}

/// A request with a body, on the route that leases pay for.
fn strict(vm: &Vm, body: &str) -> Result<Stream, Failure> {
    let stream = vm.stream()?;
    stream.request(&priced::fields("/v1/leased", Some(body.len())), body)?;
    sell(vm, RICH)?;
    assert!(stream.passed());
    Ok(stream)
}

/// From its first header to its last byte, without a call to billing.
fn strict_1_kib() -> Result<u64, Failure> {
    let vm = worker(&Envoy::new(), &priced_json())?;
    let body = priced::chat(&json!({"user": "x".repeat(900)}));
    fuel(&vm, 10, |n| {
        let stream = vm.stream()?;
        stream.request(&priced::fields("/v1/leased", Some(body.len())), &body)?;
        let asked = sell(&vm, RICH)?.len();
        assert!(stream.passed() && (n < 2 || asked == 0) && stream.forwarded_body().len() > body.len());
        priced::answer(&stream, &priced::JSON, [priced::completion(&priced::usage(7, 2))])?;
        stream.close(0)?;
        Ok(stream)
    })
}

/// A KiB of a stream, cut as an upstream's packets are, in the middle of a long one.
fn streamed_kib(more: serde_json::Value) -> Result<u64, Failure> {
    const KIB: usize = 64;
    let vm = worker(&Envoy::new(), &priced_json())?;
    let body = priced::chat(&more);
    (0..3).try_for_each(|_| strict(&vm, &body)?.close(0))?;
    let stream = strict(&vm, &body)?;
    stream.response_headers(&[(":status", "200"), EVENTS[0]], false)?;
    let text = priced::events(2_000, &priced::usage(20, 5));
    let mut pieces = text.as_bytes().chunks(512).take(4 * KIB);
    for _ in 0..KIB {
        stream.response_body(pieces.next().unwrap(), false)?;
    }
    let before = vm.fuel();
    for piece in pieces.take(2 * KIB) {
        stream.response_body(piece, false)?;
    }
    Ok((vm.fuel() - before) / 64)
}

/// Asserts that a story costs the same twice, and no more than it may.
fn assert_costs(what: &str, max: u64, story: impl Fn() -> Result<u64, Failure>) -> Result<(), Failure> {
    let (first, second) = (story()?, story()?);
    println!("{what}: {first} fuel of at most {max}");
    assert_eq!(first, second, "{what} is deterministic");
    assert!(first <= max, "{what} costs {first} fuel, more than {max}");
    assert!(first >= max / 2, "{what} costs {first} fuel only: lower its ceiling from {max}");
    Ok(())
}

#[test]
fn a_consulted_request() -> Result<(), Failure> {
    assert_costs("a consulted request", CONSULTED_MAX, consulted)
}

#[test]
fn a_leased_request() -> Result<(), Failure> {
    assert_costs("a leased request", LEASED_MAX, leased)
}

#[test]
fn a_webhook_of_4_kib() -> Result<(), Failure> {
    assert_costs("a webhook of 4 KiB", WEBHOOK_4_KIB_MAX, webhook_4_kib)
}

#[test]
fn a_leased_strict_request() -> Result<(), Failure> {
    assert_costs("a leased strict request", STRICT_1_KIB_MAX, strict_1_kib)
}

#[test]
fn a_kib_of_a_metered_stream() -> Result<(), Failure> {
    let asks = || json!({"stream": true, "stream_options": {"include_usage": true}});
    assert_costs("a KiB of a stream", STREAMED_KIB_MAX, || streamed_kib(asks()))
}

#[test]
fn a_kib_of_a_stream_whose_usage_is_hidden() -> Result<(), Failure> {
    assert_costs("a KiB of a stream with usage hidden", HIDDEN_KIB_MAX, || {
        streamed_kib(json!({"stream": true}))
    })
}
