//! Deliveries told as stories: what Stripe and the world do, and what must be seen of it.

mod any_order;
mod forwarded;
mod refused;

use super::*;
use crate::config::Config;
use crate::{MemoryShelf, Reply};
use ::webhook::{Secret, sign};

pub(super) const SECRET: &str = "whsec_test_secret";
pub(super) const START: Now = Now { mono: Instant::from_secs(5), wall: Instant::from_secs(1_763_631_000) };

/// An Envoy with both endpoints: `/webhooks/stripe` (upstream) and `/webhooks/app` (claim), as configured by `edit`.
pub(super) struct World {
    pub(super) config: Rc<WebhookConfig>,
    pub(super) shelf: MemoryShelf,
    pub(super) now: Now,
    owners: u64,
}

/// One delivery and everything it ever asked for.
pub(super) struct Told {
    pub(super) delivery: Delivery,
    pub(super) effects: Vec<Effect>,
}

pub(super) fn event(id: &str) -> Vec<u8> {
    format!(
        "{{\n  \"id\": \"{id}\",\n  \"object\": \"event\",\n  \"api_version\": \"2031-01-01.zebra\",\n  \
         \"type\": \"invoice.paid\",\n  \"livemode\": false,\n  \"data\": {{}}\n}}"
    )
    .into_bytes()
}

pub(super) fn signed(body: &[u8], at: Instant) -> String {
    sign(&Secret::new(SECRET).unwrap(), at, body)
}

pub(super) fn headers(path: &str, signature: &str) -> Headers {
    [(":method", "POST"), (":path", path), ("stripe-signature", signature)].into_iter().collect()
}

pub(super) fn status(status: &str) -> Headers {
    [(":status", status)].into_iter().collect()
}

pub(super) fn fresh() -> Answer {
    Answer::Claimed(ClaimAnswer::Fresh { token: "token_1".into(), ttl_ms: 30_000 })
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(super) fn with(edit: impl FnOnce(&mut [serde_json::Value; 2])) -> Self {
        let endpoint = |id: &str, dedupe: serde_json::Value| {
            serde_json::json!({"id": id, "path": format!("/webhooks/{id}"), "secrets_env": ["NEW"],
                "tolerance_past_s": 300, "tolerance_future_s": 300, "body_bytes_max": 4096, "livemode": "any",
                "forward_types": ["*"], "dedupe": dedupe})
        };
        let mut endpoints = [
            endpoint("stripe", serde_json::json!({"mode": "upstream"})),
            endpoint("app", serde_json::json!({"mode": "claim", "on_claim_unavailable": "refuse"})),
        ];
        edit(&mut endpoints);
        let json = serde_json::json!({"role": "webhook", "endpoints": endpoints, "billing":
            {"cluster": "billing", "timeout_ms": 2000, "token_env": "TOKEN", "node_env": "NODE"}});
        let env = |name: &str| match name {
            "NEW" => Some(SECRET.to_owned()),
            "OLD" => Some("whsec_test_secret_rolled_key".to_owned()),
            _ => Some(name.to_lowercase()),
        };
        let Ok(Config::Webhook(config)) = Config::resolve(json.to_string().as_bytes(), &env) else {
            panic!()
        };
        Self { config: Rc::new(config), shelf: MemoryShelf::default(), now: START, owners: 0 }
    }

    pub(super) fn delivery(&mut self) -> Told {
        self.owners += 1;
        Told { delivery: Delivery::new(self.config.clone(), Owner(self.owners)), effects: Vec::new() }
    }

    pub(super) fn pass(&mut self, secs: u64) {
        let span = Span::from_secs(secs);
        self.now = Now { mono: self.now.mono.plus(span), wall: self.now.wall.plus(span) };
    }

    /// Headers and a body that ends with its last byte.
    pub(super) fn send(&mut self, headers: &Headers, body: &[u8]) -> Told {
        let mut told = self.delivery();
        let flow = told.hear(self, Input::RequestHeaders { headers, end: false, verified: None });
        assert_eq!(flow, Flow::Pause, "nothing goes upstream unverified");
        if told.reply().is_none() {
            told.hear(self, Input::RequestBody { size: body.len(), end: true, body: Some(body) });
        }
        told
    }

    /// A genuine delivery, signed now.
    pub(super) fn deliver(&mut self, path: &str, body: &[u8]) -> Told {
        let signature = signed(body, self.now.wall);
        self.send(&headers(path, &signature), body)
    }

    /// A genuine delivery to the claiming endpoint, answered by billing.
    pub(super) fn deliver_claimed(&mut self, id: &str, answer: Answer) -> Told {
        let mut told = self.deliver("/webhooks/app", &event(id));
        assert!(told.claim().is_some() && !told.is_forwarded(), "it waits for its claim");
        told.hear(self, Input::Answered(answer));
        told
    }
}

impl Told {
    pub(super) fn hear(&mut self, world: &mut World, input: Input<'_>) -> Flow {
        let flow = self.delivery.handle(input, world.now, &mut world.shelf);
        while let Some(effect) = self.delivery.poll_effect() {
            self.effects.push(effect);
        }
        flow
    }

    /// The handler answers with a body, and the stream ends without any flag.
    pub(super) fn finish(&mut self, world: &mut World, code: &str) {
        self.hear(world, Input::ResponseHeaders { headers: &status(code), end: false });
        self.hear(world, Input::ResponseBody { size: 2, end: true, piece: None });
        self.hear(world, Input::Closed { code: code.parse().ok(), flags: 0, usage: None });
    }

    pub(super) fn is_forwarded(&self) -> bool {
        matches!(self.delivery.stage, Stage::Forwarded(_))
    }

    pub(super) fn reply(&self) -> Option<&Reply> {
        let mut replies =
            self.effects.iter().filter_map(|e| if let Effect::Reply(r) = e { Some(r) } else { None });
        let reply = replies.next();
        assert!(replies.next().is_none(), "one answer at most");
        reply
    }

    pub(super) fn claim(&self) -> Option<&Claim> {
        self.effects.iter().find_map(|e| if let Effect::Ask(Question::Claim(c)) = e { Some(c) } else { None })
    }

    pub(super) fn completions(&self) -> Vec<CompleteOutcome> {
        let completed = |e: &Effect| match e {
            Effect::Tell(Report::Completed { complete, .. }) => Some(complete.outcome),
            _ => None,
        };
        self.effects.iter().filter_map(completed).collect()
    }

    /// Every outcome that was counted, in order.
    pub(super) fn outcomes(&self) -> Vec<&'static str> {
        let counted = |e: &Effect| match e {
            Effect::Count(Metric::Webhook { outcome, .. }) => Some(*outcome),
            Effect::Count(Metric::Bug { bug }) => panic!("a bug: {bug}"),
            _ => None,
        };
        self.effects.iter().filter_map(counted).collect()
    }

    pub(super) fn request_header(&self, name: &str) -> Option<&str> {
        self.effects.iter().rev().find_map(|e| match e {
            Effect::SetRequestHeader(n, value) if *n == name => Some(&**value),
            _ => None,
        })
    }

    /// It was answered with this status for this reason, and nothing went upstream.
    #[track_caller]
    pub(super) fn assert_answered(&self, code: u16, why: &str) {
        assert_eq!(self.outcomes(), [why]);
        assert_eq!(self.reply().map(|r| r.status), Some(code), "{why}");
        assert!(!self.is_forwarded());
    }
}
