//! Starts and stops Envoy, the billing service and the upstream as processes, each with a log and a pid file.

use crate::envoy_file::EnvoyFile;
use crate::settings::Settings;
use crate::tools::Tools;
use crate::{During as _, Result, Trouble, client};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process_group};
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

/// How long a process may take until it answers. A cold machine compiles the module for seconds; a crowded one, at the lowest
/// priority, was seen to take more than a minute.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// How long a process may take to end when it is asked to, before it is killed.
const END_WITHIN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(25);
/// How many lines of a log are shown when its process fails.
const TAIL_LINES: usize = 25;

/// A running process; dropping it ends it and whatever it started.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    pid_file: PathBuf,
}

impl Process {
    /// Starts a program in a process group of its own, so that a Ctrl-C at the terminal reaches only the one that
    /// stops things in order.
    ///
    /// # Errors
    /// The program cannot be started, or its log or pid file cannot be written.
    pub fn start(name: &'static str, mut command: Command, run_dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(run_dir).during(format!("create {}", run_dir.display()))?;
        let (log, pid_file) = (run_dir.join(format!("{name}.log")), run_dir.join(format!("{name}.pid")));
        // The last run's log stays beside it; there may be none.
        let _ = std::fs::rename(&log, log.with_extension("log.before"));
        let file = File::create(&log).during(format!("write {}", log.display()))?;
        let copy = file.try_clone().during(format!("write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file).stderr(copy).process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = spawn(command).during(format!("start {program}"))?;
        let process = Self { name, child, log, pid_file };
        std::fs::write(&process.pid_file, format!("{}\n", process.pid()))
            .during(format!("write {}", process.pid_file.display()))?;
        Ok(process)
    }

    /// Its process id, which is its group's too.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log, both streams.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Sends a signal to it and whatever it started.
    pub fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // It may have ended already.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Lets it write no byte of a file beyond this offset, as a full disk would; `None` gives it room again. It must ignore
    /// SIGXFSZ, which would end it.
    ///
    /// # Errors
    /// The system refuses.
    #[cfg(target_os = "linux")]
    pub fn limit_files(&self, bytes: Option<u64>) -> Result<()> {
        use rustix::process::{Resource, Rlimit, prlimit};
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(pid, Resource::Fsize, limit).map(drop).during("limit the size of files")
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to end, and kills it when it does not within 5 s.
    pub fn stop(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::TERM);
        }
        let deadline = Instant::now().checked_add(END_WITHIN);
        while self.ended().is_none() && deadline.is_some_and(|at| Instant::now() < at) {
            std::thread::sleep(POLL);
        }
        self.kill();
    }

    /// Kills it, as a crash does.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
        // Unless the file is its successor's already.
        if std::fs::read_to_string(&self.pid_file).is_ok_and(|pid| pid.trim() == self.pid().to_string()) {
            let _ = std::fs::remove_file(&self.pid_file);
        }
    }

    /// Waits until `GET path` on a port of it answers 200.
    ///
    /// # Errors
    /// It ended, did not answer in time, or `stop` was set; with the tail of its log.
    pub fn ready(&mut self, port: u16, path: &str, stop: &AtomicBool) -> Result<()> {
        let deadline = Instant::now().checked_add(READY_WITHIN);
        while client::status_of(port, path) != Some(200) {
            if let Some(status) = self.ended() {
                return Err(self.failure(&format!("ended ({status}) instead of starting")));
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Trouble("stopped while starting".into()));
            }
            if deadline.is_none_or(|at| Instant::now() >= at) {
                let secs = READY_WITHIN.as_secs();
                return Err(
                    self.failure(&format!("did not answer 200 to GET {path} on port {port} within {secs} s"))
                );
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// What is said of it when it fails: the end of its log is where the reason stands.
    #[must_use]
    pub fn failure(&self, what: &str) -> Trouble {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let tail =
            lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)).map(|line| format!("  | {line}\n"));
        Trouble(format!(
            "{} {what}. The end of {}:\n{}",
            self.name,
            self.log.display(),
            tail.collect::<String>()
        ))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts the scripted upstream as a process of this very program, and waits until it answers.
///
/// # Errors
/// It does not start.
pub fn upstream(settings: &Settings, stop: &AtomicBool) -> Result<Process> {
    let program = std::env::current_exe().during("find this program")?;
    let mut command = Command::new(program);
    command.arg("upstream").envs(settings.environment());
    let mut process = Process::start("upstream", command, &settings.run_dir)?;
    process.ready(settings.upstream_port, "/_requests", stop)?;
    Ok(process)
}

/// Starts the billing service with these further variables, and waits until it is ready.
///
/// # Errors
/// It does not start; its own complaints are in the error.
pub fn billing(
    settings: &Settings,
    tools: &Tools,
    more: &[(String, String)],
    stop: &AtomicBool,
) -> Result<Process> {
    // Its database lies there, by default.
    std::fs::create_dir_all(&settings.run_dir).during(format!("create {}", settings.run_dir.display()))?;
    let mut command = Command::new(&tools.billing);
    command.arg("serve").current_dir(&settings.root).envs(settings.environment());
    command.envs(more.iter().map(|(name, value)| (name, value)));
    let mut process = Process::start("billing", command, &settings.run_dir)?;
    process.ready(settings.billing_port, "/readyz", stop)?;
    Ok(process)
}

/// Writes the Envoy file into the run folder, starts Envoy on it with these further arguments, and waits until it is ready.
///
/// # Errors
/// It does not start; the filter's complaints about its configuration are in the error.
pub fn envoy(
    settings: &Settings,
    tools: &Tools,
    file: &EnvoyFile,
    more: &[String],
    stop: &AtomicBool,
) -> Result<Process> {
    std::fs::create_dir_all(&settings.run_dir).during(format!("create {}", settings.run_dir.display()))?;
    let path = settings.run_dir.join("envoy.json");
    file.write(&path)?;
    let mut command = Command::new(&tools.envoy);
    // The base id is chosen freely, or a second Envoy on one machine would meet the first one's shared memory.
    command.arg("--use-dynamic-base-id").arg("-c").arg(path);
    command.arg("--concurrency").arg(settings.concurrency.to_string()).args(more);
    command.current_dir(&settings.root).envs(settings.environment());
    let mut process = Process::start("envoy", command, &settings.run_dir)?;
    process.ready(settings.admin_port, "/ready", stop)?;
    Ok(process)
}

/// Complains about every port that somebody else listens on.
///
/// # Errors
/// The list, with the variable that moves each.
pub fn ports_are_free(ports: &[(&str, u16)], run_dir: &Path) -> Result<()> {
    let taken = ports.iter().filter(|(_, port)| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_err());
    let lines: Vec<_> = taken
        .map(|(name, port)| format!("port {port} is in use: stop whatever listens there, or set {name}"))
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let pids = ["envoy", "billing", "upstream"].map(|name| (name, run_dir.join(format!("{name}.pid"))));
    let earlier = pids.iter().filter_map(|(name, file)| {
        Some(format!("\nan earlier run left {name} with pid {}", std::fs::read_to_string(file).ok()?.trim()))
    });
    Err(Trouble(lines.join("\n") + &earlier.collect::<String>()))
}

/// Starts a child from a thread that lives as long as this process.
///
/// The packaged Envoy asks the kernel for a SIGTERM when its parent ends (`PR_SET_PDEATHSIG`), and to the kernel the
/// parent is the *thread* that started it (prctl(2)): from a short-lived thread it would die for no visible reason.
fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static KEEPER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, reply) in jobs {
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, child) = mpsc::channel();
    keeper
        .send((command, reply))
        .map_err(|_| io::Error::other("the thread that starts processes is gone"))?;
    child.recv().map_err(io::Error::other)?
}
