//! The ledger's own tests must see: each fault of the list is built into a copy of the sources, and a test there goes red.
//!
//! Nothing of what ships knows of it. `make mutants` compiles and runs the copies (minutes); what runs with every other
//! test is that each fault still has its place in the sources, and its test is there.
#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects)]

mod list;

use list::{MUTANTS, Mutant};
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

/// Runs one test of the copy: `Some(true)` if it holds, `Some(false)` if it ran and did not, `None` if nothing ran.
fn run(tree: &Path, build: &Path, (package, target, name): (&str, &str, &str)) -> (Option<bool>, String) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(tree).env("CARGO_TARGET_DIR", build).env("CARGO_INCREMENTAL", "0");
    cargo.args(["test", "--offline", "-p", package]);
    // A test or two of each copy: to optimise it would take longer than to run it.
    cargo.args(["--config", "profile.test.package.tollgate-ledger.opt-level=0"]);
    cargo.args(["--config", "profile.dev.debug=false"]);
    match target {
        "" => cargo.arg("--lib"),
        file => cargo.args(["--test", file]),
    };
    let output = cargo.args(["--", "--exact", name]).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let verdict = if text.contains("test result: ok. 1 passed") {
        Some(true)
    } else if text.contains("test result: FAILED. 0 passed; 1 failed") {
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
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    let (tree, build) = (place.join("tree"), place.join("build"));
    _ = std::fs::remove_dir_all(&tree);
    copy(&root(), &tree);
    let picked = std::env::var("MUTANT").unwrap_or_default();
    let mut escaped = Vec::new();
    for Mutant { what, edits, caught_by } in MUTANTS.iter().filter(|it| it.what.contains(&picked)) {
        let (sound, text) = run(&tree, &build, *caught_by);
        assert_eq!(sound, Some(true), "without the fault {caught_by:?} must hold:\n{text}");
        for (file, before, after) in *edits {
            let sound = std::fs::read_to_string(tree.join(file)).unwrap();
            std::fs::write(tree.join(file), sound.replace(before, after)).unwrap();
        }
        let (verdict, text) = run(&tree, &build, *caught_by);
        match verdict {
            Some(false) => println!("caught by {}: {what}", caught_by.2),
            Some(true) => escaped.push(format!("not noticed by {}: {what}", caught_by.2)),
            None => escaped.push(format!("did not run: {what}\n{text}")),
        }
        for (file, ..) in *edits {
            std::fs::copy(root().join(file), tree.join(file)).unwrap();
        }
    }
    assert!(escaped.is_empty(), "\n{}", escaped.join("\n"));
}
