//! Plays Stripe: signed events, several copies at a time, each sent again until it is taken.

use crate::dice::Dice;
use crate::field::{Ended, Field, HUNG, side};
use crate::tally::{During, Who};
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
/// How long a delivery may be under way until another one of the same event is let through: `CLAIM_TTL_MS`.
pub(crate) const CLAIM_TTL: Duration = Duration::from_secs(3);
/// What Envoy or the filter answers while billing is away.
const AWAY: [u16; 3] = [502, 503, 504];
/// Events for the app during which nothing happened that could be why its handler gets them twice.
pub(crate) const QUIET: &str = "events: for the app, at a quiet time";

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

/// Events for the app; how many there were is counted, and whether each was handled at a quiet time.
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
        while let Some(joined) = under_way.try_join_next() {
            field.joined(joined);
        }
        tokio::time::sleep(dice.millis(60, 220)).await;
    }
    while let Some(joined) = under_way.join_next().await {
        field.joined(joined);
    }
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
        while let Some(joined) = under_way.try_join_next() {
            field.joined(joined);
        }
        tokio::time::sleep(dice.millis(200, 600)).await;
    }
    while let Some(joined) = under_way.join_next().await {
        field.joined(joined);
    }
}

/// One event until it is taken, sometimes several copies at once, at any Envoy, whatever is about to happen to it.
async fn one(field: Arc<Field>, event: Value, path: &'static str, script: String, mut dice: Dice) {
    let (client, began) = (Client::default(), Instant::now());
    let id = event.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut used = [false; 2];
    while began.elapsed() < PATIENCE {
        let mut copies = JoinSet::new();
        for _ in 0..=dice.below(4).saturating_sub(1) {
            let gateway = Field::any(&mut dice);
            let [first, second] = &mut used;
            *(if gateway == 0 { first } else { second }) = true;
            let Some(call) = signed(&field, gateway, path, &event, &script) else { return };
            let (client, field) = (client.clone(), Arc::clone(&field));
            copies.spawn(async move {
                let sent = Instant::now();
                let ended = field.send(&client, call).await;
                (gateway, During::since(sent), ended)
            });
        }
        let mut taken = false;
        for (gateway, during, ended) in copies.join_all().await {
            match ended {
                Ended::Answered(answer) if answer.status == 200 => taken = true,
                Ended::Answered(answer) if answer.status == 409 => {
                    field.tally.count("events: in flight (409)");
                }
                ended => {
                    let id = id.clone();
                    field.judge_later(during, move |field| not_taken(field, &id, gateway, during, ended));
                }
            }
        }
        if taken {
            let during = During::since(began);
            if path == APP {
                field.judge_later(during, move |field| judge_quiet(field, &id, during, used));
            }
            return field.tally.count("events: taken");
        }
        tokio::time::sleep(dice.millis(50, 400)).await;
    }
    field.tally.odd("events: never taken", id);
}

/// Within a window the filter, or Envoy in billing's place, says that billing is away; the event comes again.
fn not_taken(field: &Field, id: &str, gateway: usize, during: During, ended: Ended) {
    let told = match ended {
        Ended::Hung => return field.tally.odd("hung", format!("{id}: longer than {HUNG:?}")),
        Ended::Broken(_) if field.is_cut("events", id, during, gateway) => return,
        Ended::Broken(_) if field.is_broken_off("events", during, gateway) => return,
        Ended::Answered(answer)
            if AWAY.contains(&answer.status) && field.excuse(during, gateway).is_some() =>
        {
            return field.tally.count("events: in a window: not taken");
        }
        Ended::Answered(answer) => format!("{} {}", answer.status, answer.text()),
        Ended::Broken(why) => why,
    };
    let lasted = during.to.saturating_duration_since(during.from);
    field
        .tally
        .odd("events, clear: not taken", format!("{id} at gateway {gateway}: after {lasted:?}: {told}"));
}

/// Nothing befell the Envoys that had this event, nor billing, from its first copy to the last answer: no claim on it can have
/// been lost. The machine alone is no excuse, unless it made that last so long that a claim's time can have run out.
fn judge_quiet(field: &Field, id: &str, during: During, used: [bool; 2]) {
    let ran_out = during.to.saturating_duration_since(during.from) >= CLAIM_TTL;
    let stirred = |gateway| {
        let others =
            [Who::Billing, Who::Envoy(gateway), Who::Still(gateway), Who::Link(gateway), Who::Old(gateway)];
        field.tally.troubled(during, &others).is_some()
            || (ran_out && field.tally.troubled(during, &[Who::Machine]).is_some())
    };
    let quiet = used.into_iter().enumerate().all(|(gateway, used)| !used || !stirred(gateway));
    if quiet {
        field.tally.count(QUIET);
        field.tally.count(&format!("quiet {id}"));
    }
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
