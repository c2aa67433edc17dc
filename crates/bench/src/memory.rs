//! How much memory a process holds, from Linux's `/proc`.

use stage::{During as _, Result, Trouble};

/// What a process held when it was looked at, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Now (proc(5), `VmRSS`).
    pub(crate) now_kib: u64,
    /// The most it ever held (`VmHWM`).
    pub(crate) most_kib: u64,
}

impl Memory {
    /// Looks at a process.
    ///
    /// # Errors
    /// It is not there, or this is not Linux.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let deed = format!("read the memory of process {pid}");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).during(&deed)?;
        Self::read(&status).ok_or_else(|| Trouble(format!("{deed}: /proc/{pid}/status says {status:?}")))
    }

    fn read(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        Some(Self { now_kib: field("VmRSS")?, most_kib: field("VmHWM")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_something_and_held_no_less() {
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.now_kib > 0 && memory.most_kib >= memory.now_kib, "{memory:?}");
        let status = "Name:\tx\nVmHWM:\t    20 kB\nVmRSS:\t    12 kB\n";
        assert_eq!(Memory::read(status), Some(Memory { now_kib: 12, most_kib: 20 }));
        assert_eq!(Memory::read("VmRSS: 12 kB"), None);
    }
}
