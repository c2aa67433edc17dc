//! Events that others recorded: each is taken, and what is read here can be read in them.
//!
//! A further run over a folder that the variable `VECTORS` names, from the workspace's root or absolute; without it there is
//! nothing to do.

use crate::world::{World, setup};
use billing::catalog::Catalog;
use billing::store::EventStatus;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use units::Instant;

#[test]
fn recorded_events_are_taken_and_read() {
    let Some(folder) = std::env::var_os("VECTORS").filter(|v| !v.is_empty()) else {
        println!("skipped: VECTORS names no folder of vectors");
        return;
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(folder)
        .join("stripe/events-stripe-ruby-mock");
    let catalog = Catalog::from_yaml(crate::BASE).unwrap();
    let mut world = World::in_memory(setup(catalog), Instant::from_secs(1_795_167_000));
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    assert!(files.len() > 50, "only {} events", files.len());
    let mut events = Vec::new();
    for (n, path) in files.iter().enumerate() {
        let mut event: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        event["id"] = json!(format!("evt_{n:03}"));
        world.deliver(&event).unwrap_or_else(|no| panic!("{}: {no}", path.display()));
        events.push(event);
    }
    // Whose they are is told afterwards: then what waited is read to its end.
    let customers: BTreeSet<&str> =
        events.iter().filter_map(|event| event.pointer("/data/object/customer")?.as_str()).collect();
    for (n, customer) in customers.into_iter().enumerate() {
        world.bind(&format!("account-{n}"), customer).unwrap();
    }
    for (id, (status, detail)) in world.events().unwrap() {
        let name = files[id.strip_prefix("evt_").unwrap().parse::<usize>().unwrap()]
            .file_stem()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        println!("{name}: {} {detail}", status.as_str());
        // Their prices and payments are none of ours; but nothing may be missed in them.
        let unread = ["is missing or is not what it always was", "cannot be read"];
        let fine = status != EventStatus::Review || !unread.iter().any(|why| detail.contains(why));
        assert!(fine, "{name}: {detail}");
    }
}
