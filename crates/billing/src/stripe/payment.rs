//! What was told of one payment or invoice, folded, and what that leaves of the credits it bought. Pure.
//!
//! Every part is folded so that order and repetition do not matter: totals by maximum, refunds and disputes by id and
//! by how far they are. What is taken back is computed anew from all of it after each event, never added up.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use units::{AccountId, Amount};

/// Everything known of one payment (by its intent, else its charge or session), or of one invoice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PaymentFact {
    /// What it bought, once that was credited.
    pub bought: Option<Bought>,
    /// The invoice that it paid.
    pub invoice: Option<String>,
    /// Of an invoice: the payments that paid it.
    pub paid_by: BTreeSet<String>,
    /// The most that Stripe ever said was refunded in all (`charge.amount_refunded` is cumulative).
    pub refunded: u64,
    /// By id.
    pub refunds: BTreeMap<String, Refund>,
    /// By id.
    pub disputes: BTreeMap<String, Dispute>,
    /// Of an invoice: by id.
    pub credit_notes: BTreeMap<String, CreditNote>,
    /// The checkout expired, or its payment failed.
    pub failed: bool,
    /// Events that took no effect yet, since it is not known what was bought.
    pub waiting: BTreeSet<Waiting>,
}

/// Names an event: livemode, account, id.
pub(super) type Waiting = (bool, String, String);

/// What was bought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bought {
    /// By whom.
    pub account: AccountId,
    /// For how much, in the currency's smallest unit.
    pub paid: u64,
    /// Stripe's code of the currency; `None` for an invoice, whose payments are in its own.
    pub currency: Option<String>,
    /// The package and its credits; `None` for an invoice, whose grants name it.
    pub package: Option<(String, Amount)>,
}

/// One refund. Its amount never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refund {
    pub amount: u64,
    pub state: RefundState,
}

/// How far a refund is; later states win (Stripe, API: `refund.status`; a succeeded one may still fail).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RefundState {
    Pending,
    Succeeded,
    /// Or canceled: no money went back.
    Failed,
}

/// One dispute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dispute {
    pub amount: u64,
    pub currency: String,
    /// How far it is, and when that was told, in Unix seconds.
    pub state: (DisputeStage, i64, DisputeState),
}

/// An inquiry may become a dispute, and a dispute ends; there is no way back, so later stages win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DisputeStage {
    Inquiry,
    InquiryClosed,
    Open,
    Over,
}

/// What holds for the money. Where one second tells two of one stage, the later in this order counts: what is lost
/// for certain was told after it was won for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DisputeState {
    Kept,
    Disputed,
    Lost,
}

/// One credit note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CreditNote {
    /// What it gave back beyond its linked refunds, which are told by themselves.
    pub amount: u64,
    pub voided: bool,
}

/// What became of the money of a payment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    /// Back with the customer for good.
    pub back: u64,
    /// In open disputes.
    pub disputed: u64,
}

impl PaymentFact {
    /// Folds a refund in.
    pub(super) fn refund(&mut self, id: String, told: Refund) {
        let known = self.refunds.entry(id).or_insert_with(|| told.clone());
        known.amount = known.amount.max(told.amount);
        known.state = known.state.max(told.state);
    }

    /// Folds a dispute in.
    pub(super) fn dispute(&mut self, id: String, told: Dispute) {
        let known = self.disputes.entry(id).or_insert_with(|| told.clone());
        if told.state > known.state {
            *known = told;
        }
    }

    /// Folds a credit note in. Refunds are linked to it later on, never unlinked, so the smaller amount is the newer.
    pub(super) fn credit_note(&mut self, id: String, told: &CreditNote) {
        let known = self.credit_notes.entry(id).or_insert_with(|| told.clone());
        known.amount = known.amount.min(told.amount);
        known.voided |= told.voided;
    }

    /// What became of its money. A dispute in another currency than what was paid is taken for one of all of it.
    pub(super) fn gone(&self, hold_on_inquiry: bool, currency: Option<&str>) -> Gone {
        let mut gone = Gone { back: self.back(), disputed: 0 };
        for dispute in self.disputes.values() {
            let same = currency.is_none_or(|currency| currency == dispute.currency);
            let amount = if same { dispute.amount } else { u64::MAX };
            let holds = dispute.state.0 != DisputeStage::Inquiry || hold_on_inquiry;
            match dispute.state.2 {
                DisputeState::Lost => gone.back = gone.back.saturating_add(amount),
                DisputeState::Disputed if holds => gone.disputed = gone.disputed.saturating_add(amount),
                DisputeState::Disputed | DisputeState::Kept => {}
            }
        }
        gone.back = gone.back.saturating_add(self.credited());
        gone
    }

    /// What was given back by credit notes.
    pub(super) fn credited(&self) -> u64 {
        let notes = self.credit_notes.values().filter(|note| !note.voided);
        notes.fold(0, |sum, note| sum.saturating_add(note.amount))
    }

    /// What was refunded: the most that was ever told in all, less what failed since; never less than the refunds that
    /// are known to have succeeded.
    fn back(&self) -> u64 {
        let of = |state| {
            let refunds = self.refunds.values().filter(move |refund| refund.state == state);
            refunds.fold(0_u64, |sum, refund| sum.saturating_add(refund.amount))
        };
        self.refunded.saturating_sub(of(RefundState::Failed)).max(of(RefundState::Succeeded))
    }
}

impl Gone {
    /// Of several payments together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            back: self.back.saturating_add(other.back),
            disputed: self.disputed.saturating_add(other.disputed),
        }
    }

    /// What that takes of `credits` for which `paid` was paid: revoked for good, and held. Together at most all of them.
    pub(super) fn of(self, credits: Amount, paid: u64) -> (Amount, Amount) {
        let revoked = share(credits, self.back, paid);
        let both = share(credits, self.back.saturating_add(self.disputed), paid);
        (revoked, both.saturating_sub(revoked))
    }
}

/// The share of the credits that `money` is of `paid`, rounded up to a micro-credit: never less is taken back than
/// went back. All of them for all of the money, or for more.
fn share(credits: Amount, money: u64, paid: u64) -> Amount {
    if money == 0 {
        return Amount::ZERO;
    }
    let (all, paid) = (u128::from(credits.get().unsigned_abs()), u128::from(paid));
    let part = all.checked_mul(u128::from(money)).and_then(|product| {
        let up = product.checked_add(paid.saturating_sub(1))?;
        i64::try_from(up.checked_div(paid)?).ok()
    });
    part.and_then(|part| Amount::new(part).ok()).map_or(credits, |part| part.min(credits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micro(n: i64) -> Amount {
        Amount::new(n).unwrap()
    }

    #[test]
    fn a_share_is_rounded_up_and_never_more_than_all() {
        for (credits, money, paid, expected) in [
            (100_000_000, 250, 500, 50_000_000),
            (100, 1, 3, 34),
            (100, 0, 3, 0),
            (100, 0, 0, 0),
            (100, 1, 0, 100),
            (100, 4, 3, 100),
            (Amount::MAX.get(), u64::MAX, u64::MAX, Amount::MAX.get()),
            (Amount::MAX.get(), 1, u64::MAX, 1),
        ] {
            assert_eq!(share(micro(credits), money, paid), micro(expected), "{credits} {money}/{paid}");
        }
        let gone = Gone { back: 1, disputed: 1 };
        assert_eq!(gone.of(micro(100), 3), (micro(34), micro(33)));
        assert_eq!(Gone { back: 2, disputed: 9 }.of(micro(100), 3), (micro(67), micro(33)));
    }

    #[test]
    fn only_a_refund_that_failed_lowers_what_was_refunded() {
        let refund = |amount, state| Refund { amount, state };
        let mut fact = PaymentFact { refunded: 250, ..PaymentFact::default() };
        assert_eq!(fact.gone(false, None).back, 250);
        fact.refund("re_1".into(), refund(250, RefundState::Failed));
        fact.refund("re_1".into(), refund(250, RefundState::Succeeded));
        assert_eq!(fact.gone(false, None).back, 0);
        // Another one succeeds; Stripe's total is the same as before.
        fact.refund("re_2".into(), refund(250, RefundState::Pending));
        assert_eq!(fact.gone(false, None).back, 0);
        fact.refund("re_2".into(), refund(250, RefundState::Succeeded));
        assert_eq!(fact.gone(false, None).back, 250);
    }

    #[test]
    fn a_dispute_ends_as_its_last_stage_says_in_whatever_order_that_is_told() {
        use DisputeStage::{Inquiry, InquiryClosed, Open, Over};
        use DisputeState::{Disputed, Kept, Lost};
        let told = [
            (Inquiry, 5, Disputed),
            (InquiryClosed, 6, Kept),
            (Open, 1, Disputed),
            (Over, 3, Kept),
            (Over, 4, Lost),
        ];
        for skip in 0..told.len() {
            let (mut there, mut back) = (PaymentFact::default(), PaymentFact::default());
            let dispute = |state| Dispute { amount: 500, currency: "usd".into(), state };
            told.iter().skip(skip).for_each(|state| there.dispute("dp_1".into(), dispute(*state)));
            told.iter().skip(skip).rev().for_each(|state| back.dispute("dp_1".into(), dispute(*state)));
            assert_eq!(there, back);
            assert_eq!(there.gone(false, Some("usd")).back, 500);
            assert_eq!(there.gone(false, Some("eur")).back, u64::MAX, "another currency: all of it");
        }
        let mut inquiry = PaymentFact::default();
        inquiry.dispute(
            "dp_1".into(),
            Dispute { amount: 500, currency: "usd".into(), state: (Inquiry, 5, Disputed) },
        );
        assert_eq!(inquiry.gone(false, None).disputed, 0);
        assert_eq!(inquiry.gone(true, None).disputed, 500);
    }
}
