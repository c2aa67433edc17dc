//! Reads answers in tests, whole and in pieces.

use crate::{Counts, Format, Meter, Reading, Source, Stated, Written};

pub(super) const NONE: Counts =
    Counts { input: 0, cached: 0, cache_written: 0, output: 0, reasoning: 0, images: 0 };

pub(super) const BOTH: Stated = Stated { input: true, output: true };

pub(super) fn written(reading: &Reading) -> Written {
    reading.written.expect("where text stands is known")
}

/// The same whole, byte by byte, and in two pieces cut anywhere.
fn read(source: &Source, format: Format, bytes: &[u8]) -> Reading {
    let of = |pieces: &[&[u8]]| {
        let mut meter = Meter::new(source, format);
        pieces.iter().for_each(|piece| meter.feed(piece));
        meter.read()
    };
    let whole = of(&[bytes]);
    assert_eq!(of(&bytes.chunks(1).collect::<Vec<_>>()), whole);
    for cut in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        assert_eq!(of(&[head, tail]), whole, "cut at {cut}");
    }
    whole
}

pub(super) fn document(source: &Source, body: &str) -> Reading {
    read(source, Format::Document, body.as_bytes())
}

pub(super) fn events(source: &Source, stream: &str) -> Reading {
    read(source, Format::Events, stream.as_bytes())
}
