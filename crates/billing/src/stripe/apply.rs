//! From a fact to its effects: whose it is, what it changes, what it grants.

use super::payment::Bought;
use super::purchases;
use super::read::{Fact, Payment, Sent, Told, Who};
use super::reversal;
use crate::catalog::{Catalog, PRIORITY_BOUGHT, Package};
use crate::error::Error;
use crate::service::{Session, account_named, open_if_new};
use crate::store::EventStatus;
use ledger::subscription::{
    CHANGE, Folded, InvoiceLine, InvoicePaid, PurchasePaid, Snapshot, Withheld, allowances, purchase,
};
use ledger::{Command, GrantAnswer, Reply, Terms};
use units::{AccountId, Instant};

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) status: EventStatus,
    pub(super) detail: String,
    pub(super) customer: Option<String>,
    pub(super) to: Option<AccountId>,
    /// True if events that waited may have what they waited for now.
    pub(super) unlocks: bool,
}

impl Applied {
    /// Of no account yet.
    pub(super) fn new(status: EventStatus, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), customer: None, to: None, unlocks: false }
    }

    /// A person has to look.
    pub(super) fn review(why: impl Into<String>) -> Self {
        Self::new(EventStatus::Review, why)
    }
}

/// Applies a fact.
pub(super) fn apply(session: &mut Session<'_, '_, '_>, told: Told) -> Result<Applied, Error> {
    let Told { who, fact } = told;
    if let Fact::Nothing(why) = fact {
        return Ok(Applied::new(EventStatus::Ignored, why));
    }
    // Somebody else's payment through the same Stripe account is no business of ours, whoever made it.
    if matches!(fact, Fact::Payment(_)) && !purchases::is_ours(&session.setup.catalog, &who) {
        return Ok(Applied::new(EventStatus::Ignored, "a payment that names no package"));
    }
    let customer = who.customer.clone();
    let Some(Owner { account, bound_now, conflict }) = owner(session, &who)? else {
        if customer.is_none() && matches!(fact, Fact::Payment(_)) {
            // Nothing that could become known later leads to it.
            return Ok(Applied::review("a package was paid for, and nothing says by whom"));
        }
        let detail = "nobody is known by this customer, reference or metadata yet";
        return Ok(Applied { customer, ..Applied::new(EventStatus::Unmatched, detail) });
    };
    let done = match fact {
        Fact::Subscription(snapshot) => subscription(session, &account, snapshot)?,
        Fact::Invoice(invoice, sent) => self::invoice(session, &account, &invoice, sent)?,
        Fact::Payment(payment) => match purchases::record(session, &account, &who, &payment)? {
            Some(recorded) => recorded,
            None => package(session, &account, &who, &payment)?,
        },
        Fact::Seen(what) | Fact::Nothing(what) => Applied::new(EventStatus::Applied, what),
    };
    let unlocks = done.unlocks || bound_now;
    let (status, detail) = match conflict {
        Some(named) if done.status == EventStatus::Applied => {
            let detail = format!("names {named}, but its customer is bound to {account}; {}", done.detail);
            (EventStatus::Conflict, detail)
        }
        _ => (done.status, done.detail),
    };
    Ok(Applied { status, detail, customer, to: Some(account), unlocks })
}

/// Whose an event is.
struct Owner {
    account: AccountId,
    /// True if its customer was bound by this event.
    bound_now: bool,
    /// Another account that the event names, in vain.
    conflict: Option<AccountId>,
}

/// The account already bound to the customer; else the one that the event names, which is bound from now on.
/// A binding never changes, so that nobody's metadata can move somebody else's payments.
fn owner(session: &mut Session<'_, '_, '_>, who: &Who) -> Result<Option<Owner>, Error> {
    let catalog = &session.setup.catalog;
    let bound = match &who.customer {
        Some(customer) => session.work.store.account_of_customer(customer)?,
        None => None,
    };
    let reference = who.reference.as_deref().filter(|_| catalog.trust_client_reference_id);
    let name = if catalog.customer_is_account {
        who.customer.as_deref().filter(|_| bound.is_none())
    } else {
        reference.or_else(|| catalog.account_in(&who.metadata))
    };
    let named = name.map(|name| account_named(session, name)).transpose()?;
    Ok(match (bound, named) {
        (Some(account), named) => {
            let conflict = named.filter(|named| *named != account);
            Some(Owner { account, bound_now: false, conflict })
        }
        (None, Some(account)) => {
            open_if_new(session, &account)?;
            if let Some(customer) = &who.customer {
                session.work.store.bind_customer(customer, &account, session.work.now)?;
            }
            Some(Owner { account, bound_now: who.customer.is_some(), conflict: None })
        }
        (None, None) => None,
    })
}

fn subscription(
    session: &mut Session<'_, '_, '_>,
    account: &AccountId,
    snapshot: Snapshot,
) -> Result<Applied, Error> {
    let id = snapshot.id.clone();
    let mut known = session.work.store.subscriptions(account)?;
    let folded = known.fold(snapshot, &session.setup.policy);
    if let Some(subscription) = known.0.get(&id) {
        session.work.store.put_subscription(account, &id, subscription)?;
    }
    session.restand(account)?;
    let (status, detail) = match folded {
        Folded::Newer => (EventStatus::Applied, String::new()),
        Folded::Older => (EventStatus::Applied, "older than what is known".into()),
        Folded::Same => (EventStatus::Applied, "known".into()),
        Folded::Tie => {
            (EventStatus::Applied, "told in the same second as another state; the later stage counts".into())
        }
        Folded::UnknownStatus(word) => {
            (EventStatus::Review, format!("the status {word:?} is not known here; what was known stays"))
        }
        Folded::UnknownPrice(price) => {
            (EventStatus::Review, format!("no tier has the price {price:?}; the last known plan stays"))
        }
    };
    Ok(Applied { unlocks: true, ..Applied::new(status, detail) })
}

fn invoice(
    session: &mut Session<'_, '_, '_>,
    account: &AccountId,
    invoice: &InvoicePaid,
    Sent { complete, worth }: Sent,
) -> Result<Applied, Error> {
    // What time has brought is entered before what is paid now.
    session.book(account)?;
    if !complete && (invoice.billing_reason == CHANGE || invoice.lines.iter().any(|line| line.proration)) {
        // Reckoned from half of its lines, a change would bring too much.
        reversal::invoice_paid(session, account, &invoice.id, worth)?;
        return Ok(Applied::review("a change of plan with more lines than were sent; nothing was granted"));
    }
    let subscriptions = session.work.store.subscriptions(account)?;
    let mut payments = session.work.store.payments(account)?;
    let (mut granted, mut withheld, mut refused) = (0_u32, Vec::new(), None);
    for line in allowances(invoice, &mut payments, &subscriptions, &session.setup.policy) {
        match line {
            Ok(terms) => {
                granted = granted.saturating_add(1);
                let origin = terms.source_ref.clone();
                if let Some(why) = give(session, account, terms)? {
                    // What could not be granted is not kept as if it had been.
                    payments.0.values_mut().for_each(|paid| drop(paid.0.remove(&origin)));
                    refused = refused.or(Some(why));
                }
            }
            Err(why) => withheld.push(why),
        }
    }
    // What was paid for is kept before it is settled: it may be paid back already.
    if let Some((id, paid)) = invoice.subscription.as_ref().and_then(|id| Some((id, payments.0.get(id)?))) {
        session.work.store.put_paid(account, id, paid)?;
    }
    reversal::invoice_paid(session, account, &invoice.id, worth)?;
    if invoice.subscription.is_some() {
        session.restand(account)?;
    }
    if let Some(why) = refused {
        return Ok(Applied::review(why));
    }
    outcome(session, invoice, granted, &withheld, complete)
}

/// What became of an invoice of which so many lines were granted, and the others not for these reasons.
fn outcome(
    session: &mut Session<'_, '_, '_>,
    invoice: &InvoicePaid,
    granted: u32,
    withheld: &[Withheld],
    complete: bool,
) -> Result<Applied, Error> {
    let words: Vec<_> = withheld.iter().map(|why| why.as_str()).collect();
    let words = words.join(", ");
    let packages = &session.setup.catalog.packages;
    let sold = |line: &InvoiceLine| packages.iter().find(|(_, package)| package.price == line.price);
    let package = invoice.lines.iter().find_map(sold).map(|(name, _)| name.clone());
    let plans = &session.setup.policy.plans;
    let beside_plan = invoice.lines.iter().any(|line| plans.contains_key(&line.price));
    // A checkout may make an invoice of its own: what is credited is its payment, which is told by itself.
    let credited = package.is_some() && reversal::is_credited(session, &invoice.id)?;
    if let Some(package) = package.as_ref().filter(|_| !beside_plan) {
        return Ok(if credited {
            Applied::new(EventStatus::Applied, format!("{package} was credited by its payment"))
        } else {
            let why = format!(
                "{package} was paid for by invoice; credited when a checkout or payment intent tells of it"
            );
            Applied::new(EventStatus::Waiting, why)
        });
    }
    let odd = |why: &Withheld| {
        use Withheld::{Currency, Ended, Late, Nonsense, UnknownPlan, UnknownPrice, UnknownReason};
        match why {
            // Beside what was granted it is something else that is sold.
            UnknownPrice => granted == 0 && !credited,
            UnknownPlan | UnknownReason | Ended | Currency | Late | Nonsense => true,
            _ => false,
        }
    };
    Ok(if withheld.contains(&Withheld::UnknownTrial) {
        Applied::new(
            EventStatus::Waiting,
            "nothing was paid; whether for a trial, its subscription will tell",
        )
    } else if withheld.contains(&Withheld::Paused) {
        Applied::new(
            EventStatus::Waiting,
            "collection is paused; what was paid brings credits when it goes on",
        )
    } else if let Some(package) = package.filter(|_| !credited) {
        // The payment of the whole invoice is not the package's price, so no payment will ever tell of the package by itself.
        Applied::review(format!("{package} was paid for on the invoice of a plan: credit it by hand"))
    } else if !complete {
        Applied::review("the invoice has more lines than were sent; compare it with Stripe")
    } else if withheld.iter().any(odd) {
        let what = if granted == 0 { "nothing" } else { "not all" };
        Applied::review(format!("{what} was granted: {words}"))
    } else {
        Applied::new(EventStatus::Applied, words)
    })
}

fn package(
    session: &mut Session<'_, '_, '_>,
    account: &AccountId,
    who: &Who,
    payment: &Payment,
) -> Result<Applied, Error> {
    let catalog = &session.setup.catalog;
    let name = catalog.package_in(&who.metadata).unwrap_or_default();
    let Some(package) = catalog.packages.get(name) else {
        return Ok(Applied::review(format!("there is no package {name:?}")));
    };
    if !is_price(catalog, package, payment) {
        let Payment { paid, currency, .. } = payment;
        let expected = (package.amount, &catalog.currency);
        let why = format!("{paid} {currency} is not the price of {name}, {} {}", expected.0, expected.1);
        return Ok(Applied::review(why));
    }
    let credited = Bought {
        account: account.clone(),
        paid: u64::try_from(payment.paid).unwrap_or(0),
        currency: Some(payment.currency.clone()),
        package: Some((name.to_owned(), package.credits)),
    };
    if let Some(other) = session.work.store.payee(&payment.key)? {
        let known = other == *account;
        if known {
            reversal::bought(session, &payment.key, credited)?;
        }
        let detail = if known { "credited before".to_owned() } else { format!("credited to {other} before") };
        let status = if known { EventStatus::Applied } else { EventStatus::Conflict };
        return Ok(Applied::new(status, detail));
    }
    if package.unique_per_account
        && let Some(first) = bought_before(session, account, name)?
    {
        session.work.count("tollgate_billing_duplicate_purchases_total", "", "");
        let why =
            format!("{account} has {name} by {first} already, and can have it once; nothing was granted");
        return Ok(Applied::new(EventStatus::Conflict, why));
    }
    let expires_at = package.lasts.map_or(Instant::FAR, |lasts| payment.at.plus(lasts));
    let paid = PurchasePaid { key: payment.key.clone(), credits: package.credits, expires_at };
    if let Some(why) = give(session, account, purchase(&paid, PRIORITY_BOUGHT))? {
        return Ok(Applied::review(why));
    }
    session.work.store.put_payee(&payment.key, account, session.work.now)?;
    reversal::bought(session, &payment.key, credited)?;
    session.tell(account, "purchase.completed", &told_of(account, name, package, payment))?;
    let credited = format!("{} credits", package.credits.to_credits());
    Ok(Applied { unlocks: true, ..Applied::new(EventStatus::Applied, credited) })
}

/// The payment by which the account has the package already, if what it brought was not taken back whole.
pub(super) fn bought_before(
    session: &mut Session<'_, '_, '_>,
    account: &AccountId,
    package: &str,
) -> Result<Option<String>, Error> {
    for payment in session.work.store.payments_for(account, package)? {
        if !reversal::is_undone(session, &payment)? {
            return Ok(Some(payment));
        }
    }
    Ok(None)
}

/// What others are told of a purchase.
fn told_of(account: &AccountId, name: &str, package: &Package, payment: &Payment) -> serde_json::Value {
    serde_json::json!({
        "account": account,
        "package": name,
        "payment": payment.key,
        "paid": payment.paid,
        "currency": payment.currency,
        "credits": package.credits.to_credits(),
        "credits_micro": package.credits,
    })
}

/// What was paid is the price: as it stands, or with what a discount took off, before tax that came on top.
fn is_price(catalog: &Catalog, package: &Package, payment: &Payment) -> bool {
    let Ok(price) = i64::try_from(package.amount) else { return false };
    let undiscounted = payment.paid.checked_add(payment.discount);
    let untaxed = undiscounted.and_then(|sum| sum.checked_sub(payment.tax));
    let sane = payment.paid >= 0 && payment.discount >= 0 && payment.tax >= 0;
    sane && payment.currency == catalog.currency && [undiscounted, untaxed].contains(&Some(price))
}

/// Grants, once; why not, if a person has to look.
fn give(
    session: &mut Session<'_, '_, '_>,
    account: &AccountId,
    terms: Terms,
) -> Result<Option<String>, Error> {
    match session.step(account, &Command::Grant(terms))? {
        Reply::Grant(GrantAnswer::Made { .. } | GrantAnswer::Known { .. }) => Ok(None),
        Reply::Grant(GrantAnswer::Conflict { id }) => {
            Ok(Some(format!("the same payment was granted on other terms: grant {}", id.0)))
        }
        Reply::Grant(GrantAnswer::Refused { why }) => Ok(Some(why.into())),
        other => Err(Error::Bug(format!("a grant was answered {other:?}"))),
    }
}
