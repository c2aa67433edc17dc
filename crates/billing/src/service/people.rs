//! Whose a subject is, and the keys of customers.

use super::Session;
use crate::engine::Work;
use crate::error::{Error, Invalid};
use crate::store::ApiKey;
use ledger::Command;
use sha2::{Digest, Sha256};
use units::{AccountId, Subject, SubjectKind};

/// The account of a subject, or `None` if it is nobody's. The subject of a token that Envoy verified is somebody:
/// its account is opened, under its own name where that can be a name.
///
/// # Errors
/// [`Error::Store`].
pub fn resolve(session: &mut Session<'_, '_, '_>, subject: &Subject) -> Result<Option<AccountId>, Error> {
    if let Some(account) = known_account(session.work, subject)? {
        return Ok(Some(account));
    }
    if subject.kind != SubjectKind::JwtSub {
        return Ok(None);
    }
    let account = own_account(&subject.value)?;
    open_if_new(session, &account)?;
    session.work.store.bind_subject(subject, &account, session.work.now)?;
    Ok(Some(account))
}

/// Who asks, and whose credits are spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    /// The account of the subject.
    pub(super) account: AccountId,
    /// The pool that it is in, else the account itself.
    pub(super) payer: AccountId,
}

/// The account of a subject and who pays for it, or `None` if it is nobody's.
///
/// # Errors
/// [`Error::Store`].
pub(super) fn asker(session: &mut Session<'_, '_, '_>, subject: &Subject) -> Result<Option<Asker>, Error> {
    let Some(account) = resolve(session, subject)? else { return Ok(None) };
    let payer = payer(session.work, &account)?;
    Ok(Some(Asker { account, payer }))
}

/// Whose credits an account spends.
///
/// # Errors
/// [`Error::Store`].
pub(super) fn payer(work: &mut Work<'_>, account: &AccountId) -> Result<AccountId, Error> {
    Ok(work.store.pool_of(account)?.unwrap_or_else(|| account.clone()))
}

/// The account of a subject that is known already; nothing is opened.
///
/// # Errors
/// [`Error::Store`].
pub fn known_account(work: &mut Work<'_>, subject: &Subject) -> Result<Option<AccountId>, Error> {
    if subject.kind == SubjectKind::ApiKeySha256 {
        let key = work.store.api_key(&subject.value)?;
        if let Some(key) = key {
            return Ok(key.revoked_at.is_none().then_some(key.account));
        }
    }
    work.store.account_of_subject(subject)
}

/// Who pays for the owner of a key, though it may be revoked; `None` if there is no such key.
///
/// # Errors
/// [`Error::Store`].
pub(super) fn payer_of_key(work: &mut Work<'_>, subject: &Subject) -> Result<Option<AccountId>, Error> {
    if subject.kind != SubjectKind::ApiKeySha256 {
        return Ok(None);
    }
    let Some(key) = work.store.api_key(&subject.value)? else { return Ok(None) };
    payer(work, &key.account).map(Some)
}

/// Opens an account unless it is there; true if it was opened.
///
/// # Errors
/// [`Error::Store`].
pub fn open_if_new(session: &mut Session<'_, '_, '_>, account: &AccountId) -> Result<bool, Error> {
    match session.book(account) {
        Ok(_) => Ok(false),
        Err(Error::Invalid(Invalid::NotFound, _)) => session.open(account).map(|()| true),
        Err(error) => Err(error),
    }
}

/// The account that an integrator names in Stripe's metadata: by its id, or by the subject of its tokens.
///
/// # Errors
/// [`Error::Store`].
pub fn account_named(session: &mut Session<'_, '_, '_>, name: &str) -> Result<AccountId, Error> {
    let account = own_account(name)?;
    match session.book(&account) {
        Ok(_) => return Ok(account),
        Err(Error::Invalid(Invalid::NotFound, _)) => {}
        Err(error) => return Err(error),
    }
    let Ok(subject) = Subject::new(SubjectKind::JwtSub, name) else { return Ok(account) };
    Ok(session.work.store.account_of_subject(&subject)?.unwrap_or(account))
}

/// A subject is its own account's id; one that cannot be an id (blanks, letters beyond ASCII) is named by its digest.
fn own_account(subject: &str) -> Result<AccountId, Error> {
    AccountId::new(subject)
        .or_else(|_| AccountId::new(format!("sub_{}", hex(&Sha256::digest(subject)))))
        .map_err(|error| Error::Bug(format!("a digest is no account: {error}")))
}

/// Keeps a new key of an account.
///
/// # Errors
/// [`Invalid::NotFound`] if there is no such account.
pub fn new_api_key(
    session: &mut Session<'_, '_, '_>,
    account: &AccountId,
    id: &str,
    key: &str,
) -> Result<(), Error> {
    session.book(account)?;
    session.work.store.put_api_key(&ApiKey {
        id: id.into(),
        sha256: hex(&Sha256::digest(key)),
        account: account.clone(),
        created_at: session.work.now,
        revoked_at: None,
    })
}

/// Does a key that was made again from what is kept of it open anything still?
///
/// # Errors
/// [`Invalid::Conflict`] if it was revoked, or if it was made with another secret, and so is nobody's.
pub fn check_api_key(work: &mut Work<'_>, key: &str) -> Result<(), Error> {
    let why = match work.store.api_key(&hex(&Sha256::digest(key)))? {
        Some(ApiKey { revoked_at: None, .. }) => return Ok(()),
        Some(ApiKey { id, .. }) => format!("The API key {id} was made with this Idempotency-Key, and is revoked."),
        None => "An API key was made with this Idempotency-Key before the admin token was replaced, and cannot be shown \
            again."
            .to_owned(),
    };
    Err(Invalid::Conflict.because(format!("{why} Make another with a new one.")))
}

/// Revokes a key. Doing it again tells gateways once more, and changes nothing else.
///
/// # Errors
/// [`Invalid::NotFound`] if there is no such key.
pub fn revoke_api_key(session: &mut Session<'_, '_, '_>, id: &str) -> Result<(), Error> {
    let now = session.work.now;
    let Some(account) = session.work.store.revoke_api_key(id, now)? else {
        return Err(Invalid::NotFound.because(format!("There is no API key {id}.")));
    };
    // Gateways let a key through by what they remember of it, and remember by who pays.
    let payer = payer(session.work, &account)?;
    session.step(&payer, &Command::Announce).map(drop)
}

/// Is it a SHA-256 as [`hex`] writes it?
pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
