//! The pure machines, told scenarios: an exchange, a worker behind it, and the corpus's billing service behind that.

use crate::config_of;
use gate::worker::{Answer, CallResult, Settings, Worker, WorkerEffect};
use gate::{Effect, Exchange, Flow, Headers, Input, MemoryShelf, Now, Role};
use scenarios::{Billing, Cast, Seen, Sent, Step, Teller};
use std::collections::BTreeMap;
use units::{Instant, NodeName, Span};

/// What every variable of the environment holds here.
const SECRET: &str = "whsec_some_secret_of_length";

/// A gateway of one worker for each role, without Envoy: what it holds back, forwards and answers is kept here.
pub struct Pure {
    ai: Machine,
    webhook: Machine,
    billing: Billing,
    now: Instant,
    streams: u32,
}

struct Machine {
    role: Role,
    worker: Worker,
    shelf: MemoryShelf,
}

/// One stream, as Envoy would keep it.
struct Stream {
    id: u32,
    exchange: Exchange,
    request: Vec<(String, String)>,
    passed: bool,
    replied: bool,
    answer: Seen,
}

impl Pure {
    /// Starts one with these configurations.
    #[must_use]
    pub fn new(ai: &str, webhook: &str) -> Self {
        let machine = |json: &str| Machine {
            role: Role::from(config_of(json).unwrap_or_else(|complaints| panic!("{complaints}"))),
            worker: Worker::new(Settings {
                node: NodeName::new("n1").unwrap(),
                call: Span::from_secs(2),
                wait: Span::from_secs(1),
                watch: false,
            }),
            shelf: MemoryShelf::default(),
        };
        let now = Instant::from_secs(1_795_176_000);
        Self { ai: machine(ai), webhook: machine(webhook), billing: Billing::default(), now, streams: 0 }
    }

    fn tell(&mut self, sent: &Sent, status: u16) -> Seen {
        let Self { ai, webhook, billing, now, streams } = self;
        *streams += 1;
        let machine = if sent.path.starts_with("/webhooks/") { webhook } else { ai };
        let id = format!("0b1c6a5e-1111-4222-8333-{streams:012}");
        let line = [(":method", &*sent.method), (":path", &*sent.path), ("x-request-id", &*id)];
        let line = line.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let request: Vec<_> = line.into_iter().chain(sent.headers.iter().cloned()).collect();
        let exchange = machine.role.exchange(u64::from(*streams));
        let mut stream = Stream {
            id: *streams,
            exchange,
            request,
            passed: false,
            replied: false,
            answer: Seen::default(),
        };
        let headers = stream.request.clone();
        let pairs: Headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let end = sent.body.is_none();
        machine.tell(&mut stream, Input::RequestHeaders { headers: &pairs, end, verified: None }, *now);
        if let Some(body) = sent.body.as_ref().filter(|_| !stream.replied) {
            let wanted = stream.exchange.body_wanted();
            let text = body.as_bytes();
            let cut = wanted.map(|most| text.get(..=most).unwrap_or(text));
            machine.tell(&mut stream, Input::RequestBody { size: body.len(), end: true, body: cut }, *now);
        }
        machine.settle(&mut stream, billing, *now);
        assert!(stream.passed || stream.replied, "{sent:?} waits for ever");
        if stream.passed {
            stream.answer.forwarded = Some(joined(&stream.request));
            stream.answer.status = status;
        }
        machine.answer(&mut stream, *now);
        let code = Some(u64::from(stream.answer.status));
        machine.tell(&mut stream, Input::Closed { code, flags: 0, usage: None }, *now);
        stream.answer
    }
}

impl Teller for Pure {
    fn send(&mut self, step: &Step, cast: Cast) -> Seen {
        let sent = cast.sent(step, SECRET, self.now);
        let seen = self.tell(&sent, step.upstream.status);
        self.now = self.now.plus(Span::from_millis(20));
        seen
    }

    fn billing<T>(&mut self, look: impl FnOnce(&mut Billing) -> T) -> T {
        look(&mut self.billing)
    }

    fn settle(&mut self, _: &dyn Fn(&Billing) -> bool) {
        for _ in 0..40 {
            self.now = self.now.plus(Span::from_millis(100));
            for machine in [&mut self.ai, &mut self.webhook] {
                machine.calls(&mut self.billing, self.now);
            }
        }
    }
}

impl Machine {
    fn tell(&mut self, stream: &mut Stream, input: Input<'_>, now: Instant) {
        let mut flow = stream.exchange.handle(input, Now { mono: now, wall: now }, &mut self.shelf);
        let mut at_once = None;
        while let Some(effect) = stream.exchange.poll_effect() {
            match effect {
                Effect::Ask(question) => {
                    at_once = self.worker.ask(stream.id, question, now, &mut self.shelf);
                }
                Effect::Withdraw => self.worker.withdraw(stream.id),
                Effect::Tell(report) => self.worker.tell(report, now, &mut self.shelf),
                other => stream.take(other),
            }
        }
        if let Some(answer) = at_once {
            let input = Input::AnsweredAtOnce(answer);
            return self.tell(stream, input, now);
        }
        if stream.replied {
            flow = Flow::Pause;
        }
        stream.passed |= flow == Flow::Continue && !stream.is_answered();
    }

    /// Whatever the stream waits for comes, or time runs out for it.
    fn settle(&mut self, stream: &mut Stream, billing: &mut Billing, mut now: Instant) {
        for _ in 0..50 {
            for answer in self.calls(billing, now) {
                self.tell(stream, Input::Answered(answer), now);
            }
            if stream.passed || stream.replied {
                return;
            }
            now = now.plus(Span::from_millis(100));
        }
    }

    /// Every call that the worker wants to make is made and answered.
    fn calls(&mut self, billing: &mut Billing, now: Instant) -> Vec<Answer> {
        let mut woken = Vec::new();
        for _ in 0..8 {
            for effect in self.worker.poll(now, &mut self.shelf) {
                match effect {
                    WorkerEffect::Call { id, path, body, .. } => {
                        let asked = serde_json::from_slice(&body).unwrap();
                        let (status, answer) = billing.answer(path, &asked);
                        let body = Some(serde_json::to_vec(&answer).unwrap());
                        let result = CallResult::Upstream { status: status.into(), body };
                        self.worker.on_answer(id, &result, now, &mut self.shelf);
                    }
                    WorkerEffect::Wake { answer, .. } => woken.push(answer),
                    _ => {}
                }
            }
        }
        woken
    }

    /// The answer's headers, be they the upstream's or the exchange's own.
    fn answer(&mut self, stream: &mut Stream, now: Instant) {
        let status = stream.answer.status.to_string();
        let own = stream.answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let headers: Headers = std::iter::once((":status", status.as_str())).chain(own).collect();
        self.tell(
            stream,
            Input::ResponseHeaders { headers: &headers, end: stream.answer.body.is_empty() },
            now,
        );
    }
}

impl Stream {
    fn is_answered(&self) -> bool {
        self.answer.status != 0
    }

    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Reply(reply) => {
                self.replied = true;
                self.answer.status = reply.status;
                self.answer.headers =
                    reply.headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                self.answer.body = String::from_utf8(reply.body).unwrap();
            }
            Effect::SetRequestHeader(name, value) => self.set(&name, &value),
            Effect::SetRequestHeaders(all) => {
                for (name, value) in all.iter() {
                    self.set(name, value);
                }
            }
            Effect::RemoveRequestHeader(name) => self.request.retain(|(key, _)| **key != *name),
            Effect::SetResponseHeader(name, value) => {
                self.answer.headers.insert((*name).to_owned(), (*value).to_owned());
            }
            Effect::RemoveResponseHeader(name) => _ = self.answer.headers.remove(&*name),
            Effect::Ask(_) | Effect::Withdraw | Effect::Tell(_) => panic!("{effect:?} is the machine's"),
            Effect::EditRequestBody(_) | Effect::SetResponsePiece(_) | Effect::SetResponseTrailer(..) => {
                panic!("{effect:?}: no scenario is of a route that is read")
            }
            Effect::Count(_) | Effect::Note { .. } | Effect::Log(..) => {}
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        assert!(!self.passed, "{name} is set on a request that has gone on");
        self.request.retain(|(key, _)| key != name);
        self.request.push((name.to_owned(), value.to_owned()));
    }
}

/// Joins the values of header fields that are there more than once, as most servers show them.
fn joined(fields: &[(String, String)]) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in fields {
        all.entry(name.clone())
            .and_modify(|known| *known = format!("{known}, {value}"))
            .or_insert(value.clone());
    }
    all
}
