//! What a delivery tells: an answer to the sender, an outcome to the metrics and the access log, a line to the log.
//!
//! Never here: a body, a signature, or, to a sender that proved nothing, a reason.

use super::{Delivery, Stage};
use crate::config::Endpoint;
use crate::{Effect, Level, Metric, Reply};

impl Delivery {
    /// 400 to a sender that proved nothing, or whose body is no event.
    pub(super) fn refuse(&mut self, endpoint: &Endpoint, why: &'static str) -> Stage {
        self.count(&endpoint.id, why);
        self.log(Level::Info, endpoint, why);
        self.reply(400, "Refused", &[])
    }

    pub(super) fn too_large(&mut self, endpoint: &Endpoint) -> Stage {
        self.count(&endpoint.id, "too_large");
        self.log(Level::Warn, endpoint, &format!("larger than {} bytes", endpoint.body_bytes_max));
        self.reply(413, "Too large", &[])
    }

    /// A genuine event that must come again.
    pub(super) fn turn_away(&mut self, endpoint: &Endpoint, status: u16, why: &'static str) -> Stage {
        self.count(&endpoint.id, why);
        self.reply(status, "Not now; deliver it again", &[])
    }

    /// A genuine event that must not come again.
    pub(super) fn acknowledge(
        &mut self,
        endpoint: &Endpoint,
        why: &'static str,
        is_duplicate: bool,
    ) -> Stage {
        self.count(&endpoint.id, why);
        let duplicate = [("x-tollgate-duplicate", String::from("true"))];
        self.reply(200, why, if is_duplicate { &duplicate } else { &[] })
    }

    pub(super) fn reply(&mut self, status: u16, title: &str, headers: &[(&'static str, String)]) -> Stage {
        let (kind, body) = if status == 200 {
            ("application/json", format!(r#"{{"received":true,"forwarded":false,"reason":"{title}"}}"#))
        } else {
            let body = format!(r#"{{"type":"about:blank","title":"{title}","status":{status}}}"#);
            ("application/problem+json", body)
        };
        let mut headers = headers.to_vec();
        headers.push(("content-type", kind.to_owned()));
        self.effects.push_back(Effect::Reply(Reply { status, headers, body: body.into_bytes() }));
        Stage::Over
    }

    pub(super) fn count(&mut self, endpoint: &str, outcome: &'static str) {
        self.note("tollgate.webhook", outcome);
        self.effects
            .push_back(Effect::Count(Metric::Webhook { endpoint: endpoint.to_owned().into(), outcome }));
    }

    pub(super) fn fault(&mut self, fault: &'static str) {
        self.effects.push_back(Effect::Count(Metric::Fault { fault }));
    }

    pub(super) fn bug(&mut self, bug: &'static str) {
        self.effects.push_back(Effect::Count(Metric::Bug { bug }));
    }

    pub(super) fn note(&mut self, key: &'static str, value: &str) {
        self.effects.push_back(Effect::Note { key, value: value.to_owned().into() });
    }

    pub(super) fn log(&mut self, level: Level, endpoint: &Endpoint, text: &str) {
        self.effects.push_back(Effect::Log(level, format!("webhook {}: {text}", endpoint.id)));
    }
}
