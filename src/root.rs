//! One per VM: resolves the configuration, keeps the tick, and carries settlements that outlive their stream.
//!
//! Envoy makes more of these than there are workers: one that only tries the configuration out and is thrown away, and
//! one on the main thread, which never sees a stream. So nothing is asked of billing before a stream wants something.

use crate::host;
use crate::shared::Shared;
use crate::stream::{Shut, Stream};
use gate::config::Config;
use gate::{Level, Now};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use std::rc::Rc;
use units::Span;

/// How long a replaced configuration stays to tell billing what it owes.
const DRAIN: Span = Span::from_secs(60);

/// The root context.
pub(crate) struct Root {
    id: u32,
    /// `None` until a configuration was accepted.
    shared: Option<Rc<Shared>>,
    /// When draining began, if it has.
    draining: Option<Now>,
}

impl Root {
    pub(crate) fn new(id: u32) -> Self {
        Self { id, shared: None, draining: None }
    }

    fn run(&mut self) {
        #[cfg(feature = "trap")]
        crate::trap::in_root();
        let Some(shared) = &self.shared else { return };
        shared.run();
        if let Some(since) = self.draining
            && (shared.is_idle() || shared.clock.now().mono.since(since.mono) > DRAIN)
        {
            self.draining = None;
            host::done();
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, _trailers: usize) {
        if let Some(shared) = &self.shared {
            shared.on_call_response(token, headers, body);
        }
        self.run();
    }

    fn on_done(&mut self) -> bool {
        let Some(shared) = &self.shared else { return true };
        let idle = shared.drain();
        if !idle {
            self.draining = Some(shared.clock.now());
        }
        idle
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let json = self.get_plugin_configuration().unwrap_or_default();
        match Config::resolve(&json, &|name| std::env::var(name).ok()) {
            Ok(config) => {
                self.shared = Some(Rc::new(Shared::new(self.id, config)));
                true
            }
            Err(complaints) => {
                for complaint in complaints {
                    host::log(Level::Error, &format!("configuration refused: {complaint}"));
                }
                false
            }
        }
    }

    fn on_tick(&mut self) {
        self.run();
    }

    fn on_queue_ready(&mut self, queue: u32) {
        if let Some(shared) = &self.shared {
            shared.on_poked(queue);
        }
        self.run();
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(match &self.shared {
            Some(shared) => Box::new(Stream::new(id, Rc::clone(shared))),
            None => Box::new(Shut),
        })
    }
}
