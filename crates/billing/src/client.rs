//! The calls that go out: in plain HTTP, bounded in time, never following a redirect.

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;

/// How long it may take until an answer begins, and then until its body ends.
const TIMEOUT: Duration = Duration::from_secs(10);
/// More of an answer is not read.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Sends calls; keeps connections open between them.
#[derive(Clone, Debug)]
pub struct Caller {
    client: Client<HttpConnector, Full<Bytes>>,
    /// Until an answer begins.
    answer_within: Duration,
    /// From then until its body ends.
    body_within: Duration,
}

impl Default for Caller {
    fn default() -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, answer_within: TIMEOUT, body_within: TIMEOUT }
    }
}

impl Caller {
    /// Sends one call; the answer's status and body. The body is empty if it is too long, breaks off or takes too long.
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
        let answer = tokio::time::timeout(self.answer_within, self.client.request(request)).await;
        let answer =
            answer.map_err(|_| format!("no answer within {} seconds", self.answer_within.as_secs()))?;
        let answer = answer.map_err(|error| words(&error))?;
        let status = answer.status().as_u16();
        // What was decided stands in the status; a body that breaks off, or never ends, changes nothing about it.
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
        let body = tokio::time::timeout(self.body_within, body).await;
        let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes());
        Ok((status, body.unwrap_or_default()))
    }
}

/// The innermost cause: "Connection refused" tells more than "client error".
fn words(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Calls somebody who answers this, and then says nothing more, but does not hang up either.
    async fn call(answer: &'static str, caller: Caller) -> Result<(u16, Bytes), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // An answer before the call is none.
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            while stream.read(&mut [0; 1024]).await.is_ok_and(|count| count > 0) {}
        });
        caller.call(Method::POST, &to, &[], "").await
    }

    #[tokio::test]
    async fn an_answer_whose_body_does_not_end_in_time_is_its_status() {
        let caller = Caller { body_within: Duration::ZERO, ..Caller::default() };
        let begun = "HTTP/1.1 202 Accepted\r\ncontent-length: 3\r\n\r\na";
        assert_eq!(call(begun, caller).await, Ok((202, Bytes::new())));
        let whole = "HTTP/1.1 202 Accepted\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(call(whole, Caller::default()).await, Ok((202, Bytes::from("abc"))));
    }

    #[tokio::test]
    async fn what_does_not_begin_in_time_is_no_answer() {
        let caller = Caller { answer_within: Duration::ZERO, ..Caller::default() };
        assert_eq!(call("", caller).await, Err("no answer within 0 seconds".into()));
    }
}
