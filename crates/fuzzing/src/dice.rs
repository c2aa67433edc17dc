//! Choices out of bytes: the same bytes always choose the same, and when they are used up, the first of everything.

use arbitrary::Unstructured;
use serde_json::{Value, json};

/// What is left of the bytes.
pub(crate) struct Dice<'a>(Unstructured<'a>);

impl<'a> Dice<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    /// True if nothing is left to choose by.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// Less than `n`, which is not zero.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0.int_in_range(0..=n - 1).unwrap_or(0)
    }

    /// Less than `n`, as a number.
    pub(crate) fn upto(&mut self, n: u32) -> u64 {
        self.0.int_in_range(0..=u64::from(n) - 1).unwrap_or(0)
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    /// True once in `n` times.
    pub(crate) fn rarely(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// At most `max` bytes as they come.
    pub(crate) fn bytes(&mut self, max: usize) -> &'a [u8] {
        let length = self.below(max + 1).min(self.0.len());
        self.0.bytes(length).unwrap_or_default()
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.0.bytes(self.0.len()).unwrap_or_default()
    }

    /// Text of at most `max` bytes, mostly plain.
    pub(crate) fn text(&mut self, max: usize) -> String {
        String::from_utf8_lossy(self.bytes(max)).into_owned()
    }

    /// Values at which readers of JSON part.
    pub(crate) fn value(&mut self) -> Value {
        match self.below(16) {
            0 => Value::Null,
            1 => json!(self.flag()),
            2 => json!(0),
            3 => json!(1),
            4 => json!(-1),
            5 => json!(self.below(1000)),
            6 => json!(self.number()),
            7 => json!(i64::MIN),
            8 => json!(9_007_199_254_740_991_u64),
            9 => json!(9_007_199_254_740_992_u64),
            10 => json!(1.5),
            11 => json!(""),
            12 => json!(self.text(12)),
            13 => json!([]),
            14 => json!({}),
            _ => json!("x".repeat(300)),
        }
    }
}
