//! What is known of an answer: what it stated, how sure that is, and what was delivered.

/// The largest count: what every reader of JSON holds exactly (RFC 8259, section 6). Everything above is a mistake.
pub(crate) const COUNT_MAX: u64 = (1 << 53) - 1;

/// What an answer states that it used. Tokens of the provider's own kind; zero where it states nothing, which
/// [`Stated`] tells from a zero that is stated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tokens of the input, with `cached` and `cache_written`.
    pub input: u64,
    /// Of these, tokens that were read from the provider's cache; at most `input`.
    pub cached: u64,
    /// Of these, tokens that were written to the provider's cache; at most `input`.
    pub cache_written: u64,
    /// Tokens of the output, with `reasoning`.
    pub output: u64,
    /// Of these, tokens that the model thought and did not say; at most `output`.
    pub reasoning: u64,
    /// Images that were made.
    pub images: u64,
}

/// Which of the counts were stated, by the usage that they are of. Where usage is stated in parts that complete each
/// other (Anthropic, and what an operator points at), by any of these parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// Tokens of the input.
    pub input: bool,
    /// Tokens of the output. Embeddings, by nature, state none.
    pub output: bool,
}

/// How sure it is that nothing follows which would say more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// The answer itself says that it is complete.
    Exact,
    /// This was stated so far. Who knows otherwise that the stream ended in order may take it for exact.
    AtLeast,
}

/// What was delivered of generated text, for answers that state no usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Events that brought text; in a document, 1 if it has text.
    pub events: u64,
    /// Bytes of text in UTF-8, decoded.
    pub bytes: u64,
}

/// What is known of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What was stated; `None` if nothing was that can be used.
    pub counts: Option<Counts>,
    /// Which of them were stated; the others are not known, and zero in `counts`.
    pub stated: Stated,
    /// How sure it is that this is all.
    pub certainty: Certainty,
    /// The model that answered, if it was stated in at most 256 bytes.
    pub model: Option<String>,
    /// What was delivered; `None` if nobody knows where such answers have their text (`Source::Pointers`).
    pub written: Option<Written>,
    /// True if a usage was there that cannot be used: a number that is negative, a fraction or above 2^53-1, or a
    /// value of another type. `counts` is then what was stated before, or `None`; images are counted all the same.
    pub odd: bool,
    /// True if the answer itself says that it failed, at its beginning or later: an error at the top of a document or
    /// of an event, or the provider's own word for it. What it used may be stated nevertheless. Of `Source::Pointers`
    /// nobody knows how it would say so: never true.
    pub failed: bool,
}
