//! Answers as server-sent events in the shapes of the providers, made one by one as they are sent: a stream of 100 MB takes no memory.

use super::answers::{self, Reply};
use super::asked::Shape;
use super::script::Place;
use super::usage;
use serde_json::{Value, json};
use std::sync::Arc;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// As it is sent, its blank line included.
    pub(crate) text: String,
    /// How many pieces of text it carries.
    pub(crate) words: u64,
    /// True if it states what was used in all.
    pub(crate) usage: bool,
}

pub(crate) type Events = Box<dyn Iterator<Item = Event> + Send + Sync>;

/// The answer as server-sent events.
pub(crate) fn events(reply: Reply) -> Events {
    let reply = Arc::new(reply);
    match reply.asked.shape {
        Shape::Messages => messages(&reply),
        Shape::Responses => responses(&reply),
        Shape::Gemini => gemini(&reply),
        _ => chat(&reply),
    }
}

/// The numbers of all pieces of text, in the order in which they are sent: for each piece, whose it is.
fn pieces(reply: &Reply) -> impl Iterator<Item = (u64, u64)> + Send + Sync + use<> {
    let choices = reply.asked.choices;
    (0..reply.text.words).flat_map(move |word| (0..choices).map(move |index| (word, index)))
}

fn chat(reply: &Arc<Reply>) -> Events {
    let choices = 0..reply.asked.choices;
    let legacy = reply.asked.shape != Shape::Chat;
    let choice = move |index: u64, text: Option<&str>, finish: Option<&str>| {
        if legacy {
            return json!([{ "index": index, "text": text.unwrap_or_default(), "logprobs": null, "finish_reason": finish }]);
        }
        let delta = text.map_or_else(|| json!({}), |text| json!({ "content": text }));
        json!([{ "index": index, "delta": delta, "finish_reason": finish }])
    };
    let first = |index| json!([{ "index": index, "delta": { "role": "assistant", "content": "" }, "finish_reason": null }]);
    let head: Vec<_> = if legacy {
        Vec::new()
    } else {
        choices.clone().map(|index| plain(&chunk(reply, first(index), 0))).collect()
    };
    let last = choices.end.saturating_sub(1);
    let tail = choices.map(|index| {
        let mut ends = chunk(reply, choice(index, None, Some(reply.finish())), reply.text.words);
        let usage = (index == last).then(|| reply.usage(reply.counts)).flatten();
        let place = reply.script.place;
        if place == Place::Groq {
            put(
                &mut ends,
                "x_groq",
                usage.clone().map(|usage| json!({ "id": "req_scripted", "usage": usage })),
            );
        } else if place == Place::Finish {
            put(&mut ends, "usage", usage.clone());
        }
        Event { usage: place != Place::Final && usage.is_some(), ..plain(&ends) }
    });
    let mut tail: Vec<_> = tail.collect();
    tail.extend(last_chunk(reply));
    tail.push(Event { text: "data: [DONE]\n\n".into(), ..Event::default() });
    let shared = Arc::clone(reply);
    let deltas = pieces(reply).map(move |(word, index)| {
        let choices = choice(index, Some(&shared.text.word(word)), None);
        Event { words: 1, ..plain(&chunk(&shared, choices, word)) }
    });
    Box::new(head.into_iter().chain(deltas).chain(tail))
}

/// A chunk of a chat or of an old completion; `done` pieces of its text were out before it.
fn chunk(reply: &Reply, choices: Value, done: u64) -> Value {
    let (id, object) = match reply.asked.shape {
        Shape::Completions => ("cmpl-scripted", "text_completion"),
        _ => ("chatcmpl-scripted", "chat.completion.chunk"),
    };
    let mut chunk = json!({ "id": id, "object": object, "created": reply.created, "model": reply.model, "choices": choices });
    match reply.script.place {
        Place::Each => put(&mut chunk, "usage", reply.usage(reply.counts.so_far(done, reply.text.words))),
        // "All other chunks will also include a usage field, but with a null value" (OpenAI, `stream_options`).
        Place::Final | Place::Groq if reply.asked.include_usage && !reply.script.none => {
            put(&mut chunk, "usage", Some(Value::Null));
        }
        _ => {}
    }
    chunk
}

/// The chunk that has no choices, for those who ask for it.
fn last_chunk(reply: &Reply) -> Option<Event> {
    let apart = matches!(reply.script.place, Place::Final | Place::Groq) && reply.told;
    let mut last = chunk(reply, json!([]), reply.text.words);
    put(&mut last, "usage", Some(reply.usage(reply.counts).filter(|_| apart)?));
    Some(Event { usage: true, ..plain(&last) })
}

fn messages(reply: &Arc<Reply>) -> Events {
    let mut start = json!({
        "id": "msg_scripted", "type": "message", "role": "assistant", "model": reply.model, "content": [],
        "stop_reason": null, "stop_sequence": null,
    });
    let mut counts = reply.counts;
    counts.output = counts.output.min(1);
    put(&mut start, "usage", reply.usage(counts));
    let delta = json!({ "stop_reason": reply.stop_reason(), "stop_sequence": null });
    let mut delta = json!({ "type": "message_delta", "delta": delta });
    let mut usage = reply.usage(reply.counts);
    // The end restates the input only where it has grown.
    if let Some(fields) = usage.as_mut().and_then(Value::as_object_mut) {
        fields.retain(|name, _| name == "output_tokens");
        fields.extend(reply.script.restated.map(|input| ("input_tokens".to_owned(), json!(input))));
    }
    let says = usage.is_some();
    put(&mut delta, "usage", usage);
    let head = [
        json!({ "type": "message_start", "message": start }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
    ];
    let tail = [
        Event::named(&json!({ "type": "content_block_stop", "index": 0 })),
        Event { usage: says, ..Event::named(&delta) },
        Event::named(&json!({ "type": "message_stop" })),
    ];
    let text = reply.text;
    let deltas = (0..text.words).map(move |word| {
        let delta = json!({ "type": "text_delta", "text": text.word(word) });
        let event = json!({ "type": "content_block_delta", "index": 0, "delta": delta });
        Event { words: 1, ..Event::named(&event) }
    });
    Box::new(head.map(|event| Event::named(&event)).into_iter().chain(deltas).chain(tail))
}

fn responses(reply: &Arc<Reply>) -> Events {
    let created = json!({ "type": "response.created", "sequence_number": 0, "response": answers::response(reply, false) });
    let text = reply.text;
    let deltas = (0..text.words).map(move |word| {
        let event = json!({
            "type": "response.output_text.delta", "item_id": "msg_scripted", "output_index": 0, "content_index": 0,
            "delta": text.word(word), "sequence_number": word.saturating_add(1),
        });
        Event { words: 1, ..Event::named(&event) }
    });
    let shared = Arc::clone(reply);
    // Made when it is its turn: it holds the whole text again.
    let tail = std::iter::once_with(move || {
        let kind = if shared.is_cut() { "response.incomplete" } else { "response.completed" };
        let number = text.words.saturating_add(1);
        let event =
            json!({ "type": kind, "sequence_number": number, "response": answers::document(&shared) });
        Event { usage: !shared.script.none, ..Event::named(&event) }
    });
    Box::new(std::iter::once(Event::named(&created)).chain(deltas).chain(tail))
}

fn gemini(reply: &Arc<Reply>) -> Events {
    let shared = Arc::clone(reply);
    let last = reply.text.words.saturating_sub(1);
    Box::new((0..reply.text.words).map(move |word| {
        let candidates = answers::candidates(&shared, &shared.text.word(word), word == last);
        let mut event = json!({ "candidates": candidates, "modelVersion": shared.model });
        let counts = shared.counts.so_far(word.saturating_add(1), shared.text.words);
        let usage = shared.usage(counts);
        let says = word == last && usage.is_some();
        put(&mut event, usage::name(Shape::Gemini), usage);
        Event { text: format!("data: {event}\n\n"), words: shared.asked.choices, usage: says }
    }))
}

fn plain(event: &Value) -> Event {
    Event { text: format!("data: {event}\n\n"), ..Event::default() }
}

impl Event {
    /// An event that is named by its type.
    fn named(event: &Value) -> Self {
        let name = event.get("type").and_then(Value::as_str).unwrap_or_default();
        Self { text: format!("event: {name}\ndata: {event}\n\n"), ..Self::default() }
    }
}

fn put(document: &mut Value, name: &str, value: Option<Value>) {
    if let (Some(fields), Some(value)) = (document.as_object_mut(), value) {
        fields.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::answers::tests::reply;
    use super::*;

    fn texts(path: &str, body: &str, script: &str) -> Vec<String> {
        events(reply(path, body, script)).map(|event| event.text).collect()
    }

    const CHAT: &str = "/v1/chat/completions";
    const ASKS: &str = r#"{"stream":true,"stream_options":{"include_usage":true}}"#;

    #[test]
    fn each_stream_ends_with_its_usage() {
        let chat = texts(CHAT, "", "stream;tokens=9");
        assert!(
            chat[chat.len() - 2].contains(r#""completion_tokens":9"#)
                && chat.last().unwrap().contains("[DONE]")
        );
        let messages = texts("/v1/messages", "", "tokens=9").concat();
        assert!(
            messages.starts_with("event: message_start\n")
                && messages.contains(r#""usage":{"output_tokens":9}"#)
        );
        let responses = texts("/v1/responses", "", "tokens=9");
        assert!(responses.last().unwrap().contains(r#""output_tokens":9"#));
        let gemini = texts("/v1beta/models/g:streamGenerateContent", "", "tokens=9");
        assert!(gemini.last().unwrap().contains(r#""candidatesTokenCount":9"#));
        for path in [CHAT, "/v1/messages", "/v1/responses", "/v1/completions"] {
            let event = events(reply(path, ASKS, "")).filter(|event| event.usage).count();
            assert_eq!(event, 1, "{path}");
            assert!(!texts(path, ASKS, "no_usage").concat().contains("usage"), "{path}");
        }
    }

    #[test]
    fn usage_is_null_in_all_chunks_but_the_last_for_those_who_ask_and_nowhere_for_others() {
        for path in [CHAT, "/v1/completions"] {
            let asked = texts(path, ASKS, "");
            let nulls = asked.iter().filter(|text| text.contains(r#""usage":null"#)).count();
            assert_eq!(nulls, asked.len() - 2, "{asked:?}");
            assert!(!texts(path, r#"{"stream":true}"#, "").concat().contains("usage"));
        }
    }

    #[test]
    fn usage_stands_where_the_script_puts_it() {
        let with = |script: &str, body: &str| {
            let all = texts(CHAT, body, script);
            all.iter().filter(|text| text.contains("completion_tokens")).count()
        };
        let all = texts(CHAT, "", "").len();
        assert_eq!(with("usage_in=each", ""), all - 1);
        assert_eq!(with("usage_in=finish", ""), 1);
        assert_eq!((with("usage_in=groq", ""), with("usage_in=groq", ASKS)), (1, 2));
        assert!(
            texts(CHAT, "", "usage_in=groq").concat().contains(r#""x_groq":{"id":"req_scripted","usage":{"#)
        );
        let two = texts(CHAT, r#"{"n":2}"#, "usage_in=finish").concat();
        let of_all = two.lines().find(|line| line.contains(r#""completion_tokens":14"#)).unwrap();
        assert!(of_all.contains(r#""index":1"#), "said once nothing more comes: {of_all}");
        let each = texts(CHAT, "", "usage_in=each;tokens=9").concat();
        assert!(each.contains(r#""completion_tokens":3"#) && each.contains(r#""completion_tokens":9"#));
    }

    #[test]
    fn every_choice_has_its_own_pieces() {
        let words: Vec<_> = events(reply(CHAT, r#"{"n":2}"#, "words=5")).collect();
        assert_eq!(words.iter().map(|event| event.words).sum::<u64>(), 10);
        let second = words.iter().filter(|event| event.text.contains(r#""index":1"#)).count();
        assert_eq!(second, 7, "a beginning, five pieces and an end");
        assert_eq!(texts("/v1/completions", "", "").len(), 5, "three pieces, an end, and [DONE]");
    }

    #[test]
    fn a_long_stream_is_not_made_before_it_is_asked_for() {
        let mut events = events(reply(CHAT, "", "bytes=1000000000000000000"));
        assert!(events.nth(1000).unwrap().text.len() > 1000);
    }

    #[test]
    fn an_end_may_restate_a_larger_input() {
        let messages = texts("/v1/messages", "", "restated=900").concat();
        assert!(
            messages.contains(r#""input_tokens":5,"#) && messages.contains(r#""input_tokens":900"#),
            "{messages}"
        );
    }
}
