//! The file itself: as new as its sources, small, and wanting nothing from its host that is not on a list.

use crate::support::{module, path, younger};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// What the module may import, and why. A name that is not needed any more goes from the list as well.
const IMPORTS: [(&str, &[&str]); 4] = [
    (
        "env: what the filter does for a stream",
        &[
            "proxy_get_header_map_pairs",
            "proxy_replace_header_map_value",
            "proxy_remove_header_map_value",
            "proxy_get_buffer_bytes",
            "proxy_set_buffer_bytes",
            "proxy_get_property",
            "proxy_set_property",
            "proxy_send_local_response",
            "proxy_continue_stream",
            "proxy_set_effective_context",
        ],
    ),
    (
        "env: what the root does for all streams",
        &[
            "proxy_http_call",
            "proxy_get_shared_data",
            "proxy_set_shared_data",
            "proxy_register_shared_queue",
            "proxy_enqueue_shared_queue",
            "proxy_dequeue_shared_queue",
            "proxy_set_tick_period_milliseconds",
            "proxy_define_metric",
            "proxy_increment_metric",
            "proxy_record_metric",
            "proxy_log",
            "proxy_done",
        ],
    ),
    (
        "env: never called by the filter, but in the SDK's traits, whose tables keep every method",
        &[
            "proxy_add_header_map_value",
            "proxy_call_foreign_function",
            "proxy_close_stream",
            "proxy_get_current_time_nanoseconds",
            "proxy_get_header_map_value",
            "proxy_get_status",
            "proxy_grpc_call",
            "proxy_grpc_cancel",
            "proxy_grpc_close",
            "proxy_grpc_send",
            "proxy_grpc_stream",
            "proxy_resolve_shared_queue",
            "proxy_set_header_map_pairs",
        ],
    ),
    (
        "wasi_snapshot_preview1: the standard library's environment, clocks, randomness, panic message and exit",
        &["environ_get", "environ_sizes_get", "clock_time_get", "random_get", "fd_write", "proc_exit"],
    ),
];

#[test]
fn it_imports_what_is_listed_and_nothing_else() {
    let listed: BTreeSet<(String, String)> = IMPORTS
        .iter()
        .flat_map(|(why, names)| names.iter().map(move |name| (why, name)))
        .map(|(why, name)| (why.split(':').next().unwrap().to_owned(), (*name).to_owned()))
        .collect();
    let imported: BTreeSet<_> = module().imports().into_iter().collect();
    let new: Vec<_> = imported.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&imported).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "imported but not listed: {new:?}; listed but not imported: {gone:?}"
    );
}

/// How large it may be. What requests run is compiled for speed; what is read once, for size. Beyond this bound look for what
/// grew, with `CARGO_PROFILE_WASM_STRIP=debuginfo`, which leaves names to measure by. It has been code that came once for each
/// type: readers of JSON that serde's `flatten` and `tag` derive twice, maps that things are taken out of, sorts.
const BYTES_MAX: usize = 1024 * 1024;

#[test]
fn it_is_a_filter_of_this_abi_and_no_larger_than_it_may_be() {
    let exports = module().exports();
    assert!(exports.iter().any(|name| name == "proxy_abi_version_0_2_1"), "{exports:?}");
    println!("{} bytes", module().bytes());
    assert!(module().bytes() < BYTES_MAX, "{} bytes", module().bytes());
}

#[test]
fn a_module_older_than_a_source_is_refused() {
    let list =
        format!("{}: {} {}", path().display(), file!(), concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs"));
    let now = SystemTime::now() + Duration::from_secs(1);
    assert_eq!(younger(now, &list), None);
    assert_eq!(younger(SystemTime::UNIX_EPOCH, &list), Some(file!()));
    assert_eq!(younger(now, "module: no/such/file.rs"), Some("no/such/file.rs"));
}
