//! `stage run`, `stage gateway` and `stage upstream`: starts, tells what is where, watches, and stops everything in order.

use crate::envoy_file::EnvoyFile;
use crate::processes::{self, Process};
use crate::product::Product;
use crate::settings::Settings;
use crate::tools::{self, Tools};
use crate::{During as _, Result, Trouble};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

const POLL: Duration = Duration::from_millis(100);

/// Everything that was started. Fields are dropped, and so stopped, in this order: the gateway first, so that what is
/// in flight can still be settled.
pub struct Running {
    /// Envoy.
    pub envoy: Process,
    /// The billing service, unless somebody else runs it.
    pub billing: Option<Process>,
    /// The scripted upstream, unless somebody else runs it.
    pub upstream: Option<Process>,
}

impl Running {
    /// Starts all three.
    ///
    /// # Errors
    /// A port is taken, or one of them does not start.
    pub fn start(settings: &Settings, tools: &Tools, stop: &AtomicBool) -> Result<Self> {
        processes::ports_are_free(&settings.ports(), &settings.run_dir)?;
        let upstream = Some(processes::upstream(settings, stop)?);
        let billing = Some(processes::billing(settings, tools, &[], stop)?);
        let file = EnvoyFile::of(settings, &tools.module)?;
        let envoy = processes::envoy(settings, tools, &file, &[], stop)?;
        Ok(Self { envoy, billing, upstream })
    }

    /// Starts one more Envoy on a billing service and an upstream that run already.
    ///
    /// # Errors
    /// Either of them does not answer, a port is taken, or Envoy does not start.
    pub fn gateway(settings: &Settings, tools: &Tools, stop: &AtomicBool) -> Result<Self> {
        let [gateway, .., admin] = settings.ports();
        processes::ports_are_free(&[gateway, admin], &settings.run_dir)?;
        if crate::client::status_of(settings.billing_port, "/readyz") != Some(200) {
            let port = settings.billing_port;
            let mend = "start it with `make run`, or set BILLING_PORT to where it listens";
            return Err(Trouble(format!("no billing service is ready on port {port}: {mend}")));
        }
        let file = EnvoyFile::of(settings, &tools.module)?;
        let envoy = processes::envoy(settings, tools, &file, &[], stop)?;
        Ok(Self { envoy, billing: None, upstream: None })
    }

    /// The first of them that has ended by itself, as an error.
    pub fn failure(&mut self) -> Option<Trouble> {
        let others = self.billing.iter_mut().chain(self.upstream.iter_mut());
        std::iter::once(&mut self.envoy).chain(others).find_map(|process| {
            let status = process.ended()?;
            Some(process.failure(&format!("ended by itself ({status})")))
        })
    }
}

/// The settings of this process's environment, and the tools beside them.
///
/// # Errors
/// Every complaint about either.
pub fn prepare() -> Result<(Settings, Tools)> {
    let root = tools::root()?;
    let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    match (Settings::read(&root, variable), Tools::find(&root)) {
        (Ok(settings), Ok(tools)) => Ok((settings, tools)),
        (settings, tools) => {
            let all = [settings.err(), tools.err()].into_iter().flatten().map(|Trouble(why)| why);
            Err(Trouble(all.collect::<Vec<_>>().join("\n")))
        }
    }
}

/// A flag that SIGINT or SIGTERM sets.
///
/// # Errors
/// The signals cannot be listened for.
pub fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stop);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().during("start a runtime")?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        let listen = |kind| signal(kind).during("listen for signals");
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = make_was_told() => {}
            }
        });
        set.store(true, Ordering::Relaxed);
    });
    Ok(stop)
}

/// Returns when the `make` that started this process was interrupted or has gone; never, if something else started it.
///
/// An interrupt that is sent to make alone does not reach what make started, and make then waits for it for ever. What
/// can be seen from here is that it no longer catches SIGINT: it resets the handler before it waits (proc(5), `SigCgt`).
async fn make_was_told() {
    const SIGINT_BIT: u64 = 1 << 1;
    let parent = rustix::process::getppid();
    let folder = parent.map(|pid| format!("/proc/{}", pid.as_raw_nonzero())).unwrap_or_default();
    let catches = || {
        let status = std::fs::read_to_string(format!("{folder}/status")).ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        u64::from_str_radix(mask.trim(), 16).ok().map(|mask| mask & SIGINT_BIT != 0)
    };
    let name = std::fs::read_to_string(format!("{folder}/comm")).unwrap_or_default();
    let began = catches();
    if !matches!(name.trim(), "make" | "gmake") || began.is_none() {
        return std::future::pending().await;
    }
    while rustix::process::getppid() == parent && catches() == began {
        tokio::time::sleep(POLL).await;
    }
}

/// `stage run`: stays up until it is told to stop.
///
/// # Errors
/// Something does not start, or ends by itself.
pub fn run() -> Result<()> {
    let stop = stop_on_signal()?;
    let (settings, tools) = prepare()?;
    let mut running = Running::start(&settings, &tools, &stop)?;
    print_tour(&settings, &tools);
    watch(&mut running, &stop)?;
    println!("\nStopping.");
    Ok(())
}

/// `stage gateway`: one more Envoy, until it is told to stop.
///
/// # Errors
/// Something does not start, or ends by itself.
pub fn gateway() -> Result<()> {
    let stop = stop_on_signal()?;
    let (settings, tools) = prepare()?;
    let mut running = Running::gateway(&settings, &tools, &stop)?;
    println!("Gateway {} is up at {} (admin {}).", settings.node, settings.gateway(""), settings.admin(""));
    println!("It shares the billing service at {}. Ctrl-C stops it.", settings.billing(""));
    watch(&mut running, &stop)?;
    println!("\nStopping.");
    Ok(())
}

fn watch(running: &mut Running, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        if let Some(failure) = running.failure() {
            return Err(failure);
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// A token for a customer of the demo, made by the billing service's own command.
///
/// # Errors
/// The command fails; with what it said.
pub fn token(settings: &Settings, tools: &Tools, customer: &str) -> Result<String> {
    let mut command = Command::new(&tools.billing);
    command.args(["dev-token", "--sub", customer]).current_dir(&settings.root).envs(settings.environment());
    let output = command.output().during("run tollgate-billing dev-token")?;
    if !output.status.success() {
        return Err(Trouble(format!(
            "tollgate-billing dev-token: {}",
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn print_tour(settings: &Settings, tools: &Tools) {
    let (gateway, billing) = (settings.gateway(""), settings.billing(""));
    let token = token(settings, tools, "alice").unwrap_or_else(|Trouble(why)| why);
    println!("Tollgate is up. Ctrl-C stops it.\n");
    println!("  gateway   {gateway}   (Envoy's admin: {})", settings.admin(""));
    println!("  billing   {billing}");
    println!("  upstream  {}", settings.upstream(""));
    println!("  logs      {}/{{envoy,billing,upstream}}.log\n", settings.run_dir.display());
    match Product::of(&settings.catalog) {
        Ok(Some(product)) => print_product(settings, &token, &product),
        _ => print_demo(settings, &token),
    }
    println!("Point Stripe's command line at it:  stripe listen --forward-to {gateway}/webhooks/stripe");
    println!("(and start again with STRIPE_WEBHOOK_SECRET set to the secret that it prints)");
}

fn print_demo(settings: &Settings, token: &str) {
    let (gateway, billing) = (settings.gateway(""), settings.billing(""));
    println!("Ask as alice, a free customer (3 requests a day):\n");
    println!("  TOKEN={token}");
    println!("  curl -i {gateway}/v1/chat/completions -H \"authorization: Bearer $TOKEN\" \\");
    println!(
        "    -d '{{\"model\":\"scripted\",\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}'"
    );
    println!("  curl {gateway}/billing/balance -H \"authorization: Bearer $TOKEN\"\n");
    println!("Give her credits, and see what reached the upstream:\n");
    println!("  curl {billing}/admin/v1/grants -H 'authorization: Bearer {}' \\", settings.admin_token);
    println!("    -H 'content-type: application/json' -H \"idempotency-key: $(date +%s)\" \\");
    println!("    -d '{{\"account\":\"alice\",\"credits\":10,\"note\":\"hello\"}}'");
    println!("  curl {}/_requests\n", settings.upstream(""));
}

/// What a product's catalog says of its paths, and who may be asking.
fn print_product(settings: &Settings, token: &str, product: &Product) {
    println!("{} has these paths at the gateway:\n", settings.catalog.display());
    for line in product.tour() {
        println!("  {line}");
    }
    println!("\nAsk as alice:\n\n  TOKEN={token}");
    println!("  curl -i {} -H \"authorization: Bearer $TOKEN\"\n", settings.gateway("/billing/balance"));
}
