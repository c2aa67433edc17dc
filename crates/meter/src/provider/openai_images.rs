//! OpenAI's images (platform.openai.com/docs/api-reference/images): the images are counted, and tokens where they are stated.

use super::{Found, Known, path};
use crate::reading::Counts;
use crate::walk::{Field, Path};

pub(crate) const PATHS: &[Path] = &[
    path(Field::Usage, &["usage"]),
    path(Field::Input, &["usage", "input_tokens"]),
    path(Field::Output, &["usage", "output_tokens"]),
    path(Field::Cached, &["usage", "input_tokens_details", "cached_tokens"]),
    path(Field::Model, &["model"]),
    path(Field::Error, &["error"]),
    path(Field::Kind, &["type"]),
    path(Field::List, &["data"]),
];

pub(crate) fn settle(found: &Found<'_>, known: &mut Known) {
    found.deliver(0, known);
    let numbers = found.usage(0, known);
    // Of a stream, `image_generation.completed` and `image_edit.completed` bring an image each; before it come drafts.
    let completed =
        found.is_event && found.name(Field::Kind, 0).is_some_and(|kind| kind.ends_with(".completed"));
    let images = if found.is_event { u64::from(completed) } else { found.list().unwrap_or(0) };
    if numbers.is_none() && images == 0 {
        return;
    }
    let before = known.counts.unwrap_or_default();
    if let Some(numbers) = numbers {
        known.put(numbers);
    }
    let tokens = known.counts.unwrap_or_default();
    known.counts = Some(Counts { images: before.images.saturating_add(images), ..tokens });
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::{Certainty, Counts, Source, Stated};

    const SOURCE: Source = Source::OpenAiImages;

    #[test]
    fn images_are_counted() {
        let read = document(&SOURCE, r#"{"created":1,"data":[{"url":"a"},{"b64_json":"QUJD"}]}"#);
        assert_eq!((read.counts, read.certainty), (Some(Counts { images: 2, ..NONE }), Certainty::Exact));
        assert_eq!(read.stated, Stated::default());
        let body = r#"{"data":[{"b64_json":"QUJD"}],"usage":{"input_tokens":50,"output_tokens":4160,"total_tokens":4210}}"#;
        assert_eq!(
            document(&SOURCE, body).counts,
            Some(Counts { input: 50, output: 4160, images: 1, ..NONE })
        );
        for none in [r#"{"data":[]}"#, r#"{"error":{}}"#, r#"{"data":{"a":1}}"#] {
            assert_eq!(document(&SOURCE, none).counts, None, "{none}");
        }
    }

    #[test]
    fn a_stream_counts_what_is_finished() {
        let stream = "data: {\"type\":\"image_generation.partial_image\",\"b64_json\":\"QQ\"}\n\n\
            data: {\"type\":\"image_generation.completed\",\"b64_json\":\"QQ\",\"usage\":{\"input_tokens\":5,\"output_tokens\":7}}\n\n";
        let read = events(&SOURCE, stream);
        assert_eq!(
            (read.counts, read.stated),
            (Some(Counts { input: 5, output: 7, images: 1, ..NONE }), BOTH)
        );
        let more = format!("{stream}data: {{\"type\":\"image_generation.completed\"}}\n\n");
        let read = events(&SOURCE, &more);
        assert_eq!(
            (read.counts.unwrap().images, read.stated),
            (2, BOTH),
            "the tokens are those stated before"
        );
    }

    #[test]
    fn an_odd_usage_counts_no_tokens_and_every_image() {
        let read = document(&SOURCE, r#"{"data":[{}],"usage":{"input_tokens":-5}}"#);
        assert_eq!((read.counts, read.odd), (Some(Counts { images: 1, ..NONE }), true));
        assert_eq!(read.stated, Stated::default());
        assert_eq!(document(&SOURCE, r#"{"usage":{"input_tokens":-5}}"#).counts, None);
        let event = |usage: &str| {
            format!(
                "data: {{\"type\":\"image_generation.completed\",\"usage\":{{\"output_tokens\":{usage}}}}}\n\n"
            )
        };
        let read = events(&SOURCE, &(event("7") + &event("7.0")));
        assert_eq!((read.counts, read.odd), (Some(Counts { output: 7, images: 2, ..NONE }), true));
    }
}
