//! A small Envoy for tests: loads the shipped module, plays the host's part of proxy-wasm ABI 0.2.1, and lets a test say
//! what happens next.
//!
//! It is not a proxy: nothing is routed, buffered to a limit, or timed by itself. A test opens a stream, feeds it what a
//! client and an upstream would send, answers the calls that the module makes, and lets time pass. What the module does to
//! its host is recorded, and what Envoy would punish (a trap, a header set after it was sent on, a reply from `on_log`)
//! is a [`Failure`]. Where the behaviour of Envoy 1.40 is meant, the item says so.
//!
//! ```no_run
//! # fn main() -> Result<(), host::Failure> {
//! let module = host::Module::load("tollgate.wasm".as_ref())?;
//! let envoy = host::Envoy::new();
//! let vm = envoy.worker(&module, &[("NODE", "n1")])?;
//! vm.configure("{}")?;
//! let stream = vm.stream()?;
//! stream.request_headers(&[(":method", "POST"), (":path", "/")], true)?;
//! let call = vm.call()?;
//! vm.answer(&call, host::Answer::json(200, "{}"))?;
//! assert!(stream.passed());
//! # Ok(()) }
//! ```

mod envoy;
mod failure;
mod imports;
mod memory;
mod state;
mod stream;
mod vm;
mod words;

pub use envoy::Envoy;
pub use failure::Failure;
pub use stream::Stream;
pub use vm::{Module, Ran, Vm};
pub use words::{
    Action, Answer, Call, CallRefusal, Headers, HostCall, LogLevel, LogLine, NONE, Reply, headers,
};
