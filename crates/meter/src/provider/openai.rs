//! OpenAI's chat completions, completions and embeddings (platform.openai.com/docs/api-reference), and all who speak like it.
//!
//! A stream's usage comes in a chunk of its own with no choices, on the last chunk that has some, or in every chunk,
//! growing: the last one is the whole. Groq states it a second time in `x_groq`, DeepSeek counts what was cached in
//! `prompt_cache_hit_tokens`, and xAI counts thoughts beside `completion_tokens`, which the total tells.

use super::{Found, Known, Numbers, path};
use crate::walk::{Field, Path, Slot};

pub(crate) const PATHS: &[Path] = &[
    path(Field::Usage, &["usage"]),
    path(Field::Input, &["usage", "prompt_tokens"]),
    path(Field::Output, &["usage", "completion_tokens"]),
    path(Field::Total, &["usage", "total_tokens"]),
    path(Field::Cached, &["usage", "prompt_tokens_details", "cached_tokens"]),
    path(Field::CachedToo, &["usage", "prompt_cache_hit_tokens"]),
    path(Field::Reasoning, &["usage", "completion_tokens_details", "reasoning_tokens"]),
    path(Field::Usage, &["x_groq", "usage"]).at(1),
    path(Field::Input, &["x_groq", "usage", "prompt_tokens"]).at(1),
    path(Field::Output, &["x_groq", "usage", "completion_tokens"]).at(1),
    path(Field::Cached, &["x_groq", "usage", "prompt_tokens_details", "cached_tokens"]).at(1),
    path(Field::Reasoning, &["x_groq", "usage", "completion_tokens_details", "reasoning_tokens"]).at(1),
    path(Field::Model, &["model"]),
    path(Field::Error, &["error"]),
    path(Field::List, &["choices"]),
    path(Field::Text, &["choices", "*", "text"]),
    path(Field::Text, &["choices", "*", "delta", "content"]),
    path(Field::Text, &["choices", "*", "delta", "content", "*", "text"]),
    path(Field::Text, &["choices", "*", "delta", "reasoning_content"]),
    path(Field::Text, &["choices", "*", "delta", "reasoning"]),
    path(Field::Text, &["choices", "*", "delta", "refusal"]),
    path(Field::Text, &["choices", "*", "delta", "tool_calls", "*", "function", "name"]),
    path(Field::Text, &["choices", "*", "delta", "tool_calls", "*", "function", "arguments"]),
    path(Field::Text, &["choices", "*", "delta", "tool_calls", "*", "custom", "name"]),
    path(Field::Text, &["choices", "*", "delta", "tool_calls", "*", "custom", "input"]),
    path(Field::Text, &["choices", "*", "delta", "function_call", "name"]),
    path(Field::Text, &["choices", "*", "delta", "function_call", "arguments"]),
    path(Field::Text, &["choices", "*", "message", "content"]),
    path(Field::Text, &["choices", "*", "message", "content", "*", "text"]),
    path(Field::Text, &["choices", "*", "message", "reasoning_content"]),
    path(Field::Text, &["choices", "*", "message", "reasoning"]),
    path(Field::Text, &["choices", "*", "message", "refusal"]),
    path(Field::Text, &["choices", "*", "message", "tool_calls", "*", "function", "name"]),
    path(Field::Text, &["choices", "*", "message", "tool_calls", "*", "function", "arguments"]),
    path(Field::Text, &["choices", "*", "message", "tool_calls", "*", "custom", "name"]),
    path(Field::Text, &["choices", "*", "message", "tool_calls", "*", "custom", "input"]),
    path(Field::Text, &["choices", "*", "message", "function_call", "name"]),
    path(Field::Text, &["choices", "*", "message", "function_call", "arguments"]),
];

pub(crate) fn settle(found: &Found<'_>, known: &mut Known) {
    found.deliver(found.walk.text(), known);
    if found.is_event && found.walk.may_have_text() {
        // Whatever seemed to be the end was not.
        known.complete = false;
    }
    let main = *found.slot(Field::Usage, 0) != Slot::Absent;
    if let Some(numbers) = found.usage(u8::from(!main), known) {
        known.put(with_thoughts(numbers));
        known.complete |= found.list() == Some(0);
    }
}

fn with_thoughts(mut numbers: Numbers) -> Numbers {
    let (input, output) = (numbers.input.unwrap_or(0), numbers.output.unwrap_or(0));
    let thoughts = numbers.reasoning.unwrap_or(0);
    let said = input.saturating_add(output);
    if thoughts > 0 && numbers.total == Some(said.saturating_add(thoughts)) {
        numbers.output = Some(output.saturating_add(thoughts));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::{Certainty, Counts, Source, Stated};

    const SOURCE: Source = Source::OpenAi;

    fn chunk(content: &str, more: &str) -> String {
        format!(
            "data: {{\"model\":\"m\",\"choices\":[{{\"delta\":{{\"content\":\"{content}\"}}}}]{more}}}\n\n"
        )
    }

    #[test]
    fn a_chat_completion_states_its_usage() {
        let body = r#"{"model":"gpt","choices":[{"message":{"content":"héy","tool_calls":[{"function":{"name":"f",
            "arguments":"{}"}}]}}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,
            "prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":5}}}"#;
        let read = document(&SOURCE, body);
        assert_eq!(read.counts, Some(Counts { input: 9, cached: 4, output: 12, reasoning: 5, ..NONE }));
        assert_eq!((read.stated, read.failed), (BOTH, false));
        assert_eq!((read.certainty, read.model.as_deref(), read.odd), (Certainty::Exact, Some("gpt"), false));
        assert_eq!((written(&read).events, written(&read).bytes), (1, 7));
    }

    #[test]
    fn an_embedding_has_no_output() {
        let read = document(
            &SOURCE,
            r#"{"data":[{"embedding":[0.1,-2e-3]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
        );
        assert_eq!(read.counts, Some(Counts { input: 8, ..NONE }));
        assert_eq!(read.stated, Stated { input: true, output: false });
    }

    #[test]
    fn what_is_not_stated_is_told_from_a_zero() {
        for (usage, input, output) in [
            (r#""prompt_tokens":0,"completion_tokens":0"#, true, true),
            (r#""completion_tokens":7"#, false, true),
            (r#""prompt_tokens":7,"completion_tokens":null"#, true, false),
            (r#""completion_tokens_details":{"reasoning_tokens":5}"#, false, false),
            (
                r#""prompt_tokens":9,"total_tokens":14,"completion_tokens_details":{"reasoning_tokens":5}"#,
                true,
                true,
            ),
        ] {
            let read = document(&SOURCE, &format!("{{\"usage\":{{{usage}}}}}"));
            assert!(read.counts.is_some());
            assert_eq!(read.stated, Stated { input, output }, "{usage}");
        }
        let whole = chunk("a", r#","usage":{"prompt_tokens":3,"completion_tokens":2}"#);
        let part = chunk("a", r#","usage":{"completion_tokens":4}"#);
        let odd = chunk("a", r#","usage":{"completion_tokens":-4}"#);
        assert_eq!(events(&SOURCE, &chunk("a", "")).stated, Stated::default());
        for (stream, counts, stated) in [
            (whole.clone() + &part, Counts { output: 4, ..NONE }, Stated { input: false, output: true }),
            (part + &whole, Counts { input: 3, output: 2, ..NONE }, BOTH),
            (whole + &odd, Counts { input: 3, output: 2, ..NONE }, BOTH),
        ] {
            let read = events(&SOURCE, &stream);
            assert_eq!((read.counts, read.stated), (Some(counts), stated), "{stream}");
        }
    }

    #[test]
    fn an_answer_says_itself_that_it_failed() {
        for (error, failed) in [
            (r#"{"message":"no","code":500}"#, true),
            ("{}", true),
            ("\"no\"", true),
            ("\"\"", false),
            ("null", false),
            ("false", false),
            ("[]", false),
            ("0", false),
            (r#"{"a":1},"error":null"#, false),
        ] {
            let body = format!("{{\"error\":{error}}}");
            assert_eq!(document(&SOURCE, &body).failed, failed, "{body}");
            let stream = chunk("a", "") + &format!("data: {body}\n\n") + &chunk("b", "");
            assert_eq!(events(&SOURCE, &stream).failed, failed, "{stream}");
            let within = format!("{{\"choices\":[{{\"error\":{error}}}],\"x\":{{\"error\":{{}}}}}}");
            assert!(!document(&SOURCE, &within).failed, "{within}");
        }
        for bad in ["{\"error\":{}", "{\"error\":{}}x", "{\"error\":{}} {}", "[{\"error\":{}}]"] {
            assert!(!document(&SOURCE, bad).failed, "{bad}");
            assert!(!events(&SOURCE, &format!("data: {bad}\n\n")).failed, "{bad}");
        }
        assert!(!events(&SOURCE, "data: {\"error\":{}}\n").failed, "no event yet");
        assert!(document(&Source::OpenAiImages, r#"{"error":{}}"#).failed);
    }

    #[test]
    fn custom_tools_are_called_in_written_words() {
        let calls = r#""tool_calls":[{"type":"custom","custom":{"name":"ab","input":"cdé"}},{"custom":{"input":"f"}}]"#;
        let whole = document(&SOURCE, &format!(r#"{{"choices":[{{"message":{{{calls}}}}}]}}"#));
        assert_eq!((written(&whole).events, written(&whole).bytes), (1, 7));
        let read = events(&SOURCE, &format!("data: {{\"choices\":[{{\"delta\":{{{calls}}}}}]}}\n\n"));
        assert_eq!(written(&read), written(&whole));
    }

    #[test]
    fn t13_usage_is_taken_wherever_a_stream_states_it() {
        let usage = r#","usage":{"prompt_tokens":3,"completion_tokens":2}"#;
        let riding = chunk("a", "") + &chunk("b", usage);
        let read = events(&SOURCE, &riding);
        assert_eq!(read.counts, Some(Counts { input: 3, output: 2, ..NONE }));
        assert_eq!(read.certainty, Certainty::AtLeast, "more text may follow");
        assert_eq!(events(&SOURCE, &(riding + "data: [DONE]\n\n")).certainty, Certainty::Exact);
        let own = chunk("a", r#","usage":null"#) + &format!("data: {{\"choices\":[]{usage}}}\n\n");
        let read = events(&SOURCE, &own);
        assert_eq!(read.counts, Some(Counts { input: 3, output: 2, ..NONE }));
        assert_eq!((read.certainty, read.odd), (Certainty::Exact, false));
        assert_eq!(events(&SOURCE, &(own + &chunk("b", ""))).certainty, Certainty::AtLeast);
    }

    #[test]
    fn growing_usage_is_never_summed() {
        let stream: String = (1..=5)
            .map(|n| chunk("a", &format!(r#","usage":{{"prompt_tokens":3,"completion_tokens":{n}}}"#)))
            .collect();
        assert_eq!(events(&SOURCE, &stream).counts, Some(Counts { input: 3, output: 5, ..NONE }));
    }

    #[test]
    fn groq_states_it_once_more() {
        let usage = r#"{"prompt_tokens":3,"completion_tokens":2}"#;
        let only = format!("data: {{\"choices\":[],\"x_groq\":{{\"id\":\"r\",\"usage\":{usage}}}}}\n\n");
        let both = format!("data: {{\"choices\":[],\"usage\":{usage},\"x_groq\":{{\"usage\":{usage}}}}}\n\n");
        for stream in [only, both] {
            assert_eq!(events(&SOURCE, &stream).counts, Some(Counts { input: 3, output: 2, ..NONE }));
        }
    }

    #[test]
    fn other_servers_count_in_other_words() {
        let deepseek = r#"{"usage":{"prompt_tokens":9,"completion_tokens":1,"prompt_cache_hit_tokens":8,"prompt_cache_miss_tokens":1}}"#;
        assert_eq!(document(&SOURCE, deepseek).counts.unwrap().cached, 8);
        assert_eq!(
            document(&SOURCE, &deepseek.replace('8', "80")).counts.unwrap().cached,
            9,
            "no more than all"
        );
        let xai = r#"{"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":310,
            "completion_tokens_details":{"reasoning_tokens":300}}}"#;
        let counts = document(&SOURCE, xai).counts.unwrap();
        assert_eq!((counts.output, counts.reasoning), (301, 300));
        let within = r#"{"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10,
            "completion_tokens_details":{"reasoning_tokens":300}}}"#;
        let counts = document(&SOURCE, within).counts.unwrap();
        assert_eq!((counts.output, counts.reasoning), (1, 1));
    }

    #[test]
    fn t12_a_stream_that_is_cut_off_tells_what_was_delivered() {
        let read = events(
            &SOURCE,
            &(chunk("abc", "")
                + &chunk("\\u00e9", "")
                + "data: {\"choices\":[{\"delta\":{\"content\":\"lost"),
        );
        assert_eq!((read.counts, read.certainty), (None, Certainty::AtLeast));
        assert_eq!((written(&read).events, written(&read).bytes), (2, 5));
    }

    #[test]
    fn numbers_that_are_none_are_odd() {
        for bad in
            ["-1", "1.0", "1e3", "9007199254740992", "99999999999999999999", "\"5\"", "[]", "{}", "true"]
        {
            for field in ["prompt_tokens", "completion_tokens", "prompt_cache_hit_tokens"] {
                let usage = format!(r#","usage":{{"{field}":{bad}}}"#);
                let read = events(&SOURCE, &chunk("a", &usage));
                assert_eq!((read.counts, read.odd), (None, true), "{usage}");
                let good = chunk("a", r#","usage":{"prompt_tokens":3,"completion_tokens":2}"#);
                let read = events(&SOURCE, &(good + &chunk("a", &usage)));
                assert_eq!((read.counts, read.odd), (Some(Counts { input: 3, output: 2, ..NONE }), true));
            }
        }
        for bad in ["5", "\"x\"", "[]", "true"] {
            let read = document(&SOURCE, &format!("{{\"usage\":{bad}}}"));
            assert_eq!((read.counts, read.odd), (None, true), "{bad}");
        }
        for none in ["{}", "null", "{\"prompt_tokens\":null}", "{\"total_tokens\":-1}"] {
            let read = document(&SOURCE, &format!("{{\"usage\":{none}}}"));
            assert_eq!((read.counts, read.odd), (None, false), "{none}");
        }
        let most = r#"{"usage":{"prompt_tokens":9007199254740991}}"#;
        assert_eq!(document(&SOURCE, most).counts.unwrap().input, 9_007_199_254_740_991);
    }

    #[test]
    fn of_two_keys_the_last_counts() {
        let last = |body: &str| document(&SOURCE, body).counts.map(|it| (it.input, it.output));
        assert_eq!(
            last(r#"{"usage":{"prompt_tokens":5,"completion_tokens":6},"usage":{"prompt_tokens":1}}"#),
            Some((1, 0))
        );
        assert_eq!(last(r#"{"usage":{"prompt_tokens":5,"prompt_tokens":2}}"#), Some((2, 0)));
        assert_eq!(last(r#"{"usage":{"prompt_tokens":5},"us\u0061ge":null}"#), None);
        let twice = r#"{"choices":[{"message":{"content":"aaa"}}],"choices":[{"message":{"content":"b"}}]}"#;
        assert_eq!(
            written(&document(&SOURCE, twice)).bytes,
            0,
            "which of the two was delivered is not known"
        );
        let stream = format!("data: [DONE]\n\ndata: {twice}\n\n");
        assert_eq!(events(&SOURCE, &stream).certainty, Certainty::AtLeast, "some of it was");
    }

    #[test]
    fn what_is_not_whole_states_nothing() {
        let body = r#"{"usage":{"prompt_tokens":5}}"#;
        assert!(document(&SOURCE, body).counts.is_some());
        for bad in [body.trim_end_matches('}'), &(body.to_owned() + "x"), &body.replace('5', "05")] {
            let read = document(&SOURCE, bad);
            assert_eq!((read.counts, read.model, read.certainty), (None, None, Certainty::AtLeast), "{bad}");
        }
        assert_eq!(events(&SOURCE, &format!("data: {body}x\n\n")).counts, None);
        assert_eq!(events(&SOURCE, &format!("data: {body}")).counts, None);
        assert_eq!(events(&SOURCE, &format!("data: {body}\n")).counts, None);
        assert!(events(&SOURCE, &format!("data: {body}\n\n")).counts.is_some());
        assert!(
            events(&SOURCE, "data: {\"usage\":\ndata: {\"prompt_tokens\"\ndata: :5}}\n\n").counts.is_some()
        );
        assert_eq!(events(&SOURCE, &format!("data: \"\ndata: {body}\n\n")).counts, None);
    }

    #[test]
    fn a_model_is_bounded() {
        let model = |name: &str| document(&SOURCE, &format!("{{\"model\":\"{name}\"}}")).model;
        assert_eq!(model(&"m".repeat(256)), Some("m".repeat(256)));
        assert_eq!(model(&"m".repeat(257)), None);
        assert_eq!(model(""), None);
    }
}
