//! In which of two forms an answer comes: one document, or events.

/// How the bytes of an answer are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON document.
    Document,
    /// Server-sent events, with a JSON document in each.
    Events,
}

impl Format {
    /// What a `content-type` names: `application/json` and `…+json` (RFC 6839) are a document, `text/event-stream`
    /// (WHATWG HTML, section 9.2) is events. Case and parameters mean nothing; `None` for every other type.
    #[must_use]
    pub fn of(content_type: &[u8]) -> Option<Self> {
        let kind = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let json = kind.len().checked_sub(5).and_then(|at| kind.get(at..));
        if kind.eq_ignore_ascii_case(b"application/json")
            || (json.is_some_and(|end| end.eq_ignore_ascii_case(b"+json")) && kind.contains(&b'/'))
        {
            Some(Self::Document)
        } else if kind.eq_ignore_ascii_case(b"text/event-stream") {
            Some(Self::Events)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_names_a_format() {
        for (text, format) in [
            ("application/json", Some(Format::Document)),
            ("Application/JSON; charset=UTF-8", Some(Format::Document)),
            (" application/json ;x", Some(Format::Document)),
            ("application/problem+json", Some(Format::Document)),
            ("application/vnd.api+JSON;a=b", Some(Format::Document)),
            ("text/event-stream", Some(Format::Events)),
            ("TEXT/Event-Stream; charset=utf-8", Some(Format::Events)),
            ("+json", None),
            ("application/jsonl", None),
            ("application/x-json", None),
            ("text/event-streams", None),
            ("application/vnd.amazon.eventstream", None),
            ("text/html; a=application/json", None),
            ("", None),
            (";", None),
        ] {
            assert_eq!(Format::of(text.as_bytes()), format, "{text}");
        }
    }
}
