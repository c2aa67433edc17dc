//! Goes through the body of a request once, and remembers what matters and where it stands.

use super::edit::{LimitField, Nested, Number, Places, Room};
use super::fields::{Key, Place, below, fields, is_same};
use super::parts::{Kind, kind};
use super::{Asked, MODEL_MAX, Unreadable};
use crate::json::{Scalar, Visitor};
use crate::source::Source;
use core::ops::Range;

/// Whose shape the request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    OpenAi,
    Images,
    Responses,
    Anthropic,
    Gemini,
    Any,
}

/// The visitor of one body.
#[derive(Debug)]
pub(super) struct Scan {
    shape: Shape,
    limit_field: LimitField,
    frames: Vec<Frame>,
    error: Option<Unreadable>,
    model: String,
    /// Bytes of data that images consist of.
    image_bytes: u64,
    images: u64,
    tools: bool,
    open: bool,
    choices: Option<u64>,
    best_of: Option<u64>,
    prompts: Option<u64>,
    has_messages: bool,
    has_embedded: bool,
    streams: bool,
    places: Places,
}

/// An open container.
#[derive(Debug)]
struct Frame {
    place: Place,
    key: Key,
    /// What the field is called that the key stands for.
    name: &'static str,
    /// Where it began.
    begun: usize,
    /// Where another member could be added.
    room: Room,
    /// The fields that were there, by their place in the table.
    seen: u32,
    kind: Kind,
    /// Data of an image in it.
    bytes: u64,
    elements: u64,
    /// Elements of a prompt that are tokens.
    numbers: u64,
    /// What a document holds is text.
    is_text: bool,
}

/// The most tokens that a limit can state. No model writes as much.
pub(super) const LIMIT_MAX: u64 = 1_000_000_000;

/// What a completion that states no limit gets of OpenAI and vLLM. Others have other ideas, so it is stated.
/// <https://platform.openai.com/docs/api-reference/completions/create#max_tokens>
const COMPLETION_USUAL: u64 = 16;

/// The most answers or images that can be asked for at once. OpenAI's own bound is 128.
const CHOICES_MAX: u64 = 1024;

fn length(at: &Range<usize>) -> u64 {
    u64::try_from(at.len()).unwrap_or(u64::MAX)
}

impl Scan {
    pub(super) fn new(source: &Source, limit_field: LimitField) -> Self {
        Self {
            shape: match source {
                Source::OpenAi => Shape::OpenAi,
                Source::OpenAiImages => Shape::Images,
                Source::OpenAiResponses => Shape::Responses,
                Source::Anthropic => Shape::Anthropic,
                Source::Gemini => Shape::Gemini,
                Source::Pointers(_) => Shape::Any,
            },
            limit_field,
            frames: Vec::new(),
            error: None,
            model: String::new(),
            image_bytes: 0,
            images: 0,
            tools: false,
            open: false,
            choices: None,
            best_of: None,
            prompts: None,
            has_messages: false,
            has_embedded: false,
            streams: false,
            places: Places::default(),
        }
    }

    /// What was found in a body of that length, which was valid JSON.
    pub(super) fn asked(mut self, model: Option<&str>, length: usize) -> Result<Asked, Unreadable> {
        if self.places.top.is_none() {
            return Err(Unreadable::NotAnObject);
        }
        if let Some(error) = self.error {
            return Err(error);
        }
        let model = model.map_or_else(|| core::mem::take(&mut self.model), str::to_owned);
        if model.len() > MODEL_MAX {
            return Err(Unreadable::LongModel);
        }
        self.places.shape = Some(self.shape);
        let (output_max, output_wish) = self.limits();
        let embeds = self.has_embedded && !self.has_messages && self.prompts.is_none();
        let generates = !matches!(self.shape, Shape::OpenAi | Shape::Gemini) || !embeds;
        self.places.zero_is_none = self.zero_is_none();
        self.places.adds_other = self.knows_other();
        self.places.can_limit = generates && !matches!(self.shape, Shape::Images | Shape::Any);
        self.places.can_tell = generates && self.streams && self.shape == Shape::OpenAi;
        let several = self.choices.unwrap_or(1).max(self.best_of.unwrap_or(1)).max(1);
        let makes = if self.shape == Shape::Images { several } else { 0 };
        let bytes = u64::try_from(length).unwrap_or(u64::MAX);
        Ok(Asked {
            model,
            input_bytes: bytes.saturating_sub(self.image_bytes),
            images: self.images,
            tools: self.tools,
            open: self.open,
            output_max,
            output_wish,
            choices: several.saturating_mul(self.prompts.unwrap_or(1).max(1)),
            makes,
            generates,
            streams: self.streams,
            tells_usage: self.places.include_usage == Some(true),
            places: self.places,
        })
    }

    /// The server knows the other field for sure. It does not where completions are read, which may be wherever there
    /// is a prompt.
    fn knows_other(&self) -> bool {
        self.limit_field == LimitField::MaxCompletionTokens && self.prompts.is_none()
    }

    /// To some servers a limit of 0 is none: Gemini's, whose JSON is protobuf's, and Ollama.
    fn zero_is_none(&self) -> bool {
        match self.shape {
            Shape::Gemini => true,
            Shape::OpenAi => self.limit_field == LimitField::MaxTokens,
            _ => false,
        }
    }

    /// The limit, or else the wish for one. Where both fields are given the server may go by either.
    fn limits(&self) -> (Option<u64>, Option<u64>) {
        let [limit, other] = &self.places.limits;
        let [limit, other] = [limit, other].map(|it| it.as_ref().and_then(|it| it.value));
        if limit.is_some() || self.knows_other() {
            return (limit.max(other), None);
        }
        let completes = self.shape == Shape::OpenAi && self.prompts.is_some();
        (None, other.or(completes.then_some(COMPLETION_USUAL)))
    }

    fn fail(&mut self, error: Unreadable) {
        self.error.get_or_insert(error);
    }

    fn number(&mut self, value: &Scalar<'_>, most: u64, name: &'static str) -> Option<u64> {
        match value {
            Scalar::Null => None,
            Scalar::Number(Some(number)) if *number <= most => Some(*number),
            _ => {
                self.fail(Unreadable::BadLimit(name));
                None
            }
        }
    }

    fn flag(&mut self, value: &Scalar<'_>, name: &'static str) -> Option<bool> {
        match value {
            Scalar::Null => None,
            Scalar::Bool(flag) => Some(*flag),
            _ => {
                self.fail(Unreadable::WrongType(name));
                None
            }
        }
    }

    /// A scalar of the top object, or of one in it whose fields matter.
    fn setting(&mut self, key: Key, name: &'static str, value: &Scalar<'_>, at: Range<usize>) {
        match key {
            Key::Model => match value {
                Scalar::Null => {}
                Scalar::Text { start, bytes } => match core::str::from_utf8(start) {
                    Ok(text) if u64::try_from(text.len()) == Ok(*bytes) => text.clone_into(&mut self.model),
                    _ => self.fail(Unreadable::LongModel),
                },
                _ => self.fail(Unreadable::WrongType(name)),
            },
            Key::Limit | Key::OtherLimit => {
                let value = self.number(value, LIMIT_MAX, name);
                if value == Some(0) && self.zero_is_none() {
                    self.fail(Unreadable::BadLimit(name));
                }
                let limit = self.places.limits.get_mut(usize::from(key == Key::OtherLimit));
                limit.into_iter().for_each(|limit| *limit = Some(Number { at: at.clone(), value }));
            }
            Key::Choices | Key::BestOf => {
                let number = self.number(value, CHOICES_MAX, name);
                if number == Some(0) {
                    self.fail(Unreadable::BadLimit(name));
                }
                let of = if key == Key::Choices { &mut self.choices } else { &mut self.best_of };
                *of = number;
            }
            Key::Stream => self.streams = self.flag(value, name).unwrap_or(false),
            Key::IncludeUsage => {
                self.places.include_usage = self.flag(value, name);
                self.places.include_at = Some(at);
            }
            Key::StreamOptions | Key::Config => {
                if *value == Scalar::Null {
                    let nested =
                        if key == Key::Config { &mut self.places.config } else { &mut self.places.options };
                    *nested = Some(Nested { at, room: None });
                } else {
                    self.fail(Unreadable::WrongType(name));
                }
            }
            Key::Foreign if *value != Scalar::Null => self.fail(Unreadable::Foreign(name)),
            Key::Prompt if *value != Scalar::Null => self.prompts = Some(1),
            Key::Messages if *value != Scalar::Null => self.has_messages = true,
            Key::Embedded if *value != Scalar::Null => self.has_embedded = true,
            _ => {}
        }
    }

    /// A container at such a field of the top object, or of one in it.
    fn enter(&mut self, key: Key, name: &'static str, place: Place) {
        match key {
            Key::Messages if place == Place::Other => self.fail(Unreadable::WrongType(name)),
            Key::Messages => self.has_messages = true,
            Key::Embedded => self.has_embedded = true,
            Key::Prompt => self.prompts = Some(1),
            Key::Foreign => self.fail(Unreadable::Foreign(name)),
            Key::StreamOptions | Key::Config | Key::Tools | Key::Functions if place == Place::Other => {
                self.fail(Unreadable::WrongType(name));
            }
            Key::Tools if place == Place::Tool => self.tools = true,
            Key::Model | Key::Stream | Key::IncludeUsage => self.fail(Unreadable::WrongType(name)),
            Key::Limit | Key::OtherLimit | Key::Choices | Key::BestOf => {
                self.fail(Unreadable::BadLimit(name))
            }
            _ => {}
        }
    }

    /// The end of a container: what it was is known now.
    fn leave(&mut self, frame: Frame, end: usize) {
        let Frame { place, kind, bytes, begun, room, .. } = frame;
        match place {
            Place::Top => self.places.top = Some(room),
            Place::Options => self.places.options = Some(Nested { at: begun..end, room: Some(room) }),
            Place::Config => self.places.config = Some(Nested { at: begun..end, room: Some(room) }),
            Place::Prompts => {
                // A list of tokens is one prompt; a list of texts or of lists of tokens is several.
                let one = frame.numbers == frame.elements;
                self.prompts = Some(if one { 1 } else { frame.elements });
            }
            Place::Image => {
                if let Some(part) = self.frames.last_mut() {
                    part.bytes = part.bytes.saturating_add(bytes);
                    part.is_text = kind == Kind::Plain;
                }
            }
            Place::Inline => match kind {
                Kind::Image => self.image(bytes),
                _ => self.open = true,
            },
            Place::Part if self.shape == Shape::Gemini => self.open |= kind == Kind::Open,
            Place::Part => match kind {
                Kind::Plain => {}
                Kind::Image => self.image(bytes),
                Kind::Document => self.open |= !frame.is_text,
                Kind::None | Kind::Open | Kind::Unbounded => self.open = true,
            },
            Place::Message | Place::Tool => self.open |= kind == Kind::Open,
            _ => {}
        }
    }

    fn image(&mut self, bytes: u64) {
        self.images = self.images.saturating_add(1);
        self.image_bytes = self.image_bytes.saturating_add(bytes);
    }
}

/// The objects whose fields matter: each may appear once, and in one spelling.
const fn matters(place: Place) -> bool {
    matches!(place, Place::Top | Place::Options | Place::Config | Place::Extra)
}

impl Visitor for Scan {
    fn open(&mut self, object: bool, at: usize) {
        let place = match self.frames.last_mut() {
            None if object => Place::Top,
            None => Place::Other,
            Some(frame) => {
                frame.elements = frame.elements.saturating_add(1);
                let (key, name, place) = (frame.key, frame.name, frame.place);
                let below = below(place, key, self.shape, object);
                if matters(place) {
                    self.enter(key, name, below);
                }
                self.open |= key == Key::Elsewhere;
                self.tools |= matches!(place, Place::Tools | Place::Functions);
                below
            }
        };
        self.frames.push(Frame {
            place,
            key: Key::Unknown,
            name: "",
            begun: at,
            room: Room { at: at.saturating_add(1), is_first: true },
            seen: 0,
            kind: Kind::None,
            bytes: 0,
            elements: 0,
            numbers: 0,
            is_text: false,
        });
    }

    fn close(&mut self, end: usize) {
        if let Some(frame) = self.frames.pop() {
            self.leave(frame, end);
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.room = Room { at: end, is_first: false };
        }
    }

    fn key(&mut self, key: Option<&[u8]>, _: usize) {
        let shape = self.shape;
        let Some(frame) = self.frames.last_mut() else { return };
        let key = key.unwrap_or_default();
        let known = fields(shape, frame.place);
        let found = known.iter().position(|(name, _)| is_same(name, key));
        let field = found.and_then(|at| known.get(at));
        let (name, meaning) = field.copied().unwrap_or(("", Key::Unknown));
        (frame.key, frame.name) = (meaning, name);
        let (place, exact) = (frame.place, name.as_bytes() == key);
        // Both spellings of a field are one field.
        let is_one = !matches!(meaning, Key::Elsewhere | Key::Plain | Key::Foreign | Key::Extra);
        let same = known.iter().position(|(_, other)| is_one && *other == meaning).or(found);
        let bit =
            same.and_then(|at| u32::try_from(at).ok()).and_then(|at| 1_u32.checked_shl(at)).unwrap_or(0);
        let again = frame.seen & bit != 0;
        frame.seen |= bit;
        let unknown = meaning == Key::Unknown || !exact;
        if unknown && shape == Shape::Gemini && matches!(place, Place::Part | Place::Tool) {
            frame.kind = Kind::Open;
        }
        if matters(place) && !exact && !name.is_empty() {
            self.fail(Unreadable::Misspelled(name));
        } else if matters(place) && again {
            self.fail(Unreadable::Repeated(name));
        } else if again {
            // Which of the two it takes, only the provider knows.
            self.open = true;
        }
    }

    fn value(&mut self, value: Scalar<'_>, at: Range<usize>) {
        let shape = self.shape;
        let Some(frame) = self.frames.last_mut() else { return };
        frame.room = Room { at: at.end, is_first: false };
        frame.elements = frame.elements.saturating_add(1);
        let (key, name, place) = (frame.key, frame.name, frame.place);
        match (key, &value) {
            (Key::Kind, Scalar::Text { start, .. }) => frame.kind = kind(shape, place, start),
            (Key::Kind, _) => frame.kind = Kind::Open,
            (Key::Image | Key::Url, Scalar::Text { start, .. }) if start.starts_with(b"data:") => {
                frame.bytes = frame.bytes.saturating_add(length(&at));
            }
            (Key::Data, Scalar::Text { .. }) => frame.bytes = frame.bytes.saturating_add(length(&at)),
            (_, Scalar::Number(_)) if place == Place::Prompts => {
                frame.numbers = frame.numbers.saturating_add(1)
            }
            _ => {}
        }
        if frame.kind == Kind::Unbounded {
            let asks = if place == Place::Tool { "tools" } else { "context_management" };
            self.fail(Unreadable::Unbounded(asks));
        }
        if matters(place) {
            self.setting(key, name, &value, at);
        }
        self.open |= key == Key::Elsewhere && value != Scalar::Null;
        self.tools |= matches!(place, Place::Tools | Place::Functions);
    }
}
