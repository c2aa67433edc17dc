//! Which rule does a request fall under? Exact paths beat prefixes, longer prefixes beat shorter ones.

use core::{cmp::Reverse, fmt};
use std::collections::{BTreeMap, BTreeSet};

/// Rules of one path, by method.
type Rows<T> = Vec<(String, T)>;

/// Rules by method and path.
#[derive(Clone, Debug)]
pub struct Table<T> {
    exact: BTreeMap<String, Rows<T>>,
    /// Longest first.
    prefixes: BTreeMap<(Reverse<usize>, String), Rows<T>>,
}

/// Where a rule applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This path and no other.
    Path(String),
    /// Every path that begins like this; ends with `/`, so that `/v1` does not cover `/v1beta`.
    Prefix(String),
}

/// What a look-up found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match<'a, T> {
    /// This rule.
    Route(&'a T),
    /// The path is known, with these other methods: the value of an `Allow` header.
    OtherMethod {
        /// Sorted, as in `GET, POST`.
        allow: String,
    },
    /// No rule covers the path.
    None,
}

impl<T> Table<T> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self { exact: BTreeMap::new(), prefixes: BTreeMap::new() }
    }

    /// Adds a rule; false (and nothing changed) if there is one for the same method and place.
    pub fn insert(&mut self, method: &str, place: &Place, rule: T) -> bool {
        let rows = match place {
            Place::Path(path) => self.exact.entry(path.clone()).or_default(),
            Place::Prefix(prefix) => {
                self.prefixes.entry((Reverse(prefix.len()), prefix.clone())).or_default()
            }
        };
        let is_new = rows.iter().all(|(known, _)| known != method);
        if is_new {
            rows.push((method.to_owned(), rule));
        }
        is_new
    }

    /// Finds the rule for a request. The query of `path` does not count.
    #[must_use]
    pub fn find(&self, method: &str, path: &str) -> Match<'_, T> {
        let path = path.split(['?', '#']).next().unwrap_or(path);
        let prefixes = self.prefixes.iter().filter(|((_, prefix), _)| path.starts_with(prefix.as_str()));
        let rows =
            || self.exact.get(path).into_iter().chain(prefixes.clone().map(|(_, rows)| rows)).flatten();
        if let Some((_, rule)) = rows().find(|(known, _)| known == method) {
            return Match::Route(rule);
        }
        let mut allow = BTreeSet::new();
        // One by one: `collect` would bring along a sort of its own.
        allow.extend(rows().map(|(known, _)| known.as_str()));
        if allow.is_empty() {
            return Match::None;
        }
        Match::OtherMethod { allow: allow.into_iter().collect::<Vec<_>>().join(", ") }
    }

    /// Every rule, exact paths first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.prefixes.values()).flatten().map(|(_, rule)| rule)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<u8> {
        let mut table = Table::new();
        assert!(table.insert("POST", &Place::Path("/v1/chat".into()), 1));
        assert!(table.insert("GET", &Place::Prefix("/v1/".into()), 2));
        assert!(table.insert("GET", &Place::Prefix("/v1/files/".into()), 3));
        assert!(table.insert("DELETE", &Place::Prefix("/".into()), 4));
        assert!(!table.insert("POST", &Place::Path("/v1/chat".into()), 9), "the same place twice");
        table
    }

    #[test]
    fn exact_beats_the_longest_prefix_which_beats_a_shorter_one() {
        let table = table();
        assert_eq!(table.find("POST", "/v1/chat"), Match::Route(&1));
        assert_eq!(table.find("POST", "/v1/chat?stream=1"), Match::Route(&1));
        assert_eq!(table.find("GET", "/v1/files/7"), Match::Route(&3));
        assert_eq!(table.find("GET", "/v1/filesystem"), Match::Route(&2));
        assert_eq!(table.find("DELETE", "/v1/files/7"), Match::Route(&4));
    }

    #[test]
    fn another_method_is_told_what_is_allowed() {
        let table = table();
        assert_eq!(
            table.find("PUT", "/v1/chat"),
            Match::OtherMethod { allow: String::from("DELETE, GET, POST") }
        );
        assert_eq!(table.find("GET", "v1"), Match::None);
        assert_eq!(table.find("post", "/x"), Match::OtherMethod { allow: String::from("DELETE") });
    }
}
