//! The commands beside `serve`, as whoever types them sees them.

use crate::process::refused;
use crate::support::demo_catalog;
use std::process::{Command, Stdio};

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate-billing"));
    command.args(args).env_clear();
    command
}

pub(crate) fn told(command: &mut Command) -> String {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_catalog_is_checked_without_serving() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("catalog.yaml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, demo_catalog()).unwrap();
    for name in ["check", "check-catalog"] {
        let told = told(&mut program(&[name, path]));
        assert!(told.contains("2 tiers, 1 package, 3 endpoints, 1 window;"), "{told}");
    }
    std::fs::write(&file, demo_catalog().replace("rank: 1", "rang: 1")).unwrap();
    let told = refused(&mut program(&["check", path]));
    assert!(told.contains("tiers.pro.rang") && told.contains("tiers.pro.rank"), "{told}");
    let told = refused(&mut program(&["check", "/nowhere/catalog.yaml"]));
    assert!(told.contains("cannot be read"), "{told}");
}

#[test]
fn a_bad_catalog_hears_all_of_it_at_once_with_place_value_and_mend() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("catalog.yaml");
    let catalog = demo_catalog()
        .replace("currency: usd", "currency: dollars\nsurprise: 1")
        .replace("default_tier: free", "default_tier: gold")
        .replace("tiers: [pro]", "tiers: [platinum]")
        .replace("image: {cost: 5", "image: {cost: -5")
        .replace("allowance: {credits: 1000", "allowance: {credits: 99999999999")
        .replace("amount: 500", "amount: 99999999999999999999")
        .replace("{id: price_pro, amount: 2000}", "{id: price_starter, amount: 2000}");
    std::fs::write(&file, catalog).unwrap();
    let told = refused(&mut program(&["check", file.to_str().unwrap()]));
    for line in [
        "currency is \"dollars\": write three",
        "surprise is 1: remove it",
        "default_tier is \"gold\": name one of the tiers",
        "endpoints.image.cost is -5: it is below zero",
        "tiers.pro.allowance.credits is 99999999999: it is above",
        "endpoints.image.tiers is \"platinum\"",
        "packages.starter.amount is 1",
    ] {
        assert!(told.contains(line), "{line:?} is missing in {told}");
    }
    // A price that buys two things, each whole, and a tier nobody knows.
    let catalog = demo_catalog()
        .replace("tiers: [pro]", "tiers: [platinum]")
        .replace("amount: 2000}", "amount: 2000}\n      - {id: price_pro, amount: 3}")
        .replace("price: price_starter", "price: price_pro");
    std::fs::write(&file, catalog).unwrap();
    let told = refused(&mut program(&["check", file.to_str().unwrap()]));
    for line in [
        "endpoints.image.tiers is \"platinum\"",
        "tiers.pro.prices[1].id is \"price_pro\": is used by tiers.pro.prices[0].id too",
        "packages.starter.price is \"price_pro\": is used by tiers.pro.prices[0].id too",
    ] {
        assert!(told.contains(line), "{line:?} is missing in {told}");
    }
}
