//! What the filter itself costs, in instructions of the interpreter: the same in every run, so that a regression shows in one.

use crate::support::{CHAT, CHAT_BODY, ai, ai_json, billing, delivery, event, pays, webhook, worker};
use host::{Envoy, Failure, Stream, Vm};
use serde_json::json;

/// A consulted request of its own, from first header to acknowledged charge. Parsing and writing JSON is most of it.
const CONSULTED_MAX: u64 = 1_000_000;
/// A request that a lease pays for: two changes of a slot, headers, notes and counters, and no JSON at all.
const LEASED_MAX: u64 = 300_000;
/// A webhook of 4 KiB, mode `upstream`. SHA-256 is 80 instructions a byte, 40 % of it all; reading the JSON is 25 %.
const WEBHOOK_4_KIB_MAX: u64 = 960_000;

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
