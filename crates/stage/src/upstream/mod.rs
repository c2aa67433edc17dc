//! A server that does what each request tells it to, so that demo and tests need no server of their own, and remembers what it got.
//!
//! `GET /_requests` tells what came in, `DELETE /_requests` forgets it. HTTP/1.1, and HTTP/2 by prior knowledge.

mod answers;
mod script;

pub use answers::INPUT_TOKENS;
pub use script::{HEADER_SCRIPT, Script};

use crate::{During as _, Result, Trouble};
use answers::{Said, Shape};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// How many requests are remembered in full; the count goes on beyond.
const ITEMS_MAX: usize = 50_000;

/// One request as it arrived.
#[derive(Clone, Debug, Serialize)]
pub struct Item {
    /// `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case; values of a repeated header joined by `, `.
    pub headers: BTreeMap<String, String>,
    /// SHA-256 of the body, 64 lower-case hexadecimal digits.
    pub body_sha256: String,
}

/// A running upstream on a thread of its own; dropping it ends it.
pub struct Upstream {
    port: u16,
    heard: Arc<Heard>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Heard {
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    count: u64,
    items: VecDeque<Item>,
    /// How often each path and key was asked for, for scripts that fail some of the time.
    asked: BTreeMap<(String, String), u64>,
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

impl Upstream {
    /// Starts one on loopback; port 0 lets the system choose.
    ///
    /// # Errors
    /// The port cannot be had.
    pub fn start(port: u16) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).during(format!("listen on 127.0.0.1:{port}"))?;
        listener.set_nonblocking(true).during("listen without blocking")?;
        let port = listener.local_addr().during("ask for the port")?.port();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().during("start a runtime")?;
        let heard = Arc::new(Heard::default());
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&heard);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { port, heard, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What came in since the start or the last [`Upstream::clear`].
    #[must_use]
    pub fn requests(&self) -> Vec<Item> {
        self.heard.log().items.iter().cloned().collect()
    }

    /// How many came in.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.heard.log().count
    }

    /// How many came in for a path with this key in their scripts.
    #[must_use]
    pub fn asked(&self, path: &str, key: &str) -> u64 {
        self.heard.log().asked.get(&(path.to_owned(), key.to_owned())).copied().unwrap_or(0)
    }

    /// Forgets what came in.
    pub fn clear(&self) {
        *self.heard.log() = Log::default();
    }

    /// Waits for as long as it runs.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

impl Heard {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, heard: Arc<Heard>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: give the others time to end.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let heard = Arc::clone(&heard);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&heard)));
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // An error here is a connection that a script or the client broke.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, heard: Arc<Heard>) -> std::result::Result<Answer, io::Error> {
    let (head, body) = request.into_parts();
    if head.uri.path() == "/_requests" {
        return Ok(requests(&head.method, &heard));
    }
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let path = head.uri.path_and_query().map_or_else(|| head.uri.path(), |both| both.as_str());
    let item = Item {
        method: head.method.to_string(),
        path: path.to_owned(),
        headers: joined(&head.headers),
        body_sha256: Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let script = Script::read(item.headers.get(HEADER_SCRIPT).map_or("", String::as_str));
    let asked = heard.note(item, head.uri.path(), script.as_ref().map_or("", |script| script.key.as_str()));
    match script {
        Ok(script) => perform(script, asked, head.uri.path(), &body).await,
        Err(complaint) => Ok(whole(StatusCode::BAD_REQUEST, &json!({ "error": { "message": complaint } }))),
    }
}

impl Heard {
    /// Remembers a request; tells how many there were of its path and key, itself included.
    fn note(&self, item: Item, path: &str, key: &str) -> u64 {
        let mut log = self.log();
        log.count = log.count.saturating_add(1);
        if log.items.len() == ITEMS_MAX {
            log.items.pop_front();
        }
        log.items.push_back(item);
        let asked = log.asked.entry((path.to_owned(), key.to_owned())).or_default();
        *asked = asked.saturating_add(1);
        *asked
    }
}

fn requests(method: &Method, heard: &Heard) -> Answer {
    match *method {
        Method::GET => {
            let log = heard.log();
            whole(StatusCode::OK, &json!({ "count": log.count, "items": log.items }))
        }
        Method::DELETE => {
            *heard.log() = Log::default();
            whole(StatusCode::OK, &json!({ "count": 0, "items": [] }))
        }
        _ => whole(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": { "message": "GET or DELETE" } })),
    }
}

async fn perform(
    script: Script,
    asked: u64,
    path: &str,
    body: &[u8],
) -> std::result::Result<Answer, io::Error> {
    tokio::time::sleep(script.delay).await;
    if script.hang {
        std::future::pending::<()>().await;
    }
    if script.reset {
        return Err(io::Error::other("the script asked for a reset"));
    }
    let fails = asked <= script.fail_first || script.fail_every.is_some_and(|n| asked.is_multiple_of(n));
    let status = StatusCode::from_u16(if fails { 500 } else { script.status }).map_err(io::Error::other)?;
    let shape = Shape::of(path);
    if status.as_u16() >= 400 {
        return Ok(with_headers(whole(status, &answers::error(shape, status.as_u16())), &script));
    }
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let streams = script.stream || asked.get("stream") == Some(&Value::Bool(true));
    // OpenAI tells the usage of a chat stream only to whoever asks for it.
    let told = shape != Shape::Chat
        || script.stream
        || asked.pointer("/stream_options/include_usage") == Some(&Value::Bool(true));
    let said = Said {
        shape,
        model: asked.get("model").and_then(Value::as_str).unwrap_or("scripted").to_owned(),
        usage: (!script.no_usage && (told || !streams)).then_some(script.tokens),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    };
    let answer = if streams {
        chunks(status, "text/event-stream; charset=utf-8", answers::events(&said), &script)
    } else if script.truncate || script.reset_after.is_some() {
        let document = answers::document(&said).to_string();
        chunks(status, "application/json", vec![document], &script)
    } else {
        let mut document = answers::document(&said);
        if let Some(fields) = document.as_object_mut().filter(|_| script.padding > 0) {
            fields.insert("padding".to_owned(), Value::String("x".repeat(script.padding)));
        }
        whole(status, &document)
    };
    Ok(with_headers(answer, &script))
}

fn whole(status: StatusCode, document: &Value) -> Answer {
    let body = Full::new(Bytes::from(document.to_string())).map_err(|never| match never {});
    let mut answer = Response::new(BoxBody::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn with_headers(mut answer: Answer, script: &Script) -> Answer {
    answer.headers_mut().extend(script.headers.iter().cloned());
    answer
}

/// A body that is sent chunk by chunk, and may break off.
fn chunks(status: StatusCode, content_type: &'static str, chunks: Vec<String>, script: &Script) -> Answer {
    let (pause, breaks) = (script.chunk_delay, script.truncate.then_some(usize::MAX).or(script.reset_after));
    let announced = chunks.iter().map(String::len).fold(1_000_usize, usize::saturating_add);
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for chunk in chunks.into_iter().take(breaks.unwrap_or(usize::MAX)) {
            tokio::time::sleep(pause).await;
            if sender.send(Ok(Frame::data(Bytes::from(chunk)))).await.is_err() {
                return;
            }
        }
        if breaks.is_some() {
            // What was sent has to be on its way before the connection goes.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = sender.send(Err(io::Error::other("the script asked for a broken answer"))).await;
        }
    });
    let mut answer = Response::new(BoxBody::new(Chunks(receiver)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if script.truncate {
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(announced));
    }
    answer
}

/// A body whose frames come one by one, and may end with an error.
pub(crate) struct Chunks(pub(crate) mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.get_mut().0.poll_recv(cx)
    }
}

fn joined(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut all = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        all.entry(name.as_str().to_owned())
            .and_modify(|before| {
                before.push_str(", ");
                before.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    all
}

/// Runs one until the process ends: `stage upstream`.
///
/// # Errors
/// The port cannot be had.
pub fn serve(port: u16) -> Result<()> {
    let upstream = Upstream::start(port).map_err(|Trouble(why)| Trouble(format!("UPSTREAM_PORT: {why}")))?;
    upstream.join();
    Ok(())
}
