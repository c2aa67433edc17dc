//! The network between gateways and billing: it loses, repeats, reorders and delays messages, and cuts off whole Envoys.

use super::house::{Done, Said};
use super::mutant::Spoiler;
use super::{Event, Field};
use contract::v1::{PATH_SYNC, PATH_WATCH};
use gate::worker::CallResult;
use units::{Instant, Span};

/// One call on its way, there or back.
#[derive(Clone)]
pub(super) struct Message {
    pub(super) at: (usize, usize),
    /// Which worker of those that were at this place.
    pub(super) life: u64,
    /// Which life of its Envoy.
    pub(super) process: u64,
    pub(super) id: u64,
    pub(super) path: &'static str,
    pub(super) body: Vec<u8>,
    /// When it was sent, and when by its Envoy's own clock.
    pub(super) began: Instant,
    pub(super) sent: Instant,
    /// For polls: after which position, and for how long billing may keep it.
    pub(super) after: Option<u64>,
    pub(super) wait: Span,
}

/// A poll that billing keeps open.
pub(super) struct Poll {
    message: Message,
    after: u64,
}

impl Field {
    /// A worker sends something, and gives it up after a while.
    pub(super) fn send(&mut self, mut message: Message, timeout: Span) {
        let (e, w) = message.at;
        let what = message.path.rsplit('/').next().unwrap();
        if let Some(spoiler) = &mut self.mutant
            && message.path == PATH_SYNC
        {
            message.body = spoiler.spoil_sync(e, &message.body);
        }
        self.envoys[e].workers[w].pending.insert(message.id);
        self.after(timeout, Event::Timeout(Message { body: Vec::new(), ..message.clone() }));
        if self.envoys[e].cut.0 || self.loses() {
            self.tell(&format!("A {what} of Envoy {e}, worker {w}, is lost."));
            if self.dice.percent(30) {
                // The connection breaks at once, instead of staying silent.
                self.after(Span::from_millis(1), Event::Back(message, CallResult::Reset, Said::default()));
            }
            return;
        }
        if !self.calm && self.plan.faults.repeat && self.dice.percent(6) {
            let late = self.dice.between(1, 4_000);
            self.tell(&format!("A {what} of Envoy {e}, worker {w}, will come twice, again in {late} ms."));
            self.after(Span::from_millis(late), Event::Again(message.clone()));
        }
        let travels = self.travels();
        self.after(travels, Event::Arrive(message));
    }

    fn loses(&mut self) -> bool {
        !self.calm && self.plan.faults.loss && self.dice.percent(7)
    }

    fn travels(&mut self) -> Span {
        let slow = !self.calm && self.plan.faults.delay;
        Span::from_millis(match self.dice.between(0, 99) {
            0..=5 if slow => self.dice.between(100, 1_900),
            6..=8 if slow => self.dice.between(1_900, 2 * (self.plan.ttl.millis() + self.plan.tail.millis())),
            _ if self.calm => self.dice.between(1, 4),
            _ => self.dice.between(1, 20),
        })
    }

    /// A call is there.
    pub(super) fn arrive(&mut self, message: Message) {
        let (e, w) = message.at;
        if self.now < self.down_until {
            return self
                .after(Span::from_millis(1), Event::Back(message, CallResult::Local, Said::default()));
        }
        if let Some(after) = message.after {
            return self.keep_poll(message, after);
        }
        let (doom, what) = (self.doom.take(), message.path.rsplit('/').next().unwrap());
        let kept = doom != Some(false) && !self.mutant.as_mut().is_some_and(Spoiler::forgets);
        let mut done = self.house.answer(message.path, &message.body, kept, self.now);
        if kept && !self.calm && self.plan.faults.repeat && self.dice.percent(6) {
            self.takes(&message, &done);
            self.tell(&format!(
                "The next {what} of Envoy {e}, worker {w}, comes twice, and the second answer is seen."
            ));
            done = self.house.answer(message.path, &message.body, kept, self.now);
        }
        if kept {
            self.takes(&message, &done);
        }
        let told = matches!(&done.result, CallResult::Upstream { status: 200, .. });
        self.tell(&format!(
            "Billing {} a {what} of Envoy {e}, worker {w}.",
            if told { "answers" } else { "refuses" }
        ));
        if self.story.messages {
            self.tell(&String::from_utf8_lossy(&message.body));
            if let CallResult::Upstream { body: Some(body), .. } = &done.result {
                self.tell(&String::from_utf8_lossy(body));
            }
        }
        let slot = &mut self.envoys[e].workers[w];
        if told && doom.is_none() && slot.life == message.life {
            slot.hear(self.now, self.plan.ttl);
        }
        if let Some(durable) = doom {
            self.die(durable);
            return self
                .after(Span::from_millis(1), Event::Back(message, CallResult::Reset, Said::default()));
        }
        if let (Some(spoiler), CallResult::Upstream { status: 200, body: Some(body) }) =
            (&mut self.mutant, &mut done.result)
        {
            if message.path == PATH_SYNC {
                spoiler.learn_answer(e, body);
            } else {
                *body = spoiler.spoil_hello(body);
            }
        }
        self.notify();
        self.reply(message, done.result, done.said);
    }

    /// What billing did is durable.
    fn takes(&mut self, message: &Message, done: &Done) {
        if message.path == PATH_SYNC {
            let (who, tail) = ((message.process, message.life), self.plan.tail);
            self.auditor
                .meet((self.envoys[message.at.0].node.clone(), done.said.incarnation), message.process);
            if matches!(done.result, CallResult::Upstream { status: 200, .. }) {
                self.witness.takes(who, &done.said, message.began, self.now, tail);
            }
        }
        self.took();
    }

    fn die(&mut self, durable: bool) {
        let away = self.dice.between(1, 1_500);
        let when = if durable { "after" } else { "before" };
        self.tell(&format!("Billing dies {when} that is durable, and is back after {away} ms."));
        self.down_until = self.now.plus(Span::from_millis(away));
        self.house.restart(self.down_until);
        for poll in core::mem::take(&mut self.polls).into_values() {
            self.after(Span::from_millis(1), Event::Back(poll.message, CallResult::Reset, Said::default()));
        }
    }

    fn reply(&mut self, message: Message, result: CallResult, said: Said) {
        let (e, w) = message.at;
        if self.envoys[e].cut.1 || self.loses() {
            let what = message.path.rsplit('/').next().unwrap();
            return self.tell(&format!("The answer to a {what} of Envoy {e}, worker {w}, is lost."));
        }
        let travels = self.travels();
        self.after(travels, Event::Back(message, result, said));
    }

    /// An answer is back. It is of use only if its call is still awaited.
    pub(super) fn back(&mut self, message: &Message, result: &CallResult, said: &Said) {
        let (e, w) = message.at;
        let local = self.clock(e);
        let envoy = &mut self.envoys[e];
        let slot = &mut envoy.workers[w];
        if slot.life != message.life || !slot.pending.remove(&message.id) {
            return;
        }
        if message.path == PATH_SYNC && matches!(result, CallResult::Upstream { status: 200, .. }) {
            let who = (message.process, message.life);
            self.witness.hears(who, said, message.began);
        }
        for payer in &said.payers {
            let heard = envoy.heard.entry(payer.clone()).or_insert(message.sent);
            *heard = message.sent.max(*heard);
        }
        let spoilt = match (&mut self.mutant, result) {
            (Some(spoiler), CallResult::Upstream { status: 200, body: Some(body) })
                if message.path == PATH_SYNC =>
            {
                let body = Some(spoiler.spoil_answer(body, local.since(message.sent)));
                Some(CallResult::Upstream { status: 200, body })
            }
            _ => None,
        };
        let result = spoilt.as_ref().unwrap_or(result);
        slot.worker.on_answer(message.id, result, local, &mut envoy.shelf);
        self.poll(message.at);
    }

    /// Nobody answered in time.
    pub(super) fn time_out(&mut self, message: &Message) {
        self.back(message, &CallResult::Local, &Said::default());
    }

    fn keep_poll(&mut self, message: Message, after: u64) {
        self.last_event += 1;
        let (poll, wait) = (self.last_event, message.wait);
        self.polls.insert(poll, Poll { message, after });
        self.after(wait, Event::PollOver(poll));
        self.notify();
    }

    /// Whoever polls hears what has happened.
    pub(super) fn notify(&mut self) {
        let drops = self.mutant.as_ref().map(Spoiler::drops);
        let heard: Vec<_> = self
            .polls
            .iter()
            .filter_map(|(n, poll)| {
                let result =
                    self.house.watched(poll.after, |note| drops.as_ref().is_some_and(|it| it(note)))?;
                Some((*n, result))
            })
            .collect();
        for (n, result) in heard {
            let Some(poll) = self.polls.remove(&n) else { continue };
            self.tell(&format!("Billing tells Envoy {} what has happened.", poll.message.at.0));
            self.reply(poll.message, result, Said::default());
        }
    }

    pub(super) fn poll_over(&mut self, poll: u64) {
        if let Some(poll) = self.polls.remove(&poll) {
            let result = self.house.unheard(poll.after);
            self.reply(poll.message, result, Said::default());
        }
    }

    /// An Envoy is cut off. Open polls break, or stay silent.
    pub(super) fn cut(&mut self, e: usize, (up, down): (bool, bool), span: Span) {
        let ways = match (up, down) {
            (true, true) => "both ways",
            (true, false) => "from billing's ear",
            _ => "from billing's word",
        };
        self.tell(&format!("Envoy {e} is cut off {ways} for {} ms.", span.millis()));
        self.envoys[e].cut = (up, down);
        if !down {
            self.slow_down(e);
        }
        self.insist(e);
        self.after(span, Event::Heals(e));
        if self.dice.percent(50) {
            let broken: Vec<_> =
                self.polls.iter().filter(|(_, poll)| poll.message.at.0 == e).map(|(n, _)| *n).collect();
            for poll in broken.into_iter().filter_map(|n| self.polls.remove(&n)).collect::<Vec<_>>() {
                self.after(
                    Span::from_millis(1),
                    Event::Back(poll.message, CallResult::Reset, Said::default()),
                );
            }
        }
    }

    /// Answers on their way to an Envoy take longer.
    fn slow_down(&mut self, e: usize) {
        let coming = |event: &Event| matches!(event, Event::Back(message, ..) if message.at.0 == e);
        let slow: Vec<_> = self.queue.extract_if(.., |_, event| coming(event)).collect();
        for ((at, _), event) in slow {
            let late = at.since(self.now).plus(Span::from_millis(self.dice.between(0, 1_800)));
            self.after(late, event);
        }
    }

    /// Somebody goes on asking at an Envoy that is cut off, until what it has is too old to go by.
    fn insist(&mut self, e: usize) {
        let customer = self.dice.place(self.plan.customers.len());
        let every = self.dice.between(20, 200);
        let until = self.plan.ttl.millis() + 2_500;
        for n in 1..=until / every {
            self.after(Span::from_millis(n * every), Event::Asks(e, customer));
        }
    }

    pub(super) fn heals(&mut self, e: usize) {
        if self.envoys[e].cut != (false, false) {
            self.tell(&format!("Envoy {e} is connected again."));
            self.envoys[e].cut = (false, false);
        }
    }

    /// Whatever polls are open, or lost on their way, break: the connections are new.
    pub(super) fn reconnect(&mut self) {
        self.polls.clear();
        let watching = |event: &Event| match event {
            Event::Timeout(message) if message.path == PATH_WATCH => Some(message.clone()),
            _ => None,
        };
        let messages: Vec<Message> = self.queue.values().filter_map(watching).collect();
        for message in messages {
            self.after(Span::from_millis(1), Event::Back(message, CallResult::Reset, Said::default()));
        }
    }
}
