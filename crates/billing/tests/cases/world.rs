//! One billing service without HTTP and threads, on either store, and what is seen of it from outside.

use super::audit;
use billing::catalog::Catalog;
use billing::config::Config;
use billing::engine::Work;
use billing::error::{Error, Invalid};
use billing::service::{self, Authz, NewAccount, NewGrant, Session, Setup};
use billing::store::{EventStatus, Memory, Page, Sqlite, Store};
use contract::v1::{NeedDecision, Sync};
use ledger::{JournalKind, Source};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tempfile::TempDir;
use units::{AccountId, EndpointId, Instant, NodeName};

pub(crate) struct World {
    store: Box<dyn Store>,
    setup: Setup,
    pub(crate) now: Instant,
    /// Requests so far: no two have one id.
    requests: u64,
    syncs: u64,
    _dir: Option<TempDir>,
}

/// A service that sells this, with every setting as it is shipped.
pub(crate) fn setup(catalog: Catalog) -> Setup {
    let config = Config::read(|name| match name {
        // Only looked at: the stores are opened by the tests themselves.
        "DATABASE_URL" => Some(format!("sqlite://{}", std::env::temp_dir().join("cases.db").display())),
        "STRIPE_WEBHOOK_SECRET" => Some("whsec_secret_of_tests".into()),
        "ADMIN_TOKEN" | "GATEWAY_TOKEN" => Some(format!("{name}-of-tests")),
        _ => None,
    });
    Setup::new(&config.unwrap_or_else(|no| panic!("{no}")), catalog)
}

fn name(text: &str) -> AccountId {
    AccountId::new(text).unwrap()
}

impl World {
    pub(crate) fn in_memory(setup: Setup, now: Instant) -> Self {
        Self { store: Box::<Memory>::default(), setup, now, requests: 0, syncs: 0, _dir: None }
    }

    /// One transaction for all of it, as a writer takes many commands into one: what is tested is what SQLite keeps.
    pub(crate) fn in_sqlite(setup: Setup, now: Instant) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Sqlite::open(&dir.path().join("billing.db")).unwrap();
        billing::store::Transaction::begin(&mut store).unwrap();
        Self { store: Box::new(store), _dir: Some(dir), ..Self::in_memory(setup, now) }
    }

    /// One command: kept, or undone. The savepoint of one that is to be kept is spared, for it takes longer than the
    /// command; one that fails has to end the test.
    fn work<T>(
        &mut self,
        run: impl FnOnce(&mut Work<'_>, &Setup) -> Result<T, Error>,
        keep: bool,
    ) -> Result<T, Error> {
        let (mut notes, mut counts) = (Vec::new(), Vec::new());
        if !keep {
            self.store.savepoint()?;
        }
        let mut work =
            Work { store: &mut *self.store, now: self.now, notes: &mut notes, counts: &mut counts };
        let done = run(&mut work, &self.setup);
        if !keep {
            self.store.rollback_to()?;
        }
        done
    }

    pub(crate) fn deliver(&mut self, event: &Value) -> Result<(), String> {
        let body = event.to_string();
        let event = webhook::Event::read(body.as_bytes()).unwrap();
        let taken = self.work(|work, setup| billing::stripe::take(work, setup, &event, body), true);
        taken.map(drop).map_err(|error| format!("{} {}: {error:?}", event.id, event.kind))
    }

    pub(crate) fn bind(&mut self, account: &str, customer: &str) -> Result<(), String> {
        let (id, stripe_customer) = (name(account), Some(customer.to_owned()));
        let new: NewAccount =
            serde_json::from_value(json!({"id": id, "stripe_customer": stripe_customer})).unwrap();
        let done = self.work(|work, setup| service::open_account(work, setup, &new), true);
        done.map(drop).map_err(|error| format!("{error:?}"))
    }

    /// What time alone brings about.
    pub(crate) fn sweep(&mut self) -> Result<(), String> {
        let done = (|| {
            loop {
                let (due, more) = self.work(|work, _| service::due(work), true)?;
                for account in due {
                    self.work(|work, setup| service::settle(work, setup, &account), true)?;
                }
                if !more {
                    return Ok(());
                }
            }
        })();
        done.map_err(|error: Error| format!("sweep: {error:?}"))
    }

    /// A request that is charged at once; `ok` or the reason of the refusal. Only asked, it leaves nothing behind.
    pub(crate) fn request(&mut self, account: &str, endpoint: &str, keep: bool) -> Result<String, String> {
        self.requests += 1;
        let (account, key) = (name(account), format!("tgk_{account}"));
        let digest: String = Sha256::digest(&key).iter().map(|byte| format!("{byte:02x}")).collect();
        let asked = Authz {
            node: NodeName::new("cases").unwrap(),
            incarnation: 1,
            id: self.requests,
            key: key.clone(),
            endpoint: EndpointId::new(endpoint).unwrap(),
        };
        let done = self.work(
            |work, setup| {
                let mut session = Session::new(work, setup)?;
                service::open_if_new(&mut session, &account)?;
                if session.work.store.api_key(&digest)?.is_none() {
                    service::new_api_key(&mut session, &account, &format!("key_{account}"), &key)?;
                }
                service::charge_at_once(work, setup, asked)
            },
            keep,
        );
        let done = done.map_err(|error| format!("{error:?}"))?;
        Ok(done.map_or_else(|refusal| refusal.reason.as_str().to_owned(), |_| "ok".to_owned()))
    }

    /// A need that holds, and says which cells.
    pub(crate) fn hold(&mut self, account: &str, endpoint: &str, id: u64) -> Result<NeedDecision, String> {
        let need = json!({
            "id": id, "subject": {"kind": "jwt_sub", "value": account}, "endpoint": endpoint,
            "mode": "hold", "shape": {"kind": "fixed"}, "wait_ms": 0,
        });
        let answer = self.sync(&json!({"needs": [need]}))?;
        Ok(answer.needs.into_iter().next().unwrap().decision)
    }

    pub(crate) fn sync(&mut self, parts: &Value) -> Result<contract::v1::SyncAnswer, String> {
        self.syncs += 1;
        let mut sync = json!({
            "node": "gateway-1", "incarnation": 1, "worker": 1, "sent_seq": self.syncs, "cells": [], "needs": [],
            "abandoned": [], "usage": [], "draining": false,
        });
        for (key, value) in parts.as_object().unwrap() {
            sync[key] = value.clone();
        }
        let sync: Sync = serde_json::from_value(sync).unwrap();
        self.work(|work, setup| service::sync(work, setup, &sync), true).map_err(|error| format!("{error:?}"))
    }

    /// Everything that is to be the same whatever the order was: numbers of grants and epochs are not, nor by which of
    /// two like events something is known.
    pub(crate) fn state(&mut self) -> Result<Value, String> {
        let now = self.now;
        let run = |work: &mut Work<'_>, setup: &Setup| {
            let mut state = BTreeMap::new();
            for id in accounts(work)? {
                let all = granted(work, &id)?;
                let mut session = Session::looking(work, setup)?;
                for grant in all {
                    session.want(&id, ledger::Rows::Grant(grant));
                }
                let book = session.book(&id)?.clone();
                book.check().map_err(|bug| Error::Bug(bug.to_string()))?;
                let mut subscriptions = serde_json::to_value(session.work.store.subscriptions(&id)?).unwrap();
                for known in subscriptions.as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
                    for snapshot in ["/latest/event", "/planned/event"] {
                        known.pointer_mut(snapshot).into_iter().for_each(|event| *event = Value::Null);
                    }
                }
                let grant = |it: &ledger::Grant| {
                    let parts =
                        [it.terms.amount, it.avail, it.leased, it.used, it.clawed].map(units::Amount::get);
                    json!({"of": it.terms.source_ref, "parts": parts, "ends": it.terms.expires_at})
                };
                // What was taken back before any of it was used might as well never have been granted.
                let there = book.grants.values().filter(|it| it.voided < it.terms.amount);
                let mut grants: Vec<String> = there.map(|it| grant(it).to_string()).collect();
                grants.sort();
                let balance = book.balance(now).map_err(|bug| Error::Bug(bug.to_string()))?;
                let standing = format!("{:?}", book.account.standing);
                let all = json!({"standing": standing, "balance": balance.shown(), "grants": grants, "subscriptions": subscriptions});
                state.insert(id.to_string(), all);
            }
            Ok(serde_json::to_value(state).unwrap())
        };
        self.work(run, false).map_err(|error| format!("{error:?}"))
    }

    /// Whether the journal alone gives every part of every grant, and the debt.
    pub(crate) fn audit(&mut self) -> Result<(), String> {
        let run = |work: &mut Work<'_>, _: &Setup| {
            for id in accounts(work)? {
                let rows: Vec<_> = granted(work, &id)?.into_iter().map(ledger::Rows::Grant).collect();
                let Some(book) = work.store.load(&id, &rows, work.now)? else { continue };
                let page = Page { before: None, limit: u32::MAX };
                let told =
                    audit::rebuild(work.store.journal(Some(&id), page)?.into_iter().map(|entry| entry.row));
                let kept = audit::kept(&book);
                if told != kept {
                    return Err(Error::Bug(format!("the journal of {id} says {told:?}, its book {kept:?}")));
                }
            }
            Ok(())
        };
        self.work(run, false).map_err(|error| format!("{error:?}"))
    }

    /// Credits from an operator, once per name of the gift; the balance after it.
    pub(crate) fn grant(&mut self, account: &str, credits: u64, gift: &str) -> Result<i64, String> {
        let new = NewGrant { account: name(account), credits: credits.into(), note: String::new() };
        let done = self.work(|work, setup| service::grant(work, setup, &new, gift), true);
        done.map(|granted| granted.balance_micro).map_err(|error| format!("{error:?}"))
    }

    /// What operators are shown of an account; `None` if there is none.
    pub(crate) fn account(&mut self, account: &str) -> Result<Option<Value>, String> {
        let id = name(account);
        match self.work(|work, setup| service::account(work, setup, &id), false) {
            Ok(view) => Ok(Some(serde_json::to_value(view).unwrap())),
            Err(Error::Invalid(Invalid::NotFound, _)) => Ok(None),
            Err(error) => Err(format!("{error:?}")),
        }
    }

    /// Micro-credits that plans ever granted to an account, whatever is left of it.
    pub(crate) fn granted(&mut self, account: &str) -> Result<i64, String> {
        let id = name(account);
        let run = |work: &mut Work<'_>, _: &Setup| {
            let rows: Vec<_> = granted(work, &id)?.into_iter().map(ledger::Rows::Grant).collect();
            let book = work.store.load(&id, &rows, work.now)?;
            let grants = book.iter().flat_map(|book| book.grants.values());
            let plans = grants.filter(|grant| grant.terms.source == Source::Subscription);
            Ok(plans.map(|grant| grant.terms.amount.get()).sum())
        };
        self.work(run, false).map_err(|error| format!("{error:?}"))
    }

    /// What became of every event, and why, by id.
    pub(crate) fn events(&mut self) -> Result<BTreeMap<String, (EventStatus, String)>, String> {
        let page = Page { before: None, limit: u32::MAX };
        let events =
            self.work(|work, _| work.store.events(None, page), false).map_err(|e| format!("{e:?}"))?;
        let all = events.into_iter().map(|it| (it.row.key.id.to_string(), (it.row.status, it.row.detail)));
        Ok(all.collect())
    }
}

/// Every grant that an account ever had.
fn granted(work: &mut Work<'_>, account: &AccountId) -> Result<Vec<ledger::GrantId>, Error> {
    let journal = work.store.journal(Some(account), Page { before: None, limit: u32::MAX })?;
    let granted = journal.into_iter().map(|entry| entry.row).filter(|row| row.kind == JournalKind::Granted);
    Ok(granted.filter_map(|row| row.grant).collect())
}

/// Whoever an event was applied to.
fn accounts(work: &mut Work<'_>) -> Result<std::collections::BTreeSet<AccountId>, Error> {
    let events = work.store.events(None, Page { before: None, limit: u32::MAX })?;
    Ok(events.into_iter().filter_map(|event| event.row.to).collect())
}
