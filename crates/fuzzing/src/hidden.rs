//! Usage that does not pass: nothing goes but what is to be hidden, wherever the stream is cut.

use crate::usage::{events, has_huge};
use meter::{Format, Hider, Meter, Passed, Source};
use serde_json::Value;

/// What is hidden does not depend on the cuts, and nothing goes but what is to be hidden.
pub(crate) fn hide(body: &[u8]) {
    let pass = |pieces: &[&[u8]]| {
        let (mut hider, mut meter) = (Hider::new(), Meter::new(&Source::OpenAi, Format::Events));
        let mut out = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            match hider.pass(&mut meter, piece, at + 1 == pieces.len()) {
                Passed::Same => out.extend_from_slice(piece),
                Passed::Instead(bytes) => out.extend_from_slice(&bytes),
            }
        }
        out
    };
    let whole = pass(&[body]);
    for size in [1, 3, 16] {
        assert!(pass(&body.chunks(size).collect::<Vec<_>>()) == whole, "in pieces of {size}");
    }
    let is_mark = |it: &[u8]| it.starts_with(b"\xEF\xBB\xBF") || it.windows(3).any(|w| w == b"\xEF\xBB\xBF");
    if has_huge(body) || is_mark(body) {
        return;
    }
    assert_eq!(kept(&whole), kept(body), "{:?}", String::from_utf8_lossy(&whole));
}

/// The data of events, less what may be hidden.
fn kept(body: &[u8]) -> Vec<Result<Value, Vec<u8>>> {
    let read = |data: Vec<u8>| match serde_json::from_slice::<Value>(&data) {
        Ok(Value::Object(mut map)) => {
            if map.get("usage") == Some(&Value::Null) {
                map.remove("usage");
            }
            Ok(Value::Object(map))
        }
        Ok(other) => Ok(other),
        Err(_) => Err(data),
    };
    let is_hidden = |it: &Result<Value, Vec<u8>>| {
        it.as_ref().is_ok_and(|it| {
            it["choices"].as_array().is_some_and(Vec::is_empty)
                && it.get("usage").is_some_and(Value::is_object)
        })
    };
    events(body).into_iter().map(read).filter(|it| !is_hidden(it)).collect()
}
