//! The few changes that bound a request, made at their places and nowhere else.

use super::Asked;
use super::scan::{LIMIT_MAX, Shape};
use core::ops::Range;

/// By which field a server is told the limit of a chat. Completions have `max_tokens` alone, whatever this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitField {
    /// `max_tokens`, which every server that speaks like OpenAI's knows. Many do not know the other: alone, it is a
    /// wish and bounds nothing. A limit of 0 is refused here, for to some of them it is none (Ollama).
    MaxTokens,
    /// `max_completion_tokens`, which OpenAI's reasoning models insist on. Who knows it knows `max_tokens` too, and
    /// takes either for a limit but refuses both together: one of them is enough.
    MaxCompletionTokens,
}

/// What is to be changed in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Lowers every stated limit above this to it, and states it where none is in a field that counts, if need be
    /// besides one that does not. Nothing is stated where no field does (images, embeddings, unknown shapes).
    pub output_max: Option<u64>,
    /// Asks that a stream of OpenAI's tells its usage; changes nothing in other requests.
    pub include_usage: bool,
}

/// Where in the body things stand that can be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) shape: Option<Shape>,
    pub(super) top: Option<Room>,
    /// The limit, and the other field that states one.
    pub(super) limits: [Option<Number>; 2],
    /// `stream_options`.
    pub(super) options: Option<Nested>,
    pub(super) include_usage: Option<bool>,
    pub(super) include_at: Option<Range<usize>>,
    /// `generationConfig`.
    pub(super) config: Option<Nested>,
    /// A limit of 0 means none.
    pub(super) zero_is_none: bool,
    /// A limit that is not stated is added in the other field.
    pub(super) adds_other: bool,
    pub(super) can_limit: bool,
    pub(super) can_tell: bool,
}

/// A number that is there, or null in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) at: Range<usize>,
    pub(super) value: Option<u64>,
}

/// An object that is there, with its room; or null in its place, without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nested {
    pub(super) at: Range<usize>,
    pub(super) room: Option<Room>,
}

/// Where a member can be added to an object: behind its last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) at: usize,
    /// Nothing is in the object so far.
    pub(super) is_first: bool,
}

/// Changes of one body.
#[derive(Debug, Default)]
struct Splices {
    all: Vec<(Range<usize>, String)>,
    /// The top object has got its first member.
    top_has_one: bool,
}

impl Splices {
    fn replace(&mut self, at: &Range<usize>, text: String) {
        self.all.push((at.clone(), text));
    }

    fn add(&mut self, room: &Room, member: &str) {
        let comma = if room.is_first { "" } else { "," };
        self.all.push((room.at..room.at, format!("{comma}{member}")));
    }

    fn add_to_top(&mut self, top: &Room, member: &str) {
        let is_first = top.is_first && !core::mem::replace(&mut self.top_has_one, true);
        self.add(&Room { at: top.at, is_first }, member);
    }

    fn apply(mut self, body: &[u8]) -> Option<Vec<u8>> {
        if self.all.is_empty() {
            return None;
        }
        self.all.sort_by_key(|(at, _)| at.start);
        let added: usize = self.all.iter().map(|(_, text)| text.len()).fold(0, usize::saturating_add);
        let mut out = Vec::with_capacity(body.len().saturating_add(added));
        let mut done = 0;
        for (at, text) in &self.all {
            out.extend_from_slice(body.get(done..at.start)?);
            out.extend_from_slice(text.as_bytes());
            done = at.end;
        }
        out.extend_from_slice(body.get(done..)?);
        Some(out)
    }
}

impl Asked {
    /// The body that this was read from, changed; `None` if nothing changes. What the edit does not name stays as it
    /// is, byte for byte.
    #[must_use]
    pub fn edited(&self, body: &[u8], edit: &Edit) -> Option<Vec<u8>> {
        let mut splices = Splices::default();
        if let Some(most) = edit.output_max {
            self.limit(most, &mut splices);
        }
        if edit.include_usage {
            self.tell_usage(&mut splices);
        }
        splices.apply(body)
    }

    fn limit(&self, most: u64, splices: &mut Splices) {
        let places = &self.places;
        if !places.can_limit {
            return;
        }
        // What is stated must be a limit to the next reader too.
        let most = most.clamp(u64::from(places.zero_is_none), LIMIT_MAX);
        for limit in places.limits.iter().flatten() {
            if limit.value.is_some_and(|value| value > most) {
                splices.replace(&limit.at, most.to_string());
            }
        }
        if self.output_max.is_some() {
            return;
        }
        let most = most.min(self.output_wish.unwrap_or(most));
        let (name, other) = match places.shape {
            Some(Shape::OpenAi) if places.adds_other => ("max_completion_tokens", true),
            Some(Shape::Responses) => ("max_output_tokens", false),
            Some(Shape::Gemini) => ("maxOutputTokens", false),
            _ => ("max_tokens", false),
        };
        let null = places.limits.get(usize::from(other)).and_then(Option::as_ref);
        let member = format!("\"{name}\":{most}");
        if let Some(null) = null {
            splices.replace(&null.at, most.to_string());
        } else if places.shape == Some(Shape::Gemini) {
            self.add_nested(places.config.as_ref(), "generationConfig", &member, splices);
        } else if let Some(top) = &places.top {
            splices.add_to_top(top, &member);
        }
    }

    fn tell_usage(&self, splices: &mut Splices) {
        let places = &self.places;
        if !places.can_tell || self.tells_usage {
            return;
        }
        match &places.include_at {
            Some(at) => splices.replace(at, "true".to_owned()),
            None => {
                self.add_nested(places.options.as_ref(), "stream_options", "\"include_usage\":true", splices)
            }
        }
    }

    /// Adds a member to an object within the top one, which may have to be made.
    fn add_nested(&self, nested: Option<&Nested>, name: &str, member: &str, splices: &mut Splices) {
        match nested {
            Some(Nested { room: Some(room), .. }) => splices.add(room, member),
            Some(Nested { at, room: None }) => splices.replace(at, format!("{{{member}}}")),
            None => {
                if let Some(top) = &self.places.top {
                    splices.add_to_top(top, &format!("\"{name}\":{{{member}}}"));
                }
            }
        }
    }
}
