//! Several commands on several books in one transaction: each book is loaded once, and written after each step.

use super::Setup;
use super::tell::{news, watched};
use crate::engine::Work;
use crate::error::{Error, Invalid};
use crate::stripe::settle_invoice;
use contract::v1::{Note, NoteKind};
use ledger::subscription::{Standing, next_refill, over, refills, standing, undue};
use ledger::{
    Balance, Book, Changes, Command, Effect, GrantAnswer, Ids, Origin, Outcome, Reply, Rows, Shortfall,
    Source, Terms, Upto, Void, VoidTarget, step,
};
use std::collections::{BTreeMap, BTreeSet};
use units::{AccountId, Unit};

/// The books that are open.
pub struct Session<'s, 'w, 'e> {
    /// The transaction.
    pub work: &'w mut Work<'e>,
    /// How the service is set up.
    pub setup: &'s Setup,
    books: BTreeMap<AccountId, Book>,
    wanted: BTreeMap<AccountId, Vec<Rows>>,
    ids: Ids,
    keeps: bool,
}

impl<'s, 'w, 'e> Session<'s, 'w, 'e> {
    /// Opens none yet.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn new(work: &'w mut Work<'e>, setup: &'s Setup) -> Result<Self, Error> {
        let ids = Ids::from(work.store.next_grant()?);
        Ok(Self { work, setup, books: BTreeMap::new(), wanted: BTreeMap::new(), ids, keeps: true })
    }

    /// Opens none yet, and only to look: what its commands change is seen in this session and kept nowhere. So a view
    /// needs no writer, and is there when nothing can be written.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn looking(work: &'w mut Work<'e>, setup: &'s Setup) -> Result<Self, Error> {
        Ok(Self { keeps: false, ..Self::new(work, setup)? })
    }

    /// Closes every book: another session may have written them.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn renew(&mut self) -> Result<(), Error> {
        self.books.clear();
        self.ids = Ids::from(self.work.store.next_grant()?);
        Ok(())
    }

    /// Says beforehand which rows a later command on an account will need. A row that is missing is taken not to
    /// exist, so this has to be said before the account's first command.
    pub fn want(&mut self, account: &AccountId, rows: Rows) {
        if rows != Rows::Base {
            self.wanted.entry(account.clone()).or_default().push(rows);
        }
    }

    /// The book of an account, with a standing that holds now.
    ///
    /// # Errors
    /// [`Invalid::NotFound`] if there is no such account.
    pub fn book(&mut self, account: &AccountId) -> Result<&Book, Error> {
        let (now, fresh) = (self.work.now, !self.books.contains_key(account));
        if self.opened(account)?.account.standing.is_stale(now) && fresh {
            self.restand(account)?;
        }
        self.opened(account)
    }

    /// Opens an account that does not exist, on the catalog's default tier.
    ///
    /// # Errors
    /// [`Error::Bug`] if it does exist.
    pub fn open(&mut self, account: &AccountId) -> Result<(), Error> {
        let book = Book::open(account.clone(), Standing::none(self.setup.policy.default_tier.clone()));
        self.work.store.save(&book, &Changes { account: true, ..Changes::default() })?;
        self.books.insert(account.clone(), book);
        Ok(())
    }

    /// Carries out one command. Its rows are loaded with the book if this is the account's first command;
    /// otherwise they have to be wanted before it.
    ///
    /// # Errors
    /// [`Error::Bug`] from the ledger, whereupon nothing of this session may be kept.
    pub fn step(&mut self, account: &AccountId, command: &Command) -> Result<Reply, Error> {
        let loaded = self.books.contains_key(account);
        let missing = |wanted: &BTreeMap<AccountId, Vec<Rows>>, rows: &Rows| {
            *rows != Rows::Base && !wanted.get(account).is_some_and(|all| all.contains(rows))
        };
        let rows = command.rows();
        if missing(&self.wanted, &rows) {
            self.want(account, rows);
            if loaded {
                self.books.remove(account);
            }
        }
        self.book(account)?;
        self.apply(account, command)
    }

    /// General credits of an account.
    ///
    /// # Errors
    /// [`Error::Bug`] from the ledger.
    pub fn balance(&mut self, account: &AccountId) -> Result<Balance, Error> {
        let now = self.work.now;
        self.book(account)?.balance(now).map_err(|bug| Error::Bug(bug.to_string()))
    }

    /// Computes anew where an account stands, from what Stripe told and what time it is; what time brings a plan, it brings
    /// now, and what has to end with that ends.
    ///
    /// # Errors
    /// [`Error::Bug`] from the ledger.
    pub fn restand(&mut self, account: &AccountId) -> Result<(), Error> {
        let (now, policy) = (self.work.now, &self.setup.policy);
        let subscriptions = self.work.store.subscriptions(account)?;
        let mut payments = self.work.store.payments(account)?;
        let before = payments.clone();
        self.take_undue(account, &undue(&mut payments, &subscriptions))?;
        let refills = refills(&mut payments, &subscriptions, policy, now);
        let mut standing = standing(&subscriptions, &payments, policy, now);
        let next = next_refill(&payments, &subscriptions, policy, now);
        standing.changes_at = standing.changes_at.into_iter().chain(next).min();
        let (refilled, failed) = self.refill(account, refills)?;
        // What could not be granted is not kept as if it had been: the next time it is tried again.
        payments.0.values_mut().for_each(|paid| paid.0.retain(|origin, _| !failed.contains(origin)));
        for (id, paid) in payments.0.iter().filter(|(id, paid)| before.0.get(*id) != Some(paid)) {
            if self.keeps {
                self.work.store.put_paid(account, id, paid)?;
            }
        }
        for (id, total) in over(&payments, &self.opened(account)?.grants) {
            let (target, upto) = (VoidTarget::Grant(id), Upto::Total(total));
            // Every grant of which something is left is in the book.
            self.apply(account, &Command::Void(Void { target, upto, shortfall: Shortfall::WriteOff }))?;
        }
        self.apply(account, &Command::SetStanding(standing))?;
        // What was refunded of an invoice is taken off its later months too. (A mere look shows that a moment later.)
        let refunded = refilled.iter().filter(|_| self.keeps).cloned().collect::<Vec<_>>();
        refunded.iter().try_for_each(|invoice| settle_invoice(self, invoice))
    }

    /// Takes back what was paid for after the end.
    fn take_undue(&mut self, account: &AccountId, origins: &[String]) -> Result<(), Error> {
        let (unit, source) = (Unit::Credits, Source::Subscription);
        let origins: Vec<_> =
            origins.iter().map(|origin| Origin { unit, source, source_ref: origin.clone() }).collect();
        if !origins.is_empty() {
            origins.iter().for_each(|origin| self.want(account, Rows::Origin(origin.clone())));
            self.books.remove(account);
            self.opened(account)?;
        }
        for target in origins.into_iter().map(VoidTarget::Origin) {
            let void = Void { target, upto: Upto::All, shortfall: Shortfall::WriteOff };
            self.apply(account, &Command::Void(void))?;
        }
        Ok(())
    }

    /// Grants what time brought: the invoices that paid for it, and the origins of what could not be granted.
    fn refill(
        &mut self,
        account: &AccountId,
        refills: Vec<Terms>,
    ) -> Result<(BTreeSet<String>, BTreeSet<String>), Error> {
        let (mut invoices, mut failed) = (BTreeSet::new(), BTreeSet::new());
        if !refills.is_empty() {
            for terms in &refills {
                self.want(account, Rows::Origin(terms.origin()));
            }
            self.books.remove(account);
        }
        self.opened(account)?;
        for terms in refills {
            let origin = terms.source_ref.clone();
            let reply = self.apply(account, &Command::Grant(terms))?;
            if matches!(reply, Reply::Grant(GrantAnswer::Made { .. })) {
                invoices.extend(origin.split(':').nth(1).map(str::to_owned));
            }
            if !matches!(reply, Reply::Grant(GrantAnswer::Made { .. } | GrantAnswer::Known { .. })) {
                self.work.count("tollgate_billing_errors_total", "kind", "refill");
                tracing::error!(%account, origin, ?reply, "a refill could not be granted: look at the account");
                failed.insert(origin);
            }
        }
        Ok((invoices, failed))
    }

    /// The book of an account, whatever its standing.
    fn opened(&mut self, account: &AccountId) -> Result<&Book, Error> {
        if !self.books.contains_key(account) {
            let rows = self.wanted.get(account).map_or(&[][..], Vec::as_slice);
            let book = self.work.store.load(account, rows, self.work.now)?;
            let book =
                book.ok_or_else(|| Invalid::NotFound.because(format!("There is no account {account}.")))?;
            self.books.insert(account.clone(), book);
        }
        self.books.get(account).ok_or_else(|| Error::Bug(format!("the book of {account} is gone")))
    }

    fn apply(&mut self, account: &AccountId, command: &Command) -> Result<Reply, Error> {
        let book = self.books.get_mut(account);
        let book = book.ok_or_else(|| Error::Bug(format!("the book of {account} is not open")))?;
        let before = if self.keeps { watched(self.setup, book) } else { None };
        let outcome = step(book, &mut self.ids, self.work.now, command);
        let Outcome { reply, changes, effects } = outcome.map_err(|bug| Error::Bug(bug.to_string()))?;
        if !self.keeps {
            return Ok(reply);
        }
        if !changes.is_empty() {
            self.work.store.save(book, &changes)?;
            let told = news(self.setup, book, before, &changes.journal);
            told.into_iter().try_for_each(|(kind, data)| self.tell(account, kind, &data))?;
        }
        self.work.notes.extend(effects.into_iter().map(|Effect::Note { payer, epoch, kind }| {
            let kind = match kind {
                ledger::NoteKind::Changed => NoteKind::Changed,
                ledger::NoteKind::Recall => NoteKind::Recall,
                ledger::NoteKind::Replenished => NoteKind::Replenished,
                ledger::NoteKind::Suspended => NoteKind::Suspended,
            };
            Note { payer, epoch, kind }
        }));
        Ok(reply)
    }
}
