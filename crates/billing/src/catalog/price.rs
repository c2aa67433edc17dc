//! What an endpoint costs: so much per request, or by what is used, read from YAML.

use super::read::WHOLE_MAX;
use super::tree::{Tree, credits, flag, whole, word};
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
    let unseen = tree.maybe("unseen", no, flag).unwrap_or(false);
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
        unseen,
    }
}

/// What a provider's own prompt for tools counts for, where a catalog does not say.
const TOOLS_TOKENS: u64 = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use contract::v1::{Size, TokenShape};
    use units::EndpointId;

    const DEMO: &str = include_str!("../../../../catalogs/demo.yaml");
    const PLAIN: &str =
        "hold: 5, unknown_model: refuse, models: {m: {input: 2, output: 8, context: 100, output_max: 50}}";

    /// The demo's catalog with this as the price of `chat`.
    fn catalog(price: &str) -> Result<Catalog, Complaints> {
        Catalog::from_yaml(
            &DEMO.replace("chat: {cost: 1, tiers: all}", &format!("chat: {{tiers: all, {price}}}")),
        )
    }

    fn list(tokens: &str) -> PriceList {
        let catalog = catalog(&format!("tokens: {{{tokens}}}")).unwrap_or_else(|no| panic!("{no}"));
        catalog.endpoints[&EndpointId::new("chat").unwrap()].cost.list().unwrap().clone()
    }

    fn complaints(price: &str) -> Vec<String> {
        let no = catalog(price).err().unwrap_or_default();
        no.0.iter().map(|no| format!("{} {}", no.path, no.value)).collect()
    }

    fn credits(text: &str) -> Amount {
        Amount::from_credits(text).unwrap()
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let list = list(PLAIN);
        assert_eq!((list.request, list.minimum, list.hold), (Amount::ZERO, Amount::ZERO, credits("5")));
        assert_eq!((list.output_min, list.unknown), (1, UnknownModel::Refuse));
        let price = ModelPrice {
            name: "m".into(),
            matching: Matching::Exact,
            // Credits per million tokens are micro-credits per token, a million times.
            input: credits("2"),
            cached: credits("2"),
            cache_written: credits("2"),
            output: credits("8"),
            reasoning: credits("8"),
            image: Amount::ZERO,
            context: 100,
            output_max: 50,
            output_usual: 50,
            image_tokens: None,
            tools_tokens: 500,
            unseen: false,
        };
        assert_eq!(list.models, [price]);
        let all = catalog(&format!("tokens: {{{PLAIN}}}")).unwrap();
        assert_eq!(list.version, all.price_version);
    }

    #[test]
    fn everything_can_be_said() {
        let list = list(
            r#"request: "0.5", minimum: "0.001", hold: 1, output_min: 16, unknown_model: dearest, models: {
            gpt-5-mini: {input: "0.25", cached: "0.025", cache_written: 1, output: 2, reasoning: 3, image: "0.04",
                context: 400000, output_max: 4096, output_usual: 500, image_tokens: 1500, tools_tokens: 0, unseen: true},
            "gpt-5*": {input: 1, output: 0, context: 8192, output_max: 0}, "*": {input: 3, output: 9, context: 1, output_max: 1}}"#,
        );
        assert_eq!((list.request, list.minimum), (credits("0.5"), credits("0.001")));
        assert_eq!((list.output_min, list.unknown), (16, UnknownModel::Dearest));
        let find = |model: &str| list.find(model).unwrap();
        let mini = find("gpt-5-mini");
        assert_eq!(
            (mini.input.get(), mini.cached.get(), mini.cache_written),
            (250_000, 25_000, credits("1"))
        );
        assert_eq!((mini.reasoning, mini.image, mini.output_usual), (credits("3"), credits("0.04"), 500));
        assert_eq!((mini.image_tokens, mini.tools_tokens), (Some(1_500), 0));
        let (begins, all) = (find("gpt-5-embeds"), find("claude"));
        assert_eq!((mini.unseen, begins.unseen, all.unseen), (true, false, false));
        assert_eq!(
            (begins.name.as_str(), begins.matching, begins.output_max),
            ("gpt-5", Matching::Prefix, 0)
        );
        assert_eq!((all.name.as_str(), all.matching), ("", Matching::Any));
    }

    #[test]
    fn every_complaint_about_prices_comes_at_once() {
        let told = complaints(
            r#"tokens: {request: -1, hold: 0, output_min: 0, unknown_model: free, surprise: 1, models: {
            a: {input: 0.5, output: 1, context: 0, output_max: 1, output_usual: 2},
            b: {cached: 1, output: 1, context: 10, output_max: 0, image_tokens: -1, unseen: sometimes},
            "c*d": {input: 1, output: 1, context: 1, output_max: 1}}}"#,
        );
        let expected = [
            "endpoints.chat.tokens.request -1",
            "endpoints.chat.tokens.hold 0",
            "endpoints.chat.tokens.output_min 0",
            "endpoints.chat.tokens.unknown_model \"free\"",
            "endpoints.chat.tokens.surprise 1",
            "endpoints.chat.tokens.models \"c*d\"",
            "endpoints.chat.tokens.models.a.input 0.5",
            "endpoints.chat.tokens.models.a.context 0",
            "endpoints.chat.tokens.models.a.output_usual 2",
            "endpoints.chat.tokens.models.b.input missing",
            "endpoints.chat.tokens.models.b.output_max 0",
            "endpoints.chat.tokens.models.b.image_tokens -1",
            "endpoints.chat.tokens.models.b.unseen \"sometimes\"",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_price_is_one_and_not_nothing() {
        let m = "{input: 0, output: 0, context: 1, output_max: 1}";
        let free = |more: &str| {
            complaints(&format!("tokens: {{hold: 1, unknown_model: refuse{more}, models: {{m: {m}}}}}"))
        };
        assert_eq!(free(""), ["endpoints.chat.tokens.models nothing"]);
        assert!(free(", request: 1").is_empty() && free(", minimum: 1").is_empty());
        assert_eq!(
            free(", minimum: 2"),
            ["endpoints.chat.tokens.hold 1"],
            "less is held than it costs at least"
        );
        assert_eq!(complaints(&format!("cost: 1, tokens: {{{PLAIN}}}")), ["endpoints.chat.tokens a mapping"]);
        assert_eq!(complaints("nothing: 1"), ["endpoints.chat.cost missing", "endpoints.chat.nothing 1"]);
        let none = "tokens: {hold: 1, unknown_model: refuse, models: {}}";
        assert_eq!(complaints(none), ["endpoints.chat.tokens.models empty"]);
        let none = "tokens: {hold: 1, unknown_model: refuse}";
        assert_eq!(complaints(none), ["endpoints.chat.tokens.models missing"]);
    }

    #[test]
    fn any_part_of_a_list_changes_the_version() {
        let version = |tokens: &str| catalog(&format!("tokens: {{{tokens}}}")).unwrap().price_version;
        let other = |from: &str, to: &str| {
            assert!(PLAIN.contains(from));
            version(&PLAIN.replace(from, to))
        };
        let mut all = vec![version(PLAIN)];
        all.extend([
            other("hold: 5", "hold: 6"),
            other("hold: 5", "hold: 5, request: 1"),
            other("hold: 5", "hold: 5, minimum: 1"),
            other("hold: 5", "hold: 5, output_min: 2"),
            other("refuse", "dearest"),
            other("m: ", "n: "),
            other("m: ", "\"m*\": "),
            other("input: 2", "input: 3"),
            other("input: 2", "input: 2, cached: 1"),
            other("input: 2", "input: 2, cache_written: 1"),
            other("output: 8", "output: 9"),
            other("output: 8", "output: 8, reasoning: 1"),
            other("output: 8", "output: 8, image: 1"),
            other("context: 100", "context: 101"),
            other("output_max: 50", "output_max: 51, output_usual: 50"),
            other("output_max: 50", "output_max: 50, output_usual: 49"),
            other("output_max: 50", "output_max: 50, image_tokens: 0"),
            other("output_max: 50", "output_max: 50, tools_tokens: 0"),
            other("output_max: 50", "output_max: 50, unseen: true"),
        ]);
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn what_is_held_has_a_least_only_where_less_is_of_use() {
        let cost = Cost::Tokens(list(&PLAIN.replace("hold: 5", "hold: 5, output_min: 10")));
        let shape = |size, clamp, output_max| {
            let (choices, images, makes, tools, open) = (1, 0, 0, false, false);
            let (model, input_max) = ("m".into(), 20);
            let shape =
                TokenShape { input_max, output_max, model, choices, images, makes, tools, open, size, clamp };
            let ToHold { hold, least } = cost.size(&NeedShape::Tokens(shape)).unwrap();
            (hold.get(), least.map(Amount::get))
        };
        assert_eq!(shape(Size::Most, false, None), (40 + 400, None));
        assert_eq!(shape(Size::Most, true, None), (40 + 400, Some(40 + 80)));
        assert_eq!(shape(Size::Most, true, Some(5)), (40 + 40, Some(40 + 40)));
        // An estimate that is less than what is of use is its own least.
        let usual = Cost::Tokens(list(&PLAIN.replace("context: 100", "context: 100, output_usual: 1")));
        let clamped = TokenShape {
            input_max: 20,
            output_max: None,
            model: "m".into(),
            choices: 1,
            images: 0,
            makes: 0,
            tools: false,
            open: false,
            size: Size::Estimate,
            clamp: true,
        };
        let size = usual.size(&NeedShape::Tokens(clamped.clone())).unwrap();
        assert_eq!((size.hold.get(), size.least.map(Amount::get)), (10 + 8, Some(10 + 8)));
        // What costs nothing is held for: only what is held can be charged.
        let m = "{input: 0, output: 0, context: 1, output_max: 1}";
        let free = list(&format!(
            "hold: 1, unknown_model: refuse, models: {{m: {m}, n: {}}}",
            m.replace("input: 0", "input: 1")
        ));
        let size = Cost::Tokens(free).size(&NeedShape::Tokens(clamped)).unwrap();
        assert_eq!(size, ToHold { hold: Amount::ONE, least: Some(Amount::ONE) });
        assert_eq!(cost.size(&NeedShape::Fixed), Ok(cost.unsaid()));
    }
}
