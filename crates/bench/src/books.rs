//! The billing service's side of a bench: customers who can pay, and what was counted there.

use serde_json::{Value, json};
use stage::client::{Answer, Call, Client};
use stage::settings::Settings;
use stage::{During as _, Result, Trouble};
use std::time::{SystemTime, UNIX_EPOCH};

/// More than any run can spend.
const CREDITS: u64 = 1_000_000_000;

/// A way to speak to the billing service.
pub(crate) struct Books<'a> {
    settings: &'a Settings,
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl<'a> Books<'a> {
    /// Of the billing service that these settings tell of.
    ///
    /// # Errors
    /// No runtime can be started.
    pub(crate) fn of(settings: &'a Settings) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self { settings, runtime: runtime.during("start a client")?, client: Client::default() })
    }

    /// Calls that the billing service has counted since it started.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) fn calls(&self) -> Result<u64> {
        let text = self.send("/metrics", &[200], Call::get)?.text();
        let lines = text.lines().filter(|line| line.starts_with("tollgate_billing_calls_total"));
        let counts = lines.map(|line| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()));
        counts.sum::<Option<_>>().ok_or_else(|| Trouble(format!("a line of /metrics has no count:\n{text}")))
    }

    /// Makes a customer with credits; its key.
    ///
    /// # Errors
    /// The billing service refuses it.
    pub(crate) fn customer(&self, n: usize) -> Result<String> {
        // Another run's customers may be there already, if the ledger outlives a run.
        let run = SystemTime::now().duration_since(UNIX_EPOCH).during("read the clock")?.as_millis();
        let account = format!("bench-{run}-{n}");
        self.admin("accounts", &account, &json!({ "id": account, "subjects": [] }))?;
        self.admin(
            "grants",
            &account,
            &json!({ "account": account, "credits": CREDITS, "note": "for the bench" }),
        )?;
        let key = self.admin("api-keys", &account, &json!({ "account": account }))?;
        let key = key.get("key").and_then(Value::as_str).map(str::to_owned);
        key.ok_or_else(|| Trouble(format!("the billing service gave {account} no API key")))
    }

    fn admin(&self, what: &str, account: &str, body: &Value) -> Result<Value> {
        let token = &self.settings.admin_token;
        let answer = self.send(&format!("/admin/v1/{what}"), &[200, 201], |url| {
            Call::post(url).bearer(token).header("idempotency-key", format!("{what}-{account}")).json(body)
        });
        Ok(answer?.json())
    }

    fn send(&self, path: &str, expect: &[u16], call: impl FnOnce(String) -> Call) -> Result<Answer> {
        let answer = self.runtime.block_on(self.client.send(call(self.settings.billing(path))))?;
        if expect.contains(&answer.status) {
            return Ok(answer);
        }
        Err(Trouble(format!("the billing service answered {} to {path}: {}", answer.status, answer.text())))
    }
}
