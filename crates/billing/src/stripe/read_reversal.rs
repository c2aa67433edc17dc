//! From Stripe's JSON to what became of a payment: refunds, disputes, credit notes, checkouts that failed. Pure.
//!
//! As in `read`, every shape since 2020-08-27 may come at any time. Since 2025-03-31.basil a charge does not name its
//! invoice any more, nor an invoice its payment intent: `invoice_payment.paid` tells which belong together.

use super::payment::{CreditNote, Dispute, DisputeStage, DisputeState, Refund, RefundState};
use super::read::{Read, Unreadable, id_of, instant, metadata, missing, text, whole};
use serde_json::Value;
use std::collections::BTreeMap;

/// What became of a payment (an intent, else a charge or a session) or of an invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reversal {
    /// So much of a payment was refunded in all.
    Refunded { payment: String, total: u64 },
    /// One refund of it.
    Refund { payment: String, id: String, refund: Refund },
    /// One dispute of it.
    Dispute { payment: String, id: String, dispute: Dispute },
    /// A credit note on an invoice.
    CreditNote { invoice: String, id: String, note: CreditNote },
    /// Which invoice it paid: told by [`links`], and by nothing else in the event.
    Link { payment: String },
    /// A checkout expired, or its payment failed; what it was for.
    Failed { payment: String, metadata: BTreeMap<String, String> },
    /// Of no interest here.
    Nothing(&'static str),
}

/// Reads an event of one of these kinds; `None` for every other.
pub(super) fn event(body: &Value, kind: &str) -> Option<Read<Reversal>> {
    let object = body.pointer("/data/object").unwrap_or(&Value::Null);
    Some(match kind {
        "charge.refunded" => charge(object),
        "charge.refund.updated" | "refund.created" | "refund.updated" | "refund.failed" => {
            refund(object, kind == "refund.failed")
        }
        _ if kind.starts_with("charge.dispute.") => dispute(body, object, kind),
        "credit_note.created" | "credit_note.updated" | "credit_note.voided" => {
            credit_note(object, kind == "credit_note.voided")
        }
        "invoice_payment.paid" if !object.get("invoice").is_some_and(Value::is_object) => {
            let link = links(body, kind).into_iter().next();
            Ok(link.map_or(Reversal::Nothing("names an invoice without its lines"), |(payment, _)| {
                Reversal::Link { payment }
            }))
        }
        "checkout.session.expired" | "checkout.session.async_payment_failed" => failed(object),
        _ => return None,
    })
}

/// Which payments paid which invoices, as far as an event of any kind tells: (payment, invoice).
pub(super) fn links(body: &Value, kind: &str) -> Vec<(String, String)> {
    let object = body.pointer("/data/object").unwrap_or(&Value::Null);
    let id = |value: &Value, path: &str| value.pointer(path).and_then(id_of).map(str::to_owned);
    match kind {
        "invoice_payment.paid" => {
            let payment = payment_of(object.get("payment"));
            payment.zip(id(object, "/invoice")).into_iter().collect()
        }
        "invoice.paid" | "invoice.payment_succeeded" => {
            let Some(invoice) = id(object, "/id") else { return Vec::new() };
            let listed = object.pointer("/payments/data").and_then(Value::as_array).into_iter().flatten();
            let listed = listed.filter_map(|one| payment_of(one.get("payment")));
            listed.chain(payment_of(Some(object))).map(|payment| (payment, invoice.clone())).collect()
        }
        "charge.succeeded" | "charge.updated" | "charge.refunded" => {
            payment_of_charge(object).zip(id(object, "/invoice")).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// What an object names as its payment: the intent, else the charge.
fn payment_of(object: Option<&Value>) -> Option<String> {
    let id = |key: &str| object?.get(key).and_then(id_of).map(str::to_owned);
    id("payment_intent").or_else(|| id("charge"))
}

fn payment_of_charge(charge: &Value) -> Option<String> {
    let intent = charge.get("payment_intent").and_then(id_of);
    intent.or_else(|| text(charge, "/id")).map(str::to_owned)
}

fn charge(object: &Value) -> Read<Reversal> {
    let payment = payment_of_charge(object).ok_or_else(|| missing("id"))?;
    Ok(Reversal::Refunded { payment, total: money(object, "/amount_refunded")? })
}

fn refund(object: &Value, failed: bool) -> Read<Reversal> {
    let Some(payment) = payment_of(Some(object)) else {
        return Ok(Reversal::Nothing("a refund of no payment"));
    };
    let state = match text(object, "/status") {
        _ if failed => RefundState::Failed,
        Some("pending" | "requires_action") => RefundState::Pending,
        Some("succeeded") => RefundState::Succeeded,
        Some("failed" | "canceled") => RefundState::Failed,
        _ => return Err(missing("status")),
    };
    let refund = Refund { amount: money(object, "/amount")?, state };
    Ok(Reversal::Refund { payment, id: name(object)?, refund })
}

fn dispute(body: &Value, object: &Value, kind: &str) -> Read<Reversal> {
    use DisputeStage::{Inquiry, InquiryClosed, Open, Over};
    use DisputeState::{Disputed, Kept, Lost};
    let payment = payment_of(Some(object)).ok_or_else(|| missing("charge"))?;
    let (stage, state) = match text(object, "/status") {
        Some("warning_needs_response" | "warning_under_review") => (Inquiry, Disputed),
        Some("warning_closed") => (InquiryClosed, Kept),
        // The money came back before the dispute says that it is over.
        Some("needs_response" | "under_review") if kind == "charge.dispute.funds_reinstated" => (Over, Kept),
        Some("needs_response" | "under_review") => (Open, Disputed),
        // `charge_refunded` is older: the refund is told by itself.
        Some("won" | "prevented" | "charge_refunded") => (Over, Kept),
        Some("lost") => (Over, Lost),
        _ => return Err(missing("status")),
    };
    let dispute = Dispute {
        amount: money(object, "/amount")?,
        currency: text(object, "/currency").ok_or_else(|| missing("currency"))?.to_owned(),
        state: (stage, instant(body, "/created")?.secs(), state),
    };
    // Once a charge had one dispute at most, without an id of its own.
    let id = name(object).unwrap_or_else(|_| payment.clone());
    Ok(Reversal::Dispute { payment, id, dispute })
}

/// Of a credit note only what was given back after the invoice was paid counts, and of that only what no refund tells
/// by itself: money outside of Stripe, or the customer's balance there.
fn credit_note(object: &Value, voided: bool) -> Read<Reversal> {
    let invoice = object.get("invoice").and_then(id_of).ok_or_else(|| missing("invoice"))?.to_owned();
    let post_payment = match whole(object, "/post_payment_amount")? {
        Some(_) => money(object, "/post_payment_amount")?,
        None if text(object, "/type") == Some("pre_payment") => 0,
        None => money(object, "/amount")?,
    };
    let refunds = object.get("refunds").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut linked = 0_u64;
    for one in refunds {
        linked = linked.saturating_add(money(one, "/amount_refunded")?);
    }
    // The older field names one refund without its amount; it is made for the whole.
    let whole = refunds.is_empty() && object.get("refund").and_then(id_of).is_some();
    let amount = if whole { 0 } else { post_payment.saturating_sub(linked) };
    let note = CreditNote { amount, voided: voided || text(object, "/status") == Some("void") };
    Ok(Reversal::CreditNote { invoice, id: name(object)?, note })
}

fn failed(session: &Value) -> Read<Reversal> {
    if text(session, "/mode") != Some("payment") {
        return Ok(Reversal::Nothing("a checkout that is no purchase of a package"));
    }
    let key = session.get("payment_intent").and_then(id_of).or_else(|| text(session, "/id"));
    let payment = key.ok_or_else(|| missing("id"))?.to_owned();
    Ok(Reversal::Failed { payment, metadata: metadata(session.get("metadata")) })
}

fn name(object: &Value) -> Read<String> {
    text(object, "/id").map(str::to_owned).ok_or_else(|| missing("id"))
}

/// Money in the currency's smallest unit: whole, and not below zero.
fn money(object: &Value, path: &str) -> Read<u64> {
    let found = whole(object, path)?.ok_or_else(|| missing(path))?;
    u64::try_from(found).map_err(|_| Unreadable(format!("{} is below zero", path.trim_start_matches('/'))))
}
