//! Whatever is told of payments, and in whatever order, the same is left: random stories, each played in two orders.

use super::take;
use crate::catalog::Catalog;
use crate::engine::Work;
use crate::service::{Session, Setup};
use crate::store::{Memory, Page, Transaction};
use ledger::{Command, CrashPolicy, Source, Terms, Timing};
use serde_json::{Value, json};
use units::{AccountId, Amount, Instant, Span, Unit};
use webhook::Event;

const DEMO: &str = include_str!("../../../../catalogs/demo.yaml");
const NOW: Instant = Instant::from_secs(1_795_167_000);

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(n).unwrap()).unwrap()
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn shuffle<T>(&mut self, things: &mut [T]) {
        for n in (1..things.len()).rev() {
            things.swap(n, self.below(n + 1));
        }
    }
}

/// What the story begins with, in some order too: a purchase by `pi_0`, and an invoice paid by `pi_1`.
fn payments() -> Vec<(&'static str, Value)> {
    let now = NOW.secs();
    let session = json!({"id": "cs_0", "mode": "payment", "payment_status": "paid", "client_reference_id": "alice",
        "customer": "cus_0", "payment_intent": "pi_0", "amount_total": 500, "currency": "usd",
        "metadata": {"package_id": "starter"}});
    let parent = json!({"subscription_item_details": {"subscription": "sub_0", "proration": false}});
    let invoice = json!({"id": "in_0", "customer": "cus_0", "status": "paid", "billing_reason": "subscription_create",
        "amount_paid": 2000, "parent": {"subscription_details": {"subscription": "sub_0", "metadata": {}}},
        "lines": {"has_more": false, "data": [{"quantity": 1, "parent": parent,
            "period": {"start": now, "end": now + 2_592_000}, "pricing": {"price_details": {"price": "price_pro"}}}]}});
    let link = json!({"invoice": "in_0", "payment": {"type": "payment_intent", "payment_intent": "pi_1"}});
    vec![("checkout.session.completed", session), ("invoice.paid", invoice), ("invoice_payment.paid", link)]
}

/// One thing that may become of a payment. What has an id has one amount.
fn later(dice: &mut Dice) -> (&'static str, Value) {
    let n = dice.below(2);
    let (intent, price) = (format!("pi_{n}"), [500, 2000][n]);
    let which = dice.below(2);
    let amount = price / [2, 5][which];
    match dice.below(7) {
        0 | 1 => (
            "charge.refunded",
            json!({"id": "ch", "payment_intent": intent, "amount_refunded": price / 10 * dice.pick(&[1, 3, 5, 10])}),
        ),
        2 | 3 => {
            let status = dice.pick(&["pending", "succeeded", "failed", "canceled"]);
            let refund = json!({"id": format!("re_{n}_{which}"), "payment_intent": intent, "amount": amount, "status": status});
            (dice.pick(&["refund.created", "refund.updated", "charge.refund.updated"]), refund)
        }
        4 | 5 => {
            let status =
                dice.pick(&["needs_response", "under_review", "won", "lost", "prevented", "warning_closed"]);
            let dispute = json!({"id": format!("dp_{n}_{which}"), "payment_intent": intent, "amount": amount,
                "currency": "usd", "status": status});
            (
                dice.pick(&[
                    "charge.dispute.created",
                    "charge.dispute.closed",
                    "charge.dispute.funds_reinstated",
                ]),
                dispute,
            )
        }
        _ => {
            let note = json!({"id": format!("cn_{which}"), "invoice": "in_0", "post_payment_amount": 300, "refunds": []});
            (dice.pick(&["credit_note.created", "credit_note.voided"]), note)
        }
    }
}

fn setup() -> Setup {
    let catalog = Catalog::from_yaml(DEMO).unwrap();
    let span = Span::from_secs(30);
    let timing = Timing { ttl: span, grace: Span::ZERO, tail: span };
    Setup {
        policy: catalog.policy(),
        catalog,
        timing,
        crash: CrashPolicy::Refund,
        claim_ttl: span,
        tells: false,
    }
}

/// Takes events in; what alice has then, and what became of each event.
fn play(events: &[Value]) -> (String, Vec<String>) {
    let setup = setup();
    let (mut store, mut notes, mut counts) = (Memory::default(), Vec::new(), Vec::new());
    store.begin().unwrap();
    let mut work = Work { store: &mut store, now: NOW, notes: &mut notes, counts: &mut counts };
    for event in events {
        let body = event.to_string();
        take(&mut work, &setup, &Event::read(body.as_bytes()).unwrap(), body).unwrap();
    }
    let mut rows = work.store.events(None, Page { before: None, limit: u32::MAX }).unwrap();
    rows.sort_by(|a, b| a.row.key.cmp(&b.row.key));
    let told = rows.into_iter().map(|it| format!("{} {}", it.row.key.id, it.row.status.as_str())).collect();
    let alice = AccountId::new("alice").unwrap();
    let mut grants = work.store.grants(&alice).unwrap();
    grants.sort_by(|(_, a), (_, b)| a.terms.source_ref.cmp(&b.terms.source_ref));
    let left = grants.iter().map(|(_, it)| (&it.terms.source_ref, it.avail, it.reversed));
    let left = format!("{:?}", left.collect::<Vec<_>>());
    let balance = Session::new(&mut work, &setup).unwrap().balance(&alice).unwrap();
    (format!("{balance:?} {left}"), told)
}

#[test]
fn the_same_is_left_in_every_order() {
    let mut dice = Dice(7);
    for round in 0..400 {
        let mut told = payments();
        told.extend((0..1 + dice.below(7)).map(|_| later(&mut dice)));
        let mut events: Vec<Value> = (0..)
            .zip(told)
            .map(|(n, (kind, object))| {
                let created = NOW.secs() + i64::try_from(dice.below(3)).unwrap();
                json!({"id": format!("evt_{n}"), "object": "event", "livemode": false, "type": kind,
                    "created": created, "data": {"object": object}})
            })
            .collect();
        let there = play(&events);
        dice.shuffle(&mut events);
        let again = events[dice.below(events.len())].clone();
        events.insert(dice.below(events.len()), again);
        assert_eq!(play(&events), there, "round {round}: {events:#?}");
    }
}

/// A grant that an invoice brings after it was paid, as a refill does, has lost its share too.
#[test]
fn what_a_refunded_invoice_grants_later_is_taken_back_too() {
    let setup = setup();
    let (mut store, mut notes, mut counts) = (Memory::default(), Vec::new(), Vec::new());
    let mut work = Work { store: &mut store, now: NOW, notes: &mut notes, counts: &mut counts };
    let half = json!({"id": "ch", "payment_intent": "pi_1", "amount_refunded": 1000});
    for (n, (kind, object)) in (0..).zip(payments().into_iter().chain([("charge.refunded", half)])) {
        let body = json!({"id": format!("evt_{n}"), "object": "event", "livemode": false, "type": kind,
            "created": NOW.secs(), "data": {"object": object}})
        .to_string();
        take(&mut work, &setup, &Event::read(body.as_bytes()).unwrap(), body).unwrap();
    }
    let alice = AccountId::new("alice").unwrap();
    let mut session = Session::new(&mut work, &setup).unwrap();
    let refill = Terms {
        unit: Unit::Credits,
        scope: String::new(),
        source: Source::Subscription,
        source_ref: "plan:in_0:price_pro:2".into(),
        priority: 10,
        starts_at: NOW,
        expires_at: Instant::FAR,
        amount: Amount::CREDIT,
    };
    session.step(&alice, &Command::Grant(refill)).unwrap();
    let before = session.balance(&alice).unwrap().shown();
    super::settle_invoice(&mut session, "in_0").unwrap();
    assert_eq!(before - session.balance(&alice).unwrap().shown(), 500_000);
    super::settle_invoice(&mut session, "in_of_nobody").unwrap();
}
