//! One VM: loads the module, calls its exports one at a time, and keeps count of what each cost.

use crate::Failure;
use crate::envoy::Envoy;
use crate::imports;
use crate::state::{ROOT, State, StreamState};
use crate::stream::Stream;
use crate::words::{Action, Answer, Call, CallRefusal, HostCall, LogLevel, LogLine};
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use wasmi::{
    CompilationMode, Config, Engine, Instance, Linker, Store, StoreLimitsBuilder, WasmParams, WasmResults,
};

/// Instructions that one callback may take unless a test says less: seconds of interpreting, so that a loop without end
/// is a trap and no hang.
const FUEL_MAX: u64 = 300_000_000;
/// Memory that a VM may take. Envoy's own bound is 1 GiB.
const MEMORY_MAX: usize = 256 * 1024 * 1024;
/// Wake-ups after which queues will never be quiet.
const WAKE_UPS_MAX: usize = 10_000;

/// The module, translated once; any number of VMs may run it.
pub struct Module {
    engine: Engine,
    module: wasmi::Module,
    bytes: usize,
}

impl Module {
    /// Reads and translates a module.
    ///
    /// # Errors
    /// [`Failure::Load`] if there is none, or it is not one.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let fail = |why: String| Failure::Load(format!("{}: {why}", path.display()));
        let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        let mut config = Config::default();
        config.consume_fuel(true).compilation_mode(CompilationMode::Eager);
        let engine = Engine::new(&config);
        let module = wasmi::Module::new(&engine, &bytes).map_err(|error| fail(error.to_string()))?;
        Ok(Self { engine, module, bytes: bytes.len() })
    }

    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it asks of its host: module and name of each import.
    #[must_use]
    pub fn imports(&self) -> Vec<(String, String)> {
        self.module.imports().map(|import| (import.module().to_owned(), import.name().to_owned())).collect()
    }

    /// The names of what it offers.
    #[must_use]
    pub fn exports(&self) -> Vec<String> {
        self.module.exports().map(|export| export.name().to_owned()).collect()
    }
}

/// What one callback cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The export that was called.
    pub callback: &'static str,
    /// For which context.
    pub context: u32,
    /// Instructions, as wasmi counts them: the same for the same module and story.
    pub fuel: u64,
}

/// A worker's VM. Cloning gives another handle on the same.
#[derive(Clone)]
pub struct Vm(Rc<RefCell<Machine>>);

struct Machine {
    store: Store<State>,
    instance: Instance,
    dead: bool,
    fuel_max: u64,
    last_context: u32,
    ran: Vec<Ran>,
    /// Nanoseconds of the monotonic clock at the latest tick, or when the period was set.
    ticked: u64,
}

impl Vm {
    pub(crate) fn start(module: &Module, envoy: Envoy, env: Vec<(String, String)>) -> Result<Self, Failure> {
        let fail = |error: &dyn std::fmt::Display| Failure::Load(error.to_string());
        let ticked = envoy.0.borrow().mono_ns;
        let limits = StoreLimitsBuilder::new().memory_size(MEMORY_MAX).build();
        let mut store = Store::new(&module.engine, State::new(envoy, env, limits));
        store.limiter(|state| &mut state.limits);
        store.set_fuel(FUEL_MAX).map_err(|error| fail(&error))?;
        let mut linker = Linker::new(&module.engine);
        imports::link(&mut linker, &module.module).map_err(|error| fail(&error))?;
        let instance =
            linker.instantiate_and_start(&mut store, &module.module).map_err(|error| fail(&error))?;
        let memory = instance.get_memory(&store, "memory");
        let allocator = |name| instance.get_typed_func(&store, name).ok();
        let allocate = allocator("proxy_on_memory_allocate").or_else(|| allocator("malloc"));
        let state = store.data_mut();
        (state.memory, state.allocate) = (memory, allocate);
        let (dead, last_context, ran) = (false, ROOT, Vec::new());
        let machine = Machine { store, instance, dead, fuel_max: FUEL_MAX, last_context, ran, ticked };
        let vm = Self(Rc::new(RefCell::new(machine)));
        vm.run::<_, ()>("_initialize", ROOT, ())?;
        vm.run::<_, ()>("proxy_on_context_create", ROOT, (ROOT, 0_u32))?;
        if vm.run::<_, u32>("proxy_on_vm_start", ROOT, (ROOT, 0_u32))? == 0 {
            return Err(vm.refused(0));
        }
        Ok(vm)
    }

    /// Gives the plugin its configuration.
    ///
    /// # Errors
    /// [`Failure::Refused`], with everything that was logged meanwhile, if it says no.
    pub fn configure(&self, json: &str) -> Result<(), Failure> {
        let logged = self.state(|state| {
            state.configuration = Some(json.into());
            state.log.len()
        });
        let len = u32::try_from(json.len()).unwrap_or(u32::MAX);
        let done = self.run::<_, u32>("proxy_on_configure", ROOT, (ROOT, len));
        self.state(|state| state.configuration = None);
        if done? == 0 { Err(self.refused(logged)) } else { Ok(()) }
    }

    fn refused(&self, logged: usize) -> Failure {
        Failure::Refused { log: self.log().into_iter().skip(logged).map(|line| line.text).collect() }
    }

    /// A stream begins. Its first callback may be any, even [`Stream::close`].
    ///
    /// # Errors
    /// As with every callback: [`Failure::Trap`].
    pub fn stream(&self) -> Result<Stream, Failure> {
        let id = {
            let mut machine = self.0.borrow_mut();
            machine.last_context = machine.last_context.saturating_add(1);
            machine.last_context
        };
        self.state(|state| state.streams.insert(id, StreamState::default()));
        self.run::<_, ()>("proxy_on_context_create", id, (id, ROOT))?;
        Ok(Stream::new(self.clone(), id))
    }

    /// Delivers every wake-up that waits for this VM. Envoy does so soon after the callback that caused it, which may
    /// run on another worker; here a test chooses when, and [`Vm::calls`] does it by itself.
    ///
    /// # Errors
    /// [`Failure::Trap`]; [`Failure::Impossible`] if it would never end.
    pub fn settle(&self) -> Result<(), Failure> {
        for _ in 0..WAKE_UPS_MAX {
            let posted = self.state(|state| state.envoy.0.borrow_mut().posted(state.vm));
            let Some((context, queue)) = posted else { return Ok(()) };
            self.run::<_, ()>("proxy_on_queue_ready", context, (context, queue))?;
        }
        Err(Failure::Impossible(format!("{WAKE_UPS_MAX} wake-ups, and each caused another")))
    }

    /// After [`Vm::settle`]: the calls that are under way, oldest first.
    ///
    /// # Errors
    /// As [`Vm::settle`].
    pub fn calls(&self) -> Result<Vec<Call>, Failure> {
        self.settle()?;
        Ok(self.state(|state| state.calls.clone()))
    }

    /// The one call that is under way.
    ///
    /// # Errors
    /// [`Failure::Impossible`] if there is none, or more than one.
    pub fn call(&self) -> Result<Call, Failure> {
        let calls = self.calls()?;
        match calls.as_slice() {
            [call] => Ok(call.clone()),
            _ => {
                let paths: Vec<String> = calls.iter().map(Call::path).collect();
                Err(Failure::Impossible(format!("one call was expected to be under way, not {paths:?}")))
            }
        }
    }

    /// A call comes back.
    ///
    /// # Errors
    /// [`Failure::Impossible`] if it is not under way.
    pub fn answer(&self, call: &Call, answer: Answer) -> Result<(), Failure> {
        let known = self.state(|state| {
            let place = state.calls.iter().position(|other| other.token == call.token)?;
            Some(state.calls.remove(place))
        });
        let Some(Call { token, .. }) = known else {
            return Err(Failure::Impossible(format!("call {} is not under way", call.token)));
        };
        let size = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let args = (ROOT, token, size(answer.headers.len()), size(answer.body.len()), 0_u32);
        self.state(|state| state.answering = Some(answer));
        let done = self.run::<_, ()>("proxy_on_http_call_response", ROOT, args);
        self.state(|state| state.answering = None);
        done
    }

    /// From now on Envoy refuses to send calls, or sends them again.
    pub fn refuse_calls(&self, refusal: Option<CallRefusal>) {
        self.state(|state| state.refusal = refusal);
    }

    /// From now on Envoy lets nobody change a body (a restricted capability), or does again.
    pub fn fix_bodies(&self, fixed: bool) {
        self.state(|state| state.fixed_bodies = fixed);
    }

    /// From now on a callback that takes more fuel than this traps.
    pub fn limit_fuel(&self, max: u64) {
        self.0.borrow_mut().fuel_max = max;
    }

    /// Time passes for this VM: clocks move on, and ticks come when they are due, wake-ups after each.
    ///
    /// # Errors
    /// [`Failure::Trap`].
    pub fn pass(&self, ms: u64) -> Result<(), Failure> {
        let envoy = self.state(|state| state.envoy.clone());
        let mono_ms = || envoy.0.borrow().mono_ns / 1_000_000;
        let end = mono_ms().saturating_add(ms);
        loop {
            let period = self.state(|state| u64::from(state.tick_ms));
            let due = (self.0.borrow().ticked / 1_000_000).saturating_add(period).max(mono_ms());
            if period == 0 || due > end {
                envoy.advance(end.saturating_sub(mono_ms()));
                return Ok(());
            }
            envoy.advance(due.saturating_sub(mono_ms()));
            self.tick()?;
            self.settle()?;
        }
    }

    /// The tick comes now.
    ///
    /// # Errors
    /// [`Failure::Trap`].
    pub fn tick(&self) -> Result<(), Failure> {
        self.0.borrow_mut().ticked = self.state(|state| state.envoy.0.borrow().mono_ns);
        self.run::<_, ()>("proxy_on_tick", ROOT, (ROOT,))
    }

    /// Envoy takes the plugin's configuration away: `on_done` of the root. True if it needs no more time.
    ///
    /// # Errors
    /// [`Failure::Trap`].
    pub fn done(&self) -> Result<bool, Failure> {
        Ok(self.run::<_, u32>("proxy_on_done", ROOT, (ROOT,))? != 0)
    }

    /// The period of its ticks in milliseconds; 0 if there are none.
    #[must_use]
    pub fn tick_ms(&self) -> u32 {
        self.state(|state| state.tick_ms)
    }

    /// Every line that was logged so far.
    #[must_use]
    pub fn log(&self) -> Vec<LogLine> {
        self.state(|state| state.log.clone())
    }

    /// Everything that the module asked of its host so far.
    #[must_use]
    pub fn host_calls(&self) -> Vec<HostCall> {
        self.state(|state| state.trace.clone())
    }

    /// Every callback so far, and what each cost.
    #[must_use]
    pub fn ran(&self) -> Vec<Ran> {
        self.0.borrow().ran.clone()
    }

    /// The fuel of all callbacks so far.
    #[must_use]
    pub fn fuel(&self) -> u64 {
        self.0.borrow().ran.iter().map(|ran| ran.fuel).sum()
    }

    pub(crate) fn state<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(self.0.borrow_mut().store.data_mut())
    }

    /// Calls an export, and then does what Envoy defers until a callback is over: sends replies, which pass the filter
    /// that made them.
    pub(crate) fn run<P: WasmParams, R: WasmResults>(
        &self,
        callback: &'static str,
        context: u32,
        args: P,
    ) -> Result<R, Failure> {
        let result = self.0.borrow_mut().run(callback, context, args)?;
        for id in self.state(|state| std::mem::take(&mut state.replied)) {
            Stream::new(self.clone(), id).send_reply()?;
        }
        Ok(result)
    }

    pub(crate) fn act<P: WasmParams>(
        &self,
        callback: &'static str,
        context: u32,
        args: P,
    ) -> Result<Action, Failure> {
        let action: u32 = self.run(callback, context, args)?;
        Ok(if action == 0 { Action::Continue } else { Action::Pause })
    }
}

impl Machine {
    fn run<P: WasmParams, R: WasmResults>(
        &mut self,
        callback: &'static str,
        context: u32,
        args: P,
    ) -> Result<R, Failure> {
        if self.dead {
            return Err(Failure::Impossible(format!("{callback} in a VM that trapped")));
        }
        let logged = {
            let state = self.store.data_mut();
            (state.current, state.effective) = (context, 0);
            state.log.len()
        };
        let result = self.call(callback, args);
        let left = self.store.get_fuel().unwrap_or_default();
        self.ran.push(Ran { callback, context, fuel: self.fuel_max.saturating_sub(left) });
        result.map_err(|error| {
            self.dead = true;
            let log = self.store.data().log.iter().skip(logged);
            Failure::Trap {
                callback: format!("{callback}({context})"),
                why: error.to_string(),
                last_words: log.filter(|l| l.level >= LogLevel::Error).map(|l| l.text.clone()).collect(),
            }
        })
    }

    fn call<P: WasmParams, R: WasmResults>(&mut self, callback: &str, args: P) -> Result<R, wasmi::Error> {
        self.store.set_fuel(self.fuel_max)?;
        self.instance.get_typed_func::<P, R>(&self.store, callback)?.call(&mut self.store, args)
    }
}
