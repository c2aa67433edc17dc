//! The words in which a test and its host speak: headers, calls and their answers, replies, log lines.

/// Header fields in order: names in lower case, values as bytes.
pub type Headers = Vec<(String, Vec<u8>)>;

/// No headers at all.
pub const NONE: &[(&str, &str)] = &[];

/// Headers from anything like them.
#[must_use]
pub fn headers<K: AsRef<str>, V: AsRef<[u8]>>(pairs: &[(K, V)]) -> Headers {
    pairs.iter().map(|(k, v)| (k.as_ref().to_ascii_lowercase(), v.as_ref().to_vec())).collect()
}

pub(crate) fn first<'a>(headers: &'a Headers, name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the module wants done with what it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// On it goes.
    Continue,
    /// It is held; also after a local reply, whatever the module returned.
    Pause,
}

/// An HTTP call that the module made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Identifies it within its VM.
    pub token: u32,
    /// To which cluster.
    pub cluster: String,
    /// With which headers.
    pub headers: Headers,
    /// With which body.
    pub body: Vec<u8>,
    /// How long Envoy would wait, in milliseconds; 0 is for ever.
    pub timeout_ms: u32,
}

impl Call {
    /// A header's first value; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        first(&self.headers, name).map(text).unwrap_or_default()
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> String {
        self.header(":path")
    }

    /// Its body as text.
    #[must_use]
    pub fn text(&self) -> String {
        text(&self.body)
    }
}

/// What comes back for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// An upstream's answer in JSON.
    #[must_use]
    pub fn json(status: u16, body: impl AsRef<[u8]>) -> Self {
        let status = status.to_string();
        let fields = [
            (":status", status.as_str()),
            ("content-type", "application/json"),
            ("x-envoy-upstream-service-time", "1"),
        ];
        Self { headers: headers(&fields), body: body.as_ref().to_vec() }
    }

    /// What Envoy itself answers when the upstream cannot be reached (503) or is late (504): three headers, and no
    /// `x-envoy-upstream-service-time`.
    #[must_use]
    pub fn from_envoy(status: u16) -> Self {
        let (status, body) =
            (status.to_string(), "upstream connect error or disconnect/reset before headers");
        let length = body.len().to_string();
        let fields = [
            (":status", status.as_str()),
            ("content-length", length.as_str()),
            ("content-type", "text/plain"),
        ];
        Self { headers: headers(&fields), body: body.into() }
    }

    /// No answer at all: the connection broke after the headers, or the answer was too large (`num_headers` is 0).
    #[must_use]
    pub fn reset() -> Self {
        Self { headers: Vec::new(), body: Vec::new() }
    }

    /// With one more header, or another repetition of one.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }
}

/// How Envoy refuses to send a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallRefusal {
    /// No such cluster.
    UnknownCluster,
    /// No healthy host, too many pending requests, or a restricted capability.
    NotSendable,
}

/// An answer that the module gave in the upstream's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u32,
    /// The headers that the module gave, and what it did to them as its own reply passed by.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// A header's first value; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        first(&self.headers, name).map(text).unwrap_or_default()
    }

    /// Its body as text.
    #[must_use]
    pub fn text(&self) -> String {
        text(&self.body)
    }
}

/// How bad a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are Envoy's own")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

impl LogLevel {
    pub(crate) fn from_abi(level: u32) -> Option<Self> {
        use LogLevel::{Critical, Debug, Error, Info, Trace, Warn};
        [Trace, Debug, Info, Warn, Error, Critical].into_iter().nth(usize::try_from(level).ok()?)
    }
}

/// A line that the module logged, or wrote to its standard output (`Info`) or error (`Error`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How bad.
    pub level: LogLevel,
    /// Without a newline at its end.
    pub text: String,
}

/// Something the module asked of its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCall {
    /// For which context: the effective one, or the one whose callback ran.
    pub context: u32,
    /// The import's name.
    pub name: &'static str,
    /// What it was about: a key, a header's name, a path; may be empty.
    pub about: String,
}
