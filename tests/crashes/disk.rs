//! A disk that is full under the billing service: nothing acknowledged is lost, warm customers go on, and with room again
//! everything goes on, without a restart.

use crate::support::{Load, MICRO, books, customer, embed};
use crate::wrapper;
use serde_json::{Value, json};
use stage::client::{Answer, Call};
use stage::harness::{Options, Stage, eventually};
use stage::stripe::package_bought;

/// Runs the billing service deaf to the signal that writing beyond a limit sends, so that it sees an error as on a full disk.
fn limited() -> Options {
    Options::default().tools(|tools, folder| {
        let script = format!("trap '' XFSZ\nexec '{}' \"$@\"", tools.billing.display());
        tools.billing = wrapper(folder, "billing-limited", &script)?;
        Ok(())
    })
}

async fn grant(stage: &Stage, n: u32) -> Answer {
    let call = Call::post(stage.settings().billing("/admin/v1/grants")).bearer(&stage.settings().admin_token);
    let grant = json!({ "account": "saver", "credits": 1, "note": "x".repeat(400) });
    stage.gateway.send(call.header("idempotency-key", format!("disk-{n}")).json(&grant)).await
}

fn size_of_log(stage: &Stage) -> u64 {
    let database = stage.settings().run_dir.join("billing.db-wal");
    database.metadata().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_that_was_acknowledged_and_recovers_by_itself() {
    let stage = Stage::start(limited());
    let warm = customer(&stage, "warm", 10_000).await;
    let cold = customer(&stage, "cold", 10).await;
    stage.account("saver", 0).await;
    let load = Load::start(&stage.gateway, &warm, "delay_ms=5", 2);
    load.reaches(50).await;
    let billing = stage.billing.as_ref().unwrap();
    // Some room is left first, so that it runs out in the midst of a transaction; then none at all, not even for its log.
    let mut acknowledged = Vec::new();
    let mut n = 0;
    for room in [size_of_log(&stage) + 40_000, 1] {
        billing.limit_files(Some(room)).unwrap();
        let mut refused = 0;
        while refused < 10 {
            let answer = grant(&stage, n).await;
            match answer.status {
                201 => acknowledged.push(n),
                503 => refused += 1,
                other => panic!("{other} {}", answer.text()),
            }
            n += 1;
        }
        let event = package_bought("evt_full", "saver", "starter", 500, "usd");
        let event = stage.gateway.send(stage.gateway.delivery("/webhooks/stripe", &event)).await;
        assert_eq!(event.status, 503, "Stripe will send it again: {}", event.text());
        let asked = stage.gateway.send(embed(&stage.gateway, &cold, "")).await;
        assert_eq!((asked.status, &asked.json()["reason"]), (503, &json!("service_unavailable")));
        let before = load.served();
        eventually("the warm customer is served", async || load.served() > before + 50).await;
        // What can be read is read, also in the midst of writes that fail.
        for _ in 0..50 {
            let own = Call::get(stage.settings().gateway("/billing/subscription")).bearer(&warm);
            let (books, own, refused) =
                tokio::join!(books(&stage, "saver"), stage.gateway.send(own), grant(&stage, n));
            assert_eq!(balance(&books), credits(acknowledged.len()));
            assert_eq!((own.status, &own.json()["account"]), (200, &json!("warm")), "{}", own.text());
            assert_eq!(refused.status, 503, "{}", refused.text());
            n += 1;
        }
    }
    billing.limit_files(None).unwrap();
    for n in 0..n {
        let status = grant(&stage, n).await.status;
        assert_eq!(status, if acknowledged.contains(&n) { 200 } else { 201 }, "grant {n}, asked again");
    }
    let event = package_bought("evt_full", "saver", "starter", 500, "usd");
    let taken = async || {
        let call = stage.gateway.delivery("/webhooks/stripe", &event);
        stage.gateway.send(call).await.status == 200
    };
    eventually("the event is taken", taken).await;
    assert_eq!(balance(&books(&stage, "saver").await), credits(usize::try_from(n).unwrap()) + 100 * MICRO);
    eventually("the cold customer is served", async || {
        stage.gateway.send(embed(&stage.gateway, &cold, "")).await.status == 200
    })
    .await;
    load.end().await;
    let used =
        stage.upstream.requests().iter().filter(|item| item.headers["x-tollgate-account"] == "warm").count();
    eventually("what was used is charged", async || {
        let books = books(&stage, "warm").await;
        books["held_micro"] == 0 && 10_000 * MICRO - balance(&books) == credits(used)
    })
    .await;
    stage.finish();
}

fn balance(books: &Value) -> i64 {
    books["balance_micro"].as_i64().unwrap()
}

fn credits(count: usize) -> i64 {
    i64::try_from(count).unwrap() * MICRO
}
