//! For tests only: ends the VM where a request asks for it, to show what a bug would do. Not in what ships.

use gate::Headers;
use std::cell::Cell;

/// The request header that asks; its value says where.
const HEADER: &str = "x-test-trap";

thread_local! {
    static ROOT_NEXT: Cell<bool> = const { Cell::new(false) };
}

/// `request`: in the callback that brought the request's headers. `root`: when its root is called next, so that the
/// request itself, and whoever else waits, is paused at that moment.
pub(crate) fn in_request(headers: &Headers) {
    match headers.text(HEADER) {
        Some("request") => std::process::abort(),
        Some("root") => ROOT_NEXT.set(true),
        _ => {}
    }
}

/// In a callback of the root.
pub(crate) fn in_root() {
    if ROOT_NEXT.get() {
        std::process::abort();
    }
}
