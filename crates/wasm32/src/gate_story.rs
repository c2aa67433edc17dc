//! Requests through a gate, with a worker behind it that a scripted billing service answers.

use crate::{Numbers, Story};
use contract::v1::{NeedShape, PriceList};
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
    /// Pieces of its body, of which nobody sees more than their lengths.
    pub body: Vec<usize>,
    /// Its body, where it is read.
    pub text: &'static str,
    /// The upstream's answer, in pieces.
    pub answer: Vec<&'static str>,
}

/// A chat request by the demo's customer.
#[must_use]
pub fn request(headers: &[(&str, &str)], body: &[usize]) -> Request {
    let line = [(":method", "POST"), (":path", "/v1/chat/completions"), ("x-api-key", KEY)];
    let headers = line.iter().chain(headers).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Request { headers: headers.collect(), body: body.to_vec(), text: "", answer: Vec::new() }
}

/// A request that is read, on the route of this path, and its answer in pieces.
#[must_use]
pub fn read(path: &str, text: &'static str, answer: &[&'static str]) -> Request {
    let mut read = request(&[], &[]);
    path.clone_into(&mut read.headers[1].1);
    Request { text, answer: answer.to_vec(), ..read }
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
        text: "",
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
    /// The body of the request at hand.
    text: &'static str,
}

impl Stage {
    fn play(&mut self, role: &Role, request: &Request, n: u64) -> u16 {
        self.now = self.now.plus(Span::from_millis(500 + self.numbers.below(500)));
        let mut exchange = role.exchange(n);
        let pairs = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let headers: Headers = pairs.collect();
        let end = request.body.is_empty() && request.text.is_empty();
        let mut status = None;
        self.text = request.text;
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
        if status.is_none() && !request.text.is_empty() {
            let most = exchange.body_wanted().unwrap_or(0);
            let body = request.text.as_bytes().get(..=most).unwrap_or(request.text.as_bytes());
            let input = Input::RequestBody { size: request.text.len(), end: true, body: Some(body) };
            flow = self.tell(&mut exchange, input, &mut status);
        }
        if status.is_none() {
            flow = self.decide(&mut exchange, flow, &mut status);
        }
        if flow == Flow::Continue {
            self.answer(&mut exchange, &request.answer, &mut status);
        }
        self.tell(&mut exchange, Input::Closed { code: Some(200), flags: 0, usage: None }, &mut status);
        self.calls();
        status.unwrap_or(0)
    }

    /// The upstream answers, and the client hears of it.
    fn answer(&mut self, exchange: &mut Exchange, answer: &[&'static str], status: &mut Option<u16>) {
        let kind =
            if answer.concat().starts_with("data:") { "text/event-stream" } else { "application/json" };
        let headers: Headers = [(":status", "200"), ("content-type", kind)].into_iter().collect();
        self.tell(exchange, Input::ResponseHeaders { headers: &headers, end: answer.is_empty() }, status);
        for (n, text) in answer.iter().enumerate() {
            let piece = exchange.answer_wanted().then_some(text.as_bytes());
            let input = Input::ResponseBody { size: text.len(), end: n + 1 == answer.len(), piece };
            self.tell(exchange, input, status);
        }
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
                Effect::EditRequestBody(edit) => {
                    let edited = edit.apply(self.text.as_bytes()).unwrap();
                    self.story.tell(&String::from_utf8(edited).unwrap());
                }
                Effect::SetResponsePiece(piece) => self.story.tell(&String::from_utf8(piece).unwrap()),
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
        let needs: Vec<Value> =
            asked["needs"].as_array().unwrap().iter().map(|need| self.decide_need(worker, need)).collect();
        let acked = asked["usage"].as_array().unwrap().iter().filter_map(|record| record["n"].as_u64()).max();
        let mut answer = json!({"sent_seq": asked["sent_seq"], "cells": cells, "needs": needs,
            "usage_acked": acked.unwrap_or(0), "next_ms": 1000, "notes": []});
        if asked["needs"].as_array().unwrap().iter().any(|need| need["shape"]["kind"] == "tokens") {
            answer["lists"] = json!({"chat": list()});
        }
        answer
    }

    fn decide_need(&mut self, worker: u64, need: &Value) -> Value {
        let id = need["id"].as_u64().unwrap();
        if self.left == 0 {
            let refusal = contract::v1::Refusal::plain(contract::v1::Reason::InsufficientCredits);
            return json!({"id": id, "decision": "refused", "refusal": refusal});
        }
        self.left -= 1;
        let hold = match serde_json::from_value(need["shape"].clone()).unwrap() {
            NeedShape::Fixed => 5_000_000_000,
            NeedShape::Tokens(shape) => list().hold(&shape).unwrap().get(),
        };
        let price = json!({"unit": "credits", "hold": hold, "scope": "", "version": 1});
        let standing = json!({"account": "alice", "payer": "alice", "tier": "pro", "state": "active",
            "balance_micro": 7_000_000_000_u64, "attributes": {"plan": "pro"}, "epoch": 1, "valid_ms": 0});
        let cell = json!({"grant": 1, "generation": worker << 40 | id, "unit": "credits", "granted": hold,
            "held": hold, "ttl_ms": 30_000, "exposure": hold, "scope": "", "keep": true});
        json!({"id": id, "decision": "ok", "standing": standing, "price": price, "cells": [cell]})
    }
}

/// So dear that a hold is beyond 32 bits.
fn list() -> PriceList {
    let dear = 9_000_000_000_000_u64;
    let model = json!({"name": "m", "matching": "exact", "input": dear, "cached": dear, "cache_written": dear,
        "output": dear, "reasoning": dear, "image": 0, "context": 1_000_000_000_000_u64, "output_max": 700,
        "output_usual": 5, "tools_tokens": 0});
    serde_json::from_value(json!({"version": 1, "request": 1, "minimum": 0, "hold": 7, "output_min": 1,
        "unknown": "refuse", "models": [model]}))
    .unwrap()
}

fn hello(asked: &Value) -> Value {
    let intervals = json!({"lease_ttl_ms": 30_000, "lease_tail_ms": 30_000, "sync_ms": 500, "claim_ttl_ms": 30_000, "wait_ms": 1000});
    let limits = json!({"cells_max": 100, "needs_max": 100, "usage_max": 100, "body_bytes_max": 1 << 20});
    json!({"node": asked["node"], "incarnation": 1, "intervals": intervals, "limits": limits})
}
