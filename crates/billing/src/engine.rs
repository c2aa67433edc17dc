//! One thread writes: it takes commands from a channel, runs as many as wait in one transaction, and answers after the commit.
//!
//! Readers have threads and connections of their own and see only what is committed. What happens around a
//! command is decided here (savepoint, roll-back, answer), what happens in it is not.

use crate::clock::Clock;
use crate::error::Error;
use crate::metrics::{Metrics, PLAIN};
use crate::notes::Notes;
use crate::store::Store;
use contract::v1::Note;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};
use units::Instant;

/// Commands in one transaction at most: more would make the first wait for the last.
const BATCH_MAX: usize = 256;
/// Commands that may wait; beyond that callers are told to come back.
const QUEUE_MAX: usize = 8_192;

/// What a command works with.
pub struct Work<'a> {
    /// The ledger, inside a transaction.
    pub store: &'a mut dyn Store,
    /// When the transaction happens; never earlier than an earlier one.
    pub now: Instant,
    /// What gateways are told once it is committed.
    pub notes: &'a mut Vec<Note>,
    /// What is counted once it is committed.
    pub counts: &'a mut Vec<Count>,
}

/// Series, label, how many.
pub type Count = (&'static str, (&'static str, String), u64);

impl Work<'_> {
    /// Counts one more of a series once this is committed.
    pub fn count(&mut self, series: &'static str, label: &'static str, value: impl Into<String>) {
        self.counts.push((series, (label, value.into()), 1));
    }
}

/// A command on its way through a transaction.
trait Job: Send {
    /// Carries it out; false if it has to be rolled back.
    fn run(&mut self, work: &mut Work<'_>) -> bool;
    /// Answers whoever waits: with an error, or with its own result.
    fn answer(self: Box<Self>, fate: Result<(), Error>);
}

struct Command<T, F> {
    run: Option<F>,
    result: Option<Result<T, Error>>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T: Send, F: FnOnce(&mut Work<'_>) -> Result<T, Error> + Send> Job for Command<T, F> {
    fn run(&mut self, work: &mut Work<'_>) -> bool {
        self.result = self.run.take().map(|run| run(work));
        matches!(self.result, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, fate: Result<(), Error>) {
        let result = self.result.unwrap_or_else(|| Err(Error::Bug("a command that never ran".into())));
        // Whoever asked may have gone; what was done stays done.
        let _ = self.reply.send(fate.and(result));
    }
}

type Jobs = mpsc::Receiver<Box<dyn Job>>;

/// The way in; cheap to clone. The threads end when the last one is gone.
#[derive(Clone)]
pub struct Engine {
    write: mpsc::Sender<Box<dyn Job>>,
    read: mpsc::Sender<Box<dyn Job>>,
}

/// The threads, to be waited for after every [`Engine`] is gone.
pub struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Waits until what was queued is done.
    pub fn join(self) {
        for thread in self.0 {
            let _ = thread.join();
        }
    }
}

impl Engine {
    /// Starts the writer on `store`, and a reader on each of `readers`; without any, the writer reads too.
    ///
    /// # Errors
    /// [`Error::Store`] if the system gives no thread.
    pub fn start(
        store: Box<dyn Store>,
        readers: Vec<Box<dyn Store>>,
        rim: Rim,
    ) -> Result<(Self, Threads), Error> {
        let (write, mut jobs) = mpsc::channel(QUEUE_MAX);
        let writer = rim.clone();
        let mut threads =
            vec![spawn("writer", move || writer.work(store, true, |batch| take(&mut jobs, batch)))?];
        if readers.is_empty() {
            return Ok((Self { read: write.clone(), write }, Threads(threads)));
        }
        let (read, jobs) = mpsc::channel(QUEUE_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        for store in readers {
            let (jobs, reader) = (Arc::clone(&jobs), rim.clone());
            threads.push(spawn("reader", move || reader.work(store, false, |batch| take_one(&jobs, batch)))?);
        }
        Ok((Self { write, read }, Threads(threads)))
    }

    /// Carries out a command; the answer comes when it is durable.
    ///
    /// # Errors
    /// Its own, whereupon it was rolled back alone; [`Error::Store`] if the transaction failed.
    pub async fn write<T, F>(&self, run: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Work<'_>) -> Result<T, Error> + Send + 'static,
    {
        ask(&self.write, run).await
    }

    /// Asks about what is committed.
    ///
    /// # Errors
    /// Its own, or [`Error::Store`].
    pub async fn read<T, F>(&self, run: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Work<'_>) -> Result<T, Error> + Send + 'static,
    {
        ask(&self.read, run).await
    }
}

async fn ask<T, F>(to: &mpsc::Sender<Box<dyn Job>>, run: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce(&mut Work<'_>) -> Result<T, Error> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let job = Box::new(Command { run: Some(run), result: None, reply });
    to.try_send(job).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => Error::Busy,
        mpsc::error::TrySendError::Closed(_) => Error::Stopped,
    })?;
    answer.await.unwrap_or(Err(Error::Stopped))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let thread = std::thread::Builder::new().name(name.into());
    thread.spawn(run).map_err(|error| Error::Store(format!("no thread: {error}")))
}

/// The first command that comes, and whatever waits behind it.
fn take(jobs: &mut Jobs, batch: &mut Vec<Box<dyn Job>>) -> bool {
    batch.extend(jobs.blocking_recv());
    while batch.len() < BATCH_MAX
        && let Ok(job) = jobs.try_recv()
    {
        batch.push(job);
    }
    !batch.is_empty()
}

fn take_one(jobs: &Mutex<Jobs>, batch: &mut Vec<Box<dyn Job>>) -> bool {
    batch.extend(jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv());
    !batch.is_empty()
}

/// What surrounds the threads.
#[derive(Clone)]
pub struct Rim {
    /// What time it is.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What gateways are told.
    pub notes: Arc<Notes>,
}

impl Rim {
    fn work(
        self,
        mut store: Box<dyn Store>,
        writes: bool,
        mut next: impl FnMut(&mut Vec<Box<dyn Job>>) -> bool,
    ) {
        let mut batch = Vec::new();
        while next(&mut batch) {
            let now = self.clock.now();
            let fates = self.transact(store.as_mut(), writes, now, &mut batch);
            for (job, fate) in batch.drain(..).zip(fates) {
                job.answer(fate);
            }
        }
    }

    /// Runs a batch in one transaction; the fate of each of its commands.
    fn transact(
        &self,
        store: &mut dyn Store,
        writes: bool,
        now: Instant,
        batch: &mut [Box<dyn Job>],
    ) -> Vec<Result<(), Error>> {
        let (mut notes, mut counts) = (Vec::new(), Vec::new());
        let mut run = || {
            store.begin()?;
            let fates = batch.iter_mut().map(|job| {
                let mut work = Work { store, now, notes: &mut notes, counts: &mut counts };
                one(job.as_mut(), &mut work)
            });
            let fates = fates.collect::<Result<Vec<_>, Error>>()?;
            store.commit()?;
            Ok(fates)
        };
        match run() {
            Ok(fates) => {
                // A look changes nothing, and is no work of the disk's.
                if writes {
                    self.publish(notes, counts, fates.len());
                }
                fates
            }
            Err(error) => {
                store.rollback();
                tracing::error!(%error, commands = batch.len(), "transaction failed");
                self.metrics.one("tollgate_billing_errors_total", ("kind", "transaction"));
                batch.iter().map(|_| Err(Error::clone(&error))).collect()
            }
        }
    }

    fn publish(&self, notes: Vec<Note>, counts: Vec<Count>, commands: usize) {
        let commands = u64::try_from(commands).unwrap_or(u64::MAX);
        self.metrics.one("tollgate_billing_commits_total", PLAIN);
        self.metrics.add("tollgate_billing_commands_total", PLAIN, commands);
        self.metrics.set("tollgate_billing_batch_size", commands);
        for (series, (label, value), n) in counts {
            self.metrics.add(series, (label, &value), n);
        }
        self.notes.push(notes);
    }
}

/// Runs one command in a savepoint. The outer error means that the transaction itself is lost.
fn one(job: &mut dyn Job, work: &mut Work<'_>) -> Result<Result<(), Error>, Error> {
    let before = (work.notes.len(), work.counts.len());
    work.store.savepoint()?;
    let ran = catch_unwind(AssertUnwindSafe(|| job.run(work)));
    if matches!(ran, Ok(true)) {
        work.store.release()?;
        return Ok(Ok(()));
    }
    work.store.rollback_to()?;
    work.notes.truncate(before.0);
    work.counts.truncate(before.1);
    // A command that failed by itself carries its own error.
    Ok(ran.map(|_| ()).map_err(|_| Error::Bug("a command panicked".into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Invalid;
    use crate::store::{Memory, Sqlite};

    fn engine(store: Box<dyn Store>) -> (Engine, Threads, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::default());
        let clock = Clock::fake(Instant::from_secs(1_000));
        let notes = Arc::new(Notes::new(clock.now()));
        let (engine, threads) =
            Engine::start(store, Vec::new(), Rim { clock, metrics: Arc::clone(&metrics), notes }).unwrap();
        (engine, threads, metrics)
    }

    fn put(key: &'static str) -> impl FnOnce(&mut Work<'_>) -> Result<(), Error> + Send {
        move |work| work.store.put_meta(key, "here")
    }

    #[tokio::test]
    async fn a_command_that_fails_or_panics_is_undone_alone() {
        let dir = tempfile::tempdir().unwrap();
        let sqlite = || Box::new(Sqlite::open(&dir.path().join("x.db")).unwrap());
        for store in [Box::<Memory>::default() as Box<dyn Store>, sqlite()] {
            let (engine, _threads, metrics) = engine(store);
            let no = Invalid::Conflict.because("no");
            let refuse = no.clone();
            let failing = |work: &mut Work<'_>| {
                work.count("tollgate_billing_claims_total", "answer", "fresh");
                work.store.put_meta("failed", "here")?;
                Err::<(), _>(refuse)
            };
            let panicking = |work: &mut Work<'_>| -> Result<(), Error> {
                work.store.put_meta("panicked", "here")?;
                panic!("on purpose")
            };
            let (first, failed, panicked, last) = tokio::join!(
                engine.write(put("a")),
                engine.write(failing),
                engine.write(panicking),
                engine.write(put("b"))
            );
            assert_eq!((first, failed, last), (Ok(()), Err(no), Ok(())));
            assert!(matches!(panicked, Err(Error::Bug(_))));
            for (key, there) in [("a", true), ("b", true), ("failed", false), ("panicked", false)] {
                assert_eq!(
                    engine.read(move |work| work.store.meta(key)).await.unwrap().is_some(),
                    there,
                    "{key}"
                );
            }
            assert_eq!(metrics.get("tollgate_billing_claims_total", ("answer", "fresh")), 0);
        }
    }

    #[tokio::test]
    async fn what_waits_is_committed_together() {
        let (engine, threads, metrics) = engine(Box::<Memory>::default());
        let (entered, wait) = std::sync::mpsc::channel::<()>();
        let slow = tokio::spawn({
            let engine = engine.clone();
            async move {
                engine
                    .write(move |_| {
                        let _ = wait.recv();
                        Ok(())
                    })
                    .await
            }
        });
        tokio::task::yield_now().await;
        let many: Vec<_> = (0..10)
            .map(|_| {
                tokio::spawn({
                    let engine = engine.clone();
                    async move { engine.write(put("x")).await }
                })
            })
            .collect();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        entered.send(()).unwrap();
        slow.await.unwrap().unwrap();
        for one in many {
            one.await.unwrap().unwrap();
        }
        assert_eq!(metrics.get("tollgate_billing_commands_total", PLAIN), 11);
        assert!(metrics.get("tollgate_billing_commits_total", PLAIN) <= 3);
        drop(engine);
        threads.join();
    }

    #[tokio::test]
    async fn a_full_disk_is_told_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&dir.path().join("x.db")).unwrap();
        store.fill_up();
        let (engine, _threads, _) = engine(Box::new(store));
        let large = |work: &mut Work<'_>| {
            work.store.put_meta("small", "here")?;
            work.store.put_meta("large", &"x".repeat(1_000_000))
        };
        assert!(matches!(engine.write(large).await, Err(Error::Store(_))));
        assert_eq!(engine.read(|work| work.store.meta("small")).await, Ok(None));
        assert_eq!(engine.write(put("after")).await, Ok(()));
    }
}
