//! What time alone brings about, where something keeps it from being entered.

use crate::support::{World, need};
use billing::clock::Clock;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;
use units::Span;

#[tokio::test]
async fn many_who_cannot_be_settled_keep_no_other_from_it() {
    let world = World::new().await;
    let who = (0..450).map(|n| format!("a{n:03}")).chain(["b".to_owned()]);
    let needs: Vec<Value> = (1..).zip(who).map(|(id, who)| need(id, &who, "chat")).collect();
    let answer = world.sync(&json!({ "needs": needs })).await;
    assert!(answer["needs"].as_array().unwrap().iter().all(|need| need["decision"] == "ok"));
    let db = rusqlite::Connection::open(world.database()).unwrap();
    let stuck = "CREATE TRIGGER stuck BEFORE UPDATE ON cell WHEN OLD.account_id LIKE 'a%'
        BEGIN SELECT RAISE(ABORT, 'on purpose'); END";
    db.execute_batch(stuck).unwrap();
    world.advance(Span::from_secs(31));
    world.sweep().await;
    let swept = |world: &World| world.metric("tollgate_billing_swept_total", ("kind", "soft"));
    assert_eq!(swept(&world), 1, "b is behind all of them");
    db.execute_batch("DROP TRIGGER stuck").unwrap();
    world.sweep().await;
    assert_eq!(swept(&world), 451);
}

#[tokio::test]
async fn a_clock_that_was_ahead_is_told_until_the_machines_catches_up() {
    let mut world = World::new().await;
    world.stop().await;
    world.clock = Clock::system();
    world.start().await;
    let Clock::System(latest) = &world.clock else { panic!("the machine's") };
    latest.store(world.clock.now().plus(Span::from_secs(600)).micros(), Ordering::SeqCst);
    let behind = || world.metric("tollgate_billing_clock_behind_seconds", ("", ""));
    let told = async {
        while behind() < 590 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.unwrap();
    assert!(behind() <= 600);
}
