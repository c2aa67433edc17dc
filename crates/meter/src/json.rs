//! A strict reader of JSON (RFC 8259) that takes a document in pieces, keeps nearly nothing of it, and knows whether it was whole.
//!
//! It accepts what `serde_json` reads into a `Value`, less numbers of 1e308 and above: there, readers differ on what
//! is still a number (RFC 8259, section 6).

use crate::number::Number;
use core::ops::Range;

/// Hears what a document consists of, in its order. Positions are bytes from the beginning of the document.
pub trait Visitor {
    /// An object or an array begins at `at`.
    fn open(&mut self, object: bool, at: usize);
    /// The innermost object or array ends before `end`.
    fn close(&mut self, end: usize);
    /// The key of the next value, decoded; `None` if it is longer than [`KEPT`] bytes. It begins at `at`.
    fn key(&mut self, key: Option<&[u8]>, at: usize);
    /// A value that is neither object nor array.
    fn value(&mut self, value: Scalar<'_>, at: Range<usize>);
}

/// A value that holds no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number; its value if it is written as a whole number of digits only and fits.
    Number(Option<u64>),
    /// A string.
    Text {
        /// Its first [`KEPT`] bytes, decoded. They may end within a character.
        start: &'a [u8],
        /// Its length in bytes, decoded.
        bytes: u64,
    },
}

/// How many bytes of a string are kept while it is read.
pub const KEPT: usize = 256;

/// Containers within each other. `serde_json` stops at the same, so that neither reads what the other refuses.
const DEPTH_MAX: u32 = 127;

/// Why a document is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It breaks the grammar, or is not UTF-8.
    Syntax,
    /// It has more than 127 containers within each other.
    TooDeep,
}

/// The reader of one document.
#[derive(Debug)]
pub struct Json {
    state: State,
    /// One bit per open container, the innermost lowest: 1 is an object.
    stack: u128,
    depth: u32,
    /// Bytes before the one at hand.
    position: usize,
    /// Where the scalar or key at hand began.
    begun: usize,
    /// True if the string at hand is a key.
    is_key: bool,
    start: Vec<u8>,
    bytes: u64,
    number: Number,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value must come.
    Value,
    /// A value or the end of the array.
    First,
    /// A key or the end of the object.
    FirstKey,
    Key,
    Colon,
    /// A comma or the end of the container.
    After,
    /// The document is whole; blanks may follow.
    Whole,
    Text,
    Escape,
    /// Of `\u`: digits so far, their value, and the first half of a surrogate pair that it must complete.
    Hex(u8, u16, Option<u16>),
    /// A first half was read: `\` must follow,
    HalfSlash(u16),
    /// and `u`.
    HalfU(u16),
    /// More bytes of a character, and the bounds of the next.
    More(u8, u8, u8),
    /// The rest of a literal.
    Literal(&'static [u8], Scalar<'static>),
    Number,
    Not(Fault),
}

impl Default for Json {
    fn default() -> Self {
        Self::new()
    }
}

impl Json {
    /// Before the first byte.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: State::Value,
            stack: 0,
            depth: 0,
            position: 0,
            begun: 0,
            is_key: false,
            start: Vec::new(),
            bytes: 0,
            number: Number::new(),
        }
    }

    /// Back to before the first byte, keeping what was allocated.
    pub fn restart(&mut self) {
        let start = core::mem::take(&mut self.start);
        *self = Self { start, ..Self::new() };
    }

    /// True if what was fed is one valid document.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        match self.state {
            State::Whole => true,
            State::Number => self.depth == 0 && self.number.is_whole(),
            _ => false,
        }
    }

    /// Why what was fed cannot become a document any more.
    #[must_use]
    pub const fn fault(&self) -> Option<Fault> {
        match self.state {
            State::Not(fault) => Some(fault),
            _ => None,
        }
    }

    /// Reads on. After a fault nothing is read any more.
    pub fn feed(&mut self, bytes: &[u8], to: &mut impl Visitor) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            match self.state {
                State::Not(_) => return,
                State::Text => {
                    let (plain, other) = rest.split_at_checked(plain(rest)).unwrap_or((rest, &[]));
                    if !plain.is_empty() {
                        self.keep(plain);
                        self.position = self.position.saturating_add(plain.len());
                        rest = other;
                        continue;
                    }
                }
                // The number ended with the byte before; this one is read as what follows it.
                State::Number if !self.number.takes(byte) => {
                    self.end_number(to);
                    continue;
                }
                _ => {}
            }
            self.step(byte, to);
            self.position = self.position.saturating_add(1);
            rest = after;
        }
    }

    fn step(&mut self, byte: u8, to: &mut impl Visitor) {
        let blank = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.state = match self.state {
            State::Value
            | State::First
            | State::FirstKey
            | State::Key
            | State::Colon
            | State::After
            | State::Whole
                if blank =>
            {
                return;
            }
            State::First if byte == b']' => return self.close(false, to),
            State::Value | State::First => return self.value(byte, to),
            State::FirstKey if byte == b'}' => return self.close(true, to),
            State::FirstKey | State::Key if byte == b'"' => return self.begin_text(true),
            State::Colon if byte == b':' => State::Value,
            State::After => return self.after(byte, to),
            State::Text => return self.text(byte, to),
            State::Escape => return self.escape(byte),
            State::Hex(digits, value, half) => return self.hex(byte, digits, value, half),
            State::HalfSlash(half) if byte == b'\\' => State::HalfU(half),
            State::HalfU(half) if byte == b'u' => State::Hex(0, 0, Some(half)),
            State::More(more, low, high) if (low..=high).contains(&byte) => {
                self.keep(&[byte]);
                match more.saturating_sub(1) {
                    0 => State::Text,
                    more => State::More(more, 0x80, 0xBF),
                }
            }
            State::Literal(rest, value) => match rest.split_first() {
                Some((want, rest)) if *want == byte => {
                    if !rest.is_empty() {
                        self.state = State::Literal(rest, value);
                        return;
                    }
                    to.value(value, self.begun..self.position.saturating_add(1));
                    self.done()
                }
                _ => State::Not(Fault::Syntax),
            },
            // Already taken.
            State::Number => State::Number,
            _ => State::Not(Fault::Syntax),
        };
    }

    /// The state after a value.
    const fn done(&self) -> State {
        if self.depth == 0 { State::Whole } else { State::After }
    }

    fn value(&mut self, byte: u8, to: &mut impl Visitor) {
        self.begun = self.position;
        self.state = match byte {
            b'{' | b'[' => {
                let object = byte == b'{';
                if self.depth >= DEPTH_MAX {
                    State::Not(Fault::TooDeep)
                } else {
                    self.depth = self.depth.saturating_add(1);
                    self.stack = self.stack.wrapping_shl(1) | u128::from(object);
                    to.open(object, self.position);
                    if object { State::FirstKey } else { State::First }
                }
            }
            b'"' => return self.begin_text(false),
            b'n' => State::Literal(b"ull", Scalar::Null),
            b't' => State::Literal(b"rue", Scalar::Bool(true)),
            b'f' => State::Literal(b"alse", Scalar::Bool(false)),
            b'-' | b'0'..=b'9' => {
                self.number = Number::new();
                self.number.takes(byte);
                State::Number
            }
            _ => State::Not(Fault::Syntax),
        };
    }

    fn close(&mut self, object: bool, to: &mut impl Visitor) {
        if self.depth == 0 || (self.stack & 1 == 1) != object {
            self.state = State::Not(Fault::Syntax);
            return;
        }
        self.stack = self.stack.wrapping_shr(1);
        self.depth = self.depth.saturating_sub(1);
        to.close(self.position.saturating_add(1));
        self.state = self.done();
    }

    fn after(&mut self, byte: u8, to: &mut impl Visitor) {
        match byte {
            b',' => self.state = if self.stack & 1 == 1 { State::Key } else { State::Value },
            b'}' => self.close(true, to),
            b']' => self.close(false, to),
            _ => self.state = State::Not(Fault::Syntax),
        }
    }

    fn end_number(&mut self, to: &mut impl Visitor) {
        if self.number.is_whole() {
            to.value(Scalar::Number(self.number.plain()), self.begun..self.position);
            self.state = self.done();
        } else {
            self.state = State::Not(Fault::Syntax);
        }
    }

    fn begin_text(&mut self, is_key: bool) {
        self.begun = self.position;
        self.is_key = is_key;
        self.start.clear();
        self.bytes = 0;
        self.state = State::Text;
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let room = KEPT.saturating_sub(self.start.len()).min(bytes.len());
        self.start.extend_from_slice(bytes.get(..room).unwrap_or_default());
    }

    /// A byte within a string that is not plain.
    fn text(&mut self, byte: u8, to: &mut impl Visitor) {
        self.state = match byte {
            b'"' if self.is_key => {
                let whole = u64::try_from(self.start.len()) == Ok(self.bytes);
                to.key(whole.then_some(&self.start), self.begun);
                State::Colon
            }
            b'"' => {
                let value = Scalar::Text { start: &self.start, bytes: self.bytes };
                to.value(value, self.begun..self.position.saturating_add(1));
                self.done()
            }
            b'\\' => State::Escape,
            0x00..=0x1F => State::Not(Fault::Syntax),
            _ => {
                let next = more(byte);
                if next != State::Not(Fault::Syntax) {
                    self.keep(&[byte]);
                }
                next
            }
        };
    }

    fn escape(&mut self, byte: u8) {
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.state = State::Hex(0, 0, None);
                return;
            }
            _ => {
                self.state = State::Not(Fault::Syntax);
                return;
            }
        };
        self.keep(&[plain]);
        self.state = State::Text;
    }

    fn hex(&mut self, byte: u8, digits: u8, value: u16, half: Option<u16>) {
        let Some(digit) = char::from(byte).to_digit(16).and_then(|d| u16::try_from(d).ok()) else {
            self.state = State::Not(Fault::Syntax);
            return;
        };
        let value = value.wrapping_shl(4) | digit;
        if digits < 3 {
            self.state = State::Hex(digits.saturating_add(1), value, half);
            return;
        }
        self.state = match (half, value) {
            (None, 0xD800..=0xDBFF) => State::HalfSlash(value),
            // Half a pair is no character: who decodes it has to invent one.
            (None, 0xDC00..=0xDFFF) => State::Not(Fault::Syntax),
            (Some(_), ..0xDC00 | 0xE000..) => State::Not(Fault::Syntax),
            _ => {
                let units = half.into_iter().chain([value]);
                for character in char::decode_utf16(units).flatten() {
                    let mut buffer = [0; 4];
                    let text = character.encode_utf8(&mut buffer);
                    self.keep(text.as_bytes());
                }
                State::Text
            }
        };
    }
}

/// What must follow the first byte of a character of several (Unicode 16, table 3-7).
const fn more(first: u8) -> State {
    match first {
        0xC2..=0xDF => State::More(1, 0x80, 0xBF),
        0xE0 => State::More(2, 0xA0, 0xBF),
        0xED => State::More(2, 0x80, 0x9F),
        0xE1..=0xEF => State::More(2, 0x80, 0xBF),
        0xF0 => State::More(3, 0x90, 0xBF),
        0xF1..=0xF3 => State::More(3, 0x80, 0xBF),
        0xF4 => State::More(3, 0x80, 0x8F),
        _ => State::Not(Fault::Syntax),
    }
}

/// How many of these bytes are plain ASCII within a string, eight at a time while it lasts.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut plain = 0_usize;
    for eight in bytes.chunks_exact(8) {
        let Ok(eight) = eight.try_into() else { break };
        let word = u64::from_le_bytes(eight);
        // A byte that is zero after the XOR borrows its high bit; so does one below a blank.
        let quote = word ^ ONES.wrapping_mul(0x22);
        let slash = word ^ ONES.wrapping_mul(0x5C);
        let found = quote.wrapping_sub(ONES) & !quote
            | slash.wrapping_sub(ONES) & !slash
            | word.wrapping_sub(ONES.wrapping_mul(0x20)) & !word
            | word;
        if found & HIGH != 0 {
            break;
        }
        plain = plain.saturating_add(8);
    }
    let rest = bytes.get(plain..).unwrap_or_default();
    let end = rest.iter().position(|b| !matches!(b, 0x20..=0x21 | 0x23..=0x5B | 0x5D..=0x7F));
    plain.saturating_add(end.unwrap_or(rest.len()))
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
