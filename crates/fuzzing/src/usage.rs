//! What an AI answer states: never more than a reader of the whole would state, and the same wherever the answer is cut.

use crate::dice::Dice;
use crate::told::{fails, written};
use crate::{grown, hidden};
use meter::{Certainty, Counts, Format, Meter, Pointer, Pointers, Reading, Source, Stated, Written};
use serde_json::{Map, Value};
use std::rc::Rc;

/// The first byte chooses the shape and the form; what follows is the answer, or what it grows from.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    if choice & 0x80 == 0 {
        return answer(*choice, body);
    }
    let mut dice = Dice::new(body);
    if choice & 0x08 == 0 {
        return answer(*choice, grown::document(&mut dice, &PATHS).as_bytes());
    }
    let mut stream = dice.pick(&["", "", "\u{FEFF}", ": x\n"]).to_owned();
    let end = dice.pick(&["\n", "\r\n", "\r"]);
    while !dice.is_over() && stream.len() < 4000 {
        let document = match dice.below(12) {
            0 => "[DONE]".to_owned(),
            1 => grown::document(&mut dice, &PATHS).replacen(',', &format!(",{end}data: "), 1),
            _ => grown::document(&mut dice, &PATHS),
        };
        let before = dice.pick(&["", "", "event: x", "id:1"]);
        let line = if before.is_empty() { String::new() } else { format!("{before}{end}") };
        stream.push_str(&format!("{line}data:{}{document}{end}{end}", dice.pick(&[" ", " ", ""])));
    }
    answer(*choice, stream.as_bytes());
}

/// Along these, documents grow; all shapes in one, for each must pass over what is another's.
const PATHS: [&str; 72] = [
    "usage",
    "usage.prompt_tokens",
    "usage.completion_tokens",
    "usage.total_tokens",
    "usage.input_tokens",
    "usage.output_tokens",
    "usage.prompt_tokens_details.cached_tokens",
    "usage.prompt_cache_hit_tokens",
    "usage.completion_tokens_details.reasoning_tokens",
    "usage.input_tokens_details.cached_tokens",
    "usage.output_tokens_details.reasoning_tokens",
    "usage.cache_read_input_tokens",
    "usage.cache_creation_input_tokens",
    "usage.0.in",
    "usage.1",
    "x_groq.usage.prompt_tokens",
    "x_groq.usage.completion_tokens",
    "model.=\"m\"",
    "m/n.=\"p\"",
    "choices.=[]",
    "choices.*.text",
    "choices.*.delta.content",
    "choices.*.delta.content.*.text",
    "choices.*.message.content",
    "choices.*.message.tool_calls.*.function.arguments",
    "choices.*.message.tool_calls.*.custom.input",
    "choices.*.delta.tool_calls.*.custom.name",
    "error.message",
    "error.=\"no\"",
    "error.=null",
    "*.error.code",
    "type.=\"error\"",
    "type.=\"response.failed\"",
    "status.=\"failed\"",
    "output.*.input",
    "data.*.url",
    "type.=\"message_stop\"",
    "type.=\"response.completed\"",
    "type.=\"response.output_text.delta\"",
    "type.=\"image_generation.completed\"",
    "status.=\"in_progress\"",
    "delta",
    "delta.text",
    "delta.thinking",
    "content_block.name",
    "content.*.text",
    "response.usage.input_tokens",
    "response.usage.output_tokens",
    "response.usage.output_tokens_details.reasoning_tokens",
    "response.model.=\"r\"",
    "output.*.content.*.text",
    "output.*.arguments",
    "message.usage.input_tokens",
    "message.usage.output_tokens",
    "message.usage.cache_read_input_tokens",
    "message.model.=\"c\"",
    "usageMetadata.promptTokenCount",
    "usageMetadata.toolUsePromptTokenCount",
    "usageMetadata.cachedContentTokenCount",
    "usageMetadata.candidatesTokenCount",
    "usageMetadata.thoughtsTokenCount",
    "modelVersion.=\"g\"",
    "candidates.*.content.parts.*.text",
    "*.usageMetadata.promptTokenCount",
    "*.usageMetadata.thoughtsTokenCount",
    "*.modelVersion.=\"a\"",
    "*.candidates.*.content.parts.*.text",
    "*.0",
    "usage.=null",
    "usage.=null",
    "other",
    "other.usage",
];

fn answer(choice: u8, body: &[u8]) {
    let source = source(choice);
    let format = if choice & 0x08 == 0 { Format::Document } else { Format::Events };
    let reading = read(&source, format, &[body]);
    for size in [1, 2, 3, 5, 17] {
        let pieces: Vec<&[u8]> = body.chunks(size).collect();
        assert_eq!(read(&source, format, &pieces), reading, "in pieces of {size}");
    }
    let (known, is_whole) = whole(&source, format, body);
    if has_huge(body) && reading != known {
        return;
    }
    assert_eq!(reading.counts, known.counts);
    assert_eq!((&reading.model, reading.odd), (&known.model, known.odd));
    assert_eq!((reading.stated, reading.failed), (known.stated, known.failed));
    // It may be less sure: of text below a key that appears twice, it does not say that it came.
    assert!(reading.certainty == Certainty::AtLeast || known.certainty == Certainty::Exact);
    assert!(is_whole || reading.counts.is_none() && !reading.failed);
    assert_eq!(reading.written.is_none(), matches!(source, Source::Pointers(_)));
    if let (Some(written), Some(known)) = (reading.written, known.written) {
        assert!(written.bytes <= known.bytes && written.events <= known.events, "{written:?} {known:?}");
    }
    assert!(reading.counts.is_some() || reading.stated == Stated::default());
    if let Some(counts) = reading.counts {
        assert!(
            reading.stated.input
                || counts.input == 0
                || source == Source::Anthropic
                || source == Source::Gemini
        );
        assert!(reading.stated.output || counts.output == 0);
        assert!(counts.cached + counts.cache_written <= counts.input && counts.reasoning <= counts.output);
    }
    if format == Format::Events {
        hidden::hide(body);
    }
}

fn source(choice: u8) -> Source {
    let pointer = |text: &str| Pointer::parse(text);
    match choice & 0x07 {
        0 => Source::OpenAi,
        1 => Source::OpenAiImages,
        2 => Source::OpenAiResponses,
        3 => Source::Anthropic,
        4 => Source::Gemini,
        _ => Source::Pointers(Rc::new(Pointers {
            input: pointer("/usage/0/in"),
            output: pointer("/usage/1"),
            model: pointer("/m~1n"),
        })),
    }
}

fn read(source: &Source, format: Format, pieces: &[&[u8]]) -> Reading {
    let mut meter = Meter::new(source, format);
    pieces.iter().for_each(|piece| meter.feed(piece));
    meter.read()
}

/// Is there something that looks like a number on which readers of JSON differ, at 1e308 and above?
pub(crate) fn has_huge(body: &[u8]) -> bool {
    let is_long = body.split(|b| !b.is_ascii_digit()).any(|digits| digits.len() > 300);
    let exponent = |pair: &[u8]| matches!(pair[0], b'e' | b'E') && matches!(pair[1], b'0'..=b'9' | b'+');
    is_long || body.windows(2).any(exponent)
}

/// The data of events, line by line over the whole.
pub(crate) fn events(body: &[u8]) -> Vec<Vec<u8>> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let (mut events, mut data, mut line) = (Vec::new(), Vec::<Vec<u8>>::new(), Vec::new());
    let mut bytes = body.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\n' && byte != b'\r' {
            line.push(byte);
            continue;
        }
        if byte == b'\r' && bytes.peek() == Some(&b'\n') {
            bytes.next();
        }
        let line = std::mem::take(&mut line);
        if line.is_empty() {
            if !data.is_empty() {
                events.push(std::mem::take(&mut data).join(&b'\n'));
            }
        } else if line == b"data" {
            data.push(Vec::new());
        } else if let Some(value) = line.strip_prefix(b"data:") {
            data.push(value.strip_prefix(b" ").unwrap_or(value).to_vec());
        }
    }
    events
}

/// What a reader of the whole knows.
fn whole(source: &Source, format: Format, body: &[u8]) -> (Reading, bool) {
    let mut known = Reading {
        counts: None,
        stated: Stated::default(),
        certainty: Certainty::AtLeast,
        model: None,
        written: (!matches!(source, Source::Pointers(_))).then(Written::default),
        odd: false,
        failed: false,
    };
    let mut last = [None; 4];
    let mut is_whole = false;
    let all = if format == Format::Events { events(body) } else { vec![body.to_vec()] };
    for data in all {
        if let Ok(value) = serde_json::from_slice::<Value>(&data) {
            is_whole = true;
            settle(source, format, &value, &mut known, &mut last);
        }
        if format == Format::Events && data == b"[DONE]" {
            known.certainty = Certainty::Exact;
        }
    }
    (known, is_whole)
}

type Last = [Option<u64>; 4];

fn settle(source: &Source, format: Format, doc: &Value, known: &mut Reading, last: &mut Last) {
    let is_event = format == Format::Events;
    let bytes = written(source, doc);
    let kind = doc["type"].as_str().unwrap_or("");
    known.failed |= fails(source, is_event, kind, doc);
    let is_delta = !is_event || *source != Source::OpenAiResponses || kind.ends_with(".delta");
    if let (true, true, Some(written)) = (bytes > 0, is_delta, &mut known.written) {
        written.bytes += bytes;
        written.events += 1;
        if is_event && *source == Source::OpenAi {
            known.certainty = Certainty::AtLeast;
        }
    }
    let names: &[&str] = match source {
        Source::OpenAi | Source::OpenAiImages => &["/model"],
        Source::OpenAiResponses => &["/model", "/response/model"],
        Source::Anthropic => &["/model", "/message/model"],
        Source::Gemini => &["/modelVersion"],
        Source::Pointers(_) => &["/m~1n"],
    };
    let text = |name: &&str| doc.pointer(name).and_then(Value::as_str);
    let fits = |text: &str| !text.is_empty() && text.len() <= 256;
    let mut model = names.iter().filter_map(text).find(|text| fits(text));
    if *source == Source::Gemini && model.is_none() {
        // The last element that names one at all that is short enough.
        let mut elements = doc.as_array().into_iter().flatten();
        let named = elements.rfind(|it| it.is_object() && it.get("modelVersion").is_some());
        model = named.and_then(|it| it["modelVersion"].as_str()).filter(|text| fits(text));
    }
    if let Some(model) = model {
        known.model = Some(model.to_owned());
    }
    if !is_event {
        let waits = matches!(doc["status"].as_str(), Some("queued" | "in_progress"));
        let is_open = *source == Source::OpenAiResponses && waits;
        known.certainty = if is_open { Certainty::AtLeast } else { Certainty::Exact };
    }
    counts(source, is_event, kind, doc, known, last);
}

/// The numbers of a usage: `Err` if any is odd, `None` if nothing is there.
fn numbers(usage: Option<&Value>, fields: [&str; 5]) -> Result<Option<[Option<u64>; 5]>, ()> {
    let Some(usage) = usage.filter(|it| !it.is_null()) else { return Ok(None) };
    if !usage.is_object() {
        return Err(());
    }
    let mut out = [None; 5];
    for (at, field) in fields.into_iter().enumerate() {
        match usage.pointer(field).filter(|it| !it.is_null() && !field.is_empty()) {
            None => {}
            Some(value) => match value.as_u64() {
                Some(number) if number < 1 << 53 => out[at] = Some(number),
                _ => return Err(()),
            },
        }
    }
    Ok((out[0].is_some() || out[3].is_some() || out[4].is_some()).then_some(out))
}

fn counts(source: &Source, is_event: bool, kind: &str, doc: &Value, known: &mut Reading, last: &mut Last) {
    match source {
        Source::OpenAi => openai(doc, known),
        Source::OpenAiImages => images(is_event, kind, doc, known),
        Source::OpenAiResponses => responses(is_event, kind, doc, known),
        Source::Anthropic => anthropic(is_event, kind, doc, known, last),
        Source::Gemini => gemini(doc, known),
        Source::Pointers(_) => pointers(doc, known, last),
    }
}

fn put(known: &mut Reading, [input, cached, written, output, reasoning]: [Option<u64>; 5]) {
    known.stated = Stated { input: input.is_some(), output: output.is_some() };
    let (input, output) = (input.unwrap_or(0), output.unwrap_or(0));
    let cached = cached.unwrap_or(0).min(input);
    known.counts = Some(Counts {
        input,
        cached,
        cache_written: written.unwrap_or(0).min(input - cached),
        output,
        reasoning: reasoning.unwrap_or(0).min(output),
        images: 0,
    });
}

fn openai(doc: &Value, known: &mut Reading) {
    let place = if doc.get("usage").is_some_and(|it| !it.is_null()) { "/usage" } else { "/x_groq/usage" };
    let usage = doc.pointer(place);
    let details = "/completion_tokens_details/reasoning_tokens";
    let cached = "/prompt_tokens_details/cached_tokens";
    let hit = if place == "/usage" { "/prompt_cache_hit_tokens" } else { "" };
    match numbers(usage, ["/prompt_tokens", cached, hit, "/completion_tokens", details]) {
        Err(()) => known.odd = true,
        Ok(None) => {}
        Ok(Some([input, cached, hit, output, thoughts])) => {
            let total = usage.and_then(|it| it["total_tokens"].as_u64()).filter(|n| *n < 1 << 53);
            let apart = input.unwrap_or(0) + output.unwrap_or(0) + thoughts.unwrap_or(0);
            let beside = thoughts.unwrap_or(0) > 0 && place == "/usage" && total == Some(apart);
            let output = if beside { Some(output.unwrap_or(0) + thoughts.unwrap_or(0)) } else { output };
            put(known, [input, cached.or(hit), None, output, thoughts]);
            if doc["choices"].as_array().is_some_and(Vec::is_empty) {
                known.certainty = Certainty::Exact;
            }
        }
    }
}

fn images(is_event: bool, kind: &str, doc: &Value, known: &mut Reading) {
    let cached = "/input_tokens_details/cached_tokens";
    let stated = numbers(doc.get("usage"), ["/input_tokens", cached, "", "/output_tokens", ""]);
    let listed = doc["data"].as_array().map_or(0, Vec::len);
    let completed = u64::from(kind.ends_with(".completed") && kind.len() <= 256);
    let images = if is_event { completed } else { u64::try_from(listed).unwrap() };
    match stated {
        Err(()) => known.odd = true,
        Ok(None) if images == 0 => {}
        Ok(stated) => {
            let before = known.counts.unwrap_or_default();
            if let Some(stated) = stated {
                put(known, stated);
            }
            let tokens = known.counts.unwrap_or_default();
            known.counts = Some(Counts { images: before.images + images, ..tokens });
        }
    }
}

fn responses(is_event: bool, kind: &str, doc: &Value, known: &mut Reading) {
    let ends = ["response.completed", "response.incomplete", "response.failed"].contains(&kind);
    let usage = if is_event { doc.pointer("/response/usage") } else { doc.get("usage") };
    if is_event && !ends {
        return;
    }
    if is_event {
        known.certainty = Certainty::Exact;
    }
    let (cached, thoughts) =
        ("/input_tokens_details/cached_tokens", "/output_tokens_details/reasoning_tokens");
    match numbers(usage, ["/input_tokens", cached, "", "/output_tokens", thoughts]) {
        Err(()) => known.odd = true,
        Ok(None) => {}
        Ok(Some(stated)) => put(known, stated),
    }
}

fn anthropic(is_event: bool, kind: &str, doc: &Value, known: &mut Reading, last: &mut Last) {
    if is_event && kind == "message_stop" {
        known.certainty = Certainty::Exact;
    }
    let (read, made) = ("/cache_read_input_tokens", "/cache_creation_input_tokens");
    // What a stream begins with says nothing of its output yet.
    for (place, output) in [("/message/usage", ""), ("/usage", "/output_tokens")] {
        match numbers(doc.pointer(place), ["/input_tokens", read, made, output, ""]) {
            Err(()) => known.odd = true,
            Ok(None) => {}
            Ok(Some([input, cached, written, output, _])) => {
                let new = [input, cached, written, output];
                last.iter_mut().zip(new).for_each(|(last, new)| *last = new.or(*last));
                let [input, cached, written, output] = last.map(Option::unwrap_or_default);
                let input = Some(input + cached + written);
                put(known, [input, Some(cached), Some(written), Some(output), None]);
                known.stated = Stated { input: last[0].is_some(), output: last[3].is_some() };
            }
        }
    }
}

fn gemini(doc: &Value, known: &mut Reading) {
    let mut usage = doc.get("usageMetadata").filter(|it| !it.is_null());
    if usage.is_none() {
        let elements = doc.as_array().into_iter().flatten();
        usage = elements.filter_map(|it| it.get("usageMetadata")).next_back();
    }
    let fields = [
        "/promptTokenCount",
        "/cachedContentTokenCount",
        "/toolUsePromptTokenCount",
        "/candidatesTokenCount",
        "/thoughtsTokenCount",
    ];
    match numbers(usage, fields) {
        Err(()) => known.odd = true,
        Ok(None) => {}
        Ok(Some([input, cached, tools, output, thoughts])) => {
            let stated = Stated { input: input.is_some(), output: output.or(thoughts).is_some() };
            let input = Some(input.unwrap_or(0) + tools.unwrap_or(0));
            let output = Some(output.unwrap_or(0) + thoughts.unwrap_or(0));
            put(known, [input, cached, None, output, thoughts]);
            known.stated = stated;
        }
    }
}

fn pointers(doc: &Value, known: &mut Reading, last: &mut Last) {
    let mut usage = Map::new();
    for (name, place) in [("in", "/usage/0/in"), ("out", "/usage/1")] {
        usage.insert(name.to_owned(), doc.pointer(place).cloned().unwrap_or(Value::Null));
    }
    match numbers(Some(&usage.into()), ["/in", "", "", "/out", ""]) {
        Err(()) => known.odd = true,
        Ok(None) => {}
        Ok(Some([input, _, _, output, _])) => {
            (last[0], last[1]) = (input.or(last[0]), output.or(last[1]));
            put(known, [last[0], None, None, last[1], None]);
        }
    }
}
