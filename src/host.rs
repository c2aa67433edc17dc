//! Performs effects; the only file that speaks to the host, so the only file to read when Envoy changes.
//!
//! Most of the SDK's calls panic on a status they do not expect, and a panic ends the VM with everything that hangs on
//! it. So: headers are read as one list of bytes (a value that is not UTF-8 traps the other getters, and so does a single
//! header that the phase does not have); headers are written, and replies given, only in the phases listed in [`Phase`].

use gate::worker::{ANSWER_BYTES_MAX, CallResult};
use gate::{EnvoyUsage, Flow, Headers, Level, Now, Reply};
use proxy_wasm::hostcalls;
use proxy_wasm::types::{Action, BufferType, LogLevel, MapType};
use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use units::{Instant, Span};

/// What Envoy allows at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The request is held back: its headers can be written, and the client can be answered.
    Held,
    /// The answer's headers can be written.
    Answering,
    /// The piece of the answer that is being handled can be replaced.
    Relaying,
    /// The answer's trailers can be written.
    Trailing,
    /// Neither. A reply from the last callback of a stream would end Envoy itself.
    Past,
}

/// A VM's clocks. The monotonic one is the machine's, the same for all workers.
///
/// Each reading is a call to the host, and on a virtual machine often a system call beneath it. So the time of day is
/// reckoned from the monotonic clock, and looked up once a second.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    recent: Cell<Now>,
    looked_up: Cell<Now>,
}

/// How long the time of day is reckoned.
const RECKONED: Span = Span::from_secs(1);

impl Clock {
    /// What time it is.
    pub(crate) fn now(&self) -> Now {
        // Ticks of 2^-32 seconds.
        let mono = u128::from(coarsetime::Instant::now().as_ticks()).saturating_mul(1_000_000) >> 32;
        let instant = |micros| Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX));
        let (mono, last) = (instant(mono), self.looked_up.get());
        let passed = mono.since(last.mono);
        let now = if last != Now::default() && passed < RECKONED {
            Now { mono, wall: last.wall.plus(passed) }
        } else {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
            let now = Now { mono, wall: instant(wall) };
            self.looked_up.set(now);
            now
        };
        self.recent.set(now);
        now
    }

    /// What time it was when somebody last looked: a tick ago at most, unless the process was stopped. Not for deadlines.
    pub(crate) fn recent(&self) -> Now {
        self.recent.get()
    }
}

/// A number that no other VM has.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

/// All headers of a map; none if the phase has no such map.
pub(crate) fn headers(map: MapType) -> Headers {
    Headers::new(hostcalls::get_map_bytes(map).unwrap_or_default())
}

/// A property's bytes. The parts of its path are separated by NUL, as on the wire.
pub(crate) fn property(path: &str) -> Option<Vec<u8>> {
    hostcalls::get_property(vec![path]).ok().flatten()
}

/// A property that is a number.
pub(crate) fn property_u64(path: &str) -> Option<u64> {
    property(path)?.try_into().ok().map(u64::from_le_bytes)
}

/// The request's body so far, up to `max` bytes and one more.
pub(crate) fn request_body(max: usize) -> Option<Vec<u8>> {
    hostcalls::get_buffer(BufferType::HttpRequestBody, 0, max.saturating_add(1)).ok().flatten()
}

/// Puts another body in the place of the request's, and says its length. Only while [`Phase::Held`], and once it is whole:
/// Envoy leaves `content-length` as the client sent it (and an upstream would wait for what never comes). Where an operator's
/// `capability_restriction_config` forbids `proxy_set_buffer_bytes`, the SDK panics: nothing goes on, and Envoy says 503.
pub(crate) fn replace_request_body(body: &[u8]) -> bool {
    let replaced = hostcalls::set_buffer(BufferType::HttpRequestBody, 0, usize::MAX, body).is_ok();
    if replaced {
        set_request_header("content-length", Some(&body.len().to_string()));
    }
    replaced
}

/// The piece of the answer that is being handled.
pub(crate) fn response_piece(size: usize) -> Option<Vec<u8>> {
    hostcalls::get_buffer(BufferType::HttpResponseBody, 0, size).ok().flatten()
}

/// Puts other bytes in its place. Only while [`Phase::Relaying`].
pub(crate) fn replace_response_piece(size: usize, bytes: &[u8]) -> bool {
    hostcalls::set_buffer(BufferType::HttpResponseBody, 0, size, bytes).is_ok()
}

/// Adds a response trailer. Only while [`Phase::Trailing`].
pub(crate) fn set_response_trailer(name: &str, value: &str) {
    _ = hostcalls::set_map_value(MapType::HttpResponseTrailers, name, Some(value));
}

/// What Envoy's own `ai_protocol_manager` found in the answer, if it stands behind this filter (Envoy 1.40 and later).
pub(crate) fn envoy_usage() -> Option<EnvoyUsage> {
    const AT: &str = "metadata\0typed_filter_metadata\0envoy.ai.token_usage\0";
    let count = |field: &str| property_u64(&format!("{AT}{field}"));
    let model = property(&format!("{AT}model")).and_then(|model| String::from_utf8(model).ok());
    let (input, output) = (count("input_tokens"), count("output_tokens"));
    let cached = count("cached_input_tokens");
    (input.is_some() || output.is_some()).then_some(EnvoyUsage { input, output, cached, model })
}

/// Sets, or with `None` removes, a request header. Only while [`Phase::Held`].
pub(crate) fn set_request_header(name: &str, value: Option<&str>) {
    _ = hostcalls::set_map_value(MapType::HttpRequestHeaders, name, value);
}

/// Sets, or with `None` removes, a response header. Only while [`Phase::Answering`].
pub(crate) fn set_response_header(name: &str, value: Option<&str>) {
    _ = hostcalls::set_map_value(MapType::HttpResponseHeaders, name, value);
}

/// Leaves a fact for the access log.
pub(crate) fn note(key: &str, value: &str) {
    _ = hostcalls::set_property(vec![key], Some(value.as_bytes()));
}

/// Answers the client. Only while [`Phase::Held`], and once.
pub(crate) fn reply(reply: &Reply) {
    let headers = reply.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    _ = hostcalls::send_http_response(u32::from(reply.status), headers, Some(&reply.body));
}

/// Lets a held request go on; its headers are out of reach from now on.
pub(crate) fn resume() {
    _ = hostcalls::resume_http_request();
}

/// Speaks for this context from now on; false if there is none of that number.
pub(crate) fn act_for(context: u32) -> bool {
    hostcalls::set_effective_context(context).is_ok()
}

/// Asks the root of this VM to look at what waits, right after this callback.
pub(crate) fn poke(queue: u32) {
    _ = hostcalls::enqueue_shared_queue(queue, Some(b"!"));
}

/// A queue of this VM's own, for [`poke`].
pub(crate) fn queue(name: &str) -> Option<u32> {
    hostcalls::register_shared_queue(name).ok()
}

/// Empties it.
pub(crate) fn drain(queue: u32) {
    while let Ok(Some(_)) = hostcalls::dequeue_shared_queue(queue) {}
}

/// How often the root is called.
pub(crate) fn tick_every(period: Duration) {
    _ = hostcalls::set_tick_period(period);
}

/// Tells Envoy that a root which had asked for time is done with its work.
pub(crate) fn done() {
    _ = hostcalls::done();
}

/// Sends a call; `None` if the host will not.
/// With a body it is a `POST`, else a `GET`.
pub(crate) fn call(
    cluster: &str,
    token: &str,
    path: &str,
    body: Option<&[u8]>,
    timeout: Span,
) -> Option<u32> {
    let authorization = format!("Bearer {token}");
    let headers = vec![
        (":method", if body.is_some() { "POST" } else { "GET" }),
        (":path", path),
        (":authority", cluster),
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("accept", "application/json"),
    ];
    // Zero would mean no timeout at all.
    let timeout = Duration::from_millis(timeout.millis().max(1));
    hostcalls::dispatch_http_call(cluster, headers, body, vec![], timeout).ok()
}

/// What became of a call. Envoy's own answers lack the header that tells how long the upstream took; and no headers at
/// all means that the connection broke after they had come, or that the answer was too large for Envoy.
pub(crate) fn call_result(headers_count: usize, body_size: usize) -> CallResult {
    if headers_count == 0 {
        return CallResult::Reset;
    }
    let headers = headers(MapType::HttpCallResponseHeaders);
    if !headers.has("x-envoy-upstream-service-time") {
        return CallResult::Local;
    }
    let status = headers.text(":status").and_then(|text| text.parse().ok()).unwrap_or(0);
    let body = match body_size {
        0 => Some(Vec::new()),
        1..=ANSWER_BYTES_MAX => {
            hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, body_size).ok().flatten()
        }
        _ => None,
    };
    CallResult::Upstream { status, body }
}

/// Writes a line into Envoy's log.
pub(crate) fn log(level: Level, line: &str) {
    let level = match level {
        Level::Info => LogLevel::Info,
        Level::Warn => LogLevel::Warn,
        Level::Error => LogLevel::Error,
    };
    _ = hostcalls::log(level, line);
}

/// In Envoy's words.
pub(crate) fn action(flow: Flow) -> Action {
    match flow {
        Flow::Continue => Action::Continue,
        Flow::Pause => Action::Pause,
    }
}
