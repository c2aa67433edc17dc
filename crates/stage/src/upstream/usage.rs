//! What an answer used, and how each provider words that.

use super::asked::{Asked, Shape};
use super::script::Usage;
use serde_json::{Value, json};

/// What an answer used. Cached and written tokens are input as well, and reasoning is output as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) input: u64,
    pub(crate) cached: u64,
    pub(crate) cache_written: u64,
    pub(crate) output: u64,
    pub(crate) reasoning: u64,
    pub(crate) images: u64,
}

impl Counts {
    /// What a request uses by its script.
    pub(crate) fn of(asked: &Asked, script: &Usage) -> Self {
        let each = match asked.limit {
            Some(limit) if !script.over => script.tokens.min(limit),
            _ => script.tokens,
        };
        let (speaks, shows) = (asked.shape.speaks(), asked.shape == Shape::Images);
        let made = if shows { 1 } else { asked.made };
        let output = if speaks || shows { each.saturating_mul(made) } else { 0 };
        let reads = !matches!(asked.shape, Shape::Models | Shape::Other);
        let cached = if speaks { script.cached } else { 0 };
        // Only Anthropic tells them, and takes a price of its own for them.
        let cache_written = if asked.shape == Shape::Messages { script.cache_written } else { 0 };
        let known = cached.saturating_add(cache_written);
        Self {
            input: if reads { script.input.max(known) } else { 0 },
            cached,
            cache_written,
            output,
            reasoning: if speaks { script.reasoning.min(output) } else { 0 },
            images: if shows { asked.choices } else { 0 },
        }
    }

    /// What was used when `done` of `all` pieces were out.
    pub(crate) fn so_far(self, done: u64, all: u64) -> Self {
        let part = |count: u64| count.saturating_mul(done) / all.max(1);
        Self { output: part(self.output), reasoning: part(self.reasoning), ..self }
    }
}

impl Shape {
    /// True if answers are text.
    pub(crate) const fn speaks(self) -> bool {
        matches!(self, Self::Chat | Self::Completions | Self::Messages | Self::Responses | Self::Gemini)
    }
}

/// The usage as the provider words it; none where it says nothing of the kind.
pub(crate) fn worded(shape: Shape, counts: Counts, odd: bool) -> Option<Value> {
    let Counts { input, cached, cache_written, output, reasoning, .. } = counts;
    let total = input.saturating_add(output);
    let mut usage = match shape {
        Shape::Chat | Shape::Completions => json!({
            "prompt_tokens": input, "completion_tokens": output, "total_tokens": total,
            "prompt_tokens_details": { "cached_tokens": cached },
            "completion_tokens_details": { "reasoning_tokens": reasoning },
        }),
        Shape::Messages => json!({
            "input_tokens": input.saturating_sub(cached).saturating_sub(cache_written),
            "cache_creation_input_tokens": cache_written, "cache_read_input_tokens": cached, "output_tokens": output,
        }),
        Shape::Responses => json!({
            "input_tokens": input, "input_tokens_details": { "cached_tokens": cached }, "output_tokens": output,
            "output_tokens_details": { "reasoning_tokens": reasoning }, "total_tokens": total,
        }),
        Shape::Images => json!({ "input_tokens": input, "output_tokens": output, "total_tokens": total }),
        Shape::Embeddings => json!({ "prompt_tokens": input, "total_tokens": input }),
        // Thoughts are counted beside the candidates, not among them.
        Shape::Gemini => json!({
            "promptTokenCount": input, "cachedContentTokenCount": cached,
            "candidatesTokenCount": output.saturating_sub(reasoning), "thoughtsTokenCount": reasoning,
            "totalTokenCount": total,
        }),
        Shape::Models | Shape::Other => return None,
    };
    if odd {
        spoil(&mut usage);
    }
    Some(usage)
}

/// Under which name a document holds its usage.
pub(crate) const fn name(shape: Shape) -> &'static str {
    if matches!(shape, Shape::Gemini) { "usageMetadata" } else { "usage" }
}

/// What no provider should send: input as a text, all else below nothing.
fn spoil(usage: &mut Value) {
    for (name, value) in usage.as_object_mut().into_iter().flatten() {
        let Some(count) = value.as_u64().and_then(|count| i64::try_from(count).ok()) else { continue };
        let input = name.starts_with("input") || name.starts_with("prompt");
        *value = if input { json!(count.to_string()) } else { json!(count.saturating_neg()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(path: &str, body: &str, script: &str) -> Counts {
        let script = super::super::Script::read(script).unwrap();
        Counts::of(&Asked::read(path, body.as_bytes()), &script.usage)
    }

    #[test]
    fn an_answer_keeps_to_the_limit_of_its_request_unless_told_otherwise() {
        let chat = "/v1/chat/completions";
        let output = |body, script| counts(chat, body, script).output;
        assert_eq!(output("{}", "tokens=90"), 90);
        assert_eq!(output(r#"{"max_tokens":20}"#, "tokens=90"), 20);
        assert_eq!(output(r#"{"max_tokens":20,"n":3}"#, "tokens=90"), 60);
        assert_eq!(output(r#"{"max_tokens":20,"n":3}"#, "tokens=90;over"), 270);
        assert_eq!(output(r#"{"max_tokens":20}"#, "tokens=7"), 7);
        assert_eq!(counts("/v1/completions", "{}", "tokens=90").output, 16);
        assert_eq!(counts("/v1/embeddings", "{}", "tokens=90").output, 0);
        let images = counts("/v1/images/generations", r#"{"n":3}"#, "tokens=90");
        assert_eq!((images.output, images.images), (90, 3));
    }

    #[test]
    fn each_provider_words_the_same_counts_its_own_way() {
        let script = "input=100;cached=60;cache_written=30;tokens=50;reasoning=20";
        let all = counts("/v1/messages", "{}", script);
        assert_eq!(counts("/v1/chat/completions", "{}", script).cache_written, 0);
        let has = |shape, pointer: &str, count: u64| {
            let usage = worded(shape, all, false).unwrap();
            assert_eq!(usage.pointer(pointer), Some(&json!(count)), "{shape:?} {pointer} in {usage}");
        };
        has(Shape::Chat, "/prompt_tokens", 100);
        has(Shape::Chat, "/prompt_tokens_details/cached_tokens", 60);
        has(Shape::Chat, "/completion_tokens_details/reasoning_tokens", 20);
        has(Shape::Messages, "/input_tokens", 10);
        has(Shape::Messages, "/cache_read_input_tokens", 60);
        has(Shape::Messages, "/cache_creation_input_tokens", 30);
        has(Shape::Responses, "/output_tokens_details/reasoning_tokens", 20);
        has(Shape::Gemini, "/candidatesTokenCount", 30);
        has(Shape::Gemini, "/thoughtsTokenCount", 20);
        let odd = worded(Shape::Chat, all, true).unwrap();
        assert_eq!((&odd["prompt_tokens"], &odd["completion_tokens"]), (&json!("100"), &json!(-50)));
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let all = counts("/v1/chat/completions", "{}", "tokens=50");
        assert_eq!((all.so_far(1, 3).output, all.so_far(3, 3)), (16, all));
    }
}
