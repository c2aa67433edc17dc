//! The corpus of `tests/scenarios`, told to the shipped module in the small host.

use crate::support::{self, ENV, SECRET, assert_no_bug, module};
use ::scenarios::{AI, Billing, Cast, Seen, Step, Teller, WEBHOOK, corpus, judge};
use host::{Answer, Envoy, Stream, Vm};
use std::collections::BTreeMap;
use units::Instant;

/// An Envoy with a worker for each role.
struct Small {
    envoy: Envoy,
    ai: Vm,
    webhook: Vm,
    billing: Billing,
    streams: u32,
}

impl Small {
    fn start() -> Self {
        let envoy = Envoy::new();
        let vm = |configuration: &str| {
            let vm = envoy.worker(module(), &ENV).unwrap();
            vm.configure(configuration).unwrap();
            vm
        };
        Self { ai: vm(AI), webhook: vm(WEBHOOK), envoy, billing: Billing::default(), streams: 0 }
    }

    /// Everything that a worker wants to ask and tell now.
    fn calls(billing: &mut Billing, vm: &Vm) {
        for call in support::calls(vm).unwrap() {
            let asked = serde_json::from_slice(&call.body).unwrap();
            let (status, answer) = billing.answer(&call.path(), &asked);
            vm.answer(&call, Answer::json(status, answer.to_string())).unwrap();
        }
        vm.settle().unwrap();
    }
}

impl Teller for Small {
    fn send(&mut self, step: &Step, cast: Cast) -> Seen {
        let now = Instant::from_secs(i64::try_from(self.envoy.wall_ms() / 1000).unwrap());
        let sent = cast.sent(step, SECRET, now);
        let vm = if sent.path.starts_with("/webhooks/") { &self.webhook } else { &self.ai };
        self.streams += 1;
        let id = format!("0b1c6a5e-1111-4222-8333-{:012}", self.streams);
        let line = [
            (":method", &*sent.method),
            (":scheme", "http"),
            (":authority", "gateway"),
            (":path", &*sent.path),
            ("x-request-id", &*id),
        ];
        let own = sent.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let headers: Vec<_> = line.into_iter().chain(own).collect();
        let stream = vm.stream().unwrap();
        match &sent.body {
            Some(body) => stream.request(&headers, body).unwrap(),
            None => stream.request_headers(&headers, true).unwrap(),
        };
        for _ in 0..50 {
            Self::calls(&mut self.billing, vm);
            if stream.passed() || stream.reply().is_some() {
                break;
            }
            vm.pass(100).unwrap();
        }
        let forwarded = stream.passed().then(|| fields(stream.forwarded()));
        if forwarded.is_some() {
            stream.response(step.upstream.status, "{}").unwrap();
        }
        let (status, body) = outcome(&stream, step.upstream.status);
        let headers = fields(stream.answered());
        stream.close(0).unwrap();
        vm.settle().unwrap();
        Seen { status, headers, body, forwarded }
    }

    fn billing<T>(&mut self, look: impl FnOnce(&mut Billing) -> T) -> T {
        look(&mut self.billing)
    }

    fn settle(&mut self, done: &dyn Fn(&Billing) -> bool) {
        for _ in 0..60 {
            for vm in [&self.ai, &self.webhook] {
                vm.pass(100).unwrap();
                Self::calls(&mut self.billing, vm);
            }
            if done(&self.billing) {
                return;
            }
        }
    }
}

fn outcome(stream: &Stream, upstream: u16) -> (u16, String) {
    stream.reply().map_or_else(
        || (upstream, "{}".to_owned()),
        |reply| (u16::try_from(reply.status).unwrap(), reply.text()),
    )
}

fn fields(headers: host::Headers) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let (name, value) = (text(name), text(value));
        all.entry(name).and_modify(|known| *known = format!("{known}, {value}")).or_insert(value);
    }
    all
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(bytes.as_ref()).into_owned()
}

#[test]
fn every_scenario_holds_for_the_module() {
    let mut small = Small::start();
    let complaints: Vec<String> =
        corpus().iter().zip(1..).flat_map(|(scenario, n)| judge(&mut small, scenario, n)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert_no_bug(&small.envoy);
}
