//! What the shipped module does, callback by callback: its imports, its refusals, its stories, its cost, and that no input makes it trap.
//!
//! It runs on `host`, a small Envoy of our own, so what is said here of Envoy is what that one plays. Build it first:
//! `cargo build -p tollgate --profile wasm --target wasm32-wasip1`.

#[cfg(not(target_arch = "wasm32"))]
mod configuration;
#[cfg(not(target_arch = "wasm32"))]
mod deliveries;
#[cfg(not(target_arch = "wasm32"))]
mod file;
#[cfg(not(target_arch = "wasm32"))]
mod fuel;
#[cfg(not(target_arch = "wasm32"))]
mod hostile;
#[cfg(not(target_arch = "wasm32"))]
mod requests;
#[cfg(not(target_arch = "wasm32"))]
mod support;
