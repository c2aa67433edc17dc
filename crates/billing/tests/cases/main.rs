//! The cases of Stripe's billing as data: every order of the same events, any number of times, ends in one state.
//!
//! Each file beside this one is a list of cases. A case is a catalog (changes to `BASE`), and steps: `events`, which are
//! delivered in every order (500 of them where there are more than 720); `clock`, which lets time pass until then;
//! `spend`, `hold`, `finish`, `bind`, `gift`; and `expect`. Every case is run in every shape that Stripe's events had, in a mix of
//! them, with every event twice, and with every event repeated under another id, which Stripe does too ("Webhooks:
//! handle duplicate events"); on the store in memory, and a few orders on SQLite. A case that is `pending` must fail, so that its mark goes when its day has come.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod audit;
mod recorded;
mod run;
mod shapes;
mod world;

use run::Case;
use serde_json::Value;
use std::fmt::Write as _;

/// The product of all cases: plan P brings 30 credits for $30 a month, plan Q 100 for $60, package K 100 for $5.
pub(crate) const BASE: &str = include_str!("base.yaml");

fn run(file: &str, text: &str) {
    let cases: Value = serde_saphyr::from_str(text).unwrap_or_else(|no| panic!("{file}: {no}"));
    let (mut failures, mut pending) = (String::new(), String::new());
    for case in cases.as_array().unwrap() {
        let case = Case::read(case);
        let (name, outcome) = (&case.name, case.run());
        match (&case.pending, outcome) {
            (None, Ok(())) => {}
            (Some(why), Err(no)) => {
                // What was found stands before what all is there.
                let found: Vec<_> = no.lines().take_while(|line| !line.starts_with("  {")).collect();
                writeln!(pending, "pending {name}: {why}\n    {}", found.join("\n    ")).unwrap();
            }
            (None, Err(no)) => writeln!(failures, "\n{file}, {name}: {no}").unwrap(),
            (Some(_), Ok(())) => {
                writeln!(failures, "\n{file}, {name}: it passes now: take its `pending` away").unwrap();
            }
        }
    }
    print!("{pending}");
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn subscriptions() {
    run("subscriptions.yaml", include_str!("subscriptions.yaml"));
}

#[test]
fn credits() {
    run("credits.yaml", include_str!("credits.yaml"));
}

#[test]
fn plan_changes() {
    run("plan_changes.yaml", include_str!("plan_changes.yaml"));
}

#[test]
fn reversals() {
    run("reversals.yaml", include_str!("reversals.yaml"));
}
