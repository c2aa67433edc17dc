//! How the gate says no: `application/problem+json` that programs, people and AI SDKs can all read.

use crate::effect::Reply;
use contract::v1::{Problem, Refusal};
use serde::Serialize;
use units::signed_credits;

/// Above that many seconds an SDK must not sit and wait by itself: the person is told when to come back.
const RETRY_BY_ITSELF_S: u64 = 60;

/// A no that the gate says by itself, before anybody's money is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plain {
    /// The path is known, with these other methods.
    MethodNotAllowed {
        /// The value of `Allow`.
        allow: String,
    },
    /// The body is larger than this many bytes.
    TooLarge {
        /// The largest that is read.
        max: usize,
    },
    /// What the request can cost cannot be read from its body.
    Unreadable {
        /// Why, for people.
        why: String,
    },
    /// The `Idempotency-Key` is repeated, empty, too long or no text.
    KeyUnfit,
}

impl Plain {
    /// As it is written in metric labels, the access log and `error.code`.
    #[must_use]
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::TooLarge { .. } => "body_too_large",
            Self::Unreadable { .. } => "request_unreadable",
            Self::KeyUnfit => "idempotency_key_unfit",
        }
    }

    /// As the client sees it.
    #[must_use]
    pub(crate) fn reply(&self, request_id: &str) -> Reply {
        let (status, title, detail) = match self {
            Self::MethodNotAllowed { allow } => (405, "Method not allowed", format!("Use {allow} here.")),
            Self::TooLarge { max } => (413, "Body too large", format!("Send at most {max} bytes.")),
            Self::Unreadable { why } => (400, "Request unreadable", why.clone()),
            Self::KeyUnfit => {
                (400, "Idempotency-Key unfit", "Send it once, with 1 to 255 ASCII characters.".to_owned())
            }
        };
        let code = self.as_str();
        let message = format!("{title}: {detail}");
        let body = Document {
            kind: format!("urn:tollgate:refusal:{code}"),
            title,
            status,
            detail,
            reason: code,
            request_id,
            error: Error { message, kind: "invalid_request_error", code },
        };
        let mut headers = common(request_id);
        headers.push(("x-should-retry", "false".to_owned()));
        if let Self::MethodNotAllowed { allow } = self {
            headers.push(("allow", allow.clone()));
        }
        Reply { status, headers, body: serde_json::to_vec(&body).unwrap_or_default() }
    }
}

/// A refusal as the client sees it.
#[must_use]
pub(crate) fn refusal(refusal: &Refusal, request_id: &str) -> Reply {
    let mut headers = common(request_id);
    if let Some(balance) = refusal.balance_micro {
        headers.push(("x-tollgate-balance", signed_credits(balance)));
    }
    if let Some(seconds) = refusal.retry_after_s {
        headers.push(("retry-after", seconds.to_string()));
    }
    let again = refusal.retry_after_s.is_some_and(|seconds| seconds <= RETRY_BY_ITSELF_S);
    headers.push(("x-should-retry", again.to_string()));
    if refusal.status == 401 {
        // RFC 9110, section 15.5.2: a 401 must name a way to authenticate.
        headers.push(("www-authenticate", "Bearer".to_owned()));
    }
    let body = serde_json::to_vec(&Problem::of(refusal, request_id)).unwrap_or_default();
    Reply { status: refusal.status, headers, body }
}

fn common(request_id: &str) -> Vec<(&'static str, String)> {
    vec![
        ("content-type", "application/problem+json".to_owned()),
        ("cache-control", "no-store".to_owned()),
        ("x-tollgate-request-id", request_id.to_owned()),
    ]
}

/// [`Problem`] without money, for what is no refusal of the contract.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    reason: &'static str,
    request_id: &'a str,
    error: Error,
}

#[derive(Serialize)]
struct Error {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    code: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::v1::Reason;

    fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
        reply.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn an_sdk_retries_by_itself_only_where_that_helps_soon() {
        for (after, again) in [(None, "false"), (Some(1), "true"), (Some(60), "true"), (Some(3600), "false")]
        {
            let no = Refusal { retry_after_s: after, ..Refusal::plain(Reason::DailyLimitReached) };
            let reply = refusal(&no, "r1");
            assert_eq!(header(&reply, "x-should-retry"), Some(again), "{after:?}");
            assert_eq!(header(&reply, "retry-after").map(str::to_owned), after.map(|s| s.to_string()));
        }
    }

    #[test]
    fn every_no_names_its_reason_to_programs_people_and_sdks() {
        let no = Refusal { balance_micro: Some(-1_500_000), ..Refusal::plain(Reason::Unauthenticated) };
        let reply = refusal(&no, "r1");
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status, &body["error"]["type"]), (401, &"authentication_error".into()));
        assert_eq!(header(&reply, "x-tollgate-balance"), Some("-1.5"));
        assert!(header(&reply, "www-authenticate").is_some());
        let reply = Plain::MethodNotAllowed { allow: "GET, POST".into() }.reply("r2");
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status, header(&reply, "allow")), (405, Some("GET, POST")));
        assert_eq!((&body["reason"], &body["request_id"]), (&"method_not_allowed".into(), &"r2".into()));
    }
}
