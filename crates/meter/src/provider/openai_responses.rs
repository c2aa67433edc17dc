//! OpenAI's Responses (platform.openai.com/docs/api-reference/responses): usage in the document, or in the event that ends a stream.

use super::{Found, Known, path};
use crate::walk::{Field, Path};

pub(crate) const PATHS: &[Path] = &[
    path(Field::Usage, &["usage"]),
    path(Field::Input, &["usage", "input_tokens"]),
    path(Field::Cached, &["usage", "input_tokens_details", "cached_tokens"]),
    path(Field::Output, &["usage", "output_tokens"]),
    path(Field::Reasoning, &["usage", "output_tokens_details", "reasoning_tokens"]),
    path(Field::Usage, &["response", "usage"]).at(1),
    path(Field::Input, &["response", "usage", "input_tokens"]).at(1),
    path(Field::Cached, &["response", "usage", "input_tokens_details", "cached_tokens"]).at(1),
    path(Field::Output, &["response", "usage", "output_tokens"]).at(1),
    path(Field::Reasoning, &["response", "usage", "output_tokens_details", "reasoning_tokens"]).at(1),
    path(Field::Model, &["model"]),
    path(Field::Error, &["error"]),
    path(Field::Model, &["response", "model"]).at(1),
    path(Field::Kind, &["type"]),
    path(Field::Status, &["status"]),
    path(Field::Text, &["delta"]),
    path(Field::Text, &["output", "*", "content", "*", "text"]),
    path(Field::Text, &["output", "*", "content", "*", "refusal"]),
    path(Field::Text, &["output", "*", "summary", "*", "text"]),
    path(Field::Text, &["output", "*", "name"]),
    path(Field::Text, &["output", "*", "arguments"]),
    path(Field::Text, &["output", "*", "input"]),
];

/// The events after which a response does not go on.
const LAST: [&str; 3] = ["response.completed", "response.incomplete", "response.failed"];

pub(crate) fn settle(found: &Found<'_>, known: &mut Known) {
    let kind = found.name(Field::Kind, 0);
    if found.is_event {
        known.failed |= matches!(kind, Some("error" | "response.failed"));
        let is_delta = kind.is_some_and(|kind| kind.ends_with(".delta"));
        found.deliver(if is_delta { found.walk.text() } else { 0 }, known);
        if !kind.is_some_and(|kind| LAST.contains(&kind)) {
            return;
        }
        known.complete = true;
    } else {
        found.deliver(found.walk.text(), known);
        let status = found.name(Field::Status, 0);
        known.failed |= status == Some("failed");
        // A response in the background is fetched before it is finished.
        known.complete = !matches!(status, Some("queued" | "in_progress"));
    }
    if let Some(numbers) = found.usage(u8::from(found.is_event), known) {
        known.put(numbers);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::{Certainty, Counts, Source, Stated};

    const SOURCE: Source = Source::OpenAiResponses;
    const USAGE: &str = r#""usage":{"input_tokens":18,"input_tokens_details":{"cached_tokens":7},"output_tokens":79,
        "output_tokens_details":{"reasoning_tokens":64},"total_tokens":97}"#;
    const COUNTS: Counts = Counts { input: 18, cached: 7, output: 79, reasoning: 64, ..NONE };

    #[test]
    fn a_document_states_its_usage() {
        let body = format!(
            r#"{{"status":"completed","model":"m","output":[{{"type":"message","content":[{{"text":"abc"}}]}},
                {{"type":"function_call","name":"f","arguments":"{{}}"}}],{USAGE}}}"#
        );
        let read = document(&SOURCE, &body);
        assert_eq!((read.counts, read.certainty), (Some(COUNTS), Certainty::Exact));
        assert_eq!((read.model.as_deref(), written(&read).bytes), (Some("m"), 6));
        let waiting = document(&SOURCE, r#"{"status":"in_progress","usage":null,"output":[]}"#);
        assert_eq!((waiting.counts, waiting.certainty, waiting.odd), (None, Certainty::AtLeast, false));
    }

    #[test]
    fn t13_a_stream_states_it_at_its_end() {
        let event = |kind: &str, rest: &str| {
            format!("event: {kind}\ndata: {{\"type\":\"{kind}\",{}}}\n\n", rest.replace('\n', ""))
        };
        let before = event("response.created", r#""response":{"model":"m","usage":null}"#)
            + &event("response.output_text.delta", r#""delta":"ab""#)
            + &event("response.output_text.done", r#""text":"ab","delta":"not counted""#);
        let read = events(&SOURCE, &before);
        assert_eq!((read.counts, read.certainty), (None, Certainty::AtLeast));
        assert_eq!((written(&read).events, written(&read).bytes, read.model.as_deref()), (1, 2, Some("m")));
        for kind in super::LAST {
            let stream = before.clone() + &event(kind, &format!("\"response\":{{{USAGE}}}"));
            let read = events(&SOURCE, &stream);
            assert_eq!((read.counts, read.certainty), (Some(COUNTS), Certainty::Exact), "{kind}");
        }
        let call = before.clone() + &event("response.custom_tool_call_input.delta", r#""delta":"xyz""#);
        assert_eq!(written(&events(&SOURCE, &call)).bytes, 5, "a custom tool is called in words");
        let other = before + &event("response.in_progress", &format!("\"response\":{{{USAGE}}}"));
        assert_eq!(events(&SOURCE, &other).counts, None);
    }

    #[test]
    fn custom_tools_are_called_in_written_words() {
        let body = r#"{"output":[{"type":"custom_tool_call","name":"ab","input":"cde"}]}"#;
        assert_eq!(written(&document(&SOURCE, body)).bytes, 5);
    }

    #[test]
    fn a_response_says_itself_that_it_failed() {
        for (body, failed) in [
            (r#"{"type":"response.failed","response":{"status":"failed","usage":null}}"#, true),
            (r#"{"type":"error","code":"server_error","message":"no"}"#, true),
            (r#"{"type":"response.incomplete","response":{"error":{},"usage":null}}"#, false),
            (r#"{"type":"response.completed","response":{"error":null}}"#, false),
            (r#"{"type":"other","error":{}}"#, true),
        ] {
            let read = events(&SOURCE, &format!("data: {body}\n\n"));
            assert_eq!((read.failed, read.counts, read.stated), (failed, None, Stated::default()), "{body}");
        }
        let stated = format!("data: {{\"type\":\"response.failed\",\"response\":{{{USAGE}}}}}\n\n");
        let read = events(&SOURCE, &stated.replace("\n        ", ""));
        assert_eq!((read.failed, read.counts, read.stated), (true, Some(COUNTS), BOTH));
        assert!(document(&SOURCE, r#"{"status":"failed","error":null}"#).failed);
        assert!(!document(&SOURCE, r#"{"status":"completed","error":null}"#).failed);
    }
}
