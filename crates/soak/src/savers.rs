//! Customers who spend what they have to the last credit, at both Envoys at once, whatever happens to either meanwhile.

use crate::dice::Dice;
use crate::field::{Ended, Field};
use crate::judge::Case;
use crate::tally::During;
use stage::client::Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Enough for leases at first; to the end each request is asked for by itself.
pub(crate) const SAVED: u32 = 400;
/// Clients of each of them, by turns at one Envoy and at the other.
const CLIENTS: usize = 4;
/// Whoever is refused so often in a row has nothing left that could come back soon.
const REFUSED: usize = 12;
/// Some of what they have may be out of reach; they do not wait for it for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// The name of one.
pub(crate) fn saver(n: u64) -> String {
    format!("saver-{n}")
}

/// Sends them off, one after the other.
pub(crate) fn start(traffic: &mut JoinSet<()>, field: &Arc<Field>, seed: u64) {
    traffic.spawn(save_and_spend(Arc::clone(field), seed));
}

async fn save_and_spend(field: Arc<Field>, seed: u64) {
    for n in 0.. {
        if field.is_stopped() {
            return;
        }
        if let Err(trouble) = field.customer(&saver(n), SAVED).await {
            return field.tally.odd("hostile: no account", trouble.0);
        }
        field.tally.count("savers");
        let refused = Arc::new(AtomicUsize::new(0));
        let mut spending = JoinSet::new();
        for client in 0..CLIENTS {
            let dice =
                Dice::new(seed, 500_u64.saturating_add(n).saturating_mul(8).saturating_add(client as u64));
            spending.spawn(spend(Arc::clone(&field), saver(n), client, Arc::clone(&refused), dice));
        }
        spending.join_all().await;
    }
}

async fn spend(field: Arc<Field>, name: String, gateway: usize, refused: Arc<AtomicUsize>, mut dice: Dice) {
    let (client, began) = (Client::default(), Instant::now());
    while !field.is_stopped() && began.elapsed() < PATIENCE && refused.load(Ordering::SeqCst) < REFUSED {
        let sent = Instant::now();
        let ended = field.send(&client, field.paid(gateway, &name, &name, "")).await;
        match ended {
            Ended::Answered(answer) if answer.status == 200 => {
                refused.store(0, Ordering::SeqCst);
                field.tally.count("savers: served");
            }
            Ended::Answered(answer) if answer.status == 402 => {
                refused.fetch_add(1, Ordering::SeqCst);
                field.tally.count("savers: refused (402)");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            ended => {
                let (name, broken) = (name.clone(), matches!(ended, Ended::Broken(_)));
                let (kind, defect) = ("savers", "savers: neither served nor refused");
                let during = During::since(sent);
                field.judge(Case { kind, name, gateway, during, ended, risks: true, defect });
                if broken {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        tokio::time::sleep(dice.millis(10, 60)).await;
    }
}
