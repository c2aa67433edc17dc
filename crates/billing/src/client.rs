//! The calls that go out: in plain HTTP, bounded in time, never following a redirect.

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;

/// How long a call may take, its answer included.
const TIMEOUT: Duration = Duration::from_secs(10);
/// More of an answer is not read.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Sends calls; keeps connections open between them.
#[derive(Clone, Debug)]
pub struct Caller(Client<HttpConnector, Full<Bytes>>);

impl Default for Caller {
    fn default() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }
}

impl Caller {
    /// Sends one call; the answer's status and body.
    ///
    /// # Errors
    /// Why there was no answer, in words.
    pub async fn call(
        &self,
        method: Method,
        to: &Uri,
        headers: &[(HeaderName, String)],
        body: impl Into<Bytes>,
    ) -> Result<(u16, Bytes), String> {
        let mut request = Request::new(Full::new(body.into()));
        (*request.method_mut(), *request.uri_mut()) = (method, to.clone());
        for (name, value) in headers {
            let value =
                HeaderValue::from_str(value).map_err(|_| format!("{name} has no value of a header"))?;
            request.headers_mut().insert(name, value);
        }
        let answer = async {
            let answer = self.0.request(request).await.map_err(|error| words(&error))?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            // What was decided stands in the status; a body that breaks off changes nothing about it.
            Ok((status, body.map(|body| body.to_bytes()).unwrap_or_default()))
        };
        tokio::time::timeout(TIMEOUT, answer)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} seconds", TIMEOUT.as_secs())))
    }
}

/// The innermost cause: "Connection refused" tells more than "client error".
fn words(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), words)
}
