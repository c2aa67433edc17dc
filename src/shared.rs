//! What a VM's root and its streams have in common: the role, the worker's machine, and the streams that wait for it.

use crate::host::{self, Clock, Phase};
use crate::shelf::SharedData;
use crate::telemetry::Telemetry;
use contract::v1::PATH_WATCH;
use gate::config::{Billing, Config, Identity};
use gate::worker::{Answer, Settings, Worker, WorkerEffect};
use gate::{Effect, Exchange, Flow, Input, Level, Metric, Now, Numbered, Role};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use units::Span;

/// Between two looks at what is due, while nothing hurries.
const TICK: Duration = Duration::from_millis(100);
/// The same while a request is to be asked for again soon.
const TICK_SOON: Duration = Duration::from_millis(20);
/// How many times in a row a call that the host refuses may lead to another.
const ROUNDS_MAX: usize = 16;

/// One per root; everything in it is used by one thread, one callback at a time.
pub(crate) struct Shared {
    root: u32,
    role: Role,
    billing: Billing,
    /// Where the claim lies that names the caller.
    claims: Vec<String>,
    worker: RefCell<Worker>,
    calls: RefCell<Numbered<u64>>,
    waiting: RefCell<Numbered<Rc<RefCell<Exchange>>>>,
    telemetry: Telemetry,
    pub(crate) clock: Clock,
    queue: Option<u32>,
    poked: Cell<bool>,
    tick: Cell<Duration>,
    /// Makes exchanges of different VMs differ.
    salt: u64,
}

impl Shared {
    /// For the root context `root`, which must be the one that is called now.
    pub(crate) fn new(root: u32, config: Config) -> Self {
        let billing = config.billing().clone();
        let (wait, claims) = match &config {
            Config::Ai(ai) => (ai.wait_for, ai.identity.iter().filter_map(claim_path).collect()),
            Config::Webhook(_) => (Span::ZERO, Vec::new()),
        };
        let telemetry = Telemetry::default();
        gate::metrics::all(&config).iter().for_each(|metric| telemetry.define(metric));
        let watch = matches!(config, Config::Ai(_));
        let settings = Settings { node: billing.node.clone(), call: billing.timeout, wait, watch };
        let salt = host::random();
        host::tick_every(TICK);
        Self {
            root,
            role: Role::from(config),
            billing,
            claims,
            worker: RefCell::new(Worker::new(settings)),
            calls: RefCell::default(),
            waiting: RefCell::default(),
            telemetry,
            clock: Clock::default(),
            queue: host::queue(&format!("tollgate-{salt:016x}")),
            poked: Cell::new(false),
            tick: Cell::new(TICK),
            salt,
        }
    }

    /// An exchange for a new stream.
    pub(crate) fn exchange(&self, stream: u32) -> Exchange {
        self.role.exchange(self.salt.wrapping_add(u64::from(stream)))
    }

    /// The claim that names the caller, if Envoy verified a token.
    pub(crate) fn verified(&self) -> Option<Vec<u8>> {
        self.claims.iter().find_map(|path| host::property(path))
    }

    /// Gives an input to a stream's exchange and does what comes of it. The host must be speaking for that stream.
    pub(crate) fn handle(
        &self,
        stream: u32,
        exchange: &Rc<RefCell<Exchange>>,
        input: Input<'_>,
        now: Now,
        phase: Phase,
    ) -> Flow {
        self.relay(stream, exchange, input, now, phase).0
    }

    /// The same; and what passes in the place of the piece of the answer that the input brought, if anything does.
    pub(crate) fn relay(
        &self,
        stream: u32,
        exchange: &Rc<RefCell<Exchange>>,
        input: Input<'_>,
        now: Now,
        phase: Phase,
    ) -> (Flow, Option<Vec<u8>>) {
        let mut machine = exchange.borrow_mut();
        let mut flow = machine.handle(input, now, &mut SharedData);
        let (mut replied, mut replaced) = (false, None);
        while let Some(effect) = machine.poll_effect() {
            match (effect, phase) {
                (Effect::SetRequestHeader(name, value), Phase::Held) => {
                    host::set_request_header(&name, Some(&value));
                }
                (Effect::SetRequestHeaders(all), Phase::Held) => {
                    all.iter().for_each(|(name, value)| host::set_request_header(name, Some(value)));
                }
                (Effect::RemoveRequestHeader(name), Phase::Held) => host::set_request_header(&name, None),
                (Effect::SetResponseHeader(name, value), Phase::Answering) => {
                    host::set_response_header(&name, Some(&value));
                }
                (Effect::RemoveResponseHeader(name), Phase::Answering) => {
                    host::set_response_header(&name, None);
                }
                (Effect::EditRequestBody(edit), Phase::Held) => {
                    let edited = host::request_body(usize::MAX).and_then(|body| edit.apply(&body));
                    if !edited.is_some_and(|body| host::replace_request_body(&body)) {
                        flow = machine.handle(Input::EditFailed, now, &mut SharedData);
                    }
                }
                (Effect::SetResponsePiece(bytes), Phase::Relaying) => replaced = Some(bytes),
                (Effect::SetResponseTrailer(name, value), Phase::Trailing) => {
                    host::set_response_trailer(&name, &value);
                }
                (Effect::Reply(reply), Phase::Held) if !replied => {
                    host::reply(&reply);
                    replied = true;
                }
                (Effect::Ask(question), Phase::Held) => {
                    let answer = self.worker.borrow_mut().ask(stream, question, now.mono, &mut SharedData);
                    if let Some(answer) = answer {
                        flow = machine.handle(Input::AnsweredAtOnce(answer), now, &mut SharedData);
                    } else {
                        self.waiting.borrow_mut().insert(stream.into(), Rc::clone(exchange));
                        self.poke();
                    }
                }
                (Effect::Withdraw, _) => {
                    self.waiting.borrow_mut().remove(stream.into());
                    self.worker.borrow_mut().withdraw(stream);
                    self.poke();
                }
                (Effect::Tell(report), _) => {
                    self.worker.borrow_mut().tell(report, now.mono, &mut SharedData);
                    if self.worker.borrow().hurries(now.mono) {
                        self.poke();
                    }
                }
                (Effect::Count(metric), _) => self.telemetry.count(&metric),
                (Effect::Note { key, value }, _) => host::note(key, &value),
                (Effect::Log(level, line), _) => host::log(level, &line),
                (misplaced, phase) => {
                    self.telemetry.count(&Metric::Bug { bug: "effect_out_of_phase" });
                    host::log(Level::Error, &format!("bug: {misplaced:?} while {phase:?}"));
                    flow = Flow::Pause;
                }
            }
        }
        let flow = if replied { Flow::Pause } else { flow };
        (flow, replaced)
    }

    /// Counts what the host did not do.
    pub(crate) fn complain(&self, bug: &'static str) {
        self.telemetry.count(&Metric::Bug { bug });
    }

    /// The stream is gone; nothing may be given to it any more.
    pub(crate) fn forget(&self, stream: u32) {
        if self.waiting.borrow_mut().remove(stream.into()).is_some() {
            self.worker.borrow_mut().withdraw(stream);
        }
    }

    /// The root was called by way of its queue.
    pub(crate) fn on_poked(&self, queue: u32) {
        self.poked.set(false);
        host::drain(queue);
        self.run();
    }

    /// A call came back to the root.
    pub(crate) fn on_call_response(&self, token: u32, headers: usize, body: usize) {
        let result = host::call_result(headers, body);
        let call = self.calls.borrow_mut().remove(token.into());
        if let Some(call) = call {
            self.worker.borrow_mut().on_answer(call, &result, self.clock.now().mono, &mut SharedData);
        }
        self.run();
    }

    /// Does what the worker's machine wants done. Only in a callback of the root.
    pub(crate) fn run(&self) {
        // All rounds are of one moment: looking at the clock is a call to the host.
        let now = self.clock.now().mono;
        for _ in 0..ROUNDS_MAX {
            let effects = self.worker.borrow_mut().poll(now, &mut SharedData);
            if effects.is_empty() {
                break;
            }
            self.telemetry.count_all(effects.iter().filter_map(|effect| match effect {
                WorkerEffect::Count(metric) => Some(metric),
                _ => None,
            }));
            for effect in effects {
                match effect {
                    WorkerEffect::Call { id, path, body, timeout } => {
                        self.call(id, path, Some(&body), timeout);
                    }
                    WorkerEffect::Watch { id, after, wait_ms, timeout } => {
                        let path = format!("{PATH_WATCH}?after={after}&wait_ms={wait_ms}");
                        self.call(id, &path, None, timeout);
                    }
                    WorkerEffect::Wake { stream, answer } => self.wake(stream, answer),
                    // These were counted above, together.
                    WorkerEffect::Count(_) => {}
                    WorkerEffect::Log(level, line) => host::log(level, &line),
                }
            }
        }
        self.set_tick();
    }

    /// No more leases are wanted. True if nothing is owed to anybody.
    pub(crate) fn drain(&self) -> bool {
        self.worker.borrow_mut().drain();
        self.run();
        self.is_idle()
    }

    /// True if nobody waits and nothing is owed to billing.
    pub(crate) fn is_idle(&self) -> bool {
        self.worker.borrow().is_idle()
    }

    fn call(&self, id: u64, path: &str, body: Option<&[u8]>, timeout: Span) {
        match host::call(&self.billing.cluster, self.billing.token.expose(), path, body, timeout) {
            Some(token) => _ = self.calls.borrow_mut().insert(token.into(), id),
            None => {
                let refused = gate::worker::CallResult::NotSent;
                self.worker.borrow_mut().on_answer(id, &refused, self.clock.now().mono, &mut SharedData);
            }
        }
    }

    fn wake(&self, stream: u32, answer: Answer) {
        let exchange = self.waiting.borrow_mut().remove(stream.into());
        match exchange {
            Some(exchange) if host::act_for(stream) => {
                let flow =
                    self.handle(stream, &exchange, Input::Answered(answer), self.clock.now(), Phase::Held);
                if flow == Flow::Continue {
                    host::resume();
                }
                host::act_for(self.root);
            }
            _ => self.worker.borrow_mut().undelivered(&answer),
        }
    }

    fn poke(&self) {
        if let Some(queue) = self.queue
            && !self.poked.replace(true)
        {
            host::poke(queue);
        }
    }

    fn set_tick(&self) {
        // Whoever calls this has just looked.
        let soon = self.clock.recent().mono.plus(Span::from_millis(100));
        let tick = match self.worker.borrow().next_poll() {
            Some(due) if due < soon => TICK_SOON,
            Some(_) | None => TICK,
        };
        if self.tick.replace(tick) != tick {
            host::tick_every(tick);
        }
    }
}

fn claim_path(way: &Identity) -> Option<String> {
    let Identity::Jwt { metadata, claim } = way else { return None };
    let begin = ["metadata", "filter_metadata"].into_iter();
    Some(
        begin
            .chain(metadata.iter().map(String::as_str))
            .chain([claim.as_str()])
            .collect::<Vec<_>>()
            .join("\0"),
    )
}
