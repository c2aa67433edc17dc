//! Customers who pay: honest ones, who keep away from an Envoy that is about to be killed, and risking ones, who do not.

use crate::dice::Dice;
use crate::field::{Ended, Field, HONEST, RISKING, honest};
use crate::judge::Case;
use crate::tally::During;
use stage::client::Client;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What honest customers ask the upstream for; all of it ends well.
const SCRIPTS: [&str; 4] = ["", "", "delay_ms=15", "stream;chunk_delay_ms=3"];
/// Clients for each risking customer.
const RISKING_CLIENTS: u64 = 2;

/// Sends them all off.
pub(crate) fn start(traffic: &mut JoinSet<()>, field: &Arc<Field>, seed: u64) {
    for n in 0..HONEST {
        let dice = Dice::new(seed, 100_u64.saturating_add(u64::try_from(n).unwrap_or(0)));
        traffic.spawn(pay_honestly(Arc::clone(field), n, dice));
    }
    for (gateway, name) in RISKING.into_iter().enumerate() {
        for n in 0..RISKING_CLIENTS {
            let dice = Dice::new(seed, 200_u64.saturating_add(n));
            traffic.spawn(risk(Arc::clone(field), gateway, name, dice));
        }
    }
}

async fn pay_honestly(field: Arc<Field>, n: usize, mut dice: Dice) {
    let (client, name) = (Client::default(), honest(n));
    while !field.is_stopped() {
        let gateway = field.enter(n);
        let script = dice.one_of(&SCRIPTS).unwrap_or_default();
        let call = field.paid(gateway, &name, &name, script);
        let call = if n.is_multiple_of(3) { call.http2() } else { call };
        let began = Instant::now();
        let ended = field.send(&client, call).await;
        field.leave(gateway);
        judge(&field, ("honest", "honest: not served"), &name, gateway, began, ended);
        tokio::time::sleep(dice.millis(10, 40)).await;
    }
}

async fn risk(field: Arc<Field>, gateway: usize, name: &str, mut dice: Dice) {
    let client = Client::default();
    while !field.is_stopped() {
        let began = Instant::now();
        let ended = field.send(&client, field.paid(gateway, name, name, "delay_ms=8")).await;
        if matches!(ended, Ended::Broken(_)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        judge(&field, ("risking", "risking: not served"), name, gateway, began, ended);
        tokio::time::sleep(dice.millis(5, 20)).await;
    }
}

/// Served; or, within a window in which billing, this Envoy or its way to billing was not itself, denied as the route says.
/// Anything else is a defect.
fn judge(
    field: &Field,
    (kind, defect): (&'static str, &'static str),
    name: &str,
    gateway: usize,
    began: Instant,
    ended: Ended,
) {
    let during = During::since(began);
    if matches!(&ended, Ended::Answered(answer) if answer.status == 200) {
        let place = if field.excuse(during, gateway).is_some() { "in a window" } else { "clear" };
        return field.tally.count(&format!("{kind}, {place}: served"));
    }
    let (name, risks) = (name.to_owned(), kind == "risking");
    field.judge(Case { kind, name, gateway, during, ended, risks, defect });
}
