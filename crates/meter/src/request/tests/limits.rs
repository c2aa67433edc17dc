//! Which stated limit bounds an answer depends on which fields its server knows.

use super::*;

const ONE: LimitField = LimitField::MaxTokens;

/// The request with at most ten tokens.
fn bounded(field: LimitField, body: &str) -> String {
    let edit = Edit { output_max: Some(10), include_usage: false };
    let edited = asked_by(field, &Source::OpenAi, body).edited(body.as_bytes(), &edit);
    edited.map_or_else(|| body.to_owned(), |edited| String::from_utf8(edited).unwrap())
}

#[test]
fn a_limit_counts_where_its_server_knows_the_field() {
    for (members, both, one, wish) in [
        ("", None, None, None),
        (r#","max_tokens":5"#, Some(5), Some(5), None),
        (r#","max_completion_tokens":5"#, Some(5), None, Some(5)),
        (r#","max_tokens":null,"max_completion_tokens":5"#, Some(5), None, Some(5)),
        (r#","max_tokens":5,"max_completion_tokens":null"#, Some(5), Some(5), None),
        // It may know the other one after all.
        (r#","max_tokens":5,"max_completion_tokens":500"#, Some(500), Some(500), None),
        (r#","max_tokens":500,"max_completion_tokens":5"#, Some(500), Some(500), None),
    ] {
        let chat = format!("{{\"messages\":[]{members}}}");
        let it = asked_by(BOTH, &Source::OpenAi, &chat);
        assert_eq!((it.output_max, it.output_wish), (both, None), "{chat}");
        let it = asked_by(ONE, &Source::OpenAi, &chat);
        assert_eq!((it.output_max, it.output_wish), (one, wish), "{chat}");
        for prompt in ["\"prompt\":\"a\"", "\"messages\":[],\"prompt\":[\"a\"]"] {
            let completion = format!("{{{prompt}{members}}}");
            for field in [ONE, BOTH] {
                let it = asked_by(field, &Source::OpenAi, &completion);
                // Where nothing is stated, it is what OpenAI gives.
                let wish = wish.or(Some(16).filter(|_| one.is_none()));
                assert_eq!((it.output_max, it.output_wish), (one, wish), "{completion} {field:?}");
            }
        }
    }
}

#[test]
fn a_limit_that_may_not_be_known_is_stated_once_more() {
    for (field, body, wanted) in [
        (ONE, r#"{"messages":[]}"#, r#"{"messages":[],"max_tokens":10}"#),
        (BOTH, r#"{"messages":[]}"#, r#"{"messages":[],"max_completion_tokens":10}"#),
        (ONE, r#"{"max_completion_tokens":5}"#, r#"{"max_completion_tokens":5,"max_tokens":5}"#),
        (ONE, r#"{"max_completion_tokens":50}"#, r#"{"max_completion_tokens":10,"max_tokens":10}"#),
        (
            ONE,
            r#"{"max_tokens":null,"max_completion_tokens":50}"#,
            r#"{"max_tokens":10,"max_completion_tokens":10}"#,
        ),
        (
            ONE,
            r#"{"max_tokens":5,"max_completion_tokens":50}"#,
            r#"{"max_tokens":5,"max_completion_tokens":10}"#,
        ),
        (BOTH, r#"{"max_completion_tokens":50}"#, r#"{"max_completion_tokens":10}"#),
        // OpenAI refuses both at once.
        (BOTH, r#"{"max_tokens":50}"#, r#"{"max_tokens":10}"#),
        (BOTH, r#"{"prompt":"a"}"#, r#"{"prompt":"a","max_tokens":10}"#),
        (BOTH, r#"{"prompt":"a","max_tokens":null}"#, r#"{"prompt":"a","max_tokens":10}"#),
        (
            BOTH,
            r#"{"prompt":"a","max_completion_tokens":5}"#,
            r#"{"prompt":"a","max_completion_tokens":5,"max_tokens":5}"#,
        ),
        (BOTH, r#"{"prompt":"a","max_tokens":5}"#, r#"{"prompt":"a","max_tokens":5}"#),
    ] {
        assert_eq!(bounded(field, body), wanted, "{field:?}");
    }
}

#[test]
fn a_limit_of_0_is_none_to_some_servers() {
    for name in ["max_tokens", "max_completion_tokens"] {
        let body = format!("{{\"messages\":[],\"{name}\":0}}");
        let why = read(&Source::OpenAi, None, ONE, body.as_bytes()).unwrap_err();
        assert_eq!(why, Unreadable::BadLimit(name));
        assert_eq!(asked(&Source::OpenAi, &body).output_max, Some(0));
    }
    let edit = Edit { output_max: Some(0), include_usage: false };
    let edited = asked_by(ONE, &Source::OpenAi, "{}").edited(b"{}", &edit).unwrap();
    assert_eq!(edited, br#"{"max_tokens":1}"#);
}

#[test]
fn fields_that_outrank_the_limit_are_refused() {
    let names = [
        "n_predict",
        "num_predict",
        "max_new_tokens",
        "max_length",
        "max_gen_len",
        "n_cmpl",
        "prompt_embeds",
    ];
    for name in names {
        for value in ["500", "-1", "\"a\"", "[1]", "{\"a\":1}"] {
            for head in ["\"messages\":[]", "\"prompt\":\"a\"", "\"input\":\"a\""] {
                let body = format!("{{{head},\"max_tokens\":5,\"{name}\":{value}}}");
                assert_eq!(refused(&Source::OpenAi, &body), Unreadable::Foreign(name), "{body}");
            }
        }
        let none = format!("{{\"messages\":[{{\"{name}\":1}}],\"{name}\":null,\"max_length\":null}}");
        assert!(name == "max_length" || asked(&Source::OpenAi, &none).generates, "{none}");
        let other = format!("{{\"messages\":[],\"{name}\":1}}");
        for source in SOURCES.iter().skip(1) {
            assert!(read(source, None, BOTH, other.as_bytes()).is_ok(), "{source:?} {other}");
        }
    }
    for (body, name) in [
        (r#"{"options":{"temperature":1,"num_predict":-1}}"#, "num_predict"),
        (r#"{"extra_body":{"max_completion_tokens":9}}"#, "max_completion_tokens"),
        (r#"{"extra_body":{"options":{"num_predict":9}}}"#, "num_predict"),
        (r#"{"parameters":{"max_new_tokens":9}}"#, "max_new_tokens"),
        (r#"{"sampling_params":{"n":9}}"#, "n"),
    ] {
        assert_eq!(refused(&Source::OpenAi, body), Unreadable::Foreign(name), "{body}");
    }
    let plain = r#"{"options":{"temperature":1,"num_predict":null},"extra_body":{},"parameters":[1],"sampling_params":5}"#;
    assert!(asked(&Source::OpenAi, plain).generates);
    let case = r#"{"options":{"Num_Predict":9}}"#;
    assert_eq!(refused(&Source::OpenAi, case), Unreadable::Misspelled("num_predict"));
    let why = Unreadable::Foreign("n_predict");
    assert_eq!((why.as_str(), why.field()), ("foreign_field", Some("n_predict")));
    assert_eq!(why.to_string(), "The field n_predict is not known here.");
}

#[test]
fn fields_that_name_another_model_are_refused_and_what_enlarges_the_input_is_open() {
    for name in ["fallbacks", "mock_testing_fallbacks", "models", "route"] {
        for (source, head) in [
            (Source::OpenAi, "\"messages\":[]"),
            (Source::OpenAi, "\"input\":\"a\""),
            (Source::OpenAi, "\"extra_body\":{}"),
            (Source::OpenAiResponses, "\"input\":\"a\""),
            (Source::OpenAiImages, "\"prompt\":\"a\""),
        ] {
            for value in ["[\"gpt-large\"]", "\"a\"", "true", "{\"a\":1}"] {
                let body = format!("{{{head},\"{name}\":{value}}}");
                assert_eq!(refused(&source, &body), Unreadable::Foreign(name), "{body}");
            }
            assert!(!asked(&source, &format!("{{{head},\"{name}\":null}}")).open);
        }
        let extra = format!("{{\"messages\":[],\"extra_body\":{{\"{name}\":[\"a\"]}}}}");
        assert_eq!(refused(&Source::OpenAi, &extra), Unreadable::Foreign(name), "{extra}");
        let text = format!("{{\"messages\":[{{\"{name}\":[1]}}]}}");
        assert!(!asked(&Source::OpenAi, &text).open, "{text}");
    }
    for name in ["plugins", "chat_template"] {
        for value in ["[{\"id\":\"web\"}]", "\"{{ m }}\"", "{}"] {
            for body in [
                format!("{{\"messages\":[],\"{name}\":{value}}}"),
                format!("{{\"messages\":[],\"extra_body\":{{\"{name}\":{value}}}}}"),
            ] {
                assert!(asked(&Source::OpenAi, &body).open, "{body}");
            }
        }
        assert!(!asked(&Source::OpenAi, &format!("{{\"messages\":[],\"{name}\":null}}")).open);
    }
    assert!(asked(&Source::OpenAiResponses, r#"{"input":"a","plugins":[{"id":"web"}]}"#).open);
}

#[test]
fn what_anthropic_would_do_beside_the_request_is_refused() {
    let read = |body: &str| read(&Source::Anthropic, None, BOTH, body.as_bytes());
    let edits = |edits: &str| format!("{{\"messages\":[],\"context_management\":{{\"edits\":{edits}}}}}");
    for edit in [
        r#"[{"type":"compact_20260112","trigger":{"type":"input_tokens","value":50000}}]"#,
        r#"[{"type":"clear_tool_uses_20250919"},{"type":"compact_20260112"}]"#,
        r#"[{"type":"compact_20260112","type":"clear_tool_uses_20250919"}]"#,
        r#"[{"typ\u0065":"comp\u0061ct_20260112"}]"#,
        r#"[{"type":"unheard_of"}]"#,
    ] {
        assert_eq!(read(&edits(edit)), Err(Unreadable::Unbounded("context_management")), "{edit}");
    }
    let twice = r#"{"context_management":{"edits":[{"type":"compact_1"}],"edits":[]}}"#;
    assert_eq!(read(twice), Err(Unreadable::Unbounded("context_management")));
    let clears = r#"[{"type":"clear_tool_uses_20250919","keep":{"type":"tool_uses","value":3}},{"type":"clear_thinking_20251015"}]"#;
    for plain in [edits(clears), edits("[]"), edits("null"), r#"{"context_management":null}"#.to_owned()] {
        assert!(!read(&plain).unwrap().open, "{plain}");
    }
    let advised =
        r#"{"messages":[],"tools":[{"name":"f"},{"type":"advisor_20260301","model":"claude-opus"}]}"#;
    assert_eq!(read(advised), Err(Unreadable::Unbounded("tools")));
    let said =
        r#"{"messages":[{"content":[{"type":"advisor_20260301"}]}],"metadata":{"type":"compact_20260112"}}"#;
    assert!(read(said).is_ok(), "it is no tool");
    let fallbacks = r#"{"messages":[],"fallbacks":[{"model":"claude-opus","max_tokens":90000}]}"#;
    assert_eq!(read(fallbacks), Err(Unreadable::Foreign("fallbacks")));
    assert!(read(r#"{"messages":[],"fallbacks":null}"#).is_ok());
    let why = Unreadable::Unbounded("tools");
    assert_eq!((why.as_str(), why.field()), ("unbounded", Some("tools")));
    assert_eq!(why.to_string(), "What the field tools asks for cannot be bounded.");
}
