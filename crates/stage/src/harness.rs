//! The whole on ports and in a folder of its own, for integration tests: `Stage::start`, requests, `stage.finish()`.
//!
//! A test that fails keeps its folder and says where. A test whose Envoy met a trap fails, whatever else it checked; so
//! does one after which a log holds a secret, a key, a token or a body.
#![allow(clippy::panic, reason = "a test's tool: what does not hold here is the test's failure")]

use crate::client::{Answer, Call, Client};
use crate::envoy_file::EnvoyFile;
use crate::leaks::{BODY_MARK, Leaks};
use crate::link::{Link, Road};
pub use crate::options::Options;
use crate::processes::{self, Process};
use crate::pushed::Pushed;
use crate::settings::Settings;
use crate::tools::{self, Tools};
use crate::upstream::Upstream;
use crate::{During as _, Result, Trouble, demo, run, stripe};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What cannot be a false alarm in Envoy's log: the words of a trap.
const TRAP: [&str; 2] = ["in-VM backtrace", "Uncaught RuntimeError"];
/// How long Envoy may take to take over a configuration; new VMs have to be made.
const PUSHED_WITHIN: Duration = Duration::from_secs(30);
/// How long [`eventually`] waits.
const EVENTUALLY: Duration = Duration::from_secs(10);

/// One Envoy and what the test needs to speak to it.
pub struct Gateway {
    /// Its ports, its name.
    pub settings: Settings,
    /// The process, to be killed or stopped by tests.
    pub envoy: Process,
    /// A pool of connections of its own.
    pub client: Client,
    /// Its way to the billing service, in a stage that is [`Options::linked`].
    pub link: Option<Link>,
    /// Where its listener is changed, in a stage that is [`Options::pushable`].
    pushed: Option<Pushed>,
    /// Traps are what the test is about.
    may_trap: bool,
}

/// Everything, on one machine, for one test.
pub struct Stage {
    /// The Envoy.
    pub gateway: Gateway,
    /// The billing service, unless the test plays it.
    pub billing: Option<Process>,
    /// The scripted upstream, inside this process.
    pub upstream: Upstream,
    tools: Tools,
    options: Options,
    writes: AtomicU64,
    folder: Option<TempDir>,
}

impl Stage {
    /// Starts everything on free ports, in a new folder.
    ///
    /// # Panics
    /// Something does not start.
    #[must_use]
    pub fn start(options: Options) -> Self {
        Self::try_start(options).unwrap_or_else(|trouble| panic!("{trouble}"))
    }

    /// Starts everything on free ports, in a new folder; for tests of what refuses to start.
    ///
    /// # Errors
    /// Something does not start; the error holds what it said.
    pub fn try_start(mut options: Options) -> Result<Self> {
        let root = tools::root()?;
        let mut tools = Tools::find(&root)?;
        tools.are_fresh()?;
        if let Some(envoy) = &options.envoy {
            tools.envoy.clone_from(envoy);
        }
        let folder = tempfile::Builder::new().prefix("tollgate-test-").tempdir().during("make a folder")?;
        if let Some(text) = &options.catalog {
            let path = folder.path().join("catalog.yaml");
            std::fs::write(&path, text).during("write the catalog")?;
            options.variables.push(("CATALOG".to_owned(), path.display().to_string()));
        }
        for equip in &options.equip {
            equip(&mut tools, folder.path())?;
        }
        tools.are_fresh()?;
        let settings = settings(&root, folder.path(), &options.variables, None)?;
        let upstream = Upstream::start(settings.upstream_port)?;
        let never = AtomicBool::new(false);
        let billing = if options.no_billing {
            None
        } else {
            Some(processes::billing(&settings, &tools, &options.variables, &never)?)
        };
        let gateway = Gateway::start(settings, &tools, &options, None)?;
        let writes = AtomicU64::new(0);
        Ok(Self { gateway, billing, upstream, tools, options, writes, folder: Some(folder) })
    }

    /// One more Envoy on the same billing service and upstream.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn another_gateway(&self) -> Gateway {
        let folder = self.folder.as_ref().map_or_else(|| Path::new("."), TempDir::path);
        settings(&self.settings().root, folder, &self.options.variables, Some(self.settings()))
            .and_then(|settings| Gateway::start(settings, &self.tools, &self.options, None))
            .unwrap_or_else(|trouble| panic!("{trouble}"))
    }

    /// Ends Envoy, if it has not ended yet, and starts it again on the same ports.
    ///
    /// # Panics
    /// It does not start.
    pub fn restart_envoy(&mut self) {
        let Self { gateway, tools, options, .. } = self;
        gateway.restart(tools, options);
    }

    /// The same with another gateway of this stage.
    ///
    /// # Panics
    /// It does not start.
    pub fn restart(&self, gateway: &mut Gateway) {
        gateway.restart(&self.tools, &self.options);
    }

    /// Ends the billing service, if it has not ended yet, and starts it again on the same database.
    ///
    /// # Panics
    /// It does not start.
    pub fn restart_billing(&mut self) {
        if let Some(mut billing) = self.billing.take() {
            billing.stop();
            assert_no_leaks(self.settings());
        }
        let never = AtomicBool::new(false);
        let billing = processes::billing(self.settings(), &self.tools, &self.options.variables, &never);
        self.billing = Some(billing.unwrap_or_else(|trouble| panic!("{trouble}")));
    }

    /// Ports, secrets and tokens.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.gateway.settings
    }

    /// A token of a customer, for `authorization: Bearer`.
    ///
    /// # Panics
    /// The billing service's command fails.
    #[must_use]
    pub fn token(&self, customer: &str) -> String {
        run::token(self.settings(), &self.tools, customer).unwrap_or_else(|trouble| panic!("{trouble}"))
    }

    /// Reads a document from the billing service's operators' side.
    ///
    /// # Panics
    /// The answer is not a success.
    pub async fn admin_get(&self, path: &str) -> Value {
        let call = Call::get(self.settings().billing(path)).bearer(&self.settings().admin_token);
        success(path, &self.gateway.send(call).await)
    }

    /// Writes one, with an idempotency key of its own.
    ///
    /// # Panics
    /// The answer is not a success.
    pub async fn admin_post(&self, path: &str, document: &Value) -> Value {
        let key = format!("test-{}-{}", std::process::id(), self.writes.fetch_add(1, Ordering::Relaxed));
        let call = Call::post(self.settings().billing(path)).bearer(&self.settings().admin_token);
        success(path, &self.gateway.send(call.header("idempotency-key", key).json(document)).await)
    }

    /// Opens an account for a customer who comes with a token, and grants credits.
    ///
    /// # Panics
    /// Either is refused.
    pub async fn account(&self, customer: &str, credits: u32) {
        let subject = json!({ "kind": "jwt_sub", "value": customer });
        self.admin_post("/admin/v1/accounts", &json!({ "id": customer, "subjects": [subject] })).await;
        if credits > 0 {
            let grant = json!({ "account": customer, "credits": credits, "note": "test" });
            self.admin_post("/admin/v1/grants", &grant).await;
        }
    }

    /// A customer's balance in credits, as an operator sees it.
    ///
    /// # Panics
    /// There is no such account.
    pub async fn balance(&self, customer: &str) -> String {
        let account = self.admin_get(&format!("/admin/v1/accounts/{customer}")).await;
        account.get("balance").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// How many calls of this name the billing service has counted.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn billing_calls(&self, call: &str) -> u64 {
        let metrics = self.gateway.send(Call::get(self.settings().billing("/metrics"))).await.text();
        let name = format!("tollgate_billing_calls_total{{call=\"{call}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0)
    }

    /// Does what `make demo` does.
    ///
    /// # Panics
    /// An outcome is not as it should be.
    pub async fn walk_through_the_demo(&self) {
        assert_eq!(demo::walk(self.settings(), &self.tools).await, Ok(0));
    }

    /// Ends the test: everything is stopped, and a trap in Envoy's log fails it.
    ///
    /// # Panics
    /// The filter trapped, or a process ended that nobody ended.
    pub fn finish(mut self) {
        let ended = self.billing.as_mut().and_then(Process::ended);
        assert!(ended.is_none(), "the billing service ended by itself: {ended:?}");
        assert!(self.gateway.envoy.ended().is_none(), "Envoy ended by itself");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // In this order, and before the logs are read: what they say last counts too.
        self.gateway.envoy.stop();
        if let Some(billing) = &mut self.billing {
            billing.stop();
        }
        let settings = self.settings();
        let leaks = Leaks::of(settings).in_logs_under(&settings.run_dir);
        if (std::thread::panicking()
            || (!self.options.traps && self.gateway.trap().is_some())
            || !leaks.is_empty())
            && let Some(folder) = self.folder.take()
        {
            eprintln!("logs are kept in {}", folder.keep().display());
        }
        if !std::thread::panicking() {
            assert!(leaks.is_empty(), "{}", told(&leaks));
        }
    }
}

impl Gateway {
    /// A link that is there already outlives the Envoy, as a network does.
    fn start(settings: Settings, tools: &Tools, options: &Options, link: Option<Link>) -> Result<Self> {
        let mut file = EnvoyFile::of(&settings, &tools.module)?;
        for edit in &options.edits {
            edit(&mut file)?;
        }
        let link = match link {
            None if options.linked => Some(Link::start(settings.billing_port)?),
            link => link,
        };
        if let Some(link) = &link {
            file.address("billing", link.port())?;
        }
        let pushed = options.drain_s.map(|_| Pushed::take(&mut file, &settings.run_dir)).transpose()?;
        let drain = options.drain_s.map(|secs| ["--drain-time-s".to_owned(), secs.to_string()]);
        let more = drain.as_ref().map_or(&[][..], |drain| &drain[..]);
        let envoy = processes::envoy(&settings, tools, &file, more, &AtomicBool::new(false))?;
        Ok(Self { settings, envoy, client: Client::default(), link, pushed, may_trap: options.traps })
    }

    fn restart(&mut self, tools: &Tools, options: &Options) {
        self.envoy.stop();
        // Its log makes room for its successor's.
        self.inspect();
        let link = self.link.take();
        *self = Self::start(self.settings.clone(), tools, options, link)
            .unwrap_or_else(|trouble| panic!("{trouble}"));
    }

    /// Says what is the matter with its way to the billing service from now on.
    ///
    /// # Panics
    /// The stage is not [`Options::linked`].
    pub fn road(&self, road: Road) {
        self.link.as_ref().unwrap_or_else(|| panic!("there is no link to cut")).set(road);
    }

    /// Pushes a changed configuration, and returns once Envoy has taken it over.
    ///
    /// # Panics
    /// The stage is not [`Options::pushable`], or Envoy refuses it.
    pub async fn push(&mut self, edit: impl FnOnce(&mut EnvoyFile) -> Result<()>) {
        let before = self.stats().await;
        let pushed = self.pushed.as_mut().unwrap_or_else(|| panic!("the listener stands in no file"));
        pushed.push(edit).unwrap_or_else(|trouble| panic!("{trouble}"));
        let more = |now: &BTreeMap<String, u64>, name: &str| now.get(name) > before.get(name);
        within(PUSHED_WITHIN, "Envoy takes over what was pushed", async || {
            let now = self.stats().await;
            assert!(!more(&now, "listener_manager.lds.update_rejected"), "{}", self.envoy.log());
            more(&now, "listener_manager.lds.update_success")
        })
        .await;
    }

    /// Whether connections, and with them filters, of an earlier configuration are left.
    ///
    /// # Panics
    /// The admin port does not answer.
    pub async fn is_draining(&self) -> bool {
        let names = ["total_filter_chains_draining", "total_listeners_draining"];
        let stats = self.stats().await;
        names.iter().any(|name| stats.get(&format!("listener_manager.{name}")).is_some_and(|n| *n > 0))
    }

    /// Sends a request.
    ///
    /// # Panics
    /// No whole answer.
    pub async fn send(&self, call: Call) -> Answer {
        self.client.send(call).await.unwrap_or_else(|trouble| panic!("{trouble}"))
    }

    /// A chat request of whoever holds the token.
    #[must_use]
    pub fn chat(&self, token: &str) -> Call {
        let body = json!({ "model": "scripted", "messages": [{ "role": "user", "content": BODY_MARK }] });
        Call::post(self.settings.gateway("/v1/chat/completions")).bearer(token).json(&body)
    }

    /// A delivery of an event, signed now with the configured secret.
    ///
    /// # Panics
    /// The configured secret is none.
    #[must_use]
    pub fn delivery(&self, path: &str, event: &Value) -> Call {
        stripe::delivery(self.settings.gateway(path), &self.settings.webhook_secret, event)
            .unwrap_or_else(|trouble| panic!("{trouble}"))
    }

    /// Envoy's counters and gauges, by name.
    ///
    /// # Panics
    /// The admin port does not answer.
    pub async fn stats(&self) -> BTreeMap<String, u64> {
        let text = self.send(Call::get(self.settings.admin("/stats"))).await.text();
        let pair = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        text.lines().filter_map(pair).collect()
    }

    /// What Envoy's log says of a trap of the filter, if there was one.
    #[must_use]
    pub fn trap(&self) -> Option<String> {
        let log = self.envoy.log();
        let lines: Vec<_> = log.lines().collect();
        let at = lines.iter().position(|line| TRAP.iter().any(|words| line.contains(words)))?;
        Some(lines.iter().skip(at.saturating_sub(4)).take(24).map(|line| format!("  | {line}\n")).collect())
    }
}

impl Gateway {
    /// Fails the test for what Envoy's log must not hold: a trap, or a secret.
    fn inspect(&self) {
        if std::thread::panicking() {
            return;
        }
        if let (Some(trap), false) = (self.trap(), self.may_trap) {
            panic!("the filter trapped:\n{trap}");
        }
        assert_no_leaks(&self.settings);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Before the folder goes, and before anything that it still speaks to.
        self.envoy.stop();
        self.inspect();
    }
}

fn assert_no_leaks(settings: &Settings) {
    let leaks = Leaks::of(settings).in_logs_under(&settings.run_dir);
    assert!(leaks.is_empty(), "{}", told(&leaks));
}

fn told(leaks: &[String]) -> String {
    format!("a log holds what no log may hold:\n{}", leaks.join("\n"))
}

/// Polls until a check holds: for what comes soon, but not at once.
///
/// # Panics
/// It does not hold within 10 s.
pub async fn eventually(what: &str, check: impl AsyncFnMut() -> bool) {
    within(EVENTUALLY, what, check).await;
}

/// Polls until a check holds: for what takes as long as some timeout.
///
/// # Panics
/// It does not hold in time.
pub async fn within(limit: Duration, what: &str, mut check: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !check().await {
        assert!(began.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Settings on free ports; those of `beside`, where it is given, for what the two share.
fn settings(
    root: &Path,
    folder: &Path,
    variables: &[(String, String)],
    beside: Option<&Settings>,
) -> Result<Settings> {
    let [gateway, billing, upstream, admin] = free_ports()?;
    let mut all: BTreeMap<String, String> = variables.iter().cloned().collect();
    let mut default = |name: &str, value: String| {
        all.entry(name.to_owned()).or_insert(value);
    };
    default("GATEWAY_PORT", gateway.to_string());
    default("ENVOY_ADMIN_PORT", admin.to_string());
    default("BILLING_PORT", beside.map_or(billing, |other| other.billing_port).to_string());
    default("UPSTREAM_PORT", beside.map_or(upstream, |other| other.upstream_port).to_string());
    default("RUN_DIR", folder.join(gateway.to_string()).display().to_string());
    if let Some(other) = beside {
        default("DATABASE_URL", other.database_url.clone());
    }
    Settings::read(root, |name| all.get(name).cloned())
}

fn free_ports() -> Result<[u16; 4]> {
    // Below the range from which the system takes the ports of outgoing connections: one of those could be taken by
    // somebody's client between here and the start of whoever is to listen.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id() % 20_000).unwrap_or(0);
    let (mut held, mut ports) = (Vec::new(), Vec::new());
    while ports.len() < 4 {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        if n >= 20_000 {
            return Err(Trouble("find a free port: there is none from 12000 to 31999".into()));
        }
        let port = 12_000 + (begin + n) % 20_000;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            ports.push(port);
            held.push(listener);
        }
    }
    ports.try_into().map_err(|_| Trouble("find four free ports".into()))
}

fn success(path: &str, answer: &Answer) -> Value {
    assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
    answer.json()
}
