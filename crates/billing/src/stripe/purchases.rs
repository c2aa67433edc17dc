//! Things that are bought once and bring no credits: that they were paid for, by whom, and not twice by mistake.
//!
//! One payment is told by several events, and is one purchase; a second payment for the same thing is another one, and
//! where the product sells a thing to each only once, a person has to look: that money is to be given back.

use super::apply::{Applied, bought_before};
use super::payment::Bought;
use super::read::{Payment, Who};
use super::reversal;
use crate::catalog::Catalog;
use crate::error::Error;
use crate::service::Session;
use crate::store::EventStatus;
use units::{AccountId, Amount};

/// True if a payment is for something that this product sells.
pub(super) fn is_ours(catalog: &Catalog, who: &Who) -> bool {
    catalog.purchase_in(&who.metadata).is_some() || catalog.package_in(&who.metadata).is_some()
}

/// Remembers a payment for such a thing; `None` if it is for none. A kind that this product has is the narrower word: it
/// counts, even where another key reads like a package's.
pub(super) fn record(
    session: &mut Session<'_, '_, '_>,
    account: &AccountId,
    who: &Who,
    payment: &Payment,
) -> Result<Option<Applied>, Error> {
    let catalog = &session.setup.catalog;
    let Some((kind, purchase)) = catalog.purchase_in(&who.metadata) else { return Ok(None) };
    let Some(item) = purchase.item_keys.iter().find_map(|key| who.metadata.get(key)) else {
        let keys = purchase.item_keys.join(", ");
        return Ok(Some(Applied::review(format!("{kind} was paid for, and none of {keys} says which"))));
    };
    let once = purchase.once;
    let Payment { key, paid, currency, .. } = payment;
    // A package without credits, so to speak: what goes back is folded alike, and a thing that was paid back can be bought again.
    let name = format!("purchase:{kind}:{item}");
    let package = Some((name.clone(), Amount::ZERO));
    let money = u64::try_from(*paid).unwrap_or(0);
    let bought = Bought { account: account.clone(), paid: money, currency: Some(currency.clone()), package };
    if let Some(other) = session.work.store.payee(key)? {
        let known = other == *account;
        if known {
            reversal::bought(session, key, bought)?;
        }
        let detail =
            if known { "recorded before".to_owned() } else { format!("recorded for {other} before") };
        let status = if known { EventStatus::Applied } else { EventStatus::Conflict };
        return Ok(Some(Applied::new(status, detail)));
    }
    if once && bought_before(session, account, &name)?.is_some() {
        session.work.count("tollgate_billing_duplicate_purchases_total", "", "");
        // Nothing is kept of this payment, so that whatever else tells of it is a conflict too.
        let why =
            format!("{account} paid {paid} {currency} for {kind} {item} and has it already: give it back");
        return Ok(Some(Applied::new(EventStatus::Conflict, why)));
    }
    session.work.store.put_payee(key, account, session.work.now)?;
    reversal::bought(session, key, bought)?;
    Ok(Some(Applied::new(EventStatus::Applied, format!("{kind} {item} for {paid} {currency}"))))
}
