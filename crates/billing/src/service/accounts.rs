//! What operators do with accounts, and what is shown of them.

use super::people::{is_digest, open_if_new};
use super::{Session, Setup, need};
use crate::catalog::PRIORITY_BOUGHT;
use crate::engine::Work;
use crate::error::{Error, Invalid};
use crate::store::ApiKey;
use contract::v1::SubscriptionState;
use ledger::subscription::Subscription;
use ledger::{Command, Grant, GrantAnswer, GrantId, Reply, Source, Terms};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use units::{AccountId, Amount, Instant, Subject, SubjectKind, Unit, signed_credits};

/// An account to be opened.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// Its id.
    pub id: AccountId,
    /// Who speaks for it.
    #[serde(default)]
    pub subjects: Vec<Subject>,
    /// Its Stripe customer.
    #[serde(default)]
    pub stripe_customer: Option<String>,
    /// Whose credits it spends, if not its own.
    #[serde(default)]
    pub pool: Option<AccountId>,
}

/// Credits to be given.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGrant {
    /// To whom.
    pub account: AccountId,
    /// How many: a decimal in quotes, or a whole number.
    pub credits: serde_json::Value,
    /// Why; shown to the customer in their history.
    #[serde(default)]
    pub note: String,
}

/// What came of a grant.
#[derive(Clone, Debug, Serialize)]
pub struct Granted {
    /// The grant's number, as text.
    pub id: String,
    /// To whom.
    pub account: AccountId,
    /// Available − debt, for people.
    pub balance: String,
    /// Available − debt.
    pub balance_micro: i64,
}

/// An account as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct AccountView {
    /// Its id.
    pub id: AccountId,
    /// Whose credits it spends; absent if its own.
    pub pool: Option<AccountId>,
    /// Who spends its credits besides itself.
    pub members: Vec<AccountId>,
    /// The tier by which it is judged; absent if none.
    pub tier: Option<String>,
    /// The stage of its subscription.
    pub state: SubscriptionState,
    /// Stopped by an operator.
    pub suspended: bool,
    /// Available − debt, for people.
    pub balance: String,
    /// Available − debt.
    pub balance_micro: i64,
    /// Owed.
    pub debt_micro: Amount,
    /// Held for requests in flight.
    pub held_micro: Amount,
    /// Held for disputed payments: part of no balance until the dispute ends.
    pub frozen_micro: Amount,
    /// When the paid period ends.
    pub current_period_end: Option<Instant>,
    /// When it will end or ended for good.
    pub cancel_at: Option<Instant>,
    /// What it has, in the order of spending.
    pub grants: Vec<GrantView>,
    /// What Stripe told of its subscriptions.
    pub subscriptions: Vec<SubscriptionView>,
    /// Its API keys, revoked or not, in the order in which they were made.
    pub api_keys: Vec<KeyView>,
}

/// An API key as it is shown: what names it, so that it can be revoked, and nothing that opens anything.
#[derive(Clone, Debug, Serialize)]
pub struct KeyView {
    id: String,
    created_at: Instant,
    revoked_at: Option<Instant>,
}

/// Amounts by name, which says what they count: `used_micro` (micro-credits) or `used_requests`.
pub(super) type Counters = BTreeMap<String, Amount>;

/// A grant as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct GrantView {
    id: String,
    unit: Unit,
    scope: String,
    source: &'static str,
    source_ref: String,
    #[serde(flatten)]
    counters: Counters,
    expires_at: Option<Instant>,
}

/// A subscription as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct SubscriptionView {
    id: String,
    status: String,
    prices: Vec<String>,
    current_period_end: Option<Instant>,
    cancel_at: Option<Instant>,
    cancel_at_period_end: bool,
}

/// Opens an account and binds whoever speaks for it; all of it or nothing.
///
/// # Errors
/// [`Invalid::Conflict`] if the account exists, or a subject or customer is bound elsewhere; [`Invalid::Unprocessable`] for an
/// API key's digest that is none.
pub fn open_account(work: &mut Work<'_>, setup: &Setup, new: &NewAccount) -> Result<AccountView, Error> {
    let mut session = Session::new(work, setup)?;
    if !open_if_new(&mut session, &new.id)? {
        return Err(Invalid::Conflict.because(format!("There is an account {} already.", new.id)));
    }
    let now = session.work.now;
    for subject in &new.subjects {
        if subject.kind == SubjectKind::ApiKeySha256 && !is_digest(&subject.value) {
            // Its key would open nothing, and nobody would know why. It is not repeated: it may be the key itself.
            let why =
                "A subject api_key_sha256 is no digest: give the SHA-256 of the key, 64 digits of 0-9a-f.";
            return Err(Invalid::Unprocessable.because(why));
        }
        if let Some(other) = session.work.store.account_of_subject(subject)? {
            let (kind, value) = (subject.kind.as_str(), &subject.value);
            return Err(
                Invalid::Conflict.because(format!("The subject {kind} {value:?} belongs to {other}."))
            );
        }
        session.work.store.bind_subject(subject, &new.id, now)?;
    }
    if let Some(customer) = &new.stripe_customer {
        if let Some(other) = session.work.store.account_of_customer(customer)? {
            return Err(Invalid::Conflict.because(format!("The customer {customer:?} belongs to {other}.")));
        }
        session.work.store.bind_customer(customer, &new.id, now)?;
        crate::stripe::replay(&mut session, customer)?;
    }
    if new.pool.is_some() {
        super::pools::join(&mut session, &new.id, new.pool.as_ref())?;
    }
    view(&mut session, &new.id)
}

/// Gives credits. `source_ref` is unique to this grant.
///
/// # Errors
/// [`Invalid::NotFound`] for an unknown account, [`Invalid::Unprocessable`] for what is no amount.
pub fn grant(work: &mut Work<'_>, setup: &Setup, new: &NewGrant, source_ref: &str) -> Result<Granted, Error> {
    let amount = credits(&new.credits)?;
    let mut session = Session::new(work, setup)?;
    let terms = Terms {
        unit: Unit::Credits,
        scope: String::new(),
        source: Source::Adjust,
        source_ref: source_ref.to_owned(),
        priority: PRIORITY_BOUGHT,
        starts_at: session.work.now,
        expires_at: Instant::FAR,
        amount,
    };
    let reply = session.step(&new.account, &Command::Grant(terms))?;
    let id = match reply {
        Reply::Grant(GrantAnswer::Made { id, .. } | GrantAnswer::Known { id }) => id,
        Reply::Grant(GrantAnswer::Refused { why }) => return Err(Invalid::Unprocessable.because(why)),
        other => return Err(Error::Bug(format!("a grant was answered {other:?}"))),
    };
    if !new.note.is_empty() {
        session.work.store.put_note(id, &new.note)?;
    }
    let balance_micro = session.balance(&new.account)?.shown();
    let (id, account, balance) = (id.0.to_string(), new.account.clone(), signed_credits(balance_micro));
    Ok(Granted { id, account, balance, balance_micro })
}

/// A decimal string or a whole number; never a float.
fn credits(value: &serde_json::Value) -> Result<Amount, Error> {
    let text = match value {
        serde_json::Value::Number(number) if number.is_u64() => number.to_string(),
        serde_json::Value::String(text) => text.clone(),
        other => {
            let mend = "give a whole number, or a decimal in quotes such as \"0.5\"";
            return Err(Invalid::Unprocessable.because(format!("credits is {other}: {mend}.")));
        }
    };
    let amount = Amount::from_credits(&text);
    amount.map_err(|error| Invalid::Unprocessable.because(format!("credits is {text:?}: it {error}.")))
}

/// An account as it stands.
///
/// # Errors
/// [`Invalid::NotFound`].
pub fn account(work: &mut Work<'_>, setup: &Setup, id: &AccountId) -> Result<AccountView, Error> {
    view(&mut Session::looking(work, setup)?, id)
}

/// Stops an account, or lets it go on.
///
/// # Errors
/// [`Invalid::NotFound`].
pub fn suspend(work: &mut Work<'_>, setup: &Setup, id: &AccountId, stop: bool) -> Result<AccountView, Error> {
    let mut session = Session::new(work, setup)?;
    session.step(id, if stop { &Command::Suspend } else { &Command::Resume })?;
    if let Some(pool) = session.work.store.pool_of(id)? {
        // Gateways know a member by its pool.
        session.step(&pool, &Command::Announce)?;
    }
    view(&mut session, id)
}

pub(super) fn view(session: &mut Session<'_, '_, '_>, id: &AccountId) -> Result<AccountView, Error> {
    let account = session.book(id)?.account.clone();
    let balance = session.balance(id)?;
    let grants = session.work.store.grants(id)?;
    let subscriptions = session.work.store.subscriptions(id)?;
    let (pool, members) = (session.work.store.pool_of(id)?, session.work.store.members(id)?);
    let keys = session.work.store.api_keys(id)?.into_iter();
    Ok(AccountView {
        id: id.clone(),
        pool,
        members,
        tier: account.standing.tier.map(String::from),
        state: need::state(account.standing.stage),
        suspended: account.suspended,
        balance: signed_credits(balance.shown()),
        balance_micro: balance.shown(),
        debt_micro: balance.debt,
        held_micro: balance.held,
        frozen_micro: frozen(&grants)?,
        current_period_end: account.standing.current_period_end,
        cancel_at: account.standing.cancel_at,
        grants: grants.into_iter().map(shown).collect(),
        subscriptions: subscriptions.0.into_iter().map(|(id, known)| subscription_view(id, &known)).collect(),
        api_keys: keys
            .map(|ApiKey { id, created_at, revoked_at, .. }| KeyView { id, created_at, revoked_at })
            .collect(),
    })
}

/// What is held for disputed payments, in all.
fn frozen(grants: &[(GrantId, Grant)]) -> Result<Amount, Error> {
    let all = grants.iter().filter(|(_, grant)| grant.terms.is_general());
    let all = all.map(|(_, grant)| grant.reversed.frozen());
    let sum = all.into_iter().try_fold(Amount::ZERO, Amount::checked_add);
    sum.ok_or_else(|| Error::Bug("more is held for disputes than an amount can say".into()))
}

fn shown((id, grant): (GrantId, Grant)) -> GrantView {
    GrantView {
        id: id.0.to_string(),
        unit: grant.terms.unit,
        scope: grant.terms.scope,
        source: grant.terms.source.as_str(),
        source_ref: grant.terms.source_ref,
        counters: counters(
            grant.terms.unit,
            [
                ("amount", grant.terms.amount),
                ("available", grant.avail),
                ("leased", grant.leased),
                ("used", grant.used),
                ("frozen", grant.reversed.frozen()),
            ],
        ),
        expires_at: Some(grant.terms.expires_at).filter(|at| *at < Instant::FAR),
    }
}

pub(super) fn counters<const N: usize>(unit: Unit, amounts: [(&str, Amount); N]) -> Counters {
    let suffix = match unit {
        Unit::Credits => "micro",
        Unit::Requests => "requests",
    };
    amounts.into_iter().map(|(name, amount)| (format!("{name}_{suffix}"), amount)).collect()
}

fn subscription_view(id: String, known: &Subscription) -> SubscriptionView {
    let latest = &known.latest;
    SubscriptionView {
        id,
        status: latest.status.to_string(),
        prices: latest.items.iter().map(|item| item.price.clone()).collect(),
        current_period_end: latest.items.iter().map(|item| item.period_end).max(),
        cancel_at: latest.cancel_at,
        cancel_at_period_end: latest.cancel_at_period_end,
    }
}
