//! The billing service on its store in memory, with the demo's catalog, and books that anyone can add up.

use billing::catalog::Catalog;
use billing::engine::Work;
use billing::error::Error;
use billing::service::{self, NewGrant, Session, Setup};
use billing::store::{Memory, Page, Store};
use contract::v1::{Sync, SyncAnswer};
use ledger::{CrashPolicy, JournalKind, Rows, Timing};
use std::collections::{BTreeMap, BTreeSet};
use units::{AccountId, EventId, Instant, Span};

const DEMO: &str = include_str!("../../../catalogs/demo.yaml");

pub(crate) struct Till {
    store: Box<dyn Store>,
    pub(crate) setup: Setup,
    pub(crate) now: Instant,
}

/// What the journal says of one account, in micro-credits and requests alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) granted: i64,
    pub(crate) used: i64,
    pub(crate) debt: i64,
}

impl Till {
    pub(crate) fn new() -> Self {
        let catalog = Catalog::from_yaml(DEMO).unwrap_or_else(|no| panic!("{no}"));
        let span = Span::from_secs(30);
        let timing = Timing { ttl: span, grace: Span::from_millis(200), tail: span };
        let (policy, crash) = (catalog.policy(), CrashPolicy::Refund);
        let setup = Setup { catalog, policy, timing, crash, claim_ttl: span, tells: false };
        Self { store: Box::new(Memory::default()), setup, now: Instant::from_secs(1_795_176_000) }
    }

    /// Runs a command as the engine does. A bug, or an error of a store that cannot fail, is a finding.
    pub(crate) fn work<T>(
        &mut self,
        run: impl FnOnce(&mut Work<'_>, &Setup) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (mut notes, mut counts) = (Vec::new(), Vec::new());
        self.store.begin().unwrap();
        let mut work =
            Work { store: &mut *self.store, now: self.now, notes: &mut notes, counts: &mut counts };
        let done = run(&mut work, &self.setup);
        match &done {
            Ok(_) => self.store.commit().unwrap(),
            Err(Error::Invalid(..)) => self.store.rollback(),
            Err(error) => panic!("{error:?}"),
        }
        done
    }

    pub(crate) fn open(&mut self, name: &str, credits: u64) {
        let account = AccountId::new(name).unwrap();
        self.work(|work, setup| {
            let mut session = Session::new(work, setup)?;
            service::open_if_new(&mut session, &account)?;
            let new = NewGrant { account: account.clone(), credits: credits.into(), note: String::new() };
            service::grant(work, setup, &new, name)
        })
        .unwrap();
    }

    pub(crate) fn sync(&mut self, sync: &Sync) -> Result<SyncAnswer, Error> {
        self.work(|work, setup| service::sync(work, setup, sync))
    }

    /// Events that are not settled.
    pub(crate) fn open_events(&mut self) -> BTreeSet<EventId> {
        let page = Page { before: None, limit: u32::MAX };
        let rows = self.work(|work, _| work.store.events(None, page)).unwrap();
        rows.into_iter().filter(|it| it.row.status.is_open()).map(|it| it.row.key.id).collect()
    }

    pub(crate) fn sweep(&mut self) {
        loop {
            let (due, more) = self.work(|work, _| service::due(work)).unwrap();
            for account in due {
                self.work(|work, setup| service::settle(work, setup, &account)).unwrap();
            }
            if !more {
                return;
            }
        }
    }

    /// Adds up every book, and fails if one does not add up with itself or with the journal.
    pub(crate) fn audit(&mut self) -> BTreeMap<AccountId, Sums> {
        let now = self.now;
        self.work(|work, _| {
            let mut sums: BTreeMap<AccountId, Sums> = BTreeMap::new();
            let mut grants = BTreeSet::new();
            for line in work.store.journal(None, Page { before: None, limit: u32::MAX })? {
                let (row, sum) = (&line.row, sums.entry(line.row.account.clone()).or_default());
                grants.extend(row.grant.map(|grant| (row.account.clone(), grant)));
                match row.kind {
                    JournalKind::Granted => sum.granted += row.amount.get(),
                    JournalKind::Used
                    | JournalKind::CrashCharged
                    | JournalKind::LateCovered
                    | JournalKind::ShortCovered
                    | JournalKind::Repaid => sum.used += row.amount.get(),
                    JournalKind::DebtUp => sum.debt += row.amount.get(),
                    _ => {}
                }
                match row.kind {
                    JournalKind::Repaid | JournalKind::DebtDown => sum.debt -= row.amount.get(),
                    JournalKind::Recovered => sum.used -= row.amount.get(),
                    _ => {}
                }
            }
            let mut booked: BTreeMap<AccountId, Sums> = BTreeMap::new();
            for account in sums.keys() {
                let rows: Vec<Rows> = grants
                    .iter()
                    .filter(|(of, _)| of == account)
                    .map(|(_, grant)| Rows::Grant(*grant))
                    .collect();
                let book = work.store.load(account, &rows, now)?.expect("it is in the journal");
                let sum = booked.entry(account.clone()).or_default();
                sum.debt = book.account.debt.get();
                for grant in book.grants.values() {
                    let parts =
                        [grant.avail, grant.leased, grant.used, grant.expired, grant.voided, grant.clawed];
                    let parts: i64 = parts.into_iter().map(units::Amount::get).sum();
                    // What was clawed back is part of what was used.
                    let whole = grant.terms.amount.get();
                    assert!(parts - grant.clawed.get() == whole || parts == whole, "{grant:?}");
                    sum.granted += whole;
                    sum.used += grant.used.get();
                }
            }
            assert_eq!(booked, sums, "books and journal");
            Ok(sums)
        })
        .unwrap()
    }
}
