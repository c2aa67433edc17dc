//! The Envoy filter: translates proxy-wasm callbacks into `gate` inputs and `gate` effects into host calls, and decides nothing.

mod host;
mod root;
mod shared;
mod shelf;
mod stream;
mod telemetry;
#[cfg(feature = "trap")]
mod trap;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);
    proxy_wasm::set_root_context(|id| Box::new(root::Root::new(id)));
}}
