//! Reads the few fields that identify an event, and refuses rather than guesses when one is missing.
//!
//! Only top-level fields count, only these, and each once: which of two `id`s was handled before? Everything else is
//! skipped without being kept, `api_version` above all: a new version of Stripe's API is no reason to lose an event.

use core::fmt;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use std::collections::BTreeMap;
use units::{EventId, IdError};

/// What identifies one event, whatever it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Stripe's id; the same in every retry and at every endpoint.
    pub id: EventId,
    /// Such as `invoice.paid`: 1 to 255 printable ASCII characters.
    pub kind: String,
    /// True if it is about real money.
    pub livemode: bool,
    /// The connected account, else the context, that it belongs to; `self` for the own account.
    pub account: String,
    /// In which of Stripe's two forms it came.
    pub style: Style,
    /// The snapshot event that a thin event repeats, where Stripe sends both.
    pub snapshot_event: Option<EventId>,
}

/// Stripe's two forms of an event (docs.stripe.com/event-destinations).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `"object": "event"`: carries the object as it was, in `data`.
    Snapshot,
    /// `"object": "v2.core.event"`: names the object, which is to be fetched.
    Thin,
}

/// Why a verified body is not an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventError {
    /// Not UTF-8.
    NotUtf8,
    /// Not one JSON document.
    NotJson,
    /// JSON, but not an object.
    NotAnObject,
    /// Nested deeper than 64 levels.
    TooDeep,
    /// This field appears twice.
    Repeated(&'static str),
    /// This field is missing or null.
    Missing(&'static str),
    /// This field has a value of another type.
    WrongType(&'static str),
    /// `object` is neither `event` nor `v2.core.event`.
    NotAnEvent,
    /// This field breaks a rule that identifiers keep.
    BadText(&'static str, IdError),
}

/// The account of an event that names none.
pub const OWN_ACCOUNT: &str = "self";

/// Levels of nesting. Stripe's events have about ten; 64 is the least that common JSON readers stop at (.NET's), so
/// that a handler behind this one can read what passes here.
const DEPTH_MAX: usize = 64;

/// The fields that are read.
const FIELDS: [&str; 7] = ["object", "id", "type", "livemode", "account", "context", "snapshot_event"];

impl Event {
    /// Reads a body whose signature was verified.
    ///
    /// # Errors
    /// [`EventError`] says what is wrong with which field.
    pub fn read(body: &[u8]) -> Result<Self, EventError> {
        let text = core::str::from_utf8(body).map_err(|_| EventError::NotUtf8)?;
        if !is_shallow(text) {
            return Err(EventError::TooDeep);
        }
        let mut fields: Fields = serde_json::from_str(text).map_err(|e| match e.classify() {
            Category::Data => EventError::NotAnObject,
            Category::Syntax | Category::Eof | Category::Io => EventError::NotJson,
        })?;
        if let Some(name) = fields.repeated {
            return Err(EventError::Repeated(name));
        }
        let style = match required(fields.text("object")?, "object")?.as_str() {
            "event" => Style::Snapshot,
            "v2.core.event" => Style::Thin,
            _ => return Err(EventError::NotAnEvent),
        };
        let id = required(fields.id("id")?, "id")?;
        let kind = required(fields.id("type")?, "type")?.into();
        let livemode = match fields.take("livemode") {
            Value::Bool(livemode) => livemode,
            Value::Null => return Err(EventError::Missing("livemode")),
            _ => return Err(EventError::WrongType("livemode")),
        };
        let (account, context) = (fields.id("account")?, fields.id("context")?);
        let account = account.or(context).map_or_else(|| OWN_ACCOUNT.to_owned(), String::from);
        Ok(Self { id, kind, livemode, account, style, snapshot_event: fields.id("snapshot_event")? })
    }
}

impl EventError {
    /// As it is written in metric labels.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::TooDeep => "too_deep",
            Self::Repeated(_) => "repeated_field",
            Self::Missing(_) => "missing_field",
            Self::WrongType(_) => "wrong_type",
            Self::NotAnEvent => "not_an_event",
            Self::BadText(..) => "bad_text",
        }
    }
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("the body is not UTF-8"),
            Self::NotJson => f.write_str("the body is not one JSON document"),
            Self::NotAnObject => f.write_str("the body is JSON, but not an object"),
            Self::TooDeep => write!(f, "the body is nested deeper than {DEPTH_MAX} levels"),
            Self::Repeated(name) => write!(f, "`{name}` appears twice"),
            Self::Missing(name) => write!(f, "`{name}` is missing"),
            Self::WrongType(name) => write!(f, "`{name}` has a value of another type"),
            Self::NotAnEvent => f.write_str("`object` is neither \"event\" nor \"v2.core.event\""),
            Self::BadText(name, why) => write!(f, "`{name}` {why}"),
        }
    }
}

impl core::error::Error for EventError {}

fn required<T>(value: Option<T>, name: &'static str) -> Result<T, EventError> {
    value.ok_or(EventError::Missing(name))
}

/// Whether brackets nest no deeper than [`DEPTH_MAX`]. Looks at bytes, uses no stack, and is right for all JSON;
/// for what is not JSON any answer will do.
fn is_shallow(text: &str) -> bool {
    let (mut depth, mut bytes) = (0_usize, text.bytes());
    while let Some(byte) = bytes.next() {
        match byte {
            // A loop of its own for strings, which most of a body is: one loop with flags costs fifteen times as much.
            b'"' => {
                while let Some(byte) = bytes.next().filter(|byte| *byte != b'"') {
                    if byte == b'\\' {
                        bytes.next();
                    }
                }
            }
            b'{' | b'[' if depth == DEPTH_MAX => return false,
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// The value of each of [`FIELDS`] that a JSON object has at its top, and the first that it has twice.
#[derive(Default)]
struct Fields {
    values: BTreeMap<&'static str, Value>,
    repeated: Option<&'static str>,
}

/// A value, as far as anything here cares.
enum Value {
    Null,
    Bool(bool),
    Text(String),
    Other,
}

impl Fields {
    fn take(&mut self, name: &'static str) -> Value {
        self.values.remove(name).unwrap_or(Value::Null)
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, EventError> {
        match self.take(name) {
            Value::Text(text) => Ok(Some(text)),
            Value::Null => Ok(None),
            Value::Bool(_) | Value::Other => Err(EventError::WrongType(name)),
        }
    }

    fn id(&mut self, name: &'static str) -> Result<Option<EventId>, EventError> {
        self.text(name)?
            .map(|text| EventId::new(text).map_err(|why| EventError::BadText(name, why)))
            .transpose()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Top;
        impl<'de> Visitor<'de> for Top {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some(Name(name)) = map.next_key()? {
                    match name {
                        None => drop(map.next_value::<IgnoredAny>()?),
                        Some(name) if fields.values.insert(name, map.next_value()?).is_some() => {
                            fields.repeated = fields.repeated.or(Some(name));
                        }
                        Some(_) => {}
                    }
                }
                Ok(fields)
            }
        }
        from.deserialize_map(Top)
    }
}

/// A key: the one of [`FIELDS`] that it is, if any.
struct Name(Option<&'static str>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Key;
        impl Visitor<'_> for Key {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E>(self, key: &str) -> Result<Name, E> {
                Ok(Name(FIELDS.into_iter().find(|name| *name == key)))
            }
        }
        from.deserialize_identifier(Key)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }
            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
                Ok(Value::Other)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
                Ok(Value::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
                Ok(Value::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }
        }
        from.deserialize_any(Any)
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
