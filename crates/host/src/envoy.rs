//! What all workers of one Envoy share under one `vm_id`: data, queues, statistics, and the clock.

use crate::vm::{Module, Vm};
use crate::{Failure, words::text};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// 2026-11-20T09:30:00Z, when every story begins unless it says otherwise.
const EPOCH_NS: u64 = 1_795_167_000_000_000_000;

/// One Envoy process, as seen by the VMs with one `vm_id`. Cloning gives another handle on the same.
#[derive(Clone, Default)]
pub struct Envoy(pub(crate) Rc<RefCell<Process>>);

impl Envoy {
    /// A process that has just started: nothing shared yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a worker's VM: the module's `_initialize`, its root context, and `on_vm_start`.
    ///
    /// # Errors
    /// [`Failure::Load`] if the module wants what no host has, [`Failure::Refused`] or [`Failure::Trap`] as it went.
    pub fn worker<K: AsRef<str>, V: AsRef<str>>(
        &self,
        module: &Module,
        env: &[(K, V)],
    ) -> Result<Vm, Failure> {
        let env = env.iter().map(|(k, v)| (k.as_ref().to_owned(), v.as_ref().to_owned())).collect();
        Vm::start(module, self.clone(), env)
    }

    /// The time of day in milliseconds.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.0.borrow().wall_ns / 1_000_000
    }

    /// Sets the time of day, as an operator might: the monotonic clock does not notice.
    pub fn set_wall_ms(&self, ms: u64) {
        self.0.borrow_mut().wall_ns = ms.saturating_mul(1_000_000);
    }

    /// Moves both clocks on; nothing else happens. To let ticks happen, see [`Vm::pass`].
    pub fn advance(&self, ms: u64) {
        let mut process = self.0.borrow_mut();
        let ns = ms.saturating_mul(1_000_000);
        process.wall_ns = process.wall_ns.saturating_add(ns);
        process.mono_ns = process.mono_ns.saturating_add(ns);
    }

    /// A counter's or gauge's value, or the last that a histogram recorded; `None` if it was never defined.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<u64> {
        self.0.borrow().metrics.get(name).map(|metric| metric.value)
    }

    /// Every statistic that is not zero, by name.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, u64> {
        let process = self.0.borrow();
        process.metrics.iter().filter(|(_, m)| m.value > 0).map(|(k, m)| (k.clone(), m.value)).collect()
    }

    /// Shared data: keys, and the bytes of each value. Envoy has no such list; a test of boundedness needs it.
    #[must_use]
    pub fn shared(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.borrow().data.iter().map(|(key, (value, _))| (text(key), value.clone())).collect()
    }

    /// Writes shared data as another VM would, unconditionally.
    pub fn set_shared(&self, key: &str, value: &[u8]) {
        // Unconditional writes cannot be stale.
        let _ = self.0.borrow_mut().set(key.as_bytes(), value, 0);
    }
}

/// A statistic. Its kind is fixed by who defines it first.
pub(crate) struct Metric {
    pub(crate) kind: MetricKind,
    pub(crate) value: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

struct Queue {
    name: Vec<u8>,
    /// VM and context: only the last registrant is woken.
    registrant: (u32, u32),
    items: VecDeque<Vec<u8>>,
}

pub(crate) struct Process {
    pub(crate) wall_ns: u64,
    pub(crate) mono_ns: u64,
    pub(crate) metrics: BTreeMap<String, Metric>,
    data: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    last_cas: u32,
    /// A queue's token is its place here plus one.
    queues: Vec<Queue>,
    /// Wake-ups under way to each VM: context and queue.
    posted: BTreeMap<u32, VecDeque<(u32, u32)>>,
    vms: u32,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            wall_ns: EPOCH_NS,
            mono_ns: 5_000_000_000,
            metrics: BTreeMap::new(),
            data: BTreeMap::new(),
            last_cas: 0,
            queues: Vec::new(),
            posted: BTreeMap::new(),
            vms: 0,
        }
    }
}

/// The value was written since it was read.
pub(crate) struct CasMismatch;

impl Process {
    /// A number for a new VM.
    pub(crate) fn enrol(&mut self) -> u32 {
        self.vms = self.vms.saturating_add(1);
        self.vms
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<(Vec<u8>, u32)> {
        self.data.get(key).cloned()
    }

    /// As proxy-wasm-cpp-host's `SharedData::set`: `cas` 0 always writes, a missing key takes any `cas`.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8], cas: u32) -> Result<(), CasMismatch> {
        if self.data.get(key).is_some_and(|(_, seen)| cas != 0 && cas != *seen) {
            return Err(CasMismatch);
        }
        self.last_cas = self.last_cas.wrapping_add(1);
        self.data.insert(key.to_vec(), (value.to_vec(), self.last_cas));
        Ok(())
    }

    pub(crate) fn register(&mut self, name: &[u8], registrant: (u32, u32)) -> u32 {
        let token = self.resolve(name).unwrap_or_else(|| {
            self.queues.push(Queue { name: name.to_vec(), registrant, items: VecDeque::new() });
            u32::try_from(self.queues.len()).unwrap_or(u32::MAX)
        });
        if let Some(queue) = self.queue(token) {
            queue.registrant = registrant;
        }
        token
    }

    pub(crate) fn resolve(&self, name: &[u8]) -> Option<u32> {
        let place = self.queues.iter().position(|queue| queue.name == name)?;
        u32::try_from(place).ok()?.checked_add(1)
    }

    /// The outer `None`: no such queue. The inner: it is empty.
    pub(crate) fn dequeue(&mut self, token: u32) -> Option<Option<Vec<u8>>> {
        self.queue(token).map(|queue| queue.items.pop_front())
    }

    /// False if there is no such queue.
    pub(crate) fn enqueue(&mut self, token: u32, item: Vec<u8>) -> bool {
        let Some(queue) = self.queue(token) else { return false };
        queue.items.push_back(item);
        let (vm, context) = queue.registrant;
        self.posted.entry(vm).or_default().push_back((context, token));
        true
    }

    /// The next wake-up for a VM: context and queue.
    pub(crate) fn posted(&mut self, vm: u32) -> Option<(u32, u32)> {
        self.posted.get_mut(&vm)?.pop_front()
    }

    fn queue(&mut self, token: u32) -> Option<&mut Queue> {
        self.queues.get_mut(usize::try_from(token).ok()?.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_data_is_envoys() {
        let mut p = Process::default();
        assert!(p.set(b"k", b"1", u32::MAX).is_ok(), "any cas creates");
        assert!(p.set(b"k", b"2", u32::MAX).is_err(), "so this is create-if-absent");
        let (_, cas) = p.get(b"k").unwrap();
        assert!(p.set(b"other", b"", 0).is_ok());
        assert!(p.set(b"k", b"2", cas).is_ok());
        assert!(p.set(b"k", b"3", cas).is_err());
        assert!(p.set(b"k", b"", 0).is_ok(), "0 always writes");
    }

    #[test]
    fn a_queue_wakes_its_last_registrant() {
        let mut p = Process::default();
        let token = p.register(b"q", (1, 1));
        assert_eq!(p.register(b"q", (2, 1)), token);
        assert!(p.enqueue(token, b"x".to_vec()));
        assert!(!p.enqueue(token + 1, b"x".to_vec()));
        assert_eq!((p.posted(1), p.posted(2)), (None, Some((1, token))));
        assert_eq!((p.dequeue(token), p.dequeue(token)), (Some(Some(b"x".to_vec())), Some(None)));
    }
}
