//! One file for each shape of answer: where it states what, and what that comes to.

mod anthropic;
mod gemini;
mod openai;
mod openai_images;
mod openai_responses;
mod pointer;

use crate::reading::{Counts, Stated, Written};
use crate::source::Source;
use crate::walk::{Field, Path, Paths, Slot, Sum, Walk};

/// What one shape of answer consists of.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    pub(crate) paths: Paths,
    /// Takes over what a document, or the document of one event, states.
    pub(crate) settle: fn(&Found<'_>, &mut Known),
}

impl Provider {
    pub(crate) fn of(source: &Source) -> Self {
        let fixed = |paths, settle| Self { paths: Paths::Fixed(paths), settle };
        match source {
            Source::OpenAi => fixed(openai::PATHS, openai::settle),
            Source::OpenAiImages => fixed(openai_images::PATHS, openai_images::settle),
            Source::OpenAiResponses => fixed(openai_responses::PATHS, openai_responses::settle),
            Source::Anthropic => fixed(anthropic::PATHS, anthropic::settle),
            Source::Gemini => fixed(gemini::PATHS, gemini::settle),
            Source::Pointers(it) => Self { paths: Paths::Given(it.clone()), settle: pointer::settle },
        }
    }
}

/// What is known after some documents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) counts: Option<Counts>,
    /// Which of the counts were stated.
    pub(crate) stated: Stated,
    /// The last stated of each, where an event states some of them only.
    pub(crate) numbers: Numbers,
    /// What was used beside them.
    pub(crate) beside: Sum,
    /// The answer said that it is complete.
    pub(crate) complete: bool,
    pub(crate) model: Option<String>,
    pub(crate) written: Written,
    pub(crate) odd: bool,
    /// The answer said that it failed.
    pub(crate) failed: bool,
}

/// What one usage states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) input: Option<u64>,
    pub(crate) cached: Option<u64>,
    pub(crate) cache_written: Option<u64>,
    pub(crate) output: Option<u64>,
    pub(crate) reasoning: Option<u64>,
    pub(crate) total: Option<u64>,
}

/// What was found in one valid document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) walk: &'a Walk,
    pub(crate) is_event: bool,
}

const fn path(field: Field, steps: &'static [&'static str]) -> Path {
    Path { field, place: 0, steps }
}

impl Path {
    /// The same, stated in another place.
    const fn at(mut self, place: u8) -> Self {
        self.place = place;
        self
    }
}

impl Found<'_> {
    /// Takes over what the document says.
    pub(crate) fn take(&self, settle: fn(&Self, &mut Known), known: &mut Known) {
        known.failed |= [0, 1].iter().any(|place| *self.slot(Field::Error, *place) != Slot::Absent);
        settle(self, known);
    }

    fn slot(&self, field: Field, place: u8) -> &Slot {
        let mut found = self.walk.found().filter(|it| (it.0, it.1) == (field, place));
        found.next().map_or(&Slot::Absent, |it| it.2)
    }

    fn name(&self, field: Field, place: u8) -> Option<&str> {
        match self.slot(field, place) {
            Slot::Name(name) if !name.is_empty() => Some(name),
            _ => None,
        }
    }

    fn list(&self) -> Option<u64> {
        match self.slot(Field::List, 0) {
            Slot::List(elements) => Some(*elements),
            _ => None,
        }
    }

    /// What the usage in that place states; `None` if it is not there or states nothing. Where any of it cannot be
    /// used, none of it is, and that is noted.
    fn usage(&self, place: u8, known: &mut Known) -> Option<Numbers> {
        let mut stated = Numbers::default();
        let mut alias = None;
        for (field, at, slot) in self.walk.found() {
            if at != place {
                continue;
            }
            let target = match field {
                Field::Usage => {
                    if *slot == Slot::Odd {
                        known.odd = true;
                        return None;
                    }
                    continue;
                }
                Field::Input => &mut stated.input,
                Field::Cached => &mut stated.cached,
                Field::CachedToo => &mut alias,
                Field::CacheWritten => &mut stated.cache_written,
                Field::Output => &mut stated.output,
                Field::Reasoning => &mut stated.reasoning,
                Field::Total => &mut stated.total,
                _ => continue,
            };
            match slot {
                Slot::Count(count) => *target = Some(*count),
                // Nobody is charged by a total; it only decides between readings.
                Slot::Odd if field != Field::Total => {
                    known.odd = true;
                    return None;
                }
                _ => {}
            }
        }
        stated.cached = stated.cached.or(alias);
        (stated.input.is_some() || stated.output.is_some() || stated.reasoning.is_some()).then_some(stated)
    }

    /// Adds what was delivered, and takes the model over.
    fn deliver(&self, bytes: u64, known: &mut Known) {
        if bytes > 0 {
            known.written.events = known.written.events.saturating_add(1);
            known.written.bytes = known.written.bytes.saturating_add(bytes);
        }
        if let Some(model) = self.name(Field::Model, 0).or_else(|| self.name(Field::Model, 1)) {
            known.model = Some(model.to_owned());
        }
    }
}

impl Known {
    /// Takes a usage for the whole of what is stated.
    fn put(&mut self, numbers: Numbers) {
        self.stated = numbers.stated();
        self.counts = Some(numbers.counts());
    }
}

impl Numbers {
    const fn stated(self) -> Stated {
        Stated { input: self.input.is_some(), output: self.output.is_some() }
    }

    /// As counts whose parts are no larger than the whole.
    fn counts(self) -> Counts {
        let (input, output) = (self.input.unwrap_or(0), self.output.unwrap_or(0));
        let cached = self.cached.unwrap_or(0).min(input);
        Counts {
            input,
            cached,
            cache_written: self.cache_written.unwrap_or(0).min(input.saturating_sub(cached)),
            output,
            reasoning: self.reasoning.unwrap_or(0).min(output),
            images: 0,
        }
    }
}

#[cfg(test)]
mod testing;
