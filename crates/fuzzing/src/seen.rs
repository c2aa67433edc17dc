//! The memory of events: beside a model that remembers everything, on memory that others write to as well.

use crate::dice::Dice;
use crate::shelf::Open;
use gate::seen::{Begun, EventKey, IN_FLIGHT_MAX, Marked, Owner, REMEMBER_MAX, Seen};
use std::collections::BTreeMap;
use units::{EventId, Instant, Span};

/// What is certain of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    InFlight(Owner, Instant),
    Accepted(Instant),
}

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let mut shelf = Open::default();
    let mut now = Instant::from_secs(1_795_176_000);
    let mut model: BTreeMap<usize, Known> = BTreeMap::new();
    // Three dozen in each of two buckets fill them; the rest are all over the place.
    let spread = if dice.flag() { 4 } else { 60 };
    while !dice.is_over() {
        let n = dice.below(spread);
        let key = EventKey::of("app", false, "self", &EventId::new(format!("evt_{n}")).unwrap());
        let owner = Owner(dice.number() % 4);
        let span = Span::from_millis(dice.pick(&[0, 1, 1000, 30_000, 700_000, u64::MAX / 2000]));
        if dice.rarely(12) {
            shelf.races = dice.below(70);
        }
        model.retain(|_, known| match known {
            Known::InFlight(_, until) | Known::Accepted(until) => now < *until,
        });
        let known = model.get(&n).copied();
        let mut seen = Seen::on(&mut shelf);
        match dice.below(6) {
            0..=2 => match (seen.begin(key, owner, now, span), known) {
                (Begun::Fresh, None) => {}
                (Begun::Fresh, Some(Known::InFlight(first, _))) => assert_eq!(first, owner, "two at a time"),
                (Begun::InFlight { until }, Some(Known::InFlight(first, ends))) => {
                    assert!(first != owner && until == ends && now < until);
                    continue;
                }
                (Begun::Accepted, Some(Known::Accepted(_))) | (Begun::Contended, _) => continue,
                (Begun::Full, None) if spread > 32 => continue,
                other => panic!("{other:?}"),
            },
            3 => {
                if seen.accept(key, owner, now, span) == Marked::Done {
                    model.insert(n, Known::Accepted(now.plus(span.min(REMEMBER_MAX))));
                }
                continue;
            }
            4 => {
                let done = seen.release(key, owner, now) == Marked::Done;
                if done && matches!(known, Some(Known::InFlight(first, _)) if first == owner) {
                    model.remove(&n);
                }
                continue;
            }
            _ if dice.rarely(8) => {
                // Who writes here beside us can make it forget, and no more.
                if shelf.spoil(&mut dice).is_some() {
                    return spoilt(shelf, &mut dice, now);
                }
                continue;
            }
            _ => {
                now = now.plus(Span::from_millis(dice.number() % 40_000));
                continue;
            }
        }
        // Fresh, and ours.
        let until = now.plus(span.min(IN_FLIGHT_MAX));
        model.insert(n, Known::InFlight(owner, until));
    }
}

/// After somebody else wrote: nothing is certain any more, but every question has an answer, and a mark has an end.
fn spoilt(mut shelf: Open, dice: &mut Dice<'_>, mut now: Instant) {
    shelf.races = 0;
    while !dice.is_over() {
        shelf.spoil(dice);
        let key =
            EventKey::of("app", false, "self", &EventId::new(format!("evt_{}", dice.below(4))).unwrap());
        let mut seen = Seen::on(&mut shelf);
        match seen.begin(key, Owner(1), now, Span::from_secs(30)) {
            Begun::InFlight { until } => {
                assert!(now < until && until <= now.plus(IN_FLIGHT_MAX));
                now = until;
                assert!(!matches!(
                    Seen::on(&mut shelf).begin(key, Owner(1), now, Span::from_secs(30)),
                    Begun::InFlight { .. }
                ));
            }
            Begun::Fresh => assert_eq!(seen.accept(key, Owner(1), now, Span::from_secs(60)), Marked::Done),
            Begun::Accepted => now = now.plus(REMEMBER_MAX),
            Begun::Full => now = now.plus(IN_FLIGHT_MAX),
            Begun::Contended => panic!("nobody else is here"),
        }
    }
}
