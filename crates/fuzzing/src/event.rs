//! The identity of an event: what is read is what a whole JSON reader finds, and what is refused is refused for a reason.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;
use units::EventId;
use webhook::{Event, EventError, Style};

pub(crate) fn run(body: &[u8]) {
    let read = Event::read(body);
    let whole = serde_json::from_slice::<Tree>(body);
    match (&read, whole) {
        (Ok(event), Ok(whole)) => agrees(event, &whole),
        // Only what readers of JSON are free to refuse: numbers and surrogates out of range (RFC 8259, sections 6 and 8.2).
        (Ok(_), Err(error)) => {
            let why = error.to_string();
            let known = ["number out of range", "surrogate", "unexpected end of hex escape"];
            assert!(known.iter().any(|it| why.contains(it)), "passed, and nobody can read it: {why}");
        }
        (Err(error), Ok(whole)) => {
            assert!(is_right(error, &whole), "{error:?} for {}", String::from_utf8_lossy(body));
        }
        // Which of several faults is told first is nobody's business.
        (Err(_), Err(_)) => {}
    }
}

fn agrees(event: &Event, whole: &Tree) {
    let only = |name: &str| match whole.all(name)[..] {
        [one] => Some(one.clone()),
        [] => None,
        _ => panic!("{name} appears twice"),
    };
    let text = |name: &str| match only(name) {
        Some(Tree::Text(text)) => Some(text),
        None | Some(Tree::Null) => None,
        other => panic!("{name} is {other:?}"),
    };
    assert!(whole.depth() <= 64);
    assert_eq!(text("id").as_deref(), Some(event.id.as_str()));
    assert_eq!(text("type").as_ref(), Some(&event.kind));
    assert_eq!(only("livemode"), Some(Tree::Bool(event.livemode)));
    let style = if event.style == Style::Snapshot { "event" } else { "v2.core.event" };
    assert_eq!(text("object").as_deref(), Some(style));
    let account = text("account").or(text("context")).unwrap_or_else(|| "self".to_owned());
    assert_eq!(account, event.account);
    assert_eq!(text("snapshot_event"), event.snapshot_event.as_ref().map(ToString::to_string));
}

/// Is there such a fault in a body that is JSON?
fn is_right(error: &EventError, whole: &Tree) -> bool {
    let absent = |name: &str| matches!(whole.all(name)[..], [] | [Tree::Null]);
    match error {
        EventError::NotUtf8 | EventError::NotJson => false,
        EventError::NotAnObject => !matches!(whole, Tree::Object(_)),
        EventError::TooDeep => whole.depth() > 64,
        EventError::Repeated(name) => whole.all(name).len() > 1,
        EventError::Missing(name) => absent(name),
        EventError::WrongType("livemode") => !matches!(whole.all("livemode")[..], [Tree::Bool(_)]),
        EventError::WrongType(name) => !absent(name) && !matches!(whole.all(name)[..], [Tree::Text(_)]),
        EventError::NotAnEvent => !["event", "v2.core.event"]
            .iter()
            .any(|known| whole.all("object") == [&Tree::Text((*known).to_owned())]),
        EventError::BadText(name, _) => match whole.all(name)[..] {
            [Tree::Text(text)] => EventId::new(text.clone()).is_err(),
            _ => false,
        },
    }
}

/// JSON with everything that is in it, repeated keys too.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Null,
    Bool(bool),
    Number,
    Text(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn all(&self, name: &str) -> Vec<&Tree> {
        match self {
            Self::Object(pairs) => pairs.iter().filter(|(key, _)| key == name).map(|(_, v)| v).collect(),
            _ => Vec::new(),
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(pairs) => 1 + pairs.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
                Ok(Tree::Number)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
                Ok(Tree::Number)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
                Ok(Tree::Number)
            }
            fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Tree::Array(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Tree::Object(pairs))
            }
        }
        from.deserialize_any(Any)
    }
}
