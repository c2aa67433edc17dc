//! The pieces of a body between the answer and the wire: compressed, and cut where no event ends.

use super::events::Event;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Bytes;
use std::collections::VecDeque;
use std::io::Write as _;

/// A part of a body, and what the client has once it has that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    /// Pieces of text that end here.
    pub(crate) words: u64,
    /// True if the usage was said by the end of this.
    pub(crate) usage: bool,
}

pub(crate) type Pieces = Box<dyn Iterator<Item = Piece> + Send + Sync>;

impl Piece {
    /// An event, with the line ends that the script wants.
    pub(crate) fn of(event: Event, crlf: bool) -> Self {
        let text = if crlf { event.text.replace('\n', "\r\n") } else { event.text };
        Self { bytes: Bytes::from(text), words: event.words, usage: event.usage }
    }
}

/// Compresses each piece so that it can be read before the next one comes.
pub(crate) fn compressed(pieces: Pieces) -> Pieces {
    let mut encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut pieces = pieces.fuse();
    Box::new(std::iter::from_fn(move || {
        let Some(piece) = pieces.next() else {
            // What is written to memory does not fail.
            let rest = encoder.take()?.finish().unwrap_or_default();
            return Some(Piece { bytes: Bytes::from(rest), ..Piece::default() });
        };
        let encoder = encoder.as_mut()?;
        encoder.write_all(&piece.bytes).and_then(|()| encoder.flush()).ok()?;
        let bytes = Bytes::from(std::mem::take(encoder.get_mut()));
        Some(Piece { bytes, ..piece })
    }))
}

/// Cuts a body into frames of so many bytes, whatever ends there.
pub(crate) fn framed(pieces: Pieces, size: usize) -> Pieces {
    let size = size.max(1);
    let mut pieces = pieces.fuse();
    let mut held = Vec::<u8>::new();
    // What each piece in `held` counts for, by how many bytes lie before its end.
    let mut ends = VecDeque::<(usize, Piece)>::new();
    Box::new(std::iter::from_fn(move || {
        while held.len() < size {
            let Some(piece) = pieces.next() else { break };
            held.extend_from_slice(&piece.bytes);
            ends.push_back((held.len(), Piece { bytes: Bytes::new(), ..piece }));
        }
        if held.is_empty() {
            return None;
        }
        let cut = size.min(held.len());
        let rest = held.split_off(cut);
        let mut frame = Piece { bytes: Bytes::from(std::mem::replace(&mut held, rest)), ..Piece::default() };
        while let Some((_, piece)) = ends.pop_front_if(|(end, _)| *end <= cut) {
            frame.words = frame.words.saturating_add(piece.words);
            frame.usage |= piece.usage;
        }
        ends.iter_mut().for_each(|(end, _)| *end = end.saturating_sub(cut));
        Some(frame)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn pieces() -> Pieces {
        let piece = |text: &'static str, words, usage| Piece {
            bytes: Bytes::from_static(text.as_bytes()),
            words,
            usage,
        };
        Box::new([piece("für ", 1, false), piece("値段", 1, false), piece("!", 0, true)].into_iter())
    }

    fn whole(pieces: Pieces) -> Vec<u8> {
        pieces.flat_map(|piece| piece.bytes).collect()
    }

    #[test]
    fn frames_cut_characters_and_count_a_piece_where_it_ends() {
        let frames: Vec<_> = framed(pieces(), 2).collect();
        assert!(std::str::from_utf8(&frames[0].bytes).is_err(), "ü is cut");
        let words: Vec<_> =
            frames.iter().map(|frame| (frame.bytes.len(), frame.words, frame.usage)).collect();
        let none = (2, 0, false);
        assert_eq!(words, [none, none, (2, 1, false), none, none, (2, 1, true)]);
        let one: Vec<_> = framed(pieces(), 100).collect();
        assert_eq!((one.len(), one[0].words, one[0].usage), (1, 2, true));
        assert_eq!(whole(framed(pieces(), 5)), whole(pieces()));
    }

    #[test]
    fn what_is_compressed_can_be_read_piece_by_piece() {
        let all: Vec<_> = compressed(pieces()).collect();
        assert_eq!(
            all.iter().map(|piece| (piece.words, piece.usage)).collect::<Vec<_>>(),
            [(1, false), (1, false), (0, true), (0, false)]
        );
        let mut first = Vec::new();
        // The stream has no end yet, which is an error only after all that is there was read.
        let _ = flate2::read::GzDecoder::new(&all[0].bytes[..]).read_to_end(&mut first);
        assert_eq!(first, "für ".as_bytes());
        let mut text = String::new();
        flate2::read::GzDecoder::new(&whole(compressed(pieces()))[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "für 値段!");
    }
}
