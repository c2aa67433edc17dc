//! Where everybody meets: addresses, customers, which Envoy is open for honest traffic, and how a request is sent.

use crate::dice::Dice;
use crate::judge::Docket;
use crate::tally::Tally;
use serde_json::{Value, json};
use stage::client::{Answer, Call, Client};
use stage::harness::{Gateway, Stage};
use stage::settings::Settings;
use stage::{Result, Trouble};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Longer than any timeout of the gateway: whoever waits longer hangs.
pub(crate) const HUNG: Duration = Duration::from_secs(20);
/// How often an operator's call is tried, 50 ms apart, while billing is killed.
const TRIES: u32 = 600;
/// More than anybody here spends.
pub(crate) const AMPLE: u32 = 10_000_000;

/// Customers who pay and behave; half come with an API key, half with a token.
pub(crate) const HONEST: usize = 6;
/// Customers whose Envoy is killed while it serves them: one for each Envoy.
pub(crate) const RISKING: [&str; 2] = ["risking-0", "risking-1"];
/// Whoever leaves before the answer is complete.
pub(crate) const LEAVER: &str = "leaver";
/// Whose upstream misbehaves.
pub(crate) const TROUBLED: &str = "troubled";

/// Traffic that ended before its time, by a mistake of its own.
pub(crate) const BROKE_OFF: &str = "tasks of the soak that broke off";

/// What everybody shares.
pub(crate) struct Field {
    pub(crate) tally: Tally,
    pub(crate) docket: Docket,
    pub(crate) settings: [Settings; 2],
    credentials: Mutex<BTreeMap<String, String>>,
    open: [AtomicBool; 2],
    in_flight: [AtomicUsize; 2],
    stopped: AtomicBool,
    ended: AtomicBool,
    operator: Client,
}

/// What came of a request.
pub(crate) enum Ended {
    Answered(Box<Answer>),
    Broken(String),
    Hung,
}

/// The one of two that a number means.
pub(crate) const fn side<T>(pair: &[T; 2], n: usize) -> &T {
    let [first, second] = pair;
    if n.is_multiple_of(2) { first } else { second }
}

/// The key under which the upstream counts what comes through one Envoy.
pub(crate) fn key_at(gateway: usize, key: &str) -> String {
    format!("{key}.{}", gateway % 2)
}

/// The name of an honest customer.
pub(crate) fn honest(n: usize) -> String {
    format!("honest-{n}")
}

impl Field {
    /// Opens all accounts.
    pub(crate) async fn open(stage: &Stage, other: &Gateway) -> Result<Self> {
        let field = Self {
            tally: Tally::default(),
            docket: Docket::default(),
            settings: [stage.settings().clone(), other.settings.clone()],
            credentials: Mutex::default(),
            open: [AtomicBool::new(true), AtomicBool::new(true)],
            in_flight: [AtomicUsize::new(0), AtomicUsize::new(0)],
            stopped: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            operator: Client::default(),
        };
        let names =
            (0..HONEST).map(honest).chain(RISKING.into_iter().chain([LEAVER, TROUBLED]).map(str::to_owned));
        for name in names {
            field.customer(&name, AMPLE).await?;
        }
        field.renew_tokens(stage);
        Ok(field)
    }

    /// Opens an account, gives it credits and an API key.
    pub(crate) async fn customer(&self, name: &str, credits: u32) -> Result<()> {
        let subject = json!({ "kind": "jwt_sub", "value": name });
        self.operate(name, "accounts", &json!({ "id": name, "subjects": [subject] })).await?;
        self.operate(name, "grants", &json!({ "account": name, "credits": credits, "note": "soak" })).await?;
        let made = self.operate(name, "api-keys", &json!({ "account": name })).await?;
        let key = made.get("key").and_then(Value::as_str).unwrap_or_default();
        self.set_credential(name, key.to_owned());
        Ok(())
    }

    /// Every other honest customer comes with a token, which ends after an hour.
    pub(crate) fn renew_tokens(&self, stage: &Stage) {
        for name in (0..HONEST).step_by(2).map(honest) {
            let token = tokio::task::block_in_place(|| stage.token(&name));
            self.set_credential(&name, token);
        }
    }

    fn set_credential(&self, name: &str, credential: String) {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), credential);
    }

    pub(crate) fn credential(&self, name: &str) -> String {
        let all = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name).cloned().unwrap_or_default()
    }

    /// An operator's write, repeated with the same key until billing answers.
    pub(crate) async fn operate(&self, name: &str, what: &str, document: &Value) -> Result<Value> {
        let url = side(&self.settings, 0).billing(&format!("/admin/v1/{what}"));
        let key = format!("soak-{what}-{name}");
        let call =
            Call::post(url).bearer(&side(&self.settings, 0).admin_token).header("idempotency-key", key);
        self.insist(call.json(document)).await
    }

    /// What the ledger says of an account.
    pub(crate) async fn account(&self, name: &str) -> Result<Value> {
        let url = side(&self.settings, 0).billing(&format!("/admin/v1/accounts/{name}"));
        self.insist(Call::get(url).bearer(&side(&self.settings, 0).admin_token)).await
    }

    async fn insist(&self, call: Call) -> Result<Value> {
        let mut last = String::new();
        for _ in 0..TRIES {
            match self.operator.send(call.clone()).await {
                Ok(answer) if (200..300).contains(&answer.status) => return Ok(answer.json()),
                Ok(answer) => last = answer.text(),
                Err(Trouble(why)) => last = why,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(Trouble(format!("an operator's call fails for good: {last}")))
    }

    /// A request for an endpoint that costs one credit. What the upstream serves is counted under `key`, at each Envoy for itself.
    pub(crate) fn paid(&self, gateway: usize, customer: &str, key: &str, script: &str) -> Call {
        let call = Call::post(self.gateway(gateway, "/v1/embeddings")).bearer(&self.credential(customer));
        let key = key_at(gateway, key);
        call.header("x-script", format!("key={key};{script}")).json(&json!({ "input": "hello" }))
    }

    pub(crate) fn gateway(&self, gateway: usize, path: &str) -> String {
        side(&self.settings, gateway).gateway(path)
    }

    /// Sends it, and waits for as long as an answer may take at all.
    pub(crate) async fn send(&self, client: &Client, call: Call) -> Ended {
        match tokio::time::timeout(HUNG, client.send(call)).await {
            Ok(Ok(answer)) => Ended::Answered(Box::new(answer)),
            Ok(Err(Trouble(why))) => Ended::Broken(why),
            Err(_) => Ended::Hung,
        }
    }

    /// An Envoy that is open for honest traffic, the preferred one if it can be; give it back with [`Field::leave`].
    pub(crate) fn enter(&self, preferred: usize) -> usize {
        let mut gateway = preferred % 2;
        loop {
            side(&self.in_flight, gateway).fetch_add(1, Ordering::SeqCst);
            if side(&self.open, gateway).load(Ordering::SeqCst) {
                return gateway;
            }
            self.leave(gateway);
            gateway = 1 - gateway;
        }
    }

    pub(crate) fn leave(&self, gateway: usize) {
        side(&self.in_flight, gateway).fetch_sub(1, Ordering::SeqCst);
    }

    /// Sends honest traffic elsewhere from now on.
    pub(crate) fn shut(&self, gateway: usize) {
        side(&self.open, gateway).store(false, Ordering::SeqCst);
    }

    /// Sends honest traffic elsewhere; returns once none is left there.
    pub(crate) async fn close(&self, gateway: usize) {
        self.shut(gateway);
        while side(&self.in_flight, gateway).load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn reopen(&self, gateway: usize) {
        side(&self.open, gateway).store(true, Ordering::SeqCst);
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Whether the last of the traffic has ended.
    pub(crate) fn is_at_end(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Whether nothing of it waits for its judgement either.
    pub(crate) fn is_over(&self) -> bool {
        self.is_at_end() && self.docket.is_empty()
    }

    /// The last of the traffic has ended: no more will be judged than what waits.
    pub(crate) fn no_more(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// A task of this traffic has ended; one that broke off left its traffic out from then on.
    pub(crate) fn joined(&self, task: std::result::Result<(), tokio::task::JoinError>) {
        if let Err(error) = task {
            self.tally.odd(BROKE_OFF, error.to_string());
        }
    }

    /// An Envoy, whatever is about to happen to it.
    pub(crate) fn any(dice: &mut Dice) -> usize {
        usize::try_from(dice.below(2)).unwrap_or(0)
    }
}
