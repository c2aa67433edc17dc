//! Anthropic's Messages (platform.claude.com/docs/en/api/messages): input by three numbers, restated while a stream goes on.
//!
//! `message_start` states the input, `message_delta` the output so far and, where tools ran at the provider, a larger
//! input than before: of each number the last one counts. The output in `message_start` is there before there is any, and
//! says nothing. What was used to sum up a conversation that had become too long stands among the `iterations` alone; the
//! rest of them is in the numbers around them, or not billed (platform.claude.com/docs/en/build-with-claude/compaction).

use super::{Found, Known, Numbers, path};
use crate::reading::Counts;
use crate::walk::{Field, Path, ROUND, Slot, Sum};

pub(crate) const PATHS: &[Path] = &[
    path(Field::Usage, &["usage"]),
    path(Field::Input, &["usage", "input_tokens"]),
    path(Field::Cached, &["usage", "cache_read_input_tokens"]),
    path(Field::CacheWritten, &["usage", "cache_creation_input_tokens"]),
    path(Field::Output, &["usage", "output_tokens"]),
    path(Field::Rounds, &["usage", "iterations"]),
    path(Field::Kind, &["usage", "iterations", "*", "type"]).at(ROUND),
    path(Field::Input, &["usage", "iterations", "*", "input_tokens"]).at(ROUND),
    path(Field::Cached, &["usage", "iterations", "*", "cache_read_input_tokens"]).at(ROUND),
    path(Field::CacheWritten, &["usage", "iterations", "*", "cache_creation_input_tokens"]).at(ROUND),
    path(Field::Output, &["usage", "iterations", "*", "output_tokens"]).at(ROUND),
    path(Field::Usage, &["message", "usage"]).at(1),
    path(Field::Input, &["message", "usage", "input_tokens"]).at(1),
    path(Field::Cached, &["message", "usage", "cache_read_input_tokens"]).at(1),
    path(Field::CacheWritten, &["message", "usage", "cache_creation_input_tokens"]).at(1),
    path(Field::Model, &["model"]),
    path(Field::Model, &["message", "model"]).at(1),
    path(Field::Kind, &["type"]),
    path(Field::Error, &["error"]),
    path(Field::Text, &["delta", "text"]),
    path(Field::Text, &["delta", "thinking"]),
    path(Field::Text, &["delta", "partial_json"]),
    path(Field::Text, &["content_block", "name"]),
    path(Field::Text, &["content", "*", "text"]),
    path(Field::Text, &["content", "*", "thinking"]),
    path(Field::Text, &["content", "*", "name"]),
];

pub(crate) fn settle(found: &Found<'_>, known: &mut Known) {
    found.deliver(found.walk.text(), known);
    known.failed |= found.name(Field::Kind, 0) == Some("error");
    if found.is_event && found.name(Field::Kind, 0) == Some("message_stop") {
        known.complete = true;
    }
    match found.slot(Field::Rounds, 0) {
        Slot::Sum(sum) => known.beside = *sum,
        Slot::Odd => known.odd = true,
        _ => {}
    }
    for place in [1, 0] {
        let Some(new) = found.usage(place, known) else { continue };
        let old = known.numbers;
        known.numbers = Numbers {
            input: new.input.or(old.input),
            cached: new.cached.or(old.cached),
            cache_written: new.cache_written.or(old.cache_written),
            output: new.output.or(old.output),
            ..old
        };
        known.stated = known.numbers.stated();
        known.counts = Some(counts(known.numbers, known.beside));
    }
}

/// `input_tokens` are those beside the cache.
fn counts(numbers: Numbers, beside: Sum) -> Counts {
    let all = |number: Option<u64>, beside: u64| number.unwrap_or(0).saturating_add(beside);
    let cached = all(numbers.cached, beside.cached);
    let cache_written = all(numbers.cache_written, beside.cache_written);
    let input = all(numbers.input, beside.input).saturating_add(cached).saturating_add(cache_written);
    Counts { input, cached, cache_written, output: all(numbers.output, beside.output), ..Counts::default() }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::{Certainty, Counts, Source, Stated};

    const SOURCE: Source = Source::Anthropic;

    fn event(data: &str) -> String {
        format!("event: whatever\ndata: {data}\n\n")
    }

    fn start() -> String {
        event(
            r#"{"type":"message_start","message":{"model":"claude","usage":{"input_tokens":2039,
"cache_creation_input_tokens":5,"cache_read_input_tokens":7,"output_tokens":1}}}"#
                .replace('\n', "")
                .as_str(),
        )
    }

    #[test]
    fn a_document_adds_up_its_input() {
        let read = document(
            &SOURCE,
            r#"{"type":"message","model":"claude","content":[{"type":"text","text":"abc"}],"usage":{"input_tokens":10,
                "cache_creation_input_tokens":20,"cache_read_input_tokens":30,"output_tokens":4}}"#,
        );
        let counts = Counts { input: 60, cached: 30, cache_written: 20, output: 4, ..NONE };
        assert_eq!((read.counts, read.certainty), (Some(counts), Certainty::Exact));
        assert_eq!((read.model.as_deref(), written(&read).bytes), (Some("claude"), 3));
    }

    #[test]
    fn t13_the_last_of_each_number_counts() {
        let first = Counts { input: 2051, cached: 7, cache_written: 5, ..NONE };
        assert_eq!(events(&SOURCE, &start()).counts, Some(first));
        let output = start() + &event(r#"{"type":"message_delta","usage":{"output_tokens":108}}"#);
        let read = events(&SOURCE, &output);
        assert_eq!(
            (read.counts, read.certainty),
            (Some(Counts { output: 108, ..first }), Certainty::AtLeast)
        );
        let larger =
            output + &event(r#"{"type":"message_delta","usage":{"input_tokens":10423,"output_tokens":110}}"#);
        let counts = Counts { input: 10435, output: 110, ..first };
        assert_eq!(events(&SOURCE, &larger).counts, Some(counts));
        let read = events(&SOURCE, &(larger + &event(r#"{"type":"message_stop"}"#)));
        assert_eq!((read.counts, read.certainty), (Some(counts), Certainty::Exact));
    }

    #[test]
    fn t12_what_was_delivered_is_counted() {
        let deltas =
            [r#"{"type":"text_delta","text":"ab"}"#, r#"{"thinking":"c"}"#, r#"{"partial_json":"{}"}"#, "{}"]
                .map(|delta| event(&format!("{{\"type\":\"content_block_delta\",\"delta\":{delta}}}")));
        let read = events(&SOURCE, &(start() + &deltas.concat()));
        assert_eq!((written(&read).events, written(&read).bytes, read.certainty), (3, 5, Certainty::AtLeast));
    }

    #[test]
    fn what_is_stated_adds_up_and_a_failure_is_told() {
        let error = event(r#"{"type":"error","error":{"type":"overloaded_error"}}"#);
        let delta = event(r#"{"type":"message_delta","usage":{"output_tokens":3}}"#);
        let input = Stated { input: true, output: false };
        for (stream, failed, stated) in [
            (start(), false, input),
            (start() + &error, true, input),
            (delta.clone(), false, Stated { input: false, output: true }),
            (delta + &start(), false, BOTH),
            (event(r#"{"type":"error"}"#), true, Stated::default()),
            (
                event(r#"{"usage":{"cache_read_input_tokens":9,"output_tokens":1}}"#),
                false,
                Stated { input: false, output: true },
            ),
        ] {
            let read = events(&SOURCE, &stream);
            assert_eq!((read.failed, read.stated), (failed, stated), "{stream}");
        }
        assert!(document(&SOURCE, r#"{"type":"error","error":{"type":"api_error"}}"#).failed);
    }

    #[test]
    fn an_odd_number_leaves_what_was_stated() {
        let before = events(&SOURCE, &start()).counts;
        for bad in ["-1", "1.5", "\"9\"", "{}"] {
            let stream =
                start() + &event(&format!("{{\"usage\":{{\"output_tokens\":{bad},\"input_tokens\":1}}}}"));
            let read = events(&SOURCE, &stream);
            assert_eq!((read.counts, read.odd), (before, true), "{bad}");
        }
    }

    #[test]
    fn what_was_summed_up_on_the_way_is_used_too() {
        let rounds = |rounds: &str| {
            format!(
                "\"usage\":{{\"input_tokens\":23000,\"cache_read_input_tokens\":7,\"output_tokens\":1000,\"iterations\":{rounds}}}"
            )
        };
        let of = |text: &str| document(&SOURCE, &format!("{{{}}}", rounds(text)));
        let message = r#"{"type":"message","input_tokens":23000,"output_tokens":1000}"#;
        let told = r#"{"type":"compaction","input_tokens":180000,"output_tokens":3500}"#;
        let cached = r#"{"input_tokens":1,"cache_creation_input_tokens":20,"cache_read_input_tokens":300,"output_tokens":4000,"type":"compaction"}"#;
        let declined = r#"{"type":"fallback_message","input_tokens":9,"output_tokens":9}"#;
        let plain = Counts { input: 23_007, cached: 7, output: 1000, ..NONE };
        let more = |input, cached, cache_written, output| Counts {
            input: plain.input + input + cached + cache_written,
            cached: plain.cached + cached,
            cache_written,
            output: plain.output + output,
            ..NONE
        };
        let both = format!("[{told},{message},{cached}]");
        for (text, counts) in [
            ("null".to_owned(), plain),
            ("[]".to_owned(), plain),
            (format!("[{message}]"), plain),
            (format!("[{declined},{message}]"), plain),
            (format!("[{told},{message}]"), more(180_000, 0, 0, 3500)),
            (both.clone(), more(180_001, 300, 20, 7500)),
            (format!("[[{told}],{{\"a\":{told}}},5,{{\"type\":\"compaction\"}}]"), plain),
        ] {
            let read = of(&text);
            assert_eq!(
                (read.counts, read.odd, read.certainty),
                (Some(counts), false, Certainty::Exact),
                "{text}"
            );
        }
        for text in ["5", "{}", &told.replace("3500", "3500.0").replace('{', "[{").replace('}', "}]")] {
            let read = of(text);
            assert_eq!((read.counts, read.odd), (Some(plain), true), "{text}");
        }
        // Of two usages the last counts, and all that is stated in it.
        let twice = format!("{{{},{}}}", rounds(&both), rounds("[]"));
        assert_eq!(document(&SOURCE, &twice).counts, Some(plain));
        let delta = event(&format!("{{\"type\":\"message_delta\",{}}}", rounds(&both)));
        let stream = start() + &delta + &event(r#"{"type":"message_stop"}"#);
        let written = Counts { input: 23_012, cache_written: 5, ..plain };
        let all = more(180_001, 300, 20, 7500);
        let all = Counts { input: all.input + 5, cache_written: 25, ..all };
        assert_eq!(events(&SOURCE, &stream).counts, Some(all), "beside {written:?}");
    }
}
