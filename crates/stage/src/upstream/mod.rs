//! A server that does what each request tells it to, so that demo and tests need no server of their own, and remembers what it got.
//!
//! `GET /_requests` tells what came in, `DELETE /_requests` forgets it. HTTP/1.1, and HTTP/2 by prior knowledge.

mod answers;
mod asked;
mod delivery;
mod events;
mod log;
mod pieces;
mod script;
mod usage;

pub use answers::INPUT_TOKENS;
pub(crate) use delivery::Chunks;
pub use log::{Item, Said};
pub use script::{HEADER_SCRIPT, Place, Script, Usage, Wire};

use crate::{During as _, Result, Trouble};
use answers::Reply;
use asked::{Asked, Shape};
use delivery::Delivery;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, TRAILER};
use hyper::{Method, Request, Response, StatusCode, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use log::{Heard, Note};
use pieces::{Piece, Pieces, compressed, framed};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// A running upstream on a thread of its own; dropping it ends it.
pub struct Upstream {
    port: u16,
    heard: Arc<Heard>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
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
        self.heard.items()
    }

    /// How many came in.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.heard.count()
    }

    /// How many came in for a path with this key in their scripts.
    #[must_use]
    pub fn asked(&self, path: &str, key: &str) -> u64 {
        self.heard.asked(path, key)
    }

    /// How many of these came since then; of more than 20,000, only the last are remembered.
    #[must_use]
    pub fn asked_since(&self, path: &str, key: &str, since: Instant) -> u64 {
        self.heard.asked_since(path, key, since)
    }

    /// How many came in with this key in their scripts, for whatever path; with an empty one, those without a key.
    #[must_use]
    pub fn asked_anywhere(&self, key: &str) -> u64 {
        self.heard.asked_anywhere(key)
    }

    /// Forgets what came in.
    pub fn clear(&self) {
        self.heard.clear();
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
        body: log::text(&body),
        said: None,
    };
    let script = Script::read(item.headers.get(HEADER_SCRIPT).map_or("", String::as_str));
    let key = script.as_ref().map_or("", |script| script.key.as_str());
    let (asked, note) = heard.note(item, head.uri.path(), key);
    match script {
        Ok(script) => perform(script, asked, Asked::read(head.uri.path(), &body), note).await,
        Err(complaint) => Ok(whole(StatusCode::BAD_REQUEST, &json!({ "error": { "message": complaint } }))),
    }
}

fn requests(method: &Method, heard: &Heard) -> Answer {
    match *method {
        Method::GET => whole(StatusCode::OK, &json!({ "count": heard.count(), "items": heard.items() })),
        Method::DELETE => {
            heard.clear();
            whole(StatusCode::OK, &json!({ "count": 0, "items": [] }))
        }
        _ => whole(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": { "message": "GET or DELETE" } })),
    }
}

async fn perform(
    script: Script,
    number: u64,
    asked: Asked,
    note: Note,
) -> std::result::Result<Answer, io::Error> {
    tokio::time::sleep(script.delay).await;
    if script.hang {
        std::future::pending::<()>().await;
    }
    if script.reset {
        return Err(io::Error::other("the script asked for a reset"));
    }
    let fails = number <= script.fail_first || script.fail_every.is_some_and(|n| number.is_multiple_of(n));
    let status = StatusCode::from_u16(if fails { 500 } else { script.status }).map_err(io::Error::other)?;
    if status.as_u16() >= 400 {
        let said = Said { status: status.as_u16(), model: asked.model.clone(), ..Said::default() };
        note.begins(said);
        let document = answers::error(asked.shape, status.as_u16()).to_string();
        let piece = Piece { bytes: Bytes::from(document), ..Piece::default() };
        return Ok(sent(status, JSON, Box::new(std::iter::once(piece)), note, &script));
    }
    let streams = script.stream || asked.stream;
    if script.wire.says_error {
        let document = answers::error(asked.shape, 529).to_string();
        let text = if streams { format!("data: {document}\n\ndata: [DONE]\n\n") } else { document };
        let piece = Piece { bytes: Bytes::from(text), ..Piece::default() };
        note.begins(Said { status: status.as_u16(), model: asked.model.clone(), ..Said::default() });
        let kind = if streams { STREAM } else { JSON };
        return Ok(sent(status, kind, Box::new(std::iter::once(piece)), note, &script));
    }
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let reply = Reply::of(asked, &script, created);
    note.begins(said(&reply, status, streams));
    Ok(if streams {
        sent(status, STREAM, stream(reply, &script), note, &script)
    } else {
        let piece = document(&reply, &script);
        sent(status, JSON, Box::new(std::iter::once(piece)), note, &script)
    })
}

/// What an answer is going to say.
fn said(reply: &Reply, status: StatusCode, streams: bool) -> Said {
    let usage::Counts { input, cached, cache_written, output, reasoning, images } = reply.counts;
    let restated = reply.script.restated.filter(|_| streams && reply.asked.shape == Shape::Messages);
    Said {
        status: status.as_u16(),
        model: reply.model.clone(),
        input: restated.map_or(input, |input| input.saturating_add(cached).saturating_add(cache_written)),
        cached,
        cache_written,
        output,
        reasoning,
        images,
        words: reply.words(),
        ..Said::default()
    }
}

fn stream(reply: Reply, script: &Script) -> Pieces {
    let (crlf, no_done) = (script.wire.crlf, script.wire.no_done);
    let events = events::events(reply).filter(move |event| !no_done || !event.text.contains("[DONE]"));
    Box::new(events.map(move |event| Piece::of(event, crlf)))
}

fn document(reply: &Reply, script: &Script) -> Piece {
    let mut document = answers::document(reply);
    if let Some(fields) = document.as_object_mut().filter(|_| script.padding > 0) {
        fields.insert("padding".to_owned(), Value::String("x".repeat(script.padding)));
    }
    let usage = reply.usage(reply.counts).is_some();
    Piece { bytes: Bytes::from(document.to_string()), words: reply.words(), usage }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

/// An answer whose body is handed over piece by piece, and may break off. A document that comes whole says how long it is.
fn sent(status: StatusCode, content: HeaderValue, mut pieces: Pieces, note: Note, script: &Script) -> Answer {
    let wire = &script.wire;
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, content.clone())]);
    if wire.gzip {
        pieces = compressed(pieces);
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Some(size) = wire.frame {
        pieces = framed(pieces, size);
    }
    let is_whole = content == JSON && script.reset_after.is_none() && !script.truncate && !wire.trailers;
    let mut exact = None;
    if is_whole || script.truncate {
        let all: Vec<_> = pieces.collect();
        let length = all.iter().map(|piece| piece.bytes.len()).fold(0_usize, usize::saturating_add);
        exact = is_whole.then(|| u64::try_from(length).unwrap_or(u64::MAX));
        if script.truncate {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length.saturating_add(1000)));
        }
        pieces = Box::new(all.into_iter());
    }
    if wire.trailers {
        headers.insert(TRAILER, HeaderValue::from_static(delivery::TRAILER_NAME));
    }
    headers.extend(script.headers.iter().cloned());
    let mut answer = Response::new(BoxBody::new(Delivery::of(pieces, note, script, exact)));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

fn whole(status: StatusCode, document: &Value) -> Answer {
    let body = Full::new(Bytes::from(document.to_string())).map_err(|never| match never {});
    let mut answer = Response::new(BoxBody::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
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
