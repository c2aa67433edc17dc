//! What a request is charged when it is over: by what its answer said it used, else by what was delivered, and never by nothing.
//!
//! A function of what is known; who pays, and from what, is billing's affair.

use crate::config::{Metering, MissingUsage};
use crate::worker::Pass;
use contract::v1::{Basis, Outcome, PriceList, Size, TokenShape, Tokens};
use meter::{Counts, Format, Written};
use units::Amount;

/// Bytes of text that make a token where nobody counted them: English has about four to one.
const BYTES_PER_TOKEN: u64 = 4;

/// What an answer said, and what was seen of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// What it stated.
    pub(super) counts: Option<Counts>,
    /// True if it said itself that this is all.
    pub(super) complete: bool,
    /// True if it left out what it should have stated: what is missing has to be counted.
    pub(super) partial: bool,
    /// The model that answered.
    pub(super) model: Option<String>,
    /// What was delivered; `None` if that could not be read.
    pub(super) written: Option<(Format, Written)>,
    /// True if a usage was there and made no sense.
    pub(super) odd: bool,
    /// True if it said itself that it failed.
    pub(super) failed: bool,
}

impl Heard {
    /// True if it said that it failed, and nothing of it was of any use.
    pub(super) fn delivered_nothing(&self) -> bool {
        let silent = self.written.is_some_and(|(_, written)| written.events == 0 && written.bytes == 0);
        self.failed && silent && self.counts.is_none_or(|counts| counts.output == 0 && counts.images == 0)
    }
}

/// What is charged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bill {
    /// Of the hold.
    pub(super) charged: Amount,
    /// Beyond it, where it was an estimate.
    pub(super) beyond: Amount,
    /// What was used, as far as that is known.
    pub(super) tokens: Option<Tokens>,
    /// How it is known.
    pub(super) basis: Option<Basis>,
    /// What is to be counted: it cost more than was held for the most that it could cost.
    pub(super) fault: Option<&'static str>,
}

/// What a request costs of which something was delivered.
pub(super) fn bill(
    pass: &Pass,
    metering: &Metering,
    shape: Option<&TokenShape>,
    heard: &Heard,
    outcome: Outcome,
) -> Bill {
    let Some(list) = pass.decided.as_ref().and_then(|decided| decided.list()) else {
        // A fixed price, or none yet: what was used is evidence, and billing prices it where it was let through unpaid.
        let (basis, tokens) = match pass.decided {
            Some(_) => (None, heard.counts.map(|counts| tokens(heard, shape, counts))),
            None => used(None, metering, shape, heard, outcome),
        };
        return Bill { charged: pass.held.saturating_sub(pass.paid), tokens, basis, ..Bill::default() };
    };
    let (basis, tokens) = used(Some(list), metering, shape, heard, outcome);
    let asked = shape.map_or("", |shape| shape.model.as_str());
    let cost = tokens.as_ref().map_or(pass.held, |tokens| list.cost(asked, tokens));
    let estimated = shape.filter(|shape| shape.size == Size::Estimate);
    let most = estimated.and_then(|shape| list.most(shape).ok()).unwrap_or(pass.held).max(pass.held);
    // What was charged for it before counts: the same request is one charge, of whichever attempt cost most.
    let due = cost.min(most).saturating_sub(pass.paid);
    let charged = due.min(pass.held);
    let beyond = due.saturating_sub(charged);
    let fault = (cost > most).then_some("used_beyond_hold");
    Bill { charged, beyond, tokens, basis, fault }
}

/// What was used, and how that is known. No tokens where the whole hold is charged.
fn used(
    list: Option<&PriceList>,
    metering: &Metering,
    shape: Option<&TokenShape>,
    heard: &Heard,
    outcome: Outcome,
) -> (Option<Basis>, Option<Tokens>) {
    let ended = outcome == Outcome::Charged;
    if let Some(counts) = heard.counts
        && !heard.partial
        && (heard.complete || ended)
    {
        return (Some(Basis::Stated), Some(tokens(heard, shape, counts)));
    }
    let stated = heard.counts.unwrap_or_default();
    let probable = match (list, shape) {
        (Some(list), Some(shape)) => Some(list.probable_input(shape)),
        (None, Some(shape)) => Some(shape.input_max.div_ceil(BYTES_PER_TOKEN)),
        (_, None) => None,
    };
    // What it stated of its input is all of it; of its output, what there was so far. Where nobody knows what came in, and
    // where tokens are spent on what is not sent, nothing can be counted.
    let input = Some(stated.input).filter(|input| *input > 0).or(probable);
    let asked = shape.map_or("", |shape| shape.model.as_str());
    let Some(input) = input.filter(|_| !list.is_some_and(|list| list.is_unseen(asked))) else {
        return (Some(Basis::Hold), None);
    };
    let readable = heard.written.filter(|(format, written)| {
        // A document that ended and says nothing was none; an unfinished one of which nothing could be read may have had anything.
        let silent = written.events == 0 && written.bytes == 0;
        // Nor do images have text: what they are is stated, or not known.
        let unread = shape.is_some_and(|shape| shape.makes > 0) && (heard.odd || heard.counts.is_none());
        !(unread || silent && (*format == Format::Events || !heard.complete))
    });
    match (metering.missing, readable) {
        (MissingUsage::Counted, Some((_, written))) => {
            let counted = written.events.max(written.bytes.div_ceil(BYTES_PER_TOKEN));
            let output = stated.output.max(counted);
            let basis = if heard.counts.is_some() { Basis::AtLeast } else { Basis::Counted };
            (Some(basis), Some(tokens(heard, shape, Counts { input, output, ..stated })))
        }
        (MissingUsage::Input, _) => {
            (Some(Basis::Input), Some(tokens(heard, shape, Counts { input, ..stated })))
        }
        (MissingUsage::Hold, _) | (MissingUsage::Counted, None) => (Some(Basis::Hold), None),
    }
}

fn tokens(heard: &Heard, shape: Option<&TokenShape>, counts: Counts) -> Tokens {
    let asked = shape.map_or("", |shape| shape.model.as_str());
    let Counts { input, cached, cache_written, output, reasoning, images } = counts;
    let model = heard.model.clone().unwrap_or_else(|| asked.to_owned());
    Tokens { model, input, cached, output, cache_written, reasoning, images }
}

#[cfg(test)]
#[path = "bill_tests.rs"]
pub(super) mod tests;
