//! The upstream: what each request that reached it really used, and when it was over.

use super::dice::Dice;
use contract::v1::{NeedShape, Outcome, Size, TokenShape};
use units::{AccountId, Instant, Span, Unit};

/// What a token costs in micro-credits; the catalog says the same per million.
const INPUT: i64 = 2_000;
const OUTPUT: i64 = 10_000;
/// The catalog's most and usual output tokens.
const OUTPUT_MAX: u64 = 200;

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) endpoint: &'static str,
    pub(super) shape: NeedShape,
}

impl Wish {
    /// Something of any size.
    pub(super) fn thrown(dice: &mut Dice) -> Self {
        match dice.between(0, 9) {
            0..=3 => Self { endpoint: "chat", shape: NeedShape::Fixed },
            4 | 5 => Self::plain(),
            n => {
                let size = if n == 9 { Size::Estimate } else { Size::Most };
                let output_max = dice.percent(70).then(|| dice.between(1, OUTPUT_MAX));
                let shape = TokenShape {
                    input_max: dice.between(1, 600),
                    output_max,
                    model: "scripted".into(),
                    choices: 1,
                    images: 0,
                    makes: 0,
                    tools: false,
                    open: false,
                    size,
                    clamp: size == Size::Most && dice.percent(50),
                };
                Self { endpoint: "metered", shape: NeedShape::Tokens(shape) }
            }
        }
    }

    /// One credit, whatever the day.
    pub(super) const fn plain() -> Self {
        Self { endpoint: "plain", shape: NeedShape::Fixed }
    }
}

/// A request that reached the upstream.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) at: (usize, usize),
    pub(super) life: u64,
    /// Which life of its Envoy.
    pub(super) process: u64,
    pub(super) hold: u64,
    pub(super) began: Instant,
    /// Who pays in what; `None` if nobody could say.
    pub(super) kind: Option<(AccountId, Unit)>,
    pub(super) held: i64,
    /// What it costs if it is not cut short: what was delivered, priced by the upstream's own arithmetic.
    pub(super) cost: i64,
    pub(super) outcome: Outcome,
}

impl Flight {
    /// Of what was held, what was delivered, and what beyond it.
    pub(super) fn delivered(&self) -> (i64, i64) {
        (self.cost.min(self.held), (self.cost - self.held).max(0))
    }
}

/// What a request is going to use. The upstream keeps to the limit that the gateway gave it, and to nothing else.
pub(super) fn use_up(wish: &Wish, held: i64, unit: Unit, dice: &mut Dice) -> (i64, Outcome) {
    let outcome = match dice.between(0, 9) {
        0..=6 => Outcome::Charged,
        7 => Outcome::ClientLeft,
        8 => Outcome::Failed,
        _ => Outcome::NotForwarded,
    };
    if matches!(outcome, Outcome::Failed | Outcome::NotForwarded) {
        return (0, outcome);
    }
    let NeedShape::Tokens(shape) = &wish.shape else { return (held, outcome) };
    if unit == Unit::Requests {
        return (held, outcome);
    }
    let input = if dice.percent(30) { shape.input_max } else { dice.between(1, shape.input_max) };
    let asked = shape.output_max.unwrap_or(OUTPUT_MAX);
    let limit = match shape.size {
        // Where less was held than all of it could cost, the gateway lowered the limit to what it pays for.
        Size::Most => {
            let left = held - i64::try_from(shape.input_max).unwrap() * INPUT;
            asked.min(u64::try_from((left / OUTPUT).max(0)).unwrap())
        }
        Size::Estimate => asked,
    };
    let output = if dice.percent(30) { limit } else { dice.between(0, limit) };
    let cost = i64::try_from(input).unwrap() * INPUT + i64::try_from(output).unwrap() * OUTPUT;
    (cost, outcome)
}

/// How long it takes.
pub(super) fn lasts(ttl: Span, tail: Span, dice: &mut Dice) -> Span {
    Span::from_millis(match dice.between(0, 19) {
        0..=12 => dice.between(2, 300),
        13..=17 => dice.between(300, 4_000),
        18 => dice.between(ttl.millis(), ttl.millis() + tail.millis()),
        _ => dice.between(tail.millis(), 2 * (ttl.millis() + tail.millis())),
    })
}
