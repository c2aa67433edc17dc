//! Killed between commit and answer: what was answered is there, and what was not is asked again and done once.

use crate::process::started;
use crate::support::{ADMIN, World};
use hyper::body::Bytes;
use serde_json::json;
use std::sync::Arc;
use tokio::task::JoinSet;

/// How long is tried until a kill falls between a commit and its answer.
const ROUNDS_MAX: u32 = 60;
const WRITERS: u32 = 40;

/// Asks for a grant with this number, once; the status, if there was an answer.
async fn grant(world: &World, n: u32) -> Option<u16> {
    let (auth, key) = (format!("Bearer {ADMIN}"), format!("grant-{n}"));
    let headers =
        [("authorization", auth.as_str()), ("idempotency-key", &key), ("content-type", "application/json")];
    let body = json!({ "account": "acme", "credits": 1, "note": key });
    let answer = world.try_call("POST", "/admin/v1/grants", &headers, Bytes::from(body.to_string())).await;
    answer.ok().map(|answer| answer.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_commit_and_answer_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, address) = started(dir.path());
    World::elsewhere(address).admin("POST", "accounts", &json!({"id": "acme"})).await.ok(201);
    let (mut last, mut answered, mut unanswered, mut unseen) = (0, 0, 0, 0);
    let mut address = address;
    for round in 0..ROUNDS_MAX {
        let world = Arc::new(World::elsewhere(address));
        let mut asking = JoinSet::new();
        for n in last..last + WRITERS {
            let world = Arc::clone(&world);
            asking.spawn(async move { (n, grant(&world, n).await) });
        }
        last += WRITERS;
        // Somewhere in the middle of them, another place each time.
        let mut asked = Vec::new();
        while asked.len() < usize::try_from(round % 7 * 5 + 1).unwrap() {
            asked.push(asking.join_next().await.unwrap().unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        asked.extend(asking.join_all().await);
        (child, address) = started(dir.path());
        let world = World::elsewhere(address);
        for (n, status) in asked {
            let again = grant(&world, n).await.unwrap();
            match status {
                Some(status) => {
                    answered += 1;
                    assert_eq!((status, again), (201, 200), "grant {n} was answered, so it is there");
                }
                None => {
                    unanswered += 1;
                    unseen += u32::from(again == 200);
                    assert!([200, 201].contains(&again), "grant {n}: {again}");
                }
            }
        }
        assert_eq!(
            world.balance("acme").await,
            i64::from(last) * 1_000_000,
            "each once, after round {round}"
        );
        if unseen > 0 && round >= 5 {
            break;
        }
    }
    println!("{answered} answered, {unanswered} not, of which {unseen} were committed");
    assert!(unseen > 0, "in {ROUNDS_MAX} rounds no kill fell between a commit and its answer");
    child.kill().unwrap();
    child.wait().unwrap();
}
