//! An upstream that answers at once with one fixed document, so that it is not what is measured.

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use stage::{During as _, Result};
use std::net::{Ipv4Addr, TcpListener};

/// Shaped like an answer of OpenAI's chat completions.
const DOCUMENT: &str = concat!(
    r#"{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench","#,
    r#""choices":[{"index":0,"message":{"role":"assistant","content":"Measured, not guessed."},"finish_reason":"stop"}],"#,
    r#""usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17}}"#
);

/// Listens on loopback; port 0 lets the system choose.
///
/// # Errors
/// The port is taken.
pub(crate) fn listen(port: u16) -> Result<TcpListener> {
    let deed = format!("listen on 127.0.0.1:{port}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).during(&deed)?;
    listener.set_nonblocking(true).during(deed)?;
    Ok(listener)
}

/// Serves until the process ends, on this thread alone: it does nothing but read and write.
///
/// # Errors
/// It cannot go on.
pub(crate) fn serve(listener: TcpListener) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().during("start the upstream")?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).during("start the upstream")?;
        loop {
            let (stream, _) = listener.accept().await.during("accept a connection")?;
            stream.set_nodelay(true).during("accept a connection")?;
            let connection = hyper::server::conn::http1::Builder::new();
            // A connection that breaks is the client's affair.
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    })
}

async fn answer(request: Request<Incoming>) -> std::result::Result<Response<Full<Bytes>>, hyper::Error> {
    request.into_body().collect().await?;
    let mut answer = Response::new(Full::new(Bytes::from_static(DOCUMENT.as_bytes())));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(answer)
}
