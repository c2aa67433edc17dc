//! Events that cannot be applied: kept, counted, parked, and applied again by hand.

use crate::support::{World, checkout, event, invoice, subscription};
use serde_json::{Value, json};

const STARTER: i64 = 100_000_000;

/// Makes every grant to an account break a rule of the database, as a bug would; or lets it be again.
fn break_grants(world: &World, account: &str, broken: bool) {
    let db = rusqlite::Connection::open(world.database()).unwrap();
    let trigger = format!(
        "CREATE TRIGGER broken BEFORE INSERT ON grants WHEN NEW.account_id = '{account}'
         BEGIN SELECT RAISE(ABORT, 'a rule broke'); END"
    );
    db.execute_batch(if broken { &trigger } else { "DROP TRIGGER broken" }).unwrap();
}

fn bought(id: &str, customer: &str, account: &str) -> Value {
    let session = checkout(&format!("cs_{id}"), customer, Some(account), "payment");
    event(id, "checkout.session.completed", session)
}

#[tokio::test]
async fn an_event_that_breaks_is_kept_counted_parked_and_applied_by_hand() {
    let world = World::new().await;
    break_grants(&world, "alice", true);
    let event = bought("evt_1", "cus_1", "alice");
    for attempts in 1..=4 {
        assert_eq!(world.deliver(&event).await.status, 500);
        let kept = world.admin("GET", "events/evt_1", &Value::Null).await.ok(200);
        assert_eq!((&kept["status"], &kept["attempts"]), (&json!("failed"), &json!(attempts)));
        assert!(kept["last_error"].as_str().unwrap().contains("a rule broke"), "{kept}");
        assert_eq!(kept["body"]["id"], "evt_1");
    }
    // From now on Stripe is told that it arrived, and somebody has to look.
    assert_eq!(world.deliver(&event).await.ok(200)["outcome"], "parked");
    assert_eq!(world.deliver(&event).await.ok(200)["outcome"], "duplicate");
    assert_eq!(world.metric("tollgate_billing_events_total", ("outcome", "parked")), 1);
    assert_eq!(world.metric("tollgate_billing_events_total", ("outcome", "failed")), 4);
    let health = world.call("GET", "/health/stripe", &[], "").await.ok(200);
    assert_eq!((&health["events"]["parked"], &health["events"]["failed"]), (&json!(1), &json!(0)));
    let parked = world.admin("GET", "events?status=parked", &Value::Null).await.ok(200);
    assert_eq!((&parked["items"][0]["id"], &parked["items"][0]["attempts"]), (&json!("evt_1"), &json!(5)));
    // Nobody else's events are kept from them.
    world.deliver(&bought("evt_2", "cus_2", "bob")).await.ok(200);
    assert_eq!(world.balance("bob").await, STARTER);
    let again = world.admin("POST", "events/evt_1/replay", &Value::Null).await.ok(200);
    assert_eq!((&again["status"], &again["attempts"]), (&json!("parked"), &json!(6)), "still broken");
    break_grants(&world, "alice", false);
    let key = [("idempotency-key", "r-1")];
    let mended = world.admin_with("POST", "events/evt_1/replay", &Value::Null, &key).await.ok(200);
    assert_eq!((&mended["status"], &mended["attempts"]), (&json!("applied"), &json!(7)));
    assert_eq!(mended["last_error"], Value::Null);
    assert_eq!(world.admin_with("POST", "events/evt_1/replay", &Value::Null, &key).await.ok(200), mended);
    assert_eq!(world.admin("POST", "events/evt_1/replay", &json!({})).await.ok(200)["attempts"], 7);
    assert_eq!(world.admin_with("POST", "events/evt_2/replay", &Value::Null, &key).await.status, 409);
    assert_eq!(world.balance("alice").await, STARTER);
}

#[tokio::test]
async fn an_event_that_waited_and_breaks_keeps_nobody_from_what_it_waited_for() {
    let world = World::new().await;
    let paid = event("evt_i", "invoice.paid", invoice("in_1", "cus_1", "sub_1"));
    assert_eq!(world.deliver(&paid).await.ok(200)["outcome"], "unmatched");
    break_grants(&world, "alice", true);
    let mut subscribed = subscription("sub_1", "cus_1", "active");
    subscribed["metadata"] = json!({"user_id": "alice"});
    let subscribed = event("evt_s", "customer.subscription.created", subscribed);
    assert_eq!(world.deliver(&subscribed).await.ok(200)["outcome"], "applied");
    let account = world.account("alice").await;
    assert_eq!((&account["tier"], &account["balance"]), (&json!("pro"), &json!("0")));
    assert_eq!(world.event_status("evt_i").await, "parked");
    break_grants(&world, "alice", false);
    world.admin("POST", "events/evt_i/replay", &Value::Null).await.ok(200);
    assert_eq!(
        (world.event_status("evt_i").await, world.account("alice").await["balance"].clone()),
        ("applied".into(), json!("1000"))
    );
}

#[tokio::test]
async fn what_cannot_be_replayed_says_why() {
    let world = World::new().await;
    let missing = world.admin("POST", "events/evt_none/replay", &Value::Null).await.ok(404);
    assert_eq!(missing["detail"], "There is no event evt_none.");
    assert_eq!(world.admin("GET", "events/evt_none", &Value::Null).await.status, 404);
    let mut connected = bought("evt_1", "cus_1", "alice");
    connected["account"] = json!("acct_1");
    world.deliver(&connected).await.ok(200);
    let no = world.admin("POST", "events/evt_1/replay", &Value::Null).await.ok(409);
    assert!(no["detail"].as_str().unwrap().contains("connected account acct_1"), "{no}");
    let thin = json!({"id": "evt_t", "object": "v2.core.event", "type": "v1.billing.meter.no_meter_found", "livemode": false,
        "created": "2026-11-20T09:30:00.000Z"});
    world.deliver(&thin).await.ok(200);
    assert_eq!(world.admin("POST", "events/evt_t/replay", &Value::Null).await.status, 409);
    // Connected accounts have ids of their own.
    world.deliver(&bought("evt_1", "cus_1", "alice")).await.ok(200);
    assert_eq!(world.admin("GET", "events/evt_1", &Value::Null).await.status, 409);
    let own =
        world.admin("GET", "events/evt_1?stripe_account=self&livemode=false", &Value::Null).await.ok(200);
    assert_eq!(own["status"], "applied");
    assert_eq!(world.admin("GET", "events/evt_1?livemode=true", &Value::Null).await.status, 404);
    assert_eq!(world.admin("POST", "events/evt_1/replay", &json!({"x": 1})).await.status, 400);
}

#[tokio::test]
async fn events_of_a_status_come_page_by_page() {
    let world = World::new().await;
    for n in 1..=5 {
        let unmatched = event(&format!("evt_{n}"), "invoice.paid", invoice("in_1", "cus_9", "sub_9"));
        world.deliver(&unmatched).await.ok(200);
        world.deliver(&bought(&format!("evt_b{n}"), "cus_1", "alice")).await.ok(200);
    }
    let (mut seen, mut path) = (Vec::new(), String::from("events?status=unmatched&limit=2"));
    loop {
        let page = world.admin("GET", &path, &Value::Null).await.ok(200);
        seen.extend(
            page["items"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()),
        );
        if page["next"].is_null() {
            break;
        }
        path = format!("events?status=unmatched&limit=2&cursor={}", page["next"]);
    }
    assert_eq!(seen, ["evt_5", "evt_4", "evt_3", "evt_2", "evt_1"]);
    assert_eq!(world.admin("GET", "events?status=lost", &Value::Null).await.status, 400);
}

#[tokio::test]
async fn an_event_is_replayed_by_a_command() {
    let world = World::new().await;
    break_grants(&world, "alice", true);
    world.deliver(&bought("evt_1", "cus_1", "alice")).await;
    let service = format!("http://{}", world.running.as_ref().unwrap().address);
    let command = async |id: &str, token: &str| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tollgate-billing"));
        command.args(["events", "replay", id, "--service", &service]).env_clear().env("ADMIN_TOKEN", token);
        let output = command.output().await.unwrap();
        let told = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.success(), String::from_utf8(told).unwrap())
    };
    let (done, told) = command("evt_1", crate::support::ADMIN).await;
    assert!(!done && told.contains("evt_1 is failed: ") && told.contains("a rule broke"), "{told}");
    break_grants(&world, "alice", false);
    let (done, told) = command("evt_1", crate::support::ADMIN).await;
    assert!(done && told == "evt_1 is applied: 100 credits\n", "{told}");
    let (done, told) = command("evt_2", crate::support::ADMIN).await;
    assert!(!done && told.contains("answered 404: There is no event evt_2."), "{told}");
    let (done, told) = command("evt_1", "another-token-of-tests").await;
    assert!(!done && told.contains("answered 401") && !told.contains("another-token"), "{told}");
}
