//! The corpus of `tests/scenarios`, told to real Envoy with the shipped configuration.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what does not hold in a test is the test's failure"
)]

use scenarios::{AI, Billing, Cast, FILES, Seen, Step, Teller, WEBHOOK, corpus, judge};
use serde_json::Value;
use stage::client::Call;
use stage::envoy_file::EnvoyFile;
use stage::harness::{Options, Stage};
use stage::rogue::{Conduct, RogueBilling};
use stage::{stripe, tools, upstream};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Envoy with one worker, the scripted upstream, and the corpus's billing service.
struct Real {
    stage: Stage,
    billing: Arc<Mutex<Billing>>,
    runtime: Runtime,
    _rogue: RogueBilling,
}

impl Real {
    fn start() -> Self {
        let stage = Stage::start(Options::default().with("ENVOY_CONCURRENCY", 1).without_billing());
        let rogue = RogueBilling::start(stage.settings().billing_port).unwrap();
        let billing = Arc::new(Mutex::new(Billing::default()));
        rogue.behave("", Conduct::Play(Arc::clone(&billing)));
        Self { stage, billing, runtime: Runtime::new().unwrap(), _rogue: rogue }
    }
}

impl Teller for Real {
    fn send(&mut self, step: &Step, cast: Cast) -> Seen {
        let settings = self.stage.settings();
        let sent = cast.sent(step, &settings.webhook_secret, stripe::now());
        let mut call = Call::new(sent.method.parse().unwrap(), settings.gateway(&sent.path));
        for (name, value) in &sent.headers {
            call = call.header(name, value);
        }
        call = call.header(upstream::HEADER_SCRIPT, format!("status={}", step.upstream.status));
        if let Some(body) = sent.body {
            call = call.body(body);
        }
        self.stage.upstream.clear();
        let answer = self.runtime.block_on(self.stage.gateway.send(call));
        let headers = answer.headers.iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        let forwarded = self.stage.upstream.requests().pop().map(|item| item.headers);
        Seen { status: answer.status, headers: headers.collect(), body: answer.text(), forwarded }
    }

    fn billing<T>(&mut self, look: impl FnOnce(&mut Billing) -> T) -> T {
        look(&mut self.billing.lock().unwrap())
    }

    fn settle(&mut self, done: &dyn Fn(&Billing) -> bool) {
        for _ in 0..250 {
            if done(&self.billing.lock().unwrap()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn every_scenario_holds_in_envoy() {
    let mut real = Real::start();
    let complaints: Vec<String> =
        corpus().iter().zip(1..).flat_map(|(scenario, n)| judge(&mut real, scenario, n)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    real.stage.finish();
}

#[test]
fn the_corpus_is_told_with_the_shipped_configuration() {
    let root = tools::root().unwrap();
    let mut file = EnvoyFile::read(&root.join("envoy/envoy.yaml")).unwrap();
    for (role, text) in [("ai", AI), ("webhook", WEBHOOK)] {
        let mut shipped = BTreeMap::new();
        file.plugin(role, |plugin| _ = shipped.insert(role, plugin.clone())).unwrap();
        assert_eq!(shipped[role], serde_json::from_str::<Value>(text).unwrap(), "{role}");
    }
}

#[test]
fn every_file_is_in_the_corpus_and_every_scenario_has_its_own_name_and_says_why() {
    let files = std::fs::read_dir(tools::root().unwrap().join("tests/scenarios")).unwrap();
    let there: BTreeSet<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, FILES.iter().map(|(name, _)| (*name).to_owned()).collect());
    let all = corpus();
    let names: BTreeSet<_> = all.iter().map(|scenario| &scenario.name).collect();
    assert_eq!(names.len(), all.len());
    assert!(all.iter().all(|scenario| !scenario.why.is_empty() && !scenario.steps.is_empty()));
}
