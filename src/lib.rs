//! The Envoy filter: translates proxy-wasm callbacks into `gate` inputs and `gate` effects into host calls, and decides nothing.
