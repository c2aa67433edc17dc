//! libFuzzer's way into the target that the variable `FUZZER` names: one program for all of them, linked once.
#![no_main]

use fuzzing::{TARGETS, Target, target};
use std::sync::LazyLock;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZER").unwrap_or_default();
    let known = TARGETS.map(|target| target.name).join(", ");
    target(&name).unwrap_or_else(|| panic!("FUZZER is {name:?}; set it to one of {known}"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));
