//! The ledger's own tests must see: each fault of the list is built into a copy of the sources, and a test there goes red.
//!
//! Nothing of what ships knows of it. `make mutants` compiles and runs the copies (minutes); what runs with every other
//! test is that each fault still has its place in the sources, and its test is there.
#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects)]

mod list;

use list::{MUTANTS, Mutant};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The file that holds a test.
fn home((package, target, name): (&str, &str, &str)) -> String {
    let folder = format!("crates/{}", package.trim_start_matches("tollgate-"));
    match target {
        "" => format!("{folder}/src/{}.rs", name.rsplit_once("::tests::").unwrap().0.replace("::", "/")),
        file => format!("{folder}/tests/{file}.rs"),
    }
}

#[test]
fn every_fault_has_its_place_and_its_test() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap_or_default();
    let mut complaints = Vec::new();
    for Mutant { what, edits, caught_by } in MUTANTS {
        for (file, before, after) in *edits {
            let times = read(file).matches(before).count();
            if times != 1 {
                complaints.push(format!("{what}: {times} times in {file}, and not once: {before}"));
            }
            assert_ne!(before, after, "{what}: changes nothing");
        }
        let name = caught_by.2.rsplit("::").next().unwrap();
        if !read(&home(*caught_by)).contains(&format!("fn {name}(")) {
            complaints.push(format!("{what}: there is no test {caught_by:?}"));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Copies what cargo needs of the project.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        let outside = ["target", "fuzz", "recordings", "seeds"].iter().any(|folder| name == *folder);
        if path.is_dir() && !outside && !name.to_string_lossy().starts_with('.') {
            copy(&path, &to.join(name));
        } else if path.is_file() {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// Runs tests of the copy, one of a target or all: `Some(true)` if they hold, `Some(false)` if they ran and did not, `None`
/// if nothing ran. What the copy depends on is taken from where this test was built.
fn run(tree: &Path, (package, target, name): (&str, &str, Option<&str>)) -> (Option<bool>, String) {
    let mut cargo = Command::new(env!("CARGO"));
    let build = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    cargo.current_dir(tree).env("CARGO_TARGET_DIR", build).env("CARGO_INCREMENTAL", "0");
    cargo.args(["test", "--offline", "-p", package]);
    // To optimise each copy would take longer than to run a test of it.
    cargo.args(["--config", "profile.test.package.tollgate-ledger.opt-level=0"]);
    match target {
        "" => cargo.arg("--lib"),
        file => cargo.args(["--test", file]),
    };
    let output = match name {
        Some(name) => cargo.args(["--", "--exact", name]).output().unwrap(),
        None => cargo.output().unwrap(),
    };
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let ran = !text.contains("running 0 tests");
    let verdict = if ran && text.contains("test result: ok.") {
        Some(true)
    } else if ran && text.contains("test result: FAILED.") {
        Some(false)
    } else {
        None
    };
    (verdict, text)
}

/// `MUTANT=word` picks those whose sentence has the word.
#[test]
#[ignore = "compiles a copy for each fault: make mutants"]
fn every_fault_turns_its_test_red() {
    let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    _ = std::fs::remove_dir_all(&tree);
    copy(&root(), &tree);
    let picked = std::env::var("MUTANT").unwrap_or_default();
    let picked: Vec<&Mutant> = MUTANTS.iter().filter(|it| it.what.contains(&picked)).collect();
    assert!(!picked.is_empty(), "there is no such fault");
    let (mut sound, mut escaped) = (BTreeSet::new(), Vec::new());
    for Mutant { what, edits, caught_by } in picked {
        let (package, target, name) = *caught_by;
        if sound.insert((package, target)) {
            let (holds, text) = run(&tree, (package, target, None));
            assert_eq!(holds, Some(true), "without a fault all of {package} {target} must hold:\n{text}");
        }
        for (file, before, after) in *edits {
            let text = std::fs::read_to_string(tree.join(file)).unwrap();
            std::fs::write(tree.join(file), text.replace(before, after)).unwrap();
        }
        let (verdict, text) = run(&tree, (package, target, Some(name)));
        match verdict {
            Some(false) => println!("caught by {name}: {what}"),
            Some(true) => escaped.push(format!("not noticed by {name}: {what}")),
            None => escaped.push(format!("did not run: {what}\n{text}")),
        }
        for (file, ..) in *edits {
            // Written anew, so that it is compiled anew.
            std::fs::copy(root().join(file), tree.join(file)).unwrap();
        }
    }
    assert!(escaped.is_empty(), "\n{}", escaped.join("\n"));
}
