//! Who plays in one scenario: names, keys and event ids that no other scenario has, so that one Envoy can tell them all.

use crate::corpus::{Scenario, Step};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use units::Instant;
use webhook::{HEADER_SIGNATURE, Secret, sign};

/// The names of one scenario.
#[derive(Clone, Copy, Debug)]
pub struct Cast(pub usize);

/// A request as it is sent, but for what the way there adds.
#[derive(Clone, Debug)]
pub struct Sent {
    /// `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Header fields, in order.
    pub headers: Vec<(String, String)>,
    /// The body, if there is one.
    pub body: Option<String>,
}

impl Cast {
    /// A text with every `${word}` made this scenario's own: `${alice}` is `alice_7` in the seventh.
    #[must_use]
    pub fn text(self, text: &str) -> String {
        let mut parts = text.split("${");
        let mut own = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (word, rest) = part.split_once('}').unwrap_or_else(|| panic!("{text:?}: ${{ without }}"));
            own.push_str(&format!("{}{rest}", self.name(word)));
        }
        own
    }

    /// The same throughout a document.
    #[must_use]
    pub fn document(self, document: &Value) -> Value {
        match document {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.document(item)).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| (name.clone(), self.document(value))).collect()
            }
            other => other.clone(),
        }
    }

    /// This scenario's own form of a word.
    #[must_use]
    pub fn name(self, word: &str) -> String {
        format!("{word}_{}", self.0)
    }

    /// Somebody's API key, of the length that the shipped configuration asks for.
    #[must_use]
    pub fn key(self, who: &str) -> String {
        format!("tgk_{:0>32}", format!("{who}{}", self.0))
    }

    /// Whom a digest of a key, as billing is told it, belongs to.
    #[must_use]
    pub fn accounts(self, scenario: &Scenario) -> BTreeMap<String, String> {
        let keys = scenario.steps.iter().filter_map(|step| step.key.as_deref());
        keys.map(|who| {
            let digest = Sha256::digest(self.key(who));
            (digest.iter().map(|byte| format!("{byte:02x}")).collect(), self.name(who))
        })
        .collect()
    }

    /// The request of a step, signed with `secret` where it is to be.
    #[must_use]
    pub fn sent(self, step: &Step, secret: &str, now: Instant) -> Sent {
        let (method, path) = step.send.split_once(' ').unwrap_or_else(|| panic!("{:?}", step.send));
        let body = step.body.as_ref().map(|body| match self.document(body) {
            Value::String(text) => text,
            document => document.to_string(),
        });
        let mut headers: Vec<_> =
            step.headers.iter().map(|(name, value)| (name.clone(), self.text(value))).collect();
        headers.extend(
            step.key.as_deref().map(|who| ("authorization".to_owned(), format!("Bearer {}", self.key(who)))),
        );
        if let (Some(signed), Some(body)) = (&step.signed, &body) {
            let secret = if signed.by_another { "whsec_of_somebody_else" } else { secret };
            let at = Instant::from_secs(now.secs() - signed.age_s);
            let over = if signed.over_another { format!("{body} ") } else { body.clone() };
            let line = sign(&Secret::new(secret).unwrap(), at, over.as_bytes());
            headers.push((HEADER_SIGNATURE.to_owned(), line));
        }
        if body.is_some() {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        Sent { method: method.to_owned(), path: path.to_owned(), headers, body }
    }
}
