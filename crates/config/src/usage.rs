//! How a route reads what its requests ask for, and what its answers say they used.

use super::Wait;
use super::raw::{Item, Section};
use meter::request::LimitField;
use meter::{Pointer, Pointers, Source};
use std::rc::Rc;

/// How much is held before a request passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The endpoint's price, whatever the request says.
    Fixed,
    /// The most that the request can cost; its limit of output is lowered to what the customer can afford.
    MaxTokens,
    /// What such requests usually cost. More is charged afterwards, and may become a debt.
    Estimate,
}

/// Where an answer says what it used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Nowhere: a success costs what was held.
    None,
    /// In its body.
    Body(Source),
    /// In its headers.
    Headers(Rc<UsageHeaders>),
    /// Envoy's own `ai_protocol_manager` reads it, behind this filter.
    EnvoyAi,
}

/// The headers of an answer that say what it used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageHeaders {
    /// Tokens of the input.
    pub input: Option<String>,
    /// Tokens of the output.
    pub output: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
}

/// What is charged for an answer that does not say what it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingUsage {
    /// What was delivered, counted.
    Counted,
    /// The input alone.
    Input,
    /// The whole hold.
    Hold,
}

/// How a priced route is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metering {
    /// How much is held.
    pub hold: Hold,
    /// Where the answer says what was used.
    pub usage: Usage,
    /// In whose shape the request is; absent where nobody reads it.
    pub request: Option<Source>,
    /// What is charged where the answer does not say.
    pub missing: MissingUsage,
    /// Which field states the limit of a chat that states none.
    pub limit_field: LimitField,
}

impl Metering {
    /// True if nothing of its requests and answers is read.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.hold == Hold::Fixed && self.usage == Usage::None
    }
}

const HOLDS: [(&str, Option<Hold>); 3] =
    [("fixed", Some(Hold::Fixed)), ("max_tokens", Some(Hold::MaxTokens)), ("estimate", Some(Hold::Estimate))];
const DIALECTS: [(&str, Option<Source>); 5] = [
    ("openai", Some(Source::OpenAi)),
    ("openai_images", Some(Source::OpenAiImages)),
    ("openai_responses", Some(Source::OpenAiResponses)),
    ("anthropic", Some(Source::Anthropic)),
    ("gemini", Some(Source::Gemini)),
];
const MISSING: [(&str, Option<MissingUsage>); 3] = [
    ("counted", Some(MissingUsage::Counted)),
    ("input", Some(MissingUsage::Input)),
    ("hold", Some(MissingUsage::Hold)),
];
const LIMITS: [(&str, Option<LimitField>); 2] = [
    ("max_tokens", Some(LimitField::MaxTokens)),
    ("max_completion_tokens", Some(LimitField::MaxCompletionTokens)),
];
/// Every key that is read here, so that none of them is unknown where a mistake kept them from being read.
pub(super) const KEYS: [&str; 5] = ["hold", "usage", "request", "missing_usage", "limit_field"];

pub(super) fn metering(s: &Section<'_>, wait: Option<Wait>) -> Option<Metering> {
    let hold = s.need("hold").and_then(|i| {
        let hold = i.word(&HOLDS)?;
        if hold != Hold::Fixed && wait == Some(Wait::Head) {
            return i.refuse("write \"fixed\": with wait: head nobody reads the request's body");
        }
        Some(hold)
    });
    let usage = match s.get("usage") {
        Some(item) => usage(&item),
        None => Some(Usage::None),
    };
    let request = match s.get("request") {
        Some(item) => item.word(&DIALECTS).map(Some),
        None => Some(match &usage {
            Some(Usage::Body(source)) if !matches!(source, Source::Pointers(_)) => Some(source.clone()),
            _ => None,
        }),
    };
    let missing = match s.get("missing_usage") {
        Some(item) => item.word(&MISSING),
        None => Some(MissingUsage::Counted),
    };
    let limit_field = match s.get("limit_field") {
        Some(item) => item.word(&LIMITS),
        // What OpenAI asks for since its reasoning models (API reference, "Create chat completion": max_tokens is deprecated).
        None => Some(LimitField::MaxCompletionTokens),
    };
    let metering = Metering {
        hold: hold?,
        usage: usage?,
        request: request?,
        missing: missing?,
        limit_field: limit_field?,
    };
    if metering.hold != Hold::Fixed && metering.request.is_none() {
        let mend = "write request: openai (or another) beside it, for a hold that depends on the request wants it read";
        return s.refuse("a hold that depends on the request", mend);
    }
    Some(metering)
}

fn usage(item: &Item<'_>) -> Option<Usage> {
    if item.says("none") {
        return Some(Usage::None);
    }
    if item.says("envoy_ai") {
        return Some(Usage::EnvoyAi);
    }
    if !item.is_object() {
        return usage_word(item);
    }
    let s = item.section()?;
    let usage = match (s.get("header"), s.get("json_pointer")) {
        (Some(item), None) => headers(&item),
        (None, Some(item)) => pointers(&item),
        _ => s.refuse("an object", "write either { \"header\": { … } } or { \"json_pointer\": { … } }"),
    };
    s.end();
    usage
}

fn usage_word(item: &Item<'_>) -> Option<Usage> {
    let known = DIALECTS.iter().find(|(word, _)| item.says(word)).and_then(|(_, source)| source.clone());
    match known {
        Some(source) => Some(Usage::Body(source)),
        None => item.refuse(
            "write \"none\", \"openai\", \"openai_images\", \"openai_responses\", \"anthropic\", \"gemini\", \
             \"envoy_ai\", { \"header\": … } or { \"json_pointer\": … }",
        ),
    }
}

fn headers(item: &Item<'_>) -> Option<Usage> {
    let (input, output, model) = three(item, |i| {
        let text = i.text()?;
        let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
        if text.bytes().all(token) {
            Some(text.to_owned())
        } else {
            i.refuse("write a header name in lower case")
        }
    })?;
    Some(Usage::Headers(Rc::new(UsageHeaders { input, output, model })))
}

fn pointers(item: &Item<'_>) -> Option<Usage> {
    let (input, output, model) = three(item, |i| {
        let pointer = Pointer::parse(i.text()?);
        pointer.map_or_else(|| i.refuse("write a JSON pointer such as /usage/total_tokens"), Some)
    })?;
    Some(Usage::Body(Source::Pointers(Rc::new(Pointers { input, output, model }))))
}

/// `input`, `output` and `model`, of which each may be left out, but not both counts.
fn three<T>(
    item: &Item<'_>,
    read: impl Fn(&Item<'_>) -> Option<T>,
) -> Option<(Option<T>, Option<T>, Option<T>)> {
    let s = item.section()?;
    let part = |key| match s.get(key) {
        Some(item) => read(&item).map(Some),
        None => Some(None),
    };
    let (input, output, model) = (part("input"), part("output"), part("model"));
    let named = s.has("input") || s.has("output");
    if !named {
        s.refuse::<()>("neither input nor output", "write at least one of them");
    }
    s.end();
    Some((input?, output?, model?)).filter(|_| named)
}
