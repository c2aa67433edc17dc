//! The billing service's own code on its store in memory, without HTTP and threads.

use billing::catalog::Catalog;
use billing::engine::Work;
use billing::error::{Error, Invalid};
use billing::service::{self, NewGrant, Setup};
use billing::store::{Memory, Page, Store};
use contract::v1::{Hello, Note, PATH_HELLO, PATH_SYNC, Sync, WatchAnswer};
use gate::worker::CallResult;
use ledger::{CrashPolicy, GrantId, JournalKind, Rows, Timing};
use serde::Serialize;
use units::{AccountId, Instant, Span};

/// One endpoint of one credit, and one of a thousandth of that for each token; no free window.
const CATALOG: &str = "
version: 1
product: sim
currency: usd
default_tier: basic
identity: {account_keys: [user_id], package_keys: [package_id], trust_client_reference_id: true}
policies: {past_due_grace: 7d, on_cancel: period_end, while_collection_paused: allow}
tiers: {basic: {rank: 0}}
packages: {}
endpoints:
  chat: {cost: 1, tiers: all}
  tokens:
    tiers: all
    tokens:
      hold: 1
      output_min: 1
      unknown_model: refuse
      models: {m: {input: 1000, output: 1000, context: 5000, output_max: 400, output_usual: 50}}
";

/// One billing service.
pub struct Billing {
    store: Box<dyn Store>,
    setup: Setup,
    /// Syncs that it was sent.
    pub syncs: u64,
    /// What happened to accounts.
    notes: Vec<Note>,
}

/// What became of an account's credits, in micro-credits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Granted.
    pub amount: i64,
    /// Available.
    pub avail: i64,
    /// In cells.
    pub leased: i64,
    /// Charged.
    pub used: i64,
    /// Owed.
    pub debt: i64,
    /// Given back by the crash policy, although it may have been used.
    pub crash_refunded: i64,
    /// Charged by the crash policy, although it may not have been used.
    pub crash_charged: i64,
}

impl Billing {
    /// A service that knows nobody.
    #[must_use]
    pub fn new(ttl: Span, tail: Span, crash: CrashPolicy) -> Self {
        let catalog = Catalog::from_yaml(CATALOG).unwrap_or_else(|no| panic!("{no}"));
        let timing = Timing { ttl, grace: Span::from_millis(200), tail };
        let (policy, claim_ttl) = (catalog.policy(), Span::from_secs(30));
        let setup = Setup { catalog, policy, timing, crash, claim_ttl, tells: false };
        Self { store: Box::new(Memory::default()), setup, syncs: 0, notes: Vec::new() }
    }

    fn work<T>(
        &mut self,
        now: Instant,
        run: impl FnOnce(&mut Work<'_>, &Setup) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (mut notes, mut counts) = (Vec::new(), Vec::new());
        self.store.begin()?;
        let mut work = Work { store: &mut *self.store, now, notes: &mut notes, counts: &mut counts };
        let done = run(&mut work, &self.setup);
        match &done {
            Ok(_) => {
                self.store.commit()?;
                self.notes.extend(notes);
            }
            Err(Error::Bug(bug)) => panic!("bug: {bug}"),
            Err(_) => self.store.rollback(),
        }
        done
    }

    /// Opens an account for the JWT subject of the same name, and gives it credits.
    pub fn open(&mut self, account: &AccountId, credits: u64, now: Instant) {
        self.work(now, |work, setup| {
            let mut session = service::Session::new(work, setup)?;
            service::open_if_new(&mut session, account)?;
            let new = NewGrant { account: account.clone(), credits: credits.into(), note: String::new() };
            service::grant(work, setup, &new, "first")
        })
        .unwrap();
    }

    /// Opens an account for the JWT subject of the same name, which spends another's credits.
    pub fn join(&mut self, member: &AccountId, pool: &AccountId, now: Instant) {
        self.work(now, |work, setup| {
            service::open_if_new(&mut service::Session::new(work, setup)?, member)?;
            service::set_pool(work, setup, member, Some(pool))
        })
        .unwrap();
    }

    /// Stops an account, or lets it go on.
    pub fn suspend(&mut self, account: &AccountId, stop: bool, now: Instant) {
        self.work(now, |work, setup| service::suspend(work, setup, account, stop)).unwrap();
    }

    /// Answers a call.
    pub fn answer(&mut self, path: &str, body: &[u8], now: Instant) -> CallResult {
        match path {
            PATH_HELLO => {
                let hello: Hello = serde_json::from_slice(body).unwrap();
                respond(self.work(now, |work, setup| service::hello(work, setup, hello.node)))
            }
            PATH_SYNC => {
                self.syncs += 1;
                let sync: Sync = serde_json::from_slice(body).unwrap();
                respond(self.work(now, |work, setup| service::sync(work, setup, &sync)))
            }
            other => panic!("nobody should call {other}"),
        }
    }

    /// The answer to a poll, if there is anything to tell: positions begin at 1.
    pub fn watched(&self, after: u64) -> Option<CallResult> {
        let all = u64::try_from(self.notes.len()).unwrap() + 1;
        let known = usize::try_from(after.saturating_sub(1)).unwrap();
        (after != all).then(|| {
            let notes = if after == 0 { Vec::new() } else { self.notes[known..].to_vec() };
            respond(Ok(WatchAnswer { after: all, reset: after == 0, notes }))
        })
    }

    /// Settles what is due.
    pub fn sweep(&mut self, now: Instant) {
        loop {
            let (due, more) = self.work(now, |work, _| service::due(work)).unwrap();
            for account in due {
                self.work(now, |work, setup| service::settle(work, setup, &account)).unwrap();
            }
            if !more {
                return;
            }
        }
    }

    /// What became of an account's credits.
    pub fn totals(&mut self, account: &AccountId, now: Instant) -> Totals {
        self.work(now, |work, _| {
            let book = work.store.load(account, &[Rows::Grant(GrantId(1))], now)?.unwrap();
            let mut totals = Totals { debt: book.account.debt.get(), ..Totals::default() };
            for grant in book.grants.values() {
                totals.amount += grant.terms.amount.get();
                totals.avail += grant.avail.get();
                totals.leased += grant.leased.get();
                totals.used += grant.used.get();
            }
            for entry in work.store.journal(Some(account), Page { before: None, limit: u32::MAX })? {
                match entry.row.kind {
                    JournalKind::CrashRefunded => totals.crash_refunded += entry.row.amount.get(),
                    JournalKind::CrashCharged => totals.crash_charged += entry.row.amount.get(),
                    _ => {}
                }
            }
            Ok(totals)
        })
        .unwrap()
    }
}

fn respond(answer: Result<impl Serialize, Error>) -> CallResult {
    match answer {
        Ok(answer) => CallResult::Upstream { status: 200, body: Some(serde_json::to_vec(&answer).unwrap()) },
        // Overtaken by a later sync of the same worker, which has given it up.
        Err(Error::Invalid(Invalid::Conflict, _)) => CallResult::Upstream { status: 409, body: None },
        Err(Error::Invalid(invalid, why)) => panic!("a gateway asked wrongly: {invalid:?}: {why}"),
        Err(error) => panic!("{error:?}"),
    }
}
