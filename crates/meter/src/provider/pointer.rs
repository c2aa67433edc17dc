//! Any provider of which an operator says where it states what.

use super::{Found, Known, Numbers};
use crate::walk::Field;

pub(crate) fn settle(found: &Found<'_>, known: &mut Known) {
    if let Some(model) = found.name(Field::Model, 0) {
        known.model = Some(model.to_owned());
    }
    if let Some(new) = found.usage(0, known) {
        let old = known.numbers;
        known.numbers = Numbers { input: new.input.or(old.input), output: new.output.or(old.output), ..old };
        known.put(known.numbers);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::{Certainty, Counts, Pointer, Pointers, Source, Stated};
    use std::rc::Rc;

    fn source(input: &str, output: &str, model: &str) -> Source {
        let [input, output, model] = [input, output, model].map(Pointer::parse);
        Source::Pointers(Rc::new(Pointers { input, output, model }))
    }

    #[test]
    fn numbers_stand_where_the_operator_says() {
        let cohere = source("/usage/tokens/input_tokens", "/usage/tokens/output_tokens", "/meta/model");
        let body = r#"{"usage":{"tokens":{"input_tokens":5,"output_tokens":6},"input_tokens":99},"meta":{"model":"c"}}"#;
        let read = document(&cohere, body);
        assert_eq!(
            (read.counts, read.certainty),
            (Some(Counts { input: 5, output: 6, ..NONE }), Certainty::Exact)
        );
        assert_eq!(read.model.as_deref(), Some("c"));
        let list = source("/0/n", "/1/a~1b", "");
        let counts = |body: &str| document(&list, body).counts.map(|it| (it.input, it.output));
        assert_eq!(counts(r#"[{"n":1},{"a/b":2},{"n":3}]"#), Some((1, 2)));
        assert_eq!(counts(r#"{"0":{"n":4},"1":{"a/b":5}}"#), Some((4, 5)));
        assert_eq!(counts(r#"{"0":{"n":4},"0":{"m":5}}"#), None);
        assert_eq!(counts("[1,2]"), None);
        let same = source("/n", "/n", "");
        assert_eq!(document(&same, r#"{"n":7}"#).counts, Some(Counts { input: 7, output: 7, ..NONE }));
        let read = document(&same, r#"{"n":-7}"#);
        assert_eq!((read.counts, read.odd), (None, true));
    }

    #[test]
    fn what_was_written_is_not_known() {
        let source = source("/i", "/o", "/m");
        let read = document(&source, r#"{"text":"abc","error":{}}"#);
        assert_eq!((read.written, read.counts, read.failed), (None, None, false));
        assert_eq!(events(&source, "").written, None);
    }

    #[test]
    fn the_last_event_that_has_it_counts() {
        let source = source("/i", "/o", "/m");
        let stream = "data: {\"i\":1,\"m\":\"a\"}\n\ndata: {\"o\":2}\n\ndata: {\"o\":3}\n\ndata: {}\n\n";
        let read = events(&source, stream);
        assert_eq!(
            (read.counts, read.certainty),
            (Some(Counts { input: 1, output: 3, ..NONE }), Certainty::AtLeast)
        );
        assert_eq!(read.stated, BOTH);
        let first = events(&source, stream.split_inclusive("\n\n").next().unwrap());
        assert_eq!(first.stated, Stated { input: true, output: false });
        assert_eq!(events(&source, &format!("{stream}data: [DONE]\n\n")).certainty, Certainty::Exact);
    }
}
