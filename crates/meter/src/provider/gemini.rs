//! Gemini's generateContent and streamGenerateContent (ai.google.dev/api/generate-content): usage in every chunk, growing.
//!
//! Thoughts are counted beside the candidates, and what tools brought in beside the prompt. A stream without
//! `alt=sse` is one array of chunks. No chunk says that it is the last.

use super::{Found, Known, Numbers, path};
use crate::reading::{Counts, Stated};
use crate::walk::{Field, Path, Slot};

pub(crate) const PATHS: &[Path] = &[
    path(Field::Usage, &["usageMetadata"]),
    path(Field::Input, &["usageMetadata", "promptTokenCount"]),
    path(Field::CacheWritten, &["usageMetadata", "toolUsePromptTokenCount"]),
    path(Field::Cached, &["usageMetadata", "cachedContentTokenCount"]),
    path(Field::Output, &["usageMetadata", "candidatesTokenCount"]),
    path(Field::Reasoning, &["usageMetadata", "thoughtsTokenCount"]),
    path(Field::Model, &["modelVersion"]),
    path(Field::Error, &["error"]),
    path(Field::Text, &["candidates", "*", "content", "parts", "*", "text"]),
    path(Field::Text, &["candidates", "*", "content", "parts", "*", "functionCall", "name"]),
    path(Field::Usage, &["*", "usageMetadata"]).at(1),
    path(Field::Input, &["*", "usageMetadata", "promptTokenCount"]).at(1),
    path(Field::CacheWritten, &["*", "usageMetadata", "toolUsePromptTokenCount"]).at(1),
    path(Field::Cached, &["*", "usageMetadata", "cachedContentTokenCount"]).at(1),
    path(Field::Output, &["*", "usageMetadata", "candidatesTokenCount"]).at(1),
    path(Field::Reasoning, &["*", "usageMetadata", "thoughtsTokenCount"]).at(1),
    path(Field::Model, &["*", "modelVersion"]).at(1),
    path(Field::Error, &["*", "error"]).at(1),
    path(Field::Text, &["*", "candidates", "*", "content", "parts", "*", "text"]),
    path(Field::Text, &["*", "candidates", "*", "content", "parts", "*", "functionCall", "name"]),
];

pub(crate) fn settle(found: &Found<'_>, known: &mut Known) {
    found.deliver(found.walk.text(), known);
    let main = *found.slot(Field::Usage, 0) != Slot::Absent;
    if let Some(numbers) = found.usage(u8::from(!main), known) {
        // A number that is zero is left out: whoever thought and said nothing states no candidates.
        let output = numbers.output.is_some() || numbers.reasoning.is_some();
        known.stated = Stated { input: numbers.input.is_some(), output };
        known.counts = Some(counts(numbers));
    }
}

fn counts(numbers: Numbers) -> Counts {
    // The slot of `cache_written`, which Gemini does not state, has what tools brought in.
    let tools = numbers.cache_written.unwrap_or(0);
    let reasoning = numbers.reasoning.unwrap_or(0);
    let input = numbers.input.unwrap_or(0).saturating_add(tools);
    let output = numbers.output.unwrap_or(0).saturating_add(reasoning);
    Numbers { input: Some(input), cache_written: None, output: Some(output), ..numbers }.counts()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::{Certainty, Counts, Source, Stated};

    const SOURCE: Source = Source::Gemini;

    fn chunk(text: &str, usage: &str) -> String {
        format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}]}}}}],"usageMetadata":{usage},"modelVersion":"g"}}"#
        )
    }

    #[test]
    fn thoughts_are_output_and_tools_are_input() {
        let usage = r#"{"promptTokenCount":8,"cachedContentTokenCount":3,"toolUsePromptTokenCount":100,
            "candidatesTokenCount":18,"thoughtsTokenCount":433,"totalTokenCount":559}"#;
        let read = document(&SOURCE, &chunk("abc", usage));
        let counts = Counts { input: 108, cached: 3, output: 451, reasoning: 433, ..NONE };
        assert_eq!((read.counts, read.certainty), (Some(counts), Certainty::Exact));
        assert_eq!((read.model.as_deref(), written(&read).bytes), (Some("g"), 3));
    }

    #[test]
    fn what_is_stated_and_a_failure_are_told() {
        for (usage, input, output) in [
            (r#"{"promptTokenCount":8,"totalTokenCount":8}"#, true, false),
            (r#"{"promptTokenCount":8,"thoughtsTokenCount":5}"#, true, true),
            (r#"{"candidatesTokenCount":8,"toolUsePromptTokenCount":5}"#, false, true),
        ] {
            let read = document(&SOURCE, &chunk("a", usage));
            assert_eq!((read.stated, read.failed), (Stated { input, output }, false), "{usage}");
        }
        let error = r#"{"error":{"code":503,"status":"UNAVAILABLE"}}"#;
        let usage = chunk("a", r#"{"promptTokenCount":8}"#);
        assert!(document(&SOURCE, error).failed);
        assert!(document(&SOURCE, &format!("[{usage},{error}]")).failed);
        assert!(events(&SOURCE, &format!("data: {usage}\n\ndata: {error}\n\n")).failed);
        assert!(!document(&SOURCE, &format!("[[{error}]]")).failed);
    }

    #[test]
    fn the_last_chunk_is_the_whole() {
        let chunks = [
            chunk("a", r#"{"promptTokenCount":8,"candidatesTokenCount":1,"thoughtsTokenCount":5}"#),
            chunk("b", r#"{"promptTokenCount":8,"candidatesTokenCount":2}"#),
            chunk("c", r#"{"trafficType":"ON_DEMAND"}"#),
        ];
        let stream: String = chunks.iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect();
        let read = events(&SOURCE, &stream);
        let counts = Some(Counts { input: 8, output: 2, ..NONE });
        assert_eq!((read.counts, read.certainty, read.odd), (counts, Certainty::AtLeast, false));
        assert_eq!((written(&read).events, written(&read).bytes), (3, 3));
        let array = format!("[{}]", chunks[..2].join(",\r\n"));
        let read = document(&SOURCE, &array);
        assert_eq!((read.counts, read.certainty), (counts, Certainty::Exact));
        assert_eq!((read.model.as_deref(), written(&read).bytes), (Some("g"), 2));
        assert_eq!(
            document(&SOURCE, &format!("{{\"*\":{}}}", chunks[0])).counts,
            None,
            "a key, not an element"
        );
    }
}
