//! Watches the machine itself: where its disk or its clocks stand still, or others have its processors, everybody is late, and
//! nobody here is to blame.
//!
//! What is found is found afterwards. So what did not end well is judged here, once both watches know how it was until then.

use crate::field::Field;
use crate::tally::{During, Who};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Longer than this, and the two seconds of a gateway's call may be over by the machine's fault.
const STALL: Duration = Duration::from_millis(700);
const EVERY: Duration = Duration::from_millis(100);
/// What had waited comes all at once.
const GRACE: Duration = Duration::from_secs(3);

/// How often the kernel is asked for how long a process waited.
const STARVED_EVERY: Duration = Duration::from_secs(1);

/// Until when each of the two watches knows how the machine was.
pub(crate) struct Known([Mutex<Instant>; 2]);

impl Known {
    fn set(&self, watch: usize, until: Instant) {
        let [disk, starved] = &self.0;
        *(if watch == 0 { disk } else { starved }).lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn until(&self) -> Instant {
        let [disk, starved] = self.0.each_ref().map(|at| *at.lock().unwrap_or_else(PoisonError::into_inner));
        disk.min(starved)
    }
}

/// Watches until nothing waits for its judgement any more after the traffic has ended.
pub(crate) fn start(watches: &mut JoinSet<()>, field: &Arc<Field>, folder: PathBuf) {
    let known = Arc::new(Known([Mutex::new(Instant::now()), Mutex::new(Instant::now())]));
    watches.spawn(watch(Arc::clone(field), Arc::clone(&known), folder.join("soak.probe")));
    watches.spawn(watch_waiting(Arc::clone(field), known));
}

/// A process that could run and was not let, for most of a second, answers late through no fault of its own; unless it was our
/// own processes that had the processors.
async fn watch_waiting(field: Arc<Field>, known: Arc<Known>) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = u32::try_from(cores).unwrap_or(1);
    let (mut before, mut looked) = (BTreeMap::new(), Instant::now());
    loop {
        let (mut now, at) = (BTreeMap::new(), Instant::now());
        let since =
            |thread: &PathBuf, now: &Times| now.since(before.get(thread).copied().unwrap_or_default());
        let (mut longest, mut ours) = (Duration::ZERO, Duration::ZERO);
        for (gateway, settings) in field.settings.iter().enumerate() {
            // What an Envoy that starts makes of its module is work for another machine than the rest.
            let starts =
                field.tally.troubled(During { from: looked, to: at }, &[Who::Envoy(gateway)]).is_some();
            for (name, counts) in [("billing", true), ("envoy", !starts)] {
                let mut product = threads(&of_pid_file(&settings.run_dir.join(format!("{name}.pid"))));
                for times in product.iter().map(|(thread, times)| since(thread, times)) {
                    longest = longest.max(times.waited);
                    ours = ours.saturating_add(if counts { times.ran } else { Duration::ZERO });
                }
                now.append(&mut product);
            }
        }
        // And those of this very process, which plays customers and upstream.
        let mut own = threads(Path::new("/proc/self/task"));
        let ours =
            own.iter().map(|(thread, times)| since(thread, times).ran).fold(ours, Duration::saturating_add);
        let all = at.saturating_duration_since(looked).saturating_mul(cores);
        let second = Second { longest, ours, all };
        // At the first look all that they ever ran and waited is new.
        if !before.is_empty() {
            tell(&field, &second, looked);
        }
        now.append(&mut own);
        (before, looked) = (now, at);
        known.set(1, at);
        field.judge_until(known.until());
        if field.is_over() {
            return;
        }
        // Whoever waits for the last judgements need not wait for a whole second.
        while at.elapsed() < STARVED_EVERY && !(field.is_at_end() && at.elapsed() >= EVERY) {
            tokio::time::sleep(EVERY / 2).await;
        }
    }
}

/// Where the kernel tells of a process whose number stands in a file.
fn of_pid_file(file: &Path) -> PathBuf {
    let pid = std::fs::read_to_string(file).unwrap_or_default();
    Path::new("/proc").join(pid.trim()).join("task")
}

/// What the kernel told of some second.
struct Second {
    /// How long one thread of Envoy or billing was kept from running at most.
    longest: Duration,
    /// How long all of ours ran together, those of the soak itself too.
    ours: Duration,
    /// How long they could have run if there were nobody else.
    all: Duration,
}

impl Second {
    fn is_long(&self) -> bool {
        self.longest > STALL
    }

    /// Whether it was others that had the processors. Where it was ourselves, a filter that never rests would excuse the silence
    /// of the billing service that it starves.
    fn is_by_others(&self) -> bool {
        self.ours.saturating_mul(4) < self.all.saturating_mul(3)
    }

    /// Of what the processors give, the part that we had, in hundredths.
    fn share(&self) -> u64 {
        let hundredths = self.ours.as_micros().saturating_mul(100).checked_div(self.all.as_micros());
        u64::try_from(hundredths.unwrap_or(0)).unwrap_or(0)
    }
}

fn tell(field: &Field, second: &Second, since: Instant) {
    let longest = u64::try_from(second.longest.as_millis()).unwrap_or(0);
    field.tally.at_most("kept from running within a second, ms at most", longest);
    field.tally.at_most("of the processors' time ours within a second, per cent at most", second.share());
    if second.is_long() && second.is_by_others() {
        let window = field.tally.trouble_from(Who::Machine, since);
        field.tally.over(window, GRACE);
        field.tally.count("seconds in which a process was kept from running by others");
    } else if second.is_long() {
        field.tally.count("seconds in which our processes kept each other from running");
    }
}

/// How long a thread ran, and how long it waited for a processor.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    ran: Duration,
    waited: Duration,
}

impl Times {
    const fn since(self, before: Self) -> Self {
        Self { ran: self.ran.saturating_sub(before.ran), waited: self.waited.saturating_sub(before.waited) }
    }
}

/// By thread of a process. Empty where the kernel does not tell.
fn threads(tasks: &Path) -> BTreeMap<PathBuf, Times> {
    let threads = std::fs::read_dir(tasks).into_iter().flatten().flatten().map(|entry| entry.path());
    let of = |thread: PathBuf| {
        // Nanoseconds on a processor, nanoseconds waiting for one, how often.
        let stat = std::fs::read_to_string(thread.join("schedstat")).ok()?;
        let mut nanos = stat.split_whitespace().map(|word| word.parse().map(Duration::from_nanos));
        let times = Times { ran: nanos.next()?.ok()?, waited: nanos.next()?.ok()? };
        Some((thread, times))
    };
    threads.filter_map(of).collect()
}

async fn watch(field: Arc<Field>, known: Arc<Known>, file: PathBuf) {
    while !field.is_over() {
        let began = Instant::now();
        let path = file.clone();
        let mut writing = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            let mut file = std::fs::File::create(path)?;
            file.write_all(&[0; 4096])?;
            file.sync_all()
        });
        if tokio::time::timeout(STALL, &mut writing).await.is_err() {
            let window = field.tally.trouble_from(Who::Machine, began);
            _ = writing.await;
            field.tally.over(window, GRACE);
            note(&field, began);
        }
        let slept = Instant::now();
        known.set(0, slept);
        tokio::time::sleep(EVERY).await;
        if slept.elapsed() > EVERY.saturating_add(STALL) {
            let window = field.tally.trouble_from(Who::Machine, slept);
            field.tally.over(window, GRACE);
            note(&field, slept);
        }
    }
}

fn note(field: &Field, since: Instant) {
    field.tally.count("standstills of the machine");
    let millis = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    field.tally.at_most("standstill of the machine at most, ms", millis);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starved_second_is_the_machines_fault_only_if_others_had_the_processors() {
        let second = |longest, ours| Second {
            longest: Duration::from_millis(longest),
            ours: Duration::from_millis(ours),
            all: Duration::from_millis(2_000),
        };
        assert!(second(701, 1_499).is_long() && second(701, 1_499).is_by_others());
        assert!(!second(700, 0).is_long(), "nobody was kept from running for long");
        // Both workers of an Envoy that never rest, and nobody else.
        assert!(!second(900, 1_900).is_by_others());
        assert_eq!(second(0, 500).share(), 25);
    }

    #[test]
    fn nothing_is_judged_until_both_watches_know() {
        let (early, late) = (Instant::now(), Instant::now() + STALL);
        let known = Known([Mutex::new(early), Mutex::new(early)]);
        known.set(1, late);
        assert_eq!(known.until(), early);
        known.set(0, late);
        assert_eq!(known.until(), late);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_tells_how_long_each_thread_ran_and_waited() {
        let all = threads(Path::new("/proc/self/task"));
        assert!(all.values().any(|times| times.ran > Duration::ZERO));
        assert!(threads(Path::new("/proc/0/task")).is_empty());
    }
}
