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
    let field = if change & 0x10 == 0 { LimitField::MaxTokens } else { LimitField::MaxCompletionTokens };
    let output_max = (change & 0x20 == 0).then_some(most);
    let edit = Edit { output_max, include_usage: change & 0x40 == 0 };
    let whole = serde_json::from_slice::<Value>(body);
    match (read(&source, None, field, body), whole) {
        (Ok(asked), Ok(whole)) => agrees(&source, field, &asked, body, &whole, &edit),
        (Ok(_), Err(why)) => panic!("read, and nobody else can read it: {why}"),
        (Err(why), Ok(whole)) => is_right(why, body, &whole),
        (Err(_), Err(_)) => {}
    }
}

/// Along these, bodies grow; all shapes in one.
const PATHS: [&str; 55] = [
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
    "max_to\u{212a}ens",
    "max_completion_token\u{17f}",
    "n_predict",
    "max_length.=null",
    "options.num_predict",
    "options.temperature",
    "extra_body.max_tokens",
    "generationConfig.max_output_tokens",
    "generation_config.candidateCount",
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
        // Of a key that is given twice, the whole has one only.
        Unreadable::Foreign(field) => {
            let colons = |text: &[u8]| text.iter().filter(|b| **b == b':').count();
            let is_less = colons(whole.to_string().as_bytes()) < colons(body);
            assert!(holds(whole, field) || is_less, "{field}");
        }
        _ => assert!(why.field().is_some() && whole.is_object()),
    }
}

/// Is this field there, and more than null?
fn holds(whole: &Value, field: &str) -> bool {
    let extra = ["options", "extra_body", "parameters", "sampling_params"];
    let within = |name: &&str| whole.get(*name).is_some_and(|it| it.is_object() && holds(it, field));
    is_there(whole, field) || extra.iter().any(within)
}

/// What a completion gets that states no limit.
fn usual(source: &Source, whole: &Value) -> Option<u64> {
    (*source == Source::OpenAi && is_there(whole, "prompt")).then_some(16)
}

fn agrees(source: &Source, field: LimitField, asked: &Asked, body: &[u8], whole: &Value, edit: &Edit) {
    if *source == Source::OpenAi {
        for foreign in ["n_predict", "num_predict", "max_new_tokens", "max_length", "prompt_embeds"] {
            assert!(!holds(whole, foreign), "{foreign} passes");
        }
    }
    let name = |name: &str| whole.get(name).filter(|it| !it.is_null());
    assert_eq!(asked.model, name("model").map_or("", |it| it.as_str().unwrap()));
    assert_eq!(asked.streams, *source != Source::Gemini && name("stream").is_some_and(|it| it == true));
    let length = u64::try_from(body.len()).unwrap();
    assert!(asked.input_bytes <= length && (asked.images > 0 || asked.input_bytes == length));
    assert!(asked.choices >= 1);
    let values: Vec<Option<u64>> =
        limits(source, whole).iter().map(|at| whole.pointer(at).and_then(Value::as_u64)).collect();
    let most = values.iter().copied().flatten().max();
    let is_wish = goes_by_first(source, field, whole) && values[0].is_none();
    let wish = most.or(usual(source, whole));
    assert_eq!((asked.output_max, asked.output_wish), if is_wish { (None, wish) } else { (most, None) });
    let (wanted, edited) = (expected(source, field, whole, edit), asked.edited(body, edit));
    assert_eq!(edited.is_none(), wanted == *whole);
    let Some(edited) = edited else { return };
    let parsed: Value = serde_json::from_slice(&edited).unwrap();
    assert_eq!(parsed, wanted, "{}", String::from_utf8_lossy(&edited));
    // What was not changed is there byte for byte, from both ends.
    let same = body.iter().zip(&edited).take_while(|(a, b)| a == b).count();
    let behind = body.iter().rev().zip(edited.iter().rev()).take_while(|(a, b)| a == b).count();
    assert!(same + behind > 0);
    let again = read(source, None, field, &edited).unwrap();
    assert_eq!(again.edited(&edited, edit), None, "an edit that is made changes nothing more");
}

fn is_there(whole: &Value, name: &str) -> bool {
    whole.get(name).is_some_and(|it| !it.is_null())
}

/// Does only `max_tokens` bound it for sure?
fn goes_by_first(source: &Source, field: LimitField, whole: &Value) -> bool {
    *source == Source::OpenAi && (field == LimitField::MaxTokens || is_there(whole, "prompt"))
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
fn expected(source: &Source, field: LimitField, whole: &Value, edit: &Edit) -> Value {
    let mut body = whole.clone();
    let by_first = goes_by_first(source, field, whole);
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
        let tokens = *source == Source::OpenAi && field == LimitField::MaxTokens;
        let most = most.clamp(u64::from(*source == Source::Gemini || tokens), 1_000_000_000);
        let limits = limits(source, whole);
        let stated = |at: &String| whole.pointer(at).is_some_and(|it| !it.is_null());
        let is_stated = if by_first { stated(&limits[0]) } else { limits.iter().any(stated) };
        for limit in &limits {
            if let Some(value) = body.pointer_mut(limit).filter(|it| it.as_u64() > Some(most)) {
                *value = json!(most);
            }
        }
        if let (false, Some(limit)) = (is_stated, limits.first()) {
            let other = limits.get(1).filter(|_| !by_first);
            let wish = limits.get(1).filter(|_| by_first).and_then(|at| whole.pointer(at)?.as_u64());
            let wish = wish.or(usual(source, whole)).unwrap_or(most);
            let (limit, most) = (other.unwrap_or(limit), most.min(wish));
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
