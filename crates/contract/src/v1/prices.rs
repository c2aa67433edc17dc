//! What an endpoint costs whose price depends on what is used, and the arithmetic that gateway and server share.
//!
//! Prices are micro-credits per million tokens, so a cost is a sum of products divided by a million: it is summed whole, in
//! 128 bits, and rounded up once. What is beyond an amount is [`Amount::MAX`], which nobody can pay, and never nothing.

use super::{Size, TokenShape, Tokens};
use serde::{Deserialize, Serialize};
use units::Amount;

/// Prices are per so many tokens.
const PER: u128 = 1_000_000;
/// Bytes of text that are one token, where tokens can only be guessed: English text has about four.
const BYTES_PER_TOKEN: u64 = 4;

/// The prices of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceList {
    /// Changes whenever a price does.
    pub version: u64,
    /// Each request costs so much, beside what it uses.
    pub request: Amount,
    /// A request that is charged costs so much at least.
    pub minimum: Amount,
    /// What is held for a request of which nobody knows how much it can use.
    pub hold: Amount,
    /// A limit of fewer output tokens than this is of no use: the request is refused instead of being clamped to it.
    pub output_min: u64,
    /// What becomes of a model that is not in the list.
    pub unknown: UnknownModel,
    /// By model.
    pub models: Vec<ModelPrice>,
}

/// What becomes of a request for a model that is not in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownModel {
    /// It is refused. An answer of such a model costs what the model asked for does.
    Refuse,
    /// It costs the most that anything in the list costs.
    Dearest,
}

/// The prices of one model, or of several whose names begin alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelPrice {
    /// The model, or how its name begins; empty for all others.
    pub name: String,
    /// How names are compared.
    pub matching: Matching,
    /// Micro-credits per million input tokens.
    pub input: Amount,
    /// The same, of those that the provider had in its cache.
    pub cached: Amount,
    /// The same, of those that were written into that cache.
    pub cache_written: Amount,
    /// The same, of output tokens.
    pub output: Amount,
    /// The same, of those output tokens that were spent on reasoning.
    pub reasoning: Amount,
    /// Micro-credits per image that is made.
    pub image: Amount,
    /// The most input tokens that the model reads.
    pub context: u64,
    /// The limit of output tokens that a request gets which states none.
    pub output_max: u64,
    /// Output tokens that an answer usually has, for estimates.
    pub output_usual: u64,
    /// The most input tokens that an image counts for; absent if nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tokens: Option<u64>,
    /// Input tokens that the provider adds to a request which gives tools.
    pub tools_tokens: u64,
    /// True if the model spends output tokens on what it does not send: whoever leaves before it says how many pays the hold.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub unseen: bool,
}

/// How the name of a model is compared with one in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// It is the same.
    Exact,
    /// It begins so; the longest beginning counts.
    Prefix,
    /// Whatever it is.
    Any,
}

/// Why nothing can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldError {
    /// The model is not in the list, and is to be refused then.
    ModelUnknown,
}

impl PriceList {
    /// The prices of a model: those of its name, else of the longest beginning of it, else of all others.
    #[must_use]
    pub fn find(&self, model: &str) -> Option<&ModelPrice> {
        let exact = |price: &&ModelPrice| price.matching == Matching::Exact && price.name == model;
        let begins = |price: &&ModelPrice| {
            price.matching == Matching::Prefix && model.starts_with(price.name.as_str())
        };
        self.models
            .iter()
            .find(exact)
            .or_else(|| self.models.iter().filter(begins).max_by_key(|price| price.name.len()))
            .or_else(|| self.models.iter().find(|price| price.matching == Matching::Any))
    }

    /// The prices by which a request for this model is held.
    ///
    /// # Errors
    /// [`HoldError::ModelUnknown`].
    fn asked(&self, model: &str) -> Result<ModelPrice, HoldError> {
        match (self.find(model), self.unknown) {
            (Some(price), _) => Ok(price.clone()),
            (None, UnknownModel::Dearest) => self.dearest().ok_or(HoldError::ModelUnknown),
            (None, UnknownModel::Refuse) => Err(HoldError::ModelUnknown),
        }
    }

    /// The prices of the model that answered. One whose name goes on after the name that was asked for (`gpt-5-mini-2026-01-01`)
    /// is the one that was asked for, unless the list knows it better.
    fn answered(&self, asked: &str, model: &str) -> Option<&ModelPrice> {
        let found = self.find(model);
        let better = |price: &&ModelPrice| price.matching != Matching::Any && price.name.len() > asked.len();
        if !asked.is_empty() && model.starts_with(asked) && found.filter(better).is_none() {
            return self.find(asked).or(found);
        }
        found
    }

    /// The most of everything in the list.
    fn dearest(&self) -> Option<ModelPrice> {
        let mut models = self.models.iter();
        let first = models.next()?.clone();
        Some(models.fold(first, |most, price| ModelPrice {
            name: String::new(),
            matching: Matching::Any,
            input: most.input.max(price.input),
            cached: most.cached.max(price.cached),
            cache_written: most.cache_written.max(price.cache_written),
            output: most.output.max(price.output),
            reasoning: most.reasoning.max(price.reasoning),
            image: most.image.max(price.image),
            context: most.context.max(price.context),
            output_max: most.output_max.max(price.output_max),
            output_usual: most.output_usual.max(price.output_usual),
            // Where one of them does not say, nobody knows.
            image_tokens: most.image_tokens.zip(price.image_tokens).map(|(a, b)| a.max(b)),
            tools_tokens: most.tools_tokens.max(price.tools_tokens),
            unseen: most.unseen || price.unseen,
        }))
    }

    /// What is held for a request of this shape.
    ///
    /// # Errors
    /// [`HoldError`].
    pub fn hold(&self, shape: &TokenShape) -> Result<Amount, HoldError> {
        let price = self.asked(&shape.model)?;
        let output = match shape.size {
            Size::Most => price.limit(shape),
            Size::Estimate => price.limit(shape).min(price.output_usual),
        };
        Ok(self.at_least_one(self.needed(&price, shape, output)))
    }

    /// The most that a request of this shape can cost, whatever is held for it.
    ///
    /// # Errors
    /// [`HoldError`].
    pub fn most(&self, shape: &TokenShape) -> Result<Amount, HoldError> {
        self.hold(&TokenShape { size: Size::Most, ..shape.clone() })
    }

    /// The least hold with which a request of this shape is of any use, if its limit may be lowered.
    ///
    /// # Errors
    /// [`HoldError`].
    pub fn least(&self, shape: &TokenShape) -> Result<Amount, HoldError> {
        let price = self.asked(&shape.model)?;
        let output = price.limit(shape).min(self.output_min);
        Ok(self.at_least_one(self.needed(&price, shape, output)))
    }

    /// The most output tokens for each answer that a hold pays for, up to the limit that the request has or gets.
    ///
    /// # Errors
    /// [`HoldError`].
    pub fn output_for(&self, shape: &TokenShape, hold: Amount) -> Result<u64, HoldError> {
        let price = self.asked(&shape.model)?;
        let limit = price.limit(shape);
        let each = price.dearest_output().saturating_mul(u128::from(shape.choices.max(1)));
        let rest = scaled(hold).saturating_sub(self.needed(&price, shape, 0));
        let paid = rest.checked_div(each).unwrap_or(u128::MAX);
        Ok(limit.min(u64::try_from(paid).unwrap_or(u64::MAX)))
    }

    /// The limit of output tokens that a request for this model gets which states none.
    #[must_use]
    pub fn output_max(&self, model: &str) -> Option<u64> {
        self.asked(model).ok().map(|price| price.output_max)
    }

    /// True if a model spends output tokens on what it does not send.
    #[must_use]
    pub fn is_unseen(&self, model: &str) -> bool {
        self.asked(model).is_ok_and(|price| price.unseen)
    }

    /// How many input tokens a request of this shape probably has, where its answer does not say.
    #[must_use]
    pub fn probable_input(&self, shape: &TokenShape) -> u64 {
        let shape = TokenShape { size: Size::Estimate, ..shape.clone() };
        self.asked(&shape.model).map_or(shape.input_max, |price| price.input_tokens(&shape))
    }

    /// What tokens cost that were used by a request for the model `asked`: by the prices of the model that answered.
    /// [`Amount::MAX`] if none is known.
    #[must_use]
    pub fn cost(&self, asked: &str, tokens: &Tokens) -> Amount {
        let answered = self.answered(asked, &tokens.model).cloned().or_else(|| match self.unknown {
            UnknownModel::Refuse => self.find(asked).cloned(),
            UnknownModel::Dearest => self.dearest(),
        });
        let Some(price) = answered else { return Amount::MAX };
        let cached = tokens.cached.min(tokens.input);
        let written = tokens.cache_written.min(tokens.input.saturating_sub(cached));
        let plain = tokens.input.saturating_sub(cached).saturating_sub(written);
        let reasoning = tokens.reasoning.min(tokens.output);
        let spoken = tokens.output.saturating_sub(reasoning);
        let used = [
            (plain, price.input),
            (cached, price.cached),
            (written, price.cache_written),
            (spoken, price.output),
            (reasoning, price.reasoning),
        ];
        let sum = used.into_iter().fold(scaled(self.request), |sum, (count, price)| {
            sum.saturating_add(u128::from(count).saturating_mul(micro(price)))
        });
        let images = u128::from(tokens.images).saturating_mul(scaled(price.image));
        self.amount(sum.saturating_add(images))
    }

    /// A hold is never of nothing, which would be no hold.
    fn at_least_one(&self, scaled: u128) -> Amount {
        self.amount(scaled).max(Amount::ONE)
    }

    /// Rounded up, once.
    fn amount(&self, scaled: u128) -> Amount {
        let micro = i64::try_from(scaled.div_ceil(PER)).ok().and_then(|micro| Amount::new(micro).ok());
        micro.unwrap_or(Amount::MAX).max(self.minimum)
    }

    /// What a shape needs with so many output tokens for each answer, times [`PER`].
    fn needed(&self, price: &ModelPrice, shape: &TokenShape, output: u64) -> u128 {
        let input = u128::from(price.input_tokens(shape)).saturating_mul(price.dearest_input());
        let answers = u128::from(shape.choices.max(1)).saturating_mul(u128::from(output));
        let images = u128::from(shape.makes).saturating_mul(scaled(price.image));
        scaled(self.request)
            .saturating_add(input)
            .saturating_add(answers.saturating_mul(price.dearest_output()))
            .saturating_add(images)
    }
}

impl ModelPrice {
    /// The limit of output tokens that the request has, or gets.
    fn limit(&self, shape: &TokenShape) -> u64 {
        shape.output_max.unwrap_or(self.output_max)
    }

    /// How many input tokens are held for.
    fn input_tokens(&self, shape: &TokenShape) -> u64 {
        let image = match (shape.size, self.image_tokens) {
            (_, Some(each)) => each,
            // Nobody says how large one is: as large as can be.
            (_, None) if shape.images > 0 => return self.context,
            (_, None) => 0,
        };
        if shape.open {
            return self.context;
        }
        let text = match shape.size {
            // A token is a byte at least.
            Size::Most => shape.input_max,
            Size::Estimate => shape.input_max.div_ceil(BYTES_PER_TOKEN),
        };
        let tools = if shape.tools { self.tools_tokens } else { 0 };
        let images = shape.images.saturating_mul(image);
        text.saturating_add(images).saturating_add(tools).min(self.context)
    }

    fn dearest_input(&self) -> u128 {
        micro(self.input.max(self.cached).max(self.cache_written))
    }

    fn dearest_output(&self) -> u128 {
        micro(self.output.max(self.reasoning))
    }
}

/// An amount is never negative.
fn micro(amount: Amount) -> u128 {
    u128::from(amount.get().unsigned_abs())
}

fn scaled(amount: Amount) -> u128 {
    micro(amount).saturating_mul(PER)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    fn amount(micro: i64) -> Amount {
        Amount::new(micro).unwrap()
    }

    fn price(name: &str, matching: Matching, input: i64, output: i64) -> ModelPrice {
        ModelPrice {
            name: name.into(),
            matching,
            input: amount(input),
            cached: amount(input / 10),
            cache_written: amount(input + input / 4),
            output: amount(output),
            reasoning: amount(output),
            image: amount(40_000),
            context: 10_000,
            output_max: 1_000,
            output_usual: 100,
            image_tokens: Some(800),
            tools_tokens: 300,
            unseen: false,
        }
    }

    fn list() -> PriceList {
        PriceList {
            version: 1,
            request: amount(5),
            minimum: amount(0),
            hold: amount(1_000_000),
            output_min: 16,
            unknown: UnknownModel::Refuse,
            models: vec![
                price("gpt", Matching::Prefix, 1_000_000, 4_000_000),
                price("gpt-5", Matching::Prefix, 2_000_000, 8_000_000),
                price("gpt-5-mini", Matching::Exact, 500_000, 2_000_000),
            ],
        }
    }

    fn shape(model: &str, input_max: u64, output_max: Option<u64>) -> TokenShape {
        let (choices, images, makes, tools, open) = (1, 0, 0, false, false);
        let (size, clamp, model) = (Size::Most, true, model.into());
        TokenShape { input_max, output_max, model, choices, images, makes, tools, open, size, clamp }
    }

    fn tokens(model: &str, input: u64, output: u64) -> Tokens {
        let (cached, cache_written, reasoning, images) = (0, 0, 0, 0);
        Tokens { model: model.into(), input, cached, output, cache_written, reasoning, images }
    }

    #[test]
    fn a_model_is_found_by_its_name_then_by_the_longest_beginning() {
        let list = list();
        let found = |model: &str| list.find(model).map(|price| price.name.as_str());
        assert_eq!(found("gpt-5-mini"), Some("gpt-5-mini"));
        assert_eq!(found("gpt-5-mini-2026"), Some("gpt-5"));
        assert_eq!(found("gpt-4o"), Some("gpt"));
        assert_eq!(found("claude"), None);
        let mut all = list.clone();
        all.models.push(price("", Matching::Any, 1, 1));
        assert_eq!(all.find("claude").map(|price| price.matching), Some(Matching::Any));
    }

    #[test]
    fn a_cost_is_summed_whole_and_rounded_up_once() {
        let mut list = list();
        list.request = Amount::ZERO;
        // A quarter, a fortieth and half of a micro-credit.
        list.models = vec![ModelPrice {
            input: amount(250_000),
            cached: amount(25_000),
            output: amount(500_000),
            ..price("m", Matching::Exact, 0, 0)
        }];
        let used = |input, cached, output| Tokens { cached, ..tokens("m", input, output) };
        assert_eq!(list.cost("m", &used(1, 0, 0)), amount(1));
        assert_eq!(list.cost("m", &used(2, 1, 1)), amount(1), "0.775 is one, and not three times one");
        assert_eq!(list.cost("m", &used(3, 0, 1)), amount(2), "1.25");
        assert_eq!(list.cost("m", &used(0, 0, 0)), Amount::ZERO);
        list.minimum = amount(7);
        assert_eq!(list.cost("m", &used(0, 0, 0)), amount(7));
    }

    #[test]
    fn each_kind_of_token_has_its_price_and_the_model_that_answered_says_which() {
        let list = list();
        let used = Tokens {
            cached: 40,
            cache_written: 20,
            reasoning: 5,
            images: 2,
            ..tokens("gpt-5-mini", 100, 10)
        };
        let expected =
            (40 * 500_000 + 40 * 50_000 + 20 * 625_000 + 10 * 2_000_000) / 1_000_000 + 2 * 40_000 + 5;
        assert_eq!(list.cost("gpt-4", &used), amount(expected + 1), "54.5, rounded up");
        // What is more than the whole of it is the whole of it.
        let odd = Tokens { cached: 500, cache_written: 500, reasoning: 99, ..tokens("gpt-5-mini", 100, 10) };
        assert_eq!(list.cost("gpt-4", &odd), amount(5 + 5 + 20));
    }

    #[test]
    fn a_dated_name_is_the_model_that_was_asked_for() {
        let mut list = list();
        let dated = tokens("gpt-5-mini-2026-01-01", 1_000_000, 0);
        assert_eq!(list.cost("gpt-5-mini", &dated), amount(500_005), "and not what begins with gpt-5");
        assert_eq!(list.cost("gpt-5", &dated), amount(2_000_005), "nobody asked for the small one");
        list.models.push(price("gpt-5-mini-2026", Matching::Prefix, 700_000, 0));
        assert_eq!(list.cost("gpt-5-mini", &dated), amount(700_005), "the list knows it better");
    }

    #[test]
    fn a_model_that_is_in_no_list_is_refused_or_costs_the_most_and_is_never_free() {
        let mut list = list();
        assert_eq!(list.hold(&shape("claude", 1, Some(1))), Err(HoldError::ModelUnknown));
        let answered = tokens("claude", 1_000_000, 0);
        assert_eq!(list.cost("gpt-5-mini", &answered), amount(500_005), "that of the model asked for");
        assert_eq!(list.cost("nothing", &answered), Amount::MAX);
        list.unknown = UnknownModel::Dearest;
        assert_eq!(list.cost("gpt-5-mini", &answered), amount(2_000_005));
        assert_eq!(list.hold(&shape("claude", 100, Some(10))), Ok(amount(250 + 80 + 5)));
        list.models.clear();
        assert_eq!(list.hold(&shape("claude", 1, Some(1))), Err(HoldError::ModelUnknown));
    }

    #[test]
    fn a_hold_covers_whatever_such_a_request_can_cost() {
        let list = list();
        let mut asked = shape("gpt-5-mini", 900, None);
        assert_eq!(list.hold(&asked), Ok(amount(900 * 625 / 1000 + 2_000 + 5 + 1)), "562.5 and 2,000 and 5");
        asked.choices = 3;
        (asked.images, asked.tools) = (2, true);
        let input = 900 + 2 * 800 + 300;
        let expected = (input * 625 + 3 * 1_000 * 2_000_i64).div_euclid(1000) + 5;
        assert_eq!(list.hold(&asked), Ok(amount(expected)));
        asked.open = true;
        assert_eq!(list.hold(&asked), Ok(amount(6_250 + 6_000 + 5)), "all that the model reads");
        let endless = shape("gpt-5-mini", 20_000, Some(0));
        assert_eq!(list.hold(&endless), Ok(amount(6_250 + 5)), "it reads no more");
        let absurd = TokenShape { choices: u64::MAX, ..shape("gpt-5-mini", 1, Some(u64::MAX)) };
        assert_eq!(list.hold(&absurd), Ok(Amount::MAX));
    }

    #[test]
    fn a_limit_is_lowered_to_exactly_what_a_hold_pays_for() {
        let list = list();
        let asked = TokenShape { choices: 2, ..shape("gpt-5-mini", 800, Some(5_000)) };
        let (least, most) = (list.least(&asked).unwrap(), list.hold(&asked).unwrap());
        assert_eq!((least, most), (amount(500 + 64 + 5), amount(500 + 20_000 + 5)));
        for micro in least.get()..=least.get() + 40 {
            let limit = list.output_for(&asked, amount(micro)).unwrap();
            let at = |output_max| list.hold(&TokenShape { output_max: Some(output_max), ..asked.clone() });
            assert!(limit >= 16 && at(limit).unwrap() <= amount(micro), "{micro}: {limit}");
            assert!(at(limit + 1).unwrap() > amount(micro), "{micro}: one more fits too");
        }
        assert_eq!(list.output_for(&asked, most), Ok(5_000));
        assert_eq!(list.output_for(&asked, Amount::MAX), Ok(5_000), "and never above what was asked for");
        assert_eq!(list.output_for(&asked, Amount::ZERO), Ok(0));
        let short = shape("gpt-5-mini", 800, Some(3));
        assert_eq!(list.least(&short), list.hold(&short), "it asked for no more");
    }

    #[test]
    fn an_estimate_is_what_is_usual_and_never_above_the_most() {
        let list = list();
        let asked = TokenShape { size: Size::Estimate, ..shape("gpt-5-mini", 800, None) };
        assert_eq!(list.hold(&asked), Ok(amount(125 + 200 + 5)));
        assert_eq!(list.most(&asked), Ok(amount(500 + 2_000 + 5)));
        let short = TokenShape { output_max: Some(7), ..asked };
        assert_eq!(list.hold(&short), Ok(amount(125 + 14 + 5)));
    }
}
