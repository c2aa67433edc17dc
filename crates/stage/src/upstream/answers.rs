//! Valid documents in the shapes of the providers whose paths the demo has, with usage.

use super::asked::{Asked, Shape};
use super::script::{Script, Usage};
use super::usage::{self, Counts};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Input tokens in every usage, where the script says no other number.
pub const INPUT_TOKENS: u64 = 5;

const WORDS: [&str; 3] = ["Paid ", "and ", "served."];
/// Of two, three and four bytes each.
const WIDE: [&str; 3] = ["für ", "値段 ", "🦀 "];
/// A piece of a long text.
const FILLER: &str = match str::from_utf8(&[b'x'; 1000]) {
    Ok(text) => text,
    Err(_) => "",
};

/// What an answer says.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) asked: Asked,
    pub(crate) model: String,
    pub(crate) counts: Counts,
    pub(crate) script: Usage,
    pub(crate) text: Text,
    /// A stream of chat completions says what was used to whoever asked for it, by the body or by the script.
    pub(crate) told: bool,
    /// Seconds since 1970.
    pub(crate) created: u64,
}

/// The text of an answer, piece by piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text {
    /// How many pieces.
    pub(crate) words: u64,
    long: bool,
    wide: bool,
}

impl Text {
    pub(crate) fn of(script: &Script) -> Self {
        let (long, wide) = (script.wire.bytes > 0, script.wire.frame.is_some());
        let enough = script.wire.bytes.div_ceil(1000);
        let words = script.wire.words.unwrap_or(if long { enough } else { 3 }).max(enough);
        Self { words, long, wide }
    }

    /// The piece with this number, from 0.
    pub(crate) fn word(self, number: u64) -> Cow<'static, str> {
        let of = |all: [&'static str; 3]| {
            let [first, second, third] = all;
            match number % 3 {
                0 => first,
                1 => second,
                _ => third,
            }
        };
        let word = of(if self.wide { WIDE } else { WORDS });
        if self.long { Cow::Owned(format!("{FILLER}{word}")) } else { Cow::Borrowed(word) }
    }

    /// All of it.
    pub(crate) fn whole(self) -> String {
        (0..self.words).map(|number| self.word(number)).collect()
    }
}

impl Reply {
    pub(crate) fn of(asked: Asked, script: &Script, created: u64) -> Self {
        Self {
            model: script.usage.model.clone().unwrap_or_else(|| asked.model.clone()),
            counts: Counts::of(&asked, &script.usage),
            script: script.usage.clone(),
            text: Text::of(script),
            told: script.stream || asked.include_usage,
            created,
            asked,
        }
    }

    /// Pieces of text of all choices.
    pub(crate) fn words(&self) -> u64 {
        if self.asked.shape.speaks() { self.text.words.saturating_mul(self.asked.choices) } else { 0 }
    }

    /// True if the limit of the request cut the answer.
    pub(crate) fn is_cut(&self) -> bool {
        !self.script.over && self.asked.limit.is_some_and(|limit| limit < self.script.tokens)
    }

    /// The usage as the provider words it, unless the script leaves it out.
    pub(crate) fn usage(&self, counts: Counts) -> Option<Value> {
        if self.script.none {
            return None;
        }
        usage::worded(self.asked.shape, counts, self.script.odd)
    }

    /// Why the answer ends, as OpenAI words it.
    pub(crate) fn finish(&self) -> &'static str {
        if self.is_cut() { "length" } else { "stop" }
    }

    /// The same, as Anthropic does.
    pub(crate) fn stop_reason(&self) -> &'static str {
        if self.is_cut() { "max_tokens" } else { "end_turn" }
    }
}

/// The whole answer as one document.
pub(crate) fn document(reply: &Reply) -> Value {
    let Reply { model, created, text, .. } = reply;
    let each = |one: &dyn Fn(u64) -> Value| (0..reply.asked.choices).map(one).collect::<Vec<_>>();
    let mut document = match reply.asked.shape {
        Shape::Chat => json!({
            "id": "chatcmpl-scripted", "object": "chat.completion", "created": created, "model": model,
            "choices": each(&|index| json!({
                "index": index, "message": { "role": "assistant", "content": text.whole(), "refusal": null },
                "logprobs": null, "finish_reason": reply.finish(),
            })),
        }),
        Shape::Completions => json!({
            "id": "cmpl-scripted", "object": "text_completion", "created": created, "model": model,
            "choices": each(&|index| json!({
                "index": index, "text": text.whole(), "logprobs": null, "finish_reason": reply.finish(),
            })),
        }),
        Shape::Messages => json!({
            "id": "msg_scripted", "type": "message", "role": "assistant", "model": model,
            "content": [{ "type": "text", "text": text.whole() }],
            "stop_reason": reply.stop_reason(), "stop_sequence": null,
        }),
        Shape::Responses => response(reply, true),
        Shape::Embeddings => json!({
            "object": "list", "model": model,
            "data": each(&|index| json!({ "object": "embedding", "index": index, "embedding": [0.25, -0.5, 0.125] })),
        }),
        // One white pixel each.
        Shape::Images => json!({ "created": created, "data": each(&|_| json!({
            "b64_json": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mP8/x8AAwMCAO+ip1sAAAAASUVORK5CYII=",
        })) }),
        Shape::Gemini => {
            json!({ "candidates": candidates(reply, &text.whole(), true), "modelVersion": model })
        }
        Shape::Models => json!({
            "object": "list", "data": [{ "id": "scripted", "object": "model", "created": created, "owned_by": "tollgate" }],
        }),
        Shape::Other => json!({}),
    };
    if let (Some(usage), Some(fields)) = (reply.usage(reply.counts), document.as_object_mut()) {
        fields.insert(usage::name(reply.asked.shape).into(), usage);
    }
    document
}

/// An error as the provider words it.
pub(crate) fn error(shape: Shape, status: u16) -> Value {
    let message = format!("The script asked for status {status}.");
    if shape == Shape::Messages {
        json!({ "type": "error", "error": { "type": "api_error", "message": message } })
    } else {
        json!({ "error": { "message": message, "type": "server_error", "param": null, "code": null } })
    }
}

/// OpenAI's response object, as it stands when it begins or ends.
pub(crate) fn response(reply: &Reply, ended: bool) -> Value {
    let status = match (ended, reply.is_cut()) {
        (false, _) => "in_progress",
        (true, false) => "completed",
        (true, true) => "incomplete",
    };
    let text = if ended { reply.text.whole() } else { String::new() };
    let why = (ended && reply.is_cut()).then(|| json!({ "reason": "max_output_tokens" }));
    json!({
        "id": "resp_scripted", "object": "response", "created_at": reply.created, "status": status, "model": reply.model,
        "output": [{ "id": "msg_scripted", "type": "message", "status": status, "role": "assistant",
                     "content": [{ "type": "output_text", "text": text, "annotations": [] }] }],
        "error": null, "incomplete_details": why,
    })
}

/// Gemini's answers, whole or the next piece of each.
pub(crate) fn candidates(reply: &Reply, text: &str, ends: bool) -> Vec<Value> {
    let one = |index| {
        let mut one = Map::new();
        one.insert("index".into(), json!(index));
        one.insert("content".into(), json!({ "role": "model", "parts": [{ "text": text }] }));
        if ends {
            one.insert("finishReason".into(), json!(if reply.is_cut() { "MAX_TOKENS" } else { "STOP" }));
        }
        Value::Object(one)
    };
    (0..reply.asked.choices).map(one).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn reply(path: &str, body: &str, script: &str) -> Reply {
        let script = Script::read(script).unwrap();
        Reply::of(Asked::read(path, body.as_bytes()), &script, 1)
    }

    #[test]
    fn each_document_carries_usage_where_its_provider_puts_it() {
        for (path, pointer, tokens) in [
            ("/v1/chat/completions", "/usage/completion_tokens", 7),
            ("/v1/completions", "/usage/completion_tokens", 7),
            ("/v1/messages", "/usage/output_tokens", 7),
            ("/v1/responses", "/usage/output_tokens", 7),
            ("/v1/embeddings", "/usage/total_tokens", INPUT_TOKENS),
            ("/v1/images/generations", "/usage/total_tokens", 12),
            ("/v1beta/models/g:generateContent", "/usageMetadata/totalTokenCount", 12),
        ] {
            assert_eq!(document(&reply(path, "", "")).pointer(pointer), Some(&json!(tokens)), "{path}");
            let without = document(&reply(path, "", "no_usage"));
            assert!(!without.to_string().contains("usage"), "{path}: {without}");
        }
        assert_eq!(document(&reply("/webhooks/app", "", "")), json!({}));
    }

    #[test]
    fn there_are_as_many_answers_as_asked_for() {
        let chat = document(&reply("/v1/chat/completions", r#"{"n":3,"max_tokens":2}"#, "model=m"));
        let ends: Vec<_> = chat["choices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["finish_reason"].as_str().unwrap())
            .collect();
        assert_eq!((ends, &chat["model"]), (vec!["length"; 3], &json!("m")));
        assert_eq!(chat["usage"]["completion_tokens"], 6);
        let images = document(&reply("/v1/images/generations", r#"{"n":2}"#, ""));
        assert_eq!(images["data"].as_array().unwrap().len(), 2);
        let cut = document(&reply("/v1/responses", r#"{"max_output_tokens":2}"#, ""));
        assert_eq!(
            (&cut["status"], &cut["incomplete_details"]["reason"]),
            (&json!("incomplete"), &json!("max_output_tokens"))
        );
    }

    #[test]
    fn a_text_is_as_long_as_the_script_says() {
        let text =
            |script: &str| document(&reply("/v1/messages", "", script))["content"][0]["text"].to_string();
        assert_eq!(
            (text(""), text("words=4")),
            (r#""Paid and served.""#.into(), r#""Paid and served.Paid ""#.into())
        );
        let long = text("bytes=5000").len();
        assert!((5000..6000).contains(&long), "{long}");
        assert!(text("frame=3").contains('🦀'));
    }
}
