//! What an endpoint costs: so much per request, or by what is used, read from YAML.

use super::read::WHOLE_MAX;
use super::tree::{Tree, credits, whole, word};
use crate::complaint::Complaints;
use contract::v1::{HoldError, Matching, ModelPrice, NeedShape, PriceList, UnknownModel};
use units::Amount;

/// What a request of an endpoint costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Micro-credits per request, above zero.
    Fixed(Amount),
    /// By the model and the tokens that it used. Not everything in the list costs nothing.
    Tokens(PriceList),
}

/// What is held for one request in credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToHold {
    /// Micro-credits, above zero.
    pub hold: Amount,
    /// With how much it does, from 1 to `hold`, if the gateway can lower what the request may use; else all or nothing.
    pub least: Option<Amount>,
}

impl Cost {
    /// What is held for a request of this shape. Where the price depends on what is used and the gateway does not say how much
    /// that can be, it is what the catalog holds for such a request. What costs nothing by its shape is held for all the same,
    /// with the smallest amount there is: only what is held can be charged.
    ///
    /// # Errors
    /// [`HoldError::ModelUnknown`].
    pub fn size(&self, shape: &NeedShape) -> Result<ToHold, HoldError> {
        match (self, shape) {
            (Self::Fixed(cost), _) => Ok(ToHold { hold: *cost, least: None }),
            (Self::Tokens(_), NeedShape::Fixed) => Ok(self.unsaid()),
            (Self::Tokens(list), NeedShape::Tokens(shape)) => {
                let (hold, least) = (list.hold(shape)?.max(Amount::ONE), list.least(shape)?);
                // An estimate may be less than what is of use at all: then it is as good as the least.
                let least = shape.clamp.then(|| least.clamp(Amount::ONE, hold));
                Ok(ToHold { hold, least })
            }
        }
    }

    /// What is held for a request of which nothing is said.
    #[must_use]
    pub fn unsaid(&self) -> ToHold {
        match self {
            Self::Fixed(cost) => ToHold { hold: *cost, least: None },
            Self::Tokens(list) => ToHold { hold: list.hold.max(Amount::ONE), least: None },
        }
    }

    /// The price list, where the price depends on what is used.
    #[must_use]
    pub const fn list(&self) -> Option<&PriceList> {
        match self {
            Self::Fixed(_) => None,
            Self::Tokens(list) => Some(list),
        }
    }

    /// Text that changes whenever something of the price does, its version aside.
    pub(super) fn digested(&self) -> String {
        match self {
            Self::Fixed(cost) => cost.to_string(),
            Self::Tokens(list) => format!("{:?}", PriceList { version: 0, ..list.clone() }),
        }
    }
}

/// Reads an endpoint's `cost` or `tokens`. One that has a complaint has a price all the same: it is never used, and whoever
/// names the endpoint is not told that there is none.
pub(super) fn cost(tree: &mut Tree<'_>, no: &mut Complaints) -> Cost {
    let (fixed, tokens) = (tree.get("cost").is_some(), tree.get("tokens").is_some());
    if fixed && tokens {
        no.add(tree.path("tokens"), "a mapping", "write either cost or tokens: a request has one price");
    }
    if tokens && let Some(tokens) = tree.tree("tokens", no) {
        return Cost::Tokens(list(tokens, no));
    }
    // An endpoint that costs nothing needs no hold: a route says so itself with `cost: 0`.
    let cost = tree.must("cost", no, |value| match credits(value) {
        Ok(cost) if cost.is_zero() => {
            Err("write more than 0; a free route is declared at the gateway".into())
        }
        other => other,
    });
    Cost::Fixed(cost.unwrap_or(Amount::CREDIT))
}

fn list(mut tree: Tree<'_>, no: &mut Complaints) -> PriceList {
    let request = tree.maybe("request", no, credits).unwrap_or(Amount::ZERO);
    let minimum = tree.maybe("minimum", no, credits).unwrap_or(Amount::ZERO);
    let hold = tree.must("hold", no, |value| match credits(value) {
        Ok(hold) if hold.is_zero() => Err("write more than 0: what nothing is held for is free".into()),
        Ok(hold) if hold < minimum => Err(format!("write at least the minimum, {}", minimum.to_credits())),
        other => other,
    });
    let output_min = tree.maybe("output_min", no, whole(1, WHOLE_MAX)).unwrap_or(1);
    let words = [("refuse", UnknownModel::Refuse), ("dearest", UnknownModel::Dearest)];
    let unknown = tree.must("unknown_model", no, word(words));
    let entries = tree.entries("models", no);
    let path = tree.path("models");
    if tree.must("models", no, |_| Ok(())).is_some() && entries.is_empty() {
        no.add(&path, "empty", "add at least one model, or \"*\" for all");
    }
    tree.close(no);
    for (written, _) in entries.iter().filter(|(written, _)| !named(written)) {
        let mend = "write a model, or its beginning and one * at the end, or * alone";
        no.add(&path, format!("{written:?}"), mend);
    }
    let models: Vec<_> = entries.into_iter().map(|(name, tree)| model(name, tree, no)).collect();
    let nothing = |price: &ModelPrice| {
        let each =
            [price.input, price.cached, price.cache_written, price.output, price.reasoning, price.image];
        each.iter().all(|price| price.is_zero())
    };
    if !models.is_empty() && request.is_zero() && minimum.is_zero() && models.iter().all(nothing) {
        no.add(
            path,
            "nothing",
            "let something in it cost more than 0; a free route is declared at the gateway",
        );
    }
    PriceList {
        version: 0, // Set when all prices are read.
        request,
        minimum,
        hold: hold.unwrap_or(Amount::CREDIT),
        output_min,
        unknown: unknown.unwrap_or(UnknownModel::Refuse),
        models,
    }
}

/// True for what can name models.
fn named(written: &str) -> bool {
    !written.is_empty() && !written.strip_suffix('*').unwrap_or(written).contains('*')
}

fn model(written: &str, mut tree: Tree<'_>, no: &mut Complaints) -> ModelPrice {
    let (name, matching) = match written.strip_suffix('*') {
        Some("") => ("", Matching::Any),
        Some(beginning) => (beginning, Matching::Prefix),
        None => (written, Matching::Exact),
    };
    if name.contains('*') || (name.is_empty() && matching == Matching::Exact) {
        no.add(
            tree.path(""),
            format!("{written:?}"),
            "write a model, its beginning and one * at the end, or * alone",
        );
    }
    let input = tree.must("input", no, credits).unwrap_or(Amount::ZERO);
    let output = tree.must("output", no, credits).unwrap_or(Amount::ZERO);
    let mut or = |key, other: Amount| tree.maybe(key, no, credits).unwrap_or(other);
    let (cached, cache_written) = (or("cached", input), or("cache_written", input));
    let (reasoning, image) = (or("reasoning", output), or("image", Amount::ZERO));
    let context = tree.must("context", no, whole(1, WHOLE_MAX)).unwrap_or(1);
    // Nothing for what makes no text, such as an embedding.
    let output_max = tree.must("output_max", no, whole(0, WHOLE_MAX)).unwrap_or(0);
    if output_max == 0 && !(output.is_zero() && reasoning.is_zero()) {
        let mend = "write 1 or more; 0 is for a model that makes no text, whose output costs 0";
        no.add(tree.path("output_max"), 0, mend);
    }
    let usual = tree.maybe("output_usual", no, whole(0, output_max));
    let image_tokens = tree.maybe("image_tokens", no, whole(0, WHOLE_MAX));
    let tools_tokens = tree.maybe("tools_tokens", no, whole(0, WHOLE_MAX)).unwrap_or(TOOLS_TOKENS);
    tree.close(no);
    let name = name.to_owned();
    let output_usual = usual.unwrap_or(output_max);
    ModelPrice {
        name,
        matching,
        input,
        cached,
        cache_written,
        output,
        reasoning,
        image,
        context,
        output_max,
        output_usual,
        image_tokens,
        tools_tokens,
    }
}

/// What a provider's own prompt for tools counts for, where a catalog does not say.
const TOOLS_TOKENS: u64 = 500;
