//! What a worker's machine may answer: leave of every kind, with and without a price list.

use crate::dice::Dice;
use contract::v1::{
    Matching, ModelPrice, NeedMode, NeedShape, Price, PriceList, Reason, Refusal, Standing,
    SubscriptionState, TokenShape, UnknownModel, Window,
};
use gate::worker::{Answer, Decided, Fault, Pass};
use std::collections::BTreeMap;
use std::rc::Rc;
use units::{AccountId, Amount, Instant, TierId, Unit};

pub(super) fn amount(micro: usize) -> Amount {
    Amount::new(i64::try_from(micro).unwrap()).unwrap()
}

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) mode: NeedMode,
    pub(super) shape: NeedShape,
    /// True if it may repeat an earlier request.
    pub(super) repeats: bool,
}

/// The answer to a question of this kind.
pub(super) fn answer(dice: &mut Dice<'_>, number: u64, asked: &Asked) -> Answer {
    match dice.below(8) {
        0..=4 => Answer::Ok(Box::new(if dice.rarely(8) {
            Pass::unpaid(number)
        } else {
            pass(dice, number, asked)
        })),
        5 | 6 => {
            let reason = dice.pick(&Reason::ALL);
            let detail = dice.text(20);
            let url = dice.flag().then(|| dice.text(20));
            let refusal = Refusal { detail, upgrade_url: url, ..Refusal::plain(reason) };
            Answer::Refused(Box::new(refusal))
        }
        _ => Answer::Unavailable(dice.pick(&[Fault::Late, Fault::Backlog, Fault::Garbage])),
    }
}

fn pass(dice: &mut Dice<'_>, number: u64, asked: &Asked) -> Pass {
    let Asked { mode, shape, repeats } = asked;
    let name = if dice.rarely(6) { dice.text(10) } else { "plan".to_owned() };
    let value = if dice.rarely(6) { dice.text(10) } else { "pro".to_owned() };
    let window = Window {
        name: dice.text(8),
        limit: dice.number(),
        remaining: dice.number(),
        resets_at: Instant::from_secs(1_795_200_000),
    };
    let standing = Standing {
        account: AccountId::new("alice").unwrap(),
        payer: AccountId::new("team").unwrap(),
        tier: TierId::new("pro").unwrap(),
        state: SubscriptionState::Active,
        balance_micro: dice.number().cast_signed(),
        attributes: BTreeMap::from([(name, value)]),
        window: dice.flag().then_some(window),
        epoch: 1,
        valid_ms: 1,
        counted: dice.flag(),
    };
    let unit = dice.pick(&[Unit::Credits, Unit::Credits, Unit::Credits, Unit::Requests]);
    let list = (unit == Unit::Credits && !dice.rarely(4)).then(|| list(dice));
    let anything = amount(1 + dice.below(3_000));
    let hold = match (&list, shape) {
        (Some(list), NeedShape::Tokens(shape)) => sized(dice, list, shape).unwrap_or(anything),
        (Some(list), NeedShape::Fixed) => list.hold,
        (None, _) => anything,
    };
    let price = Price { unit, hold, scope: String::new(), version: 1 };
    let decided = Rc::new(Decided::new(standing, price, list.map(Rc::new)));
    let paid = if *repeats && dice.flag() { amount(1 + dice.below(600)) } else { Amount::ZERO };
    Pass { paid, ..Pass::new((*mode == NeedMode::Hold).then_some(number), decided) }
}

/// What billing holds for it: all of it, less if it is to be bounded, and rarely anything.
fn sized(dice: &mut Dice<'_>, list: &PriceList, shape: &TokenShape) -> Option<Amount> {
    let (least, all) = (list.least(shape).ok()?, list.hold(shape).ok()?);
    let more = usize::try_from(all.saturating_sub(least).get().clamp(0, 5_000)).unwrap();
    match dice.below(5) {
        0 | 1 if shape.clamp => least.checked_add(amount(dice.below(more + 1))),
        2 => None,
        _ => Some(all),
    }
}

/// Prices per million tokens, with a model that costs nothing, and one that is in no list.
fn list(dice: &mut Dice<'_>) -> PriceList {
    let model = |name: &str, input: usize, output: usize| ModelPrice {
        name: name.into(),
        matching: Matching::Prefix,
        input: amount(input),
        cached: amount(input / 2),
        cache_written: amount(input),
        output: amount(output),
        reasoning: amount(output),
        image: amount(1_000),
        context: 4_000,
        output_max: 200,
        output_usual: 20,
        image_tokens: None,
        tools_tokens: 10,
        unseen: false,
    };
    let any = |dice: &mut Dice<'_>| dice.pick(&[0, 1, 250_000, 1_000_000, 7_500_001]);
    let (input, output) = (any(dice), any(dice));
    PriceList {
        version: 1,
        request: amount(dice.pick(&[0, 0, 3])),
        minimum: amount(dice.pick(&[0, 0, 9])),
        hold: amount(1 + dice.below(1_000)),
        output_min: dice.pick(&[0, 1, 16]),
        unknown: dice.pick(&[UnknownModel::Refuse, UnknownModel::Dearest]),
        models: vec![model("m", input, output), model("dear", 9_000_000, 90_000_000), model("free", 0, 0)],
    }
}
