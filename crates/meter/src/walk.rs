//! Follows a document along the few paths on which something is stated, and passes over everything else.
//!
//! The paths that a container lies on are bits of one number, so that a container that is on none costs one counter.

use crate::json::{Scalar, Visitor};
use crate::pointer::Pointer;
use crate::reading::COUNT_MAX;
use crate::source::Pointers;
use core::ops::Range;
use std::rc::Rc;

/// What stands at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// The object that holds counts.
    Usage,
    Input,
    Cached,
    /// Another spelling of it, for where the first is not.
    CachedToo,
    CacheWritten,
    Output,
    Reasoning,
    Total,
    /// Generated text.
    Text,
    Model,
    /// What kind of event it is.
    Kind,
    Status,
    /// The list of answers.
    List,
    /// What went wrong, as an object or a text.
    Error,
    /// The list of rounds that an answer took. What each of them used stands at [`ROUND`].
    Rounds,
}

/// The place of what stands in one round.
pub(crate) const ROUND: u8 = 2;
/// The kind of round whose tokens are not in the usage around it. Those of the others are, or are not billed.
const BESIDE: &str = "compaction";

/// The sum of what such rounds used, in the terms of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) input: u64,
    pub(crate) cached: u64,
    pub(crate) cache_written: u64,
    pub(crate) output: u64,
}

/// One path from the top of a document; the step `*` is every element of an array.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) field: Field,
    /// Which of several places that state the same.
    pub(crate) place: u8,
    pub(crate) steps: &'static [&'static str],
}

/// The paths to follow, at most 64.
#[derive(Clone, Debug)]
pub(crate) enum Paths {
    Fixed(&'static [Path]),
    Given(Rc<Pointers>),
}

/// What was found at the end of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Nothing, or null.
    #[default]
    Absent,
    Count(u64),
    /// Bytes of text.
    Text(u64),
    Name(String),
    /// An object, or a text that stands for one.
    Object,
    /// Elements of an array.
    List(u64),
    /// What rounds used.
    Sum(Sum),
    /// Something else than belongs there.
    Odd,
}

/// The follower of one document.
#[derive(Debug)]
pub(crate) struct Walk {
    paths: Paths,
    all: u64,
    /// The paths into one round.
    round: u64,
    slots: Vec<Slot>,
    frames: Vec<Frame>,
    /// Containers open within each other that lie on no path.
    beside: u32,
    /// The paths on which the next value of the innermost object lies.
    next: u64,
    /// Slots that hold something.
    filled: u64,
    /// A key appeared twice above text that had been counted.
    doubtful: bool,
}

/// An open container that lies on a path.
#[derive(Debug)]
struct Frame {
    object: bool,
    paths: u64,
    /// Paths that end at this array, which counts its elements.
    counts: u64,
    /// Paths whose key was there.
    seen: u64,
    index: u64,
}

fn bit(index: usize) -> u64 {
    u32::try_from(index).ok().and_then(|index| 1_u64.checked_shl(index)).unwrap_or(0)
}

/// The positions of a mask's bits.
fn bits(mask: u64) -> impl Iterator<Item = usize> {
    let rest = |mask: &u64| Some(mask & mask.wrapping_sub(1)).filter(|rest| *rest != 0);
    core::iter::successors(Some(mask).filter(|mask| *mask != 0), rest)
        .filter_map(|mask| usize::try_from(mask.trailing_zeros()).ok())
}

impl Paths {
    fn len(&self) -> usize {
        match self {
            Self::Fixed(paths) => paths.len(),
            Self::Given(_) => 3,
        }
    }

    pub(crate) fn field(&self, path: usize) -> Option<(Field, u8)> {
        match self {
            Self::Fixed(paths) => paths.get(path).map(|path| (path.field, path.place)),
            Self::Given(_) => [Field::Input, Field::Output, Field::Model].get(path).map(|field| (*field, 0)),
        }
    }

    fn given(pointers: &Pointers, path: usize) -> Option<&Pointer> {
        match path {
            0 => pointers.input.as_ref(),
            1 => pointers.output.as_ref(),
            _ => pointers.model.as_ref(),
        }
    }

    fn length(&self, path: usize) -> usize {
        match self {
            Self::Fixed(paths) => paths.get(path).map_or(0, |path| path.steps.len()),
            Self::Given(pointers) => Self::given(pointers, path).map_or(0, Pointer::len),
        }
    }

    /// Does the path's step at that depth lead through this key?
    fn has_key(&self, path: usize, depth: usize, key: &[u8]) -> bool {
        match self {
            Self::Fixed(paths) => paths
                .get(path)
                .and_then(|path| path.steps.get(depth))
                .is_some_and(|step| step.as_bytes() == key && *step != EACH),
            Self::Given(pointers) => Self::given(pointers, path).is_some_and(|it| it.has_key(depth, key)),
        }
    }

    /// Does it lead through this element?
    fn has_element(&self, path: usize, depth: usize, index: u64) -> bool {
        match self {
            Self::Fixed(paths) => {
                paths.get(path).and_then(|path| path.steps.get(depth)).is_some_and(|step| *step == EACH)
            }
            Self::Given(pointers) => Self::given(pointers, path).is_some_and(|it| it.has_index(depth, index)),
        }
    }

    /// Text below an array adds up: its elements cannot be told apart afterwards.
    fn adds_up(&self, path: usize) -> bool {
        match self {
            Self::Fixed(paths) => {
                paths.get(path).is_some_and(|path| path.field == Field::Text && path.steps.contains(&EACH))
            }
            Self::Given(_) => false,
        }
    }
}

/// The step to every element of an array.
const EACH: &str = "*";

impl Walk {
    pub(crate) fn new(paths: Paths) -> Self {
        let all =
            (0..paths.len()).filter(|path| paths.length(*path) > 0).fold(0, |all, path| all | bit(path));
        let in_round = |path: &usize| paths.field(*path).is_some_and(|(_, place)| place == ROUND);
        let round = (0..paths.len()).filter(in_round).fold(0, |mask, path| mask | bit(path));
        let slots = vec![Slot::Absent; paths.len()];
        Self { paths, all, round, slots, frames: Vec::new(), beside: 0, next: 0, filled: 0, doubtful: false }
    }

    /// Forgets the document.
    pub(crate) fn restart(&mut self) {
        self.clear(self.filled);
        self.frames.clear();
        (self.beside, self.next, self.filled, self.doubtful) = (0, 0, 0, false);
    }

    /// What was found, with what each is.
    pub(crate) fn found(&self) -> impl Iterator<Item = (Field, u8, &Slot)> {
        bits(self.filled).filter_map(|path| {
            let (field, place) = self.paths.field(path)?;
            Some((field, place, self.slots.get(path)?))
        })
    }

    /// Bytes of text; none if a key above some of it appeared twice, since only one of the two was meant.
    pub(crate) fn text(&self) -> u64 {
        let texts = self.found().map(|(_, _, slot)| if let Slot::Text(bytes) = slot { *bytes } else { 0 });
        if self.doubtful { 0 } else { texts.fold(0, u64::saturating_add) }
    }

    /// There is text, or there may be some.
    pub(crate) fn may_have_text(&self) -> bool {
        self.doubtful || self.text() > 0
    }

    fn clear(&mut self, paths: u64) {
        for path in bits(paths & self.filled) {
            if let Some(slot) = self.slots.get_mut(path) {
                *slot = Slot::Absent;
            }
        }
        self.filled &= !paths;
    }

    fn put(&mut self, path: usize, slot: Slot) {
        let Some(place) = self.slots.get_mut(path) else { return };
        *place = match (&*place, slot) {
            (Slot::Text(before), Slot::Text(more)) => Slot::Text(before.saturating_add(more)),
            (Slot::Sum(before), Slot::Sum(more)) => Slot::Sum(before.and(more)),
            (Slot::Odd, Slot::Sum(_)) => Slot::Odd,
            (_, slot) => slot,
        };
        self.filled |= bit(path);
    }

    /// The end of a round: what it used is added where it counts, and forgotten.
    fn leave_round(&mut self) {
        let (mut sum, mut counts, mut odd) = (Sum::default(), false, false);
        for path in bits(self.round & self.filled) {
            match (self.paths.field(path), self.slots.get(path)) {
                (Some((Field::Kind, _)), Some(Slot::Name(name))) => counts = name == BESIDE,
                (Some((field, _)), Some(Slot::Count(count))) => sum.put(field, *count),
                (_, Some(Slot::Odd)) => odd = true,
                _ => {}
            }
        }
        self.clear(self.round);
        let of = |path: &usize| self.paths.field(*path).is_some_and(|(field, _)| field == Field::Rounds);
        if let (true, Some(path)) = (counts, (0..self.paths.len()).find(of)) {
            self.put(path, if odd { Slot::Odd } else { Slot::Sum(sum) });
        }
    }

    /// The paths on which the value lies that comes now.
    fn enter(&mut self) -> u64 {
        let depth = self.frames.len();
        let Some(frame) = self.frames.last_mut() else { return self.all };
        if frame.object {
            return core::mem::take(&mut self.next);
        }
        let (index, counts) = (frame.index, frame.counts);
        frame.index = index.saturating_add(1);
        let depth = depth.saturating_sub(1);
        let through = bits(frame.paths).filter(|path| self.paths.has_element(*path, depth, index));
        let through = through.fold(0, |mask, path| mask | bit(path));
        for path in bits(counts) {
            self.put(path, Slot::List(index.saturating_add(1)));
        }
        through
    }

    /// Those of these paths that end at the value that comes now.
    fn ending(&self, paths: u64) -> u64 {
        let depth = self.frames.len();
        bits(paths).filter(|path| self.paths.length(*path) == depth).fold(0, |mask, path| mask | bit(path))
    }
}

impl Sum {
    fn put(&mut self, field: Field, count: u64) {
        match field {
            Field::Input => self.input = count,
            Field::Cached => self.cached = count,
            Field::CacheWritten => self.cache_written = count,
            Field::Output => self.output = count,
            _ => {}
        }
    }

    const fn and(self, more: Self) -> Self {
        Self {
            input: self.input.saturating_add(more.input),
            cached: self.cached.saturating_add(more.cached),
            cache_written: self.cache_written.saturating_add(more.cache_written),
            output: self.output.saturating_add(more.output),
        }
    }
}

/// What a scalar is, where that field is looked for.
fn slot(field: Field, value: &Scalar<'_>) -> Slot {
    match (field, value) {
        (_, Scalar::Null) => Slot::Absent,
        (Field::Text, Scalar::Text { bytes, .. }) => Slot::Text(*bytes),
        (Field::Model | Field::Kind | Field::Status, Scalar::Text { start, bytes }) => {
            // What is longer than what is kept is no name.
            let whole = u64::try_from(start.len()) == Ok(*bytes);
            let text = whole.then(|| core::str::from_utf8(start).ok()).flatten();
            text.map_or(Slot::Absent, |text| Slot::Name(text.to_owned()))
        }
        (Field::Text | Field::Model | Field::Kind | Field::Status, _) => Slot::Absent,
        (Field::Error, Scalar::Text { bytes: 1.., .. }) => Slot::Object,
        (Field::Error, _) => Slot::Absent,
        (Field::Usage | Field::List | Field::Rounds, _) => Slot::Odd,
        (_, Scalar::Number(Some(number))) if *number <= COUNT_MAX => Slot::Count(*number),
        _ => Slot::Odd,
    }
}

impl Visitor for Walk {
    fn open(&mut self, object: bool, _: usize) {
        if self.beside > 0 {
            self.beside = self.beside.saturating_add(1);
            return;
        }
        let paths = self.enter();
        let ending = self.ending(paths);
        let mut counts = 0;
        for path in bits(ending) {
            match self.paths.field(path) {
                Some((Field::Usage | Field::Error, _)) if object => self.put(path, Slot::Object),
                Some((Field::List, _)) if !object => {
                    self.put(path, Slot::List(0));
                    counts |= bit(path);
                }
                Some((Field::Rounds, _)) if !object => self.put(path, Slot::Sum(Sum::default())),
                // A text in parts has paths of its own.
                Some((Field::Text | Field::Model | Field::Kind | Field::Status | Field::Error, _)) => {}
                _ => self.put(path, Slot::Odd),
            }
        }
        let paths = paths & !ending;
        if paths | counts == 0 {
            self.beside = 1;
        } else {
            self.frames.push(Frame { object, paths, counts, seen: 0, index: 0 });
        }
    }

    fn close(&mut self, _: usize) {
        if self.beside > 0 {
            self.beside = self.beside.saturating_sub(1);
        } else if self.frames.pop().is_some_and(|frame| frame.object && frame.paths & self.round != 0) {
            self.leave_round();
        }
    }

    fn key(&mut self, key: Option<&[u8]>, _: usize) {
        if self.beside > 0 {
            return;
        }
        let depth = self.frames.len().saturating_sub(1);
        let Some(frame) = self.frames.last_mut() else { return };
        let Some(key) = key else {
            // Longer than any step.
            self.next = 0;
            return;
        };
        let through = bits(frame.paths).filter(|path| self.paths.has_key(*path, depth, key));
        let through = through.fold(0, |mask, path| mask | bit(path));
        let adding = bits(through).filter(|path| self.paths.adds_up(*path)).fold(0, |m, path| m | bit(path));
        // Of two values with one key the last counts, as for a reader of the whole.
        self.doubtful |= frame.seen & adding != 0;
        frame.seen |= through;
        self.next = through;
        self.clear(through & !adding);
    }

    fn value(&mut self, value: Scalar<'_>, _: Range<usize>) {
        if self.beside > 0 {
            return;
        }
        let paths = self.enter();
        for path in bits(self.ending(paths)) {
            let Some((field, _)) = self.paths.field(path) else { continue };
            match slot(field, &value) {
                Slot::Absent => {}
                slot => self.put(path, slot),
            }
        }
    }
}
