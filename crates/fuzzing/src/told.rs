//! What an answer delivered, and whether it says that it failed, to a reader of the whole.

use meter::Source;
use serde_json::Value;

/// Does a document say that the answer failed?
pub(crate) fn fails(source: &Source, is_event: bool, kind: &str, doc: &Value) -> bool {
    let is_error = |it: &Value| it.is_object() || it.as_str().is_some_and(|it| !it.is_empty());
    // Of several elements with an error, the last one tells.
    let mut elements = doc.as_array().into_iter().flatten();
    let listed = elements.rfind(|it| it.get("error").is_some()).is_some_and(|it| is_error(&it["error"]));
    let word = match source {
        Source::Pointers(_) => return false,
        Source::Anthropic => kind == "error",
        Source::OpenAiResponses if is_event => ["error", "response.failed"].contains(&kind),
        Source::OpenAiResponses => doc["status"] == "failed",
        Source::Gemini => listed,
        _ => false,
    };
    word || doc.get("error").is_some_and(is_error)
}

/// Bytes of text at the places where providers put it.
pub(crate) fn written(source: &Source, doc: &Value) -> u64 {
    let paths: &[&str] = match source {
        Source::OpenAi => &[
            "choices.*.text",
            "choices.*.M.content",
            "choices.*.M.content.*.text",
            "choices.*.M.reasoning_content",
            "choices.*.M.reasoning",
            "choices.*.M.refusal",
            "choices.*.M.tool_calls.*.function.name",
            "choices.*.M.tool_calls.*.function.arguments",
            "choices.*.M.tool_calls.*.custom.name",
            "choices.*.M.tool_calls.*.custom.input",
            "choices.*.M.function_call.name",
            "choices.*.M.function_call.arguments",
        ],
        Source::OpenAiResponses => &[
            "delta",
            "output.*.content.*.text",
            "output.*.content.*.refusal",
            "output.*.summary.*.text",
            "output.*.name",
            "output.*.arguments",
            "output.*.input",
        ],
        Source::Anthropic => &[
            "delta.text",
            "delta.thinking",
            "delta.partial_json",
            "content_block.name",
            "content.*.text",
            "content.*.thinking",
            "content.*.name",
        ],
        Source::Gemini => &[
            "candidates.*.content.parts.*.text",
            "candidates.*.content.parts.*.functionCall.name",
            "*.candidates.*.content.parts.*.text",
            "*.candidates.*.content.parts.*.functionCall.name",
        ],
        Source::OpenAiImages | Source::Pointers(_) => &[],
    };
    fn sum(value: &Value, steps: &[&str]) -> u64 {
        match steps.split_first() {
            None => value.as_str().map_or(0, |text| u64::try_from(text.len()).unwrap()),
            Some((&"*", rest)) => value.as_array().into_iter().flatten().map(|it| sum(it, rest)).sum(),
            Some((&"M", rest)) => ["delta", "message"].iter().map(|name| sum(&value[*name], rest)).sum(),
            Some((name, rest)) => value.get(*name).map_or(0, |it| sum(it, rest)),
        }
    }
    paths.iter().map(|path| sum(doc, &path.split('.').collect::<Vec<_>>())).sum()
}
