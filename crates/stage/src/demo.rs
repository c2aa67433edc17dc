//! `stage demo`: walks through what Tollgate does, with real requests through real Envoy, and checks each outcome.

use crate::client::{Answer, Call, Client};
use crate::run::{self, Running};
use crate::settings::Settings;
use crate::tools::Tools;
use crate::{During as _, Result, Trouble, stripe};
use serde_json::{Value, json};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const APP: &str = "/webhooks/app";
const CHAT: &str = "/v1/chat/completions";
const IMAGE: &str = "/v1/images/generations";
const METERED: &str = "/v1/metered/chat/completions";
/// How long the outcome of a request may take to show in the balance.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// Starts everything, walks through, and stops everything.
///
/// # Errors
/// Something does not start, or an outcome is not the expected one.
pub fn demo() -> Result<()> {
    let stop = run::stop_on_signal()?;
    let (settings, tools) = run::prepare()?;
    println!("Starting Envoy, the billing service and a scripted upstream …");
    let mut running = Running::start(&settings, &tools, &stop)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().during("start a runtime")?;
    let walked = runtime.block_on(async {
        tokio::select! {
            walked = walk(&settings, &tools) => walked,
            () = stopped(&stop) => Err(Trouble("Stopped.".into())),
        }
    });
    if let Some(failure) = running.failure() {
        return Err(failure);
    }
    let crashed = running.envoy.log().contains("in-VM backtrace");
    drop(running);
    match walked? {
        _ if crashed => {
            Err(Trouble(format!("The filter crashed; see {}/envoy.log", settings.run_dir.display())))
        }
        0 => {
            println!("\nEverything was as it should be, and everything is stopped. `make run` stays up.");
            Ok(())
        }
        wrong => Err(Trouble(format!("\n{wrong} outcomes were not as they should be (marked WRONG above)."))),
    }
}

async fn stopped(stop: &AtomicBool) {
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Walks through, where everything runs already; how many outcomes were not as they should be.
///
/// # Errors
/// Something does not answer.
pub async fn walk(settings: &Settings, tools: &Tools) -> Result<u32> {
    // Each run has customers and events of its own, so that it can be repeated on one database.
    let run = stripe::now().secs();
    let alice = format!("alice-{run}");
    let token = run::token(settings, tools, &alice)?;
    let mut walk = Walk { settings, client: Client::default(), alice, token, run, steps: 0, wrong: 0 };
    walk.forged_event().await?;
    walk.event_once().await?;
    walk.failing_handler().await?;
    walk.free_requests().await?;
    walk.package().await?;
    walk.failing_upstream().await?;
    walk.by_use().await?;
    Ok(walk.wrong)
}

struct Walk<'a> {
    settings: &'a Settings,
    client: Client,
    alice: String,
    token: String,
    run: i64,
    steps: u32,
    wrong: u32,
}

impl Walk<'_> {
    async fn forged_event(&mut self) -> Result<()> {
        self.step("A forged event: well made, but signed with somebody else's secret");
        let event = stripe::event(
            &self.id("forged"),
            "customer.created",
            &json!({ "id": "cus_x", "object": "customer" }),
        );
        let answer = self.deliver(APP, "whsec_somebody_elses_secret", &event, None).await?;
        self.check("POST /webhooks/app", answer.status, 400);
        let handled = self.forwarded(APP).await?;
        self.check("requests that reached the app's handler", handled, 0);
        Ok(())
    }

    async fn event_once(&mut self) -> Result<()> {
        self.step(
            "A genuine event, and then the same one again, as Stripe sends it when it missed our answer",
        );
        let event = stripe::event(
            &self.id("once"),
            "customer.created",
            &json!({ "id": "cus_x", "object": "customer" }),
        );
        for (delivery, word) in [("first", "POST /webhooks/app"), ("second", "the same again")] {
            let answer = self.deliver(APP, &self.settings.webhook_secret, &event, None).await?;
            self.check(word, answer.status, 200);
            let handled = self.forwarded(APP).await?;
            self.check(
                &format!("requests that reached the app's handler after the {delivery} delivery"),
                handled,
                1,
            );
        }
        Ok(())
    }

    async fn failing_handler(&mut self) -> Result<()> {
        self.step(
            "An event whose handler fails: Stripe's retry must get through, or the event would be lost",
        );
        let event = stripe::event(
            &self.id("fails"),
            "customer.updated",
            &json!({ "id": "cus_x", "object": "customer" }),
        );
        let before = self.forwarded(APP).await?;
        let script = format!("fail_first=1;key={}", self.run);
        let secret = &self.settings.webhook_secret;
        let failed = self.deliver(APP, secret, &event, Some(&script)).await?;
        self.check("POST /webhooks/app, the handler fails", failed.status, 500);
        let mut retry = self.deliver(APP, secret, &event, Some(&script)).await?;
        // Stripe waits longer: its retry does not find the failure still on its way through the gateway.
        for _ in 0..SETTLED_WITHIN.as_millis().div_ceil(50) {
            if retry.status != 409 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            retry = self.deliver(APP, secret, &event, Some(&script)).await?;
        }
        self.check("Stripe's retry", retry.status, 200);
        let handled = self.forwarded(APP).await?.saturating_sub(before);
        self.check("times the handler was asked", handled, 2);
        Ok(())
    }

    async fn free_requests(&mut self) -> Result<()> {
        self.step(&format!("{} is a free customer: 3 chat requests a day", self.alice));
        let before = self.forwarded(CHAT).await?;
        for number in 1..=3 {
            let answer = self.ask(CHAT, None).await?;
            self.check(&format!("POST {CHAT}, request {number}"), answer.status, 200);
        }
        let refused = self.ask(CHAT, None).await?;
        self.check(&format!("POST {CHAT}, request 4"), refused.status, 402);
        self.check("its reason", text(&refused.json(), "/reason"), "daily_limit_reached".to_owned());
        println!("     {}", format!("{:#}", refused.json()).replace('\n', "\n     "));
        let served = self.forwarded(CHAT).await?.saturating_sub(before);
        self.check("requests that reached the upstream, and so cost us money", served, 3);
        let image = self.ask(IMAGE, None).await?;
        self.check(&format!("POST {IMAGE}, which free customers do not have"), image.status, 403);
        Ok(())
    }

    async fn package(&mut self) -> Result<()> {
        self.step(
            "She buys the package `starter`: 100 credits for 5.00 USD. Stripe tells us by a signed event",
        );
        self.balance("0").await?;
        let bought = stripe::package_bought(&self.id("bought"), &self.alice, "starter", 500, "usd");
        let stripe_path = "/webhooks/stripe";
        for (word, explained) in [
            ("POST /webhooks/stripe", "0 + 100 bought"),
            ("the same event again", "the same: an event counts once"),
        ] {
            let answer = self.deliver(stripe_path, &self.settings.webhook_secret, &bought, None).await?;
            self.check(word, answer.status, 200);
            self.balance("100").await?;
            println!("       = {explained}");
        }
        let answer = self.ask(CHAT, None).await?;
        self.check(&format!("POST {CHAT}, the next request"), answer.status, 200);
        self.balance("99").await?;
        println!("       = 100 - 1: today's free requests are used up, so this one cost a credit");
        Ok(())
    }

    async fn failing_upstream(&mut self) -> Result<()> {
        self.step("The upstream fails: nothing was delivered, so nothing is charged");
        let answer = self.ask(CHAT, Some("status=500")).await?;
        self.check(&format!("POST {CHAT}, the upstream answers 500"), answer.status, 500);
        self.balance("99").await?;
        println!("       = 99 - 1 held + 1 returned");
        Ok(())
    }

    async fn by_use(&mut self) -> Result<()> {
        self.step("An endpoint that is charged by use: 0.002 credits per token of the input, 0.01 per token of the output");
        for stream in [false, true] {
            let answer = self.ask_with(METERED, &json!({ "stream": stream }), None).await?;
            let how = if stream { "streamed" } else { "as one document" };
            self.check(&format!("POST {METERED}, {how}"), answer.status, 200);
            let told = answer.text().contains("prompt_tokens");
            self.check("its answer says what it used", told, !stream);
            let left = if stream { "98.84" } else { "98.92" };
            self.balance(left).await?;
            let before = if stream { "98.92" } else { "99" };
            println!(
                "       = {before} - (5 × 0.002 + 7 × 0.01): what the upstream said, and not what was held"
            );
        }
        println!(
            "   The stream's usage was asked for on the way, and taken out again, since she had not asked for it."
        );
        Ok(())
    }

    fn step(&mut self, what: &str) {
        self.steps = self.steps.saturating_add(1);
        println!("\n{}. {what}", self.steps);
    }

    fn check<T: PartialEq + std::fmt::Display>(&mut self, what: &str, got: T, wanted: T) {
        if got == wanted {
            println!("   {what}: {got}");
        } else {
            println!("   {what}: {got}   WRONG, should be {wanted}");
            self.wrong = self.wrong.saturating_add(1);
        }
    }

    fn id(&self, name: &str) -> String {
        format!("evt_{name}_{}", self.run)
    }

    async fn deliver(&self, path: &str, secret: &str, event: &Value, script: Option<&str>) -> Result<Answer> {
        let mut call =
            stripe::delivery(self.settings.gateway(path), secret, event).during("sign an event")?;
        if let Some(script) = script {
            call = call.header(crate::upstream::HEADER_SCRIPT, script);
        }
        self.client.send(call).await
    }

    async fn ask(&self, path: &str, script: Option<&str>) -> Result<Answer> {
        self.ask_with(path, &json!({}), script).await
    }

    async fn ask_with(&self, path: &str, more: &Value, script: Option<&str>) -> Result<Answer> {
        let mut body = json!({ "model": "scripted", "messages": [{ "role": "user", "content": "hello" }] });
        crate::envoy_file::merge(&mut body, more);
        let mut call = Call::post(self.settings.gateway(path)).bearer(&self.token).json(&body);
        if let Some(script) = script {
            call = call.header(crate::upstream::HEADER_SCRIPT, script);
        }
        self.client.send(call).await
    }

    /// How many requests for a path have reached the upstream.
    async fn forwarded(&self, path: &str) -> Result<usize> {
        let all = self.client.send(Call::get(self.settings.upstream("/_requests"))).await?.json();
        let items = all.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Ok(items.iter().filter(|item| item.get("path").and_then(Value::as_str) == Some(path)).count())
    }

    /// Checks her balance as she sees it herself, through the gateway.
    async fn balance(&mut self, wanted: &str) -> Result<()> {
        let mut polls = SETTLED_WITHIN.as_millis().div_ceil(50);
        loop {
            let answer = self
                .client
                .send(Call::get(self.settings.gateway("/billing/balance")).bearer(&self.token))
                .await?;
            let balance = text(&answer.json(), "/balance");
            if balance == wanted || polls == 0 {
                self.check("GET /billing/balance", balance, wanted.to_owned());
                return Ok(());
            }
            polls = polls.saturating_sub(1);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn text(document: &Value, pointer: &str) -> String {
    match document.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        other => other.unwrap_or(&Value::Null).to_string(),
    }
}
