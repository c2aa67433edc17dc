//! What an AI request asks for: it is what a reader of the whole finds, and an edit changes what it names and nothing else.

use crate::dice::Dice;
use crate::grown;
use meter::request::{Asked, Edit, LimitField, Unreadable, read};
use meter::{Pointers, Source};
use serde_json::{Value, json};
use std::rc::Rc;

/// The first byte chooses the shape, the second the edit; what follows is the body, or what it grows from.
pub(crate) fn run(data: &[u8]) {
    let [choice, change, rest @ ..] = data else { return };
    let grown = (choice & 0x80 != 0).then(|| grown::document(&mut Dice::new(rest), &PATHS).into_bytes());
    let body = grown.as_deref().unwrap_or(rest);
    let source = match choice & 0x07 {
        0 | 1 => Source::OpenAi,
        2 => Source::OpenAiImages,
        3 => Source::OpenAiResponses,
        4 => Source::Anthropic,
        5 | 6 => Source::Gemini,
        _ => Source::Pointers(Rc::new(Pointers { input: None, output: None, model: None })),
    };
    let most = [0, 5, 16, 17, 1000, 5_000_000_000][usize::from(change & 0x0F) % 6];
    let limit_field =
        if change & 0x10 == 0 { LimitField::MaxTokens } else { LimitField::MaxCompletionTokens };
    let output_max = (change & 0x20 == 0).then_some(most);
    let edit = Edit { output_max, limit_field, include_usage: change & 0x40 == 0 };
    let whole = serde_json::from_slice::<Value>(body);
    match (read(&source, None, body), whole) {
        (Ok(asked), Ok(whole)) => agrees(&source, &asked, body, &whole, &edit),
        (Ok(_), Err(why)) => panic!("read, and nobody else can read it: {why}"),
        (Err(why), Ok(whole)) => is_right(why, body, &whole),
        (Err(_), Err(_)) => {}
    }
}

/// Along these, bodies grow; all shapes in one.
const PATHS: [&str; 46] = [
    "model.=\"m\"",
    "messages.=[]",
    "messages.*.content",
    "messages.*.content.*.type.=\"image_url\"",
    "messages.*.content.*.type.=\"image\"",
    "messages.*.content.*.type.=\"document\"",
    "messages.*.content.*.image_url",
    "messages.*.content.*.image_url.url",
    "messages.*.content.*.source.data",
    "messages.*.content.*.source.type",
    "messages.*.content.*.content.*.type.=\"text\"",
    "messages.*.audio",
    "system.*.type",
    "prompt",
    "prompt.*",
    "prompt.*.*",
    "input",
    "input.*.type",
    "input.*.content.*.type.=\"input_image\"",
    "input.*.content.*.image_url",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "best_of",
    "stream.=true",
    "stream.=true",
    "stream_options.=null",
    "stream_options.include_usage.=false",
    "stream_options.include_usage.=true",
    "stream_options.other",
    "tools.*.type",
    "tools.*.functionDeclarations",
    "functions.*.name",
    "previous_response_id",
    "contents.*.parts.*.text",
    "contents.*.parts.*.inlineData.data",
    "contents.*.parts.*.inlineData.mimeType.=\"image/png\"",
    "contents.parts.text",
    "content.parts.text",
    "requests.*.x",
    "generationConfig.maxOutputTokens",
    "generationConfig.candidateCount",
    "generation_config.max_output_tokens",
    "generationConfig.=null",
    "cachedContent",
];

/// Is there a reason to refuse a body that is JSON?
fn is_right(why: Unreadable, body: &[u8], whole: &Value) {
    match why {
        // Numbers on which readers differ.
        Unreadable::NotJson => assert!(body.iter().any(u8::is_ascii_digit)),
        Unreadable::NotAnObject => assert!(!whole.is_object()),
        Unreadable::TooDeep | Unreadable::TooLong => panic!("{why:?}"),
        _ => assert!(why.field().is_some() && whole.is_object()),
    }
}

fn agrees(source: &Source, asked: &Asked, body: &[u8], whole: &Value, edit: &Edit) {
    let name = |name: &str| whole.get(name).filter(|it| !it.is_null());
    assert_eq!(asked.model, name("model").map_or("", |it| it.as_str().unwrap()));
    assert_eq!(asked.streams, *source != Source::Gemini && name("stream").is_some_and(|it| it == true));
    let length = u64::try_from(body.len()).unwrap();
    assert!(asked.input_bytes <= length && (asked.images > 0 || asked.input_bytes == length));
    assert!(asked.choices >= 1);
    let stated = limits(source, whole).into_iter().filter_map(|at| whole.pointer(&at)?.as_u64()).max();
    let default = is_completion(source, whole).then_some(16);
    assert_eq!(asked.output_max, stated.or(default));
    let (wanted, edited) = (expected(source, whole, edit), asked.edited(body, edit));
    assert_eq!(edited.is_none(), wanted == *whole);
    let Some(edited) = edited else { return };
    let parsed: Value = serde_json::from_slice(&edited).unwrap();
    assert_eq!(parsed, wanted, "{}", String::from_utf8_lossy(&edited));
    // What was not changed is there byte for byte, from both ends.
    let same = body.iter().zip(&edited).take_while(|(a, b)| a == b).count();
    let behind = body.iter().rev().zip(edited.iter().rev()).take_while(|(a, b)| a == b).count();
    assert!(same + behind > 0);
    let again = read(source, None, &edited).unwrap();
    assert_eq!(again.edited(&edited, edit), None, "an edit that is made changes nothing more");
}

fn is_there(whole: &Value, name: &str) -> bool {
    whole.get(name).is_some_and(|it| !it.is_null())
}

fn is_completion(source: &Source, whole: &Value) -> bool {
    *source == Source::OpenAi && is_there(whole, "prompt") && !is_there(whole, "messages")
}

/// The first of two spellings, if it is there, else the second if that is, else the first.
fn spelled<'a>(of: Option<&Value>, names: [&'a str; 2]) -> &'a str {
    names.into_iter().find(|name| of.is_some_and(|it| it.get(name).is_some())).unwrap_or(names[0])
}

fn limits(source: &Source, whole: &Value) -> Vec<String> {
    let of = |names: &[&str]| names.iter().map(|name| format!("/{name}")).collect();
    match source {
        Source::OpenAi => of(&["max_tokens", "max_completion_tokens"]),
        Source::OpenAiResponses => of(&["max_output_tokens"]),
        Source::Anthropic => of(&["max_tokens"]),
        Source::Gemini => {
            let config = spelled(Some(whole), ["generationConfig", "generation_config"]);
            let limit = spelled(whole.get(config), ["maxOutputTokens", "max_output_tokens"]);
            vec![format!("/{config}/{limit}")]
        }
        _ => vec![],
    }
}

/// The change to a whole document, made without positions.
fn expected(source: &Source, whole: &Value, edit: &Edit) -> Value {
    let mut body = whole.clone();
    let is_completion = is_completion(source, whole);
    let embeds = match source {
        Source::OpenAi => {
            is_there(whole, "input") && !is_there(whole, "messages") && !is_there(whole, "prompt")
        }
        Source::Gemini => {
            (is_there(whole, "content") || is_there(whole, "requests")) && !is_there(whole, "contents")
        }
        _ => false,
    };
    if let (Some(most), false) = (edit.output_max, embeds) {
        let most = most.clamp(u64::from(*source == Source::Gemini), 1_000_000_000);
        let limits = limits(source, whole);
        let is_stated = limits.iter().any(|at| whole.pointer(at).is_some_and(|it| !it.is_null()));
        for limit in &limits {
            if let Some(value) = body.pointer_mut(limit).filter(|it| it.as_u64() > Some(most)) {
                *value = json!(most);
            }
        }
        let completion = edit.limit_field == LimitField::MaxCompletionTokens && !is_completion;
        if let (false, Some(limit)) = (is_stated || is_completion && most >= 16, limits.first()) {
            let limit = if *source == Source::OpenAi && completion { &limits[1] } else { limit };
            let mut at = &mut body;
            for step in limit.split('/').skip(1) {
                at = &mut at[step];
            }
            *at = json!(most);
        }
    }
    if edit.include_usage && *source == Source::OpenAi && !embeds && body["stream"] == true {
        body["stream_options"]["include_usage"] = json!(true);
    }
    body
}
