//! Every case of `docs/ledger-cases.md` is there once, names its tests or says why it has none, and each test is in the tree.

use crate::failures::is_there;
use crate::root;

/// The cases are numbered from T01 to this one.
const CASES: usize = 55;
/// How a row says that tests do not show the whole of its case.
const WITHOUT: [&str; 2] = ["**Not tested**", "**Not here**"];

/// A test that is named and not there; a row that neither names one nor says why; a case that is missing or there twice.
fn complaints(document: &str, cases: usize, has_test: &dyn Fn(&str, &str) -> bool) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut seen = vec![0; cases];
    for (number, line) in document.lines().enumerate().map(|(n, line)| (n + 1, line.trim())) {
        let Some(row) = line.strip_prefix("| T").and_then(|row| row.strip_suffix('|')) else { continue };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let &[case, what, tests] = cells.as_slice() else {
            complaints.push(format!("line {number}: {} cells where there are three: {line}", cells.len()));
            continue;
        };
        match case.parse::<usize>().ok().and_then(|n| seen.get_mut(n.wrapping_sub(1))) {
            Some(count) if case.len() == 2 && !what.is_empty() => *count += 1,
            _ => complaints.push(format!("line {number}: is no case: {line}")),
        }
        let named: Vec<(&str, &str)> =
            tests.split('`').skip(1).step_by(2).filter_map(|name| name.split_once("::")).collect();
        if named.is_empty() && !WITHOUT.iter().any(|why| tests.starts_with(why)) {
            complaints.push(format!("line {number}: names no test: {line}"));
        }
        let missing = named.iter().filter(|(file, test)| !has_test(file, test));
        complaints
            .extend(missing.map(|(file, test)| format!("line {number}: there is no test {file}::{test}")));
    }
    let wrong = seen.iter().enumerate().filter(|(_, count)| **count != 1);
    complaints.extend(wrong.map(|(n, count)| format!("T{:02} is there {count} times", n + 1)));
    complaints
}

#[test]
fn each_case_is_there_once_and_names_tests_that_are() {
    let document = std::fs::read_to_string(root().join("docs/ledger-cases.md")).unwrap();
    let complaints = complaints(&document, CASES, &is_there);
    assert!(complaints.is_empty(), "\ndocs/ledger-cases.md:\n{}", complaints.join("\n"));
}

#[test]
fn a_case_without_a_test_is_found() {
    let there = |file: &str, test: &str| (file, test) == ("a.rs", "it_holds");
    for (row, expected) in [
        ("| T01 | it holds | `a.rs::it_holds` |", 0),
        ("| T01 | it holds | `a.rs::it_holds`. **Part**: all of `Version` |", 0),
        ("| T01 | it holds | **Not tested** |", 0),
        ("| T01 | it holds | **Not here**: why |", 0),
        ("| T01 | it holds | **Part**: why |", 1),
        ("| T01 | it holds | |", 1),
        ("| T01 | it holds | `it_holds` |", 1),
        ("| T01 | it holds | `a.rs::it_breaks` |", 1),
        ("| T01 | it holds | **Not here**: see `b.rs::it_holds` |", 1),
        ("| T01 | it holds | more | `a.rs::it_holds` |", 2),
        ("| T1 | it holds | `a.rs::it_holds` |", 2),
        ("| T02 | it holds | `a.rs::it_holds` |", 2),
        ("| T01 | it holds | `a.rs::it_holds` |\n| T01 | it holds | `a.rs::it_holds` |", 1),
        ("| none |", 1),
    ] {
        let found = complaints(row, 1, &there);
        assert_eq!(found.len(), expected, "{row}: {found:?}");
    }
}
