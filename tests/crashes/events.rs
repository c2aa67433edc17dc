//! An event whose Envoy or billing service dies on the way: never lost, and handled twice only where it cannot be known.

use crate::impatient;
use serde_json::json;
use stage::client::Call;
use stage::harness::{Gateway, Stage, eventually, within};
use stage::stripe::event;
use std::time::Duration;

const APP: &str = "/webhooks/app";

fn delivery(gateway: &Gateway, id: &str, script: &str) -> Call {
    let object = json!({ "id": "cus_nobody", "object": "customer" });
    gateway.delivery(APP, &event(id, "customer.updated", &object)).header("x-script", script)
}

fn handled(stage: &Stage, id: &str) -> usize {
    let is_it = |item: &&stage::upstream::Item| {
        item.path == APP && item.headers.get("x-tollgate-event-id").is_some_and(|event| event == id)
    };
    stage.upstream.requests().iter().filter(is_it).count()
}

/// Stripe's retries, until one is taken: what they were answered with before.
async fn retried(stage: &Stage, gateway: &Gateway, id: &str) -> Vec<u16> {
    let mut before = Vec::new();
    within(Duration::from_secs(20), "the event is taken", async || {
        let answer = gateway.send(delivery(gateway, id, "")).await;
        if answer.status != 200 {
            before.push(answer.status);
        }
        answer.status == 200
    })
    .await;
    assert!(handled(stage, id) > 0, "{id} was acknowledged, so it was handled");
    before
}

/// Sends one and waits until the handler has it.
async fn under_way(stage: &Stage, id: &str, script: &str) -> tokio::task::JoinHandle<Option<u16>> {
    let (client, call) = (stage.gateway.client.clone(), delivery(&stage.gateway, id, script));
    let before = handled(stage, id);
    let sent = tokio::spawn(async move { client.send(call).await.ok().map(|answer| answer.status) });
    eventually("the handler has it", async || handled(stage, id) > before).await;
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_dies_before_the_handler_answered_hands_the_event_over_again() {
    let mut stage = Stage::start(impatient());
    for round in 0..2 {
        let id = format!("evt_before_{round}");
        // It is dead long before the handler would have answered, on however slow a machine.
        let sent = under_way(&stage, &id, "delay_ms=10000").await;
        stage.gateway.envoy.kill();
        assert_eq!(sent.await.unwrap(), None, "nothing was acknowledged");
        stage.restart_envoy();
        let before = retried(&stage, &stage.gateway, &id).await;
        assert!(before.iter().all(|status| *status == 409), "while the claim holds: {before:?}");
        assert_eq!(handled(&stage, &id), 2, "once more, and once only");
        retried(&stage, &stage.gateway, &id).await;
        assert_eq!(handled(&stage, &id), 2);
    }
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_billing_could_not_be_told_of_is_handled_twice_only_if_envoy_dies_too() {
    let mut stage = Stage::start(impatient());
    for (id, envoy_dies) in [("evt_told_late", false), ("evt_never_told", true)] {
        let sent = under_way(&stage, id, "delay_ms=3000").await;
        stage.billing.take().unwrap().kill();
        assert_eq!(sent.await.unwrap(), Some(200), "Stripe has its answer; `complete` is on its way");
        if envoy_dies {
            stage.gateway.envoy.kill();
        }
        stage.restart_billing();
        if envoy_dies {
            stage.restart_envoy();
        }
        // A gateway that never saw it knows only what billing was told.
        let other = stage.another_gateway();
        let before = retried(&stage, &other, id).await;
        assert!(before.iter().all(|status| *status == 409), "{id}: {before:?}");
        assert_eq!(handled(&stage, id), if envoy_dies { 2 } else { 1 }, "{id}");
        drop(other);
    }
    stage.finish();
}
