//! What the client did not ask for does not pass, all else does, and the cuts change nothing.

use super::*;
use crate::{Counts, Format, Source};

fn meter() -> Meter {
    Meter::new(&Source::OpenAi, Format::Events)
}

fn passed(pieces: &[&[u8]]) -> Vec<u8> {
    let (mut hider, mut meter, mut out) = (Hider::new(), meter(), Vec::new());
    for (n, piece) in pieces.iter().enumerate() {
        match hider.pass(&mut meter, piece, n + 1 == pieces.len()) {
            Passed::Same => out.extend_from_slice(piece),
            Passed::Instead(bytes) => out.extend_from_slice(&bytes),
        }
        assert!(hider.held.len() <= EVENT_MAX);
    }
    assert_eq!(meter.read(), meter_of(pieces).read(), "the meter sees everything");
    out
}

fn meter_of(pieces: &[&[u8]]) -> Meter {
    let mut meter = meter();
    meter.feed(&pieces.concat());
    meter
}

/// What passes, which is the same however the stream is cut.
fn hidden(stream: &[u8]) -> Vec<u8> {
    let whole = passed(&[stream]);
    assert_eq!(passed(&stream.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
    for cut in 0..=stream.len() {
        let (head, tail) = stream.split_at(cut);
        assert_eq!(passed(&[head, tail]), whole, "cut at {cut}");
        assert_eq!(passed(&[head, b"", tail, b""]), whole, "cut at {cut}, with empty pieces");
    }
    whole
}

fn text(stream: &str) -> String {
    String::from_utf8(hidden(stream.as_bytes())).unwrap()
}

const USAGE: &str = r#"{"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;

#[test]
fn the_chunk_with_usage_alone_does_not_pass() {
    for end in ["\n", "\r\n", "\r"] {
        let event = |data: &str| format!("data: {data}{end}{end}");
        let (first, last) = (event(r#"{"choices":[{"delta":{"content":"a"}}]}"#), event("[DONE]"));
        let stream = format!("{first}{}{last}", event(USAGE));
        assert_eq!(text(&stream), format!("{first}{last}"), "{end:?}");
        assert_eq!(text(&event(USAGE)), "", "{end:?}");
        let more = format!("id: 1{end}: note{end}event: x{end}{}", event(USAGE));
        assert_eq!(text(&format!("{first}{more}{last}")), format!("{first}{last}"), "{end:?}");
        let note = format!(": note{end}:{end}");
        let stream = format!("{first}{note}{}{last}", event(USAGE));
        assert_eq!(text(&stream), format!("{first}{note}{last}"), "a comment stays: {end:?}");
    }
    let lines = "data: {\"choices\":[ ]\ndata: ,\"usage\" : {}}\n\n";
    assert_eq!(text(lines), "");
    assert_eq!(text(&format!("\u{FEFF}data:{USAGE}\n\n")), "");
}

#[test]
fn usage_that_is_null_does_not_pass() {
    for (before, after) in [
        (r#"{"a":1,"usage":null}"#, r#"{"a":1}"#),
        (r#"{"usage":null,"a":1}"#, r#"{"a":1}"#),
        (r#"{"a":1,"usage":null,"b":[2]}"#, r#"{"a":1,"b":[2]}"#),
        (r#"{"a":{"b":[]} , "usage" : null , "c":2 }"#, r#"{"a":{"b":[]} , "c":2 }"#),
        (r#"{ "usage" : null , "c":2 }"#, r#"{ "c":2 }"#),
        (r#"{"usage":null}"#, "{}"),
        (r#"{ "usage":null }"#, "{  }"),
        (r#"{"é":"\"usage\":null","us\u0061ge":null}"#, r#"{"é":"\"usage\":null"}"#),
        (
            r#"{"choices":[],"prompt_filter_results":[],"usage":null}"#,
            r#"{"choices":[],"prompt_filter_results":[]}"#,
        ),
    ] {
        assert_eq!(text(&format!("data: {before}\n\n")), format!("data: {after}\n\n"));
        assert_eq!(
            text(&format!(":x\r\ndata:{before}\r\nid:7\r\n\r\n")),
            format!(":x\r\ndata:{after}\r\nid:7\r\n\r\n")
        );
        assert_eq!(text(&format!("\u{FEFF}data: {before}\n\n")), format!("\u{FEFF}data: {after}\n\n"));
    }
}

#[test]
fn everything_else_passes_as_it_is() {
    let long = format!("data: {{\"a\":\"{}\",\"usage\":null}}\n\n", "x".repeat(300));
    for stream in [
        "",
        "\n\n\n",
        "data: [DONE]\n\n",
        "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: {\"choices\":{},\"usage\":{}}\n\n",
        "data: {\"choices\":[0],\"usage\":{}}\n\n",
        "data: {\"choices\":[[]],\"usage\":{}}\n\n",
        "data: {\"choices\":[],\"usage\":[]}\n\n",
        "data: {\"choices\":[],\"usage\":5}\n\n",
        "data: {\"x\":{\"choices\":[],\"usage\":{}}}\n\n",
        "data: {\"x\":{\"usage\":null}}\n\n",
        "data: [{\"usage\":null}]\n\n",
        "data: {\"usage\":null\n\n",
        "data: {\"usage\":null}}\n\n",
        "data: {\"usage\":nulL}\n\n",
        "data: {\"usage\":null,\"usage\":{}}\n\n",
        "data: {\"usage\":{},\"usage\":null}\n\n",
        "data: {\"choices\":[],\"usage\":{},\"choices\":[]}\n\n",
        "data: {\"a\":1,\ndata: \"usage\":null}\n\n",
        "data: {\"usage\":null\ndata: }\n\n",
        "event: {\"usage\":null}\n\n",
        " data: {\"usage\":null}\n\n",
        ":data: {\"usage\":null}\n\n",
        "\n\u{FEFF}data: {\"usage\":null}\n\n",
        "data: {\"usage\":null}\n",
        "data: {\"usage\":null}",
        "data: {\"choices\":[],\"usage\":{}}\r\n",
        "data: not json\n\n",
    ] {
        assert_eq!(text(stream), stream);
    }
    assert_ne!(text(&long), long);
    assert_eq!(hidden(b"data: \xFF{\"usage\":null}\n\n"), b"data: \xFF{\"usage\":null}\n\n");
}

#[test]
fn a_complete_event_passes_at_once() {
    let (mut hider, mut meter) = (Hider::new(), meter());
    let first = b"data: {\"choices\":[{}]}\n\n";
    assert_eq!(hider.pass(&mut meter, first, false), Passed::Same);
    assert_eq!(hider.pass(&mut meter, b"data: {\"a\":1,\"usa", false), Passed::Instead(vec![]));
    let rest = b"ge\":null}\n\ndata: {";
    assert_eq!(hider.pass(&mut meter, rest, false), Passed::Instead(b"data: {\"a\":1}\n\n".to_vec()));
    assert_eq!(hider.pass(&mut meter, b"", true), Passed::Instead(b"data: {".to_vec()));
    let mut hider = Hider::new();
    let both = format!("data: 1\n\ndata: {USAGE}\n\n");
    assert_eq!(hider.pass(&mut meter, both.as_bytes(), false), Passed::Instead(b"data: 1\n\n".to_vec()));
    assert_eq!(meter.read().counts, Some(Counts { input: 3, output: 2, ..Counts::default() }));
}

#[test]
fn a_carriage_return_ends_an_event_at_once() {
    let (mut hider, mut meter) = (Hider::new(), meter());
    assert_eq!(hider.pass(&mut meter, b"data: 1\r\r", false), Passed::Same);
    assert_eq!(hider.pass(&mut meter, b"\n:\r", false), Passed::Same);
    assert_eq!(hider.pass(&mut meter, b"\ndata: 2\r\n\r", false), Passed::Same);
    assert_eq!(hider.pass(&mut meter, b"\n", false), Passed::Same);
    let usage = format!("data: {USAGE}\r\r");
    assert_eq!(hider.pass(&mut meter, usage.as_bytes(), false), Passed::Instead(vec![]));
    assert_eq!(hider.pass(&mut meter, b"\ndata: 3\n\n", true), Passed::Instead(b"data: 3\n\n".to_vec()));
}

#[test]
fn an_event_that_is_too_long_passes_as_it_is() {
    let event = |length: usize| {
        let frame = "data: {\"a\":\"\",\"usage\":null}\n\n".len();
        format!("data: {{\"a\":\"{}\",\"usage\":null}}\n\n", "x".repeat(length - frame))
    };
    let (most, over) = (event(EVENT_MAX), event(EVENT_MAX + 1));
    for size in [1000, EVENT_MAX - 1, EVENT_MAX, EVENT_MAX + 1, 2 * EVENT_MAX, 7] {
        let stream = most.clone() + &over + &most;
        let less = most.replace(",\"usage\":null", "");
        let wanted = less.clone() + &over + &less;
        let pieces: Vec<&[u8]> = stream.as_bytes().chunks(size).collect();
        assert!(passed(&pieces) == wanted.as_bytes(), "in pieces of {size}");
    }
}

/// What passes of a stream of which nobody tells the end.
fn without_end(pieces: &[&[u8]]) -> String {
    let (mut hider, mut meter, mut out) = (Hider::new(), meter(), Vec::new());
    for piece in pieces {
        match hider.pass(&mut meter, piece, false) {
            Passed::Same => out.extend_from_slice(piece),
            Passed::Instead(bytes) => out.extend_from_slice(&bytes),
        }
    }
    String::from_utf8(out).unwrap()
}

/// Trailers follow, and whatever is held then is lost.
#[test]
fn what_has_nothing_to_hide_does_not_wait_for_its_end() {
    for stream in [
        "data: [DONE]",
        "data: [DONE]\n",
        "data:[",
        "id: 1\nevent: done\ndata: [DONE]\r\n",
        "data: not json",
        "data: \ndata: \t5",
        "data: \"a",
        "data: {]",
        "data: {\"error\":{\"message\":\"no\"}}",
        "data: {\"choices\":[{\"delta\":{}}]}\n",
        "data: {\"choices\":[],\"usage\":{},\"usage\"",
        "data: {\"choices\":[]}",
        "data: {\"choices\":[{}],\"usage\":{}}",
        ":",
        ": keep-alive\r\n",
        ": a\n: b",
        "\n\n\n",
    ] {
        for before in ["", "data: {\"a\":1}\n\n", ": a\n\n", "data: {}\r\r"] {
            let stream = format!("{before}{stream}");
            assert_eq!(without_end(&[stream.as_bytes()]), stream);
            assert_eq!(without_end(&stream.as_bytes().chunks(1).collect::<Vec<_>>()), stream);
            assert_eq!(text(&stream), stream);
        }
    }
    let chunk = "data: {\"choices\":[{}],\"usage\":{}}";
    for held in [format!("data: {USAGE}\n"), "data: {\"usage\":null}".to_owned(), "id: 1\n".to_owned()] {
        let stream = format!("{chunk}\n\n: a\n{held}");
        assert_eq!(without_end(&[stream.as_bytes()]), format!("{chunk}\n\n: a\n"), "{held}");
        assert_eq!(text(&stream), stream, "whose end is told loses nothing");
    }
}

/// The data of the events of a stream, without what is to be hidden.
fn kept(stream: &str) -> Vec<String> {
    let plain = stream.replace("\r\n", "\n").replace('\r', "\n");
    let (mut kept, mut data) = (Vec::new(), Vec::new());
    for line in plain.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        if let Some(value) = line.strip_prefix("data:") {
            data.push(value.strip_prefix(' ').unwrap_or(value));
        } else if line.is_empty() && !data.is_empty() {
            let (lines, whole) = (data.len(), std::mem::take(&mut data).join("\n"));
            let less = whole.replace(",\"usage\":null", "");
            match serde_json::from_str::<serde_json::Value>(&whole) {
                Ok(it) if it["choices"] == serde_json::json!([]) && it["usage"].is_object() => {}
                Ok(_) if lines == 1 => kept.push(less),
                _ => kept.push(whole),
            }
        }
    }
    kept
}

/// Every stream of some lines, cut everywhere.
#[test]
fn the_cuts_change_nothing() {
    let lines = [
        "",
        "id: 1",
        ":c",
        "data: [DONE]",
        "data: {\"choices\":[]",
        "data: ,\"usage\":{}}",
        "data:{\"a\":1,\"usage\":null}",
        "data:{\"choices\":[],\"usage\":{}}",
    ];
    let mut streams = vec![String::new()];
    for _ in 0..4 {
        let longer: Vec<String> = streams
            .iter()
            .flat_map(|stream| lines.iter().map(move |line| format!("{stream}{line}\n")))
            .collect();
        for (n, stream) in longer.iter().enumerate() {
            let stream = stream.replace('\n', ["\n", "\r\n", "\r"][n % 3]);
            let passed = text(&stream);
            assert_eq!(kept(&passed), kept(&stream), "{stream:?} {passed:?}");
            let whole = text(&format!("{stream}\n\n"));
            assert!(
                whole.starts_with(without_end(&[stream.as_bytes()]).trim_end_matches('\r')),
                "{stream:?}"
            );
        }
        streams = longer;
    }
}
