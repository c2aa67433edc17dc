//! What requests ask for is read from where it stands, and an edit changes that and nothing else.

mod limits;

use super::*;
use serde_json::{Value, json};

const BOTH: LimitField = LimitField::MaxCompletionTokens;

fn asked_by(field: LimitField, source: &Source, body: &str) -> Asked {
    read(source, None, field, body.as_bytes()).unwrap_or_else(|why| panic!("{why:?}: {body}"))
}

fn asked(source: &Source, body: &str) -> Asked {
    asked_by(BOTH, source, body)
}

fn refused(source: &Source, body: &str) -> Unreadable {
    read(source, None, BOTH, body.as_bytes()).expect_err(body)
}

const SOURCES: [Source; 5] =
    [Source::OpenAi, Source::OpenAiImages, Source::OpenAiResponses, Source::Anthropic, Source::Gemini];

#[test]
fn a_chat_is_read() {
    let body = r#"{"model":"gpt","messages":[{"role":"user","content":"hi"}],"max_tokens":10,
        "max_completion_tokens":20,"n":3,"stream":true,"stream_options":{"include_usage":true},
        "tools":[{"type":"function","function":{"name":"f"}}]}"#;
    let it = asked(&Source::OpenAi, body);
    assert_eq!((it.model.as_str(), it.output_max, it.choices), ("gpt", Some(20), 3));
    assert_eq!(usize::try_from(it.input_bytes).unwrap(), body.len());
    assert!(it.tools && it.streams && it.tells_usage && it.generates && !it.open);
    let it = asked(&Source::OpenAi, r#"{"messages":[],"n":null,"stream":null,"max_tokens":null,"tools":[]}"#);
    assert_eq!((it.output_max, it.choices, it.makes, it.images), (None, 1, 0, 0));
    assert!(!it.tools && !it.streams && !it.tells_usage && it.generates);
    let it =
        asked(&Source::OpenAi, r#"{"messages":[],"functions":[{}],"mod\u0065l":"m","max\u005ftokens":5}"#);
    assert_eq!((it.tools, it.model.as_str(), it.output_max), (true, "m", Some(5)));
}

#[test]
fn prompts_are_counted() {
    for (body, choices) in [
        (r#"{"prompt":"a"}"#, 1),
        (r#"{"prompt":["a","b"],"n":3}"#, 6),
        (r#"{"prompt":["a","b"],"n":3,"best_of":5}"#, 10),
        (r#"{"prompt":[1,2,3]}"#, 1),
        (r#"{"prompt":[[1,2],[3]]}"#, 2),
        (r#"{"prompt":["a",1]}"#, 2),
        (r#"{"prompt":[]}"#, 1),
    ] {
        let it = asked(&Source::OpenAi, body);
        let limits = (it.output_max, it.output_wish);
        assert_eq!((it.choices, limits, it.generates), (choices, (None, Some(16)), true), "{body}");
    }
    assert_eq!(asked(&Source::OpenAi, r#"{"prompt":"a","max_tokens":7}"#).output_max, Some(7));
    let it = asked(&Source::OpenAi, r#"{"model":"e","input":["a","b"]}"#);
    assert_eq!((it.generates, it.choices, it.output_max), (false, 1, None));
    assert!(asked(&Source::OpenAi, r#"{"messages":[],"input":"a"}"#).generates);
    assert!(asked(&Source::OpenAi, r#"{"prompt":"a","input":"a"}"#).generates);
    let it = asked(&Source::OpenAiImages, r#"{"prompt":"a","n":4}"#);
    assert_eq!((it.makes, it.choices), (4, 4), "each of them may be tokens");
    assert_eq!(asked(&Source::OpenAiImages, r#"{"prompt":"a"}"#).makes, 1);
}

#[test]
fn each_shape_has_its_limit() {
    for (source, body, limit) in [
        (Source::OpenAiResponses, r#"{"input":"a","max_output_tokens":5}"#, Some(5)),
        (Source::OpenAiResponses, r#"{"input":"a","max_tokens":5}"#, None),
        (Source::Anthropic, r#"{"messages":[],"max_tokens":5}"#, Some(5)),
        (Source::Gemini, r#"{"contents":[],"generationConfig":{"maxOutputTokens":5}}"#, Some(5)),
        (Source::Gemini, r#"{"contents":[],"generation_config":{"max_output_tokens":5}}"#, Some(5)),
        (Source::Gemini, r#"{"contents":[],"maxOutputTokens":5,"generationConfig":null}"#, None),
        (Source::Anthropic, r#"{"messages":[{"max_tokens":1}],"metadata":{"max_tokens":2}}"#, None),
    ] {
        assert_eq!(asked(&source, body).output_max, limit, "{body}");
    }
    let body = br#"{"contents":[],"generationConfig":{"candidateCount":4}}"#;
    let it = read(&Source::Gemini, Some("g"), BOTH, body).unwrap();
    assert_eq!((it.model.as_str(), it.choices), ("g", 4));
    assert!(!asked(&Source::Gemini, r#"{"requests":[{}]}"#).generates);
}

#[test]
fn images_are_counted_and_their_data_is_not() {
    let data = "A".repeat(1000);
    let url = format!("data:image/png;base64,{data}");
    for (source, body, images, saved) in [
        (
            Source::OpenAi,
            format!(
                r#"{{"messages":[{{"content":[{{"type":"text","text":"a"}},{{"type":"image_url","image_url":{{"url":"{url}"}}}}]}}]}}"#
            ),
            1,
            url.len() + 2,
        ),
        (
            Source::OpenAi,
            r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"https://a/b"}}]}]}"#
                .to_owned(),
            1,
            0,
        ),
        (
            Source::OpenAiResponses,
            format!(
                r#"{{"input":[{{"content":[{{"type":"input_image","image_url":"{url}"}}]}},{{"type":"function_call_output",
                "output":[{{"image_url":"{url}","type":"input_image"}},{{"type":"input_image","file_id":"f"}}]}}]}}"#
            ),
            3,
            2 * url.len() + 4,
        ),
        (
            Source::Anthropic,
            format!(
                r#"{{"messages":[{{"content":[{{"source":{{"type":"base64","data":"{data}"}},"type":"image"}},
                {{"type":"tool_result","content":[{{"type":"image","source":{{"data":"{data}"}}}}]}}]}}]}}"#
            ),
            2,
            2 * data.len() + 4,
        ),
        (
            Source::Gemini,
            format!(
                r#"{{"contents":[{{"parts":[{{"inlineData":{{"data":"{data}","mimeType":"image/png"}}}},
                {{"functionResponse":{{"parts":[{{"inline_data":{{"mime_type":"IMAGE/x","data":"{data}"}}}}]}}}}]}}]}}"#
            ),
            2,
            2 * data.len() + 4,
        ),
        (
            Source::Gemini,
            format!(
                r#"{{"contents":{{"parts":{{"inlineData":{{"data":"{data}","mimeType":"image/png"}}}}}}}}"#
            ),
            1,
            data.len() + 2,
        ),
    ] {
        let it = asked(&source, &body);
        assert_eq!((it.images, it.open), (images, false), "{body}");
        assert_eq!(usize::try_from(it.input_bytes).unwrap(), body.len() - saved, "{body}");
    }
}

/// Text that a provider reads as text costs as text, whatever it looks like.
#[test]
fn what_looks_like_an_image_is_text() {
    let data = "data:image/png;base64,".to_owned() + &"A".repeat(1000);
    let image = format!(r#"{{"type":"image","source":{{"type":"base64","data":"{data}"}}}}"#);
    let url = format!(r#"{{"type":"image_url","image_url":{{"url":"{data}"}}}}"#);
    for (source, body) in [
        (
            Source::Anthropic,
            format!(
                r#"{{"messages":[{{"content":[{{"type":"tool_use","input":{{"content":[{image}]}}}}]}}]}}"#
            ),
        ),
        (Source::Anthropic, format!(r#"{{"messages":[],"tools":[{{"input_schema":{image}}}]}}"#)),
        (
            Source::Anthropic,
            format!(
                r#"{{"messages":[{{"content":[{{"type":"document","source":{{"type":"text","data":"{data}"}}}}]}}]}}"#
            ),
        ),
        (
            Source::OpenAi,
            format!(
                r#"{{"messages":[{{"tool_calls":[{url}]}}],"tools":[{{"type":"function","parameters":{url}}}]}}"#
            ),
        ),
        (Source::OpenAi, format!(r#"{{"messages":[{{"content":[{{"type":"text","text":"{data}"}}]}}]}}"#)),
        (
            Source::OpenAi,
            format!(r#"{{"messages":[{{"content":[{{"type":"text","image_url":{{"url":"{data}"}}}}]}}]}}"#),
        ),
        (
            Source::Gemini,
            format!(
                r#"{{"contents":[{{"parts":[{{"functionCall":{{"args":{{"inlineData":{{"mimeType":"image/png","data":"{data}"}}}}}}}}]}}]}}"#
            ),
        ),
    ] {
        let it = asked(&source, &body);
        assert_eq!((it.images, it.open), (0, false), "{body}");
        assert_eq!(usize::try_from(it.input_bytes).unwrap(), body.len(), "{body}");
    }
}

#[test]
fn input_that_the_body_does_not_bound_is_told() {
    let part = |part: &str| format!(r#"{{"messages":[{{"content":[{part}]}}]}}"#);
    for (source, body) in [
        (Source::OpenAi, part(r#"{"type":"file","file":{"file_id":"f"}}"#)),
        (Source::OpenAi, part(r#"{"type":"video_url"}"#)),
        (Source::OpenAi, part(r#"{"type":"text","type":"file"}"#)),
        (Source::OpenAi, part(r#"{"file":{}}"#)),
        (Source::OpenAi, r#"{"messages":[{"role":"assistant","audio":{"id":"a"}}]}"#.to_owned()),
        (Source::OpenAi, r#"{"messages":[],"web_search_options":{}}"#.to_owned()),
        (Source::OpenAi, r#"{"messages":[],"tools":[{"type":"web_search"}]}"#.to_owned()),
        (Source::OpenAiResponses, r#"{"previous_response_id":"r"}"#.to_owned()),
        (Source::OpenAiResponses, r#"{"conversation":{"id":"c"}}"#.to_owned()),
        (Source::OpenAiResponses, r#"{"prompt":{"id":"p"}}"#.to_owned()),
        (Source::OpenAiResponses, r#"{"tools":[{"type":"function"},{"type":"file_search"}]}"#.to_owned()),
        (Source::OpenAiResponses, r#"{"input":[{"type":"item_reference","id":"i"}]}"#.to_owned()),
        (
            Source::OpenAiResponses,
            r#"{"input":[{"content":[{"type":"input_file","file_url":"u"}]}]}"#.to_owned(),
        ),
        (Source::Anthropic, part(r#"{"type":"document","source":{"type":"base64","data":"a"}}"#)),
        (Source::Anthropic, part(r#"{"type":"document","source":{"type":"file","file_id":"a"}}"#)),
        (Source::Anthropic, part(r#"{"type":"container_upload"}"#)),
        (Source::Anthropic, r#"{"messages":[],"tools":[{"type":"web_search_20250305"}]}"#.to_owned()),
        (Source::Anthropic, r#"{"messages":[],"mcp_servers":[{}]}"#.to_owned()),
        (Source::Gemini, r#"{"contents":[{"parts":[{"fileData":{"fileUri":"u"}}]}]}"#.to_owned()),
        (Source::Gemini, r#"{"contents":[{"parts":[{"file_data":{"file_uri":"u"}}]}]}"#.to_owned()),
        (
            Source::Gemini,
            r#"{"contents":[{"parts":[{"inlineData":{"mimeType":"video/mp4","data":"A"}}]}]}"#.to_owned(),
        ),
        (Source::Gemini, r#"{"contents":[],"cachedContent":"c"}"#.to_owned()),
        (Source::Gemini, r#"{"contents":[],"tools":[{"googleSearch":{}}]}"#.to_owned()),
        (Source::Gemini, r#"{"contents":[],"tools":{"google_search":{}}}"#.to_owned()),
    ] {
        assert!(asked(&source, &body).open, "{body}");
    }
    for (source, body) in [
        (Source::OpenAi, part(r#"{"type":"text","text":"file_id"}"#)),
        (Source::OpenAiResponses, r#"{"previous_response_id":null,"conversation":null,"prompt":null}"#.to_owned()),
        (Source::Anthropic, part(r#"{"type":"document","source":{"type":"text","data":"a"}}"#)),
        (Source::Anthropic, r#"{"system":[{"type":"text","text":"a"}],"tools":[{"name":"f"},{"type":"bash_20250124"}]}"#.to_owned()),
        (Source::Gemini, r#"{"contents":[{"parts":[{"text":"a","thoughtSignature":"b"}]}],"tools":[{"functionDeclarations":[{}]}]}"#.to_owned()),
    ] {
        assert!(!asked(&source, &body).open, "{body}");
    }
}

#[test]
fn what_two_readers_may_read_otherwise_is_refused() {
    use Unreadable::{
        BadLimit, LongModel, Misspelled, NotAnObject, NotJson, Repeated, TooDeep, TooLong, WrongType,
    };
    let deep = "[".repeat(200);
    let long = format!("{{\"model\":\"{}\"}}", "m".repeat(257));
    for (body, why) in [
        ("", NotJson),
        ("{", NotJson),
        ("{} {}", NotJson),
        ("{\"a\":\"\\ud800\"}", NotJson),
        (&deep, TooDeep),
        ("[]", NotAnObject),
        ("null", NotAnObject),
        (r#"{"model":"a","model":"b"}"#, Repeated("model")),
        (r#"{"max_tokens":1,"max\u005ftokens":1000}"#, Repeated("max_tokens")),
        (r#"{"n":1,"n":null}"#, Repeated("n")),
        (r#"{"stream_options":{"include_usage":true,"include_usage":false}}"#, Repeated("include_usage")),
        (r#"{"messages":[],"messages":[]}"#, Repeated("messages")),
        (r#"{"Max_Tokens":5}"#, Misspelled("max_tokens")),
        (r#"{"max_tokens":1,"MAX_TOKENS":1000}"#, Misspelled("max_tokens")),
        (r#"{"max_tokens":1,"max_to\u212aens":1000}"#, Misspelled("max_tokens")),
        ("{\"max_tokens\":1,\"MAX_TO\u{212a}en\u{17f}\":1000}", Misspelled("max_tokens")),
        (r#"{"be\u017ft_of":5}"#, Misspelled("best_of")),
        (r#"{"stream_options":{"include_u\u017fage":true}}"#, Misspelled("include_usage")),
        (r#"{"max_tokens":-1}"#, BadLimit("max_tokens")),
        (r#"{"max_tokens":1.0}"#, BadLimit("max_tokens")),
        (r#"{"max_tokens":1e3}"#, BadLimit("max_tokens")),
        (r#"{"max_tokens":"5"}"#, BadLimit("max_tokens")),
        (r#"{"max_tokens":[5]}"#, BadLimit("max_tokens")),
        (r#"{"max_tokens":1000000001}"#, BadLimit("max_tokens")),
        (r#"{"max_completion_tokens":99999999999999999999}"#, BadLimit("max_completion_tokens")),
        (r#"{"n":0}"#, BadLimit("n")),
        (r#"{"n":1025}"#, BadLimit("n")),
        (r#"{"best_of":true}"#, BadLimit("best_of")),
        (r#"{"stream":1}"#, WrongType("stream")),
        (r#"{"stream":{}}"#, WrongType("stream")),
        (r#"{"stream_options":[]}"#, WrongType("stream_options")),
        (r#"{"stream_options":true}"#, WrongType("stream_options")),
        (r#"{"stream_options":{"include_usage":"yes"}}"#, WrongType("include_usage")),
        (r#"{"model":5}"#, WrongType("model")),
        (r#"{"model":{}}"#, WrongType("model")),
        (r#"{"messages":{}}"#, WrongType("messages")),
        (r#"{"tools":{}}"#, WrongType("tools")),
        (&long, LongModel),
    ] {
        assert_eq!(refused(&Source::OpenAi, body), why, "{body}");
        assert!(!why.as_str().is_empty() && why.to_string().ends_with('.'));
        assert!(why.field().is_none_or(|field| matches!(why, LongModel) || why.to_string().contains(field)));
    }
    let config = |config: &str| format!("{{\"contents\":[],\"generationConfig\":{{{config}}}}}");
    for (body, why) in [
        (config(r#""maxOutputTokens":1,"max_output_tokens":2"#), Repeated("max_output_tokens")),
        (config(r#""maxoutputtokens":1"#), Misspelled("maxOutputTokens")),
        (config(r#""maxOutputTokens":0"#), BadLimit("maxOutputTokens")),
        (config(r#""candidateCount":-1"#), BadLimit("candidateCount")),
        (r#"{"generationConfig":{},"generation_config":{}}"#.to_owned(), Repeated("generation_config")),
        (r#"{"generation_config":null,"generationConfig":{}}"#.to_owned(), Repeated("generationConfig")),
        (
            r#"{"generation_config":{"max_output_tokens":1,"maxOutputTokens":null}}"#.to_owned(),
            Repeated("maxOutputTokens"),
        ),
        (config(r#""candidate_count":1,"candidateCount":2"#), Repeated("candidateCount")),
        (config(r#""max_output_to\u212aens":1"#), Misspelled("max_output_tokens")),
        (config(r#""max_output_tokens":"5""#), BadLimit("max_output_tokens")),
        (r#"{"systemInstruction":{},"system_instruction":{}}"#.to_owned(), Repeated("system_instruction")),
    ] {
        assert_eq!(refused(&Source::Gemini, &body), why, "{body}");
    }
    assert_eq!(read(&Source::OpenAi, None, BOTH, &vec![b' '; BODY_MAX + 1]).unwrap_err(), TooLong);
    assert_eq!(read(&Source::Gemini, Some(&"m".repeat(257)), BOTH, b"{}").unwrap_err(), LongModel);
    assert_eq!(asked(&Source::OpenAi, r#"{"max_tokens":1000000000,"n":1024,"x":1,"x":2}"#).choices, 1024);
}

/// The change to a whole document, made without positions.
fn expected(source: &Source, field: LimitField, body: &Value, edit: &Edit) -> Value {
    let mut body = body.clone();
    let limits: &[&str] = match source {
        Source::OpenAi => &["/max_tokens", "/max_completion_tokens"],
        Source::OpenAiResponses => &["/max_output_tokens"],
        Source::Anthropic => &["/max_tokens"],
        Source::Gemini => &["/generationConfig/maxOutputTokens"],
        _ => &[],
    };
    let is_completion = *source == Source::OpenAi && body.get("prompt").is_some();
    let embeds = *source == Source::OpenAi && !is_completion && body.get("input").is_some();
    if let (Some(most), false) = (edit.output_max, embeds) {
        let stated = |limit: &&str| body.pointer(limit).is_some_and(|it| !it.is_null());
        let only_first = *source == Source::OpenAi && (field == LimitField::MaxTokens || is_completion);
        let is_stated = if only_first { stated(&limits[0]) } else { limits.iter().any(stated) };
        for limit in limits {
            if let Some(value) = body.pointer_mut(limit).filter(|it| it.as_u64() > Some(most)) {
                *value = json!(most);
            }
        }
        if !is_stated {
            match source {
                Source::OpenAi if only_first => {
                    let wish = body["max_completion_tokens"].as_u64();
                    let wish = wish.or(is_completion.then_some(16)).unwrap_or(most);
                    body["max_tokens"] = json!(most.min(wish));
                }
                Source::OpenAi => body["max_completion_tokens"] = json!(most),
                Source::Anthropic => body["max_tokens"] = json!(most),
                Source::OpenAiResponses => body["max_output_tokens"] = json!(most),
                Source::Gemini => body["generationConfig"]["maxOutputTokens"] = json!(most),
                _ => {}
            }
        }
    }
    if edit.include_usage && *source == Source::OpenAi && !embeds && body["stream"] == true {
        body["stream_options"]["include_usage"] = json!(true);
    }
    body
}

#[test]
fn an_edit_changes_what_it_names_and_nothing_else() {
    let heads = ["", "\"messages\":[]", "\"prompt\":\"a\"", "\"input\":\"a\"", "\"x\":{\"max_tokens\":9}"];
    let limits = [
        "",
        "\"max_tokens\":null",
        "\"max_tokens\":5",
        "\"max_tokens\" : 50 ",
        "\"max_completion_tokens\":50",
        "\"max_tokens\":50,\"max_completion_tokens\":null",
        "\"max_tokens\":50 , \"max_completion_tokens\":60",
        "\"max\\u005ftokens\":70",
        "\"max_output_tokens\":70",
        "\"generationConfig\":null",
        "\"generationConfig\":{ }",
        "\"generationConfig\":{\"maxOutputTokens\":null,\"a\":1}",
        "\"generationConfig\":{\"a\":{},\"maxOutputTokens\":70}",
        "\"generationConfig\":{\"a\":[1]\n}",
    ];
    let streams = [
        "",
        "\"stream\":true",
        "\"stream\":true,\"stream_options\":null",
        "\"stream\":true,\"stream_options\":{}",
        "\"stream\":true,\"stream_options\":{\"include_usage\":false}",
        "\"stream\":true,\"stream_options\":{ \"a\" : 1 }",
        "\"stream_options\":{\"include_usage\":true},\"stream\":true",
        "\"stream\":false,\"stream_options\":{}",
    ];
    let mut count = 0;
    for head in heads {
        for limit in limits {
            for stream in streams {
                let members: Vec<&str> =
                    [stream, head, limit].into_iter().filter(|it| !it.is_empty()).collect();
                count += edits(&format!("{{{}}}", members.join(",")));
                count += edits(&format!(" {{\n{} }}\n", members.join(" ,\t")));
            }
        }
    }
    assert!(count > 1000, "{count}");
}

/// Puts every edit to a body; how many changed something.
fn edits(body: &str) -> u32 {
    let whole: Value = serde_json::from_str(body).unwrap();
    let mut changed = 0;
    for source in &SOURCES {
        for (output_max, include_usage) in
            [(None, true), (Some(10), false), (Some(10), true), (Some(20), false), (Some(1000), true)]
        {
            for limit_field in [LimitField::MaxTokens, LimitField::MaxCompletionTokens] {
                let edit = Edit { output_max, include_usage };
                let wanted = expected(source, limit_field, &whole, &edit);
                let edited = asked_by(limit_field, source, body).edited(body.as_bytes(), &edit);
                assert_eq!(edited.is_none(), wanted == whole, "{body} {limit_field:?} {edit:?}");
                let Some(edited) = edited else { continue };
                let edited = String::from_utf8(edited).unwrap();
                let parsed: Value = serde_json::from_str(&edited).unwrap();
                assert_eq!(parsed, wanted, "{body} {edit:?} {edited}");
                let again = asked_by(limit_field, source, &edited).edited(edited.as_bytes(), &edit);
                assert_eq!(again, None, "nothing is left to change in {edited}");
                changed += 1;
            }
        }
    }
    changed
}

#[test]
fn an_edit_keeps_every_other_byte() {
    let body = "{ \"max_tokens\" : 5000,\"a\":\"\\u00e9\" , \"stream\":true }\n";
    let edit = Edit { output_max: Some(7), include_usage: true };
    let edited = asked(&Source::OpenAi, body).edited(body.as_bytes(), &edit).unwrap();
    assert_eq!(
        String::from_utf8(edited).unwrap(),
        "{ \"max_tokens\" : 7,\"a\":\"\\u00e9\" , \"stream\":true,\"stream_options\":{\"include_usage\":true} }\n"
    );
    assert_eq!(asked(&Source::OpenAi, body).edited(b"{}", &edit), None, "another body");
    let none = Edit { output_max: Some(0), ..edit };
    let edited = asked(&Source::Gemini, "{}").edited(b"{}", &none).unwrap();
    assert_eq!(edited, br#"{"generationConfig":{"maxOutputTokens":1}}"#, "0 would be none");
}
