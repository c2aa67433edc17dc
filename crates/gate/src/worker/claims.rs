//! Claims on events and what became of them: a call for each, several at a time, repeated until answered or of no use.

use super::pace::Pace;
use crate::Numbered;
use contract::v1::{Claim, Complete, CompleteOutcome};
use units::{Instant, Span};

/// How many claims, and how many completions, may be on their way at once.
const IN_FLIGHT_MAX: usize = 128;
/// An accepted event is worth telling of long after its claim ran out: billing records it even so.
const ACCEPTED_SPAN: Span = Span::from_secs(600);

/// A delivery that waits for leave to be forwarded.
#[derive(Debug)]
pub(super) struct Claiming {
    /// `None` once the stream has withdrawn: then a `fresh` answer must be released again.
    pub(super) stream: Option<u32>,
    pub(super) claim: Claim,
    pub(super) deadline: Instant,
    in_flight: bool,
    pace: Pace,
}

/// A handled event that billing must be told of.
#[derive(Debug)]
pub(super) struct Completing {
    pub(super) complete: Complete,
    give_up: Instant,
    in_flight: bool,
    pace: Pace,
}

/// Both kinds, by a number of their own.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) claiming: Numbered<Claiming>,
    pub(super) completing: Numbered<Completing>,
    last: u64,
}

impl Claims {
    pub(super) fn len(&self) -> usize {
        self.claiming.len().saturating_add(self.completing.len())
    }

    pub(super) fn ask(&mut self, stream: u32, claim: Claim, deadline: Instant) {
        let (n, pace) = (self.number(), Pace::default());
        self.claiming.insert(n, Claiming { stream: Some(stream), claim, deadline, in_flight: false, pace });
    }

    pub(super) fn tell(&mut self, complete: Complete, ttl: Span, now: Instant) {
        let worth = match complete.outcome {
            CompleteOutcome::Accepted => ttl.max(ACCEPTED_SPAN),
            CompleteOutcome::Failed => ttl,
        };
        let (n, pace, give_up) = (self.number(), Pace::default(), now.plus(worth));
        self.completing.insert(n, Completing { complete, give_up, in_flight: false, pace });
    }

    /// Nobody waits for this claim any more; if it is on its way, its answer must be seen to.
    pub(super) fn withdraw(&mut self, stream: u32) {
        let its = |(n, claiming): (u64, &mut Claiming)| {
            let is_its = claiming.stream.take_if(|s| *s == stream).is_some();
            (is_its && !claiming.in_flight).then_some(n)
        };
        let unsent: Vec<u64> = self.claiming.iter_mut().filter_map(its).collect();
        for n in unsent {
            self.claiming.remove(n);
        }
    }

    /// The claims to send now; they count as sent.
    pub(super) fn due_claims(&mut self, now: Instant) -> Vec<(u64, Claim)> {
        let room = IN_FLIGHT_MAX.saturating_sub(self.claiming.values().filter(|c| c.in_flight).count());
        let due = self.claiming.iter_mut().filter(|(_, c)| !c.in_flight && c.pace.allows(now)).take(room);
        due.map(|(n, c)| {
            c.in_flight = true;
            (n, c.claim.clone())
        })
        .collect()
    }

    /// The completions to send now; they count as sent.
    pub(super) fn due_completions(&mut self, now: Instant) -> Vec<(u64, Complete)> {
        let room = IN_FLIGHT_MAX.saturating_sub(self.completing.values().filter(|c| c.in_flight).count());
        let due = self.completing.iter_mut().filter(|(_, c)| !c.in_flight && c.pace.allows(now)).take(room);
        due.map(|(n, c)| {
            c.in_flight = true;
            (n, c.complete.clone())
        })
        .collect()
    }

    /// The call of this claim failed, but may be repeated.
    pub(super) fn claim_failed(&mut self, n: u64, now: Instant) {
        if let Some(claiming) = self.claiming.get_mut(n) {
            claiming.in_flight = false;
            claiming.pace.failed(now);
        }
    }

    /// The call of this completion failed. True if it will not be repeated.
    pub(super) fn completion_failed(&mut self, n: u64, now: Instant) -> bool {
        let Some(completing) = self.completing.get_mut(n) else { return false };
        completing.in_flight = false;
        completing.pace.failed(now);
        let over = now >= completing.give_up;
        if over {
            self.completing.remove(n);
        }
        over
    }

    /// The streams for which it is too late; they are withdrawn.
    pub(super) fn late(&mut self, now: Instant) -> Vec<u32> {
        let late: Vec<u32> =
            self.claiming.values().filter(|c| c.deadline <= now).filter_map(|c| c.stream).collect();
        late.iter().for_each(|stream| self.withdraw(*stream));
        late
    }

    /// When something is due at the earliest.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let claiming = self.claiming.values().filter(|c| !c.in_flight).map(|c| c.pace.not_before());
        let completing = self.completing.values().filter(|c| !c.in_flight).map(|c| c.pace.not_before());
        claiming.chain(completing).min()
    }

    fn number(&mut self) -> u64 {
        self.last = self.last.saturating_add(1);
        self.last
    }
}
