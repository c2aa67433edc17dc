//! Recorded answers of real providers are read to what a reader of the whole reads, and to what their index states, wherever they are cut.
//!
//! The recordings are other people's and are not kept here: they lie in the folder that the variable `VECTORS` names,
//! or in `.tools/recordings`, which `make test` fills from the packages that they were published in.

// All of it is test code; clippy's exemption for tests does not reach helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use meter::{Certainty, Counts, Format, Meter, Pointer, Pointers, Reading, Source};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

/// Up to this length an answer is cut at every byte; above, at some hundred places and into single bytes.
const EVERY_CUT: usize = 6_000;

/// The folders with an index that are there.
fn folders() -> Vec<PathBuf> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let named = std::env::var_os("VECTORS").filter(|v| !v.is_empty()).map(|v| root.join(v).join("llm"));
    let folders = named.into_iter().chain([root.join(".tools/recordings")]);
    folders.filter(|folder| folder.join("index.json").exists()).collect()
}

/// Whose shape an answer from that address has.
fn source(uri: &str) -> Option<Source> {
    let path = uri.split('?').next().unwrap();
    let ends = |ends: &[&str]| ends.iter().any(|end| path.ends_with(end));
    if ends(&["/completions", "/embeddings"]) {
        Some(Source::OpenAi)
    } else if ends(&["/images/generations"]) {
        Some(Source::OpenAiImages)
    } else if ends(&["/responses"]) {
        Some(Source::OpenAiResponses)
    } else if ends(&["/v1/messages", "/invoke"]) {
        Some(Source::Anthropic)
    } else if ends(&[":generateContent", ":streamGenerateContent", ":batchEmbedContents"]) {
        Some(Source::Gemini)
    } else {
        None
    }
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// What usage objects in their order come to, and how many images, by the providers' documentation alone.
fn counts(source: &Source, usages: &[Value], images: usize) -> Option<Counts> {
    if *source == Source::OpenAiImages && images > 0 {
        let tokens =
            usages.last().map_or((0, 0), |it| (number(it, "/input_tokens"), number(it, "/output_tokens")));
        let images = u64::try_from(images).unwrap();
        return Some(Counts { input: tokens.0, output: tokens.1, images, ..Counts::default() });
    }
    let last = usages.last()?;
    let mut counts = Counts::default();
    match source {
        Source::OpenAi => {
            counts.input = number(last, "/prompt_tokens");
            counts.output = number(last, "/completion_tokens");
            let hit = number(last, "/prompt_cache_hit_tokens");
            counts.cached = number(last, "/prompt_tokens_details/cached_tokens").max(hit);
            counts.reasoning = number(last, "/completion_tokens_details/reasoning_tokens");
        }
        Source::OpenAiResponses => {
            counts.input = number(last, "/input_tokens");
            counts.output = number(last, "/output_tokens");
            counts.cached = number(last, "/input_tokens_details/cached_tokens");
            counts.reasoning = number(last, "/output_tokens_details/reasoning_tokens");
        }
        Source::Anthropic => {
            let latest = |name: &str| usages.iter().rev().find_map(|usage| usage[name].as_u64()).unwrap_or(0);
            counts.cached = latest("cache_read_input_tokens");
            counts.cache_written = latest("cache_creation_input_tokens");
            counts.input = latest("input_tokens") + counts.cached + counts.cache_written;
            counts.output = latest("output_tokens");
        }
        Source::Gemini => {
            counts.input = number(last, "/promptTokenCount") + number(last, "/toolUsePromptTokenCount");
            counts.cached = number(last, "/cachedContentTokenCount");
            counts.reasoning = number(last, "/thoughtsTokenCount");
            counts.output = number(last, "/candidatesTokenCount") + counts.reasoning;
        }
        Source::OpenAiImages | Source::Pointers(_) => return None,
    }
    Some(counts)
}

/// The documents of an answer: itself, or the data of its events.
fn documents(format: Format, body: &str) -> Vec<Value> {
    if format == Format::Document {
        return serde_json::from_str(body).into_iter().collect();
    }
    let body = body.replace("\r\n", "\n").replace('\r', "\n");
    let (whole, _) = body.rsplit_once("\n\n").unwrap_or_default();
    let events = whole.split("\n\n").map(|event| {
        let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
        lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
    });
    events.filter_map(|data| serde_json::from_str(&data).ok()).collect()
}

/// The usage objects of documents, by the places where providers put them.
fn usages(documents: &[Value]) -> Vec<Value> {
    let places = ["/message/usage", "/response/usage", "/usage", "/usageMetadata"];
    let all = documents.iter().flat_map(|it| places.iter().filter_map(|place| it.pointer(place)));
    all.filter(|usage| usage.is_object()).cloned().collect()
}

/// Images in a document.
fn images(documents: &[Value]) -> usize {
    documents.iter().map(|it| it["data"].as_array().map_or(0, Vec::len)).sum()
}

/// Bytes of text at the places where providers put it.
fn written(source: &Source, document: &Value) -> usize {
    fn each<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
        value[name].as_array().into_iter().flatten()
    }
    let text = |value: &Value, names: &[&str]| -> usize {
        names.iter().filter_map(|name| value[*name].as_str()).map(str::len).sum()
    };
    match source {
        Source::OpenAi => each(document, "choices")
            .map(|choice| {
                let of = |message: &Value| {
                    let said = text(message, &["content", "reasoning_content", "reasoning", "refusal"]);
                    let tools: usize = each(message, "tool_calls")
                        .map(|call| {
                            text(&call["function"], &["name", "arguments"])
                                + text(&call["custom"], &["name", "input"])
                        })
                        .sum();
                    said + tools + text(&message["function_call"], &["name", "arguments"])
                };
                text(choice, &["text"]) + of(&choice["delta"]) + of(&choice["message"])
            })
            .sum(),
        Source::OpenAiResponses => {
            let is_delta = document["type"].as_str().is_some_and(|kind| kind.ends_with(".delta"));
            let delta = if is_delta { text(document, &["delta"]) } else { 0 };
            let output = each(document, "output").map(|item| {
                let content: usize = each(item, "content").map(|it| text(it, &["text", "refusal"])).sum();
                let summary: usize = each(item, "summary").map(|it| text(it, &["text"])).sum();
                content + summary + text(item, &["name", "arguments", "input"])
            });
            delta + output.sum::<usize>()
        }
        Source::Anthropic => {
            let content: usize =
                each(document, "content").map(|it| text(it, &["text", "thinking", "name"])).sum();
            text(&document["delta"], &["text", "thinking", "partial_json"])
                + text(&document["content_block"], &["name"])
                + content
        }
        Source::Gemini => each(document, "candidates")
            .flat_map(|candidate| each(&candidate["content"], "parts"))
            .map(|part| text(part, &["text"]) + text(&part["functionCall"], &["name"]))
            .sum(),
        Source::OpenAiImages | Source::Pointers(_) => 0,
    }
}

fn read(source: &Source, format: Format, pieces: &[&[u8]]) -> Reading {
    let mut meter = Meter::new(source, format);
    pieces.iter().for_each(|piece| meter.feed(piece));
    meter.read()
}

/// The reading, which is the same however the body is cut.
fn read_cut(source: &Source, format: Format, body: &[u8], name: &str) -> Reading {
    let whole = read(source, format, &[body]);
    for size in [1, 2, 3, 7, 64, 1000] {
        let pieces: Vec<&[u8]> = body.chunks(size).collect();
        assert_eq!(read(source, format, &pieces), whole, "{name} in pieces of {size}");
    }
    let step = if body.len() <= EVERY_CUT { 1 } else { body.len() / 200 };
    for cut in (0..body.len()).step_by(step) {
        let (head, tail) = body.split_at(cut);
        assert_eq!(read(source, format, &[head, tail]), whole, "{name} cut at {cut}");
    }
    whole
}

#[test]
fn recordings_are_read_to_what_they_state() {
    let folders = folders();
    if folders.is_empty() {
        println!("skipped: no recordings; `make testdeps` fetches them");
    }
    for folder in folders {
        let index = std::fs::read_to_string(folder.join("index.json")).unwrap();
        let index: Value = serde_json::from_str(&index).unwrap();
        let mut seen: BTreeMap<(String, bool), usize> = BTreeMap::new();
        for item in index["items"].as_array().unwrap() {
            let name = item["file"].as_str().unwrap();
            let body = std::fs::read(folder.join(name)).unwrap();
            let Some(source) = source(item["uri"].as_str().unwrap()) else { continue };
            let kind = item["content_type"].as_str().unwrap_or("application/json");
            let format = Format::of(kind.as_bytes()).unwrap();
            let reading = read_cut(&source, format, &body, name);
            let stated: Vec<Value> =
                item["usage_objects"].as_array().unwrap().iter().map(|it| it["usage"].clone()).collect();
            let images = images(&documents(format, std::str::from_utf8(&body).unwrap()));
            assert_eq!(reading.counts, counts(&source, &stated, images), "{name}: not what the index states");
            judge(&source, format, &reading, std::str::from_utf8(&body).unwrap(), name);
            *seen.entry((format!("{source:?}"), format == Format::Events)).or_default() += 1;
        }
        println!("{}: {seen:?}", folder.display());
        for (shape, streams, least) in [
            ("OpenAi", false, 200),
            ("OpenAi", true, 80),
            ("OpenAiResponses", false, 15),
            ("OpenAiResponses", true, 10),
            ("Anthropic", false, 20),
            ("Anthropic", true, 20),
            ("Gemini", false, 8),
        ] {
            let there = seen.get(&(shape.to_owned(), streams)).copied().unwrap_or(0);
            assert!(there >= least, "{shape}, streams: {streams}: only {there}");
        }
    }
}

/// Compares with a reader of the whole.
fn judge(source: &Source, format: Format, reading: &Reading, body: &str, name: &str) {
    let documents = documents(format, body);
    assert_eq!(reading.counts, counts(source, &usages(&documents), images(&documents)), "{name}");
    assert!(!reading.odd, "{name}");
    let says = |it: &Value| {
        let error =
            |it: &Value| it["error"].is_object() || it["error"].as_str().is_some_and(|it| !it.is_empty());
        let kind = it["type"].as_str().unwrap_or_default();
        error(it) || it.as_array().is_some_and(|all| all.iter().any(error)) || kind == "response.failed"
    };
    assert_eq!(reading.failed, documents.iter().any(says), "{name}");
    let embeds = documents.iter().any(|it| it["object"] == "list" || it["embeddings"].is_array());
    let stated = (reading.stated.input, reading.stated.output || embeds);
    let tells = reading.counts.is_some() && *source != Source::OpenAiImages;
    assert!(!tells || stated == (true, true), "{name}: {stated:?}");
    let models = ["/model", "/message/model", "/response/model", "/modelVersion"];
    let model = documents
        .iter()
        .rev()
        .find_map(|it| models.iter().find_map(|m| it.pointer(m)?.as_str().filter(|m| !m.is_empty())));
    assert_eq!(reading.model.as_deref(), model, "{name}");
    let texts: Vec<usize> = documents.iter().map(|it| written(source, it)).filter(|n| *n > 0).collect();
    let written = reading.written.map(|it| (it.events, it.bytes));
    let sums = (u64::try_from(texts.len()).unwrap(), u64::try_from(texts.iter().sum::<usize>()).unwrap());
    assert_eq!(written, Some(sums), "{name}");
    let done = format == Format::Document
        || body.contains("[DONE]")
        || body.contains("\"type\":\"response.completed\"")
        || body.contains("event: message_stop")
        || documents
            .iter()
            .any(|it| it["choices"].as_array().is_some_and(Vec::is_empty) && it["usage"].is_object());
    assert_eq!(reading.certainty == Certainty::Exact, done, "{name}");
}

#[test]
fn an_operator_can_say_where_an_unknown_shape_states_it() {
    let pointer = |text: &str| Pointer::parse(text);
    for folder in folders() {
        let index = std::fs::read_to_string(folder.join("index.json")).unwrap();
        let index: Value = serde_json::from_str(&index).unwrap();
        let mut seen = 0;
        for item in index["items"].as_array().unwrap() {
            let (name, uri) = (item["file"].as_str().unwrap(), item["uri"].as_str().unwrap());
            let kind = item["content_type"].as_str().unwrap_or_default();
            let (Some(format), true) = (Format::of(kind.as_bytes()), uri.contains("/interactions")) else {
                continue;
            };
            let above = if format == Format::Events { "/interaction" } else { "" };
            let at = |rest: &str| pointer(&format!("{above}{rest}"));
            let source = Source::Pointers(Rc::new(Pointers {
                input: at("/usage/total_input_tokens"),
                output: at("/usage/total_output_tokens"),
                model: at("/model"),
            }));
            let body = std::fs::read(folder.join(name)).unwrap();
            let reading = read_cut(&source, format, &body, name);
            let usage = item["usage_objects"].as_array().unwrap().last().map(|it| &it["usage"]);
            let stated =
                usage.map(|it| (number(it, "/total_input_tokens"), number(it, "/total_output_tokens")));
            assert_eq!(reading.counts.map(|it| (it.input, it.output)), stated, "{name}");
            seen += 1;
        }
        assert!(seen >= 5, "{}: only {seen}", folder.display());
    }
}
