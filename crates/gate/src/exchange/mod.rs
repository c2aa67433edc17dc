//! One HTTP exchange from first header to last byte; call `handle`, then drain `poll_effect`, every time.

mod metered;
mod terms;
mod webhook;

pub use metered::{BodyEdit, Metered};
pub use webhook::Delivery;

use crate::config::{AiConfig, Config, WebhookConfig};
use crate::seen::Owner;
use crate::{Effect, Flow, Input, Now, Shelf};
use std::rc::Rc;

/// What an instance of the filter does with every exchange.
#[derive(Clone, Debug)]
pub enum Role {
    /// Verifies Stripe's events.
    Webhook(Rc<WebhookConfig>),
    /// Lets a request through only if it is paid for.
    Ai(Rc<AiConfig>),
}

/// One exchange.
#[derive(Debug)]
pub enum Exchange {
    /// A delivery of an event.
    Webhook(Delivery),
    /// A metered request.
    Metered(Metered),
}

/// See [`Exchange::end_wanted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndWanted {
    /// The status that the client saw.
    pub code: bool,
    /// Envoy's response flags.
    pub flags: bool,
    /// What Envoy's own reader found.
    pub usage: bool,
}

impl Role {
    /// An exchange that nothing has happened to. No other one under way in this Envoy may have the same `number`.
    #[must_use]
    pub fn exchange(&self, number: u64) -> Exchange {
        match self {
            Self::Webhook(config) => Exchange::Webhook(Delivery::new(Rc::clone(config), Owner(number))),
            Self::Ai(config) => Exchange::Metered(Metered::new(Rc::clone(config), number)),
        }
    }
}

impl From<Config> for Role {
    fn from(config: Config) -> Self {
        match config {
            Config::Webhook(config) => Self::Webhook(Rc::new(config)),
            Config::Ai(config) => Self::Ai(Rc::new(config)),
        }
    }
}

impl Exchange {
    /// Takes in what happened, and says what becomes of the data that it brought.
    pub fn handle(&mut self, input: Input<'_>, now: Now, shelf: &mut dyn Shelf) -> Flow {
        match self {
            // A delivery asks at its last byte, so it makes no difference to it.
            Self::Webhook(delivery) => match input {
                Input::AnsweredAtOnce(answer) => delivery.handle(Input::Answered(answer), now, shelf),
                other => delivery.handle(other, now, shelf),
            },
            Self::Metered(metered) => metered.handle(input, now),
        }
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        let effect = match self {
            Self::Webhook(delivery) => delivery.poll_effect(),
            Self::Metered(metered) => metered.poll_effect(),
        };
        if let Some(Effect::Count(metric)) = &effect {
            debug_assert!(metric.is_listed(), "{metric:?} is counted, and not in the list of metrics");
        }
        effect
    }

    /// What of [`Input::Closed`] makes a difference; the rest need not be looked up.
    #[must_use]
    pub fn end_wanted(&self) -> EndWanted {
        match self {
            Self::Webhook(_) => EndWanted { code: false, flags: true, usage: false },
            Self::Metered(metered) => metered.end_wanted(),
        }
    }

    /// How many bytes of the request body are wanted at its end, at most; `None` if none are.
    #[must_use]
    pub fn body_wanted(&self) -> Option<usize> {
        match self {
            Self::Webhook(delivery) => delivery.body_wanted(),
            Self::Metered(metered) => metered.body_wanted(),
        }
    }

    /// True if the pieces of the answer are to be seen.
    #[must_use]
    pub fn answer_wanted(&self) -> bool {
        match self {
            Self::Webhook(_) => false,
            Self::Metered(metered) => metered.answer_wanted(),
        }
    }
}
