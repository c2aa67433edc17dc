//! Whose answers are read, and by which rules.

use crate::pointer::Pointer;
use std::rc::Rc;

/// Whose shape of requests and answers it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// OpenAI's chat completions, completions and embeddings, and all who speak like it.
    OpenAi,
    /// OpenAI's images.
    OpenAiImages,
    /// OpenAI's Responses.
    OpenAiResponses,
    /// Anthropic's Messages.
    Anthropic,
    /// Gemini's generateContent and streamGenerateContent.
    Gemini,
    /// Any JSON of which an operator says where the numbers are.
    Pointers(Rc<Pointers>),
}

/// Where an answer states what it used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointers {
    /// Tokens of the input.
    pub input: Option<Pointer>,
    /// Tokens of the output.
    pub output: Option<Pointer>,
    /// The model that answered.
    pub model: Option<Pointer>,
}
