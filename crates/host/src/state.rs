//! What one VM's host knows: its streams, the calls under way, the log, and what is to be done after a callback.

use crate::envoy::Envoy;
use crate::words::{Answer, Call, CallRefusal, Headers, HostCall, LogLevel, LogLine, Reply, first, text};
use std::collections::BTreeMap;
use wasmi::{Memory, StoreLimits, TypedFunc};

/// The root context's id; streams count on from it.
pub(crate) const ROOT: u32 = 1;
/// Host calls kept, the latest; enough for any story, and a bound for a module gone wild.
const TRACE_MAX: usize = 100_000;

pub(crate) struct State {
    pub(crate) envoy: Envoy,
    pub(crate) vm: u32,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) limits: StoreLimits,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
    /// Whose callback runs.
    pub(crate) current: u32,
    /// For whom host calls are made, if the module said so; 0 if it did not.
    pub(crate) effective: u32,
    /// The plugin's configuration, while `on_configure` runs.
    pub(crate) configuration: Option<Vec<u8>>,
    pub(crate) streams: BTreeMap<u32, StreamState>,
    pub(crate) calls: Vec<Call>,
    pub(crate) last_token: u32,
    pub(crate) refusal: Option<CallRefusal>,
    /// True if bodies cannot be changed.
    pub(crate) fixed_bodies: bool,
    /// The answer being delivered, while `on_http_call_response` runs.
    pub(crate) answering: Option<Answer>,
    /// Names of this VM's metrics; an id is a place here plus one.
    pub(crate) metrics: Vec<String>,
    pub(crate) log: Vec<LogLine>,
    pub(crate) trace: Vec<HostCall>,
    pub(crate) tick_ms: u32,
    pub(crate) random: u64,
    /// Streams that replied in this callback; Envoy sends replies after it.
    pub(crate) replied: Vec<u32>,
}

impl State {
    pub(crate) fn new(envoy: Envoy, env: Vec<(String, String)>, limits: StoreLimits) -> Self {
        let vm = envoy.0.borrow_mut().enrol();
        Self {
            envoy,
            vm,
            env,
            limits,
            memory: None,
            allocate: None,
            current: ROOT,
            effective: 0,
            configuration: None,
            streams: BTreeMap::new(),
            calls: Vec::new(),
            last_token: 0,
            refusal: None,
            fixed_bodies: false,
            answering: None,
            metrics: Vec::new(),
            log: Vec::new(),
            trace: Vec::new(),
            tick_ms: 0,
            // The same in every run, so that fuel is; different in every VM.
            random: 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(u64::from(vm).wrapping_add(1)),
            replied: Vec::new(),
        }
    }

    /// The context that host calls are for, as proxy-wasm-cpp-host's `contextOrEffectiveContext`.
    pub(crate) fn context(&self) -> u32 {
        if self.exists(self.effective) { self.effective } else { self.current }
    }

    /// Can it be made the effective context?
    pub(crate) fn exists(&self, context: u32) -> bool {
        context == ROOT || self.streams.get(&context).is_some_and(|stream| !stream.gone)
    }

    pub(crate) fn stream(&self) -> Option<&StreamState> {
        self.streams.get(&self.context())
    }

    pub(crate) fn stream_mut(&mut self) -> Option<&mut StreamState> {
        let context = self.context();
        self.streams.get_mut(&context)
    }

    pub(crate) fn log(&mut self, level: LogLevel, text: String) {
        self.log.push(LogLine { level, text });
    }

    pub(crate) fn note(&mut self, name: &'static str, about: String) {
        if self.trace.len() >= TRACE_MAX {
            self.trace.clear();
        }
        self.trace.push(HostCall { context: self.context(), name, about });
    }

    /// The next of a fixed sequence of numbers (xorshift64*, Vigna 2016).
    pub(crate) fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// One direction of a stream, as its filter sees it.
#[derive(Default)]
pub(crate) struct Direction {
    pub(crate) headers: Headers,
    pub(crate) trailers: Headers,
    /// What the filter can read of the body now: everything held, or the present piece.
    pub(crate) body: Vec<u8>,
    /// What went on of the body so far, as the filter left it.
    pub(crate) sent: Vec<u8>,
    /// How many bytes of it came.
    pub(crate) came: usize,
    /// The length that was announced when the headers came.
    pub(crate) announced: Option<Vec<u8>>,
    /// Headers have come, and have not been sent on: they can be read and written.
    pub(crate) open: bool,
    /// Headers have come.
    pub(crate) begun: bool,
    /// The filter's latest answer was Pause, and nothing resumed it since.
    pub(crate) paused: bool,
    /// The body is being held.
    pub(crate) holding: bool,
    /// No more will come.
    pub(crate) ended: bool,
    pub(crate) trailers_seen: bool,
}

impl Direction {
    /// What was held goes on; headers and body are out of reach from here.
    pub(crate) fn go_on(&mut self) {
        self.sent.append(&mut self.body);
        self.let_go();
    }

    /// The same, but what was held of the body goes nowhere.
    pub(crate) fn let_go(&mut self) {
        self.open = false;
        self.paused = false;
        self.holding = false;
        self.trailers_seen = false;
        self.body.clear();
    }

    /// Who reads this would wait for what never comes, or take what follows for another message: a body of another length
    /// than its headers say, where its sender had told the truth.
    pub(crate) fn misleads(&self) -> Option<String> {
        let number = |text: &[u8]| core::str::from_utf8(text).ok()?.parse::<usize>().ok();
        let told_truth =
            self.announced.as_deref().is_none_or(|announced| number(announced) == Some(self.came));
        let says = first(&self.headers, "content-length")?;
        let wrong = self.ended && !self.paused && told_truth && number(says) != Some(self.sent.len());
        wrong.then(|| format!("content-length is {}, and {} bytes went on", text(says), self.sent.len()))
    }
}

#[derive(Default)]
pub(crate) struct StreamState {
    pub(crate) request: Direction,
    pub(crate) response: Direction,
    pub(crate) reply: Option<Reply>,
    pub(crate) properties: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Filter state that the module set.
    pub(crate) notes: BTreeMap<String, Vec<u8>>,
    /// `on_log` runs: all headers can be read again, and nothing more can be done.
    pub(crate) logging: bool,
    pub(crate) gone: bool,
}
