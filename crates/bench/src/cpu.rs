//! How much processor time a process has used, all its threads together, from Linux's `/proc`.

use stage::{During as _, Result, Trouble};
use std::collections::BTreeMap;
use std::time::Duration;

/// The unit of times in `/proc/PID/stat` on x86-64 and aarch64: 1/100 s (proc(5), `utime`; `USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// What a process had used when it was looked at.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// User and system time of the process, ended threads included, in whole ticks.
    ticks: Duration,
    /// By thread, in nanoseconds; threads that have ended are not there.
    threads: BTreeMap<u32, u64>,
}

impl Reading {
    /// Looks at a process.
    ///
    /// # Errors
    /// It is not there, or this is not Linux.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let deed = format!("read the processor time of process {pid}");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).during(&deed)?;
        let ticks = ticks(&stat).ok_or_else(|| Trouble(format!("{deed}: /proc/{pid}/stat says {stat:?}")))?;
        let mut threads = BTreeMap::new();
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).during(&deed)? {
            let task = task.during(&deed)?;
            // A thread may end between being listed and being read.
            if let Some((id, nanos)) = thread(&task) {
                threads.insert(id, nanos);
            }
        }
        Ok(Self { ticks: TICK * ticks, threads })
    }

    /// What was used since an earlier look. To the nanosecond as long as no thread has ended in between, else to the tick.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let all_live =
            !earlier.threads.is_empty() && earlier.threads.keys().all(|id| self.threads.contains_key(id));
        if !all_live {
            return self.ticks.saturating_sub(earlier.ticks);
        }
        let sum = |of: &Self| Duration::from_nanos(of.threads.values().sum());
        sum(self).saturating_sub(sum(earlier))
    }
}

/// `utime` + `stime`, fields 14 and 15 (proc(5)), counted from behind the name, which may hold anything, in brackets.
fn ticks(stat: &str) -> Option<u32> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    fields.next()?.parse::<u32>().ok()?.checked_add(fields.next()?.parse().ok()?)
}

/// The first field of `schedstat`: nanoseconds on a processor (Linux, Documentation/scheduler/sched-stats.rst).
fn thread(task: &std::fs::DirEntry) -> Option<(u32, u64)> {
    let id = task.file_name().to_str()?.parse().ok()?;
    let schedstat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
    Some((id, schedstat.split_whitespace().next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 31 0 0 20 0 1 0 900 1000 200";
        assert_eq!(ticks(stat), Some(281));
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn work_is_seen_and_rest_is_not() {
        // Threads of other tests end meanwhile, so only a child is measured.
        let mut child = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let before = Reading::of(child.id()).unwrap();
        let begun = Instant::now();
        let mut used = Duration::ZERO;
        while used < Duration::from_millis(50) && begun.elapsed() < Duration::from_secs(30) {
            used = Reading::of(child.id()).unwrap().since(&before);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(used >= Duration::from_millis(50) && used <= begun.elapsed() * 2, "{used:?}");
        assert!(Reading::of(child.id()).is_err());
    }

    #[test]
    fn when_a_thread_has_ended_the_process_still_knows() {
        let reading = |ticks, threads: &[(u32, u64)]| Reading {
            ticks: Duration::from_millis(ticks),
            threads: threads.iter().copied().collect(),
        };
        let before = reading(100, &[(1, 60_000_001), (2, 40_000_000)]);
        assert_eq!(
            reading(150, &[(1, 60_000_002), (2, 90_000_000)]).since(&before),
            Duration::from_nanos(50_000_001)
        );
        assert_eq!(reading(150, &[(1, 60_000_002)]).since(&before), Duration::from_millis(50));
    }
}
