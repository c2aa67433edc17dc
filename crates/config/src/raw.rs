//! The plugin configuration exactly as an operator typed it: a tree in which every mistake can be named by its place.
//!
//! It is read by hand and not into structs, because a reader that stops at the first mistake makes its user
//! come back once for each; and because `serde_json` would keep the last of two equal keys without a word.
//! No defaults here: what may be left out is decided in [`super`].

use core::{cell::RefCell, fmt, ops::RangeInclusive};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// One mistake: where it is, what was written there, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// As in `endpoints[0].dedupe.mode`; empty for the document itself.
    pub path: String,
    /// What was written, shortened; never a secret.
    pub value: String,
    /// What to write instead.
    pub mend: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the configuration" } else { &self.path };
        write!(f, "{path}: {}: {}", self.value, self.mend)
    }
}

/// JSON as it was typed, repeated keys included.
#[derive(Debug)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Whole(u64),
    /// A number that is negative or has a fraction; nothing here wants one.
    OtherNumber(String),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

/// Every mistake found so far; shared by all the parts that are being read.
#[derive(Default)]
pub(super) struct Complaints(RefCell<Vec<Complaint>>);

/// A value and the place where it was written.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub(super) path: String,
    tree: &'a Tree,
    complaints: &'a Complaints,
}

/// An object whose keys are being taken one by one; what is left at [`Section::end`] is unknown.
pub(super) struct Section<'a> {
    path: String,
    fields: &'a [(String, Tree)],
    known: RefCell<Vec<&'static str>>,
    complaints: &'a Complaints,
}

impl Complaints {
    pub(super) fn add(&self, path: &str, value: impl Into<String>, mend: impl Into<String>) {
        self.0.borrow_mut().push(Complaint { path: path.to_owned(), value: value.into(), mend: mend.into() });
    }

    /// All of them, in the order of the document's parts as they were read.
    pub(super) fn into_vec(self) -> Vec<Complaint> {
        self.0.into_inner()
    }
}

impl<'a> Item<'a> {
    /// The document itself.
    pub(super) fn root(tree: &'a Tree, complaints: &'a Complaints) -> Self {
        Self { path: String::new(), tree, complaints }
    }

    /// Complains about this value.
    pub(super) fn refuse<T>(&self, mend: impl Into<String>) -> Option<T> {
        self.complaints.add(&self.path, self.tree.shown(), mend);
        None
    }

    /// The same value, spoken of as its key `key`, for a complaint that only the whole of several values shows.
    pub(super) fn at(&self, key: &str) -> Self {
        Self { path: join(&self.path, key), ..self.clone() }
    }

    /// Complains about this place without showing what is written there.
    pub(super) fn refuse_unseen<T>(&self, value: &str, mend: impl Into<String>) -> Option<T> {
        self.complaints.add(&self.path, value, mend);
        None
    }

    pub(super) fn says(&self, word: &str) -> bool {
        matches!(self.tree, Tree::Text(text) if text == word)
    }

    pub(super) fn is_object(&self) -> bool {
        matches!(self.tree, Tree::Object(_))
    }

    pub(super) fn section(&self) -> Option<Section<'a>> {
        let Tree::Object(fields) = self.tree else { return self.refuse("write an object, { … }") };
        let known = RefCell::default();
        Some(Section { path: self.path.clone(), fields, known, complaints: self.complaints })
    }

    /// The items of a list of at least one and at most `max`.
    pub(super) fn list(&self, max: usize) -> Option<Vec<Item<'a>>> {
        let Tree::List(trees) = self.tree else { return self.refuse("write a list, [ … ]") };
        if trees.is_empty() || trees.len() > max {
            return self.refuse(format!("write 1 to {max} of them"));
        }
        let at = |(n, tree)| Item { path: format!("{}[{n}]", self.path), tree, complaints: self.complaints };
        Some(trees.iter().enumerate().map(at).collect())
    }

    /// Every item of a list, read alike; every one of them is read, and one that fails fails the list.
    pub(super) fn each<T>(&self, max: usize, read: impl Fn(&Item<'a>) -> Option<T>) -> Option<Vec<T>> {
        let read: Vec<_> = self.list(max)?.iter().map(read).collect();
        read.into_iter().collect()
    }

    /// A text of 1 to 1024 bytes without control characters.
    pub(super) fn text(&self) -> Option<&'a str> {
        match self.tree {
            Tree::Text(text) if text.is_empty() => self.refuse("write a text that is not empty"),
            Tree::Text(text) if text.len() > 1024 || text.chars().any(char::is_control) => {
                self.refuse("write at most 1024 bytes, without control characters")
            }
            Tree::Text(text) => Some(text),
            _ => self.refuse("write a text, \"…\""),
        }
    }

    /// A text that becomes part of metric names and of ids: 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub(super) fn label(&self) -> Option<&'a str> {
        let text = self.text()?;
        let fits = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        if fits {
            Some(text)
        } else {
            self.refuse("write 1 to 64 letters, digits, _ or - (it names metrics)")
        }
    }

    /// A whole number within bounds.
    pub(super) fn whole(&self, bounds: RangeInclusive<u64>, of: &str) -> Option<u64> {
        match self.tree {
            Tree::Whole(number) if bounds.contains(number) => Some(*number),
            _ => self.refuse(format!(
                "write a whole number of {of} from {} to {}",
                bounds.start(),
                bounds.end()
            )),
        }
    }

    pub(super) fn flag(&self) -> Option<bool> {
        if let Tree::Bool(flag) = self.tree { Some(*flag) } else { self.refuse("write true or false") }
    }

    /// One of a few words. A word without a meaning is known, but not in this version.
    pub(super) fn word<T: Clone>(&self, words: &[(&str, Option<T>)]) -> Option<T> {
        let offered: Vec<_> =
            words.iter().filter(|w| w.1.is_some()).map(|w| format!("\"{}\"", w.0)).collect();
        let offered = offered.join(" or ");
        let Tree::Text(text) = self.tree else { return self.refuse(format!("write {offered}")) };
        match words.iter().find(|(word, _)| word == text) {
            Some((_, Some(meaning))) => Some(meaning.clone()),
            Some((_, None)) => self.refuse(format!("this is not in this version; write {offered}")),
            None => self.refuse(format!("write {offered}")),
        }
    }
}

impl<'a> Section<'a> {
    /// The value of a key that may be left out.
    pub(super) fn get(&self, key: &'static str) -> Option<Item<'a>> {
        self.known.borrow_mut().push(key);
        let tree = self.fields.iter().find(|(name, _)| name == key).map(|(_, tree)| tree)?;
        Some(Item { path: join(&self.path, key), tree, complaints: self.complaints })
    }

    /// The value of a key that must be written.
    pub(super) fn need(&self, key: &'static str) -> Option<Item<'a>> {
        let item = self.get(key);
        if item.is_none() {
            self.complaints.add(&join(&self.path, key), "nothing", "write it; it has no default");
        }
        item
    }

    /// Complains about the section as a whole.
    pub(super) fn refuse<T>(&self, value: &str, mend: impl Into<String>) -> Option<T> {
        self.complaints.add(&self.path, value, mend);
        None
    }

    /// Whether the key is there, without taking it.
    pub(super) fn has(&self, key: &str) -> bool {
        self.fields.iter().any(|(name, _)| name == key)
    }

    /// Names every key that nobody took, and every key that is there twice. Their values are not shown: a
    /// secret that was typed under a wrong name is still a secret.
    pub(super) fn end(self) {
        let known = self.known.into_inner();
        for (n, (name, _)) in self.fields.iter().enumerate() {
            let path = join(&self.path, &shorten(name));
            if !known.contains(&name.as_str()) {
                self.complaints.add(
                    &path,
                    "an unknown key",
                    format!("remove it; known here: {}", known.join(", ")),
                );
            } else if self.fields.iter().skip(n.saturating_add(1)).any(|(other, _)| other == name) {
                self.complaints.add(&path, "written twice", "keep one of them");
            }
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Tree {
    fn shown(&self) -> String {
        match self {
            Self::Null => String::from("null"),
            Self::Bool(flag) => flag.to_string(),
            Self::Whole(number) => number.to_string(),
            Self::OtherNumber(number) => number.clone(),
            Self::Text(text) => format!("\"{}\"", shorten(text).escape_debug()),
            Self::List(list) if list.is_empty() => String::from("an empty list"),
            Self::List(list) => format!("a list of {}", list.len()),
            Self::Object(_) => String::from("an object"),
        }
    }
}

fn shorten(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }
    fn visit_bool<E: Error>(self, flag: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(flag))
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Whole(number))
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<Tree, E> {
        Ok(u64::try_from(number).map_or_else(|_| Tree::OtherNumber(number.to_string()), Tree::Whole))
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::OtherNumber(number.to_string()))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(tree) = seq.next_element()? {
            list.push(tree);
        }
        Ok(Tree::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Tree::Object(fields))
    }
}
