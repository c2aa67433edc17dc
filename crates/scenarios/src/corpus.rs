//! The shape of a scenario, and all of them.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Every file of the corpus: its name, and what is in it.
pub const FILES: [(&str, &str); 3] = [
    ("payments.json", include_str!("../../../tests/scenarios/payments.json")),
    ("refusals.json", include_str!("../../../tests/scenarios/refusals.json")),
    ("events.json", include_str!("../../../tests/scenarios/events.json")),
];

/// Something that a gateway must do. `${word}` in its texts becomes a word that no other scenario has: see [`crate::Cast`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What must hold.
    pub name: String,
    /// Why.
    pub why: String,
    /// What happens, one after the other.
    pub steps: Vec<Step>,
    /// Every usage record that billing must be told, in order.
    #[serde(default)]
    pub told: Vec<Value>,
    /// What billing must be told of claimed events, in order.
    #[serde(default)]
    pub completed: Vec<Value>,
}

/// One request, and what must come of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Method and path.
    pub send: String,
    /// Whose API key it carries as a bearer's token.
    pub key: Option<String>,
    /// Further header fields, in order.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Its body: a text, or a document.
    pub body: Option<Value>,
    /// Stripe's signature over the body, if there is to be one.
    pub signed: Option<Signed>,
    /// What billing does when it is asked.
    #[serde(default)]
    pub billing: Says,
    /// What the upstream does if it is reached.
    #[serde(default)]
    pub upstream: Upstream,
    /// What must come of it.
    pub expect: Expected,
}

/// A signature as Stripe makes it, or not quite.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// Made so many seconds ago; in the future if below zero.
    #[serde(default)]
    pub age_s: i64,
    /// With another secret than ours.
    #[serde(default)]
    pub by_another: bool,
    /// Over another body than the one that is sent.
    #[serde(default)]
    pub over_another: bool,
}

/// What billing does while a step lasts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Says {
    /// Every need is granted, every event is fresh.
    #[default]
    Yes,
    /// Every need is refused: fields of a [`contract::v1::Refusal`], beside those that its reason implies.
    Refuses(Value),
    /// The event is being handled elsewhere.
    InFlight,
    /// The event was handled.
    Done,
    /// 500, whatever it is asked.
    Fails,
}

/// What the upstream does.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// It answers with this status.
    pub status: u16,
}

impl Default for Upstream {
    fn default() -> Self {
        Self { status: 200 }
    }
}

/// What must come of a step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The status that the client sees.
    pub status: u16,
    /// Header fields that it sees; `null`: must not.
    #[serde(default)]
    pub headers: BTreeMap<String, Option<String>>,
    /// Members of the document that it sees, deeply; others may be beside them.
    pub body: Option<Value>,
    /// Header fields that the upstream sees (`null`: must not); absent if it must not be reached.
    pub forwarded: Option<BTreeMap<String, Option<String>>>,
    /// What billing is asked: `hold`, `lease`, `identify`, `claim`. Absent where how often is not certain.
    pub asked: Option<Vec<String>>,
}

/// All scenarios.
#[must_use]
pub fn corpus() -> Vec<Scenario> {
    let read = |(name, text): (&str, &str)| {
        serde_json::from_str::<Vec<Scenario>>(text).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    FILES.into_iter().flat_map(read).collect()
}
