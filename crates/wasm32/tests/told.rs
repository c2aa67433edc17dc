//! The corpus, told to the pure machines: natively, in the filter's wasm32, and in wasm32-unknown-unknown by wasm-bindgen's
//! runner.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use scenarios::{AI, WEBHOOK, corpus, judge};
use wasm32::Pure;

#[test]
fn every_scenario_holds() {
    let complaints: Vec<String> = corpus()
        .iter()
        .zip(1..)
        .flat_map(|(scenario, n)| judge(&mut Pure::new(AI, WEBHOOK), scenario, n))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn they_hold_one_after_the_other_in_one_gateway_too() {
    let mut gateway = Pure::new(AI, WEBHOOK);
    let complaints: Vec<String> =
        corpus().iter().zip(1..).flat_map(|(scenario, n)| judge(&mut gateway, scenario, n)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
