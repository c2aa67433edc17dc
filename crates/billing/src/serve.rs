//! Starts the service and ends it: port, database, threads, timers, signals. The rim; it knows the clock.

use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::complaint::Complaints;
use crate::config::{Config, Database};
use crate::engine::{Engine, Rim, Threads};
use crate::error::Error;
use crate::http::{App, Fail, Parts, router};
use crate::metrics::Metrics;
use crate::notes::Notes;
use crate::outbox::Sender;
use crate::service::{self, Setup};
use crate::store::{Memory, Sqlite, Store, private};
use axum::serve::ListenerExt;
use std::fs::{File, TryLockError};
use std::future::IntoFuture;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use webhook::Secret;

/// How long calls that are being answered may take once the service ends.
const ENDING: Duration = Duration::from_secs(5);
/// How often the outbox is looked into.
const SENDING: Duration = Duration::from_secs(1);
/// Seconds by which a clock may be set back without a word.
const CLOCK_BEHIND_MAX: u64 = 5;
/// Rounds of one sweep; what is left over waits for the next tick.
const SWEEP_ROUNDS_MAX: u32 = 50;
/// Connections that read the database.
const READERS: usize = 2;

/// A service that runs.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// The inside, for tests.
    pub app: App,
    ending: watch::Sender<bool>,
    serving: JoinHandle<io::Result<()>>,
    sweeping: JoinHandle<()>,
    sending: Option<(JoinHandle<()>, Arc<Sender>)>,
    threads: Threads,
    _lock: Option<File>,
}

/// Why a service could not start.
#[derive(Debug)]
pub enum StartError {
    /// Settings or catalog are wrong.
    Complaints(Complaints),
    /// Something outside of it failed; what, and what to do.
    Outside(String),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Complaints(complaints) => write!(f, "this has to be mended first:\n{complaints}"),
            Self::Outside(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for StartError {}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::Outside(error.to_string())
    }
}

/// Reads settings and catalog; complaints of both at once.
///
/// # Errors
/// [`StartError::Complaints`].
pub fn configure(get: impl Fn(&str) -> Option<String>) -> Result<(Config, Catalog), StartError> {
    let path = get("CATALOG");
    let config = Config::read(get);
    let path = config.as_ref().map_or_else(
        |_| path.unwrap_or_else(|| "catalogs/demo.yaml".into()),
        |config| config.catalog.display().to_string(),
    );
    match (config, read_catalog(Path::new(&path))) {
        (Ok(config), Ok(catalog)) => Ok((config, catalog)),
        (config, catalog) => {
            let mut all = config.err().unwrap_or_default();
            for mut no in catalog.err().unwrap_or_default().0 {
                no.path = format!("{path}: {}", no.path);
                all.0.push(no);
            }
            Err(StartError::Complaints(all))
        }
    }
}

/// Reads a catalog from a file.
///
/// # Errors
/// Every complaint.
pub fn read_catalog(path: &Path) -> Result<Catalog, Complaints> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let mut no = Complaints::default();
        no.add("CATALOG", path.display(), format!("it cannot be read ({error}); give the path of a catalog"));
        no
    })?;
    Catalog::from_yaml(&text)
}

/// Starts it.
///
/// # Errors
/// [`StartError`] with everything that has to be mended.
pub async fn start(config: Config, catalog: Catalog, clock: Clock) -> Result<Running, StartError> {
    let secrets =
        config.webhook_secrets.iter().map(|secret| Secret::new(secret)).collect::<Result<Vec<_>, _>>();
    let secrets = secrets.map_err(|error| StartError::Outside(format!("STRIPE_WEBHOOK_SECRET {error}")))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, config.port));
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| {
        StartError::Outside(format!("cannot listen on {address}: {error}; choose another BILLING_PORT"))
    })?;
    let address = listener.local_addr().map_err(|error| StartError::Outside(error.to_string()))?;
    let (lock, store, readers) = open(&config.database)?;
    let (metrics, notes) = (Arc::new(Metrics::default()), Arc::new(Notes::new(clock.now())));
    let rim = Rim { clock: clock.clone(), metrics: Arc::clone(&metrics), notes: Arc::clone(&notes) };
    let (engine, threads) = Engine::start(store, readers, rim)?;
    let setup = Arc::new(Setup::new(&config, catalog));
    note_catalog(&engine, &setup).await?;
    // A restart is no silence of Stripe's.
    let last = engine.read(|work| work.store.last_event_at()).await?;
    metrics.set(
        "tollgate_billing_last_event_seconds",
        last.map_or(0, |at| u64::try_from(at.secs()).unwrap_or(0)),
    );
    let (ending, on_end) = watch::channel(false);
    let tick = Duration::from_millis(config.lease_ttl.part(4).millis().clamp(20, 1_000));
    let parts = Parts { engine, config, secrets, setup, clock, metrics, notes, ending: on_end.clone() };
    let app = App(Arc::new(parts));
    let sweeping = tokio::spawn(sweep_until(app.clone(), tick, on_end.clone()));
    let sending = app.config.outbox.clone().map(|target| {
        let (sender, app, on_end) = (Arc::new(Sender::new(target)), app.clone(), on_end.clone());
        let task = Arc::clone(&sender);
        (tokio::spawn(async move { task.send_until(&app, SENDING, on_end).await }), sender)
    });
    let serving = tokio::spawn(serve(listener, app.clone(), on_end));
    Ok(Running { address, app, ending, serving, sweeping, sending, threads, _lock: lock })
}

type Opened = (Option<File>, Box<dyn Store>, Vec<Box<dyn Store>>);

fn open(database: &Database) -> Result<Opened, StartError> {
    let Database::Sqlite(path) = database else {
        return Ok((None, Box::<Memory>::default(), Vec::new()));
    };
    let lock_path = path.with_added_extension("lock");
    let shown = path.display();
    let outside = |error: io::Error| StartError::Outside(format!("{}: {error}", lock_path.display()));
    let lock = private(&mut File::options()).create(true).truncate(false).write(true).open(&lock_path);
    let lock = lock.map_err(outside)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let what =
                format!("another tollgate-billing serves {shown}; stop it, or give another DATABASE_URL");
            return Err(StartError::Outside(what));
        }
        Err(TryLockError::Error(error)) => return Err(outside(error)),
    }
    let at = |error: Error| StartError::Outside(format!("{shown}: {error}"));
    let store = Sqlite::open(path).map_err(at)?;
    let readers =
        (0..READERS).map(|_| Sqlite::open_for_reading(path).map(|store| Box::new(store) as Box<dyn Store>));
    let readers = readers.collect::<Result<_, _>>().map_err(at)?;
    Ok((Some(lock), Box::new(store), readers))
}

/// Where the catalog is another than last time, every standing is computed anew when it is next looked at.
async fn note_catalog(engine: &Engine, setup: &Arc<Setup>) -> Result<(), Error> {
    let policy = format!("{:?}", setup.policy);
    engine
        .write(move |work| {
            if work.store.meta("policy")?.as_ref() != Some(&policy) {
                work.store.stale_standings(work.now)?;
                work.store.put_meta("policy", &policy)?;
            }
            Ok(())
        })
        .await
}

async fn serve(listener: TcpListener, app: App, mut ending: watch::Receiver<bool>) -> io::Result<()> {
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
    });
    let mut late = ending.clone();
    let end = async move {
        let _ = ending.wait_for(|ending| *ending).await;
    };
    let serving = axum::serve(listener, router(app)).with_graceful_shutdown(end).into_future();
    tokio::select! {
        result = serving => result,
        () = async {
            let _ = late.wait_for(|ending| *ending).await;
            tokio::time::sleep(ENDING).await;
        } => {
            tracing::warn!("calls were cut off, since the service ends");
            Ok(())
        }
    }
}

async fn sweep_until(app: App, tick: Duration, mut ending: watch::Receiver<bool>) {
    let mut timer = tokio::time::interval(tick);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stands_still = false;
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            _ = ending.wait_for(|ending| *ending) => return,
        }
        look_at_clock(&app, &mut stands_still);
        sweep_all(&app).await;
    }
}

/// Says so, once, when the machine's clock went back by more than a correction: time stands still for the ledger until it
/// catches up.
fn look_at_clock(app: &App, stands_still: &mut bool) {
    let behind = app.clock.behind_secs();
    app.metrics.set("tollgate_billing_clock_behind_seconds", behind);
    let is_far = behind > CLOCK_BEHIND_MAX;
    if is_far && !*stands_still {
        tracing::error!(
            behind,
            "the machine's clock was ahead, or went back: time stands still until it catches up"
        );
    }
    *stands_still = is_far;
}

/// Forgets what clients named too long ago. Bounded; the rest comes next time.
async fn forget_old_names(app: &App) -> Result<(), Fail> {
    for _ in 0..SWEEP_ROUNDS_MAX {
        if !app.read(service::has_old_names).await? {
            break;
        }
        app.write(service::forget_old_names).await?;
    }
    Ok(())
}

async fn sweep_all(app: &App) {
    if let Err(fail) = forget_old_names(app).await {
        tracing::error!(error = %fail.0, "old names of requests could not be forgotten");
    }
    let mut last = None;
    for _ in 0..SWEEP_ROUNDS_MAX {
        let (due, more) = match app.read(move |work, _| service::due_after(work, last.as_ref())).await {
            Ok(found) => found,
            Err(fail) => return tracing::error!(error = %fail.0, "a sweep failed"),
        };
        last = due.last().cloned();
        // Asked for together, so that they share a transaction.
        let mut settling = JoinSet::new();
        for account in due {
            let app = app.clone();
            settling.spawn(async move {
                let id = account.clone();
                let settled = app.write(move |work, setup| service::settle(work, setup, &account)).await;
                if let Err(fail) = settled {
                    tracing::error!(account = %id, error = %fail.0, "an account could not be settled");
                }
            });
        }
        while settling.join_next().await.is_some() {}
        if !more {
            return;
        }
    }
}

impl Running {
    /// Settles what is due now, instead of at the next tick.
    pub async fn sweep(&self) {
        sweep_all(&self.app).await;
    }

    /// Sends what is due to be told to others, instead of at the next tick.
    pub async fn send_outbox(&self) {
        if let Some((_, sender)) = &self.sending {
            sender.send(&self.app).await;
        }
    }

    /// Ends it: no new calls, those that run are answered, what is queued is written.
    ///
    /// # Errors
    /// What the listener says.
    pub async fn stop(self) -> io::Result<()> {
        let Self { app, ending, serving, sweeping, sending, threads, _lock, .. } = self;
        let _ = ending.send(true);
        let served = serving.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let _ = sweeping.await;
        if let Some((sending, _)) = sending {
            let _ = sending.await;
        }
        drop(app);
        // The threads end when the last way to them is gone; connections that were cut off drop theirs.
        let joined = tokio::task::spawn_blocking(move || threads.join());
        if tokio::time::timeout(ENDING, joined).await.is_err() {
            tracing::warn!("the ledger's threads did not end in time");
        }
        served
    }
}
