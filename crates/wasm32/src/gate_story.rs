//! Requests through a gate, with a worker behind it that a scripted billing service answers.

use crate::{Numbers, Story};
use gate::config::Config;
use gate::worker::{Answer, CallResult, Settings, Worker, WorkerEffect};
use gate::{Effect, Exchange, Flow, Headers, Input, MemoryShelf, Now, Role};
use serde_json::{Value, json};
use units::{Instant, NodeName, Span};

const KEY: &str = "tgk_0123456789abcdefghijABCDEFGHIJ01";

/// One configuration, with every variable set to something fit.
///
/// # Errors
/// All complaints in one text.
pub fn config_of(json: &str) -> Result<Config, String> {
    let env = |name: &str| {
        Some(if name == "NODE" { "n1".to_owned() } else { "whsec_some_secret_of_length".to_owned() })
    };
    Config::resolve(json.as_bytes(), &env)
        .map_err(|complaints| complaints.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// What a request does.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method, path and further headers.
    pub headers: Vec<(String, String)>,
    /// Pieces of its body.
    pub body: Vec<usize>,
}

/// A chat request by the demo's customer.
#[must_use]
pub fn request(headers: &[(&str, &str)], body: &[usize]) -> Request {
    let line = [(":method", "POST"), (":path", "/v1/chat/completions"), ("x-api-key", KEY)];
    let headers = line.iter().chain(headers).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Request { headers: headers.collect(), body: body.to_vec() }
}

/// What each request came to (its status, or 0 if it went on and was charged), and the digest of all that clients and billing were told.
#[must_use]
pub fn requests(config: &Config, all: &[Request], credits: u64) -> (Vec<u16>, String) {
    let role = Role::from(config.clone());
    let mut stage = Stage {
        worker: Worker::new(Settings {
            node: NodeName::new("n1").unwrap(),
            call: Span::from_secs(2),
            wait: Span::from_secs(1),
            watch: false,
        }),
        shelf: MemoryShelf::default(),
        now: Instant::from_secs(1_795_176_000),
        left: credits,
        story: Story::default(),
        numbers: Numbers(3),
    };
    let results = all.iter().zip(1..).map(|(request, n)| stage.play(&role, request, n)).collect();
    (results, stage.story.end())
}

struct Stage {
    worker: Worker,
    shelf: MemoryShelf,
    now: Instant,
    left: u64,
    story: Story,
    numbers: Numbers,
}

impl Stage {
    fn play(&mut self, role: &Role, request: &Request, n: u64) -> u16 {
        self.now = self.now.plus(Span::from_millis(500 + self.numbers.below(500)));
        let mut exchange = role.exchange(n);
        let pairs = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let headers: Headers = pairs.collect();
        let end = request.body.is_empty();
        let mut status = None;
        let mut flow = self.tell(
            &mut exchange,
            Input::RequestHeaders { headers: &headers, end, verified: None },
            &mut status,
        );
        for (at, size) in request.body.iter().enumerate() {
            let end = at + 1 == request.body.len();
            if status.is_none() {
                flow = self.tell(
                    &mut exchange,
                    Input::RequestBody { size: *size, end, body: None },
                    &mut status,
                );
            }
        }
        if status.is_none() {
            flow = self.decide(&mut exchange, flow, &mut status);
        }
        if flow == Flow::Continue {
            let answer: Headers = [(":status", "200")].into_iter().collect();
            self.tell(&mut exchange, Input::ResponseHeaders { headers: &answer, end: true }, &mut status);
        }
        self.tell(&mut exchange, Input::Closed { code: Some(200), flags: 0, usage: None }, &mut status);
        self.calls();
        status.unwrap_or(0)
    }

    /// The worker's answer, if one is due.
    fn decide(&mut self, exchange: &mut Exchange, flow: Flow, status: &mut Option<u16>) -> Flow {
        for _ in 0..8 {
            if let Some(answer) = self.calls() {
                return self.tell(exchange, Input::Answered(answer), status);
            }
        }
        flow
    }

    fn tell(&mut self, exchange: &mut Exchange, input: Input<'_>, status: &mut Option<u16>) -> Flow {
        let now = Now { mono: self.now, wall: self.now };
        let flow = exchange.handle(input, now, &mut self.shelf);
        let mut flow = flow;
        while let Some(effect) = exchange.poll_effect() {
            match effect {
                Effect::Ask(question) => {
                    if let Some(answer) = self.worker.ask(1, question, self.now, &mut self.shelf) {
                        flow = self.tell(exchange, Input::AnsweredAtOnce(answer), status);
                    }
                }
                Effect::Withdraw => self.worker.withdraw(1),
                Effect::Tell(report) => self.worker.tell(report, self.now, &mut self.shelf),
                Effect::Reply(reply) => {
                    self.story.tell(&reply);
                    *status = Some(reply.status);
                }
                _ => {}
            }
        }
        flow
    }

    /// Every call that the worker wants to make is made and answered.
    fn calls(&mut self) -> Option<Answer> {
        let mut woken = None;
        for effect in self.worker.poll(self.now, &mut self.shelf) {
            match effect {
                WorkerEffect::Call { id, path, body, .. } => {
                    self.story.tell(&(path, String::from_utf8_lossy(&body)));
                    let asked: Value = serde_json::from_slice(&body).unwrap();
                    let answer = if path.ends_with("hello") { hello(&asked) } else { self.sync(&asked) };
                    let body = Some(serde_json::to_vec(&answer).unwrap());
                    self.worker.on_answer(
                        id,
                        &CallResult::Upstream { status: 200, body },
                        self.now,
                        &mut self.shelf,
                    );
                }
                WorkerEffect::Wake { answer, .. } => woken = Some(answer),
                _ => {}
            }
        }
        woken
    }

    fn sync(&mut self, asked: &Value) -> Value {
        let cells: Vec<Value> = asked["cells"].as_array().unwrap().iter().map(|cell| {
            json!({"grant": cell["grant"], "generation": cell["generation"], "granted": cell["admitted"],
                "acked_admitted": cell["admitted"], "ttl_ms": 30_000, "exposure": 0, "state": "open", "keep": true})
        }).collect();
        let worker = asked["worker"].as_u64().unwrap();
        let needs: Vec<Value> = asked["needs"].as_array().unwrap().iter().map(|need| {
            let id = need["id"].as_u64().unwrap();
            if self.left == 0 {
                let refusal = contract::v1::Refusal::plain(contract::v1::Reason::InsufficientCredits);
                return json!({"id": id, "decision": "refused", "refusal": refusal});
            }
            self.left -= 1;
            let price = json!({"unit": "credits", "hold": 5_000_000_000_u64, "scope": "", "version": 1});
            let standing = json!({"account": "alice", "payer": "alice", "tier": "pro", "state": "active",
                "balance_micro": 7_000_000_000_u64, "attributes": {"plan": "pro"}, "epoch": 1, "valid_ms": 0});
            let cell = json!({"grant": 1, "generation": worker << 40 | id, "unit": "credits", "granted": 5_000_000_000_u64,
                "held": 5_000_000_000_u64, "ttl_ms": 30_000, "exposure": 5_000_000_000_u64, "scope": "", "keep": true});
            json!({"id": id, "decision": "ok", "standing": standing, "price": price, "cells": [cell]})
        }).collect();
        let acked = asked["usage"].as_array().unwrap().iter().filter_map(|record| record["n"].as_u64()).max();
        json!({"sent_seq": asked["sent_seq"], "cells": cells, "needs": needs, "usage_acked": acked.unwrap_or(0),
            "next_ms": 1000, "notes": []})
    }
}

fn hello(asked: &Value) -> Value {
    let intervals = json!({"lease_ttl_ms": 30_000, "lease_tail_ms": 30_000, "sync_ms": 500, "claim_ttl_ms": 30_000, "wait_ms": 1000});
    let limits = json!({"cells_max": 100, "needs_max": 100, "usage_max": 100, "body_bytes_max": 1 << 20});
    json!({"node": asked["node"], "incarnation": 1, "intervals": intervals, "limits": limits})
}
