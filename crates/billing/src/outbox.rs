//! Sends what others are told of, signed as Standard Webhooks say, until it is accepted or given up.
//!
//! What is told is written with what it tells of, in one transaction; it is sent from here, outside of any. Whoever receives it
//! may get it twice, if the service ends or dies between their 2xx and the note of it: the id is the same then.

use crate::client::Caller;
use crate::error::Error;
use crate::http::App;
use crate::store::{Message, Stored};
use axum::http::{HeaderName, Method, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use units::{Instant, Span};

/// Messages of one round; the rest comes with the next.
const ROUND_MAX: u32 = 20;
/// How long after each failure it is sent again, in seconds (Standard Webhooks, "Retry schedule"); after the last it is given up.
const RETRY_AFTER_S: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// Messages that were given up and are kept for operators to see: the newest.
const DEAD_MAX: u32 = 1_000;
/// "The receiver no longer wants it" (Standard Webhooks, "Deliverability and reliability").
const GONE: u16 = 410;

/// Where messages go, and by what they are signed.
#[derive(Clone)]
pub struct Target {
    /// Plain HTTP.
    pub url: Uri,
    /// The key, decoded.
    pub key: Vec<u8>,
}

/// The fewest and most bytes of a key (Standard Webhooks, "Signature scheme").
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Reads a secret: `whsec_` and the key in base64.
///
/// # Errors
/// What would be right; never the secret.
pub fn key_of(secret: &str) -> Result<Vec<u8>, &'static str> {
    let key = secret.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
    key.filter(|key| KEY_BYTES.contains(&key.len())).ok_or("write whsec_ and 24 to 64 bytes in base64")
}

/// The signature of a message: over its id, the time it is sent and its body (Standard Webhooks, "Signature scheme").
///
/// # Errors
/// [`Error::Bug`]: an HMAC takes a key of any length.
pub fn signature(key: &[u8], id: &str, at: Instant, body: &str) -> Result<String, Error> {
    let mac = Hmac::<Sha256>::new_from_slice(key).map_err(|error| Error::Bug(error.to_string()))?;
    let mac = mac.chain_update(format!("{id}.{}.", at.secs())).chain_update(body);
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Accepted,
    /// Why, and when it is sent again; never, if absent.
    Refused(String, Option<Instant>),
}

impl Fate {
    /// As it is counted.
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused(_, Some(_)) => "refused",
            Self::Refused(_, None) => "dead",
        }
    }
}

/// What an answer means for a message that was sent in vain `attempts` times before.
fn fate(answer: Result<u16, String>, attempts: u32, now: Instant) -> Fate {
    let why = match answer {
        Ok(200..=299) => return Fate::Accepted,
        Ok(GONE) => return Fate::Refused(format!("answered {GONE}: nobody wants it any more"), None),
        Ok(status) => format!("answered {status}"),
        Err(why) => why,
    };
    let next = usize::try_from(attempts).ok().and_then(|n| RETRY_AFTER_S.get(n));
    Fate::Refused(why, next.map(|after| now.plus(Span::from_secs(*after))))
}

/// Sends messages, one after the other.
pub struct Sender {
    target: Target,
    caller: Caller,
    /// One round at a time, or a message would be sent twice; and which message was answered how, while that is not noted.
    round: Mutex<Option<(u64, Fate)>>,
}

impl Sender {
    /// To one place.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { target, caller: Caller::default(), round: Mutex::default() }
    }

    /// Sends what is due, again and again, until the service ends.
    pub(crate) async fn send_until(&self, app: &App, tick: Duration, mut ending: watch::Receiver<bool>) {
        let mut timer = tokio::time::interval(tick);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut late = ending.clone();
        loop {
            tokio::select! {
                _ = timer.tick() => {}
                _ = ending.wait_for(|ending| *ending) => return,
            }
            tokio::select! {
                () = self.send(app) => {}
                _ = late.wait_for(|ending| *ending) => return,
            }
        }
    }

    /// Sends what is due now. While an answer cannot be noted (the disk is full, too much waits), nothing is sent: a message
    /// whose answer is not known would be sent again and again.
    pub(crate) async fn send(&self, app: &App) {
        let mut answered = self.round.lock().await;
        if !note(app, &mut answered).await {
            return;
        }
        let now = app.clock.now();
        let due = app.read(move |work, _| work.store.due_messages(now, ROUND_MAX)).await;
        let due = match due {
            Ok(due) => due,
            Err(fail) => return tracing::error!(error = %fail.0, "the outbox could not be read"),
        };
        for Stored { seq, row } in due {
            let answer = self.attempt(&row, app.clock.now()).await;
            let fate = fate(answer, row.attempts, app.clock.now());
            if let Fate::Refused(why, _) = &fate {
                let (outcome, account) = (fate.outcome(), &row.account);
                tracing::warn!(id = row.id, kind = row.kind, %account, why, outcome, "a message was not accepted");
            }
            *answered = Some((seq, fate));
            if !note(app, &mut answered).await {
                return;
            }
        }
    }

    async fn attempt(&self, message: &Message, now: Instant) -> Result<u16, String> {
        let signature = signature(&self.target.key, &message.id, now, &message.body);
        let headers = [
            (header::CONTENT_TYPE, "application/json".to_owned()),
            (HeaderName::from_static("webhook-id"), message.id.clone()),
            (HeaderName::from_static("webhook-timestamp"), now.secs().to_string()),
            (HeaderName::from_static("webhook-signature"), signature.map_err(|error| error.to_string())?),
        ];
        let answer = self.caller.call(Method::POST, &self.target.url, &headers, message.body.clone()).await;
        answer.map(|(status, _)| status)
    }
}

/// Writes what became of a message, and forgets it once it is written; false while it cannot be.
async fn note(app: &App, answered: &mut Option<(u64, Fate)>) -> bool {
    let Some((seq, fate)) = answered.clone() else { return true };
    let noted = app.write(move |work, _| {
        work.count("tollgate_billing_outbox_total", "outcome", fate.outcome());
        match fate {
            Fate::Accepted => work.store.message_accepted(seq),
            Fate::Refused(why, next @ Some(_)) => work.store.message_refused(seq, &why, next),
            Fate::Refused(why, None) => {
                work.store.message_refused(seq, &why, None)?;
                work.store.forget_dead_messages(DEAD_MAX)
            }
        }
    });
    if let Err(fail) = noted.await {
        tracing::error!(error = %fail.0, "what became of a message could not be noted; nothing is sent until it is");
        return false;
    }
    *answered = None;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_every_library_of_standard_webhooks() {
        let key = key_of("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
        let body = "{\"email\":\"test@example.com\",\"username\":\"test_user\"}";
        let at = Instant::from_secs(1_649_367_553);
        let signed = signature(&key, "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", at, body).unwrap();
        assert_eq!(signed, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    #[test]
    fn a_secret_is_base64_of_enough_bytes() {
        for secret in ["", "whsec_", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_c2hvcnQ=", "whsec_***"] {
            assert!(key_of(secret).is_err(), "{secret:?}");
        }
    }

    #[test]
    fn it_is_sent_again_for_three_days_and_then_given_up() {
        let now = Instant::from_secs(1_000);
        let again = |attempts| match fate(Err("no".into()), attempts, now) {
            Fate::Refused(_, next) => next.map(|at| at.since(now)),
            Fate::Accepted => panic!("accepted"),
        };
        assert_eq!(
            (again(0), again(8), again(9)),
            (Some(Span::from_secs(5)), Some(Span::from_secs(86_400)), None)
        );
        let total: u64 = RETRY_AFTER_S.iter().sum();
        assert!((3 * 86_400..4 * 86_400).contains(&total), "{total}");
        assert_eq!(fate(Ok(204), 3, now), Fate::Accepted);
        for status in [301, 400, 404, 500] {
            assert!(matches!(fate(Ok(status), 0, now), Fate::Refused(_, Some(_))), "{status}");
        }
        assert!(matches!(fate(Ok(410), 0, now), Fate::Refused(_, None)));
    }
}
