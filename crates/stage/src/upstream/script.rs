//! What a request asks the upstream to do with it, read from its `x-script` header.

use hyper::header::{HeaderName, HeaderValue};
use std::str::FromStr;
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
    /// `padding=1000000`: so many bytes more in a document, for answers that fill buffers.
    pub padding: usize,
    /// `stream`: server-sent events, usage included.
    pub stream: bool,
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
    /// What is used, and how the answer says so.
    pub usage: Usage,
    /// How the body is put on the wire.
    pub wire: Wire,
}

/// What an answer uses, and how it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// `tokens=7`: output tokens of each choice, reasoning included, up to the request's own limit.
    pub tokens: u64,
    /// `over`: beyond that limit too.
    pub over: bool,
    /// `input=5`: input tokens, those of the two below included.
    pub input: u64,
    /// `cached=4`: how many of them the provider had in its cache.
    pub cached: u64,
    /// `cache_written=4`: how many of them it wrote into that cache.
    pub cache_written: u64,
    /// `reasoning=3`: how many of all output tokens were spent on reasoning.
    pub reasoning: u64,
    /// `restated=900`: the end of an Anthropic stream states so many input tokens, more than its beginning did, as happens
    /// where the provider's own tools ran.
    pub restated: Option<u64>,
    /// `model=NAME`: the model that answers; without it, the one that was asked for.
    pub model: Option<String>,
    /// `no_usage`: leave the usage out.
    pub none: bool,
    /// `usage_in=final|each|finish|groq`: where a stream of chat completions says it.
    pub place: Place,
    /// `odd_usage`: as no provider should: input as a text, output below nothing.
    pub odd: bool,
}

/// Where a stream of chat completions says what was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// In a last chunk of its own, for those who ask for it, as OpenAI does.
    #[default]
    Final,
    /// In every chunk what was used so far, whoever asks.
    Each,
    /// In the chunk that says why it ends, whoever asks.
    Finish,
    /// In that chunk under `x_groq`, whoever asks; and in a last chunk of its own for those who ask for it.
    Groq,
}

/// How a body is put on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// `words=3`: how many pieces of text each choice has.
    pub words: Option<u64>,
    /// `bytes=1000000`: so many pieces that the text alone has so many bytes. A stream of them is made as it is sent.
    pub bytes: u64,
    /// `frame=5`: frames of so many bytes, wherever that cuts; the text then holds characters of several bytes.
    pub frame: Option<usize>,
    /// `crlf`: events end their lines with CR LF.
    pub crlf: bool,
    /// `no_done`: leave out `[DONE]`.
    pub no_done: bool,
    /// `gzip`: compress the body, whatever the client accepts.
    pub gzip: bool,
    /// `trailers`: end with trailers. HTTP/1.1 carries them only to a client that says `te: trailers`.
    pub trailers: bool,
    /// `abort_after_usage`: break off after the usage was said.
    pub abort_after_usage: bool,
    /// `says_error`: the status is a success, and all that the answer says is an error.
    pub says_error: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            status: 200,
            delay: Duration::ZERO,
            chunk_delay: Duration::ZERO,
            padding: 0,
            stream: false,
            reset: false,
            reset_after: None,
            truncate: false,
            hang: false,
            fail_first: 0,
            fail_every: None,
            key: String::new(),
            headers: Vec::new(),
            usage: Usage::default(),
            wire: Wire::default(),
        }
    }
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            tokens: 7,
            over: false,
            input: super::INPUT_TOKENS,
            cached: 0,
            cache_written: 0,
            reasoning: 0,
            restated: None,
            model: None,
            none: false,
            place: Place::Final,
            odd: false,
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
            None => *self.flag(word)? = true,
            Some((name, value)) => match name {
                "status" => self.status = value.parse().ok().filter(|s| (200..=599).contains(s))?,
                "delay_ms" => self.delay = Duration::from_millis(number(value)?),
                "chunk_delay_ms" => self.chunk_delay = Duration::from_millis(number(value)?),
                "padding" => self.padding = number(value)?,
                "reset_after" => self.reset_after = Some(number(value)?),
                "fail_first" => self.fail_first = number(value)?,
                "fail_every" => self.fail_every = Some(number(value).filter(|n| *n > 0)?),
                "key" => value.clone_into(&mut self.key),
                "words" => self.wire.words = Some(number(value)?),
                "bytes" => self.wire.bytes = number(value)?,
                "frame" => self.wire.frame = Some(number(value).filter(|n| *n > 0)?),
                _ if name.starts_with("header.") => {
                    let name = HeaderName::from_bytes(name.strip_prefix("header.")?.as_bytes()).ok()?;
                    self.headers.push((name, HeaderValue::from_str(value).ok()?));
                }
                _ => self.usage.take(name, value)?,
            },
        }
        Some(())
    }

    fn flag(&mut self, word: &str) -> Option<&mut bool> {
        Some(match word {
            "stream" => &mut self.stream,
            "reset" => &mut self.reset,
            "truncate" => &mut self.truncate,
            "hang" => &mut self.hang,
            "no_usage" => &mut self.usage.none,
            "over" => &mut self.usage.over,
            "odd_usage" => &mut self.usage.odd,
            "crlf" => &mut self.wire.crlf,
            "no_done" => &mut self.wire.no_done,
            "gzip" => &mut self.wire.gzip,
            "trailers" => &mut self.wire.trailers,
            "abort_after_usage" => &mut self.wire.abort_after_usage,
            "says_error" => &mut self.wire.says_error,
            _ => return None,
        })
    }
}

impl Usage {
    fn take(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "tokens" => self.tokens = number(value)?,
            "input" => self.input = number(value)?,
            "cached" => self.cached = number(value)?,
            "cache_written" => self.cache_written = number(value)?,
            "reasoning" => self.reasoning = number(value)?,
            "restated" => self.restated = Some(number(value)?),
            "model" => self.model = Some(value.to_owned()),
            "usage_in" => {
                self.place = match value {
                    "final" => Place::Final,
                    "each" => Place::Each,
                    "finish" => Place::Finish,
                    "groq" => Place::Groq,
                    _ => return None,
                }
            }
            _ => return None,
        }
        Some(())
    }
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_read() {
        let script =
            Script::read("status=500;delay_ms=50; tokens=9 ;stream;header.x-a=b;fail_every=2;reset").unwrap();
        assert_eq!((script.status, script.delay.as_millis(), script.usage.tokens), (500, 50, 9));
        assert!(script.stream && script.reset && !script.hang);
        assert_eq!(script.headers, [(HeaderName::from_static("x-a"), HeaderValue::from_static("b"))]);
        assert_eq!(script.fail_every, Some(2));
        assert_eq!(Script::read(""), Ok(Script::default()));
    }

    #[test]
    fn each_word_about_usage_and_wire_changes_its_own_field() {
        let flags = "no_usage;over;odd_usage;crlf;no_done;gzip;trailers;abort_after_usage;truncate;hang";
        let values = "input=8;cached=2;cache_written=3;reasoning=4;restated=9;model=m;usage_in=groq;words=5;bytes=6;frame=7";
        let words: Vec<_> = flags.split(';').chain(values.split(';')).collect();
        let mut seen = vec![Script::default()];
        for word in &words {
            let script = Script::read(word).unwrap();
            assert!(!seen.contains(&script), "{word} does what another word does, or nothing");
            seen.push(script);
        }
        let all = Script::read(&words.join(";")).unwrap();
        assert_eq!((all.usage.input, all.usage.place, all.wire.frame), (8, Place::Groq, Some(7)));
    }

    #[test]
    fn a_word_that_is_not_understood_is_named() {
        for word in [
            "statsu=500",
            "status=99",
            "tokens=-1",
            "fail_every=0",
            "frame=0",
            "usage_in=x",
            "Stream",
            "header.=x",
            "delay_ms",
        ] {
            assert!(Script::read(word).unwrap_err().contains(word), "{word}");
        }
    }
}
