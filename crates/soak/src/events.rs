//! Plays Stripe: signed events, several copies at a time, each sent again until it is taken.

use crate::dice::Dice;
use crate::field::{Ended, Field, HUNG, side};
use serde_json::{Value, json};
use stage::client::{Call, Client};
use stage::stripe::{delivery, event, package_bought};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// For an app's own handler.
pub(crate) const APP: &str = "/webhooks/app";
/// For the billing service.
const STRIPE: &str = "/webhooks/stripe";
/// Who buys packages, by turns.
pub(crate) const BUYERS: u64 = 8;
/// How long Stripe goes on trying here.
const PATIENCE: Duration = Duration::from_secs(90);
/// `complete` is repeated for a while; an event that was taken before a kill may have been told after it.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// The name of a buyer.
pub(crate) fn buyer(n: u64) -> String {
    format!("buyer-{}", n.checked_rem(BUYERS).unwrap_or(0))
}

/// The id of an event for the app.
pub(crate) fn app_event(n: u64) -> String {
    format!("evt_app_{n}")
}

/// Sends them all off.
pub(crate) fn start(traffic: &mut JoinSet<()>, field: &Arc<Field>, seed: u64) {
    traffic.spawn(announce(Arc::clone(field), Dice::new(seed, 300)));
    traffic.spawn(sell(Arc::clone(field), Dice::new(seed, 301)));
}

/// Events for the app; how many there were is counted, and whether each was taken at a quiet time.
async fn announce(field: Arc<Field>, mut dice: Dice) {
    let mut under_way = JoinSet::new();
    for n in 0.. {
        if field.is_stopped() {
            break;
        }
        field.tally.count("events: for the app");
        let script = dice.one_of(&["", "delay_ms=20", "delay_ms=150"]).unwrap_or_default();
        let object = json!({ "id": "cus_nobody", "object": "customer" });
        let event = event(&app_event(n), "customer.updated", &object);
        let script = format!("key={};{script}", app_event(n));
        under_way.spawn(one(Arc::clone(&field), event, APP, script, Dice::new(n, 302)));
        while under_way.try_join_next().is_some() {}
        tokio::time::sleep(dice.millis(60, 220)).await;
    }
    while under_way.join_next().await.is_some() {}
}

/// Packages that are bought: one hundred credits each.
async fn sell(field: Arc<Field>, mut dice: Dice) {
    let mut under_way = JoinSet::new();
    for n in 0.. {
        if field.is_stopped() {
            break;
        }
        field.tally.count("events: packages bought");
        field.tally.count(&format!("bought by {}", buyer(n)));
        let event = package_bought(&format!("evt_buy_{n}"), &buyer(n), "starter", 500, "usd");
        under_way.spawn(one(Arc::clone(&field), event, STRIPE, String::new(), Dice::new(n, 303)));
        while under_way.try_join_next().is_some() {}
        tokio::time::sleep(dice.millis(200, 600)).await;
    }
    while under_way.join_next().await.is_some() {}
}

/// One event until it is taken, sometimes several copies at once, at any Envoy, whatever is about to happen to it.
async fn one(field: Arc<Field>, event: Value, path: &'static str, script: String, mut dice: Dice) {
    let (client, began) = (Client::default(), Instant::now());
    let id = event.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    while began.elapsed() < PATIENCE {
        let mut copies = JoinSet::new();
        for _ in 0..=dice.below(4).saturating_sub(1) {
            let gateway = Field::any(&mut dice);
            let Some(call) = signed(&field, gateway, path, &event, &script) else { return };
            let (client, field) = (client.clone(), Arc::clone(&field));
            copies.spawn(async move {
                let sent = Instant::now();
                let ended = field.send(&client, call).await;
                let cut = matches!(ended, Ended::Broken(_)) && field.is_old(sent, gateway);
                let excused = cut || field.excused(sent, gateway);
                (ended, excused, sent.elapsed())
            });
        }
        let mut taken = false;
        for (ended, excused, after) in copies.join_all().await {
            match ended {
                Ended::Answered(answer) if answer.status == 200 => taken = true,
                Ended::Answered(answer) if answer.status == 409 => {
                    field.tally.count("events: in flight (409)")
                }
                Ended::Hung => field.tally.odd("hung", format!("{id}: longer than {HUNG:?}")),
                _ if excused => field.tally.count("events: in a window: not taken"),
                Ended::Answered(answer) => {
                    let told = format!("{id}: {} after {after:?}: {}", answer.status, answer.text());
                    field.tally.odd("events, clear: not taken", told);
                }
                Ended::Broken(why) => {
                    field.tally.odd("events, clear: not taken", format!("{id}: after {after:?}: {why}"));
                }
            }
        }
        if taken {
            tokio::time::sleep(TOLD_WITHIN).await;
            let quiet = |gateway| !field.excused(began, gateway) && !field.is_old(began, gateway);
            let quiet = quiet(0) && quiet(1);
            if quiet && path == APP {
                field.tally.count(&format!("quiet {id}"));
            }
            return field.tally.count("events: taken");
        }
        tokio::time::sleep(dice.millis(50, 400)).await;
    }
    field.tally.odd("events: never taken", id);
}

fn signed(field: &Field, gateway: usize, path: &str, event: &Value, script: &str) -> Option<Call> {
    let secret = &side(&field.settings, gateway).webhook_secret;
    match delivery(field.gateway(gateway, path), secret, event) {
        Ok(call) => Some(call.header("x-script", script)),
        Err(error) => {
            field.tally.odd("events: not signed", error.to_string());
            None
        }
    }
}
