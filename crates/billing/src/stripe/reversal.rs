//! Reversals applied: what was told of a payment is folded, and the grants that it bought are brought to what is left.
//!
//! What comes before the purchase waits in the folded row, and takes effect when the purchase is credited.

use super::apply::Applied;
use super::payment::{Bought, PaymentFact};
use super::read_reversal::Reversal;
use crate::error::Error;
use crate::service::Session;
use crate::store::{EventKey, EventStatus, FactRow};
use ledger::{Command, Origin, Reply, Shortfall, Source, TakeBack, TakenBack, VoidTarget};
use units::{AccountId, Amount, EventId, Unit, signed_credits};

type At<'a, 's, 'w, 'e> = &'a mut Session<'s, 'w, 'e>;

/// What is known of a payment or an invoice; nothing yet if it was never told of.
fn known(session: At<'_, '_, '_, '_>, id: &str) -> Result<PaymentFact, Error> {
    let Some(row) = session.work.store.payment_fact(id)? else { return Ok(PaymentFact::default()) };
    serde_json::from_str(&row.body).map_err(|error| Error::Bug(format!("what is known of {id}: {error}")))
}

fn keep(session: At<'_, '_, '_, '_>, id: &str, fact: &PaymentFact) -> Result<(), Error> {
    let body = serde_json::to_string(fact).map_err(|error| Error::Bug(error.to_string()))?;
    let account = fact.bought.as_ref().map(|bought| bought.account.clone());
    let package =
        fact.bought.as_ref().and_then(|bought| bought.package.as_ref()).map(|(name, _)| name.clone());
    session.work.store.put_payment_fact(id, &FactRow { account, package, body })
}

/// Applies what was told of a payment.
pub(super) fn apply(session: At<'_, '_, '_, '_>, event: &EventKey, told: Reversal) -> Result<Applied, Error> {
    let id = match &told {
        Reversal::Nothing(why) => return Ok(Applied::new(EventStatus::Ignored, *why)),
        Reversal::Link { payment } => {
            return Ok(Applied::new(EventStatus::Applied, format!("{payment} paid an invoice")));
        }
        Reversal::Failed { payment, metadata } => {
            if session.setup.catalog.package_in(metadata).is_none() {
                return Ok(Applied::new(EventStatus::Ignored, "a payment that names no package"));
            }
            payment
        }
        Reversal::Refunded { payment, .. }
        | Reversal::Refund { payment, .. }
        | Reversal::Dispute { payment, .. } => payment,
        Reversal::CreditNote { invoice, .. } => invoice,
    };
    let id = id.clone();
    let mut fact = known(session, &id)?;
    match told {
        Reversal::Refunded { total, .. } => fact.refunded = fact.refunded.max(total),
        Reversal::Refund { id, refund, .. } => fact.refund(id, refund),
        Reversal::Dispute { id, dispute, .. } => fact.dispute(id, dispute),
        Reversal::CreditNote { id, note, .. } => fact.credit_note(id, &note),
        Reversal::Failed { .. } => {
            fact.failed = true;
            keep(session, &id, &fact)?;
            let paid = fact.bought.is_some();
            let what = if paid {
                "it was paid for after all"
            } else {
                "failed: nothing was paid, nothing is granted"
            };
            return Ok(Applied::new(EventStatus::Applied, what));
        }
        Reversal::Link { .. } | Reversal::Nothing(_) => {}
    }
    keep(session, &id, &fact)?;
    if let Some(settled) = settle(session, &id)? {
        return Ok(Applied {
            to: Some(settled.account),
            ..Applied::new(EventStatus::Applied, settled.detail)
        });
    }
    fact.waiting.insert((event.livemode, event.account.clone(), event.id.to_string()));
    keep(session, &id, &fact)?;
    let detail = format!("nothing that {id} paid for was credited here; kept until it is");
    Ok(Applied::new(EventStatus::Unmatched, detail))
}

/// A package was credited: from now on it follows its payment, and what was told before takes effect.
pub(super) fn bought(session: At<'_, '_, '_, '_>, payment: &str, what: Bought) -> Result<(), Error> {
    let mut fact = known(session, payment)?;
    if fact.bought.is_none() {
        fact.bought = Some(what);
        keep(session, payment, &fact)?;
    }
    awake(session, payment)
}

/// An invoice was paid by this account, with so much in all.
pub(super) fn invoice_paid(
    session: At<'_, '_, '_, '_>,
    account: &AccountId,
    invoice: &str,
    worth: u64,
) -> Result<(), Error> {
    let mut fact = known(session, invoice)?;
    let paid = fact.bought.as_ref().map_or(0, |bought| bought.paid).max(worth);
    fact.bought = Some(Bought { account: account.clone(), paid, currency: None, package: None });
    keep(session, invoice, &fact)?;
    awake(session, invoice)?;
    fact.paid_by.iter().try_for_each(|payment| awake(session, payment))
}

/// Whether a payment of an invoice was credited as a package.
pub(super) fn is_credited(session: At<'_, '_, '_, '_>, invoice: &str) -> Result<bool, Error> {
    for payment in known(session, invoice)?.paid_by {
        if known(session, &payment)?.bought.is_some_and(|bought| bought.package.is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A payment paid an invoice.
pub(super) fn link(session: At<'_, '_, '_, '_>, payment: &str, invoice: &str) -> Result<(), Error> {
    let mut fact = known(session, payment)?;
    // A payment never pays for another invoice later on; whatever says so is no better than what was told first.
    if payment == invoice || fact.invoice.is_some() {
        return Ok(());
    }
    fact.invoice = Some(invoice.to_owned());
    keep(session, payment, &fact)?;
    let mut of = known(session, invoice)?;
    of.paid_by.insert(payment.to_owned());
    keep(session, invoice, &of)?;
    awake(session, payment)
}

/// Whether what a payment bought is all taken back: then it stands in the way of no other.
pub(super) fn is_undone(session: At<'_, '_, '_, '_>, payment: &str) -> Result<bool, Error> {
    let fact = known(session, payment)?;
    let Some(Bought { paid, currency, package: Some((_, credits)), .. }) = &fact.bought else {
        return Ok(true);
    };
    let hold = session.setup.catalog.policies.hold_on_inquiry;
    let gone = fact.gone(hold, currency.as_deref());
    // What brings no credits is undone when its money is back.
    Ok(if credits.is_zero() {
        *paid > 0 && gone.back >= *paid
    } else {
        gone.of(*credits, *paid).0 == *credits
    })
}

/// Settles, and marks the events that waited for that as applied.
fn awake(session: At<'_, '_, '_, '_>, id: &str) -> Result<(), Error> {
    let Some(settled) = settle(session, id)? else { return Ok(()) };
    let mut fact = known(session, id)?;
    for (livemode, account, event) in std::mem::take(&mut fact.waiting) {
        let Ok(id) = EventId::new(event) else { continue };
        let row = session.work.store.event(&EventKey { livemode, account, id })?;
        if let Some(mut row) = row.filter(|row| row.status.is_open()) {
            (row.status, row.detail) = (EventStatus::Applied, settled.detail.clone());
            row.to = Some(settled.account.clone());
            session.work.store.put_event(&row)?;
        }
    }
    keep(session, id, &fact)
}

/// Whose credits followed, and how.
pub(super) struct Settled {
    account: AccountId,
    detail: String,
}

/// Brings every grant that a payment or an invoice bought to what is left of it; `None` if none is known.
pub(super) fn settle(session: At<'_, '_, '_, '_>, id: &str) -> Result<Option<Settled>, Error> {
    let fact = known(session, id)?;
    let mut settled = match fact.bought.as_ref().and_then(|bought| bought.package.as_ref()) {
        Some(_) => Some(settle_package(session, id, &fact)?),
        None => None,
    };
    let invoice = fact.invoice.as_deref().unwrap_or(id);
    let of_invoice = settle_invoice(session, invoice)?;
    settled = settled.or(of_invoice);
    // A credit note on the invoice of a package takes back what that payment bought.
    for payment in &fact.paid_by {
        let of = known(session, payment)?;
        if of.bought.as_ref().is_some_and(|bought| bought.package.is_some()) {
            settled = Some(settle_package(session, payment, &of)?);
        }
    }
    Ok(settled)
}

fn settle_package(session: At<'_, '_, '_, '_>, payment: &str, fact: &PaymentFact) -> Result<Settled, Error> {
    let Some(Bought { account, paid, currency, package: Some((name, credits)) }) = &fact.bought else {
        return Err(Error::Bug(format!("{payment} bought no package")));
    };
    let catalog = &session.setup.catalog;
    let shortfall = catalog.packages.get(name).map_or(Shortfall::Debt, |package| package.on_over_revoke);
    let mut gone = fact.gone(catalog.policies.hold_on_inquiry, currency.as_deref());
    if let Some(invoice) = &fact.invoice {
        gone.back = gone.back.saturating_add(known(session, invoice)?.credited());
    }
    let (unit, source, source_ref) = (Unit::Credits, Source::Purchase, format!("buy:{payment}"));
    let target = VoidTarget::Origin(Origin { unit, source, source_ref });
    let (revoked, frozen) = gone.of(*credits, *paid);
    take_back(session, account, TakeBack { target, revoked, frozen, shortfall })?;
    Ok(Settled { account: account.clone(), detail: detail(revoked, frozen) })
}

fn settle_invoice(session: At<'_, '_, '_, '_>, invoice: &str) -> Result<Option<Settled>, Error> {
    let fact = known(session, invoice)?;
    let Some(Bought { account, paid, package: None, .. }) = fact.bought.clone() else { return Ok(None) };
    let policies = session.setup.catalog.policies;
    let mut gone = fact.gone(policies.hold_on_inquiry, None);
    for payment in &fact.paid_by {
        gone = gone.and(known(session, payment)?.gone(policies.hold_on_inquiry, None));
    }
    let (mut all_revoked, mut all_frozen, mut changed) = (Amount::ZERO, Amount::ZERO, false);
    // Of what was paid back whole no more months come.
    let mut payments = session.work.store.payments(&account)?;
    for subscription in payments.stop(invoice, paid > 0 && gone.back >= paid) {
        changed = true;
        if let Some(paid) = payments.0.get(&subscription) {
            session.work.store.put_paid(&account, &subscription, paid)?;
        }
    }
    for (id, grant) in session.work.store.grants_of_invoice(&account, invoice)? {
        let held_back = payments.held_back(&grant.terms.source_ref);
        let (revoked, frozen) = gone.of(grant.terms.amount.saturating_sub(held_back), paid);
        let revoked = revoked.checked_add(held_back).unwrap_or(grant.terms.amount);
        let (target, shortfall) = (VoidTarget::Grant(id), policies.plan_over_revoke);
        changed |= take_back(session, &account, TakeBack { target, revoked, frozen, shortfall })?;
        all_revoked = all_revoked.checked_add(revoked).unwrap_or(Amount::MAX);
        all_frozen = all_frozen.checked_add(frozen).unwrap_or(Amount::MAX);
    }
    if changed {
        // What came back of a period that is over stays over.
        session.restand(&account)?;
    }
    Ok(Some(Settled { account, detail: detail(all_revoked, all_frozen) }))
}

/// True if that changed anything.
fn take_back(session: At<'_, '_, '_, '_>, account: &AccountId, back: TakeBack) -> Result<bool, Error> {
    match session.step(account, &Command::TakeBack(back))? {
        Reply::TakenBack(TakenBack::Done { changed, .. }) => Ok(changed),
        Reply::TakenBack(TakenBack::Unknown) => Ok(false),
        other => Err(Error::Bug(format!("a reversal was answered {other:?}"))),
    }
}

fn detail(revoked: Amount, frozen: Amount) -> String {
    let [revoked, frozen] = [revoked, frozen].map(|amount| signed_credits(amount.get()));
    format!("in all {revoked} credits are revoked, {frozen} more are held for disputes")
}
