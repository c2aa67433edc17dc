//! A billing service that keeps no books: what it answers to a gateway's calls, and what it was told.

use crate::cast::Cast;
use crate::corpus::{Says, Scenario};
use contract::v1::{Reason, Refusal};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a billing service decides about a need: from the whole sync and the need to the decision.
pub type Decide<'a> = &'a dyn Fn(&Value, &Value) -> Value;

/// It may pass, and a credit is held or a thousand are lent.
#[must_use]
pub fn pays(sync: &Value, need: &Value) -> Value {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let own = number(&sync["worker"]) << 40 | number(&need["id"]);
    let (price, generation, granted, held) = match need["mode"].as_str().unwrap_or_default() {
        "hold" => (1_000_000, own, 1_000_000, 1_000_000),
        "lease" => (1_000_000, 1, 1_000_000_000, 0),
        _ => (0, 0, 0, 0),
    };
    let cell = json!({"grant": 11, "generation": generation, "unit": "credits", "granted": granted, "held": held,
        "ttl_ms": 30_000, "exposure": granted - held, "scope": "", "keep": true});
    json!({"decision": "ok",
        "standing": {"account": "alice", "payer": "alice", "tier": "pro", "state": "active",
            "balance_micro": 9_000_000, "attributes": {"priority": "high"}, "epoch": 1, "valid_ms": 60_000},
        "price": {"unit": "credits", "hold": price, "scope": "", "version": 3},
        "cells": if granted > 0 { json!([cell]) } else { json!([]) }})
}

/// What a billing service answers that keeps no books: every need is decided as told, every report taken.
#[must_use]
pub fn honest(path: &str, asked: &Value, decide: Decide<'_>) -> Value {
    match path {
        "/gateway/v1/hello" => json!({"node": asked["node"], "incarnation": 7,
            "intervals": {"lease_ttl_ms": 30_000, "lease_tail_ms": 30_000, "sync_ms": 500, "claim_ttl_ms": 30_000,
                "wait_ms": 1000},
            "limits": {"cells_max": 512, "needs_max": 256, "usage_max": 256, "body_bytes_max": 1_048_576}}),
        "/gateway/v1/sync" => sync(asked, decide),
        "/gateway/v1/events/claim" => json!({"decision": "fresh", "token": "c_1", "ttl_ms": 30_000}),
        "/gateway/v1/events/complete" => json!({"result": "recorded"}),
        other => panic!("{other}"),
    }
}

/// Every cell is closed as soon as its hold has ended, every need decided, every record taken.
fn sync(asked: &Value, decide: Decide<'_>) -> Value {
    let list = |name: &str| asked[name].as_array().cloned().unwrap_or_default();
    let cell = |cell: Value| {
        let is_over = cell["finished"] == cell["admitted"];
        json!({"grant": cell["grant"], "generation": cell["generation"], "granted": cell["admitted"],
            "acked_admitted": cell["admitted"], "ttl_ms": 30_000, "exposure": 0,
            "state": if is_over { "closed" } else { "open" }, "keep": !is_over})
    };
    let need = |need: Value| {
        let mut decision = decide(asked, &need);
        decision["id"] = need["id"].clone();
        decision
    };
    json!({"sent_seq": asked["sent_seq"], "cells": list("cells").into_iter().map(cell).collect::<Value>(),
        "needs": list("needs").into_iter().map(need).collect::<Value>(),
        "usage_acked": list("usage").iter().filter_map(|record| record["n"].as_u64()).max().unwrap_or(0),
        "next_ms": 10_000, "notes": []})
}

/// The billing service of the corpus: it does as the step says, and remembers what it was asked and told.
#[derive(Debug, Default)]
pub struct Billing {
    says: Says,
    grant: usize,
    accounts: BTreeMap<String, String>,
    asked: Vec<String>,
    /// By worker and number, for a record may come again until it is acknowledged.
    told: BTreeMap<(u64, u64), Value>,
    claims: u64,
    /// With the token of its claim, for it may come again until it is acknowledged.
    completed: Vec<(String, Value)>,
}

impl Billing {
    /// From now on it plays in this scenario.
    pub fn play(&mut self, scenario: &Scenario, cast: Cast) {
        self.grant = 100 + cast.0;
        self.accounts.extend(cast.accounts(scenario));
    }

    /// From now on it does this.
    pub fn say(&mut self, says: &Says) {
        self.says = says.clone();
        self.asked.clear();
    }

    /// What it was asked since, in order.
    #[must_use]
    pub fn asked(&self) -> &[String] {
        &self.asked
    }

    /// Every usage record about one of these accounts, by worker in their order.
    #[must_use]
    pub fn told(&self, cast: Cast, scenario: &Scenario) -> Vec<Value> {
        let own: Vec<String> = cast.accounts(scenario).into_values().collect();
        let about = |record: &&Value| own.iter().any(|account| record["account"] == **account);
        self.told.values().filter(about).map(told).collect()
    }

    /// What became of this scenario's events, in order.
    #[must_use]
    pub fn completed(&self, cast: Cast) -> Vec<Value> {
        let end = cast.name("");
        let own = |told: &&Value| told["event"].as_str().is_some_and(|id| id.ends_with(&end));
        self.completed.iter().map(|(_, told)| told).filter(own).cloned().collect()
    }

    /// Status and document of its answer to a call.
    pub fn answer(&mut self, path: &str, asked: &Value) -> (u16, Value) {
        let needs = asked["needs"].as_array().cloned().unwrap_or_default();
        self.asked.extend(needs.iter().filter_map(|need| need["mode"].as_str().map(str::to_owned)));
        if path.ends_with("/claim") {
            self.asked.push("claim".to_owned());
        }
        if matches!(self.says, Says::Fails) {
            return (500, json!({}));
        }
        let worker = asked["worker"].as_u64().unwrap_or(0);
        for record in asked["usage"].as_array().into_iter().flatten() {
            self.told.insert((worker, record["n"].as_u64().unwrap()), record.clone());
        }
        if path.ends_with("/complete") {
            let token = asked["token"].as_str().unwrap_or_default().to_owned();
            if self.completed.iter().all(|(known, _)| *known != token) {
                let told = json!({ "event": asked["event_id"], "outcome": asked["outcome"] });
                self.completed.push((token, told));
            }
        }
        let mut answer = honest(path, asked, &|sync, need| self.decide(sync, need));
        match &self.says {
            Says::InFlight if path.ends_with("/claim") => {
                answer = json!({"decision": "in_flight", "retry_ms": 1000});
            }
            Says::Done if path.ends_with("/claim") => answer = json!({"decision": "done"}),
            _ if path.ends_with("/claim") => {
                self.claims += 1;
                answer["token"] = json!(format!("c_{}", self.claims));
            }
            _ => {}
        }
        if path.ends_with("/sync") {
            answer["next_ms"] = json!(200);
        }
        (200, answer)
    }

    fn decide(&self, sync: &Value, need: &Value) -> Value {
        let subject = need["subject"]["value"].as_str().unwrap_or_default();
        let Some(account) = self.accounts.get(subject) else {
            panic!("a need of nobody in the cast: {need}")
        };
        if let Says::Refuses(fields) = &self.says {
            let reason: Reason = serde_json::from_value(fields["reason"].clone()).unwrap();
            let mut refusal = serde_json::to_value(Refusal::plain(reason)).unwrap();
            for (name, value) in fields.as_object().into_iter().flatten() {
                refusal[name] = value.clone();
            }
            return json!({"decision": "refused", "refusal": refusal});
        }
        let mut decision = pays(sync, need);
        decision["standing"]["account"] = json!(account);
        decision["standing"]["payer"] = json!(account);
        for cell in decision["cells"].as_array_mut().into_iter().flatten() {
            cell["grant"] = json!(self.grant);
        }
        decision
    }
}

/// What of a record a scenario can foresee.
fn told(record: &Value) -> Value {
    let charges = record["charges"].as_array().into_iter().flatten();
    let charged: u64 = charges.filter_map(|charge| charge["amount"].as_u64()).sum();
    json!({ "account": record["account"], "endpoint": record["endpoint"], "outcome": record["outcome"],
        "charged": charged, "returned": record["returned"] })
}
