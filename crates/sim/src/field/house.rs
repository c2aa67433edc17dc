//! The billing service's own code on its store in memory, which can die before or after what it was doing is durable.

use super::plan::Plan;
use billing::catalog::Catalog;
use billing::engine::Work;
use billing::error::{Error, Invalid};
use billing::notes::Notes;
use billing::service::{self, NewGrant, Setup};
use billing::store::{ApiKey, Books as _, History as _, Memory, Page, Transaction as _};
use contract::v1::{
    CellKey, CellLease, Hello, NeedDecision, NeedMode, Note, PATH_HELLO, PATH_SYNC, Sync, SyncAnswer,
    WatchAnswer,
};
use gate::worker::CallResult;
use ledger::{
    Book, Cell, CellId, CellState, Command, Expire, Grant, GrantId, JournalEntry, Shortfall, Source,
    TakeBack, Terms, Timing, Upto, Void, VoidTarget,
};
use serde::Serialize;
use std::collections::BTreeMap;
use units::{AccountId, Amount, Instant, Span, Unit};

/// How much longer the ledger waits than a gateway.
const GRACE: Span = Span::from_millis(200);

/// One billing service.
pub(super) struct House {
    store: Memory,
    setup: Setup,
    notes: Notes,
    /// Of what happened, how much was taken out of the journal.
    read: u64,
    /// When it was last sure of something. Its clock never goes back.
    now: Instant,
}

/// What became of a call.
pub(super) struct Done {
    pub(super) result: CallResult,
    /// What a sync and its answer say; nothing, if it was none.
    pub(super) said: Said,
}

/// What a sync and its answer say of cells, and of who asked for leases.
#[derive(Clone, Default)]
pub(super) struct Said {
    pub(super) incarnation: u64,
    /// Whose leases and standing the answer speaks of.
    pub(super) payers: Vec<AccountId>,
    /// What was told: how much was admitted and finished.
    pub(super) told: Vec<(CellKey, i64, i64)>,
    /// What was answered: how much was granted, and until when from now it may be spent.
    pub(super) cells: Vec<(CellKey, i64, Option<Span>)>,
    /// Generations of holds that were asked for and not granted, perhaps not for the first time.
    pub(super) again: Vec<u64>,
    /// Of the cells, what was held for requests that had passed unpaid.
    pub(super) unpaid: Vec<CellKey>,
}

impl Said {
    fn of(sync: &Sync, answer: Option<&SyncAnswer>) -> Self {
        let told = sync.cells.iter().map(|cell| (cell.key, cell.admitted.get(), cell.finished.get()));
        let mut said = Self { incarnation: sync.incarnation, ..Self::default() };
        let Some(answer) = answer else { return said };
        said.payers.extend(answer.notes.iter().map(|note| note.payer.clone()));
        said.told = told.collect();
        let span = |ms: u64| (ms > 0).then_some(Span::from_millis(ms));
        said.cells.extend(answer.cells.iter().map(|cell| (cell.key, cell.granted.get(), span(cell.ttl_ms))));
        for (need, answered) in sync.needs.iter().zip(&answer.needs) {
            let lease = need.mode == NeedMode::Lease;
            if !lease && !matches!(answered.decision, NeedDecision::Ok { .. }) {
                said.again.push(u64::from(sync.worker) << 40 | need.id);
            }
            let lent = |cell: &CellLease| (cell.key, cell.granted.get(), span(cell.ttl_ms));
            match &answered.decision {
                NeedDecision::Ok { standing, cells, .. } => {
                    said.payers.push(standing.payer.clone());
                    said.cells.extend(cells.iter().map(lent));
                    said.unpaid.extend(cells.iter().filter(|_| need.served).map(|cell| cell.key));
                }
                NeedDecision::Refused { cells, .. } => {
                    said.cells.extend(cells.iter().map(lent));
                }
                NeedDecision::Retry { .. } => {}
            }
        }
        said
    }
}

/// One line of the journal, and whether it was written when a cell was settled whose time was over for good. What is taken
/// back before that, when it goes soft, is surely unspent.
pub(super) struct Line {
    pub(super) entry: JournalEntry,
    pub(super) settled: bool,
}

impl House {
    pub(super) fn new(plan: &Plan) -> Self {
        let catalog = Catalog::from_yaml(&plan.catalog()).unwrap_or_else(|no| panic!("{no}"));
        let timing = Timing { ttl: plan.ttl, grace: GRACE, tail: plan.tail };
        let (policy, claim_ttl) = (catalog.policy(), Span::from_secs(30));
        let setup = Setup { catalog, policy, timing, crash: plan.crash, claim_ttl, tells: false };
        let (notes, now) = (Notes::new(plan.start), plan.start);
        Self { store: Memory::default(), setup, notes, read: 0, now }
    }

    /// In one transaction; if it is not to be `kept`, billing dies before it is durable.
    fn work<T>(
        &mut self,
        now: Instant,
        kept: bool,
        run: impl FnOnce(&mut Work<'_>, &Setup) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.now = self.now.max(now);
        let (mut notes, mut counts) = (Vec::new(), Vec::new());
        if !kept {
            self.store.begin()?;
        }
        let mut work = Work { store: &mut self.store, now: self.now, notes: &mut notes, counts: &mut counts };
        let done = run(&mut work, &self.setup);
        if kept {
            // What fails has changed nothing before it did: see `answer`.
            self.notes.push(notes);
        } else {
            self.store.rollback();
        }
        done
    }

    fn must<T>(&mut self, now: Instant, run: impl FnOnce(&mut Work<'_>, &Setup) -> Result<T, Error>) -> T {
        self.work(now, true, run).unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// It starts anew, and has forgotten what is not on disk.
    pub(super) fn restart(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.notes = Notes::new(self.now);
    }

    /// What happened since this was asked for the last time.
    pub(super) fn lines(&mut self, soft: &BTreeMap<CellId, Cell>) -> Vec<Line> {
        let (mut lines, mut before) = (Vec::new(), None);
        loop {
            let page = self.store.journal(None, Page { before, limit: 16 }).unwrap();
            let full = page.len() == 16;
            let new: Vec<_> = page.into_iter().take_while(|stored| stored.seq > self.read).collect();
            let more = full && new.len() == 16;
            before = new.last().map(|stored| stored.seq);
            lines.extend(new);
            if !more {
                break;
            }
        }
        if let Some(newest) = lines.first() {
            self.read = newest.seq;
        }
        let settled = |entry: &JournalEntry| entry.cell.as_ref().is_some_and(|cell| soft.contains_key(cell));
        lines.into_iter().rev().map(|it| Line { settled: settled(&it.row), entry: it.row }).collect()
    }

    /// Opens an account with a key, and puts it into a pool.
    pub(super) fn open(&mut self, account: &AccountId, pool: Option<&AccountId>, key: &str, now: Instant) {
        self.must(now, |work, setup| {
            service::open_if_new(&mut service::Session::new(work, setup)?, account)?;
            let (id, sha256) = (key.to_owned(), key.to_owned());
            let key = ApiKey { id, sha256, account: account.clone(), created_at: now, revoked_at: None };
            work.store.put_api_key(&key)?;
            if pool.is_some() { service::set_pool(work, setup, account, pool).map(drop) } else { Ok(()) }
        });
    }

    /// A key that may be used from now on.
    pub(super) fn new_key(&mut self, account: &AccountId, key: &str, now: Instant) {
        self.open(account, None, key, now);
    }

    /// A key that may not be used any more.
    pub(super) fn revoke(&mut self, key: &str, now: Instant) {
        self.must(now, |work, setup| service::revoke_api_key(&mut service::Session::new(work, setup)?, key));
    }

    /// Credits that last.
    pub(super) fn top_up(&mut self, account: &AccountId, credits: u64, name: &str, now: Instant) {
        let new = NewGrant { account: account.clone(), credits: credits.into(), note: String::new() };
        self.must(now, |work, setup| service::grant(work, setup, &new, name));
    }

    /// Credits that end.
    pub(super) fn gift(
        &mut self,
        account: &AccountId,
        credits: u64,
        name: &str,
        ends: Instant,
        now: Instant,
    ) {
        let terms = Terms {
            unit: Unit::Credits,
            scope: String::new(),
            source: Source::Promo,
            source_ref: name.to_owned(),
            priority: 10,
            starts_at: now,
            expires_at: ends,
            amount: Amount::new(i64::try_from(credits).unwrap() * 1_000_000).unwrap(),
        };
        self.must(now, |work, setup| {
            service::Session::new(work, setup)?.step(account, &Command::Grant(terms)).map(drop)
        });
    }

    /// All that is left of a grant is taken back, and what was used of it is owed.
    pub(super) fn void(&mut self, account: &AccountId, grant: GrantId, now: Instant) {
        let void = Void { target: VoidTarget::Grant(grant), upto: Upto::All, shortfall: Shortfall::Debt };
        self.must(now, |work, setup| {
            service::Session::new(work, setup)?.step(account, &Command::Void(void)).map(drop)
        });
    }

    /// So much of a grant is the customer's no more, and so much is held until a dispute ends.
    pub(super) fn take_back(
        &mut self,
        account: &AccountId,
        grant: GrantId,
        (revoked, frozen): (Amount, Amount),
        now: Instant,
    ) {
        let target = VoidTarget::Grant(grant);
        let back = TakeBack { target, revoked, frozen, shortfall: Shortfall::Debt };
        self.must(now, |work, setup| {
            service::Session::new(work, setup)?.step(account, &Command::TakeBack(back)).map(drop)
        });
    }

    pub(super) fn suspend(&mut self, account: &AccountId, stop: bool, now: Instant) {
        self.must(now, |work, setup| service::suspend(work, setup, account, stop));
    }

    /// Answers a call; unless what it did is `kept`, billing dies before that is durable.
    pub(super) fn answer(&mut self, path: &str, body: &[u8], kept: bool, now: Instant) -> Done {
        match path {
            PATH_HELLO => {
                let hello: Hello = serde_json::from_slice(body).unwrap();
                let told = self.work(now, kept, |work, setup| service::hello(work, setup, hello.node));
                Done { result: respond(told), said: Said::default() }
            }
            PATH_SYNC => {
                let sync: Sync = serde_json::from_slice(body).unwrap();
                let told = self.work(now, kept, |work, setup| service::sync(work, setup, &sync));
                let said = Said::of(&sync, told.as_ref().ok());
                Done { result: respond(told), said }
            }
            other => panic!("nobody should call {other}"),
        }
    }

    /// What happened after a position, if anything did, or if nobody knows.
    pub(super) fn watched(&self, after: u64, drop: impl Fn(&Note) -> bool) -> Option<CallResult> {
        let mut told: WatchAnswer = self.notes.since(after);
        if told.after == after && !told.reset {
            return None;
        }
        told.notes.retain(|note| !drop(note));
        Some(respond(Ok(told)))
    }

    /// The answer to a poll that has lasted as long as it was to.
    pub(super) fn unheard(&self, after: u64) -> CallResult {
        respond(Ok(self.notes.since(after)))
    }

    /// Whose time has come.
    pub(super) fn due(&mut self, now: Instant) -> Vec<AccountId> {
        let before = self.now;
        let due = self.must(now, |work, _| service::due(work)).0;
        // Its own clock is not the one that a mutant asks by.
        self.now = before;
        due
    }

    /// Settles what is due of one account. Its cells that were soft before.
    pub(super) fn settle(
        &mut self,
        account: &AccountId,
        now: Instant,
        haste: Span,
    ) -> BTreeMap<CellId, Cell> {
        // As the service does, with what it counts left out.
        self.now = self.now.max(now);
        let before = self.now;
        let cells = self.book(account, now).cells.into_iter();
        let soft = cells.filter(|(_, cell)| cell.state == CellState::Soft).collect();
        self.must(before.plus(haste), |work, setup| {
            let expire = Expire { crash: setup.crash, shortfall: Shortfall::Debt };
            service::Session::new(work, setup)?.step(account, &Command::Expire(expire)).map(drop)
        });
        self.now = before;
        soft
    }

    /// In what a grant counts, until when, and so on.
    pub(super) fn terms(&mut self, grant: GrantId) -> Terms {
        self.store.terms_of_grant(grant).unwrap().unwrap()
    }

    /// The grants of an account of which something is left.
    pub(super) fn grants(&mut self, account: &AccountId) -> Vec<(GrantId, Grant)> {
        self.store.grants(account).unwrap()
    }

    /// The book of an account, as far as something is left in it.
    pub(super) fn book(&mut self, account: &AccountId, now: Instant) -> Book {
        let now = self.now.max(now);
        self.store.load(account, &[], now).unwrap().unwrap()
    }
}

fn respond(answer: Result<impl Serialize, Error>) -> CallResult {
    match answer {
        Ok(answer) => CallResult::Upstream { status: 200, body: Some(serde_json::to_vec(&answer).unwrap()) },
        // Overtaken by a later sync of the same worker, which has given it up. It is seen before anything is done.
        Err(Error::Invalid(Invalid::Conflict, _)) => CallResult::Upstream { status: 409, body: None },
        Err(Error::Invalid(invalid, why)) => panic!("a gateway asked wrongly: {invalid:?}: {why}"),
        Err(error) => panic!("{error:?}"),
    }
}
