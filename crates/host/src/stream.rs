//! One stream, fed by a test with what a client and an upstream would send.

use crate::Failure;
use crate::state::{Direction, StreamState};
use crate::vm::Vm;
use crate::words::{Action, Headers, Reply, first, headers, text};

/// One HTTP stream of a VM, in Envoy with `allow_on_headers_stop_iteration`: Pause at the headers holds them, and the
/// body comes all the same. Dropping it does not end it.
pub struct Stream {
    vm: Vm,
    id: u32,
}

/// Which of the two ways something goes.
#[derive(Clone, Copy)]
enum Way {
    Request,
    Response,
}

impl Stream {
    pub(crate) fn new(vm: Vm, id: u32) -> Self {
        Self { vm, id }
    }

    /// Its context id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The client's headers. `end` if nothing follows.
    ///
    /// # Errors
    /// [`Failure::Trap`], here and in all that follows; [`Failure::Impossible`] if they have come before.
    pub fn request_headers<K: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        pairs: &[(K, V)],
        end: bool,
    ) -> Result<Action, Failure> {
        self.headers(Way::Request, headers(pairs), end)
    }

    /// A piece of the client's body.
    ///
    /// # Errors
    /// [`Failure::Impossible`] if there is nothing to follow, or the stream was answered.
    pub fn request_body(&self, piece: impl AsRef<[u8]>, end: bool) -> Result<Action, Failure> {
        self.body(Way::Request, piece.as_ref(), end)
    }

    /// The client's trailers: after them nothing follows, and no body piece said `end`.
    ///
    /// # Errors
    /// As [`Stream::request_body`].
    pub fn request_trailers<K: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        pairs: &[(K, V)],
    ) -> Result<Action, Failure> {
        self.trailers(Way::Request, headers(pairs))
    }

    /// A whole request with a body, as HTTP/1 brings it: headers, the body in one piece, its end. What is said last.
    ///
    /// # Errors
    /// As the parts.
    pub fn request<K: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        pairs: &[(K, V)],
        body: impl AsRef<[u8]>,
    ) -> Result<Action, Failure> {
        for step in 0..3 {
            let action = match step {
                0 => self.request_headers(pairs, false)?,
                1 => self.request_body(&body, false)?,
                _ => self.request_body("", true)?,
            };
            if step == 2 || self.reply().is_some() {
                return Ok(action);
            }
        }
        Ok(Action::Pause)
    }

    /// The upstream's headers.
    ///
    /// # Errors
    /// [`Failure::Impossible`] if the request has not gone on.
    pub fn response_headers<K: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        pairs: &[(K, V)],
        end: bool,
    ) -> Result<Action, Failure> {
        self.headers(Way::Response, headers(pairs), end)
    }

    /// A piece of the upstream's body.
    ///
    /// # Errors
    /// As [`Stream::request_body`].
    pub fn response_body(&self, piece: impl AsRef<[u8]>, end: bool) -> Result<Action, Failure> {
        self.body(Way::Response, piece.as_ref(), end)
    }

    /// The upstream's trailers.
    ///
    /// # Errors
    /// As [`Stream::request_body`].
    pub fn response_trailers<K: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        pairs: &[(K, V)],
    ) -> Result<Action, Failure> {
        self.trailers(Way::Response, headers(pairs))
    }

    /// A whole answer of the upstream with a JSON body.
    ///
    /// # Errors
    /// As the parts.
    pub fn response(&self, status: u16, body: impl AsRef<[u8]>) -> Result<(), Failure> {
        let status = status.to_string();
        let fields = [(":status", status.as_str()), ("content-type", "application/json")];
        self.response_headers(&fields, false)?;
        self.response_body(body, false)?;
        self.response_body("", true).map(drop)
    }

    /// The stream is over: `on_log`, `on_done`, `on_delete`. `flags` are Envoy's response flags
    /// (`CoreResponseFlag`: bit n is flag n); the code is that of the answer that was seen, if any.
    ///
    /// # Errors
    /// [`Failure::Impossible`] if it was over before.
    pub fn close(&self, flags: u64) -> Result<(), Failure> {
        let code = self.peek(|s| {
            let status = first(&s.response.headers, ":status").map(text);
            status.and_then(|status| status.parse::<u64>().ok())
        });
        self.close_as(code, flags)
    }

    /// [`Stream::close`] with the code that Envoy reports, whatever was seen.
    ///
    /// # Errors
    /// As [`Stream::close`].
    pub fn close_as(&self, code: Option<u64>, flags: u64) -> Result<(), Failure> {
        if self.peek(|s| s.gone) {
            return Err(Failure::Impossible(format!("stream {} ends twice", self.id)));
        }
        if let Some(code) = code {
            self.set_property(&["response", "code"], code.to_le_bytes());
        }
        self.set_property(&["response", "flags"], flags.to_le_bytes());
        self.peek(|s| s.logging = true);
        self.vm.run::<_, ()>("proxy_on_log", self.id, (self.id,))?;
        self.vm.run::<_, u32>("proxy_on_done", self.id, (self.id,))?;
        self.vm.run::<_, ()>("proxy_on_delete", self.id, (self.id,))?;
        self.peek(|s| s.gone = true);
        Ok(())
    }

    /// Gives it a property of Envoy's, such as the payload that `jwt_authn` leaves in metadata.
    pub fn set_property(&self, path: &[&str], value: impl AsRef<[u8]>) {
        self.peek(|s| s.properties.insert(path.join("\0").into_bytes(), value.as_ref().to_vec()));
    }

    /// The answer that the module gave in the upstream's place.
    #[must_use]
    pub fn reply(&self) -> Option<Reply> {
        self.peek(|s| s.reply.clone())
    }

    /// Has the whole request gone on, as far as it has come?
    #[must_use]
    pub fn passed(&self) -> bool {
        self.peek(|s| s.request.begun && !s.request.paused && s.reply.is_none())
    }

    /// The request's headers as the upstream sees them, or would.
    #[must_use]
    pub fn forwarded(&self) -> Headers {
        self.peek(|s| s.request.headers.clone())
    }

    /// The answer's headers as the client sees them.
    #[must_use]
    pub fn answered(&self) -> Headers {
        self.peek(|s| s.response.headers.clone())
    }

    /// What the upstream gets of the request's body, or got so far.
    #[must_use]
    pub fn forwarded_body(&self) -> Vec<u8> {
        self.peek(|s| s.request.sent.clone())
    }

    /// What the client gets of the answer's body, or got so far.
    #[must_use]
    pub fn answered_body(&self) -> Vec<u8> {
        self.peek(|s| s.response.sent.clone())
    }

    /// A trailer's first value as the client sees it; empty if there is none.
    #[must_use]
    pub fn answered_trailer(&self, name: &str) -> String {
        self.peek(|s| first(&s.response.trailers, name).map(text).unwrap_or_default())
    }

    /// Takes away what is held of the request's body, so that it cannot be read again. No Envoy does that.
    pub fn lose_body(&self) {
        self.peek(|s| s.request.body.clear());
    }

    /// A request header's first value as the upstream sees it; empty if there is none.
    #[must_use]
    pub fn forwarded_header(&self, name: &str) -> String {
        first(&self.forwarded(), name).map(text).unwrap_or_default()
    }

    /// An answer header's first value as the client sees it; empty if there is none.
    #[must_use]
    pub fn answered_header(&self, name: &str) -> String {
        first(&self.answered(), name).map(text).unwrap_or_default()
    }

    /// Filter state that the module set for the access log; empty if it did not.
    #[must_use]
    pub fn note(&self, key: &str) -> String {
        self.peek(|s| s.notes.get(key).map(|value| text(value)).unwrap_or_default())
    }

    /// The module's own reply passes the module, as in Envoy.
    pub(crate) fn send_reply(&self) -> Result<(), Failure> {
        let Some(reply) = self.reply() else { return Ok(()) };
        if self.peek(|s| {
            s.request.let_go();
            s.request.ended = true;
            s.response.begun
        }) {
            return Ok(());
        }
        let mut fields = headers(&[(":status", reply.status.to_string())]);
        if !reply.body.is_empty() {
            fields.push(("content-length".to_owned(), reply.body.len().to_string().into_bytes()));
        }
        fields.extend(reply.headers.iter().cloned());
        self.headers(Way::Response, fields, reply.body.is_empty())?;
        if !reply.body.is_empty() {
            self.body(Way::Response, &reply.body, true)?;
        }
        self.peek(|s| {
            let seen = s.response.headers.clone();
            if let Some(reply) = s.reply.as_mut() {
                reply.headers = seen;
            }
        });
        Ok(())
    }

    fn headers(&self, way: Way, fields: Headers, end: bool) -> Result<Action, Failure> {
        let held = matches!(way, Way::Response) && !self.request_is_through();
        let d = self.direction(way, |d| d.begun);
        if held || d || self.peek(|s| s.gone) {
            return Err(self.impossible("headers"));
        }
        let count = u32::try_from(fields.len()).unwrap_or(u32::MAX);
        self.direction(way, |d| {
            d.announced = first(&fields, "content-length").map(<[u8]>::to_vec);
            d.headers = fields;
            (d.begun, d.open, d.ended) = (true, true, end);
        });
        let callback = match way {
            Way::Request => "proxy_on_request_headers",
            Way::Response => "proxy_on_response_headers",
        };
        let action = self.vm.act(callback, self.id, (self.id, count, u32::from(end)))?;
        self.after(way, action, false)
    }

    fn body(&self, way: Way, piece: &[u8], end: bool) -> Result<Action, Failure> {
        self.may_follow(way, "a body")?;
        let size = self.direction(way, |d| {
            if !d.holding {
                d.body.clear();
            }
            d.body.extend_from_slice(piece);
            d.came = d.came.saturating_add(piece.len());
            d.ended = end;
            u32::try_from(d.body.len()).unwrap_or(u32::MAX)
        });
        let callback = match way {
            Way::Request => "proxy_on_request_body",
            Way::Response => "proxy_on_response_body",
        };
        let action = self.vm.act(callback, self.id, (self.id, size, u32::from(end)))?;
        self.after(way, action, true)
    }

    fn trailers(&self, way: Way, fields: Headers) -> Result<Action, Failure> {
        self.may_follow(way, "trailers")?;
        let count = u32::try_from(fields.len()).unwrap_or(u32::MAX);
        self.direction(way, |d| {
            d.trailers = fields;
            (d.trailers_seen, d.ended) = (true, true);
        });
        let callback = match way {
            Way::Request => "proxy_on_request_trailers",
            Way::Response => "proxy_on_response_trailers",
        };
        let action = self.vm.act(callback, self.id, (self.id, count))?;
        self.after(way, action, true)
    }

    fn may_follow(&self, way: Way, what: &str) -> Result<(), Failure> {
        let open = self.direction(way, |d| d.begun && !d.ended) && !self.peek(|s| s.gone);
        if open { Ok(()) } else { Err(self.impossible(what)) }
    }

    /// What becomes of the data. After a reply it is held for good, whatever was returned.
    fn after(&self, way: Way, action: Action, data: bool) -> Result<Action, Failure> {
        let replied = self.reply().is_some() && matches!(way, Way::Request);
        let action = if replied { Action::Pause } else { action };
        self.direction(way, |d| match action {
            Action::Continue => d.go_on(),
            Action::Pause => {
                d.paused = true;
                d.holding |= data;
            }
        });
        match self.direction(way, |d| d.misleads()) {
            Some(how) if self.reply().is_none() => Err(Failure::Misled(format!("stream {}: {how}", self.id))),
            Some(_) | None => Ok(action),
        }
    }

    /// Can an answer come? Yes if the request was sent on, or the module answers itself.
    fn request_is_through(&self) -> bool {
        self.peek(|s| s.reply.is_some() || !s.request.paused)
    }

    fn impossible(&self, what: &str) -> Failure {
        let story = self.peek(|s| {
            let way = |d: &Direction| (d.begun, d.paused, d.ended);
            format!("(begun, paused, ended): request {:?}, response {:?}", way(&s.request), way(&s.response))
        });
        Failure::Impossible(format!("{what} on stream {} now; {story}", self.id))
    }

    fn direction<R>(&self, way: Way, act: impl FnOnce(&mut Direction) -> R) -> R {
        self.peek(|s| {
            act(match way {
                Way::Request => &mut s.request,
                Way::Response => &mut s.response,
            })
        })
    }

    fn peek<R>(&self, act: impl FnOnce(&mut StreamState) -> R) -> R {
        self.vm.state(|state| act(state.streams.entry(self.id).or_default()))
    }
}
