//! Every row of `docs/failure.md` names the tests that show it, and each of them is in the tree.

use crate::{reading, root};
use std::path::Path;

/// A reference that names a test, but none that is there; and rows without any.
fn complaints(document: &str, has_test: &dyn Fn(&str, &str) -> bool) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut width = None;
    for (number, line) in document.lines().enumerate().map(|(n, line)| (n + 1, line.trim())) {
        let Some(row) = line.strip_prefix('|').and_then(|row| row.strip_suffix('|')) else {
            width = None;
            continue;
        };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let last = cells[cells.len() - 1];
        match width {
            None => width = Some((cells.len(), last == "tests")),
            Some((columns, _)) if cells.len() != columns => {
                complaints.push(format!(
                    "line {number}: {} cells where the head has {columns}: {line}",
                    cells.len()
                ));
            }
            Some((_, false)) => {}
            Some(_) if cells.iter().all(|cell| !cell.is_empty() && cell.trim_matches('-').is_empty()) => {}
            Some(_) => {
                let named: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
                if named.is_empty() {
                    complaints.push(format!("line {number}: names no test: {line}"));
                }
                let is_there =
                    |name: &&&str| name.split_once("::").is_some_and(|(file, test)| has_test(file, test));
                let missing = named.iter().filter(|name| !is_there(name));
                complaints.extend(missing.map(|name| format!("line {number}: there is no test {name}")));
            }
        }
    }
    complaints
}

/// Whether a file holds a test of this name: in Rust a function under an attribute that ends in `test`, in anything
/// else (a client's own test suite) the name as a word.
fn has_test(text: &str, is_rust: bool, test: &str) -> bool {
    if !is_rust {
        return !reading::lines_naming(text, test).is_empty();
    }
    let (code, begin) = (reading::code(text), format!("fn {test}("));
    code.match_indices(&begin).any(|(at, _)| {
        let before = &code[..at];
        // What stands between the last item and this one: its attributes, and the word `async`.
        let own = before.rfind(['}', ';', '{']).map_or(before, |end| &before[end + 1..]);
        own.contains("#[test]") || own.contains("::test") || own.contains("_test]")
    })
}

/// Whether the project has this test in this file.
pub(crate) fn is_there(file: &str, test: &str) -> bool {
    let is_rust = Path::new(file).extension().is_some_and(|e| e == "rs");
    std::fs::read_to_string(root().join(file)).is_ok_and(|text| has_test(&text, is_rust, test))
}

#[test]
fn each_failure_names_a_test_that_is_there() {
    let document = std::fs::read_to_string(root().join("docs/failure.md")).unwrap();
    let complaints = complaints(&document, &is_there);
    assert!(complaints.is_empty(), "\ndocs/failure.md:\n{}", complaints.join("\n"));
    let rows = document.lines().filter(|line| line.contains(".rs::")).count();
    assert!(rows > 30, "the tables were not found: {rows} rows");
}

#[test]
fn a_row_without_a_test_is_found() {
    let there = |file: &str, test: &str| (file, test) == ("tests/a.rs", "it_holds");
    let table = |row: &str| format!("Text.\n\n| what | tests |\n| --- | --- |\n{row}\n\nMore | text |\n");
    for (row, expected) in [
        ("| disk full | `tests/a.rs::it_holds` |", 0),
        ("| disk full | `tests/a.rs::it_holds`, `tests/a.rs::it_holds` |", 0),
        ("| disk full | |", 1),
        ("| disk full | none yet |", 1),
        ("| disk full | `it_holds` |", 1),
        ("| disk full | `tests/a.rs::it_breaks` |", 1),
        ("| disk full | `tests/b.rs::it_holds`, `tests/a.rs::it_holds` |", 1),
        ("| disk full | what | `tests/a.rs::it_holds` |", 1),
    ] {
        assert_eq!(complaints(&table(row), &there).len(), expected, "{row}");
    }
    let other = "| metric | means |\n| --- | --- |\n| a | b |\n";
    assert_eq!(complaints(other, &there), [""; 0], "a table of something else");
    for (text, expected) in [
        ("#[test]\nfn it_holds() {}", true),
        ("use a;\n#[tokio::test(flavor = \"multi_thread\")]\nasync fn it_holds() {}", true),
        ("#[wasm_bindgen_test]\nfn it_holds() {}", true),
        (
            "proptest! {\n    #![config(a)]\n\n    /// Why.\n    #[test]\n    fn it_holds(n in 0..2) {}\n}",
            true,
        ),
        ("fn it_holds() {}", false),
        ("#[test]\nfn another() {}\nfn it_holds() {}", false),
        ("#[test]\n// fn it_holds() {}\nfn it() {}", false),
        ("#[test]\nfn it_holds_not() {}", false),
    ] {
        assert_eq!(has_test(text, true, "it_holds"), expected, "{text}");
    }
    assert!(has_test("def test_refusal():", false, "test_refusal"));
    assert!(!has_test("def test_refusals():", false, "test_refusal"));
}
