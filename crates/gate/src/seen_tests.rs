//! The memory of events on a shelf in this process, on one that another worker writes to, and on a damaged one.

use super::*;
use crate::{MemoryShelf, Stale};

const NOW: Instant = Instant::from_secs(1_763_631_000);
const A: Owner = Owner(1);
const B: Owner = Owner(2);
const MINUTE: Span = Span::from_secs(60);
const WEEK: Span = Span::from_secs(604_800);

fn key(id: &str) -> EventKey {
    EventKey::of("stripe", false, "self", &EventId::new(id).unwrap())
}

/// Keys of one bucket.
fn crowd(n: usize) -> Vec<EventKey> {
    let all = (0_u64..).map(|i| {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&i.to_le_bytes());
        EventKey(bytes)
    });
    all.take(n).collect()
}

#[test]
fn an_event_is_handled_by_one_delivery_at_a_time_and_remembered_once_accepted() {
    let mut shelf = MemoryShelf::default();
    let mut seen = Seen::on(&mut shelf);
    let until = NOW.plus(MINUTE);
    assert_eq!(seen.begin(key("evt_1"), A, NOW, MINUTE), Begun::Fresh);
    assert_eq!(seen.begin(key("evt_1"), B, NOW, MINUTE), Begun::InFlight { until });
    assert_eq!(seen.begin(key("evt_2"), B, NOW, MINUTE), Begun::Fresh, "another event");
    assert_eq!(seen.accept(key("evt_1"), A, NOW, WEEK), Marked::Done);
    assert_eq!(seen.begin(key("evt_1"), B, NOW.plus(MINUTE), MINUTE), Begun::Accepted);
    assert_eq!(seen.release(key("evt_1"), A, NOW), Marked::Done);
    assert_eq!(
        seen.begin(key("evt_1"), B, NOW, MINUTE),
        Begun::Accepted,
        "what was accepted cannot be released"
    );
    assert_eq!(seen.begin(key("evt_1"), B, NOW.plus(WEEK), MINUTE), Begun::Fresh, "forgotten after its time");
    assert!(!seen.damaged());
}

#[test]
fn a_released_event_is_fresh_again_and_only_its_owner_can_release_it() {
    let mut shelf = MemoryShelf::default();
    let mut seen = Seen::on(&mut shelf);
    assert_eq!(seen.begin(key("evt_1"), A, NOW, MINUTE), Begun::Fresh);
    assert_eq!(seen.release(key("evt_1"), B, NOW), Marked::Done);
    assert!(matches!(seen.begin(key("evt_1"), B, NOW, MINUTE), Begun::InFlight { .. }));
    assert_eq!(seen.release(key("evt_1"), A, NOW), Marked::Done);
    assert_eq!(seen.begin(key("evt_1"), B, NOW, MINUTE), Begun::Fresh);
}

#[test]
fn a_mark_that_ran_out_is_free_and_its_late_owner_takes_nothing_back() {
    let mut shelf = MemoryShelf::default();
    let mut seen = Seen::on(&mut shelf);
    assert_eq!(seen.begin(key("evt_1"), A, NOW, MINUTE), Begun::Fresh);
    let later = NOW.plus(MINUTE);
    assert_eq!(seen.begin(key("evt_1"), B, later, MINUTE), Begun::Fresh);
    seen.release(key("evt_1"), A, later);
    assert!(matches!(seen.begin(key("evt_1"), A, later, MINUTE), Begun::InFlight { .. }));
    // A's handler said 2xx after all: that is a fact, and B's later failure does not undo it.
    seen.accept(key("evt_1"), A, later, WEEK);
    seen.release(key("evt_1"), B, later);
    assert_eq!(seen.begin(key("evt_1"), B, later, MINUTE), Begun::Accepted);
}

#[test]
fn beginning_again_prolongs_ones_own_mark() {
    let mut shelf = MemoryShelf::default();
    let mut seen = Seen::on(&mut shelf);
    let long = Span::from_secs(120);
    assert_eq!(seen.begin(key("evt_1"), A, NOW, MINUTE), Begun::Fresh);
    assert_eq!(seen.begin(key("evt_1"), A, NOW, long), Begun::Fresh);
    assert_eq!(seen.begin(key("evt_1"), B, NOW, MINUTE), Begun::InFlight { until: NOW.plus(long) });
}

#[test]
fn a_clock_that_was_ahead_blocks_no_event_for_ever() {
    let mut shelf = MemoryShelf::default();
    let mut seen = Seen::on(&mut shelf);
    let ahead = NOW.plus(Span::from_secs(400 * 86_400));
    assert_eq!(seen.begin(key("evt_1"), A, ahead, MINUTE), Begun::Fresh);
    assert_eq!(seen.begin(key("evt_1"), B, NOW, MINUTE), Begun::Fresh);
    seen.accept(key("evt_2"), A, ahead, WEEK);
    assert_eq!(seen.begin(key("evt_2"), B, NOW, MINUTE), Begun::Fresh);
    // Nor does a span beyond the bounds.
    let endless = Span::from_micros(u64::MAX);
    assert_eq!(seen.begin(key("evt_3"), A, NOW, endless), Begun::Fresh);
    assert_eq!(seen.begin(key("evt_3"), B, NOW, MINUTE), Begun::InFlight { until: NOW.plus(IN_FLIGHT_MAX) });
}

#[test]
fn a_full_bucket_forgets_the_oldest_accepted_event_and_none_in_flight() {
    let mut shelf = MemoryShelf::default();
    let mut seen = Seen::on(&mut shelf);
    let keys = crowd(40);
    let at = |n: u64| NOW.plus(Span::from_secs(n));
    seen.accept(keys[0], A, at(1), WEEK);
    seen.accept(keys[1], A, at(0), WEEK);
    for k in &keys[2..32] {
        assert_eq!(seen.begin(*k, A, NOW, MINUTE), Begun::Fresh);
    }
    assert_eq!(seen.begin(keys[32], A, at(2), MINUTE), Begun::Fresh);
    assert_eq!(seen.begin(keys[0], B, at(2), MINUTE), Begun::Accepted, "the younger of the two is kept");
    assert_eq!(seen.begin(keys[33], A, at(2), MINUTE), Begun::Fresh);
    assert_eq!(seen.begin(keys[34], A, at(2), MINUTE), Begun::Full, "32 in flight");
    assert_eq!(seen.accept(keys[34], A, at(2), WEEK), Marked::Missed);
    assert!(matches!(seen.begin(keys[2], B, at(2), MINUTE), Begun::InFlight { .. }));
    assert_eq!(seen.begin(keys[34], A, at(61), MINUTE), Begun::Fresh, "what ran out makes room first");
    assert!(shelf.read("tg1:seen:0").unwrap().0.len() <= 2 + 32 * ENTRY_BYTES);
}

#[test]
fn a_value_that_is_no_bucket_is_taken_for_none_and_told() {
    let entry = [7; ENTRY_BYTES];
    let strange: [Vec<u8>; 5] = [
        vec![],
        b"hello".to_vec(),
        [&[b'S', 2][..], &entry].concat(),
        [&HEAD[..], &entry].concat(),
        [&HEAD[..], &[b'f'; 40]].concat(),
    ];
    for value in strange {
        let mut shelf = MemoryShelf::default();
        shelf.write(&key("evt_1").shelf_key(), &value, None).unwrap();
        let mut seen = Seen::on(&mut shelf);
        assert_eq!(seen.begin(key("evt_1"), A, NOW, MINUTE), Begun::Fresh);
        assert!(seen.damaged(), "{value:?}");
        let mut seen = Seen::on(&mut shelf);
        assert!(matches!(seen.begin(key("evt_1"), B, NOW, MINUTE), Begun::InFlight { .. }));
        assert!(!seen.damaged());
    }
}

/// A shelf on which another worker writes first, so many times.
struct Rival {
    shelf: MemoryShelf,
    writes: core::cell::RefCell<Vec<(String, Vec<u8>)>>,
    always: bool,
}

impl Shelf for Rival {
    fn read(&self, key: &str) -> Option<(Vec<u8>, Version)> {
        self.shelf.read(key)
    }
    fn write(&mut self, key: &str, value: &[u8], version: Option<Version>) -> Result<(), Stale> {
        if let Some((key, value)) = self.writes.borrow_mut().pop() {
            let version = self.shelf.read(&key).map(|(_, version)| version);
            self.shelf.write(&key, &value, version)?;
        }
        if self.always { Err(Stale) } else { self.shelf.write(key, value, version) }
    }
}

#[test]
fn of_two_workers_at_once_one_is_first() {
    let theirs =
        encode(&[Entry { key: key("evt_1"), mark: Mark::InFlight, until: NOW.plus(MINUTE), owner: B }]);
    let writes = vec![(key("evt_1").shelf_key(), theirs)].into();
    let mut shelf = Rival { shelf: MemoryShelf::default(), writes, always: false };
    let mut seen = Seen::on(&mut shelf);
    assert!(matches!(seen.begin(key("evt_1"), A, NOW, MINUTE), Begun::InFlight { .. }));
}

#[test]
fn a_bucket_that_never_holds_still_is_an_outcome_of_its_own() {
    let mut shelf = Rival { shelf: MemoryShelf::default(), writes: Vec::new().into(), always: true };
    let mut seen = Seen::on(&mut shelf);
    assert_eq!(seen.begin(key("evt_1"), A, NOW, MINUTE), Begun::Contended);
    assert_eq!(seen.accept(key("evt_1"), A, NOW, WEEK), Marked::Missed);
}

#[test]
fn an_event_is_named_by_endpoint_mode_account_and_id() {
    let id = EventId::new("evt_1").unwrap();
    let keys = [
        EventKey::of("stripe", false, "self", &id),
        EventKey::of("stripe", true, "self", &id),
        EventKey::of("app", false, "self", &id),
        EventKey::of("stripe", false, "acct_1", &id),
        EventKey::of("stripe", false, "self", &EventId::new("evt_2").unwrap()),
        EventKey::of("ab", false, "c", &id),
        EventKey::of("a", false, "bc", &id),
        EventKey::of("a", false, "bcevt", &EventId::new("_1").unwrap()),
    ];
    let different: std::collections::BTreeSet<_> = keys.into_iter().collect();
    assert_eq!(different.len(), keys.len());
}
