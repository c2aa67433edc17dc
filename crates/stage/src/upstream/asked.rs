//! What a request asks for, as its provider would read it: whose shape, which model, how many answers, how long.

use serde_json::Value;

/// More answers than this are not made, whoever asks.
const CHOICES_MAX: u64 = 128;
/// What an old completion is limited to that states no limit (OpenAI, "Create completion").
const COMPLETION_TOKENS: u64 = 16;

/// Whose shape an answer has; the end of the path tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Chat,
    /// The old completions.
    Completions,
    Messages,
    Responses,
    Embeddings,
    Images,
    Gemini,
    Models,
    /// An app's own handler: it only acknowledges.
    Other,
}

impl Shape {
    pub(crate) fn of(path: &str) -> Self {
        let ends = |end: &str| path.ends_with(end);
        match () {
            () if ends("/chat/completions") => Self::Chat,
            () if ends("/completions") => Self::Completions,
            () if ends("/messages") => Self::Messages,
            () if ends("/responses") => Self::Responses,
            () if ends("/embeddings") => Self::Embeddings,
            () if ends("/images/generations") => Self::Images,
            () if ends("/models") => Self::Models,
            () if ends(":generateContent") || ends(":streamGenerateContent") => Self::Gemini,
            () => Self::Other,
        }
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) shape: Shape,
    pub(crate) model: String,
    pub(crate) stream: bool,
    /// `stream_options.include_usage`.
    pub(crate) include_usage: bool,
    /// Answers, or images, or embeddings.
    pub(crate) choices: u64,
    /// Answers that are made, of which only the best are given.
    pub(crate) made: u64,
    /// The most output tokens of each.
    pub(crate) limit: Option<u64>,
}

impl Asked {
    /// Reads a request; what is no JSON asks for nothing.
    pub(crate) fn read(path: &str, body: &[u8]) -> Self {
        let shape = Shape::of(path);
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let count = |pointer: &str| body.pointer(pointer).and_then(Value::as_u64);
        let yes = |pointer: &str| body.pointer(pointer) == Some(&Value::Bool(true));
        let many = |pointer: &str| {
            let list = body.pointer(pointer).and_then(Value::as_array);
            // A list of numbers is one text in tokens.
            let texts = list.filter(|list| !list.iter().all(Value::is_number)).map_or(1, Vec::len);
            u64::try_from(texts).unwrap_or(CHOICES_MAX)
        };
        let n = count("/n").unwrap_or(1);
        let (choices, made) = match shape {
            Shape::Embeddings => (many("/input"), 0),
            Shape::Completions => {
                let prompts = many("/prompt");
                let best = count("/best_of").unwrap_or(n).max(n);
                (n.saturating_mul(prompts), best.saturating_mul(prompts))
            }
            Shape::Gemini => {
                let n = count("/generationConfig/candidateCount").unwrap_or(1);
                (n, n)
            }
            _ => (n, n),
        };
        let limit =
            ["/max_completion_tokens", "/max_tokens", "/max_output_tokens"].into_iter().find_map(count);
        let limit = match shape {
            Shape::Completions => limit.or(Some(COMPLETION_TOKENS)),
            Shape::Gemini => count("/generationConfig/maxOutputTokens"),
            Shape::Embeddings | Shape::Images => None,
            _ => limit,
        };
        let named = body.get("model").and_then(Value::as_str).map(str::to_owned);
        Self {
            shape,
            model: named.or_else(|| in_path(path)).unwrap_or_else(|| "scripted".into()),
            stream: yes("/stream") || path.ends_with(":streamGenerateContent"),
            include_usage: yes("/stream_options/include_usage"),
            choices: choices.clamp(1, CHOICES_MAX),
            made: made.min(CHOICES_MAX),
            limit,
        }
    }
}

/// `…/models/NAME:generateContent` names the model in the path.
fn in_path(path: &str) -> Option<String> {
    let (name, verb) = path.rsplit_once('/')?.1.split_once(':')?;
    verb.ends_with("enerateContent").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_path_tells_the_shape() {
        for (path, shape) in [
            ("/v1/chat/completions", Shape::Chat),
            ("/v1/metered/chat/completions", Shape::Chat),
            ("/v1/completions", Shape::Completions),
            ("/api/messages", Shape::Messages),
            ("/v1beta/models/gemini-x:streamGenerateContent", Shape::Gemini),
            ("/webhooks/app", Shape::Other),
        ] {
            assert_eq!(Shape::of(path), shape, "{path}");
        }
    }

    #[test]
    fn limits_and_numbers_of_answers_are_read_where_each_provider_has_them() {
        let read = |path: &str, body: &str| {
            let asked = Asked::read(path, body.as_bytes());
            (asked.choices, asked.made, asked.limit)
        };
        assert_eq!(read("/v1/chat/completions", r#"{"n":2,"max_tokens":9}"#), (2, 2, Some(9)));
        assert_eq!(
            read("/v1/chat/completions", r#"{"max_completion_tokens":8,"max_tokens":9}"#),
            (1, 1, Some(8))
        );
        assert_eq!(read("/v1/responses", r#"{"max_output_tokens":7}"#), (1, 1, Some(7)));
        assert_eq!(read("/v1/completions", r#"{"prompt":["a","b"],"n":2,"best_of":3}"#), (4, 6, Some(16)));
        assert_eq!(read("/v1/completions", r#"{"prompt":[1,2,3]}"#), (1, 1, Some(16)));
        assert_eq!(read("/v1/embeddings", r#"{"input":["a","b"]}"#), (2, 0, None));
        let gemini = r#"{"generationConfig":{"candidateCount":3,"maxOutputTokens":5}}"#;
        assert_eq!(read("/v1beta/models/g:generateContent", gemini), (3, 3, Some(5)));
        assert_eq!(Asked::read("/v1beta/models/g:generateContent", b"").model, "g");
        assert_eq!(read("/v1/chat/completions", r#"{"n":1000000}"#).0, CHOICES_MAX);
    }
}
