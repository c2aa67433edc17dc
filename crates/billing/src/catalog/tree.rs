//! A YAML document read key by key, so that every mistake in it is told at once, with its path; a deserialiser would stop at the first.

use crate::complaint::Complaints;
use serde_json::{Map, Value};
use units::{Amount, Span};

/// One mapping of the document, and which of its keys were asked for.
pub(super) struct Tree<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
    asked: Vec<&'static str>,
}

/// Says what stands at a path: a value, or that nothing does.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "a mapping".into(),
        Value::Array(_) => "a list".into(),
        other => other.to_string(),
    }
}

impl<'a> Tree<'a> {
    /// The mapping at `path`; anything else is complained about and read as empty.
    pub(super) fn new(path: impl Into<String>, value: &'a Value, no: &mut Complaints) -> Self {
        let path = path.into();
        if !value.is_object() {
            no.add(&path, shown(value), "write a mapping here");
        }
        Self { path, map: value.as_object(), asked: Vec::new() }
    }

    /// The path of a key of it.
    pub(super) fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of an optional key; `null` counts as left out.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.asked.push(key);
        self.map?.get(key).filter(|value| !value.is_null())
    }

    /// Reads an optional key with `read`, whose error is the mend.
    pub(super) fn maybe<T>(
        &mut self,
        key: &'static str,
        no: &mut Complaints,
        read: impl FnOnce(&'a Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.get(key)?;
        read(value).map_err(|mend| no.add(self.path(key), shown(value), mend)).ok()
    }

    /// Reads a key that must be there.
    pub(super) fn must<T>(
        &mut self,
        key: &'static str,
        no: &mut Complaints,
        read: impl FnOnce(&'a Value) -> Result<T, String>,
    ) -> Option<T> {
        if self.get(key).is_none() && self.map.is_some() {
            no.add(self.path(key), "missing", "add it");
        }
        self.maybe(key, no, read)
    }

    /// A mapping under an optional key.
    pub(super) fn tree(&mut self, key: &'static str, no: &mut Complaints) -> Option<Tree<'a>> {
        let value = self.get(key)?;
        Some(Tree::new(self.path(key), value, no))
    }

    /// Every entry of a mapping whose keys are names chosen by the author.
    pub(super) fn entries(&mut self, key: &'static str, no: &mut Complaints) -> Vec<(&'a str, Tree<'a>)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let path = self.path(key);
        let map = Tree::new(&path, value, no).map;
        let items = map.into_iter().flatten();
        items.map(|(name, value)| (name.as_str(), Tree::new(format!("{path}.{name}"), value, no))).collect()
    }

    /// Every entry of a list of mappings.
    pub(super) fn list(&mut self, key: &'static str, no: &mut Complaints) -> Vec<Tree<'a>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let path = self.path(key);
        let Some(items) = value.as_array() else {
            no.add(path, shown(value), "write a list here");
            return Vec::new();
        };
        items.iter().enumerate().map(|(i, item)| Tree::new(format!("{path}[{i}]"), item, no)).collect()
    }

    /// Complains about every key that nobody asked for; call it when done.
    pub(super) fn close(mut self, no: &mut Complaints) {
        self.asked.dedup();
        for (key, value) in self.map.into_iter().flatten() {
            if !self.asked.contains(&key.as_str()) {
                let mend = format!("remove it, or use one of {}", self.asked.join(", "));
                no.add(self.path(key), shown(value), mend);
            }
        }
    }
}

/// A text that is not empty.
pub(super) fn text(value: &Value) -> Result<String, String> {
    let text = value.as_str().filter(|text| !text.trim().is_empty());
    text.map(str::to_owned).ok_or_else(|| "write a text here".into())
}

/// A list of texts.
pub(super) fn texts(value: &Value) -> Result<Vec<String>, String> {
    let items = value.as_array().ok_or("write a list of texts here")?;
    items.iter().map(text).collect()
}

/// A whole number from `min` to `max`.
pub(super) fn whole(min: u64, max: u64) -> impl Fn(&Value) -> Result<u64, String> {
    move |value| {
        let number = value.as_u64().filter(|n| (min..=max).contains(n));
        number.ok_or_else(|| format!("write a whole number from {min} to {max}"))
    }
}

/// Credits: a whole number, or a decimal in quotes, since a bare decimal would be read as a float.
pub(super) fn credits(value: &Value) -> Result<Amount, String> {
    let text = match value {
        Value::Number(n) if n.is_u64() || n.is_i64() => n.to_string(),
        Value::Number(_) => return Err("write a decimal in quotes, such as \"0.5\"".into()),
        Value::String(text) => text.clone(),
        _ => return Err("write a number of credits".into()),
    };
    Amount::from_credits(&text).map_err(|e| format!("it {e}"))
}

/// A length of time such as `7d`, `12h`, `30m` or `0s`.
pub(super) fn span(value: &Value) -> Result<Span, String> {
    let mend = || "write a length of time such as 7d, 12h, 30m or 0s".to_owned();
    let text = value.as_str().ok_or_else(mend)?;
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(mend)?;
    let secs = match unit {
        "d" => 86_400_u64,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        _ => return Err(mend()),
    };
    let number: u32 = number.parse().map_err(|_| mend())?;
    Ok(Span::from_secs(u64::from(number).saturating_mul(secs)))
}

/// One of several words.
pub(super) fn word<T: Copy, const N: usize>(
    of: [(&'static str, T); N],
) -> impl Fn(&Value) -> Result<T, String> {
    move |value| {
        let found = of.iter().find(|(name, _)| value.as_str() == Some(name));
        found.map(|(_, chosen)| *chosen).ok_or_else(|| {
            let names: Vec<_> = of.iter().map(|(name, _)| *name).collect();
            format!("write one of {}", names.join(", "))
        })
    }
}

/// `true` or `false`.
pub(super) fn flag(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "write true or false".into())
}
