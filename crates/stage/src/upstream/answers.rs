//! Valid documents and streams in the shapes of the providers whose paths the demo has, with usage.

use serde_json::{Value, json};

/// Input tokens in every usage.
pub const INPUT_TOKENS: u64 = 5;

const WORDS: [&str; 3] = ["Paid ", "and ", "served."];

/// Whose shape an answer has; the path tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Chat,
    Messages,
    Responses,
    Embeddings,
    Images,
    Models,
    /// An app's own handler: it only acknowledges.
    Other,
}

impl Shape {
    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/v1/chat/completions" => Self::Chat,
            "/v1/messages" => Self::Messages,
            "/v1/responses" => Self::Responses,
            "/v1/embeddings" => Self::Embeddings,
            "/v1/images/generations" => Self::Images,
            "/v1/models" => Self::Models,
            _ => Self::Other,
        }
    }
}

/// What an answer says.
pub(crate) struct Said {
    pub(crate) shape: Shape,
    pub(crate) model: String,
    /// Output tokens; `None` leaves the usage out.
    pub(crate) usage: Option<u64>,
    /// Seconds since 1970.
    pub(crate) created: u64,
}

/// The whole answer as one document.
pub(crate) fn document(said: &Said) -> Value {
    let (model, created, text) = (&said.model, said.created, WORDS.concat());
    let mut document = match said.shape {
        Shape::Chat => json!({
            "id": "chatcmpl-scripted", "object": "chat.completion", "created": created, "model": model,
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": text, "refusal": null },
                          "logprobs": null, "finish_reason": "stop" }],
        }),
        Shape::Messages => json!({
            "id": "msg_scripted", "type": "message", "role": "assistant", "model": model,
            "content": [{ "type": "text", "text": text }], "stop_reason": "end_turn", "stop_sequence": null,
        }),
        Shape::Responses => response(said, "completed"),
        Shape::Embeddings => json!({
            "object": "list", "model": model,
            "data": [{ "object": "embedding", "index": 0, "embedding": [0.25, -0.5, 0.125] }],
        }),
        // One white pixel.
        Shape::Images => {
            json!({ "created": created, "data": [{ "b64_json": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mP8/x8AAwMCAO+ip1sAAAAASUVORK5CYII=" }] })
        }
        Shape::Models => json!({
            "object": "list", "data": [{ "id": "scripted", "object": "model", "created": created, "owned_by": "tollgate" }],
        }),
        Shape::Other => json!({}),
    };
    if let (Some(usage), Some(fields)) = (usage(said), document.as_object_mut()) {
        fields.insert("usage".into(), usage);
    }
    document
}

/// The answer as server-sent events, one chunk each.
pub(crate) fn events(said: &Said) -> Vec<String> {
    match said.shape {
        Shape::Messages => messages_events(said),
        Shape::Responses => responses_events(said),
        _ => chat_events(said),
    }
}

/// An error as the provider words it.
pub(crate) fn error(shape: Shape, status: u16) -> Value {
    let message = format!("The script asked for status {status}.");
    if shape == Shape::Messages {
        json!({ "type": "error", "error": { "type": "api_error", "message": message } })
    } else {
        json!({ "error": { "message": message, "type": "server_error", "param": null, "code": null } })
    }
}

fn usage(said: &Said) -> Option<Value> {
    let (input, output) = (INPUT_TOKENS, said.usage?);
    let total = input.saturating_add(output);
    match said.shape {
        Shape::Chat => {
            Some(json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": total }))
        }
        Shape::Messages => Some(json!({ "input_tokens": input, "output_tokens": output })),
        Shape::Responses | Shape::Images => {
            Some(json!({ "input_tokens": input, "output_tokens": output, "total_tokens": total }))
        }
        Shape::Embeddings => Some(json!({ "prompt_tokens": input, "total_tokens": input })),
        Shape::Models | Shape::Other => None,
    }
}

fn response(said: &Said, status: &str) -> Value {
    json!({
        "id": "resp_scripted", "object": "response", "created_at": said.created, "status": status, "model": said.model,
        "output": [{ "id": "msg_scripted", "type": "message", "status": status, "role": "assistant",
                     "content": [{ "type": "output_text", "text": WORDS.concat(), "annotations": [] }] }],
        "error": null, "incomplete_details": null,
    })
}

fn chat_events(said: &Said) -> Vec<String> {
    let chunk = |choices: Value| {
        json!({
            "id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": said.created,
            "model": said.model, "choices": choices,
        })
    };
    let choice =
        |delta: Value, finish: Value| json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
    let mut chunks = vec![chunk(choice(json!({ "role": "assistant", "content": "" }), Value::Null))];
    chunks.extend(WORDS.map(|word| chunk(choice(json!({ "content": word }), Value::Null))));
    chunks.push(chunk(choice(json!({}), json!("stop"))));
    if let Some(usage) = usage(said) {
        let mut last = chunk(json!([]));
        if let Some(fields) = last.as_object_mut() {
            fields.insert("usage".into(), usage);
        }
        chunks.push(last);
    }
    let mut events: Vec<_> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    events.push("data: [DONE]\n\n".into());
    events
}

fn messages_events(said: &Said) -> Vec<String> {
    let mut start = json!({
        "id": "msg_scripted", "type": "message", "role": "assistant", "model": said.model, "content": [],
        "stop_reason": null, "stop_sequence": null,
    });
    let mut delta =
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null } });
    if let (Some(output), Some(start), Some(delta)) =
        (said.usage, start.as_object_mut(), delta.as_object_mut())
    {
        start.insert("usage".into(), json!({ "input_tokens": INPUT_TOKENS, "output_tokens": 1 }));
        delta.insert("usage".into(), json!({ "output_tokens": output }));
    }
    let mut all = vec![
        json!({ "type": "message_start", "message": start }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
    ];
    all.extend(WORDS.map(|word| {
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": word } })
    }));
    all.extend([
        json!({ "type": "content_block_stop", "index": 0 }),
        delta,
        json!({ "type": "message_stop" }),
    ]);
    named(&all)
}

fn responses_events(said: &Said) -> Vec<String> {
    let mut all = vec![json!({ "type": "response.created", "response": response(said, "in_progress") })];
    all.extend(WORDS.map(|word| {
        json!({
            "type": "response.output_text.delta", "item_id": "msg_scripted", "output_index": 0, "content_index": 0,
            "delta": word,
        })
    }));
    all.push(json!({ "type": "response.completed", "response": document(said) }));
    for (number, event) in all.iter_mut().enumerate() {
        if let Some(fields) = event.as_object_mut() {
            fields.insert("sequence_number".into(), json!(number));
        }
    }
    named(&all)
}

fn named(all: &[Value]) -> Vec<String> {
    let name = |event: &Value| event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    all.iter().map(|event| format!("event: {}\ndata: {event}\n\n", name(event))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &str, usage: Option<u64>) -> Said {
        Said { shape: Shape::of(path), model: "m".into(), usage, created: 1 }
    }

    #[test]
    fn each_document_carries_usage_where_its_provider_puts_it() {
        for (path, pointer, tokens) in [
            ("/v1/chat/completions", "/usage/completion_tokens", 7),
            ("/v1/messages", "/usage/output_tokens", 7),
            ("/v1/responses", "/usage/output_tokens", 7),
            ("/v1/embeddings", "/usage/total_tokens", INPUT_TOKENS),
            ("/v1/images/generations", "/usage/total_tokens", 12),
        ] {
            assert_eq!(document(&said(path, Some(7))).pointer(pointer), Some(&json!(tokens)), "{path}");
            assert_eq!(document(&said(path, None)).get("usage"), None, "{path}");
        }
        assert_eq!(document(&said("/webhooks/app", Some(7))), json!({}));
    }

    #[test]
    fn each_stream_ends_with_its_usage() {
        let chat = events(&said("/v1/chat/completions", Some(9)));
        assert!(
            chat[chat.len() - 2].contains(r#""completion_tokens":9"#)
                && chat.last().unwrap().contains("[DONE]")
        );
        let messages = events(&said("/v1/messages", Some(9))).concat();
        assert!(
            messages.starts_with("event: message_start\n")
                && messages.contains(r#""usage":{"output_tokens":9}"#)
        );
        let responses = events(&said("/v1/responses", Some(9)));
        assert!(responses.last().unwrap().contains(r#""output_tokens":9"#));
        assert!(!events(&said("/v1/messages", None)).concat().contains("usage"));
    }
}
