//! An HTTP client for demo and tests: HTTP/1.1 and HTTP/2 by prior knowledge, trailers, streams read chunk by chunk.
//!
//! It retries nothing and follows nothing, so that what a test counts is what it sent.

use crate::{During as _, Result, Trouble};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::{Client as Pool, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long an answer may take. Longer than any timeout of the gateway that a test waits for.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

type Payload = BoxBody<Bytes, Infallible>;

/// A client with a pool of connections for each protocol. One per async runtime.
#[derive(Clone)]
pub struct Client {
    h1: Pool<HttpConnector, Payload>,
    h2: Pool<HttpConnector, Payload>,
}

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
    trailers: HeaderMap,
    http2: bool,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
    /// The trailers, if any came.
    pub trailers: HeaderMap,
}

/// An answer that is still coming in. Dropping it hangs up, as a client that leaves does.
pub struct Stream {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
}

impl Default for Client {
    fn default() -> Self {
        let pool = |http2| {
            let mut connector = HttpConnector::new();
            connector.set_nodelay(true);
            Pool::builder(TokioExecutor::new())
                .retry_canceled_requests(false)
                .http2_only(http2)
                .build(connector)
        };
        Self { h1: pool(false), h2: pool(true) }
    }
}

impl Client {
    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// No connection, a broken one, or no whole answer within 30 s.
    pub async fn send(&self, call: Call) -> Result<Answer> {
        let deed = format!("{} {}", call.method, call.url);
        let whole = async {
            let answer = self.request(call).await?;
            let (head, body) = answer.into_parts();
            let all = body.collect().await.map_err(|error| chain(&error))?;
            let trailers = all.trailers().cloned().unwrap_or_default();
            let (status, headers, body) = (head.status.as_u16(), head.headers, all.to_bytes());
            Ok::<_, String>(Answer { status, headers, body, trailers })
        };
        match tokio::time::timeout(ANSWER_WITHIN, whole).await {
            Ok(answer) => answer.during(deed),
            Err(_) => Err(Trouble(format!("{deed}: no whole answer within {} s", ANSWER_WITHIN.as_secs()))),
        }
    }

    /// Sends a request and returns once the answer's head is there.
    ///
    /// # Errors
    /// No connection, a broken one, or no head within 30 s.
    pub async fn open(&self, call: Call) -> Result<Stream> {
        let deed = format!("{} {}", call.method, call.url);
        let answer = tokio::time::timeout(ANSWER_WITHIN, self.request(call)).await;
        let (head, body) = answer.during(&deed)?.during(&deed)?.into_parts();
        Ok(Stream { status: head.status.as_u16(), headers: head.headers, body })
    }

    async fn request(&self, call: Call) -> std::result::Result<Response<Incoming>, String> {
        let pool = if call.http2 { &self.h2 } else { &self.h1 };
        let mut request = Request::new(payload(call.body, call.trailers));
        *request.method_mut() = call.method;
        *request.uri_mut() = call.url.parse().map_err(|error| format!("{error}"))?;
        for (name, value) in call.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            request
                .headers_mut()
                .append(name, HeaderValue::from_bytes(&value).map_err(|error| error.to_string())?);
        }
        pool.request(request).await.map_err(|error| chain(&error))
    }
}

impl Call {
    /// A request without headers and body.
    #[must_use]
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        let (url, body, trailers) = (url.into(), Bytes::new(), HeaderMap::new());
        Self { method, url, headers: Vec::new(), body, trailers, http2: false }
    }

    /// `GET`.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::GET, url)
    }

    /// `POST`.
    #[must_use]
    pub fn post(url: impl Into<String>) -> Self {
        Self::new(Method::POST, url)
    }

    /// Adds a header; the value may be any bytes.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Adds `authorization: Bearer …`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header(AUTHORIZATION.as_str(), format!("Bearer {token}"))
    }

    /// The body, with whatever content type a header says.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// A JSON body.
    #[must_use]
    pub fn json(self, document: &Value) -> Self {
        self.header(CONTENT_TYPE.as_str(), "application/json").body(document.to_string())
    }

    /// Adds a trailer after the body.
    #[must_use]
    pub fn trailer(mut self, name: &'static str, value: &'static str) -> Self {
        self.trailers.append(name, HeaderValue::from_static(value));
        self
    }

    /// Over HTTP/2, without TLS and without asking first.
    #[must_use]
    pub const fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }
}

impl Answer {
    /// The body as JSON; `null` if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's first value; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Stream {
    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    /// The answer broke off.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.during("read the answer's body")?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// `GET` without a runtime or a client, for polling: the status code, if anything answers.
#[must_use]
pub fn status_of(port: u16, path: &str) -> Option<u16> {
    let head =
        raw(port, format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes());
    head.ok()?.strip_prefix("HTTP/1.")?.split_whitespace().nth(1)?.parse().ok()
}

/// Sends bytes as they are and reads until the other side closes, for requests that no client library would send.
///
/// # Errors
/// No connection, or nothing for 10 s.
pub fn raw(port: u16, bytes: &[u8]) -> Result<String> {
    use std::io::{Read as _, Write as _};
    let deed = format!("talk to 127.0.0.1:{port}");
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).during(&deed)?;
    socket.set_read_timeout(Some(Duration::from_secs(10))).during(&deed)?;
    socket.write_all(bytes).during(&deed)?;
    let mut answer = Vec::new();
    // A reset after the answer is still an answer.
    let ended = socket.read_to_end(&mut answer);
    if answer.is_empty() {
        ended.during(&deed)?;
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn payload(body: Bytes, trailers: HeaderMap) -> Payload {
    if trailers.is_empty() {
        BoxBody::new(Full::new(body))
    } else {
        BoxBody::new(Frames([Some(Frame::data(body)), Some(Frame::trailers(trailers))]))
    }
}

/// A body of two frames, which only HTTP/2 and chunked HTTP/1.1 can carry.
struct Frames([Option<Frame<Bytes>>; 2]);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().0.iter_mut().find_map(Option::take).map(Ok))
    }
}

/// An error with all its causes, since hyper's first line says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
