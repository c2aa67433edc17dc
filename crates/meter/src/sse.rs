//! Server-sent events (WHATWG HTML, section 9.2.6), taken in pieces: what is data goes on at once, nothing is kept.
//!
//! Of the fields only `data` matters here; `event`, `id`, `retry` and comments are passed over.

/// Hears the data of events.
pub trait Sink {
    /// More data of the event at hand. Between two lines of data this is one line feed.
    fn data(&mut self, bytes: &[u8]);
    /// The event is complete.
    fn dispatch(&mut self);
}

/// The reader of one stream.
#[derive(Clone, Copy, Debug)]
pub struct Events {
    at: At,
    /// The last byte was a carriage return: a line feed belongs to it.
    after_return: bool,
    /// The event at hand has a line of data.
    has_data: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The stream's first bytes, of which so many are a byte order mark's.
    Mark(u8),
    /// Within a field's name, of which so many bytes are those of `data`; `None` if it is another.
    Name(Option<u8>),
    /// Behind the colon of `data`: one blank is not part of the data.
    Colon,
    Data,
    /// Whatever stands in this line.
    Rest,
}

const NAME: &[u8] = b"data";
const MARK: &[u8] = &[0xEF, 0xBB, 0xBF];

/// The beginning of a line.
const LINE: At = At::Name(Some(0));

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl Events {
    /// Before the first byte.
    #[must_use]
    pub const fn new() -> Self {
        Self { at: At::Mark(0), after_return: false, has_data: false }
    }

    /// Reads on. What is left of the last event when the stream ends was no event.
    pub fn feed(&mut self, bytes: &[u8], to: &mut impl Sink) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if core::mem::take(&mut self.after_return) && byte == b'\n' {
                rest = after;
                continue;
            }
            if matches!(self.at, At::Data | At::Rest) {
                let end = rest.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(rest.len());
                let (line, other) = rest.split_at_checked(end).unwrap_or((rest, &[]));
                if !line.is_empty() {
                    if self.at == At::Data {
                        to.data(line);
                    }
                    rest = other;
                    continue;
                }
            }
            if self.step(byte, to) {
                rest = after;
            }
        }
    }

    /// Takes a byte; false if it is to be looked at again.
    fn step(&mut self, byte: u8, to: &mut impl Sink) -> bool {
        if let At::Mark(so_far) = self.at {
            if MARK.get(usize::from(so_far)) == Some(&byte) {
                let so_far = so_far.saturating_add(1);
                self.at = if usize::from(so_far) == MARK.len() { LINE } else { At::Mark(so_far) };
                return true;
            }
            // Part of a mark is the beginning of a name that is not `data`.
            self.at = if so_far == 0 { LINE } else { At::Rest };
            return false;
        }
        if matches!(byte, b'\n' | b'\r') {
            self.after_return = byte == b'\r';
            self.end_line(to);
            return true;
        }
        self.at = match self.at {
            At::Name(so_far) if byte == b':' => {
                if so_far.map(usize::from) == Some(NAME.len()) {
                    self.begin_data(to);
                    At::Colon
                } else {
                    At::Rest
                }
            }
            At::Name(Some(so_far)) if NAME.get(usize::from(so_far)) == Some(&byte) => {
                At::Name(Some(so_far.saturating_add(1)))
            }
            At::Name(_) => At::Name(None),
            At::Colon => {
                self.at = At::Data;
                return byte == b' ';
            }
            other => other,
        };
        true
    }

    fn begin_data(&mut self, to: &mut impl Sink) {
        if core::mem::replace(&mut self.has_data, true) {
            to.data(b"\n");
        }
    }

    fn end_line(&mut self, to: &mut impl Sink) {
        match self.at {
            // A blank line ends the event, if there is one.
            At::Name(Some(0)) if core::mem::take(&mut self.has_data) => to.dispatch(),
            // A field without a colon has an empty value.
            At::Name(Some(so_far)) if usize::from(so_far) == NAME.len() => self.begin_data(to),
            _ => {}
        }
        self.at = LINE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard {
        now: Vec<u8>,
        all: Vec<String>,
    }

    impl Sink for Heard {
        fn data(&mut self, bytes: &[u8]) {
            self.now.extend_from_slice(bytes);
        }
        fn dispatch(&mut self) {
            self.all.push(String::from_utf8(core::mem::take(&mut self.now)).unwrap());
        }
    }

    fn heard(pieces: &[&[u8]]) -> Vec<String> {
        let (mut events, mut heard) = (Events::new(), Heard::default());
        pieces.iter().for_each(|piece| events.feed(piece, &mut heard));
        heard.all
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        for (stream, data) in [
            ("data: a\n\n", &["a"][..]),
            ("data:a\r\n\r\n", &["a"]),
            ("data: a\r\ndata: b\r\n\r\n", &["a\nb"]),
            ("data: a\r\rdata:  b\r\r", &["a", " b"]),
            ("\u{FEFF}data: a\n\n", &["a"]),
            ("\u{FEFF}\u{FEFF}data: a\n\n", &[]),
            ("\n\n\ndata: a\n\n\n\n", &["a"]),
            ("event: x\ndata: a\nid: 1\nretry: 5\n\n", &["a"]),
            ("data: a\ndata: b\n\n", &["a\nb"]),
            ("data: a\n: comment\ndata\ndata:\ndata: b\n\n", &["a\n\n\nb"]),
            ("data\n\n", &[""]),
            ("event: x\n\n", &[]),
            (": a\n\n", &[]),
            (" data: a\n\n", &[]),
            ("datax: a\n\ndat: a\n\nDATA: a\n\n", &[]),
            ("data : a\n\n", &[]),
            ("data: a\n", &[]),
            ("data: a", &[]),
            ("data: a\n\r\ndata: b\r\n\n", &["a", "b"]),
            ("data: a:b: c\n\n", &["a:b: c"]),
        ] {
            assert_eq!(heard(&[stream.as_bytes()]), data, "{stream:?}");
            let single: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
            assert_eq!(heard(&single), data, "{stream:?}, byte by byte");
            for cut in 0..=stream.len() {
                let (head, tail) = stream.as_bytes().split_at(cut);
                assert_eq!(heard(&[head, tail]), data, "{stream:?}, cut at {cut}");
            }
        }
    }

    #[test]
    fn part_of_a_mark_is_no_mark() {
        assert_eq!(heard(&[b"\xEF\xBBdata: a\n\ndata: b\n\n"]), ["b"]);
        assert_eq!(heard(&[b"\xEFdata: a\n\n"]), [""; 0]);
    }
}
