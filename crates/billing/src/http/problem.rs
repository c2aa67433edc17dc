//! How the service says that a call failed: `application/problem+json` (RFC 9457).

use crate::error::Error;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A call that failed.
#[derive(Debug)]
pub struct Fail(pub Error);

/// The short name of a failure, for the metric.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind(pub(super) &'static str);

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Fail {
    fn into_response(self) -> Response {
        let (status, kind, title) = self.0.told();
        // The inside of a failure is for the log; whoever called learns what they can do about it.
        if status >= 500 {
            tracing::error!(error = %self.0, "a call could not be answered");
        }
        let body = json!({
            "type": format!("urn:tollgate:problem:{kind}"),
            "title": title,
            "status": status,
            "detail": self.0.detail(),
        });
        let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (code, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            401 => drop(headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            503 => drop(headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"))),
            _ => {}
        }
        response.extensions_mut().insert(Kind(kind));
        response
    }
}
