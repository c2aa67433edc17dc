//! Whatever comes in whatever order: nothing traps, one copy at a time goes on, and nothing is accepted without a 2xx.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Deliveries that may run at once.
const STREAMS: usize = 6;

/// Something that happens to one of them, or to the clock.
#[derive(Clone, Debug)]
enum Happening {
    Headers { genuine: bool, end: bool },
    Piece(usize),
    BodyEnd { with_body: bool },
    Trailers { with_body: bool },
    Answer(Answer),
    Status { code: &'static str, end: bool },
    AnswerPiece { end: bool },
    Closed { flags: u64 },
    Next,
    Millis(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let answer = prop_oneof![
        4 => Just(fresh()),
        1 => Just(Answer::Claimed(ClaimAnswer::Done)),
        1 => Just(Answer::Claimed(ClaimAnswer::InFlight { retry_ms: 1 })),
        1 => Just(Answer::Unavailable(Fault::Late)),
        1 => Just(Answer::Refused(Box::new(contract::v1::Refusal::plain(contract::v1::Reason::Suspended)))),
    ];
    let code = prop::sample::select(vec!["200", "204", "100", "301", "409", "500", "x"]);
    let flags = prop::sample::select(vec![0, 0, 0, 0x4000, 0x1000_0000, 0x80_0000, 1 << 9]);
    prop_oneof![
        6 => (prop::bool::weighted(0.9), prop::bool::weighted(0.05))
            .prop_map(|(genuine, end)| Happening::Headers { genuine, end }),
        1 => (0..5000_usize).prop_map(Happening::Piece),
        6 => prop::bool::weighted(0.95).prop_map(|with_body| Happening::BodyEnd { with_body }),
        2 => prop::bool::weighted(0.95).prop_map(|with_body| Happening::Trailers { with_body }),
        4 => answer.prop_map(Happening::Answer),
        4 => (code, any::<bool>()).prop_map(|(code, end)| Happening::Status { code, end }),
        1 => any::<bool>().prop_map(|end| Happening::AnswerPiece { end }),
        3 => flags.prop_map(|flags| Happening::Closed { flags }),
        1 => Just(Happening::Next),
        1 => (0..100_u64).prop_map(Happening::Millis),
    ]
}

/// One stream, and what an onlooker knows of it.
struct Watched {
    told: Told,
    path: &'static str,
    id: &'static str,
    status: Option<&'static str>,
    closed: bool,
}

impl Watched {
    fn new(world: &mut World, n: usize) -> Self {
        // Of six streams, three carry the same event to the same endpoint.
        let (path, id) = match n % 6 {
            0..=2 => ("/webhooks/app", "evt_1"),
            3 | 4 => ("/webhooks/stripe", "evt_1"),
            _ => ("/webhooks/app", "evt_2"),
        };
        Self { told: world.delivery(), path, id, status: None, closed: false }
    }

    fn hear(&mut self, world: &mut World, happening: &Happening) {
        let body = event(self.id);
        let brought;
        let input = match happening {
            Happening::Headers { genuine, end } => {
                let forged = String::from("t=1,v1=0");
                brought = headers(self.path, &if *genuine { signed(&body, world.now.wall) } else { forged });
                Input::RequestHeaders { headers: &brought, end: *end, verified: None }
            }
            Happening::Piece(size) => Input::RequestBody { size: *size, end: false, body: None },
            Happening::BodyEnd { with_body } => {
                Input::RequestBody { size: body.len(), end: true, body: with_body.then_some(&body) }
            }
            Happening::Trailers { with_body } => Input::RequestTrailers { body: with_body.then_some(&body) },
            Happening::Answer(answer) => Input::Answered(answer.clone()),
            Happening::Status { code, end } => {
                if self.told.is_forwarded() {
                    self.status = Some(code);
                }
                brought = status(code);
                Input::ResponseHeaders { headers: &brought, end: *end }
            }
            Happening::AnswerPiece { end } => Input::ResponseBody { size: 1, end: *end, piece: None },
            Happening::Closed { flags } => {
                self.closed = true;
                Input::Closed { code: Some(200), flags: *flags, usage: None }
            }
            Happening::Next | Happening::Millis(_) => return,
        };
        let is_request = matches!(
            input,
            Input::RequestHeaders { .. }
                | Input::RequestBody { .. }
                | Input::RequestTrailers { .. }
                | Input::Answered(_)
        );
        let flow = self.told.hear(world, input);
        assert!(
            !is_request || flow == Flow::Pause || self.told.is_forwarded(),
            "only what was verified goes on"
        );
        assert!(
            !self.told.is_forwarded() || self.told.reply().is_none(),
            "answered or forwarded, never both"
        );
    }

    /// A finished stream owes nothing, and told the truth.
    fn audit(&self, accepted: &mut BTreeSet<(&'static str, &'static str)>) {
        let count = |wanted: &str| {
            let is_it = |e: &&Effect| matches!(e, Effect::Count(Metric::Webhook { outcome, .. }) if *outcome == wanted);
            self.told.effects.iter().filter(is_it).count()
        };
        let is_ok = self.status.is_some_and(|status| status.starts_with('2'));
        let (went_on, accepts) = (count("forwarded") + count("forwarded_unclaimed"), count("accepted"));
        assert!(went_on <= 1 && accepts <= 1);
        assert!(accepts == 0 || (went_on == 1 && is_ok), "accepted without a 2xx");
        assert_eq!(went_on, accepts + count("failed"), "what went on was settled, once");
        let had_claim = went_on == 1 && self.path == "/webhooks/app" && count("forwarded") == 1;
        let expected = if accepts == 1 { CompleteOutcome::Accepted } else { CompleteOutcome::Failed };
        assert_eq!(self.told.completions(), if had_claim { vec![expected] } else { vec![] });
        // Billing may say so too.
        if accepts == 1 || (self.told.claim().is_some() && count("duplicate") == 1) {
            accepted.insert((self.path, self.id));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes(
        happenings in prop::collection::vec((0..STREAMS, happening()), 0..120),
        forwards_unclaimed in any::<bool>(),
    ) {
        let word = if forwards_unclaimed { "forward" } else { "refuse" };
        let mut world = World::with(|e| e[1]["dedupe"]["on_claim_unavailable"] = word.into());
        let mut streams: Vec<_> = (0..STREAMS).map(|n| Watched::new(&mut world, n)).collect();
        let mut accepted = BTreeSet::new();
        for (n, happening) in &happenings {
            if let Happening::Millis(ms) = happening {
                world.now.wall = world.now.wall.plus(Span::from_millis(*ms));
            }
            let stream = &mut streams[*n];
            if !stream.closed {
                stream.hear(&mut world, happening);
                if stream.closed {
                    stream.audit(&mut accepted);
                }
            } else if matches!(happening, Happening::Next) {
                *stream = Watched::new(&mut world, *n);
            }
            // Less time passes in all than a mark lasts: so one copy at a time, and none after it was accepted.
            let mut going: BTreeMap<_, usize> = BTreeMap::new();
            for stream in streams.iter().filter(|s| s.told.is_forwarded()) {
                *going.entry((stream.path, stream.id)).or_default() += 1;
                prop_assert!(!accepted.contains(&(stream.path, stream.id)), "forwarded after it was accepted");
            }
            prop_assert!(going.values().all(|n| *n == 1), "{going:?}");
        }
        for stream in &mut streams {
            if !stream.closed {
                stream.hear(&mut world, &Happening::Closed { flags: 0 });
                stream.audit(&mut accepted);
            }
        }
        // Nobody is left behind who keeps an event from coming again.
        for (path, id) in [("/webhooks/app", "evt_1"), ("/webhooks/stripe", "evt_1"), ("/webhooks/app", "evt_2")] {
            let again = world.deliver(path, &event(id));
            let answer = again.reply().map(|r| r.status);
            prop_assert_eq!(answer, accepted.contains(&(path, id)).then_some(200));
        }
    }
}
