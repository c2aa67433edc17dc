//! One per HTTP stream: turns each callback into exactly one `Input`.

use crate::host::{self, Phase};
use crate::shared::Shared;
use gate::{Exchange, Flow, Input, Now, Reply};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};
use std::cell::RefCell;
use std::rc::Rc;

/// The context of one stream.
pub(crate) struct Stream {
    id: u32,
    shared: Rc<Shared>,
    exchange: Rc<RefCell<Exchange>>,
    /// True once the request was let go on: its headers are out of reach.
    passed: bool,
}

/// What a stream meets where no configuration was accepted. Envoy does not route to such a filter; if it ever does,
/// nothing passes.
pub(crate) struct Shut;

impl Stream {
    pub(crate) fn new(id: u32, shared: Rc<Shared>) -> Self {
        let exchange = Rc::new(RefCell::new(shared.exchange(id)));
        Self { id, shared, exchange, passed: false }
    }

    /// An input of the request's way; what it says goes for the callback that brought it.
    fn request(&mut self, input: Input<'_>, now: Now) -> Action {
        let phase = if self.passed { Phase::Past } else { Phase::Held };
        let flow = self.shared.handle(self.id, &self.exchange, input, now, phase);
        self.passed = self.passed || flow == Flow::Continue;
        host::action(flow)
    }

    /// The time for everything but a request's headers. Nothing is let through by it, and what an event's delivery
    /// remembers by it is exact.
    fn now(&self) -> Now {
        match *self.exchange.borrow() {
            Exchange::Metered(_) => self.shared.clock.recent(),
            Exchange::Webhook(_) => self.shared.clock.now(),
        }
    }

    /// The body, if it is complete and wanted.
    fn body(&self, end: bool) -> Option<Vec<u8>> {
        let wanted = self.exchange.borrow().body_wanted();
        wanted.filter(|_| end).map(|max| host::request_body(max).unwrap_or_default())
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, end: bool) -> Action {
        let headers = host::headers(MapType::HttpRequestHeaders);
        #[cfg(feature = "trap")]
        crate::trap::in_request(&headers);
        let verified = self.shared.verified();
        let input = Input::RequestHeaders { headers: &headers, end, verified: verified.as_deref() };
        self.request(input, self.shared.clock.now())
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        let body = self.body(end);
        self.request(Input::RequestBody { size, end, body: body.as_deref() }, self.now())
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        let body = self.body(true);
        self.request(Input::RequestTrailers { body: body.as_deref() }, self.now())
    }

    fn on_http_response_headers(&mut self, _count: usize, end: bool) -> Action {
        let headers = host::headers(MapType::HttpResponseHeaders);
        let input = Input::ResponseHeaders { headers: &headers, end };
        self.shared.handle(self.id, &self.exchange, input, self.now(), Phase::Answering);
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        let wanted = self.exchange.borrow().answer_wanted();
        let piece = wanted.then(|| host::response_piece(size).unwrap_or_default());
        let input = Input::ResponseBody { size, end, piece: piece.as_deref() };
        let (_, other) = self.shared.relay(self.id, &self.exchange, input, self.now(), Phase::Relaying);
        if let Some(other) = other
            && !host::replace_response_piece(size, &other)
        {
            self.shared.complain("answer_not_replaced");
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        let input = Input::ResponseTrailers;
        self.shared.handle(self.id, &self.exchange, input, self.now(), Phase::Trailing);
        Action::Continue
    }

    fn on_log(&mut self) {
        let wanted = self.exchange.borrow().end_wanted();
        let code = if wanted.code { host::property_u64("response\0code") } else { None };
        let flags = if wanted.flags { host::property_u64("response\0flags") } else { None };
        let usage = if wanted.usage { host::envoy_usage() } else { None };
        let input = Input::Closed { code, flags: flags.unwrap_or(u64::MAX), usage: usage.as_ref() };
        self.shared.handle(self.id, &self.exchange, input, self.now(), Phase::Past);
        self.shared.forget(self.id);
    }
}

impl Context for Shut {}

impl HttpContext for Shut {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        host::reply(&Reply { status: 503, headers: Vec::new(), body: Vec::new() });
        Action::Pause
    }
}
