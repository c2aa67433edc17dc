//! The service is killed again and again under a stream of events and spends: nothing that it acknowledged is missing, and
//! nothing is there twice.
//!
//! Whoever sends something sends it until it is acknowledged, as Stripe and gateways do. Clocks are real here.

use crate::process::started;
use crate::support::{
    GATEWAY, SECRET, World, checkout, event_at, finished, invoice_of, need, subscription, sync,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use units::Instant;
use webhook::Secret;

const KILLS: u64 = 25;
const BUYERS: u64 = 5;
const BEGUN_WITH: i64 = 10_000;
const CREDIT: i64 = 1_000_000;

/// Where the service is at the moment, and what has come of everything.
struct Field {
    address: RwLock<SocketAddr>,
    acknowledged: AtomicU64,
    asked_again: AtomicU64,
    over: AtomicU64,
}

impl Field {
    fn world(&self) -> World {
        World::elsewhere(*self.address.read().unwrap())
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) > 0
    }

    /// Asks until there is an answer with one of these statuses.
    async fn until(
        &self,
        path: &str,
        headers: impl Fn(&str) -> Vec<(String, String)>,
        body: impl Fn() -> Value,
    ) -> Value {
        loop {
            let body = body().to_string();
            let headers = headers(&body);
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            match self.world().try_call("POST", path, &headers, body.clone()).await {
                Ok(answer) if answer.status == 200 => {
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    return if answer.text.starts_with('{') { answer.json() } else { Value::Null };
                }
                // Being started, or being stopped.
                Ok(answer) => assert_eq!(answer.status, 503, "{path}: {}", answer.text),
                Err(_) => {}
            }
            self.asked_again.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn event(&self, event: &Value) {
        let signed = |body: &str| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let at = Instant::from_secs(i64::try_from(now).unwrap());
            let signature = webhook::sign(&Secret::new(SECRET).unwrap(), at, body.as_bytes());
            vec![("stripe-signature".to_owned(), signature)]
        };
        self.until("/webhooks/stripe", signed, || event.clone()).await;
    }

    async fn sync(&self, parts: &Value) -> Value {
        let token = |_: &str| vec![("authorization".to_owned(), format!("Bearer {GATEWAY}"))];
        // Each asking has a number of its own, as a gateway's has.
        self.until("/gateway/v1/sync", token, || sync(parts)).await
    }
}

/// The service's process, which does not outlive the test.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already.
        _ = self.0.kill();
    }
}

/// Packages, each told by two events, and the second one twice at once. How many were bought by each buyer.
async fn sell(field: &Field, seller: u64) -> Vec<u64> {
    let mut bought = vec![0; usize::try_from(BUYERS).unwrap()];
    for n in 0.. {
        if field.is_over() {
            break;
        }
        let (buyer, id) = (n % BUYERS, format!("{seller}_{n}"));
        let customer = format!("cus_{seller}_{buyer}");
        let name = format!("buyer-{seller}-{buyer}");
        let session = checkout(&format!("cs_{id}"), &customer, Some(&name), "payment");
        let kinds = ["checkout.session.completed", "checkout.session.async_payment_succeeded"];
        let [first, second] = kinds
            .map(|kind| event_at(&format!("evt_{id}_{}", kind.len()), kind, 1_795_167_000, session.clone()));
        tokio::join!(field.event(&first), field.event(&second), field.event(&second));
        bought[usize::try_from(buyer).unwrap()] += 1;
    }
    bought
}

/// New subscribers, each with the two events of one paid invoice. How many there are.
async fn subscribe(field: &Field) -> u64 {
    for n in 0.. {
        if field.is_over() {
            return n;
        }
        let (customer, sub) = (format!("cus_sub_{n}"), format!("sub_{n}"));
        let start = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let mut subscription = subscription(&sub, &customer, "active");
        subscription["metadata"] = json!({"user_id": format!("subscriber-{n}")});
        let invoice = invoice_of(&format!("in_{n}"), &customer, &sub, start, 2000, "subscription_create");
        let told = |kind: &str, object: &Value| {
            event_at(&format!("evt_sub_{n}_{kind}"), kind, start, object.clone())
        };
        let [created, paid, again] = [
            told("customer.subscription.created", &subscription),
            told("invoice.paid", &invoice),
            told("invoice.payment_succeeded", &invoice),
        ];
        tokio::join!(field.event(&again), field.event(&created), field.event(&paid));
    }
    0
}

/// Requests of a credit each, of which every third one fails upstream. How many were charged.
async fn spend(field: &Field, worker: u64) -> i64 {
    let mut charged = 0;
    for id in 1.. {
        if field.is_over() {
            break;
        }
        let parts = |what: &str, value: Value| json!({"worker": worker, what: value});
        let asked = parts("needs", json!([need(id, "spender", "embeddings")]));
        let answer = field.sync(&asked).await;
        let decision = &answer["needs"][0];
        assert_eq!(decision["decision"], "ok", "{answer}");
        let used = if id % 3 == 0 { 0 } else { 1 };
        let told = parts("cells", finished(decision, used * CREDIT));
        let answer = field.sync(&told).await;
        assert_eq!(answer["cells"][0]["state"], "closed", "{answer}");
        charged += used;
    }
    charged
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_in_a_loop_of_kills_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let (child, address) = started(dir.path());
    let mut process = Process(child);
    let world = World::elsewhere(address);
    world
        .admin(
            "POST",
            "accounts",
            &json!({
                "id": "spender", "subjects": [{"kind": "jwt_sub", "value": "spender"}]
            }),
        )
        .await
        .ok(201);
    world.admin("POST", "grants", &json!({"account": "spender", "credits": BEGUN_WITH})).await.ok(201);
    let field = Arc::new(Field {
        address: RwLock::new(address),
        acknowledged: AtomicU64::new(0),
        asked_again: AtomicU64::new(0),
        over: AtomicU64::new(0),
    });
    let (mut sellers, mut spenders) = (JoinSet::new(), JoinSet::new());
    for n in 0..2 {
        let field = Arc::clone(&field);
        sellers.spawn(async move { (n, sell(&field, n).await) });
    }
    for worker in 1..=3 {
        let field = Arc::clone(&field);
        spenders.spawn(async move { spend(&field, worker).await });
    }
    let subscribers = tokio::spawn({
        let field = Arc::clone(&field);
        async move { subscribe(&field).await }
    });
    for kill in 1..=KILLS {
        // Something was done in each of its lives.
        let enough = field.acknowledged.load(Ordering::Relaxed) + 20 + kill * 7 % 30;
        while field.acknowledged.load(Ordering::Relaxed) < enough {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        process.kill();
        let (child, address) = started(dir.path());
        process = Process(child);
        *field.address.write().unwrap() = address;
    }
    field.over.store(1, Ordering::Relaxed);
    let (sold, charged) = (sellers.join_all().await, spenders.join_all().await);
    let (subscribers, charged) = (subscribers.await.unwrap(), charged.into_iter().sum::<i64>());
    let world = field.world();
    let bought: u64 = sold.iter().flat_map(|(_, bought)| bought).sum();
    println!(
        "{KILLS} kills; {} acknowledged, {} asked again; {bought} packages, {subscribers} subscribers, {charged} charged",
        field.acknowledged.load(Ordering::Relaxed),
        field.asked_again.load(Ordering::Relaxed)
    );
    for (seller, bought) in &sold {
        for (buyer, count) in bought.iter().enumerate().filter(|(_, count)| **count > 0) {
            let balance = world.balance(&format!("buyer-{seller}-{buyer}")).await;
            assert_eq!(balance, i64::try_from(*count).unwrap() * 100 * CREDIT, "buyer {seller} {buyer}");
        }
    }
    for n in 0..subscribers {
        assert_eq!(world.balance(&format!("subscriber-{n}")).await, 1_000 * CREDIT, "subscriber {n}");
    }
    let account = world.account("spender").await;
    assert_eq!(
        (&account["balance_micro"], &account["held_micro"]),
        (&json!((BEGUN_WITH - charged) * CREDIT), &json!(0))
    );
    assert!(bought > 0 && subscribers > 0 && charged > 0 && field.asked_again.load(Ordering::Relaxed) > 0);
}
