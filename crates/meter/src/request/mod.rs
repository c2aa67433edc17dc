//! What a request asks for, what it can cost at most, and the few changes that bound it.
//!
//! A second reader comes after this one, and what it would understand otherwise is refused: a field that matters may
//! not appear twice, and not in another case, which some readers take for the same. Escaped spellings are the same key.
//! Fields by which particular servers would go beyond the limit that everybody knows are refused as well, and so is what
//! makes the provider use more than the request and its answer.

mod edit;
mod fields;
mod parts;
mod scan;

use crate::json::{Fault, Json};
use crate::source::Source;
use scan::Scan;

pub use edit::{Edit, LimitField};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The model, at most 256 bytes; empty if the request names none.
    pub model: String,
    /// Bytes that can become tokens of the input: the whole body, less the data of images that `images` counts.
    pub input_bytes: u64,
    /// Images in the input.
    pub images: u64,
    /// True if tools or functions are given.
    pub tools: bool,
    /// True if there is input that the body does not bound: an earlier conversation, a stored prompt, a file by its id
    /// or address, a tool that runs at the provider.
    pub open: bool,
    /// The most tokens of output that the request allows, the larger where two fields say so; `None` if it says none
    /// in a field that its server knows for sure ([`LimitField`]). An edit then states one.
    pub output_max: Option<u64>,
    /// The most that it wants where its server may not know the field that says so: `max_completion_tokens` without
    /// `max_tokens`; and for a completion that states none, what OpenAI gives it then. An edit states no more than this;
    /// `output_max` is `None` then.
    pub output_wish: Option<u64>,
    /// Answers that are asked for, at least 1. An image is one, for it may be tokens.
    pub choices: u64,
    /// Images that are asked for.
    pub makes: u64,
    /// False if no tokens come out, as of embeddings. Images are tokens for some models, and no field limits them.
    pub generates: bool,
    /// True if the answer is to come as events.
    pub streams: bool,
    /// True if the request itself asks that a stream tells its usage.
    pub tells_usage: bool,
    places: edit::Places,
}

/// The longest body that is read.
const BODY_MAX: usize = 4 * 1024 * 1024;

/// The longest name of a model.
const MODEL_MAX: usize = 256;

/// Why a request cannot be read; the client hears it with status 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Not one JSON document.
    NotJson,
    /// JSON, but not an object.
    NotAnObject,
    /// Nested deeper than 127 levels.
    TooDeep,
    /// A body above 4 MiB.
    TooLong,
    /// This field appears twice, and another reader might take the other one.
    Repeated(&'static str),
    /// This field is spelled in another case, and another reader might take it for the same.
    Misspelled(&'static str),
    /// This number is not a whole number within reason.
    BadLimit(&'static str),
    /// This field has a value of another type.
    WrongType(&'static str),
    /// The name of the model has more than 256 bytes.
    LongModel,
    /// Some server knows this field, and would go beyond the limit by it, or let another model answer.
    Foreign(&'static str),
    /// What this field asks for uses more than can be held, or another model as well.
    Unbounded(&'static str),
}

impl Unreadable {
    /// As it is written in metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::TooDeep => "too_deep",
            Self::TooLong => "too_long",
            Self::Repeated(_) => "repeated_field",
            Self::Misspelled(_) => "misspelled_field",
            Self::BadLimit(_) => "bad_limit",
            Self::WrongType(_) => "wrong_type",
            Self::LongModel => "long_model",
            Self::Foreign(_) => "foreign_field",
            Self::Unbounded(_) => "unbounded",
        }
    }

    /// The field that it is about.
    #[must_use]
    pub const fn field(self) -> Option<&'static str> {
        match self {
            Self::Repeated(field)
            | Self::Misspelled(field)
            | Self::BadLimit(field)
            | Self::WrongType(field)
            | Self::Foreign(field)
            | Self::Unbounded(field) => Some(field),
            Self::LongModel => Some("model"),
            Self::NotJson | Self::NotAnObject | Self::TooDeep | Self::TooLong => None,
        }
    }
}

impl core::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotJson => f.write_str("The body is not one JSON document."),
            Self::NotAnObject => f.write_str("The body is not a JSON object."),
            Self::TooDeep => f.write_str("The body is nested too deep."),
            Self::TooLong => f.write_str("The body is too long."),
            Self::Repeated(field) => write!(f, "The field {field} appears twice."),
            Self::Misspelled(field) => write!(f, "The field {field} is spelled in another case."),
            Self::BadLimit(field) => write!(f, "The field {field} is not a whole number within reason."),
            Self::WrongType(field) => write!(f, "The field {field} has a value of the wrong type."),
            Self::LongModel => f.write_str("The name of the model is too long."),
            Self::Foreign(field) => write!(f, "The field {field} is not known here."),
            Self::Unbounded(field) => write!(f, "What the field {field} asks for cannot be bounded."),
        }
    }
}

/// Reads the body of a request. `model` is the one that the path names, where it does (Gemini); `limit_field` is the one
/// by which the route's server is told the limit of a chat.
///
/// # Errors
/// [`Unreadable`] says why a request with this body must not pass.
pub fn read(
    source: &Source,
    model: Option<&str>,
    limit_field: LimitField,
    body: &[u8],
) -> Result<Asked, Unreadable> {
    if body.len() > BODY_MAX {
        return Err(Unreadable::TooLong);
    }
    let (mut json, mut scan) = (Json::new(), Scan::new(source, limit_field));
    json.feed(body, &mut scan);
    if !json.is_whole() {
        return Err(match json.fault() {
            Some(Fault::TooDeep) => Unreadable::TooDeep,
            Some(Fault::Syntax) | None => Unreadable::NotJson,
        });
    }
    scan.asked(model, body.len())
}

#[cfg(test)]
mod tests;
