//! What a request asks the upstream to do with it, read from its `x-script` header.

use hyper::header::{HeaderName, HeaderValue};
use std::time::Duration;

/// The header that holds the script: words separated by `;`, each a flag or `name=value`.
pub const HEADER_SCRIPT: &str = "x-script";

/// A script. Without any word: a whole, successful answer at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// `status=503`: answer with it; from 400 on, with an error document.
    pub status: u16,
    /// `delay_ms=50`: wait before the answer's head.
    pub delay: Duration,
    /// `chunk_delay_ms=50`: wait before each chunk of a stream.
    pub chunk_delay: Duration,
    /// `tokens=7`: output tokens in the usage.
    pub tokens: u64,
    /// `padding=1000000`: so many bytes more in a document, for answers that fill buffers.
    pub padding: usize,
    /// `stream`: server-sent events, usage included.
    pub stream: bool,
    /// `no_usage`: leave the usage out.
    pub no_usage: bool,
    /// `reset`: close the connection (HTTP/2: the stream) without an answer.
    pub reset: bool,
    /// `reset_after=2`: answer, and break off after so many chunks of the body.
    pub reset_after: Option<usize>,
    /// `truncate`: announce a longer body than is sent, and close.
    pub truncate: bool,
    /// `hang`: read the request and never answer.
    pub hang: bool,
    /// `fail_first=1`: answer 500 to so many requests, then as the rest of the script says.
    pub fail_first: u64,
    /// `fail_every=2`: answer 500 to each second request, the second one first.
    pub fail_every: Option<u64>,
    /// `key=abc`: what requests are counted by for the two above, beside their path.
    pub key: String,
    /// `header.NAME=VALUE`: a header of the answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            status: 200,
            delay: Duration::ZERO,
            chunk_delay: Duration::ZERO,
            tokens: 7,
            padding: 0,
            stream: false,
            no_usage: false,
            reset: false,
            reset_after: None,
            truncate: false,
            hang: false,
            fail_first: 0,
            fail_every: None,
            key: String::new(),
            headers: Vec::new(),
        }
    }
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// The first word that is unknown or has no sound value: a test must not pass because of a misspelling.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut script = Self::default();
        for word in text.split(';').map(str::trim).filter(|word| !word.is_empty()) {
            script.take(word).ok_or_else(|| format!("{HEADER_SCRIPT}: {word:?} is not understood"))?;
        }
        Ok(script)
    }

    fn take(&mut self, word: &str) -> Option<()> {
        match word.split_once('=') {
            None => match word {
                "stream" => self.stream = true,
                "no_usage" => self.no_usage = true,
                "reset" => self.reset = true,
                "truncate" => self.truncate = true,
                "hang" => self.hang = true,
                _ => return None,
            },
            Some((name, value)) => match name {
                "status" => self.status = value.parse().ok().filter(|s| (200..=599).contains(s))?,
                "delay_ms" => self.delay = Duration::from_millis(value.parse().ok()?),
                "chunk_delay_ms" => self.chunk_delay = Duration::from_millis(value.parse().ok()?),
                "tokens" => self.tokens = value.parse().ok()?,
                "padding" => self.padding = value.parse().ok()?,
                "reset_after" => self.reset_after = Some(value.parse().ok()?),
                "fail_first" => self.fail_first = value.parse().ok()?,
                "fail_every" => self.fail_every = Some(value.parse().ok().filter(|n| *n > 0)?),
                "key" => value.clone_into(&mut self.key),
                _ => {
                    let name = HeaderName::from_bytes(name.strip_prefix("header.")?.as_bytes()).ok()?;
                    self.headers.push((name, HeaderValue::from_str(value).ok()?));
                }
            },
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_read() {
        let script =
            Script::read("status=500;delay_ms=50; tokens=9 ;stream;header.x-a=b;fail_every=2;reset").unwrap();
        assert_eq!((script.status, script.delay.as_millis(), script.tokens), (500, 50, 9));
        assert!(script.stream && script.reset && !script.hang);
        assert_eq!(script.headers, [(HeaderName::from_static("x-a"), HeaderValue::from_static("b"))]);
        assert_eq!(script.fail_every, Some(2));
        assert_eq!(Script::read(""), Ok(Script::default()));
    }

    #[test]
    fn a_word_that_is_not_understood_is_named() {
        for word in
            ["statsu=500", "status=99", "tokens=-1", "fail_every=0", "Stream", "header.=x", "delay_ms"]
        {
            assert!(Script::read(word).unwrap_err().contains(word), "{word}");
        }
    }
}
