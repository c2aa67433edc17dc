//! What the filter asks of its host while a lease pays for a request: each call takes more of Envoy's time than of the filter's own.

use crate::support::{CHAT, CHAT_BODY, ai_json, billing, pays, worker};
use host::{Envoy, Failure, HostCall, Vm};
use serde_json::json;

/// Of a warm request, from its first header to its end. Each is a header, a fact or a number that somebody outside reads, or
/// one half of the two changes of its payer's slot. Headers are set one by one: setting the whole map at once takes all of
/// them out and puts them in again, `:path` and `:authority` among them, which nobody has shown Envoy to bear.
const WARM_MAX: usize = 25;
/// Of the root, for all requests that ended since it was called last.
const TICK_MAX: usize = 2;

/// A worker whose customer has a lease.
fn warm() -> Result<(Envoy, Vm), Failure> {
    let mut configuration = ai_json();
    configuration["routes"][0]["consult"] = json!("lease");
    let envoy = Envoy::new();
    let vm = worker(&envoy, &configuration)?;
    // Who it is, and what that costs; then the lease. Then it is warm, and a second has passed in which nothing is due.
    for _ in 0..3 {
        request(&vm)?;
        billing(&vm, &pays)?;
    }
    Ok((envoy, vm))
}

fn request(vm: &Vm) -> Result<(), Failure> {
    let stream = vm.stream()?;
    stream.request(&CHAT, CHAT_BODY)?;
    if !stream.passed() {
        billing(vm, &pays)?;
    }
    assert!(stream.passed());
    stream.response(200, "{}")?;
    stream.close(0)
}

/// What was asked of the host in the meantime.
fn asked(vm: &Vm, meanwhile: impl FnOnce() -> Result<(), Failure>) -> Result<Vec<HostCall>, Failure> {
    let before = vm.host_calls().len();
    meanwhile()?;
    Ok(vm.host_calls().split_off(before))
}

/// Asserts that there are no more of them than there may be, and no fewer than that says.
fn assert_asks(what: &str, asked: &[HostCall], max: usize) {
    let names: Vec<String> = asked
        .iter()
        .enumerate()
        .map(|(n, call)| format!("{:>3} {} {}", n + 1, call.name, call.about))
        .collect();
    let list = names.join("\n");
    println!("{what}: {} of at most {max}\n{list}", asked.len());
    assert!(asked.len() <= max, "{what} makes {} calls, more than {max}:\n{list}", asked.len());
    assert!(asked.len() >= max, "{what} makes {} calls only: lower its bound from {max}", asked.len());
}

#[test]
fn a_warm_request_makes_at_most_so_many_calls_to_its_host() -> Result<(), Failure> {
    let (_envoy, vm) = warm()?;
    let asked = asked(&vm, || request(&vm))?;
    assert!(asked.iter().all(|call| call.name != "proxy_http_call"), "it is warm");
    assert_asks("a warm request", &asked, WARM_MAX);
    Ok(())
}

#[test]
fn what_ended_between_two_ticks_is_counted_by_one_call() -> Result<(), Failure> {
    let (envoy, vm) = warm()?;
    vm.tick()?;
    let ended = || envoy.metric("tollgate_ended_total.outcome.charged").unwrap_or_default();
    let before = ended();
    (0..10).try_for_each(|_| request(&vm))?;
    let asked = asked(&vm, || vm.tick())?;
    assert_eq!(ended(), before + 10);
    let counted = asked.iter().filter(|call| call.name == "proxy_increment_metric").count();
    assert_eq!(counted, 1, "{asked:?}");
    assert_asks("a tick", &asked, TICK_MAX);
    Ok(())
}
