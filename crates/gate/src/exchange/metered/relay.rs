//! An answer on its way to the client: its usage is read as it passes, and nothing of it waits.

use super::bill::Heard;
use crate::config::{Usage, UsageHeaders};
use crate::input::{EnvoyUsage, Headers};
use meter::{Certainty, Counts, Format, Hider, Meter, Passed, Reading, Source};

/// The largest number of tokens that means anything: beyond it, JSON readers do not agree (RFC 8259, section 6).
const COUNT_MAX: u64 = 9_007_199_254_740_991;

/// What reads one answer.
#[derive(Debug)]
pub(super) enum Relay {
    /// Its body is read.
    Body {
        /// Whose it is.
        source: Source,
        /// In which form it comes.
        format: Format,
        /// The reader.
        meter: Box<Meter>,
        /// Takes out what the client did not ask for.
        hider: Option<Box<Hider>>,
    },
    /// Its headers said it.
    Headers(Heard),
    /// Nobody reads it: it says nothing, or in a form that nobody here knows.
    Unread,
}

impl Relay {
    /// For an answer with these headers. `hides`: its usage was asked for on the way, and not by the client.
    pub(super) fn new(usage: &Usage, headers: &Headers, hides: bool) -> Self {
        match usage {
            Usage::None | Usage::EnvoyAi => Self::Unread,
            Usage::Headers(names) => Self::Headers(of_headers(names, headers)),
            Usage::Body(source) => {
                let plain =
                    headers.text("content-encoding").is_none_or(|it| it.eq_ignore_ascii_case("identity"))
                        && !headers.all("content-encoding").any(|it| !it.eq_ignore_ascii_case(b"identity"));
                let kind = headers.all("content-type").next().and_then(Format::of);
                match kind.filter(|_| plain) {
                    Some(format) => {
                        let hides = hides && format == Format::Events;
                        let hider = hides.then(|| Box::new(Hider::new()));
                        let meter = Box::new(Meter::new(source, format));
                        Self::Body { source: source.clone(), format, meter, hider }
                    }
                    None => Self::Unread,
                }
            }
        }
    }

    /// True if it has to see the answer's body.
    pub(super) const fn reads(&self) -> bool {
        matches!(self, Self::Body { .. })
    }

    /// True if pieces of the answer may become shorter.
    pub(super) const fn hides(&self) -> bool {
        matches!(self, Self::Body { hider: Some(_), .. })
    }

    /// Reads on. What passes in the piece's place, if it is not the piece itself.
    pub(super) fn pass(&mut self, piece: &[u8], end: bool) -> Option<Vec<u8>> {
        let Self::Body { meter, hider, .. } = self else { return None };
        match hider {
            Some(hider) => match hider.pass(meter, piece, end) {
                Passed::Same => None,
                Passed::Instead(bytes) => Some(bytes),
            },
            None => {
                meter.feed(piece);
                None
            }
        }
    }

    /// What is known of the answer.
    pub(super) fn heard(&self) -> Heard {
        match self {
            Self::Body { source, format, meter, .. } => of_reading(source, *format, meter.read()),
            Self::Headers(heard) => heard.clone(),
            Self::Unread => Heard::default(),
        }
    }
}

/// What a reader found. What was not stated is not taken for nothing: counts that leave the output of a text out, or what an
/// operator said where to find, are a beginning, to be made up for by what is counted. So is what Anthropic
/// states in a stream that does not end as its streams do, and what was stated beside a usage that makes no sense.
fn of_reading(source: &Source, format: Format, reading: Reading) -> Heard {
    let Reading { counts, certainty, model, written, odd, failed, stated } = reading;
    let text = written.is_some_and(|written| written.bytes > 0 || written.events > 0);
    let whole = match source {
        Source::Pointers(pointers) => {
            (stated.input || pointers.input.is_none()) && (stated.output || pointers.output.is_none())
        }
        _ => stated.input && (stated.output || !text),
    };
    let complete = certainty == Certainty::Exact;
    let whole = whole && !odd && (complete || *source != Source::Anthropic);
    let written = written.map(|written| (format, written));
    Heard { counts, complete, partial: counts.is_some() && !whole, model, written, odd, failed }
}

/// What Envoy's own reader found.
pub(super) fn of_envoy(usage: &EnvoyUsage) -> Heard {
    let EnvoyUsage { input, output, cached, model } = usage;
    let sane = |count: &Option<u64>| count.filter(|count| *count <= COUNT_MAX);
    let odd = [input, output, cached].into_iter().any(|count| count.is_some() && sane(count).is_none());
    let counts = match (sane(input), sane(output)) {
        // A usage object without either is told as zeros (Envoy 1.40).
        (None, None) | (Some(0), Some(0)) => None,
        (input, output) => {
            let input = input.unwrap_or(0);
            let cached = sane(cached).unwrap_or(0).min(input);
            Some(Counts { input, cached, output: output.unwrap_or(0), ..Counts::default() })
        }
    };
    let (counts, model) = (counts.filter(|_| !odd), model.clone());
    Heard { counts, model, odd, ..Heard::default() }
}

fn of_headers(names: &UsageHeaders, headers: &Headers) -> Heard {
    let count = |name: &Option<String>| {
        let name = name.as_ref()?;
        if !headers.has(name) {
            return None;
        }
        let digits = headers.text(name).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        Some(digits.and_then(|text| text.parse().ok()).filter(|count| *count <= COUNT_MAX))
    };
    let (input, output): (Option<Option<u64>>, Option<Option<u64>>) =
        (count(&names.input), count(&names.output));
    let odd = input == Some(None) || output == Some(None);
    // Where both are to be told, one alone is half of it.
    let told = |name: &Option<String>, count: &Option<Option<u64>>| name.is_none() || count.is_some();
    let stated = told(&names.input, &input) && told(&names.output, &output);
    let sum = |count: Option<Option<u64>>| count.flatten().unwrap_or(0);
    let counts = Counts { input: sum(input), output: sum(output), ..Counts::default() };
    let model = names.model.as_ref().and_then(|name| headers.text(name)).map(str::to_owned);
    let model = model.filter(|model| model.len() <= 256);
    let counts = (stated && !odd).then_some(counts);
    Heard { counts, complete: true, model, odd, ..Heard::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(pairs: &[(&str, &str)]) -> Heard {
        let name = |name: &str| Some(name.to_owned());
        let names = UsageHeaders { input: name("x-in"), output: name("x-out"), model: name("x-model") };
        of_headers(&names, &pairs.iter().copied().collect())
    }

    #[test]
    fn headers_state_whole_numbers_or_nothing() {
        let all = heard(&[("x-in", "12"), ("x-out", "3"), ("x-model", "m")]);
        let counts = Counts { input: 12, output: 3, ..Counts::default() };
        assert_eq!((all.counts, all.complete, all.model.as_deref()), (Some(counts), true, Some("m")));
        assert_eq!(heard(&[("x-out", "3")]).counts, None, "half of it is none");
        assert_eq!((heard(&[]).counts, heard(&[]).odd), (None, false));
        for odd in ["-1", "1.5", "", "+3", "9007199254740992", "many"] {
            let it = heard(&[("x-in", "12"), ("x-out", odd)]);
            assert_eq!((it.counts, it.odd), (None, true), "{odd}");
        }
        assert!(heard(&[("x-in", "1"), ("x-in", "2")]).odd, "which one is meant?");
    }

    #[test]
    fn what_envoy_counted_is_believed_within_reason() {
        let of = |input, output| of_envoy(&EnvoyUsage { input, output, cached: Some(50), model: None });
        let counts = of(Some(20), Some(3)).counts.unwrap();
        assert_eq!((counts.input, counts.cached, counts.output), (20, 20, 3));
        assert_eq!(of(Some(0), Some(0)).counts, None);
        assert_eq!(of(None, None).counts, None);
        let odd = of(Some(u64::MAX), Some(3));
        assert_eq!((odd.counts, odd.odd), (None, true));
    }

    #[test]
    fn an_answer_that_is_compressed_or_of_another_kind_is_not_read() {
        let usage = Usage::Body(meter::Source::OpenAi);
        let reads =
            |pairs: &[(&str, &str)]| Relay::new(&usage, &pairs.iter().copied().collect(), true).reads();
        assert!(reads(&[("content-type", "application/json; charset=utf-8")]));
        assert!(reads(&[("content-type", "text/event-stream"), ("content-encoding", "identity")]));
        for pairs in [
            &[][..],
            &[("content-type", "text/html")],
            &[("content-type", "application/json"), ("content-encoding", "gzip")],
            &[
                ("content-type", "application/json"),
                ("content-encoding", "identity"),
                ("content-encoding", "br"),
            ],
        ] {
            assert!(!reads(pairs), "{pairs:?}");
        }
    }
}
