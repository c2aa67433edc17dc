//! The reader takes what a whole-document reader takes, and hears the same, wherever the pieces are cut.

use super::*;
use serde_json::Value;

/// Builds the whole value again out of what is heard.
#[derive(Default)]
struct Builder {
    open: Vec<(Value, Option<String>)>,
    key: Option<String>,
    root: Option<Value>,
    spans: Vec<Range<usize>>,
}

impl Builder {
    fn put(&mut self, value: Value) {
        let key = self.key.take();
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some((Value::Array(list), _)) => list.push(value),
            Some((Value::Object(map), _)) => drop(map.insert(key.unwrap(), value)),
            Some(_) => panic!("a scalar is open"),
        }
    }
}

impl Visitor for Builder {
    fn open(&mut self, object: bool, _: usize) {
        let value = if object { Value::Object(serde_json::Map::new()) } else { Value::Array(vec![]) };
        self.open.push((value, self.key.take()));
    }
    fn close(&mut self, _: usize) {
        let (value, key) = self.open.pop().unwrap();
        self.key = key;
        self.put(value);
    }
    fn key(&mut self, key: Option<&[u8]>, _: usize) {
        self.key = Some(key.map_or("too long".to_owned(), |k| String::from_utf8(k.to_vec()).unwrap()));
    }
    fn value(&mut self, value: Scalar<'_>, at: Range<usize>) {
        self.spans.push(at);
        self.put(match value {
            Scalar::Null => Value::Null,
            Scalar::Bool(flag) => flag.into(),
            Scalar::Number(number) => number.map_or("not plain".into(), Value::from),
            Scalar::Text { start, bytes } if bytes <= 256 => {
                assert_eq!(u64::try_from(start.len()).unwrap(), bytes);
                String::from_utf8(start.to_vec()).unwrap().into()
            }
            Scalar::Text { bytes, .. } => bytes.into(),
        });
    }
}

/// The same value as the builder makes, out of a whole reader's.
fn shown(value: Value) -> Value {
    match value {
        Value::Number(n) => n.as_u64().map_or("not plain".into(), Value::from),
        Value::String(text) if text.len() > 256 => text.len().into(),
        Value::Array(list) => list.into_iter().map(shown).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(k, v)| (if k.len() > 256 { "too long".to_owned() } else { k }, shown(v)))
            .collect(),
        other => other,
    }
}

fn read(pieces: &[&[u8]]) -> Option<Value> {
    let (mut json, mut builder) = (Json::new(), Builder::default());
    pieces.iter().for_each(|piece| json.feed(piece, &mut builder));
    let whole = json.is_whole();
    // A number at the top has no end of its own.
    json.feed(b" ", &mut builder);
    whole.then(|| builder.root.unwrap())
}

const VALID: [&str; 24] = [
    "{}",
    " [ ] ",
    "0",
    "-0",
    "1e5",
    "18446744073709551615",
    "18446744073709551616",
    "0e999999",
    "1e-999999999999999999999",
    "0.5E+3",
    "\"\"",
    "true",
    "null",
    "{\"a\":1,\"a\":{\"b\":[1,2.5,-3,false,null,\"x\"]}}",
    "[[],{},[[]],{\"\":{}}]",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20ac\\uD83D\\uDE00\"",
    "\"plain é € 😀 \u{7f} long enough for more than eight bytes at a time\"",
    "{\"\\u0075sage\":1}",
    "[1 , 2\t,\r\n3]",
    "[0,0.0,10,1E1]",
    "[\"\u{d7ff}\u{e000}\u{10ffff}\"]",
    "[123456789012345678901234567890]",
    "[9007199254740993]",
    "\"\\u0000\"",
];

const INVALID: [&str; 44] = [
    "",
    " ",
    "{",
    "}",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{a:1}",
    "{,}",
    "{1:2}",
    "01",
    "-",
    "-a",
    "1.",
    ".5",
    "1e",
    "1e+",
    "+1",
    "--1",
    "1.5.5",
    "0x1",
    "nul",
    "nulll",
    "True",
    "\"",
    "\"\n\"",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\u12G4\"",
    "\"\\uD800\"",
    "\"\\uDC00\"",
    "\"\\uD800\\u0041\"",
    "\"\\uD800x\"",
    "[1}",
    "{\"a\":1]",
    "1 2",
    "{} {}",
    "1e400",
];

#[test]
fn what_a_whole_reader_reads_is_read_the_same_at_every_cut() {
    let mut texts: Vec<String> = VALID.map(str::to_owned).to_vec();
    texts.push(format!("\"{}\"", "x".repeat(300)));
    texts.push(format!("{{\"{}\":1,\"{}\":2}}", "k".repeat(256), "k".repeat(257)));
    texts.push("[".repeat(127) + &"]".repeat(127));
    for text in &texts {
        let whole: Value = serde_json::from_str(text).unwrap();
        let whole = Some(shown(whole));
        let bytes = text.as_bytes();
        assert_eq!(read(&[bytes]), whole, "{text}");
        assert_eq!(read(&bytes.chunks(1).collect::<Vec<_>>()), whole, "{text}, byte by byte");
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(read(&[head, tail]), whole, "{text}, cut at {cut}");
        }
    }
}

#[test]
fn what_no_reader_reads_is_refused_at_every_cut() {
    let mut texts: Vec<Vec<u8>> = INVALID.map(|text| text.as_bytes().to_vec()).to_vec();
    texts.push((("[".repeat(128)) + &"]".repeat(128)).into_bytes());
    texts.push(format!("1{}", "0".repeat(400)).into_bytes());
    let broken: [&[u8]; 10] = [
        b"\xC0\x80",
        b"\xC1\xBF",
        b"\xE0\x80\x80",
        b"\xED\xA0\x80",
        b"\xF0\x80\x80\x80",
        b"\xF4\x90\x80\x80",
        b"\xF5\x80\x80\x80",
        b"\x80",
        b"\xE2\x82",
        b"\xE2\x28\xA1",
    ];
    texts.extend(broken.iter().map(|bytes| [b"[\"abcdefghijk", *bytes, b"\"]"].concat()));
    texts.push(b"\xEF\xBB\xBF{}".to_vec());
    for bytes in &texts {
        let text = String::from_utf8_lossy(bytes);
        assert!(serde_json::from_slice::<Value>(bytes).is_err(), "{text} is JSON");
        assert_eq!(read(&[bytes]), None, "{text}");
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(read(&[head, tail]), None, "{text}, cut at {cut}");
        }
    }
}

#[test]
fn a_fault_is_named() {
    for (text, fault) in
        [("[1,2", None), ("{]", Some(Fault::Syntax)), (&"[".repeat(128), Some(Fault::TooDeep))]
    {
        let mut json = Json::new();
        json.feed(text.as_bytes(), &mut Builder::default());
        assert_eq!(json.fault(), fault, "{text}");
    }
}

#[test]
fn every_plain_byte_is_found_wherever_it_stands() {
    for at in 0..20 {
        for byte in 0..=255_u8 {
            let mut bytes = [b'a'; 20];
            bytes[at] = byte;
            let special = byte < 0x20 || byte == b'"' || byte == b'\\' || byte > 0x7F;
            assert_eq!(plain(&bytes), if special { at } else { 20 }, "{byte} at {at}");
        }
    }
}

#[test]
fn positions_are_those_of_the_text() {
    let text = " {\"a\" : 12 ,\"b\":\"\\u0041\",\"c\":[null,-1.5e3]} ";
    let (mut json, mut builder) = (Json::new(), Builder::default());
    json.feed(text.as_bytes(), &mut builder);
    let spans: Vec<&str> = builder.spans.iter().map(|span| text.get(span.clone()).unwrap()).collect();
    assert_eq!(spans, ["12", "\"\\u0041\"", "null", "-1.5e3"]);
}
