//! From Stripe's JSON, in any of its shapes since 2020-08-27, to facts. Pure; amounts are integers or unreadable.
//!
//! The shape of an event follows the version of its endpoint and never changes, so every shape may come at any
//! time. Newer places are read first: since 2025-03-31.basil the period lies in the item, the subscription of an
//! invoice in `parent`, and the price of a line in `pricing` (Stripe, "Changelog: basil"). Wherever Stripe may
//! expand an object, its id is taken from either form.

use ledger::subscription::{InvoiceLine, InvoicePaid, Item, Snapshot, Status};
use serde_json::Value;
use std::collections::BTreeMap;
use units::Instant;

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Whose it is.
    pub who: Who,
    /// What happened.
    pub fact: Fact,
}

/// How an event names its customer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Who {
    /// Stripe's `cus_…`.
    pub customer: Option<String>,
    /// `client_reference_id` of a checkout session.
    pub reference: Option<String>,
    /// What the integrator wrote.
    pub metadata: BTreeMap<String, String>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// A subscription was seen.
    Subscription(Snapshot),
    /// An invoice was paid.
    Invoice(InvoicePaid, Sent),
    /// Something was paid for once.
    Payment(Payment),
    /// A customer was seen, or a checkout that brings no money by itself.
    Seen(&'static str),
    /// Of no interest here.
    Nothing(&'static str),
}

/// What else an invoice says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// False if more lines exist than were sent.
    pub complete: bool,
    /// What was paid in all, the customer's balance at Stripe included, in the currency's smallest unit.
    pub worth: u64,
}

/// A payment for a package, if it names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Payment {
    /// The payment intent if there is one, else the session.
    pub key: String,
    /// What was paid, in the currency's smallest unit.
    pub paid: i64,
    /// What a discount took off.
    pub discount: i64,
    /// Tax in it.
    pub tax: i64,
    /// Stripe's code of the currency.
    pub currency: String,
    /// When.
    pub at: Instant,
}

/// A field that is missing or is not what it always was; a person has to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub String);

pub(super) type Read<T> = Result<T, Unreadable>;

/// Reads an event whose signature was verified.
pub(super) fn event(body: &Value, id: &str, kind: &str) -> Read<Told> {
    let object = body.pointer("/data/object").unwrap_or(&Value::Null);
    let created = instant(body, "/created")?;
    let told = |fact| Ok(Told { who: who(object), fact });
    match kind {
        _ if kind.starts_with("customer.subscription.") => {
            told(Fact::Subscription(snapshot(object, id, kind == "customer.subscription.deleted", created)?))
        }
        "customer.created" | "customer.updated" => {
            let who = Who { customer: text(object, "/id").map(str::to_owned), ..who(object) };
            Ok(Told { who, fact: Fact::Seen("a customer") })
        }
        "invoice.paid" | "invoice.payment_succeeded" => invoice(object, created),
        "invoice_payment.paid" => match object.get("invoice").filter(|invoice| invoice.is_object()) {
            Some(expanded) => invoice(expanded, created),
            // `invoice.paid` tells the same with the lines, which this leaves out.
            None => told(Fact::Nothing("names an invoice without its lines")),
        },
        "checkout.session.completed" | "checkout.session.async_payment_succeeded" => {
            told(checkout(object, created)?)
        }
        "payment_intent.succeeded" => told(intent(object, created)?),
        _ => told(Fact::Nothing("this type means nothing here")),
    }
}

fn who(object: &Value) -> Who {
    Who {
        customer: object.get("customer").and_then(id_of).map(str::to_owned),
        reference: text(object, "/client_reference_id").map(str::to_owned),
        metadata: metadata(object.get("metadata")),
    }
}

fn snapshot(object: &Value, event: &str, deleted: bool, created: Instant) -> Read<Snapshot> {
    let status = text(object, "/status").ok_or_else(|| missing("status"))?;
    let ended_at = maybe_instant(object, "/ended_at")?;
    let items = object.pointer("/items/data").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    Ok(Snapshot {
        id: text(object, "/id").ok_or_else(|| missing("id"))?.to_owned(),
        customer: object.get("customer").and_then(id_of).ok_or_else(|| missing("customer"))?.to_owned(),
        status: if deleted { Status::Canceled } else { Status::from(status.to_owned()) },
        items: items.iter().map(|one| item(one, object)).collect::<Read<_>>()?,
        cancel_at: maybe_instant(object, "/cancel_at")?,
        cancel_at_period_end: object.get("cancel_at_period_end").and_then(Value::as_bool).unwrap_or(false),
        ended_at: if deleted { ended_at.or(Some(created)) } else { ended_at },
        trial_end: maybe_instant(object, "/trial_end")?,
        collection_paused: object.get("pause_collection").is_some_and(|pause| !pause.is_null()),
        created,
        event: event.to_owned(),
    })
}

fn item(item: &Value, subscription: &Value) -> Read<Item> {
    let either = |path: &str| match maybe_instant(item, path)? {
        Some(at) => Ok(at),
        None => instant(subscription, path),
    };
    Ok(Item {
        price: price(item).ok_or_else(|| missing("items.data[].price"))?.to_owned(),
        quantity: quantity(item)?,
        period_start: either("/current_period_start")?,
        period_end: either("/current_period_end")?,
    })
}

fn invoice(object: &Value, created: Instant) -> Read<Told> {
    let paid =
        text(object, "/status") == Some("paid") || object.get("paid").and_then(Value::as_bool) == Some(true);
    if !paid {
        return Err(Unreadable("the invoice does not say that it is paid".into()));
    }
    let lines =
        object.pointer("/lines/data").and_then(Value::as_array).ok_or_else(|| missing("lines.data"))?;
    let subscription = subscription_of(object, lines);
    let billing_reason = text(object, "/billing_reason").unwrap_or_default().to_owned();
    // A reader that took this for "no subscription" would ignore every renewal after a change of shape.
    if billing_reason.starts_with("subscription") && subscription.is_none() {
        return Err(Unreadable("the invoice is for a subscription, but for which?".into()));
    }
    let metadata = ["/metadata", "/parent/subscription_details/metadata", "/subscription_details/metadata"];
    let metadata = metadata.into_iter().flat_map(|path| metadata_at(object, path));
    let complete = object.pointer("/lines/has_more").and_then(Value::as_bool) != Some(true);
    let invoice = InvoicePaid {
        id: text(object, "/id").ok_or_else(|| missing("id"))?.to_owned(),
        subscription: subscription.map(str::to_owned),
        billing_reason,
        paid_at: maybe_instant(object, "/status_transitions/paid_at")?.unwrap_or(created),
        amount_paid: object
            .get("amount_paid")
            .and_then(Value::as_u64)
            .ok_or_else(|| missing("amount_paid"))?,
        currency: text(object, "/currency").map(str::to_owned),
        lines: lines.iter().filter_map(|one| line(one).transpose()).collect::<Read<_>>()?,
    };
    // What was paid with the customer's balance at Stripe was money too.
    let settled = whole(object, "/pre_payment_credit_notes_amount")?.unwrap_or(0);
    let total = whole(object, "/total")?.and_then(|total| u64::try_from(total.checked_sub(settled)?).ok());
    let worth = total.unwrap_or(0).max(invoice.amount_paid);
    let who = Who { metadata: metadata.collect(), reference: None, ..who(object) };
    Ok(Told { who, fact: Fact::Invoice(invoice, Sent { complete, worth }) })
}

fn subscription_of<'a>(invoice: &'a Value, lines: &'a [Value]) -> Option<&'a str> {
    let at = |value: &'a Value, path: &str| value.pointer(path).and_then(id_of);
    at(invoice, "/parent/subscription_details/subscription")
        .or_else(|| at(invoice, "/subscription"))
        .or_else(|| lines.iter().find_map(|line| at(line, "/parent/subscription_item_details/subscription")))
        .or_else(|| lines.iter().find_map(|line| at(line, "/parent/invoice_item_details/subscription")))
        .or_else(|| lines.iter().find_map(|line| at(line, "/subscription")))
}

/// A line without a price is somebody's own amount; no plan is in it.
fn line(line: &Value) -> Read<Option<InvoiceLine>> {
    let Some(price) = price(line) else { return Ok(None) };
    let proration = [
        "/parent/subscription_item_details/proration",
        "/parent/invoice_item_details/proration",
        "/proration",
    ];
    let proration = proration.iter().any(|path| line.pointer(path).and_then(Value::as_bool) == Some(true));
    Ok(Some(InvoiceLine {
        price: price.to_owned(),
        quantity: quantity(line)?,
        proration,
        net: net(line)?,
        period_start: instant(line, "/period/start")?,
        period_end: instant(line, "/period/end")?,
    }))
}

/// What a line costs after its discounts, which its amount leaves out (Stripe, API: `line_item.discount_amounts`).
fn net(line: &Value) -> Read<Option<i64>> {
    let Some(amount) = whole(line, "/amount")? else { return Ok(None) };
    let discounts = line.get("discount_amounts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let net = discounts.iter().try_fold(amount, |net, discount| {
        let less = whole(discount, "/amount")?.ok_or_else(|| missing("discount_amounts[].amount"))?;
        net.checked_sub(less).ok_or_else(|| missing("discount_amounts[].amount"))
    });
    net.map(Some)
}

fn checkout(session: &Value, created: Instant) -> Read<Fact> {
    if text(session, "/mode") != Some("payment") {
        return Ok(Fact::Seen("a checkout that is no purchase of a package"));
    }
    match text(session, "/payment_status") {
        Some("paid" | "no_payment_required") => {}
        Some("unpaid") => return Ok(Fact::Seen("a checkout that is not paid yet")),
        _ => return Err(missing("payment_status")),
    }
    let key = session.get("payment_intent").and_then(id_of).or_else(|| text(session, "/id"));
    Ok(Fact::Payment(Payment {
        key: key.ok_or_else(|| missing("id"))?.to_owned(),
        paid: whole(session, "/amount_total")?.ok_or_else(|| missing("amount_total"))?,
        discount: whole(session, "/total_details/amount_discount")?.unwrap_or(0),
        tax: whole(session, "/total_details/amount_tax")?.unwrap_or(0),
        currency: text(session, "/currency").ok_or_else(|| missing("currency"))?.to_owned(),
        at: created,
    }))
}

fn intent(intent: &Value, created: Instant) -> Read<Fact> {
    Ok(Fact::Payment(Payment {
        key: text(intent, "/id").ok_or_else(|| missing("id"))?.to_owned(),
        paid: whole(intent, "/amount_received")?.ok_or_else(|| missing("amount_received"))?,
        discount: 0,
        tax: 0,
        currency: text(intent, "/currency").ok_or_else(|| missing("currency"))?.to_owned(),
        at: created,
    }))
}

fn price(of: &Value) -> Option<&str> {
    let at = |path: &str| of.pointer(path).and_then(id_of);
    at("/pricing/price_details/price").or_else(|| at("/price")).or_else(|| at("/plan"))
}

fn quantity(of: &Value) -> Read<u64> {
    match of.get("quantity") {
        None | Some(Value::Null) => Ok(1),
        Some(value) => value.as_u64().ok_or_else(|| missing("quantity")),
    }
}

/// An id, or the id of an object that was expanded.
pub(super) fn id_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("id").and_then(Value::as_str)).filter(|id| !id.is_empty())
}

pub(super) fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    value.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn metadata_at(object: &Value, path: &str) -> BTreeMap<String, String> {
    metadata(object.pointer(path))
}

pub(super) fn metadata(value: Option<&Value>) -> BTreeMap<String, String> {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    let texts = entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    texts.filter(|(_, value)| !value.is_empty()).collect()
}

/// A whole number: `5.0` and `"5"` are none.
pub(super) fn whole(value: &Value, path: &str) -> Read<Option<i64>> {
    match value.pointer(path) {
        None | Some(Value::Null) => Ok(None),
        Some(found) => found.as_i64().map(Some).ok_or_else(|| missing(path)),
    }
}

fn maybe_instant(value: &Value, path: &str) -> Read<Option<Instant>> {
    Ok(whole(value, path)?.map(Instant::from_secs))
}

pub(super) fn instant(value: &Value, path: &str) -> Read<Instant> {
    maybe_instant(value, path)?.ok_or_else(|| missing(path))
}

pub(super) fn missing(path: &str) -> Unreadable {
    Unreadable(format!("{} is missing or is not what it always was", path.trim_start_matches('/')))
}
